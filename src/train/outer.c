#include "train/outer.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "train/align.h"
#include "train/loop.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/rng.h"

enum { INNER_MAX_LENGTH = 2048 }; /* of the samples for the aligned start: the inner loop's default */

typedef struct {
    rm_crew *team;
    const rm_train_options *o;
    rm_rows rows;
    size_t n_sample;
    rm_outer_sample *sample; /* [n_sample] */
    size_t *train, *held, n_train, n_held;
    rm_trainer trainer;
    rm_batches batches;
    rm_unrolls unrolls;
    int group, held_group; /* samples that go together; without gradients */
    bool checking; /* no batches: one row is looked at */
    rm_train_options eval_options; /* of the held-out losses: all rounds; the other way of making latents */
    float **copy; /* arrays of a recorded step */
    int n_copy, cap_copy;
} outer;

/* ---- samples ------------------------------------------------------------------------------------------------------------------------- */

static json_t *pieces_json(const rm_ids *piece, int n) {
    json_t *a = json_array();
    for (int i = 0; i < n && a; i++) json_array_append_new(a, rm_json_ids(piece[i].id, piece[i].n));
    return a;
}

static json_t *sample_json(const outer *u, size_t row) {
    const rm_outer_sample *s = &u->sample[row];
    const rm_train_style *style = &u->team->style;
    if (s->skipped) return json_pack("{s:I, s:s}", "row", (json_int_t)row, "skipped", s->skipped);
    json_t *stages = json_object();
    for (int r = 0; r < style->n_role; r++)
        for (int f = 0; f < (rm_train_has_feedback(style, r) ? 2 : 1); f++) {
            const rm_train_stage *st = &s->stage[r][f];
            json_t *slots = json_array();
            for (int i = 0; i < st->n_slot; i++) json_array_append_new(slots, json_string(style->role[st->sender[i]].name));
            char name[96];
            snprintf(name, sizeof name, "%s%s", style->role[r].name, f ? "/feedback" : "");
            json_object_set_new(stages, name,
                                json_pack("{s:o, s:o, s:o}", "slots", slots, "pieces", pieces_json(st->piece, st->n_slot + 1), "prompt_pieces",
                                          pieces_json(st->prompt_piece, st->n_slot + 1)));
        }
    return json_pack("{s:I, s:o}", "row", (json_int_t)row, "stages", stages);
}

static rmas_status make_samples(outer *u, rmas_error *err) {
    const rm_train_options *o = u->o;
    rm_crew *t = u->team;
    rm_train_chat chat[RM_TRAIN_ROLES];
    static const char *const question[] = {"question", NULL};
    if (!rm_rows_has_any(&u->rows, question)) return rm_fail(err, RMAS_E_ARG, "%s: no row has the column 'question'", u->rows.path);
    for (int r = 0; r < t->style.n_role; r++) {
        chat[r] = t->agent[r].chat;
        if (!rm_rows_has_any(&u->rows, t->style.role[r].outer))
            return rm_fail(err, RMAS_E_ARG, "%s: no row has the column '%s' (the text of the %s)", u->rows.path, t->style.role[r].outer[0],
                           t->style.role[r].name);
    }
    u->sample = rm_calloc(u->n_sample, sizeof *u->sample);
    if (!u->sample) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %zu samples", u->n_sample);
    rm_lines lines = {0};
    if (o->probe) RM_TRY(rm_lines_open(&lines, o->probe, "samples.jsonl", false, err));
    rmas_status st = RMAS_OK;
    for (size_t i = 0; i < u->n_sample && st == RMAS_OK; i++) {
        st = rm_outer_sample_make(&u->sample[i], &t->prompts, chat, &u->rows, i, err);
        if (st == RMAS_OK && o->probe) st = rm_lines_add(&lines, sample_json(u, i), err);
    }
    rmas_status end = rm_lines_close(&lines, st == RMAS_OK ? err : NULL);
    return st == RMAS_OK ? end : st;
}

/* ---- a batch --------------------------------------------------------------------------------------------------------------------------- */

