/* A weight matrix [n_out, n_in] made ready for multiplication, and the products with it.
 *
 * Every element of a product is summed in one fixed order that depends on n_in and the weight's form only: not on the
 * number of rows computed together, their neighbours, or the number of threads. Whole runs are bitwise repeatable because
 * of this. Where a processor multiplies many rows best in another way than few (AMX), which way is taken does not depend on
 * how many there happen to be, but on what they are: rm_exec.prompt. */
#ifndef RM_TENSOR_MATRIX_H
#define RM_TENSOR_MATRIX_H

#include "tensor/exec.h"
#include "tensor/tensor.h"

/* RM_EXACT: all arithmetic in float32 on the dequantised values, whatever is stored (the parity path).
 * RM_NATIVE: the fast path: bf16 products for bf16 weights, 8-bit activations for quantised ones (for prompts, with AMX: bf16 products, too), float32
 * otherwise. */
typedef enum { RM_EXACT, RM_NATIVE } rm_precision;

typedef struct rm_matrix rm_matrix;

/* Takes 1-4 tensors of equal n_in that are stacked along n_out (fused q/k/v, gate/up); the tensors' memory must outlive
 * the matrix unless rm_matrix_owns_data says that it was packed into memory of its own. */
rmas_status rm_matrix_new(rm_matrix **out, rm_exec *e, const rm_tensor *const *part, int n_part, rm_precision p, rmas_error *err);
void rm_matrix_free(rm_matrix *w);
int rm_matrix_n_out(const rm_matrix *w);
int rm_matrix_n_in(const rm_matrix *w);
bool rm_matrix_owns_data(const rm_matrix *w);
size_t rm_matrix_bytes(const rm_matrix *w); /* memory that the matrix itself holds */

/* y[i, 0..n_out) = W x[i] (+ bias), i < n_row. Row strides ldx, ldy in floats. x and y do not overlap. bias: [n_out] or NULL.
 * Uses all threads of the engine. Fails only for lack of memory of scratch space (kept for the next call). */
rmas_status rm_matrix_mul(rm_exec *e, float *y, size_t ldy, const float *x, size_t ldx, int n_row, const rm_matrix *w, const float *bias,
                          rmas_error *err);

/* dx[i, 0..n_in) (+)= dy[i] W: the gradient with respect to the input. add: dx is added to instead of overwritten. RM_NATIVE takes dy and quantised
 * or bf16 weights as bf16, with float32 sums, where the CPU has products for that; for prompts dy and quantised weights in 8 bits on x86 without AMX
 * (AVX2 without VNNI: in 7). */
rmas_status rm_matrix_mul_t(rm_exec *e, float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const rm_matrix *w, bool add,
                            rmas_error *err);

/* The same where dy is zero but for a few outputs: dy [n_row, n_out] of the outputs out[0 .. n_out), ascending. In float32, so it does not pay where
 * the CPU gains by bf16, nor where it can't turn groups of weights to columns. */
rmas_status rm_matrix_mul_t_some(rm_exec *e, float *dx, size_t lddx, const float *dy, size_t lddy, int n_row, const rm_matrix *w, const int *out,
                                 int n_out, rmas_error *err);
bool rm_matrix_mul_t_some_pays(const rm_matrix *w);

/* One row, dequantised: an embedding. */
void rm_matrix_row(const rm_matrix *w, int64_t row, float *out);

#endif
