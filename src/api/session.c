/* Sessions of rmas.h: numbered sequences over rm_seq and rm_batch. */
#include <string.h>

#include "api/handles.h"
#include "sample/sample.h"
#include "util/mem.h"

struct rmas_session {
    const rm_model *model;
    rm_batch *batch;
    rm_seq **seq; /* [n_seq] */
    int *place; /* [n_seq] of the sequence in the latest feed; -1: not in it */
    rm_feed *feed; /* [n_seq] */
    void *scratch; /* of rm_sample */
    int n_seq;
};

rmas_status rmas_session_new(rmas_session **out, const rmas_model *m, int n_seq, rmas_error *err) {
    *out = NULL;
    if (n_seq < 1) return rm_fail(err, RMAS_E_ARG, "a session needs at least one sequence, not %d", n_seq);
    rmas_session *s = RM_NEW(rmas_session);
    if (!s) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a session");
    s->model = m->model;
    s->n_seq = n_seq;
    s->seq = rm_calloc((size_t)n_seq, sizeof *s->seq);
    s->place = rm_array((size_t)n_seq, sizeof *s->place);
    s->feed = rm_array((size_t)n_seq, sizeof *s->feed);
    s->scratch = rm_array((size_t)rm_model_config(m->model)->n_vocab, 8);
    rmas_status st = s->seq && s->place && s->feed && s->scratch ? rm_batch_new(&s->batch, m->model, err)
                                                                 : rm_fail(err, RMAS_E_NOMEM, "out of memory for a session");
    for (int i = 0; i < n_seq && st == RMAS_OK; i++) {
        s->place[i] = -1;
        st = rm_seq_new(&s->seq[i], m->model, err);
    }
    if (st != RMAS_OK) {
        rmas_session_free(s);
        return st;
    }
    *out = s;
    return RMAS_OK;
}

void rmas_session_free(rmas_session *s) {
    if (!s) return;
    for (int i = 0; s->seq && i < s->n_seq; i++) rm_seq_free(s->seq[i]);
    rm_batch_free(s->batch);
    rm_free(s->seq);
    rm_free(s->place);
    rm_free(s->feed);
    rm_free(s->scratch);
    rm_free(s);
}

static rmas_status check_seq(const rmas_session *s, int seq, rmas_error *err) {
    return seq >= 0 && seq < s->n_seq ? RMAS_OK : rm_fail(err, RMAS_E_ARG, "sequence %d: the session has 0 to %d", seq, s->n_seq - 1);
}

static rmas_status take_feeds(rmas_session *s, const rmas_feed *feed, int n_feed, rmas_error *err) {
    for (int i = 0; i < n_feed; i++) {
        RM_TRY(check_seq(s, feed[i].seq, err));
        if (s->place[feed[i].seq] >= 0) return rm_fail(err, RMAS_E_ARG, "sequence %d is fed twice in one call", feed[i].seq);
        s->place[feed[i].seq] = i;
        s->feed[i] = (rm_feed){s->seq[feed[i].seq], feed[i].n, feed[i].tokens, feed[i].embeds, .want_logits = true, .step = feed[i].n == 1};
    }
    return RMAS_OK;
}

rmas_status rmas_session_feed(rmas_session *s, const rmas_feed *feed, int n_feed, rmas_error *err) {
    for (int i = 0; i < s->n_seq; i++) s->place[i] = -1;
    if (n_feed < 0 || n_feed > s->n_seq) return rm_fail(err, RMAS_E_ARG, "%d feeds for %d sequences", n_feed, s->n_seq);
    rmas_status st = take_feeds(s, feed, n_feed, err);
    if (st == RMAS_OK) st = rm_batch_forward(s->batch, s->feed, n_feed, err);
    for (int i = 0; i < s->n_seq && st != RMAS_OK; i++) s->place[i] = -1; /* nothing of it can be asked for */
    return st;
}

int rmas_session_length(const rmas_session *s, int seq) { return seq >= 0 && seq < s->n_seq ? rm_seq_len(s->seq[seq]) : 0; }

static void replace(rmas_session *s, int seq, rm_seq *with) {
    rm_seq_free(s->seq[seq]);
    s->seq[seq] = with;
    s->place[seq] = -1;
}

rmas_status rmas_session_reset(rmas_session *s, int seq, rmas_error *err) {
    rm_seq *fresh;
    RM_TRY(check_seq(s, seq, err));
    RM_TRY(rm_seq_new(&fresh, s->model, err));
    replace(s, seq, fresh);
    return RMAS_OK;
}

rmas_status rmas_session_copy(rmas_session *s, int to, int from, rmas_error *err) {
    rm_seq *copy;
    RM_TRY(check_seq(s, to, err));
    RM_TRY(check_seq(s, from, err));
    if (to == from) return RMAS_OK;
    RM_TRY(rm_seq_clone(&copy, s->seq[from], err));
    replace(s, to, copy);
    return RMAS_OK;
}

static int place_of(const rmas_session *s, int seq) { return seq >= 0 && seq < s->n_seq ? s->place[seq] : -1; }

const float *rmas_session_logits(const rmas_session *s, int seq) {
    int i = place_of(s, seq);
    return i < 0 ? NULL : rm_batch_logits(s->batch, i);
}

const float *rmas_session_hidden(const rmas_session *s, int seq) {
    int i = place_of(s, seq);
    return i < 0 ? NULL : rm_batch_hidden(s->batch, i);
}

int32_t rmas_session_sample(rmas_session *s, int seq, const rmas_sampling *sp) {
    const float *logits = rmas_session_logits(s, seq);
    if (!logits) return -1;
    rm_rng rng = rm_rng_make(sp->seed, (uint64_t)seq);
    rng.counter = (uint64_t)rm_seq_len(s->seq[seq]);
    rm_sampling p = {.temperature = sp->temperature, .top_p = sp->top_p, .min_p = sp->min_p, .top_k = sp->top_k};
    return rm_sample(logits, rm_model_config(s->model)->n_vocab, &p, &rng, s->scratch);
}

rmas_status rmas_session_latent(rmas_session *s, int seq, const rmas_link *inner, int n_step, float *hidden, rmas_error *err) {
    size_t d = (size_t)rm_model_config(s->model)->d_model;
    RM_TRY(check_seq(s, seq, err));
    const float *h = rmas_session_hidden(s, seq);
    if (!h) return rm_fail(err, RMAS_E_ARG, "sequence %d is not in the latest feed: feed its prompt first", seq);
    if (rm_link_d_in(inner->link) != (int)d || rm_link_d_out(inner->link) != (int)d)
        return rm_fail(err, RMAS_E_SHAPE, "the inner link maps %d to %d, the model's width is %zu", rm_link_d_in(inner->link),
                       rm_link_d_out(inner->link), d);
    float *embed = rm_array(d, sizeof *embed);
    if (!embed) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a latent");
    rmas_status st = RMAS_OK;
    for (int t = 0; t < n_step && st == RMAS_OK; t++) {
        memcpy(hidden + (size_t)t * d, h, d * sizeof *hidden);
        if (t + 1 == n_step) break;
        st = rm_link_apply(inner->link, h, 1, embed, err);
        if (st == RMAS_OK) st = rmas_session_feed(s, &(rmas_feed){.seq = seq, .n = 1, .embeds = embed}, 1, err);
        if (st == RMAS_OK) h = rmas_session_hidden(s, seq);
    }
    rm_free(embed);
    return st;
}
