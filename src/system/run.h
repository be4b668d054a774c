/* Running a system on questions: settings, what is reported while it runs, and the call itself. */
#ifndef RM_SYSTEM_RUN_H
#define RM_SYSTEM_RUN_H

#include <signal.h>

#include "eval/dataset.h"
#include "prompt/prompt.h"
#include "system/team.h"
#include "toolbox/toolbox.h"

typedef struct rm_replay rm_replay;

/* What receivers get: the messages meant for them, or, as controls, those of another question (the next one that goes through the stage with it), or
 * zeros. */
typedef enum { RM_MESSAGES_OWN, RM_MESSAGES_OTHER, RM_MESSAGES_ZERO } rm_messages;

typedef struct {
    rm_messages messages;
    bool text; /* agents exchange text instead of latents */
    int n_round, latent_steps;
    int batch_size; /* sequences computed together; results do not depend on it */
    int max_new_tokens;
    int max_answer_tokens; /* of the answering agent; 0: max_new_tokens */
    bool ans; /* ask again when no answer can be read from the text */
    int ans_max_new_tokens; /* <= 0: the reference's */
    double temperature, top_p; /* temperature <= 0: greedy */
    int top_k; /* -1: the model's generation_config.json, else 50 */
    double min_p; /* < 0: the model's, else off */
    uint64_t seed; /* rollout k draws from seed + k */
    int n_rollout;
    const char *const *option; /* option words of prompt lookups */
    int n_option;
    /* tools */
    bool allow_python, allow_search;
    const rm_sandbox *sandbox; /* NULL: python is off */
    const rm_search *search; /* NULL: search is off */
    rm_tool_options tool;
    int max_tool_rounds;
    bool reference_loop; /* the tool loop stops whole batches, as the reference does */
    /* recording */
    const char *record; /* folder; NULL: none */
    const rm_replay *replay; /* NULL: none */
    const volatile sig_atomic_t *cancel; /* not 0: stop cleanly (RMAS_E_CANCELLED); may be NULL */
} rm_run_options;

/* One finished question. */
typedef struct {
    int index; /* in the data set of the run */
    const rm_item *item;
    int n_rollout;
    char **text; /* [n_rollout], NUL-terminated; may hold NULs too */
    size_t *n_text;
    int *n_token; /* [n_rollout] tokens written by the answering agent */
    int n_other, n_latent; /* tokens that the agents before it wrote; latent steps of all */
    bool *retried; /* [n_rollout] */
    rm_strbuf *said; /* [n_agent] what the other agents wrote last (text mode); .s NULL: nothing; may hold NULs */
    int n_agent;
} rm_answer;
/* A copy that outlives the hook; it still points to the data set's item. NULL: out of memory. */
rm_answer *rm_answer_copy(const rm_answer *a);
void rm_answer_free(rm_answer *a);

typedef enum {
    RM_EVENT_STAGE, /* a stage of a group begins, or has gone on: step of n_step */
    RM_EVENT_WRITE, /* the answering agent has written on */
    RM_EVENT_NOTE /* something the user should know; text */
} rm_event_kind;
typedef struct {
    rm_event_kind kind;
    const char *role;
    int round, n_round;
    bool text; /* the stage writes text */
    int n_question; /* in the group; WRITE: sequences that are being written */
    int step, n_step; /* STAGE: latent steps; WRITE: tokens so far in all, and 0 */
    int n_done, n_total; /* questions */
    const char *note;
} rm_event;

typedef struct {
    void *ctx;
    void (*event)(void *ctx, const rm_event *e); /* may be NULL */
    rmas_status (*answer)(void *ctx, const rm_answer *a, rmas_error *err); /* as soon as a question is done; not in order */
    bool (*skip)(void *ctx, int index); /* done already in an earlier run; may be NULL */
} rm_run_hooks;

rmas_status rm_run(const rm_team *team, const rm_pack *pack, const rm_dataset *data, const rm_run_options *o, const rm_run_hooks *hooks,
                   rmas_error *err);

/* Every prompt that the run will need is there and has its slots. Needs no model. */
rmas_status rm_run_check_prompts(const rm_system *s, const rm_pack *pack, const rm_dataset *data, const rm_run_options *o, rmas_error *err);

/* Lines of --replay: what agents write instead of sampling. Texts are tokenised with the role's tokenizer. */
rmas_status rm_replay_open(rm_replay **out, const char *path, const rm_team *team, int last_round, rmas_error *err);
void rm_replay_close(rm_replay *r);

#endif
