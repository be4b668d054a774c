/* Quantised products with AVX2: 8 outputs x 4 inputs per instruction. Same order of float operations as quant.h. As in avx512_quant.h each function is one
 * inline body whose constant arguments describe the form.
 *
 * Without VNNI pairs of products are added in 16 bits, as many as fit: 8 of 4-bit quants with activations of at most 127, 4 of 5-bit, 2 of 6-bit ones.
 * 8-bit quants are multiplied as magnitude and sign, one by one. */
#include "kern/shapes.h"

RM_INLINE __m256i bytes_at(const void *p) { return _mm256_loadu_si256(p); }
RM_INLINE int32_t int_at(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}
RM_INLINE __m256 float_at(const void *p) {
    float v;
    memcpy(&v, p, 4);
    return _mm256_set1_ps(v);
}

/* ---- activations ---------------------------------------------------------------------------------------------------------------- */

RM_INLINE int32_t sum_8(__m128i v) { /* of 4 numbers of 32 bits */
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
                v[k] = bytes_at(p + 8 * k);
                m = _mm256_max_epu32(m, _mm256_and_si256(v[k], magnitude)); /* as bits: NaN is larger than anything and makes the row NaN */
            }
            __m128i top = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
            top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0x4E));
            top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0xB1));
            float amax = _mm_cvtss_f32(_mm_castsi128_ps(top));
            float d = amax / 127.0f, inv = amax > 0.0f && amax < INFINITY ? 127.0f / amax : 0.0f;
            if (!(inv < INFINITY)) d = inv = 0.0f; /* below 1e-36: nothing */
            for (int k = 0; k < 4; k++) {
                __m256 f = amax < INFINITY ? _mm256_castsi256_ps(v[k]) : _mm256_setzero_ps();
                v[k] = _mm256_cvtps_epi32(_mm256_mul_ps(f, _mm256_set1_ps(inv)));
            }
            __m256i first = _mm256_add_epi32(v[0], v[1]), second = _mm256_add_epi32(v[2], v[3]);
            int32_t sum[2] = {sum_8(_mm_add_epi32(_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1))),
                              sum_8(_mm_add_epi32(_mm256_castsi256_si128(second), _mm256_extracti128_si256(second, 1)))};
            __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
            q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256((void *)(tile + r * RM_QBLOCK), q);
            uint8_t *meta = tile + n_row * RM_QBLOCK + r * 4;
            float dsum = d * (float)(sum[0] + sum[1]);
            int32_t neg[3] = {-(sum[0] + sum[1]), -sum[0], -sum[1]};
            memcpy(meta, &d, 4);
            memcpy(meta + n_row * 4, &dsum, 4);
            for (int k = 0; k < 3; k++) memcpy(meta + (2 + k) * n_row * 4, &neg[k], 4);
        }
    }
}

/* ---- unpacking one block ---------------------------------------------------------------------------------------------------------- */

/* The quants of step s (inputs 4 s .. 4 s + 3), quarter c of the group, as unsigned bytes. */
RM_INLINE __m256i block_quants(const uint8_t *p, int s, int c, int bits, int high, bool table) {
    if (bits == 8) return bytes_at(p + s * 128 + c * 32);
    __m256i v = bytes_at(p + (s & 3) * 128 + c * 32);
    if (s & 4) v = _mm256_srli_epi16(v, 4);
    v = _mm256_and_si256(v, _mm256_set1_epi8(15));
    if (table) return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)rm_iq4nl)), v);
    if (high) {
        __m256i h = bytes_at(p + 512 + (high == 2 ? (s >> 2) * 128 : 0) + c * 32);
        int at = high == 2 ? 2 * (s & 3) : s;
        h = at < 4 ? _mm256_slli_epi16(h, 4 - at) : _mm256_srli_epi16(h, at - 4);
        v = _mm256_or_si256(v, _mm256_and_si256(h, _mm256_set1_epi8(high == 2 ? 0x30 : 0x10)));
    }
    return v;
}

RM_INLINE __m256 half_vector(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }

/* Scale number k of a block (sub-blocks, then their minima), quarter c, as float. What super forms take for minima is subtracted. */
RM_INLINE __m256 block_scale(const uint8_t *scales, const uint8_t *head, int k, int c, bool min, bool super) {
    if (!super) return half_vector(scales + k * RM_GROUP * 2 + c * 16);
    __m256 i = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(scales + k * RM_GROUP + c * 8))));
    return _mm256_mul_ps(half_vector(head + (min ? RM_GROUP * 2 : 0) + c * 16), i);
}

