/* Inside a run: questions on their way through the stages, prompts spliced with messages, rows that are being written. */
#ifndef RM_SYSTEM_ENGINE_H
#define RM_SYSTEM_ENGINE_H

#include <semaphore.h>
#include <stdatomic.h>

#include "sample/sample.h"
#include "system/run.h"
#include "tensor/profile.h"

/* ---- the run ---------------------------------------------------------------------------------------------------------- */

typedef struct rm_prefixes rm_prefixes;
typedef struct rm_scribe rm_scribe;
typedef struct rm_job rm_job;

typedef struct {
    const rm_team *team;
    const rm_system *sys;
    const rm_pack *pack;
    const rm_dataset *data;
    const rm_run_options *o;
    const rm_run_hooks *hooks;
    rm_plan plan;
    rm_prefixes *prefixes;
    struct rm_grader *grader; /* for the answer retry */
    rm_job **job; /* [data->n] questions on their way; NULL before and after */
    bool told_long[RM_SYSTEM_MAX_AGENT]; /* a prompt longer than the agent's model knows is told of once */
    int n_done, n_total;
} rm_runner;

bool rm_run_cancelled(const rm_runner *r);
/* From now on the profile counts for this stage. */
static inline void rm_run_phase(const rm_runner *r, const rm_stage *st, rm_phase phase) {
    rm_time_stage(r->team->exec, r->team->agent[st->agent].role, st->round, phase);
}
void rm_run_note(const rm_runner *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- one question ----------------------------------------------------------------------------------------------------- */

typedef struct rm_record rm_record;

struct rm_job {
    int index;
    const rm_item *item;
    rm_ask ask;
    float **mail; /* [n_edge] the last message along each edge, [latent_steps, d of the receiver]; NULL: none yet */
    rm_strbuf *said; /* [n_agent] what each agent wrote last (text mode) */
    rm_seq **snap; /* [2 * n_agent] state before the first slot of (agent, feedback), kept for later rounds; NULL: none */
    rm_record *rec; /* NULL: not recording */
    rm_answer answer;
    int n_open; /* rollouts that are not finished */
};

rmas_status rm_job_new(rm_job **out, rm_runner *r, int index, rmas_error *err);
void rm_job_free(rm_runner *r, rm_job *j);
void rm_job_drop_state(rm_runner *r, rm_job *j); /* frees messages and snapshots */

/* ---- prompts ---------------------------------------------------------------------------------------------------------- */

/* The prompt of a stage for one question: pieces, their ids, and the edges whose messages fill the slots between them. */
typedef struct {
    rm_pieces pieces; /* text mode: one piece */
    rm_ids *ids; /* [n_piece] */
    int *edge; /* [n_piece - 1] */
    int n_piece, n_pos; /* n_pos: positions with the messages */
} rm_prompt;
rmas_status rm_prompt_make(rm_prompt *out, rm_runner *r, const rm_job *j, const rm_stage *st, rmas_error *err);
void rm_prompt_free(rm_prompt *p);

/* Positions from..n_pos as one input: token ids (-1 where a message's row stands) and rows. */
typedef struct {
    int32_t *token;
    float *embed; /* [n, d]; NULL if there are only tokens */
    int n;
} rm_input;
rmas_status rm_prompt_input(rm_input *out, const rm_runner *r, const rm_job *j, const rm_stage *st, const rm_prompt *p, int from, int to,
                            rmas_error *err);
void rm_input_free(rm_input *in);

/* ---- what prompts share ------------------------------------------------------------------------------------------------ */

/* Gives every job of the group a sequence that holds its prompt but the last `hold` positions (0 or 1), computing only what
 * no earlier prompt had in common with it. seq[i] belongs to the caller. With hold 0 the states of the last positions are
 * those of the batch afterwards: rm_batch_hidden(batch, i). */
rmas_status rm_prefill(rm_runner *r, rm_job *const *job, const rm_prompt *prompt, int n, const rm_stage *st, int hold, rm_seq **seq, rmas_error *err);
rmas_status rm_prefixes_new(rm_prefixes **out, const rm_runner *r, rmas_error *err);
void rm_prefixes_free(rm_prefixes *p);

/* ---- stages ------------------------------------------------------------------------------------------------------------ */

rmas_status rm_latent_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err);
/* The group writes text with one agent until all are done. */
rmas_status rm_text_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err);
/* The reference's tool loop over all jobs. */
rmas_status rm_reference_tool_stage(rm_runner *r, rm_job *const *job, int n, const rm_stage *st, rmas_error *err);

/* ---- rows: sequences that are being written ----------------------------------------------------------------------------- */

typedef enum { RM_ROW_TEXT, RM_ROW_RETRY } rm_row_kind;
enum { RM_TURN_REPLAYED = -1, RM_TURN_WAITS = -2 };

