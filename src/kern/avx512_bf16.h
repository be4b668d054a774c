/* bf16 products: pairs of inputs per instruction, 16 float lanes along n, one sum per (row, output) as in gemm.h. */

enum { BF16_ROWS = 64, BF16_DEPTH = 1024 }; /* rows of x per block; inputs per block: the weights of 6 outputs stay in the first cache */

/* Sums of a tile over inputs i0 .. i1; kept: sums of the inputs before (if i0 > 0) and of these (if i1 < n), else they are finished into y. */
RM_INLINE void bf16_tile(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint8_t *w, size_t ldw, size_t i0, size_t i1, size_t n,
                         const float *bias, __m512 *kept, int nr, int no) {
    __m512 s[4][6];
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = i0 ? kept[r * 6 + o] : _mm512_setzero_ps(); }
    size_t i = i0;
    for (; i + 32 <= i1; i += 32) {
        __m512bh a[6];
        RM_UNROLL for (int o = 0; o < no; o++) a[o] = (__m512bh)_mm512_loadu_si512(w + (size_t)o * ldw + i * 2);
        RM_UNROLL for (int r = 0; r < nr; r++) {
            __m512bh b = (__m512bh)_mm512_loadu_si512(x + (size_t)r * ldx + i);
            RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = _mm512_dpbf16_ps(s[r][o], a[o], b);
        }
    }
    if (i < i1) {
        __mmask32 m = (1u << (i1 - i)) - 1;
        RM_UNROLL for (int r = 0; r < nr; r++) {
            __m512bh b = (__m512bh)_mm512_maskz_loadu_epi16(m, x + (size_t)r * ldx + i);
            RM_UNROLL for (int o = 0; o < no; o++) s[r][o] =
                _mm512_dpbf16_ps(s[r][o], (__m512bh)_mm512_maskz_loadu_epi16(m, w + (size_t)o * ldw + i * 2), b);
        }
    }
    if (i1 < n) {
        RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) kept[r * 6 + o] = s[r][o]; }
    } else if (nr == 4 && no == 6) {
        v_sum_4x6(y, ldy, s, bias);
    } else {
        RM_UNROLL for (int r = 0; r < nr; r++) {
            RM_UNROLL for (int o = 0; o < no; o++) {
                float t = v_sum(s[r][o]);
                y[(size_t)r * ldy + (size_t)o] = bias ? t + bias[o] : t;
            }
        }
    }
}

/* nr rows, n_out <= 6 outputs */
RM_INLINE void bf16_strip(float *y, size_t ldy, const uint16_t *x, size_t ldx, const uint8_t *w, size_t ldw, int n_out, size_t i0, size_t i1,
                          size_t n, const float *bias, __m512 *kept, int nr) {
    if (n_out == 6) {
        bf16_tile(y, ldy, x, ldx, w, ldw, i0, i1, n, bias, kept, nr, 6);
        return;
    }
    for (int o = 0; o < n_out; o++) bf16_tile(y + o, ldy, x, ldx, w + (size_t)o * ldw, ldw, i0, i1, n, bias ? bias + o : NULL, kept + o, nr, 1);
}

static void bf16_rows_512(uint16_t *y, const float *x, size_t ldx, int n_row, size_t n, bool pairs) {
    (void)pairs;
    for (int i = 0; i < n_row; i++) op_to_bf16(y + (size_t)i * rm_bf16_stride(n), x + (size_t)i * ldx, n);
}

static void mul_bf16_512(float *y, size_t ldy, const uint16_t *x, int n_row, const void *weights, size_t ldw, int n_out, size_t n,
                         const float *bias) {
    const uint8_t *w = weights;
    const size_t ldx = rm_bf16_stride(n);
    __m512 kept[BF16_ROWS * 6];
    size_t depth = n <= BF16_DEPTH + BF16_DEPTH / 2 ? n : BF16_DEPTH;
    for (int r0 = 0; r0 < n_row; r0 += BF16_ROWS) {
        int r1 = n_row - r0 < BF16_ROWS ? n_row : r0 + BF16_ROWS;
        for (int o = 0; o < n_out; o += 6) {
            int no = n_out - o < 6 ? n_out - o : 6;
            const float *b = bias ? bias + o : NULL;
            const uint8_t *wo = w + (size_t)o * ldw;
            for (size_t i0 = 0; i0 < n; i0 += depth) {
                size_t i1 = n - i0 < depth ? n : i0 + depth;
                float *yo = y + (size_t)r0 * ldy + o;
                const uint16_t *xr = x + (size_t)r0 * ldx;
                int r = r0;
                for (; r + 4 <= r1; r += 4, yo += 4 * ldy, xr += 4 * ldx)
                    bf16_strip(yo, ldy, xr, ldx, wo, ldw, no, i0, i1, n, b, kept + (r - r0) * 6, 4);
                for (; r + 2 <= r1; r += 2, yo += 2 * ldy, xr += 2 * ldx)
                    bf16_strip(yo, ldy, xr, ldx, wo, ldw, no, i0, i1, n, b, kept + (r - r0) * 6, 2);
                for (; r < r1; r++, yo += ldy, xr += ldx) bf16_strip(yo, ldy, xr, ldx, wo, ldw, no, i0, i1, n, b, kept + (r - r0) * 6, 1);
            }
        }
    }
}