RM_INLINE void expand_body(uint8_t *q, float *s, const uint8_t *group, int b0, int n_block, int bits, int high, int sub, bool min, bool super,
                           bool table, const rm_form_info *f) {
    const int n_sub = 32 / sub;
    for (int b = b0; b < b0 + n_block; b++, q += RM_EXPANDED_QUANTS, s += RM_GROUP * n_sub * (min ? 2 : 1)) {
        const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *head = group + rm_form_head_at(f, (size_t)b), *scales = p + (bits + high) * 128;
        RM_UNROLL for (int t = 0; t < 8; t++) {
            RM_UNROLL for (int c = 0; c < 4; c++) _mm256_storeu_si256((void *)(q + t * 128 + c * 32), block_quants(p, t, c, bits, high, table));
        }
        for (int c = 0; c < 4; c++)
            for (int h = 0; h < n_sub; h++) {
                _mm256_storeu_ps(s + h * RM_GROUP + 8 * c, block_scale(scales, head, h, c, false, super));
                if (!min) continue;
                __m256 m = block_scale(scales, head, n_sub + h, c, true, super);
                _mm256_storeu_ps(s + (n_sub + h) * RM_GROUP + 8 * c, super ? _mm256_sub_ps(_mm256_setzero_ps(), m) : m);
            }
    }
}
static void q_expand_256(uint8_t *q, float *s, const uint8_t *group, rm_form form, int b0, int n_block) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: expand_body(q, s, group, b0, n_block, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

/* ---- products --------------------------------------------------------------------------------------------------------------------- */

/* a[r] = minus the offset times the sum of the activations, plus the products of quants k .. k + n (in steps of 4 inputs) of a quarter with each row. */
RM_INLINE void quant_sums(__m256i a[], const uint8_t *x, const uint8_t *neg, int n_row, const uint8_t *q, int c, int k, int n, bool packed, int bits,
                          int high, bool table, int width, int shift) {
    const __m256i zero = _mm256_setzero_si256();
#ifdef RM_VNNI
    (void)width;
    RM_UNROLL for (int r = 0; r < n_row; r++) a[r] = shift ? _mm256_slli_epi32(_mm256_set1_epi32(int_at(neg + r * 4)), shift) : zero;
    RM_UNROLL for (int i = 0; i < n; i++) {
        const __m256i w = packed ? block_quants(q, k + i, c, bits, high, table) : bytes_at(q + (k + i) * 128 + c * 32);
        RM_UNROLL for (int r = 0; r < n_row; r++) a[r] = _mm256_dpbusd_avx_epi32(a[r], w, _mm256_set1_epi32(int_at(x + r * RM_QBLOCK + (k + i) * 4)));
    }
#else
    const int fit = width == 4 ? 8 : width == 5 ? 4 : width == 6 ? 2 : 1;
    const __m256i ones = _mm256_set1_epi16(1);
    RM_UNROLL for (int r = 0; r < n_row; r++) /* magnitude and sign hold the offset already */
        a[r] = shift && width < 8 ? _mm256_slli_epi32(_mm256_set1_epi32(int_at(neg + r * 4)), shift) : zero;
    __m256i s[RM_QROWS];
    RM_UNROLL for (int i = 0; i < n; i++) {
        __m256i w = packed ? block_quants(q, k + i, c, bits, high, table) : bytes_at(q + (k + i) * 128 + c * 32), sign = w;
        if (width == 8) sign = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80)), w = _mm256_abs_epi8(sign);
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            __m256i v = _mm256_set1_epi32(int_at(x + r * RM_QBLOCK + (k + i) * 4));
            if (width == 8) v = _mm256_sign_epi8(v, sign);
            v = _mm256_maddubs_epi16(w, v);
            s[r] = i % fit == 0 ? v : _mm256_add_epi16(s[r], v);
            if (i % fit == fit - 1 || i == n - 1) a[r] = _mm256_add_epi32(a[r], _mm256_madd_epi16(s[r], ones));
        }
    }
#endif
}

/* One block of a quarter, 8 outputs, for all rows. */
RM_INLINE void quarter(__m256 f[][4], int c, const uint8_t *x, int n_row, const uint8_t *q, const float *s, const uint8_t *head, bool packed,
                       int bits, int high, int sub, bool min, bool super, bool table, int width, int shift) {
    const int n_sub = 32 / sub;
    const uint8_t *meta = x + n_row * RM_QBLOCK, *scales = q + (bits + high) * 128;
    RM_UNROLL for (int h = 0; h < n_sub; h++) {
        __m256i a[RM_QROWS];
        quant_sums(a, x, meta + (2 + (n_sub == 2 ? 1 + h : 0)) * n_row * 4, n_row, q, c, h * 4, 8 / n_sub, packed, bits, high, table, width, shift);
        __m256 d = packed ? block_scale(scales, head, h, c, false, super) : _mm256_loadu_ps(s + h * RM_GROUP + 8 * c);
        RM_UNROLL for (int r = 0; r < n_row; r++) f[r][c] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(a[r]), _mm256_mul_ps(d, float_at(meta + r * 4)), f[r][c]);
    }
    RM_UNROLL for (int h = 0; min && h < n_sub; h++) {
        __m256 m = packed ? block_scale(scales, head, n_sub + h, c, true, super) : _mm256_loadu_ps(s + (n_sub + h) * RM_GROUP + 8 * c);
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            __m256 sx = float_at(meta + n_row * 4 + r * 4);
            if (n_sub == 2) sx = _mm256_mul_ps(float_at(meta + r * 4), _mm256_set1_ps((float)-int_at(meta + (3 + h) * n_row * 4 + r * 4)));
            f[r][c] = packed && super ? _mm256_fnmadd_ps(m, sx, f[r][c]) : _mm256_fmadd_ps(m, sx, f[r][c]);
        }
    }
}

