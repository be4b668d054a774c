/* Quantised products with VNNI: 16 outputs x 4 inputs per instruction. Same order of float operations as quant.h. Each function is one
 * inline body whose constant arguments describe the form; the compiler makes a copy per form. */

#include "kern/shapes.h"

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
            float d = amax / 127.0f, inv = amax > 0.0f && amax < INFINITY ? 127.0f / amax : 0.0f;
            if (!(inv < INFINITY)) d = inv = 0.0f;
            __mmask16 finite = amax < INFINITY ? 0xFFFF : 0;
            __m128i half[2];
            for (int h = 0; h < 2; h++) half[h] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_maskz_mul_ps(finite, v[h], _mm512_set1_ps(inv))));
            __m256i q = _mm256_set_m128i(half[1], half[0]), s = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
            _mm256_storeu_si256((void *)(tile + r * RM_QBLOCK), q);
            s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4E)); /* within each half */
            s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xB1));
            int32_t sum[2] = {_mm256_extract_epi32(s, 0), _mm256_extract_epi32(s, 4)};
            uint8_t *meta = tile + n_row * RM_QBLOCK + r * 4;
            float dsum = d * (float)(sum[0] + sum[1]);
            int32_t neg[3] = {-(sum[0] + sum[1]), -sum[0], -sum[1]};
            memcpy(meta, &d, 4);
            memcpy(meta + n_row * 4, &dsum, 4);
            for (int k = 0; k < 3; k++) memcpy(meta + (2 + k) * n_row * 4, &neg[k], 4);
        }
    }
}

/* ---- unpacking one block ------------------------------------------------------------------------------------------------------- */

/* The quants of step s (inputs 4 s .. 4 s + 3), half c of the group, as unsigned bytes. */
RM_INLINE __m512i block_quants(const uint8_t *p, int s, int c, int bits, int high, bool table) {
    if (bits == 8) return _mm512_load_si512(p + s * 128 + c * 64);
    __m512i v = _mm512_load_si512(p + (s & 3) * 128 + c * 64);
#ifdef RM_INTEL
    v = s & 4 ? _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64(0x1020408000000000), 0) /* every byte >> 4 */
              : _mm512_and_si512(v, _mm512_set1_epi8(15));
#else
    if (s & 4) v = _mm512_srli_epi16(v, 4);
    v = _mm512_and_si512(v, _mm512_set1_epi8(15));
#endif
    if (table) return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)rm_iq4nl)), v);
    if (high) {
        __m512i h = _mm512_load_si512(p + 512 + (high == 2 ? (s >> 2) * 128 : 0) + c * 64);
        int at = high == 2 ? 2 * (s & 3) : s;
        h = at < 4 ? _mm512_slli_epi16(h, 4 - at) : _mm512_srli_epi16(h, at - 4);
        v = _mm512_ternarylogic_epi32(v, h, _mm512_set1_epi8(high == 2 ? 0x30 : 0x10), 0xF8); /* v | (h & mask) */
    }
    return v;
}

RM_INLINE __m512 half_vector(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_load_si256((const void *)p)); }

/* Scale number k of a block (sub-blocks, then their minima), half c, as float. What super forms take for minima is subtracted. */
RM_INLINE __m512 block_scale(const uint8_t *scales, const uint8_t *head, int k, int c, bool min, bool super) {
    if (!super) return half_vector(scales + k * RM_GROUP * 2 + c * 32);
    __m512 i = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const void *)(scales + k * RM_GROUP + c * 16))));
    return _mm512_mul_ps(half_vector(head + (min ? RM_GROUP * 2 : 0) + c * 32), i);
}
/* What is added for sub-block h times the sum of its activations. */
RM_INLINE __m512 block_min(const uint8_t *scales, const uint8_t *head, int n_sub, int h, int c, bool super) {
    __m512 v = block_scale(scales, head, n_sub + h, c, true, super);
    return super ? _mm512_sub_ps(_mm512_setzero_ps(), v) : v;
}

