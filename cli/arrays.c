#include "arrays.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "weights/weights.h"

/* ---- reading -------------------------------------------------------------------------------------------------------- */

typedef struct held {
    struct held *next;
    _Alignas(16) char data[];
} held;

struct rm_inputs {
    rm_weights *w;
    char *path;
    bool *used; /* for each tensor, by its place in the file */
    held *held; /* converted values */
};

static void *hold(rm_inputs *in, size_t count, size_t size) {
    size_t n;
    if (__builtin_mul_overflow(count, size, &n) || n > SIZE_MAX - sizeof(held)) return NULL;
    held *h = rm_calloc(1, sizeof *h + n);
    if (!h) return NULL;
    h->next = in->held;
    in->held = h;
    return h->data;
}

static rmas_status nomem(const char *path, rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path); }

void rm_array_name(char out[96], const char *base, int number) {
    if (number < 0)
        snprintf(out, 96, "%s", base);
    else
        snprintf(out, 96, "%s.%d", base, number);
}

rmas_status rm_inputs_open(rm_inputs **out, const char *path, rmas_error *err) {
    *out = NULL;
    rm_inputs *in = RM_NEW(rm_inputs);
    if (!in) return nomem(path, err);
    in->path = rm_strdup(path);
    rmas_status s = in->path ? rm_weights_open(&in->w, path, err) : nomem(path, err);
    if (s == RMAS_OK && rm_weights_kind(in->w) != RM_FILE_SAFETENSORS) s = rm_fail(err, RMAS_E_FORMAT, "%s: not a safetensors file", path);
    if (s == RMAS_OK && !(in->used = rm_calloc((size_t)rm_weights_count(in->w), sizeof *in->used))) s = nomem(path, err);
    if (s == RMAS_OK)
        *out = in;
    else
        rm_inputs_close(in);
    return s;
}

void rm_inputs_close(rm_inputs *in) {
    if (!in) return;
    for (held *h = in->held, *next; h; h = next) {
        next = h->next;
        rm_free(h);
    }
    rm_weights_close(in->w);
    rm_free(in->used);
    rm_free(in->path);
    rm_free(in);
}

static const rm_tensor *find(rm_inputs *in, const char *base, int number) {
    char name[96];
    rm_array_name(name, base, number);
    const rm_tensor *t = rm_weights_find(in->w, name);
    if (t) in->used[t - rm_weights_at(in->w, 0)] = true;
    return t;
}

static int compare_ints(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

/* BASE.K with K written as a plain number; -1 if the name is something else. */
static int number_of(const char *name, const char *base) {
    size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || name[n] != '.') return -1;
    const char *p = name + n + 1;
    size_t len = strlen(p);
    if (!len || len > 9 || strspn(p, "0123456789") != len || (p[0] == '0' && len > 1)) return -1;
    return atoi(p);
}

rmas_status rm_inputs_series(rm_inputs *in, const char *base, const int **k, int *n, rmas_error *err) {
    int count = rm_weights_count(in->w), *v = hold(in, (size_t)count + 1, sizeof *v), found = 0;
    if (!v) return nomem(in->path, err);
    bool alone = find(in, base, -1) != NULL;
    for (int i = 0; i < count; i++) {
        int number = number_of(rm_weights_at(in->w, i)->name, base);
        if (number >= 0) v[found++] = number;
    }
    if (alone && found) return rm_fail(err, RMAS_E_FORMAT, "%s: both '%s' and '%s.%d'", in->path, base, base, v[0]);
    if (!alone && !found) return rm_fail(err, RMAS_E_FORMAT, "%s: no tensor '%s' or '%s.0'", in->path, base, base);
    if (alone) v[found++] = -1;
    qsort(v, (size_t)found, sizeof *v, compare_ints);
    *k = v;
    *n = found;
    return RMAS_OK;
}

