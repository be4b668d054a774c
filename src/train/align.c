#include "train/align.h"

#include <math.h>
#include <string.h>

#include "train/linalg.h"
#include "util/mem.h"

#define RHO 0.01 /* ridge, relative to the mean eigenvalue of the inputs' scatter matrix */
#define KAPPA 3.0 /* how much larger than the residual x the fitted part of an inner link is made */
#define NORM_EPS 1e-5

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory for fitting a link"); }

/* What a regression of y [n, o] on x [n, i] gives: y ~ W x + b. */
typedef struct {
    int i, o;
    double *w, *b, *x_mean, *y_mean, *scatter; /* [o, i], [o], [i], [o], [i, i] of the centred x */
} fit;

static void fit_free(fit *f) {
    rm_free(f->w);
    rm_free(f->b);
    rm_free(f->x_mean);
    rm_free(f->y_mean);
    rm_free(f->scatter);
    *f = (fit){0};
}

static void means(const float *x, int n, int d, double *mean) {
    memset(mean, 0, (size_t)d * sizeof *mean);
    for (int r = 0; r < n; r++)
        for (int k = 0; k < d; k++) mean[k] += (double)x[(size_t)r * (size_t)d + (size_t)k];
    for (int k = 0; k < d; k++) mean[k] /= n;
}

static float *centred(const float *x, int n, int d, const double *mean) {
    float *c = rm_array((size_t)n * (size_t)d, sizeof(float));
    for (int r = 0; c && r < n; r++)
        for (int k = 0; k < d; k++) c[(size_t)r * (size_t)d + (size_t)k] = (float)((double)x[(size_t)r * (size_t)d + (size_t)k] - mean[k]);
    return c;
}

static rmas_status regress(rm_exec *e, fit *f, const float *x, int i, const float *y, int o, int n, rmas_error *err) {
    *f = (fit){.i = i, .o = o};
    size_t si = (size_t)i, so = (size_t)o;
    if (n < 2) return rm_fail(err, RMAS_E_ARG, "%d pairs are too few to fit a link", n);
    f->w = rm_array(so * si, sizeof(double));
    f->b = rm_array(so, sizeof(double));
    f->x_mean = rm_array(si, sizeof(double));
    f->y_mean = rm_array(so, sizeof(double));
    f->scatter = rm_array(si * si, sizeof(double));
    double *chol = rm_array(si * si, sizeof(double));
    float *xc = NULL, *yc = NULL;
    rmas_status st = f->w && f->b && f->x_mean && f->y_mean && f->scatter && chol ? RMAS_OK : no_memory(err);
    if (st == RMAS_OK) {
        means(x, n, i, f->x_mean);
        means(y, n, o, f->y_mean);
        xc = centred(x, n, i, f->x_mean);
        yc = centred(y, n, o, f->y_mean);
        if (!xc || !yc) st = no_memory(err);
    }
    if (st == RMAS_OK) st = rm_moments(e, f->scatter, xc, i, xc, i, n, err);
    if (st == RMAS_OK) st = rm_moments(e, f->w, yc, o, xc, i, n, err);
    if (st == RMAS_OK) {
        double trace = 0;
        for (int k = 0; k < i; k++) trace += f->scatter[(size_t)k * (si + 1)];
        memcpy(chol, f->scatter, si * si * sizeof *chol);
        for (int k = 0; k < i; k++) chol[(size_t)k * (si + 1)] += RHO * trace / i;
        if (!rm_cholesky(chol, i)) st = rm_fail(err, RMAS_E_ARG, "the states of %d pairs do not allow a fit: all equal, or not finite", n);
    }
    if (st == RMAS_OK) {
        rm_cholesky_solve(e, chol, i, f->w, o);
        for (int r = 0; r < o; r++) {
            f->b[r] = f->y_mean[r];
            for (int k = 0; k < i; k++) f->b[r] -= f->w[(size_t)r * si + (size_t)k] * f->x_mean[k];
        }
    }
    rm_free(chol);
    rm_free(xc);
    rm_free(yc);
    return st;
}

/* ---- parameters of a link by name ------------------------------------------------------------------------------------------------ */

static float *param(rm_link *l, const char *name) {
    for (int i = 0; i < rm_link_n_param(l); i++)
        if (!strcmp(rm_link_param_at(l, i)->name, name)) return rm_link_param_at(l, i)->value;
    return NULL;
}

