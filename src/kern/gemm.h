/* Products with row-major weights on the vectors of vec_*.h; included like ops.h. The including file sets the tile sizes to what
 * its registers hold: DOT_R x DOT_O sums of mul_rows; OUTER_R rows at most of mul_columns and attention, OUTER_S sums
 * where a tile is wider than one vector. */

#include "kern/inline.h"

RM_INLINE vf weight(const uint8_t *w, size_t i, rm_wtype type) {
    if (type == RM_W_F32) return v_load((const float *)(const void *)w + i);
    return type == RM_W_F16 ? v_load_half((const uint16_t *)(const void *)w + i) : v_load_bf16((const uint16_t *)(const void *)w + i);
}
RM_INLINE vf weight_n(const uint8_t *w, size_t i, size_t n, rm_wtype type) {
    if (type == RM_W_F32) return v_load_n((const float *)(const void *)w + i, n);
    return type == RM_W_F16 ? v_load_half_n((const uint16_t *)(const void *)w + i, n) : v_load_bf16_n((const uint16_t *)(const void *)w + i, n);
}

/* Rows of x per block, which stay in the second cache; inputs per block, so that the weights of DOT_O outputs stay in the first one. */
enum { DOT_ROWS = 64, DOT_DEPTH = 1024 };

#ifndef RM_OWN_SPAN
/* Sums over the whole vectors of inputs i0 .. i1. */
RM_INLINE void dot_span(vf s[][DOT_O], const float *x, size_t ldx, const uint8_t *w, size_t ldw, size_t i0, size_t i1, rm_wtype type, int nr,
                        int no) {
    for (size_t i = i0; i < i1; i += 16) {
        vf a[DOT_O];
        RM_UNROLL for (int o = 0; o < no; o++) a[o] = weight(w + (size_t)o * ldw, i, type);
        RM_UNROLL for (int r = 0; r < nr; r++) {
            vf b = v_load(x + (size_t)r * ldx + i);
            RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = v_fma(a[o], b, s[r][o]);
        }
    }
}
#endif

/* One sum per (row, output), 16 lanes along n, over inputs i0 .. i1. kept: sums of the inputs before (if i0 > 0) and of these (if i1 < n), else
 * they are finished into y. */
RM_INLINE void dot_tile(float *y, size_t ldy, const float *x, size_t ldx, const uint8_t *w, size_t ldw, size_t i0, size_t i1, size_t n,
                        const float *bias, vf *kept, rm_wtype type, int nr, int no) {
    vf s[DOT_R][DOT_O];
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = i0 ? kept[r * DOT_O + o] : v_set(0.0f); }
    size_t i = i0 + (i1 - i0) / 16 * 16;
    dot_span(s, x, ldx, w, ldw, i0, i, type, nr, no);
    if (i < i1) {
        RM_UNROLL for (int r = 0; r < nr; r++) {
            vf b = v_load_n(x + (size_t)r * ldx + i, i1 - i);
            RM_UNROLL for (int o = 0; o < no; o++) s[r][o] = v_fma(weight_n(w + (size_t)o * ldw, i, i1 - i, type), b, s[r][o]);
        }
    }
    if (i1 < n) {
        RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int o = 0; o < no; o++) kept[r * DOT_O + o] = s[r][o]; }
        return;
    }
#ifdef RM_SUM_TILE
    if (nr == DOT_R && no == DOT_O) {
        RM_SUM_TILE(y, ldy, s, bias);
        return;
    }
#endif
    RM_UNROLL for (int r = 0; r < nr; r++) {
        RM_UNROLL for (int o = 0; o < no; o++) {
            float t = v_sum(s[r][o]);
            y[(size_t)r * ldy + (size_t)o] = bias ? t + bias[o] : t;
        }
    }
}

