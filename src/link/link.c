/* Links as objects: the types, opening with strict checks, untrained links, saving. The arithmetic is in apply.c and
 * backward.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "link/internal.h"
#include "util/file.h"
#include "util/json.h"
#include "util/mem.h"
#include "util/rng.h"

static const rm_link_kind kinds[] = {
    {"linear_adapter", "1layer", true, false, false, RM_RES_NONE, 1},
    {"linear_res_adapter", "1layer_res", true, false, false, RM_RES_SELF, 1},
    {"adapter", "2layer", true, true, false, RM_RES_NONE, 1},
    {"res_adapter", "2layer_res", true, true, false, RM_RES_SELF, 1},
    {"ln_res_adapter", "2layer_ln_res", true, true, true, RM_RES_SELF, 1},
    {"outer_linear_adapter", "1layer", false, false, false, RM_RES_NONE, 1},
    {"outer_linear_res_adapter", "1layer_res", false, false, false, RM_RES_PROJ, 1},
    {"outer_adapter", "2layer", false, true, false, RM_RES_NONE, 1},
    {"outer_res_adapter", "2layer_res", false, true, false, RM_RES_PROJ, 1},
    {"outer_ln_adapter", NULL, false, true, true, RM_RES_NONE, 2},
    {"outer_ln_res_adapter", "2layer_ln_res", false, true, true, RM_RES_PROJ, 2},
};

static const char *const slot_name[2][RM_LINK_N_SLOT] = {
    {"proj1.weight", "proj1.bias", "proj2.weight", "proj2.bias", "ln_source.weight", "ln_source.bias", "ln_target.weight", "ln_target.bias",
     "residual_proj.weight", "residual_proj.bias"},
    {"proj1.weight", "proj1.bias", "proj2.weight", "proj2.bias", "pre_ln.weight", "pre_ln.bias", "post_ln.weight", "post_ln.bias",
     "residual_proj.weight", "residual_proj.bias"},
};

static bool named(const rm_link_kind *k, const char *type) { return !strcmp(k->name, type) || (k->alias && !strcmp(k->alias, type)); }

bool rm_link_type_known(const char *type, bool *inner) {
    for (size_t i = 0; i < RM_COUNT(kinds); i++)
        if (named(&kinds[i], type)) {
            if (inner) *inner = kinds[i].inner;
            return true;
        }
    return false;
}

static bool has_slot(const rm_link_kind *k, int s) {
    switch (s) {
    case RM_LINK_W1:
    case RM_LINK_B1: return true;
    case RM_LINK_W2:
    case RM_LINK_B2: return k->two;
    case RM_LINK_W3:
    case RM_LINK_B3: return k->res == RM_RES_PROJ;
    default: return k->ln;
    }
}

/* The parameters of a link of this kind and these widths: names, shapes, places. */
static void lay_out(rm_link *l) {
    const rm_link_kind *k = l->kind;
    int64_t in = l->d_in, o = l->d_out, hid = k->two ? l->d_hid : l->d_out;
    const int64_t shape[RM_LINK_N_SLOT][2] = {{hid, in}, {hid, 0}, {o, hid}, {o, 0}, {in, 0}, {in, 0}, {o, 0}, {o, 0}, {o, in}, {o, 0}};
    for (int s = 0; s < RM_LINK_N_SLOT; s++) {
        if (!has_slot(k, s)) continue;
        rm_link_param *p = &l->param[l->n_param];
        l->slot[l->n_param++] = s;
        p->name = slot_name[k->inner][s];
        p->n_dim = shape[s][1] ? 2 : 1;
        memcpy(p->dim, shape[s], sizeof p->dim);
        p->at = l->n_value;
        p->n = (size_t)(shape[s][0] * (p->n_dim == 2 ? shape[s][1] : 1));
        l->n_value += p->n;
    }
}

static bool is_float(rm_dtype t) { return t == RM_F32 || t == RM_F16 || t == RM_BF16 || t == RM_F64; }

/* ---- which type a file is -------------------------------------------------------------------------------------------- */

/* Does the file hold exactly the tensors of this kind? */
static bool same_keys(const rm_link_kind *k, const rm_weights *w) {
    int n = 0;
    for (int s = 0; s < RM_LINK_N_SLOT; s++) {
        if (!has_slot(k, s)) continue;
        if (!rm_weights_find(w, slot_name[k->inner][s])) return false;
        n++;
    }
    return n == rm_weights_count(w);
}

