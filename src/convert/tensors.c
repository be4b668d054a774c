/* Names and value changes from a Hugging Face folder to GGUF. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "convert/internal.h"
#include "util/mem.h"

/* The place in GGUF of row i of a head: pairs (j, j + D/2) become neighbours. */
static int *pairs_map(int n_head, int d_head) {
    int *map = rm_array((size_t)n_head * (size_t)d_head, sizeof *map);
    for (int h = 0; map && h < n_head; h++)
        for (int i = 0; i < d_head / 2; i++)
            for (int p = 0; p < 2; p++) map[h * d_head + 2 * i + p] = h * d_head + p * (d_head / 2) + i;
    return map;
}

/* Value heads of the delta rule: n_before entries as they are, then head kh R + r goes to r nk + kh, `size` entries each. */
static int *value_heads_map(const rm_delta_plan *d, int n_before, int size) {
    int n = n_before + d->n_value * size, repeat = d->n_value / d->n_key;
    int *map = rm_array((size_t)n, sizeof *map);
    for (int i = 0; map && i < n_before; i++) map[i] = i;
    for (int g = 0; map && g < d->n_value; g++) {
        int from = g % d->n_key * repeat + g / d->n_key;
        for (int i = 0; i < size; i++) map[n_before + g * size + i] = n_before + from * size + i;
    }
    return map;
}

static bool is_norm(rm_tensor_role r) {
    return r == RM_T_OUT_NORM || r == RM_T_ATTN_NORM || r == RM_T_POST_ATTN_NORM || r == RM_T_MLP_NORM || r == RM_T_POST_MLP_NORM ||
           r == RM_T_Q_NORM || r == RM_T_K_NORM;
}

/* What the permutations need of a shape; other mistakes are found when the new file is opened. */
static rmas_status check_map(const rm_conversion *c, const rm_tensor *t, int64_t have, int64_t want) {
    if (have == want) return RMAS_OK;
    return rm_fail(c->err, RMAS_E_SHAPE, "%s: tensor '%s' has %lld rows or columns where config.json says %lld", c->path, t->name, (long long)have,
                   (long long)want);
}

static rmas_status set_map(const rm_conversion *c, int **slot, int *map) {
    *slot = map;
    return map ? RMAS_OK : rm_convert_nomem(c);
}

static rmas_status change_delta(const rm_conversion *c, rm_tensor_role role, rm_job *j) {
    const rm_delta_plan *d = &c->cfg.delta;
    const rm_tensor *t = j->src;
    int keys = 2 * d->n_key * d->d_key, values = d->n_value * d->d_value;
    if (role == RM_T_DELTA_CONV) { /* [C, 1, taps] -> [C, taps] */
        if (t->n_dim != 3 || t->dim[1] != 1) return rm_fail(c->err, RMAS_E_SHAPE, "%s: tensor '%s' is not [channels, 1, taps]", c->path, t->name);
        j->t.n_dim = 2;
        j->t.dim[1] = t->dim[2];
    }
    if (role == RM_T_DELTA_A_LOG) j->neg_exp = true;
    if (d->n_key == d->n_value) return RMAS_OK;
    int64_t last = t->dim[t->n_dim - 1];
    switch (role) {
    case RM_T_DELTA_QKV:
    case RM_T_DELTA_CONV: RM_TRY(check_map(c, t, t->dim[0], keys + values)); return set_map(c, &j->row, value_heads_map(d, keys, d->d_value));
    case RM_T_DELTA_Z: RM_TRY(check_map(c, t, t->dim[0], values)); return set_map(c, &j->row, value_heads_map(d, 0, d->d_value));
    case RM_T_DELTA_B:
    case RM_T_DELTA_A: RM_TRY(check_map(c, t, t->dim[0], d->n_value)); return set_map(c, &j->row, value_heads_map(d, 0, 1));
    case RM_T_DELTA_DT:
    case RM_T_DELTA_A_LOG: RM_TRY(check_map(c, t, last, d->n_value)); return set_map(c, &j->col, value_heads_map(d, 0, 1));
    case RM_T_DELTA_OUT: RM_TRY(check_map(c, t, last, values)); return set_map(c, &j->col, value_heads_map(d, 0, d->d_value));
    default: return RMAS_OK;
    }
}

static rmas_status change(const rm_conversion *c, rm_tensor_role role, bool bias, rm_job *j) {
    const rm_config *cfg = &c->cfg;
    if (j->src->n_dim < 1) return rm_fail(c->err, RMAS_E_SHAPE, "%s: tensor '%s' is a scalar", c->path, j->src->name);
    if (is_norm(role) && cfg->norm_one_plus) j->add = 1;
    /* GGUF has no query_pre_attn_scalar: a scale other than the one that is understood goes into the norm of the queries */
    float usual = 1 / sqrtf((float)(c->family == &rm_family_gemma3 ? rm_gemma3_gguf_scalar(cfg) : cfg->d_head));
    if (role == RM_T_Q_NORM && fabsf(cfg->attn_scale / usual - 1) > 1e-6f) j->scale = cfg->attn_scale / usual;
    const char *arch = c->family->arch ? c->family->arch : "llama";
    if ((!strcmp(arch, "llama") || !strcmp(arch, "smollm3")) && (role == RM_T_Q || role == RM_T_K)) {
        int n_head = role == RM_T_Q ? cfg->n_head : cfg->n_kv, *map = pairs_map(n_head, cfg->d_head);
        RM_TRY(set_map(c, bias ? &j->col : &j->row, map));
        return check_map(c, j->src, j->src->dim[0], (int64_t)n_head * cfg->d_head);
    }
    return role >= RM_T_DELTA_QKV && role <= RM_T_DELTA_OUT ? change_delta(c, role, j) : RMAS_OK;
}

