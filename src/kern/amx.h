/* bf16 products on the tiles of AMX: 16 x 16 sums and 32 inputs per instruction. A sum goes through its inputs in steps of 32, in order, whatever else is
 * computed beside it; zeros fill up the last step, the last rows and outputs. */

#include <limits.h>

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Tiles 0 to 3: sums, 4 to 7: factors; for n rows of the sums. */
#define CONFIG(n)                                                                                                                                    \
    {                                                                                                                                                \
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = { n, n, n, n, n, n, 16, 16 }                                            \
    }
enum { TILE_ROWS = 16 };
_Alignas(64) static const tile_config tile_configs[TILE_ROWS + 1] = {CONFIG(0),  CONFIG(1),  CONFIG(2),  CONFIG(3),  CONFIG(4),  CONFIG(5),
                                                                     CONFIG(6),  CONFIG(7),  CONFIG(8),  CONFIG(9),  CONFIG(10), CONFIG(11),
                                                                     CONFIG(12), CONFIG(13), CONFIG(14), CONFIG(15), CONFIG(16)};

/* Sets the shapes of the tiles. They belong to the thread, and setting them costs 100 ns: only if they are not so already. */
RM_INLINE void tiles_for(int n_row) {
    const tile_config *want = &tile_configs[n_row];
    tile_config have;
    __asm__ volatile("sttilecfg %0" : "=m"(have));
    if (memcmp(&have, want, sizeof have) != 0) __asm__ volatile("ldtilecfg %0" ::"m"(*want));
}

/* The compiler's own intrinsics do not say that memory is read and written. */
#define TILE_LOAD(tile, p, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(p), "r"((size_t)(stride)) : "memory")
/* What is not to drive other things out of the first cache. */
#define TILE_STREAM(tile, p, stride) __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #tile ::"r"(p), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(tile, p, stride) __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(p), "r"((size_t)(stride)) : "memory")
#define TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
#define TILE_DOT_BF16(sum, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

enum {
    STEP = 32, /* inputs */
    DEPTH = 18, /* the most steps whose weights are made ready together: 36 KB, in the first cache; with 512 rows 576 KB, in the second */
    PASS_ROWS = 512, /* the most rows that share them */
    PASS_OUT = 256 /* outputs that take such steps before the next ones */
};

static inline int least(int a, int b) { return a < b ? a : b; }

/* Rows in steps: [step][16 rows][32], or as pairs of inputs: [step][16 pairs][16 rows][2]. */
static void bf16_rows_amx(uint16_t *y, const float *x, size_t ldx, int n_row, size_t n, bool pairs) {
    for (size_t i = 0; i < n; i += STEP, y += STEP * TILE_ROWS) {
        __m512 v[TILE_ROWS];
        size_t left = n - i;
        __mmask16 lo = left < 16 ? v_first(left) : 0xFFFF, hi = left < 16 ? 0 : left < 32 ? v_first(left - 16) : 0xFFFF;
        for (int r = 0; r < TILE_ROWS; r++) {
            const float *p = x + (size_t)(r < n_row ? r : 0) * ldx + i;
            __mmask16 some = r < n_row ? 0xFFFF : 0;
            __m512 a = _mm512_maskz_loadu_ps(lo & some, p), b = _mm512_maskz_loadu_ps(hi & some, p + (hi ? 16 : 0));
            v[r] = _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(b, a));
        }
        if (pairs) v_turn(v);
        for (int k = 0; k < 16; k++) _mm512_storeu_ps((float *)(void *)y + k * 16, v[k]);
    }
}

typedef struct {
    uint16_t w[2][DEPTH][16][STEP]; /* weights of 32 outputs, as the first factor of tiles or, in pairs of inputs, as the second */
    float sum[PASS_OUT / 32][PASS_ROWS / 16][2][16][16]; /* of 16 rows and 16 outputs */
} tile_work;

/* Where tiles of weights lie: bytes between their lines, from the first 16 outputs to the others, from one step to the next. */
typedef struct {
    const uint8_t *p;
    size_t line, half, step;
} tile_weights;

/* What will be read later: rows of some cache lines. It may lie behind the weights: fetching never fails. */
typedef struct {
    uintptr_t at;
    int lines, left; /* of a row */
    size_t skip; /* bytes between rows */
} fetch;

