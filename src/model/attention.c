/* Softmax attention over a cache of key and value blocks: grouped heads, windows, norms on heads, output gate. */
#include <math.h>
#include <string.h>

#include "model/layer.h"

enum { QUERIES = 64, /* computed together against each block of keys */ MAX_D_HEAD = 4096 };

size_t rm_kv_layer_bytes(const rm_model *m) {
    return (size_t)m->cfg.n_kv * 2 * RM_KV_BLOCK * (size_t)m->cfg.d_head * (m->kv_half ? sizeof(uint16_t) : sizeof(float));
}

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_rope *rope;
    const rm_run *run;
    int n_run, n_row, group, window;
    size_t off;
    const float *in, *cs, *q;
    float *q_out, *t, *o, *lse;
} job;

static job job_make(const rm_model *m, int il, const rm_run *run, int n_run, int n_row, size_t off) {
    const rm_config *c = &m->cfg;
    bool slides = c->layer[il] == RM_LAYER_SLIDING;
    return (job){.m = m,
                 .l = &m->layer[il],
                 .rope = &c->rope[c->layer[il]],
                 .run = run,
                 .n_run = n_run,
                 .n_row = n_row,
                 .group = c->n_head / c->n_kv,
                 .window = slides ? c->window : INT32_MAX,
                 .off = off};
}

static const rm_run *run_of_row(const job *j, int row) {
    int lo = 0, hi = j->n_run - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (j->run[mid].row <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &j->run[lo];
}

static char *head_block(const job *j, const rm_run *r, int block, int ih) {
    return r->tile[block] + j->off + rm_kv_layer_bytes(j->m) / (size_t)j->m->cfg.n_kv * (size_t)ih;
}

/* Keys stand transposed: neighbours in memory are the same element of neighbouring positions. */
static void store(const job *j, char *block, int slot, const float *k, const float *v) {
    size_t d = (size_t)j->m->cfg.d_head;
    if (j->m->kv_half) {
        uint16_t *kt = (uint16_t *)block, tmp[MAX_D_HEAD];
        j->m->exec->kern->to_half(tmp, k, d);
        for (size_t i = 0; i < d; i++) kt[i * RM_KV_BLOCK + (size_t)slot] = tmp[i];
        j->m->exec->kern->to_half(kt + d * RM_KV_BLOCK + (size_t)slot * d, v, d);
    } else {
        float *kt = (float *)block;
        for (size_t i = 0; i < d; i++) kt[i * RM_KV_BLOCK + (size_t)slot] = k[i];
        memcpy(kt + d * RM_KV_BLOCK + (size_t)slot * d, v, d * sizeof *v);
    }
}

static void prepare_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    const rm_config *c = &j->m->cfg;
    const rm_kern *kern = j->m->exec->kern;
    size_t d = (size_t)c->d_head, ld = (size_t)rm_config_qkv_dim(c), stride = (size_t)rm_config_q_stride(c);
    int half = j->rope->n_rot / 2;
    for (int row = from; row < to; row++) {
        const float *x = j->in + (size_t)row * ld, *cs = j->cs + (size_t)row * (size_t)(2 * half);
        for (int h = 0; h < c->n_head; h++) {
            float *q = j->q_out + (((size_t)(h / j->group) * (size_t)j->n_row + (size_t)row) * (size_t)j->group + (size_t)(h % j->group)) * d;
            if (j->l->q_norm)
                kern->rms_norm(q, x + (size_t)h * stride, j->l->q_norm, d, c->norm_eps);
            else
                memcpy(q, x + (size_t)h * stride, d * sizeof *q);
            kern->rope(q, cs, half, c->rope_adjacent);
        }
        const rm_run *r = run_of_row(j, row);
        int pos = r->pos + row - r->row;
        const float *k = x + (size_t)c->n_head * stride, *v = k + (size_t)c->n_kv * d;
        for (int h = 0; h < c->n_kv; h++, k += d, v += d) {
            float t[MAX_D_HEAD];
            if (j->l->k_norm)
                kern->rms_norm(t, k, j->l->k_norm, d, c->norm_eps);
            else
                memcpy(t, k, d * sizeof *t);
            kern->rope(t, cs, half, c->rope_adjacent);
            store(j, head_block(j, r, pos / RM_KV_BLOCK, h), pos % RM_KV_BLOCK, t, v);
        }
    }
}

