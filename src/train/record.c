#include "train/record.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "util/file.h"
#include "util/mem.h"
#include "weights/weights.h"

static rm_tensor *next(rm_arrays *a, const char *name, va_list args) {
    if (a->n == a->cap) {
        int cap = a->cap ? 2 * a->cap : 32;
        rm_tensor *v = rm_realloc_array(a->v, (size_t)cap, sizeof *v);
        if (!v) return NULL;
        a->v = v;
        a->cap = cap;
    }
    char text[160];
    vsnprintf(text, sizeof text, name, args);
    char *copy = rm_strdup(text);
    if (!copy) return NULL;
    a->v[a->n] = (rm_tensor){.name = copy};
    return &a->v[a->n++];
}

rmas_status rm_arrays_add(rm_arrays *a, const float *data, int n_dim, const int64_t *dim, rmas_error *err, const char *name, ...) {
    va_list args;
    va_start(args, name);
    rm_tensor *t = next(a, name, args);
    va_end(args);
    if (!t) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the record");
    t->dtype = RM_F32;
    t->n_dim = n_dim;
    memcpy(t->dim, dim, (size_t)n_dim * sizeof *dim);
    t->data = data;
    t->n_bytes = (size_t)rm_tensor_count(t) * sizeof(float);
    return RMAS_OK;
}

rmas_status rm_arrays_add_i64(rm_arrays *a, const int64_t *data, int64_t n, rmas_error *err, const char *name, ...) {
    va_list args;
    va_start(args, name);
    rm_tensor *t = next(a, name, args);
    va_end(args);
    if (!t) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the record");
    t->dtype = RM_I64;
    t->n_dim = 1;
    t->dim[0] = n;
    t->data = data;
    t->n_bytes = (size_t)n * sizeof(int64_t);
    return RMAS_OK;
}

rmas_status rm_arrays_write(const rm_arrays *a, const char *path, rmas_error *err) { return rm_safetensors_write(path, a->v, a->n, err); }

void rm_arrays_free(rm_arrays *a) {
    for (int i = 0; i < a->n; i++) rm_free((char *)(uintptr_t)a->v[i].name);
    rm_free(a->v);
    *a = (rm_arrays){0};
}

rmas_status rm_lines_open(rm_lines *l, const char *dir, const char *name, bool append, rmas_error *err) {
    *l = (rm_lines){.path = rm_path_join(dir, name)};
    if (!l->path) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    l->f = fopen(l->path, append ? "a" : "w");
    return l->f ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: cannot be written: %s", l->path, strerror(errno));
}

rmas_status rm_lines_add(rm_lines *l, json_t *object, rmas_error *err) {
    if (!object) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", l->path);
    bool ok = json_dumpf(object, l->f, JSON_COMPACT | JSON_REAL_PRECISION(17)) == 0 && fputc('\n', l->f) != EOF && fflush(l->f) == 0;
    json_decref(object);
    return ok ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: cannot be written: %s", l->path, strerror(errno));
}

rmas_status rm_lines_close(rm_lines *l, rmas_error *err) {
    bool ok = !l->f || fclose(l->f) == 0;
    rmas_status st = ok ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: cannot be written", l->path);
    rm_free(l->path);
    *l = (rm_lines){0};
    return st;
}

json_t *rm_json_ids(const int32_t *id, int n) {
    json_t *a = json_array();
    for (int i = 0; i < n && a; i++)
        if (json_array_append_new(a, json_integer(id[i]))) {
            json_decref(a);
            a = NULL;
        }
    return a;
}
