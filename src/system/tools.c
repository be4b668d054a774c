/* Tool calls in what agents write: running one, and the reference's loop, which stops whole batches. */
#include <string.h>

#include "system/engine.h"
#include "util/mem.h"
#include "util/utf8.h"

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

rmas_status rm_tool_call_run(const rm_runner *r, bool search, const char *content, size_t n, const atomic_bool *stop, rm_strbuf *out,
                             rmas_error *err) {
    const rm_run_options *o = r->o;
    if (!search && o->allow_python && o->sandbox) return rm_python_run(o->sandbox, content, n, &o->tool, stop, out, err);
    if (!search) {
        rm_strbuf_puts(out, "[python is switched off in this run]");
        return RMAS_OK;
    }
    rm_strbuf b = {0};
    rmas_status st;
    if (o->allow_search && o->search && rm_search_is_on(o->search)) {
        st = rm_search_run(o->search, content, n, stop, &b, err);
    } else {
        char *query = rm_strndup(content, n);
        st = query ? rm_pack_search_off(r->pack, query, &b, err) : nomem(err);
        rm_free(query);
    }
    if (st == RMAS_OK && b.failed) st = nomem(err);
    if (st == RMAS_OK) rm_tool_result_cut(rm_str(&b), b.n, o->tool.result_max_chars, out);
    rm_strbuf_free(&b);
    return st;
}

/* ---- the reference's loop ----------------------------------------------------------------------------- */

typedef struct {
    rm_job *job;
    rm_row row; /* row.text, cursor, n_tool, budget: the sample's state; row.out: ids of the call, padding included */
    rm_seq *base; /* the prompt but its last position */
    rm_prompt prompt;
    bool done, ended;
} sample;

typedef struct {
    rm_runner *r;
    const rm_stage *st;
    const rm_agent *a;
    sample *s;
    int n;
    int *group; /* samples of the current call */
    int n_group;
    rm_feed *feed;
    void *scratch;
} loop;

static rmas_status begin_call(loop *l, sample *s, rmas_error *err) {
    rm_row *row = &s->row;
    row->out.n = 0;
    row->said.n = 0;
    s->ended = false;
    rm_row_next_call(l->r, row);
    if (row->text.n) RM_TRY(rm_tok_encode(l->a->tok, rm_str(&row->text), row->text.n, false, &row->said, err));
    if (row->is_forced) return RMAS_OK;
    rm_run_phase(l->r, l->st, RM_PHASE_PREFILL);
    if (!s->base) RM_TRY(rm_prefill(l->r, &s->job, &s->prompt, 1, l->st, 1, &s->base, err));
    rm_seq_free(row->seq);
    row->seq = NULL;
    RM_TRY(rm_seq_clone(&row->seq, s->base, err));
    rm_input_free(&row->in);
    RM_TRY(rm_prompt_input(&row->in, l->r, s->job, l->st, &s->prompt, s->prompt.n_pos - 1, s->prompt.n_pos, err));
    if (row->in.embed) { /* the prompt ends with a message */
        rm_feed f = {.seq = row->seq, .n = 1, .tokens = row->in.token, .embeds = row->in.embed};
        if (!row->said.n) return RMAS_OK;
        RM_TRY(rm_batch_forward(l->a->batch, &f, 1, err));
        row->in.n = 0;
        rm_free(row->in.embed);
        row->in.embed = NULL;
    }
    int n = row->in.n + row->said.n;
    int32_t *token = rm_array((size_t)n, sizeof *token);
    if (!token) return nomem(err);
    memcpy(token, row->in.token, (size_t)row->in.n * sizeof *token);
    if (row->said.n) memcpy(token + row->in.n, row->said.id, (size_t)row->said.n * sizeof *token);
    rm_free(row->in.token);
    row->in.token = token;
    row->in.n = n;
    return RMAS_OK;
}

/* The stop criterion: a closing tag in the last 16 ids behind index `width` (the padded prompt's length: it is blind before). */
static rmas_status closes(const loop *l, const rm_ids *out, int width, bool *yes, rmas_error *err) {
    int from = out->n - 16 > width ? out->n - 16 : width;
    rm_strbuf b = {0};
    if (from >= out->n) return RMAS_OK;
    RM_TRY(rm_tok_decode(l->a->tok, out->id + from, out->n - from, false, true, &b, err));
    if (rm_tool_closes(rm_str(&b), b.n)) *yes = true;
    bool failed = b.failed;
    rm_strbuf_free(&b);
    return failed ? nomem(err) : RMAS_OK;
}

