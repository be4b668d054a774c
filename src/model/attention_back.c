/* Attention backward. Queries are taken from the last to the first, so that a key's gradient is summed in the same order however
 * the positions are cut into calls. */
#include <math.h>
#include <string.h>

#include "model/layer.h"

/* Keys are shared out to threads by block, block b to part b % PARTS, whose sums of the gradients of queries are added in the end. */
enum { QUERIES = 128 /* that go together against each block of keys, or those of one row where these are more */, PARTS = 4 };

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_rope *rope;
    const rm_run *run;
    const rm_kv_grad *grad;
    int n_row, group, window;
    size_t off, scratch_each;
    const float *in, *cs;
    float *d_in, *d_o, *scratch;
    /* by kv head, the rows of each run from the last to the first: queries and their output's gradients [n_kv, n_row, group, d_head], lse and dot
     * [n_kv, n_row, group], gradients of queries [PARTS] like them */
    float *qs, *gs, *lse, *dot, *dq;
} job;

static int rows_together(const rm_config *c) { return c->n_kv * QUERIES > c->n_head ? c->n_kv * QUERIES / c->n_head : 1; }

/* The kernel's, from and to. */
static size_t thread_floats(const rm_config *c) {
    size_t d = (size_t)c->d_head, n = (size_t)rows_together(c) * (size_t)(c->n_head / c->n_kv);
    return RM_KV_BLOCK * (3 * d + 2 * n) + (2 * n + 15) / 16 * 16;
}

size_t rm_attention_back_scratch(const rm_model *m, int n_row) {
    size_t row = (size_t)rm_config_q_dim(&m->cfg) * (2 + PARTS) + (size_t)m->cfg.n_head * 2;
    return (size_t)n_row * row + 16 * (4 + PARTS) + (size_t)rm_pool_size(m->exec->pool) * thread_floats(&m->cfg);
}

typedef struct {
    const job *j;
    int run;
} run_ref;

/* Where a row stands among those of a kv head. */
static size_t row_at(const job *j, const rm_run *r, int ih, int row) {
    return ((size_t)ih * (size_t)j->n_row + (size_t)(r->row + r->n - 1 - row)) * (size_t)j->group;
}

/* ---- the gate ---------------------------------------------------------------------------------------------------------- */

/* d_o becomes the gradient of the attention's output; the gate's own goes to d_in. */
static void gate_rows(void *ctx, int from, int to) {
    const run_ref *ref = ctx;
    const job *j = ref->j;
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, stride = (size_t)rm_config_q_stride(c);
    for (int i = from; i < to; i++)
        for (int h = 0; h < c->n_head; h++) {
            const float *att = j->grad[ref->run].kept + (size_t)i * rm_attention_kept(c) + (size_t)h * d;
            size_t row = (size_t)(j->run[ref->run].row + i), at = row * (size_t)rm_config_qkv_dim(c) + (size_t)h * stride + d;
            float *g = j->d_o + row * (size_t)rm_config_q_dim(c) + (size_t)h * d;
            for (size_t k = 0; k < d; k++) {
                float s = 1 / (1 + expf(-j->in[at + k]));
                j->d_in[at + k] = g[k] * att[k] * s * (1 - s);
                g[k] *= s;
            }
        }
}

/* ---- scores and weights ------------------------------------------------------------------------------------------------- */

