/* Quantised products on vectors of Q_LANES outputs x 4 inputs; included like ops.h. Same order of float operations as quant.h. Each function is one inline
 * body whose constant arguments describe the form; the compiler makes a copy per form.
 *
 * The including file defines Q_LANES (4, 8 or 16), Q_TOGETHER: how many vectors of outputs meet a row's activations at a time, and
 *   qi, qs, qf                          vectors of Q_LANES x 4 bytes, of as many sums of 32 bits, of as many floats
 *   qi_load, qi_store                   bytes where they lie
 *   qi_low, qi_high                     the lower, the upper half of each byte
 *   qi_lookup(v)                        rm_iq4nl of each byte
 *   qi_insert(v, h, left, mask)         v | (h shifted by `left` bits (< 0: to the right) & mask); only bits of mask count, so words may be shifted
 *   qi_spread(p)                        4 bytes in every lane
 *   qs_zero, qs_start(p, shift)         0; the int32 at p times 2^shift in every lane
 *   qs_dot(s, w, x)                     s + the products of 4 unsigned weights with 4 signed activations; with Q_SIGNED weights are signed,
 *                                       qi_signed(v) makes them so: v - 128
 *   qf_load, qf_store, qf_zero, qf_half, qf_int8    floats; from halves; from bytes
 *   qf_spread(p), qf_set(a), qf_of(s), qf_add, qf_mul, qf_fma (a b + c), qf_fnma (c - a b)
 * or RM_OWN_SUMS with a q_sums and a q_neg of its own. */
#include "kern/shapes.h"

enum { Q_PARTS = RM_GROUP / Q_LANES };

/* ---- unpacking one block ------------------------------------------------------------------------------------------------------- */

/* The quants of step s (inputs 4 s .. 4 s + 3), part c of the group, as unsigned bytes. */
RM_INLINE qi block_quants(const uint8_t *p, int s, int c, int bits, int high, bool table) {
    const int at = c * Q_LANES * 4;
    if (bits == 8) return qi_load(p + s * 128 + at);
    qi v = qi_load(p + (s & 3) * 128 + at);
    v = s & 4 ? qi_high(v) : qi_low(v);
    if (table) return qi_lookup(v);
    if (high == 1) v = qi_insert(v, qi_load(p + 512 + at), 4 - s, 0x10);
    if (high == 2) v = qi_insert(v, qi_load(p + 512 + (s >> 2) * 128 + at), 4 - 2 * (s & 3), 0x30);
    return v;
}

/* Scale number k of a block (sub-blocks, then their minima), part c, as float. What super forms take for minima is subtracted. */
RM_INLINE qf block_scale(const uint8_t *scales, const uint8_t *head, int k, int c, bool min, bool super) {
    if (!super) return qf_half(scales + k * RM_GROUP * 2 + c * Q_LANES * 2);
    return qf_mul(qf_half(head + (min ? RM_GROUP * 2 : 0) + c * Q_LANES * 2), qf_int8(scales + k * RM_GROUP + c * Q_LANES));
}
/* What is added for sub-block h times the sum of its activations. */
RM_INLINE qf block_min(const uint8_t *scales, const uint8_t *head, int n_sub, int h, int c, bool super) {
    qf v = block_scale(scales, head, n_sub + h, c, true, super);
    return super ? qf_mul(v, qf_set(-1.0f)) : v;
}

