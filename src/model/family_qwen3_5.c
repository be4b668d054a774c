/* Qwen3.5 dense, the text part: three layers with the gated delta rule, then one with gated attention. */
#include "model/family.h"

static rmas_status plan_delta(rm_delta_plan *d, const rm_source *s, rmas_error *err) {
    enum { MAX_HEADS = 1 << 14, MAX_DIM = 1 << 12 };
    RM_TRY(rm_source_int(s, "linear_num_key_heads", "ssm.group_count", 1, MAX_HEADS, 16, &d->n_key, err));
    RM_TRY(rm_source_int(s, "linear_num_value_heads", "ssm.time_step_rank", 1, MAX_HEADS, 32, &d->n_value, err));
    RM_TRY(rm_source_int(s, "linear_key_head_dim", "ssm.state_size", 1, MAX_DIM, 128, &d->d_key, err));
    RM_TRY(rm_source_int(s, "linear_conv_kernel_dim", "ssm.conv_kernel", 1, 64, 4, &d->n_tap, err));
    if (rm_source_is_gguf(s)) { /* only the product is stored */
        int inner = 0;
        RM_TRY(rm_source_int(s, NULL, "ssm.inner_size", 1, (int64_t)MAX_HEADS * MAX_DIM, 0, &inner, err));
        if (inner % d->n_value || inner / d->n_value > MAX_DIM)
            return rm_fail(err, RMAS_E_FORMAT, "%s: ssm.inner_size %d is not %d heads of at most %d elements", s->path, inner, d->n_value, MAX_DIM);
        d->d_value = inner / d->n_value;
        d->key_modulo = true;
    } else
        RM_TRY(rm_source_int(s, "linear_value_head_dim", NULL, 1, MAX_DIM, 128, &d->d_value, err));
    if (d->n_value % d->n_key)
        return rm_fail(err, RMAS_E_FORMAT, "%s: %d value heads of the delta rule do not share %d key heads evenly", s->path, d->n_value, d->n_key);
    return RMAS_OK;
}

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    int interval;
    c->qk_norm = true;
    c->norm_one_plus = c->delta_a_is_log = !rm_source_is_gguf(s); /* the converter adds the one, and stores -exp(A_log) */
    RM_TRY(rm_source_bool(s, "attn_output_gate", true, &c->attn_gate, err));
    RM_TRY(rm_source_bool(s, "attention_bias", false, &c->qkv_bias, err));
    c->o_bias = c->qkv_bias;
    RM_TRY(plan_delta(&c->delta, s, err));
    RM_TRY(rm_source_int(s, "full_attention_interval", "full_attention_interval", 1, 1 << 20, 4, &interval, err));
    for (int i = 0; i < c->n_layer; i++) c->layer[i] = (i + 1) % interval == 0 ? RM_LAYER_FULL : RM_LAYER_LINEAR;
    return RMAS_OK;
}

const rm_family rm_family_qwen3_5 = {
    .model_type = {"qwen3_5_text", "qwen3_5"},
    .arch = "qwen35",
    .base = {.norm_eps = 1e-6f,
             .d_model = 4096,
             .n_layer = 32,
             .n_head = 16,
             .n_kv = 4,
             .d_head = 256,
             .d_ff = 12288,
             .n_vocab = 248320,
             .n_ctx_train = 32768},
    .rope_theta = 1e4,
    .rope_part = 0.25,
    .rename = {{RM_T_MLP_NORM, "post_attention_layernorm", "post_attention_norm"}},
    .plan = plan,
};
