/* The agents of a run, loaded: model, tokenizer, chat template, links. Agents with the same model share it. */
#ifndef RM_SYSTEM_TEAM_H
#define RM_SYSTEM_TEAM_H

#include "link/link.h"
#include "prompt/prompt.h"
#include "session/session.h"
#include "system/resolve.h"
#include "system/system.h"
#include "tok/tok.h"

typedef struct {
    const char *role;
    const char *path; /* of the model */
    const rm_model *model; /* shared */
    rm_batch *batch; /* workspace of the model; shared */
    rm_tok *tok;
    rm_chat *chat;
    rm_link *inner; /* NULL if the run has no links */
    int d_model, n_vocab;
    int32_t eos, pad; /* eos -1: none; pad: eos if the tokenizer has none */
    rm_generation_config gen;
    int shared_with; /* an earlier agent whose model it is; -1: its own */
    bool same_path; /* tokenizer and chat template are an earlier agent's too */
} rm_agent;

typedef struct rm_team rm_team;
struct rm_team {
    const rm_system *sys;
    rm_exec *exec;
    rm_agent *agent; /* [sys->n_agent] */
    rm_link **outer; /* [sys->n_edge], NULL if the run has no links */
    int n_agent, n_edge;
};

typedef struct {
    rm_precision precision;
    bool links;
    rm_chat_options chat;
} rm_team_options;

/* s and e must outlive the team. Checks that widths fit: inner links to their models, outer links to both ends. */
rmas_status rm_team_open(rm_team **out, rm_exec *e, const rm_system *s, const rm_files *f, const rm_team_options *o, rmas_error *err);
void rm_team_close(rm_team *t);

/* What `rmas resolve` prints. */
rmas_status rm_team_describe(json_t **out, const rm_team *t, const rm_files *f, rmas_error *err);

/* Do these paths (folders or GGUF files) certainly hold the same model? */
rmas_status rm_same_model(const char *a, const char *b, bool *same, rmas_error *err);

/* The seed of a link without a file: what is "inner " or "outer ", name the role or the link's key. */
uint64_t rm_link_seed(uint64_t seed, const char *what, const char *name);

/* Is this id one of the tokens that end a text (tokenizer's eos, or generation_config.json's)? */
bool rm_agent_is_end(const rm_agent *a, int32_t id);

#endif
