/* Samples of the outer loop through all rounds, forward and backward.
 *
 * A sample is a list of runs of models: teacher-forced passes over prompt and gold text, which give a cross-entropy (last
 * agent) or states to send, and rollouts after a prompt, which give states to send. States go through the sender's inner link
 * (frozen) and an outer link (trained) into slots of later runs. The backward pass walks the list from its end; a model is run
 * again there, from the first slot on only.
 *
 * A few samples go together, run by run, so that weights are read once for all of them. The bits do not depend on how many:
 * models and links compute rows independently, and a link's gradient of a round is summed in the order of the samples. */
#ifndef RM_TRAIN_UNROLL_H
#define RM_TRAIN_UNROLL_H

#include "session/grad.h"
#include "train/trainer.h"

/* What a link sent in a round. */
typedef struct {
    int edge, rows; /* rows 0: nothing sent */
    float *z, *dz; /* [rows, width of the receiver]; dz: gradient, NULL in evaluations */
} rm_message;

typedef struct {
    int round, role; /* round from 0 */
    bool feedback, rollout; /* rollout: after the prompt; otherwise a teacher-forced pass */
    const rm_train_stage *stage;
    int tape; /* its sequence on the role's tape, -1: none, it is run again in the backward pass */
    int begin; /* rows before the first slot that were computed already, for other runs too */
    bool loss; /* a teacher-forced pass whose cross-entropy is asked for */
    int n, cut, prompt, n_label; /* rows of the sequence (a rollout's own steps not counted), rows cut on the left, prompt rows left */
    int slot_at[RM_TRAIN_ROLES], slot_rows[RM_TRAIN_ROLES]; /* after the cut; at is counted with cut rows as if they were there, minus cut */
    rm_message *slot_message[RM_TRAIN_ROLES];
    int rows; /* states that go into links */
    int all_rows; /* of `hidden`: states that were there to send; without a loss or a probe no more than `rows` */
    float *hidden, *inner; /* [all_rows, d], [rows, d]: states, and what the inner link gives */
    double ce, weight; /* NAN: no loss here; weight of the loss in the sample's */
    float *d_ce; /* [rows of labels, d]: gradient of weight * ce with respect to the states from ce_at on */
    int ce_at, ce_rows;
} rm_unroll_run;

typedef struct {
    const rm_outer_sample *sample;
    rm_unroll_run *run;
    int n_run;
    rm_message *message; /* [rounds * n_edge] */
    rm_seq *prefix[RM_TRAIN_ROLES][2]; /* the prompts up to their first slot: the same in all rounds, computed once; NULL where `common` is as long */
    double ce[RM_TRAIN_MAX_ROUNDS]; /* NAN: not asked for */
    double loss;
    int n_limited; /* messages whose gradient was above the limit in the backward pass */
    char skipped[128]; /* why the sample does not count; "" if it does */
} rm_unroll;

enum { RM_UNROLL_MAX = 8 };

typedef struct {
    rm_crew *team;
    const rm_train_options *o;
    rm_trainer *trainer; /* links in the order of the style's edges */
    rm_tape *tape[RM_TRAIN_ROLES]; /* by role; made when needed, shared like models */
    int n_common[RM_TRAIN_ROLES][2]; /* rows that the prompts of all samples begin with, by role and feedback */
    rm_seq *common[RM_TRAIN_ROLES][2]; /* these rows; made when needed, for all steps */
    rm_unroll v[RM_UNROLL_MAX];
    bool keep; /* what the backward pass needs of the models is kept in the forward pass: faster, but memory for all rounds */
    bool keep_gate_up; /* likewise, see rm_tape_new; set before the first pass */
    int n; /* samples of the last forward pass */
    double scale; /* of the losses in the backward pass */
} rm_unrolls;

/* all: the samples that can come. */
rmas_status rm_unrolls_init(rm_unrolls *u, rm_crew *t, const rm_train_options *o, rm_trainer *trainer, const rm_outer_sample *all, size_t n_all,
                            rmas_error *err);
void rm_unrolls_free(rm_unrolls *u);
/* All rounds of n <= RM_UNROLL_MAX samples. With gradients: rm_unrolls_backward may follow. The samples must live as long as their
 * runs are looked at. */
rmas_status rm_unrolls_forward(rm_unrolls *u, const rm_outer_sample *const *sample, int n, bool gradients, rmas_error *err);
/* Adds scale times the gradients of the losses of all samples that count to the trainer's parts by round, and marks the links used. */
rmas_status rm_unrolls_backward(rm_unrolls *u, double scale, rmas_error *err);

#endif