RM_INLINE void expand_body(uint8_t *q, float *s, const uint8_t *group, int b0, int n_block, int bits, int high, int sub, bool min, bool super,
                           bool table, const rm_form_info *f) {
    const int n_sub = 32 / sub, quants = (bits + high) * 128;
    for (int b = b0; b < b0 + n_block; b++, q += RM_EXPANDED_QUANTS, s += RM_GROUP * n_sub * (min ? 2 : 1)) {
        const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *head = group + rm_form_head_at(f, (size_t)b);
        RM_UNROLL for (int t = 0; t < 8; t++) {
            RM_UNROLL for (int c = 0; c < Q_PARTS; c++) qi_store(q + t * 128 + c * Q_LANES * 4, block_quants(p, t, c, bits, high, table));
        }
        for (int h = 0; h < n_sub; h++) {
            for (int c = 0; c < Q_PARTS; c++) {
                qf_store(s + h * RM_GROUP + Q_LANES * c, block_scale(p + quants, head, h, c, false, super));
                if (min) qf_store(s + (n_sub + h) * RM_GROUP + Q_LANES * c, block_min(p + quants, head, n_sub, h, c, super));
            }
        }
    }
}
static void q_expand_vec(uint8_t *q, float *s, const uint8_t *group, rm_form form, int b0, int n_block) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: expand_body(q, s, group, b0, n_block, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

/* ---- products --------------------------------------------------------------------------------------------------------------------- */

/* Weights of some steps of 4 inputs: packed, or expanded to bytes. */
typedef struct q_weights {
    const uint8_t *q;
    bool packed, table;
    int bits, high, width /* of a quant */, shift;
} q_weights;

RM_INLINE qi step_quants(const q_weights *w, int s, int c) {
    return w->packed ? block_quants(w->q, s, c, w->bits, w->high, w->table) : qi_load(w->q + s * 128 + c * Q_LANES * 4);
}

#ifndef RM_OWN_SUMS
/* Minus a sum of activations. */
RM_INLINE int32_t q_neg(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* a[r][.] = the sums over the steps s .. s + n of the parts c .. c + Q_TOGETHER; neg: for each row minus the sum of its activations there. */
RM_INLINE void q_sums(qs a[][Q_TOGETHER], const uint8_t *x, const uint8_t *neg, int n_row, const q_weights *w, int c, int s, int n) {
#ifdef Q_SIGNED
    const bool centre = w->width == 8, start = w->shift && !centre;
#else
    const bool start = w->shift;
#endif
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) a[r][t] = start ? qs_start(neg + r * 4, w->shift) : qs_zero();
    }
    RM_UNROLL for (int i = s; i < s + n; i++) {
        qi v[Q_TOGETHER];
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) v[t] = step_quants(w, i, c + t);
#ifdef Q_SIGNED
        RM_UNROLL for (int t = 0; centre && t < Q_TOGETHER; t++) v[t] = qi_signed(v[t]);
#endif
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            const qi xs = qi_spread(x + r * RM_QBLOCK + i * 4);
            RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) a[r][t] = qs_dot(a[r][t], v[t], xs);
        }
    }
}
#endif

/* Scale number k of part c: of packed weights as block_scale gives it, else of s, where minima are negative. */
RM_INLINE qf part_scale(const q_weights *w, const uint8_t *head, const float *s, int k, int c, bool min, bool super) {
    if (!w->packed) return qf_load(s + k * RM_GROUP + Q_LANES * c);
    return block_scale(w->q + (w->bits + w->high) * 128, head, k, c, min, super);
}

/* One block of the parts c .. c + Q_TOGETHER for all rows. */
RM_INLINE void block_sums(qf f[][Q_PARTS], const uint8_t *x, int n_row, const q_weights *w, const float *s, const uint8_t *head, int c, int n_sub,
                          bool min, bool super) {
    const uint8_t *meta = x + n_row * RM_QBLOCK;
    const bool subtract = w->packed && super;
    RM_UNROLL for (int h = 0; h < n_sub; h++) {
        qs a[RM_QROWS][Q_TOGETHER];
        qf d[Q_TOGETHER];
        q_sums(a, x, meta + (2 + (n_sub == 2 ? 1 + h : 0)) * n_row * 4, n_row, w, c, h * 4, 8 / n_sub);
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) d[t] = part_scale(w, head, s, h, c + t, false, super);
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            const qf dx = qf_spread(meta + r * 4);
            RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) f[r][c + t] = qf_fma(qf_of(a[r][t]), qf_mul(d[t], dx), f[r][c + t]);
        }
    }
    RM_UNROLL for (int h = 0; min && h < n_sub; h++) {
        qf m[Q_TOGETHER];
        RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) m[t] = part_scale(w, head, s, n_sub + h, c + t, true, super);
        RM_UNROLL for (int r = 0; r < n_row; r++) {
            qf sx = qf_spread(meta + n_row * 4 + r * 4), *y = f[r] + c;
            if (n_sub == 2) sx = qf_mul(qf_spread(meta + r * 4), qf_set((float)-q_neg(meta + (3 + h) * n_row * 4 + r * 4)));
            RM_UNROLL for (int t = 0; t < Q_TOGETHER; t++) y[t] = subtract ? qf_fnma(m[t], sx, y[t]) : qf_fma(m[t], sx, y[t]);
        }
    }
}

