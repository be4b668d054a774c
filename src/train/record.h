/* A run as data: lines of JSON and arrays in a folder (docs/TRAINING.md, "Looking inside"). */
#ifndef RM_TRAIN_RECORD_H
#define RM_TRAIN_RECORD_H

#include <jansson.h>
#include <stdio.h>

#include "tensor/tensor.h"
#include "util/error.h"

/* A growing set of named float32 arrays that are written together. Data is not copied: it must live until rm_arrays_write. */
typedef struct {
    rm_tensor *v;
    int n, cap;
} rm_arrays;
rmas_status rm_arrays_add(rm_arrays *a, const float *data, int n_dim, const int64_t *dim, rmas_error *err, const char *name, ...)
    __attribute__((format(printf, 6, 7)));
rmas_status rm_arrays_add_i64(rm_arrays *a, const int64_t *data, int64_t n, rmas_error *err, const char *name, ...)
    __attribute__((format(printf, 5, 6)));
rmas_status rm_arrays_write(const rm_arrays *a, const char *path, rmas_error *err);
void rm_arrays_free(rm_arrays *a); /* names only; fine on a zeroed struct, and again */

/* Lines of JSON, one object each. */
typedef struct {
    FILE *f;
    char *path;
} rm_lines;
rmas_status rm_lines_open(rm_lines *l, const char *dir, const char *name, bool append, rmas_error *err);
rmas_status rm_lines_add(rm_lines *l, json_t *object, rmas_error *err); /* takes the object over; NULL: out of memory */
rmas_status rm_lines_close(rm_lines *l, rmas_error *err);

json_t *rm_json_ids(const int32_t *id, int n); /* NULL when out of memory */

#endif
