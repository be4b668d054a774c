/* A latent stage: the group's prompts, the rollout of latent steps with the KV cache, and the messages to the receivers. */
#include <string.h>

#include "system/engine.h"
#include "util/mem.h"

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

typedef struct {
    rm_runner *r;
    rm_job *const *job;
    int n, m, d; /* questions, latent steps, width */
    const rm_stage *st;
    rm_prompt *prompt;
    rm_seq **seq;
    rm_feed *feed;
    float *hidden, *inner; /* [n, m, d] */
    float *x, *y; /* [n, d]: one step */
} stage;

static void event(const stage *s, int step) {
    const rm_run_hooks *h = s->r->hooks;
    rm_event e = {.kind = RM_EVENT_STAGE,
                  .role = s->r->team->agent[s->st->agent].role,
                  .round = s->st->round,
                  .n_round = s->r->plan.n_round,
                  .n_question = s->n,
                  .step = step,
                  .n_step = s->m,
                  .n_done = s->r->n_done,
                  .n_total = s->r->n_total};
    if (h->event) h->event(h->ctx, &e);
}

/* ref: the state at the last prompt position is the first latent; each inner output is the next input embedding; the last one is
 * not run through the model. */
static rmas_status rollout(stage *s, rmas_error *err) {
    const rm_agent *a = &s->r->team->agent[s->st->agent];
    size_t d = (size_t)s->d, m = (size_t)s->m;
    for (int t = 0; t < s->m; t++) {
        if (rm_run_cancelled(s->r)) return rm_fail(err, RMAS_E_CANCELLED, "cancelled");
        if (t) {
            for (int i = 0; i < s->n; i++) s->feed[i] = (rm_feed){.seq = s->seq[i], .n = 1, .embeds = s->y + (size_t)i * d, .step = true};
            RM_TRY(rm_batch_forward(a->batch, s->feed, s->n, err));
        }
        for (int i = 0; i < s->n; i++) {
            const float *h = rm_batch_hidden(a->batch, i);
            memcpy(s->x + (size_t)i * d, h, d * sizeof(float));
            memcpy(s->hidden + ((size_t)i * m + (size_t)t) * d, h, d * sizeof(float));
        }
        RM_TRY(rm_link_apply(a->inner, s->x, s->n, s->y, err));
        for (int i = 0; i < s->n; i++) memcpy(s->inner + ((size_t)i * m + (size_t)t) * d, s->y + (size_t)i * d, d * sizeof(float));
        event(s, t + 1);
    }
    return RMAS_OK;
}

static rmas_status send_along(stage *s, int e, rmas_error *err) {
    const rm_edge_spec *x = &s->r->sys->edge[e];
    const char *role = s->r->team->agent[s->st->agent].role;
    size_t d = (size_t)s->d, m = (size_t)s->m, d_to = (size_t)s->r->team->agent[x->to].d_model;
    const rm_messages kind = s->r->o->messages;
    for (int i = 0; i < s->n; i++) {
        rm_job *j = s->job[i];
        size_t from = kind == RM_MESSAGES_OTHER ? (size_t)((i + 1) % s->n) : (size_t)i;
        rm_free(j->mail[e]);
        j->mail[e] = kind == RM_MESSAGES_ZERO ? rm_calloc(m * d_to, sizeof(float)) : rm_array(m * d_to, sizeof(float));
        if (!j->mail[e]) return nomem(err);
        if (kind != RM_MESSAGES_ZERO) RM_TRY(rm_link_apply(s->r->team->outer[e], s->inner + from * m * d, s->m, j->mail[e], err));
        if (j->rec) RM_TRY(rm_record_rows(j->rec, s->st->round, role, x->key, j->mail[e], s->m, (int)d_to, err));
    }
    return RMAS_OK;
}

static rmas_status record(stage *s, rmas_error *err) {
    const char *role = s->r->team->agent[s->st->agent].role;
    size_t at = (size_t)s->m * (size_t)s->d;
    for (int i = 0; i < s->n; i++) {
        rm_job *j = s->job[i];
        if (!j->rec) continue;
        if (!rm_record_stage(s->r, j, s->st, "latent", &s->prompt[i])) return nomem(err);
        RM_TRY(rm_record_rows(j->rec, s->st->round, role, "hidden", s->hidden + (size_t)i * at, s->m, s->d, err));
        RM_TRY(rm_record_rows(j->rec, s->st->round, role, "inner", s->inner + (size_t)i * at, s->m, s->d, err));
    }
    return RMAS_OK;
}

static rmas_status run_stage(stage *s, rmas_error *err) {
    rm_run_phase(s->r, s->st, RM_PHASE_PREFILL);
    for (int i = 0; i < s->n; i++) RM_TRY(rm_prompt_make(&s->prompt[i], s->r, s->job[i], s->st, err));
    event(s, 0);
    RM_TRY(rm_prefill(s->r, s->job, s->prompt, s->n, s->st, 0, s->seq, err));
    rm_run_phase(s->r, s->st, RM_PHASE_LATENT);
    RM_TRY(rollout(s, err));
    for (int i = 0; i < s->n; i++) s->job[i]->answer.n_latent += s->m;
    RM_TRY(record(s, err));
    for (int e = 0; e < s->r->sys->n_edge; e++) {
        const rm_edge_spec *x = &s->r->sys->edge[e];
        if (x->from == s->st->agent && !(x->feedback && s->st->round == s->r->plan.n_round)) RM_TRY(send_along(s, e, err));
    }
    return RMAS_OK;
}

rmas_status rm_latent_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err) {
    stage s = {.r = r, .job = job, .n = n, .m = r->o->latent_steps, .d = r->team->agent[st->agent].d_model, .st = st};
    size_t rows = (size_t)n * (size_t)s.m, row = (size_t)s.d * sizeof(float);
    s.prompt = rm_calloc((size_t)n, sizeof *s.prompt);
    s.seq = rm_calloc((size_t)n, sizeof(rm_seq *));
    s.feed = rm_calloc((size_t)n, sizeof *s.feed);
    s.hidden = rm_array(rows, row);
    s.inner = rm_array(rows, row);
    s.x = rm_array((size_t)n, row);
    s.y = rm_array((size_t)n, row);
    bool ok = s.prompt && s.seq && s.feed && s.hidden && s.inner && s.x && s.y;
    rmas_status status = ok ? run_stage(&s, err) : nomem(err);
    for (int i = 0; i < n; i++) {
        if (s.prompt) rm_prompt_free(&s.prompt[i]);
        if (s.seq) rm_seq_free(s.seq[i]);
    }
    rm_free(s.prompt);
    rm_free(s.seq);
    rm_free(s.feed);
    rm_free(s.hidden);
    rm_free(s.inner);
    rm_free(s.x);
    rm_free(s.y);
    return status;
}
