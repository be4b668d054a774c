/* Turning a model into a GGUF file that llama.cpp and this engine load: names, value changes, metadata, tokenizer, types. */
#ifndef RM_CONVERT_CONVERT_H
#define RM_CONVERT_CONVERT_H

#include "tensor/dtype.h"
#include "util/error.h"
#include "util/pool.h"

typedef struct {
    int n_tensor;
    uint64_t n_bytes_in, n_bytes_out; /* of tensor data */
    char note[400]; /* what GGUF cannot say about this model; "" if nothing */
} rm_convert_report;

/* model: a Hugging Face folder or a .gguf file. type: of the weight matrices: F32, BF16, F16, Q8_0, Q6_K, Q4_K or Q4_0; embeddings and
 * the LM head get more bits with the 4-bit types, norms and other small tensors stay F32, rows that are no multiple of 256 (32) elements get
 * Q5_0 or Q8_0 (F16). */
rmas_status rm_convert_gguf(const char *out, const char *model, rm_dtype type, rm_pool *pool, rm_convert_report *report, rmas_error *err);
bool rm_convert_type(const char *name, rm_dtype *out); /* "q4_k" ... */

#endif
