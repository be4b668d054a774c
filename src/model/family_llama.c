/* Llama 3, SmolLM2 and whatever else is a Llama. */
#include "model/family.h"

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    c->rope_adjacent = rm_source_is_gguf(s); /* the converter permutes the rows of q and k */
    RM_TRY(rm_source_bool(s, "attention_bias", false, &c->qkv_bias, err));
    c->o_bias = c->qkv_bias;
    return rm_source_bool(s, "mlp_bias", false, &c->mlp_bias, err);
}

const rm_family rm_family_llama = {
    .model_type = {"llama"},
    .arch = "llama",
    .base = {.norm_eps = 1e-6f, .n_ctx_train = 2048},
    .rope_theta = 1e4,
    .plan = plan,
};
