/* Writing a state dict as torch.save does: a stored zip with a protocol 2 pickle, data aligned to 64 bytes. The bytes depend
 * on the tensors alone. */
#include <stdio.h>
#include <string.h>

#include "util/mem.h"
#include "util/strbuf.h"
#include "weights/reader.h"

enum { ALIGN = 64, LOCAL_SIZE = 30 };

typedef struct {
    char name[40];
    uint32_t crc, n, begin;
} member;

typedef struct {
    rm_file_writer file;
    const char *path;
    uint64_t at;
    member *m;
    size_t n_m;
    uint32_t crc_table[256];
    rmas_error *err;
} archive;

static void make_crc_table(uint32_t table[256]) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
}

static uint32_t crc32(const uint32_t table[256], const uint8_t *p, size_t n) {
    uint32_t c = 0xffffffffu;
    while (n--) c = table[(c ^ *p++) & 255] ^ c >> 8;
    return ~c;
}

static void put(rm_strbuf *b, uint64_t v, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) rm_strbuf_putc(b, (char)(v >> 8 * i));
}

static rmas_status write_out(archive *a, const void *p, size_t n) {
    a->at += n;
    return rm_writer_add(&a->file, p, n, a->err);
}

/* A local header with a filler field that moves the data to a multiple of 64, then the data. */
static rmas_status add_member(archive *a, const char *name, const void *data, size_t n) {
    if (n >= 0xffffffff || a->at + n >= 0xfffffff0)
        return rm_fail(a->err, RMAS_E_UNSUPPORTED, "%s: PyTorch files of 4 GiB and more are not written; write safetensors", a->path);
    member *m = &a->m[a->n_m++];
    size_t n_name = strlen(name), start = (size_t)a->at + LOCAL_SIZE + n_name + 4, fill = (ALIGN - start % ALIGN) % ALIGN;
    memcpy(m->name, name, n_name + 1);
    m->n = (uint32_t)n;
    m->begin = (uint32_t)a->at;
    m->crc = crc32(a->crc_table, data, n);
    rm_strbuf b = {0};
    rm_strbuf_add(&b, "PK\3\4\0\0\0\10\0\0\0\0\0\0", 14); /* version 0, flags: UTF-8 names, stored, no time */
    put(&b, m->crc, 4);
    put(&b, n, 4);
    put(&b, n, 4);
    put(&b, n_name, 2);
    put(&b, fill + 4, 2);
    rm_strbuf_puts(&b, name);
    rm_strbuf_add(&b, "FB", 2);
    put(&b, fill, 2);
    for (size_t i = 0; i < fill; i++) rm_strbuf_putc(&b, 'Z');
    rmas_status s = b.failed ? rm_reader_nomem(a->path, a->err) : write_out(a, b.s, b.n);
    rm_strbuf_free(&b);
    if (s == RMAS_OK && n) s = write_out(a, data, n);
    return s;
}

static rmas_status finish(archive *a) {
    uint64_t begin = a->at;
    rm_strbuf b = {0};
    for (size_t i = 0; i < a->n_m; i++) {
        const member *m = &a->m[i];
        rm_strbuf_add(&b, "PK\1\2\0\0\0\0\0\10\0\0\0\0\0\0", 16);
        put(&b, m->crc, 4);
        put(&b, m->n, 4);
        put(&b, m->n, 4);
        put(&b, strlen(m->name), 2);
        put(&b, 0, 8); /* extra, comment, disk, internal attributes */
        put(&b, 0, 4);
        put(&b, m->begin, 4);
        rm_strbuf_puts(&b, m->name);
    }
    size_t size = b.n;
    rm_strbuf_add(&b, "PK\6\6", 4); /* ZIP64 end record and locator, which torch.save always writes too */
    put(&b, 44, 8);
    put(&b, 0x1e | 45u << 16, 4);
    put(&b, 0, 8);
    put(&b, a->n_m, 8);
    put(&b, a->n_m, 8);
    put(&b, size, 8);
    put(&b, begin, 8);
    rm_strbuf_add(&b, "PK\6\7\0\0\0\0", 8);
    put(&b, begin + size, 8);
    put(&b, 1, 4);
    rm_strbuf_add(&b, "PK\5\6\0\0\0\0", 8);
    put(&b, a->n_m < 0xffff ? a->n_m : 0xffff, 2);
    put(&b, a->n_m < 0xffff ? a->n_m : 0xffff, 2);
    put(&b, size, 4);
    put(&b, begin, 4);
    put(&b, 0, 2);
    rmas_status s = b.failed ? rm_reader_nomem(a->path, a->err) : write_out(a, b.s, b.n);
    rm_strbuf_free(&b);
    return s;
}

/* ---- the pickle ----------------------------------------------------------------------------------------------------- */

