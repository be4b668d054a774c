/* Attention on the tiles of AMX. Factors are sums of two bf16 numbers, 16 bits of mantissa: keys and values of a half-precision cache are exact, the
 * products (without that of the two small parts) nearly those of float32. Sums over the head dimension and over slots go in steps of 32, in order,
 * whatever else is computed beside them; sums over queries stay in float32, one query after the other. Included after amx.h and attn.h. */

enum { HEAD_MAX = 256 /* the largest head dimension; a multiple of 64 */, HEAD_CELLS = HEAD_MAX * RM_KV_BLOCK };

static bool attn_fits_amx(int d, bool half) { return half && d % 64 == 0 && d <= HEAD_MAX; }

/* The large parts, the small ones. */
typedef struct {
    __m512i hi, lo;
} two_parts;

RM_INLINE vf low_half(__m512i x) { return v_widen(_mm512_castsi512_si256(x)); }
RM_INLINE vf high_half(__m512i x) { return v_widen(_mm512_extracti64x4_epi64(x, 1)); }
/* Of 32 floats, those of a first. */
RM_INLINE two_parts parts_of(vf a, vf b) {
    two_parts t;
    t.hi = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    t.lo = (__m512i)_mm512_cvtne2ps_pbh(_mm512_sub_ps(b, high_half(t.hi)), _mm512_sub_ps(a, low_half(t.hi)));
    return t;
}

/* First factors: 16 rows of n floats, n a multiple of 32, as [step][16 rows][32]; rows from n_row on are zero. */
typedef struct {
    uint16_t hi[HEAD_MAX / STEP][TILE_ROWS][STEP], lo[HEAD_MAX / STEP][TILE_ROWS][STEP];
} first_factor;
RM_INLINE void make_first(first_factor *to, const float *x, size_t ldx, int n_row, int n) {
    for (int r = 0; r < TILE_ROWS; r++)
        for (int i = 0; i < n; i += STEP) {
            two_parts t = {_mm512_setzero_si512(), _mm512_setzero_si512()};
            if (r < n_row) t = parts_of(v_load(x + (size_t)r * ldx + i), v_load(x + (size_t)r * ldx + i + 16));
            _mm512_store_si512(to->hi[i / STEP][r], t.hi);
            _mm512_store_si512(to->lo[i / STEP][r], t.lo);
        }
}

/* Second factors: pairs of what is summed over, [pair][line][2]. */
typedef struct {
    uint16_t hi[HEAD_CELLS], lo[HEAD_CELLS];
} second_factor;

/* Pairs of rows of x [n_row, n_col]; n_col a multiple of 16. Rows outside [from, to) become zero. */
RM_INLINE void pair_rows(second_factor *to, const uint16_t *x, int n_row, int n_col, int from, int end) {
    const __m512i zip =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int r = 0; r < n_row; r += 2)
        for (int c = 0; c < n_col; c += 16) {
            const uint16_t *p = x + r * n_col + c;
            vf zero = _mm512_setzero_ps();
            two_parts t = parts_of(r >= from && r < end ? v_load_half(p) : zero, r + 1 >= from && r + 1 < end ? v_load_half(p + n_col) : zero);
            _mm512_store_si512(to->hi + r * n_col + 2 * c, _mm512_permutexvar_epi16(zip, t.hi));
            _mm512_store_si512(to->lo + r * n_col + 2 * c, _mm512_permutexvar_epi16(zip, t.lo));
        }
}

