/* Quantised products with AVX2: what quant_vec.h wants, and activations in 8 bits.
 *
 * Without VNNI pairs of products are added in 16 bits, a whole block of quants of up to 7 bits (half a block where it has two scales). 8-bit quants are multiplied as magnitude
 * and sign, one by one. */

/* ---- vectors of 8 outputs -------------------------------------------------------------------------------------------------------- */

#define Q_LANES 8
#define Q_TOGETHER 2
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
/* Where other tables have minus a sum of activations there are two halves of 16 bits here: minus the sums of inputs 4 i and 4 i + 1, of 4 i + 2 and 4 i + 3. */
RM_INLINE int32_t q_neg(const uint8_t *p) {
    int16_t v[2];
    memcpy(v, p, sizeof v);
    return v[0] + v[1];
}
typedef struct q_weights q_weights;
RM_INLINE void q_sums(qs a[][Q_TOGETHER], const uint8_t *x, const uint8_t *neg, int n_row, const q_weights *w, int c, int s, int n);
#endif

#include "kern/quant_act.h"
#include "kern/quant_vec.h"

#ifdef RM_OWN_SUMS
/* s + p, in this order: else the compiler forms other sums, and keeps all products in memory. */
RM_INLINE __m256i add_16(__m256i s, __m256i p) {
    __asm__("vpaddw %1, %0, %0" : "+x"(s) : "x"(p));
    return s;
}
RM_INLINE __m256i add_32(__m256i s, __m256i p) {
    __asm__("vpaddd %1, %0, %0" : "+x"(s) : "x"(p));
    return s;
}
/* What is read after it is not read before, and not kept for later. */
#define FENCE __asm__ volatile("" ::: "memory")

/* Up to 7 bits: the whole sum in 16 bits. It may wrap meanwhile: at the end magnitudes are at most 8 steps of 2 x 15 or 16 x 127, or 4 steps of 2 x 32 x 127,
 * or 63 times what quant_256 lets be. */
RM_INLINE void sums_narrow(qs a[][Q_TOGETHER], const uint8_t *x, const uint8_t *neg, int n_row, const q_weights *w, int c, int s, int n) {
    const bool centred = w->shift || w->width > 4;
    const int shift = w->shift ? w->shift : w->width - 1;
    __m256i sum[RM_QROWS][Q_TOGETHER];
    RM_UNROLL for (int i = 0; i < n; i++) {
        FENCE;
        __m256i v[Q_TOGETHER];
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) v[t] = step_quants(w, s + i, c + t);
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            const __m256i xs = qi_spread(x + r * RM_QBLOCK + (s + i) * 4);
            const __m256i start = centred && i == 0 ? _mm256_slli_epi16(qi_spread(neg + r * 4), shift) : _mm256_setzero_si256();
            RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) {
                const __m256i p = _mm256_maddubs_epi16(v[t], xs);
                sum[r][t] = i ? add_16(sum[r][t], p) : centred ? _mm256_add_epi16(start, p) : p;
            }
        }
    }
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) {
            a[r][t] = _mm256_madd_epi16(sum[r][t], _mm256_set1_epi16(1));
            if (centred && !w->shift) /* what was taken off */
                a[r][t] = _mm256_add_epi32(a[r][t], _mm256_madd_epi16(qi_spread(neg + r * 4), _mm256_set1_epi16((short)-(1 << shift))));
        }
    }
}

/* 8 bits: magnitude times sign, one by one. They hold the offset already. */
RM_INLINE void sums_wide(qs a[][Q_TOGETHER], const uint8_t *x, int n_row, const q_weights *w, int c, int s, int n) {
    RM_UNROLL for (int r = 0; r < n_row; r++) { RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) a[r][t] = qs_zero(); }
    RM_UNROLL for (int i = s; i < s + n; i++) {
        FENCE;
        __m256i sign[Q_TOGETHER], size[Q_TOGETHER];
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) {
            sign[t] = _mm256_xor_si256(step_quants(w, i, c + t), _mm256_set1_epi8((char)0x80));
            size[t] = _mm256_abs_epi8(sign[t]);
        }
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            const __m256i xs = qi_spread(x + r * RM_QBLOCK + i * 4);
            RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) {
                const __m256i p = _mm256_maddubs_epi16(size[t], _mm256_sign_epi8(xs, sign[t]));
                a[r][t] = add_32(a[r][t], _mm256_madd_epi16(p, _mm256_set1_epi16(1)));
            }
        }
    }
}