static inline fetch fetch_rows(const void *p, int lines, size_t row_bytes) {
    return (fetch){(uintptr_t)p, lines, lines, row_bytes - (size_t)lines * 64};
}
RM_INLINE void fetch_lines(fetch *f, int n) {
    for (; n > 0; n--) {
        _mm_prefetch((const char *)f->at, _MM_HINT_T1);
        f->at += 64;
        if (--f->left == 0) f->left = f->lines, f->at += f->skip;
    }
}

#define TILE_ADD(sum, weights, rows)                                                                                                                 \
    do {                                                                                                                                             \
        if (pairs)                                                                                                                                   \
            TILE_DOT_BF16(sum, rows, weights);                                                                                                       \
        else                                                                                                                                         \
            TILE_DOT_BF16(sum, weights, rows);                                                                                                       \
    } while (0)

/* Adds n steps to the sums of 16 rows, x, or 32, the others at x1, and 32 outputs. more: `sum` holds the sums of the steps before. pairs: the weights are
 * pairs of inputs and sums are [row][output]; else the rows are, and sums are [output][row]. */
RM_INLINE void tile_steps(float sum[][2][16][16], const uint16_t *x, const uint16_t *x1, tile_weights w, int n, bool more, bool two, bool pairs,
                          fetch *ahead, int ahead_lines) {
    if (more) {
        TILE_STREAM(0, sum[0][0], 64);
        TILE_STREAM(1, sum[0][1], 64);
        if (two) TILE_STREAM(2, sum[1][0], 64);
        if (two) TILE_STREAM(3, sum[1][1], 64);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        if (two) TILE_ZERO(2);
        if (two) TILE_ZERO(3);
    }
    for (int s = 0; s < n; s++, x += STEP * TILE_ROWS, x1 += STEP * TILE_ROWS, w.p += w.step) {
        TILE_LOAD(4, w.p, w.line);
        TILE_STREAM(6, x, 64);
        TILE_ADD(0, 4, 6);
        TILE_LOAD(5, w.p + w.half, w.line);
        TILE_ADD(1, 5, 6);
        fetch_lines(ahead, ahead_lines);
        if (!two) continue;
        TILE_STREAM(7, x1, 64);
        TILE_ADD(2, 4, 7);
        TILE_ADD(3, 5, 7);
    }
    TILE_STORE(0, sum[0][0], 64);
    TILE_STORE(1, sum[0][1], 64);
    if (two) TILE_STORE(2, sum[1][0], 64);
    if (two) TILE_STORE(3, sum[1][1], 64);
}

/* Where finished sums of 32 outputs go; y NULL: nowhere yet. */
typedef struct {
    float *y;
    size_t ldy;
    const float *bias;
    int n_row, n_out;
} tile_target;

/* The sums of 16 or 32 rows, from row i on. */
RM_INLINE void tile_sums(const tile_target *t, const float sum[][2][16][16], int i, int rows, bool pairs) {
    for (int end = least(i + rows, t->n_row); i < end; i += TILE_ROWS, sum++)
        for (int o = 0; o < t->n_out; o += 16) {
            const size_t some = t->n_out - o < 16 ? (size_t)(t->n_out - o) : 16;
            const __m512 add = t->bias ? ld(t->bias + o, 0, some) : _mm512_set1_ps(-0.0f); /* adding it changes nothing */
            const float *from = sum[0][o / 16][0];
            _Alignas(64) float turned[16][16];
            if (!pairs) {
                __m512 v[16];
                for (int k = 0; k < 16; k++) v[k] = _mm512_load_ps(from + 16 * k);
                v_turn(v);
                for (int k = 0; k < 16; k++) _mm512_store_ps(turned[k], v[k]);
                from = turned[0];
            }
            for (int r = 0; r < TILE_ROWS && i + r < end; r++)
                st(t->y + (size_t)(i + r) * t->ldy + o, _mm512_add_ps(_mm512_load_ps(from + 16 * r), add), 0, some);
        }
}

/* tile_steps for all rows, in blocks of 16 that are x_block elements apart, with weights that were made ready; `sum` is for all rows if something was summed
 * before (more) or will be (no target), else for 32. lines: how many are to be fetched meanwhile. */
