/* One row: a text that is being written, token by token, by the model or from a replay. */
#include <string.h>

#include "system/engine.h"
#include "util/mem.h"

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

rm_sampling rm_agent_sampling(const rm_runner *r, const rm_agent *a) {
    const rm_run_options *o = r->o;
    rm_sampling s = {.temperature = (float)o->temperature, .top_p = (float)o->top_p, .min_p = (float)o->min_p, .top_k = o->top_k};
    if (o->top_k < 0) s.top_k = a->gen.top_k >= 0 ? a->gen.top_k : 50; /* the library's default where the model's folder says nothing */
    if (o->min_p < 0) s.min_p = a->gen.min_p;
    return s;
}

void rm_row_next_call(rm_runner *r, rm_row *row) {
    row->is_forced = rm_replay_find(r->o->replay, row->job->index, r->team->agent[row->stage->agent].role, row->stage->round,
                                    row->kind == RM_ROW_RETRY, row->call, &row->forced);
}

/* Every text has a stream of random numbers of its own, named by the question's place in its file: what one row draws moves
 * nothing in another, and neither order nor selection of the questions changes an answer. */
static uint64_t stream_of(const rm_row *row) {
    uint64_t s = (uint64_t)row->job->item->row;
    if (!row->stage->final) s |= ((uint64_t)row->stage->round << 8 | (uint64_t)row->stage->agent) << 32;
    return row->kind == RM_ROW_RETRY ? s | (uint64_t)1 << 62 : s;
}

void rm_row_init(rm_row *row, rm_runner *r, rm_job *j, const rm_stage *st, rm_row_kind kind, int rollout) {
    const rm_run_options *o = r->o;
    *row = (rm_row){.job = j,
                    .stage = st,
                    .kind = kind,
                    .rollout = rollout,
                    .budget = st->final && o->max_answer_tokens ? o->max_answer_tokens : o->max_new_tokens};
    if (kind == RM_ROW_RETRY) {
        bool code = j->item->kind == RM_KIND_CODE;
        row->budget = o->ans_max_new_tokens > 0 ? o->ans_max_new_tokens : code ? 256 : 16;
        if (code && row->budget < 256) row->budget = 256;
    }
    row->tools = kind == RM_ROW_TEXT && r->sys->agent[st->agent].tools;
    row->rng = rm_rng_make(o->seed + (uint64_t)rollout, stream_of(row));
    rm_row_next_call(r, row);
}

void rm_row_clear(rm_row *row) {
    rm_seq_free(row->seq);
    rm_input_free(&row->in);
    rm_ids_free(&row->out);
    rm_ids_free(&row->said);
    rm_free(row->margin);
    rm_strbuf_free(&row->text);
    rm_strbuf_free(&row->tail);
    rm_strbuf_free(&row->rest);
    rm_errand_free(row->errand);
    *row = (rm_row){0};
}

static rmas_status keep_margin(rm_row *row, float margin, rmas_error *err) {
    if (row->out.n >= row->cap_margin) {
        int cap = row->cap_margin ? 2 * row->cap_margin : 64;
        float *m = rm_realloc_array(row->margin, (size_t)cap, sizeof *m);
        if (!m) return nomem(err);
        row->margin = m;
        row->cap_margin = cap;
    }
    row->margin[row->out.n] = margin;
    return RMAS_OK;
}

rmas_status rm_row_choose(const rm_runner *r, rm_row *row, const rm_agent *a, const float *logits, void *scratch, int32_t *id, rmas_error *err) {
    if (row->is_forced) {
        *id = row->forced && row->out.n < row->forced->n ? row->forced->id[row->out.n] : a->eos >= 0 ? a->eos : a->pad;
        return RMAS_OK;
    }
    rm_sampling s = rm_agent_sampling(r, a);
    float margin = 0;
    rm_time was = rm_time_to(r->team->exec, RM_TIME_SAMPLE);
    if (row->rec || s.temperature <= 0) *id = rm_argmax(logits, a->n_vocab, &margin);
    if (s.temperature > 0) *id = rm_sample(logits, a->n_vocab, &s, &row->rng, scratch);
    rm_time_back(r->team->exec, was);
    if (*id < 0)
        return rm_fail(err, RMAS_E_FORMAT, "question %d: %s computes logits that are not numbers; the model file %s is damaged", row->job->index,
                       a->role, a->path);
    return row->rec ? keep_margin(row, margin, err) : RMAS_OK;
}
