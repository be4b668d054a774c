/* A frozen language model: configuration, weights bound to a layer plan. Read-only after opening, shared by sequences. */
#ifndef RM_MODEL_MODEL_H
#define RM_MODEL_MODEL_H

#include "model/config.h"
#include "tensor/exec.h"
#include "tensor/matrix.h"
#include "util/error.h"
#include "weights/weights.h"

typedef struct rm_model rm_model;

/* path: a Hugging Face folder (config.json, safetensors) or a .gguf file. */
rmas_status rm_model_open(rm_model **out, rm_exec *e, const char *path, rm_precision p, rmas_error *err);
void rm_model_close(rm_model *m);
const rm_config *rm_model_config(const rm_model *m);
rm_exec *rm_model_exec(const rm_model *m);
const rm_weights *rm_model_weights(const rm_model *m);
rm_dtype rm_model_dtype(const rm_model *m); /* as stored: the dtype of the embedding */
size_t rm_model_bytes(const rm_model *m); /* weights in memory, mapped or packed */

/* The input embeddings of tokens, as the first layer sees them (Gemma's factor included): out [n, d_model].
 * RMAS_E_ARG for an id outside the vocabulary. */
rmas_status rm_model_embed(const rm_model *m, const int32_t *id, int n, float *out, rmas_error *err);
/* Gives back the file's pages that look-ups have touched, if nothing else needs them. */
void rm_model_embed_done(const rm_model *m);

#endif
