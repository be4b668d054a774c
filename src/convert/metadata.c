/* config.json as GGUF metadata. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "convert/internal.h"
#include "util/mem.h"

typedef struct {
    rm_conversion *c;
    const char *arch;
    char key[96];
} writer;

static const char *key(writer *w, const char *name) {
    snprintf(w->key, sizeof w->key, "%s.%s", w->arch, name);
    return w->key;
}

static void u32(writer *w, const char *name, int v) { rm_gguf_put_u32(&w->c->meta, key(w, name), (uint32_t)v); }
static void f32(writer *w, const char *name, double v) { rm_gguf_put_f32(&w->c->meta, key(w, name), (float)v); }
static void text(rm_conversion *c, const char *k, const char *v) { rm_gguf_put_str(&c->meta, k, v, strlen(v)); }

static rmas_status put_rope(writer *w) {
    const rm_rope *r = &w->c->cfg.rope[RM_LAYER_FULL];
    const rm_rope_spec *p = &r->spec;
    f32(w, "rope.freq_base", p->theta);
    if (p->scaling == RM_ROPE_LINEAR || p->scaling == RM_ROPE_YARN) { /* llama3 is a tensor */
        text(w->c, key(w, "rope.scaling.type"), p->scaling == RM_ROPE_YARN ? "yarn" : "linear");
        f32(w, "rope.scaling.factor", p->factor);
    }
    if (p->scaling == RM_ROPE_YARN) {
        if (p->untruncated) return rm_fail(w->c->err, RMAS_E_UNSUPPORTED, "%s: yarn with truncate false cannot be said in GGUF", w->c->path);
        if (p->original != floor(p->original) || p->original > INT32_MAX)
            return rm_fail(w->c->err, RMAS_E_UNSUPPORTED, "%s: an original length of %g cannot be said in GGUF", w->c->path, p->original);
        double beside = (double)r->scale / rm_rope_yarn_scale(p->factor, 1); /* the usual one goes without saying */
        u32(w, "rope.scaling.original_context_length", (int)p->original);
        f32(w, "rope.scaling.yarn_beta_fast", p->beta_fast);
        f32(w, "rope.scaling.yarn_beta_slow", p->beta_slow);
        if (fabs(beside - 1) > 1e-6) f32(w, "rope.scaling.attn_factor", beside);
    }
    if (strcmp(w->arch, "qwen2") != 0 && strcmp(w->arch, "qwen3") != 0 && strcmp(w->arch, "gemma3") != 0) u32(w, "rope.dimension_count", r->n_rot);
    return RMAS_OK;
}

/* llama.cpp leaves out the rotation of every fourth layer. */
static rmas_status check_smollm3(writer *w) {
    const rm_config *cfg = &w->c->cfg;
    for (int i = 0; i < cfg->n_layer; i++)
        if (cfg->unrotated[i] != ((i + 1) % 4 == 0))
            return rm_fail(w->c->err, RMAS_E_UNSUPPORTED, "%s: GGUF cannot say which layers rotate unless every fourth does not (layer %d)",
                           w->c->path, i);
    return RMAS_OK;
}

static rmas_status put_gemma3(writer *w) {
    const rm_config *cfg = &w->c->cfg;
    for (int i = 0; cfg->window && i < cfg->n_layer; i++)
        if (cfg->layer[i] != ((i + 1) % 6 == 0 ? RM_LAYER_FULL : RM_LAYER_SLIDING))
            return rm_fail(w->c->err, RMAS_E_UNSUPPORTED, "%s: GGUF cannot say which layers slide unless every sixth is full (layer %d)", w->c->path,
                           i);
    if (cfg->rope[RM_LAYER_FULL].spec.scaling == RM_ROPE_LLAMA3 || cfg->rope[RM_LAYER_SLIDING].spec.scaling != RM_ROPE_PLAIN)
        return rm_fail(w->c->err, RMAS_E_UNSUPPORTED, "%s: in GGUF no layers of %s have llama3 scaling, and sliding ones none", w->c->path, w->arch);
    f32(w, "rope.freq_base_swa", cfg->rope[RM_LAYER_SLIDING].spec.theta);
    if (cfg->window) u32(w, "attention.sliding_window", cfg->window); /* without one all layers are full */
    if (cfg->logit_softcap > 0) f32(w, "final_logit_softcapping", (double)cfg->logit_softcap);
    return RMAS_OK;
}