static const char *storage_class(rm_dtype t) {
    switch (t) {
    case RM_F32: return "FloatStorage";
    case RM_F16: return "HalfStorage";
    case RM_BF16: return "BFloat16Storage";
    case RM_F64: return "DoubleStorage";
    case RM_I64: return "LongStorage";
    case RM_I32: return "IntStorage";
    case RM_I16: return "ShortStorage";
    case RM_I8: return "CharStorage";
    case RM_U8: return "ByteStorage";
    case RM_BOOL: return "BoolStorage";
    default: return NULL;
    }
}

static void put_text(rm_strbuf *b, const char *s) {
    rm_strbuf_putc(b, 'X');
    put(b, strlen(s), 4);
    rm_strbuf_puts(b, s);
}

static void put_int(rm_strbuf *b, int64_t v) {
    if (v >= 0 && v <= INT32_MAX) {
        rm_strbuf_putc(b, 'J');
        put(b, (uint64_t)v, 4);
    } else {
        rm_strbuf_add(b, "\x8a\10", 2);
        put(b, (uint64_t)v, 8);
    }
}

static void put_tensor(rm_strbuf *b, const rm_tensor *t, int key) {
    int64_t stride[RM_MAX_DIM], n = 1;
    for (int i = t->n_dim; i-- > 0;) {
        stride[i] = n;
        n *= t->dim[i] > 1 ? t->dim[i] : 1; /* as torch counts strides of empty tensors */
    }
    char number[16];
    snprintf(number, sizeof number, "%d", key);
    put_text(b, t->name);
    rm_strbuf_puts(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(b, "storage");
    rm_strbuf_printf(b, "ctorch\n%s\n", storage_class(t->dtype));
    put_text(b, number);
    put_text(b, "cpu");
    put_int(b, rm_tensor_count(t));
    rm_strbuf_puts(b, "tQ");
    put_int(b, 0);
    rm_strbuf_putc(b, '(');
    for (int i = 0; i < t->n_dim; i++) put_int(b, t->dim[i]);
    rm_strbuf_puts(b, "t(");
    for (int i = 0; i < t->n_dim; i++) put_int(b, stride[i]);
    rm_strbuf_puts(b, "t\x89"
                      "ccollections\nOrderedDict\n)RtR");
}

static rmas_status make_pickle(rm_strbuf *b, const char *path, const rm_tensor *t, int n, rmas_error *err) {
    rm_strbuf_puts(b, "\x80\2ccollections\nOrderedDict\n)R(");
    for (int i = 0; i < n; i++) {
        if (!storage_class(t[i].dtype) || (size_t)rm_tensor_count(&t[i]) * (size_t)rm_dtype_get(t[i].dtype)->block_bytes != t[i].n_bytes)
            return rm_fail(err, RMAS_E_ARG, "%s: tensor '%.200s' (%s) cannot be written to a PyTorch file", path, t[i].name,
                           rm_dtype_get(t[i].dtype)->name);
        put_tensor(b, &t[i], i);
    }
    rm_strbuf_puts(b, "u.");
    return b->failed ? rm_reader_nomem(path, err) : RMAS_OK;
}

static rmas_status write_members(archive *a, const rm_strbuf *pickle, const rm_tensor *t, int n) {
    RM_TRY(add_member(a, "archive/data.pkl", pickle->s, pickle->n));
    RM_TRY(add_member(a, "archive/.format_version", "1", 1));
    RM_TRY(add_member(a, "archive/.storage_alignment", "64", 2));
    RM_TRY(add_member(a, "archive/byteorder", "little", 6));
    for (int i = 0; i < n; i++) {
        char name[40];
        snprintf(name, sizeof name, "archive/data/%d", i);
        RM_TRY(add_member(a, name, t[i].data, t[i].n_bytes));
    }
    RM_TRY(add_member(a, "archive/version", "3\n", 2));
    return finish(a);
}

rmas_status rm_pt_write(const char *path, const rm_tensor *t, int n, rmas_error *err) {
    archive a = {.path = path, .file = {.fd = -1}, .err = err};
    rm_strbuf pickle = {0};
    make_crc_table(a.crc_table);
    a.m = rm_calloc((size_t)n + 8, sizeof *a.m);
    rmas_status s = a.m ? make_pickle(&pickle, path, t, n, err) : rm_reader_nomem(path, err);
    if (s == RMAS_OK) s = rm_writer_open(&a.file, path, err);
    if (s == RMAS_OK) {
        s = write_members(&a, &pickle, t, n);
        if (s == RMAS_OK)
            s = rm_writer_commit(&a.file, err);
        else
            rm_writer_abort(&a.file);
    }
    rm_strbuf_free(&pickle);
    rm_free(a.m);
    return s;
}