typedef struct {
    rm_job *job;
    const rm_stage *stage;
    rm_row_kind kind;
    int rollout;
    rm_seq *seq;
    rm_input in; /* not yet computed */
    rm_rng rng;
    rm_ids out; /* ids of the current call */
    float *margin; /* of out; NULL unless recording */
    int cap_margin;
    int budget; /* tokens that may still be written */
    int n_token; /* written in all calls */
    const rm_ids *forced; /* ids of this call from a replay; NULL: end tokens only, if is_forced */
    bool is_forced;
    int call;
    /* tool calls */
    bool tools; /* tags are looked for */
    int n_tool;
    rm_ids said; /* ids after the prompt, before the current call */
    rm_strbuf text; /* of the calls so far, with results; of a retry: the text that is continued */
    size_t cursor;
    rm_strbuf tail; /* raw bytes of the current call */
    struct rm_errand *errand; /* the tool call that the row waits for; NULL: none */
    int n_keep; /* of out: ids that stay when the tool's result is put behind them ... */
    rm_strbuf rest; /* ... with this, the beginning of the id that does not */
    int turn; /* in the current step: its number in the batch, or RM_TURN_... */
    json_t *rec; /* the stage's record; belongs to the job's */
} rm_row;

rmas_status rm_scribe_new(rm_scribe **out, rm_runner *r, int agent, rmas_error *err);
void rm_scribe_free(rm_scribe *w);
int rm_scribe_n_row(const rm_scribe *w); /* rows that are not finished */
int rm_scribe_n_token(const rm_scribe *w); /* written so far in all */
/* Prompts of the stage for the group become rows (one per rollout at the final stage). */
rmas_status rm_scribe_add(rm_scribe *w, rm_job *const *job, int n, const rm_stage *st, rmas_error *err);
/* Queues the answer retry of text[rollout] of a job. */
rmas_status rm_scribe_add_retry(rm_scribe *w, rm_job *j, const rm_stage *st, int rollout, rmas_error *err);
/* One position for every row in work (at most batch_size at a time). */
rmas_status rm_scribe_step(rm_scribe *w, rmas_error *err);

/* A text is finished: keep it, ask again, or count the question as done. w: where a retry can be queued. */
rmas_status rm_text_done(rm_scribe *w, rm_runner *r, rm_job *j, const rm_stage *st, int rollout, const char *text, size_t n, int n_token,
                         rmas_error *err);

/* Sampling settings of an agent; and the next token from its logits (forced ids first). margin may be NULL. */
rm_sampling rm_agent_sampling(const rm_runner *r, const rm_agent *a);
rmas_status rm_row_choose(const rm_runner *r, rm_row *row, const rm_agent *a, const float *logits, void *scratch, int32_t *id, rmas_error *err);
void rm_row_init(rm_row *row, rm_runner *r, rm_job *j, const rm_stage *st, rm_row_kind kind, int rollout);
void rm_row_clear(rm_row *row);
void rm_row_next_call(rm_runner *r, rm_row *row); /* looks up the replay of row->call */

/* ---- tools -------------------------------------------------------------------------------------------------------------- */

/* Runs one call (or says why not); appends the result as it stands between the tags. Changes nothing in the run: may be called
 * from any thread. When *stop (may be NULL) becomes true, the result is not waited for. */
rmas_status rm_tool_call_run(const rm_runner *r, bool search, const char *content, size_t n, const atomic_bool *stop, rm_strbuf *out,
                             rmas_error *err);

/* A call that is run by a thread of its own, so that the rows beside go on being written. */
typedef struct rm_errand rm_errand;
/* What the errands of one scribe have in common. */
typedef struct {
    const rm_runner *r;
    sem_t places; /* how many may run at once */
    atomic_bool stop; /* nobody waits for results any more */
} rm_errands;
rmas_status rm_errands_open(rm_errands *x, const rm_runner *r, rmas_error *err);
void rm_errands_close(rm_errands *x); /* after the last errand is freed */
rmas_status rm_errand_new(rm_errand **out, rm_errands *x, const rm_tool_call *call, const char *text, rmas_error *err);
bool rm_errand_is_done(const rm_errand *e);
/* Of one that is done. The strings belong to the errand; tool ("search" or "python") and content are what was called. */
typedef struct {
    const char *tool, *content, *result;
    size_t n_content, n_result;
} rm_errand_report;
rmas_status rm_errand_get(const rm_errand *e, rm_errand_report *out, rmas_error *err);
void rm_errand_free(rm_errand *e); /* waits for its end, which is soon if the errands are stopped */

/* ---- recording ----------------------------------------------------------------------------------------------------------- */

rmas_status rm_record_new(rm_record **out, const rm_job *j, rmas_error *err);
void rm_record_free(rm_record *rec);
rmas_status rm_record_write(rm_record *rec, const char *dir, rmas_error *err);
/* A stage begins; returns its object (borrowed), NULL when out of memory or not recording. */
json_t *rm_record_stage(rm_runner *r, rm_job *j, const rm_stage *st, const char *kind, const rm_prompt *p);
/* Rows [n, d] under "rROUND.ROLE.WHAT". */
rmas_status rm_record_rows(rm_record *rec, int round, const char *role, const char *what, const float *x, int n, int d, rmas_error *err);
json_t *rm_record_ids(const rm_ids *ids);
json_t *rm_record_text(const char *s, size_t n); /* valid UTF-8, NUL bytes too */
/* A finished generate call of a row: adds {"ids", "margins"} to the stage's calls and returns it (borrowed). */
json_t *rm_record_call(json_t *stage, const rm_row *row);

/* ---- replay ------------------------------------------------------------------------------------------------------------- */

/* Is any call of this stage in the replay? Then *ids is what the call writes (NULL: end tokens only). */
bool rm_replay_find(const rm_replay *p, int index, const char *role, int round, bool retry, int call, const rm_ids **ids);

#endif