RM_INLINE void expand_body(uint8_t *q, float *s, const uint8_t *group, int b0, int n_block, int bits, int high, int sub, bool min, bool super,
                           bool table, const rm_form_info *f) {
    const int n_sub = 32 / sub, quants = (bits + high) * 128;
    for (int b = b0; b < b0 + n_block; b++, q += RM_EXPANDED_QUANTS, s += RM_GROUP * n_sub * (min ? 2 : 1)) {
        const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *head = group + rm_form_head_at(f, (size_t)b);
        RM_UNROLL for (int t = 0; t < 8; t++) {
            RM_UNROLL for (int c = 0; c < 2; c++) _mm512_store_si512(q + t * 128 + c * 64, block_quants(p, t, c, bits, high, table));
        }
        for (int h = 0; h < n_sub; h++) {
            for (int c = 0; c < 2; c++) {
                _mm512_store_ps(s + h * RM_GROUP + 16 * c, block_scale(p + quants, head, h, c, false, super));
                if (min) _mm512_store_ps(s + (n_sub + h) * RM_GROUP + 16 * c, block_min(p + quants, head, n_sub, h, c, super));
            }
        }
    }
}
static void q_expand_512(uint8_t *q, float *s, const uint8_t *group, rm_form form, int b0, int n_block) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: expand_body(q, s, group, b0, n_block, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

/* ---- products --------------------------------------------------------------------------------------------------------------------- */

RM_INLINE __m512i broadcast32(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}
RM_INLINE __m512 broadcast_float(const void *p) {
    float v;
    memcpy(&v, p, 4);
    return _mm512_set1_ps(v);
}

RM_INLINE void tile_begin(__m512 f[][2], const rm_qtile *t, int n_row) {
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int c = 0; c < 2; c++) f[r][c] = t->more ? _mm512_loadu_ps(t->y + (size_t)r * t->ldy + 16 * c) : _mm512_setzero_ps();
    }
}
RM_INLINE void tile_end(__m512 f[][2], const rm_qtile *t, int n_row) {
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int c = 0; c < 2; c++) {
            __m512 v = t->bias ? _mm512_add_ps(f[r][c], _mm512_loadu_ps(t->bias + 16 * c)) : f[r][c];
            _mm512_storeu_ps(t->y + (size_t)r * t->ldy + 16 * c, v);
        }
    }
}

/* One body for expanded and for packed weights (`packed`: a form's shape is known, quants and scales are unpacked in registers: the
 * units that do that are idle during the products, so a few rows gain more from not storing the unpacked bytes than they lose). */
