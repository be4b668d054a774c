#include "train/unroll.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

enum { WORTH_KEEPING = 8 }; /* rows of a common beginning */

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory for a training sample"); }

static void forget(const rm_unrolls *s, rm_unroll *u) {
    for (int i = 0; i < u->n_run; i++) {
        rm_free(u->run[i].hidden);
        rm_free(u->run[i].inner);
        rm_free(u->run[i].d_ce);
    }
    u->n_run = 0;
    for (int r = 0; r < RM_TRAIN_ROLES; r++)
        for (int f = 0; f < 2; f++) {
            rm_seq_free(u->prefix[r][f]);
            u->prefix[r][f] = NULL;
        }
    for (int i = 0; u->message && i < s->o->rounds * s->team->style.n_edge; i++) {
        rm_free(u->message[i].z);
        rm_free(u->message[i].dz);
        u->message[i] = (rm_message){0};
    }
}

/* Tokens that the prompts and texts of a stage begin with in all samples, up to the first slot at most; 0 where they are few. */
static int common_tokens(const rm_outer_sample *all, size_t n_all, int role, int feedback) {
    const rm_ids *first = NULL;
    int n = 0;
    for (size_t i = 0; i < n_all; i++) {
        const rm_train_stage *st = &all[i].stage[role][feedback];
        if (all[i].skipped) continue;
        if (!first) first = &st->piece[0], n = first->n;
        int most = st->prompt_piece[0].n - (st->n_slot == 0); /* states begin at the prompt's last row */
        if (st->piece[0].n < n) n = st->piece[0].n;
        if (most < n) n = most;
        for (int k = 0; k < n; k++)
            if (st->piece[0].id[k] != first->id[k] || st->prompt_piece[0].id[k] != first->id[k]) n = k;
    }
    return n >= WORTH_KEEPING ? n : 0;
}

rmas_status rm_unrolls_init(rm_unrolls *u, rm_crew *t, const rm_train_options *o, rm_trainer *trainer, const rm_outer_sample *all, size_t n_all,
                            rmas_error *err) {
    *u = (rm_unrolls){.team = t, .o = o, .trainer = trainer};
    for (int r = 0; r < t->style.n_role; r++)
        for (int f = 0; f < 2; f++) u->n_common[r][f] = common_tokens(all, n_all, r, f);
    for (int i = 0; i < RM_UNROLL_MAX; i++) {
        u->v[i].message = rm_calloc((size_t)(o->rounds * t->style.n_edge), sizeof *u->v[i].message);
        u->v[i].run = rm_calloc((size_t)(o->rounds * (t->style.n_role + 1)), sizeof *u->v[i].run);
        if (!u->v[i].message || !u->v[i].run) return no_memory(err);
    }
    return RMAS_OK;
}

void rm_unrolls_free(rm_unrolls *u) {
    for (int i = 0; i < RM_UNROLL_MAX; i++) {
        if (u->v[i].run && u->v[i].message) forget(u, &u->v[i]);
        rm_free(u->v[i].run);
        rm_free(u->v[i].message);
    }
    for (int r = 0; r < RM_TRAIN_ROLES; r++) {
        rm_tape_free(u->tape[r]);
        for (int f = 0; f < 2; f++) rm_seq_free(u->common[r][f]);
    }
    *u = (rm_unrolls){0};
}

static int width(const rm_unrolls *s, int role) { return rm_crew_width(s->team, role); }

/* ---- the sequence of a run --------------------------------------------------------------------------------------------------------- */

/* Tokens (-1 in slots) and embeddings of a run's rows; extra: rows after them, for the steps of a rollout. */
typedef struct {
    int32_t *token;
    float *embed;
    int n;
} sequence;

static void sequence_free(sequence *s) {
    rm_free(s->token);
    rm_free(s->embed);
    *s = (sequence){0};
}

/* The message that fills slot i: of this round, or of the round before. */
static rm_message *message_for(const rm_unrolls *s, rm_unroll *u, const rm_unroll_run *r, int sender) {
    const rm_train_style *style = &s->team->style;
    for (int e = 0; e < style->n_edge; e++) {
        if (style->edge[e].from != sender || style->edge[e].to != r->role) continue;
        int round = r->round - (style->edge[e].feedback ? 1 : 0);
        if (round >= 0) return &u->message[round * style->n_edge + e];
    }
    return NULL;
}