rmas_status rm_inputs_i32(rm_inputs *in, const char *base, int number, const int32_t **v, int *n, rmas_error *err) {
    *v = NULL;
    *n = 0;
    const rm_tensor *t = find(in, base, number);
    if (!t) return RMAS_OK;
    if (t->n_dim != 1 || t->dim[0] > INT_MAX || (t->dtype != RM_I64 && t->dtype != RM_I32))
        return rm_fail(err, RMAS_E_SHAPE, "%s: '%s' must be a list of I64 or I32 numbers, it is %s with %d dimensions", in->path, t->name,
                       rm_dtype_get(t->dtype)->name, t->n_dim);
    int32_t *p = hold(in, (size_t)t->dim[0], sizeof *p);
    if (!p) return nomem(in->path, err);
    for (int64_t i = 0; i < t->dim[0]; i++) {
        if (t->dtype == RM_I32) {
            memcpy(&p[i], (const char *)t->data + 4 * i, 4);
            continue;
        }
        int64_t x;
        memcpy(&x, (const char *)t->data + 8 * i, 8);
        if (x < INT32_MIN || x > INT32_MAX) return rm_fail(err, RMAS_E_ARG, "%s: '%s': %lld is too large", in->path, t->name, (long long)x);
        p[i] = (int32_t)x;
    }
    *v = p;
    *n = (int)t->dim[0];
    return RMAS_OK;
}

rmas_status rm_inputs_f32(rm_inputs *in, const char *base, int number, const float **v, int *n_row, int *n_col, rmas_error *err) {
    *v = NULL;
    *n_row = *n_col = 0;
    const rm_tensor *t = find(in, base, number);
    if (!t) return RMAS_OK;
    if (t->n_dim != 2 || t->dim[0] > INT_MAX || t->dim[1] > INT_MAX || t->dtype != RM_F32)
        return rm_fail(err, RMAS_E_SHAPE, "%s: '%s' must be F32 with two dimensions, it is %s with %d", in->path, t->name,
                       rm_dtype_get(t->dtype)->name, t->n_dim);
    float *p = hold(in, t->n_bytes / 4, sizeof *p); /* a copy: the file need not be aligned */
    if (!p) return nomem(in->path, err);
    if (t->n_bytes) memcpy(p, t->data, t->n_bytes);
    *v = p;
    *n_row = (int)t->dim[0];
    *n_col = (int)t->dim[1];
    return RMAS_OK;
}

rmas_status rm_inputs_done(const rm_inputs *in, rmas_error *err) {
    for (int i = 0; i < rm_weights_count(in->w); i++)
        if (!in->used[i]) return rm_fail(err, RMAS_E_FORMAT, "%s: unknown tensor '%.200s'", in->path, rm_weights_at(in->w, i)->name);
    return RMAS_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

struct rm_outputs {
    rm_tensor *t; /* names and data are owned */
    int n, cap;
};

rm_outputs *rm_outputs_new(void) { return RM_NEW(rm_outputs); }

void rm_outputs_free(rm_outputs *o) {
    if (!o) return;
    for (int i = 0; i < o->n; i++) {
        rm_free((void *)(uintptr_t)o->t[i].name);
        rm_free((void *)(uintptr_t)o->t[i].data);
    }
    rm_free(o->t);
    rm_free(o);
}

static void *add(rm_outputs *o, const char *name, rm_dtype dtype, int n_dim, const int64_t *dim) {
    if (o->n == o->cap) {
        int cap = o->cap ? o->cap * 2 : 16;
        rm_tensor *p = rm_realloc_array(o->t, (size_t)cap, sizeof *p);
        if (!p) return NULL;
        o->t = p;
        o->cap = cap;
    }
    size_t size = (size_t)rm_dtype_get(dtype)->block_bytes, count = 1;
    rm_tensor t = {.dtype = dtype, .n_dim = n_dim};
    for (int i = 0; i < n_dim; i++) {
        t.dim[i] = dim[i];
        if (__builtin_mul_overflow(count, (size_t)dim[i], &count)) return NULL;
    }
    void *data = rm_calloc(count, size);
    t.name = rm_strdup(name);
    if (!data || !t.name) {
        rm_free(data);
        rm_free((void *)(uintptr_t)t.name);
        return NULL;
    }
    t.n_bytes = count * size;
    t.data = data;
    o->t[o->n++] = t;
    return data;
}

float *rm_outputs_f32(rm_outputs *o, const char *name, int n_dim, const int64_t *dim) { return add(o, name, RM_F32, n_dim, dim); }
int64_t *rm_outputs_i64(rm_outputs *o, const char *name, int n_dim, const int64_t *dim) { return add(o, name, RM_I64, n_dim, dim); }
rmas_status rm_outputs_write(const rm_outputs *o, const char *path, rmas_error *err) { return rm_safetensors_write(path, o->t, o->n, err); }
