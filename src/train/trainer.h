/* What both loops share: their options, the links in training with gradients and moments, and the optimiser step. */
#ifndef RM_TRAIN_TRAINER_H
#define RM_TRAIN_TRAINER_H

#include <signal.h>

#include "train/optim.h"
#include "train/record.h"
#include "train/crew.h"

enum { RM_TRAIN_MAX_ROUNDS = 64 };

typedef struct {
    const char *key, *type; /* "outer_12", "outer_ln_res_adapter" */
} rm_edge_type;

typedef struct {
    /* data */
    const char *data, *field; /* file of rows; key of the array in a .json file, NULL: usual */
    int64_t num_samples; /* of the file, from its beginning; < 0: all */
    int64_t held_out; /* rows kept out of training for the held-out loss; 0: none */
    bool shuffle; /* every epoch, by the seed */
    int64_t seed, max_length;
    /* steps */
    int64_t batch_size, max_steps, epochs, grad_accum, warmup; /* epochs count if max_steps < 0 */
    double lr, weight_decay, max_grad_norm;
    rm_schedule schedule;
    rm_train_init init;
    const char *type; /* of links made anew; NULL: the usual one */
    const rm_edge_type *edge_type; /* types of single outer links */
    int n_edge_type;
    /* inner loop */
    const char *role; /* NULL: data without a role */
    double cos_weight, mse_weight;
    /* outer loop */
    int rounds;
    bool final_only, rollout, rollout_feedback; /* messages are rolled out, not gold states; those of the last agent too */
    double non_last_weight;
    int64_t max_latent; /* rows of a teacher-forced message; <= 0: all */
    int64_t latent_length, truncate;
    double max_message_grad; /* of a sample: norm of a message's gradient times the message's norm, nats; larger ones are scaled down; 0: no limit */
    /* run */
    const char *probe; /* folder for everything that is read and computed; no checkpoint then */
    const char *save_dir;
    int64_t save_steps, log_every, eval_every, patience; /* patience: evaluations without gain before the run ends; 0: never */
    double save_minutes; /* the state for resume is written after a step when so long nothing was; 0: every save_steps only */
    const volatile sig_atomic_t *cancel; /* not 0: the step under way is left, and what resume needs is written (RMAS_E_CANCELLED); may be NULL */
    bool resume;
    rm_dtype save_dtype;
    bool in_place; /* links also go into the system's own folder */
    double memory_limit; /* bytes; 0: what the machine has free */
    void (*progress)(void *ctx, const char *line, bool transient); /* may be NULL */
    void *progress_ctx;
} rm_train_options;

rmas_status rm_train_going_on(const rm_train_options *o, rmas_error *err); /* RMAS_E_CANCELLED once *cancel is not 0 */

typedef struct {
    const char *key; /* "" (inner) or "outer_12" */
    rm_link *link;
    rm_adamw adam;
    float *grad; /* [n] of the step */
    float *part[RM_TRAIN_MAX_ROUNDS]; /* outer loop: gradient through the use in round r + 1; part[0] is grad once they are summed */
    bool used; /* something depends on it: it has a gradient */
    double norm; /* of its gradient in the last step */
} rm_trainee;

typedef struct {
    rm_exec *exec;
    rm_trainee v[RM_TRAIN_EDGES];
    int n;
    rm_adamw_options adamw;
    rm_schedule schedule;
    int64_t warmup, total, step; /* step: optimiser steps done */
    double max_grad_norm;
    double norm, factor; /* of the last step */
} rm_trainer;

/* Takes the link over. n_part: buffers for gradients by round; at least 1. */
rmas_status rm_trainer_add(rm_trainer *t, const char *key, rm_link *l, int n_part, rmas_error *err);
void rm_trainer_free(rm_trainer *t);
void rm_trainer_zero(rm_trainer *t); /* all gradients; `used` is false */
/* Clips all gradients (grad) together and updates every link that is used. A norm that is not finite: *stepped is false, nothing
 * has changed. */
rmas_status rm_trainer_step(rm_trainer *t, bool *stepped, rmas_error *err);
/* param., m., v. and, if grads, grad. of every link into the arrays of a record. */
rmas_status rm_trainer_record(const rm_trainer *t, rm_arrays *a, bool state, rmas_error *err);

/* Rows of a batch: element i of step s (both from 0). An epoch takes n rows in a new order and drops the last incomplete batch. */
typedef struct {
    size_t n, batch;
    bool shuffle;
    uint64_t seed;
    size_t *order;
    int64_t epoch; /* whose order this is; -1: none yet */
} rm_batches;
rmas_status rm_batches_init(rm_batches *b, size_t n, size_t batch, bool shuffle, uint64_t seed, rmas_error *err);
void rm_batches_free(rm_batches *b);
size_t rm_batches_at(rm_batches *b, int64_t step, size_t i);

#endif
