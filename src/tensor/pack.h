/* From the blocks of GGUF files to the packed forms of kern/form.h. */
#ifndef RM_TENSOR_PACK_H
#define RM_TENSOR_PACK_H

#include "kern/form.h"
#include "tensor/dtype.h"

/* The form of a type; false if it is not multiplied in 8 bits. */
bool rm_pack_form(rm_dtype t, rm_form *form);
/* One group of RM_GROUP rows, the first n_valid of which exist; rows are row_bytes apart and n_block * 32 elements long. */
void rm_pack_group(rm_form form, uint8_t *group, const uint8_t *rows, size_t row_bytes, int n_valid, int n_block);

#endif
