/* Names to tensors: every tensor of the plan is looked up, its shape checked, and made ready. Tensors that the plan does not
 * ask for (vision towers, speculation heads, stored frequencies) are left alone. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/layer.h"
#include "util/mem.h"

typedef struct {
    rm_model *m;
    const char *prefix; /* Hugging Face: what stands before "layers.N." */
    bool gguf;
    rmas_error *err;
} binder;

static bool full_name(const binder *b, rm_tensor_role role, int il, const char *suffix, char out[256]) {
    const char *base = rm_family_tensor(b->m->family, role, b->gguf);
    if (!base) return false;
    size_t n = strlen(base);
    if (base[n - 1] == '.') n--, suffix = ""; /* the whole name */
    int k;
    if (role < RM_T_LAYER)
        k = snprintf(out, 256, "%s%.*s%s", role == RM_T_HEAD ? "" : b->prefix, (int)n, base, suffix);
    else
        k = snprintf(out, 256, b->gguf ? "%sblk.%d.%.*s%s" : "%slayers.%d.%.*s%s", b->prefix, il, (int)n, base, suffix);
    return k > 0 && k < 256;
}

static bool is_weight_type(rm_dtype t) {
    switch (t) {
    case RM_F64:
    case RM_I8:
    case RM_I16:
    case RM_I32:
    case RM_I64:
    case RM_U8:
    case RM_BOOL: return false;
    default: return true;
    }
}

static void shape_text(const int64_t *dim, int n, char out[96]) {
    int k = 0;
    out[0] = 0;
    for (int i = 0; i < n && k < 80; i++) k += snprintf(out + k, 96 - (size_t)k, "%s%lld", i ? ", " : "", (long long)dim[i]);
}

/* A tensor of shape [rows, cols], or [cols] if rows is 0. */
static rmas_status find(const binder *b, rm_tensor_role role, int il, const char *suffix, int64_t rows, int64_t cols, const rm_tensor **out) {
    const rm_model *m = b->m;
    char name[256], found[96], expected[96];
    if (!full_name(b, role, il, suffix, name)) return rm_fail(b->err, RMAS_E_UNSUPPORTED, "%s: tensor role %d has no name", m->path, (int)role);
    const rm_tensor *t = rm_weights_find(m->weights, name);
    if (!t) return rm_fail(b->err, RMAS_E_FORMAT, "%s: tensor %s is missing, which a %s of these sizes has", m->path, name, m->cfg.model_type);
    int64_t want[2] = {rows, cols}, flat[3] = {0};
    int n_want = rows ? 2 : 1, n = 0;
    bool flatten = t->n_dim > n_want && (!rows || role == RM_T_DELTA_CONV); /* [C, 1, taps] counts as [C, taps] */
    for (int i = 0; i < t->n_dim; i++)
        if (t->dim[i] != 1 || !flatten) flat[n < 2 ? n : 2] = t->dim[i], n++;
    if (n != n_want || memcmp(flat, want + 2 - n_want, (size_t)n_want * sizeof *want)) {
        shape_text(t->dim, t->n_dim, found);
        shape_text(want + 2 - n_want, n_want, expected);
        return rm_fail(b->err, RMAS_E_SHAPE, "%s: tensor %s is [%s], expected [%s]", m->path, name, found, expected);
    }
    if (!is_weight_type(t->dtype))
        return rm_fail(b->err, RMAS_E_UNSUPPORTED, "%s: tensor %s is of type %s, which weights cannot have", m->path, name,
                       rm_dtype_get(t->dtype)->name);
    *out = t;
    return RMAS_OK;
}

static rmas_status to_floats(const binder *b, const rm_tensor *t, float *out) {
    size_t n = (size_t)rm_tensor_count(t);
    if (n % (size_t)rm_dtype_get(t->dtype)->block_elems)
        return rm_fail(b->err, RMAS_E_SHAPE, "%s: tensor %s has a row that is no whole number of blocks", b->m->path, t->name);
    rm_dequant(t->dtype, t->data, out, n);
    return RMAS_OK;
}

static rmas_status vector(const binder *b, rm_tensor_role role, int il, int n, float **out) {
    const rm_tensor *t;
    RM_TRY(find(b, role, il, ".weight", 0, n, &t));
    *out = rm_aligned((size_t)n * sizeof **out);
    if (!*out) return rm_fail(b->err, RMAS_E_NOMEM, "out of memory for the weights of %s", b->m->path);
    b->m->n_bytes += t->n_bytes;
    return to_floats(b, t, *out);
}

static rmas_status norm(const binder *b, rm_tensor_role role, int il, int n, float **out) {
    RM_TRY(vector(b, role, il, n, out));
    for (int i = 0; b->m->cfg.norm_one_plus && i < n; i++) (*out)[i] += 1.0f;
    return RMAS_OK;
}

enum { MAX_PARTS = 4 };

typedef struct {
    rm_tensor_role role;
    int n_out;
} part;

