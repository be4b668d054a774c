/* Cross-entropy through the LM head, in slices of rows, with the gradient of the hidden states. */
#include <math.h>
#include <string.h>

#include "session/grad.h"
#include "model/layer.h"
#include "util/mem.h"

enum { SLICE = 32 };

typedef struct {
    const rm_model *m;
    float *logits, *capped; /* capped: NULL without a cap */
    const int32_t *label; /* [n] of the slice, all >= 0 */
    float scale;
    double loss[SLICE];
} job;

static float largest(const float *x, size_t n) {
    float m[16], max = -INFINITY; /* sixteen at a time: the compiler makes vectors of them */
    for (size_t k = 0; k < 16; k++) m[k] = -INFINITY;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++) m[k] = x[i + k] > m[k] ? x[i + k] : m[k];
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t k = 0; k < 16; k++) max = m[k] > max ? m[k] : max;
    return max;
}

/* l becomes exp(l - max); the sum of that. */
static double exponentials(const rm_kern *k, float *l, size_t n, float max) {
    enum { PIECE = 1024 };
    float ones[PIECE];
    double sum = 0;
    for (int i = 0; i < PIECE; i++) ones[i] = 1;
    for (size_t i = 0; i < n; i += PIECE) {
        size_t m = n - i < PIECE ? n - i : PIECE;
        for (size_t c = i; c < i + m; c++) l[c] -= max;
        k->exp(l + i, l + i, m);
        sum += (double)k->dot(l + i, ones, m);
    }
    return sum;
}

/* Replaces the logits of a row by their gradient. */
static void loss_rows(void *ctx, int from, int to) {
    job *j = ctx;
    const rm_kern *k = j->m->exec->kern;
    size_t v = (size_t)j->m->cfg.n_vocab;
    float cap = j->m->cfg.logit_softcap;
    for (int r = from; r < to; r++) {
        float *l = j->logits + (size_t)r * v, *capped = j->capped ? j->capped + (size_t)r * v : NULL;
        for (size_t i = 0; capped && i < v; i++) l[i] = capped[i] = cap * tanhf(l[i] / cap);
        float max = largest(l, v), at = l[j->label[r]];
        double sum = exponentials(k, l, v, max);
        j->loss[r] = log(sum) + (double)max - (double)at;
        k->scale(l, l, (float)((double)j->scale / sum), v);
        l[j->label[r]] -= j->scale;
        for (size_t i = 0; capped && i < v; i++) l[i] *= 1 - (capped[i] / cap) * (capped[i] / cap);
    }
}

static rmas_status slice(job *j, const float *hidden, const int *row, const int32_t *label, int n, float *x, float *d_hidden, double *loss,
                         rmas_error *err) {
    const rm_model *m = j->m;
    size_t d = (size_t)m->cfg.d_model;
    for (int i = 0; i < n; i++) memcpy(x + (size_t)i * d, hidden + (size_t)row[i] * d, d * sizeof *x);
    m->exec->prompt = true; /* many rows */
    rmas_status st = rm_linear_mul(m->exec, j->logits, x, n, &m->head, err);
    m->exec->prompt = false;
    if (st != RMAS_OK) return st;
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
    bool caps = m->cfg.logit_softcap > 0;
    if (caps) j.capped = rm_array(SLICE, (size_t)m->cfg.n_vocab * sizeof *j.capped);
    rmas_status st =
        x && j.logits && (!caps || j.capped) ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for the logits of %d rows", (int)SLICE);
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
    rm_free(j.capped);
    return st;
}
