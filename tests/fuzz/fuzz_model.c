/* Any configuration that is accepted, with weights made to fit it (nearly), and a few positions computed with the model.
 *
 * Input: a config.json, a NUL and control bytes; or the metadata of a GGUF file whose last 64 bytes are the control bytes. Every
 * tensor takes one control byte: its element type, and whether it is missing or misshapen. Each tensor is an allocation of its own,
 * so that reading over its end is seen. The kernels are the portable ones, compiled with the sanitizers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "model/layer.h"
#include "session/session.h"
#include "util/mem.h"
#include "weights/reader.h"

enum { MAX_ELEMENTS = 1 << 17, MAX_LAYERS = 8, N_CONTROL = 64 };

typedef struct {
    rm_model *m;
    bool gguf;
    const uint8_t *control;
    size_t n_control;
    int64_t n_element; /* made so far */
    void **data; /* of all tensors */
    int n_data;
} maker;

static void tensor(maker *k, rm_tensor_role role, int il, const char *suffix, int64_t rows, int64_t cols) {
    static const rm_dtype types[] = {RM_F32, RM_BF16, RM_F16, RM_Q8_0, RM_Q4_0, RM_Q4_K, RM_Q6_K, RM_I8};
    unsigned how = k->n_control ? (k->n_control--, *k->control++) : 0;
    const char *base = rm_family_tensor(k->m->family, role, k->gguf);
    if (!base || how == 255) return;
    size_t n = strlen(base);
    if (base[n - 1] == '.') n--, suffix = "";
    char name[256], place[32] = "";
    if (role >= RM_T_LAYER) snprintf(place, sizeof place, k->gguf ? "blk.%d." : "layers.%d.", il);
    snprintf(name, sizeof name, "%s%s%.*s%s", k->gguf || role == RM_T_HEAD ? "" : "model.", place, (int)n, base, suffix);
    rm_tensor t = {.dtype = types[how & 7], .n_dim = rows ? 2 : 1, .dim = {rows ? rows : cols, cols}};
    if (how >> 4 == 13) t.dim[0]++;
    if (how >> 4 == 12) t.n_dim = 3, t.dim[1] = 1, t.dim[2] = cols;
    if (how >> 4 == 14) t.dim[0] = t.dim[t.n_dim - 1], t.dim[t.n_dim - 1] = rows ? rows : cols;
    if (t.dim[t.n_dim - 1] % rm_dtype_get(t.dtype)->block_elems) t.dtype = RM_F32;
    rmas_error err;
    k->n_element += rm_tensor_count(&t);
    if (k->n_element > MAX_ELEMENTS || !rm_reader_size(t.dtype, t.dim, t.n_dim, &t.n_bytes)) return;
    uint8_t *data = malloc(t.n_bytes ? t.n_bytes : 1);
    void **p = realloc(k->data, ((size_t)k->n_data + 1) * sizeof *p);
    if (!data || !p) abort();
    k->data = p;
    k->data[k->n_data++] = data;
    uint32_t x = how * 2654435761u + 1;
    for (size_t i = 0; i < t.n_bytes; i++)
        data[i] = how & 8 ? (uint8_t)((x = x * 1664525u + 1013904223u) >> 24) : (uint8_t)(0x3c + i % 3); /* wild or tame */
    t.data = data;
    if (rm_reader_add(k->m->weights, "input", name, strlen(name), &t, &err) != RMAS_OK) abort();
}

static void projection(maker *k, rm_tensor_role role, int il, int64_t rows, int64_t cols, bool bias) {
    tensor(k, role, il, ".weight", rows, cols);
    if (bias) tensor(k, role, il, ".bias", 0, rows);
}

static void mixer(maker *k, int il) {
    const rm_config *c = &k->m->cfg;
    const rm_delta_plan *d = &c->delta;
    if (c->layer[il] == RM_LAYER_LINEAR) {
        projection(k, RM_T_DELTA_QKV, il, rm_delta_conv_dim(d), c->d_model, false);
        projection(k, RM_T_DELTA_Z, il, rm_delta_value_dim(d), c->d_model, false);
        projection(k, RM_T_DELTA_B, il, d->n_value, c->d_model, false);
        projection(k, RM_T_DELTA_A, il, d->n_value, c->d_model, false);
        projection(k, RM_T_DELTA_OUT, il, c->d_model, rm_delta_value_dim(d), false);
        tensor(k, RM_T_DELTA_CONV, il, ".weight", rm_delta_conv_dim(d), d->n_tap);
        tensor(k, RM_T_DELTA_DT, il, ".weight", 0, d->n_value);
        tensor(k, RM_T_DELTA_A_LOG, il, ".weight", 0, d->n_value);
        tensor(k, RM_T_DELTA_NORM, il, ".weight", 0, d->d_value);
        return;
    }
    projection(k, RM_T_Q, il, (int64_t)c->n_head * rm_config_q_stride(c), c->d_model, c->qkv_bias);
    projection(k, RM_T_K, il, rm_config_kv_dim(c), c->d_model, c->qkv_bias);
    projection(k, RM_T_V, il, rm_config_kv_dim(c), c->d_model, c->qkv_bias);
    projection(k, RM_T_O, il, c->d_model, rm_config_q_dim(c), c->o_bias);
    if (!c->qk_norm) return;
    tensor(k, RM_T_Q_NORM, il, ".weight", 0, c->d_head);
    tensor(k, RM_T_K_NORM, il, ".weight", 0, c->d_head);
}

