/* The run loop. It knows a graph's plan only: groups of questions go through the stages in order; the last text is written by a
 * writer that stays full, because a new group is brought up to it as soon as enough rows have left. */
#include "system/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "eval/grade.h"
#include "system/engine.h"
#include "util/file.h"
#include "util/mem.h"

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

bool rm_run_cancelled(const rm_runner *r) { return r->o->cancel && *r->o->cancel; }

void rm_run_note(const rm_runner *r, const char *fmt, ...) {
    char text[512];
    va_list ap;
    if (!r->hooks->event) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    rm_event e = {.kind = RM_EVENT_NOTE, .note = text, .n_done = r->n_done, .n_total = r->n_total};
    r->hooks->event(r->hooks->ctx, &e);
}

/* ---- the end of a question ---------------------------------------------------------------------------------------------- */

/* Texts may hold NUL characters. */
static char *copy_text(const char *text, size_t n) {
    char *own = rm_alloc(n + 1);
    if (!own) return NULL;
    memcpy(own, text, n);
    own[n] = 0;
    return own;
}

static rmas_status finish_job(rm_runner *r, rm_job *j, rmas_error *err) {
    rm_answer *a = &j->answer;
    for (int k = 1; k < a->n_rollout; k++) {
        if (a->text[k]) continue; /* greedy: copies of the first */
        a->text[k] = copy_text(a->text[0], a->n_text[0]);
        if (!a->text[k]) return nomem(err);
        a->n_text[k] = a->n_text[0];
        a->n_token[k] = a->n_token[0];
        a->retried[k] = a->retried[0];
    }
    if (j->rec) RM_TRY(rm_record_write(j->rec, r->o->record, err));
    r->n_done++;
    rm_time was = rm_time_to(r->team->exec, RM_TIME_GRADE);
    rmas_status st = r->hooks->answer ? r->hooks->answer(r->hooks->ctx, a, err) : RMAS_OK;
    rm_time_back(r->team->exec, was);
    r->job[j->index] = NULL;
    rm_job_free(r, j);
    return st;
}

rmas_status rm_text_done(rm_scribe *w, rm_runner *r, rm_job *j, const rm_stage *st, int rollout, const char *text, size_t n, int n_token,
                         rmas_error *err) {
    if (!st->final) {
        if (st->shadow) return RMAS_OK;
        j->answer.n_other += n_token;
        rm_strbuf *said = &j->said[st->agent];
        rm_strbuf_clear(said);
        rm_strbuf_add(said, text, n);
        return said->failed ? nomem(err) : RMAS_OK;
    }
    rm_answer *a = &j->answer;
    char *own = copy_text(text, n);
    if (!own) return nomem(err);
    rm_free(a->text[rollout]);
    a->text[rollout] = own;
    a->n_text[rollout] = n;
    a->n_token[rollout] += n_token;
    if (r->o->ans && !a->retried[rollout]) {
        bool has;
        RM_TRY(rm_reply_has_answer(r->grader, j->item->kind, text, n, &has, err));
        if (!has) return rm_scribe_add_retry(w, j, st, rollout, err);
    }
    return --j->n_open ? RMAS_OK : finish_job(r, j, err);
}

/* ---- groups --------------------------------------------------------------------------------------------------------------- */

static rmas_status run_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err) {
    bool loop = st->kind == RM_STAGE_TEXT && r->o->reference_loop && r->sys->agent[st->agent].tools;
    if (loop) return rm_reference_tool_stage(r, job, n, st, err);
    for (int at = 0; at < n; at += r->o->batch_size) {
        int k = n - at < r->o->batch_size ? n - at : r->o->batch_size;
        if (rm_run_cancelled(r)) return rm_fail(err, RMAS_E_CANCELLED, "cancelled");
        RM_TRY(st->kind == RM_STAGE_LATENT ? rm_latent_stage(r, job + at, k, st, err) : rm_text_stage(r, job + at, k, st, err));
    }
    return RMAS_OK;
}

/* Makes jobs of the next questions that are not done yet. */
static rmas_status take(rm_runner *r, size_t *next, rm_job **group, int max, int *n, rmas_error *err) {
    for (*n = 0; *n < max && *next < r->data->n; ++*next) {
        int index = (int)*next;
        if (r->hooks->skip && r->hooks->skip(r->hooks->ctx, index)) continue;
        RM_TRY(rm_job_new(&r->job[index], r, index, err));
        group[(*n)++] = r->job[index];
    }
    return RMAS_OK;
}

/* All questions go through each stage together, as in the reference: its tool loop shares budgets within a batch. */
static rmas_status run_by_stages(rm_runner *r, rm_job **group, rmas_error *err) {
    size_t next = 0;
    int n;
    RM_TRY(take(r, &next, group, (int)r->data->n, &n, err));
    for (int k = 0; n && k < r->plan.n_stage; k++) RM_TRY(run_stage(r, group, n, &r->plan.stage[k], err));
    return RMAS_OK;
}

static void write_event(const rm_runner *r, const rm_scribe *w, const rm_stage *st) {
    rm_event e = {.kind = RM_EVENT_WRITE,
                  .role = r->team->agent[st->agent].role,
                  .round = st->round,
                  .n_round = r->plan.n_round,
                  .text = true,
                  .n_question = rm_scribe_n_row(w),
                  .step = rm_scribe_n_token(w),
                  .n_done = r->n_done,
                  .n_total = r->n_total};
    if (r->hooks->event) r->hooks->event(r->hooks->ctx, &e);
}

