/* The gated delta rule backward, block by block of positions between kept states: gated norm, recurrence, norms of q and k, convolution. */
#include <math.h>
#include <string.h>

#include "model/layer.h"

typedef struct {
    const rm_model *m;
    const rm_layer *l;
    const rm_delta_plan *d;
    const rm_run *run;
    const rm_delta_grad *grad;
    const rm_delta_rows *rows;
    const float *d_o;
    float *d_in;
    size_t n_conv, n_in, each;
} job;

/* What the kernel wants; gradients of a block's outputs before the norm. */
size_t rm_delta_back_scratch(const rm_model *m) {
    size_t dv = (size_t)m->cfg.delta.d_value;
    return (rm_delta_back_floats((size_t)m->cfg.delta.d_key, dv) + RM_KV_BLOCK * dv + 15) / 16 * 16;
}

/* y = w n silu(z), n = o / rms(o): d_o from dy, and dz. */
static void gated_norm_back(const job *j, const float *o, const float *z, const float *dy, float *d_o, float *dz) {
    const float *w = j->l->delta_norm;
    const size_t dv = (size_t)j->d->d_value;
    double square = 0, dot = 0;
    for (size_t i = 0; i < dv; i++) square += (double)o[i] * o[i];
    double r = 1 / sqrt(square / (double)dv + (double)j->m->cfg.norm_eps);
    for (size_t i = 0; i < dv; i++) {
        float sig = 1 / (1 + expf(-z[i])), n = o[i] * (float)r;
        dz[i] = dy[i] * w[i] * n * sig * (1 + z[i] * (1 - sig));
        d_o[i] = dy[i] * w[i] * z[i] * sig;
        dot += (double)d_o[i] * o[i];
    }
    float c = (float)(r * r * r * dot / (double)dv), rf = (float)r;
    for (size_t i = 0; i < dv; i++) d_o[i] = rf * d_o[i] - c * o[i];
}

/* Positions [from, to) of one block and one value head. */
static void block_back(const job *j, int k, int ih, int begin, int from, int to, float *scratch) {
    const rm_run *r = &j->run[k];
    const rm_delta_grad *g = &j->grad[k];
    const rm_delta_rows *x = j->rows;
    const rm_kern *kern = j->m->exec->kern;
    const size_t dk = (size_t)j->d->d_key, dv = (size_t)j->d->d_value, nk = (size_t)j->d->n_key, nv = (size_t)j->d->n_value, h = (size_t)ih;
    const size_t ext = (size_t)(g->ext_row + begin - g->ext_pos), row = (size_t)(r->row + from - r->pos), at = ext + (size_t)(from - begin);
    float *d_o = scratch, *d_qk = x->d_qk + (row * nv + h) * 2 * dk, *d_gate = x->d_gate + row * 2 * nv + h;
    float *d_v = x->du + row * j->n_conv + 2 * nk * dk + h * dv;
    for (size_t i = 0; i < (size_t)(to - from); i++) {
        const size_t z = j->n_conv + h * dv;
        gated_norm_back(j, x->o + ((at + i) * nv + h) * dv, x->in + (at + i) * j->n_in + z, j->d_o + ((row + i) * nv + h) * dv, d_o + i * dv,
                        j->d_in + (row + i) * j->n_in + z);
    }
    const float *q = x->conv + ext * j->n_conv + (size_t)rm_delta_key_head(j->d, ih) * dk, *gate = x->gate + ext * 2 * nv + h;
    kern->delta_rule_back(&(rm_delta_rule_back){.dk = (int)dk,
                                                .dv = (int)dv,
                                                .n_tok = to - begin,
                                                .from = from - begin,
                                                .state = g->snap + ((size_t)rm_snap_index(g->snap_first, begin) * nv + h) * dk * dv,
                                                .q = q,
                                                .k = q + nk * dk,
                                                .decay = gate,
                                                .beta = gate + nv,
                                                .ldk = j->n_conv,
                                                .ldg = 2 * nv,
                                                .rest = x->rest + (ext * nv + h) * dv,
                                                .ldr = nv * dv,
                                                .d_o = d_o,
                                                .d_state = g->d_state + h * dk * dv,
                                                .d_q = d_qk,
                                                .d_k = d_qk + dk,
                                                .ld_qk = nv * 2 * dk,
                                                .d_v = d_v,
                                                .ld_v = j->n_conv,
                                                .d_beta = d_gate + nv,
                                                .scratch = scratch + RM_KV_BLOCK * dv});
    /* With G the gradient of the state S after a row, that of its logarithmic decay is <decay S_before, G + k du'> = <S, G> - v d_v, and
     * <S, G> = o d_o + the next row's. */
    for (size_t i = (size_t)(to - from); i-- > 0;) {
        const float *v = x->conv + (at + i) * j->n_conv + 2 * nk * dk + h * dv;
        g->d_decay[h] += kern->dot(d_o + i * dv, x->o + ((at + i) * nv + h) * dv, dv) - kern->dot(d_v + i * j->n_conv, v, dv);
        d_gate[i * 2 * nv] = g->d_decay[h];
    }
}