static json_t *stages_json(const rm_unroll *u, const rm_train_style *style) {
    json_t *list = json_array();
    for (int i = 0; i < u->n_run && list; i++) {
        const rm_unroll_run *r = &u->run[i];
        if (r->rollout) continue;
        json_t *slots = json_object();
        for (int k = 0; k < r->stage->n_slot; k++) {
            int from = r->slot_at[k], to = from + r->slot_rows[k];
            json_object_set_new(slots, style->role[r->stage->sender[k]].name, json_pack("[i, i]", from > 0 ? from : 0, to > 0 ? to : 0));
        }
        json_array_append_new(list, json_pack("{s:i, s:s, s:b, s:i, s:i, s:i, s:o, s:i}", "round", r->round + 1, "role", style->role[r->role].name,
                                              "feedback", r->feedback, "length", r->n, "cut_left", r->cut, "prompt_len", r->prompt, "slots", slots,
                                              "labels", r->n_label));
    }
    return list;
}

static json_t *ce_json(const rm_unroll *u, int rounds) {
    if (u->skipped[0]) return json_null();
    json_t *list = json_array();
    for (int r = 0; r < rounds; r++)
        if (!isnan(u->ce[r])) json_array_append_new(list, json_real(u->ce[r]));
    return list;
}

static rmas_status copy_array(outer *u, rm_arrays *a, const float *data, int rows, int d, const char *what, size_t sample, int round,
                              const char *name, rmas_error *err) {
    if (u->n_copy == u->cap_copy) {
        int cap = u->cap_copy ? 2 * u->cap_copy : 32;
        float **v = rm_realloc_array(u->copy, (size_t)cap, sizeof *v);
        if (!v) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the record");
        u->copy = v;
        u->cap_copy = cap;
    }
    size_t n = (size_t)rows * (size_t)d;
    float *c = rm_array(n, sizeof *c);
    if (!c) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the record");
    memcpy(c, data, n * sizeof *c);
    u->copy[u->n_copy++] = c;
    return rm_arrays_add(a, c, 2, (int64_t[]){rows, d}, err, "%s.%zu.r%d.%s", what, sample, round + 1, name);
}

/* Messages and states of one sample of the batch. */
static rmas_status record_sample(outer *u, rm_arrays *a, const rm_unroll *sample, size_t at, rmas_error *err) {
    const rm_train_style *style = &u->team->style;
    for (int m = 0; m < u->o->rounds * style->n_edge; m++) {
        const rm_message *q = &sample->message[m];
        if (q->rows)
            RM_TRY(copy_array(u, a, q->z, q->rows, rm_crew_width(u->team, style->edge[q->edge].to), "message", at, m / style->n_edge,
                              style->edge[q->edge].key, err));
    }
    for (int i = 0; i < sample->n_run; i++) {
        const rm_unroll_run *r = &sample->run[i];
        if (r->inner)
            RM_TRY(copy_array(u, a, r->hidden, r->all_rows, rm_crew_width(u->team, r->role), "hidden", at, r->round, style->role[r->role].name, err));
    }
    return RMAS_OK;
}

static void recorded(void *ctx) {
    outer *u = ctx;
    while (u->n_copy > 0) rm_free(u->copy[--u->n_copy]);
}

/* Parts by round -> norms in the log, and their sum in part 0, which is the gradient. */
static void sum_parts(outer *u, json_t *line, double rescale) {
    json_t *all = json_object();
    for (int i = 0; i < u->trainer.n; i++) {
        rm_trainee *v = &u->trainer.v[i];
        size_t n = rm_link_n_value(v->link);
        json_t *norms = json_array();
        for (int r = 0; r < u->o->rounds; r++) {
            double s = v->used ? sqrt(rm_sum_squares(u->trainer.exec, v->part[r], n)) * rescale : 0;
            json_array_append_new(norms, json_real(isfinite(s) ? s : 1e30));
        }
        for (int r = 1; r < u->o->rounds && v->used; r++)
            for (size_t k = 0; k < n; k++) v->part[0][k] += v->part[r][k];
        if (v->used && rescale != 1) rm_scale(u->trainer.exec, v->part[0], n, rescale);
        json_object_set_new(all, v->key, norms);
    }
    json_object_set_new(line, "norm_by_round", all);
}

