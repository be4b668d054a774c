/* The arrays that probe commands read and write: safetensors files with F32, I64 and (reading) I32 tensors. */
#ifndef RM_CLI_ARRAYS_H
#define RM_CLI_ARRAYS_H

#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

/* ---- reading: every tensor that no call asks for is an error at the end -------------------------------------------- */

typedef struct rm_inputs rm_inputs;

rmas_status rm_inputs_open(rm_inputs **out, const char *path, rmas_error *err);
void rm_inputs_close(rm_inputs *in); /* values die with it */

/* The numbers K of the tensors BASE.K, ascending; -1 stands for BASE alone. Fails if there is none, or BASE and BASE.K. *k belongs to in. */
rmas_status rm_inputs_series(rm_inputs *in, const char *base, const int **k, int *n, rmas_error *err);

/* Tensor BASE (number -1) or BASE.NUMBER; *v is NULL if it is absent (also for an array without elements *v is not NULL). */
rmas_status rm_inputs_i32(rm_inputs *in, const char *base, int number, const int32_t **v, int *n, rmas_error *err); /* [n], I64 or I32 */
rmas_status rm_inputs_f32(rm_inputs *in, const char *base, int number, const float **v, int *n_row, int *n_col, rmas_error *err); /* [n_row, n_col] */
rmas_status rm_inputs_done(const rm_inputs *in, rmas_error *err); /* fails if a tensor was not asked for */

/* ---- writing: all or nothing ---------------------------------------------------------------------------------------- */

typedef struct rm_outputs rm_outputs;

rm_outputs *rm_outputs_new(void); /* NULL when out of memory */
void rm_outputs_free(rm_outputs *o);
/* A new zeroed array to be filled, kept until rm_outputs_free; NULL when out of memory. */
float *rm_outputs_f32(rm_outputs *o, const char *name, int n_dim, const int64_t *dim);
int64_t *rm_outputs_i64(rm_outputs *o, const char *name, int n_dim, const int64_t *dim);
rmas_status rm_outputs_write(const rm_outputs *o, const char *path, rmas_error *err);

/* "hidden" and 3 -> "hidden.3"; number -1: the base alone. */
void rm_array_name(char out[96], const char *base, int number);

#endif
