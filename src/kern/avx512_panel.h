/* The gradient with respect to the input: panels of weights as pairs of outputs in bf16, and their products; panels in float32. One sum per (row,
 * column) in the order of the outputs, so a row's bits do not depend on the other rows or on how the outputs are cut into panels. */

enum { PAIRS_LINE = 2 * RM_PANEL }; /* elements of a pair in a panel */

/* ---- making panels --------------------------------------------------------------------------------------------------------------- */

/* Two floats, again and again: what belongs to the two outputs of a pair. */
RM_INLINE __m512 both(const float *p) {
    double v;
    memcpy(&v, p, sizeof v);
    return _mm512_castpd_ps(_mm512_set1_pd(v));
}

/* Two floats: the first in the lower half of a vector, the second in the upper one. */
RM_INLINE __m512 each_half(const float *p) { return _mm512_insertf32x8(_mm512_set1_ps(p[0]), _mm256_set1_ps(p[1]), 1); }

/* One half of a block, 16 outputs: quants, scales d and what is added, m. */
RM_INLINE void half_block(__m512i v[8], float d[2][16], float m[2][16], const uint8_t *p, const uint8_t *head, int c, int bits, int high, int sub,
                          bool min, bool super, bool table, float offset) {
    const int n_sub = 32 / sub, quants = (bits + high) * 128;
    RM_UNROLL for (int h = 0; h < n_sub; h++) {
        __m512 x = block_scale(p + quants, head, h, c, false, super);
        _mm512_store_ps(d[h], x);
        __m512 y = min ? block_min(p + quants, head, n_sub, h, c, super) : _mm512_mul_ps(x, _mm512_set1_ps(-offset));
        _mm512_store_ps(m[h], y);
    }
    RM_UNROLL for (int s = 0; s < 8; s++) v[s] = block_quants(p, s, c, bits, high, table);
}

/* One block: 16 pairs of 32 columns. */
RM_INLINE void pairs_block(uint16_t *panel, const uint8_t *p, const uint8_t *head, int bits, int high, int sub, bool min, bool super, bool table,
                           float offset) {
    const int n_sub = 32 / sub;
    /* bytes 4 o + i of two vectors, outputs 2 p and 2 p + 1: inputs 0 0 1 1 2 2 3 3 of the first vector, then of the second */
    const __m512i first = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 64, 68, 65, 69, 66, 70, 67, 71);
    RM_UNROLL for (int c = 0; c < 2; c++) { /* 16 outputs: 8 pairs */
        _Alignas(64) float d[2][16], m[2][16];
        __m512i v[8];
        half_block(v, d, m, p, head, c, bits, high, sub, min, super, table, offset);
        RM_UNROLL for (int i = 0; i < 8; i++) {
            __m512 x[4];
            const __m512i at = _mm512_add_epi32(first, _mm512_set1_epi32(8 * i));
            RM_UNROLL for (int k = 0; k < 4; k++) {
                int h = n_sub == 2 ? k / 2 : 0;
                x[k] = _mm512_cvtepi32_ps(_mm512_maskz_permutex2var_epi8(0x1111111111111111, v[2 * k], at, v[2 * k + 1]));
                x[k] = _mm512_fmadd_ps(x[k], both(d[h] + 2 * i), both(m[h] + 2 * i));
            }
            uint16_t *to = panel + (8 * c + i) * PAIRS_LINE;
            _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
            _mm512_store_si512(to + 32, (__m512i)_mm512_cvtne2ps_pbh(x[3], x[2]));
        }
    }
}

/* One block: 32 rows of 32 columns as float32. */
RM_INLINE void columns_block(float *panel, const uint8_t *p, const uint8_t *head, int bits, int high, int sub, bool min, bool super, bool table,
                             float offset) {
    const int n_sub = 32 / sub;
    /* bytes of two vectors: inputs 0 1 2 3 of the first, then of the second, for output 2 p; the same for 2 p + 1 */
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 64, 65, 66, 67, 4, 5, 6, 7, 68, 69, 70, 71);
    RM_UNROLL for (int c = 0; c < 2; c++) {
        _Alignas(64) float d[2][16], m[2][16];
        __m512i v[8];
        half_block(v, d, m, p, head, c, bits, high, sub, min, super, table, offset);
        RM_UNROLL for (int i = 0; i < 8; i++) {
            const __m512i at = _mm512_add_epi32(first, _mm512_set1_epi32(8 * i));
            float *to = panel + (16 * c + 2 * i) * RM_PANEL;
            RM_UNROLL for (int k = 0; k < 4; k++) {
                int h = n_sub == 2 ? k / 2 : 0;
                __m512 x = _mm512_cvtepi32_ps(_mm512_maskz_permutex2var_epi8(0x1111111111111111, v[2 * k], at, v[2 * k + 1]));
                x = _mm512_fmadd_ps(x, each_half(d[h] + 2 * i), each_half(m[h] + 2 * i));
                _mm256_store_ps(to + 8 * k, _mm512_castps512_ps256(x));
                _mm256_store_ps(to + RM_PANEL + 8 * k, _mm512_extractf32x8_ps(x, 1));
            }
        }
    }
}

