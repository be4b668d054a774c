/* One question of a run: what it has received, and the prompts of its stages. */
#include <string.h>

#include "system/engine.h"
#include "util/mem.h"

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

/* ---- jobs ------------------------------------------------------------------------------------------------------------- */

static rm_ask ask_of(const rm_run_options *o, const rm_item *item) {
    static const rm_task task[] = {[RM_KIND_MATH] = RM_TASK_MATH, [RM_KIND_CHOICE] = RM_TASK_CHOICE, [RM_KIND_CODE] = RM_TASK_CODE};
    static const rm_form form[] = {[RM_CODE_PROGRAM] = RM_FORM_PROGRAM, [RM_CODE_NAMED] = RM_FORM_NAMED, [RM_CODE_UNNAMED] = RM_FORM_UNNAMED};
    return (rm_ask){task[item->kind], form[item->form], item->fn_name, item->question, o->option, o->n_option};
}

rmas_status rm_job_new(rm_job **out, rm_runner *r, int index, rmas_error *err) {
    rm_job *j = *out = RM_NEW(rm_job);
    size_t n_edge = (size_t)r->sys->n_edge, n_agent = (size_t)r->sys->n_agent, k = (size_t)r->o->n_rollout;
    if (!j) return nomem(err);
    j->index = index;
    j->item = &r->data->v[index];
    j->ask = ask_of(r->o, j->item);
    j->mail = rm_calloc(n_edge, sizeof *j->mail);
    j->said = rm_calloc(n_agent, sizeof *j->said);
    j->snap = rm_calloc(2 * n_agent, sizeof *j->snap);
    j->answer = (rm_answer){.index = index,
                            .item = j->item,
                            .n_rollout = r->o->n_rollout,
                            .text = rm_calloc(k, sizeof(char *)),
                            .n_text = rm_calloc(k, sizeof(size_t)),
                            .n_token = rm_calloc(k, sizeof(int)),
                            .retried = rm_calloc(k, sizeof(bool))};
    j->answer.said = j->said;
    j->answer.n_agent = r->sys->n_agent;
    j->n_open = r->o->temperature > 0 ? r->o->n_rollout : 1; /* greedy rollouts are equal: one is made */
    rmas_status st =
        j->mail && j->said && j->snap && j->answer.text && j->answer.n_text && j->answer.n_token && j->answer.retried ? RMAS_OK : nomem(err);
    if (st == RMAS_OK && r->o->record) st = rm_record_new(&j->rec, j, err);
    if (st != RMAS_OK) {
        rm_job_free(r, j);
        *out = NULL;
    }
    return st;
}

void rm_job_drop_state(rm_runner *r, rm_job *j) {
    for (int e = 0; j->mail && e < r->sys->n_edge; e++) {
        rm_free(j->mail[e]);
        j->mail[e] = NULL;
    }
    for (int i = 0; j->snap && i < 2 * r->sys->n_agent; i++) {
        rm_seq_free(j->snap[i]);
        j->snap[i] = NULL;
    }
}

void rm_job_free(rm_runner *r, rm_job *j) {
    if (!j) return;
    rm_job_drop_state(r, j);
    for (int a = 0; j->said && a < r->sys->n_agent; a++) rm_strbuf_free(&j->said[a]);
    for (int k = 0; j->answer.text && k < j->answer.n_rollout; k++) rm_free(j->answer.text[k]);
    rm_free(j->mail);
    rm_free(j->said);
    rm_free(j->snap);
    rm_free(j->answer.text);
    rm_free(j->answer.n_text);
    rm_free(j->answer.n_token);
    rm_free(j->answer.retried);
    rm_record_free(j->rec);
    rm_free(j);
}

void rm_answer_free(rm_answer *a) {
    if (!a) return;
    for (int k = 0; a->text && k < a->n_rollout; k++) rm_free(a->text[k]);
    for (int i = 0; a->said && i < a->n_agent; i++) rm_strbuf_free(&a->said[i]);
    rm_free(a->text);
    rm_free(a->n_text);
    rm_free(a->n_token);
    rm_free(a->retried);
    rm_free(a->said);
    rm_free(a);
}

static void *copy(const void *from, size_t n) {
    void *to = rm_alloc(n);
    return to ? memcpy(to, from, n) : NULL;
}

rm_answer *rm_answer_copy(const rm_answer *a) {
    rm_answer *o = RM_NEW(rm_answer);
    size_t n = (size_t)a->n_rollout, n_agent = a->said ? (size_t)a->n_agent : 0;
    if (!o) return NULL;
    *o = *a;
    o->n_agent = (int)n_agent;
    o->text = rm_calloc(n, sizeof *o->text);
    o->said = rm_calloc(n_agent, sizeof *o->said);
    o->n_text = copy(a->n_text, n * sizeof *a->n_text);
    o->n_token = copy(a->n_token, n * sizeof *a->n_token);
    o->retried = copy(a->retried, n * sizeof *a->retried);
    bool ok = o->text && o->said && o->n_text && o->n_token && o->retried;
    for (size_t k = 0; ok && k < n; k++) ok = (o->text[k] = copy(a->text[k], a->n_text[k] + 1)) != NULL; /* may hold NULs */
    for (size_t i = 0; ok && i < n_agent; i++) {
        if (a->said[i].s) rm_strbuf_add(&o->said[i], a->said[i].s, a->said[i].n);
        ok = !o->said[i].failed;
    }
    if (ok) return o;
    rm_answer_free(o);
    return NULL;
}

