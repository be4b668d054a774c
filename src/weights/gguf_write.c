/* GGUF files are written from the front: the place of every tensor is known before the first byte of data. */
#include "weights/gguf_write.h"

#include <string.h>

#include "util/file.h"
#include "util/mem.h"
#include "weights/reader.h"

enum { T_U32 = 4, T_I32 = 5, T_F32 = 6, T_BOOL = 7, T_STRING = 8, T_ARRAY = 9, ALIGN = 32 };

static void put(rm_strbuf *b, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) rm_strbuf_putc(b, (char)(v >> 8 * i));
}

static void put_string(rm_strbuf *b, const char *s, size_t n) {
    put(b, n, 8);
    if (n) rm_strbuf_add(b, s, n);
}

static void put_float(rm_strbuf *b, float v) {
    uint32_t u;
    memcpy(&u, &v, 4);
    put(b, u, 4);
}

static rm_strbuf *begin(rm_gguf_meta *m, const char *key, int type) {
    m->n++;
    put_string(&m->bytes, key, strlen(key));
    put(&m->bytes, (uint64_t)type, 4);
    return &m->bytes;
}

static rm_strbuf *begin_array(rm_gguf_meta *m, const char *key, int type, size_t n) {
    rm_strbuf *b = begin(m, key, T_ARRAY);
    put(b, (uint64_t)type, 4);
    put(b, n, 8);
    return b;
}

void rm_gguf_meta_free(rm_gguf_meta *m) {
    rm_strbuf_free(&m->bytes);
    m->n = 0;
}

void rm_gguf_put_str(rm_gguf_meta *m, const char *key, const char *s, size_t n) { put_string(begin(m, key, T_STRING), s, n); }
void rm_gguf_put_u32(rm_gguf_meta *m, const char *key, uint32_t v) { put(begin(m, key, T_U32), v, 4); }
void rm_gguf_put_f32(rm_gguf_meta *m, const char *key, float v) { put_float(begin(m, key, T_F32), v); }
void rm_gguf_put_bool(rm_gguf_meta *m, const char *key, bool v) { put(begin(m, key, T_BOOL), v, 1); }

void rm_gguf_put_strs(rm_gguf_meta *m, const char *key, const rm_span *v, size_t n) {
    rm_strbuf *b = begin_array(m, key, T_STRING, n);
    for (size_t i = 0; i < n; i++) put_string(b, v[i].s, v[i].n);
}

void rm_gguf_put_i32s(rm_gguf_meta *m, const char *key, const int32_t *v, size_t n) {
    rm_strbuf *b = begin_array(m, key, T_I32, n);
    for (size_t i = 0; i < n; i++) put(b, (uint32_t)v[i], 4);
}

void rm_gguf_put_f32s(rm_gguf_meta *m, const char *key, const float *v, size_t n) {
    rm_strbuf *b = begin_array(m, key, T_F32, n);
    for (size_t i = 0; i < n; i++) put_float(b, v[i]);
}

void rm_gguf_put_bools(rm_gguf_meta *m, const char *key, const bool *v, size_t n) {
    rm_strbuf *b = begin_array(m, key, T_BOOL, n);
    for (size_t i = 0; i < n; i++) put(b, v[i], 1);
}

void rm_gguf_put_all(rm_gguf_meta *m, const rm_gguf *from, bool (*keep)(rm_span key)) {
    rm_span key, raw;
    for (size_t i = 0; rm_gguf_entry(from, i, &key, &raw); i++) {
        if (!keep(key)) continue;
        rm_strbuf_add(&m->bytes, raw.s, raw.n);
        m->n++;
    }
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

struct rm_gguf_sink {
    rm_file_writer file;
    uint64_t n; /* bytes of the tensor that is being written */
};

rmas_status rm_gguf_add(rm_gguf_sink *s, const void *data, size_t n, rmas_error *err) {
    s->n += n;
    return rm_writer_add(&s->file, data, n, err);
}

static uint64_t padding(uint64_t n) { return (ALIGN - n % ALIGN) % ALIGN; }

static rmas_status make_header(rm_strbuf *b, const char *path, const rm_gguf_meta *m, const rm_tensor *t, int n, rmas_error *err) {
    uint64_t at = 0;
    rm_strbuf_puts(b, "GGUF");
    put(b, 3, 4);
    put(b, (uint64_t)n, 8);
    put(b, m->n, 8);
    if (m->bytes.n) rm_strbuf_add(b, m->bytes.s, m->bytes.n);
    for (int i = 0; i < n; i++) {
        int id = rm_gguf_type_id(t[i].dtype);
        if (id < 0 || t[i].n_dim > 4)
            return rm_fail(err, RMAS_E_ARG, "%s: tensor '%.200s' (%s, %d dimensions) cannot be written as GGUF", path, t[i].name,
                           rm_dtype_get(t[i].dtype)->name, t[i].n_dim);
        put_string(b, t[i].name, strlen(t[i].name));
        put(b, (uint64_t)t[i].n_dim, 4);
        for (int k = t[i].n_dim; k-- > 0;) put(b, (uint64_t)t[i].dim[k], 8);
        put(b, (uint64_t)id, 4);
        put(b, at, 8);
        at += t[i].n_bytes + padding(t[i].n_bytes);
    }
    for (uint64_t k = padding(b->n); k; k--) rm_strbuf_putc(b, 0);
    return b->failed || m->bytes.failed ? rm_reader_nomem(path, err) : RMAS_OK;
}

rmas_status rm_gguf_write(const char *path, const rm_gguf_meta *m, const rm_tensor *t, int n, rm_gguf_make make, void *ctx, rmas_error *err) {
    static const uint8_t zeros[ALIGN] = {0};
    rm_strbuf b = {0};
    rm_gguf_sink sink = {.file = {.fd = -1}};
    rmas_status s = make_header(&b, path, m, t, n, err);
    if (s == RMAS_OK) s = rm_writer_open(&sink.file, path, err);
    if (s == RMAS_OK) {
        s = rm_writer_add(&sink.file, b.s, b.n, err);
        for (int i = 0; i < n && s == RMAS_OK; i++) {
            sink.n = 0;
            s = make(ctx, i, &sink, err);
            if (s == RMAS_OK && sink.n != t[i].n_bytes)
                s = rm_fail(err, RMAS_E_ARG, "%s: tensor '%.200s': %llu bytes were made, not %zu", path, t[i].name, (unsigned long long)sink.n,
                            t[i].n_bytes);
            if (s == RMAS_OK) s = rm_writer_add(&sink.file, zeros, (size_t)padding(t[i].n_bytes), err);
        }
        if (s == RMAS_OK)
            s = rm_writer_commit(&sink.file, err);
        else
            rm_writer_abort(&sink.file);
    }
    rm_strbuf_free(&b);
    return s;
}
