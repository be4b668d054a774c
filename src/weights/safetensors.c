/* safetensors, read as strictly as the reference library: the tensors must tile the data section. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "util/json.h"
#include "util/mem.h"
#include "weights/reader.h"

enum { MAX_HEADER = 100000000 };

typedef struct {
    const char *name; /* as in the header, also what files write */
    rm_dtype dtype;
} dtype_name;

static const dtype_name dtypes[] = {{"F32", RM_F32}, {"F16", RM_F16}, {"BF16", RM_BF16}, {"F64", RM_F64}, {"I64", RM_I64},
                                    {"I32", RM_I32}, {"I16", RM_I16}, {"I8", RM_I8},     {"U8", RM_U8},   {"BOOL", RM_BOOL}};

typedef struct {
    rm_weights *w;
    const char *path;
    rm_json j;
    const uint8_t *data;
    uint64_t n_data;
    char name[200]; /* of the tensor that is being read, for messages */
    rmas_error *err;
} reader;

static rmas_status fail_json(reader *r) {
    if (r->j.error) return rm_fail(r->err, RMAS_E_FORMAT, "%s: header: %s at byte %zu", r->path, r->j.error, r->j.pos + 8);
    return rm_fail(r->err, RMAS_E_FORMAT, "%s: header: unexpected value at byte %zu", r->path, r->j.pos + 8);
}

static rmas_status fail_tensor(reader *r, const char *what) { return rm_fail(r->err, RMAS_E_FORMAT, "%s: tensor '%s': %s", r->path, r->name, what); }

/* An array of non-negative integers; -1 if it is something else or longer than max. */
static int read_ints(reader *r, int64_t *out, int max) {
    if (rm_json_next(&r->j) != RM_JSON_ARRAY) return -1;
    for (int n = 0;; n++) {
        rm_json_event e = rm_json_next(&r->j);
        if (e == RM_JSON_ARRAY_END) return n;
        if (e != RM_JSON_NUMBER || n == max || r->j.str[0] == '-' || !rm_json_int(&r->j, &out[n])) return -1;
    }
}

static rmas_status read_dtype(reader *r, rm_dtype *out) {
    rm_json_event e = rm_json_next(&r->j);
    if (e == RM_JSON_ERROR) return fail_json(r);
    if (e != RM_JSON_STRING) return fail_tensor(r, "dtype is not a string");
    for (size_t i = 0; i < RM_COUNT(dtypes); i++)
        if (rm_json_is(&r->j, dtypes[i].name)) {
            *out = dtypes[i].dtype;
            return RMAS_OK;
        }
    return rm_fail(r->err, RMAS_E_UNSUPPORTED, "%s: tensor '%s': dtype '%.*s' is not supported", r->path, r->name, r->j.len < 40 ? (int)r->j.len : 40,
                   r->j.str);
}

/* The value of a tensor's key: {"dtype": .., "shape": .., "data_offsets": ..}; unknown keys are skipped. */
static rmas_status read_tensor(reader *r, const char *name, size_t n_name) {
    rm_tensor t = {0};
    int64_t range[2];
    bool dtype = false, shape = false, offsets = false;
    rm_json_event e = rm_json_next(&r->j);
    if (e != RM_JSON_OBJECT) return e == RM_JSON_ERROR ? fail_json(r) : fail_tensor(r, "not an object");
    while ((e = rm_json_next(&r->j)) == RM_JSON_KEY) {
        bool *seen = rm_json_is(&r->j, "dtype") ? &dtype : rm_json_is(&r->j, "shape") ? &shape : rm_json_is(&r->j, "data_offsets") ? &offsets : NULL;
        if (!seen) {
            if (!rm_json_skip(&r->j, e)) return fail_json(r);
            continue;
        }
        if (*seen) return fail_tensor(r, "a key is there twice");
        *seen = true;
        if (seen == &dtype) {
            RM_TRY(read_dtype(r, &t.dtype));
        } else if (seen == &shape) {
            t.n_dim = read_ints(r, t.dim, RM_MAX_DIM);
            if (t.n_dim < 0) return r->j.error ? fail_json(r) : fail_tensor(r, "shape is not a list of at most 8 non-negative integers");
        } else if (read_ints(r, range, 2) != 2)
            return r->j.error ? fail_json(r) : fail_tensor(r, "data_offsets is not a pair of non-negative integers");
    }
    if (e != RM_JSON_OBJECT_END) return fail_json(r);
    if (!dtype || !shape || !offsets) return fail_tensor(r, !dtype ? "no dtype" : !shape ? "no shape" : "no data_offsets");
    if (range[0] > range[1] || (uint64_t)range[1] > r->n_data)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: tensor '%s': data_offsets [%lld, %lld] do not fit into %llu bytes of data; is the file complete?",
                       r->path, r->name, (long long)range[0], (long long)range[1], (unsigned long long)r->n_data);
    if (!rm_reader_size(t.dtype, t.dim, t.n_dim, &t.n_bytes) || t.n_bytes != (uint64_t)(range[1] - range[0]))
        return fail_tensor(r, "shape and dtype do not fit the length of its data");
    t.data = r->data + range[0];
    return rm_reader_add(r->w, r->path, name, n_name, &t, r->err);
}

