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
    const float *q, *t, *lse, *in, *cs;
    float *d_in, *d_o, *scratch;
} job;

enum { ROWS = 16 }; /* query rows that share a block of keys */

/* Block of keys and values as floats, and the gradient of a group of rows: [ROWS * group] of dot(dO, O). */
size_t rm_attention_back_scratch(const rm_model *m) {
    return 2 * (size_t)RM_KV_BLOCK * (size_t)m->cfg.d_head + (size_t)ROWS * (size_t)(m->cfg.n_head / m->cfg.n_kv) + 16;
}

/* ---- the gate ---------------------------------------------------------------------------------------------------------- */

/* d_o becomes the gradient of the attention's output; the gate's own goes to d_in. */
static void gate_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, stride = (size_t)rm_config_q_stride(c);
    for (int row = from; row < to; row++)
        for (int h = 0; h < c->n_head; h++) {
            const float *att = j->t + (((size_t)(h / j->group) * (size_t)j->n_row + (size_t)row) * (size_t)j->group + (size_t)(h % j->group)) * d;
            size_t at = (size_t)row * (size_t)rm_config_qkv_dim(c) + (size_t)h * stride + d;
            float *g = j->d_o + (size_t)row * (size_t)rm_config_q_dim(c) + (size_t)h * d;
            for (size_t i = 0; i < d; i++) {
                float s = 1 / (1 + expf(-j->in[at + i]));
                j->d_in[at + i] = g[i] * att[i] * s * (1 - s);
                g[i] *= s;
            }
        }
}

/* ---- scores and weights ------------------------------------------------------------------------------------------------- */

/* Keys [d, RM_KV_BLOCK] and values [RM_KV_BLOCK, d] of a block as floats. */
static const float *load_block(const job *j, const rm_run *r, int block, int ih, float *buffer) {
    const rm_config *c = &j->m->cfg;
    size_t n = 2 * (size_t)RM_KV_BLOCK * (size_t)c->d_head;
    const char *p = r->tile[block] + j->off + rm_kv_layer_bytes(j->m) / (size_t)c->n_kv * (size_t)ih;
    if (!j->m->kv_half) return (const float *)(const void *)p;
    rm_dequant(RM_F16, p, buffer, n);
    return buffer;
}

/* Rows [r0, r1) of a run, one kv head. dq goes to the place of q in d_in, still rotated and normed. */
static void back_rows(const job *j, const rm_run *r, const rm_kv_grad *grad, int ih, int r0, int r1, float *scratch) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, kv = (size_t)rm_config_kv_dim(c), stride = (size_t)rm_config_q_stride(c);
    float *dot = scratch + 2 * (size_t)RM_KV_BLOCK * d;
    int p0 = r->pos + r0, p1 = r->pos + r1 - 1;
    for (int row = r0; row < r1; row++)
        for (int g = 0; g < j->group; g++) {
            size_t at = ((size_t)ih * (size_t)j->n_row + (size_t)(r->row + row)) * (size_t)j->group + (size_t)g;
            size_t h = (size_t)ih * (size_t)j->group + (size_t)g;
            dot[(row - r0) * j->group + g] =
                j->m->exec->kern->dot(j->t + at * d, j->d_o + (size_t)(r->row + row) * (size_t)rm_config_q_dim(c) + h * d, d);
            memset(j->d_in + (size_t)(r->row + row) * (size_t)rm_config_qkv_dim(c) + h * stride, 0, d * sizeof *j->d_in);
        }
    for (int bl = p0 >= j->window ? (p0 - j->window + 1) / RM_KV_BLOCK : 0; bl <= p1 / RM_KV_BLOCK; bl++) {
        int base = bl * RM_KV_BLOCK;
        const float *keys = load_block(j, r, bl, ih, scratch);
        ptrdiff_t slot0 = (ptrdiff_t)(base - grad->first) * (ptrdiff_t)(2 * kv) + (ptrdiff_t)((size_t)ih * d);
        rm_attn_back a = {.d = c->d_head, .scale = c->attn_scale, .k = keys, .v = keys + d * RM_KV_BLOCK, .ld = 2 * kv, .first = grad->first - base};
        a.dk = grad->d_kv + slot0; /* not looked at below `first` */
        a.dv = a.dk + kv;
        for (int row = r1 - 1; row >= r0; row--) {
            int p = r->pos + row - base;
            a.from = p >= j->window ? p - j->window + 1 : 0;
            a.to = p + 1 < RM_KV_BLOCK ? p + 1 : RM_KV_BLOCK;
            if (a.from >= a.to) continue;
            size_t x = (size_t)(r->row + row);
            for (int g = 0; g < j->group; g++) {
                size_t h = (size_t)ih * (size_t)j->group + (size_t)g, at = ((size_t)ih * (size_t)j->n_row + x) * (size_t)j->group + (size_t)g;
                a.q = j->q + at * d;
                a.g = j->d_o + x * (size_t)rm_config_q_dim(c) + h * d;
                a.lse = j->lse[at];
                a.dot = dot[(row - r0) * j->group + g];
                a.dq = j->d_in + x * (size_t)rm_config_qkv_dim(c) + h * stride;
                j->m->exec->kern->attn_back(&a);
            }
        }
    }
}

static void head_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    int ih = chunk % j->m->cfg.n_kv, k = chunk / j->m->cfg.n_kv;
    const rm_run *r = &j->run[k];
    for (int to = r->n; to > 0; to -= ROWS)
        back_rows(j, r, &j->grad[k], ih, to > ROWS ? to - ROWS : 0, to, j->scratch + (size_t)thread * j->scratch_each);
}

/* ---- back through rotation and head norms ----------------------------------------------------------------------------- */

static void unrotate(const job *j, float *dx, const float *x, const float *cs, const float *w, float *tmp) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head;
    rm_rope_back(dx, cs, j->rope->n_rot / 2, c->rope_adjacent);
    if (!w) return;
    memcpy(tmp, dx, d * sizeof *tmp);
    memset(dx, 0, d * sizeof *dx);
    rm_norm_row_back(dx, tmp, x, w, c->d_head, c->norm_eps);
}

typedef struct {
    const job *j;
    int run;
} run_ref;

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

void rm_attention_back(const rm_model *m, int il, float *d_in, float *d_o, const float *q, const float *t, const float *lse, const float *in,
                       const float *cs, const rm_run *run, const rm_kv_grad *kv_grad, int n_run, int n_row, size_t off, float *scratch) {
    const rm_config *c = &m->cfg;
    rm_layer_kind kind = c->layer[il];
    job j = {.m = m,
             .l = &m->layer[il],
             .rope = &c->rope[kind],
             .run = run,
             .grad = kv_grad,
             .n_row = n_row,
             .group = c->n_head / c->n_kv,
             .window = kind == RM_LAYER_SLIDING ? c->window : INT32_MAX,
             .off = off,
             .scratch_each = rm_attention_back_scratch(m),
             .q = q,
             .t = t,
             .lse = lse,
             .in = in,
             .cs = cs,
             .d_in = d_in,
             .d_o = d_o,
             .scratch = scratch};
    if (c->attn_gate) rm_rows_run(m->exec, n_row, 4, gate_rows, &j);
    rm_pool_run(m->exec->pool, n_run * c->n_kv, head_chunk, &j);
    for (int i = 0; i < n_run; i++) {
        run_ref ref = {&j, i};
        rm_rows_run(m->exec, run[i].n, 8, project_rows, &ref);
    }
}
