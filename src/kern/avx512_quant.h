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

#include "kern/quant_vec.h"

/* ---- activations ----------------------------------------------------------------------------------------------------------------- */

enum { QUANT_BLOCKS = 16 }; /* of a row that are quantised together: one lane for each */

/* Lane i: the largest magnitude of block i, as bits: NaN is larger than anything and makes the block NaN. Blocks from nb on: 0. */
RM_INLINE __m512i block_tops(const float *x, int nb) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i m[QUANT_BLOCKS];
    RM_UNROLL for (int i = 0; i < QUANT_BLOCKS; i++) {
        __m512i a = _mm512_setzero_si512(), b = a;
        if (i < nb) a = _mm512_loadu_si512(x + i * RM_QBLOCK), b = _mm512_loadu_si512(x + i * RM_QBLOCK + 16);
        m[i] = _mm512_max_epu32(_mm512_and_si512(a, magnitude), _mm512_and_si512(b, magnitude));
    }
    /* each step halves the vectors and the lanes of a block */
    RM_UNROLL for (int i = 0; i < 8; i++) m[i] =
        _mm512_max_epu32(_mm512_shuffle_i32x4(m[i], m[i + 8], 0x44), _mm512_shuffle_i32x4(m[i], m[i + 8], 0xEE));
    RM_UNROLL for (int i = 0; i < 4; i++) m[i] =
        _mm512_max_epu32(_mm512_shuffle_i32x4(m[i], m[i + 4], 0x88), _mm512_shuffle_i32x4(m[i], m[i + 4], 0xDD));
    RM_UNROLL for (int i = 0; i < 2; i++) m[i] = _mm512_max_epu32(_mm512_unpacklo_epi64(m[i], m[i + 2]), _mm512_unpackhi_epi64(m[i], m[i + 2]));
    const __m512 a = _mm512_castsi512_ps(m[0]), b = _mm512_castsi512_ps(m[1]);
    const __m512i even = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88)), odd = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xDD));
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), _mm512_max_epu32(even, odd));
}

/* Lane i of half[h]: the sum of the 16 bytes of half h of block i. s: blocks 2 j and 2 j + 1 in vector j, each 128 bits hold four parts of a half's sum. */
RM_INLINE void half_sums(__m512i half[2], const __m512i s[QUANT_BLOCKS / 2]) {
    __m512i t[4];
    RM_UNROLL for (int i = 0; i < 4; i++) t[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(s[i], s[i + 4]), _mm512_unpackhi_epi64(s[i], s[i + 4]));
    RM_UNROLL for (int i = 0; i < 2; i++) {
        const __m512 a = _mm512_castsi512_ps(t[i]), b = _mm512_castsi512_ps(t[i + 2]);
        t[i] = _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88)), _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xDD)));
    }
    const __m512i first = _mm512_setr_epi32(0, 8, 16, 24, 2, 10, 18, 26, 1, 9, 17, 25, 3, 11, 19, 27);
    half[0] = _mm512_permutex2var_epi32(t[0], first, t[1]);
    half[1] = _mm512_permutex2var_epi32(t[0], _mm512_add_epi32(first, _mm512_set1_epi32(4)), t[1]);
}

/* nb <= QUANT_BLOCKS blocks of row r of a tile. */
RM_INLINE void quant_blocks(uint8_t *tile, const float *x, int n_row, int r, int nb) {
    const __m512 top = _mm512_castsi512_ps(block_tops(x, nb)), limit = _mm512_set1_ps(127.0f), infinite = _mm512_set1_ps(INFINITY);
    __m512 inv =
        _mm512_maskz_div_ps(_mm512_cmp_ps_mask(top, _mm512_setzero_ps(), _CMP_GT_OQ) & _mm512_cmp_ps_mask(top, infinite, _CMP_LT_OQ), limit, top);
    const __mmask16 some = _mm512_cmp_ps_mask(inv, infinite, _CMP_LT_OQ); /* as in act_step_of: below 1e-36 there is nothing */
    const __m512 d = _mm512_maskz_div_ps(some, top, limit);
    _Alignas(64) float factor[QUANT_BLOCKS];
    _Alignas(64) int32_t meta[RM_QX_META][QUANT_BLOCKS];
    __m256i s[QUANT_BLOCKS];
    __m512i pair[QUANT_BLOCKS / 2], half[2];
    _mm512_store_ps(factor, _mm512_maskz_mov_ps(some, inv));
    const size_t block = (size_t)n_row * RM_QX_ROW;
    RM_UNROLL for (int i = 0; i < QUANT_BLOCKS; i++) {
        s[i] = _mm256_setzero_si256();
        if (i >= nb) continue;
        const float *p = x + i * RM_QBLOCK;
        __m128i q[2]; /* a number that is not finite times 0 becomes 0 here */
        for (int h = 0; h < 2; h++)
            q[h] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(p + 16 * h), _mm512_set1_ps(factor[i]))));
        const __m256i all = _mm256_set_m128i(q[1], q[0]);
        _mm256_storeu_si256((void *)(tile + (size_t)i * block + r * RM_QBLOCK), all);
        s[i] = _mm256_dpbusd_epi32(s[i], _mm256_set1_epi8(1), all);
    }
    RM_UNROLL for (int i = 0; i < QUANT_BLOCKS / 2; i++) pair[i] = _mm512_inserti64x4(_mm512_castsi256_si512(s[2 * i]), s[2 * i + 1], 1);
    half_sums(half, pair);
    const __m512i sum = _mm512_add_epi32(half[0], half[1]), zero = _mm512_setzero_si512();
    _mm512_store_ps(meta[0], d);
    _mm512_store_ps(meta[1], _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum)));
    _mm512_store_si512(meta[2], _mm512_sub_epi32(zero, sum));
    for (int h = 0; h < 2; h++) _mm512_store_si512(meta[3 + h], _mm512_sub_epi32(zero, half[h]));
    uint8_t *to = tile + n_row * RM_QBLOCK + r * 4;
    for (int i = 0; i < nb; i++, to += block) {
        RM_UNROLL for (int k = 0; k < RM_QX_META; k++) memcpy(to + k * n_row * 4, &meta[k][i], 4);
    }
}

static void q_quant_512(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n) {
    const size_t n_block = n / RM_QBLOCK, whole = n_block / QUANT_BLOCKS * QUANT_BLOCKS, block = (size_t)n_row * RM_QX_ROW;
    for (int r = 0; r < n_row; r++, x += ldx) {
        for (size_t b = 0; b < whole; b += QUANT_BLOCKS) quant_blocks(tile + b * block, x + b * RM_QBLOCK, n_row, r, QUANT_BLOCKS);
        if (whole < n_block) quant_blocks(tile + whole * block, x + whole * RM_QBLOCK, n_row, r, (int)(n_block - whole));
    }
}
