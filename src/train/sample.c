#include "train/sample.h"

#include <stdint.h>
#include <string.h>

#include "util/mem.h"

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory for a training sample"); }

/* ---- chats --------------------------------------------------------------------------------------------------------------- */

rmas_status rm_train_chat_init(rm_train_chat *c, const rm_tok *tok, const char *name, bool enable_thinking, rm_date date, rmas_error *err) {
    *c = (rm_train_chat){.tok = tok, .name = name, .enable_thinking = enable_thinking, .date = date};
    const char *source = rm_tok_chat_template(tok);
    return source ? rm_tmpl_new(&c->tmpl, source, strlen(source), name, err) : RMAS_OK;
}

void rm_train_chat_free(rm_train_chat *c) {
    rm_tmpl_free(c->tmpl);
    *c = (rm_train_chat){0};
}

static json_t *message(const char *role, const char *content) { return json_pack("{s:s, s:s}", "role", role, "content", content); }

static rmas_status render(const rm_train_chat *c, const char *system, const char *user, const char *assistant, rm_strbuf *out, rmas_error *err) {
    json_t *messages = json_array(), *vars = json_object();
    bool ok = messages && vars;
    if (system && *system) ok = ok && json_array_append_new(messages, message("system", system)) == 0;
    ok = ok && json_array_append_new(messages, message("user", user)) == 0;
    if (assistant) ok = ok && json_array_append_new(messages, message("assistant", assistant)) == 0;
    ok = ok && json_object_set(vars, "messages", messages) == 0;
    ok = ok && json_object_set_new(vars, "add_generation_prompt", json_boolean(!assistant)) == 0;
    ok = ok && json_object_set_new(vars, "enable_thinking", json_boolean(c->enable_thinking)) == 0;
    if (*rm_tok_bos_text(c->tok)) ok = ok && json_object_set_new(vars, "bos_token", json_string(rm_tok_bos_text(c->tok))) == 0;
    if (*rm_tok_eos_text(c->tok)) ok = ok && json_object_set_new(vars, "eos_token", json_string(rm_tok_eos_text(c->tok))) == 0;
    rmas_status st = ok ? rm_tmpl_render(c->tmpl, vars, c->date, out, err) : no_memory(err);
    json_decref(messages);
    json_decref(vars);
    return st;
}

rmas_status rm_train_chat_render(const rm_train_chat *c, const char *system, const char *user, const char *assistant, rm_strbuf *out,
                                 rmas_error *err) {
    if (!c->tmpl) { /* system, empty line, user; then the answer and the end token */
        if (system && *system) rm_strbuf_printf(out, "%s\n\n", system);
        rm_strbuf_puts(out, user);
        if (assistant) rm_strbuf_printf(out, "%s%s", assistant, rm_tok_eos_text(c->tok));
        return out->failed ? no_memory(err) : RMAS_OK;
    }
    rmas_error own = {0};
    size_t before = out->n;
    rmas_status st = render(c, system, user, assistant, out, &own);
    if (st != RMAS_OK && system && *system && strstr(own.msg, "Conversation roles must alternate")) {
        if (out->s) out->s[out->n = before] = 0;
        /* training strips the merged message, inference does not */
        rm_strbuf both = {0};
        rm_strbuf_printf(&both, "%s\n\n%s", system, user);
        const char *s = rm_str(&both);
        size_t n = both.n;
        rm_text_strip(&s, &n, true, true);
        char *merged = both.failed ? NULL : rm_strndup(s, n);
        st = merged ? render(c, NULL, merged, assistant, out, &own) : no_memory(&own);
        rm_free(merged);
        rm_strbuf_free(&both);
    }
    if (st != RMAS_OK) return rm_fail(err, st, "%s: %s", c->name, own.msg);
    return RMAS_OK;
}

static rmas_status encode(const rm_train_chat *c, const char *text, size_t n, bool special, rm_ids *out, rmas_error *err) {
    if (n == 0) return RMAS_OK;
    rmas_status st = rm_tok_encode(c->tok, text, n, special, out, err);
    return st == RMAS_OK ? st : rm_fail_prefix(err, st, "%s", c->name);
}

/* ---- what is asked --------------------------------------------------------------------------------------------------------- */

typedef struct {
    rm_ask ask;
    rm_strbuf question, fn_name;
} asking;