void rm_attention_prepare(const rm_model *m, int il, float *q, const float *in, const float *cs, const rm_run *run, int n_run, int n_row,
                          size_t off) {
    job j = job_make(m, il, run, n_run, n_row, off);
    j.q_out = q, j.in = in, j.cs = cs;
    rm_rows_run(m->exec, n_row, 4, prepare_rows, &j);
}

/* ---- forward ----------------------------------------------------------------------------------------------------------- */

static int tasks_of(const job *j, const rm_run *r) { return (r->n * j->group + QUERIES - 1) / QUERIES; }

/* Queries [first, first + n) of one run and kv head: query i belongs to position pos + i / group. */
static void attend(const job *j, const rm_run *r, int ih, int first, int n) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, at = (((size_t)ih * (size_t)j->n_row + (size_t)r->row) * (size_t)j->group + (size_t)first) * d;
    float max[QUERIES], sum[QUERIES];
    int from[QUERIES], to[QUERIES];
    for (int i = 0; i < n; i++) max[i] = -INFINITY, sum[i] = 0;
    memset(j->t + at, 0, (size_t)n * d * sizeof *j->t);
    int p0 = r->pos + first / j->group, p1 = r->pos + (first + n - 1) / j->group;
    for (int b = p0 >= j->window ? (p0 - j->window + 1) / RM_KV_BLOCK : 0; b <= p1 / RM_KV_BLOCK; b++) {
        for (int i = 0; i < n; i++) {
            int p = r->pos + (first + i) / j->group - b * RM_KV_BLOCK;
            from[i] = p >= j->window ? p - j->window + 1 : 0;
            to[i] = p + 1 < RM_KV_BLOCK ? p + 1 : RM_KV_BLOCK;
        }
        const char *block = head_block(j, r, b, ih);
        rm_attn a = {.d = c->d_head,
                     .n_q = n,
                     .scale = c->attn_scale,
                     .half = j->m->kv_half,
                     .k = block,
                     .q = j->q + at,
                     .ldq = d,
                     .from = from,
                     .to = to,
                     .o = j->t + at,
                     .ldo = d,
                     .m = max,
                     .l = sum};
        a.v = block + d * RM_KV_BLOCK * (j->m->kv_half ? sizeof(uint16_t) : sizeof(float));
        j->m->exec->kern->attn_block(&a);
    }
    j->m->exec->kern->attn_finish(j->t + at, d, sum, n, c->d_head);
    for (int i = 0; j->lse && i < n; i++) j->lse[at / d + (size_t)i] = max[i] + logf(sum[i]);
}

static void attend_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const job *j = ctx;
    int ih = chunk % j->m->cfg.n_kv, task = chunk / j->m->cfg.n_kv;
    const rm_run *r = j->run;
    for (int n; task >= (n = tasks_of(j, r)); r++) task -= n;
    int first = task * QUERIES, left = r->n * j->group - first;
    attend(j, r, ih, first, left < QUERIES ? left : QUERIES);
}

/* From [kv head][row][head of the group] to rows, through the gate. */
static void collect_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, stride = (size_t)rm_config_q_stride(c), span = (size_t)j->group * d;
    for (int row = from; row < to; row++)
        for (int g = 0; g < c->n_kv; g++) {
            const float *t = j->t + ((size_t)g * (size_t)j->n_row + (size_t)row) * span;
            float *o = j->o + (size_t)row * (size_t)rm_config_q_dim(c) + (size_t)g * span;
            if (!c->attn_gate) {
                memcpy(o, t, span * sizeof *o);
                continue;
            }
            const float *gate = j->in + (size_t)row * (size_t)rm_config_qkv_dim(c) + (size_t)g * (size_t)j->group * stride + d;
            for (int h = 0; h < j->group; h++) j->m->exec->kern->sigmoid_mul(o + (size_t)h * d, gate + (size_t)h * stride, t + (size_t)h * d, d);
        }
}

void rm_attention(const rm_model *m, int il, float *o, float *t, float *lse, const float *q, const float *in, const rm_run *run, int n_run, int n_row,
                  size_t off) {
    job j = job_make(m, il, run, n_run, n_row, off);
    j.o = o, j.t = t, j.lse = lse, j.q = q, j.in = in;
    int n = 0;
    for (int i = 0; i < n_run; i++) n += tasks_of(&j, &run[i]);
    rm_pool_run(m->exec->pool, n * m->cfg.n_kv, attend_chunk, &j);
    rm_rows_run(m->exec, n_row, 8, collect_rows, &j);
}
