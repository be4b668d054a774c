/* 16 float lanes in one AVX-512 register; see vec_portable.h for what each function means. */
#ifndef RM_KERN_VEC_AVX512_H
#define RM_KERN_VEC_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef __m512 vf;
typedef __mmask16 vm;

static inline __mmask16 v_first(size_t n) { return (__mmask16)((1u << n) - 1); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, v_first(n), x); }
static inline vf v_set(float a) { return _mm512_set1_ps(a); }
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_pow2(vf a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23)); }
static inline vf v_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf v_copysign(vf mag, vf sign) {
    __m512i m = _mm512_set1_epi32(0x7FFFFFFF); /* bitwise m ? mag : sign */
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(m, _mm512_castps_si512(mag), _mm512_castps_si512(sign), 0xCA));
}
static inline vm v_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vm v_lanes(int from, int to) {
    from = from < 0 ? 0 : from > 16 ? 16 : from;
    to = to < from ? from : to > 16 ? 16 : to;
    return (__mmask16)((1u << to) - (1u << from));
}
static inline vf v_sel(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
static inline float v_sum(vf a) {
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float v_hmax(vf a) {
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
static inline vf v_load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
static inline vf v_load_half_n(const uint16_t *p, size_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p)); }
static inline void v_store_half(uint16_t *p, vf x) { _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
static inline void v_store_half_n(uint16_t *p, vf x, size_t n) {
    _mm256_mask_storeu_epi16(p, v_first(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static inline vf v_widen(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
static inline vf v_load_bf16(const uint16_t *p) { return v_widen(_mm256_loadu_si256((const void *)p)); }
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) { return v_widen(_mm256_maskz_loadu_epi16(v_first(n), p)); }

static inline void v_store_bf16(uint16_t *p, vf x) { _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh(x)); }
static inline void v_store_bf16_n(uint16_t *p, vf x, size_t n) { _mm256_mask_storeu_epi16(p, v_first(n), (__m256i)_mm512_cvtneps_pbh(x)); }

/* One step of summing lanes of two vectors at once: halves of a and b are added, each result takes half of the lanes. The pairs are
 * those of v_sum, so the sums are the same bits. */
static inline vf v_fold_far(vf a, vf b, int last) { /* 128-bit lanes: i + 2, or the last step i + 1 */
    return last ? _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD))
                : _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
}
static inline vf v_fold_near(vf a, vf b, int last) { /* elements of a 128-bit lane: i + 2, then i + 1 */
    return last ? _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD))
                : _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
}
/* Four vectors to their sums in the four 128-bit lanes, 4 partial sums each. */
static inline vf v_fold4(vf a, vf b, vf c, vf d) { return v_fold_far(v_fold_far(a, b, 0), v_fold_far(c, d, 0), 1); }
/* y[r][o] = sum of the lanes of s[r][o] (+ bias[o]) */
static inline void v_sum_4x6(float *y, size_t ldy, vf s[4][6], const float *bias) {
    vf t[6];
    for (int o = 0; o < 6; o++) t[o] = v_fold4(s[0][o], s[1][o], s[2][o], s[3][o]);
    vf a = v_fold_near(v_fold_near(t[0], t[1], 0), v_fold_near(t[2], t[3], 0), 1), b = v_fold_near(t[4], t[5], 0);
    b = v_fold_near(b, b, 1);
    if (bias) {
        a = _mm512_add_ps(a, _mm512_broadcast_f32x4(_mm_loadu_ps(bias)));
        b = _mm512_add_ps(b, _mm512_broadcast_f32x4(_mm_castsi128_ps(_mm_loadl_epi64((const void *)(bias + 4)))));
    }
#define RM_STORE_ROW(r)                                                                                                                              \
    _mm_storeu_ps(y + (r)*ldy, _mm512_extractf32x4_ps(a, r));                                                                                        \
    _mm_storel_pi((__m64 *)(void *)(y + (r)*ldy + 4), _mm512_extractf32x4_ps(b, r))
    RM_STORE_ROW(0);
    RM_STORE_ROW(1);
    RM_STORE_ROW(2);
    RM_STORE_ROW(3);
#undef RM_STORE_ROW
}
#define RM_SUM_TILE v_sum_4x6

/* Element j of vector i becomes element i of vector j: pairs of elements, pairs of those, then 128-bit lanes likewise. */
static inline void v_turn(__m512 t[16]) {
    __m512 a[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(t[i], t[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(t[i], t[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) /* lane l of t[i + e]: element 4 l + e of the vectors i .. i + 3 */
        for (int h = 0; h < 2; h++) {
            __m512d lo = _mm512_castps_pd(a[i + h]), hi = _mm512_castps_pd(a[i + 2 + h]);
            t[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi));
            t[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi));
        }
    for (int e = 0; e < 4; e++) {
        __m512 even0 = _mm512_shuffle_f32x4(t[e], t[e + 4], 0x88), odd0 = _mm512_shuffle_f32x4(t[e], t[e + 4], 0xDD);
        __m512 even1 = _mm512_shuffle_f32x4(t[e + 8], t[e + 12], 0x88), odd1 = _mm512_shuffle_f32x4(t[e + 8], t[e + 12], 0xDD);
        a[e] = _mm512_shuffle_f32x4(even0, even1, 0x88);
        a[e + 4] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
        a[e + 8] = _mm512_shuffle_f32x4(even0, even1, 0xDD);
        a[e + 12] = _mm512_shuffle_f32x4(odd0, odd1, 0xDD);
    }
    for (int i = 0; i < 16; i++) t[i] = a[i];
}
#define RM_OWN_TURN

#endif
