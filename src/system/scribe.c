/* The scribe: rows of one agent that are decoded together. A row leaves when it is finished, and the next one takes its place;
 * a row that waits for a tool lets the others go on. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "eval/grade.h"
#include "system/engine.h"
#include "util/mem.h"
#include "util/utf8.h"

struct rm_scribe {
    rm_runner *r;
    const rm_agent *a;
    rm_row **row; /* the first ones are being written, the others wait for a place */
    int n, cap, n_token;
    rm_errands errands;
    rm_feed *feed;
    void *scratch; /* of sampling */
};

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

rmas_status rm_scribe_new(rm_scribe **out, rm_runner *r, int agent, rmas_error *err) {
    rm_scribe *w = *out = RM_NEW(rm_scribe);
    if (!w) return nomem(err);
    w->r = r;
    w->a = &r->team->agent[agent];
    w->feed = rm_calloc((size_t)r->o->batch_size, sizeof *w->feed);
    w->scratch = rm_alloc((size_t)w->a->n_vocab * 8);
    rmas_status st = w->feed && w->scratch ? rm_errands_open(&w->errands, r, err) : nomem(err);
    if (st == RMAS_OK) return RMAS_OK;
    rm_free(w->feed);
    rm_free(w->scratch);
    rm_free(w);
    *out = NULL;
    return st;
}

void rm_scribe_free(rm_scribe *w) {
    if (!w) return;
    atomic_store(&w->errands.stop, true);
    for (int i = 0; i < w->n; i++) {
        rm_row_clear(w->row[i]);
        rm_free(w->row[i]);
    }
    rm_free(w->row);
    rm_errands_close(&w->errands);
    rm_free(w->feed);
    rm_free(w->scratch);
    rm_free(w);
}

int rm_scribe_n_row(const rm_scribe *w) { return w->n; }
int rm_scribe_n_token(const rm_scribe *w) { return w->n_token; }

/* Takes the row's content; *from is empty afterwards. */
static rmas_status push(rm_scribe *w, rm_row *from, rmas_error *err) {
    if (w->n == w->cap) {
        int cap = w->cap ? 2 * w->cap : 32;
        rm_row **row = rm_realloc_array(w->row, (size_t)cap, sizeof(rm_row *));
        if (!row) return nomem(err);
        w->row = row;
        w->cap = cap;
    }
    rm_row *own = RM_NEW(rm_row);
    if (!own) return nomem(err);
    *own = *from;
    *from = (rm_row){0};
    w->row[w->n++] = own;
    return RMAS_OK;
}

/* ---- new rows --------------------------------------------------------------------------------------------------------- */

static rmas_status add_rows(rm_scribe *w, rm_job *j, const rm_stage *st, const rm_prompt *p, rm_seq *seq, int n_rollout, rmas_error *err) {
    for (int k = 0; k < n_rollout; k++) {
        rm_row row;
        rmas_status status = RMAS_OK;
        rm_row_init(&row, w->r, j, st, RM_ROW_TEXT, k);
        if (j->rec) {
            row.rec = rm_record_stage(w->r, j, st, "text", p);
            if (!row.rec) status = nomem(err);
            if (n_rollout > 1 && row.rec) json_object_set_new(row.rec, "rollout", json_integer(k));
        }
        if (status == RMAS_OK && !row.is_forced) status = rm_seq_clone(&row.seq, seq, err);
        if (status == RMAS_OK && !row.is_forced) status = rm_prompt_input(&row.in, w->r, j, st, p, p->n_pos - 1, p->n_pos, err);
        if (status == RMAS_OK) status = push(w, &row, err);
        rm_row_clear(&row);
        RM_TRY(status);
    }
    return RMAS_OK;
}

