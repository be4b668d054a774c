/* rmas probe forward, rollout: hidden states and logits of a model, and its latent rollouts. */
#include "probe_model.h"

#include <errno.h>
#include <stdlib.h>

#include "link/link.h"
#include "util/mem.h"

/* ---- shared by the probes of a model ----------------------------------------------------------------------------------- */

static rmas_status splice(rm_probe_model *p, rm_probe_seq *s, rmas_error *err) {
    const float *row;
    const int32_t *pos;
    int n_row, d, n_pos, d_model = rm_model_config(p->model)->d_model;
    RM_TRY(rm_inputs_f32(p->in, "embeds", s->number, &row, &n_row, &d, err));
    RM_TRY(rm_inputs_i32(p->in, "embed_pos", s->number, &pos, &n_pos, err));
    if (!row != !pos) return rm_fail(err, RMAS_E_ARG, "%s: embeds and embed_pos come together", p->o.in);
    if (!row) return RMAS_OK;
    if (n_row != n_pos || d != d_model)
        return rm_fail(err, RMAS_E_SHAPE, "%s: embeds is [%d, %d], expected [%d, %d]: a row for each of embed_pos", p->o.in, n_row, d, n_pos,
                       d_model);
    s->embeds = rm_calloc((size_t)s->n, (size_t)d * sizeof *s->embeds);
    if (!s->embeds) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d embeddings", s->n);
    for (int i = 0; i < n_pos; i++) {
        if (pos[i] < 0 || pos[i] >= s->n) return rm_fail(err, RMAS_E_ARG, "%s: embed_pos %d of a sequence of %d", p->o.in, (int)pos[i], s->n);
        s->tokens[pos[i]] = -1;
        memcpy(s->embeds + (size_t)pos[i] * (size_t)d, row + (size_t)i * (size_t)d, (size_t)d * sizeof *row);
    }
    return RMAS_OK;
}

static rmas_status read_sequence(rm_probe_model *p, rm_probe_seq *s, rmas_error *err) {
    const int32_t *t;
    RM_TRY(rm_inputs_i32(p->in, "tokens", s->number, &t, &s->n, err));
    if (s->n < 1) return rm_fail(err, RMAS_E_ARG, "%s: a sequence without tokens", p->o.in);
    s->tokens = rm_array((size_t)s->n, sizeof *s->tokens);
    if (!s->tokens) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d tokens", s->n);
    for (int i = 0; i < s->n; i++) s->tokens[i] = t[i] < 0 ? INT32_MAX : t[i]; /* refused later, unless a row replaces it */
    RM_TRY(splice(p, s, err));
    return rm_seq_new(&s->seq, p->model, err);
}

rmas_status rm_probe_model_open(rm_probe_model *p, const char *path, rmas_error *err) {
    const int *number;
    if (!p->o.in || !p->o.out) return rm_fail(err, RMAS_E_ARG, "needs a model, -i IN and -o OUT");
    RM_TRY(rm_probe_engine(&p->o, &p->exec, &p->precision, err));
    RM_TRY(rm_model_open(&p->model, p->exec, path, p->precision, err));
    RM_TRY(rm_inputs_open(&p->in, p->o.in, err));
    RM_TRY(rm_inputs_series(p->in, "tokens", &number, &p->n_seq, err));
    p->seq = rm_calloc((size_t)p->n_seq, sizeof *p->seq);
    if (!p->seq || !(p->out = rm_outputs_new())) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d sequences", p->n_seq);
    for (int i = 0; i < p->n_seq; i++) {
        p->seq[i].number = number[i];
        RM_TRY(read_sequence(p, &p->seq[i], err));
    }
    return rm_batch_new(&p->batch, p->model, err);
}

int rm_probe_model_close(rm_probe_model *p, const char *command, rmas_status status, rmas_error *err) {
    if (status == RMAS_OK) status = rm_outputs_write(p->out, p->o.out, err);
    for (int i = 0; p->seq && i < p->n_seq; i++) {
        rm_free(p->seq[i].tokens);
        rm_free(p->seq[i].embeds);
        rm_seq_free(p->seq[i].seq);
    }
    rm_free(p->seq);
    rm_batch_free(p->batch);
    rm_inputs_close(p->in);
    rm_outputs_free(p->out);
    rm_model_close(p->model);
    rm_exec_free(p->exec);
    return status == RMAS_OK ? 0 : rm_cli_fail(command, err);
}

rmas_status rm_probe_array(rm_probe_model *p, const rm_probe_seq *s, const char *name, int n_row, int n_col, float **out, rmas_error *err) {
    char full[96];
    rm_array_name(full, name, s->number);
    *out = rm_outputs_f32(p->out, full, 2, (int64_t[]){n_row, n_col});
    return *out ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for %s", full);
}

/* ---- forward ----------------------------------------------------------------------------------------------------------- */