/* Pairs of columns of x [n_row, n_col], one line for all rows: both multiples of 16 and 32. Columns outside [from, to) become zero. */
RM_INLINE void pair_columns(second_factor *to, const uint16_t *x, int n_row, int n_col, int from, int end) {
    for (int c = 0; c < n_col; c += STEP) {
        __mmask16 a = v_lanes(from - c, end - c), b = v_lanes(from - c - 16, end - c - 16);
        for (int r = 0; r < n_row; r += 16) {
            vf hi[16], lo[16];
            RM_UNROLL for (int i = 0; i < 16; i++) {
                const uint16_t *p = x + (r + i) * n_col + c;
                two_parts t = parts_of(_mm512_maskz_mov_ps(a, v_load_half(p)), _mm512_maskz_mov_ps(b, v_load_half(p + 16)));
                hi[i] = _mm512_castsi512_ps(t.hi), lo[i] = _mm512_castsi512_ps(t.lo);
            }
            v_turn(hi);
            v_turn(lo);
            RM_UNROLL for (int i = 0; i < 16; i++) {
                _mm512_store_ps((void *)(to->hi + ((c / 2 + i) * n_row + r) * 2), hi[i]);
                _mm512_store_ps((void *)(to->lo + ((c / 2 + i) * n_row + r) * 2), lo[i]);
            }
        }
    }
}

/* y[32][64]: n_step steps of sums with columns [c, c + 32 half) of b, whose lines have n_col. a: one block of 16 rows, or two. */
RM_INLINE void tile_products(float y[2 * TILE_ROWS][64], const first_factor *a, bool two, const second_factor *b, int c, int n_col, int n_step,
                             int half) {
    for (int h = 0; h < half; h++) {
        const first_factor *a1 = a + two;
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        for (int s = 0; s < n_step; s++) {
            const size_t at = (size_t)(s * STEP * n_col + 2 * c + 64 * h), line = 4 * (size_t)n_col;
#define ROWS(part)                                                                                                                                   \
    TILE_LOAD(4, a->part[s], 64);                                                                                                                    \
    if (two) TILE_LOAD(5, a1->part[s], 64)
#define COLUMNS(part)                                                                                                                                \
    TILE_LOAD(6, b->part + at, line);                                                                                                                \
    TILE_LOAD(7, b->part + at + 32, line)
#define DOTS                                                                                                                                         \
    TILE_DOT_BF16(0, 4, 6);                                                                                                                          \
    TILE_DOT_BF16(1, 4, 7);                                                                                                                          \
    if (two) TILE_DOT_BF16(2, 5, 6);                                                                                                                 \
    if (two) TILE_DOT_BF16(3, 5, 7)
            ROWS(hi);
            COLUMNS(hi);
            DOTS;
            ROWS(lo);
            DOTS;
            ROWS(hi);
            COLUMNS(lo);
            DOTS;
#undef ROWS
#undef COLUMNS
#undef DOTS
        }
        TILE_STORE(0, y[0] + 32 * h, 256);
        TILE_STORE(1, y[0] + 32 * h + 16, 256);
        if (two) TILE_STORE(2, y[16] + 32 * h, 256);
        if (two) TILE_STORE(3, y[16] + 32 * h + 16, 256);
    }
}

/* So many queries are taken through each of the steps together: what a step writes is in the cache before the next one reads it. */
enum { TOGETHER = 64 };
typedef struct {
    first_factor x[TOGETHER / TILE_ROWS];
    float p[TOGETHER][RM_KV_BLOCK], ds[TOGETHER][RM_KV_BLOCK];
} attn_queries;

RM_INLINE void all_first(first_factor *to, const float *x, size_t ldx, int n_row, int n) {
    for (int r = 0; r < n_row; r += TILE_ROWS)
        make_first(to + r / TILE_ROWS, x + (size_t)r * ldx, ldx, n_row - r < TILE_ROWS ? n_row - r : TILE_ROWS, n);
}
/* y = x b, in columns [c, c + 32 half) of b */
RM_INLINE void all_products(float y[TOGETHER][64], const first_factor *x, int n_row, const second_factor *b, int c, int n_col, int n_step, int half) {
    int r = 0;
    for (; r + TILE_ROWS < n_row; r += 2 * TILE_ROWS) tile_products(y + r, x + r / TILE_ROWS, true, b, c, n_col, n_step, half);
    if (r < n_row) tile_products(y + r, x + r / TILE_ROWS, false, b, c, n_col, n_step, half);
}
/* y += w b: weights w of slots below j1, all d columns of b */
RM_INLINE void add_products(float *y, size_t ldy, const float w[TOGETHER][RM_KV_BLOCK], int n_row, const second_factor *b, int d, int j1,
                            first_factor *x) {
    _Alignas(64) float part[TOGETHER][64];
    const int n_step = (j1 + STEP - 1) / STEP;
    all_first(x, w[0], RM_KV_BLOCK, n_row, n_step * STEP);
    for (int c = 0; c < d; c += 64) {
        all_products(part, x, n_row, b, c, d, n_step, 2);
        for (int r = 0; r < n_row; r++) op_add(y + (size_t)r * ldy + c, y + (size_t)r * ldy + c, part[r], 64);
    }
}

