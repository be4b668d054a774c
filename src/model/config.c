/* From a file to a plan: what all families share. Limits keep every later product of two sizes inside an int. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/file.h"
#include "util/mem.h"

enum {
    MAX_LAYER = 4096,
    MAX_HEAD = 1 << 14,
    MAX_D_HEAD = 1 << 12,
    MAX_D_MODEL = 1 << 20,
    MAX_D_FF = 1 << 24,
    MAX_VOCAB = 1 << 26,
    MAX_CONFIG_BYTES = 16 << 20
};

void rm_config_free(rm_config *c) {
    rm_free(c->layer);
    rm_free(c->unrotated);
    rm_free(c->rope[0].inv_freq);
    rm_free(c->rope[1].inv_freq);
    memset(c, 0, sizeof *c);
}

const rm_rope *rm_config_rope(const rm_config *c, int il) {
    static const rm_rope none;
    return c->unrotated && c->unrotated[il] ? &none : &c->rope[c->layer[il]];
}

static rmas_status read_sizes(rm_config *c, const rm_family *f, const rm_source *s, rmas_error *err) {
    const rm_config *b = &f->base;
    int extra = 0;
    RM_TRY(rm_source_int(s, "num_hidden_layers", "block_count", 1, MAX_LAYER, b->n_layer, &c->n_layer, err));
    RM_TRY(rm_source_int(s, NULL, "nextn_predict_layers", 0, MAX_LAYER, 0, &extra, err)); /* heads for speculation, at the end */
    if (extra >= c->n_layer) return rm_fail(err, RMAS_E_FORMAT, "%s: %d of %d blocks are nextn blocks", s->path, extra, c->n_layer);
    c->n_layer -= extra;
    RM_TRY(rm_source_int(s, "hidden_size", "embedding_length", 1, MAX_D_MODEL, b->d_model, &c->d_model, err));
    RM_TRY(rm_source_int(s, "intermediate_size", "feed_forward_length", 1, MAX_D_FF, b->d_ff, &c->d_ff, err));
    RM_TRY(rm_source_int(s, "num_attention_heads", "attention.head_count", 1, MAX_HEAD, b->n_head, &c->n_head, err));
    RM_TRY(rm_source_int(s, "num_key_value_heads", "attention.head_count_kv", 1, MAX_HEAD, b->n_kv && s->root ? b->n_kv : c->n_head, &c->n_kv, err));
    if (c->n_head % c->n_kv)
        return rm_fail(err, RMAS_E_FORMAT, "%s: %d attention heads do not share %d key/value heads evenly", s->path, c->n_head, c->n_kv);
    RM_TRY(rm_source_int(s, "head_dim", "attention.key_length", 1, MAX_D_HEAD, b->d_head && s->root ? b->d_head : c->d_model / c->n_head, &c->d_head,
                         err));
    RM_TRY(rm_source_int(s, "max_position_embeddings", "context_length", 1, INT32_MAX, b->n_ctx_train, &c->n_ctx_train, err));
    RM_TRY(rm_source_float(s, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 0, 1, b->norm_eps, &c->norm_eps, err));
    if (s->gguf) { /* the embedding's rows count, see binding */
        int d_value;
        RM_TRY(rm_source_int(s, NULL, "attention.value_length", 1, MAX_D_HEAD, c->d_head, &d_value, err));
        if (d_value != c->d_head)
            return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: keys of %d and values of %d elements are not supported", s->path, c->d_head, d_value);
        return rm_source_int(s, NULL, "vocab_size", 0, MAX_VOCAB, 0, &c->n_vocab, err);
    }
    RM_TRY(rm_source_int(s, "vocab_size", NULL, 1, MAX_VOCAB, b->n_vocab, &c->n_vocab, err));
    return rm_source_bool(s, "tie_word_embeddings", b->tied, &c->tied, err);
}