static void asking_free(asking *a) {
    rm_strbuf_free(&a->question);
    rm_strbuf_free(&a->fn_name);
}

/* row_task: the row's task_family counts more than the task of the run. */
static rmas_status asking_make(asking *a, const rm_train_prompts *p, const rm_rows *rows, size_t row, bool row_task, rmas_error *err) {
    *a = (asking){0};
    rm_strbuf s = {0};
    rm_task task = p->task;
    rmas_status st = rm_rows_text(rows, row, "question", true, &a->question, NULL, err);
    if (st == RMAS_OK && row_task) st = rm_rows_text(rows, row, "task_family", true, &s, NULL, err);
    if (st == RMAS_OK && s.n) {
        for (char *q = s.s; *q; q++) *q = *q >= 'A' && *q <= 'Z' ? (char)(*q + 32) : *q;
        if (!rm_task_parse(s.s, &task))
            st = rm_fail(err, RMAS_E_FORMAT, "%s: row %zu, column 'task_family': '%s' is not math, choice or code", rows->path, row, s.s);
    }
    rm_form form = RM_FORM_PROGRAM;
    if (st == RMAS_OK && task == RM_TASK_CODE) st = rm_rows_text(rows, row, "type", true, &s, NULL, err);
    if (st == RMAS_OK && task == RM_TASK_CODE) st = rm_rows_text(rows, row, "fn_name", false, &a->fn_name, NULL, err);
    if (st == RMAS_OK && task == RM_TASK_CODE) {
        for (char *q = s.s; q && *q; q++) *q = *q >= 'A' && *q <= 'Z' ? (char)(*q + 32) : *q;
        if (!strcmp(rm_str(&s), "function") || !strcmp(rm_str(&s), "functional")) form = a->fn_name.n ? RM_FORM_NAMED : RM_FORM_UNNAMED;
    }
    rm_strbuf_free(&s);
    a->ask = (rm_ask){
        .task = task, .form = form, .fn_name = rm_str(&a->fn_name), .question = rm_str(&a->question), .option = p->option, .n_option = p->n_option};
    if (st != RMAS_OK) asking_free(a);
    return st;
}

/* Says which row an error is about, unless it does already. */
static rmas_status in_row(const rm_rows *rows, size_t row, rmas_status st, rmas_error *err) {
    bool said = err && !strncmp(err->msg, rows->path, strlen(rows->path));
    return said ? st : rm_fail_prefix(err, st, "%s: row %zu", rows->path, row);
}

/* ---- inner loop -------------------------------------------------------------------------------------------------------------- */

void rm_inner_sample_free(rm_inner_sample *s) {
    rm_ids_free(&s->ids);
    rm_free(s->mask);
    rm_free(s->text);
    rm_free(s->gold);
    *s = (rm_inner_sample){0};
}

static bool run_at(const rm_ids *ids, int at, const rm_ids *want) {
    return at + want->n <= ids->n && !memcmp(ids->id + at, want->id, (size_t)want->n * sizeof *want->id);
}

/* The final-answer rule of data without a role: from the marker on nothing is learnt. */
static rmas_status cut_mask(rm_inner_sample *s, const rm_train_chat *c, rmas_error *err) {
    static const char *const marks[] = {"\nFinal Answer:", "Final Answer:"};
    for (size_t m = 0; m < RM_COUNT(marks); m++) {
        rm_ids want = {0};
        rmas_status st = encode(c, marks[m], strlen(marks[m]), false, &want, err);
        int at = st == RMAS_OK && want.n ? s->prompt_len : s->ids.n;
        while (at < s->ids.n && !run_at(&s->ids, at, &want)) at++;
        rm_ids_free(&want);
        if (st != RMAS_OK) return st;
        if (at < s->ids.n) {
            memset(s->mask + at, 0, (size_t)(s->ids.n - at));
            break;
        }
    }
    return RMAS_OK;
}