static rmas_status do_batch(void *ctx, int64_t number, json_t *line, rm_arrays *arrays, bool *valid, double *loss, rmas_error *err) {
    outer *u = ctx;
    size_t n = u->batches.batch * (size_t)u->o->grad_accum, counted = 0;
    int limited = 0;
    json_t *rows = json_array(), *ce = json_array(), *skipped = json_array(), *stages = json_array();
    rmas_status st = RMAS_OK;
    *loss = 0;
    for (size_t at = 0; at < n && st == RMAS_OK; at += (size_t)u->group) {
        const rm_outer_sample *sample[RM_UNROLL_MAX];
        int k = 0;
        for (; k < u->group && at + (size_t)k < n; k++) {
            size_t i = at + (size_t)k;
            size_t row = u->train[rm_batches_at(&u->batches, number * u->o->grad_accum + (int64_t)(i / u->batches.batch), i % u->batches.batch)];
            json_array_append_new(rows, json_integer((json_int_t)row));
            sample[k] = &u->sample[row];
        }
        st = rm_unrolls_forward(&u->unrolls, sample, k, true, err);
        for (int i = 0; i < k && st == RMAS_OK; i++) {
            const rm_unroll *s = &u->unrolls.v[i];
            json_array_append_new(ce, ce_json(s, u->o->rounds));
            if (u->o->probe) json_array_append_new(stages, stages_json(s, &u->team->style));
            if (s->skipped[0]) {
                json_array_append_new(skipped, json_pack("[I, s]", (json_int_t)at + i, s->skipped));
                continue;
            }
            counted++;
            *loss += s->loss;
            if (arrays) st = record_sample(u, arrays, s, at + (size_t)i, err);
        }
        if (st == RMAS_OK) st = rm_unrolls_backward(&u->unrolls, 1.0 / (double)n, err);
        for (int i = 0; i < k; i++) limited += u->unrolls.v[i].n_limited;
    }
    json_object_set_new(line, "rows", rows);
    json_object_set_new(line, "ce", ce);
    json_object_set_new(line, "valid", json_integer((json_int_t)counted));
    json_object_set_new(line, "skipped", skipped);
    if (u->o->max_message_grad > 0) json_object_set_new(line, "limited_messages", json_integer(limited));
    if (u->o->probe)
        json_object_set_new(line, "stages", stages);
    else
        json_decref(stages);
    *valid = counted > 0;
    if (st != RMAS_OK || !counted) return st;
    *loss /= (double)counted;
    sum_parts(u, line, (double)n / (double)counted);
    return RMAS_OK;
}

/* ---- held-out rows ------------------------------------------------------------------------------------------------------------------------ */

/* Into the line: the losses by round, as a mean, and of every row, so that two runs can be compared row by row. */
static rmas_status mean_ce(outer *u, bool rollout, json_t *line, const char *name, double *final, rmas_error *err) {
    const rm_train_options *before = u->unrolls.o;
    json_t *by_row = json_array();
    double sum[RM_TRAIN_MAX_ROUNDS] = {0};
    size_t n = 0;
    u->eval_options = *u->o;
    u->eval_options.final_only = false;
    u->eval_options.cancel = NULL; /* the step before it is done and counts */
    u->eval_options.rollout = u->eval_options.rollout_feedback = rollout;
    u->unrolls.o = &u->eval_options;
    rmas_status st = RMAS_OK;
    for (size_t at = 0; at < u->n_held && st == RMAS_OK; at += (size_t)u->held_group) {
        const rm_outer_sample *sample[RM_UNROLL_MAX];
        int k = 0;
        for (; k < u->held_group && at + (size_t)k < u->n_held; k++) sample[k] = &u->sample[u->held[at + (size_t)k]];
        st = rm_unrolls_forward(&u->unrolls, sample, k, false, err);
        for (int i = 0; i < k && st == RMAS_OK; i++) {
            const rm_unroll *s = &u->unrolls.v[i];
            for (int r = 0; r < u->o->rounds && !s->skipped[0]; r++) sum[r] += s->ce[r];
            n += !s->skipped[0];
            json_array_append_new(by_row, ce_json(s, u->o->rounds));
        }
    }
    u->unrolls.o = before;
    char field[64];
    snprintf(field, sizeof field, "%s_by_row", name);
    json_object_set_new(line, field, by_row);
    if (st != RMAS_OK) return st;
    json_t *list = json_array();
    for (int r = 0; r < u->o->rounds && n; r++) json_array_append_new(list, json_real(sum[r] / (double)n));
    json_object_set_new(line, name, list);
    *final = n ? sum[u->o->rounds - 1] / (double)n : NAN;
    return RMAS_OK;
}

