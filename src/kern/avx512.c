/* The table for AVX-512 with VNNI, BF16 and VBMI (Zen 4 and 5, Sapphire Rapids and later). */
#include "kern/tables.h"
#include "kern/vec_avx512.h"
#include "kern/ops.h"

#define DOT_R 4
#define DOT_O 6
#define OUTER_R 6
#include "kern/gemm.h"
#include "kern/quant.h"

const rm_kern rm_kern_avx512 = {.name = "avx512", RM_OPS, RM_GEMM, RM_QUANT};