static void weights(maker *k) {
    const rm_config *c = &k->m->cfg;
    projection(k, RM_T_EMBED, 0, c->n_vocab ? c->n_vocab : 5, c->d_model, false);
    tensor(k, RM_T_OUT_NORM, 0, ".weight", 0, c->d_model);
    if (!c->tied) projection(k, RM_T_HEAD, 0, c->n_vocab ? c->n_vocab : 5, c->d_model, false);
    for (int il = 0; il < c->n_layer && k->n_element <= MAX_ELEMENTS; il++) {
        static const rm_tensor_role norms[] = {RM_T_ATTN_NORM, RM_T_MLP_NORM, RM_T_POST_ATTN_NORM, RM_T_POST_MLP_NORM};
        for (int i = 0; i < (c->post_norm ? 4 : 2); i++) tensor(k, norms[i], il, ".weight", 0, c->d_model);
        mixer(k, il);
        projection(k, RM_T_GATE, il, c->d_ff, c->d_model, c->mlp_bias);
        projection(k, RM_T_UP, il, c->d_ff, c->d_model, c->mlp_bias);
        projection(k, RM_T_DOWN, il, c->d_model, c->d_ff, c->mlp_bias);
    }
}

/* Two positions, then one more. */
static void compute(const rm_model *m) {
    const int32_t token[] = {0, m->cfg.n_vocab - 1, m->cfg.n_vocab};
    rm_seq *s = NULL;
    rm_batch *b = NULL;
    rmas_error err;
    if (rm_seq_new(&s, m, &err) == RMAS_OK && rm_batch_new(&b, m, &err) == RMAS_OK) {
        const rm_feed first = {.seq = s, .n = 2, .tokens = token, .want_logits = true}, second = {.seq = s, .n = 1, .tokens = token},
                      outside = {.seq = s, .n = 1, .tokens = token + 2};
        if (rm_batch_forward(b, &first, 1, &err) != RMAS_OK) abort();
        if (rm_batch_forward(b, &second, 1, &err) != RMAS_OK) abort();
        if (rm_batch_forward(b, &outside, 1, &err) == RMAS_OK) abort();
    }
    rm_batch_free(b);
    rm_seq_free(s);
}

static bool read_config(rm_model *m, const uint8_t *data, size_t n, size_t *n_config) {
    rmas_error err;
    const uint8_t *nul = memchr(data, 0, n);
    *n_config = n > N_CONTROL ? n - N_CONTROL : n;
    if (n >= 4 && memcmp(data, "GGUF", 4) == 0) {
        const rm_map map = {data, *n_config};
        m->weights->kind = RM_FILE_GGUF;
        if (rm_gguf_read(m->weights, "input", &map, &err) != RMAS_OK || m->weights->n_tensor) return false;
        return rm_config_from_gguf(&m->cfg, &m->family, m->weights->gguf, "input", &err) == RMAS_OK;
    }
    *n_config = nul ? (size_t)(nul + 1 - data) : n;
    json_t *root = json_loadb((const char *)data, nul ? *n_config - 1 : n, 0, NULL);
    json_t *inner = json_object_get(root, "text_config");
    rm_source s = {.path = "input", .root = root, .text = json_is_object(inner) ? inner : root};
    bool ok = json_is_object(root) && rm_config_from(&m->cfg, &m->family, &s, &err) == RMAS_OK;
    json_decref(root);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static rm_exec *e;
    rmas_error err;
    if (!e && rm_exec_new(&e, 1, NULL, &err) != RMAS_OK) abort();
    rm_model *m = RM_NEW(rm_model);
    size_t n_config;
    if (!m || !(m->weights = RM_NEW(rm_weights)) || !(m->path = rm_strdup("input"))) abort();
    m->exec = e;
    m->weights->kind = RM_FILE_SAFETENSORS;
    maker k = {.m = m};
    if (read_config(m, data, n, &n_config) && m->cfg.n_layer <= MAX_LAYERS && m->cfg.d_model <= 4096) {
        k.gguf = m->weights->kind == RM_FILE_GGUF;
        k.control = data + n_config;
        k.n_control = n - n_config;
        m->precision = k.n_control && k.control[0] & 16 ? RM_NATIVE : RM_EXACT;
        weights(&k);
        if (k.n_element <= MAX_ELEMENTS && rm_reader_index(m->weights, "input", &err) == RMAS_OK && rm_model_bind(m, &err) == RMAS_OK) compute(m);
    }
    rm_model_close(m);
    for (int i = 0; i < k.n_data; i++) free(k.data[i]);
    free(k.data);
    return 0;
}