rmas_status rm_scribe_add(rm_scribe *w, rm_job *const *job, int n, const rm_stage *st, rmas_error *err) {
    rm_runner *r = w->r;
    int n_rollout = st->final && r->o->temperature > 0 ? r->o->n_rollout : 1, n_model = 0;
    rm_prompt *prompt = rm_calloc((size_t)n, sizeof *prompt);
    rm_seq **seq = rm_calloc((size_t)n, sizeof(rm_seq *));
    rm_job **mine = rm_calloc((size_t)n, sizeof(rm_job *)); /* jobs whose text is not replayed come first: only they need states */
    rmas_status status = prompt && seq && mine ? RMAS_OK : nomem(err);
    for (int pass = 0, k = 0; status == RMAS_OK && pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            const rm_ids *ids;
            bool forced = rm_replay_find(r->o->replay, job[i]->index, w->a->role, st->round, false, 0, &ids);
            if (forced == (pass == 1)) mine[k++] = job[i];
            if (pass == 0) n_model = k;
        }
    rm_run_phase(r, st, RM_PHASE_PREFILL);
    for (int i = 0; status == RMAS_OK && i < n; i++) status = rm_prompt_make(&prompt[i], r, mine[i], st, err);
    if (status == RMAS_OK && n_model) status = rm_prefill(r, mine, prompt, n_model, st, 1, seq, err);
    for (int i = 0; status == RMAS_OK && i < n; i++) {
        status = add_rows(w, mine[i], st, &prompt[i], seq[i], n_rollout, err);
        if (st->final) rm_job_drop_state(r, mine[i]);
    }
    for (int i = 0; i < n; i++) {
        if (prompt) rm_prompt_free(&prompt[i]);
        if (seq) rm_seq_free(seq[i]);
    }
    rm_free(prompt);
    rm_free(seq);
    rm_free(mine);
    return status;
}

rmas_status rm_scribe_add_retry(rm_scribe *w, rm_job *j, const rm_stage *st, int rollout, rmas_error *err) {
    rm_row row;
    rm_strbuf b = {0};
    rm_prompt p = {.ids = rm_calloc(1, sizeof *p.ids), .edge = rm_calloc(1, sizeof *p.edge), .n_piece = 1};
    const char *text = j->answer.text[rollout];
    size_t n = j->answer.n_text[rollout];
    rm_text_strip(&text, &n, false, true);
    rm_strbuf_add(&b, text, n);
    rm_strbuf_putc(&b, '\n');
    rm_row_init(&row, w->r, j, st, RM_ROW_RETRY, rollout);
    rmas_status status = rm_pack_retry(w->r->pack, w->r->sys->family, &j->ask, &b, err);
    if (status == RMAS_OK && (b.failed || !p.ids || !p.edge)) status = nomem(err);
    if (status == RMAS_OK) status = rm_tok_encode(w->a->tok, rm_str(&b), b.n, true, &p.ids[0], err);
    if (status == RMAS_OK) {
        p.n_pos = p.ids[0].n;
        p.pieces.text = rm_calloc(1, sizeof(char *));
        p.pieces.n_text = rm_calloc(1, sizeof(size_t));
        rm_strbuf_add(&row.text, b.s, b.n); /* the text goes on from here */
        if (p.pieces.n_text) p.pieces.n_text[0] = b.n;
        if (p.pieces.text) p.pieces.text[0] = rm_strbuf_take(&b);
        if (!p.pieces.text || !p.pieces.n_text || !p.pieces.text[0] || row.text.failed) status = nomem(err);
    }
    if (status == RMAS_OK && j->rec) {
        row.rec = rm_record_stage(w->r, j, st, "retry", &p);
        if (!row.rec) status = nomem(err);
    }
    if (status == RMAS_OK && !row.is_forced) status = rm_seq_new(&row.seq, w->a->model, err);
    if (status == RMAS_OK && !row.is_forced) status = rm_prompt_input(&row.in, w->r, j, st, &p, 0, p.n_pos, err);
    if (status == RMAS_OK) status = push(w, &row, err);
    rm_row_clear(&row);
    rm_prompt_free(&p);
    rm_strbuf_free(&b);
    return status;
}

/* ---- a token more ------------------------------------------------------------------------------------------------------ */

static rmas_status set_input(rm_row *row, const int32_t *id, int n, rmas_error *err) {
    rm_input_free(&row->in);
    row->in.token = rm_array((size_t)n, sizeof *row->in.token);
    if (!row->in.token) return nomem(err);
    memcpy(row->in.token, id, (size_t)n * sizeof *id);
    row->in.n = n;
    return RMAS_OK;
}

