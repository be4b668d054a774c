/* What prompts have in common is computed once: the beginning that all questions share (system prompt, role line), and for
 * one question the part before the first slot, which the same prompt of a later round begins with again.
 *
 * The numbers are the same as without, bit by bit: a sequence's state depends on its positions only (session.h). */
#include <string.h>

#include "system/engine.h"
#include "util/mem.h"

enum { WORTH = 8 }; /* fewer positions than this are not worth a copy */

typedef struct {
    bool tried;
    rm_ids ids;
    rm_seq *seq; /* holds ids; NULL: nothing in common */
} prefix;

struct rm_prefixes {
    prefix *v; /* [2 * n_agent], by (agent, feedback) */
    int n;
};

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }
static int variant(const rm_stage *st) { return 2 * st->agent + st->feedback; }

rmas_status rm_prefixes_new(rm_prefixes **out, const rm_runner *r, rmas_error *err) {
    *out = RM_NEW(rm_prefixes);
    if (!*out) return nomem(err);
    (*out)->v = rm_calloc(2 * (size_t)r->sys->n_agent, sizeof(prefix));
    (*out)->n = 2 * r->sys->n_agent;
    if ((*out)->v) return RMAS_OK;
    rm_free(*out);
    *out = NULL;
    return nomem(err);
}

void rm_prefixes_free(rm_prefixes *p) {
    if (!p) return;
    for (int i = 0; i < p->n; i++) {
        rm_ids_free(&p->v[i].ids);
        rm_seq_free(p->v[i].seq);
    }
    rm_free(p->v);
    rm_free(p);
}

static int common(const rm_ids *a, const rm_ids *b) {
    int n = a->n < b->n ? a->n : b->n, i = 0;
    while (i < n && a->id[i] == b->id[i]) i++;
    return i;
}

/* The prompt of another question at the same stage: what both begin with is (nearly always) what all begin with. In text mode
 * slots hold texts, which differ anyway; the question's stand-in then has none. */
static rmas_status find_common(rm_runner *r, const rm_job *j, const rm_prompt *p, const rm_stage *st, int *n, rmas_error *err) {
    int other = j->index ? 0 : (int)r->data->n - 1;
    rm_job *k;
    rm_prompt q;
    *n = 0;
    if (other == j->index) return RMAS_OK;
    rm_runner quiet = *r;
    rm_run_options o = *r->o;
    o.record = NULL;
    quiet.o = &o;
    quiet.told_long[st->agent] = true;
    RM_TRY(rm_job_new(&k, &quiet, other, err));
    rmas_status status = rm_prompt_make(&q, &quiet, k, st, err);
    if (status == RMAS_OK) {
        *n = common(&p->ids[0], &q.ids[0]);
        if (*n >= p->n_pos) *n = p->n_pos - 1;
        rm_prompt_free(&q);
    }
    rm_job_free(&quiet, k);
    return status;
}

/* Makes the shared state of a variant when its first prompt comes. */
static rmas_status shared_prefix(rm_runner *r, const rm_job *j, const rm_prompt *p, const rm_stage *st, rmas_error *err) {
    prefix *x = &r->prefixes->v[variant(st)];
    const rm_agent *a = &r->team->agent[st->agent];
    int n;
    if (x->tried) return RMAS_OK;
    x->tried = true;
    RM_TRY(find_common(r, j, p, st, &n, err));
    if (n < WORTH) return RMAS_OK;
    for (int i = 0; i < n; i++)
        if (!rm_ids_push(&x->ids, p->ids[0].id[i])) return nomem(err);
    RM_TRY(rm_seq_new(&x->seq, a->model, err));
    rm_feed feed = {.seq = x->seq, .n = n, .tokens = x->ids.id};
    return rm_batch_forward(a->batch, &feed, 1, err);
}

/* Will a later stage read the same prompt up to the first slot again? */
static bool comes_again(const rm_runner *r, const rm_stage *st) {
    for (const rm_stage *k = st + 1; k < r->plan.stage + r->plan.n_stage; k++)
        if (k->agent == st->agent && k->feedback == st->feedback) return true;
    return false;
}

/* The best beginning that is there already. */
static rmas_status begin(rm_runner *r, rm_job *j, const rm_prompt *p, const rm_stage *st, int end, rm_seq **seq, rmas_error *err) {
    const prefix *x = &r->prefixes->v[variant(st)];
    rm_seq *snap = j->snap[variant(st)];
    if (snap && !r->o->text && rm_seq_len(snap) <= end) return rm_seq_clone(seq, snap, err);
    if (x->seq && x->ids.n <= end && common(&x->ids, &p->ids[0]) == x->ids.n) return rm_seq_clone(seq, x->seq, err);
    return rm_seq_new(seq, r->team->agent[st->agent].model, err);
}

static rmas_status forward_to(rm_runner *r, rm_job *const *job, const rm_prompt *prompt, int n, const rm_stage *st, const int *to, rm_seq **seq,
                              rmas_error *err) {
    rm_input *in = rm_calloc((size_t)n, sizeof *in);
    rm_feed *feed = rm_calloc((size_t)n, sizeof *feed);
    int n_feed = 0;
    rmas_status status = in && feed ? RMAS_OK : nomem(err);
    for (int i = 0; status == RMAS_OK && i < n; i++) {
        int from = rm_seq_len(seq[i]);
        if (from >= to[i]) continue;
        status = rm_prompt_input(&in[i], r, job[i], st, &prompt[i], from, to[i], err);
        feed[n_feed++] = (rm_feed){.seq = seq[i], .n = to[i] - from, .tokens = in[i].token, .embeds = in[i].embed};
    }
    if (status == RMAS_OK && n_feed) status = rm_batch_forward(r->team->agent[st->agent].batch, feed, n_feed, err);
    for (int i = 0; in && i < n; i++) rm_input_free(&in[i]);
    rm_free(in);
    rm_free(feed);
    return status;
}

rmas_status rm_prefill(rm_runner *r, rm_job *const *job, const rm_prompt *prompt, int n, const rm_stage *st, int hold, rm_seq **seq,
                       rmas_error *err) {
    int *to = rm_array((size_t)n, sizeof *to);
    bool keep = !r->o->text && comes_again(r, st);
    rmas_status status = to ? shared_prefix(r, job[0], &prompt[0], st, err) : nomem(err);
    for (int i = 0; status == RMAS_OK && i < n; i++) status = begin(r, job[i], &prompt[i], st, prompt[i].n_pos - hold - (hold == 0), &seq[i], err);
    for (int i = 0; status == RMAS_OK && i < n; i++) rm_time_reused(r->team->exec, rm_seq_len(seq[i]));
    if (status == RMAS_OK && keep) { /* stop before the first slot to keep the state there */
        for (int i = 0; i < n; i++) to[i] = prompt[i].n_piece > 1 && !job[i]->snap[variant(st)] ? prompt[i].ids[0].n : 0;
        status = forward_to(r, job, prompt, n, st, to, seq, err);
        for (int i = 0; status == RMAS_OK && i < n; i++)
            if (to[i] >= WORTH) status = rm_seq_clone(&job[i]->snap[variant(st)], seq[i], err);
    }
    if (status == RMAS_OK) {
        for (int i = 0; i < n; i++) to[i] = prompt[i].n_pos - hold;
        status = forward_to(r, job, prompt, n, st, to, seq, err);
    }
    rm_free(to);
    return status;
}
