/* bf16 products: pairs of inputs per instruction, 16 float lanes along n, one sum per (row, output) as in gemm.h. */

static void to_bf16_512(uint16_t *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) _mm256_storeu_si256((void *)(y + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
    if (i < n) {
        __mmask16 m = v_first(n - i);
        _mm256_mask_storeu_epi16(y + i, m, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, x + i)));
    }
}

RM_INLINE void bf16_tile(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint8_t *w, size_t ldw, size_t n, const float *bias, int nr,
                         int no) {
    __m512 s[4][6];
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = _mm512_setzero_ps(); }
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512bh a[6];
        RM_UNROLL for (int o = 0; o < no; o++) a[o] = (__m512bh)_mm512_loadu_si512(w + (size_t)o * ldw + i * 2);
        RM_UNROLL for (int r = 0; r < nr; r++) {
            __m512bh b = (__m512bh)_mm512_loadu_si512(x + (size_t)r * ldx + i);
            RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = _mm512_dpbf16_ps(s[r][o], a[o], b);
        }
    }
    if (i < n) {
        __mmask32 m = (1u << (n - i)) - 1;
        RM_UNROLL for (int r = 0; r < nr; r++) {
            __m512bh b = (__m512bh)_mm512_maskz_loadu_epi16(m, x + (size_t)r * ldx + i);
            RM_UNROLL for (int o = 0; o < no; o++) s[r][o] =
                _mm512_dpbf16_ps(s[r][o], (__m512bh)_mm512_maskz_loadu_epi16(m, w + (size_t)o * ldw + i * 2), b);
        }
    }
    RM_UNROLL for (int r = 0; r < nr; r++) {
        RM_UNROLL for (int o = 0; o < no; o++) {
            float t = v_sum(s[r][o]);
            y[(size_t)r * ldy + (size_t)o] = bias ? t + bias[o] : t;
        }
    }
}
RM_INLINE void bf16_strip(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint8_t *w, size_t ldw, int n_out, size_t n, const float *bias,
                          int nr) {
    if (n_out == 6) {
        bf16_tile(y, ldy, x, ldx, w, ldw, n, bias, nr, 6);
        return;
    }
    for (int o = 0; o < n_out; o++) bf16_tile(y + o, ldy, x, ldx, w + (size_t)o * ldw, ldw, n, bias ? bias + o : NULL, nr, 1);
}
static void mul_bf16_512(float *y, size_t ldy, const uint16_t *x, size_t ldx, int n_row, const void *weights, size_t ldw, int n_out, size_t n,
                         const float *bias) {
    const uint8_t *w = weights;
    int block = (int)((384 * 1024) / (2 * n)) & ~3; /* rows of x that stay in the second cache */
    if (block < 16) block = 16;
    for (int i0 = 0; i0 < n_row; i0 += block) {
        int i1 = n_row - i0 < block ? n_row : i0 + block;
        for (int o = 0; o < n_out; o += 6) {
            int no = n_out - o < 6 ? n_out - o : 6, i = i0;
            const float *b = bias ? bias + o : NULL;
            const uint8_t *wo = w + (size_t)o * ldw;
            float *yo = y + o;
            for (; i + 4 <= i1; i += 4) bf16_strip(yo + (size_t)i * ldy, ldy, x + (size_t)i * ldx, ldx, wo, ldw, no, n, b, 4);
            for (; i + 2 <= i1; i += 2) bf16_strip(yo + (size_t)i * ldy, ldy, x + (size_t)i * ldx, ldx, wo, ldw, no, n, b, 2);
            for (; i < i1; i++) bf16_strip(yo + (size_t)i * ldy, ldy, x + (size_t)i * ldx, ldx, wo, ldw, no, n, b, 1);
        }
    }
}
