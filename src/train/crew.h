/* The agents and links that a training run works on: where their files are, and loading them when they are needed. */
#ifndef RM_TRAIN_CREW_H
#define RM_TRAIN_CREW_H

#include "link/link.h"
#include "session/session.h"
#include "train/sample.h"
#include "train/style.h"

typedef enum { RM_INIT_CHECKPOINT, RM_INIT_RANDOM, RM_INIT_ALIGNED } rm_train_init;

typedef struct {
    char *path; /* model folder or .gguf file */
    char *inner_path; /* NULL: there is none */
    char *inner_type; /* as a configuration beside it says; may be NULL */
    int same_as; /* an earlier role with the same model, or its own number: tokenizer and model belong to that one */
    rm_tok *tok;
    rm_train_chat chat;
    rm_model *model; /* NULL until rm_crew_load_model */
    rm_batch *batch;
    rm_link *inner;
} rm_crew_agent;

typedef struct {
    char *path, *type; /* NULL: no file; type NULL: not said */
    rm_link *link;
} rm_crew_link;

typedef struct {
    rm_exec *exec;
    rm_system *system;
    rm_train_style style;
    rm_pack *pack;
    rm_train_prompts prompts;
    rm_crew_agent agent[RM_TRAIN_ROLES]; /* by role */
    rm_crew_link link[RM_TRAIN_EDGES]; /* by edge of the style */
    char *outer_dir; /* where the outer links were found; NULL: nowhere */
    rm_precision precision; /* of the frozen models */
    rm_link_task link_task;
    uint64_t seed;
    const char *inner_type; /* as in the options */
    char **override; /* as given, with the system's names of the roles */
    int n_override;
    int only; /* the role of rm_crew_options.only, or -1 */
} rm_crew;

typedef struct {
    const char *system; /* a style, or a system's folder */
    const char *const *override; /* "ROLE=FOLDER", "outer=FOLDER"; "ROLE/inner=FILE OR FOLDER": an inner link elsewhere. ROLE may be
                                    the reference's name of it, or agent1, agent2 ... in the order of a round */
    int n_override;
    const char *load_dir; /* folder of an earlier run: its links are where this one begins; may be NULL */
    const char *only; /* the role that is trained: nothing else is looked for; NULL: all roles and the outer links */
    rm_task task;
    const char *prompts; /* prompt pack; NULL: the system's, else the default */
    const char *const *option; /* option words of packs */
    int n_option;
    const char *inner_type; /* of frozen inner links whose tensors leave it open and that have no configuration beside them; may be NULL */
    bool enable_thinking;
    rm_date date;
    rm_precision precision;
    uint64_t seed;
} rm_crew_options;

/* Finds files, opens tokenizers and the prompt pack. Loads no weights. */
rmas_status rm_crew_open(rm_crew **out, rm_exec *e, const rm_crew_options *o, rmas_error *err);
void rm_crew_close(rm_crew *t);

/* Loads the model of a role (shared where two roles have the same); workspace for forward passes. */
rmas_status rm_crew_load_model(rm_crew *t, int role, rmas_error *err);
rm_model *rm_crew_model(const rm_crew *t, int role);
rm_batch *rm_crew_batch(const rm_crew *t, int role);
/* The inner link of a role, frozen. RMAS_E_ARG if the files have none. */
rmas_status rm_crew_load_inner(rm_crew *t, int role, rmas_error *err);
/* A link to be trained: from its file, or new from the seed (type NULL: the default type, or that of the file). */
rmas_status rm_crew_trained_inner(rm_crew *t, int role, rm_train_init init, const char *type, rm_link **out, rmas_error *err);
rmas_status rm_crew_trained_outer(rm_crew *t, int edge, rm_train_init init, const char *type, rm_link **out, rmas_error *err);
int rm_crew_width(const rm_crew *t, int role); /* d_model of a loaded model */

/* Where the system itself keeps a link, for trained links that go there (*out belongs to the caller). RMAS_E_ARG if it names no
 * place: the message says what to add. */
rmas_status rm_crew_inner_place(const rm_crew *t, int role, char **out, rmas_error *err);
rmas_status rm_crew_outer_place(const rm_crew *t, int edge, char **out, rmas_error *err);
/* Refuses if `need` more bytes than are allocated now are not there. limit: of the whole process, 0: what the machine has free. */
rmas_status rm_crew_memory(const rm_crew *t, size_t need, double limit, const char *advice, rmas_error *err);

#endif
