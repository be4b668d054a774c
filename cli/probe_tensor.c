/* rmas probe tensor FILE NAME -o OUT: one stored tensor, dequantised to float32. */
#include "probe.h"
#include "weights/weights.h"

static rmas_status write_value(const rm_tensor *t, const char *out, rmas_error *err) {
    rm_outputs *o = rm_outputs_new();
    float *v = o ? rm_outputs_f32(o, "value", t->n_dim, t->dim) : NULL;
    rmas_status s;
    if (!v)
        s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for %lld values", out, (long long)rm_tensor_count(t));
    else {
        rm_dequant(t->dtype, t->data, v, (size_t)rm_tensor_count(t));
        s = rm_outputs_write(o, out, err);
    }
    rm_outputs_free(o);
    return s;
}

int probe_tensor(int argc, char **argv) {
    rm_probe_options o = RM_PROBE_DEFAULTS;
    const rm_opt opts[] = {RM_PROBE_OUT(o), RM_PROBE_ENGINE(o), {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas probe tensor FILE NAME -o OUT", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    if (n_word != 2 || !o.out) {
        rm_fail(&err, RMAS_E_ARG, "needs a file or folder, the name of a tensor and -o OUT");
        return rm_cli_fail(argv[0], &err);
    }
    rm_weights *w;
    rmas_status s = rm_weights_open(&w, argv[1], &err);
    if (s == RMAS_OK) {
        const rm_tensor *t = rm_weights_find(w, argv[2]);
        s = t ? write_value(t, o.out, &err) : rm_fail(&err, RMAS_E_ARG, "%s: no tensor '%s' among %d", argv[1], argv[2], rm_weights_count(w));
    }
    rm_weights_close(w);
    return s == RMAS_OK ? 0 : rm_cli_fail(argv[0], &err);
}
