/* bf16 products on the tiles of AMX: 16 x 16 sums and 32 inputs per instruction. A sum goes through its inputs in steps of 32, in order, whatever else is
 * computed beside it; zeros fill up the last step, the last rows and outputs. */

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
#define TILE_STORE(tile, p, stride) __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(p), "r"((size_t)(stride)) : "memory")
#define TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
#define TILE_DOT_BF16(sum, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

enum {
    STEP = 32, /* inputs */
    DEPTH = 32, /* steps whose weights are made ready together: 64 KB, in the second cache */
    PASS_ROWS = 256, /* the most rows that share a copy of the weights */
    PASS_BYTES = 5 << 18 /* of rows: they stay in the second cache */
};

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
    uint16_t w[2][DEPTH][16][STEP]; /* 32 outputs */
    float sum[PASS_ROWS / 16][2][16][16]; /* 16 rows, 16 outputs of 32: [output][row] */
} bf16_work;

/* n inputs of n_out <= 32 rows of weights, with zeros up to whole steps and 32 rows; as many bytes at `ahead` are fetched meanwhile, in their order. */
static void copy_weights(bf16_work *to, const uint8_t *w, size_t ldw, int n_out, size_t n, const char *ahead) {
    for (int o = 0; o < 32; o++, w += ldw)
        for (size_t i = 0, s = 0; i < n; i += STEP, s++, ahead += 64) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            __mmask32 m = o >= n_out ? 0 : n - i < STEP ? (1u << (n - i)) - 1 : 0xFFFFFFFF;
            _mm512_store_si512(to->w[o / 16][s][o % 16], _mm512_maskz_loadu_epi16(m, w + (m ? i * 2 : 0)));
        }
}

/* Weights of 32 outputs as they lie: bytes from one output, from the first 16 to the others, from one step to the next. */
typedef struct {
    const uint8_t *p;
    size_t row, half, step;
} bf16_weights;

/* Adds n steps to the sums of 16 rows, x, or 32, the others at x1, and 32 outputs. more: `sum` holds the sums of the steps before. ahead: what will be
 * read later, as many bytes as are read here; or NULL. */
