/* The gated delta rule backward: from kept states forward again through a block of positions, then back through it. */
#include <math.h>
#include <string.h>

#include "model/layer.h"

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_delta_plan *d;
    const rm_run *run;
    const rm_delta_grad *grad;
    const float *d_o, *in, *conv, *gate;
    float *d_in, *du, *d_qk, *d_gate, *scratch;
    size_t n_conv, n_in, each;
} job;

/* States before the positions of a block and after the last one; the gated norm's rows. */
size_t rm_delta_back_scratch(const rm_model *m) {
    const rm_delta_plan *d = &m->cfg.delta;
    return (size_t)(RM_KV_BLOCK + 1) * (size_t)d->d_key * (size_t)d->d_value + 8 * (size_t)d->d_value + (size_t)d->d_key + 64;
}

typedef struct {
    size_t dk, dv;
    const float *q, *k, *v, *z; /* of one position and head; q and k normalised */
    float decay, beta;
} step;

static step step_at(const job *j, const rm_delta_grad *g, int pos, int ih) {
    const rm_delta_plan *d = j->d;
    size_t row = (size_t)(g->ext_row + pos - g->ext_pos), dk = (size_t)d->d_key, dv = (size_t)d->d_value, nv = (size_t)d->n_value;
    const float *c = j->conv + row * j->n_conv, *gate = j->gate + row * 2 * nv;
    const float *q = c + (size_t)rm_delta_key_head(d, ih) * dk;
    return (step){dk,
                  dv,
                  q,
                  q + (size_t)d->n_key * dk,
                  c + 2 * (size_t)d->n_key * dk + (size_t)ih * dv,
                  j->in + row * j->n_in + j->n_conv + (size_t)ih * dv,
                  gate[ih],
                  gate[nv + (size_t)ih]};
}

/* u = (decay S)' k */
static void predict(const rm_kern *kern, const step *s, const float *state, float *u) {
    memset(u, 0, s->dv * sizeof *u);
    for (size_t i = 0; i < s->dk; i++) kern->axpy(u, s->k[i], state + i * s->dv, s->dv);
    kern->scale(u, u, s->decay, s->dv);
}

static void advance(const rm_kern *kern, const step *s, const float *state, float *next, float *u) {
    predict(kern, s, state, u);
    for (size_t i = 0; i < s->dv; i++) u[i] = s->beta * (s->v[i] - u[i]);
    for (size_t i = 0; i < s->dk; i++) {
        kern->scale(next + i * s->dv, state + i * s->dv, s->decay, s->dv);
        kern->axpy(next + i * s->dv, s->k[i], u, s->dv);
    }
}

/* y = w n silu(z), n = o / rms(o): d_o from dy, and dz. o = next' q. */
static void gated_norm_back(const job *j, const step *s, const float *next, const float *dy, float *o, float *d_o, float *dz) {
    const float *w = j->l->delta_norm;
    memset(o, 0, s->dv * sizeof *o);
    for (size_t i = 0; i < s->dk; i++) j->m->exec->kern->axpy(o, s->q[i], next + i * s->dv, s->dv);
    double square = 0, dot = 0;
    for (size_t i = 0; i < s->dv; i++) square += (double)o[i] * o[i];
    double r = 1 / sqrt(square / (double)s->dv + (double)j->m->cfg.norm_eps);
    for (size_t i = 0; i < s->dv; i++) {
        float z = s->z[i], sig = 1 / (1 + expf(-z)), n = o[i] * (float)r;
        dz[i] = dy[i] * w[i] * n * sig * (1 + z * (1 - sig));
        d_o[i] = dy[i] * w[i] * z * sig;
        dot += (double)d_o[i] * o[i];
    }
    float c = (float)(r * r * r * dot / (double)s->dv), rf = (float)r;
    for (size_t i = 0; i < s->dv; i++) d_o[i] = rf * d_o[i] - c * o[i];
}

/* One position back: g is the gradient of the state after it, afterwards of the state before it. */
static void step_back(const rm_kern *kern, const step *s, const float *state, const float *next, const float *d_o, float *g, float *dq, float *dk,
                      float *dv, float *d_decay, float *d_beta, float *u, float *tmp) {
    float *delta = tmp, *dd = tmp + s->dv, *du = tmp + 2 * s->dv;
    predict(kern, s, state, u);
    for (size_t i = 0; i < s->dv; i++) delta[i] = s->beta * (s->v[i] - u[i]);
    memset(dd, 0, s->dv * sizeof *dd);
    for (size_t i = 0; i < s->dk; i++) {
        float *row = g + i * s->dv;
        kern->axpy(row, s->q[i], d_o, s->dv);
        dq[i] = kern->dot(next + i * s->dv, d_o, s->dv);
        dk[i] = kern->dot(row, delta, s->dv);
        kern->axpy(dd, s->k[i], row, s->dv);
    }
    float db = 0;
    for (size_t i = 0; i < s->dv; i++) {
        db += dd[i] * (s->v[i] - u[i]);
        dv[i] = s->beta * dd[i];
        du[i] = -s->beta * dd[i];
    }
    float dot = 0;
    for (size_t i = 0; i < s->dk; i++) {
        float *row = g + i * s->dv;
        dk[i] += s->decay * kern->dot(state + i * s->dv, du, s->dv);
        kern->axpy(row, s->k[i], du, s->dv);
        dot += kern->dot(row, state + i * s->dv, s->dv);
        kern->scale(row, row, s->decay, s->dv);
    }
    *d_beta = db;
    *d_decay = dot * s->decay; /* of the logarithm of the decay */
}

