/* The gradient of a product with respect to its input. A chunk is a strip of columns, and the outputs go by in order: a sum lies whole in one chunk. */
#include <string.h>

#include "tensor/matrix_impl.h"
#include "tensor/rows8.h"

static inline int least(int a, int b) { return a < b ? a : b; }

typedef struct {
    rm_exec *e;
    const rm_matrix *w;
    const rm_part *part;
    float *y; /* the gradient */
    const float *x; /* dy of the part */
    size_t ldy, ldx;
    int n_row, chunk; /* columns per chunk */
    bool add; /* to what y holds */
    const int *some; /* NULL: dy is given of all outputs of the part; or those that it is given of */
    int n_dy, base; /* outputs that dy is given of; the part's first output in the matrix, by which `some` counts */
    int n_unit; /* what strips are cut by: rows, or tiles of them */
    int whole, cut, pieces; /* strips of all rows; strips whose rows are cut into pieces, one for each of `pieces` threads */
    rm_rows8 rows8; /* dy in 8 bits */
    uint16_t *rows16; /* dy in bf16 */
    uint8_t *local; /* scratch */
    size_t local_bytes;
} gradient;

/* A chunk is a strip of columns, of all rows or of a piece of them; the outputs go by in order, so many of them at a time that their weights stay in the
 * first cache: TILE_FLOATS in strips of RM_PANEL columns, or of T_COLUMNS, whole blocks of every type, where blocks are dequantised; bf16 PANEL_OUTPUTS. */
enum { T_COLUMNS = 256, TILE_FLOATS = 8192, PANEL_OUTPUTS = 256, PIECE_ROWS = 8 /* at least: as long as unpacking takes */ };

typedef struct {
    int row, n_row; /* or tiles */
    size_t column, n_column;
} strip;

/* Strips are shared out evenly: every thread gets as many whole ones, in its range of chunks first, and a piece of each of those left over. */
static void share_strips(gradient *p, int n_unit) {
    const int strips = (p->w->n_in + p->chunk - 1) / p->chunk, threads = rm_pool_size(p->e->pool);
    p->n_unit = n_unit;
    p->pieces = p->n_row >= PIECE_ROWS * threads ? threads : 1;
    p->cut = strips % p->pieces;
    p->whole = strips - p->cut;
}