/* Lengths, places of the slots, and the cut on the left. */
static rmas_status measure(const rm_unrolls *s, rm_unroll *u, rm_unroll_run *r, rmas_error *err) {
    const rm_train_stage *st = r->stage;
    int at = 0, rows = 0;
    for (int i = 0; i <= st->n_slot; i++) {
        at += r->rollout ? st->prompt_piece[i].n : st->piece[i].n;
        if (i == st->n_slot) break;
        rm_message *m = message_for(s, u, r, st->sender[i]);
        if (!m || m->rows == 0)
            return rm_fail(err, RMAS_E_ARG, "the %s's prompt has a slot for the %s, which no link fills in round %d",
                           s->team->style.role[r->role].name, s->team->style.role[st->sender[i]].name, r->round + 1);
        r->slot_at[i] = at;
        r->slot_rows[i] = m->rows;
        r->slot_message[i] = m;
        at += m->rows;
        rows += m->rows;
    }
    int64_t over = at - s->o->max_length;
    r->cut = over > 0 && !r->rollout ? (int)over : 0;
    r->n = at - r->cut;
    r->prompt = st->n_prompt + rows - r->cut;
    if (r->prompt < 0) r->prompt = 0;
    r->n_label = !r->rollout && r->n > r->prompt ? r->n - r->prompt : 0;
    if (!r->loss && !s->o->probe && s->o->max_latent > 0 && r->n_label > s->o->max_latent) { /* nobody looks at what comes behind */
        r->n_label = (int)s->o->max_latent;
        r->n = r->prompt + r->n_label;
    }
    for (int i = 0; i < st->n_slot; i++) r->slot_at[i] -= r->cut;
    return RMAS_OK;
}

/* The first row whose state is looked at: what is behind the prompt, and the row before it, which predicts the first label or is a rollout's first state. */
static int first_seen(const rm_unroll_run *r) {
    const int at = r->loss || r->rollout ? r->prompt - 1 : r->prompt;
    return at > r->begin ? at : r->begin;
}

static rmas_status build(const rm_unrolls *set, const rm_unroll_run *r, int extra, sequence *s, rmas_error *err) {
    const rm_train_stage *st = r->stage;
    size_t d = (size_t)width(set, r->role);
    *s = (sequence){.n = r->n};
    s->token = rm_array((size_t)(r->n + extra) + 1, sizeof *s->token);
    s->embed = st->n_slot || extra ? rm_array((size_t)(r->n + extra) * d + 1, sizeof *s->embed) : NULL;
    if (!s->token || ((st->n_slot || extra) && !s->embed)) {
        sequence_free(s);
        return no_memory(err);
    }
    int at = -r->cut;
    for (int i = 0; i <= st->n_slot; i++) {
        const rm_ids *p = r->rollout ? &st->prompt_piece[i] : &st->piece[i];
        for (int k = 0; k < p->n && at < r->n; k++, at++)
            if (at >= 0) s->token[at] = p->id[k];
        if (i == st->n_slot) break;
        for (int k = 0; k < r->slot_rows[i]; k++, at++) {
            if (at < 0) continue;
            s->token[at] = -1;
            memcpy(s->embed + (size_t)at * d, r->slot_message[i]->z + (size_t)k * d, d * sizeof(float));
        }
    }
    for (int k = 0; k < extra; k++) s->token[r->n + k] = -1;
    return RMAS_OK;
}

/* ---- forward ------------------------------------------------------------------------------------------------------------------------- */

static rm_unroll_run *last_run(const rm_unroll *u) { return &u->run[u->n_run - 1]; }

/* What a teacher-forced pass gives to one sample: its loss and the states that can be sent. hidden: from row `begin` on. */
static rmas_status take_states(const rm_unrolls *s, rm_unroll_run *r, const float *hidden, const int32_t *token, bool gradients, rmas_error *err) {
    size_t d = (size_t)width(s, r->role);
    if (r->loss) {
        /* row t predicts token t + 1: the rows from one before the first label on */
        r->ce_at = r->prompt > 0 ? r->prompt - 1 : 0;
        r->ce_rows = r->n_label > 0 ? r->n - 1 - r->ce_at : 0;
        double sum = 0;
        int count = r->ce_rows;
        if (gradients && r->weight > 0 && count && !(r->d_ce = rm_array((size_t)count * d, sizeof(float)))) return no_memory(err);
        if (count)
            RM_TRY(rm_cross_entropy(rm_crew_model(s->team, r->role), hidden + (size_t)(r->ce_at - r->begin) * d, token + r->ce_at + 1, count,
                                    (float)(r->weight / count), &sum, &count, r->d_ce, err));
        r->ce = sum / count; /* no labels: not a number, as in the reference */
    }
    if (r->n_label) {
        r->all_rows = r->n_label;
        if (!(r->hidden = rm_array((size_t)r->n_label * d, sizeof(float)))) return no_memory(err);
        memcpy(r->hidden, hidden + (size_t)(r->prompt - r->begin) * d, (size_t)r->n_label * d * sizeof(float));
    }
    r->rows = r->all_rows;
    if (s->o->max_latent > 0 && r->rows > s->o->max_latent) r->rows = (int)s->o->max_latent;
    return RMAS_OK;
}