/* Positions [from, to) of one block and one value head. */
static void block_back(const job *j, int k, int ih, int begin, int from, int to, float *scratch) {
    const rm_run *r = &j->run[k];
    const rm_delta_grad *g = &j->grad[k];
    const rm_kern *kern = j->m->exec->kern;
    size_t dk = (size_t)j->d->d_key, dv = (size_t)j->d->d_value, nv = (size_t)j->d->n_value, size = dk * dv;
    float *state = scratch, *u = scratch + (RM_KV_BLOCK + 1) * size, *o = u + dv, *d_o = o + dv, *tmp = d_o + dv;
    memcpy(state, g->snap + ((size_t)rm_snap_index(g->snap_first, begin) * nv + (size_t)ih) * size, size * sizeof *state);
    for (int p = begin; p < to; p++) {
        step s = step_at(j, g, p, ih);
        advance(kern, &s, state + (size_t)(p - begin) * size, state + (size_t)(p - begin + 1) * size, u);
    }
    for (int p = to - 1; p >= from; p--) {
        step s = step_at(j, g, p, ih);
        size_t row = (size_t)(r->row + p - r->pos);
        const float *before = state + (size_t)(p - begin) * size, *after = before + size;
        float *qk = j->d_qk + (row * nv + (size_t)ih) * 2 * dk, *gate = j->d_gate + row * 2 * nv + (size_t)ih;
        gated_norm_back(j, &s, after, j->d_o + (row * nv + (size_t)ih) * dv, o, d_o, j->d_in + row * j->n_in + j->n_conv + (size_t)ih * dv);
        step_back(kern, &s, before, after, d_o, g->d_state + (size_t)ih * size, qk, qk + dk,
                  j->du + row * j->n_conv + 2 * (size_t)j->d->n_key * dk + (size_t)ih * dv, gate, gate + nv, u, tmp);
    }
}

static void head_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    int k = chunk / j->d->n_value, ih = chunk % j->d->n_value;
    const rm_run *r = &j->run[k];
    for (int to = r->pos + r->n; to > r->pos;) {
        int begin = rm_snap_begin(j->grad[k].snap_first, to - 1), from = begin > r->pos ? begin : r->pos;
        block_back(j, k, ih, begin, from, to, j->scratch + (size_t)thread * j->each);
        to = from;
    }
}

/* ---- back to the projection ------------------------------------------------------------------------------------------- */

/* x / sqrt(sum x^2 + eps) scale: the gradient replaces d. */
static void l2_norm_back(float *d, const float *x, size_t n, float scale) {
    double square = 0, dot = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * x[i];
        dot += (double)x[i] * d[i];
    }
    double r = 1 / sqrt(square + 1e-6);
    float a = (float)(r * (double)scale), b = (float)(r * r * r * dot * (double)scale);
    for (size_t i = 0; i < n; i++) d[i] = a * d[i] - b * x[i];
}

typedef struct {
    const job *j;
    int run;
} run_ref;

/* The convolution's sum at a position, before silu. What came before ext_pos is in r->conv. */
static void conv_sum(const job *j, const rm_run *r, const rm_delta_grad *g, int pos, float *u) {
    int n_tap = j->d->n_tap;
    memset(u, 0, j->n_conv * sizeof *u);
    for (int i = 0; i < n_tap; i++) {
        int p = pos - (n_tap - 1) + i;
        const float *x =
            p >= g->ext_pos ? j->in + (size_t)(g->ext_row + p - g->ext_pos) * j->n_in : r->conv + (size_t)(n_tap - 1 + p - g->ext_pos) * j->n_conv;
        for (size_t c = 0; c < j->n_conv; c++) u[c] += j->l->conv[c * (size_t)n_tap + (size_t)i] * x[c];
    }
}