#define PAIRS_BLOCK pairs_block
#include "kern/panel.h"

#ifdef RM_INTEL /* where float32 products are faster */
static void q_columns_512(float *panel, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b, int n_block) {
    panel_of(panel, group, group_bytes, n_group, form, b, n_block, false);
}
#endif
static void q_pairs_512(uint16_t *panel, const uint8_t *group, size_t group_bytes, int n_group, rm_form form, int b, int n_block) {
    panel_of(panel, group, group_bytes, n_group, form, b, n_block, true);
}

static void bf16_pairs_512(uint16_t *panel, const void *w, size_t ldw, int n_out, size_t n) {
    const uint8_t *p = w;
    memset(panel + (n_out + 1) / 2 * PAIRS_LINE, 0, (size_t)((n_out + 31) / 32 * 16 - (n_out + 1) / 2) * PAIRS_LINE * sizeof *panel);
    for (int o = 0; o < n_out; o += 2, p += 2 * ldw, panel += PAIRS_LINE)
        for (size_t c = 0; c < n; c += 16) {
            __mmask16 m = n - c < 16 ? v_first(n - c) : 0xFFFF, m1 = o + 1 < n_out ? m : 0;
            __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p + c * 2));
            __m512i b = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m1, p + (m1 ? ldw : 0) + c * 2));
            _mm512_store_si512(panel + 2 * c, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        }
}

/* ---- products -------------------------------------------------------------------------------------------------------------------- */

#ifndef RM_INTEL
/* nr rows, nv vectors of 16 columns; the last vector has n_last columns. */
RM_INLINE void pairs_tile(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, const uint16_t *panel, int n_pair, int nr, int nv, size_t n_last) {
    __m512 s[6][4];
    RM_UNROLL for (int r = 0; r < nr; r++) {
        RM_UNROLL for (int c = 0; c < nv; c++) s[r][c] = ld(dx + (size_t)r * lddx + 16 * c, 0, c + 1 < nv ? 16 : n_last);
    }
    for (int p = 0; p < n_pair; p++, panel += PAIRS_LINE) {
        __m512bh w[4];
        RM_UNROLL for (int c = 0; c < nv; c++) w[c] = (__m512bh)_mm512_load_si512(panel + 32 * c);
        RM_UNROLL for (int r = 0; r < nr; r++) {
            __m512bh b = (__m512bh)broadcast32(dy + (size_t)r * lddy + 2 * p);
            RM_UNROLL for (int c = 0; c < nv; c++) s[r][c] = _mm512_dpbf16_ps(s[r][c], b, w[c]);
        }
    }
    RM_UNROLL for (int r = 0; r < nr; r++) {
        RM_UNROLL for (int c = 0; c < nv; c++) st(dx + (size_t)r * lddx + 16 * c, s[r][c], 0, c + 1 < nv ? 16 : n_last);
    }
}

static void mul_pairs_512(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, int n_row, const uint16_t *panel, int n_pair, size_t n) {
    for (int i = 0, nr, left = (n_row + 5) / 6; i < n_row; i += nr, dx += (size_t)nr * lddx, dy += (size_t)nr * lddy, left--) {
        nr = (n_row - i + left - 1) / left; /* nearly equal tiles */
        if (n < RM_PANEL) {
            for (size_t c = 0; c < n; c += 16) {
                size_t last = n - c < 16 ? n - c : 16;
                for (int r = 0; r < nr; r++)
                    pairs_tile(dx + (size_t)r * lddx + c, lddx, dy + (size_t)r * lddy, lddy, panel + 2 * c, n_pair, 1, 1, last);
            }
            continue;
        }
        switch (nr) {
        case 1: pairs_tile(dx, lddx, dy, lddy, panel, n_pair, 1, 4, 16); break;
        case 2: pairs_tile(dx, lddx, dy, lddy, panel, n_pair, 2, 4, 16); break;
        case 3: pairs_tile(dx, lddx, dy, lddy, panel, n_pair, 3, 4, 16); break;
        case 4: pairs_tile(dx, lddx, dy, lddy, panel, n_pair, 4, 4, 16); break;
        case 5: pairs_tile(dx, lddx, dy, lddy, panel, n_pair, 5, 4, 16); break;
        default: pairs_tile(dx, lddx, dy, lddy, panel, n_pair, 6, 4, 16); break;
        }
    }
}
#endif
