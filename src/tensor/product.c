/* Products with weight matrices: cutting them into chunks for the threads. An element's sum lies whole inside one chunk and one kernel call (or a
 * chain of calls in fixed order), so the cut does not show in the results. */
#include <string.h>

#include "tensor/matrix_impl.h"
#include "tensor/profile.h"

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
    int n_row, n_slice, n_segment; /* n_segment: activations of a row are converted in so many pieces */
    slice slice[RM_MATRIX_PARTS];
    uint8_t *shared, *local; /* scratch */
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

/* Activations in the form of the weights, in chunks of `convert`. */
static void convert_rows(product *p, int n_chunk, rm_pool_fn convert) {
    rm_time was = rm_time_to(p->e, RM_TIME_QUANT);
    rm_pool_run(p->e->pool, n_chunk, convert, p);
    rm_time_back(p->e, was);
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------------------- */

static inline int bf16_groups(int n_row) { return (n_row + RM_BF16_ROWS - 1) / RM_BF16_ROWS; }

static void round_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const product *p = ctx;
    int i = chunk * RM_BF16_ROWS;
    size_t n_in = (size_t)p->w->n_in;
    p->e->kern->bf16_rows((uint16_t *)(void *)p->shared + (size_t)i * rm_bf16_stride(n_in), p->x + (size_t)i * p->ldx, p->ldx,
                          least(RM_BF16_ROWS, p->n_row - i), n_in, p->slice->part->kind == RM_PART_BF16);
}
static bool round_rows(product *p) {
    size_t bytes = (size_t)bf16_groups(p->n_row) * RM_BF16_ROWS * rm_bf16_stride((size_t)p->w->n_in) * sizeof(uint16_t);
    if (!(p->shared = rm_exec_shared(p->e, bytes))) return false;
    convert_rows(p, bf16_groups(p->n_row), round_chunk);
    return true;
}

static void bf16_outputs(const product *p, const slice *s, int o, int n) {
    p->e->kern->mul_bf16(s->y + o, p->ldy, (const uint16_t *)(const void *)p->shared, p->n_row, s->part->data + (size_t)o * s->part->row_bytes,
                         s->part->row_bytes, n, (size_t)p->w->n_in, s->bias ? s->bias + o : NULL);
}

/* Rows of prompts take quantised weights as bf16, where that is faster. */
static bool in_bf16(const product *p, const rm_part *part) { return p->e->prompt && p->e->kern->q_mul_bf16 && part->kind == RM_PART_PACKED; }

/* ---- 8 bits ------------------------------------------------------------------------------------------------------------------ */

/* Expanded weights of 32 blocks stay in the first cache; the next ones are fetched during the products of so many tiles. */
enum { BLOCKS_AT_ONCE = 32, AHEAD_TILES = 4, AHEAD = 6144 /* bytes */ };

/* Rows are cut into n_tile nearly equal tiles. */
enum { SEGMENT = 1024 }; /* inputs that are quantised in one piece, if there are several rows */

static inline int tile_count(int n_row) { return (n_row + RM_QROWS - 1) / RM_QROWS; }
static inline int tile_first(const product *p, int tile) { return (int)((int64_t)tile * p->n_row / tile_count(p->n_row)); }
static inline const uint8_t *tile_at(const product *p, int tile, int block) {
    int i = tile_first(p, tile), n = tile_first(p, tile + 1) - i;
    return p->shared + ((size_t)i * (size_t)(p->w->n_in / RM_QBLOCK) + (size_t)n * (size_t)block) * RM_QX_ROW;
}

static void quant_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const product *p = ctx;
    int tile = chunk / p->n_segment, segment = chunk % p->n_segment, n_block = p->w->n_in / RM_QBLOCK;
    int i = tile_first(p, tile), n = tile_first(p, tile + 1) - i, b = n_block * segment / p->n_segment, end = n_block * (segment + 1) / p->n_segment;
    p->e->kern->q_quant((uint8_t *)tile_at(p, tile, b), p->x + (size_t)i * p->ldx + (size_t)b * RM_QBLOCK, p->ldx, n, (size_t)(end - b) * RM_QBLOCK);
}

