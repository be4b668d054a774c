/* Softmax attention over a cache of key and value blocks: grouped heads, windows, norms on heads, output gate. */
#include <math.h>
#include <string.h>

#include "model/layer.h"
#include "tensor/profile.h"

enum {
    QUERIES = 128, /* computed together against each block of keys */
    SEGMENT = 8, /* blocks whose keys are summed on their own; sums of segments are merged in their order */
    MAX_D_HEAD = 4096,
    MAX_PARTS = 1 << 23 /* floats of sums of segments that may wait for their merging */
};

size_t rm_kv_layer_bytes(const rm_model *m) {
    return (size_t)m->cfg.n_kv * 2 * RM_KV_BLOCK * (size_t)m->cfg.d_head * (m->kv_half ? sizeof(uint16_t) : sizeof(float));
}

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_rope *rope;
    const rm_run *run;
    int n_run, n_row, group, window, n_segment;
    size_t off;
    const float *in, *cs, *q;
    float *q_out, *t, *o, *lse, *scratch, *parts;
} job;

static job job_make(const rm_model *m, int il, const rm_run *run, int n_run, int n_row, size_t off) {
    const rm_config *c = &m->cfg;
    bool slides = c->layer[il] == RM_LAYER_SLIDING;
    return (job){.m = m,
                 .l = &m->layer[il],
                 .rope = rm_config_rope(c, il),
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

/* Queries [first, first + n) of one run and kv head: query i belongs to position pos + i / group. They see keys of blocks [b0, b1). */
typedef struct {
    const rm_run *run;
    int ih, first, n, b0, b1;
    size_t at; /* where q and t of the first query stand */
} task;

static task task_at(const job *j, int i) {
    task k = {.run = j->run, .ih = i % j->m->cfg.n_kv};
    i /= j->m->cfg.n_kv;
    for (int n; i >= (n = tasks_of(j, k.run)); k.run++) i -= n;
    const rm_run *r = k.run;
    k.first = i * QUERIES;
    k.n = r->n * j->group - k.first < QUERIES ? r->n * j->group - k.first : QUERIES;
    k.at = (((size_t)k.ih * (size_t)j->n_row + (size_t)r->row) * (size_t)j->group + (size_t)k.first) * (size_t)j->m->cfg.d_head;
    int p0 = r->pos + k.first / j->group;
    k.b0 = p0 >= j->window ? (p0 - j->window + 1) / RM_KV_BLOCK : 0;
    k.b1 = (r->pos + (k.first + k.n - 1) / j->group) / RM_KV_BLOCK + 1;
    return k;
}

/* Sums of weighted values, largest score and sum of weights of some queries. */
typedef struct {
    float *o, *max, *sum;
} part;

static part part_at(float *p, size_t d) { return (part){p, p + QUERIES * d, p + QUERIES * (d + 1)}; }
static size_t part_floats(size_t d) { return QUERIES * (d + 2); }
/* Of the kernel, for each thread; before the parts. */
static size_t kernel_floats(size_t d) { return RM_KV_BLOCK * (2 * d + QUERIES); }

/* The keys of one segment. */
static void attend(const job *j, const task *k, int segment, part p, int thread) {
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head;
    int from[QUERIES], to[QUERIES], b0 = segment * SEGMENT, b1 = b0 + SEGMENT;
    if (b0 < k->b0) b0 = k->b0;
    if (b1 > k->b1) b1 = k->b1;
    for (int i = 0; i < k->n; i++) p.max[i] = -INFINITY, p.sum[i] = 0;
    memset(p.o, 0, (size_t)k->n * d * sizeof *p.o);
    for (int b = b0; b < b1; b++) {
        for (int i = 0; i < k->n; i++) {
            int pos = k->run->pos + (k->first + i) / j->group - b * RM_KV_BLOCK;
            from[i] = pos >= j->window ? pos - j->window + 1 : 0;
            to[i] = pos + 1 < RM_KV_BLOCK ? pos + 1 : RM_KV_BLOCK;
        }
        const char *block = head_block(j, k->run, b, k->ih);
        rm_attn a = {.d = c->d_head, .n_q = k->n, .scale = c->attn_scale, .half = j->m->kv_half, .k = block};
        a.next = b + 1 < b1 ? head_block(j, k->run, b + 1, k->ih) : k->ih + 1 < c->n_kv ? head_block(j, k->run, b0, k->ih + 1) : block;
        a.v = block + d * RM_KV_BLOCK * (j->m->kv_half ? sizeof(uint16_t) : sizeof(float));
        a.q = j->q + k->at, a.ldq = d, a.from = from, a.to = to;
        a.o = p.o, a.ldo = d, a.m = p.max, a.l = p.sum, a.scratch = j->scratch + (size_t)thread * kernel_floats(d);
        a.prompt = j->m->exec->prompt;
        j->m->exec->kern->attn_block(&a);
    }
}

/* Adds a later segment. Queries that see none of its keys have a sum of 0, all others at least 1. */
static void merge(const job *j, const task *k, part to, part from) {
    size_t d = (size_t)j->m->cfg.d_head;
    for (int i = 0; i < k->n; i++) {
        float *o = to.o + (size_t)i * d, *add = from.o + (size_t)i * d;
        if (from.sum[i] == 0) continue;
        if (to.sum[i] == 0) {
            memcpy(o, add, d * sizeof *o);
            to.max[i] = from.max[i], to.sum[i] = from.sum[i];
            continue;
        }
        float max = fmaxf(to.max[i], from.max[i]), a = expf(to.max[i] - max), b = expf(from.max[i] - max);
        j->m->exec->kern->scale(o, o, a, d);
        j->m->exec->kern->axpy(o, b, add, d);
        to.sum[i] = to.sum[i] * a + from.sum[i] * b;
        to.max[i] = max;
    }
}

static void finish(const job *j, const task *k, part p) {
    size_t d = (size_t)j->m->cfg.d_head;
    j->m->exec->kern->attn_finish(p.o, d, p.sum, k->n, j->m->cfg.d_head);
    for (int i = 0; j->lse && i < k->n; i++) j->lse[k->at / d + (size_t)i] = p.max[i] + logf(p.sum[i]);
}

/* A task from its first segment to its last. */
static void task_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    size_t d = (size_t)j->m->cfg.d_head;
    task k = task_at(j, chunk);
    float max[QUERIES], sum[QUERIES];
    part to = {j->t + k.at, max, sum}, other = part_at(j->parts + (size_t)thread * part_floats(d), d);
    int first = k.b0 / SEGMENT;
    attend(j, &k, first, to, thread);
    for (int s = first + 1; s * SEGMENT < k.b1; s++) {
        attend(j, &k, s, other, thread);
        merge(j, &k, to, other);
    }
    finish(j, &k, to);
}

/* The same in two steps, where there are fewer tasks than threads could use: all segments, then the merging of each task. */
static void segment_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    size_t d = (size_t)j->m->cfg.d_head;
    task k = task_at(j, chunk / j->n_segment);
    int s = chunk % j->n_segment;
    if (s >= k.b0 / SEGMENT && s * SEGMENT < k.b1) attend(j, &k, s, part_at(j->parts + (size_t)chunk * part_floats(d), d), thread);
}

