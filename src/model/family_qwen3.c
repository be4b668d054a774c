/* Qwen3 dense: norms on the heads of q and k. */
#include "model/family.h"

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    c->qk_norm = true;
    RM_TRY(rm_source_bool(s, "attention_bias", false, &c->qkv_bias, err));
    c->o_bias = c->qkv_bias;
    return rm_plan_window_by_flag(c, s, err);
}

const rm_family rm_family_qwen3 = {
    .model_type = {"qwen3"},
    .arch = "qwen3",
    .base = {.norm_eps = 1e-6f, .d_head = 128, .n_ctx_train = 32768},
    .rope_theta = 1e4,
    .plan = plan,
};
