/* A data-driven start of links instead of random maps: linear regression from states to the embeddings that they should stand
 * for, put inside the links' forms. */
#ifndef RM_TRAIN_ALIGN_H
#define RM_TRAIN_ALIGN_H

#include "link/link.h"

/* x, y [n, d]: states and the embeddings of the next tokens. Changes the values of an inner link of any type. */
rmas_status rm_align_inner(rm_link *l, const float *x, const float *y, int n, rmas_error *err);
/* x [n, d_in]: what the sender's inner link gives; y [n, d_out]: what the receiver would read. Any outer type. */
rmas_status rm_align_outer(rm_link *l, const float *x, const float *y, int n, rmas_error *err);

#endif