/* The kind that a file with wrong keys was most likely meant to be: the one that shares most keys with it. */
static const rm_link_kind *nearest(const rm_weights *w, const char *type) {
    const rm_link_kind *best = NULL;
    int best_score = 0;
    for (size_t i = 0; i < RM_COUNT(kinds); i++) {
        const rm_link_kind *k = &kinds[i];
        if (type && !named(k, type)) continue;
        int score = 0;
        for (int s = 0; s < RM_LINK_N_SLOT; s++) {
            bool there = rm_weights_find(w, slot_name[k->inner][s]) != NULL;
            if (has_slot(k, s)) score += there ? 2 : -1;
        }
        if (!best || score > best_score) best = k, best_score = score;
    }
    return best;
}

static rmas_status wrong_keys(const rm_weights *w, const char *path, const char *type, rmas_error *err) {
    const rm_link_kind *k = nearest(w, type);
    for (int s = 0; s < RM_LINK_N_SLOT; s++)
        if (has_slot(k, s) && !rm_weights_find(w, slot_name[k->inner][s]))
            return rm_fail(err, RMAS_E_FORMAT, "%s: no tensor '%s', which a link of type %s must have", path, slot_name[k->inner][s], k->name);
    for (int i = 0; i < rm_weights_count(w); i++) {
        const char *name = rm_weights_at(w, i)->name;
        bool known = false;
        for (int s = 0; s < RM_LINK_N_SLOT; s++) known = known || (has_slot(k, s) && !strcmp(name, slot_name[k->inner][s]));
        if (!known) return rm_fail(err, RMAS_E_FORMAT, "%s: unexpected tensor '%s': a link of type %s has none of that name", path, name, k->name);
    }
    return rm_fail(err, RMAS_E_FORMAT, "%s: not the tensors of a link", path);
}

/* "adapter_type" of the adapter_config.json beside the file; false if there is none. */
static rmas_status beside(const char *path, char *type, size_t size, bool *found, rmas_error *err) {
    *found = false;
    const char *slash = strrchr(path, '/');
    char *dir = slash ? rm_strndup(path, (size_t)(slash - path) + 1) : rm_strdup("");
    char *file = dir ? rm_path_join(*dir ? dir : ".", "adapter_config.json") : NULL;
    rm_free(dir);
    if (!file) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    rmas_status st = RMAS_OK;
    char *text = NULL;
    size_t n = 0;
    if (rm_path_exists(file) && (st = rm_file_read(&text, &n, file, 1 << 20, err)) == RMAS_OK) {
        rm_json j;
        rm_json_init(&j, text, n);
        bool key = false;
        for (rm_json_event e = rm_json_next(&j); e != RM_JSON_END; e = rm_json_next(&j)) {
            if (e == RM_JSON_ERROR) {
                st = rm_fail(err, RMAS_E_FORMAT, "%s: %s at byte %zu", file, j.error, j.pos);
                break;
            }
            if (e == RM_JSON_STRING && key && j.len < size) {
                memcpy(type, j.str, j.len);
                type[j.len] = 0;
                *found = true;
            }
            key = e == RM_JSON_KEY && j.depth == 1 && rm_json_is(&j, "adapter_type");
        }
        rm_json_free(&j);
    }
    rm_free(text);
    rm_free(file);
    return st;
}

static rmas_status find_kind(rm_link *l, const char *path, const char *type, rmas_error *err) {
    char stored[64];
    if (type && !rm_link_type_known(type, NULL)) return rm_fail(err, RMAS_E_ARG, "%s: unknown link type '%s'", path, type);
    for (int pass = 0; pass < 2; pass++) {
        const rm_tensor *w1 = rm_weights_find(l->file, "proj1.weight");
        bool square = w1 && w1->n_dim == 2 && w1->dim[0] == w1->dim[1];
        int n = 0;
        const rm_link_kind *found = NULL, *first = NULL;
        for (size_t i = 0; i < RM_COUNT(kinds); i++) {
            const rm_link_kind *k = &kinds[i];
            if (!same_keys(k, l->file) || (type && !named(k, type)) || (k->inner && !square && !(type && named(k, type)))) continue;
            if (!first) first = k;
            found = k;
            n++;
        }
        /* without a type, a square link could be inner or outer: the same function, unless the inner one has a residual */
        if (n == 0) return wrong_keys(l->file, path, type, err);
        if (n == 1 || type) {
            l->kind = n == 1 ? found : first;
            return RMAS_OK;
        }
        bool there;
        RM_TRY(beside(path, stored, sizeof stored, &there, err));
        if (!there)
            return rm_fail(err, RMAS_E_ARG, "%s: its tensors fit the link types %s and %s: say which (--type, or adapter_config.json beside it)",
                           path, first->name, first[1].name);
        type = stored;
        if (!rm_link_type_known(type, NULL))
            return rm_fail(err, RMAS_E_FORMAT, "%s: adapter_config.json beside it names the unknown type '%s'", path, type);
    }
    return wrong_keys(l->file, path, type, err);
}

