/* A system of agents as data: who there is, who sends to whom, who answers. The published styles are such data inside the
 * program; a user's system.json is the same from outside (docs/SYSTEMS.md). Nothing here loads a model. */
#ifndef RM_SYSTEM_SYSTEM_H
#define RM_SYSTEM_SYSTEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

enum { RM_SYSTEM_MAX_AGENT = 64, RM_SYSTEM_MAX_EDGE = 512 };

/* The links of the published systems come in two versions; a run takes one by its data set. */
typedef enum { RM_LINKS_MATH, RM_LINKS_CODE, RM_N_LINK_TASK } rm_link_task;
rm_link_task rm_link_task_of_dataset(const char *dataset);

typedef struct {
    char *role; /* a word of the prompt pack */
    char *repo; /* published repository (owner/name); NULL: none */
    char *model; /* a folder or .gguf file as the manifest names it; NULL: the repository */
    char *hint; /* where the model can be had, for messages; may be NULL */
    char *inner[RM_N_LINK_TASK]; /* files; NULL: found beside the model, or made from the seed */
    bool tools; /* what it writes may call tools */
} rm_agent_spec;

typedef struct {
    char *key; /* "outer_12" */
    int from, to; /* agents */
    bool feedback; /* delivered in the next round, else in the same */
    char *file[RM_N_LINK_TASK]; /* NULL: from the folder of outer links, or made from the seed */
} rm_edge_spec;

typedef struct {
    char *name;
    char *style; /* the published style whose graph this is; NULL: a graph of its own */
    char *family; /* first word of its prompts in the pack */
    char *dir; /* folder of the manifest, paths in it are relative to it; NULL: inside the program */
    char *description; /* may be NULL */
    rm_agent_spec *agent; /* in the order in which they run where the edges leave it open */
    int n_agent;
    rm_edge_spec *edge;
    int n_edge;
    int answer; /* the agent whose text is the answer */
    char *outer_repo, *outer; /* repository or folder with all outer links and outerlink_config.json; may be NULL */
    bool by_task; /* links found in the release layout are chosen by the task */
    bool answer_every_round; /* the reference lets the answering agent write in every round and throws the earlier texts away */
    bool text_special; /* text mode: prompts get the tokenizer's own special tokens on top */
    bool has_init_seed; /* links without a file are made from this seed (untrained) */
    uint64_t init_seed;
    char *prompts; /* prompt pack, a path that can be opened; NULL: the default */
    json_t *defaults; /* settings of a run by flag name; may be NULL */
} rm_system;

/* A published style. */
rmas_status rm_system_style(rm_system **out, const char *name, rmas_error *err);
const char *rm_style_name(int i); /* NULL after the last */
/* A manifest: system.json, or the folder that holds it. */
rmas_status rm_system_open(rm_system **out, const char *path, rmas_error *err);
/* The name of a style, or a path. */
rmas_status rm_system_find(rm_system **out, const char *name, rmas_error *err);
void rm_system_free(rm_system *s);
int rm_system_agent(const rm_system *s, const char *role); /* -1: no such role */
/* A copy that has only the answering agent, without links, and reads the prompts of `family` (word "agent"). */
rmas_status rm_system_single(rm_system **out, const rm_system *s, const char *family, bool tools, rmas_error *err);
/* Checks the graph: known words, no cycle within a round, every agent can reach the answer. */
rmas_status rm_system_check(const rm_system *s, rmas_error *err);

/* ---- settings ------------------------------------------------------------------------------------------------------- */

/* The settings that the authors recommend for a style and data set. version 1: first release, 2: June 2026. */
typedef struct {
    int latent_length, rounds, batch_size; /* 0: nothing recommended */
    double temperature; /* < 0: nothing recommended */
    int rollouts; /* 0: nothing recommended */
} rm_style_settings;
bool rm_style_recommended(const char *style, const char *dataset, int version, rm_style_settings *out);
int rm_style_max_new_tokens(const char *style, const char *dataset); /* style may be NULL */

/* ---- plans ---------------------------------------------------------------------------------------------------------- */

typedef enum { RM_STAGE_LATENT, RM_STAGE_TEXT } rm_stage_kind;
typedef struct {
    int round; /* from 1 */
    int agent;
    rm_stage_kind kind;
    bool feedback; /* it reads the feedback prompt: messages of the round before are there */
    bool final; /* its text is the answer */
    bool shadow; /* its result is not used (kept for comparison with the reference) */
} rm_stage;

typedef struct {
    rm_stage *stage;
    int n_stage, n_round;
} rm_plan;

/* The stages in the order of a run. text: agents exchange text. latent: there are latent steps (without, only the last
 * text has an effect). all: also the stages whose result nobody uses. */
typedef struct {
    int n_round;
    bool text, latent, all;
} rm_plan_options;
rmas_status rm_plan_new(rm_plan *out, const rm_system *s, const rm_plan_options *o, rmas_error *err);
void rm_plan_free(rm_plan *p);
/* The edges that deliver into the agent at that stage (indices into s->edge), at most n_edge; returns how many. */
int rm_stage_incoming(const rm_system *s, const rm_stage *st, int *edge);

#endif