static rmas_status linear(const binder *b, int il, const part *p, int n_part, int n_in, bool bias, rm_linear *out) {
    const rm_tensor *t[MAX_PARTS];
    int n_out = 0;
    for (int i = 0; i < n_part; n_out += p[i++].n_out) RM_TRY(find(b, p[i].role, il, ".weight", p[i].n_out, n_in, &t[i]));
    RM_TRY(rm_matrix_new(&out->w, b->m->exec, t, n_part, b->m->precision, b->err));
    b->m->n_bytes += rm_matrix_bytes(out->w);
    for (int i = 0; i < n_part; i++)
        if (rm_matrix_owns_data(out->w))
            rm_weights_release(b->m->weights, t[i]);
        else
            b->m->n_bytes += t[i]->n_bytes;
    if (!bias) return RMAS_OK;
    out->bias = rm_aligned((size_t)n_out * sizeof *out->bias);
    if (!out->bias) return rm_fail(b->err, RMAS_E_NOMEM, "out of memory for the weights of %s", b->m->path);
    for (int i = 0, k = 0; i < n_part; k += p[i++].n_out) {
        RM_TRY(find(b, p[i].role, il, ".bias", 0, p[i].n_out, &t[i]));
        RM_TRY(to_floats(b, t[i], out->bias + k));
    }
    return RMAS_OK;
}

static rmas_status bind_attention(const binder *b, int il, rm_layer *l) {
    const rm_config *c = &b->m->cfg;
    int kv = rm_config_kv_dim(c);
    const part in[] = {{RM_T_Q, c->n_head * rm_config_q_stride(c)}, {RM_T_K, kv}, {RM_T_V, kv}}, out[] = {{RM_T_O, c->d_model}};
    RM_TRY(linear(b, il, in, 3, c->d_model, c->qkv_bias, &l->in));
    RM_TRY(linear(b, il, out, 1, rm_config_q_dim(c), c->o_bias, &l->out));
    if (!c->qk_norm) return RMAS_OK;
    RM_TRY(norm(b, RM_T_Q_NORM, il, c->d_head, &l->q_norm));
    return norm(b, RM_T_K_NORM, il, c->d_head, &l->k_norm);
}

static rmas_status bind_delta(const binder *b, int il, rm_layer *l) {
    const rm_config *c = &b->m->cfg;
    const rm_delta_plan *d = &c->delta;
    int n_conv = rm_delta_conv_dim(d), n_value = rm_delta_value_dim(d);
    const part in[] = {{RM_T_DELTA_QKV, n_conv}, {RM_T_DELTA_Z, n_value}, {RM_T_DELTA_B, d->n_value}, {RM_T_DELTA_A, d->n_value}},
               out[] = {{RM_T_DELTA_OUT, c->d_model}};
    RM_TRY(linear(b, il, in, 4, c->d_model, false, &l->in));
    RM_TRY(linear(b, il, out, 1, n_value, false, &l->out));
    RM_TRY(vector(b, RM_T_DELTA_DT, il, d->n_value, &l->dt_bias));
    RM_TRY(vector(b, RM_T_DELTA_A_LOG, il, d->n_value, &l->a));
    for (int i = 0; c->delta_a_is_log && i < d->n_value; i++) l->a[i] = -expf(l->a[i]);
    RM_TRY(vector(b, RM_T_DELTA_NORM, il, d->d_value, &l->delta_norm));
    const rm_tensor *t;
    RM_TRY(find(b, RM_T_DELTA_CONV, il, ".weight", n_conv, d->n_tap, &t));
    l->conv = rm_aligned((size_t)n_conv * (size_t)d->n_tap * sizeof *l->conv);
    if (!l->conv) return rm_fail(b->err, RMAS_E_NOMEM, "out of memory for the weights of %s", b->m->path);
    return to_floats(b, t, l->conv);
}

static rmas_status bind_layer(const binder *b, int il, rm_layer *l) {
    const rm_config *c = &b->m->cfg;
    RM_TRY(norm(b, RM_T_ATTN_NORM, il, c->d_model, &l->norm));
    RM_TRY(norm(b, RM_T_MLP_NORM, il, c->d_model, &l->mlp_norm));
    if (c->post_norm) {
        RM_TRY(norm(b, RM_T_POST_ATTN_NORM, il, c->d_model, &l->post_norm));
        RM_TRY(norm(b, RM_T_POST_MLP_NORM, il, c->d_model, &l->post_mlp_norm));
    }
    if (c->layer[il] == RM_LAYER_LINEAR)
        RM_TRY(bind_delta(b, il, l));
    else
        RM_TRY(bind_attention(b, il, l));
    const part in[] = {{RM_T_GATE, c->d_ff}, {RM_T_UP, c->d_ff}}, out[] = {{RM_T_DOWN, c->d_model}};
    RM_TRY(linear(b, il, in, 2, c->d_model, c->mlp_bias, &l->gate_up));
    return linear(b, il, out, 1, c->d_ff, c->mlp_bias, &l->down);
}

