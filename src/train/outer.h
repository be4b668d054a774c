/* The outer loop: all outer links of a system learn together, everything else is frozen. */
#ifndef RM_TRAIN_OUTER_H
#define RM_TRAIN_OUTER_H

#include "train/unroll.h"

rmas_status rm_train_outer(rm_crew *t, const rm_train_options *o, rmas_error *err);

/* Compares the gradients of the loss of some rows with central differences along random directions, link by link. Prints one
 * line per link through the options; fails if a link is off by more than 2 %. */
rmas_status rm_train_check(rm_crew *t, const rm_train_options *o, rmas_error *err);

/* Pairs for the aligned start of a link: what the sender's inner link gives for the states before the gold
 * tokens of these rows, and what the receiver would read there. Both arrays belong to the caller. most: about so many. */
rmas_status rm_outer_pairs(rm_crew *t, int edge, const rm_rows *rows, const size_t *row, size_t n_row, size_t most, int max_length, float **x,
                           float **y, int *n, rmas_error *err);

#endif