/* ---- opening ----------------------------------------------------------------------------------------------------------- */

static rmas_status check_shapes(rm_link *l, const char *path, rmas_error *err) {
    enum { MAX_WIDTH = 1 << 20 };
    const rm_tensor *w1 = rm_weights_find(l->file, "proj1.weight"), *last = l->kind->two ? rm_weights_find(l->file, "proj2.weight") : w1;
    if (w1->n_dim != 2 || last->n_dim != 2)
        return rm_fail(err, RMAS_E_SHAPE, "%s: tensor '%s' has %d dimensions, expected 2", path, (w1->n_dim != 2 ? w1 : last)->name,
                       (w1->n_dim != 2 ? w1 : last)->n_dim);
    if (w1->dim[1] < 1 || w1->dim[1] > MAX_WIDTH || last->dim[0] < 1 || last->dim[0] > MAX_WIDTH)
        return rm_fail(err, RMAS_E_SHAPE, "%s: a link from %lld to %lld: expected widths from 1 to %d", path, (long long)w1->dim[1],
                       (long long)last->dim[0], MAX_WIDTH);
    l->d_in = (int)w1->dim[1];
    l->d_out = l->kind->inner ? l->d_in : (int)last->dim[0];
    l->d_hid = l->kind->hidden * l->d_out;
    lay_out(l);
    for (int i = 0; i < l->n_param; i++) {
        const rm_link_param *p = &l->param[i];
        const rm_tensor *t = rm_weights_find(l->file, p->name);
        bool same = t->n_dim == p->n_dim && t->dim[0] == p->dim[0] && (p->n_dim == 1 || t->dim[1] == p->dim[1]);
        char got[64] = "[", want[64];
        for (int d = 0; d < t->n_dim && strlen(got) < 40; d++) snprintf(got + strlen(got), 24, "%s%lld", d ? ", " : "", (long long)t->dim[d]);
        if (p->n_dim == 2)
            snprintf(want, sizeof want, "[%lld, %lld]", (long long)p->dim[0], (long long)p->dim[1]);
        else
            snprintf(want, sizeof want, "[%lld]", (long long)p->dim[0]);
        if (!same)
            return rm_fail(err, RMAS_E_SHAPE, "%s: tensor '%s' has the shape %s], expected %s for a link of type %s from %d to %d", path, p->name,
                           got, want, l->kind->name, l->d_in, l->d_out);
        if (!is_float(t->dtype))
            return rm_fail(err, RMAS_E_FORMAT, "%s: tensor '%s' is %s, expected F32, F16 or BF16", path, p->name, rm_dtype_get(t->dtype)->name);
        l->tensor[l->slot[i]] = t;
    }
    l->dtype = rm_weights_at(l->file, 0)->dtype;
    return RMAS_OK;
}

static rmas_status make_matrices(rm_link *l, rmas_error *err) {
    static const int slots[3] = {RM_LINK_W1, RM_LINK_W2, RM_LINK_W3};
    for (int m = 0; m < 3; m++) {
        rm_matrix_free(l->w[m]);
        l->w[m] = NULL;
        for (int i = 0; i < l->n_param; i++) {
            if (l->slot[i] != slots[m]) continue;
            const rm_link_param *p = &l->param[i];
            rm_tensor t = {
                .name = p->name, .dtype = RM_F32, .n_dim = 2, .dim = {p->dim[0], p->dim[1]}, .data = p->value, .n_bytes = p->n * sizeof(float)};
            const rm_tensor *part[1] = {l->value ? &t : l->tensor[slots[m]]};
            RM_TRY(rm_matrix_new(&l->w[m], l->exec, part, 1, l->value ? RM_EXACT : l->precision, err));
        }
    }
    return RMAS_OK;
}

