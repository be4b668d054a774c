/* A training run from its first step to its last: order of batches, log, held-out loss, best and last checkpoint, going on
 * where an interrupted run stood. What a step is, the inner and the outer loop say. */
#ifndef RM_TRAIN_LOOP_H
#define RM_TRAIN_LOOP_H

#include "train/trainer.h"

typedef struct rm_loop rm_loop;
struct rm_loop {
    rm_trainer *trainer;
    const rm_train_options *options;
    rm_batches *batches;
    json_t *args; /* what the run was asked to do: written beside the links, and compared on resuming */
    void *ctx;
    /* Gradients of a batch into the trainer. line: facts for the log. *valid: is there anything to step on? arrays is NULL unless
     * everything is recorded. `number` counts batches, those without a step included. */
    rmas_status (*batch)(void *ctx, int64_t number, json_t *line, rm_arrays *arrays, bool *valid, double *loss, rmas_error *err);
    /* Mean loss of the held-out rows; NULL if there are none. line: more facts. */
    rmas_status (*held_out)(void *ctx, json_t *line, double *loss, rmas_error *err);
    /* Writes the links, as they are to be used, into dir. */
    rmas_status (*save)(void *ctx, const char *dir, rmas_error *err);
    /* Releases what the arrays of a recorded step refer to; may be NULL. */
    void (*recorded)(void *ctx);
};

rmas_status rm_loop_run(rm_loop *l, rmas_error *err);
bool rm_loop_resumes(const rm_train_options *o); /* there is a state to go on from: first values need not be made */

/* Prints through the options; formatted. transient: may be overwritten by the next line. */
void rm_loop_say(const rm_train_options *o, bool transient, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Splits n rows: the held-out ones (drawn by the seed, in file order) and the others. Both arrays belong to the caller. */
rmas_status rm_hold_out(size_t n, size_t held, uint64_t seed, size_t **train, size_t **out, rmas_error *err);

/* Adds bytes to a fingerprint (RM_FINGERPRINT at first): FNV-1a. Of samples it stands for all that they depend on: rows, prompts, template, date. */
#define RM_FINGERPRINT 0xCBF29CE484222325u
uint64_t rm_fingerprint(uint64_t h, const void *data, size_t n);

/* The options of a run as JSON, for train_args.json, with fingerprints of the samples (as given) and of what is frozen: models and, in the outer loop, inner
 * links. */
rmas_status rm_train_args(json_t **out, const rm_train_options *o, const rm_crew *t, bool inner, uint64_t samples, rmas_error *err);
rmas_status rm_write_json(const char *dir, const char *name, json_t *object, rmas_error *err); /* takes the object over; atomic */

#endif