/* One body for expanded and for packed weights: quants and scales of these are unpacked in registers. */
RM_INLINE void product_body(const rm_qtile *t, int n_row, bool packed, int bits, int high, int sub, bool min, bool super, bool table, int shift,
                            int width) {
    qf f[RM_QROWS][Q_PARTS];
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int c = 0; c < Q_PARTS; c++) f[r][c] = t->more ? qf_load(t->y + (size_t)r * t->ldy + Q_LANES * c) : qf_zero();
    }
    const int n_sub = 32 / sub, quants = packed ? (bits + high) * 128 : RM_EXPANDED_QUANTS, scales = packed ? rm_scale_bytes(n_sub, min, super) : 0;
    const uint8_t *x = t->x, *q = t->q, *head = q;
    const float *s = t->s;
    const char *ahead = (const char *)t->ahead;
    for (int b = 0; b < t->n_block; b++, x += n_row * RM_QX_ROW, q += quants + scales, s += RM_GROUP * n_sub * (min ? 2 : 1)) {
        if (packed && super && b % 8 == 0) {
            head = q;
            q += RM_GROUP * 2 * (min ? 2 : 1);
            ahead += RM_GROUP * 2 * (min ? 2 : 1);
        }
        for (int i = 0; i < t->ahead_bytes; i += 64) __builtin_prefetch(ahead + i, 0, 3);
        ahead += t->ahead_bytes;
        const q_weights w = {q, packed, table, bits, high, width, shift};
        if (Q_TOGETHER == Q_PARTS || n_row <= 2) { /* the sums stay in registers */
            RM_UNROLL for (int c = 0; c < Q_PARTS; c += Q_TOGETHER) block_sums(f, x, n_row, &w, s, head, c, n_sub, min, super);
        } else {
            RM_NO_UNROLL for (int c = 0; c < Q_PARTS; c += Q_TOGETHER) {
                __asm__("" : "+r"(x)); /* else all activations are spread over vectors in memory first */
                block_sums(f, x, n_row, &w, s, head, c, n_sub, min, super);
            }
        }
    }
    RM_UNROLL for (int r = 0; r < n_row; r++) {
        RM_UNROLL for (int c = 0; c < Q_PARTS; c++) {
            qf v = t->bias ? qf_add(f[r][c], qf_load(t->bias + Q_LANES * c)) : f[r][c];
            qf_store(t->y + (size_t)r * t->ldy + Q_LANES * c, v);
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

/* Expanded weights, by what their quants and scales are like: X(sub, min, shift, width). */
#define RM_TILES(X)                                                                                                                                  \
    X(32, false, 3, 4)                                                                                                                               \
    X(32, true, 0, 4)                                                                                                                                \
    X(32, false, 4, 5)                                                                                                                               \
    X(32, true, 0, 5) X(32, false, 7, 8) X(16, true, 0, 4) X(16, false, 2, 4) X(16, false, 5, 6) RM_TURNED_TILES(X)
#ifdef RM_OWN_SUMS /* without VNNI: turned weights have 7 bits */
#define RM_TURNED_TILES(X) X(32, false, 6, 7)
#else
#define RM_TURNED_TILES(X)
#endif
#define X(sub, min, shift, width)                                                                                                                    \
    static void tile_##sub##_##shift##_##width(const rm_qtile *t) { RM_EACH_COUNT(false, 8, 0, sub, min, false, false, shift, width) }
RM_TILES(X)
#undef X
static void q_tile_vec(const rm_qtile *t) {
    const rm_form_info *f = &rm_forms[t->form];
    switch ((f->sub * 8 + f->shift) * 16 + rm_form_width(f)) {
#define X(sub, min, shift, width)                                                                                                                    \
    case (sub * 8 + shift) * 16 + width: tile_##sub##_##shift##_##width(t); break;
        RM_TILES(X)
#undef X
    default: break;
    }
}

#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    static void rows_##name(const rm_qtile *t) { RM_EACH_COUNT(true, bits, high, sub, min, super, table, shift, table ? 8 : bits + high) }
RM_SHAPES(X)
#undef X
static void q_rows_vec(const rm_qtile *t) {
    switch (t->form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: rows_##name(t); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}
