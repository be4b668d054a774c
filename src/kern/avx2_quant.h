/* Quantised products with AVX2: what quant_vec.h wants, and activations in 8 bits.
 *
 * Without VNNI pairs of products are added in 16 bits, as many as fit: 8 of 4-bit quants with activations of at most 127, 4 of 5-bit, 2 of 6-bit ones.
 * 8-bit quants are multiplied as magnitude and sign, one by one. */

/* ---- vectors of 8 outputs -------------------------------------------------------------------------------------------------------- */

#define Q_LANES 8
#define Q_TOGETHER 1
typedef __m256i qi, qs;
typedef __m256 qf;

RM_INLINE qi qi_load(const void *p) { return _mm256_loadu_si256(p); }
RM_INLINE void qi_store(void *p, qi v) { _mm256_storeu_si256(p, v); }
RM_INLINE qi qi_low(qi v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
RM_INLINE qi qi_high(qi v) { return qi_low(_mm256_srli_epi16(v, 4)); }
RM_INLINE qi qi_lookup(qi v) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)rm_iq4nl)), v); }
RM_INLINE qi qi_insert(qi v, qi h, int left, int mask) {
    h = left >= 0 ? _mm256_slli_epi16(h, left) : _mm256_srli_epi16(h, -left);
    return _mm256_or_si256(v, _mm256_and_si256(h, _mm256_set1_epi8((char)mask)));
}
RM_INLINE qi qi_spread(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}
RM_INLINE qs qs_zero(void) { return _mm256_setzero_si256(); }
RM_INLINE qs qs_start(const void *p, int shift) { return _mm256_slli_epi32(qi_spread(p), shift); }
RM_INLINE qf qf_load(const float *p) { return _mm256_loadu_ps(p); }
RM_INLINE void qf_store(float *p, qf v) { _mm256_storeu_ps(p, v); }
RM_INLINE qf qf_zero(void) { return _mm256_setzero_ps(); }
RM_INLINE qf qf_set(float a) { return _mm256_set1_ps(a); }
RM_INLINE qf qf_spread(const void *p) { return _mm256_castsi256_ps(qi_spread(p)); }
RM_INLINE qf qf_half(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
RM_INLINE qf qf_int8(const void *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p))); }
RM_INLINE qf qf_of(qs s) { return _mm256_cvtepi32_ps(s); }
RM_INLINE qf qf_add(qf a, qf b) { return _mm256_add_ps(a, b); }
RM_INLINE qf qf_mul(qf a, qf b) { return _mm256_mul_ps(a, b); }
RM_INLINE qf qf_fma(qf a, qf b, qf c) { return _mm256_fmadd_ps(a, b, c); }
RM_INLINE qf qf_fnma(qf a, qf b, qf c) { return _mm256_fnmadd_ps(a, b, c); }
#ifdef RM_VNNI
RM_INLINE qs qs_dot(qs s, qi w, qi x) { return _mm256_dpbusd_avx_epi32(s, w, x); }
#else
#define RM_OWN_SUMS
typedef struct q_weights q_weights;
RM_INLINE void q_sums(qs a[][Q_TOGETHER], const uint8_t *x, const uint8_t *neg, int n_row, const q_weights *w, int c, int s, int n);
#endif

#include "kern/quant_act.h"
#include "kern/quant_vec.h"

#ifdef RM_OWN_SUMS
RM_INLINE void q_sums(qs a[][Q_TOGETHER], const uint8_t *x, const uint8_t *neg, int n_row, const q_weights *w, int c, int s, int n) {
    const int width = w->width, fit = width == 4 ? 8 : width == 5 ? 4 : width == 6 ? 2 : 1;
    const __m256i ones = _mm256_set1_epi16(1);
    RM_UNROLL for (int r = 0; r < n_row; r++) /* magnitude and sign hold the offset already */
        a[r][0] = w->shift && width < 8 ? qs_start(neg + r * 4, w->shift) : qs_zero();
    __m256i sum[RM_QROWS];
    RM_UNROLL for (int i = 0; i < n; i++) {
        __m256i v = step_quants(w, s + i, c), sign = v;
        if (width == 8) sign = _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80)), v = _mm256_abs_epi8(sign);
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            __m256i p = qi_spread(x + r * RM_QBLOCK + (s + i) * 4);
            if (width == 8) p = _mm256_sign_epi8(p, sign);
            p = _mm256_maddubs_epi16(v, p);
            sum[r] = i % fit == 0 ? p : _mm256_add_epi16(sum[r], p);
            if (i % fit == fit - 1 || i == n - 1) a[r][0] = _mm256_add_epi32(a[r][0], _mm256_madd_epi16(sum[r], ones));
        }
    }
}
#endif

/* ---- activations ---------------------------------------------------------------------------------------------------------------- */

RM_INLINE int32_t sum_4(__m128i v) { /* of 4 numbers of 32 bits */
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xB1)));
}

static void q_quant_256(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    for (size_t b = 0; b < n / RM_QBLOCK; b++, tile += n_row * RM_QX_ROW) {
        for (int r = 0; r < n_row; r++) {
            const float *p = x + (size_t)r * ldx + b * RM_QBLOCK;
            __m256i v[4], m = _mm256_setzero_si256();
            for (int k = 0; k < 4; k++) {
                v[k] = qi_load(p + 8 * k);
                m = _mm256_max_epu32(m, _mm256_and_si256(v[k], magnitude)); /* as bits: NaN is larger than anything and makes the row NaN */
            }
            __m128i top = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
            top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0x4E));
            top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0xB1));
            float amax = _mm_cvtss_f32(_mm_castsi128_ps(top));
            const act_step step = act_step_of(amax);
            for (int k = 0; k < 4; k++) {
                __m256 f = amax < INFINITY ? _mm256_castsi256_ps(v[k]) : _mm256_setzero_ps();
                v[k] = _mm256_cvtps_epi32(_mm256_mul_ps(f, _mm256_set1_ps(step.inv)));
            }
            __m256i first = _mm256_add_epi32(v[0], v[1]), second = _mm256_add_epi32(v[2], v[3]);
            int32_t sum[2] = {sum_4(_mm_add_epi32(_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1))),
                              sum_4(_mm_add_epi32(_mm256_castsi256_si128(second), _mm256_extracti128_si256(second, 1)))};
            __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
            q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256((void *)(tile + r * RM_QBLOCK), q);
            act_meta(tile, n_row, r, step.d, sum);
        }
    }
}
