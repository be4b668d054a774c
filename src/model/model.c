/* Opening and closing a model, and its input embeddings. */
#include "model/model.h"

#include <string.h>

#include "model/layer.h"
#include "util/file.h"
#include "util/mem.h"

static rmas_status read_config(rm_model *m, rmas_error *err) {
    const rm_gguf *g = rm_weights_gguf(m->weights);
    if (g) return rm_config_from_gguf(&m->cfg, &m->family, g, m->path, err);
    if (!rm_path_is_dir(m->path))
        return rm_fail(err, RMAS_E_ARG, "%s: not a model: expected a folder with config.json and weights, or a .gguf file", m->path);
    char *file = rm_path_join(m->path, "config.json");
    if (!file) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a path");
    rmas_status st = rm_config_from_json(&m->cfg, &m->family, file, err);
    rm_free(file);
    return st;
}

rmas_status rm_model_open(rm_model **out, rm_exec *e, const char *path, rm_precision p, rmas_error *err) {
    *out = NULL;
    rm_model *m = RM_NEW(rm_model);
    if (m) m->path = rm_strdup(path);
    rmas_status st = m && m->path ? rm_weights_open(&m->weights, path, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for a model");
    if (st == RMAS_OK) {
        m->exec = e;
        m->precision = p;
        st = read_config(m, err);
    }
    if (st == RMAS_OK) st = rm_model_bind(m, err);
    if (st == RMAS_OK)
        *out = m;
    else
        rm_model_close(m);
    return st;
}

void rm_layer_free(rm_layer *l) {
    float *v[] = {l->norm, l->mlp_norm, l->post_norm, l->post_mlp_norm, l->q_norm, l->k_norm, l->conv, l->dt_bias, l->a, l->delta_norm};
    for (size_t i = 0; i < RM_COUNT(v); i++) rm_free(v[i]);
    rm_linear_free(&l->in);
    rm_linear_free(&l->out);
    rm_linear_free(&l->gate_up);
    rm_linear_free(&l->down);
}

void rm_model_close(rm_model *m) {
    if (!m) return;
    for (int i = 0; m->layer && i < m->cfg.n_layer; i++) rm_layer_free(&m->layer[i]);
    rm_free(m->layer);
    rm_linear_free(&m->head);
    rm_free(m->out_norm);
    rm_config_free(&m->cfg);
    rm_weights_close(m->weights);
    rm_free(m->path);
    rm_free(m);
}

const rm_config *rm_model_config(const rm_model *m) { return &m->cfg; }
rm_exec *rm_model_exec(const rm_model *m) { return m->exec; }
const rm_weights *rm_model_weights(const rm_model *m) { return m->weights; }
rm_dtype rm_model_dtype(const rm_model *m) { return m->embed->dtype; }
size_t rm_model_bytes(const rm_model *m) { return m->n_bytes; }

rmas_status rm_model_embed(const rm_model *m, const int32_t *id, int n, float *out, rmas_error *err) {
    size_t d = (size_t)m->cfg.d_model, row = rm_dtype_row_bytes(m->embed->dtype, d);
    for (int i = 0; i < n; i++, out += d) {
        if (id[i] < 0 || id[i] >= m->cfg.n_vocab)
            return rm_fail(err, RMAS_E_ARG, "token %d is outside the vocabulary of %d (%s)", (int)id[i], m->cfg.n_vocab, m->path);
        rm_dequant(m->embed->dtype, (const char *)m->embed->data + row * (size_t)id[i], out, d);
        for (size_t k = 0; m->embed_scale != 0 && k < d; k++) out[k] *= m->embed_scale;
    }
    return RMAS_OK;
}

void rm_model_embed_done(const rm_model *m) {
    if (!m->cfg.tied || rm_matrix_owns_data(m->head.w)) rm_weights_release(m->weights, m->embed);
}