static void merge_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const job *j = ctx;
    size_t d = (size_t)j->m->cfg.d_head;
    task k = task_at(j, chunk);
    float max[QUERIES], sum[QUERIES] = {0};
    part to = {j->t + k.at, max, sum};
    for (int s = k.b0 / SEGMENT; s * SEGMENT < k.b1; s++)
        merge(j, &k, to, part_at(j->parts + ((size_t)chunk * (size_t)j->n_segment + (size_t)s) * part_floats(d), d));
    finish(j, &k, to);
}

/* How many tasks there are, and in how many segments their keys lie; 1: tasks are not to be cut. */
static int count_tasks(const rm_model *m, const rm_run *run, int n_run, int *n_segment) {
    int n = 0, last = 0, group = m->cfg.n_head / m->cfg.n_kv;
    for (int i = 0; i < n_run; i++) {
        n += (run[i].n * group + QUERIES - 1) / QUERIES * m->cfg.n_kv;
        if (run[i].pos + run[i].n > last) last = run[i].pos + run[i].n;
    }
    *n_segment = (last + SEGMENT * RM_KV_BLOCK - 1) / (SEGMENT * RM_KV_BLOCK);
    if (n >= 2 * rm_pool_size(m->exec->pool) || (size_t)n * (size_t)*n_segment * part_floats((size_t)m->cfg.d_head) > MAX_PARTS) *n_segment = 1;
    return n;
}

