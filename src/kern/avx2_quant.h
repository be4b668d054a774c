/* Quantised products with AVX2: pairs of products in 16 bits, without saturation: quants of at most 6 bits times 7 bits, two pairs; 8-bit
 * quants as magnitude and sign. Same order of float operations as quant.h. */

RM_INLINE void tile_256(const rm_qtile *t, int n_row, bool eight) {
    const rm_form_info *form = &rm_forms[t->form];
    const int n_sub = 32 / form->sub;
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8((char)0x80);
    __m256 f[RM_QROWS][4];
    for (int r = 0; r < n_row; r++)
        for (int c = 0; c < 4; c++) f[r][c] = t->more ? _mm256_loadu_ps(t->y + (size_t)r * t->ldy + 8 * c) : _mm256_setzero_ps();
    const uint8_t *x = t->x, *q = t->q;
    const float *s = t->s;
    for (int b = 0; b < t->n_block; b++, x += n_row * RM_QX_ROW, q += RM_EXPANDED_QUANTS, s += rm_form_expanded_scales(form)) {
        float meta[2][RM_QROWS];
        int32_t neg[3][RM_QROWS];
        for (int k = 0; k < 2; k++) memcpy(meta[k], x + n_row * (RM_QBLOCK + 4 * k), (size_t)n_row * 4);
        for (int k = 0; k < 3; k++) memcpy(neg[k], x + n_row * (RM_QBLOCK + 8 + 4 * k), (size_t)n_row * 4);
        for (int h = 0; h < n_sub; h++) {
            for (int c = 0; c < 4; c++) {
                __m256i a[RM_QROWS];
                RM_UNROLL for (int r = 0; r < n_row; r++) /* magnitude and sign hold the offset already */
                    a[r] = _mm256_set1_epi32(eight || !form->shift ? 0 : neg[n_sub == 1 ? 0 : 1 + h][r] * (1 << form->shift));
                for (int k = h * 4; k < (n_sub == 1 ? 8 : h * 4 + 4); k += 2) {
                    __m256i w0 = _mm256_loadu_si256((const void *)(q + k * 128 + c * 32));
                    __m256i w1 = _mm256_loadu_si256((const void *)(q + k * 128 + 128 + c * 32));
                    if (eight) w0 = _mm256_xor_si256(w0, flip), w1 = _mm256_xor_si256(w1, flip);
                    RM_UNROLL for (int r = 0; r < n_row; r++) {
                        int32_t v[2];
                        memcpy(v, x + r * RM_QBLOCK + k * 4, sizeof v);
                        __m256i x0 = _mm256_set1_epi32(v[0]), x1 = _mm256_set1_epi32(v[1]);
                        if (eight) {
                            __m256i p0 = _mm256_maddubs_epi16(_mm256_abs_epi8(w0), _mm256_sign_epi8(x0, w0));
                            __m256i p1 = _mm256_maddubs_epi16(_mm256_abs_epi8(w1), _mm256_sign_epi8(x1, w1));
                            a[r] = _mm256_add_epi32(a[r], _mm256_add_epi32(_mm256_madd_epi16(p0, ones), _mm256_madd_epi16(p1, ones)));
                        } else {
                            __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(w0, x0), _mm256_maddubs_epi16(w1, x1));
                            a[r] = _mm256_add_epi32(a[r], _mm256_madd_epi16(p, ones));
                        }
                    }
                }
                __m256 d = _mm256_loadu_ps(s + h * RM_GROUP + 8 * c);
                RM_UNROLL for (int r = 0; r < n_row; r++) f[r][c] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(a[r]), _mm256_mul_ps(d, _mm256_set1_ps(meta[0][r])), f[r][c]);
            }
        }
        for (int h = 0; form->min && h < n_sub; h++) {
            for (int r = 0; r < n_row; r++) {
                __m256 sx = _mm256_set1_ps(n_sub == 1 ? meta[1][r] : meta[0][r] * (float)-neg[1 + h][r]);
                for (int c = 0; c < 4; c++) f[r][c] = _mm256_fmadd_ps(_mm256_loadu_ps(s + (n_sub + h) * RM_GROUP + 8 * c), sx, f[r][c]);
            }
        }
    }
    for (int r = 0; r < n_row; r++) {
        for (int c = 0; c < 4; c++) {
            __m256 v = t->bias ? _mm256_add_ps(f[r][c], _mm256_loadu_ps(t->bias + 8 * c)) : f[r][c];
            _mm256_storeu_ps(t->y + (size_t)r * t->ldy + 8 * c, v);
        }
    }
}
static void q_tile_256(const rm_qtile *t) {
#define X(n)                                                                                                                                         \
    case n:                                                                                                                                          \
        if (rm_forms[t->form].shift == 7)                                                                                                            \
            tile_256(t, n, true);                                                                                                                    \
        else                                                                                                                                         \
            tile_256(t, n, false);                                                                                                                   \
        break;
    switch (t->n_row) { X(1) X(2) X(3) X(4) X(5) X(6) default : break; }
#undef X
}