/* Chat -> ids and mask. Too long: cut on the right. */
static rmas_status tokenise(rm_inner_sample *s, const rm_train_chat *c, const char *system, const char *user, const char *assistant, bool marked,
                            int max_length, rmas_error *err) {
    rm_strbuf full = {0}, prompt = {0};
    rm_ids before = {0};
    rmas_status st = rm_train_chat_render(c, system, user, assistant, &full, err);
    if (st == RMAS_OK) st = rm_train_chat_render(c, system, user, NULL, &prompt, err);
    if (st == RMAS_OK) st = encode(c, rm_str(&full), full.n, false, &s->ids, err);
    if (st == RMAS_OK) st = encode(c, rm_str(&prompt), prompt.n, false, &before, err);
    if (st == RMAS_OK) {
        if (s->ids.n > max_length) s->ids.n = max_length;
        s->prompt_len = before.n < s->ids.n ? before.n : s->ids.n;
        s->mask = rm_calloc((size_t)s->ids.n, 1);
        s->gold = rm_strdup(assistant);
        s->text = rm_strbuf_take(&full);
        if (!s->mask || !s->text || !s->gold) st = no_memory(err);
    }
    if (st == RMAS_OK) {
        memset(s->mask + s->prompt_len, 1, (size_t)(s->ids.n - s->prompt_len));
        if (marked) st = cut_mask(s, c, err);
    }
    rm_ids_free(&before);
    rm_strbuf_free(&full);
    rm_strbuf_free(&prompt);
    return st;
}

static rmas_status system_prompt(const rm_train_prompts *p, const char *style, const char *role, const rm_ask *ask, bool strip, rm_strbuf *out,
                                 rmas_error *err) {
    RM_TRY(rm_pack_system(p->pack, style, role, false, ask, out, err));
    if (strip && out->s) {
        const char *s = out->s;
        size_t n = out->n;
        rm_text_strip(&s, &n, true, true);
        memmove(out->s, s, n);
        out->s[out->n = n] = 0;
    }
    return out->failed ? no_memory(err) : RMAS_OK;
}

static rmas_status plain_sample(rm_inner_sample *s, const rm_train_prompts *p, const rm_train_chat *c, const rm_rows *rows, size_t row,
                                int max_length, rmas_error *err) {
    rm_strbuf question = {0}, answer = {0}, cot = {0}, system = {0}, user = {0};
    rm_parts parts = {0};
    bool has_question, has_answer, has_cot;
    rmas_status st = rm_rows_text(rows, row, "question", false, &question, &has_question, err);
    if (st == RMAS_OK) st = rm_rows_text(rows, row, "answer", false, &answer, &has_answer, err);
    if (st == RMAS_OK) st = rm_rows_text(rows, row, "cot", false, &cot, &has_cot, err);
    if (st == RMAS_OK && has_question && has_answer) {
        const char *a = rm_str(&answer), *co = rm_str(&cot);
        size_t na = answer.n, nc = cot.n;
        rm_strbuf gold = {0};
        if (has_cot) {
            rm_text_strip(&a, &na, true, true);
            rm_text_strip(&co, &nc, false, true);
            rm_strbuf_add(&gold, co, nc);
            rm_strbuf_puts(&gold, "\n#### ");
            rm_strbuf_add(&gold, a, na);
        } else {
            rm_strbuf_add(&gold, a, na);
        }
        /* what follows the first ####, or the whole answer, said again at the end */
        const char *mark = strstr(rm_str(&gold), "####"), *last = mark ? mark + 4 : rm_str(&gold);
        size_t n_last = strlen(last);
        rm_text_strip(&last, &n_last, true, true);
        if (n_last == 0) {
            last = rm_str(&gold);
            n_last = gold.n;
            rm_text_strip(&last, &n_last, true, true);
        }
        char *again = rm_strndup(last, n_last);
        const char *g = rm_str(&gold);
        size_t ng = gold.n;
        rm_text_strip(&g, &ng, false, true);
        if (gold.s) gold.s[gold.n = ng] = 0;
        rm_strbuf_printf(&gold, "\nFinal Answer: \\boxed{%s}", again ? again : "");
        rm_ask ask = {.task = RM_TASK_MATH, .question = rm_str(&question), .option = p->option, .n_option = p->n_option};
        st = again && !gold.failed ? rm_pack_user(p->pack, "single", "agent", false, false, &ask, &parts, err) : no_memory(err);
        if (st == RMAS_OK) st = rm_parts_fill(&parts, NULL, NULL, 0, &user, err);
        if (st == RMAS_OK) st = system_prompt(p, "single", "agent", &ask, true, &system, err);
        if (st == RMAS_OK) st = tokenise(s, c, rm_str(&system), rm_str(&user), rm_str(&gold), true, max_length, err);
        rm_free(again);
        rm_strbuf_free(&gold);
    } else if (st == RMAS_OK) {
        const char *key;
        json_t *value, *text = NULL;
        json_object_foreach(json_array_get(rows->all, row), key, value) if (!text && json_is_string(value)) text = value;
        if (!text) {
            s->skipped = "no column with text";
        } else {
            st = encode(c, json_string_value(text), json_string_length(text), true, &s->ids, err);
            if (s->ids.n > max_length) s->ids.n = max_length;
            s->mask = rm_calloc((size_t)s->ids.n + 1, 1);
            if (st == RMAS_OK && !s->mask) st = no_memory(err);
            if (st == RMAS_OK) memset(s->mask, 1, (size_t)s->ids.n);
        }
    }
    rm_parts_free(&parts);
    rm_strbuf_free(&question);
    rm_strbuf_free(&answer);
    rm_strbuf_free(&cot);
    rm_strbuf_free(&system);
    rm_strbuf_free(&user);
    return st;
}