/* Rows that are computed once for several runs: those that all samples begin with, or all up to the first slot, which all rounds have in
 * common. */
static int common_rows(const rm_unrolls *s, const rm_unroll_run *r) {
    const rm_train_stage *st = r->stage;
    const rm_ids *a = &st->piece[0], *b = &st->prompt_piece[0];
    bool same = a->n == b->n && (a->n == 0 || !memcmp(a->id, b->id, (size_t)a->n * sizeof *a->id));
    if (r->cut > 0) return 0;
    return st->n_slot > 0 && same && a->n >= WORTH_KEEPING ? a->n : s->n_common[r->role][r->feedback];
}

/* The sequence that a run goes on from; NULL: none. */
static const rm_seq *beginning(const rm_unrolls *s, const rm_unroll *u, const rm_unroll_run *r) {
    if (r->begin == 0) return NULL;
    return r->begin > s->n_common[r->role][r->feedback] ? u->prefix[r->role][r->feedback] : s->common[r->role][r->feedback];
}

/* Makes the beginnings of the last runs that are not there yet. */
static rmas_status make_beginnings(rm_unrolls *s, rm_unroll *const *u, int n, rmas_error *err) {
    rm_feed feed[RM_UNROLL_MAX];
    int n_feed = 0, role = last_run(u[0])->role, feedback = last_run(u[0])->feedback, n_common = s->n_common[role][feedback];
    const rm_model *m = rm_crew_model(s->team, role);
    rm_seq **common = &s->common[role][feedback];
    for (int i = 0; i < n; i++) {
        rm_unroll_run *r = last_run(u[i]);
        r->begin = common_rows(s, r);
        if (r->begin == 0) continue;
        const int32_t *token = r->stage->piece[0].id;
        if (n_common && !*common) {
            RM_TRY(rm_seq_new(common, m, err));
            RM_TRY(rm_batch_forward(rm_crew_batch(s->team, role), &(rm_feed){.seq = *common, .n = n_common, .tokens = token}, 1, err));
        }
        rm_seq **prefix = &u[i]->prefix[role][feedback];
        if (r->begin == n_common || *prefix) continue;
        RM_TRY(n_common ? rm_seq_clone(prefix, *common, err) : rm_seq_new(prefix, m, err));
        feed[n_feed++] = (rm_feed){.seq = *prefix, .n = r->begin - n_common, .tokens = token + n_common};
    }
    return n_feed ? rm_batch_forward(rm_crew_batch(s->team, role), feed, n_feed, err) : RMAS_OK;
}

/* The tape of a role's model. */
static rmas_status role_tape(rm_unrolls *s, int role, rm_tape **out, rmas_error *err) {
    rm_tape **t = &s->tape[s->team->agent[role].same_as];
    if (!*t) RM_TRY(rm_tape_new(t, rm_crew_model(s->team, role), s->keep_gate_up, err));
    *out = *t;
    return RMAS_OK;
}

/* Sequences of the last runs of some samples: their beginnings are there, the rest is to be fed. */
typedef struct {
    sequence seq[RM_UNROLL_MAX];
    rm_feed feed[RM_UNROLL_MAX]; /* seq NULL: it stands on the tape */
    rm_tape *tape;
    int on_tape[RM_UNROLL_MAX];
    size_t rows;
} feeding;

static rmas_status feeding_make(feeding *f, rm_unrolls *s, rm_unroll *const *u, int n, bool keep, rmas_error *err) {
    *f = (feeding){0};
    if (keep) RM_TRY(role_tape(s, last_run(u[0])->role, &f->tape, err));
    RM_TRY(make_beginnings(s, u, n, err));
    for (int i = 0; i < n; i++) {
        rm_unroll_run *r = last_run(u[i]);
        const rm_seq *prefix = beginning(s, u[i], r);
        RM_TRY(build(s, r, 0, &f->seq[i], err));
        const float *embed = f->seq[i].embed;
        f->feed[i] = (rm_feed){.n = r->n - r->begin,
                               .n_unseen = first_seen(r) - r->begin,
                               .tokens = f->seq[i].token + r->begin,
                               .embeds = embed ? embed + (size_t)r->begin * (size_t)width(s, r->role) : NULL};
        f->rows += (size_t)f->feed[i].n;
        if (f->tape) {
            RM_TRY(rm_tape_add(f->tape, prefix, &r->tape, err));
            f->on_tape[i] = r->tape;
        } else if (prefix)
            RM_TRY(rm_seq_clone(&f->feed[i].seq, prefix, err));
        else
            RM_TRY(rm_seq_new(&f->feed[i].seq, rm_crew_model(s->team, r->role), err));
    }
    return RMAS_OK;
}

