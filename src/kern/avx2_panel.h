/* Panels of weights in float32 for gradients with respect to the input. */

/* One block: 32 rows of 32 columns. */
RM_INLINE void columns_block(float *panel, const uint8_t *p, const uint8_t *head, int bits, int high, int sub, bool min, bool super, bool table,
                             float offset) {
    const int n_sub = 32 / sub, quants = (bits + high) * 128;
    RM_NO_UNROLL for (int c = 0; c < Q_PARTS; c++, panel += Q_LANES * RM_PANEL) { /* 8 outputs */
        _Alignas(32) float d[2][Q_LANES], m[2][Q_LANES];
        _Alignas(32) uint8_t q[4][Q_LANES][8]; /* inputs 8 k .. 8 k + 7 of the outputs 0 1 4 5 2 3 6 7 */
        RM_UNROLL for (int h = 0; h < n_sub; h++) {
            const __m256 x = block_scale(p + quants, head, h, c, false, super);
            _mm256_store_ps(d[h], x);
            _mm256_store_ps(m[h], min ? block_min(p + quants, head, n_sub, h, c, super) : _mm256_mul_ps(x, _mm256_set1_ps(-offset)));
        }
        RM_UNROLL for (int k = 0; k < 4; k++) {
            const __m256i even = block_quants(p, 2 * k, c, bits, high, table), odd = block_quants(p, 2 * k + 1, c, bits, high, table);
            _mm256_store_si256((void *)q[k][0], _mm256_unpacklo_epi32(even, odd));
            _mm256_store_si256((void *)q[k][4], _mm256_unpackhi_epi32(even, odd));
        }
        RM_UNROLL for (int o = 0; o < Q_LANES; o++) {
            const int at = (o & 1) | (o & 2) << 1 | (o & 4) >> 1;
            RM_UNROLL for (int k = 0; k < 4; k++) {
                const int h = n_sub == 2 ? k / 2 : 0;
                const __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)q[k][at])));
                _mm256_storeu_ps(panel + o * RM_PANEL + 8 * k, _mm256_fmadd_ps(x, _mm256_broadcast_ss(&d[h][o]), _mm256_broadcast_ss(&m[h][o])));
            }
        }
    }
}

#ifdef RM_OWN_SUMS /* weights of 7 bits, whose sums with rows have 16 */
#define TURNED RM_FORM_TURNED_7
#define TURNED_SHIFT 6
#define QUANT_TURNED q_quant_narrow
static void q_quant_narrow(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n) { quant_256(tile, x, ldx, n_row, n, true); }
#else
#define QUANT_TURNED q_quant_256
#endif
#include "kern/panel.h"

static void q_columns_256(float *panel, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b, int n_block) {
    panel_of(panel, group, group_bytes, n_group, form, b, n_block, false);
}
