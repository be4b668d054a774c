/* The table for aarch64 (NEON with half-precision conversions). */
#include "kern/tables.h"
#include "kern/vec_neon.h"
#include "kern/ops.h"

#define DOT_R 2
#define DOT_O 3
#define OUTER_R 2
#include "kern/gemm.h"
#include "kern/attn.h"
#include "kern/quant.h"

const rm_kern rm_kern_neon = {.name = "neon", RM_OPS, RM_ATTN, RM_GEMM, RM_QUANT};
