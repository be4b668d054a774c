/* The activation of the gated MLP, forward and backward; its projections are the walk's. */
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

static void back_blocks(void *ctx, int from, int to) {
    const job *j = ctx;
    for (int i = from; i < to; i++) {
        int row = i / j->n_block, c0 = i % j->n_block * COLS, n = j->d_ff - c0 < COLS ? j->d_ff - c0 : COLS;
        size_t at = (size_t)row * 2 * (size_t)j->d_ff + (size_t)c0;
        const float *g = j->gu + at, *u = g + j->d_ff, *dh = j->dh + (size_t)row * (size_t)j->d_ff + c0;
        (j->gelu ? j->k->gelu_tanh_mul_back : j->k->silu_mul_back)(j->out + at, j->out + at + j->d_ff, dh, g, u, (size_t)n);
    }
}

void rm_act_mul_back(const rm_model *m, float *d_gate_up, const float *dh, const float *gate_up, int n_row) {
    int n = (m->cfg.d_ff + COLS - 1) / COLS;
    job j = {m->exec->kern, d_gate_up, gate_up, dh, m->cfg.d_ff, n, m->cfg.act == RM_ACT_GELU_TANH};
    rm_rows_run(m->exec, n_row * n, n_row > 1 ? 4 : 1, back_blocks, &j);
}