static strip strip_of(const gradient *p, int chunk) {
    const int whole = p->whole / p->pieces, each = whole + p->cut, piece = chunk / each, k = chunk % each;
    const size_t n_in = (size_t)p->w->n_in, c = (size_t)(k < whole ? piece * whole + k : p->whole + k - whole) * (size_t)p->chunk;
    strip s = {0, p->n_unit, c, n_in - c < (size_t)p->chunk ? n_in - c : (size_t)p->chunk};
    if (k >= whole) {
        s.row = (int)((int64_t)piece * p->n_unit / p->pieces);
        s.n_row = (int)((int64_t)(piece + 1) * p->n_unit / p->pieces) - s.row;
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

static bool expands_groups(const gradient *p) { return p->part->kind == RM_PART_PACKED && p->e->kern->q_columns; }

/* Columns of a strip of n packed groups from output o on: [RM_GROUP n][RM_PANEL]. */
static void expand_groups(const gradient *p, const strip *s, int o, int n, float *to) {
    p->e->kern->q_columns(to, p->part->packed + (size_t)(o / RM_GROUP) * p->part->group_bytes, p->part->group_bytes, n, p->part->form,
                          (int)(s->column / RM_QBLOCK), (int)(s->n_column / RM_QBLOCK));
}

/* Columns of a strip of the weights of n outputs from p->some[k] on, side by side. Behind them in the tile there is room for a group. */
static void gather_outputs(const gradient *p, const strip *s, int k, int n, float *tile) {
    const size_t ld = expands_groups(p) ? RM_PANEL : s->n_column;
    float *group = tile + (size_t)n * ld;
    for (int i = 0, expanded = -1; i < n; i++, tile += ld) {
        const int o = p->some[k + i] - p->base;
        if (!expands_groups(p)) {
            rm_part_columns(p->w, p->part, o, 1, s->column, s->n_column, tile);
            continue;
        }
        if (o / RM_GROUP != expanded) expand_groups(p, s, o, 1, group);
        expanded = o / RM_GROUP;
        memcpy(tile, group + (size_t)(o % RM_GROUP) * ld, s->n_column * sizeof *tile);
    }
}

static void float_strip(void *ctx, int chunk, int thread) {
    const gradient *p = ctx;
    const rm_part *part = p->part;
    strip s = strip_of(p, chunk);
    float *tile = (float *)(void *)(p->local + (size_t)thread * p->local_bytes);
    bool in_place =
        part->kind == RM_PART_ROWS && part->wtype == RM_W_F32 && (size_t)part->data % sizeof(float) == 0 && s.n_row < IN_PLACE_ROWS && !p->some;
    bool aside = sums_aside(p);
    float *dx = p->y + (size_t)s.row * p->ldy + s.column, *sum = aside ? tile + TILE_FLOATS : dx;
    size_t ldsum = aside ? RM_PANEL : p->ldy;
    begin_sums(p, sum, ldsum, dx, &s);
    const size_t ld = in_place ? (size_t)p->w->n_in : expands_groups(p) ? RM_PANEL : s.n_column;
    for (int o = 0, at_once = TILE_FLOATS / p->chunk - (p->some && expands_groups(p) ? RM_GROUP : 0); o < p->n_dy; o += at_once) {
        int no = least(at_once, p->n_dy - o);
        const float *rows = tile;
        if (in_place)
            rows = (const float *)(const void *)(part->data + (size_t)o * part->row_bytes) + s.column;
        else if (p->some)
            gather_outputs(p, &s, o, no, tile);
        else if (expands_groups(p))
            expand_groups(p, &s, o, (no + RM_GROUP - 1) / RM_GROUP, tile);
        else
            rm_part_columns(p->w, part, o, no, s.column, s.n_column, tile);
        p->e->kern->mul_columns(sum, ldsum, p->x + (size_t)s.row * p->ldx + o, p->ldx, s.n_row, rows, ld, no, s.n_column);
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
        uint16_t *to = p->rows16 + (size_t)i * stride;
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
    const uint16_t *dy = p->rows16 + (size_t)s.row * stride;
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

/* ---- 8 bits ------------------------------------------------------------------------------------------------------------------ */

/* Rows of prompts, where the table has the kernels. */
static bool in_8_bits(const gradient *p) { return !p->some && p->e->prompt && p->e->kern->q_turn && p->part->kind == RM_PART_PACKED; }

enum { TURNED_AT_ONCE = 32 /* blocks */ };

static size_t turned_bytes(const rm_kern *k) {
    return TURNED_AT_ONCE * (RM_EXPANDED_QUANTS + rm_form_expanded_scales(&rm_forms[k->turned]) * sizeof(float));
}

/* RM_GROUP columns; the rows of the strip are tiles. */
static void turned_strip(void *ctx, int chunk, int thread) {
    const gradient *p = ctx;
    const rm_part *part = p->part;
    const rm_kern *k = p->e->kern;
    const strip s = strip_of(p, chunk);
    const int n_block = p->rows8.n_block;
    uint8_t *q = p->local + (size_t)thread * p->local_bytes;
    float *scale = (float *)(void *)(q + TURNED_AT_ONCE * RM_EXPANDED_QUANTS);
    rm_qtile t = {.form = k->turned, .q = q, .s = scale, .ldy = p->ldy};
    for (int b = 0; b < n_block; b += TURNED_AT_ONCE) {
        t.n_block = least(TURNED_AT_ONCE, n_block - b);
        t.more = p->add || b > 0;
        k->q_turn(q, scale, part->packed + (size_t)b * part->group_bytes, part->group_bytes, t.n_block, part->form, (int)(s.column / RM_QBLOCK));
        for (int i = s.row; i < s.row + s.n_row; i++) {
            const int row = rm_rows8_first(&p->rows8, i);
            t.n_row = rm_rows8_first(&p->rows8, i + 1) - row, t.x = rm_rows8_at(&p->rows8, i, b), t.y = p->y + (size_t)row * p->ldy + s.column;
            k->q_tile(&t);
        }
    }
}

/* ---- all of it ----------------------------------------------------------------------------------------------------------------- */

static bool run_part(gradient *p) {
    rm_exec *e = p->e;
    const rm_part *part = p->part;
    rm_pool_fn run = float_strip;
    int n_unit = p->n_row;
    if (in_8_bits(p)) {
        if (!rm_rows8_make(&p->rows8, e, e->kern->q_quant_turned, p->x, p->ldx, p->n_row, part->n_out)) return false;
        p->chunk = RM_GROUP;
        p->local_bytes = turned_bytes(e->kern);
        n_unit = rm_rows8_tiles(&p->rows8);
        run = turned_strip;
    } else if (!p->some && e->kern->mul_pairs && (part->kind == RM_PART_PACKED || part->kind == RM_PART_BF16)) {
        if (!(p->rows16 = rm_exec_shared(e, (size_t)p->n_row * dy_stride(part) * sizeof(uint16_t)))) return false;
        rm_pool_run(e->pool, (p->n_row + RM_BF16_ROWS - 1) / RM_BF16_ROWS, round_dy, p);
        p->chunk = RM_PANEL;
        p->local_bytes = RM_PANEL * (PANEL_OUTPUTS * sizeof(uint16_t) + (size_t)p->n_row * sizeof(float));
        run = panel_strip;
    } else {
        p->chunk = part->kind == RM_PART_ROWS || (part->kind == RM_PART_PACKED && e->kern->q_columns) ? RM_PANEL : T_COLUMNS;
        p->local_bytes = (TILE_FLOATS + (sums_aside(p) ? RM_PANEL * (size_t)p->n_row : 0)) * sizeof(float);
    }
    if (!(p->local = rm_exec_local(e, p->local_bytes))) return false;
    share_strips(p, n_unit);
    rm_pool_run(e->pool, p->whole + p->cut * p->pieces, run, p);
    return true;
}

static rmas_status no_scratch(const gradient *p, rmas_error *err) {
    return rm_fail(err, RMAS_E_NOMEM, "out of memory: scratch for a gradient of %d rows of a matrix of %d x %d", p->n_row, p->w->n_out, p->w->n_in);
}

rmas_status rm_matrix_mul_t(rm_exec *e, float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const rm_matrix *w, bool add,
                            rmas_error *err) {
    gradient p = {.e = e, .w = w, .y = dx, .x = dy, .ldy = lddx, .ldx = lddy, .n_row = n_row};
    if (n_row <= 0) return RMAS_OK;
    for (int i = 0; i < w->n_part; i++) {
        p.part = &w->part[i];
        p.n_dy = p.part->n_out;
        p.add = add || i > 0;
        if (!run_part(&p)) return no_scratch(&p, err);
        p.x += p.n_dy;
    }
    return RMAS_OK;
}

bool rm_matrix_mul_t_some_pays(const rm_matrix *w) { return w->kern->q_columns && !w->kern->mul_pairs; }

rmas_status rm_matrix_mul_t_some(rm_exec *e, float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const rm_matrix *w, const int *out,
                                 int n_out, rmas_error *err) {
    gradient p = {.e = e, .w = w, .y = dx, .x = dy, .ldy = lddx, .ldx = lddy, .n_row = n_row, .some = out};
    if (n_row <= 0) return RMAS_OK;
    for (int i = 0, left = n_out; i < w->n_part; i++) {
        p.part = &w->part[i];
        p.add = i > 0;
        for (p.n_dy = 0; p.n_dy < left && p.some[p.n_dy] < p.base + p.part->n_out;) p.n_dy++;
        if (!run_part(&p)) return no_scratch(&p, err);
        p.x += p.n_dy, p.some += p.n_dy, left -= p.n_dy;
        p.base += p.part->n_out;
    }
    return RMAS_OK;
}