/* nr rows, n_out <= DOT_O outputs */
RM_INLINE void dot_strip(float *y, size_t ldy, const float *x, size_t ldx, const uint8_t *w, size_t ldw, int n_out, size_t i0, size_t i1, size_t n,
                         const float *bias, vf *kept, rm_wtype type, int nr) {
    if (n_out == DOT_O) {
        dot_tile(y, ldy, x, ldx, w, ldw, i0, i1, n, bias, kept, type, nr, DOT_O);
        return;
    }
    for (int o = 0; o < n_out; o++) dot_tile(y + o, ldy, x, ldx, w + (size_t)o * ldw, ldw, i0, i1, n, bias ? bias + o : NULL, kept + o, type, nr, 1);
}

RM_INLINE void dot_all(float *y, size_t ldy, const float *x, size_t ldx, int n_row, const uint8_t *w, size_t ldw, int n_out, size_t n,
                       const float *bias, rm_wtype type) {
    vf kept[DOT_ROWS * DOT_O];
    size_t depth = n <= DOT_DEPTH + DOT_DEPTH / 2 || n_row == 1 ? n : DOT_DEPTH;
    for (int r0 = 0; r0 < n_row; r0 += DOT_ROWS) {
        int r1 = n_row - r0 < DOT_ROWS ? n_row : r0 + DOT_ROWS;
        for (int o = 0; o < n_out; o += DOT_O) {
            int no = n_out - o < DOT_O ? n_out - o : DOT_O;
            const float *b = bias ? bias + o : NULL;
            const uint8_t *wo = w + (size_t)o * ldw;
            for (size_t i0 = 0; i0 < n; i0 += depth) {
                size_t i1 = n - i0 < depth ? n : i0 + depth;
                float *yo = y + (size_t)r0 * ldy + o;
                const float *xr = x + (size_t)r0 * ldx;
                vf *k = kept;
                for (int r = r0, nr; r < r1; r += nr, yo += (size_t)nr * ldy, xr += (size_t)nr * ldx, k += nr * DOT_O) {
                    nr = r1 - r < DOT_R ? r1 - r : DOT_R;
                    switch (nr) {
#define X(rows)                                                                                                                                      \
    case rows:                                                                                                                                       \
        if (rows <= DOT_R) dot_strip(yo, ldy, xr, ldx, wo, ldw, no, i0, i1, n, b, k, type, rows);                                                    \
        break;
                        X(1)
                        X(2)
                        X(3)
                        X(4)
#undef X
                    default: break;
                    }
                }
            }
        }
    }
}

static void op_mul_rows(float *y, size_t ldy, const float *x, size_t ldx, int n_row, const void *w, size_t ldw, rm_wtype type, int n_out, size_t n,
                        const float *bias) {
    switch (type) {
    case RM_W_F32: dot_all(y, ldy, x, ldx, n_row, w, ldw, n_out, n, bias, RM_W_F32); break;
    case RM_W_F16: dot_all(y, ldy, x, ldx, n_row, w, ldw, n_out, n, bias, RM_W_F16); break;
    case RM_W_BF16: dot_all(y, ldy, x, ldx, n_row, w, ldw, n_out, n, bias, RM_W_BF16); break;
    }
}

/* ---- gradient with respect to the input: sums run over the outputs ------------------------------------------------------- */

/* How many vectors the sums of nr rows may be wide. */
RM_INLINE int outer_width(int nr) { return nr * 4 <= OUTER_S ? 4 : nr * 2 <= OUTER_S ? 2 : 1; }

/* Tiles of one call are as wide as the first, which has one row more at most. */
RM_INLINE bool outer_exists(int nr, int nv) { return nr <= OUTER_R && (nv == outer_width(nr) || (nr < OUTER_R && nv == outer_width(nr + 1))); }