static rmas_status run_flowing(rm_runner *r, rm_scribe *w, rm_job **group, rmas_error *err) {
    const rm_stage *last = &r->plan.stage[r->plan.n_stage - 1];
    int size = r->o->batch_size, n;
    size_t next = 0;
    for (long step = 0;; step++) {
        if (rm_run_cancelled(r)) return rm_fail(err, RMAS_E_CANCELLED, "cancelled");
        int n_free = size - rm_scribe_n_row(w);
        bool refill = next < r->data->n && (!rm_scribe_n_row(w) || n_free >= (size + 1) / 2);
        if (refill) {
            RM_TRY(take(r, &next, group, n_free, &n, err));
            for (int k = 0; n && k < r->plan.n_stage - 1; k++) RM_TRY(run_stage(r, group, n, &r->plan.stage[k], err));
            if (n) RM_TRY(rm_scribe_add(w, group, n, last, err));
        }
        if (!rm_scribe_n_row(w)) {
            if (next >= r->data->n) return RMAS_OK;
            continue;
        }
        if (step % 8 == 0) write_event(r, w, last);
        RM_TRY(rm_scribe_step(w, err));
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------ */

static rmas_status run_all(rm_runner *r, rmas_error *err) {
    const rm_run_options *o = r->o;
    rm_plan_options po = {o->n_round, o->text, o->latent_steps > 0, o->record != NULL};
    bool tools = false;
    RM_TRY(rm_plan_new(&r->plan, r->sys, &po, err));
    RM_TRY(rm_prefixes_new(&r->prefixes, r, err));
    RM_TRY(rm_grader_new(&r->grader, err));
    if (o->record) RM_TRY(rm_mkdirs(o->record, err));
    for (size_t i = 0; i < r->data->n; i++)
        if (!r->hooks->skip || !r->hooks->skip(r->hooks->ctx, (int)i)) r->n_total++;
    for (int a = 0; a < r->sys->n_agent; a++) tools |= r->sys->agent[a].tools;
    for (int a = 0; a < r->sys->n_agent; a++)
        if (r->team->agent[a].gen.odd[0])
            rm_run_note(r, "generation_config.json of %s asks for %s, which is not supported and ignored", r->team->agent[a].role,
                        r->team->agent[a].gen.odd);
    bool by_stages = tools && o->reference_loop;
    rm_job **group = rm_calloc(by_stages ? r->data->n : (size_t)o->batch_size, sizeof(rm_job *));
    rm_scribe *w = NULL;
    r->job = rm_calloc(r->data->n, sizeof(rm_job *));
    rmas_status st = group && r->job ? RMAS_OK : nomem(err);
    if (st == RMAS_OK && !by_stages) st = rm_scribe_new(&w, r, r->sys->answer, err);
    if (st == RMAS_OK) st = by_stages ? run_by_stages(r, group, err) : run_flowing(r, w, group, err);
    rm_scribe_free(w);
    rm_free(group);
    return st;
}

static rmas_status check_options(const rm_runner *r, rmas_error *err) {
    const rm_run_options *o = r->o;
    if (o->max_new_tokens <= 0) return rm_fail(err, RMAS_E_ARG, "max_new_tokens is %d; it must be at least 1", o->max_new_tokens);
    if (o->n_round <= 0) return rm_fail(err, RMAS_E_ARG, "num_recursive_rounds is %d; it must be at least 1", o->n_round);
    if (o->n_rollout <= 0 || o->n_rollout > 100000) return rm_fail(err, RMAS_E_ARG, "num_rollouts is %d; it must be 1 to 100000", o->n_rollout);
    if (o->batch_size <= 0 || o->batch_size > 65536) return rm_fail(err, RMAS_E_ARG, "batch_size is %d; it must be 1 to 65536", o->batch_size);
    if (o->latent_steps < 0) return rm_fail(err, RMAS_E_ARG, "latent_length is %d; it must not be negative", o->latent_steps);
    if (o->top_k < -1) return rm_fail(err, RMAS_E_ARG, "top_k is %d; it must be -1 (the model's own), 0 (off) or more", o->top_k);
    if (r->data->n > INT32_MAX / 2) return rm_fail(err, RMAS_E_ARG, "too many questions");
    if (r->sys->n_edge && !o->text && o->latent_steps > 0 && !r->team->outer[0]) return rm_fail(err, RMAS_E_ARG, "the team was opened without links");
    return RMAS_OK;
}

/* A long prompt, too, is left when the run is cancelled. */
static void watch(const rm_team *team, const volatile sig_atomic_t *cancel) {
    for (int a = 0; a < team->sys->n_agent; a++)
        if (team->agent[a].batch) rm_batch_watch(team->agent[a].batch, cancel);
}

rmas_status rm_run(const rm_team *team, const rm_pack *pack, const rm_dataset *data, const rm_run_options *o, const rm_run_hooks *hooks,
                   rmas_error *err) {
    rm_runner r = {.team = team, .sys = team->sys, .pack = pack, .data = data, .o = o, .hooks = hooks};
    RM_TRY(check_options(&r, err));
    watch(team, o->cancel);
    rmas_status st = run_all(&r, err);
    watch(team, NULL);
    for (size_t i = 0; r.job && i < data->n; i++) rm_job_free(&r, r.job[i]);
    rm_free(r.job);
    rm_prefixes_free(r.prefixes);
    rm_grader_free(r.grader);
    rm_plan_free(&r.plan);
    return st;
}
