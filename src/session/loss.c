/* Cross-entropy through the LM head, in slices of rows, with the gradient of the hidden states.
 *
 * The gradient of a logit is its token's probability (minus one for the label), and almost all of a large vocabulary has next to none. In native precision
 * tokens below SMALL of the label's gradient, which is the sum of all others, are left out of the product with the head where that saves time. */
#include <math.h>
#include <string.h>

#include "session/grad.h"
#include "model/layer.h"
#include "util/mem.h"

enum { SLICE = 32, COLUMNS = 4096 /* tokens in a chunk */ };
#define SMALL 0x1p-18f

typedef struct {
    const rm_model *m;
    int n; /* rows of the slice */
    uint8_t *counts; /* [n_vocab]: some row's gradient is not small; NULL: all tokens count */
    int *token, n_token; /* [n_vocab]: those that count, ascending */
    float small[SLICE];
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
        j->small[r] = SMALL * fabsf(l[j->label[r]]);
    }
}

static void count_tokens(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    const size_t v = (size_t)j->m->cfg.n_vocab, from = (size_t)chunk * COLUMNS, n = v - from < COLUMNS ? v - from : COLUMNS;
    uint8_t *counts = j->counts + from;
    memset(counts, 0, n);
    for (int r = 0; r < j->n; r++) {
        const float *g = j->logits + (size_t)r * v + from, small = j->small[r];
        for (size_t i = 0; i < n; i++) counts[i] |= !(fabsf(g[i]) <= small); /* what is not a number counts */
    }
}

/* Gradients of the tokens that count move to the front of their rows; small ones are zero, so that a row does not depend on its neighbours. */
static void move_gradients(void *ctx, int from, int to) {
    job *j = ctx;
    for (int r = from; r < to; r++) {
        float *g = j->logits + (size_t)r * (size_t)j->m->cfg.n_vocab;
        for (int i = 0; i < j->n_token; i++) {
            const float x = g[j->token[i]];
            g[i] = fabsf(x) <= j->small[r] ? 0 : x;
        }
    }
}

/* x [n, d]: the gradient of the states, from that of the logits. */
static rmas_status through_head(job *j, float *x, rmas_error *err) {
    const rm_model *m = j->m;
    const size_t v = (size_t)m->cfg.n_vocab;
    if (!j->counts) return rm_linear_mul_t(m->exec, x, j->logits, j->n, &m->head, err);
    rm_pool_run(m->exec->pool, (int)((v + COLUMNS - 1) / COLUMNS), count_tokens, j);
    j->n_token = 0;
    for (size_t i = 0; i < v; i++) {
        j->token[j->n_token] = (int)i;
        j->n_token += j->counts[i];
    }
    rm_rows_run(m->exec, j->n, 1, move_gradients, j);
    return rm_matrix_mul_t_some(m->exec, x, (size_t)m->cfg.d_model, j->logits, v, j->n, m->head.w, j->token, j->n_token, err);
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
    j->n = n;
    rm_rows_run(m->exec, n, 1, loss_rows, j);
    for (int i = 0; i < n; i++) *loss += j->loss[i];
    if (!d_hidden) return RMAS_OK;
    RM_TRY(through_head(j, x, err));
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
    const bool caps = m->cfg.logit_softcap > 0, few = d_hidden && m->precision == RM_NATIVE && rm_matrix_mul_t_some_pays(m->head.w);
    if (caps) j.capped = rm_array(SLICE, (size_t)m->cfg.n_vocab * sizeof *j.capped);
    if (few) j.counts = rm_array((size_t)m->cfg.n_vocab, 1), j.token = rm_array((size_t)m->cfg.n_vocab + 1, sizeof *j.token);
    rmas_status st = x && j.logits && (!caps || j.capped) && (!few || (j.counts && j.token))
                         ? RMAS_OK
                         : rm_fail(err, RMAS_E_NOMEM, "out of memory for the logits of %d rows", (int)SLICE);
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
    rm_free(j.counts);
    rm_free(j.token);
    return st;
}