static void attn_block_amx(const rm_attn *a) {
    if (!a->prompt || !attn_fits_amx(a->d, a->half)) {
        op_attn_block(a);
        return;
    }
    _Alignas(64) second_factor k, v;
    _Alignas(64) attn_queries w;
    int j0, j1;
    if (!attn_seen(a->from, a->to, a->n_q, &j0, &j1)) return;
    tiles_for(TILE_ROWS);
    pair_rows(&k, a->k, a->d, RM_KV_BLOCK, 0, a->d);
    pair_rows(&v, a->v, RM_KV_BLOCK, a->d, j0, j1);
    for (int i = 0; i < a->n_q; i += TOGETHER) {
        int n = a->n_q - i < TOGETHER ? a->n_q - i : TOGETHER;
        all_first(w.x, a->q + (size_t)i * a->ldq, a->ldq, n, a->d);
        all_products(w.p, w.x, n, &k, 0, RM_KV_BLOCK, a->d / STEP, (j1 + 31) / 32);
        for (int r = 0; r < n; r++) attn_weights(w.p[r], a, i + r);
        add_products(a->o + (size_t)i * a->ldo, a->ldo, w.p, n, &v, a->d, j1, w.x);
    }
}

static void attn_back_amx(const rm_attn_back *a) {
    if (!attn_fits_amx(a->d, a->half)) {
        op_attn_back(a);
        return;
    }
    _Alignas(64) second_factor keys, by_slot, values; /* keys to be summed over the head dimension, and over slots */
    _Alignas(64) attn_queries w;
    size_t d = (size_t)a->d;
    int j0, j1;
    if (!attn_seen(a->from, a->to, a->n_q, &j0, &j1)) return;
    tiles_for(TILE_ROWS);
    pair_rows(&keys, a->k, a->d, RM_KV_BLOCK, 0, a->d);
    pair_columns(&by_slot, a->k, a->d, RM_KV_BLOCK, j0, j1);
    pair_columns(&values, a->v, RM_KV_BLOCK, a->d, 0, a->d);
    const int half = (j1 + 31) / 32, first = j0 < a->first ? a->first : j0;
    for (int i = 0; i < a->n_q; i += TOGETHER) {
        const float *q = a->q + (size_t)i * d, *g = a->g + (size_t)i * d;
        int n = a->n_q - i < TOGETHER ? a->n_q - i : TOGETHER;
        all_first(w.x, q, d, n, a->d);
        all_products(w.p, w.x, n, &keys, 0, RM_KV_BLOCK, a->d / STEP, half);
        all_first(w.x, g, d, n, a->d);
        all_products(w.ds, w.x, n, &values, 0, RM_KV_BLOCK, a->d / STEP, half);
        for (int r = 0; r < n; r++) back_weights(a, w.p[r], w.ds[r], i + r);
        add_products(a->dq + (size_t)i * d, d, w.ds, n, &by_slot, a->d, j1, w.x);
        if (first >= j1) continue;
        columns_all(a->dv + (size_t)first * a->ld, a->ld, w.p[0] + first, 1, RM_KV_BLOCK, j1 - first, g, d, n, d);
        columns_all(a->dk + (size_t)first * a->ld, a->ld, w.ds[0] + first, 1, RM_KV_BLOCK, j1 - first, q, d, n, d);
    }
}
