/* Mistral 7B and its fine-tunes: a Llama with a window on every layer. GGUF calls it llama and does not keep the window. */
#include "model/family.h"

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    RM_TRY(rm_source_window(s, 4096, &c->window, err));
    for (int i = 0; c->window && i < c->n_layer; i++) c->layer[i] = RM_LAYER_SLIDING;
    return RMAS_OK;
}

const rm_family rm_family_mistral = {
    .model_type = {"mistral"},
    .base = {.norm_eps = 1e-6f, .n_kv = 8, .n_ctx_train = 131072},
    .rope_theta = 1e4,
    .plan = plan,
};
