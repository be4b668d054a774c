/* GGUF v2 and v3: metadata look-ups and the tensor list. */
#include "weights/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "weights/reader.h"

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64, T_COUNT };
enum { MAX_PARTS = 99999 };
static const uint8_t type_bytes[T_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}; /* 0: of variable length */

typedef struct rm_gguf_array {
    rm_span key;
    int type; /* of the value, or of the elements of an array */
    bool array;
    uint64_t count;
    const uint8_t *data; /* the value or the first element; of a string: its length field */
    const uint8_t **at; /* array of strings: where each one's length field is */
    const uint8_t *end; /* of all its bytes in the file */
} entry;

struct rm_gguf {
    entry *e; /* ordered by key */
    size_t n;
};

void rm_gguf_free(rm_gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n; i++) rm_free((void *)g->e[i].at);
    rm_free(g->e);
    rm_free(g);
}

/* ---- look-ups ------------------------------------------------------------------------------------------------------- */

static int compare_spans(rm_span a, rm_span b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.s, b.s, n) : 0;
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static const entry *find(const rm_gguf *g, const char *key) {
    rm_span k = {key, strlen(key)};
    size_t lo = 0, hi = g->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare_spans(k, g->e[mid].key);
        if (!c) return &g->e[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static const entry *find_scalar(const rm_gguf *g, const char *key) {
    const entry *e = find(g, key);
    return e && !e->array ? e : NULL;
}

static rm_span string_at(const uint8_t *p) { return (rm_span){(const char *)p + 8, (size_t)rm_le64(p)}; }

static bool int_at(int type, const uint8_t *p, int64_t *out) {
    switch (type) {
    case T_U8: *out = *p; return true;
    case T_BOOL: *out = *p != 0; return true;
    case T_I8: *out = (int8_t)*p; return true;
    case T_U16: *out = rm_le16(p); return true;
    case T_I16: *out = (int16_t)rm_le16(p); return true;
    case T_U32: *out = rm_le32(p); return true;
    case T_I32: *out = (int32_t)rm_le32(p); return true;
    case T_U64:
        if (rm_le64(p) > INT64_MAX) return false;
        *out = (int64_t)rm_le64(p);
        return true;
    case T_I64: *out = (int64_t)rm_le64(p); return true;
    default: return false;
    }
}

static bool float_at(int type, const uint8_t *p, double *out) {
    int64_t i;
    if (type == T_F32) {
        float f;
        memcpy(&f, p, 4);
        *out = f;
    } else if (type == T_F64)
        memcpy(out, p, 8);
    else if (int_at(type, p, &i))
        *out = (double)i;
    else
        return false;
    return true;
}

bool rm_gguf_has(const rm_gguf *g, const char *key) { return find(g, key) != NULL; }

bool rm_gguf_str(const rm_gguf *g, const char *key, rm_span *out) {
    const entry *e = find_scalar(g, key);
    if (!e || e->type != T_STRING) return false;
    *out = string_at(e->data);
    return true;
}

bool rm_gguf_int(const rm_gguf *g, const char *key, int64_t *out) {
    const entry *e = find_scalar(g, key);
    return e && int_at(e->type, e->data, out);
}

bool rm_gguf_float(const rm_gguf *g, const char *key, double *out) {
    const entry *e = find_scalar(g, key);
    return e && float_at(e->type, e->data, out);
}

int64_t rm_gguf_array_len(const rm_gguf *g, const char *key) {
    const entry *e = find(g, key);
    return e && e->array ? (int64_t)e->count : -1;
}

const rm_gguf_array *rm_gguf_array_find(const rm_gguf *g, const char *key) {
    const entry *e = find(g, key);
    return e && e->array ? e : NULL;
}

bool rm_gguf_item_str(const rm_gguf_array *a, int64_t i, rm_span *out) {
    if (!a || i < 0 || (uint64_t)i >= a->count || a->type != T_STRING) return false;
    *out = string_at(a->at[i]);
    return true;
}

bool rm_gguf_item_int(const rm_gguf_array *a, int64_t i, int64_t *out) {
    return a && i >= 0 && (uint64_t)i < a->count && a->type != T_STRING && int_at(a->type, a->data + (uint64_t)i * type_bytes[a->type], out);
}

bool rm_gguf_item_float(const rm_gguf_array *a, int64_t i, double *out) {
    return a && i >= 0 && (uint64_t)i < a->count && a->type != T_STRING && float_at(a->type, a->data + (uint64_t)i * type_bytes[a->type], out);
}

bool rm_gguf_array_int(const rm_gguf *g, const char *key, int64_t i, int64_t *out) { return rm_gguf_item_int(rm_gguf_array_find(g, key), i, out); }

bool rm_gguf_entry(const rm_gguf *g, size_t i, rm_span *key, rm_span *raw) {
    if (i >= g->n) return false;
    const char *start = g->e[i].key.s - 8; /* the length field */
    *key = g->e[i].key;
    *raw = (rm_span){start, (size_t)((const char *)g->e[i].end - start)};
    return true;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *path;
    const uint8_t *p, *end;
    rmas_error *err;
    char what[160]; /* key or tensor being read, for messages */
} reader;

static rmas_status fail(reader *r, const char *problem) { return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: %s", r->path, r->what, problem); }
static rmas_status cut(reader *r) { return fail(r, "the file ends too early or the file is damaged"); }

static bool take(reader *r, uint64_t n, const uint8_t **p) {
    if (n > (uint64_t)(r->end - r->p)) return false;
    *p = r->p;
    r->p += n;
    return true;
}

static bool take_u32(reader *r, uint32_t *v) {
    const uint8_t *p;
    if (!take(r, 4, &p)) return false;
    *v = rm_le32(p);
    return true;
}

static bool take_u64(reader *r, uint64_t *v) {
    const uint8_t *p;
    if (!take(r, 8, &p)) return false;
    *v = rm_le64(p);
    return true;
}

static bool take_string(reader *r, rm_span *s) {
    uint64_t n;
    const uint8_t *p;
    if (!take_u64(r, &n) || !take(r, n, &p)) return false;
    *s = (rm_span){(const char *)p, (size_t)n};
    return true;
}

static void set_what(reader *r, const char *kind, rm_span name) {
    int n = name.n < 100 ? (int)name.n : 100, k = 0;
    for (const char *q = kind; *q; q++) r->what[k++] = *q;
    r->what[k++] = '\'';
    memcpy(r->what + k, name.s, (size_t)n);
    k += n;
    r->what[k++] = '\'';
    r->what[k] = 0;
}

static rmas_status read_array(reader *r, entry *e) {
    uint32_t type;
    if (!take_u32(r, &type) || !take_u64(r, &e->count)) return cut(r);
    if (type >= T_COUNT || type == T_ARRAY)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: array of elements of type %u, which is not supported", r->path, r->what, type);
    e->array = true;
    e->type = (int)type;
    e->data = r->p;
    uint64_t left = (uint64_t)(r->end - r->p);
    if (type != T_STRING) {
        if (e->count > left / type_bytes[type]) return cut(r);
        r->p += e->count * type_bytes[type];
        return RMAS_OK;
    }
    if (e->count > left / 8) return cut(r);
    e->at = rm_array((size_t)e->count, sizeof *e->at);
    if (!e->at) return rm_reader_nomem(r->path, r->err);
    for (uint64_t i = 0; i < e->count; i++) {
        rm_span s;
        e->at[i] = r->p;
        if (!take_string(r, &s)) return cut(r);
    }
    return RMAS_OK;
}

static rmas_status read_entry(reader *r, entry *e) {
    uint32_t type;
    *e = (entry){.count = 1};
    strcpy(r->what, "metadata key");
    if (!take_string(r, &e->key)) return cut(r);
    set_what(r, "metadata ", e->key);
    if (!take_u32(r, &type)) return cut(r);
    if (type >= T_COUNT) return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: unknown value type %u", r->path, r->what, type);
    if (type == T_ARRAY) return read_array(r, e);
    e->type = (int)type;
    e->data = r->p;
    rm_span s;
    if (type == T_STRING) return take_string(r, &s) ? RMAS_OK : cut(r);
    return take(r, type_bytes[type], &e->data) ? RMAS_OK : cut(r);
}

static int compare_entries(const void *a, const void *b) { return compare_spans(((const entry *)a)->key, ((const entry *)b)->key); }

static rmas_status read_metadata(reader *r, rm_gguf *g, uint64_t n) {
    if (n > (uint64_t)(r->end - r->p) / 13) return cut(r); /* the smallest entry: key length, type, one byte */
    size_t cap = 0;
    while (g->n < n) {
        if (g->n == cap) {
            cap = cap ? cap * 2 : 64;
            entry *p = rm_realloc_array(g->e, cap, sizeof *p);
            if (!p) return rm_reader_nomem(r->path, r->err);
            g->e = p;
        }
        entry *e = &g->e[g->n++];
        RM_TRY(read_entry(r, e));
        e->end = r->p;
    }
    if (n) qsort(g->e, g->n, sizeof *g->e, compare_entries);
    for (size_t i = 1; i < g->n; i++)
        if (!compare_spans(g->e[i - 1].key, g->e[i].key)) {
            set_what(r, "metadata ", g->e[i].key);
            return fail(r, "the key is there twice");
        }
    return RMAS_OK;
}

static const struct {
    uint8_t id, dtype;
} type_ids[] = {{0, RM_F32},   {1, RM_F16},   {2, RM_Q4_0},  {3, RM_Q4_1},  {6, RM_Q5_0},  {7, RM_Q5_1},    {8, RM_Q8_0},
                {10, RM_Q2_K}, {11, RM_Q3_K}, {12, RM_Q4_K}, {13, RM_Q5_K}, {14, RM_Q6_K}, {20, RM_IQ4_NL}, {23, RM_IQ4_XS},
                {24, RM_I8},   {25, RM_I16},  {26, RM_I32},  {27, RM_I64},  {28, RM_F64},  {30, RM_BF16}};

static bool dtype_of(uint32_t id, rm_dtype *out) {
    for (size_t i = 0; i < RM_COUNT(type_ids); i++)
        if (type_ids[i].id == id) {
            *out = (rm_dtype)type_ids[i].dtype;
            return true;
        }
    return false;
}

int rm_gguf_type_id(rm_dtype t) {
    for (size_t i = 0; i < RM_COUNT(type_ids); i++)
        if (type_ids[i].dtype == t) return type_ids[i].id;
    return -1;
}

/* Reads one tensor; data is its offset until the data section is known. */
static rmas_status read_tensor(reader *r, rm_weights *w, uint64_t *offset) {
    rm_tensor t = {0};
    rm_span name;
    uint32_t n_dim, type;
    strcpy(r->what, "tensor list");
    if (!take_string(r, &name)) return cut(r);
    set_what(r, "tensor ", name);
    if (!take_u32(r, &n_dim)) return cut(r);
    if (n_dim > 4) return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: %u dimensions, at most 4 are possible", r->path, r->what, n_dim);
    t.n_dim = (int)n_dim;
    for (uint32_t i = 0; i < n_dim; i++) {
        uint64_t d;
        if (!take_u64(r, &d)) return cut(r);
        if (d > INT64_MAX) return fail(r, "negative dimension");
        t.dim[n_dim - 1 - i] = (int64_t)d;
    }
    if (!take_u32(r, &type) || !take_u64(r, offset)) return cut(r);
    if (!dtype_of(type, &t.dtype))
        return rm_fail(r->err, RMAS_E_UNSUPPORTED,
                       "%s: %s: tensor type %d is not supported (F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS are)", r->path, r->what,
                       (int)type);
    if (!rm_reader_size(t.dtype, t.dim, t.n_dim, &t.n_bytes))
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: rows of %lld elements of type %s, or the number of elements, are impossible", r->path, r->what,
                       (long long)(n_dim ? t.dim[n_dim - 1] : 1), rm_dtype_get(t.dtype)->name);
    return rm_reader_add(w, r->path, name.s, name.n, &t, r->err);
}

static int compare_places(const void *a, const void *b) {
    const rm_tensor *x = *(rm_tensor *const *)a, *y = *(rm_tensor *const *)b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static rmas_status check_overlap(reader *r, const rm_tensor *t, size_t n) {
    const rm_tensor **p = rm_array(n, sizeof *p);
    if (!p) return rm_reader_nomem(r->path, r->err);
    for (size_t i = 0; i < n; i++) p[i] = &t[i];
    qsort(p, n, sizeof *p, compare_places);
    rmas_status s = RMAS_OK;
    for (size_t i = 1; i < n && s == RMAS_OK; i++)
        if ((const uint8_t *)p[i - 1]->data + p[i - 1]->n_bytes > (const uint8_t *)p[i]->data)
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: the data of tensors '%.100s' and '%.100s' overlap", r->path, p[i - 1]->name, p[i]->name);
    rm_free(p);
    return s;
}

static rmas_status read_tensors(reader *r, rm_weights *w, const rm_gguf *g, const rm_map *m, uint64_t n) {
    strcpy(r->what, "tensor list");
    if (n > (uint64_t)(r->end - r->p) / 24) return cut(r); /* the smallest record */
    uint64_t *offset = rm_array((size_t)n, sizeof *offset), alignment = 32;
    if (!offset) return rm_reader_nomem(r->path, r->err);
    rmas_status s = RMAS_OK;
    size_t first = (size_t)w->n_tensor;
    for (uint64_t i = 0; i < n && s == RMAS_OK; i++) s = read_tensor(r, w, &offset[i]);
    const entry *e = find(g, "general.alignment");
    if (s == RMAS_OK && e) {
        alignment = e->type == T_U32 && !e->array ? rm_le32(e->data) : 0;
        if (!alignment || alignment & (alignment - 1) || alignment > 1 << 20)
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: general.alignment is not a power of two up to 2^20", r->path);
    }
    uint64_t start = ((uint64_t)(r->p - m->data) + alignment - 1) & ~(alignment - 1);
    for (uint64_t i = 0; i < n && s == RMAS_OK; i++) {
        rm_tensor *t = &w->tensor[first + i];
        if (offset[i] & (alignment - 1))
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: tensor '%.200s': offset %llu is not a multiple of %llu", r->path, t->name,
                        (unsigned long long)offset[i], (unsigned long long)alignment);
        else if (start > m->n || offset[i] > m->n - start || t->n_bytes > m->n - start - offset[i])
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: tensor '%.200s': %zu bytes of data do not fit into the file; is it complete?", r->path, t->name,
                        t->n_bytes);
        else
            t->data = m->data + start + offset[i];
    }
    rm_free(offset);
    return s == RMAS_OK && n ? check_overlap(r, w->tensor + first, (size_t)n) : s;
}

/* ---- split files ---------------------------------------------------------------------------------------------------- */

int rm_gguf_parts(const rm_gguf *g) {
    int64_t n;
    return rm_gguf_int(g, "split.count", &n) && n > 1 ? n < MAX_PARTS ? (int)n : MAX_PARTS : 1;
}

/* Whether this is the part that is due: the first one, or the one behind those that were read before. */
static rmas_status check_part(reader *r, const rm_weights *w, const rm_gguf *g) {
    int64_t no = 0, due = w->gguf ? w->n_map - 1 : 0;
    int parts = rm_gguf_parts(g), all = rm_gguf_parts(w->gguf ? w->gguf : g);
    if (parts != all || (parts > 1 && !rm_gguf_int(g, "split.no", &no)))
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: is not one of %d parts of a split file, as its name says", r->path, all);
    if (no == due) return RMAS_OK;
    if (w->gguf) return rm_fail(r->err, RMAS_E_FORMAT, "%s: is part %lld, not part %lld", r->path, (long long)no + 1, (long long)due + 1);
    return rm_fail(r->err, RMAS_E_ARG, "%s: part %lld of a split file of %d; name the first one (...-00001-of-%05d.gguf), the others are found",
                   r->path, (long long)no + 1, parts, parts);
}

rmas_status rm_gguf_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err) {
    reader r = {.path = path, .p = m->data, .end = m->data + m->n, .err = err, .what = "header"};
    uint32_t magic, version;
    uint64_t n_tensor, n_kv;
    if (!take_u32(&r, &magic) || !take_u32(&r, &version) || !take_u64(&r, &n_tensor) || !take_u64(&r, &n_kv)) return cut(&r);
    if (memcmp(m->data, "GGUF", 4)) return rm_fail(err, RMAS_E_FORMAT, "%s: does not begin with 'GGUF'", path);
    if (!(version & 0xffff)) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: a big-endian GGUF file; only little-endian ones are read", path);
    if (version != 2 && version != 3) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: GGUF version %u; 2 and 3 are supported", path, version);
    rm_gguf *g = RM_NEW(rm_gguf);
    if (!g) return rm_reader_nomem(path, err);
    rmas_status s = read_metadata(&r, g, n_kv);
    if (s == RMAS_OK) s = check_part(&r, w, g);
    if (s == RMAS_OK) s = read_tensors(&r, w, g, m, n_tensor);
    if (w->gguf)
        rm_gguf_free(g);
    else
        w->gguf = g;
    return s;
}
