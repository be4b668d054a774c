#include "train/optim.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

enum { CHUNK = 1 << 16 };

rmas_status rm_adamw_init(rm_adamw *a, const rm_link *l, rmas_error *err) {
    *a = (rm_adamw){.n = rm_link_n_value(l)};
    a->m = rm_calloc(2 * a->n, sizeof(float));
    if (!a->m) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the optimiser's moments (%zu parameters)", a->n);
    a->v = a->m + a->n;
    return RMAS_OK;
}

void rm_adamw_free(rm_adamw *a) {
    rm_free(a->m);
    *a = (rm_adamw){0};
}

typedef struct {
    float *p, *m, *v;
    const float *g;
    size_t n;
    double keep, rate, beta1, beta2, root2, eps; /* keep: 1 - rate * decay; root2: sqrt(1 - beta2^t) */
    double *part, factor;
} job;

static void update_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    size_t from = (size_t)chunk * CHUNK, to = from + CHUNK < j->n ? from + CHUNK : j->n;
    for (size_t i = from; i < to; i++) {
        double g = (double)((float)((double)j->g[i] * j->factor)); /* the clipped gradient, in float as it would be kept */
        float m = (float)(j->beta1 * (double)j->m[i] + (1 - j->beta1) * g);
        float v = (float)(j->beta2 * (double)j->v[i] + (1 - j->beta2) * g * g);
        j->m[i] = m;
        j->v[i] = v;
        j->p[i] = (float)((double)j->p[i] * j->keep - j->rate * (double)m / (sqrt((double)v) / j->root2 + j->eps));
    }
}

static void squares_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    size_t from = (size_t)chunk * CHUNK, to = from + CHUNK < j->n ? from + CHUNK : j->n;
    double s = 0;
    for (size_t i = from; i < to; i++) s += (double)j->g[i] * (double)j->g[i];
    j->part[chunk] = s;
}

static void scale_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    job *j = ctx;
    size_t from = (size_t)chunk * CHUNK, to = from + CHUNK < j->n ? from + CHUNK : j->n;
    for (size_t i = from; i < to; i++) j->p[i] = (float)((double)j->p[i] * j->factor);
}

static int chunks(size_t n) { return (int)((n + CHUNK - 1) / CHUNK); }

rmas_status rm_adamw_step(rm_adamw *a, rm_exec *e, rm_link *l, const float *grad, double scale, const rm_adamw_options *o, double factor,
                          rmas_error *err) {
    a->t++;
    double lr = o->lr * factor, c1 = 1 - pow(o->beta1, (double)a->t), c2 = 1 - pow(o->beta2, (double)a->t);
    for (int i = 0; i < rm_link_n_param(l); i++) {
        const rm_link_param *p = rm_link_param_at(l, i);
        double decay = o->decay_all || p->n_dim > 1 ? o->weight_decay : 0;
        job j = {.p = p->value,
                 .m = a->m + p->at,
                 .v = a->v + p->at,
                 .g = grad + p->at,
                 .n = p->n,
                 .keep = 1 - lr * decay,
                 .rate = lr / c1,
                 .beta1 = o->beta1,
                 .beta2 = o->beta2,
                 .root2 = sqrt(c2),
                 .eps = o->eps,
                 .factor = scale};
        rm_pool_run(e->pool, chunks(p->n), update_chunk, &j);
    }
    return rm_link_changed(l, err);
}

bool rm_schedule_parse(const char *s, rm_schedule *out) {
    if (!strcmp(s, "cosine"))
        *out = RM_SCHEDULE_COSINE;
    else if (!strcmp(s, "constant"))
        *out = RM_SCHEDULE_CONSTANT;
    else
        return false;
    return true;
}

double rm_schedule_factor(rm_schedule kind, int64_t done, int64_t warmup, int64_t total) {
    if (done < warmup) return (double)done / (double)(warmup > 1 ? warmup : 1);
    if (kind == RM_SCHEDULE_CONSTANT) return 1;
    double p = (double)(done - warmup) / (double)(total - warmup > 1 ? total - warmup : 1);
    double f = 0.5 * (1 + cos(3.14159265358979323846 * p));
    return f > 0 ? f : 0;
}

double rm_sum_squares(rm_exec *e, const float *x, size_t n) {
    enum { GROUP = 1024 }; /* chunks whose sums are kept at once */
    double part[GROUP], s = 0;
    for (size_t at = 0; at < n; at += (size_t)GROUP * CHUNK) {
        size_t count = n - at < (size_t)GROUP * CHUNK ? n - at : (size_t)GROUP * CHUNK;
        job j = {.g = x + at, .n = count, .part = part};
        rm_pool_run(e->pool, chunks(count), squares_chunk, &j);
        for (int c = 0; c < chunks(count); c++) s += part[c];
    }
    return s;
}

void rm_scale(rm_exec *e, float *x, size_t n, double factor) {
    job j = {.p = x, .n = n, .factor = factor};
    rm_pool_run(e->pool, chunks(n), scale_chunk, &j);
}

double rm_clip_scale(double norm, double limit) {
    double s = limit / (norm + 1e-6);
    return limit > 0 && s < 1 ? s : 1;
}