static json_t *state_json(const rm_row *row, bool done) {
    return json_pack("{s:o?, s:i, s:i, s:b, s:i}", "text", rm_record_text(rm_str(&row->text), row->text.n), "cursor",
                     (int)rm_utf8_length(rm_str(&row->text), row->cursor), "tool_round", row->n_tool, "done", done, "budget", row->budget);
}

/* A call of the row is over: into the record. tool may be NULL. */
static rmas_status record_call(rm_row *row, const char *decision, json_t *tool, bool done, rmas_error *err) {
    if (!row->rec) {
        json_decref(tool);
        return RMAS_OK;
    }
    json_t *call = rm_record_call(row->rec, row);
    if (call && decision) {
        json_object_set_new(call, "max_new_tokens", json_integer(row->budget + row->out.n));
        json_object_set_new(call, "assistant_ids", rm_record_ids(&row->said));
        json_object_set_new(call, "decision", json_string(decision));
        json_object_set_new(call, "after", state_json(row, done));
        if (tool) json_object_set(call, "tool", tool);
    }
    json_decref(tool);
    return call ? RMAS_OK : nomem(err);
}

/* A tool's result is there: the row goes on behind it. The call's last id has not been computed yet; where it holds more than the
 * end of the tag, its beginning is tokenised anew together with the result. */
static rmas_status go_on(rm_scribe *w, rm_row *row, const char *decision, const rm_errand_report *report, rmas_error *err) {
    rm_strbuf add = {0};
    rm_ids next = {0};
    json_t *tool = NULL;
    size_t at = row->rest.n;
    rm_strbuf_add(&add, rm_str(&row->rest), row->rest.n);
    rm_strbuf_puts(&add, " <result> ");
    rm_strbuf_add(&add, report->result, report->n_result);
    rm_strbuf_puts(&add, " </result>");
    rm_strbuf_add(&row->text, rm_str(&add) + at, add.n - at);
    row->cursor = row->text.n;
    if (row->rec && report->tool)
        tool = json_pack("{s:s, s:o?, s:o?}", "name", report->tool, "content", rm_record_text(report->content, report->n_content), "result",
                         rm_record_text(report->result, report->n_result));
    rmas_status st = record_call(row, decision, tool, row->budget <= 0, err);
    if (add.failed || row->rest.failed || row->text.failed) st = nomem(err);
    if (st == RMAS_OK && row->n_keep == row->out.n && !rm_ids_push(&next, row->out.id[row->n_keep - 1])) st = nomem(err);
    if (st == RMAS_OK) st = rm_tok_encode(w->a->tok, rm_str(&add), add.n, false, &next, err);
    for (int i = 0; st == RMAS_OK && i < row->out.n - 1; i++)
        if (!rm_ids_push(&row->said, row->out.id[i])) st = nomem(err);
    for (int i = 0; st == RMAS_OK && i < next.n; i++)
        if (!rm_ids_push(&row->said, next.id[i])) st = nomem(err);
    if (st == RMAS_OK) st = set_input(row, next.id, next.n, err);
    row->out.n = 0;
    row->call++;
    rm_strbuf_clear(&row->tail);
    rm_row_next_call(w->r, row);
    rm_strbuf_free(&add);
    rm_ids_free(&next);
    return st;
}