/* What inference sends are rollouts: their loss stands in the log whatever is trained on. */
static rmas_status held_out(void *ctx, json_t *line, double *loss, rmas_error *err) {
    outer *u = ctx;
    double other;
    json_t *rows = json_array();
    for (size_t i = 0; i < u->n_held; i++) json_array_append_new(rows, json_integer((json_int_t)u->held[i]));
    json_object_set_new(line, "held_out_rows", rows);
    RM_TRY(mean_ce(u, true, line, "held_out_rollout_ce", loss, err));
    if (!u->o->rollout) {
        other = *loss;
        RM_TRY(mean_ce(u, false, line, "held_out_gold_ce", loss, err));
        rm_loop_say(u->o, false, "held-out loss with rollouts, as a run sends them: %.4f", other);
    }
    return RMAS_OK;
}

/* ---- files ---------------------------------------------------------------------------------------------------------------------------------- */

static rmas_status save_link(const outer *u, const rm_link *l, const char *dir, const char *key, const char *ending, rmas_error *err) {
    char name[96];
    snprintf(name, sizeof name, "%s%s", key, ending);
    char *path = rm_path_join(dir, name);
    rmas_status st = path ? rm_link_save_as(l, path, u->o->save_dtype, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_free(path);
    return st;
}

/* The files of the reference's trainer, which its inference and ours load, and the links as safetensors. */
static rmas_status save(void *ctx, const char *dir, rmas_error *err) {
    outer *u = ctx;
    json_t *adapters = json_array(), *config = json_pack("{s:s, s:s, s:i, s:b, s:f}", "mas_shape", u->team->style.shape, "mas_task",
                                                         rm_task_name(u->team->prompts.task), "num_recursive_rounds", u->o->rounds,
                                                         "supervise_final_only", u->o->final_only, "non_last_loss_weight", u->o->non_last_weight);
    rmas_status st = adapters && config ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    for (int e = 0; e < u->trainer.n && st == RMAS_OK; e++) {
        const rm_link *l = u->trainer.v[e].link;
        const char *key = u->trainer.v[e].key;
        char name[96], field[112];
        snprintf(name, sizeof name, "%s.pt", key);
        json_array_append_new(adapters, json_pack("{s:s, s:s, s:s, s:i, s:i}", "legacy_key", key, "filename", name, "adapter_type", rm_link_type(l),
                                                  "in_dim", rm_link_d_in(l), "out_dim", rm_link_d_out(l)));
        snprintf(field, sizeof field, "%s_type", key);
        json_object_set_new(config, field, json_string(rm_link_type(l)));
        snprintf(field, sizeof field, "%s_in_dim", key);
        json_object_set_new(config, field, json_integer(rm_link_d_in(l)));
        snprintf(field, sizeof field, "%s_out_dim", key);
        json_object_set_new(config, field, json_integer(rm_link_d_out(l)));
        st = save_link(u, l, dir, key, ".pt", err);
        if (st == RMAS_OK) st = save_link(u, l, dir, key, ".safetensors", err);
    }
    if (st == RMAS_OK)
        st = rm_write_json(dir, "outerlink_config.json",
                           json_pack("{s:i, s:s, s:s, s:O}", "format_version", 1, "paradigm", u->team->style.family, "legacy_config_filename",
                                     "outer_adapter_config.json", "adapters", adapters),
                           err);
    if (st == RMAS_OK) st = rm_write_json(dir, "outer_adapter_config.json", json_incref(config), err);
    json_decref(adapters);
    json_decref(config);
    for (int e = 0; st == RMAS_OK && u->o->in_place && !strcmp(dir, u->o->save_dir) && e < u->trainer.n; e++) {
        char *path;
        st = rm_crew_outer_place(u->team, e, &path, err);
        if (st == RMAS_OK) st = rm_link_save_as(u->trainer.v[e].link, path, u->o->save_dtype, err);
        rm_free(path);
    }
    return st;
}

/* ---- the run --------------------------------------------------------------------------------------------------------------------------------- */

static rmas_status align(outer *u, int edge, rmas_error *err) {
    rm_link *l = u->trainer.v[edge].link;
    float *x, *y;
    int n;
    rm_loop_say(u->o, false, "fitting %s by regression", u->trainer.v[edge].key);
    RM_TRY(rm_outer_pairs(u->team, edge, &u->rows, u->train, u->n_train, 32 * (size_t)rm_link_d_in(l), INNER_MAX_LENGTH, &x, &y, &n, err));
    rmas_status st = rm_align_outer(l, x, y, n, err);
    rm_free(x);
    rm_free(y);
    return st;
}

/* The type of a new link: its own, else that of all. */
static const char *type_of(const rm_train_options *o, const char *key) {
    for (int i = 0; i < o->n_edge_type; i++)
        if (!strcmp(o->edge_type[i].key, key)) return o->edge_type[i].type;
    return o->type;
}

static rmas_status check_edge_types(const rm_train_options *o, const rm_train_style *s, rmas_error *err) {
    for (int i = 0; i < o->n_edge_type; i++) {
        int e = 0;
        while (e < s->n_edge && strcmp(s->edge[e].key, o->edge_type[i].key)) e++;
        if (e == s->n_edge)
            return rm_fail(err, RMAS_E_ARG, "--%s_type: %s has no link %s", o->edge_type[i].key, s->system->name, o->edge_type[i].key);
    }
    return RMAS_OK;
}

static rmas_status write_init(const outer *u, rmas_error *err) {
    rm_arrays a = {0};
    char *path = rm_path_join(u->o->probe, "init.safetensors");
    rmas_status st = path ? rm_trainer_record(&u->trainer, &a, false, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK) st = rm_arrays_write(&a, path, err);
    rm_arrays_free(&a);
    rm_free(path);
    return st;
}

static rmas_status prepare(outer *u, rmas_error *err) {
    const rm_train_options *o = u->o;
    rm_crew *t = u->team;
    if (o->rounds < 1 || o->rounds > RM_TRAIN_MAX_ROUNDS)
        return rm_fail(err, RMAS_E_ARG, "--num_recursive_rounds %d: expected 1 to %d", o->rounds, RM_TRAIN_MAX_ROUNDS);
    if ((o->rollout || o->rollout_feedback) && o->latent_length < 1)
        return rm_fail(err, RMAS_E_ARG, "--latent_length %lld: rollouts need at least one step", (long long)o->latent_length);
    RM_TRY(check_edge_types(o, &t->style, err));
    RM_TRY(rm_rows_open(&u->rows, o->data, o->field, err));
    u->n_sample = o->num_samples >= 0 && (size_t)o->num_samples < u->rows.n ? (size_t)o->num_samples : u->rows.n;
    for (int e = 0; o->in_place && e < t->style.n_edge; e++) { /* before the work, not after it */
        char *place;
        RM_TRY(rm_crew_outer_place(t, e, &place, err));
        rm_free(place);
    }
    if (o->probe) RM_TRY(rm_mkdirs(o->probe, err));
    RM_TRY(make_samples(u, err));
    u->n_held = (size_t)o->held_out;
    RM_TRY(rm_hold_out(u->n_sample, u->n_held, (uint64_t)o->seed, &u->train, &u->held, err));
    u->n_train = u->n_sample - u->n_held;
    if (o->max_steps != 0 && !u->checking)
        RM_TRY(rm_batches_init(&u->batches, u->n_train, (size_t)o->batch_size, o->shuffle, (uint64_t)o->seed, err));
    if (o->max_steps != 0 || o->init == RM_INIT_ALIGNED)
        for (int r = 0; r < t->style.n_role; r++) {
            RM_TRY(rm_crew_load_model(t, r, err));
            RM_TRY(rm_crew_load_inner(t, r, err));
            if (!t->agent[r].inner_path)
                rm_loop_say(o, false, "note: the inner link of the %s is untrained (made from the system's seed); 'rmas train inner' comes first",
                            t->style.role[r].name);
        }
    for (int e = 0; e < t->style.n_edge; e++) {
        rm_link *l;
        RM_TRY(rm_crew_trained_outer(t, e, o->init, type_of(o, t->style.edge[e].key), &l, err));
        RM_TRY(rm_trainer_add(&u->trainer, t->style.edge[e].key, l, o->max_steps != 0 ? o->rounds : 1, err));
        if (o->init == RM_INIT_ALIGNED && !rm_loop_resumes(o)) RM_TRY(align(u, e, err));
    }
    return o->probe ? write_init(u, err) : RMAS_OK;
}

/* Bytes for a sample. */
typedef struct {
    size_t tape, tape_gate_up; /* of the longest pass of each role; with gate_up */
    size_t kept; /* what all rounds keep beside it */
} sample_bytes;

static sample_bytes bytes_of_sample(const outer *u) {
    const rm_train_style *style = &u->team->style;
    int64_t sent = u->o->rollout ? u->o->latent_length : u->o->max_latent > 0 ? u->o->max_latent : u->o->max_length;
    sample_bytes all = {0};
    for (int r = 0; r < style->n_role; r++) {
        const rm_model *m = rm_crew_model(u->team, r);
        size_t longest = 0, d = (size_t)rm_model_config(m)->d_model;
        for (size_t i = 0; i < u->n_sample; i++)
            for (int f = 0; f < 2; f++) {
                const rm_train_stage *st = &u->sample[i].stage[r][f];
                size_t n = (size_t)st->n_full + (size_t)st->n_slot * (size_t)sent;
                if (n > longest) longest = n;
            }
        if (longest > (size_t)u->o->max_length) longest = (size_t)u->o->max_length;
        const size_t other = longest * 8 * d * sizeof(float) + (longest / 64 + 2) * rm_seq_bytes_fixed(m);
        all.tape += longest * rm_tape_bytes_per_token(m, false) + other;
        all.tape_gate_up += longest * rm_tape_bytes_per_token(m, true) + other;
        all.kept += (size_t)u->o->rounds * longest * d * 3 * sizeof(float);
    }
    return all;
}

/* So many samples together fill the passes: a rollout has one row of each; gold states are rows of whole texts. */
static int full_group(const outer *u) {
    enum { FULL_PASS = 128 };
    if (u->o->rollout || u->o->rollout_feedback) return RM_UNROLL_MAX;
    int64_t rows = 0, n = 0;
    for (size_t i = 0; i < u->n_sample; i++)
        for (int r = 0; r < u->team->style.n_role && !u->sample[i].skipped; r++, n++) rows += u->sample[i].stage[r][0].n_full;
    const int64_t want = rows > 0 ? (FULL_PASS * n + rows - 1) / rows : 1;
    return want < RM_UNROLL_MAX ? (int)want : RM_UNROLL_MAX;
}

/* At most `most` samples of so many bytes each that fit into half of the free memory; at least one. */
static int fitting(const outer *u, int64_t most, size_t bytes, size_t links) {
    int n = 1;
    while (n < most && rm_crew_memory(u->team, 2 * (size_t)(n + 1) * bytes + links, u->o->memory_limit, "", NULL) == RMAS_OK) n++;
    return n;
}

/* The tape of the longest pass, what all rounds keep of it, and the links with their gradients by round and moments. What is kept, and how many samples
 * go together, depends on the memory; the numbers do not. */
static rmas_status enough_memory(outer *u, rmas_error *err) {
    const size_t rounds = (size_t)u->o->rounds;
    const sample_bytes b = bytes_of_sample(u);
    size_t links = 0;
    for (int e = 0; e < u->trainer.n; e++) links += rm_link_n_value(u->trainer.v[e].link) * (rounds + 4) * sizeof(float);
    RM_TRY(
        rm_crew_memory(u->team, b.tape + b.kept + links, u->o->memory_limit, "less --max_length or --num_recursive_rounds, or smaller models", err));
    const int64_t batch = u->o->batch_size * u->o->grad_accum, full = full_group(u), most = batch < full ? batch : full;
    const size_t with_gate_up = b.tape_gate_up * rounds + b.kept, with_tapes = b.tape * rounds + b.kept, without = b.tape + b.kept;
    u->unrolls.keep_gate_up = rm_crew_memory(u->team, 2 * (size_t)most * with_gate_up + links, u->o->memory_limit, "", NULL) == RMAS_OK;
    u->unrolls.keep = u->unrolls.keep_gate_up || rm_crew_memory(u->team, 2 * with_tapes + links, u->o->memory_limit, "", NULL) == RMAS_OK;
    u->group = fitting(u, most, u->unrolls.keep_gate_up ? with_gate_up : u->unrolls.keep ? with_tapes : without, links);
    u->held_group = fitting(u, (int64_t)u->n_held < RM_UNROLL_MAX ? (int64_t)u->n_held : RM_UNROLL_MAX, without, links);
    return RMAS_OK;
}

static uint64_t fingerprint(const outer *u) {
    const rm_train_style *style = &u->team->style;
    uint64_t h = RM_FINGERPRINT;
    for (size_t i = 0; i < u->n_sample; i++) {
        const rm_outer_sample *s = &u->sample[i];
        for (int r = 0; r < style->n_role && !s->skipped; r++)
            for (int f = 0; f < (rm_train_has_feedback(style, r) ? 2 : 1); f++)
                for (int k = 0; k <= s->stage[r][f].n_slot; k++) {
                    const rm_ids *part[2] = {&s->stage[r][f].piece[k], &s->stage[r][f].prompt_piece[k]};
                    for (int p = 0; p < 2; p++) {
                        h = rm_fingerprint(h, &part[p]->n, sizeof part[p]->n);
                        if (part[p]->n) h = rm_fingerprint(h, part[p]->id, (size_t)part[p]->n * sizeof *part[p]->id);
                    }
                }
        h = rm_fingerprint(h, s->skipped ? "-" : "+", 1);
    }
    return h;
}

static rmas_status run(outer *u, rmas_error *err) {
    const rm_train_options *o = u->o;
    RM_TRY(prepare(u, err));
    if (o->max_steps == 0) return o->probe ? RMAS_OK : rm_fail(err, RMAS_E_ARG, "--max_steps 0 makes sense with --probe only");
    RM_TRY(rm_unrolls_init(&u->unrolls, u->team, o, &u->trainer, u->sample, u->n_sample, err));
    int64_t per_epoch = (int64_t)(u->batches.n / u->batches.batch);
    u->trainer.total = o->max_steps > 0 ? o->max_steps : o->epochs * per_epoch / o->grad_accum;
    rm_loop_say(o, false, "%zu rows to train on, %zu held out; %lld steps of %lld rows, %d rounds", u->n_train, u->n_held,
                (long long)u->trainer.total, (long long)(o->batch_size * o->grad_accum), o->rounds);
    RM_TRY(enough_memory(u, err));
    rm_loop l = {.trainer = &u->trainer,
                 .options = o,
                 .batches = &u->batches,
                 .ctx = u,
                 .batch = do_batch,
                 .held_out = u->n_held ? held_out : NULL,
                 .save = save,
                 .recorded = recorded};
    RM_TRY(rm_train_args(&l.args, o, u->team, false, fingerprint(u), err));
    rmas_status st = rm_loop_run(&l, err);
    json_decref(l.args);
    return st;
}

static void begin(outer *u, rm_crew *t, const rm_train_options *o) {
    *u = (outer){.team = t, .o = o};
    u->trainer =
        (rm_trainer){.exec = t->exec, .adamw = RM_ADAMW_DEFAULT, .schedule = o->schedule, .warmup = o->warmup, .max_grad_norm = o->max_grad_norm};
    u->trainer.adamw.lr = o->lr;
    u->trainer.adamw.weight_decay = o->weight_decay;
    u->trainer.adamw.decay_all = true;
}

static void finish(outer *u) {
    rm_unrolls_free(&u->unrolls);
    for (size_t i = 0; u->sample && i < u->n_sample; i++) rm_outer_sample_free(&u->sample[i]);
    recorded(u);
    rm_free(u->copy);
    rm_free(u->sample);
    rm_free(u->train);
    rm_free(u->held);
    rm_rows_close(&u->rows);
    rm_batches_free(&u->batches);
    rm_trainer_free(&u->trainer);
}

rmas_status rm_train_outer(rm_crew *t, const rm_train_options *o, rmas_error *err) {
    outer u;
    begin(&u, t, o);
    rmas_status st = run(&u, err);
    finish(&u);
    return st;
}

/* ---- finite differences ----------------------------------------------------------------------------------------------------------------------- */

/* Loss of the sample with the values of link e moved by h along the direction. */
static rmas_status moved_loss(outer *u, int e, const float *saved, const float *direction, double h, const rm_outer_sample *s, double *loss,
                              rmas_error *err) {
    rm_link *l = u->trainer.v[e].link;
    float *v = rm_link_values(l);
    for (size_t k = 0; k < rm_link_n_value(l); k++) v[k] = (float)((double)saved[k] + h * (double)direction[k]);
    RM_TRY(rm_link_changed(l, err));
    RM_TRY(rm_unrolls_forward(&u->unrolls, &s, 1, false, err));
    *loss = u->unrolls.v[0].loss;
    memcpy(v, saved, rm_link_n_value(l) * sizeof *v);
    return rm_link_changed(l, err);
}

#define CHECK_LIMIT 0.02 /* how far gradients and differences may be apart */

/* The direction: that of the gradient itself, in which rounding noise weighs least, half turned by a random one. */
static rmas_status check_link(outer *u, int e, const rm_outer_sample *s, double *worst, rmas_error *err) {
    rm_trainee *v = &u->trainer.v[e];
    size_t n = rm_link_n_value(v->link);
    float *saved = rm_array(n, sizeof *saved), *direction = rm_array(n, sizeof *direction);
    rmas_status st = saved && direction ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    double norm = st == RMAS_OK ? sqrt(rm_sum_squares(u->trainer.exec, v->grad, n)) : 0, slope = 0, size = 0;
    if (st == RMAS_OK && norm > 0) {
        memcpy(saved, rm_link_values(v->link), n * sizeof *saved);
        rm_rng r = rm_rng_make(u->team->seed, 77 + (uint64_t)e);
        for (size_t k = 0; k < n; k++) {
            direction[k] = (float)((double)v->grad[k] / norm + 0.5 * rm_rng_normal(&r) / sqrt((double)n));
            slope += (double)direction[k] * (double)v->grad[k];
            size += (double)saved[k] * (double)saved[k];
        }
        double off = INFINITY;
        /* from steps that are too large, for the loss is curved, to those in which its rounding is all; good enough is enough */
        for (double step = 0.01; step > 1e-6 && st == RMAS_OK && off > 0.002; step /= 3) {
            double h = step * sqrt(size), f[4];
            static const double at[4] = {1, -1, 2, -2};
            for (int k = 0; k < 4 && st == RMAS_OK; k++) st = moved_loss(u, e, saved, direction, at[k] * h, s, &f[k], err);
            if (st != RMAS_OK) break;
            const double d = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h);
            const double largest = fmax(fabs(d), fabs(slope)), rounding = 1.5 * FLT_EPSILON * fabs(f[0]) / h;
            if (rounding > CHECK_LIMIT * largest) break;
            off = fmin(off, fabs(d - slope) / largest);
        }
        if (st == RMAS_OK && off < INFINITY) {
            rm_loop_say(u->o, false, "%-12s gradient %.3e  slope %.6e  differences are off by %.2e", v->key, norm, slope, off);
            *worst = fmax(*worst, off);
        } else if (st == RMAS_OK) {
            rm_loop_say(u->o, false, "%-12s gradient %.3e: too small, differences of this loss are all rounding", v->key, norm);
        }
    } else if (st == RMAS_OK) {
        rm_loop_say(u->o, false, "%-12s gradient 0: nothing depends on it", v->key);
    }
    rm_free(saved);
    rm_free(direction);
    return st;
}