RM_INLINE void bf16_steps(float sum[][2][16][16], const uint16_t *x, const uint16_t *x1, bf16_weights w, size_t n, bool more, bool two,
                          const char *ahead) {
    if (more) {
        TILE_LOAD(0, sum[0][0], 64);
        TILE_LOAD(1, sum[0][1], 64);
        if (two) TILE_LOAD(2, sum[1][0], 64);
        if (two) TILE_LOAD(3, sum[1][1], 64);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        if (two) TILE_ZERO(2);
        if (two) TILE_ZERO(3);
    }
    for (size_t s = 0; s < n; s++, x += STEP * TILE_ROWS, x1 += STEP * TILE_ROWS, w.p += w.step) {
        for (int i = 0; ahead && i < 32; i++, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
        TILE_LOAD(4, w.p, w.row);
        TILE_LOAD(6, x, 64);
        TILE_DOT_BF16(0, 4, 6);
        TILE_LOAD(5, w.p + w.half, w.row);
        TILE_DOT_BF16(1, 5, 6);
        if (!two) continue;
        TILE_LOAD(7, x1, 64);
        TILE_DOT_BF16(2, 4, 7);
        TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, sum[0][0], 64);
    TILE_STORE(1, sum[0][1], 64);
    if (two) TILE_STORE(2, sum[1][0], 64);
    if (two) TILE_STORE(3, sum[1][1], 64);
}

/* Up to 32 outputs of up to PASS_ROWS rows. */
static void bf16_sums(bf16_work *work, const uint16_t *x, int blocks, const uint8_t *w, size_t ldw, int n_out, size_t n) {
    const size_t block = rm_bf16_stride(n) * TILE_ROWS; /* of 16 rows of x */
    if (blocks == 1 && n_out == 32 && n % STEP == 0) { /* a copy would be used only once */
        bf16_steps(work->sum, x, x, (bf16_weights){w, ldw, 16 * ldw, 2 * STEP}, n / STEP, false, false, (const char *)w + 32 * ldw);
        return;
    }
    const bf16_weights copy = {(const uint8_t *)work->w, 2 * STEP, sizeof work->w[0], sizeof work->w[0][0]};
    for (size_t i = 0; i < n; i += DEPTH * STEP) {
        size_t depth = n - i < DEPTH * STEP ? n - i : DEPTH * STEP, steps = (depth + STEP - 1) / STEP;
        copy_weights(work, w + i * 2, ldw, n_out, depth, (const char *)w + 32 * (ldw + i * 2));
        for (int b = 0; b < blocks; b += 2) {
            const uint16_t *xb = x + (size_t)b * block + i * TILE_ROWS;
            if (b + 1 < blocks)
                bf16_steps(work->sum + b, xb, xb + block, copy, steps, i > 0, true, NULL);
            else
                bf16_steps(work->sum + b, xb, xb, copy, steps, i > 0, false, NULL);
        }
    }
}

static void mul_bf16_amx(float *y, size_t ldy, const uint16_t *x, int n_row, const void *weights, size_t ldw, int n_out, size_t n,
                         const float *bias) {
    _Alignas(64) bf16_work work;
    const size_t fit = PASS_BYTES / (2 * rm_bf16_stride(n)) / 32 * 32;
    const int pass = fit < 32 ? 32 : fit > PASS_ROWS ? PASS_ROWS : (int)fit;
    tiles_for(TILE_ROWS);
    for (int r0 = 0; r0 < n_row; r0 += pass, x += (size_t)pass * rm_bf16_stride(n)) {
        int rows = n_row - r0 < pass ? n_row - r0 : pass, blocks = (rows + 15) / 16;
        for (int o = 0; o < n_out; o += 32) {
            int no = n_out - o < 32 ? n_out - o : 32;
            bf16_sums(&work, x, blocks, (const uint8_t *)weights + (size_t)o * ldw, ldw, no, n);
            for (int b = 0; b < blocks; b++)
                for (int h = 0; 16 * h < no; h++) {
                    size_t some = no - 16 * h < 16 ? (size_t)(no - 16 * h) : 16;
                    __m512 v[16], add = bias ? ld(bias + o + 16 * h, 0, some) : _mm512_setzero_ps();
                    for (int k = 0; k < 16; k++) v[k] = _mm512_load_ps(work.sum[b][h][k]);
                    v_turn(v);
                    for (int r = 0; r < 16 && 16 * b + r < rows; r++)
                        st(y + (size_t)(r0 + 16 * b + r) * ldy + o + 16 * h, bias ? _mm512_add_ps(v[r], add) : v[r], 0, some);
                }
        }
    }
}

/* ---- quantised weights as bf16 ------------------------------------------------------------------------------------------------------ */

/* Weights of 32 outputs as the second factor of tiles: pairs of inputs of 16 outputs, [2][DEPTH][16 pairs][16 outputs][2]. */
typedef uint16_t input_pairs[2][DEPTH][16][STEP];

/* One block of 32 inputs. */
RM_INLINE void inputs_block(input_pairs to, int at, const uint8_t *p, const uint8_t *head, int bits, int high, int sub, bool min, bool super,
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
                _mm512_store_si512(to[c][at][2 * s + i], (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
            }
        }
    }
}
RM_INLINE void inputs_body(input_pairs to, const uint8_t *group, size_t ahead, int b0, int n_block, int bits, int high, int sub, bool min, bool super,
                           bool table, const rm_form_info *f) {
    const float offset = f->shift ? (float)(1 << f->shift) : 0;
    for (int b = b0; b < b0 + n_block; b++) {
        const uint8_t *p = group + rm_form_block_at(f, (size_t)b), *head = group + rm_form_head_at(f, (size_t)b);
        for (size_t i = 0; i < rm_form_block_bytes(f); i += 64) _mm_prefetch((const char *)p + ahead + i, _MM_HINT_T0);
        inputs_block(to, b - b0, p, head, bits, high, sub, min, super, table, offset);
    }
}
/* Blocks b0 .. b0 + n_block <= DEPTH of a packed group; those `ahead` bytes further on are fetched meanwhile. */
static void unpack_inputs(input_pairs to, const uint8_t *group, size_t ahead, rm_form form, int b0, int n_block) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: inputs_body(to, group, ahead, b0, n_block, bits, high, sub, min, super, table, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

/* Adds n steps to the sums y of 16 rows, x, or 32, the others at x1, and 32 outputs. */
RM_INLINE void inputs_steps(float *y, size_t ldy, const uint16_t *x, const uint16_t *x1, const input_pairs w, int n, bool more, bool two) {
    float *y1 = y + 16 * ldy;
    if (more) {
        TILE_LOAD(0, y, ldy * 4);
        TILE_LOAD(1, y + 16, ldy * 4);
        if (two) TILE_LOAD(2, y1, ldy * 4);
        if (two) TILE_LOAD(3, y1 + 16, ldy * 4);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        if (two) TILE_ZERO(2);
        if (two) TILE_ZERO(3);
    }
    for (int s = 0; s < n; s++, x += STEP * TILE_ROWS, x1 += STEP * TILE_ROWS) {
        TILE_LOAD(4, x, 64);
        TILE_LOAD(6, w[0][s], 64);
        TILE_DOT_BF16(0, 4, 6);
        TILE_LOAD(7, w[1][s], 64);
        TILE_DOT_BF16(1, 4, 7);
        if (!two) continue;
        TILE_LOAD(5, x1, 64);
        TILE_DOT_BF16(2, 5, 6);
        TILE_DOT_BF16(3, 5, 7);
    }
    TILE_STORE(0, y, ldy * 4);
    TILE_STORE(1, y + 16, ldy * 4);
    if (two) TILE_STORE(2, y1, ldy * 4);
    if (two) TILE_STORE(3, y1 + 16, ldy * 4);
}

static void q_mul_bf16_amx(float *y, size_t ldy, const uint16_t *x, int n_row, const uint8_t *group, size_t group_bytes, int n_group, rm_form form,
                           size_t n, const float *bias) {
    _Alignas(64) input_pairs w;
    _Alignas(64) float last[TILE_ROWS][RM_GROUP]; /* the sums of the last rows, if fewer than 16 */
    const size_t block = rm_bf16_stride(n) * TILE_ROWS; /* of 16 rows of x */
    const int n_block = (int)(n / RM_QBLOCK), whole = n_row / TILE_ROWS * TILE_ROWS, rest = n_row - whole;
    tiles_for(TILE_ROWS);
    for (int b = 0; b < n_block; b += DEPTH) { /* rows of these inputs stay in the second cache for all groups */
        int steps = n_block - b < DEPTH ? n_block - b : DEPTH;
        for (int g = 0; g < n_group; g++) {
            const uint16_t *xb = x + (size_t)b * STEP * TILE_ROWS;
            float *yb = y + g * RM_GROUP;
            unpack_inputs(w, group + (size_t)g * group_bytes, g + 1 < n_group ? group_bytes : 0, form, b, steps);
            int i = 0;
            for (; i + 32 <= whole; i += 32, xb += 2 * block, yb += 32 * ldy) inputs_steps(yb, ldy, xb, xb + block, w, steps, b > 0, true);
            if (i < whole) {
                inputs_steps(yb, ldy, xb, xb, w, steps, b > 0, false);
                xb += block, yb += 16 * ldy;
            }
            if (!rest) continue;
            for (int r = 0; b > 0 && r < rest; r++)
                for (int c = 0; c < RM_GROUP; c += 16) _mm512_store_ps(last[r] + c, _mm512_loadu_ps(yb + (size_t)r * ldy + c));
            inputs_steps(last[0], RM_GROUP, xb, xb, w, steps, b > 0, false);
            for (int r = 0; r < rest; r++)
                for (int c = 0; c < RM_GROUP; c += 16) _mm512_storeu_ps(yb + (size_t)r * ldy + c, _mm512_load_ps(last[r] + c));
        }
    }
    for (int r = 0; bias && r < n_row; r++)
        for (int c = 0; c < n_group * RM_GROUP; c += 16)
            _mm512_storeu_ps(y + (size_t)r * ldy + c, _mm512_add_ps(_mm512_loadu_ps(y + (size_t)r * ldy + c), _mm512_loadu_ps(bias + c)));
}

/* ---- gradients: sums over the outputs, panels as in avx512_panel.h -------------------------------------------------------------- */

/* Adds n_step steps of 32 outputs to 16 columns of dx, or 32; as many rows as the tiles have. */
RM_INLINE void pairs_steps(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, const uint16_t *panel, int n_step, bool two) {
    TILE_LOAD(0, dx, lddx * 4);
    if (two) TILE_LOAD(1, dx + 16, lddx * 4);
    for (int s = 0; s < n_step; s++, dy += STEP, panel += 16 * PAIRS_LINE) {
        TILE_LOAD(4, dy, lddy * 2);
        TILE_LOAD(6, panel, PAIRS_LINE * 2);
        TILE_DOT_BF16(0, 4, 6);
        if (!two) continue;
        TILE_LOAD(7, panel + 32, PAIRS_LINE * 2);
        TILE_DOT_BF16(1, 4, 7);
    }
    TILE_STORE(0, dx, lddx * 4);
    if (two) TILE_STORE(1, dx + 16, lddx * 4);
}

static void mul_pairs_amx(float *dx, size_t lddx, const uint16_t *dy, size_t lddy, int n_row, const uint16_t *panel, int n_pair, size_t n) {
    int n_step = (n_pair + 15) / 16;
    for (int i = 0; i < n_row; i += TILE_ROWS, dx += TILE_ROWS * lddx, dy += TILE_ROWS * lddy) {
        int rows = n_row - i < TILE_ROWS ? n_row - i : TILE_ROWS;
        tiles_for(rows);
        size_t c = 0;
        for (; c + 32 <= n; c += 32) pairs_steps(dx + c, lddx, dy, lddy, panel + 2 * c, n_step, true);
        for (; c < n; c += 16) {
            _Alignas(64) float part[TILE_ROWS][16];
            size_t some = n - c < 16 ? n - c : 16;
            for (int r = 0; r < rows; r++) _mm512_store_ps(part[r], ld(dx + (size_t)r * lddx + c, 0, some));
            pairs_steps(part[0], 16, dy, lddy, panel + 2 * c, n_step, false);
            for (int r = 0; r < rows; r++) st(dx + (size_t)r * lddx + c, _mm512_load_ps(part[r]), 0, some);
        }
    }
}
