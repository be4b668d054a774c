/* The table for AVX2 with FMA and F16C. */
#include "kern/tables.h"
#include "kern/vec_avx2.h"
#include "kern/ops.h"

const rm_kern rm_kern_avx2 = {.name = "avx2", RM_OPS};