static rmas_status check(outer *u, rmas_error *err) {
    RM_TRY(prepare(u, err));
    RM_TRY(rm_unrolls_init(&u->unrolls, u->team, u->o, &u->trainer, u->sample, u->n_sample, err));
    double worst = -1;
    size_t row = 0;
    while (row < u->n_sample && u->sample[row].skipped) row++;
    if (row == u->n_sample) return rm_fail(err, RMAS_E_ARG, "%s: no row counts", u->rows.path);
    rm_trainer_zero(&u->trainer);
    const rm_outer_sample *sample = &u->sample[row];
    RM_TRY(rm_unrolls_forward(&u->unrolls, &sample, 1, true, err));
    if (u->unrolls.v[0].skipped[0]) return rm_fail(err, RMAS_E_ARG, "%s: row %zu does not count: %s", u->rows.path, row, u->unrolls.v[0].skipped);
    rm_loop_say(u->o, false, "row %zu: loss %.6f", row, u->unrolls.v[0].loss);
    RM_TRY(rm_unrolls_backward(&u->unrolls, 1, err));
    json_t *norms = json_object();
    sum_parts(u, norms, 1);
    json_decref(norms);
    for (int e = 0; e < u->trainer.n; e++) RM_TRY(check_link(u, e, &u->sample[row], &worst, err));
    if (worst < 0) return rm_fail(err, RMAS_E_ARG, "no gradient could be checked");
    return worst < CHECK_LIMIT
               ? RMAS_OK
               : rm_fail(err, RMAS_E_ARG,
                         "gradients and differences are %.1e apart (limit 2e-2); with --dtype f32 and a short --latent_length (4), the "
                         "defaults, differences are exact enough",
                         worst);
}

rmas_status rm_train_check(rm_crew *t, const rm_train_options *o, rmas_error *err) {
    outer u;
    begin(&u, t, o);
    u.checking = true;
    rmas_status st = check(&u, err);
    finish(&u);
    return st;
}