/* The row's text, `whole`, ends with a tool call: sends an errand, which the row waits for, or says that there have been enough. */
static rmas_status leave_for_tool(rm_scribe *w, rm_row *row, const rm_strbuf *whole, const rm_tool_call *call, rmas_error *err) {
    rm_strbuf before = {0};
    rmas_status st = rm_tok_decode(w->a->tok, row->out.id, row->out.n - 1, true, true, &before, err);
    size_t start = row->text.n + before.n; /* of the last id */
    row->n_keep = row->out.n;
    rm_strbuf_clear(&row->rest);
    if (call->end < whole->n && start <= call->end) {
        row->n_keep--;
        rm_strbuf_add(&row->rest, whole->s + start, call->end - start);
    }
    rm_strbuf_free(&before);
    rm_strbuf_clear(&row->text);
    rm_strbuf_add(&row->text, whole->s, call->end);
    RM_TRY(st);
    if (++row->n_tool <= w->r->o->max_tool_rounds) return rm_errand_new(&row->errand, &w->errands, call, whole->s, err);
    char text[64];
    int n = snprintf(text, sizeof text, "[tool limit reached after %d calls]", w->r->o->max_tool_rounds);
    row->tools = false; /* it may still write its answer */
    return go_on(w, row, "limit", &(rm_errand_report){.result = text, .n_result = (size_t)n}, err);
}

/* Has the newest token closed a tag? Looks at the raw bytes first, so that texts are decoded only then. */
static bool may_close(rm_scribe *w, rm_row *row) {
    size_t before = row->tail.n;
    rm_tok_piece(w->a->tok, row->out.id[row->out.n - 1], &row->tail);
    if (row->tail.n == before || !memchr(row->tail.s + before, '>', row->tail.n - before)) return false;
    size_t from = before > 9 ? before - 9 : 0;
    for (size_t i = from; i + 9 <= row->tail.n; i++)
        if (!strncasecmp(row->tail.s + i, "</python>", 9) || !strncasecmp(row->tail.s + i, "</search>", 9)) return true;
    return false;
}

static rmas_status look_for_tool(rm_scribe *w, rm_row *row, bool *handled, rmas_error *err) {
    rm_strbuf whole = {0};
    rm_tool_call call;
    *handled = false;
    if (!may_close(w, row)) return RMAS_OK;
    rm_strbuf_add(&whole, rm_str(&row->text), row->text.n);
    rmas_status st = rm_tok_decode(w->a->tok, row->out.id, row->out.n, true, true, &whole, err);
    if (st == RMAS_OK && whole.failed) st = nomem(err);
    if (st == RMAS_OK && rm_tool_find(rm_str(&whole), whole.n, row->cursor, &call) == RM_CALL_COMPLETE) {
        *handled = true;
        st = leave_for_tool(w, row, &whole, &call, err);
    }
    rm_strbuf_free(&whole);
    return st;
}

/* ---- the end of a row --------------------------------------------------------------------------------------------------- */

static rmas_status finish(rm_scribe *w, rm_row *row, rmas_error *err) {
    bool retry = row->kind == RM_ROW_RETRY, with_tools = !retry && w->r->sys->agent[row->stage->agent].tools;
    bool more = row->out.n || retry || !row->text.n; /* else a tool's result came last, and the budget is spent */
    RM_TRY(rm_tok_decode(w->a->tok, row->out.id, row->out.n, true, true, &row->text, err));
    if (row->text.failed) return nomem(err);
    bool unclosed = false;
    if (with_tools && row->tools) {
        rm_tool_call call;
        unclosed = rm_tool_find(rm_str(&row->text), row->text.n, row->cursor, &call) == RM_CALL_UNCLOSED;
    }
    if (more) RM_TRY(record_call(row, with_tools ? unclosed ? "unclosed" : "none" : NULL, NULL, true, err));
    const char *text = rm_str(&row->text);
    size_t n = row->text.n;
    if (!retry) rm_text_strip(&text, &n, true, true);
    if (row->rec) json_object_set_new(row->rec, "text", rm_record_text(text, n));
    if (retry) row->job->answer.retried[row->rollout] = true;
    return rm_text_done(w, w->r, row->job, row->stage, row->rollout, text, n, row->n_token, err);
}

/* One more token of a row; *over: it has left. */
static rmas_status advance(rm_scribe *w, rm_row *row, const float *logits, bool *over, rmas_error *err) {
    int32_t id = -1;
    bool handled = false;
    RM_TRY(rm_row_choose(w->r, row, w->a, logits, w->scratch, &id, err));
    if (!rm_ids_push(&row->out, id)) return nomem(err);
    row->n_token++;
    row->budget--;
    w->n_token++;
    bool at_end = id == w->a->eos || (row->is_forced && row->forced && row->out.n > row->forced->n);
    if (!at_end && row->tools) RM_TRY(look_for_tool(w, row, &handled, err));
    if (row->errand) return RMAS_OK;
    *over = at_end || row->budget <= 0;
    if (*over) return finish(w, row, err);
    return handled || row->is_forced ? RMAS_OK : set_input(row, &id, 1, err);
}