/* One column: every row of the group gets a token, rows that have ended the padding. */
static rmas_status column(loop *l, rmas_error *err) {
    int n_feed = 0, k = 0;
    rm_run_phase(l->r, l->st, RM_PHASE_DECODE);
    for (int i = 0; i < l->n_group; i++) {
        sample *s = &l->s[l->group[i]];
        if (s->ended || s->row.is_forced) continue;
        l->feed[n_feed++] = (rm_feed){
            .seq = s->row.seq, .n = s->row.in.n, .tokens = s->row.in.token, .embeds = s->row.in.embed, .want_logits = true, .step = s->row.in.n == 1};
    }
    if (n_feed) RM_TRY(rm_batch_forward(l->a->batch, l->feed, n_feed, err));
    for (int i = 0; i < l->n_group; i++) {
        sample *s = &l->s[l->group[i]];
        int32_t id = l->a->pad;
        if (!s->ended) {
            const float *logits = s->row.is_forced ? NULL : rm_batch_logits(l->a->batch, k++);
            RM_TRY(rm_row_choose(l->r, &s->row, l->a, logits, l->scratch, &id, err));
            s->ended = id == l->a->eos;
            s->row.n_token++;
            if (!s->row.is_forced) {
                rm_free(s->row.in.embed);
                s->row.in.embed = NULL;
                s->row.in.token[0] = id;
                s->row.in.n = 1;
            }
        }
        if (!rm_ids_push(&s->row.out, id)) return nomem(err);
    }
    return RMAS_OK;
}

static rmas_status record(const loop *l, sample *s, int limit, const char *decision, json_t *tool, rmas_error *err) {
    rm_row *row = &s->row;
    if (!row->rec) {
        json_decref(tool);
        return RMAS_OK;
    }
    int n = row->out.n;
    for (int i = 0; i < n; i++)
        if (row->out.id[i] == l->a->eos) row->out.n = i + 1 < row->out.n ? i + 1 : row->out.n;
    json_t *call = rm_record_call(row->rec, row);
    row->out.n = n;
    json_t *after =
        json_pack("{s:o?, s:i, s:i, s:b, s:i}", "text", rm_record_text(rm_str(&row->text), row->text.n), "cursor",
                  (int)rm_utf8_length(rm_str(&row->text), row->cursor), "tool_round", row->n_tool, "done", s->done, "budget", row->budget);
    if (!call || !after) {
        json_decref(after);
        json_decref(tool);
        return nomem(err);
    }
    json_object_set_new(call, "max_new_tokens", json_integer(limit));
    json_object_set_new(call, "assistant_ids", rm_record_ids(&row->said));
    json_object_set_new(call, "decision", json_string(decision));
    json_object_set_new(call, "after", after);
    if (tool) json_object_set_new(call, "tool", tool);
    return RMAS_OK;
}

static rmas_status decide(loop *l, sample *s, int limit, bool stopped, rmas_error *err) {
    rm_row *row = &s->row;
    rm_tool_call call;
    json_t *tool = NULL;
    const char *decision = "none";
    bool ended = false;
    for (int i = 0; i < row->out.n; i++) ended |= rm_agent_is_end(l->a, row->out.id[i]);
    rm_call_state found = rm_tool_find(rm_str(&row->text), row->text.n, row->cursor, &call);
    if (found == RM_CALL_COMPLETE) {
        rm_strbuf t = {0};
        rmas_status st = RMAS_OK;
        rm_strbuf_add(&t, row->text.s, call.end);
        rm_strbuf_puts(&t, " <result> ");
        if (++row->n_tool > l->r->o->max_tool_rounds) {
            decision = "limit";
            rm_strbuf_printf(&t, "[tool limit reached after %d calls]", l->r->o->max_tool_rounds);
            s->done = true;
        } else {
            decision = "tool";
            size_t at = t.n;
            rm_time was = rm_time_to(l->r->team->exec, RM_TIME_TOOL);
            st = rm_tool_call_run(l->r, call.search, row->text.s + call.content, call.n_content, NULL, &t, err);
            rm_time_back(l->r->team->exec, was);
            if (row->rec)
                tool = json_pack("{s:s, s:o?, s:o?}", "name", call.search ? "search" : "python", "content",
                                 rm_record_text(row->text.s + call.content, call.n_content), "result", rm_record_text(rm_str(&t) + at, t.n - at));
            s->done = row->budget <= 0;
        }
        rm_strbuf_puts(&t, " </result>");
        if (st == RMAS_OK && t.failed) st = nomem(err);
        rm_strbuf_free(&row->text);
        row->text = t;
        if (row->n_tool <= l->r->o->max_tool_rounds) row->cursor = row->text.n;
        if (st != RMAS_OK) {
            json_decref(tool);
            return st;
        }
    } else if (found == RM_CALL_UNCLOSED) {
        decision = "unclosed";
        s->done = row->budget <= 0;
    } else {
        s->done = row->budget <= 0 || ended || !stopped;
    }
    return record(l, s, limit, decision, tool, err);
}

