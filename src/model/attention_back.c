/* Attention backward. Queries are taken from the last to the first, so that a key's gradient is summed in the same order however
 * the positions are cut into calls. */
#include <math.h>
#include <string.h>

#include "model/layer.h"

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_rope *rope;
    const rm_run *run;
    const rm_kv_grad *grad;
    int n_row, group, window;
    size_t off, scratch_each;
    const float *q, *in, *cs;
    float *d_in, *d_o, *scratch;
} job;

enum { QUERIES = 128 }; /* that go together against each block of keys, or those of one row where these are more */

static int rows_together(const rm_config *c) { return c->n_kv * QUERIES > c->n_head ? c->n_kv * QUERIES / c->n_head : 1; }

/* Queries, their output's gradients and their own gradients; lse and dot, from and to; the kernel's. */
size_t rm_attention_back_scratch(const rm_model *m) {
    size_t d = (size_t)m->cfg.d_head, n = (size_t)rows_together(&m->cfg) * (size_t)(m->cfg.n_head / m->cfg.n_kv);
    return n * (3 * d + 4) + RM_KV_BLOCK * (3 * d + 2 * n) + 16;
}

typedef struct {
    const job *j;
    int run;
} run_ref;

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

/* What the kernel sees of rows [r0, r1) of a run and one kv head: from the last row to the first, and each row's heads. */
static void gather(const job *j, const rm_run *r, const rm_kv_grad *grad, int ih, int r0, int r1, float *q, float *g, float *lse, float *dot) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, group = (size_t)j->group, first = (size_t)ih * group, span = group * d, q_dim = (size_t)rm_config_q_dim(c);
    for (int row = r1 - 1; row >= r0; row--, q += span, g += span) {
        size_t x = (size_t)(r->row + row);
        const float *o = grad->kept + (size_t)row * rm_attention_kept(c), *sums = o + q_dim, *kept_q = sums + c->n_head + first * d;
        memcpy(q, rm_attention_keeps_q(c) ? kept_q : j->q + ((size_t)ih * (size_t)j->n_row + x) * span, span * sizeof *q);
        memcpy(g, j->d_o + x * q_dim + first * d, span * sizeof *g);
        for (size_t h = 0; h < group; h++) {
            *lse++ = sums[first + h];
            *dot++ = j->m->exec->kern->dot(o + (first + h) * d, g + h * d, d);
        }
    }
}

/* dq goes to the place of q in d_in, still rotated and normed. */
static void scatter(const job *j, const rm_run *r, int ih, int r0, int r1, const float *dq) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, stride = (size_t)rm_config_q_stride(c);
    for (int row = r1 - 1; row >= r0; row--)
        for (int h = ih * j->group; h < (ih + 1) * j->group; h++, dq += d)
            memcpy(j->d_in + (size_t)(r->row + row) * (size_t)rm_config_qkv_dim(c) + (size_t)h * stride, dq, d * sizeof *dq);
}

static void back_rows(const job *j, const rm_run *r, const rm_kv_grad *grad, int ih, int r0, int r1, float *scratch) {
    const rm_config *c = &j->m->cfg;
    int n = (r1 - r0) * j->group, p0 = r->pos + r0, p1 = r->pos + r1 - 1;
    size_t d = (size_t)c->d_head, kv = (size_t)rm_config_kv_dim(c), cells = (size_t)n * d;
    float *q = scratch, *g = q + cells, *dq = g + cells, *lse = dq + cells, *dot = lse + n;
    int *from = (int *)(void *)(dot + n), *to = from + n;
    gather(j, r, grad, ih, r0, r1, q, g, lse, dot);
    memset(dq, 0, cells * sizeof *dq);
    rm_attn_back a = {.d = c->d_head, .n_q = n, .half = j->m->kv_half, .scale = c->attn_scale, .from = from, .to = to};
    a.q = q, a.g = g, a.lse = lse, a.dot = dot, a.dq = dq, a.ld = 2 * kv, a.scratch = (float *)(void *)(to + n);
    for (int bl = p0 >= j->window ? (p0 - j->window + 1) / RM_KV_BLOCK : 0; bl <= p1 / RM_KV_BLOCK; bl++) {
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
    scatter(j, r, ih, r0, r1, dq);
}

static void head_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    int ih = chunk % j->m->cfg.n_kv, k = chunk / j->m->cfg.n_kv, rows = rows_together(&j->m->cfg);
    const rm_run *r = &j->run[k];
    for (int to = r->n; to > 0; to -= rows)
        back_rows(j, r, &j->grad[k], ih, to > rows ? to - rows : 0, to, j->scratch + (size_t)thread * j->scratch_each);
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
        for (int h = 0; h < c->n_head; h++) unrotate(j, j->d_in + at + (size_t)h * stride, j->in + at + (size_t)h * stride, cs, j->l->q_norm, tmp);
        at += (size_t)c->n_head * stride;
        memcpy(j->d_in + at, dkv, 2 * kv * sizeof *dkv);
        for (int h = 0; h < c->n_kv; h++) unrotate(j, j->d_in + at + (size_t)h * d, j->in + at + (size_t)h * d, cs, j->l->k_norm, tmp);
    }
}

void rm_attention_back(const rm_model *m, int il, float *d_in, float *d_o, const float *q, const float *in, const float *cs, const rm_run *run,
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
             .scratch_each = rm_attention_back_scratch(m),
             .q = q,
             .in = in,
             .cs = cs,
             .d_in = d_in,
             .d_o = d_o,
             .scratch = scratch};
    for (int i = 0; c->attn_gate && i < n_run; i++) {
        run_ref ref = {&j, i};
        rm_rows_run(m->exec, run[i].n, 4, gate_rows, &ref);
    }
    rm_pool_run(m->exec->pool, n_run * c->n_kv, head_chunk, &j);
    for (int i = 0; i < n_run; i++) {
        run_ref ref = {&j, i};
        rm_rows_run(m->exec, run[i].n, 8, project_rows, &ref);
    }
}
