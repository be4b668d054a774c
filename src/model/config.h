/* What a model is, from config.json or GGUF metadata, as one layer plan that the forward walk follows.
 *
 * A family (family_NAME.c) fills the plan; the walk reads only the plan. So a field here says what is computed, never which
 * family it is for. Norm weights are not in the plan: binding turns "w", "1 + w" and what GGUF stores into one factor. */
#ifndef RM_MODEL_CONFIG_H
#define RM_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

typedef enum { RM_LAYER_FULL, RM_LAYER_SLIDING, RM_LAYER_LINEAR, RM_LAYER_KINDS } rm_layer_kind; /* linear: gated delta rule */
typedef enum { RM_ACT_SILU, RM_ACT_GELU_TANH } rm_act;

typedef enum { RM_ROPE_PLAIN, RM_ROPE_LINEAR, RM_ROPE_LLAMA3, RM_ROPE_YARN } rm_rope_scaling;

/* What the file says about a rotary table. */
typedef struct {
    rm_rope_scaling scaling;
    double theta, part; /* the base; part of a head that is rotated */
    double factor, original; /* scaling: by how much, and the length that the model was first trained for */
    double low, high; /* llama3 */
    double beta_fast, beta_slow, attention, mscale, mscale_all; /* yarn; attention 0: by the others */
    bool untruncated; /* yarn: the ramp's ends are not rounded to whole frequencies */
} rm_rope_spec;

typedef struct {
    int n_rot; /* elements of a head that are rotated, the first ones; 0: this kind of layer has no table */
    float *inv_freq; /* [n_rot / 2], scaling included; owned */
    float scale; /* factor on cosines and sines: 1, but for yarn */
    rm_rope_spec spec;
} rm_rope;

typedef struct {
    int n_key, n_value; /* heads */
    int d_key, d_value; /* elements of a head */
    int n_tap; /* of the causal convolution */
    bool key_modulo; /* value head n uses key head n % n_key (GGUF order); else n / (n_value / n_key) */
} rm_delta_plan;

typedef struct {
    char model_type[32]; /* of the text part: "qwen3", "gemma3_text", "qwen3_5_text" ... */
    int n_layer, n_head, n_kv, d_model, d_head, d_ff, n_vocab, n_ctx_train;
    float norm_eps;
    bool tied; /* the LM head is the embedding matrix */

    uint8_t *layer; /* [n_layer] rm_layer_kind; owned */
    int window; /* of sliding layers: a query sees itself and window - 1 positions before it; 0 if no layer slides */
    rm_rope rope[2]; /* by kind: full, sliding */
    bool *unrotated; /* [n_layer]: layers that do not rotate queries and keys; NULL: all do. Owned */
    bool rope_adjacent; /* pairs are (2j, 2j + 1), as GGUF stores llama; else (j, j + n_rot / 2) */
    float attn_scale, logit_softcap; /* cap: 0 for none */
    float embed_scale; /* factor on token embeddings, 0 for none */
    bool qkv_bias, o_bias, mlp_bias, qk_norm;
    bool attn_gate; /* each query head is followed by as many gate values: output times sigmoid(gate) */
    bool post_norm; /* norms on the outputs of attention and MLP, before the residual sum */
    rm_act act;
    rm_delta_plan delta; /* n_value 0 if no layer is linear */

    /* how the weights are stored */
    bool norm_one_plus; /* norm weights are stored as w where 1 + w is meant (but never the norm of the delta rule) */
    bool delta_a_is_log; /* A_log is stored; else -exp(A_log) */
} rm_config;

/* Reads a config.json, or the one inside a folder. *c is filled by the call; rm_config_free releases it. */
rmas_status rm_config_read(rm_config *c, const char *path, rmas_error *err);
void rm_config_free(rm_config *c);

/* The rotary table of a layer with attention; n_rot 0: nothing is rotated. */
const rm_rope *rm_config_rope(const rm_config *c, int il);

/* Elements of a row of the fused projections and of their parts. */
static inline int rm_config_q_dim(const rm_config *c) { return c->n_head * c->d_head; }
static inline int rm_config_kv_dim(const rm_config *c) { return c->n_kv * c->d_head; }
static inline int rm_config_q_stride(const rm_config *c) { return c->attn_gate ? 2 * c->d_head : c->d_head; } /* from query head to query head */
static inline int rm_config_qkv_dim(const rm_config *c) { return c->n_head * rm_config_q_stride(c) + 2 * rm_config_kv_dim(c); }
static inline int rm_delta_key_head(const rm_delta_plan *d, int ih) { return d->key_modulo ? ih % d->n_key : ih / (d->n_value / d->n_key); }
static inline int rm_delta_conv_dim(const rm_delta_plan *d) { return 2 * d->n_key * d->d_key + d->n_value * d->d_value; }
static inline int rm_delta_value_dim(const rm_delta_plan *d) { return d->n_value * d->d_value; }
static inline int rm_delta_in_dim(const rm_delta_plan *d) { return rm_delta_conv_dim(d) + rm_delta_value_dim(d) + 2 * d->n_value; }

#endif
