/* Qwen2.5, DeepSeek-R1-Distill-Qwen: biases on q, k and v. */
#include "model/family.h"

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    c->qkv_bias = true;
    return rm_plan_window_by_flag(c, s, err);
}

const rm_family rm_family_qwen2 = {
    .model_type = {"qwen2"},
    .arch = "qwen2",
    .base = {.norm_eps = 1e-6f, .n_ctx_train = 32768},
    .rope_theta = 1e4,
    .plan = plan,
};