/* du: the gradient of the convolution's sums. The row of d_in serves as scratch for the sums. */
static void sum_rows(void *ctx, int from, int to) {
    const run_ref *ref = ctx;
    const job *j = ref->j;
    const rm_run *r = &j->run[ref->run];
    const rm_delta_grad *g = &j->grad[ref->run];
    const rm_delta_plan *d = j->d;
    size_t dk = (size_t)d->d_key, nv = (size_t)d->n_value, nk = (size_t)d->n_key;
    float scale = (float)(1 / sqrt((double)dk));
    for (int i = from; i < to; i++) {
        size_t row = (size_t)(r->row + i), ext = (size_t)(g->ext_row + r->pos + i - g->ext_pos);
        float *du = j->du + row * j->n_conv, *u = j->d_in + row * j->n_in, *db = u + j->n_conv + nv * (size_t)d->d_value, *da = db + nv;
        memset(du, 0, 2 * nk * dk * sizeof *du);
        for (size_t ih = 0; ih < nv; ih++) {
            const float *qk = j->d_qk + (row * nv + ih) * 2 * dk;
            size_t h = (size_t)rm_delta_key_head(d, (int)ih) * dk;
            for (size_t k = 0; k < dk; k++) du[h + k] += qk[k], du[nk * dk + h + k] += qk[dk + k];
        }
        conv_sum(j, r, g, r->pos + i, u);
        for (size_t c = 0; c < 2 * nk * dk; c += dk) {
            float x[4096];
            for (size_t k = 0; k < dk; k++) x[k] = u[c + k] / (1 + expf(-u[c + k]));
            l2_norm_back(du + c, x, dk, c < nk * dk ? scale : 1);
        }
        for (size_t c = 0; c < j->n_conv; c++) {
            float s = 1 / (1 + expf(-u[c]));
            du[c] *= s * (1 + u[c] * (1 - s));
        }
        const float *alpha = j->in + ext * j->n_in + j->n_conv + nv * (size_t)d->d_value + nv, *dg = j->d_gate + row * 2 * nv;
        for (size_t ih = 0; ih < nv; ih++) {
            float beta = j->gate[ext * 2 * nv + nv + ih];
            db[ih] = dg[nv + ih] * beta * (1 - beta);
            da[ih] = dg[ih] * j->l->a[ih] / (1 + expf(-(alpha[ih] + j->l->dt_bias[ih])));
        }
    }
}

/* d_in of the convolution's input: each row feeds the sums of its own and the next positions. */
static void conv_rows(void *ctx, int from, int to) {
    const run_ref *ref = ctx;
    const job *j = ref->j;
    const rm_run *r = &j->run[ref->run];
    size_t n_tap = (size_t)j->d->n_tap;
    for (int i = from; i < to; i++) {
        float *dm = j->d_in + (size_t)(r->row + i) * j->n_in;
        memset(dm, 0, j->n_conv * sizeof *dm);
        for (size_t t = 0; t < n_tap; t++) {
            int at = i + (int)t;
            const float *du = at < r->n ? j->du + (size_t)(r->row + at) * j->n_conv : j->grad[ref->run].d_conv + (size_t)(at - r->n) * j->n_conv;
            for (size_t c = 0; c < j->n_conv; c++) dm[c] += j->l->conv[c * n_tap + n_tap - 1 - t] * du[c];
        }
    }
}

/* The sums at the first rows of the run are the next ones for whatever is popped later. */
static void keep_sums(const job *j, const rm_run *r, float *d_conv) {
    int n = j->d->n_tap - 1;
    for (int i = n - 1; i >= 0; i--) { /* descending: a row moves to a later place */
        const float *from = i < r->n ? j->du + (size_t)(r->row + i) * j->n_conv : d_conv + (size_t)(i - r->n) * j->n_conv;
        memmove(d_conv + (size_t)i * j->n_conv, from, j->n_conv * sizeof *from);
    }
}

void rm_delta_back(const rm_model *m, int il, float *d_in, const float *d_o, float *du, float *d_qk, float *d_gate, const float *in,
                   const float *conv, const float *gate, const rm_run *run, const rm_delta_grad *grad, int n_run, int n_row, float *scratch) {
    const rm_delta_plan *d = &m->cfg.delta;
    (void)n_row;
    job j = {.m = m,
             .l = &m->layer[il],
             .d = d,
             .run = run,
             .grad = grad,
             .d_o = d_o,
             .in = in,
             .conv = conv,
             .gate = gate,
             .d_in = d_in,
             .du = du,
             .d_qk = d_qk,
             .d_gate = d_gate,
             .scratch = scratch,
             .n_conv = (size_t)rm_delta_conv_dim(d),
             .n_in = (size_t)rm_delta_in_dim(d),
             .each = rm_delta_back_scratch(m)};
    rm_pool_run(m->exec->pool, n_run * d->n_value, head_chunk, &j);
    for (int i = 0; i < n_run; i++) {
        run_ref ref = {&j, i};
        rm_rows_run(m->exec, run[i].n, 4, sum_rows, &ref);
        rm_rows_run(m->exec, run[i].n, 4, conv_rows, &ref);
        keep_sums(&j, &run[i], grad[i].d_conv);
    }
}