/* The user prompt of a role with the senders' texts in its slots. skipped: a text that must be there is not. */
static rmas_status filled_prompt(const rm_train_prompts *p, int role, const rm_ask *ask, const rm_rows *rows, size_t row, rm_strbuf *out,
                                 bool *skipped, rmas_error *err) {
    const rm_train_style *style = p->style;
    rm_parts parts = {0};
    rmas_status st = rm_pack_user(p->pack, style->family, style->role[role].name, false, false, ask, &parts, err);
    for (int i = 0; i < parts.n && st == RMAS_OK; i++) {
        if (!parts.v[i].is_slot) {
            rm_strbuf_add(out, parts.v[i].text, parts.v[i].n);
            continue;
        }
        int sender = rm_train_role_find(style, parts.v[i].text);
        if (sender < 0) {
            st = rm_fail(err, RMAS_E_FORMAT, "prompt %s has a slot for '%s', which is no role of %s", parts.section, parts.v[i].text, style->family);
            break;
        }
        rm_strbuf gold = {0};
        st = rm_rows_first(rows, row, style->role[sender].inner, true, &gold, err);
        if (style->need_senders && gold.n == 0) *skipped = true;
        rm_strbuf_puts(out, style->signal ? style->signal : rm_str(&gold));
        rm_strbuf_free(&gold);
    }
    rm_parts_free(&parts);
    return st == RMAS_OK && out->failed ? no_memory(err) : st;
}

rmas_status rm_inner_sample_make(rm_inner_sample *out, const rm_train_prompts *p, const rm_train_chat *c, int role, const rm_rows *rows, size_t row,
                                 int max_length, rmas_error *err) {
    *out = (rm_inner_sample){0};
    rmas_status st;
    if (role < 0) {
        st = plain_sample(out, p, c, rows, row, max_length, err);
    } else {
        asking a;
        RM_TRY(asking_make(&a, p, rows, row, true, err));
        rm_strbuf gold = {0}, user = {0}, system = {0};
        bool lacking = false;
        st = rm_rows_first(rows, row, p->style->role[role].inner, true, &gold, err);
        if (st == RMAS_OK) st = filled_prompt(p, role, &a.ask, rows, row, &user, &lacking, err);
        if (st == RMAS_OK && (a.question.n == 0 || gold.n == 0 || lacking)) {
            out->skipped = "a text is missing";
        } else if (st == RMAS_OK) {
            st = system_prompt(p, p->style->family, p->style->role[role].name, &a.ask, true, &system, err);
            if (st == RMAS_OK) st = tokenise(out, c, rm_str(&system), rm_str(&user), rm_str(&gold), false, max_length, err);
        }
        rm_strbuf_free(&gold);
        rm_strbuf_free(&user);
        rm_strbuf_free(&system);
        asking_free(&a);
    }
    if (st != RMAS_OK) {
        rm_inner_sample_free(out);
        return in_row(rows, row, st, err);
    }
    return RMAS_OK;
}

/* ---- outer loop -------------------------------------------------------------------------------------------------------------- */

static void stage_free(rm_train_stage *s) {
    for (int i = 0; i <= s->n_slot; i++) {
        rm_ids_free(&s->piece[i]);
        rm_ids_free(&s->prompt_piece[i]);
    }
}