static void gather_rows(void *ctx, int from, int to) {
    const run_ref *ref = ctx;
    const job *j = ref->j;
    const rm_config *c = &j->m->cfg;
    const rm_run *r = &j->run[ref->run];
    const size_t d = (size_t)c->d_head, group = (size_t)j->group, span = group * d, q_dim = (size_t)rm_config_q_dim(c);
    for (int row = from; row < to; row++) {
        const size_t x = (size_t)(r->row + row);
        const float *o = j->grad[ref->run].kept + (size_t)row * rm_attention_kept(c), *sums = o + q_dim, *kept_q = sums + c->n_head;
        for (int ih = 0; ih < c->n_kv; ih++) {
            const size_t at = row_at(j, r, ih, row), first = (size_t)ih * group;
            const float *g = j->d_o + x * q_dim + first * d;
            memcpy(j->qs + at * d, kept_q + first * d, span * sizeof *g);
            memcpy(j->gs + at * d, g, span * sizeof *g);
            for (size_t h = 0; h < group; h++) {
                j->lse[at + h] = sums[first + h];
                j->dot[at + h] = j->m->exec->kern->dot(o + (first + h) * d, g + h * d, d);
            }
        }
    }
}

/* Rows [r0, r1) of a run and kv head with the blocks of keys of one part. */
static void back_rows(const job *j, const rm_run *r, const rm_kv_grad *grad, int ih, int r0, int r1, int part, float *scratch) {
    const rm_config *c = &j->m->cfg;
    const int n = (r1 - r0) * j->group, p0 = r->pos + r0, p1 = r->pos + r1 - 1, first = p0 >= j->window ? (p0 - j->window + 1) / RM_KV_BLOCK : 0;
    const size_t d = (size_t)c->d_head, kv = (size_t)rm_config_kv_dim(c), at = row_at(j, r, ih, r1 - 1);
    int *from = (int *)(void *)scratch, *to = from + n;
    rm_attn_back a = {.d = c->d_head, .n_q = n, .half = j->m->kv_half, .scale = c->attn_scale, .from = from, .to = to};
    a.q = j->qs + at * d, a.g = j->gs + at * d, a.lse = j->lse + at, a.dot = j->dot + at, a.ld = 2 * kv;
    a.dq = j->dq + ((size_t)part * (size_t)c->n_head * (size_t)j->n_row + at) * d;
    a.scratch = scratch + (2 * n + 15) / 16 * 16;
    memset(a.dq, 0, (size_t)n * d * sizeof *a.dq);
    for (int bl = first + (part - first % PARTS + PARTS) % PARTS; bl <= p1 / RM_KV_BLOCK; bl += PARTS) {
        int base = bl * RM_KV_BLOCK;
        const char *block = r->tile[bl] + j->off + rm_kv_layer_bytes(j->m) / (size_t)c->n_kv * (size_t)ih;
        a.k = block;
        a.v = block + RM_KV_BLOCK * d * (a.half ? sizeof(uint16_t) : sizeof(float));
        a.first = grad->first - base;
        a.dk = grad->d_kv + (ptrdiff_t)(base - grad->first) * (ptrdiff_t)(2 * kv) + (ptrdiff_t)((size_t)ih * d); /* not looked at below `first` */
        a.dv = a.dk + kv;
        for (int i = 0; i < n; i++) {
            int p = p1 - i / j->group - base;
            from[i] = p >= j->window ? p - j->window + 1 : 0;
            to[i] = p + 1 < RM_KV_BLOCK ? p + 1 : RM_KV_BLOCK;
        }
        j->m->exec->kern->attn_back(&a);
    }
}

static void part_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    const int part = chunk % PARTS, ih = chunk / PARTS % j->m->cfg.n_kv, k = chunk / PARTS / j->m->cfg.n_kv, rows = rows_together(&j->m->cfg);
    const rm_run *r = &j->run[k];
    for (int to = r->n; to > 0; to -= rows)
        back_rows(j, r, &j->grad[k], ih, to > rows ? to - rows : 0, to, part, j->scratch + (size_t)thread * j->scratch_each);
}

/* ---- back through rotation and head norms ----------------------------------------------------------------------------- */

static void unrotate(const job *j, float *dx, const float *x, const float *cs, const float *w, float *tmp) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head;
    rm_rope_back(dx, cs, j->rope->n_rot / 2, c->rope_adjacent);
    if (!w) return;
    memcpy(tmp, dx, d * sizeof *tmp);
    memset(dx, 0, d * sizeof *dx);
    j->m->exec->kern->rms_norm_back(dx, tmp, x, w, d, c->norm_eps);
}