/* layer_types of config.json, recurrent_layers of GGUF: the file's word on each layer. */
static rmas_status read_layer_kinds(rm_config *c, const rm_source *s, rmas_error *err) {
    static const char *const name[RM_LAYER_KINDS] = {"full_attention", "sliding_attention", "linear_attention"};
    char key[160];
    const json_t *list = s->root ? json_object_get(s->text, "layer_types") : NULL;
    if (list && !json_is_null(list)) {
        if (!json_is_array(list) || json_array_size(list) != (size_t)c->n_layer)
            return rm_fail(err, RMAS_E_FORMAT, "%s: layer_types is not an array of %d strings", s->path, c->n_layer);
        for (int i = 0; i < c->n_layer; i++) {
            const char *t = json_string_value(json_array_get(list, (size_t)i));
            int k = 0;
            while (k < RM_LAYER_KINDS && (!t || strcmp(t, name[k]))) k++;
            if (k == RM_LAYER_KINDS)
                return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: layer_types[%d] is \"%.40s\"", s->path, i, t ? t : "(not a string)");
            c->layer[i] = (uint8_t)k;
        }
    }
    if (s->gguf && snprintf(key, sizeof key, "%s.attention.recurrent_layers", s->arch) < (int)sizeof key) {
        int64_t n = rm_gguf_array_len(s->gguf, key), v;
        if (n >= 0 && n < c->n_layer)
            return rm_fail(err, RMAS_E_FORMAT, "%s: %s has %lld values for %d layers", s->path, key, (long long)n, c->n_layer);
        for (int i = 0; i < c->n_layer && i < n; i++)
            if (rm_gguf_array_int(s->gguf, key, i, &v)) c->layer[i] = v ? RM_LAYER_LINEAR : RM_LAYER_FULL;
    }
    bool slides = false;
    for (int i = 0; i < c->n_layer; i++) {
        slides |= c->layer[i] == RM_LAYER_SLIDING;
        if (c->layer[i] == RM_LAYER_SLIDING && c->window < 1)
            return rm_fail(err, RMAS_E_FORMAT, "%s: layer %d slides, but sliding_window is missing", s->path, i);
        if (c->layer[i] == RM_LAYER_LINEAR && !c->delta.n_value)
            return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: layer %d is linear_attention, which %s has not", s->path, i, c->model_type);
    }
    if (!slides) c->window = 0;
    return RMAS_OK;
}

/* The activation is checked only where the file names one. */
static rmas_status check_activation(const rm_config *c, const rm_source *s, rmas_error *err) {
    static const char *const key[] = {"hidden_act", "hidden_activation"};
    const char *want = c->act == RM_ACT_SILU ? "silu" : "gelu_pytorch_tanh";
    for (size_t i = 0; i < RM_COUNT(key) && s->root; i++) {
        const char *v = json_string_value(json_object_get(s->text, key[i]));
        bool other_name = v && c->act == RM_ACT_SILU && strcmp(v, "swish") == 0;
        if (v && strcmp(v, want) && !other_name && !(c->act == RM_ACT_GELU_TANH && i == 0))
            return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: %s \"%.40s\" is not supported for %s (%s is)", s->path, key[i], v, c->model_type, want);
    }
    return RMAS_OK;
}

rmas_status rm_plan_window_by_flag(rm_config *c, const rm_source *s, rmas_error *err) {
    bool use;
    int first;
    RM_TRY(rm_source_bool(s, "use_sliding_window", false, &use, err));
    if (!use) return RMAS_OK;
    RM_TRY(rm_source_window(s, 4096, &c->window, err));
    RM_TRY(rm_source_int(s, "max_window_layers", NULL, 0, INT32_MAX, 28, &first, err));
    for (int i = first; c->window && i < c->n_layer; i++) c->layer[i] = RM_LAYER_SLIDING;
    return RMAS_OK;
}