/* "last", "all" or "i,j,k" into rows of a sequence of n; *row is for the caller to free. */
static rmas_status parse_rows(const char *s, int n, int **row, int *n_row, rmas_error *err) {
    bool all = strcmp(s, "all") == 0, last = strcmp(s, "last") == 0;
    int cap = all ? n : 1;
    for (const char *c = s; !all && *c; c++) cap += *c == ',';
    *row = rm_array((size_t)cap, sizeof **row);
    *n_row = 0;
    if (!*row) return rm_fail(err, RMAS_E_NOMEM, "out of memory for --logits");
    for (int i = 0; all && i < n; i++) (*row)[(*n_row)++] = i;
    if (last) (*row)[(*n_row)++] = n - 1;
    while (!all && !last) {
        char *end;
        errno = 0;
        long v = strtol(s, &end, 10);
        if (end == s || (*end && *end != ',') || errno || v < 0 || v >= n)
            return rm_fail(err, RMAS_E_ARG, "--logits: '%.40s': expected last, all, or positions below %d with commas between", s, n);
        (*row)[(*n_row)++] = (int)v;
        if (!*end) break;
        s = end + 1;
    }
    return RMAS_OK;
}

/* Copies rows [at, at + n) of an array over all sequences to an output of one. */
static rmas_status put_rows(rm_probe_model *p, const rm_probe_seq *s, const char *name, const float *all, size_t at, int n, int width,
                            rmas_error *err) {
    float *v;
    RM_TRY(rm_probe_array(p, s, name, n, width, &v, err));
    memcpy(v, all + at * (size_t)width, (size_t)n * (size_t)width * sizeof *v);
    return RMAS_OK;
}

typedef struct {
    rm_feed *feed;
    int *row, *n_row; /* wanted logits: rows over all sequences; how many of each sequence */
    rm_tap tap;
    size_t total;
} forward_job;

static rmas_status prepare(rm_probe_model *p, forward_job *f, const char *rows, bool layers, rmas_error *err) {
    const rm_config *c = rm_model_config(p->model);
    size_t d = (size_t)c->d_model;
    f->feed = rm_calloc((size_t)p->n_seq, sizeof *f->feed);
    f->n_row = rm_calloc((size_t)p->n_seq, sizeof *f->n_row);
    if (!f->feed || !f->n_row) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d sequences", p->n_seq);
    for (int i = 0; i < p->n_seq; i++) {
        const rm_probe_seq *s = &p->seq[i];
        int *row = NULL;
        rmas_status st = parse_rows(rows, s->n, &row, &f->n_row[i], err);
        int *grown = st == RMAS_OK ? rm_realloc_array(f->row, (size_t)(f->tap.n_logit_row + f->n_row[i]) + 1, sizeof *grown) : NULL;
        if (grown) f->row = grown;
        for (int k = 0; grown && k < f->n_row[i]; k++) f->row[f->tap.n_logit_row++] = row[k] + (int)f->total;
        rm_free(row);
        if (!grown) return st != RMAS_OK ? st : rm_fail(err, RMAS_E_NOMEM, "out of memory for --logits");
        f->feed[i] = (rm_feed){.seq = s->seq, .n = s->n, .tokens = s->tokens, .embeds = s->embeds};
        f->total += (size_t)s->n;
    }
    f->tap.logit_row = f->row;
    f->tap.hidden = rm_array(f->total, d * sizeof(float));
    f->tap.logits = rm_array((size_t)f->tap.n_logit_row + 1, (size_t)c->n_vocab * sizeof(float));
    if (layers) f->tap.layers = rm_array((size_t)(c->n_layer + 1) * f->total, d * sizeof(float));
    if (!f->tap.hidden || !f->tap.logits || (layers && !f->tap.layers)) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the outputs");
    return RMAS_OK;
}

static rmas_status forward(rm_probe_model *p, forward_job *f, const char *rows, bool layers, rmas_error *err) {
    const rm_config *c = rm_model_config(p->model);
    RM_TRY(rm_inputs_done(p->in, err));
    RM_TRY(prepare(p, f, rows, layers, err));
    RM_TRY(rm_batch_forward_tap(p->batch, f->feed, p->n_seq, &f->tap, err));
    size_t at = 0, logit = 0;
    for (int i = 0; i < p->n_seq; i++) {
        const rm_probe_seq *s = &p->seq[i];
        RM_TRY(put_rows(p, s, "hidden", f->tap.hidden, at, s->n, c->d_model, err));
        RM_TRY(put_rows(p, s, "logits", f->tap.logits, logit, f->n_row[i], c->n_vocab, err));
        for (int il = 0; layers && il <= c->n_layer; il++) {
            char name[32];
            snprintf(name, sizeof name, "layer.%d", il);
            RM_TRY(put_rows(p, s, name, f->tap.layers, (size_t)il * f->total + at, s->n, c->d_model, err));
        }
        at += (size_t)s->n;
        logit += (size_t)f->n_row[i];
    }
    return RMAS_OK;
}

