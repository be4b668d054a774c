/* The forward pass of links, and the row-wise pieces (layer norm, gelu) with their backward passes.
 *
 * Rows are independent: a row's numbers do not depend on the rows beside it or on the number of threads. Norms are summed
 * in double in a fixed order. */
#include <math.h>
#include <string.h>

#include "link/internal.h"
#include "tensor/profile.h"
#include "util/mem.h"

enum { LANES = 8, CHUNK = 4096, SERIAL = 2 * CHUNK }; /* elements per piece of work; below SERIAL threads do not pay */
#define NORM_EPS 1e-5

/* Sum of f(x) in LANES interleaved partial sums: fixed order, and the compiler can vectorise it. */
static double sum(const float *x, int d) {
    double s[LANES] = {0};
    int i = 0;
    for (; i + LANES <= d; i += LANES)
        for (int k = 0; k < LANES; k++) s[k] += (double)x[i + k];
    for (int k = 0; i < d; i++, k++) s[k] += (double)x[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

static double sum_squares(const float *x, int d, double mean) {
    double s[LANES] = {0};
    int i = 0;
    for (; i + LANES <= d; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double v = (double)x[i + k] - mean;
            s[k] += v * v;
        }
    for (int k = 0; i < d; i++, k++) s[k] += ((double)x[i] - mean) * ((double)x[i] - mean);
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

static void moments(const float *x, int d, double *mean, double *rstd) {
    *mean = sum(x, d) / d;
    *rstd = 1 / sqrt(sum_squares(x, d, *mean) / d + NORM_EPS);
}

/* ---- work in chunks ---------------------------------------------------------------------------------------------------- */

typedef struct {
    const float *x, *gain, *bias, *dy;
    float *y;
    int n, d, rows;
    size_t count;
} job;

static void for_rows(rm_exec *e, job *j, rm_pool_fn fn) {
    j->rows = CHUNK / j->d > 0 ? CHUNK / j->d : 1;
    int n_chunk = (j->n + j->rows - 1) / j->rows;
    if ((size_t)j->n * (size_t)j->d < SERIAL)
        for (int c = 0; c < n_chunk; c++) fn(j, c, 0);
    else
        rm_pool_run(e->pool, n_chunk, fn, j);
}

static void for_elements(rm_exec *e, job *j, rm_pool_fn fn) {
    int n_chunk = (int)((j->count + CHUNK - 1) / CHUNK);
    if (j->count < SERIAL)
        for (int c = 0; c < n_chunk; c++) fn(j, c, 0);
    else
        rm_pool_run(e->pool, n_chunk, fn, j);
}

static void norm_rows(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    int end = (chunk + 1) * j->rows < j->n ? (chunk + 1) * j->rows : j->n;
    for (int r = chunk * j->rows; r < end; r++) {
        const float *x = j->x + (size_t)r * (size_t)j->d;
        float *y = j->y + (size_t)r * (size_t)j->d;
        double mean, rstd;
        moments(x, j->d, &mean, &rstd);
        for (int i = 0; i < j->d; i++) y[i] = (float)(((double)x[i] - mean) * rstd) * j->gain[i] + j->bias[i];
    }
}

void rm_link_norm(rm_exec *e, const float *x, int n, int d, const float *gain, const float *bias, float *y) {
    for_rows(e, &(job){.x = x, .gain = gain, .bias = bias, .y = y, .n = n, .d = d}, norm_rows);
}

/* dx = (g - mean(g) - xhat mean(g xhat)) / sigma with g = dy gain */
static void norm_back_rows(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    int end = (chunk + 1) * j->rows < j->n ? (chunk + 1) * j->rows : j->n;
    for (int r = chunk * j->rows; r < end; r++) {
        const float *x = j->x + (size_t)r * (size_t)j->d, *dy = j->dy + (size_t)r * (size_t)j->d;
        float *dx = j->y + (size_t)r * (size_t)j->d;
        double mean, rstd, mg = 0, mgx = 0;
        moments(x, j->d, &mean, &rstd);
        for (int i = 0; i < j->d; i++) {
            double g = (double)dy[i] * (double)j->gain[i];
            mg += g;
            mgx += g * ((double)x[i] - mean) * rstd;
        }
        mg /= j->d;
        mgx /= j->d;
        for (int i = 0; i < j->d; i++) dx[i] = (float)(((double)dy[i] * (double)j->gain[i] - mg - ((double)x[i] - mean) * rstd * mgx) * rstd);
    }
}

void rm_link_norm_back(rm_exec *e, const float *x, int n, int d, const float *gain, const float *dy, float *dx, float *dgain, float *dbias) {
    if (dgain)
        for (int r = 0; r < n; r++) { /* before dx, which may be dy itself */
            const float *xr = x + (size_t)r * (size_t)d, *dr = dy + (size_t)r * (size_t)d;
            double mean, rstd;
            moments(xr, d, &mean, &rstd);
            for (int i = 0; i < d; i++) {
                dgain[i] += dr[i] * (float)(((double)xr[i] - mean) * rstd);
                dbias[i] += dr[i];
            }
        }
    for_rows(e, &(job){.x = x, .gain = gain, .dy = dy, .y = dx, .n = n, .d = d}, norm_back_rows);
}

static void gelu_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    size_t from = (size_t)chunk * CHUNK, to = from + CHUNK < j->count ? from + CHUNK : j->count;
    for (size_t i = from; i < to; i++) j->y[i] = j->y[i] * 0.5f * (1.0f + erff(j->y[i] * 0.70710678f));
}

void rm_link_gelu(rm_exec *e, float *x, size_t n) { for_elements(e, &(job){.y = x, .count = n}, gelu_chunk); }

static void gelu_back_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    size_t from = (size_t)chunk * CHUNK, to = from + CHUNK < j->count ? from + CHUNK : j->count;
    for (size_t i = from; i < to; i++) { /* Phi(a) + a phi(a) */
        float a = j->x[i];
        j->y[i] *= 0.5f * (1.0f + erff(a * 0.70710678f)) + a * 0.39894228f * expf(-0.5f * a * a);
    }
}

void rm_link_gelu_back(rm_exec *e, const float *a, float *d, size_t n) { for_elements(e, &(job){.x = a, .y = d, .count = n}, gelu_back_chunk); }

/* ---- the pass ------------------------------------------------------------------------------------------------------------ */

static rmas_status apply_rows(const rm_link *l, const float *x, int n, float *y, rmas_error *err) {
    const rm_link_kind *k = l->kind;
    size_t in = (size_t)l->d_in, o = (size_t)l->d_out, hid = (size_t)l->d_hid;
    float *normed = l->scratch, *h = normed + RM_LINK_ROWS * in, *res = h + RM_LINK_ROWS * hid;
    if (k->two) {
        if (k->ln) rm_link_norm(l->exec, x, n, l->d_in, l->vec[RM_LINK_G1], l->vec[RM_LINK_C1], normed);
        RM_TRY(rm_matrix_mul(l->exec, h, hid, k->ln ? normed : x, in, n, l->w[0], l->vec[RM_LINK_B1], err));
        rm_link_gelu(l->exec, h, (size_t)n * hid);
        RM_TRY(rm_matrix_mul(l->exec, y, o, h, hid, n, l->w[1], l->vec[RM_LINK_B2], err));
    } else {
        RM_TRY(rm_matrix_mul(l->exec, y, o, x, in, n, l->w[0], l->vec[RM_LINK_B1], err));
    }
    if (k->res == RM_RES_PROJ) RM_TRY(rm_matrix_mul(l->exec, res, o, x, in, n, l->w[2], l->vec[RM_LINK_B3], err));
    if (k->res != RM_RES_NONE) {
        const float *r = k->res == RM_RES_SELF ? x : res;
        for (size_t i = 0; i < (size_t)n * o; i++) y[i] = r[i] + y[i];
    }
    if (k->ln) rm_link_norm(l->exec, y, n, l->d_out, l->vec[RM_LINK_G2], l->vec[RM_LINK_C2], y);
    return RMAS_OK;
}

rmas_status rm_link_apply(const rm_link *l, const float *x, int n, float *y, rmas_error *err) {
    rm_time was = rm_time_to(l->exec, RM_TIME_LINK);
    rmas_status st = RMAS_OK;
    for (int at = 0; at < n && st == RMAS_OK; at += RM_LINK_ROWS) {
        int rows = n - at < RM_LINK_ROWS ? n - at : RM_LINK_ROWS;
        st = apply_rows(l, x + (size_t)at * (size_t)l->d_in, rows, y + (size_t)at * (size_t)l->d_out, err);
    }
    rm_time_back(l->exec, was);
    return st;
}