RM_INLINE void tile_rows(float sum[][2][16][16], const tile_work *work, const uint16_t *x, size_t x_block, int n, bool more, bool pairs,
                         const tile_target *to, fetch ahead, int lines) {
    const tile_weights w = {(const uint8_t *)work->w, 64, sizeof work->w[0], sizeof work->w[0][0]};
    const int times = n * ((to->n_row + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS)), each = (lines + times - 1) / times;
    const bool keep = more || !to->y;
    for (int i = 0; i < to->n_row; i += 2 * TILE_ROWS, x += 2 * x_block, sum += keep ? 2 : 0) {
        const bool two = i + TILE_ROWS < to->n_row;
        if (two)
            tile_steps(sum, x, x + x_block, w, n, more, true, pairs, &ahead, each);
        else
            tile_steps(sum, x, x, w, n, more, false, pairs, &ahead, each);
        if (to->y) tile_sums(to, sum, i, 2 * TILE_ROWS, pairs);
    }
}

/* ---- bf16 weights ----------------------------------------------------------------------------------------------------------------- */

/* n inputs of n_out <= 32 rows of weights, with zeros up to whole steps and 32 rows. */
static void copy_weights(tile_work *to, const uint8_t *w, size_t ldw, int n_out, size_t n) {
    if (n_out == 32 && n % STEP == 0) {
        for (size_t s = 0; s < n / STEP; s++)
            for (int o = 0; o < 32; o++) _mm512_store_si512(to->w[o / 16][s][o % 16], _mm512_loadu_si512(w + (size_t)o * ldw + s * 2 * STEP));
        return;
    }
    for (int o = 0; o < 32; o++, w += ldw)
        for (size_t i = 0, s = 0; i < n; i += STEP, s++) {
            __mmask32 m = o >= n_out ? 0 : n - i < STEP ? (1u << (n - i)) - 1 : 0xFFFFFFFF;
            _mm512_store_si512(to->w[o / 16][s][o % 16], _mm512_maskz_loadu_epi16(m, w + (m ? i * 2 : 0)));
        }
}

/* ---- quantised weights as bf16 ------------------------------------------------------------------------------------------------------ */