/* One group for all rows; y, ldy, bias: 32 outputs that may be written. */
static void packed_group(const product *p, const rm_part *part, const uint8_t *group, float *y, size_t ldy, const float *bias, uint8_t *local) {
    const rm_kern *k = p->e->kern;
    const rm_form_info *f = &rm_forms[part->form];
    int n_block = p->w->n_in / RM_QBLOCK, n_tile = tile_count(p->n_row);
    size_t block_bytes = rm_form_block_bytes(f);
    rm_qtile t = {.form = part->form, .ldy = ldy};
    if (p->n_row <= k->q_rows_max) {
        t.n_block = n_block, t.q = group, t.bias = bias;
        t.ahead_bytes = (int)up64(block_bytes / (size_t)n_tile);
        for (int i = 0; i < n_tile; i++) {
            t.n_row = tile_first(p, i + 1) - tile_first(p, i), t.x = tile_at(p, i, 0), t.y = y + (size_t)tile_first(p, i) * ldy;
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
            t.n_row = tile_first(p, i + 1) - tile_first(p, i), t.x = tile_at(p, i, b), t.y = y + (size_t)tile_first(p, i) * ldy;
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
        p->e->kern->q_mul_bf16(y, ldy, (const uint16_t *)(const void *)p->shared, p->n_row, group, part->group_bytes, n_group, part->form,
                               (size_t)p->w->n_in, bias);
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
        if (!(p->shared = rm_exec_shared(e, n_in / RM_QBLOCK * (size_t)p->n_row * RM_QX_ROW))) return false;
        p->n_segment = p->n_row > 1 ? (int)(n_in + SEGMENT - 1) / SEGMENT : 1;
        convert_rows(p, tile_count(p->n_row) * p->n_segment, quant_chunk);
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

/* ---- the gradient with respect to the input ------------------------------------------------------------------------------------ */

typedef struct {
    rm_exec *e;
    const rm_matrix *w;
    const rm_part *part;
    float *y; /* the gradient */
    const float *x; /* dy of the part */
    size_t ldy, ldx;
    int n_row, chunk; /* columns per chunk */
    bool add; /* to what y holds */
    int whole, cut, pieces; /* strips of all rows; strips whose rows are cut into pieces, one for each of `pieces` threads */
    uint8_t *shared, *local; /* scratch */
    size_t local_bytes;
} gradient;

/* A chunk is a strip of columns, of all rows or of a piece of them; the outputs go by in order, so many of them at a time that their weights stay in the
 * first cache: TILE_FLOATS in strips of RM_PANEL columns, or of T_COLUMNS, whole blocks of every type, where blocks are dequantised; bf16 PANEL_OUTPUTS. */
enum { T_COLUMNS = 256, TILE_FLOATS = 8192, PANEL_OUTPUTS = 256, PIECE_ROWS = 8 /* at least: as long as unpacking takes */ };

typedef struct {
    int row, n_row;
    size_t column, n_column;
} strip;

/* Strips are shared out evenly: every thread gets as many whole ones, in its range of chunks first, and a piece of each of those left over. */
static void share_strips(gradient *p) {
    const int strips = (p->w->n_in + p->chunk - 1) / p->chunk, threads = rm_pool_size(p->e->pool);
    p->pieces = p->n_row >= PIECE_ROWS * threads ? threads : 1;
    p->cut = strips % p->pieces;
    p->whole = strips - p->cut;
}

static strip strip_of(const gradient *p, int chunk) {
    const int whole = p->whole / p->pieces, each = whole + p->cut, piece = chunk / each, k = chunk % each;
    const size_t n_in = (size_t)p->w->n_in, c = (size_t)(k < whole ? piece * whole + k : p->whole + k - whole) * (size_t)p->chunk;
    strip s = {0, p->n_row, c, n_in - c < (size_t)p->chunk ? n_in - c : (size_t)p->chunk};
    if (k >= whole) {
        s.row = (int)((int64_t)piece * p->n_row / p->pieces);
        s.n_row = (int)((int64_t)(piece + 1) * p->n_row / p->pieces) - s.row;
    }
    return s;
}

/* Many rows gather their sums side by side if those of the gradient lie a power of two apart, on the same few lines of the first cache. */
enum { ASIDE_ROWS = 16, ASIDE_FLOATS = 256 };
static inline bool sums_aside(const gradient *p) { return p->chunk == RM_PANEL && p->n_row >= ASIDE_ROWS && p->ldy % ASIDE_FLOATS == 0; }

/* Fewer rows than this take float32 weights from where they lie. */
enum { IN_PLACE_ROWS = 8 };

/* Copies n columns of n_row rows. */
static void copy_columns(float *to, size_t ldto, const float *from, size_t ldfrom, int n_row, size_t n) {
    for (int i = 0; i < n_row; i++) memcpy(to + (size_t)i * ldto, from + (size_t)i * ldfrom, n * sizeof *to);
}

/* Sums of a strip begin with what the gradient holds, or with zero. */
static void begin_sums(const gradient *p, float *sum, size_t ldsum, const float *dx, const strip *s) {
    if (!p->add)
        for (int i = 0; i < s->n_row; i++) memset(sum + (size_t)i * ldsum, 0, s->n_column * sizeof *sum);
    else if (sum != dx)
        copy_columns(sum, ldsum, dx, p->ldy, s->n_row, s->n_column);
}

static void float_strip(void *ctx, int chunk, int thread) {
    const gradient *p = ctx;
    const rm_part *part = p->part;
    const rm_kern *k = p->e->kern;
    strip s = strip_of(p, chunk);
    float *tile = (float *)(void *)(p->local + (size_t)thread * p->local_bytes);
    bool in_place = part->kind == RM_PART_ROWS && part->wtype == RM_W_F32 && (size_t)part->data % sizeof(float) == 0 && s.n_row < IN_PLACE_ROWS;
    bool aside = sums_aside(p);
    float *dx = p->y + (size_t)s.row * p->ldy + s.column, *sum = aside ? tile + TILE_FLOATS : dx;
    size_t ldsum = aside ? RM_PANEL : p->ldy;
    begin_sums(p, sum, ldsum, dx, &s);
    for (int o = 0, at_once = TILE_FLOATS / p->chunk; o < part->n_out; o += at_once) {
        int no = least(at_once, part->n_out - o);
        const float *rows = tile;
        size_t ld = s.n_column;
        if (in_place) {
            rows = (const float *)(const void *)(part->data + (size_t)o * part->row_bytes) + s.column;
            ld = (size_t)p->w->n_in;
        } else if (part->kind == RM_PART_PACKED && k->q_columns) {
            k->q_columns(tile, part->packed + (size_t)(o / RM_GROUP) * part->group_bytes, part->group_bytes, (no + RM_GROUP - 1) / RM_GROUP,
                         part->form, (int)(s.column / RM_QBLOCK), (int)(s.n_column / RM_QBLOCK));
            ld = RM_PANEL;
        } else {
            rm_part_columns(p->w, part, o, no, s.column, s.n_column, tile);
        }
        k->mul_columns(sum, ldsum, p->x + (size_t)s.row * p->ldx + o, p->ldx, s.n_row, rows, ld, no, s.n_column);
    }
    if (aside) copy_columns(dx, p->ldy, sum, RM_PANEL, s.n_row, s.n_column);
}

/* dy in bf16 has rows of whole groups, with zeros behind the last output. */
static inline size_t dy_stride(const rm_part *part) { return ((size_t)part->n_out + RM_GROUP - 1) / RM_GROUP * RM_GROUP; }

static void round_dy(void *ctx, int chunk, int thread) {
    (void)thread;
    const gradient *p = ctx;
    size_t n = (size_t)p->part->n_out, stride = dy_stride(p->part);
    for (int i = chunk * RM_BF16_ROWS; i < least((chunk + 1) * RM_BF16_ROWS, p->n_row); i++) {
        uint16_t *to = (uint16_t *)(void *)p->shared + (size_t)i * stride;
        p->e->kern->to_bf16(to, p->x + (size_t)i * p->ldx, n);
        memset(to + n, 0, (stride - n) * sizeof *to);
    }
}

/* Rows of weights in bf16 lie far apart, each in a page of its own: those of the next panel are fetched while this one is multiplied, some before each
 * slice of rows. */
enum { SLICE_ROWS = 96 /* whole tiles of every kind */ };
static void mul_panel(const gradient *p, float *sum, const uint16_t *dy, size_t stride, int n_row, const uint16_t *panel, int no, size_t n,
                      const uint8_t *next, int n_next) {
    int step = n_next ? SLICE_ROWS : n_row, done = 0;
    for (int i = 0, nr; i < n_row; i += nr) {
        nr = least(step, n_row - i);
        for (int end = (int)((int64_t)n_next * (i + nr) / n_row); done < end; done++)
            for (size_t b = 0; b < n * sizeof(uint16_t) + 63; b += 64) __builtin_prefetch(next + (size_t)done * p->part->row_bytes + b, 0, 2);
        p->e->kern->mul_pairs(sum + (size_t)i * RM_PANEL, RM_PANEL, dy + (size_t)i * stride, stride, nr, panel, (no + 1) / 2, n);
    }
}

static void panel_strip(void *ctx, int chunk, int thread) {
    const gradient *p = ctx;
    const rm_part *part = p->part;
    const rm_kern *k = p->e->kern;
    strip s = strip_of(p, chunk);
    size_t stride = dy_stride(part);
    uint16_t *panel = (uint16_t *)(void *)(p->local + (size_t)thread * p->local_bytes);
    float *sum = (float *)(void *)(panel + RM_PANEL * PANEL_OUTPUTS), *dx = p->y + (size_t)s.row * p->ldy + s.column;
    const uint16_t *dy = (const uint16_t *)(const void *)p->shared + (size_t)s.row * stride;
    begin_sums(p, sum, RM_PANEL, dx, &s);
    for (int o = 0; o < part->n_out; o += PANEL_OUTPUTS) {
        int no = least(PANEL_OUTPUTS, part->n_out - o), groups = (no + RM_GROUP - 1) / RM_GROUP, n_next = 0;
        const uint8_t *rows = part->data + (size_t)o * part->row_bytes + s.column * sizeof(uint16_t);
        if (part->kind == RM_PART_PACKED)
            k->q_pairs(panel, part->packed + (size_t)(o / RM_GROUP) * part->group_bytes, part->group_bytes, groups, part->form,
                       (int)(s.column / RM_QBLOCK), (int)(s.n_column / RM_QBLOCK));
        else {
            k->bf16_pairs(panel, rows, part->row_bytes, no, s.n_column);
            n_next = least(PANEL_OUTPUTS, part->n_out - o - no);
        }
        mul_panel(p, sum, dy + o, stride, s.n_row, panel, no, s.n_column, rows + PANEL_OUTPUTS * part->row_bytes, n_next);
    }
    copy_columns(dx, p->ldy, sum, RM_PANEL, s.n_row, s.n_column);
}

static bool run_part_t(gradient *p) {
    rm_exec *e = p->e;
    const rm_part *part = p->part;
    bool pairs = e->kern->mul_pairs && (part->kind == RM_PART_PACKED || part->kind == RM_PART_BF16);
    if (pairs) {
        if (!(p->shared = rm_exec_shared(e, (size_t)p->n_row * dy_stride(part) * sizeof(uint16_t)))) return false;
        rm_pool_run(e->pool, bf16_groups(p->n_row), round_dy, p);
        p->chunk = RM_PANEL;
        p->local_bytes = RM_PANEL * (PANEL_OUTPUTS * sizeof(uint16_t) + (size_t)p->n_row * sizeof(float));
    } else {
        p->chunk = part->kind == RM_PART_ROWS || (part->kind == RM_PART_PACKED && e->kern->q_columns) ? RM_PANEL : T_COLUMNS;
        p->local_bytes = (TILE_FLOATS + (sums_aside(p) ? RM_PANEL * (size_t)p->n_row : 0)) * sizeof(float);
    }
    if (!(p->local = rm_exec_local(e, p->local_bytes))) return false;
    share_strips(p);
    rm_pool_run(e->pool, p->whole + p->cut * p->pieces, pairs ? panel_strip : float_strip, p);
    return true;
}

rmas_status rm_matrix_mul_t(rm_exec *e, float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const rm_matrix *w, bool add,
                            rmas_error *err) {
    gradient p = {.e = e, .w = w, .y = dx, .x = dy, .ldy = lddx, .ldx = lddy, .n_row = n_row};
    if (n_row <= 0) return RMAS_OK;
    for (int i = 0; i < w->n_part; i++) {
        p.part = &w->part[i];
        p.add = add || i > 0;
        if (!run_part_t(&p)) return no_memory(w, n_row, err);
        p.x += p.part->n_out;
    }
    return RMAS_OK;
}