static void head_chunk(void *ctx, int chunk, int thread) {
    const job *j = ctx;
    int k = chunk / j->d->n_value, ih = chunk % j->d->n_value;
    const rm_run *r = &j->run[k];
    for (int to = r->pos + r->n; to > r->pos;) {
        int begin = rm_snap_begin(j->grad[k].snap_first, to - 1), from = begin > r->pos ? begin : r->pos;
        block_back(j, k, ih, begin, from, to, j->rows->scratch + (size_t)thread * j->each);
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
        const float *x = p >= g->ext_pos ? j->rows->in + (size_t)(g->ext_row + p - g->ext_pos) * j->n_in
                                         : r->conv + (size_t)(n_tap - 1 + p - g->ext_pos) * j->n_conv;
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
        float *du = j->rows->du + row * j->n_conv, *u = j->d_in + row * j->n_in, *db = u + j->n_conv + nv * (size_t)d->d_value, *da = db + nv;
        memset(du, 0, 2 * nk * dk * sizeof *du);
        for (size_t ih = 0; ih < nv; ih++) {
            const float *qk = j->rows->d_qk + (row * nv + ih) * 2 * dk;
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
        const float *alpha = j->rows->in + ext * j->n_in + j->n_conv + nv * (size_t)d->d_value + nv, *dg = j->rows->d_gate + row * 2 * nv;
        for (size_t ih = 0; ih < nv; ih++) {
            float beta = j->rows->gate[ext * 2 * nv + nv + ih];
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
            const float *du =
                at < r->n ? j->rows->du + (size_t)(r->row + at) * j->n_conv : j->grad[ref->run].d_conv + (size_t)(at - r->n) * j->n_conv;
            for (size_t c = 0; c < j->n_conv; c++) dm[c] += j->l->conv[c * n_tap + n_tap - 1 - t] * du[c];
        }
    }
}

/* The sums at the first rows of the run are the next ones for whatever is popped later. */
static void keep_sums(const job *j, const rm_run *r, float *d_conv) {
    int n = j->d->n_tap - 1;
    for (int i = n - 1; i >= 0; i--) { /* descending: a row moves to a later place */
        const float *from = i < r->n ? j->rows->du + (size_t)(r->row + i) * j->n_conv : d_conv + (size_t)(i - r->n) * j->n_conv;
        memmove(d_conv + (size_t)i * j->n_conv, from, j->n_conv * sizeof *from);
    }
}

void rm_delta_back(const rm_model *m, int il, float *d_in, const float *d_o, const rm_delta_rows *rows, const rm_run *run, const rm_delta_grad *grad,
                   int n_run) {
    const rm_delta_plan *d = &m->cfg.delta;
    job j = {.m = m,
             .l = &m->layer[il],
             .d = d,
             .run = run,
             .grad = grad,
             .rows = rows,
             .d_o = d_o,
             .d_in = d_in,
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
