/* rmas probe link, rmas probe link-grad: a link applied to rows, and its gradients. */
#include "link/link.h"
#include "probe.h"
#include "util/mem.h"

typedef struct {
    rm_probe_options o;
    const char *type;
} link_options;

/* Parses; opens the link. Returns 0, or what the command returns at once. */
static int open_link(int argc, char **argv, const char *usage, link_options *lo, rm_exec **e, rm_link **l, rm_inputs **in, bool exact) {
    const rm_opt opts[] = {RM_PROBE_IN(lo->o),
                           RM_PROBE_OUT(lo->o),
                           RM_PROBE_ENGINE(lo->o),
                           {"type", RM_OPT_STRING, &lo->type, NULL, "NAME", "link type, where the tensors do not tell"},
                           {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, usage, &n_word);
    if (r) return r == 2 ? -1 : 1;
    rmas_error err = {0};
    rm_precision p = RM_EXACT;
    rmas_status s = n_word == 1 && lo->o.in && lo->o.out ? RMAS_OK : rm_fail(&err, RMAS_E_ARG, "needs a link file, -i IN and -o OUT");
    if (s == RMAS_OK) s = rm_probe_engine(&lo->o, e, &p, &err);
    if (s == RMAS_OK && exact && p != RM_EXACT) s = rm_fail(&err, RMAS_E_ARG, "--dtype: gradients are computed in f32 only");
    if (s == RMAS_OK) s = rm_link_open(l, *e, argv[1], lo->type, p, &err);
    if (s == RMAS_OK) s = rm_inputs_open(in, lo->o.in, &err);
    return s == RMAS_OK ? 0 : rm_cli_fail(argv[0], &err);
}

/* Tensor `name` with rows of this width. */
static rmas_status rows(rm_inputs *in, const char *file, const char *name, int width, const float **v, int *n, rmas_error *err) {
    int d;
    RM_TRY(rm_inputs_f32(in, name, -1, v, n, &d, err));
    if (!*v) return rm_fail(err, RMAS_E_ARG, "%s: no tensor '%s'", file, name);
    if (d != width) return rm_fail(err, RMAS_E_SHAPE, "%s: tensor '%s' has rows of %d numbers, the link needs %d", file, name, d, width);
    return RMAS_OK;
}

static rmas_status apply(rm_link *l, rm_inputs *in, const char *file, rm_outputs *out, rmas_error *err) {
    const float *x = NULL;
    int n = 0;
    RM_TRY(rows(in, file, "x", rm_link_d_in(l), &x, &n, err));
    RM_TRY(rm_inputs_done(in, err));
    float *y = rm_outputs_f32(out, "y", 2, (int64_t[]){n, rm_link_d_out(l)});
    return y ? rm_link_apply(l, x, n, y, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for %d rows", n);
}

static rmas_status gradients(rm_link *l, rm_inputs *in, const char *file, rm_outputs *out, rmas_error *err) {
    const float *x = NULL, *dy = NULL;
    int n = 0, n_dy = 0, d_in = rm_link_d_in(l), d_out = rm_link_d_out(l);
    RM_TRY(rows(in, file, "x", d_in, &x, &n, err));
    RM_TRY(rows(in, file, "dy", d_out, &dy, &n_dy, err));
    if (n != n_dy) return rm_fail(err, RMAS_E_SHAPE, "%s: 'x' has %d rows, 'dy' has %d", file, n, n_dy);
    RM_TRY(rm_inputs_done(in, err));
    float *y = rm_outputs_f32(out, "y", 2, (int64_t[]){n, d_out}), *dx = rm_outputs_f32(out, "dx", 2, (int64_t[]){n, d_in});
    float *grad = rm_calloc(rm_link_n_value(l), sizeof(float));
    rmas_status s = y && dx && grad ? rm_link_apply(l, x, n, y, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for %d rows", n);
    if (s == RMAS_OK) s = rm_link_backward(l, x, n, dy, dx, grad, err);
    for (int i = 0; i < rm_link_n_param(l) && s == RMAS_OK; i++) {
        const rm_link_param *p = rm_link_param_at(l, i);
        char name[64];
        snprintf(name, sizeof name, "d.%s", p->name);
        float *d = rm_outputs_f32(out, name, p->n_dim, p->dim);
        if (d)
            memcpy(d, grad + p->at, p->n * sizeof(float));
        else
            s = rm_fail(err, RMAS_E_NOMEM, "out of memory for %s", name);
    }
    rm_free(grad);
    return s;
}

static int probe(int argc, char **argv, const char *usage, bool exact,
                 rmas_status (*compute)(rm_link *l, rm_inputs *in, const char *file, rm_outputs *out, rmas_error *err)) {
    link_options lo = {.o = RM_PROBE_DEFAULTS};
    rm_exec *e = NULL;
    rm_link *l = NULL;
    rm_inputs *in = NULL;
    rm_outputs *out = NULL;
    rmas_error err = {0};
    int r = open_link(argc, argv, usage, &lo, &e, &l, &in, exact);
    if (r == 0) {
        rmas_status s = (out = rm_outputs_new()) ? RMAS_OK : rm_fail(&err, RMAS_E_NOMEM, "out of memory");
        if (s == RMAS_OK) s = compute(l, in, lo.o.in, out, &err);
        if (s == RMAS_OK) s = rm_outputs_write(out, lo.o.out, &err);
        r = s == RMAS_OK ? 0 : rm_cli_fail(argv[0], &err);
    }
    rm_outputs_free(out);
    rm_inputs_close(in);
    rm_link_close(l);
    rm_exec_free(e);
    return r < 0 ? 0 : r;
}

int probe_link(int argc, char **argv) { return probe(argc, argv, "rmas probe link LINK -i IN -o OUT", false, apply); }

int probe_link_grad(int argc, char **argv) { return probe(argc, argv, "rmas probe link-grad LINK -i IN -o OUT", true, gradients); }