static void put_linear(rm_link *l, const char *weight, const char *bias, const fit *f, double minus_identity) {
    float *w = param(l, weight), *b = param(l, bias);
    for (size_t k = 0; k < (size_t)f->o * (size_t)f->i; k++) w[k] = (float)(f->w[k] - (k % ((size_t)f->i + 1) == 0 ? minus_identity : 0));
    for (int r = 0; r < f->o; r++) b[r] = (float)f->b[r];
}

static void set_all(rm_link *l, const char *name, double value) {
    for (int i = 0; i < rm_link_n_param(l); i++) {
        const rm_link_param *p = rm_link_param_at(l, i);
        for (size_t k = 0; !strcmp(p->name, name) && k < p->n; k++) p->value[k] = (float)value;
    }
}

/* The fitted map through the hidden units: gelu(v) - gelu(-v) = v, so a pair of units with rows +-p and columns +-q gives q pᵀ u.
 * The best map of rank hidden/2 in the metric of the data: A C Aᵀ = Q ... Qᵀ, P = Qᵀ A; units scaled to size 1. */
static rmas_status put_pairs(rm_exec *e, rm_link *l, const fit *f, int hidden, int n, rmas_error *err) {
    int i = f->i, o = f->o, rank = hidden / 2;
    if (rank > o) rank = o;
    size_t si = (size_t)i, so = (size_t)o, sh = (size_t)hidden;
    double *ac = rm_array(so * si, sizeof(double)), *aca = rm_array(so * so, sizeof(double)), *value = rm_array(so, sizeof(double));
    double *p = rm_array(si + 1, sizeof(double)), *shift = rm_calloc(so, sizeof(double));
    rmas_status st = ac && aca && value && p && shift ? RMAS_OK : no_memory(err);
    if (st == RMAS_OK) {
        rm_product_nt(e, ac, f->w, o, f->scatter, i, i); /* the scatter matrix is symmetric */
        rm_product_nt(e, aca, ac, o, f->w, o, i);
        for (size_t k = 0; k < so * so; k++) aca[k] /= n;
        for (size_t r = 0; r < so; r++) /* symmetric to the last bit */
            for (size_t c = 0; c < r; c++) aca[c * so + r] = aca[r * so + c];
        st = rm_eigen(e, aca, o, value, err);
    }
    float *w1 = param(l, "proj1.weight"), *w2 = param(l, "proj2.weight"), *b2 = param(l, "proj2.bias");
    if (st == RMAS_OK) {
        set_all(l, "proj1.bias", 0);
        memset(w2, 0, so * sh * sizeof *w2); /* units without a pair keep their random row and do nothing */
    }
    for (int j = 0; j < rank && st == RMAS_OK; j++) {
        const double *q = aca + (so - 1 - (size_t)j) * so;
        memset(p, 0, si * sizeof *p);
        for (int r = 0; r < o; r++)
            for (int k = 0; k < i; k++) p[k] += q[r] * f->w[(size_t)r * si + (size_t)k];
        double mean = 0;
        for (int k = 0; k < i; k++) mean += p[k] * f->x_mean[k];
        double v = value[o - 1 - j] > 0 ? value[o - 1 - j] : 0, size = sqrt(v + mean * mean);
        if (!(size > 1e-30)) continue;
        for (int k = 0; k < i; k++) {
            w1[(size_t)j * si + (size_t)k] = (float)(p[k] / size);
            w1[(size_t)(rank + j) * si + (size_t)k] = (float)(-p[k] / size);
        }
        for (int r = 0; r < o; r++) {
            w2[(size_t)r * sh + (size_t)j] = (float)(q[r] * size);
            w2[(size_t)r * sh + (size_t)(rank + j)] = (float)(-q[r] * size);
            shift[r] += q[r] * mean;
        }
    }
    for (int r = 0; r < o && st == RMAS_OK; r++) b2[r] = (float)(f->y_mean[r] - shift[r]);
    rm_free(ac);
    rm_free(aca);
    rm_free(value);
    rm_free(p);
    rm_free(shift);
    return st;
}

/* ---- the two kinds of links -------------------------------------------------------------------------------------------------------- */

static double rms(const float *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
    return sqrt(s / (double)n);
}

static double mean_norm(const float *x, int n, int d) {
    double total = 0;
    for (int r = 0; r < n; r++) total += rms(x + (size_t)r * (size_t)d, (size_t)d) * sqrt(d);
    return total / n;
}

