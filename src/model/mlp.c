/* The activation of the gated MLP, forward and backward; its projections are the walk's. */
#include <math.h>

#include "model/layer.h"

enum { COLS = 2048 }; /* a row of a large MLP is shared by threads */

typedef struct {
    const rm_kern *k;
    float *out;
    const float *gu, *dh;
    int d_ff, n_block;
    bool gelu;
} job;

static void act_blocks(void *ctx, int from, int to) {
    const job *j = ctx;
    for (int i = from; i < to; i++) {
        int row = i / j->n_block, c0 = i % j->n_block * COLS, n = j->d_ff - c0 < COLS ? j->d_ff - c0 : COLS;
        const float *g = j->gu + (size_t)row * 2 * (size_t)j->d_ff + c0;
        float *h = j->out + (size_t)row * (size_t)j->d_ff + c0;
        (j->gelu ? j->k->gelu_tanh_mul : j->k->silu_mul)(h, g, g + j->d_ff, (size_t)n);
    }
}

void rm_act_mul(const rm_model *m, float *h, const float *gate_up, int n_row) {
    int n = (m->cfg.d_ff + COLS - 1) / COLS;
    job j = {m->exec->kern, h, gate_up, NULL, m->cfg.d_ff, n, m->cfg.act == RM_ACT_GELU_TANH};
    rm_rows_run(m->exec, n_row * n, n_row > 1 ? 4 : 1, act_blocks, &j);
}

/* Value and derivative of the activation. */
static float silu(float x, float *d) {
    float s = 1 / (1 + expf(-x));
    *d = s * (1 + x * (1 - s));
    return x * s;
}

static float gelu_tanh(float x, float *d) {
    const float c = 0.7978845608028654f, a = 0.044715f;
    float t = tanhf(c * (x + a * x * x * x));
    *d = 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * c * (1 + 3 * a * x * x);
    return 0.5f * x * (1 + t);
}

static void back_blocks(void *ctx, int from, int to) {
    const job *j = ctx;
    for (int i = from; i < to; i++) {
        int row = i / j->n_block, c0 = i % j->n_block * COLS, n = j->d_ff - c0 < COLS ? j->d_ff - c0 : COLS;
        size_t at = (size_t)row * 2 * (size_t)j->d_ff + (size_t)c0;
        const float *g = j->gu + at, *u = g + j->d_ff, *dh = j->dh + (size_t)row * (size_t)j->d_ff + c0;
        float *dg = j->out + at, *du = dg + j->d_ff;
        for (int c = 0; c < n; c++) {
            float d, a = j->gelu ? gelu_tanh(g[c], &d) : silu(g[c], &d), up = u[c];
            dg[c] = dh[c] * up * d; /* may stand where g and u stand */
            du[c] = dh[c] * a;
        }
    }
}

void rm_act_mul_back(const rm_model *m, float *d_gate_up, const float *dh, const float *gate_up, int n_row) {
    int n = (m->cfg.d_ff + COLS - 1) / COLS;
    job j = {m->exec->kern, d_gate_up, gate_up, dh, m->cfg.d_ff, n, m->cfg.act == RM_ACT_GELU_TANH};
    rm_rows_run(m->exec, n_row * n, 1, back_blocks, &j);
}
