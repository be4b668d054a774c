/* rmas probe grad: gradients of a loss with respect to the input embeddings of one sequence. */
#include "probe_model.h"
#include "session/grad.h"
#include "util/mem.h"

/* Mean cross-entropy; labels[t] is what the logits of t - 1 should say. */
static rmas_status ce_loss(rm_probe_model *p, const int32_t *label, int n, const float *hidden, float *d_hidden, float *loss, rmas_error *err) {
    int32_t *next = rm_array((size_t)n, sizeof *next);
    if (!next) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d labels", n);
    int count = 0, n_loss;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        next[i] = i + 1 < n ? label[i + 1] : -100;
        count += next[i] >= 0;
    }
    rmas_status st = count ? RMAS_OK : rm_fail(err, RMAS_E_ARG, "%s: all labels are ignored", p->o.in);
    if (st == RMAS_OK) st = rm_cross_entropy(p->model, hidden, next, n, 1 / (float)count, &sum, &n_loss, d_hidden, err);
    rm_free(next);
    if (st == RMAS_OK) *loss = (float)(sum / count);
    return st;
}

static rmas_status read_loss(rm_probe_model *p, const rm_probe_seq *s, const int32_t **label, const float **proj, rmas_error *err) {
    int n = 0, rows = 0, d = 0, d_model = rm_model_config(p->model)->d_model;
    RM_TRY(rm_inputs_i32(p->in, "labels", s->number, label, &n, err));
    RM_TRY(rm_inputs_f32(p->in, "proj", s->number, proj, &rows, &d, err));
    RM_TRY(rm_inputs_done(p->in, err));
    if (!*label == !*proj) return rm_fail(err, RMAS_E_ARG, "%s: needs labels or proj", p->o.in);
    if (*label && n != s->n) return rm_fail(err, RMAS_E_SHAPE, "%s: %d labels for %d tokens", p->o.in, n, s->n);
    if (*proj && (rows != s->n || d != d_model))
        return rm_fail(err, RMAS_E_SHAPE, "%s: proj is [%d, %d], expected [%d, %d]", p->o.in, rows, d, s->n, d_model);
    return RMAS_OK;
}

static rmas_status gradient(rm_probe_model *p, rm_tape *t, rmas_error *err) {
    const rm_probe_seq *s = p->seq;
    const int32_t *label;
    const float *proj;
    int d = rm_model_config(p->model)->d_model;
    size_t n = (size_t)s->n * (size_t)d;
    if (p->n_seq != 1) return rm_fail(err, RMAS_E_ARG, "%s: %d sequences, expected one", p->o.in, p->n_seq);
    RM_TRY(read_loss(p, s, &label, &proj, err));
    float *d_embeds, *loss, *hidden = rm_array(n, sizeof *hidden);
    rmas_status st =
        hidden ? rm_probe_array(p, s, "d_embeds", s->n, d, &d_embeds, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for hidden states");
    if (st == RMAS_OK && !(loss = rm_outputs_f32(p->out, "loss", 1, (int64_t[]){1}))) st = rm_fail(err, RMAS_E_NOMEM, "out of memory for the loss");
    if (st == RMAS_OK) st = rm_tape_begin(t, 1, NULL, err);
    if (st == RMAS_OK) st = rm_tape_push(t, &(rm_tape_rows){.n = s->n, .tokens = s->tokens, .embeds = s->embeds, .hidden = hidden}, 1, err);
    if (st == RMAS_OK && label) st = ce_loss(p, label, s->n, hidden, d_embeds, loss, err);
    if (st == RMAS_OK && proj) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)proj[i] * hidden[i];
        *loss = (float)sum;
        memcpy(d_embeds, proj, n * sizeof *proj);
    }
    if (st == RMAS_OK) st = rm_tape_pop(t, &(rm_tape_grads){.n = s->n, .d_hidden = d_embeds, .d_embeds = d_embeds}, 1, err);
    rm_free(hidden);
    return st;
}

int probe_grad(int argc, char **argv) {
    rm_probe_model p = {.o = RM_PROBE_DEFAULTS};
    const rm_opt opts[] = {RM_PROBE_IN(p.o), RM_PROBE_OUT(p.o), RM_PROBE_ENGINE(p.o), {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas probe grad MODEL -i IN -o OUT", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    rm_tape *t = NULL;
    rmas_status st = n_word == 1 ? rm_probe_model_open(&p, argv[1], &err) : rm_fail(&err, RMAS_E_ARG, "needs one model");
    if (st == RMAS_OK) st = rm_tape_new(&t, p.model, false, &err);
    if (st == RMAS_OK) st = gradient(&p, t, &err);
    rm_tape_free(t);
    return rm_probe_model_close(&p, argv[0], st, &err);
}