static rmas_status one_call(loop *l, rmas_error *err) {
    int limit = INT32_MAX, width = 0;
    bool stopped = false, all_ended = false;
    for (int i = 0; i < l->n_group; i++) {
        sample *s = &l->s[l->group[i]];
        RM_TRY(begin_call(l, s, err));
        if (s->row.budget < limit) limit = s->row.budget;
        if (s->prompt.n_pos + s->row.said.n > width) width = s->prompt.n_pos + s->row.said.n;
    }
    for (int n = 0; n < limit && !stopped && !all_ended; n++) {
        if (rm_run_cancelled(l->r)) return rm_fail(err, RMAS_E_CANCELLED, "cancelled");
        RM_TRY(column(l, err));
        all_ended = true;
        for (int i = 0; i < l->n_group; i++) {
            sample *s = &l->s[l->group[i]];
            RM_TRY(closes(l, &s->row.out, width, &stopped, err));
            all_ended &= s->ended;
        }
    }
    for (int i = 0; i < l->n_group; i++) {
        sample *s = &l->s[l->group[i]];
        s->row.budget = s->row.budget > s->row.out.n ? s->row.budget - s->row.out.n : 0;
        RM_TRY(rm_tok_decode(l->a->tok, s->row.out.id, s->row.out.n, true, true, &s->row.text, err));
        if (s->row.text.failed) return nomem(err);
        RM_TRY(decide(l, s, limit, stopped, err));
        s->row.call++;
    }
    return RMAS_OK;
}

static rmas_status run_loop(loop *l, rmas_error *err) {
    int *active = rm_array((size_t)l->n, sizeof *active);
    if (!active) return nomem(err);
    rmas_status st = RMAS_OK;
    while (st == RMAS_OK) {
        int n_active = 0;
        for (int i = 0; i < l->n; i++)
            if (!l->s[i].done && l->s[i].row.budget > 0) active[n_active++] = i;
        if (!n_active) break;
        for (int at = 0; st == RMAS_OK && at < n_active; at += l->r->o->batch_size) {
            l->group = active + at;
            l->n_group = n_active - at < l->r->o->batch_size ? n_active - at : l->r->o->batch_size;
            st = one_call(l, err);
        }
    }
    rm_free(active);
    return st;
}

static rmas_status open_samples(loop *l, rm_job *const *job, rmas_error *err) {
    for (int i = 0; i < l->n; i++) {
        sample *s = &l->s[i];
        s->job = job[i];
        rm_row_init(&s->row, l->r, job[i], l->st, RM_ROW_TEXT, 0);
        RM_TRY(rm_prompt_make(&s->prompt, l->r, job[i], l->st, err));
        if (!job[i]->rec) continue;
        s->row.rec = rm_record_stage(l->r, job[i], l->st, "text", &s->prompt);
        if (!s->row.rec) return nomem(err);
    }
    return RMAS_OK;
}

static rmas_status close_samples(loop *l, rm_scribe *w, rmas_error *err) {
    for (int i = 0; i < l->n; i++) {
        sample *s = &l->s[i];
        const char *text = rm_str(&s->row.text);
        size_t n = s->row.text.n;
        rm_text_strip(&text, &n, true, true);
        if (s->row.rec) json_object_set_new(s->row.rec, "text", rm_record_text(text, n));
        if (l->st->final) rm_job_drop_state(l->r, s->job);
        RM_TRY(rm_text_done(w, l->r, s->job, l->st, 0, text, n, s->row.n_token, err));
    }
    while (rm_scribe_n_row(w)) {
        if (rm_run_cancelled(l->r)) return rm_fail(err, RMAS_E_CANCELLED, "cancelled");
        RM_TRY(rm_scribe_step(w, err));
    }
    return RMAS_OK;
}

rmas_status rm_reference_tool_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err) {
    loop l = {.r = r, .st = st, .a = &r->team->agent[st->agent], .n = n};
    rm_scribe *w;
    RM_TRY(rm_scribe_new(&w, r, st->agent, err));
    l.s = rm_calloc((size_t)n, sizeof *l.s);
    l.feed = rm_calloc((size_t)r->o->batch_size, sizeof *l.feed);
    l.scratch = rm_alloc((size_t)l.a->n_vocab * 8);
    rmas_status status = l.s && l.feed && l.scratch ? open_samples(&l, job, err) : nomem(err);
    if (status == RMAS_OK) status = run_loop(&l, err);
    if (status == RMAS_OK) status = close_samples(&l, w, err);
    for (int i = 0; l.s && i < n; i++) {
        rm_row_clear(&l.s[i].row);
        rm_seq_free(l.s[i].base);
        rm_prompt_free(&l.s[i].prompt);
    }
    rm_free(l.s);
    rm_free(l.feed);
    rm_free(l.scratch);
    rm_scribe_free(w);
    return status;
}
