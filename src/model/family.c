/* The table of families and of the names that most of them share. */
#include "model/family.h"

#include <string.h>

#include "util/mem.h"

static const rm_family *const families[] = {
    &rm_family_llama, &rm_family_mistral, &rm_family_qwen2, &rm_family_qwen3, &rm_family_gemma3, &rm_family_qwen3_5, &rm_family_smollm3,
};

static const rm_tensor_name usual[RM_T_COUNT] = {
    {RM_T_EMBED, "embed_tokens", "token_embd"},
    {RM_T_OUT_NORM, "norm", "output_norm"},
    {RM_T_HEAD, "lm_head", "output"},
    {RM_T_ATTN_NORM, "input_layernorm", "attn_norm"},
    {RM_T_POST_ATTN_NORM, NULL, NULL},
    {RM_T_MLP_NORM, "post_attention_layernorm", "ffn_norm"},
    {RM_T_POST_MLP_NORM, NULL, NULL},
    {RM_T_Q, "self_attn.q_proj", "attn_q"},
    {RM_T_K, "self_attn.k_proj", "attn_k"},
    {RM_T_V, "self_attn.v_proj", "attn_v"},
    {RM_T_O, "self_attn.o_proj", "attn_output"},
    {RM_T_Q_NORM, "self_attn.q_norm", "attn_q_norm"},
    {RM_T_K_NORM, "self_attn.k_norm", "attn_k_norm"},
    {RM_T_GATE, "mlp.gate_proj", "ffn_gate"},
    {RM_T_UP, "mlp.up_proj", "ffn_up"},
    {RM_T_DOWN, "mlp.down_proj", "ffn_down"},
    {RM_T_DELTA_QKV, "linear_attn.in_proj_qkv", "attn_qkv"},
    {RM_T_DELTA_Z, "linear_attn.in_proj_z", "attn_gate"},
    {RM_T_DELTA_B, "linear_attn.in_proj_b", "ssm_beta"},
    {RM_T_DELTA_A, "linear_attn.in_proj_a", "ssm_alpha"},
    {RM_T_DELTA_CONV, "linear_attn.conv1d", "ssm_conv1d"},
    {RM_T_DELTA_DT, "linear_attn.dt_bias.", "ssm_dt.bias."},
    {RM_T_DELTA_A_LOG, "linear_attn.A_log.", "ssm_a."},
    {RM_T_DELTA_NORM, "linear_attn.norm", "ssm_norm"},
    {RM_T_DELTA_OUT, "linear_attn.out_proj", "ssm_out"},
};

const char *rm_family_tensor(const rm_family *f, rm_tensor_role role, bool gguf) {
    for (const rm_tensor_name *n = f->rename; n < f->rename + RM_COUNT(f->rename) && n->hf; n++)
        if (n->role == role) return gguf ? n->gguf : n->hf;
    return gguf ? usual[role].gguf : usual[role].hf;
}

const rm_family *rm_family_find(const char *name, size_t n, bool gguf) {
    for (size_t i = 0; i < RM_COUNT(families); i++) {
        const rm_family *f = families[i];
        const char *known[2] = {gguf ? f->arch : f->model_type[0], gguf ? NULL : f->model_type[1]};
        for (int k = 0; k < 2; k++)
            if (known[k] && strlen(known[k]) == n && memcmp(known[k], name, n) == 0) return f;
    }
    return NULL;
}

const char *rm_family_names(bool gguf) {
    return gguf ? "llama, qwen2, qwen3, gemma3, qwen35, smollm3" : "llama, mistral, qwen2, qwen3, gemma3, qwen3_5, smollm3";
}
