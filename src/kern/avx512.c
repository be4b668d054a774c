/* The tables for AVX-512 with VNNI, BF16, VBMI and GFNI (Zen 4 and 5, Sapphire Rapids and later). */
#include "kern/tables.h"
#include "kern/vec_avx512.h"
#include "kern/ops.h"

#define DOT_R 4
#define DOT_O 6
#define OUTER_R 6
#include "kern/gemm.h"
#include "kern/attn.h"
#include "kern/avx512_bf16.h"
#include "kern/avx512_quant.h"
#include "kern/avx512_panel.h"

#define RM_AVX512                                                                                                                                    \
    RM_OPS, RM_GEMM, .q_columns = q_columns_512, .q_quant = q_quant_512, .q_expand = q_expand_512, .q_tile = q_tile_512, .q_rows = q_rows_512,       \
                     .q_rows_max = 24

const rm_kern rm_kern_avx512 = {
    .name = "avx512",
    RM_AVX512,
    .mul_bf16 = mul_bf16_512,
    .to_bf16 = to_bf16_512,
    .bf16_pairs = bf16_pairs_512,
    .q_pairs = q_pairs_512,
    .mul_pairs = mul_pairs_512,
};

/* For processors whose bf16 instruction does fewer multiplications a cycle than their float32 one. */
const rm_kern rm_kern_avx512_f32 = {.name = "avx512-f32", RM_AVX512};
