/* Inside of rm_matrix, for matrix.c (making) and product.c (multiplying). */
#ifndef RM_TENSOR_MATRIX_IMPL_H
#define RM_TENSOR_MATRIX_IMPL_H

#include "kern/kern.h"
#include "tensor/matrix.h"

enum { RM_MATRIX_PARTS = 4 };

typedef enum {
    RM_PART_ROWS, /* float32, f16 or bf16 rows where they lie; float32 arithmetic */
    RM_PART_BF16, /* bf16 rows where they lie; bf16 products */
    RM_PART_DEQUANT, /* rows of any type, made float32 tile by tile */
    RM_PART_PACKED /* a form of kern/form.h in memory of its own */
} rm_part_kind;

typedef struct {
    rm_part_kind kind;
    rm_dtype dtype;
    rm_wtype wtype; /* ROWS */
    rm_form form; /* PACKED */
    int n_out;
    const uint8_t *data; /* rows as stored; NULL for PACKED */
    size_t row_bytes;
    uint8_t *packed;
    size_t group_bytes;
} rm_part;

struct rm_matrix {
    const rm_kern *kern;
    int n_in, n_out, n_part;
    rm_part part[RM_MATRIX_PARTS];
};

/* Columns c .. c + n_c of the rows row .. row + n of one part as float32 [n, n_c]; c is a multiple of 256, n_c too unless the row ends there. */
void rm_part_columns(const rm_matrix *w, const rm_part *p, int row, int n, size_t c, size_t n_c, float *out);

#endif