/* Layer norm with gain 1 and bias 0 of all rows. */
static float *normed(const float *x, int n, int d) {
    float *u = rm_array((size_t)n * (size_t)d, sizeof(float));
    for (int r = 0; u && r < n; r++) {
        const float *row = x + (size_t)r * (size_t)d;
        double mean = 0, var = 0;
        for (int k = 0; k < d; k++) mean += (double)row[k];
        mean /= d;
        for (int k = 0; k < d; k++) var += ((double)row[k] - mean) * ((double)row[k] - mean);
        double rstd = 1 / sqrt(var / d + NORM_EPS);
        for (int k = 0; k < d; k++) u[(size_t)r * (size_t)d + (size_t)k] = (float)(((double)row[k] - mean) * rstd);
    }
    return u;
}

static bool type_is(const rm_link *l, const char *type) { return !strcmp(rm_link_type(l), type); }

rmas_status rm_align_inner(rm_link *l, const float *x, const float *y, int n, rmas_error *err) {
    int d = rm_link_d_in(l);
    size_t cells = (size_t)n * (size_t)d;
    rm_exec *e = rm_link_exec(l);
    bool ln = type_is(l, "ln_res_adapter"), residual = ln || type_is(l, "res_adapter");
    if (type_is(l, "linear_adapter") || type_is(l, "linear_res_adapter")) {
        fit f;
        rmas_status st = regress(e, &f, x, d, y, d, n, err);
        if (st == RMAS_OK) put_linear(l, "proj1.weight", "proj1.bias", &f, type_is(l, "linear_res_adapter") ? 1 : 0);
        fit_free(&f);
        return st == RMAS_OK ? rm_link_changed(l, err) : st;
    }
    /* the hidden units must also take away what the residual adds; behind a norm the target's scale is free */
    double kappa = ln ? KAPPA * rms(x, cells) / rms(y, cells) : 1;
    float *t = rm_array(cells + 1, sizeof(float)), *u = ln ? normed(x, n, d) : NULL;
    fit f = {0};
    rmas_status st = t && (!ln || u) ? RMAS_OK : no_memory(err);
    for (size_t k = 0; k < cells && st == RMAS_OK; k++) t[k] = (float)(kappa * (double)y[k] - (residual ? (double)x[k] : 0));
    if (st == RMAS_OK) st = regress(e, &f, ln ? u : x, d, t, d, n, err);
    if (st == RMAS_OK) st = put_pairs(e, l, &f, d, n, err);
    if (st == RMAS_OK && ln) { /* outputs as loud as token embeddings */
        set_all(l, "post_ln.weight", mean_norm(y, n, d) / sqrt(d));
        set_all(l, "post_ln.bias", 0);
        set_all(l, "pre_ln.weight", 1);
        set_all(l, "pre_ln.bias", 0);
    }
    fit_free(&f);
    rm_free(t);
    rm_free(u);
    return st == RMAS_OK ? rm_link_changed(l, err) : st;
}

rmas_status rm_align_outer(rm_link *l, const float *x, const float *y, int n, rmas_error *err) {
    int i = rm_link_d_in(l), o = rm_link_d_out(l);
    rm_exec *e = rm_link_exec(l);
    fit f;
    bool ln = param(l, "ln_target.weight") != NULL, residual = param(l, "residual_proj.weight") != NULL, two = param(l, "proj2.weight") != NULL;
    float *u = ln && !residual ? normed(x, n, i) : NULL;
    rmas_status st = ln && !residual && !u ? no_memory(err) : RMAS_OK;
    f = (fit){0};
    if (st == RMAS_OK) st = regress(e, &f, u ? u : x, i, y, o, n, err);
    if (st == RMAS_OK && residual) {
        put_linear(l, "residual_proj.weight", "residual_proj.bias", &f, 0);
        set_all(l, two ? "proj2.weight" : "proj1.weight", 0); /* nothing is locked: its gradient is not zero */
        set_all(l, two ? "proj2.bias" : "proj1.bias", 0);
    } else if (st == RMAS_OK && two) {
        st = put_pairs(e, l, &f, ln ? 2 * o : o, n, err);
    } else if (st == RMAS_OK) {
        put_linear(l, "proj1.weight", "proj1.bias", &f, 0);
    }
    if (st == RMAS_OK && ln) {
        set_all(l, "ln_target.weight", mean_norm(y, n, o) / sqrt(o));
        set_all(l, "ln_target.bias", 0);
        set_all(l, "ln_source.weight", 1);
        set_all(l, "ln_source.bias", 0);
    }
    fit_free(&f);
    rm_free(u);
    return st == RMAS_OK ? rm_link_changed(l, err) : st;
}