void rm_outer_sample_free(rm_outer_sample *s) {
    for (int r = 0; r < RM_TRAIN_ROLES; r++)
        for (int f = 0; f < 2; f++) stage_free(&s->stage[r][f]);
    *s = (rm_outer_sample){0};
}

typedef struct {
    const rm_train_chat *chat;
    const char *assistant;
} render_ctx;

static rmas_status render_cb(void *ctx, const char *system, const char *user, rm_strbuf *out, rmas_error *err) {
    render_ctx *r = ctx;
    return rm_train_chat_render(r->chat, system, user, r->assistant, out, err);
}

static rmas_status stage_make(rm_train_stage *s, const rm_train_prompts *p, const rm_train_chat *c, int role, bool feedback, const rm_ask *ask,
                              const char *gold, rmas_error *err) {
    const rm_train_style *style = p->style;
    rm_parts parts = {0};
    rm_strbuf system = {0};
    rm_pieces full = {0}, prompt = {0};
    rmas_status st = rm_pack_user(p->pack, style->family, style->role[role].name, feedback, false, ask, &parts, err);
    if (st == RMAS_OK) st = system_prompt(p, style->family, style->role[role].name, ask, false, &system, err);
    render_ctx with = {c, gold}, without = {c, NULL};
    if (st == RMAS_OK) st = rm_prompt_split(&parts, rm_str(&system), render_cb, &with, &full, err);
    if (st == RMAS_OK) st = rm_prompt_split(&parts, rm_str(&system), render_cb, &without, &prompt, err);
    if (st == RMAS_OK && (full.n_slot != prompt.n_slot || full.n_slot > RM_TRAIN_ROLES))
        st = rm_fail(err, RMAS_E_FORMAT, "%s: the chat template loses slots of prompt %s", c->name, parts.section);
    for (int i = 0; st == RMAS_OK && i <= full.n_slot; i++) {
        st = encode(c, full.text[i], full.n_text[i], false, &s->piece[i], err);
        if (st == RMAS_OK) st = encode(c, prompt.text[i], prompt.n_text[i], false, &s->prompt_piece[i], err);
        s->n_full += s->piece[i].n;
        s->n_prompt += s->prompt_piece[i].n;
        s->n_slot = i; /* also what stage_free has to release */
        if (i == full.n_slot || st != RMAS_OK) break;
        s->sender[i] = rm_train_role_find(style, full.slot[i]);
        if (s->sender[i] < 0 || strcmp(full.slot[i], prompt.slot[i]) != 0)
            st = rm_fail(err, RMAS_E_FORMAT, "prompt %s has a slot for '%s', which is no role of %s", parts.section, full.slot[i], style->family);
    }
    rm_pieces_free(&full);
    rm_pieces_free(&prompt);
    rm_parts_free(&parts);
    rm_strbuf_free(&system);
    return st;
}

rmas_status rm_outer_sample_make(rm_outer_sample *out, const rm_train_prompts *p, const rm_train_chat *chat, const rm_rows *rows, size_t row,
                                 rmas_error *err) {
    *out = (rm_outer_sample){0};
    asking a;
    RM_TRY(asking_make(&a, p, rows, row, p->style->row_task, err));
    rm_strbuf gold = {0};
    rmas_status st = RMAS_OK;
    if (a.question.n == 0) out->skipped = "a text is missing";
    for (int r = 0; r < p->style->n_role && st == RMAS_OK && !out->skipped; r++) {
        st = rm_rows_first(rows, row, p->style->role[r].outer, false, &gold, err);
        if (st == RMAS_OK && gold.n == 0) out->skipped = "a text is missing";
    }
    for (int r = 0; r < p->style->n_role && st == RMAS_OK && !out->skipped; r++) {
        st = rm_rows_first(rows, row, p->style->role[r].outer, false, &gold, err);
        for (int f = 0; f < 2 && st == RMAS_OK; f++)
            if (f == 0 || rm_train_has_feedback(p->style, r)) st = stage_make(&out->stage[r][f], p, &chat[r], r, f, &a.ask, rm_str(&gold), err);
    }
    rm_strbuf_free(&gold);
    asking_free(&a);
    if (st != RMAS_OK) {
        rm_outer_sample_free(out);
        return in_row(rows, row, st, err);
    }
    return RMAS_OK;
}