/* 1-D parameters are always used in float32; scratch space of rm_link_apply. */
static rmas_status prepare(rm_link *l, rmas_error *err) {
    size_t n_vec = 0;
    for (int i = 0; i < l->n_param; i++) n_vec += l->param[i].n_dim == 1 ? l->param[i].n : 0;
    l->scratch = rm_array((size_t)RM_LINK_ROWS * ((size_t)l->d_in + (size_t)l->d_hid + (size_t)l->d_out), sizeof(float));
    if (!l->value) l->vec_own = rm_array(n_vec, sizeof(float));
    if (!l->scratch || (!l->value && !l->vec_own)) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a link from %d to %d", l->d_in, l->d_out);
    float *v = l->vec_own;
    for (int i = 0; i < l->n_param; i++) {
        rm_link_param *p = &l->param[i];
        int s = l->slot[i];
        if (l->value) p->value = l->value + p->at;
        if (p->n_dim != 1) continue;
        if (l->value) {
            l->vec[s] = p->value;
        } else {
            rm_dequant(l->tensor[s]->dtype, l->tensor[s]->data, v, p->n);
            l->vec[s] = v;
            v += p->n;
        }
    }
    return make_matrices(l, err);
}

rmas_status rm_link_open(rm_link **out, rm_exec *e, const char *path, const char *type, rm_precision precision, rmas_error *err) {
    *out = NULL;
    rm_link *l = RM_NEW(rm_link);
    if (!l) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    l->exec = e;
    l->precision = precision;
    rmas_status st = rm_weights_open(&l->file, path, err);
    if (st == RMAS_OK && rm_weights_count(l->file) == 0) st = rm_fail(err, RMAS_E_FORMAT, "%s: no tensors", path);
    if (st == RMAS_OK) st = find_kind(l, path, type, err);
    if (st == RMAS_OK) st = check_shapes(l, path, err);
    if (st == RMAS_OK && (st = prepare(l, err)) != RMAS_OK) st = rm_fail_prefix(err, st, "%s", path);
    if (st != RMAS_OK) {
        rm_link_close(l);
        return st;
    }
    *out = l;
    return RMAS_OK;
}

rmas_status rm_link_new(rm_link **out, rm_exec *e, const char *type, int d_in, int d_out, uint64_t seed, rmas_error *err) {
    *out = NULL;
    const rm_link_kind *kind = NULL;
    for (size_t i = 0; i < RM_COUNT(kinds) && !kind; i++)
        if (named(&kinds[i], type) && (!kinds[i].inner || d_in == d_out)) kind = &kinds[i];
    if (!kind || d_in < 1 || d_out < 1) return rm_fail(err, RMAS_E_ARG, "no link of type '%s' from width %d to %d", type, d_in, d_out);
    rm_link *l = RM_NEW(rm_link);
    if (!l) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    *l = (rm_link){.exec = e, .kind = kind, .d_in = d_in, .d_out = d_out, .d_hid = kind->hidden * d_out, .dtype = RM_F32, .precision = RM_EXACT};
    lay_out(l);
    l->value = rm_array(l->n_value, sizeof(float));
    if (!l->value) {
        rm_link_close(l);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for a link from %d to %d", d_in, d_out);
    }
    for (int i = 0; i < l->n_param; i++) {
        rm_link_param *p = &l->param[i];
        int s = l->slot[i];
        bool norm = s >= RM_LINK_G1 && s <= RM_LINK_C2;
        /* a bias follows its matrix: both use the matrix's fan-in */
        double limit = norm ? 0 : 1 / sqrt((double)(p->n_dim == 2 ? p->dim[1] : l->param[i - 1].dim[1]));
        rm_rng r = rm_rng_make(seed, (uint64_t)s);
        float *v = l->value + p->at;
        for (size_t j = 0; j < p->n; j++)
            v[j] = norm ? (s == RM_LINK_G1 || s == RM_LINK_G2 ? 1.0f : 0.0f) : (float)((2 * rm_rng_double(&r) - 1) * limit);
    }
    rmas_status st = prepare(l, err);
    if (st != RMAS_OK) {
        rm_link_close(l);
        return st;
    }
    *out = l;
    return RMAS_OK;
}

