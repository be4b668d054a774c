/* What a model is, from config.json or GGUF metadata, as one layer plan that the forward walk follows. */
#ifndef RM_MODEL_CONFIG_H
#define RM_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char model_type[32]; /* of the text part: "qwen3", "gemma3_text", "qwen3_5_text" ... */
    int n_layer, n_head, n_kv, d_model, d_head, d_ff, n_vocab, n_ctx_train;
    float norm_eps;
    bool tied; /* the LM head is the embedding matrix */
    /* the model module adds: layer plan, rope tables, attention scale, delta-rule sizes ... */
} rm_config;

#endif
