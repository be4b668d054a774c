/* Sums of mul_rows; included before gemm.h. Sixteen registers hold those of 2 rows and 3 outputs, or of 4 rows and 3 outputs for 8 of the 16 lanes. So more
 * rows take one half of the lanes after the other, over spans of inputs that stay in the first cache. */
#include "kern/inline.h"

#define RM_OWN_SPAN

RM_INLINE __m256 half_weight(const uint8_t *w, size_t i, rm_wtype type) {
    if (type == RM_W_F32) return _mm256_loadu_ps((const float *)(const void *)w + i);
    const uint16_t *p = (const uint16_t *)(const void *)w + i;
    return type == RM_W_F16 ? _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)) : v_widen(p);
}

/* The halves first .. last (0 or 1) of the sums. */
RM_INLINE void span_halves(vf s[][DOT_O], int first, int last, const float *x, size_t ldx, const uint8_t *w, size_t ldw, size_t i0, size_t i1,
                           rm_wtype type, int nr, int no) {
    __m256 t[2][DOT_R][DOT_O];
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) t[0][r][o] = s[r][o].lo, t[1][r][o] = s[r][o].hi; }
    for (size_t i = i0; i < i1; i += 16) {
        RM_UNROLL for (int h = first; h <= last; h++) {
            const size_t at = i + 8 * (size_t)h;
            __m256 a[DOT_O];
            RM_UNROLL for (int o = 0; o < no; o++) a[o] = half_weight(w + (size_t)o * ldw, at, type);
            RM_UNROLL for (int r = 0; r < nr; r++) {
                const __m256 b = _mm256_loadu_ps(x + (size_t)r * ldx + at);
                RM_UNROLL for (int o = 0; o < no; o++) t[h][r][o] = _mm256_fmadd_ps(a[o], b, t[h][r][o]);
            }
        }
    }
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = (vf){t[0][r][o], t[1][r][o]}; }
}

enum { DOT_SPAN = 256 /* inputs that are read twice in a row */ };

RM_INLINE void dot_span(vf s[][DOT_O], const float *x, size_t ldx, const uint8_t *w, size_t ldw, size_t i0, size_t i1, rm_wtype type, int nr,
                        int no) {
    if (nr <= 2) {
        span_halves(s, 0, 1, x, ldx, w, ldw, i0, i1, type, nr, no);
        return;
    }
    for (size_t i = i0; i < i1; i += DOT_SPAN) {
        const size_t end = i1 - i < DOT_SPAN ? i1 : i + DOT_SPAN;
        span_halves(s, 0, 0, x, ldx, w, ldw, i, end, type, nr, no);
        span_halves(s, 1, 1, x, ldx, w, ldw, i, end, type, nr, no);
    }
}
