/* The inner loop: the inner link of one role learns to point from a state to the embedding of the next gold token */
#ifndef RM_TRAIN_INNER_H
#define RM_TRAIN_INNER_H

#include "train/trainer.h"

/* Trains the role t->only of the team. */
rmas_status rm_train_inner(rm_crew *t, const rm_train_options *o, rmas_error *err);

/* Pairs of a batch: states x [n, d] and next-token embeddings y [n, d] of the positions of weight 1, in the order of samples
 * and positions. */
typedef struct {
    int n;
    float *x, *y;
} rm_pairs;
rmas_status rm_pairs_make(rm_pairs *out, rm_crew *t, int role, const rm_inner_sample *const *sample, int n_sample, rmas_error *err);
void rm_pairs_free(rm_pairs *p);

/* Mean cosine loss and mean squared error of predictions p [n, d]; dp, unless NULL, is the gradient of cos * cosine + mse * mse. */
void rm_pair_losses(const float *p, const float *y, int n, int d, double cos_weight, double mse_weight, double *cosine, double *mse, float *dp);

#endif
