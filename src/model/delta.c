/* The gated delta rule: short causal convolution, normalised queries and keys, a recurrent state per value head, gated norm. */
#include <math.h>
#include <string.h>

#include "model/layer.h"
#include "tensor/profile.h"

enum { CHANNELS = 256, MAX_TAP = 64 };

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_delta_plan *d;
    const rm_run *run;
    float *o, *rest, *conv, *gate;
    const float *in;
    int n_conv, n_in, n_block;
} job;

/* Channels [c0, c0 + n) of all positions of a run; then the last rows become the state. */
static void convolve(const job *j, const rm_run *r, int c0, int n) {
    const rm_kern *k = j->m->exec->kern;
    int n_tap = j->d->n_tap;
    size_t ld = (size_t)j->n_in, ldc = (size_t)j->n_conv;
    const float *w = j->l->conv + (size_t)c0 * (size_t)n_tap, *x[MAX_TAP];
    for (int t = 0; t < r->n; t++) {
        float *y = j->conv + (size_t)(r->row + t) * ldc + c0;
        for (int i = 0; i < n_tap; i++) {
            int back = t + i - (n_tap - 1);
            x[i] = back >= 0 ? j->in + (size_t)(r->row + back) * ld + c0 : r->conv + (size_t)(n_tap - 1 + back) * ldc + c0;
        }
        if (n_tap == 4) {
            k->conv4_silu(y, x, w, (size_t)n);
            continue;
        }
        for (int c = 0; c < n; c++) {
            y[c] = 0;
            for (int i = 0; i < n_tap; i++) y[c] += w[(size_t)c * (size_t)n_tap + (size_t)i] * x[i][c];
        }
        k->silu(y, y, (size_t)n);
    }
    for (int i = 0; i < n_tap - 1; i++) { /* ascending: a row moves to a place that has been read */
        int from = r->n - (n_tap - 1) + i;
        const float *row = from >= 0 ? j->in + (size_t)(r->row + from) * ld + c0 : r->conv + (size_t)(i + r->n) * ldc + c0;
        memmove(r->conv + (size_t)i * ldc + c0, row, (size_t)n * sizeof *row);
    }
}

static void convolve_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const job *j = ctx;
    int c0 = chunk % j->n_block * CHANNELS;
    convolve(j, &j->run[chunk / j->n_block], c0, j->n_conv - c0 < CHANNELS ? j->n_conv - c0 : CHANNELS);
}

static float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }

/* Normalises q and k in place, and makes decay and beta. */
static void gate_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    const rm_delta_plan *d = j->d;
    const rm_kern *kern = j->m->exec->kern;
    size_t dk = (size_t)d->d_key, nv = (size_t)d->n_value;
    float scale = (float)(1 / sqrt((double)d->d_key));
    for (int row = from; row < to; row++) {
        float *q = j->conv + (size_t)row * (size_t)j->n_conv, *k = q + (size_t)d->n_key * dk, *decay = j->gate + (size_t)row * 2 * nv;
        for (int h = 0; h < d->n_key; h++, q += dk, k += dk) {
            kern->l2_norm(q, q, dk, 1e-6f, scale);
            kern->l2_norm(k, k, dk, 1e-6f, 1);
        }
        const float *b = j->in + (size_t)row * (size_t)j->n_in + j->n_conv + (size_t)d->n_value * (size_t)d->d_value, *a = b + nv;
        kern->sigmoid(decay + nv, b, nv);
        for (size_t h = 0; h < nv; h++) decay[h] = j->l->a[h] * softplus(a[h] + j->l->dt_bias[h]);
        kern->exp(decay, decay, nv);
    }
}

/* One value head over the rows of a run: the recurrence, with copies of the state where they are kept. Going through the rows again, each block
 * begins with its own copy, wherever the run begins. */
static void recur(const job *j, const rm_run *r, int ih) {
    const rm_delta_plan *d = j->d;
    size_t dk = (size_t)d->d_key, dv = (size_t)d->d_value, nv = (size_t)d->n_value, ld = (size_t)j->n_conv, head = (size_t)ih * dk * dv;
    rm_delta x = {.dk = d->d_key, .dv = d->d_value, .state = r->state + head, .ldq = ld, .ldk = ld, .ldv = ld, .ldg = 2 * nv, .ldo = nv * dv};
    for (int t = r->skip; t < r->n; t += x.n_tok) {
        int pos = r->pos + t;
        x.n_tok = r->n - t;
        if (r->snap) {
            int left = RM_KV_BLOCK - pos % RM_KV_BLOCK;
            if (left < x.n_tok) x.n_tok = left;
            float *copy = r->snap + (size_t)rm_snap_index(r->snap_first, pos) * nv * dk * dv + head;
            if (pos == rm_snap_begin(r->snap_first, pos)) memcpy(r->again ? x.state : copy, r->again ? copy : x.state, dk * dv * sizeof *copy);
        }
        size_t row = (size_t)(r->row + t);
        x.q = j->conv + row * ld + (size_t)rm_delta_key_head(d, ih) * dk;
        x.k = x.q + (size_t)d->n_key * dk;
        x.v = j->conv + row * ld + 2 * (size_t)d->n_key * dk + (size_t)ih * dv;
        x.decay = j->gate + row * 2 * nv + ih;
        x.beta = x.decay + nv;
        x.o = j->o + row * nv * dv + (size_t)ih * dv;
        x.rest = j->rest ? j->rest + row * nv * dv + (size_t)ih * dv : NULL;
        j->m->exec->kern->delta_rule(&x);
    }
}

/* Of one row and head. */
static void gated_norm(const rm_model *m, const rm_layer *l, float *y, const float *o, const float *z) {
    const size_t dv = (size_t)m->cfg.delta.d_value;
    m->exec->kern->rms_norm(y, o, l->delta_norm, dv, m->cfg.norm_eps);
    m->exec->kern->silu_mul(y, z, y, dv);
}

static void recur_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const job *j = ctx;
    const rm_run *r = &j->run[chunk / j->d->n_value];
    int ih = chunk % j->d->n_value;
    size_t dv = (size_t)j->d->d_value, ldo = (size_t)j->d->n_value * dv;
    recur(j, r, ih);
    if (j->rest) return;
    for (size_t row = (size_t)(r->row + r->skip), end = (size_t)(r->row + r->n); row < end; row++) {
        float *o = j->o + row * ldo + (size_t)ih * dv;
        gated_norm(j->m, j->l, o, o, j->in + row * (size_t)j->n_in + j->n_conv + (size_t)ih * dv);
    }
}

void rm_delta_mix(const rm_model *m, int il, float *o, float *rest, float *conv, float *gate, const float *in, const rm_run *run, int n_run,
                  int n_row) {
    const rm_delta_plan *d = &m->cfg.delta;
    int n_conv = rm_delta_conv_dim(d);
    job j = {m, &m->layer[il], d, run, o, rest, conv, gate, in, n_conv, rm_delta_in_dim(d), (n_conv + CHANNELS - 1) / CHANNELS};
    rm_pool_run(m->exec->pool, n_run * j.n_block, convolve_chunk, &j);
    rm_rows_run(m->exec, n_row, 4, gate_rows, &j);
    rm_pool_run(m->exec->pool, n_run * d->n_value, recur_chunk, &j);
    double state = (double)d->n_value * d->d_key * d->d_value;
    rm_time_work(m->exec, RM_OPS_F32, 2 * sizeof(float) * n_run * state, 6 * n_row * state); /* k S, S += k v, q S */
}