/* llama3 scaling in GGUF: a divisor for each frequency. */
static rmas_status apply_rope_freqs(const binder *b) {
    rm_config *c = &b->m->cfg;
    const rm_tensor *t = b->gguf ? rm_weights_find(b->m->weights, "rope_freqs.weight") : NULL;
    if (!t) return RMAS_OK;
    for (int k = 0; k < 2; k++) {
        int n = c->rope[k].n_rot / 2;
        if (rm_tensor_count(t) != n || t->dtype != RM_F32)
            return rm_fail(b->err, RMAS_E_SHAPE, "%s: rope_freqs.weight is not %d numbers in F32", b->m->path, n);
        for (int i = 0; i < n; i++) {
            float f;
            memcpy(&f, (const char *)t->data + sizeof f * (size_t)i, sizeof f);
            if (!(f > 0 && isfinite(f))) return rm_fail(b->err, RMAS_E_FORMAT, "%s: rope_freqs.weight[%d] is %g", b->m->path, i, (double)f);
            c->rope[k].inv_freq[i] /= f;
        }
    }
    return RMAS_OK;
}

/* What stands before the names of the text model: re-saves and wrappers differ. */
static const char *find_prefix(const rm_weights *w, const char *norm) {
    static const char *const prefix[] = {"model.", "model.language_model.", "language_model.model.", ""};
    for (size_t i = 0; i < RM_COUNT(prefix); i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s.weight", prefix[i], norm);
        if (rm_weights_find(w, name)) return prefix[i];
    }
    return prefix[0];
}

static const rm_tensor *present(const binder *b, rm_tensor_role role) {
    char name[256];
    return full_name(b, role, 0, ".weight", name) ? rm_weights_find(b->m->weights, name) : NULL;
}

/* A tied model may be stored under the name of either end. Where both are there the head counts, as in the reference, whatever the
 * configuration says; a mere copy of the embedding is not kept twice. */
static rmas_status bind_ends(const binder *b) {
    rm_model *m = b->m;
    rm_config *c = &m->cfg;
    const rm_tensor *embed = present(b, RM_T_EMBED), *head = present(b, RM_T_HEAD);
    if (b->gguf && embed && embed->n_dim == 2 && embed->dim[0] > 0 && embed->dim[0] <= INT32_MAX / 8)
        c->n_vocab = (int)embed->dim[0]; /* the number of rows is not always in the metadata */
    rm_tensor_role first = c->tied && !embed && head ? RM_T_HEAD : RM_T_EMBED;
    RM_TRY(find(b, first, 0, ".weight", c->n_vocab, c->d_model, &m->embed));
    RM_TRY(norm(b, RM_T_OUT_NORM, 0, c->d_model, &m->out_norm));
    c->tied = !head || (c->tied && rm_tensor_same(head, m->embed));
    if (!c->tied) m->n_bytes += m->embed->n_bytes;
    const part last[] = {{c->tied ? first : RM_T_HEAD, c->n_vocab}};
    return linear(b, 0, last, 1, c->d_model, false, &m->head);
}

/* GGUF does not say in its metadata which projections have biases: a layer that has one tells it. */
static bool has_bias(const binder *b, rm_tensor_role role) {
    char name[256];
    for (int il = 0; il < b->m->cfg.n_layer; il++)
        if (full_name(b, role, il, ".bias", name) && rm_weights_find(b->m->weights, name)) return true;
    return false;
}

rmas_status rm_model_bind(rm_model *m, rmas_error *err) {
    binder b = {m, "", rm_weights_kind(m->weights) == RM_FILE_GGUF, err};
    if (b.gguf) {
        m->cfg.qkv_bias |= has_bias(&b, RM_T_Q);
        m->cfg.o_bias |= has_bias(&b, RM_T_O);
        m->cfg.mlp_bias |= has_bias(&b, RM_T_DOWN);
    } else
        b.prefix = find_prefix(m->weights, rm_family_tensor(m->family, RM_T_OUT_NORM, false));
    RM_TRY(bind_ends(&b));
    RM_TRY(apply_rope_freqs(&b));
    m->layer = rm_calloc((size_t)m->cfg.n_layer, sizeof *m->layer);
    if (!m->layer) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d layers", m->cfg.n_layer);
    for (int il = 0; il < m->cfg.n_layer; il++) RM_TRY(bind_layer(&b, il, &m->layer[il]));
    m->embed_scale = m->cfg.embed_scale;
    if (m->precision == RM_NATIVE && m->embed->dtype == RM_BF16) /* as the reference: the factor has the type of the embedding */
        m->embed_scale = rm_bf16_to_f32(rm_f32_to_bf16(m->embed_scale));
    m->kv_half = m->precision == RM_NATIVE && m->embed->dtype != RM_F32;
    return RMAS_OK;
}
