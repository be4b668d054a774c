/* 16 float lanes in two AVX registers; see vec_portable.h for what each function means. */
#ifndef RM_KERN_VEC_AVX2_H
#define RM_KERN_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    __m256 lo, hi;
} vf;
typedef vf vm;

#define RM_BOTH(name, op)                                                                                                                            \
    static inline vf name(vf a, vf b) { return (vf){op(a.lo, b.lo), op(a.hi, b.hi)}; }
RM_BOTH(v_add, _mm256_add_ps)
RM_BOTH(v_sub, _mm256_sub_ps)
RM_BOTH(v_mul, _mm256_mul_ps)
RM_BOTH(v_div, _mm256_div_ps)
RM_BOTH(v_max, _mm256_max_ps)
RM_BOTH(v_min, _mm256_min_ps)
#undef RM_BOTH

static inline vf v_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void v_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
static inline __m256i v_int_lanes(int from, int to, int first) { /* lanes first .. first + 7 */
    __m256i i = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    return _mm256_and_si256(_mm256_cmpgt_epi32(i, _mm256_set1_epi32(from - 1)), _mm256_cmpgt_epi32(_mm256_set1_epi32(to), i));
}
static inline vm v_lanes(int from, int to) {
    return (vm){_mm256_castsi256_ps(v_int_lanes(from, to, 0)), _mm256_castsi256_ps(v_int_lanes(from, to, 8))};
}
static inline vf v_load_n(const float *p, size_t n) {
    return (vf){_mm256_maskload_ps(p, v_int_lanes(0, (int)n, 0)), _mm256_maskload_ps(p + 8, v_int_lanes(0, (int)n, 8))};
}
static inline void v_store_n(float *p, vf x, size_t n) {
    _mm256_maskstore_ps(p, v_int_lanes(0, (int)n, 0), x.lo);
    _mm256_maskstore_ps(p + 8, v_int_lanes(0, (int)n, 8), x.hi);
}
static inline vf v_set(float a) { return (vf){_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
static inline vf v_fma(vf a, vf b, vf c) { return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
static inline vf v_round(vf a) {
    return (vf){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline __m256 v_pow2_8(__m256 a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23));
}
static inline vf v_pow2(vf a) { return (vf){v_pow2_8(a.lo), v_pow2_8(a.hi)}; }
static inline vf v_abs(vf a) {
    __m256 s = _mm256_set1_ps(-0.0f);
    return (vf){_mm256_andnot_ps(s, a.lo), _mm256_andnot_ps(s, a.hi)};
}
static inline vf v_copysign(vf mag, vf sign) {
    __m256 s = _mm256_set1_ps(-0.0f);
    return (vf){_mm256_or_ps(_mm256_andnot_ps(s, mag.lo), _mm256_and_ps(s, sign.lo)),
                _mm256_or_ps(_mm256_andnot_ps(s, mag.hi), _mm256_and_ps(s, sign.hi))};
}
static inline vm v_lt(vf a, vf b) { return (vm){_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)}; }
static inline vf v_sel(vm m, vf a, vf b) { return (vf){_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)}; }
static inline float v_sum(vf a) {
    __m256 b = _mm256_add_ps(a.lo, a.hi);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float v_hmax(vf a) {
    __m256 b = _mm256_max_ps(a.lo, a.hi);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
static inline vf v_load_half(const uint16_t *p) {
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)))};
}
static inline vf v_load_half_n(const uint16_t *p, size_t n) {
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load_half(t);
}
static inline void v_store_half(uint16_t *p, vf x) {
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((void *)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
static inline void v_store_half_n(uint16_t *p, vf x, size_t n) {
    uint16_t t[16];
    v_store_half(t, x);
    memcpy(p, t, n * sizeof *t);
}

static inline __m256 v_widen(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}
static inline vf v_load_bf16(const uint16_t *p) { return (vf){v_widen(p), v_widen(p + 8)}; }
static inline vf v_load_bf16_n(const uint16_t *p, size_t n) {
    uint16_t t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v_load_bf16(t);
}
/* Rounded to the nearest even; what is no number stays so. */
static inline __m256i v_bf16_bits(__m256 x) {
    const __m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i round = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(round, nan, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q))), 16);
}
static inline void v_store_bf16(uint16_t *p, vf x) {
    _mm256_storeu_si256((void *)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(v_bf16_bits(x.lo), v_bf16_bits(x.hi)), 0xD8));
}
static inline void v_store_bf16_n(uint16_t *p, vf x, size_t n) {
    uint16_t t[16];
    v_store_bf16(t, x);
    memcpy(p, t, n * sizeof *t);
}

#endif