/* ---- prompts ---------------------------------------------------------------------------------------------------------- */

void rm_prompt_free(rm_prompt *p) {
    for (int i = 0; p->ids && i < p->n_piece; i++) rm_ids_free(&p->ids[i]);
    rm_free(p->ids);
    rm_free(p->edge);
    rm_pieces_free(&p->pieces);
    *p = (rm_prompt){0};
}

/* The user prompt of a stage, checked against the senders. */
static rmas_status user_prompt(const rm_system *s, const rm_pack *pack, const rm_ask *ask, const rm_stage *st, bool text, rm_parts *parts, int *edge,
                               int *n_edge, rmas_error *err) {
    const char *sender[RM_SYSTEM_MAX_AGENT], *role = s->agent[st->agent].role;
    int n = rm_stage_incoming(s, st, edge);
    for (int i = 0; i < n; i++) sender[i] = s->agent[s->edge[edge[i]].from].role;
    RM_TRY(rm_pack_user(pack, s->family, role, st->feedback, text, ask, parts, err));
    *n_edge = n;
    rmas_status status = rm_parts_check(parts, sender, n, err);
    return status == RMAS_OK ? RMAS_OK : rm_fail_prefix(err, status, "prompt of %s/%s in round %d", s->family, role, st->round);
}

static rmas_status encode_pieces(rm_prompt *out, rm_runner *r, const rm_job *j, const rm_stage *st, const int *edge, int n_edge, bool special,
                                 rmas_error *err) {
    const rm_agent *a = &r->team->agent[st->agent];
    int n = out->pieces.n_slot + 1;
    out->ids = rm_calloc((size_t)n, sizeof *out->ids);
    out->edge = rm_calloc((size_t)n, sizeof *out->edge);
    if (!out->ids || !out->edge) return nomem(err);
    out->n_piece = n;
    for (int i = 0; i < n; i++) {
        if (out->pieces.n_text[i] || special) RM_TRY(rm_tok_encode(a->tok, out->pieces.text[i], out->pieces.n_text[i], special, &out->ids[i], err));
        out->n_pos += out->ids[i].n;
        if (i == n - 1) break;
        for (int k = 0; k < n_edge; k++)
            if (!strcmp(r->sys->agent[r->sys->edge[edge[k]].from].role, out->pieces.slot[i])) out->edge[i] = edge[k];
        out->n_pos += r->o->latent_steps;
    }
    if (!out->n_pos) return rm_fail(err, RMAS_E_ARG, "question %d: the prompt of %s is empty", j->index, a->role);
    return RMAS_OK;
}

/* Text mode: what the senders wrote stands in the slots, and the chat is one piece. */
static rmas_status filled(rm_prompt *out, rm_runner *r, const rm_job *j, const rm_stage *st, const rm_parts *parts, const char *system,
                          const int *edge, int n_edge, rmas_error *err) {
    const char *role[RM_SYSTEM_MAX_AGENT];
    const rm_strbuf *text[RM_SYSTEM_MAX_AGENT];
    rm_strbuf user = {0}, chat = {0};
    for (int k = 0; k < n_edge; k++) {
        int from = r->sys->edge[edge[k]].from;
        role[k] = r->sys->agent[from].role;
        text[k] = &j->said[from];
    }
    rmas_status st_ = rm_parts_fill(parts, role, text, n_edge, &user, err);
    if (st_ == RMAS_OK) st_ = rm_chat_render(r->team->agent[st->agent].chat, system, rm_str(&user), user.n, &chat, err);
    if (st_ == RMAS_OK) {
        out->pieces.text = rm_calloc(1, sizeof *out->pieces.text);
        out->pieces.n_text = rm_calloc(1, sizeof *out->pieces.n_text);
        if (out->pieces.n_text) out->pieces.n_text[0] = chat.n;
        if (out->pieces.text) out->pieces.text[0] = rm_strbuf_take(&chat);
        if (!out->pieces.text || !out->pieces.n_text || !out->pieces.text[0]) st_ = nomem(err);
    }
    rm_strbuf_free(&user);
    rm_strbuf_free(&chat);
    return st_;
}

