/* Rows of activations in 8 bits, in tiles (kern/form.h): for products with quantised weights. */
#ifndef RM_TENSOR_ROWS8_H
#define RM_TENSOR_ROWS8_H

#include "kern/kern.h"
#include "tensor/exec.h"

/* Rows are cut into nearly equal tiles of RM_QROWS at most. */
typedef struct {
    const uint8_t *q; /* scratch of the engine: until its next product */
    int n_row, n_block;
} rm_rows8;

static inline int rm_rows8_tiles(const rm_rows8 *r) { return (r->n_row + RM_QROWS - 1) / RM_QROWS; }
/* The first row of a tile; n_row for the one past the last. */
static inline int rm_rows8_first(const rm_rows8 *r, int tile) { return (int)((int64_t)tile * r->n_row / rm_rows8_tiles(r)); }
static inline const uint8_t *rm_rows8_at(const rm_rows8 *r, int tile, int block) {
    int i = rm_rows8_first(r, tile), n = rm_rows8_first(r, tile + 1) - i;
    return r->q + ((size_t)i * (size_t)r->n_block + (size_t)n * (size_t)block) * RM_QX_ROW;
}

typedef void (*rm_quant_fn)(uint8_t *tile, const float *x, size_t ldx, int n_row, size_t n); /* q_quant of a table, or q_quant_turned */

/* From rows of n floats, ldx apart, with zeros up to whole blocks. Uses all threads. false: out of memory. */
bool rm_rows8_make(rm_rows8 *out, rm_exec *e, rm_quant_fn quant, const float *x, size_t ldx, int n_row, int n);

#endif
