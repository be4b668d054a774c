#include "model/linear.h"

#include "util/mem.h"

void rm_linear_free(rm_linear *l) {
    rm_matrix_free(l->w);
    rm_free(l->bias);
    *l = (rm_linear){0};
}

rmas_status rm_linear_mul(rm_exec *e, float *y, const float *x, int n_row, const rm_linear *l, rmas_error *err) {
    return rm_matrix_mul(e, y, (size_t)rm_matrix_n_out(l->w), x, (size_t)rm_matrix_n_in(l->w), n_row, l->w, l->bias, err);
}

rmas_status rm_linear_mul_t(rm_exec *e, float *dx, const float *dy, int n_row, const rm_linear *l, rmas_error *err) {
    return rm_matrix_mul_t(e, dx, (size_t)rm_matrix_n_in(l->w), dy, (size_t)rm_matrix_n_out(l->w), n_row, l->w, false, err);
}
