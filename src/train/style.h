/* What training adds to a system's graph: an order of the roles within a round (the answering one last), and the data columns
 * of each role. Agents of a user's own graph find their texts in the columns named like them. */
#ifndef RM_TRAIN_STYLE_H
#define RM_TRAIN_STYLE_H

#include "system/system.h"

enum { RM_TRAIN_ROLES = 16, RM_TRAIN_EDGES = 64 };

typedef struct {
    const char *name; /* "critic": as in the system, prompt packs and --ckpt_override */
    int agent; /* in the system */
    const char *inner[4], *outer[4]; /* target columns of the two loops, best first, ending with NULL */
} rm_train_role;

typedef struct {
    const char *key; /* "outer_12" */
    int from, to; /* roles */
    bool feedback; /* delivered in the next round */
} rm_train_edge;

typedef struct {
    const rm_system *system; /* must outlive this */
    const char *family; /* style word of prompts */
    const char *shape; /* the reference's mas_shape */
    int n_role, n_edge; /* edges in the order of the system */
    rm_train_role role[RM_TRAIN_ROLES];
    rm_train_edge edge[RM_TRAIN_EDGES];
    bool row_task; /* the outer loop obeys a row's task_family */
    bool need_senders; /* inner loop: a row without a sender's text is left out (distillation) */
    const char *signal; /* inner loop: stands in the slots instead of the senders' texts (deliberation) */
    int outer_batch; /* the reference's default --batch_size of the outer loop */
} rm_train_style;

rmas_status rm_train_style_make(rm_train_style *out, const rm_system *s, rmas_error *err);
/* The published style that a --style, --mas_design or family word means ("hie" -> "mixture"); the word itself if none. */
const char *rm_train_style_name(const char *word);
/* A role by its name, or by the reference's --mas_role ("refiner", "hie_math_expert"); -1 if there is none. */
int rm_train_role_find(const rm_train_style *s, const char *name);
/* Does the role get latents of the round before? */
bool rm_train_has_feedback(const rm_train_style *s, int role);

#endif