static rmas_status put_qwen35(writer *w) {
    rm_conversion *c = w->c;
    const rm_config *cfg = &c->cfg;
    const rm_delta_plan *d = &cfg->delta;
    if (!cfg->attn_gate) return rm_fail(c->err, RMAS_E_UNSUPPORTED, "%s: attn_output_gate false cannot be said in GGUF", c->path);
    u32(w, "ssm.conv_kernel", d->n_tap);
    u32(w, "ssm.state_size", d->d_key);
    u32(w, "ssm.group_count", d->n_key);
    u32(w, "ssm.time_step_rank", d->n_value);
    u32(w, "ssm.inner_size", d->n_value * d->d_value);
    int interval = 0;
    bool *recurrent = rm_array((size_t)cfg->n_layer, sizeof *recurrent);
    if (!recurrent) return rm_convert_nomem(c);
    for (int i = 0; i < cfg->n_layer; i++) {
        recurrent[i] = cfg->layer[i] == RM_LAYER_LINEAR;
        if (!recurrent[i] && !interval) interval = i + 1;
    }
    rm_gguf_put_bools(&c->meta, key(w, "attention.recurrent_layers"), recurrent, (size_t)cfg->n_layer);
    rm_free(recurrent);
    u32(w, "full_attention_interval", interval ? interval : cfg->n_layer + 1);
    int32_t section[4] = {0};
    json_t *p = json_object_get(c->text, "rope_parameters"), *s = json_is_object(p) ? json_object_get(p, "mrope_section") : NULL;
    for (size_t i = 0; i < 4; i++) section[i] = (int32_t)json_integer_value(json_array_get(s, i));
    if (!json_is_array(s)) section[0] = cfg->rope[RM_LAYER_FULL].n_rot / 2;
    rm_gguf_put_i32s(&c->meta, key(w, "rope.dimension_sections"), section, 4);
    return RMAS_OK;
}

rmas_status rm_convert_metadata(rm_conversion *c) {
    const rm_config *cfg = &c->cfg;
    writer w = {.c = c, .arch = c->family->arch ? c->family->arch : "llama"};
    const char *slash = strrchr(c->path, '/'), *name = slash && slash[1] ? slash + 1 : c->path;
    text(c, "general.architecture", w.arch);
    text(c, "general.type", "model");
    text(c, "general.name", name);
    u32(&w, "block_count", cfg->n_layer);
    u32(&w, "context_length", cfg->n_ctx_train);
    u32(&w, "embedding_length", cfg->d_model);
    u32(&w, "feed_forward_length", cfg->d_ff);
    u32(&w, "attention.head_count", cfg->n_head);
    u32(&w, "attention.head_count_kv", cfg->n_kv);
    u32(&w, "attention.key_length", cfg->d_head);
    u32(&w, "attention.value_length", cfg->d_head);
    f32(&w, "attention.layer_norm_rms_epsilon", (double)cfg->norm_eps);
    u32(&w, "vocab_size", cfg->n_vocab);
    RM_TRY(put_rope(&w));
    if (!strcmp(w.arch, "gemma3")) return put_gemma3(&w);
    if (!strcmp(w.arch, "qwen35")) return put_qwen35(&w);
    if (!strcmp(w.arch, "smollm3")) RM_TRY(check_smollm3(&w));
    if (cfg->window) {
        if (c->family->arch)
            return rm_fail(c->err, RMAS_E_UNSUPPORTED, "%s: sliding layers cannot be said in a GGUF file of architecture %s", c->path, w.arch);
        char note[128];
        snprintf(note, sizeof note, "GGUF does not keep the attention window of %d positions: longer texts are attended in full", cfg->window);
        rm_convert_note(c, note);
    }
    return RMAS_OK;
}