static rmas_status fill(rm_config *c, const rm_family *f, const rm_source *s, rmas_error *err) {
    snprintf(c->model_type, sizeof c->model_type, "%s", f->model_type[0]);
    RM_TRY(read_sizes(c, f, s, err));
    c->layer = rm_calloc((size_t)c->n_layer, 1);
    if (!c->layer) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the layer plan");
    c->attn_scale = (float)(1 / sqrt((double)c->d_head));
    RM_TRY(rm_source_rope(s, c, f->rope_theta, f->rope_part, err));
    if (f->plan) RM_TRY(f->plan(c, s, err));
    RM_TRY(read_layer_kinds(c, s, err));
    RM_TRY(check_activation(c, s, err));
    const rm_delta_plan *d = &c->delta;
    if ((int64_t)c->n_head * c->d_head > MAX_D_FF || (int64_t)d->n_value * d->d_value > MAX_D_FF || (int64_t)d->n_key * d->d_key > MAX_D_FF)
        return rm_fail(err, RMAS_E_FORMAT, "%s: the heads have more than %d elements together", s->path, MAX_D_FF);
    return RMAS_OK;
}

rmas_status rm_config_from(rm_config *c, const rm_family **family, const rm_source *s, rmas_error *err) {
    memset(c, 0, sizeof *c);
    const char *name = s->arch;
    if (s->root) {
        name = json_string_value(json_object_get(s->text, "model_type"));
        if (!name) name = json_string_value(json_object_get(s->root, "model_type"));
    }
    if (!name) return rm_fail(err, RMAS_E_FORMAT, "%s: no %s", s->path, s->root ? "model_type" : "general.architecture");
    const rm_family *f = rm_family_find(name, strlen(name), s->root == NULL);
    if (!f)
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: %s \"%.60s\" is not supported (known: %s)", s->path, s->root ? "model_type" : "architecture",
                       name, rm_family_names(s->root == NULL));
    rmas_status st = fill(c, f, s, err);
    if (st != RMAS_OK)
        rm_config_free(c);
    else if (family)
        *family = f;
    return st;
}

rmas_status rm_config_from_json(rm_config *c, const rm_family **family, const char *path, rmas_error *err) {
    char *text;
    size_t n;
    memset(c, 0, sizeof *c);
    RM_TRY(rm_file_read(&text, &n, path, MAX_CONFIG_BYTES, err));
    json_error_t why;
    json_t *root = json_loadb(text, n, 0, &why);
    rm_free(text);
    if (!root) return rm_fail(err, RMAS_E_FORMAT, "%s: line %d: %s", path, why.line, why.text);
    json_t *inner = json_object_get(root, "text_config");
    rm_source s = {.path = path, .root = root, .text = json_is_object(inner) ? inner : root};
    rmas_status st = json_is_object(root) ? rm_config_from(c, family, &s, err) : rm_fail(err, RMAS_E_FORMAT, "%s: not a JSON object", path);
    json_decref(root);
    return st;
}

rmas_status rm_config_from_gguf(rm_config *c, const rm_family **family, const rm_gguf *g, const char *path, rmas_error *err) {
    rm_span arch;
    char name[64];
    memset(c, 0, sizeof *c);
    if (!rm_gguf_str(g, "general.architecture", &arch)) return rm_fail(err, RMAS_E_FORMAT, "%s: no general.architecture", path);
    if (arch.n >= sizeof name) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: architecture name of %zu bytes", path, arch.n);
    memcpy(name, arch.s, arch.n);
    name[arch.n] = 0;
    rm_source s = {.path = path, .gguf = g, .arch = name};
    return rm_config_from(c, family, &s, err);
}

rmas_status rm_config_read(rm_config *c, const char *path, rmas_error *err) {
    memset(c, 0, sizeof *c);
    if (!rm_path_is_dir(path)) return rm_config_from_json(c, NULL, path, err);
    char *file = rm_path_join(path, "config.json");
    if (!file) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a path");
    rmas_status st = rm_config_from_json(c, NULL, file, err);
    rm_free(file);
    return st;
}
