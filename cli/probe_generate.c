/* rmas probe generate: tokens of a model, with the margins of its logits. */
#include "probe_model.h"
#include "sample/sample.h"
#include "tok/tok.h"
#include "util/mem.h"

typedef struct {
    int64_t n_max, seed;
    double temperature, top_p;
    bool ignore_eos;
    int32_t eos;
} generate_options;

typedef struct {
    int32_t *token; /* [n_max] */
    float *margin;
    int n;
    rm_rng rng;
} reply;

static rmas_status put(rm_probe_model *p, const rm_probe_seq *s, const reply *r, rmas_error *err) {
    char name[96];
    int64_t n = r->n;
    rm_array_name(name, "tokens", s->number);
    int64_t *t = rm_outputs_i64(p->out, name, 1, &n);
    rm_array_name(name, "margin", s->number);
    float *m = rm_outputs_f32(p->out, name, 1, &n);
    if (!t || !m) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d tokens", r->n);
    for (int i = 0; i < r->n; i++) t[i] = r->token[i], m[i] = r->margin[i];
    return RMAS_OK;
}

/* Sequences leave the batch when they are done. who: the sequence of each feed. */
static rmas_status run(rm_probe_model *p, const generate_options *g, reply *out, rm_feed *feed, int *who, void *scratch, rmas_error *err) {
    const rm_sampling how = {.temperature = (float)g->temperature, .top_p = (float)g->top_p};
    int n_vocab = rm_model_config(p->model)->n_vocab, n_live = p->n_seq;
    for (int i = 0; i < n_live; i++) {
        const rm_probe_seq *s = &p->seq[i];
        who[i] = i;
        out[i].rng = rm_rng_make((uint64_t)g->seed, (uint64_t)(s->number < 0 ? 0 : s->number));
        feed[i] = (rm_feed){.seq = s->seq, .n = s->n, .tokens = s->tokens, .embeds = s->embeds, .want_logits = true};
    }
    while (n_live) {
        RM_TRY(rm_batch_forward(p->batch, feed, n_live, err));
        int n = 0;
        for (int i = 0; i < n_live; i++) {
            int k = who[i];
            const float *logits = rm_batch_logits(p->batch, i);
            int32_t *t = &out[k].token[out[k].n];
            *t = rm_argmax(logits, n_vocab, &out[k].margin[out[k].n]);
            if (g->temperature > 0) *t = rm_sample(logits, n_vocab, &how, &out[k].rng, scratch);
            if (*t < 0) return rm_fail(err, RMAS_E_FORMAT, "the logits are not numbers: broken weights?");
            if (++out[k].n == g->n_max || (!g->ignore_eos && *t == g->eos)) continue;
            who[n] = k;
            feed[n++] = (rm_feed){.seq = p->seq[k].seq, .n = 1, .tokens = t, .want_logits = true, .step = true};
        }
        n_live = n;
    }
    return RMAS_OK;
}

static rmas_status generate(rm_probe_model *p, const generate_options *g, rmas_error *err) {
    RM_TRY(rm_inputs_done(p->in, err));
    size_t n = (size_t)p->n_seq;
    reply *r = rm_calloc(n, sizeof *r);
    rm_feed *feed = rm_calloc(n, sizeof *feed);
    int *who = rm_array(n, sizeof *who);
    void *scratch = rm_array((size_t)rm_model_config(p->model)->n_vocab, 8);
    bool ok = r && feed && who && scratch;
    for (size_t i = 0; ok && i < n; i++) {
        r[i].token = rm_array((size_t)g->n_max, sizeof *r->token);
        r[i].margin = rm_array((size_t)g->n_max, sizeof *r->margin);
        ok = r[i].token && r[i].margin;
    }
    rmas_status st = ok ? run(p, g, r, feed, who, scratch, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for %d sequences", p->n_seq);
    for (int i = 0; i < p->n_seq && st == RMAS_OK; i++) st = put(p, &p->seq[i], &r[i], err);
    for (size_t i = 0; r && i < n; i++) {
        rm_free(r[i].token);
        rm_free(r[i].margin);
    }
    rm_free(r);
    rm_free(feed);
    rm_free(who);
    rm_free(scratch);
    return st;
}

static rmas_status end_token(const char *model, int32_t *id, rmas_error *err) {
    rm_tok *t;
    RM_TRY(rm_tok_open(&t, model, err));
    *id = rm_tok_eos(t);
    rm_tok_close(t);
    return RMAS_OK;
}

int probe_generate(int argc, char **argv) {
    rm_probe_model p = {.o = RM_PROBE_DEFAULTS};
    generate_options g = {.top_p = 1, .eos = -1};
    const rm_opt opts[] = {RM_PROBE_IN(p.o),
                           RM_PROBE_OUT(p.o),
                           RM_PROBE_ENGINE(p.o),
                           {"max_new_tokens", RM_OPT_INT, &g.n_max, NULL, "N", "at most so many tokens"},
                           {"ignore_eos", RM_OPT_FLAG, &g.ignore_eos, NULL, NULL, "go on after the end token"},
                           {"temperature", RM_OPT_FLOAT, &g.temperature, NULL, "T", "0: greedy"},
                           {"top_p", RM_OPT_FLOAT, &g.top_p, NULL, "P", "mass of the most likely tokens to draw from"},
                           {"seed", RM_OPT_INT, &g.seed, NULL, "S", "of the random numbers"},
                           {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas probe generate MODEL -i IN -o OUT --max-new-tokens N", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    rmas_status st =
        n_word == 1 && g.n_max >= 1 && g.n_max <= 1 << 24 ? RMAS_OK : rm_fail(&err, RMAS_E_ARG, "needs a model and --max-new-tokens from 1 on");
    if (st == RMAS_OK) st = rm_probe_model_open(&p, argv[1], &err);
    if (st == RMAS_OK && !g.ignore_eos) st = end_token(argv[1], &g.eos, &err);
    if (st == RMAS_OK) st = generate(&p, &g, &err);
    return rm_probe_model_close(&p, argv[0], st, &err);
}
