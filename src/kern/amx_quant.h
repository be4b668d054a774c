/* Quantised products on the tiles of AMX: 16 rows x 16 outputs x 32 inputs per instruction. The expanded weights of form.h are tiles of its second factor
 * as they are; here they are signed, without the offset. Same sums and same order of float operations as quant.h: the sum of a block is an exact
 * integer, so it does not matter who computes it. */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Tiles 0 to 3: sums, 4 and 5: rows of activations, 6 and 7: weights; for n rows and k bytes of inputs. */
#define CONFIG(n, k) {.palette = 1, .row_bytes = {64, 64, 64, 64, k, k, 64, 64}, .rows = {n, n, n, n, n, n, k / 4, k / 4}}
#define CONFIGS(k)                                                                                                                                   \
    {CONFIG(0, k),  CONFIG(1, k),  CONFIG(2, k),  CONFIG(3, k),  CONFIG(4, k),  CONFIG(5, k),  CONFIG(6, k),  CONFIG(7, k), CONFIG(8, k),            \
     CONFIG(9, k),  CONFIG(10, k), CONFIG(11, k), CONFIG(12, k), CONFIG(13, k), CONFIG(14, k), CONFIG(15, k), CONFIG(16, k)}
enum { TILE_ROWS = 16 };
_Alignas(64) static const tile_config tile_configs[3][TILE_ROWS + 1] = {CONFIGS(16), CONFIGS(32), CONFIGS(64)};

/* Sets the shapes of the tiles. They belong to the thread, and setting them costs as much as 40 products: only if they are not so already. */
RM_INLINE void tiles_for(int n_row, int input_bytes) {
    const tile_config *want = &tile_configs[input_bytes / 32][n_row];
    tile_config have;
    __asm__ volatile("sttilecfg %0" : "=m"(have));
    if (memcmp(&have, want, sizeof have) != 0) __asm__ volatile("ldtilecfg %0" ::"m"(*want));
}

/* The compiler's own intrinsics do not say that memory is read and written. */
#define TILE_LOAD(tile, p, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(p), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(tile, p, stride) __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(p), "r"((size_t)(stride)) : "memory")
#define TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
#define TILE_DOT_I8(sum, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

static void q_expand_amx(uint8_t *q, float *s, const uint8_t *group, rm_form form, int b0, int n_block) {
    switch (form) {
#define X(name, bits, high, sub, min, super, table, shift)                                                                                           \
    case name: expand_body(q, s, group, b0, n_block, bits, high, sub, min, super, table, shift, &rm_forms[name]); break;
        RM_SHAPES(X)
#undef X
    case RM_FORM_COUNT: break;
    }
}

enum { AHEAD = 6, RING = 8 }; /* blocks that are multiplied before they are added up: a tile takes long to be finished */

typedef struct {
    int32_t sum[2][TILE_ROWS][16];
} block_sums;

/* The sums of one block: rows of activations x, 16 outputs of weights q. */
RM_INLINE void multiply_block(block_sums *to, const uint8_t *x, const uint8_t *q, int sub) {
    TILE_LOAD(4, x, RM_QBLOCK);
    TILE_LOAD(6, q, 128);
    TILE_ZERO(0);
    TILE_DOT_I8(0, 4, 6);
    TILE_STORE(0, to->sum[0], 64);
    if (sub == 32) return;
    TILE_LOAD(5, x + 16, RM_QBLOCK);
    TILE_LOAD(7, q + 4 * 128, 128);
    TILE_ZERO(1);
    TILE_DOT_I8(1, 5, 7);
    TILE_STORE(1, to->sum[1], 64);
}