rmas_status rm_link_thaw(rm_link *l, rmas_error *err) {
    if (l->value) return RMAS_OK;
    float *value = rm_array(l->n_value, sizeof(float));
    if (!value) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the parameters of a link from %d to %d", l->d_in, l->d_out);
    for (int i = 0; i < l->n_param; i++) {
        const rm_tensor *t = l->tensor[l->slot[i]];
        rm_link_param *p = &l->param[i];
        rm_dequant(t->dtype, t->data, value + p->at, p->n);
        p->value = value + p->at;
        if (p->n_dim == 1) l->vec[l->slot[i]] = p->value;
    }
    rm_free(l->vec_own);
    l->vec_own = NULL;
    l->value = value;
    return make_matrices(l, err);
}

rmas_status rm_link_changed(rm_link *l, rmas_error *err) {
    bool packed = false;
    for (int m = 0; m < 3; m++) packed = packed || (l->w[m] && rm_matrix_owns_data(l->w[m]));
    return packed ? make_matrices(l, err) : RMAS_OK;
}

void rm_link_close(rm_link *l) {
    if (!l) return;
    for (int m = 0; m < 3; m++) rm_matrix_free(l->w[m]);
    rm_weights_close(l->file);
    rm_free(l->value);
    rm_free(l->vec_own);
    rm_free(l->scratch);
    rm_free(l);
}

/* ---- saving ------------------------------------------------------------------------------------------------------------ */

static rmas_status write_link(const rm_link *l, const char *path, bool as_stored, rm_dtype dtype, rmas_error *err) {
    rm_tensor t[RM_LINK_N_SLOT];
    size_t bytes = 0, elem = rm_dtype_get(dtype)->block_bytes > 0 ? (size_t)rm_dtype_get(dtype)->block_bytes : 4;
    char *copy = as_stored ? NULL : rm_array(l->n_value, elem);
    float *f = as_stored || l->value ? NULL : rm_array(l->n_value, sizeof(float));
    rmas_status st = RMAS_OK;
    if (!as_stored && (!copy || (!l->value && !f))) st = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    for (int i = 0; i < l->n_param && st == RMAS_OK; i++) {
        const rm_link_param *p = &l->param[i];
        const rm_tensor *stored = l->tensor[l->slot[i]];
        if (as_stored) {
            t[i] = *stored;
            continue;
        }
        const float *v = l->value ? l->value + p->at : f + p->at;
        if (!l->value) rm_dequant(stored->dtype, stored->data, f + p->at, p->n);
        if (!rm_quant(dtype, v, copy + bytes, p->n)) {
            if (dtype == RM_F32)
                memcpy(copy + bytes, v, p->n * elem);
            else
                st = rm_fail(err, RMAS_E_UNSUPPORTED, "%s: links are not written as %s", path, rm_dtype_get(dtype)->name);
        }
        t[i] = (rm_tensor){
            .name = p->name, .dtype = dtype, .n_dim = p->n_dim, .dim = {p->dim[0], p->dim[1]}, .data = copy + bytes, .n_bytes = p->n * elem};
        bytes += p->n * elem;
    }
    size_t len = strlen(path);
    if (st == RMAS_OK) {
        if (len > 12 && !strcmp(path + len - 12, ".safetensors"))
            st = rm_safetensors_write(path, t, l->n_param, err);
        else if (len > 3 && !strcmp(path + len - 3, ".pt"))
            st = rm_pt_write(path, t, l->n_param, err);
        else
            st = rm_fail(err, RMAS_E_ARG, "%s: the name of a link file must end with .pt or .safetensors", path);
    }
    rm_free(copy);
    rm_free(f);
    return st;
}

rmas_status rm_link_save(const rm_link *l, const char *path, rmas_error *err) { return write_link(l, path, l->value == NULL, RM_F32, err); }

rmas_status rm_link_save_as(const rm_link *l, const char *path, rm_dtype dtype, rmas_error *err) { return write_link(l, path, false, dtype, err); }

int rm_link_d_in(const rm_link *l) { return l->d_in; }
int rm_link_d_out(const rm_link *l) { return l->d_out; }
const char *rm_link_type(const rm_link *l) { return l->kind->name; }
rm_dtype rm_link_dtype(const rm_link *l) { return l->dtype; }
rm_exec *rm_link_exec(const rm_link *l) { return l->exec; }
int rm_link_n_param(const rm_link *l) { return l->n_param; }
const rm_link_param *rm_link_param_at(const rm_link *l, int i) { return &l->param[i]; }
size_t rm_link_n_value(const rm_link *l) { return l->n_value; }
float *rm_link_values(rm_link *l) { return l->value; }
size_t rm_link_bytes(const rm_link *l) { return l->n_value * (size_t)rm_dtype_get(l->dtype)->block_bytes; }
