/* Dense linear algebra in double for fitting links: second moments, Cholesky, eigenvectors. Results do not depend on the
 * number of threads. */
#ifndef RM_TRAIN_LINALG_H
#define RM_TRAIN_LINALG_H

#include <stdbool.h>

#include "tensor/exec.h"
#include "util/error.h"

/* out [o, i] = sum over rows of y_r x_rᵀ; x [n, i], y [n, o]. Products are taken in float32 over blocks of rows, their sums in double. */
rmas_status rm_moments(rm_exec *e, double *out, const float *y, int o, const float *x, int i, int n, rmas_error *err);
/* a = L Lᵀ in place (lower triangle); false if a is not positive definite. */
bool rm_cholesky(double *a, int n);
/* Every row b of [rows, n] becomes b (L Lᵀ)⁻¹. */
void rm_cholesky_solve(rm_exec *e, const double *l, int n, double *b, int rows);
/* out [m, n] = a [m, k] b [n, k]ᵀ */
void rm_product_nt(rm_exec *e, double *out, const double *a, int m, const double *b, int n, int k);
/* Eigenvalues w, ascending, of the symmetric a [n, n]; row j of a becomes the eigenvector of w[j]. */
rmas_status rm_eigen(rm_exec *e, double *a, int n, double *w, rmas_error *err);

#endif
