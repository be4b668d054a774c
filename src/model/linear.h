/* A projection: one weight tensor, or several that read the same input and whose outputs stand side by side; and its bias. */
#ifndef RM_MODEL_LINEAR_H
#define RM_MODEL_LINEAR_H

#include "tensor/matrix.h"

typedef struct {
    rm_matrix *w;
    float *bias; /* [n_out] or NULL; owned */
} rm_linear;

void rm_linear_free(rm_linear *l);
/* y [n_row, n_out] = x W^T + bias; rows are contiguous. */
rmas_status rm_linear_mul(rm_exec *e, float *y, const float *x, int n_row, const rm_linear *l, rmas_error *err);
/* dx [n_row, n_in] = dy W */
rmas_status rm_linear_mul_t(rm_exec *e, float *dx, const float *dy, int n_row, const rm_linear *l, rmas_error *err);

#endif
