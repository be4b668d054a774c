/* A named array somewhere in memory, usually inside a mapped file. */
#ifndef RM_TENSOR_TENSOR_H
#define RM_TENSOR_TENSOR_H

#include "tensor/dtype.h"

enum { RM_MAX_DIM = 8 };

typedef struct {
    const char *name;
    rm_dtype dtype;
    int n_dim; /* 0: a scalar */
    int64_t dim[RM_MAX_DIM]; /* row-major, outermost first (GGUF dimensions are reversed on reading) */
    const void *data; /* not aligned in general; read-only */
    size_t n_bytes;
} rm_tensor;

/* Product of the dimensions (checked by the readers to fit). */
int64_t rm_tensor_count(const rm_tensor *t);
bool rm_tensor_same(const rm_tensor *a, const rm_tensor *b); /* of one type and shape, with the same bytes */

#endif