size_t rm_attention_scratch(const rm_model *m, const rm_run *run, int n_run) {
    int n_segment, n = count_tasks(m, run, n_run, &n_segment), n_part = n_segment > 1 ? n * n_segment : 0;
    if (n_part < rm_pool_size(m->exec->pool)) n_part = rm_pool_size(m->exec->pool);
    return (size_t)n_part * part_floats((size_t)m->cfg.d_head) + (size_t)rm_pool_size(m->exec->pool) * kernel_floats((size_t)m->cfg.d_head);
}

/* For a profile: keys and values are read once per run, and two multiply-adds are made with each per query. */
static void count_work(const job *j) {
    const rm_config *c = &j->m->cfg;
    double keys = 0, read = 0;
    for (int i = 0; i < j->n_run; i++)
        for (int k = 0; k < j->run[i].n; k++) {
            int seen = j->run[i].pos + k + 1;
            if (j->window && seen > j->window) seen = j->window;
            keys += seen;
            if (k == j->run[i].n - 1) read += seen;
        }
    rm_time_work(j->m->exec, RM_OPS_F32, read * (double)rm_kv_layer_bytes(j->m) / RM_KV_BLOCK, 4.0 * keys * c->n_head * c->d_head);
}

/* From [kv head][row][head of the group] to rows; what a tape wants of them is kept. */
static void collect_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    const rm_config *c = &j->m->cfg;
    size_t group = (size_t)j->group, span = group * (size_t)c->d_head, q = (size_t)rm_config_q_dim(c), n_head = (size_t)c->n_head;
    for (int row = from; row < to; row++) {
        float *o = j->o + (size_t)row * q;
        const rm_run *r = run_of_row(j, row);
        float *keep = r->attention ? r->attention + (size_t)(row - r->row) * rm_attention_kept(c) : NULL;
        for (size_t g = 0; g < (size_t)c->n_kv; g++) {
            size_t at = g * (size_t)j->n_row + (size_t)row;
            memcpy(o + g * span, j->t + at * span, span * sizeof *o);
            if (keep) memcpy(keep + q + g * group, j->lse + at * group, group * sizeof *o);
            if (keep) memcpy(keep + q + n_head + g * span, j->q + at * span, span * sizeof *o);
        }
        if (keep) memcpy(keep, o, q * sizeof *o);
    }
}

static void gate_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    const rm_config *c = &j->m->cfg;
    size_t d = (size_t)c->d_head, stride = (size_t)rm_config_q_stride(c);
    for (int row = from; row < to; row++) {
        const float *gate = j->in + (size_t)row * (size_t)rm_config_qkv_dim(c) + d;
        float *o = j->o + (size_t)row * (size_t)rm_config_q_dim(c);
        for (int h = 0; h < c->n_head; h++, o += d, gate += stride) j->m->exec->kern->sigmoid_mul(o, gate, o, d);
    }
}

void rm_attention(const rm_model *m, int il, float *o, float *t, float *lse, const float *q, const float *in, const rm_run *run, int n_run, int n_row,
                  size_t off, float *scratch) {
    job j = job_make(m, il, run, n_run, n_row, off);
    j.o = o, j.t = t, j.lse = lse, j.q = q, j.in = in, j.scratch = scratch;
    j.parts = scratch + (size_t)rm_pool_size(m->exec->pool) * kernel_floats((size_t)m->cfg.d_head);
    int n = count_tasks(m, run, n_run, &j.n_segment);
    if (m->exec->profile) count_work(&j);
    if (j.n_segment > 1) {
        rm_pool_run(m->exec->pool, n * j.n_segment, segment_chunk, &j);
        rm_pool_run(m->exec->pool, n, merge_chunk, &j);
    } else
        rm_pool_run(m->exec->pool, n, task_chunk, &j);
    rm_rows_run(m->exec, n_row, 8, collect_rows, &j);
    if (m->cfg.attn_gate) rm_rows_run(m->exec, n_row, 8, gate_rows, &j);
}