RM_INLINE void product_body(const rm_qtile *t, int n_row, bool packed, int bits, int high, int sub, bool min, bool super, bool table, int shift) {
    __m512 f[RM_QROWS][2];
    tile_begin(f, t, n_row);
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
        const uint8_t *meta = x + n_row * RM_QBLOCK;
        RM_UNROLL for (int h = 0; h < n_sub; h++) {
            __m512i a[RM_QROWS][2];
            RM_UNROLL for (int r = 0; r < n_row; r++) /* minus offset times the sum of the activations, or 0 */
                a[r][0] = a[r][1] =
                    min ? _mm512_setzero_si512() : _mm512_slli_epi32(broadcast32(meta + (2 + (n_sub == 2 ? 1 + h : 0)) * n_row * 4 + r * 4), shift);
            RM_UNROLL for (int i = 0; i < 8 / n_sub; i++) {
                int k = h * 4 + i;
                __m512i w0 = packed ? block_quants(q, k, 0, bits, high, table) : _mm512_load_si512(q + k * 128);
                __m512i w1 = packed ? block_quants(q, k, 1, bits, high, table) : _mm512_load_si512(q + k * 128 + 64);
                RM_UNROLL for (int r = 0; r < n_row; r++) {
                    __m512i v = broadcast32(x + r * RM_QBLOCK + k * 4);
                    a[r][0] = _mm512_dpbusd_epi32(a[r][0], w0, v);
                    a[r][1] = _mm512_dpbusd_epi32(a[r][1], w1, v);
                }
            }
            __m512 d0 = packed ? block_scale(q + quants, head, h, 0, false, super) : _mm512_load_ps(s + h * RM_GROUP);
            __m512 d1 = packed ? block_scale(q + quants, head, h, 1, false, super) : _mm512_load_ps(s + h * RM_GROUP + 16);
            RM_UNROLL for (int r = 0; r < n_row; r++) {
                __m512 dx = broadcast_float(meta + r * 4);
                f[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[r][0]), _mm512_mul_ps(d0, dx), f[r][0]);
                f[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[r][1]), _mm512_mul_ps(d1, dx), f[r][1]);
            }
        }
        if (!min) continue;
        RM_UNROLL for (int h = 0; h < n_sub; h++) {
            __m512 m0 = packed ? block_scale(q + quants, head, n_sub + h, 0, true, super) : _mm512_load_ps(s + (n_sub + h) * RM_GROUP);
            __m512 m1 = packed ? block_scale(q + quants, head, n_sub + h, 1, true, super) : _mm512_load_ps(s + (n_sub + h) * RM_GROUP + 16);
            RM_UNROLL for (int r = 0; r < n_row; r++) {
                __m512 sx = broadcast_float(meta + n_row * 4 + r * 4);
                if (n_sub == 2) {
                    __m512i neg = broadcast32(meta + (3 + h) * n_row * 4 + r * 4);
                    sx = _mm512_mul_ps(broadcast_float(meta + r * 4), _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), neg)));
                }
                f[r][0] = packed && super ? _mm512_fnmadd_ps(m0, sx, f[r][0]) : _mm512_fmadd_ps(m0, sx, f[r][0]);
                f[r][1] = packed && super ? _mm512_fnmadd_ps(m1, sx, f[r][1]) : _mm512_fmadd_ps(m1, sx, f[r][1]);
            }
        }
    }
    tile_end(f, t, n_row);
}

#define RM_EACH_COUNT(body, ...)                                                                                                                     \
    switch (t->n_row) {                                                                                                                              \
    case 1: body(t, 1, __VA_ARGS__); break;                                                                                                          \
    case 2: body(t, 2, __VA_ARGS__); break;                                                                                                          \
    case 3: body(t, 3, __VA_ARGS__); break;                                                                                                          \
    case 4: body(t, 4, __VA_ARGS__); break;                                                                                                          \
    case 5: body(t, 5, __VA_ARGS__); break;                                                                                                          \
    case 6: body(t, 6, __VA_ARGS__); break;                                                                                                          \
    default: break;                                                                                                                                  \
    }
#define RM_TILES(X) X(32, false, 3) X(32, false, 4) X(32, false, 7) X(32, true, 0) X(16, false, 2) X(16, false, 5) X(16, true, 0)
#define X(sub, min, shift)                                                                                                                           \
    static void tile_##sub##_##shift(const rm_qtile *t) { RM_EACH_COUNT(product_body, false, 8, 0, sub, min, false, false, shift) }
RM_TILES(X)
#undef X
static void q_tile_512(const rm_qtile *t) {
    const rm_form_info *f = &rm_forms[t->form];
    switch (f->sub * 8 + f->shift) {
#define X(sub, min, shift)                                                                                                                           \
    case sub * 8 + shift: tile_##sub##_##shift(t); break;
        RM_TILES(X)
#undef X
    default: break;
    }
}

#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    static void rows_##name(const rm_qtile *t) { RM_EACH_COUNT(product_body, true, bits, high, sub, min, super, table, shift) }
RM_SHAPES(X)
#undef X
static void q_rows_512(const rm_qtile *t) {
    switch (t->form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: rows_##name(t); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}