static rmas_status read_metadata(reader *r) {
    if (rm_json_next(&r->j) != RM_JSON_OBJECT) return rm_fail(r->err, RMAS_E_FORMAT, "%s: __metadata__ is not an object", r->path);
    rm_json_event e;
    while ((e = rm_json_next(&r->j)) == RM_JSON_KEY)
        if ((e = rm_json_next(&r->j)) != RM_JSON_STRING)
            return e == RM_JSON_ERROR ? fail_json(r) : rm_fail(r->err, RMAS_E_FORMAT, "%s: __metadata__ holds a value that is not a string", r->path);
    return e == RM_JSON_OBJECT_END ? RMAS_OK : fail_json(r);
}

static rmas_status read_header(reader *r) {
    bool metadata = false;
    rm_json_event e = rm_json_next(&r->j);
    if (e != RM_JSON_OBJECT) return fail_json(r);
    while ((e = rm_json_next(&r->j)) == RM_JSON_KEY) {
        if (rm_json_is(&r->j, "__metadata__")) {
            if (metadata) return rm_fail(r->err, RMAS_E_FORMAT, "%s: __metadata__ is there twice", r->path);
            metadata = true;
            RM_TRY(read_metadata(r));
            continue;
        }
        size_t n_name = r->j.len, n = n_name < sizeof r->name ? n_name : sizeof r->name - 1;
        memcpy(r->name, r->j.str, n);
        r->name[n] = 0;
        char *name = rm_strndup(r->j.str, n_name); /* j.str dies with the next event */
        if (!name) return rm_reader_nomem(r->path, r->err);
        rmas_status s = read_tensor(r, name, n_name);
        rm_free(name);
        if (s != RMAS_OK) return s;
    }
    if (e != RM_JSON_OBJECT_END) return fail_json(r);
    return rm_json_next(&r->j) == RM_JSON_END ? RMAS_OK : fail_json(r);
}

static int compare_places(const void *a, const void *b) {
    const rm_tensor *x = *(rm_tensor *const *)a, *y = *(rm_tensor *const *)b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

/* Tensors in the order of their data must touch each other, begin at 0 and end at the end of the file. */
static rmas_status check_tiles(reader *r, int first) {
    rm_weights *w = r->w;
    size_t n = (size_t)(w->n_tensor - first);
    const rm_tensor **p = rm_array(n, sizeof *p);
    if (!p) return rm_reader_nomem(r->path, r->err);
    for (size_t i = 0; i < n; i++) p[i] = &w->tensor[(size_t)first + i];
    qsort(p, n, sizeof *p, compare_places);
    rmas_status s = RMAS_OK;
    uint64_t at = 0;
    for (size_t i = 0; i < n && s == RMAS_OK; i++) {
        uint64_t begin = (uint64_t)((const uint8_t *)p[i]->data - r->data);
        if (begin != at)
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: tensor '%.200s' %s", r->path, p[i]->name,
                        begin < at ? "overlaps another one" : "leaves a gap in the data before it");
        at = begin + p[i]->n_bytes;
    }
    if (s == RMAS_OK && at != r->n_data)
        s = rm_fail(r->err, RMAS_E_FORMAT, "%s: %llu bytes follow the last tensor", r->path, (unsigned long long)(r->n_data - at));
    rm_free(p);
    return s;
}

