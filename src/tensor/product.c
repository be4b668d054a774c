/* Products with weight matrices: cutting them into chunks for the threads. An element's sum lies whole inside one chunk and one kernel call (or a
 * chain of calls in fixed order), so the cut does not show in the results. */
#include <string.h>

#include "tensor/matrix_impl.h"
#include "tensor/profile.h"
#include "tensor/rows8.h"

/* Outputs of one part and where its chunks stand among those of a run. */
typedef struct {
    const rm_part *part;
    float *y;
    const float *bias;
    int first, n_chunk, chunk; /* chunk: outputs per chunk */
} slice;

typedef struct {
    rm_exec *e;
    const rm_matrix *w;
    const float *x;
    size_t ldy, ldx;
    int n_row, n_slice;
    slice slice[RM_MATRIX_PARTS];
    rm_rows8 rows8; /* PACKED: the rows in 8 bits */
    uint16_t *rows16; /* BF16, and PACKED where products are in bf16: from bf16_rows */
    uint8_t *local; /* scratch */
    size_t local_bytes;
} product;

static inline int least(int a, int b) { return a < b ? a : b; }
static inline size_t most(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t up64(size_t n) { return (n + 63) & ~(size_t)63; }

/* ---- rows where they lie, and rows that are made float32 ----------------------------------------------------------------------- */

static void rows_outputs(const product *p, const slice *s, int o, int n) {
    p->e->kern->mul_rows(s->y + o, p->ldy, p->x, p->ldx, p->n_row, s->part->data + (size_t)o * s->part->row_bytes, s->part->row_bytes, s->part->wtype,
                         n, (size_t)p->w->n_in, s->bias ? s->bias + o : NULL);
}

/* From WIDEN_ROWS rows on, f16 and bf16 weights are made float32 once for all rows, not in every tile. The bits are the same. */
enum { DEQUANT_ROWS = 24, WIDEN_ROWS = 32 };

static bool is_widened(const product *p, const rm_part *part) {
    return part->kind == RM_PART_ROWS && part->wtype != RM_W_F32 && p->n_row >= WIDEN_ROWS;
}

static void dequant_outputs(const product *p, const slice *s, int first, int end, uint8_t *local) {
    float *tile = (float *)(void *)local;
    size_t n_in = (size_t)p->w->n_in;
    for (int o = first; o < end; o += DEQUANT_ROWS) {
        int n = least(DEQUANT_ROWS, end - o);
        rm_part_columns(p->w, s->part, o, n, 0, n_in, tile);
        p->e->kern->mul_rows(s->y + o, p->ldy, p->x, p->ldx, p->n_row, tile, n_in * sizeof(float), RM_W_F32, n, n_in, s->bias ? s->bias + o : NULL);
    }
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------------------- */

static inline int bf16_groups(int n_row) { return (n_row + RM_BF16_ROWS - 1) / RM_BF16_ROWS; }

static void round_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const product *p = ctx;
    int i = chunk * RM_BF16_ROWS;
    size_t n_in = (size_t)p->w->n_in;
    p->e->kern->bf16_rows(p->rows16 + (size_t)i * rm_bf16_stride(n_in), p->x + (size_t)i * p->ldx, p->ldx, least(RM_BF16_ROWS, p->n_row - i), n_in,
                          p->slice->part->kind == RM_PART_BF16);
}
static bool round_rows(product *p) {
    size_t bytes = (size_t)bf16_groups(p->n_row) * RM_BF16_ROWS * rm_bf16_stride((size_t)p->w->n_in) * sizeof(uint16_t);
    if (!(p->rows16 = rm_exec_shared(p->e, bytes))) return false;
    rm_time was = rm_time_to(p->e, RM_TIME_QUANT);
    rm_pool_run(p->e->pool, bf16_groups(p->n_row), round_chunk, p);
    rm_time_back(p->e, was);
    return true;
}

static void bf16_outputs(const product *p, const slice *s, int o, int n) {
    p->e->kern->mul_bf16(s->y + o, p->ldy, p->rows16, p->n_row, s->part->data + (size_t)o * s->part->row_bytes, s->part->row_bytes, n,
                         (size_t)p->w->n_in, s->bias ? s->bias + o : NULL);
}

/* Rows of prompts take quantised weights as bf16, where that is faster. */
static bool in_bf16(const product *p, const rm_part *part) { return p->e->prompt && p->e->kern->q_mul_bf16 && part->kind == RM_PART_PACKED; }

/* ---- 8 bits ------------------------------------------------------------------------------------------------------------------ */

/* Expanded weights of 32 blocks stay in the first cache; the next ones are fetched during the products of so many tiles. */
enum { BLOCKS_AT_ONCE = 32, AHEAD_TILES = 4, AHEAD = 6144 /* bytes */ };

/* One group for all rows; y, ldy, bias: 32 outputs that may be written. */
static void packed_group(const product *p, const rm_part *part, const uint8_t *group, float *y, size_t ldy, const float *bias, uint8_t *local) {
    const rm_kern *k = p->e->kern;
    const rm_form_info *f = &rm_forms[part->form];
    const rm_rows8 *x = &p->rows8;
    int n_block = x->n_block, n_tile = rm_rows8_tiles(x);
    size_t block_bytes = rm_form_block_bytes(f);
    rm_qtile t = {.form = part->form, .ldy = ldy};
    if (p->n_row <= k->q_rows_max) {
        t.n_block = n_block, t.q = group, t.bias = bias;
        t.ahead_bytes = (int)up64(block_bytes / (size_t)n_tile);
        for (int i = 0; i < n_tile; i++) {
            t.n_row = rm_rows8_first(x, i + 1) - rm_rows8_first(x, i), t.x = rm_rows8_at(x, i, 0), t.y = y + (size_t)rm_rows8_first(x, i) * ldy;
            /* one tile reads the weights as they come in; several find them in the cache and fetch the next group's */
            t.ahead = group + (n_tile > 1                   ? part->group_bytes + (size_t)i * (size_t)n_block * (size_t)t.ahead_bytes
                               : k->q_near && p->n_row == 1 ? 0
                                                            : AHEAD);
            k->q_rows(&t);
        }
        return;
    }
    size_t ahead = up64(block_bytes / (size_t)least(n_tile, AHEAD_TILES)); /* the next blocks come in while these are multiplied */
    uint8_t *q = local;
    float *s = (float *)(void *)(local + BLOCKS_AT_ONCE * RM_EXPANDED_QUANTS);
    for (int b = 0; b < n_block; b += BLOCKS_AT_ONCE) {
        int nb = least(BLOCKS_AT_ONCE, n_block - b);
        k->q_expand(q, s, group, part->form, b, nb);
        for (int i = 0; i < n_tile; i++) {
            t.n_row = rm_rows8_first(x, i + 1) - rm_rows8_first(x, i), t.x = rm_rows8_at(x, i, b), t.y = y + (size_t)rm_rows8_first(x, i) * ldy;
            t.n_block = nb;
            t.q = q, t.s = s;
            t.more = b > 0;
            t.bias = b + nb == n_block ? bias : NULL;
            t.ahead = group + rm_form_block_at(f, (size_t)(b + nb)) + (size_t)i * (size_t)nb * ahead;
            t.ahead_bytes = i < AHEAD_TILES ? (int)ahead : 0;
            k->q_tile(&t);
        }
    }
}

/* Sums of a group that has fewer outputs than RM_GROUP, and its bias. */
static size_t last_group_bytes(const product *p) { return RM_GROUP * sizeof(float) * ((size_t)p->n_row + 1); }

static size_t packed_local(const product *p, const rm_part *part) {
    return up64(BLOCKS_AT_ONCE * (RM_EXPANDED_QUANTS + rm_form_expanded_scales(&rm_forms[part->form]) * sizeof(float)) + last_group_bytes(p));
}

static void packed_groups(const product *p, const rm_part *part, const uint8_t *group, int n_group, float *y, size_t ldy, const float *bias,
                          uint8_t *local) {
    if (in_bf16(p, part)) {
        p->e->kern->q_mul_bf16(y, ldy, p->rows16, p->n_row, group, part->group_bytes, n_group, part->form, (size_t)p->w->n_in, bias);
        return;
    }
    for (int g = 0; g < n_group; g++)
        packed_group(p, part, group + (size_t)g * part->group_bytes, y + g * RM_GROUP, ldy, bias ? bias + g * RM_GROUP : NULL, local);
}

static void packed_outputs(const product *p, const slice *s, int first, int end, uint8_t *local) {
    const rm_part *part = s->part;
    const uint8_t *group = part->packed + (size_t)(first / RM_GROUP) * part->group_bytes;
    const float *bias = s->bias ? s->bias + first : NULL;
    int whole = (end - first) / RM_GROUP, at = whole * RM_GROUP;
    packed_groups(p, part, group, whole, s->y + first, p->ldy, bias, local);
    if (first + at == end) return;
    size_t n = (size_t)(end - first - at); /* the last outputs: by way of a full group */
    float *b = (float *)(void *)(local + p->local_bytes) - RM_GROUP, *y = b - (size_t)p->n_row * RM_GROUP;
    memset(b, 0, RM_GROUP * sizeof *b);
    if (bias) memcpy(b, bias + at, n * sizeof *b);
    packed_groups(p, part, group + (size_t)whole * part->group_bytes, 1, y, RM_GROUP, bias ? b : NULL, local);
    for (int i = 0; i < p->n_row; i++) memcpy(s->y + (size_t)i * p->ldy + first + at, y + (size_t)i * RM_GROUP, n * sizeof *y);
}

/* ---- the product -------------------------------------------------------------------------------------------------------------- */

static rmas_status no_memory(const rm_matrix *w, int n_row, rmas_error *err) {
    return rm_fail(err, RMAS_E_NOMEM, "out of memory: scratch for a product of %d rows with a matrix of %d x %d", n_row, w->n_out, w->n_in);
}

static void product_chunk(void *ctx, int chunk, int thread) {
    const product *p = ctx;
    const slice *s = p->slice;
    while (chunk >= s->first + s->n_chunk) s++;
    int o = (chunk - s->first) * s->chunk, end = least(o + s->chunk, s->part->n_out);
    uint8_t *local = p->local + (size_t)thread * p->local_bytes;
    switch (s->part->kind) {
    case RM_PART_ROWS:
        if (is_widened(p, s->part))
            dequant_outputs(p, s, o, end, local);
        else
            rows_outputs(p, s, o, end - o);
        break;
    case RM_PART_BF16: bf16_outputs(p, s, o, end - o); break;
    case RM_PART_DEQUANT: dequant_outputs(p, s, o, end, local); break;
    case RM_PART_PACKED: packed_outputs(p, s, o, end, local); break;
    }
}

/* Outputs per chunk: about 16 chunks a thread where the matrix is large enough, at least 16 KB of weights each. For many rows on tiles more outputs, if
 * that leaves 3 chunks a thread: the rows of a long sum do not fit in the second cache and come from the third once per chunk. */
enum { MANY_ROWS = 64, MANY_OUTPUTS = 256 };
static int chunk_size(const product *p, const rm_part *part) {
    const rm_matrix *w = p->w;
    size_t unit = part->packed || part->kind == RM_PART_BF16 ? RM_GROUP : DEQUANT_ROWS, threads = (size_t)rm_pool_size(p->e->pool);
    size_t row_bytes = part->packed ? part->group_bytes / RM_GROUP : part->row_bytes;
    size_t per = most((size_t)w->n_out / (16 * threads), 16384 / (row_bytes ? row_bytes : 1));
    bool tiles = p->e->kern->q_mul_bf16 && (part->kind == RM_PART_BF16 || in_bf16(p, part));
    if (tiles && p->n_row >= MANY_ROWS) per = most(per, (size_t)least(MANY_OUTPUTS, w->n_out / (3 * (int)threads)));
    size_t units = (per + unit - 1) / unit;
    return (int)((units ? units : 1) * unit);
}

/* The next parts of one kind, whose chunks are run together. Returns how many. */
static int take_parts(product *p, int i, float *y, const float *bias) {
    const rm_matrix *w = p->w;
    int n_chunk = 0, first = i, out = 0;
    for (int k = 0; k < i; k++) out += w->part[k].n_out;
    for (p->n_slice = 0; i < w->n_part && w->part[i].kind == w->part[first].kind; out += w->part[i++].n_out) {
        const rm_part *part = &w->part[i];
        slice *s = &p->slice[p->n_slice++];
        *s = (slice){.part = part, .y = y + out, .bias = bias ? bias + out : NULL, .first = n_chunk, .chunk = chunk_size(p, part)};
        s->n_chunk = (part->n_out + s->chunk - 1) / s->chunk;
        n_chunk += s->n_chunk;
    }
    return i - first;
}

/* Converts the activations and makes scratch as this kind of weights wants it. */
static bool prepare(product *p) {
    rm_exec *e = p->e;
    size_t n_in = (size_t)p->w->n_in;
    p->local_bytes = 0;
    switch (p->slice->part->kind) {
    case RM_PART_ROWS:
        for (int i = 0; i < p->n_slice; i++)
            if (is_widened(p, p->slice[i].part)) p->local_bytes = up64(n_in * DEQUANT_ROWS * sizeof(float));
        if (!p->local_bytes) return true;
        break;
    case RM_PART_DEQUANT: p->local_bytes = up64(n_in * DEQUANT_ROWS * sizeof(float)); break;
    case RM_PART_BF16: return round_rows(p);
    case RM_PART_PACKED:
        if (in_bf16(p, p->slice->part)) {
            if (!round_rows(p)) return false;
            p->local_bytes = up64(last_group_bytes(p));
            break;
        }
        if (!rm_rows8_make(&p->rows8, e, e->kern->q_quant, p->x, p->ldx, p->n_row, (int)n_in)) return false;
        for (int i = 0; i < p->n_slice; i++) p->local_bytes = most(p->local_bytes, packed_local(p, p->slice[i].part));
        break;
    }
    return (p->local = rm_exec_local(e, p->local_bytes)) != NULL;
}

/* Tells the profile what a run of chunks did. */
static void count_work(const product *p) {
    static const rm_ops_kind ops[] = {
        [RM_PART_ROWS] = RM_OPS_F32, [RM_PART_BF16] = RM_OPS_BF16, [RM_PART_DEQUANT] = RM_OPS_F32, [RM_PART_PACKED] = RM_OPS_INT8};
    for (int i = 0; i < p->n_slice; i++) {
        const rm_part *part = p->slice[i].part;
        double row_bytes = part->packed ? (double)part->group_bytes / RM_GROUP : (double)part->row_bytes;
        rm_time_work(p->e, in_bf16(p, part) ? RM_OPS_BF16 : ops[part->kind], row_bytes * part->n_out, 2.0 * p->n_row * part->n_out * p->w->n_in);
    }
}

rmas_status rm_matrix_mul(rm_exec *e, float *y, size_t ldy, const float *x, size_t ldx, int n_row, const rm_matrix *w, const float *bias,
                          rmas_error *err) {
    product p = {.e = e, .w = w, .x = x, .ldy = ldy, .ldx = ldx, .n_row = n_row};
    if (n_row <= 0) return RMAS_OK;
    for (int i = 0; i < w->n_part;) {
        i += take_parts(&p, i, y, bias);
        if (!prepare(&p)) return no_memory(w, n_row, err);
        const slice *last = &p.slice[p.n_slice - 1];
        rm_pool_run(e->pool, last->first + last->n_chunk, product_chunk, &p);
        count_work(&p);
    }
    return RMAS_OK;
}