/* The row's tool call has ended. */
static rmas_status fetch(rm_scribe *w, rm_row *row, bool *over, rmas_error *err) {
    rm_errand_report report;
    RM_TRY(rm_errand_get(row->errand, &report, err));
    RM_TRY(go_on(w, row, "tool", &report, err));
    rm_errand_free(row->errand);
    row->errand = NULL;
    *over = row->budget <= 0;
    return *over ? finish(w, row, err) : RMAS_OK;
}

/* Computes the next position of the first rows that do not wait for a tool; *n_turn: how many. */
static rmas_status compute(rm_scribe *w, int *n_turn, rmas_error *err) {
    int n_feed = 0;
    *n_turn = 0;
    for (int i = 0; i < w->n; i++) {
        rm_row *row = w->row[i];
        row->turn = RM_TURN_WAITS;
        if (row->errand || *n_turn == w->r->o->batch_size) continue;
        ++*n_turn;
        row->turn = row->is_forced ? RM_TURN_REPLAYED : n_feed;
        if (!row->is_forced)
            w->feed[n_feed++] = (rm_feed){
                .seq = row->seq, .n = row->in.n, .tokens = row->in.token, .embeds = row->in.embed, .want_logits = true, .step = row->in.n == 1};
    }
    return n_feed ? rm_batch_forward(w->a->batch, w->feed, n_feed, err) : RMAS_OK;
}

rmas_status rm_scribe_step(rm_scribe *w, rmas_error *err) {
    int n = w->n, n_turn, kept = 0;
    bool moved = false;
    if (n) rm_run_phase(w->r, w->row[0]->stage, RM_PHASE_DECODE);
    RM_TRY(compute(w, &n_turn, err));
    rmas_status st = RMAS_OK;
    for (int i = 0; i < n; i++) {
        rm_row *row = w->row[i];
        bool over = false, back = row->errand && rm_errand_is_done(row->errand);
        moved |= back;
        if (st == RMAS_OK && back)
            st = fetch(w, row, &over, err);
        else if (st == RMAS_OK && row->turn != RM_TURN_WAITS)
            st = advance(w, row, row->turn >= 0 ? rm_batch_logits(w->a->batch, row->turn) : NULL, &over, err);
        if (over) {
            rm_row_clear(row);
            rm_free(row);
        } else {
            w->row[kept++] = row;
        }
    }
    /* finished rows may have queued retries behind the others */
    memmove(w->row + kept, w->row + n, (size_t)(w->n - n) * sizeof(rm_row *));
    w->n -= n - kept;
    if (st == RMAS_OK && n && !n_turn && !moved) { /* all wait for tools */
        rm_time was = rm_time_to(w->r->team->exec, RM_TIME_TOOL);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        rm_time_back(w->r->team->exec, was);
    }
    return st;
}

rmas_status rm_text_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err) {
    rm_scribe *w;
    RM_TRY(rm_scribe_new(&w, r, st->agent, err));
    rmas_status status = rm_scribe_add(w, job, n, st, err);
    for (int step = 0; status == RMAS_OK && w->n; step++) {
        if (rm_run_cancelled(r)) {
            status = rm_fail(err, RMAS_E_CANCELLED, "cancelled");
            break;
        }
        if (r->hooks->event && step % 8 == 0) {
            rm_event e = {RM_EVENT_STAGE, w->a->role, st->round, r->plan.n_round, true, n, step, r->o->max_new_tokens, r->n_done, r->n_total, NULL};
            r->hooks->event(r->hooks->ctx, &e);
        }
        status = rm_scribe_step(w, err);
    }
    rm_scribe_free(w);
    return status;
}
