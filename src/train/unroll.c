#include "train/unroll.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory for a training sample"); }

static void forget(rm_unroll *u) {
    for (int i = 0; i < u->n_run; i++) {
        rm_free(u->run[i].hidden);
        rm_free(u->run[i].inner);
        rm_free(u->run[i].d_ce);
    }
    u->n_run = 0;
    for (int i = 0; u->message && i < u->o->rounds * u->team->style.n_edge; i++) {
        rm_free(u->message[i].z);
        rm_free(u->message[i].dz);
        u->message[i] = (rm_message){0};
    }
}

rmas_status rm_unroll_init(rm_unroll *u, rm_crew *t, const rm_train_options *o, rm_trainer *trainer, rmas_error *err) {
    *u = (rm_unroll){.team = t, .o = o, .trainer = trainer};
    u->cap_run = o->rounds * (t->style.n_role + 1);
    u->message = rm_calloc((size_t)(o->rounds * t->style.n_edge), sizeof *u->message);
    u->run = rm_calloc((size_t)u->cap_run, sizeof *u->run);
    return u->message && u->run ? RMAS_OK : no_memory(err);
}

void rm_unroll_free(rm_unroll *u) {
    if (u->run && u->message) forget(u);
    for (int r = 0; r < RM_TRAIN_ROLES; r++) rm_tape_free(u->tape[r]);
    rm_free(u->run);
    rm_free(u->message);
    *u = (rm_unroll){0};
}

static int width(const rm_unroll *u, int role) { return rm_crew_width(u->team, role); }

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
static rm_message *message_for(rm_unroll *u, const rm_unroll_run *r, int sender) {
    const rm_train_style *style = &u->team->style;
    for (int e = 0; e < style->n_edge; e++) {
        if (style->edge[e].from != sender || style->edge[e].to != r->role) continue;
        int round = r->round - (style->edge[e].feedback ? 1 : 0);
        if (round >= 0) return &u->message[round * style->n_edge + e];
    }
    return NULL;
}

/* Lengths, places of the slots, and the cut on the left. */
static rmas_status measure(rm_unroll *u, rm_unroll_run *r, rmas_error *err) {
    const rm_train_stage *st = r->stage;
    int at = 0, rows = 0;
    for (int i = 0; i <= st->n_slot; i++) {
        at += r->rollout ? st->prompt_piece[i].n : st->piece[i].n;
        if (i == st->n_slot) break;
        rm_message *m = message_for(u, r, st->sender[i]);
        if (!m || m->rows == 0)
            return rm_fail(err, RMAS_E_ARG, "the %s's prompt has a slot for the %s, which no link fills in round %d",
                           u->team->style.role[r->role].name, u->team->style.role[st->sender[i]].name, r->round + 1);
        r->slot_at[i] = at;
        r->slot_rows[i] = m->rows;
        r->slot_message[i] = m;
        at += m->rows;
        rows += m->rows;
    }
    int64_t over = at - u->o->max_length;
    r->cut = over > 0 && !r->rollout ? (int)over : 0;
    r->n = at - r->cut;
    r->prompt = st->n_prompt + rows - r->cut;
    if (r->prompt < 0) r->prompt = 0;
    r->n_label = !r->rollout && r->n > r->prompt ? r->n - r->prompt : 0;
    for (int i = 0; i < st->n_slot; i++) r->slot_at[i] -= r->cut;
    return RMAS_OK;
}

