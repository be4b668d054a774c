/* The table for AVX-512 with VNNI, BF16 and VBMI (Zen 4 and 5, Sapphire Rapids and later). */
#include "kern/tables.h"
#include "kern/vec_avx512.h"
#include "kern/ops.h"

const rm_kern rm_kern_avx512 = {.name = "avx512", RM_OPS};
