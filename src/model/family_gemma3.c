/* Gemma 3, the text part: sliding and full layers with rotary tables of their own, four norms per layer, scaled embeddings. */
#include "model/family.h"

#include <math.h>

/* GGUF does not keep query_pre_attn_scalar. llama.cpp tells the one size in which it is not d_head by the layers. */
int rm_gemma3_gguf_scalar(const rm_config *c) { return c->n_layer == 62 ? c->d_model / c->n_head : c->d_head; }

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    bool gguf = rm_source_is_gguf(s);
    int pattern = 6;
    float scalar;
    c->qk_norm = c->post_norm = true;
    c->norm_one_plus = !gguf; /* the converter adds the one */
    c->act = RM_ACT_GELU_TANH;
    c->embed_scale = sqrtf((float)c->d_model);
    RM_TRY(rm_source_bool(s, "attention_bias", false, &c->qkv_bias, err));
    c->o_bias = c->qkv_bias;
    RM_TRY(rm_source_int(s, "_sliding_window_pattern", NULL, 1, 1 << 20, pattern, &pattern, err));
    RM_TRY(rm_source_int(s, "sliding_window_pattern", NULL, 1, 1 << 20, pattern, &pattern, err));
    RM_TRY(rm_source_int(s, "sliding_window", "attention.sliding_window", gguf ? 0 : 1, INT32_MAX, gguf ? 0 : 4096, &c->window, err));
    RM_TRY(rm_source_float(s, "query_pre_attn_scalar", NULL, 1e-6, 1e9, gguf ? rm_gemma3_gguf_scalar(c) : 256, &scalar, err));
    bool both_ways;
    RM_TRY(rm_source_bool(s, "use_bidirectional_attention", false, &both_ways, err));
    if (both_ways) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: use_bidirectional_attention is not supported (an embedding model has it)", s->path);
    if (rm_source_has(s, "attn_logit_softcapping"))
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: attn_logit_softcapping is not supported (no Gemma 3 has it)", s->path);
    RM_TRY(rm_source_float(s, "final_logit_softcapping", "final_logit_softcapping", 0, 1e9, 0, &c->logit_softcap, err));
    c->attn_scale = (float)(1 / sqrt((double)scalar));
    for (int i = 0; i < c->n_layer; i++) c->layer[i] = (i + 1) % pattern == 0 || !c->window ? RM_LAYER_FULL : RM_LAYER_SLIDING;
    return rm_source_sliding_rope(s, c, "rope_local_base_freq", "rope.freq_base_swa", 1e4, err);
}

const rm_family rm_family_gemma3 = {
    .model_type = {"gemma3_text", "gemma3"},
    .arch = "gemma3",
    .base = {.norm_eps = 1e-6f,
             .d_model = 2304,
             .n_layer = 26,
             .n_head = 8,
             .n_kv = 4,
             .d_head = 256,
             .d_ff = 9216,
             .n_vocab = 262208,
             .n_ctx_train = 131072,
             .tied = true},
    .rope_theta = 1e6,
    .rename = {{RM_T_POST_ATTN_NORM, "post_attention_layernorm", "post_attention_norm"},
               {RM_T_MLP_NORM, "pre_feedforward_layernorm", "ffn_norm"},
               {RM_T_POST_MLP_NORM, "post_feedforward_layernorm", "post_ffw_norm"}},
    .plan = plan,
};
