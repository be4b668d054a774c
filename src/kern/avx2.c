/* The table for AVX2 with FMA and F16C. */
#include "kern/tables.h"
#include "kern/vec_avx2.h"
#include "kern/ops.h"

#define DOT_R 2
#define DOT_O 3
#define OUTER_R 2
#include "kern/gemm.h"
#include "kern/attn.h"
#define RM_OWN_TILE
#include "kern/quant.h"
#include "kern/avx2_quant.h"

const rm_kern rm_kern_avx2 = {.name = "avx2", RM_OPS, RM_ATTN, RM_GEMM, .q_quant = op_q_quant, .q_expand = op_q_expand, .q_tile = q_tile_256};
