/* Quantised products with VNNI: what quant_vec.h wants, and activations in 8 bits. */

/* ---- vectors of 16 outputs ------------------------------------------------------------------------------------------------------- */

#define Q_LANES 16
#define Q_TOGETHER 2
typedef __m512i qi, qs;
typedef __m512 qf;

RM_INLINE __m512i broadcast32(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}
RM_INLINE qi qi_load(const void *p) { return _mm512_loadu_si512(p); }
RM_INLINE void qi_store(void *p, qi v) { _mm512_storeu_si512(p, v); }
RM_INLINE qi qi_low(qi v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
#ifdef RM_INTEL
RM_INLINE qi qi_high(qi v) { return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64(0x1020408000000000), 0); } /* every byte >> 4 */
#else
RM_INLINE qi qi_high(qi v) { return qi_low(_mm512_srli_epi16(v, 4)); }
#endif
RM_INLINE qi qi_lookup(qi v) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)rm_iq4nl)), v); }
RM_INLINE qi qi_insert(qi v, qi h, int left, int mask) {
    h = left >= 0 ? _mm512_slli_epi16(h, (unsigned)left) : _mm512_srli_epi16(h, (unsigned)-left);
    return _mm512_ternarylogic_epi32(v, h, _mm512_set1_epi8((char)mask), 0xF8); /* v | (h & mask) */
}
RM_INLINE qi qi_spread(const void *p) { return broadcast32(p); }
RM_INLINE qs qs_zero(void) { return _mm512_setzero_si512(); }
RM_INLINE qs qs_start(const void *p, int shift) { return _mm512_slli_epi32(broadcast32(p), (unsigned)shift); }
RM_INLINE qs qs_dot(qs s, qi w, qi x) { return _mm512_dpbusd_epi32(s, w, x); }
RM_INLINE qf qf_load(const float *p) { return _mm512_loadu_ps(p); }
RM_INLINE void qf_store(float *p, qf v) { _mm512_storeu_ps(p, v); }
RM_INLINE qf qf_zero(void) { return _mm512_setzero_ps(); }
RM_INLINE qf qf_set(float a) { return _mm512_set1_ps(a); }
RM_INLINE qf qf_spread(const void *p) { return _mm512_castsi512_ps(broadcast32(p)); }
RM_INLINE qf qf_half(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
RM_INLINE qf qf_int8(const void *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p))); }
RM_INLINE qf qf_of(qs s) { return _mm512_cvtepi32_ps(s); }
RM_INLINE qf qf_add(qf a, qf b) { return _mm512_add_ps(a, b); }
RM_INLINE qf qf_mul(qf a, qf b) { return _mm512_mul_ps(a, b); }
RM_INLINE qf qf_fma(qf a, qf b, qf c) { return _mm512_fmadd_ps(a, b, c); }
RM_INLINE qf qf_fnma(qf a, qf b, qf c) { return _mm512_fnmadd_ps(a, b, c); }

#include "kern/quant_act.h"
#include "kern/quant_vec.h"

/* ---- activations ----------------------------------------------------------------------------------------------------------------- */

static void q_quant_512(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    for (size_t b = 0; b < n / RM_QBLOCK; b++, tile += n_row * RM_QX_ROW) {
        for (int r = 0; r < n_row; r++) {
            const float *p = x + (size_t)r * ldx + b * RM_QBLOCK;
            __m512 v[2] = {_mm512_loadu_ps(p), _mm512_loadu_ps(p + 16)};
            __m512i m =
                _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v[0]), magnitude), _mm512_and_si512(_mm512_castps_si512(v[1]), magnitude));
            uint32_t top = _mm512_reduce_max_epu32(m);
            float amax;
            memcpy(&amax, &top, 4);
            const act_step step = act_step_of(amax);
            __mmask16 finite = amax < INFINITY ? 0xFFFF : 0;
            __m128i half[2];
            for (int h = 0; h < 2; h++)
                half[h] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_maskz_mul_ps(finite, v[h], _mm512_set1_ps(step.inv))));
            __m256i q = _mm256_set_m128i(half[1], half[0]), s = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
            _mm256_storeu_si256((void *)(tile + r * RM_QBLOCK), q);
            s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4E)); /* within each half */
            s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xB1));
            int32_t sum[2] = {_mm256_extract_epi32(s, 0), _mm256_extract_epi32(s, 4)};
            act_meta(tile, n_row, r, step.d, sum);
        }
    }
}