/* As in the reference nothing is cut, and positions beyond those of the training are computed like the others. */
static void note_length(rm_runner *r, const rm_job *j, const rm_stage *st, const rm_prompt *p) {
    const rm_agent *a = &r->team->agent[st->agent];
    int n_ctx = rm_model_config(a->model)->n_ctx_train, n = p->n_pos + (st->kind == RM_STAGE_LATENT ? r->o->latent_steps : 0);
    if (n_ctx <= 0 || n <= n_ctx || r->told_long[st->agent]) return;
    r->told_long[st->agent] = true;
    rm_run_note(r, "question %d: %d positions for %s, whose model was trained on texts of %d; nothing is cut off", j->index, n, a->role, n_ctx);
}

rmas_status rm_prompt_make(rm_prompt *out, rm_runner *r, const rm_job *j, const rm_stage *st, rmas_error *err) {
    int edge[RM_SYSTEM_MAX_EDGE], n_edge;
    bool text = r->o->text;
    rm_parts parts = {0};
    rm_strbuf system = {0};
    *out = (rm_prompt){0};
    rm_time was = rm_time_to(r->team->exec, RM_TIME_TEXT);
    rmas_status status = user_prompt(r->sys, r->pack, &j->ask, st, text, &parts, edge, &n_edge, err);
    if (status == RMAS_OK) status = rm_pack_system(r->pack, r->sys->family, r->sys->agent[st->agent].role, text, &j->ask, &system, err);
    if (status == RMAS_OK && system.failed) status = nomem(err);
    if (status == RMAS_OK && text)
        status = filled(out, r, j, st, &parts, rm_str(&system), edge, n_edge, err);
    else if (status == RMAS_OK)
        status = rm_prompt_chat(r->team->agent[st->agent].chat, rm_str(&system), &parts, &out->pieces, err);
    if (status == RMAS_OK) status = encode_pieces(out, r, j, st, edge, n_edge, text && r->sys->text_special, err);
    rm_parts_free(&parts);
    rm_strbuf_free(&system);
    rm_time_back(r->team->exec, was);
    if (status == RMAS_OK)
        note_length(r, j, st, out);
    else
        rm_prompt_free(out);
    return status;
}

rmas_status rm_run_check_prompts(const rm_system *s, const rm_pack *pack, const rm_dataset *data, const rm_run_options *o, rmas_error *err) {
    rm_plan plan;
    int edge[RM_SYSTEM_MAX_EDGE], n_edge;
    rm_plan_options po = {o->n_round < 2 ? o->n_round : 2, o->text, true, true}; /* later rounds read the prompts of the second */
    RM_TRY(rm_plan_new(&plan, s, &po, err));
    rmas_status status = RMAS_OK;
    for (size_t i = 0; status == RMAS_OK && i < data->n; i++) {
        rm_ask ask = ask_of(o, &data->v[i]);
        for (int k = 0; status == RMAS_OK && k < plan.n_stage; k++) {
            rm_parts parts = {0};
            rm_strbuf b = {0};
            status = user_prompt(s, pack, &ask, &plan.stage[k], o->text, &parts, edge, &n_edge, err);
            if (status == RMAS_OK) status = rm_pack_system(pack, s->family, s->agent[plan.stage[k].agent].role, o->text, &ask, &b, err);
            if (status == RMAS_OK && o->ans && plan.stage[k].final) status = rm_pack_retry(pack, s->family, &ask, &b, err);
            rm_parts_free(&parts);
            rm_strbuf_free(&b);
        }
    }
    rm_plan_free(&plan);
    return status;
}

/* ---- inputs ----------------------------------------------------------------------------------------------------------- */

void rm_input_free(rm_input *in) {
    rm_free(in->token);
    rm_free(in->embed);
    *in = (rm_input){0};
}

rmas_status rm_prompt_input(rm_input *out, const rm_runner *r, const rm_job *j, const rm_stage *st, const rm_prompt *p, int from, int to,
                            rmas_error *err) {
    int d = r->team->agent[st->agent].d_model, m = r->o->latent_steps, pos = 0, n = to - from;
    bool any_row = false;
    *out = (rm_input){.token = rm_array((size_t)n, sizeof *out->token), .n = n};
    if (!out->token) return nomem(err);
    for (int i = 0; i < p->n_piece; i++) {
        for (int k = 0; k < p->ids[i].n; k++, pos++)
            if (pos >= from && pos < to) out->token[pos - from] = p->ids[i].id[k];
        if (i == p->n_piece - 1) break;
        for (int k = 0; k < m; k++, pos++) {
            if (pos < from || pos >= to) continue;
            if (!any_row && !(out->embed = rm_calloc((size_t)n, (size_t)d * sizeof(float)))) {
                rm_input_free(out);
                return nomem(err);
            }
            any_row = true;
            out->token[pos - from] = -1;
            memcpy(out->embed + (size_t)(pos - from) * (size_t)d, j->mail[p->edge[i]] + (size_t)k * (size_t)d, (size_t)d * sizeof(float));
        }
    }
    return RMAS_OK;
}