/* dy has element (row, output) at row * lddy + output * step */
RM_INLINE void outer_tile(float *dx, size_t lddx, const float *dy, size_t lddy, size_t step, const float *w, size_t ldw, int n_out, int nr, int nv) {
    vf s[OUTER_R][4];
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int c = 0; c < nv; c++) s[r][c] = v_load(dx + (size_t)r * lddx + 16 * c); }
    for (int o = 0; o < n_out; o++, dy += step, w += ldw) {
        vf a[4];
        RM_UNROLL for (int c = 0; c < nv; c++) a[c] = v_load(w + 16 * c);
        RM_UNROLL for (int r = 0; r < nr; r++) {
            vf b = v_set(dy[(size_t)r * lddy]);
            RM_UNROLL for (int c = 0; c < nv; c++) s[r][c] = v_fma(b, a[c], s[r][c]);
        }
    }
    RM_UNROLL for (int r = 0; r < nr; r++) { RM_UNROLL for (int c = 0; c < nv; c++) v_store(dx + (size_t)r * lddx + 16 * c, s[r][c]); }
}
static void outer_rest(float *dx, size_t lddx, const float *dy, size_t lddy, size_t step, int n_row, const float *w, size_t ldw, int n_out,
                       size_t n) {
    for (int r = 0; r < n_row; r++) { /* fewer columns than a tile has */
        FOR_VECTORS(i, n) {
            vf s = ld(dx + (size_t)r * lddx, i, n);
            for (int o = 0; o < n_out; o++) s = v_fma(v_set(dy[(size_t)r * lddy + (size_t)o * step]), ld(w + (size_t)o * ldw, i, n), s);
            st(dx + (size_t)r * lddx, s, i, n);
        }
    }
}

/* Rows of the next tile of n: nearly equal tiles of OUTER_R at most. */
RM_INLINE int outer_rows(int n) {
    int tiles = (n + OUTER_R - 1) / OUTER_R;
    return (n + tiles - 1) / tiles;
}

static void columns_all(float *dx, size_t lddx, const float *dy, size_t lddy, size_t step, int n_row, const float *w, size_t ldw, int n_out,
                        size_t n) {
    if (n_row == 0) return;
    const int nv = outer_width(outer_rows(n_row));
    size_t c = 0;
    for (; c + (size_t)nv * 16 <= n; c += (size_t)nv * 16)
        for (int i = 0, nr; i < n_row; i += nr) {
            float *to = dx + (size_t)i * lddx + c;
            const float *from = dy + (size_t)i * lddy;
            switch ((nr = outer_rows(n_row - i)) * 8 + nv) {
#define X(rows, vectors)                                                                                                                             \
    case rows * 8 + vectors:                                                                                                                         \
        if (outer_exists(rows, vectors)) outer_tile(to, lddx, from, lddy, step, w + c, ldw, n_out, rows, vectors);                                   \
        break;
#define EACH(rows) X(rows, 1) X(rows, 2) X(rows, 4)
                EACH(1)
                EACH(2)
                EACH(3)
                EACH(4)
                EACH(5)
                EACH(6)
#undef EACH
#undef X
            default: break;
            }
        }
    if (c < n) outer_rest(dx + c, lddx, dy, lddy, step, n_row, w + c, ldw, n_out, n - c);
}
static void op_mul_columns(float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const float *w, size_t ldw, int n_out, size_t n) {
    columns_all(dx, lddx, dy, lddy, 1, n_row, w, ldw, n_out, n);
}

static void op_widen(float *y, const void *w, rm_wtype type, size_t n) {
    FOR_VECTORS(i, n) {
        if (n - i >= 16)
            v_store(y + i, type == RM_W_F16 ? weight(w, i, RM_W_F16) : weight(w, i, RM_W_BF16));
        else
            v_store_n(y + i, type == RM_W_F16 ? weight_n(w, i, n - i, RM_W_F16) : weight_n(w, i, n - i, RM_W_BF16), n - i);
    }
}

#define RM_GEMM .mul_rows = op_mul_rows, .widen = op_widen, .mul_columns = op_mul_columns