int probe_forward(int argc, char **argv) {
    rm_probe_model p = {.o = RM_PROBE_DEFAULTS};
    const char *rows = "last";
    bool layers = false;
    const rm_opt opts[] = {RM_PROBE_IN(p.o),
                           RM_PROBE_OUT(p.o),
                           RM_PROBE_ENGINE(p.o),
                           {"layers", RM_OPT_FLAG, &layers, NULL, NULL, "also the outputs of all layers"},
                           {"logits", RM_OPT_STRING, &rows, NULL, "ROWS", "last, all, or positions i,j,k"},
                           {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas probe forward MODEL -i IN -o OUT", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    forward_job f = {0};
    rmas_status st = n_word == 1 ? rm_probe_model_open(&p, argv[1], &err) : rm_fail(&err, RMAS_E_ARG, "needs one model");
    if (st == RMAS_OK) st = forward(&p, &f, rows, layers, &err);
    rm_free(f.feed);
    rm_free(f.row);
    rm_free(f.n_row);
    rm_free(f.tap.hidden);
    rm_free(f.tap.logits);
    rm_free(f.tap.layers);
    return rm_probe_model_close(&p, argv[0], st, &err);
}

/* ---- rollout ----------------------------------------------------------------------------------------------------------- */

static rmas_status roll(rm_probe_model *p, const rm_link *l, int n_step, rm_feed *feed, float **hidden, float **link, rmas_error *err) {
    int d = rm_model_config(p->model)->d_model;
    size_t width = (size_t)d;
    for (int i = 0; i < p->n_seq; i++) {
        const rm_probe_seq *s = &p->seq[i];
        RM_TRY(rm_probe_array(p, s, "hidden", n_step, d, &hidden[i], err));
        RM_TRY(rm_probe_array(p, s, "link", n_step, d, &link[i], err));
        feed[i] = (rm_feed){.seq = s->seq, .n = s->n, .tokens = s->tokens, .embeds = s->embeds};
    }
    for (int k = 0; k < n_step; k++) {
        RM_TRY(rm_batch_forward(p->batch, feed, p->n_seq, err));
        for (int i = 0; i < p->n_seq; i++) {
            float *e = link[i] + (size_t)k * width;
            memcpy(hidden[i] + (size_t)k * width, rm_batch_hidden(p->batch, i), width * sizeof *e);
            RM_TRY(rm_link_apply(l, hidden[i] + (size_t)k * width, 1, e, err));
            feed[i] = (rm_feed){.seq = p->seq[i].seq, .n = 1, .embeds = e, .step = true};
        }
    }
    return RMAS_OK;
}

int probe_rollout(int argc, char **argv) {
    rm_probe_model p = {.o = RM_PROBE_DEFAULTS};
    const char *type = NULL;
    int64_t n_step = 0;
    const rm_opt opts[] = {RM_PROBE_IN(p.o),
                           RM_PROBE_OUT(p.o),
                           RM_PROBE_ENGINE(p.o),
                           {"steps", RM_OPT_INT, &n_step, NULL, "M", "latent steps"},
                           {"type", RM_OPT_STRING, &type, NULL, "NAME", "link type, where the tensors do not tell"},
                           {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas probe rollout MODEL LINK --steps M -i IN -o OUT", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    rm_link *l = NULL;
    rmas_status st =
        n_word == 2 && n_step >= 1 && n_step <= 1 << 20 ? RMAS_OK : rm_fail(&err, RMAS_E_ARG, "needs a model, a link and --steps from 1 on");
    if (st == RMAS_OK) st = rm_probe_model_open(&p, argv[1], &err);
    if (st == RMAS_OK) st = rm_inputs_done(p.in, &err);
    if (st == RMAS_OK) st = rm_link_open(&l, p.exec, argv[2], type, p.precision, &err);
    if (st == RMAS_OK && (rm_link_d_in(l) != rm_link_d_out(l) || rm_link_d_in(l) != rm_model_config(p.model)->d_model))
        st = rm_fail(&err, RMAS_E_SHAPE, "%s: a link from %d to %d does not fit hidden states of %d", argv[2], rm_link_d_in(l), rm_link_d_out(l),
                     rm_model_config(p.model)->d_model);
    size_t n = (size_t)(p.n_seq > 0 ? p.n_seq : 1);
    rm_feed *feed = rm_calloc(n, sizeof *feed);
    float **row = rm_calloc(2 * n, sizeof(float *));
    if (st == RMAS_OK && (!feed || !row)) st = rm_fail(&err, RMAS_E_NOMEM, "out of memory for %d sequences", p.n_seq);
    if (st == RMAS_OK) st = roll(&p, l, (int)n_step, feed, row, row + n, &err);
    rm_free(feed);
    rm_free(row);
    rm_link_close(l);
    return rm_probe_model_close(&p, argv[0], st, &err);
}