rmas_status rm_safetensors_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err) {
    if (m->n < 8) return rm_fail(err, RMAS_E_FORMAT, "%s: %zu bytes are too few for a safetensors file", path, m->n);
    uint64_t n = rm_le64(m->data);
    if (n > MAX_HEADER || n > m->n - 8)
        return rm_fail(err, RMAS_E_FORMAT, "%s: header of %llu bytes does not fit into a file of %zu; not safetensors, or not complete", path,
                       (unsigned long long)n, m->n);
    if (!n || m->data[8] != '{') return rm_fail(err, RMAS_E_FORMAT, "%s: the header does not begin with '{'; not a safetensors file", path);
    reader r = {.w = w, .path = path, .data = m->data + 8 + n, .n_data = m->n - 8 - n, .err = err};
    int first = w->n_tensor;
    rm_json_init(&r.j, (const char *)m->data + 8, (size_t)n);
    rmas_status s = read_header(&r);
    rm_json_free(&r.j);
    return s == RMAS_OK ? check_tiles(&r, first) : s;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static bool add_json_string(rm_strbuf *b, const char *s) {
    rm_strbuf_putc(b, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            rm_strbuf_printf(b, "\\%c", c);
        else if (c < 0x20)
            rm_strbuf_printf(b, "\\u%04x", c);
        else
            rm_strbuf_putc(b, (char)c);
    }
    rm_strbuf_putc(b, '"');
    return !b->failed;
}

static rmas_status make_header(rm_strbuf *b, const char *path, const rm_tensor *t, int n, rmas_error *err) {
    uint64_t at = 0;
    rm_strbuf_putc(b, '{');
    for (int i = 0; i < n; i++) {
        const char *dtype = NULL;
        for (size_t k = 0; k < RM_COUNT(dtypes); k++)
            if (dtypes[k].dtype == t[i].dtype) dtype = dtypes[k].name;
        size_t n_bytes;
        if (!dtype || !rm_reader_size(t[i].dtype, t[i].dim, t[i].n_dim, &n_bytes) || n_bytes != t[i].n_bytes)
            return rm_fail(err, RMAS_E_ARG, "%s: tensor '%.200s' (%s) cannot be written as safetensors", path, t[i].name,
                           rm_dtype_get(t[i].dtype)->name);
        if (i) rm_strbuf_putc(b, ',');
        add_json_string(b, t[i].name);
        rm_strbuf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype);
        for (int k = 0; k < t[i].n_dim; k++) rm_strbuf_printf(b, "%s%lld", k ? "," : "", (long long)t[i].dim[k]);
        rm_strbuf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + n_bytes));
        at += n_bytes;
    }
    rm_strbuf_putc(b, '}');
    while (b->n % 8 && !b->failed) rm_strbuf_putc(b, ' ');
    return b->failed ? rm_reader_nomem(path, err) : RMAS_OK;
}

rmas_status rm_safetensors_write(const char *path, const rm_tensor *t, int n, rmas_error *err) {
    rm_strbuf b = {0};
    rm_file_writer f = {.fd = -1};
    rmas_status s = make_header(&b, path, t, n, err);
    if (s == RMAS_OK) s = rm_writer_open(&f, path, err);
    if (s == RMAS_OK) {
        uint8_t size[8];
        for (int i = 0; i < 8; i++) size[i] = (uint8_t)((uint64_t)b.n >> 8 * i);
        s = rm_writer_add(&f, size, 8, err);
        if (s == RMAS_OK) s = rm_writer_add(&f, b.s, b.n, err);
        for (int i = 0; i < n && s == RMAS_OK; i++)
            if (t[i].n_bytes) s = rm_writer_add(&f, t[i].data, t[i].n_bytes, err);
        if (s == RMAS_OK)
            s = rm_writer_commit(&f, err);
        else
            rm_writer_abort(&f);
    }
    rm_strbuf_free(&b);
    return s;
}