/* One block of 32 inputs. */
RM_INLINE void inputs_block(tile_work *to, int at, const uint8_t *p, const uint8_t *head, int bits, int high, int sub, bool min, bool super,
                            bool table, float offset) {
    const int n_sub = 32 / sub, quants = (bits + high) * 128;
    /* bytes of outputs 0 0 1 1 2 2 .. 7 7, inputs 0 1 0 1 .. of a vector; 32 further on: outputs 8 .. 15 */
    const __m512i first = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    RM_UNROLL for (int c = 0; c < 2; c++) {
        __m512 d[2][2], m[2][2];
        RM_UNROLL for (int h = 0; h < n_sub; h++) {
            __m512 x = block_scale(p + quants, head, h, c, false, super);
            __m512 y = min ? block_min(p + quants, head, n_sub, h, c, super) : _mm512_mul_ps(x, _mm512_set1_ps(-offset));
            RM_UNROLL for (int o = 0; o < 2; o++) {
                __m512i which = _mm512_add_epi32(twice, _mm512_set1_epi32(8 * o));
                d[h][o] = _mm512_permutexvar_ps(which, x);
                m[h][o] = _mm512_permutexvar_ps(which, y);
            }
        }
        RM_UNROLL for (int s = 0; s < 8; s++) {
            const int h = n_sub == 2 ? s / 4 : 0;
            __m512i v = block_quants(p, s, c, bits, high, table);
            RM_UNROLL for (int i = 0; i < 2; i++) { /* pairs */
                __m512 x[2];
                RM_UNROLL for (int o = 0; o < 2; o++) {
                    __m512i which = _mm512_add_epi32(first, _mm512_set1_epi32(32 * o + 2 * i));
                    x[o] = _mm512_cvtepi32_ps(_mm512_maskz_permutexvar_epi8(0x1111111111111111, which, v));
                    x[o] = _mm512_fmadd_ps(x[o], d[h][o], m[h][o]);
                }
                _mm512_store_si512(to->w[c][at][2 * s + i], (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
            }
        }
    }
}
RM_INLINE void inputs_body(tile_work *to, const uint8_t *group, int b0, int n_block, int bits, int high, int sub, bool min, bool super, bool table,
                           const rm_form_info *f) {
    const float offset = f->shift ? (float)(1 << f->shift) : 0;
    for (int b = b0; b < b0 + n_block; b++)
        inputs_block(to, b - b0, group + rm_form_block_at(f, (size_t)b), group + rm_form_head_at(f, (size_t)b), bits, high, sub, min, super, table,
                     offset);
}
/* Blocks b0 .. b0 + n_block <= DEPTH of a packed group. */
static void unpack_inputs(tile_work *to, const uint8_t *group, rm_form form, int b0, int n_block) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: inputs_body(to, group, b0, n_block, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------------------------- */

/* n_out rows of n bf16 weights, `bytes` apart; or packed groups, `bytes` apart. */
typedef struct {
    const uint8_t *p;
    size_t bytes, n;
    int n_out;
    rm_form form;
} tile_source;

/* Steps s .. s + steps of the outputs o .. o + 31 into work->w. */
RM_INLINE void make_ready(tile_work *work, const tile_source *w, int o, int s, int steps, bool packed) {
    const size_t at = (size_t)s * STEP, depth = w->n - at < (size_t)steps * STEP ? w->n - at : (size_t)steps * STEP;
    if (packed)
        unpack_inputs(work, w->p + (size_t)(o / RM_GROUP) * w->bytes, w->form, s, steps);
    else
        copy_weights(work, w->p + (size_t)o * w->bytes + at * 2, w->bytes, least(w->n_out - o, 32), depth);
}

/* What make_ready reads. */
RM_INLINE fetch to_fetch(const tile_source *w, int o, int s, int steps, bool packed) {
    if (packed) return fetch_rows(w->p + (size_t)(o / RM_GROUP) * w->bytes + rm_form_block_at(&rm_forms[w->form], (size_t)s), INT_MAX, 0);
    return fetch_rows(w->p + (size_t)o * w->bytes + (size_t)s * STEP * 2, steps, w->bytes);
}

RM_INLINE void tile_product(float *y, size_t ldy, const uint16_t *x, int n_row, const tile_source *w, const float *bias, bool packed) {
    _Alignas(64) tile_work work;
    const size_t x_block = rm_bf16_stride(w->n) * TILE_ROWS;
    const int n_step = (int)((w->n + STEP - 1) / STEP);
    const int pieces = (n_step + DEPTH - 1) / DEPTH, depth = (n_step + pieces - 1) / pieces; /* nearly equal ones */
    const int lines = packed ? (int)((size_t)depth * rm_form_block_bytes(&rm_forms[w->form]) / 64) : 32 * depth;
    for (int o0 = 0; o0 < w->n_out; o0 += PASS_OUT) {
        const int o1 = least(o0 + PASS_OUT, w->n_out);
        for (int s = 0; s < n_step; s += depth) { /* rows of these steps are in the second cache for all outputs */
            const int steps = least(depth, n_step - s);
            for (int o = o0; o < o1; o += 32) {
                const bool last = s + steps == n_step;
                const tile_target to = {last ? y + o : NULL, ldy, bias ? bias + o : NULL, n_row, least(w->n_out - o, 32)};
                fetch ahead = o + 32 < o1 ? to_fetch(w, o + 32, s, steps, packed) : to_fetch(w, o0, s + depth, steps, packed);
                make_ready(&work, w, o, s, steps, packed);
                tile_rows(work.sum[pieces > 1 ? (o - o0) / 32 : 0], &work, x + (size_t)s * STEP * TILE_ROWS, x_block, steps, s > 0, packed, &to,
                          ahead, lines);
            }
        }
    }
}

/* Few rows use bf16 weights once: from where they lie. */
static void mul_bf16_once(float *y, size_t ldy, const uint16_t *x, int n_row, const tile_source *w, const float *bias) {
    _Alignas(64) float sum[1][2][16][16];
    for (int o = 0; o < w->n_out; o += 32) {
        const uint8_t *p = w->p + (size_t)o * w->bytes;
        fetch ahead = fetch_rows(p + 32 * w->bytes, INT_MAX, 0);
        tile_steps(sum, x, x, (tile_weights){p, w->bytes, 16 * w->bytes, 2 * STEP}, (int)(w->n / STEP), false, false, false, &ahead, 32);
        tile_sums(&(tile_target){y + o, ldy, bias ? bias + o : NULL, n_row, 32}, sum, 0, TILE_ROWS, false);
    }
}

static void mul_bf16_amx(float *y, size_t ldy, const uint16_t *x, int n_row, const void *weights, size_t ldw, int n_out, size_t n,
                         const float *bias) {
    const bool once = n_row <= TILE_ROWS && n % STEP == 0;
    const int whole = once ? n_out / 32 * 32 : 0;
    tiles_for(TILE_ROWS);
    mul_bf16_once(y, ldy, x, n_row, &(tile_source){.p = weights, .bytes = ldw, .n = n, .n_out = whole}, bias);
    const tile_source rest = {.p = (const uint8_t *)weights + (size_t)whole * ldw, .bytes = ldw, .n = n, .n_out = n_out - whole};
    for (int i = 0; i < n_row; i += PASS_ROWS)
        tile_product(y + (size_t)i * ldy + whole, ldy, x + (size_t)i * rm_bf16_stride(n), least(n_row - i, PASS_ROWS), &rest,
                     bias ? bias + whole : NULL, false);
}

static void q_mul_bf16_amx(float *y, size_t ldy, const uint16_t *x, int n_row, const uint8_t *group, size_t group_bytes, int n_group, rm_form form,
                           size_t n, const float *bias) {
    const tile_source w = {.p = group, .bytes = group_bytes, .n = n, .n_out = n_group * RM_GROUP, .form = form};
    tiles_for(TILE_ROWS);
    for (int i = 0; i < n_row; i += PASS_ROWS)
        tile_product(y + (size_t)i * ldy, ldy, x + (size_t)i * rm_bf16_stride(n), least(n_row - i, PASS_ROWS), &w, bias, true);
}

/* ---- gradients: sums over the outputs, panels as in avx512_panel.h -------------------------------------------------------------- */

/* Adds n_step steps of 32 outputs to 16 columns of dx, or 32; as many rows as the tiles have, or twice that. */
RM_INLINE void pairs_steps(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, const uint16_t *panel, int n_step, bool wide, bool two) {
    float *dx1 = dx + TILE_ROWS * lddx;
    const uint16_t *dy1 = dy + TILE_ROWS * lddy;
    TILE_STREAM(0, dx, lddx * 4);
    if (wide) TILE_STREAM(1, dx + 16, lddx * 4);
    if (two) TILE_STREAM(2, dx1, lddx * 4);
    if (two && wide) TILE_STREAM(3, dx1 + 16, lddx * 4);
    for (int s = 0; s < n_step; s++, dy += STEP, dy1 += STEP, panel += 16 * PAIRS_LINE) {
        TILE_STREAM(4, dy, lddy * 2);
        TILE_LOAD(6, panel, PAIRS_LINE * 2);
        TILE_DOT_BF16(0, 4, 6);
        if (wide) TILE_LOAD(7, panel + 32, PAIRS_LINE * 2);
        if (wide) TILE_DOT_BF16(1, 4, 7);
        if (!two) continue;
        TILE_STREAM(5, dy1, lddy * 2);
        TILE_DOT_BF16(2, 5, 6);
        if (wide) TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, dx, lddx * 4);
    if (wide) TILE_STORE(1, dx + 16, lddx * 4);
    if (two) TILE_STORE(2, dx1, lddx * 4);
    if (two && wide) TILE_STORE(3, dx1 + 16, lddx * 4);
}

/* For 16 rows or fewer, or 32 (two). */
RM_INLINE void pairs_rows(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, int rows, const uint16_t *panel, int n_step, size_t n, bool two) {
    size_t c = 0;
    for (; c + 32 <= n; c += 32) pairs_steps(dx + c, lddx, dy, lddy, panel + 2 * c, n_step, true, two);
    for (; c < n; c += 16) {
        _Alignas(64) float part[2 * TILE_ROWS][16];
        size_t some = n - c < 16 ? n - c : 16;
        for (int r = 0; r < rows; r++) _mm512_store_ps(part[r], ld(dx + (size_t)r * lddx + c, 0, some));
        pairs_steps(part[0], 16, dy, lddy, panel + 2 * c, n_step, false, two);
        for (int r = 0; r < rows; r++) st(dx + (size_t)r * lddx + c, _mm512_load_ps(part[r]), 0, some);
    }
}

static void mul_pairs_amx(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, int n_row, const uint16_t *panel, int n_pair, size_t n) {
    const int n_step = (n_pair + 15) / 16;
    int i = 0;
    if (n_row >= TILE_ROWS) tiles_for(TILE_ROWS);
    for (; i + 2 * TILE_ROWS <= n_row; i += 2 * TILE_ROWS)
        pairs_rows(dx + (size_t)i * lddx, lddx, dy + (size_t)i * lddy, lddy, 2 * TILE_ROWS, panel, n_step, n, true);
    for (int rows; i < n_row; i += rows) {
        rows = least(n_row - i, TILE_ROWS);
        tiles_for(rows);
        pairs_rows(dx + (size_t)i * lddx, lddx, dy + (size_t)i * lddy, lddy, rows, panel, n_step, n, false);
    }
}
