/* The tables for AVX-512 with VNNI, BF16 and VBMI (Zen 4 and 5, Sapphire Rapids and later). Compiled a second time with RM_INTEL for cores on which
 * two units do all 512-bit arithmetic, unpacking too, and bf16 products are slower than float32: fewer instructions there, and no bf16 unless
 * on the tiles of AMX. */
#include "kern/tables.h"
#include "kern/vec_avx512.h"
#include "kern/ops.h"

#define DOT_R 4
#define DOT_O 6
#define OUTER_R 6
#define OUTER_S 24
#include "kern/gemm.h"
#include "kern/attn.h"
#include "kern/delta.h"
#include "kern/avx512_quant.h"
#include "kern/avx512_panel.h"

#define RM_AVX512                                                                                                                                    \
    RM_OPS, RM_DELTA, RM_GEMM, .q_quant = q_quant_512, .q_expand = q_expand_vec, .q_tile = q_tile_vec, .q_rows = q_rows_vec, .q_rows_max = 24

#ifdef RM_INTEL
#include "kern/amx.h"
#include "kern/amx_attn.h"
const rm_kern rm_kern_avx512_intel = {
    .name = "avx512-intel", RM_AVX512, RM_ATTN, .q_columns = q_columns_512, .q_turn = q_turn_vec, .q_quant_turned = q_quant_512, .turned = TURNED};
const rm_kern rm_kern_amx = {
    .name = "amx",
    RM_AVX512,
    .attn_block = attn_block_amx,
    .attn_back = attn_back_amx,
    .mul_bf16 = mul_bf16_amx,
    .bf16_rows = bf16_rows_amx,
    .q_mul_bf16 = q_mul_bf16_amx,
    .bf16_pairs = bf16_pairs_512,
    .q_pairs = q_pairs_512,
    .mul_pairs = mul_pairs_amx,
};
#else
#include "kern/avx512_bf16.h"
const rm_kern rm_kern_avx512 = {
    .name = "avx512",
    RM_AVX512,
    RM_ATTN,
    .q_near = true,
    .mul_bf16 = mul_bf16_512,
    .bf16_rows = bf16_rows_512,
    .bf16_pairs = bf16_pairs_512,
    .q_pairs = q_pairs_512,
    .mul_pairs = mul_pairs_512,
    .q_turn = q_turn_vec,
    .q_quant_turned = q_quant_512,
    .turned = TURNED,
};
#endif