/* Hugging Face name and GGUF name of a tensor; a name with a full stop at its end is whole. False if the family has none. */
static bool names(const rm_conversion *c, const char *prefix, rm_tensor_role role, int il, const char *suffix, char hf[256], char gguf[128]) {
    const char *a = rm_family_tensor(c->family, role, false), *b = rm_family_tensor(c->family, role, true);
    if (!a || !b) return false;
    size_t na = strlen(a), nb = strlen(b);
    bool whole = a[na - 1] == '.';
    if (whole && strcmp(suffix, ".weight") != 0) return false;
    char layer_hf[32] = "", layer_gguf[32] = "";
    if (role >= RM_T_LAYER) {
        snprintf(layer_hf, sizeof layer_hf, "layers.%d.", il);
        snprintf(layer_gguf, sizeof layer_gguf, "blk.%d.", il);
    }
    snprintf(hf, 256, "%s%s%.*s%s", role == RM_T_HEAD ? "" : prefix, layer_hf, (int)(whole ? na - 1 : na), a, whole ? "" : suffix);
    snprintf(gguf, 128, "%s%.*s%s", layer_gguf, (int)(b[nb - 1] == '.' ? nb - 1 : nb), b, b[nb - 1] == '.' ? "" : suffix);
    return true;
}

/* What the plan has not is left behind: the new file would say that it is used. */
static bool has_bias(const rm_config *cfg, rm_tensor_role role) {
    switch (role) {
    case RM_T_Q:
    case RM_T_K:
    case RM_T_V: return cfg->qkv_bias;
    case RM_T_O: return cfg->o_bias;
    case RM_T_GATE:
    case RM_T_UP:
    case RM_T_DOWN: return cfg->mlp_bias;
    default: return false;
    }
}

static rmas_status add(rm_conversion *c, const char *prefix, rm_tensor_role role, int il) {
    static const char *const suffix[] = {".weight", ".bias"};
    char hf[256], gguf[128];
    for (int k = 0; k < (has_bias(&c->cfg, role) ? 2 : 1); k++) {
        if (!names(c, prefix, role, il, suffix[k], hf, gguf)) continue;
        const rm_tensor *t = rm_weights_find(c->w, hf);
        if (!t) continue;
        rm_job *j = rm_convert_job(c, gguf, t);
        if (!j) return rm_convert_nomem(c);
        RM_TRY(change(c, role, k == 1, j));
    }
    return RMAS_OK;
}

/* Llama 3's scaling is not in the metadata but a tensor: by how much each frequency is divided. */
static rmas_status add_rope_factors(rm_conversion *c) {
    const rm_rope *r = &c->cfg.rope[RM_LAYER_FULL];
    int n = r->n_rot / 2;
    if (r->spec.scaling != RM_ROPE_LLAMA3) return RMAS_OK;
    float *f = rm_array((size_t)n, sizeof *f);
    if (!f) return rm_convert_nomem(c);
    for (int j = 0; j < n; j++) f[j] = 1.0f / powf((float)r->spec.theta, (float)(2 * j) / (float)r->n_rot) / r->inv_freq[j];
    rm_job *j = rm_convert_job(c, "rope_freqs.weight", NULL);
    if (!j) {
        rm_free(f);
        return rm_convert_nomem(c);
    }
    j->values = f;
    j->t.n_dim = 1;
    j->t.dim[0] = n;
    return RMAS_OK;
}

/* A tied model may be stored under the name of either end; where both are there and differ, both count (as in binding). */
static rmas_status add_ends(rm_conversion *c, const char *prefix) {
    char name[2][256], gguf[128];
    names(c, prefix, RM_T_HEAD, 0, ".weight", name[1], gguf);
    names(c, prefix, RM_T_EMBED, 0, ".weight", name[0], gguf);
    const rm_tensor *embed = rm_weights_find(c->w, name[0]), *head = rm_weights_find(c->w, name[1]);
    bool one = c->cfg.tied && head && (!embed || rm_tensor_same(embed, head));
    if (!embed && !one) return rm_fail(c->err, RMAS_E_FORMAT, "%s: no tensor '%s'", c->path, name[0]);
    rm_job *j = rm_convert_job(c, gguf, embed ? embed : head);
    if (!j) return rm_convert_nomem(c);
    RM_TRY(change(c, RM_T_EMBED, false, j));
    if (!one) RM_TRY(add(c, prefix, RM_T_HEAD, 0));
    return add(c, prefix, RM_T_OUT_NORM, 0);
}

rmas_status rm_convert_tensors(rm_conversion *c) {
    static const char *const prefixes[] = {"model.", "model.language_model.", "language_model.model.", ""};
    const char *prefix = NULL;
    char name[256];
    for (size_t i = 0; i < RM_COUNT(prefixes) && !prefix; i++) {
        snprintf(name, sizeof name, "%snorm.weight", prefixes[i]);
        if (rm_weights_find(c->w, name)) prefix = prefixes[i];
    }
    if (!prefix) return rm_fail(c->err, RMAS_E_FORMAT, "%s: no tensor 'model.norm.weight'", c->path);
    RM_TRY(add_ends(c, prefix));
    RM_TRY(add_rope_factors(c));
    for (int il = 0; il < c->cfg.n_layer; il++)
        for (int role = RM_T_LAYER; role < RM_T_COUNT; role++) RM_TRY(add(c, prefix, (rm_tensor_role)role, il));
    return RMAS_OK;
}