/* The gradient of query `at`. */
static void sum_parts(const job *j, float *dq, size_t at) {
    const size_t d = (size_t)j->m->cfg.d_head, each = (size_t)j->m->cfg.n_head * (size_t)j->n_row * d;
    const float *p = j->dq + at * d;
    j->m->exec->kern->add(dq, p, p + each, d);
    for (int i = 2; i < PARTS; i++) j->m->exec->kern->add(dq, dq, p + (size_t)i * each, d);
}

static void project_rows(void *ctx, int from, int to) {
    const run_ref *ref = ctx;
    const job *j = ref->j;
    const rm_run *r = &j->run[ref->run];
    const rm_kv_grad *grad = &j->grad[ref->run];
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, kv = (size_t)rm_config_kv_dim(c), stride = (size_t)rm_config_q_stride(c);
    float tmp[4096];
    for (int i = from; i < to; i++) {
        size_t at = (size_t)(r->row + i) * (size_t)rm_config_qkv_dim(c);
        const float *cs = j->cs + (size_t)(r->row + i) * (size_t)j->rope->n_rot;
        const float *dkv = grad->d_kv + (size_t)(r->pos + i - grad->first) * 2 * kv;
        for (int h = 0; h < c->n_head; h++) {
            float *dq = j->d_in + at + (size_t)h * stride;
            sum_parts(j, dq, row_at(j, r, h / j->group, i) + (size_t)(h % j->group));
            unrotate(j, dq, j->in + at + (size_t)h * stride, cs, j->l->q_norm, tmp);
        }
        at += (size_t)c->n_head * stride;
        memcpy(j->d_in + at, dkv, 2 * kv * sizeof *dkv);
        for (int h = 0; h < c->n_kv; h++) unrotate(j, j->d_in + at + (size_t)h * d, j->in + at + (size_t)h * d, cs, j->l->k_norm, tmp);
    }
}

void rm_attention_back(const rm_model *m, int il, float *d_in, float *d_o, const float *in, const float *cs, const rm_run *run,
                       const rm_kv_grad *kv_grad, int n_run, int n_row, size_t off, float *scratch) {
    const rm_config *c = &m->cfg;
    rm_layer_kind kind = c->layer[il];
    job j = {.m = m,
             .l = &m->layer[il],
             .rope = rm_config_rope(c, il),
             .run = run,
             .grad = kv_grad,
             .n_row = n_row,
             .group = c->n_head / c->n_kv,
             .window = kind == RM_LAYER_SLIDING ? c->window : INT32_MAX,
             .off = off,
             .scratch_each = thread_floats(c),
             .in = in,
             .cs = cs,
             .d_in = d_in,
             .d_o = d_o};
    const size_t q_floats = (size_t)n_row * (size_t)rm_config_q_dim(c), heads = ((size_t)n_row * (size_t)c->n_head + 15) / 16 * 16;
    const size_t cells = (q_floats + 15) / 16 * 16;
    j.qs = scratch, j.gs = j.qs + cells, j.lse = j.gs + cells, j.dot = j.lse + heads, j.dq = j.dot + heads;
    j.scratch = j.dq + (q_floats * PARTS + 15) / 16 * 16;
    for (int i = 0; c->attn_gate && i < n_run; i++) {
        run_ref ref = {&j, i};
        rm_rows_run(m->exec, run[i].n, 4, gate_rows, &ref);
    }
    for (int i = 0; i < n_run; i++) rm_rows_run(m->exec, run[i].n, 8, gather_rows, &(run_ref){&j, i});
    rm_pool_run(m->exec->pool, n_run * c->n_kv * PARTS, part_chunk, &j);
    for (int i = 0; i < n_run; i++) {
        run_ref ref = {&j, i};
        rm_rows_run(m->exec, run[i].n, 8, project_rows, &ref);
    }
}