RM_INLINE void half_tile(const rm_qtile *t, int c, int n_row, int sub, bool min) {
    const int n_sub = 32 / sub, n_block = t->n_block;
    _Alignas(64) block_sums ring[RING];
    __m512 f[TILE_ROWS];
    float *y = t->y + 16 * c;
    RM_UNROLL for (int r = 0; r < n_row; r++) f[r] = t->more ? _mm512_loadu_ps(y + (size_t)r * t->ldy) : _mm512_setzero_ps();
    const uint8_t *x = t->x, *q = t->q + 64 * c;
    for (int b = 0; b < AHEAD && b < n_block; b++) multiply_block(&ring[b], x + b * n_row * RM_QX_ROW, q + b * RM_EXPANDED_QUANTS, sub);
    const float *s = t->s + 16 * c;
    const char *ahead = (const char *)t->ahead;
    for (int b = 0; b < n_block; b++, s += RM_GROUP * n_sub * (min ? 2 : 1), ahead += t->ahead_bytes) {
        for (int i = 64 * c; i < t->ahead_bytes; i += 128) _mm_prefetch(ahead + i, _MM_HINT_T0);
        if (b + AHEAD < n_block)
            multiply_block(&ring[(b + AHEAD) % RING], x + (b + AHEAD) * n_row * RM_QX_ROW, q + (b + AHEAD) * RM_EXPANDED_QUANTS, sub);
        const block_sums *sums = &ring[b % RING];
        const uint8_t *meta = x + b * n_row * RM_QX_ROW + n_row * RM_QBLOCK;
        RM_UNROLL for (int h = 0; h < n_sub; h++) {
            __m512 d = _mm512_load_ps(s + h * RM_GROUP);
            RM_UNROLL for (int r = 0; r < n_row; r++)
                f[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums->sum[h][r])), _mm512_mul_ps(d, broadcast_float(meta + r * 4)), f[r]);
        }
        if (!min) continue;
        RM_UNROLL for (int h = 0; h < n_sub; h++) {
            __m512 m = _mm512_load_ps(s + (n_sub + h) * RM_GROUP);
            RM_UNROLL for (int r = 0; r < n_row; r++) {
                __m512 sx = broadcast_float(meta + n_row * 4 + r * 4);
                if (n_sub == 2) {
                    __m512i neg = broadcast32(meta + (3 + h) * n_row * 4 + r * 4);
                    sx = _mm512_mul_ps(broadcast_float(meta + r * 4), _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), neg)));
                }
                f[r] = _mm512_fmadd_ps(m, sx, f[r]);
            }
        }
    }
    RM_UNROLL for (int r = 0; r < n_row; r++)
        _mm512_storeu_ps(y + (size_t)r * t->ldy, t->bias ? _mm512_add_ps(f[r], _mm512_loadu_ps(t->bias + 16 * c)) : f[r]);
}

#define ROWS_1_16(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16)
#define TILES(X) X(32, false) X(32, true) X(16, false) X(16, true)
#define X(sub, min)                                                                                                                                  \
    static void amx_##sub##_##min(const rm_qtile *t, int c) {                                                                                        \
        switch (t->n_row) {                                                                                                                          \
            ROWS_1_16(CASE_##sub##_##min)                                                                                                            \
        default: break;                                                                                                                              \
        }                                                                                                                                            \
    }
#define CASE_32_false(n) case n: half_tile(t, c, n, 32, false); break;
#define CASE_32_true(n) case n: half_tile(t, c, n, 32, true); break;
#define CASE_16_false(n) case n: half_tile(t, c, n, 16, false); break;
#define CASE_16_true(n) case n: half_tile(t, c, n, 16, true); break;
TILES(X)
#undef X

static void q_tile_amx(const rm_qtile *t) {
    const rm_form_info *f = &rm_forms[t->form];
    tiles_for(t->n_row, f->sub);
    for (int c = 0; c < 2; c++) switch (f->sub * 2 + f->min) {
        case 64: amx_32_false(t, c); break;
        case 65: amx_32_true(t, c); break;
        case 32: amx_16_false(t, c); break;
        default: amx_16_true(t, c); break;
        }
}