static void feeding_free(feeding *f) {
    for (int i = 0; i < RM_UNROLL_MAX; i++) {
        sequence_free(&f->seq[i]);
        rm_seq_free(f->feed[i].seq);
    }
}

/* hidden: all rows that are fed, sample after sample. */
static rmas_status feed_all(const rm_unrolls *s, const feeding *f, int n, int role, float *hidden, rmas_error *err) {
    size_t d = (size_t)width(s, role), at = 0;
    if (!f->tape) return rm_batch_forward_tap(rm_crew_batch(s->team, role), f->feed, n, &(rm_tap){.hidden = hidden}, err);
    rm_tape_rows rows[RM_UNROLL_MAX];
    for (int i = 0; i < n; at += (size_t)f->feed[i++].n * d)
        rows[i] = (rm_tape_rows){.seq = f->on_tape[i],
                                 .n = f->feed[i].n,
                                 .tokens = f->feed[i].tokens,
                                 .embeds = f->feed[i].embeds,
                                 .n_unseen = f->feed[i].n_unseen,
                                 .step = f->feed[i].step,
                                 .hidden = hidden + at};
    return rm_tape_push(f->tape, rows, n, err);
}

/* Is there something to be trained before a run of the group? */
static bool has_slots(rm_unroll *const *u) { return last_run(u[0])->stage->n_slot > 0; }

static rmas_status teacher_forced(rm_unrolls *s, rm_unroll *const *u, int n, int role, bool gradients, bool sends, rmas_error *err) {
    size_t d = (size_t)width(s, role), at = 0;
    feeding f;
    bool keep = s->keep && gradients && has_slots(u) && (sends || last_run(u[0])->weight > 0);
    rmas_status st = feeding_make(&f, s, u, n, keep, err);
    float *hidden = st == RMAS_OK ? rm_array(f.rows * d + 1, sizeof(float)) : NULL;
    if (st == RMAS_OK && !hidden) st = no_memory(err);
    if (st == RMAS_OK) st = feed_all(s, &f, n, role, hidden, err);
    for (int i = 0; i < n && st == RMAS_OK; i++) {
        st = take_states(s, last_run(u[i]), hidden + at * d, f.seq[i].token, gradients, err);
        at += (size_t)f.feed[i].n;
    }
    rm_free(hidden);
    feeding_free(&f);
    return st;
}

/* h_1 at the end of the prompt, e_t = I(h_t), h_(t+1) = H(e_t): all samples in step. */
static rmas_status roll_out(rm_unrolls *s, rm_unroll *const *u, int n, int role, bool gradients, rmas_error *err) {
    size_t d = (size_t)width(s, role);
    int m = (int)s->o->latent_length;
    feeding f;
    rmas_status st = feeding_make(&f, s, u, n, s->keep && gradients && has_slots(u), err);
    float *h = rm_array((size_t)n * d, sizeof(float)), *e = rm_array((size_t)n * d, sizeof(float));
    float *hidden = st == RMAS_OK ? rm_array((f.rows + (size_t)n) * d, sizeof(float)) : NULL;
    if (st == RMAS_OK && (!h || !e || !hidden)) st = no_memory(err);
    for (int i = 0; i < n && st == RMAS_OK; i++) {
        rm_unroll_run *r = last_run(u[i]);
        r->rows = r->all_rows = m;
        r->hidden = rm_array((size_t)m * d, sizeof(float));
        r->inner = rm_array((size_t)m * d, sizeof(float));
        if (!r->hidden || !r->inner) st = no_memory(err);
    }
    for (int t = 0; t < m && st == RMAS_OK; t++) {
        size_t end = 0;
        st = feed_all(s, &f, n, role, hidden, err);
        for (int i = 0; i < n && st == RMAS_OK; i++) memcpy(h + (size_t)i * d, hidden + ((end += (size_t)f.feed[i].n) - 1) * d, d * sizeof(float));
        if (st == RMAS_OK) st = rm_link_apply(s->team->agent[role].inner, h, n, e, err);
        for (int i = 0; i < n && st == RMAS_OK; i++) {
            rm_unroll_run *r = last_run(u[i]);
            memcpy(r->hidden + (size_t)t * d, h + (size_t)i * d, d * sizeof(float));
            memcpy(r->inner + (size_t)t * d, e + (size_t)i * d, d * sizeof(float));
            f.feed[i] = (rm_feed){.seq = f.feed[i].seq, .n = 1, .embeds = r->inner + (size_t)t * d, .step = true};
        }
    }
    rm_free(h);
    rm_free(e);
    rm_free(hidden);
    feeding_free(&f);
    return st;
}

