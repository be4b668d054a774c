/* Cross-entropy through the LM head, in slices of rows, with the gradient of the hidden states. */
#include <math.h>
#include <string.h>

#include "session/grad.h"
#include "model/layer.h"
#include "util/mem.h"

enum { SLICE = 32 };

typedef struct {
    const rm_model *m;
    float *logits;
    const int32_t *label; /* [n] of the slice, all >= 0 */
    float scale;
    double loss[SLICE];
} job;

/* Replaces the logits of a row by their gradient. */
static void loss_rows(void *ctx, int from, int to) {
    job *j = ctx;
    size_t v = (size_t)j->m->cfg.n_vocab;
    float cap = j->m->cfg.logit_softcap;
    for (int r = from; r < to; r++) {
        float *l = j->logits + (size_t)r * v, max = -INFINITY;
        for (size_t i = 0; i < v; i++) {
            if (cap > 0) l[i] = cap * tanhf(l[i] / cap);
            if (l[i] > max) max = l[i];
        }
        double sum = 0;
        float at = l[j->label[r]];
        for (size_t i = 0; i < v; i++) sum += (double)expf(l[i] - max);
        j->loss[r] = log(sum) + (double)max - (double)at;
        float factor = (float)((double)j->scale / sum);
        for (size_t i = 0; i < v; i++) {
            float g = expf(l[i] - max) * factor - (i == (size_t)j->label[r] ? j->scale : 0);
            l[i] = cap > 0 ? g * (1 - (l[i] / cap) * (l[i] / cap)) : g;
        }
    }
}

static rmas_status slice(job *j, const float *hidden, const int *row, const int32_t *label, int n, float *x, float *d_hidden, double *loss,
                         rmas_error *err) {
    const rm_model *m = j->m;
    size_t d = (size_t)m->cfg.d_model;
    for (int i = 0; i < n; i++) memcpy(x + (size_t)i * d, hidden + (size_t)row[i] * d, d * sizeof *x);
    RM_TRY(rm_linear_mul(m->exec, j->logits, x, n, &m->head, err));
    j->label = label;
    rm_rows_run(m->exec, n, 1, loss_rows, j);
    for (int i = 0; i < n; i++) *loss += j->loss[i];
    if (!d_hidden) return RMAS_OK;
    RM_TRY(rm_linear_mul_t(m->exec, x, j->logits, n, &m->head, err));
    for (int i = 0; i < n; i++) memcpy(d_hidden + (size_t)row[i] * d, x + (size_t)i * d, d * sizeof *x);
    return RMAS_OK;
}

rmas_status rm_cross_entropy(const rm_model *m, const float *hidden, const int32_t *label, int n, float scale, double *loss, int *n_loss,
                             float *d_hidden, rmas_error *err) {
    size_t d = (size_t)m->cfg.d_model;
    *loss = 0;
    *n_loss = 0;
    for (int i = 0; i < n; i++)
        if (label[i] >= m->cfg.n_vocab) return rm_fail(err, RMAS_E_ARG, "label %d is outside the vocabulary of %d", (int)label[i], m->cfg.n_vocab);
    job j = {.m = m, .scale = scale};
    float *x = rm_array(SLICE, d * sizeof *x);
    j.logits = rm_array(SLICE, (size_t)m->cfg.n_vocab * sizeof *j.logits);
    rmas_status st = x && j.logits ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for the logits of %d rows", (int)SLICE);
    if (d_hidden) memset(d_hidden, 0, (size_t)n * d * sizeof *d_hidden);
    int row[SLICE], k = 0;
    int32_t want[SLICE];
    for (int i = 0; i < n && st == RMAS_OK; i++) {
        if (label[i] >= 0) row[k] = i, want[k++] = label[i];
        if (k == 0 || (k < SLICE && i + 1 < n)) continue;
        st = slice(&j, hidden, row, want, k, x, d_hidden, loss, err);
        *n_loss += k;
        k = 0;
    }
    rm_free(x);
    rm_free(j.logits);
    return st;
}
