/* The tables for aarch64 (NEON with half-precision conversions). Compiled a second time for processors with dot products of 8 bits. */
#include "kern/tables.h"
#include "kern/vec_neon.h"
#include "kern/ops.h"

#define DOT_R 2
#define DOT_O 3
#define OUTER_R 6
#define OUTER_S 5
#include "kern/gemm.h"
#include "kern/attn.h"
#include "kern/delta.h"
#include "kern/neon_quant.h"
#include "kern/quant_act.h"

#define RM_NEON                                                                                                                                      \
    RM_OPS, RM_ATTN, RM_DELTA, RM_GEMM, .q_quant = op_q_quant, .q_expand = q_expand_vec, .q_tile = q_tile_vec, .q_rows = q_rows_vec, .q_rows_max = 6

#ifdef __ARM_FEATURE_DOTPROD
const rm_kern rm_kern_neon_dot = {.name = "neon-dot", RM_NEON};
#else
const rm_kern rm_kern_neon = {.name = "neon", RM_NEON};
#endif