/* One body for expanded and for packed weights (`packed`: a form's shape is known, quants and scales are unpacked in registers). */
RM_INLINE void product_body(const rm_qtile *t, int n_row, bool packed, int bits, int high, int sub, bool min, bool super, bool table, int width,
                            int shift) {
    __m256 f[RM_QROWS][4];
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int c = 0; c < 4; c++) f[r][c] = t->more ? _mm256_loadu_ps(t->y + (size_t)r * t->ldy + 8 * c) : _mm256_setzero_ps();
    }
    const int n_sub = 32 / sub, quants = packed ? (bits + high) * 128 : RM_EXPANDED_QUANTS;
    const int scales = !packed ? 0 : rm_scale_bytes(n_sub, min, super);
    const uint8_t *x = t->x, *q = t->q, *head = q;
    const float *s = t->s;
    const char *ahead = (const char *)t->ahead;
    for (int b = 0; b < t->n_block; b++, x += n_row * RM_QX_ROW, q += quants + scales, s += RM_GROUP * n_sub * (min ? 2 : 1)) {
        if (packed && super && b % 8 == 0) {
            head = q;
            q += RM_GROUP * 2 * (min ? 2 : 1);
        }
        for (int i = 0; i < t->ahead_bytes; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T0);
        ahead += t->ahead_bytes;
        if (n_row <= 2) { /* the sums stay in registers */
            RM_UNROLL for (int c = 0; c < 4; c++) quarter(f, c, x, n_row, q, s, head, packed, bits, high, sub, min, super, table, width, shift);
        } else {
            _Pragma("GCC unroll 1") for (int c = 0; c < 4; c++) {
                __asm__("" : "+r"(x)); /* else all activations are spread over vectors in memory first */
                quarter(f, c, x, n_row, q, s, head, packed, bits, high, sub, min, super, table, width, shift);
            }
        }
    }
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int c = 0; c < 4; c++) {
            __m256 v = t->bias ? _mm256_add_ps(f[r][c], _mm256_loadu_ps(t->bias + 8 * c)) : f[r][c];
            _mm256_storeu_ps(t->y + (size_t)r * t->ldy + 8 * c, v);
        }
    }
}

#define RM_EACH_COUNT(...)                                                                                                                           \
    switch (t->n_row) {                                                                                                                              \
    case 1: product_body(t, 1, __VA_ARGS__); break;                                                                                                  \
    case 2: product_body(t, 2, __VA_ARGS__); break;                                                                                                  \
    case 3: product_body(t, 3, __VA_ARGS__); break;                                                                                                  \
    case 4: product_body(t, 4, __VA_ARGS__); break;                                                                                                  \
    case 5: product_body(t, 5, __VA_ARGS__); break;                                                                                                  \
    case 6: product_body(t, 6, __VA_ARGS__); break;                                                                                                  \
    default: break;                                                                                                                                  \
    }

/* Expanded forms, by what their quants and scales are like: X(sub, min, width, shift). */
#define RM_TILES(X)                                                                                                                                  \
    X(32, false, 4, 3)                                                                                                                               \
    X(32, true, 4, 0) X(32, false, 5, 4) X(32, true, 5, 0) X(32, false, 8, 7) X(16, true, 4, 0) X(16, false, 4, 2) X(16, false, 6, 5)
#define X(sub, min, width, shift)                                                                                                                    \
    static void tile_##sub##_##width##_##shift(const rm_qtile *t) { RM_EACH_COUNT(false, 8, 0, sub, min, false, false, width, shift) }
RM_TILES(X)
#undef X
static void q_tile_256(const rm_qtile *t) {
    const rm_form_info *f = &rm_forms[t->form];
    const int width = f->table ? 8 : f->bits + f->high;
#define X(sub_, min_, width_, shift_)                                                                                                                \
    if (f->sub == sub_ && width == width_ && f->shift == shift_) tile_##sub_##_##width_##_##shift_(t);
    RM_TILES(X)
#undef X
}

#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    static void rows_##name(const rm_qtile *t) { RM_EACH_COUNT(true, bits, high, sub, min, super, table, table ? 8 : bits + high, shift) }
RM_SHAPES(X)
#undef X
static void q_rows_256(const rm_qtile *t) {
    switch (t->form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: rows_##name(t); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}