static rmas_status build(const rm_unroll *u, const rm_unroll_run *r, int extra, sequence *s, rmas_error *err) {
    const rm_train_stage *st = r->stage;
    size_t d = (size_t)width(u, r->role);
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
        for (int k = 0; k < p->n; k++, at++)
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

static rmas_status teacher_forced(rm_unroll *u, rm_unroll_run *r, bool with_loss, bool gradients, rmas_error *err) {
    size_t d = (size_t)width(u, r->role);
    rm_model *m = rm_crew_model(u->team, r->role);
    sequence s;
    RM_TRY(build(u, r, 0, &s, err));
    float *hidden = rm_array((size_t)r->n * d + 1, sizeof(float));
    rm_feed feed = {.n = r->n, .tokens = s.token, .embeds = s.embed};
    rmas_status st = hidden ? rm_seq_new(&feed.seq, m, err) : no_memory(err);
    if (st == RMAS_OK) st = rm_batch_forward_tap(rm_crew_batch(u->team, r->role), &feed, 1, &(rm_tap){.hidden = hidden}, err);
    rm_seq_free(feed.seq);
    if (st == RMAS_OK && with_loss) {
        /* row t predicts token t + 1: the rows from one before the first label on */
        r->ce_at = r->prompt > 0 ? r->prompt - 1 : 0;
        r->ce_rows = r->n_label > 0 ? r->n - 1 - r->ce_at : 0;
        double sum = 0;
        int count = r->ce_rows;
        if (gradients && r->weight > 0 && count) {
            r->d_ce = rm_array((size_t)count * d, sizeof(float));
            if (!r->d_ce) st = no_memory(err);
        }
        if (st == RMAS_OK && count)
            st = rm_cross_entropy(m, hidden + (size_t)r->ce_at * d, s.token + r->ce_at + 1, count, (float)(r->weight / count), &sum, &count, r->d_ce,
                                  err);
        r->ce = sum / count; /* no labels: not a number, as in the reference */
    }
    if (st == RMAS_OK && r->n_label) {
        r->all_rows = r->n_label;
        r->hidden = rm_array((size_t)r->n_label * d, sizeof(float));
        if (r->hidden)
            memcpy(r->hidden, hidden + (size_t)r->prompt * d, (size_t)r->n_label * d * sizeof(float));
        else
            st = no_memory(err);
    }
    r->rows = r->all_rows;
    if (u->o->max_latent > 0 && r->rows > u->o->max_latent) r->rows = (int)u->o->max_latent;
    rm_free(hidden);
    sequence_free(&s);
    return st;
}

static rmas_status roll_out(rm_unroll *u, rm_unroll_run *r, rmas_error *err) {
    size_t d = (size_t)width(u, r->role);
    int m = (int)u->o->latent_length;
    rm_batch *b = rm_crew_batch(u->team, r->role);
    const rm_link *inner = u->team->agent[r->role].inner;
    r->rows = r->all_rows = m;
    r->hidden = rm_array((size_t)m * d, sizeof(float));
    r->inner = rm_array((size_t)m * d, sizeof(float));
    sequence s = {0};
    rm_feed feed = {0};
    rmas_status st = r->hidden && r->inner ? build(u, r, 0, &s, err) : no_memory(err);
    if (st == RMAS_OK) st = rm_seq_new(&feed.seq, rm_crew_model(u->team, r->role), err);
    feed.n = r->n;
    feed.tokens = s.token;
    feed.embeds = s.embed;
    for (int t = 0; t < m && st == RMAS_OK; t++) {
        st = rm_batch_forward(b, &feed, 1, err);
        if (st != RMAS_OK) break;
        float *h = r->hidden + (size_t)t * d, *e = r->inner + (size_t)t * d;
        memcpy(h, rm_batch_hidden(b, 0), d * sizeof(float));
        st = rm_link_apply(inner, h, 1, e, err);
        feed.n = 1;
        feed.tokens = NULL;
        feed.embeds = e;
    }
    rm_seq_free(feed.seq);
    sequence_free(&s);
    return st;
}

/* States -> messages along every link of the sender. */
static rmas_status send(rm_unroll *u, rm_unroll_run *r, bool gradients, rmas_error *err) {
    const rm_train_style *style = &u->team->style;
    size_t d = (size_t)width(u, r->role);
    if (!r->inner) {
        r->inner = rm_array((size_t)r->rows * d, sizeof(float));
        if (!r->inner) return no_memory(err);
        RM_TRY(rm_link_apply(u->team->agent[r->role].inner, r->hidden, r->rows, r->inner, err));
    }
    for (int e = 0; e < style->n_edge; e++) {
        if (style->edge[e].from != r->role) continue;
        if (style->edge[e].feedback && r->round + 1 == u->o->rounds) continue; /* nobody would read it */
        rm_message *m = &u->message[r->round * style->n_edge + e];
        size_t cells = (size_t)r->rows * (size_t)width(u, style->edge[e].to);
        *m = (rm_message){.edge = e, .rows = r->rows, .z = rm_array(cells, sizeof(float)), .dz = gradients ? rm_calloc(cells, sizeof(float)) : NULL};
        if (!m->z || (gradients && !m->dz)) return no_memory(err);
        RM_TRY(rm_link_apply(u->trainer->v[e].link, r->inner, r->rows, m->z, err));
    }
    return RMAS_OK;
}

static rmas_status new_run(rm_unroll *u, int round, int role, bool rollout, rm_unroll_run **out, rmas_error *err) {
    rm_unroll_run *r = &u->run[u->n_run++];
    bool feedback = round > 0 && rm_train_has_feedback(&u->team->style, role);
    *r = (rm_unroll_run){
        .round = round, .role = role, .feedback = feedback, .rollout = rollout, .stage = &u->sample->stage[role][feedback], .ce = NAN};
    *out = r;
    return measure(u, r, err);
}

/* The share of a round's cross-entropy in the loss of the sample. */
static double round_weight(const rm_train_options *o, int round) {
    if (round == o->rounds - 1) return 1;
    return o->final_only ? 0 : o->non_last_weight / (o->rounds - 1);
}

/* One role in one round. *skip is set where the sample does not count. */
static rmas_status visit(rm_unroll *u, int round, int role, bool gradients, rmas_error *err) {
    const rm_train_options *o = u->o;
    const char *name = u->team->style.role[role].name;
    bool last = role == u->team->style.n_role - 1, final = last && round == o->rounds - 1, rolls = last ? o->rollout_feedback : o->rollout;
    bool loss = last && (!o->rollout || !o->final_only || final); /* teacher forcing reports the losses of all rounds */
    rm_unroll_run *r = NULL;
    if (loss || (!rolls && !final)) {
        RM_TRY(new_run(u, round, role, false, &r, err));
        r->weight = loss ? round_weight(o, round) : 0;
        RM_TRY(teacher_forced(u, r, loss, gradients, err));
        if (loss) {
            u->ce[round] = r->ce;
            if (!isfinite(r->ce)) {
                snprintf(u->skipped, sizeof u->skipped, "the loss of round %d is not finite", round + 1);
                return RMAS_OK;
            }
            if (r->weight > 0) u->loss += r->weight * r->ce;
        }
        if (final) return RMAS_OK;
    }
    if (rolls) {
        RM_TRY(new_run(u, round, role, true, &r, err));
        if (r->n + o->latent_length - 1 > o->max_length) {
            u->n_run--;
            snprintf(u->skipped, sizeof u->skipped, "the %s's prompt and latents are longer than max_length", name);
            return RMAS_OK;
        }
        RM_TRY(roll_out(u, r, err));
    } else if (r->rows == 0) {
        snprintf(u->skipped, sizeof u->skipped, "%s has no assistant tokens", name);
        return RMAS_OK;
    }
    return send(u, r, gradients, err);
}

rmas_status rm_unroll_forward(rm_unroll *u, const rm_outer_sample *sample, bool gradients, rmas_error *err) {
    forget(u);
    u->sample = sample;
    u->loss = 0;
    u->skipped[0] = 0;
    for (int r = 0; r < RM_TRAIN_MAX_ROUNDS; r++) u->ce[r] = NAN;
    if (sample->skipped) {
        snprintf(u->skipped, sizeof u->skipped, "%s", sample->skipped);
        return RMAS_OK;
    }
    for (int round = 0; round < u->o->rounds; round++)
        for (int role = 0; role < u->team->style.n_role && !u->skipped[0]; role++) RM_TRY(visit(u, round, role, gradients, err));
    return RMAS_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------------------------------------ */

static rmas_status tape_of(rm_unroll *u, int role, rm_tape **out, rmas_error *err) {
    int owner = u->team->agent[role].same_as;
    if (!u->tape[owner]) RM_TRY(rm_tape_new(&u->tape[owner], rm_crew_model(u->team, role), err));
    *out = u->tape[owner];
    return rm_tape_begin(*out, 1, NULL, err);
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

/* Gradient with respect to the states that were sent (d_hidden, unless NULL), through the links; those of the outer links go to
 * their round's part. */
static rmas_status through_links(rm_unroll *u, const rm_unroll_run *r, float *d_hidden, rmas_error *err) {
    const rm_train_style *style = &u->team->style;
    size_t d = (size_t)width(u, r->role), cells = (size_t)r->rows * d;
    float *sum = rm_calloc(cells + 1, sizeof(float)), *one = rm_array(cells + 1, sizeof(float));
    rmas_status st = sum && one ? RMAS_OK : no_memory(err);
    for (int e = 0; e < style->n_edge && st == RMAS_OK; e++) {
        rm_message *m = &u->message[r->round * style->n_edge + e];
        if (style->edge[e].from != r->role || m->rows == 0) continue;
        rm_trainee *v = &u->trainer->v[e];
        v->used = true;
        st = rm_link_backward(v->link, r->inner, r->rows, m->dz, one, v->part[r->round], err);
        for (size_t k = 0; k < cells && st == RMAS_OK; k++) sum[k] += one[k];
    }
    if (st == RMAS_OK && d_hidden) st = rm_link_backward(u->team->agent[r->role].inner, r->hidden, r->rows, sum, d_hidden, NULL, err);
    rm_free(sum);
    rm_free(one);
    return st;
}

static rmas_status backward_text(rm_unroll *u, const rm_unroll_run *r, const float *d_sent, rmas_error *err) {
    size_t d = (size_t)width(u, r->role);
    int first = first_slot_row(r), n = r->n - first;
    if (n <= 0) return RMAS_OK;
    sequence s;
    RM_TRY(build(u, r, 0, &s, err));
    float *g = rm_calloc((size_t)n * d, sizeof(float));
    rm_tape *tape = NULL;
    rmas_status st = g ? tape_of(u, r->role, &tape, err) : no_memory(err);
    if (st == RMAS_OK) st = rm_tape_push(tape, &(rm_tape_rows){.n = r->n, .tokens = s.token, .embeds = s.embed}, 1, err);
    if (st == RMAS_OK) {
        for (int k = 0; d_sent && k < r->rows; k++)
            if (r->prompt + k >= first) memcpy(g + (size_t)(r->prompt + k - first) * d, d_sent + (size_t)k * d, d * sizeof(float));
        for (int k = 0; r->d_ce && k < r->ce_rows; k++) {
            if (r->ce_at + k < first) continue;
            float *to = g + (size_t)(r->ce_at + k - first) * d;
            for (size_t c = 0; c < d; c++) to[c] += r->d_ce[(size_t)k * d + c];
        }
        st = rm_tape_pop(tape, &(rm_tape_grads){.n = n, .d_hidden = g, .d_embeds = g}, 1, err);
    }
    if (st == RMAS_OK) to_messages(r, g, first, d);
    rm_free(g);
    sequence_free(&s);
    return st;
}

/* d_sent [m, d]: with respect to h_1 ... h_m. Row L - 1 of the sequence gives h_1, the row of e_t gives h_(t+1). */
static rmas_status backward_rollout(rm_unroll *u, const rm_unroll_run *r, float *d_sent, rmas_error *err) {
    size_t d = (size_t)width(u, r->role);
    int m = r->rows, first = first_slot_row(r), n = r->n - first;
    if (n <= 0) return RMAS_OK;
    sequence s;
    RM_TRY(build(u, r, m - 1, &s, err));
    memcpy(s.embed + (size_t)r->n * d, r->inner, (size_t)(m - 1) * d * sizeof(float));
    float *g = rm_calloc((size_t)(n + m) * d, sizeof(float)), *de = rm_array(d, sizeof(float));
    rm_tape *tape = NULL;
    rmas_status st = g && de ? tape_of(u, r->role, &tape, err) : no_memory(err);
    if (st == RMAS_OK) st = rm_tape_push(tape, &(rm_tape_rows){.n = r->n + m - 1, .tokens = s.token, .embeds = s.embed}, 1, err);
    int waiting = 0; /* rows at the end whose d_hidden is known and that are not popped yet */
    for (int t = m - 1; t >= 1 && st == RMAS_OK; t--) {
        waiting++;
        if (u->o->truncate > 0 && t % u->o->truncate == 0) continue; /* e_t is a constant: nothing to put in before it */
        float *rows = g + (size_t)n * d; /* rows of e_t ... are d_sent[t ...] */
        st = rm_tape_pop(tape, &(rm_tape_grads){.n = waiting, .d_hidden = d_sent + (size_t)t * d, .d_embeds = rows}, 1, err);
        if (st == RMAS_OK) st = rm_link_backward(u->team->agent[r->role].inner, r->hidden + (size_t)(t - 1) * d, 1, rows, de, NULL, err);
        for (size_t c = 0; c < d && st == RMAS_OK; c++) d_sent[(size_t)(t - 1) * d + c] += de[c];
        waiting = 0;
    }
    if (st == RMAS_OK) { /* the prompt from its first slot on, and what still waits behind it */
        memset(g, 0, (size_t)n * d * sizeof(float));
        memcpy(g + (size_t)(n - 1) * d, d_sent, (size_t)(waiting + 1) * d * sizeof(float));
        st = rm_tape_pop(tape, &(rm_tape_grads){.n = n + waiting, .d_hidden = g, .d_embeds = g}, 1, err);
    }
    if (st == RMAS_OK) to_messages(r, g, first, d);
    rm_free(g);
    rm_free(de);
    sequence_free(&s);
    return st;
}

rmas_status rm_unroll_backward(rm_unroll *u, double scale, rmas_error *err) {
    for (int i = 0; i < u->n_run; i++) /* the gradients of the losses carry the scale; everything else is linear in them */
        if (u->run[i].d_ce && scale != 1)
            rm_scale(u->team->exec, u->run[i].d_ce, (size_t)u->run[i].ce_rows * (size_t)width(u, u->run[i].role), scale);
    for (int i = u->n_run - 1; i >= 0; i--) {
        rm_unroll_run *r = &u->run[i];
        float *d_sent = NULL;
        rmas_status st = RMAS_OK;
        bool trained_before = r->stage->n_slot > 0;
        if (r->inner && !trained_before) {
            st = through_links(u, r, NULL, err);
        } else if (r->inner) {
            d_sent = rm_array((size_t)r->rows * (size_t)width(u, r->role), sizeof(float));
            st = d_sent ? through_links(u, r, d_sent, err) : no_memory(err);
        }
        if (st == RMAS_OK && trained_before && (d_sent || r->d_ce))
            st = r->rollout ? backward_rollout(u, r, d_sent, err) : backward_text(u, r, d_sent, err);
        rm_free(d_sent);
        if (st != RMAS_OK) return st;
    }
    return RMAS_OK;
}
