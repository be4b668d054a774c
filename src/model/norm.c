/* RMS norms and residual sums, forward and backward; rows in parallel, copied, kept. */
#include <math.h>
#include <string.h>

#include "model/layer.h"
#include "util/mem.h"

typedef struct {
    const rm_kern *k;
    float *y;
    const float *x, *w, *dy;
    size_t d;
    float eps;
} job;

static void norm_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    for (size_t i = (size_t)from * j->d, end = (size_t)to * j->d; i < end; i += j->d) j->k->rms_norm(j->y + i, j->x + i, j->w, j->d, j->eps);
}

void rm_norm(rm_exec *e, float *y, const float *x, const float *w, int d, int n_row, float eps) {
    job j = {.k = e->kern, .y = y, .x = x, .w = w, .d = (size_t)d, .eps = eps};
    rm_rows_run(e, n_row, 8, norm_rows, &j);
}

static void residual_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    for (int r = from; r < to; r++) {
        float *x = j->y + (size_t)r * j->d, *t = (float *)j->x + (size_t)r * j->d; /* t is the caller's to overwrite */
        if (j->w) j->k->rms_norm(t, t, j->w, j->d, j->eps);
        j->k->add(x, x, t, j->d);
    }
}

void rm_residual(rm_exec *e, float *x, float *t, const float *w, int d, int n_row, float eps) {
    job j = {.k = e->kern, .y = x, .x = t, .w = w, .d = (size_t)d, .eps = eps};
    rm_rows_run(e, n_row, 8, residual_rows, &j);
}

static void back_rows(void *ctx, int from, int to) {
    const job *j = ctx;
    for (size_t i = (size_t)from * j->d, end = (size_t)to * j->d; i < end; i += j->d)
        j->k->rms_norm_back(j->y + i, j->dy + i, j->x + i, j->w, j->d, j->eps);
}

void rm_norm_back(rm_exec *e, float *dx, const float *dy, const float *x, const float *w, int d, int n_row, float eps) {
    job j = {.k = e->kern, .y = dx, .dy = dy, .x = x, .w = w, .d = (size_t)d, .eps = eps};
    rm_rows_run(e, n_row, 8, back_rows, &j);
}

/* ---- rows in parallel -------------------------------------------------------------------------------------------------- */

typedef struct {
    rm_rows_fn fn;
    void *ctx;
    int n_row, grain;
} split;

static void run_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    const split *s = ctx;
    int from = chunk * s->grain, to = from + s->grain;
    s->fn(s->ctx, from, to < s->n_row ? to : s->n_row);
}

void rm_rows_run(rm_exec *e, int n_row, int grain, rm_rows_fn fn, void *ctx) {
    split s = {fn, ctx, n_row, grain};
    int n = (n_row + grain - 1) / grain;
    if (n == 1)
        fn(ctx, 0, n_row);
    else if (n > 1)
        rm_pool_run(e->pool, n, run_chunk, &s);
}

typedef struct {
    float *to;
    const float *from;
    size_t n;
} copy;

static void copy_rows(void *ctx, int from, int to) {
    const copy *c = ctx;
    memcpy(c->to + (size_t)from * c->n, c->from + (size_t)from * c->n, (size_t)(to - from) * c->n * sizeof *c->to);
}

void rm_rows_copy(rm_exec *e, float *to, const float *from, int n_row, size_t n) { rm_rows_run(e, n_row, 32, copy_rows, &(copy){to, from, n}); }

/* ---- rows that are kept for the backward pass ------------------------------------------------------------------------------------- */

typedef struct {
    const rm_kern *k;
    uint16_t *to;
    const uint16_t *from;
    const float *x;
    float *y;
    size_t n;
} rounding;

static void keep_rows(void *ctx, int from, int to) {
    const rounding *j = ctx;
    size_t at = (size_t)from * j->n;
    j->k->to_bf16(j->to + at, j->x + at, (size_t)(to - from) * j->n);
}

static void kept_rows(void *ctx, int from, int to) {
    const rounding *j = ctx;
    size_t at = (size_t)from * j->n;
    j->k->widen(j->y + at, j->from + at, RM_W_BF16, (size_t)(to - from) * j->n);
}

static void round_rows(void *ctx, int from, int to) {
    const rounding *j = ctx;
    uint16_t part[2048];
    for (size_t at = (size_t)from * j->n, end = (size_t)to * j->n, n; at < end; at += n) {
        n = end - at < RM_COUNT(part) ? end - at : RM_COUNT(part);
        j->k->to_bf16(part, j->y + at, n);
        j->k->widen(j->y + at, part, RM_W_BF16, n);
    }
}

void rm_rows_keep(const rm_model *m, void *kept, const float *x, int n_row, size_t n) {
    rounding j = {.k = m->exec->kern, .to = kept, .x = x, .n = n};
    if (m->precision == RM_NATIVE)
        rm_rows_run(m->exec, n_row, 4, keep_rows, &j);
    else
        rm_rows_copy(m->exec, kept, x, n_row, n);
}

void rm_rows_kept(const rm_model *m, float *x, const void *kept, int n_row, size_t n) {
    rounding j = {.k = m->exec->kern, .from = kept, .y = x, .n = n};
    if (m->precision == RM_NATIVE)
        rm_rows_run(m->exec, n_row, 4, kept_rows, &j);
    else
        rm_rows_copy(m->exec, x, kept, n_row, n);
}

void rm_rows_round(const rm_model *m, float *x, int n_row, size_t n) {
    rounding j = {.k = m->exec->kern, .y = x, .n = n};
    if (m->precision == RM_NATIVE) rm_rows_run(m->exec, n_row, 4, round_rows, &j);
}