/* States -> messages along every link of the sender. */
static rmas_status send(const rm_unrolls *s, rm_unroll *u, bool gradients, rmas_error *err) {
    const rm_train_style *style = &s->team->style;
    rm_unroll_run *r = last_run(u);
    size_t d = (size_t)width(s, r->role);
    if (!r->inner) {
        r->inner = rm_array((size_t)r->rows * d, sizeof(float));
        if (!r->inner) return no_memory(err);
        RM_TRY(rm_link_apply(s->team->agent[r->role].inner, r->hidden, r->rows, r->inner, err));
    }
    for (int e = 0; e < style->n_edge; e++) {
        if (style->edge[e].from != r->role) continue;
        if (style->edge[e].feedback && r->round + 1 == s->o->rounds) continue; /* nobody would read it */
        rm_message *m = &u->message[r->round * style->n_edge + e];
        size_t cells = (size_t)r->rows * (size_t)width(s, style->edge[e].to);
        *m = (rm_message){.edge = e, .rows = r->rows, .z = rm_array(cells, sizeof(float)), .dz = gradients ? rm_calloc(cells, sizeof(float)) : NULL};
        if (!m->z || (gradients && !m->dz)) return no_memory(err);
        RM_TRY(rm_link_apply(s->trainer->v[e].link, r->inner, r->rows, m->z, err));
    }
    return RMAS_OK;
}

static rmas_status new_run(const rm_unrolls *s, rm_unroll *u, int round, int role, bool rollout, bool loss, rmas_error *err) {
    rm_unroll_run *r = &u->run[u->n_run++];
    bool feedback = round > 0 && rm_train_has_feedback(&s->team->style, role);
    *r = (rm_unroll_run){.round = round,
                         .role = role,
                         .feedback = feedback,
                         .rollout = rollout,
                         .loss = loss,
                         .stage = &u->sample->stage[role][feedback],
                         .tape = -1,
                         .ce = NAN};
    return measure(s, u, r, err);
}

/* The share of a round's cross-entropy in the loss of the sample. */
static double round_weight(const rm_train_options *o, int round) {
    if (round == o->rounds - 1) return 1;
    return o->final_only ? 0 : o->non_last_weight / (o->rounds - 1);
}

/* The samples that still count. */
static int living(rm_unrolls *s, rm_unroll **u) {
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (!s->v[i].skipped[0]) u[n++] = &s->v[i];
    return n;
}

/* One role in one round, of all samples. `skipped` is set where one does not count. */
static rmas_status visit(rm_unrolls *s, int round, int role, bool gradients, rmas_error *err) {
    const rm_train_options *o = s->o;
    const char *name = s->team->style.role[role].name;
    bool last = role == s->team->style.n_role - 1, final = last && round == o->rounds - 1, rolls = last ? o->rollout_feedback : o->rollout;
    bool loss = last && (!o->rollout || !o->final_only || final); /* teacher forcing reports the losses of all rounds */
    rm_unroll *u[RM_UNROLL_MAX];
    RM_TRY(rm_train_going_on(s->o, err));
    int n = living(s, u);
    if (n && (loss || (!rolls && !final))) {
        for (int i = 0; i < n; i++) {
            RM_TRY(new_run(s, u[i], round, role, false, loss, err));
            last_run(u[i])->weight = loss ? round_weight(o, round) : 0;
        }
        RM_TRY(teacher_forced(s, u, n, role, gradients, !rolls && !final, err));
        for (int i = 0; i < n && loss; i++) {
            const rm_unroll_run *r = last_run(u[i]);
            u[i]->ce[round] = r->ce;
            if (!isfinite(r->ce))
                snprintf(u[i]->skipped, sizeof u[i]->skipped, "the loss of round %d is not finite", round + 1);
            else if (r->weight > 0)
                u[i]->loss += r->weight * r->ce;
        }
    }
    if (final) return RMAS_OK;
    n = living(s, u);
    for (int i = 0; i < n && rolls; i++) {
        RM_TRY(new_run(s, u[i], round, role, true, false, err));
        if (last_run(u[i])->n + o->latent_length - 1 <= o->max_length) continue;
        u[i]->n_run--;
        snprintf(u[i]->skipped, sizeof u[i]->skipped, "the %s's prompt and latents are longer than max_length", name);
    }
    for (int i = 0; i < n && !rolls; i++)
        if (last_run(u[i])->rows == 0) snprintf(u[i]->skipped, sizeof u[i]->skipped, "%s has no assistant tokens", name);
    n = living(s, u);
    if (n && rolls) RM_TRY(roll_out(s, u, n, role, gradients, err));
    for (int i = 0; i < n; i++) RM_TRY(send(s, u[i], gradients, err));
    return RMAS_OK;
}