RM_INLINE void q_sums(qs a[][Q_TOGETHER], const uint8_t *x, const uint8_t *neg, int n_row, const q_weights *w, int c, int s, int n) {
    if (w->width <= 7) {
        sums_narrow(a, x, neg, n_row, w, c, s, n);
        return;
    }
    const int once = w->table || n_row < 4 ? n_row : (n_row + 1) / 2; /* rows whose sums the registers hold */
    RM_UNROLL for (int r = 0; r < n_row; r += once) sums_wide(a + r, x + r * RM_QBLOCK, n_row - r < once ? n_row - r : once, w, c, s, n);
}
#endif

/* ---- activations ---------------------------------------------------------------------------------------------------------------- */

/* Of a half block, from its sums of inputs 4 i + k in lane k: of the inputs 4 i and 4 i + 1, of 4 i + 2 and 4 i + 3. */
RM_INLINE void pair_sums(int32_t pair[2], __m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    pair[0] = _mm_cvtsi128_si32(s), pair[1] = _mm_extract_epi32(s, 2);
}

RM_INLINE void put_meta(uint8_t *tile, int n_row, int r, float d, int32_t pair[2][2]) {
#ifdef RM_OWN_SUMS
    int16_t neg[3][2];
    for (int j = 0; j < 2; j++) neg[0][j] = (int16_t)(-pair[0][j] - pair[1][j]), neg[1][j] = (int16_t)-pair[0][j], neg[2][j] = (int16_t)-pair[1][j];
    act_put(tile, n_row, r, d, -q_neg((const uint8_t *)neg[0]), neg);
#else
    act_meta(tile, n_row, r, d, (int32_t[2]){pair[0][0] + pair[0][1], pair[1][0] + pair[1][1]});
#endif
}

/* The larger of the two sums of 16 magnitudes that meet in a sum of products (pair_sums), over 512. */
RM_INLINE float half_sums(const __m256i v[4], __m256i magnitude) {
    __m256 s = _mm256_setzero_ps();
    for (int k = 0; k < 4; k++) s = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(v[k], magnitude)), _mm256_set1_ps(1.0f / 512), s);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_add_ps(h, _mm_shuffle_ps(h, h, 0xB1));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehl_ps(h, h)));
}

/* narrow: for 7-bit weights. The magnitudes that meet in a sum of products are 512 together, 520 rounded: with weights of up to 63 that sum has 16 bits. */
RM_INLINE void quant_256(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n, bool narrow) {
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
            act_step step = act_step_of(amax, 127.0f);
            const float least = narrow ? half_sums(v, magnitude) : 0.0f;
            if (least > step.d) step = act_step_of(least, 1.0f);
            for (int k = 0; k < 4; k++) {
                __m256 f = amax < INFINITY ? _mm256_castsi256_ps(v[k]) : _mm256_setzero_ps();
                v[k] = _mm256_cvtps_epi32(_mm256_mul_ps(f, _mm256_set1_ps(step.inv)));
            }
            int32_t pair[2][2];
            pair_sums(pair[0], _mm256_add_epi32(v[0], v[1]));
            pair_sums(pair[1], _mm256_add_epi32(v[2], v[3]));
            __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
            q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256((void *)(tile + r * RM_QBLOCK), q);
            put_meta(tile, n_row, r, step.d, pair);
        }
    }
}
static void q_quant_256(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n) { quant_256(tile, x, ldx, n_row, n, false); }
