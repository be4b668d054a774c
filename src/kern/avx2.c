/* The table for AVX2 with FMA and F16C. Compiled a second time with RM_VNNI for processors without AVX-512 that multiply 8-bit numbers all the same. */
#include "kern/tables.h"
#include "kern/vec_avx2.h"
#include "kern/ops.h"

#define DOT_R 4
#define DOT_O 3
#define OUTER_R 6
#define OUTER_S 5
#include "kern/avx2_dot.h"
#include "kern/gemm.h"
#include "kern/attn.h"
#include "kern/delta.h"
#include "kern/avx2_quant.h"
#include "kern/avx2_panel.h"

#define RM_AVX2                                                                                                                                      \
    RM_OPS, RM_ATTN, RM_DELTA, RM_GEMM, .q_quant = q_quant_256, .q_expand = q_expand_vec, .q_tile = q_tile_vec, .q_rows = q_rows_vec,                \
                                        .q_rows_max = 6, .q_columns = q_columns_256, .q_turn = q_turn_vec, .q_quant_turned = QUANT_TURNED,           \
                                        .turned = TURNED

#ifdef RM_VNNI
const rm_kern rm_kern_avx_vnni = {.name = "avx-vnni", RM_AVX2};
#else
const rm_kern rm_kern_avx2 = {.name = "avx2", RM_AVX2};
#endif