rmas_status rm_unrolls_forward(rm_unrolls *s, const rm_outer_sample *const *sample, int n, bool gradients, rmas_error *err) {
    for (int i = 0; i < s->n; i++) forget(s, &s->v[i]);
    s->n = n;
    for (int r = 0; r < RM_TRAIN_ROLES; r++)
        if (s->tape[r]) RM_TRY(rm_tape_begin(s->tape[r], 0, NULL, err));
    for (int i = 0; i < n; i++) {
        rm_unroll *u = &s->v[i];
        u->sample = sample[i];
        u->loss = 0;
        u->n_limited = 0;
        snprintf(u->skipped, sizeof u->skipped, "%s", sample[i]->skipped ? sample[i]->skipped : "");
        for (int r = 0; r < RM_TRAIN_MAX_ROUNDS; r++) u->ce[r] = NAN;
    }
    for (int round = 0; round < s->o->rounds; round++)
        for (int role = 0; role < s->team->style.n_role; role++) RM_TRY(visit(s, round, role, gradients, err));
    return RMAS_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------------------------------------ */

/* One run of some samples in the backward pass. */
typedef struct {
    const rm_unroll_run *run[RM_UNROLL_MAX];
    const rm_seq *prefix[RM_UNROLL_MAX]; /* NULL: none */
    rm_tape *tape;
    int on_tape[RM_UNROLL_MAX];
    int first[RM_UNROLL_MAX]; /* the first row in a slot: rows before it need no gradient */
    float *d_sent[RM_UNROLL_MAX]; /* gradient with respect to the states that were sent; NULL: none were */
    float *grad[RM_UNROLL_MAX]; /* rows from `first` on, and room for one step's rows behind them */
    sequence seq[RM_UNROLL_MAX];
    int n;
} back;

static void back_free(back *b) {
    for (int i = 0; i < b->n; i++) {
        if (b->tape && b->on_tape[i] >= 0) rm_tape_drop(b->tape, b->on_tape[i]);
        rm_free(b->d_sent[i]);
        rm_free(b->grad[i]);
        sequence_free(&b->seq[i]);
    }
}

/* The first row that a message stands in, n if none (all cut away). */
static int first_slot_row(const rm_unroll_run *r) {
    int first = r->n;
    for (int i = 0; i < r->stage->n_slot; i++)
        if (r->slot_at[i] + r->slot_rows[i] > 0) {
            int at = r->slot_at[i] > 0 ? r->slot_at[i] : 0;
            if (at < first) first = at;
        }
    return first;
}

/* d_embeds of the rows from `first` on, added to the gradients of the messages in the slots. */
static void to_messages(const rm_unroll_run *r, const float *d_embeds, int first, size_t d) {
    for (int i = 0; i < r->stage->n_slot; i++)
        for (int k = 0; k < r->slot_rows[i]; k++) {
            int at = r->slot_at[i] + k;
            if (at < 0) continue;
            const float *from = d_embeds + (size_t)(at - first) * d;
            float *to = r->slot_message[i]->dz + (size_t)k * d;
            for (size_t c = 0; c < d; c++) to[c] += from[c];
        }
}

/* Holds a message's gradient to the limit of the options (see rm_train_options): the ways back through rollouts and rounds are long. */
static void limit(const rm_unrolls *s, rm_unroll *u, const rm_message *m) {
    const size_t cells = (size_t)m->rows * (size_t)width(s, s->team->style.edge[m->edge].to);
    const double most = s->o->max_message_grad * s->scale,
                 is = most > 0 ? sqrt(rm_sum_squares(s->team->exec, m->dz, cells) * rm_sum_squares(s->team->exec, m->z, cells)) : 0;
    if (!(is > most)) return;
    rm_scale(s->team->exec, m->dz, cells, most / is);
    u->n_limited++;
}

/* Gradient with respect to the states that were sent (d_hidden, unless NULL), through the links; those of the outer links go to
 * their round's part. */
static rmas_status through_links(const rm_unrolls *s, rm_unroll *u, const rm_unroll_run *r, float *d_hidden, rmas_error *err) {
    const rm_train_style *style = &s->team->style;
    size_t d = (size_t)width(s, r->role), cells = (size_t)r->rows * d;
    float *sum = rm_calloc(cells + 1, sizeof(float)), *one = rm_array(cells + 1, sizeof(float));
    rmas_status st = sum && one ? RMAS_OK : no_memory(err);
    for (int e = 0; e < style->n_edge && st == RMAS_OK; e++) {
        const rm_message *m = &u->message[r->round * style->n_edge + e];
        if (style->edge[e].from != r->role || m->rows == 0) continue;
        rm_trainee *v = &s->trainer->v[e];
        v->used = true;
        limit(s, u, m);
        st = rm_link_backward(v->link, r->inner, r->rows, m->dz, one, v->part[r->round], err);
        for (size_t k = 0; k < cells && st == RMAS_OK; k++) sum[k] += one[k];
    }
    if (st == RMAS_OK && d_hidden) st = rm_link_backward(s->team->agent[r->role].inner, r->hidden, r->rows, sum, d_hidden, NULL, err);
    rm_free(sum);
    rm_free(one);
    return st;
}

/* The runs on their tape; what is not there yet is pushed whole. extra: steps of a rollout after the prompt. */
static rmas_status on_tape(rm_unrolls *s, back *b, int extra, rmas_error *err) {
    int role = b->run[0]->role, n_rows = 0;
    size_t d = (size_t)width(s, role);
    rm_tape_rows rows[RM_UNROLL_MAX];
    RM_TRY(role_tape(s, role, &b->tape, err));
    for (int i = 0; i < b->n; i++) b->on_tape[i] = b->run[i]->tape;
    for (int i = 0; i < b->n; i++) {
        const rm_unroll_run *r = b->run[i];
        b->grad[i] = rm_calloc((size_t)(r->n - b->first[i] + extra + 1) * d, sizeof(float));
        if (!b->grad[i]) return no_memory(err);
        if (r->tape >= 0) continue;
        RM_TRY(build(s, r, extra, &b->seq[i], err));
        if (extra) memcpy(b->seq[i].embed + (size_t)r->n * d, r->inner, (size_t)extra * d * sizeof(float));
        RM_TRY(rm_tape_add(b->tape, b->prefix[i], &b->on_tape[i], err));
        rows[n_rows++] = (rm_tape_rows){.seq = b->on_tape[i],
                                        .n = r->n - r->begin,
                                        .tokens = b->seq[i].token + r->begin,
                                        .embeds = b->seq[i].embed + (size_t)r->begin * d,
                                        .n_unseen = first_seen(r) - r->begin};
    }
    if (n_rows) RM_TRY(rm_tape_push(b->tape, rows, n_rows, err));
    if (!n_rows || !extra) return RMAS_OK;
    for (int i = 0; i < n_rows; i++) {
        rows[i].tokens += rows[i].n;
        rows[i].embeds += (size_t)rows[i].n * d;
        rows[i].n = extra;
        rows[i].n_unseen = 0;
        rows[i].step = true;
    }
    return rm_tape_push(b->tape, rows, n_rows, err);
}

static rmas_status backward_text(rm_unrolls *s, back *b, rmas_error *err) {
    size_t d = (size_t)width(s, b->run[0]->role);
    rm_tape_grads pop[RM_UNROLL_MAX];
    RM_TRY(on_tape(s, b, 0, err));
    for (int i = 0; i < b->n; i++) {
        const rm_unroll_run *r = b->run[i];
        float *g = b->grad[i];
        int first = b->first[i];
        for (int k = 0; b->d_sent[i] && k < r->rows; k++)
            if (r->prompt + k >= first) memcpy(g + (size_t)(r->prompt + k - first) * d, b->d_sent[i] + (size_t)k * d, d * sizeof(float));
        for (int k = 0; r->d_ce && k < r->ce_rows; k++) {
            if (r->ce_at + k < first) continue;
            float *to = g + (size_t)(r->ce_at + k - first) * d;
            for (size_t c = 0; c < d; c++) to[c] += r->d_ce[(size_t)k * d + c];
        }
        pop[i] = (rm_tape_grads){.seq = b->on_tape[i], .n = r->n - first, .d_hidden = g, .d_embeds = g};
    }
    RM_TRY(rm_tape_pop(b->tape, pop, b->n, err));
    for (int i = 0; i < b->n; i++) to_messages(b->run[i], b->grad[i], b->first[i], d);
    return RMAS_OK;
}

/* d h_t += I'(h_t)ᵀ d e_t of all samples; d e_t stands at the end of grad. */
static rmas_status into_state(const rm_unrolls *s, back *b, int t, float *work, rmas_error *err) {
    size_t d = (size_t)width(s, b->run[0]->role);
    float *h = work, *de = work + (size_t)b->n * d, *dh = de + (size_t)b->n * d;
    for (int i = 0; i < b->n; i++) {
        const rm_unroll_run *r = b->run[i];
        memcpy(h + (size_t)i * d, r->hidden + (size_t)(t - 1) * d, d * sizeof(float));
        memcpy(de + (size_t)i * d, b->grad[i] + (size_t)(r->n - b->first[i]) * d, d * sizeof(float));
    }
    RM_TRY(rm_link_backward(s->team->agent[b->run[0]->role].inner, h, b->n, de, dh, NULL, err));
    for (int i = 0; i < b->n; i++)
        for (size_t c = 0; c < d; c++) b->d_sent[i][(size_t)(t - 1) * d + c] += dh[(size_t)i * d + c];
    return RMAS_OK;
}

/* d_sent [m, d]: with respect to h_1 ... h_m. The prompt's last row gives h_1, the row of e_t gives h_(t+1). */
static rmas_status backward_rollout(rm_unrolls *s, back *b, rmas_error *err) {
    size_t d = (size_t)width(s, b->run[0]->role);
    int m = b->run[0]->rows, waiting = 0; /* rows at the end whose gradient is known and that are not popped yet */
    rm_tape_grads pop[RM_UNROLL_MAX];
    float *work = rm_array(3 * (size_t)b->n * d, sizeof(float));
    rmas_status st = work ? on_tape(s, b, m - 1, err) : no_memory(err);
    for (int t = m - 1; t >= 1 && st == RMAS_OK; t--) {
        waiting++;
        if (s->o->truncate > 0 && t % s->o->truncate == 0) continue; /* e_t is a constant: nothing to put in before it */
        for (int i = 0; i < b->n; i++)
            pop[i] = (rm_tape_grads){.seq = b->on_tape[i],
                                     .n = waiting,
                                     .d_hidden = b->d_sent[i] + (size_t)t * d,
                                     .d_embeds = b->grad[i] + (size_t)(b->run[i]->n - b->first[i]) * d};
        st = rm_tape_pop(b->tape, pop, b->n, err);
        if (st == RMAS_OK) st = into_state(s, b, t, work, err);
        waiting = 0;
    }
    for (int i = 0; i < b->n && st == RMAS_OK; i++) { /* the prompt from its first slot on, and what still waits behind it */
        int n = b->run[i]->n - b->first[i];
        memset(b->grad[i], 0, (size_t)n * d * sizeof(float));
        memcpy(b->grad[i] + (size_t)(n - 1) * d, b->d_sent[i], (size_t)(waiting + 1) * d * sizeof(float));
        pop[i] = (rm_tape_grads){.seq = b->on_tape[i], .n = n + waiting, .d_hidden = b->grad[i], .d_embeds = b->grad[i]};
    }
    if (st == RMAS_OK) st = rm_tape_pop(b->tape, pop, b->n, err);
    for (int i = 0; i < b->n && st == RMAS_OK; i++) to_messages(b->run[i], b->grad[i], b->first[i], d);
    rm_free(work);
    return st;
}

/* Run k of all samples that count: through the links, and through the model where something before it is trained. */
static rmas_status backward_run(rm_unrolls *s, rm_unroll *const *u, int n, int k, back *b, rmas_error *err) {
    bool rollout = false;
    for (int i = 0; i < n; i++) {
        const rm_unroll_run *r = &u[i]->run[k];
        int first = first_slot_row(r);
        bool through_model = first < r->n;
        float *d_sent = NULL;
        if (r->inner && through_model && !(d_sent = rm_array((size_t)r->rows * (size_t)width(s, r->role), sizeof(float)))) return no_memory(err);
        if (through_model && (r->inner || r->d_ce)) {
            b->run[b->n] = r;
            b->prefix[b->n] = beginning(s, u[i], r);
            b->first[b->n] = first;
            b->d_sent[b->n++] = d_sent;
            rollout = r->rollout;
        }
        if (r->inner) RM_TRY(through_links(s, u[i], r, d_sent, err));
    }
    if (b->n == 0) return RMAS_OK;
    return rollout ? backward_rollout(s, b, err) : backward_text(s, b, err);
}

rmas_status rm_unrolls_backward(rm_unrolls *s, double scale, rmas_error *err) {
    rm_unroll *u[RM_UNROLL_MAX];
    int n = living(s, u);
    s->scale = scale;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < u[i]->n_run; k++) { /* the gradients of the losses carry the scale; everything else is linear in them */
            rm_unroll_run *r = &u[i]->run[k];
            if (r->d_ce && scale != 1) rm_scale(s->team->exec, r->d_ce, (size_t)r->ce_rows * (size_t)width(s, r->role), scale);
        }
    for (int k = n ? u[0]->n_run - 1 : -1; k >= 0; k--) { /* the same runs in all samples that count */
        back b = {0};
        RM_TRY(rm_train_going_on(s->o, err));
        rmas_status st = backward_run(s, u, n, k, &b, err);
        back_free(&b);
        if (st != RMAS_OK) return st;
    }
    return RMAS_OK;
}
