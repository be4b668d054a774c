/* Opening weight files: telling the format by content, folders and shard indexes, looking tensors up by name.
 * The formats themselves are read in safetensors.c, gguf.c, pt_zip.c and pt_pickle.c. */
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/json.h"
#include "util/mem.h"
#include "weights/reader.h"

/* ---- memory of an open file ----------------------------------------------------------------------------------------- */

rmas_status rm_reader_nomem(const char *path, rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path); }

void *rm_arena_alloc(rm_arena *a, size_t n) {
    enum { BLOCK = 1 << 14 };
    rm_block *b = a->blocks;
    size_t rounded = (n + 15) & ~(size_t)15;
    if (rounded < n) return NULL;
    if (b && b->cap - b->used >= rounded) {
        b->used += rounded;
        return b->data + b->used - rounded;
    }
    size_t cap = rounded > BLOCK / 4 ? rounded : BLOCK;
    if (cap > SIZE_MAX - sizeof *b) return NULL;
    rm_block *fresh = rm_alloc(sizeof *b + cap);
    if (!fresh) return NULL;
    *fresh = (rm_block){.used = rounded, .cap = cap};
    if (b && cap == rounded) { /* a block of its own goes behind the current one, which still has room */
        fresh->next = b->next;
        b->next = fresh;
    } else {
        fresh->next = b;
        a->blocks = fresh;
    }
    return fresh->data;
}

void rm_arena_free(rm_arena *a) {
    for (rm_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        rm_free(b);
    }
    a->blocks = NULL;
}

static char *arena_name(rm_arena *a, const char *s, size_t n) {
    char *p = n < SIZE_MAX ? rm_arena_alloc(a, n + 1) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

rmas_status rm_reader_add(rm_weights *w, const char *path, const char *name, size_t n_name, const rm_tensor *t, rmas_error *err) {
    if (!n_name) return rm_fail(err, RMAS_E_FORMAT, "%s: tensor without a name", path);
    if (memchr(name, 0, n_name)) return rm_fail(err, RMAS_E_FORMAT, "%s: a tensor name holds a NUL byte", path);
    if (w->n_tensor == w->cap_tensor) {
        int cap = w->cap_tensor ? w->cap_tensor * 2 : 64;
        rm_tensor *p = w->cap_tensor < 1 << 28 ? rm_realloc_array(w->tensor, (size_t)cap, sizeof *p) : NULL;
        if (!p) return rm_reader_nomem(path, err);
        w->tensor = p;
        w->cap_tensor = cap;
    }
    rm_tensor *out = &w->tensor[w->n_tensor];
    *out = *t;
    out->name = arena_name(&w->arena, name, n_name);
    if (!out->name) return rm_reader_nomem(path, err);
    w->n_tensor++;
    return RMAS_OK;
}

bool rm_reader_size(rm_dtype t, const int64_t *dim, int n_dim, size_t *n_bytes) {
    const rm_dtype_info *info = rm_dtype_get(t);
    int64_t row = n_dim ? dim[n_dim - 1] : 1, count = 1, bytes;
    for (int i = 0; i < n_dim; i++)
        if (dim[i] < 0) return false;
    if (row % info->block_elems) return false;
    /* Dimensions of 0 hide overflowing neighbours from a plain product: multiply those that are not 0. */
    bool empty = false;
    for (int i = 0; i < n_dim; i++) {
        if (!dim[i])
            empty = true;
        else if (__builtin_mul_overflow(count, dim[i], &count))
            return false;
    }
    if (empty) count = 0;
    if (__builtin_mul_overflow(count / info->block_elems, (int64_t)info->block_bytes, &bytes)) return false;
    *n_bytes = (size_t)bytes;
    return (uint64_t)bytes <= SIZE_MAX / 2;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int i;
} name_ref;

static int compare_names(const void *a, const void *b) { return strcmp(((const name_ref *)a)->name, ((const name_ref *)b)->name); }

rmas_status rm_reader_index(rm_weights *w, const char *path, rmas_error *err) {
    size_t n = (size_t)w->n_tensor;
    name_ref *r = rm_array(n, sizeof *r);
    rm_free(w->by_name);
    w->by_name = rm_array(n, sizeof *w->by_name);
    if (!r || !w->by_name) {
        rm_free(r);
        return rm_reader_nomem(path, err);
    }
    for (int i = 0; i < w->n_tensor; i++) r[i] = (name_ref){w->tensor[i].name, i};
    qsort(r, n, sizeof *r, compare_names);
    const char *twice = NULL;
    for (size_t i = 0; i < n; i++) {
        w->by_name[i] = r[i].i;
        if (i && !strcmp(r[i - 1].name, r[i].name)) twice = r[i].name;
    }
    rm_free(r);
    return twice ? rm_fail(err, RMAS_E_FORMAT, "%s: tensor '%.200s' is there twice", path, twice) : RMAS_OK;
}

const rm_tensor *rm_weights_find(const rm_weights *w, const char *name) {
    int lo = 0, hi = w->n_tensor;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(name, w->tensor[w->by_name[mid]].name);
        if (!c) return &w->tensor[w->by_name[mid]];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static rmas_status add_map(rm_weights *w, const char *path, rm_map *m, rmas_error *err) {
    if (w->n_map == w->cap_map) {
        int cap = w->cap_map ? w->cap_map * 2 : 4;
        rm_map *p = rm_realloc_array(w->map, (size_t)cap, sizeof *p);
        if (!p) return rm_reader_nomem(path, err);
        w->map = p;
        w->cap_map = cap;
    }
    RM_TRY(rm_map_open(m, path, err));
    w->map[w->n_map++] = *m;
    return RMAS_OK;
}

static bool ends_with(const char *s, const char *end) {
    size_t a = strlen(s), b = strlen(end);
    return a >= b && !strcmp(s + a - b, end);
}

static bool begins(const rm_map *m, const char *s, size_t n) { return m->n >= n && !memcmp(m->data, s, n); }

/* The kind of a file by its first bytes; where they tell nothing, by its name, so that the reader can say what is wrong. */
static rmas_status tell_kind(rm_file_kind *kind, const char *path, const rm_map *m, rmas_error *err) {
    if (!m->n) return rm_fail(err, RMAS_E_FORMAT, "%s: the file is empty", path);
    if (begins(m, "version https://git-lfs", 23))
        return rm_fail(err, RMAS_E_FORMAT, "%s: a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'", path);
    if (begins(m, "<!DOCTYPE", 9) || begins(m, "<html", 5)) return rm_fail(err, RMAS_E_FORMAT, "%s: a web page, not a weight file", path);
    if (begins(m, "GGUF", 4))
        *kind = RM_FILE_GGUF;
    else if (begins(m, "PK\3\4", 4))
        *kind = RM_FILE_PT;
    else if (m->n >= 9 && m->data[8] == '{')
        *kind = RM_FILE_SAFETENSORS;
    else if (ends_with(path, ".gguf"))
        *kind = RM_FILE_GGUF;
    else if (ends_with(path, ".pt") || ends_with(path, ".pth") || ends_with(path, ".bin"))
        *kind = RM_FILE_PT;
    else if (ends_with(path, ".safetensors"))
        *kind = RM_FILE_SAFETENSORS;
    else
        return rm_fail(err, RMAS_E_FORMAT, "%s: neither safetensors, GGUF nor a PyTorch file (first bytes %02x %02x %02x %02x)", path, m->data[0],
                       m->n > 1 ? m->data[1] : 0, m->n > 2 ? m->data[2] : 0, m->n > 3 ? m->data[3] : 0);
    return RMAS_OK;
}

/* The further parts of a split GGUF file; they lie beside the first one: NAME-00001-of-00003.gguf. */
static rmas_status open_parts(rm_weights *w, const char *path, rmas_error *err) {
    int parts = rm_gguf_parts(w->gguf);
    char end[32];
    snprintf(end, sizeof end, "-00001-of-%05d.gguf", parts);
    if (!ends_with(path, end))
        return rm_fail(err, RMAS_E_ARG, "%s: the first of %d parts of a split file; its name must end in %s, for the others to be found", path, parts,
                       end);
    char *name = rm_strdup(path);
    if (!name) return rm_reader_nomem(path, err);
    rmas_status s = RMAS_OK;
    for (int i = 2; i <= parts && s == RMAS_OK; i++) {
        rm_map m;
        snprintf(name + strlen(path) - strlen(end), sizeof end, "-%05d-of-%05d.gguf", i, parts);
        s = add_map(w, name, &m, err);
        if (s == RMAS_OK) s = rm_gguf_read(w, name, &m, err);
    }
    rm_free(name);
    int64_t n;
    if (s == RMAS_OK && rm_gguf_int(w->gguf, "split.tensors.count", &n) && n != w->n_tensor)
        s = rm_fail(err, RMAS_E_FORMAT, "%s: the %d parts have %d tensors together, not %lld", path, parts, w->n_tensor, (long long)n);
    return s;
}

static rmas_status open_file(rm_weights *w, const char *path, rmas_error *err) {
    rm_map m;
    RM_TRY(add_map(w, path, &m, err));
    RM_TRY(tell_kind(&w->kind, path, &m, err));
    switch (w->kind) {
    case RM_FILE_SAFETENSORS: RM_TRY(rm_safetensors_read(w, path, &m, err)); break;
    case RM_FILE_GGUF:
        RM_TRY(rm_gguf_read(w, path, &m, err));
        if (rm_gguf_parts(w->gguf) > 1) RM_TRY(open_parts(w, path, err));
        break;
    case RM_FILE_PT: RM_TRY(rm_pt_read(w, path, &m, err)); break;
    }
    return rm_reader_index(w, path, err);
}

/* ---- sharded folders ------------------------------------------------------------------------------------------------ */

typedef struct {
    char *tensor, *file;
    int first, end; /* tensors of its file */
} index_entry;

typedef struct {
    index_entry *e;
    size_t n, cap;
} shard_index;

static void free_index(shard_index *x) {
    for (size_t i = 0; i < x->n; i++) {
        rm_free(x->e[i].tensor);
        rm_free(x->e[i].file);
    }
    rm_free(x->e);
}

static rmas_status add_entry(shard_index *x, const char *path, char *tensor, const rm_json *j, rmas_error *err) {
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        index_entry *p = rm_realloc_array(x->e, cap, sizeof *p);
        if (!p) {
            rm_free(tensor);
            return rm_reader_nomem(path, err);
        }
        x->e = p;
        x->cap = cap;
    }
    char *file = rm_strndup(j->str, j->len);
    x->e[x->n++] = (index_entry){.tensor = tensor, .file = file};
    if (!file) return rm_reader_nomem(path, err);
    if (!file[0] || strchr(file, '/') || strchr(file, '\\') || strlen(file) != j->len || !strcmp(file, "..") || !strcmp(file, "."))
        return rm_fail(err, RMAS_E_FORMAT, "%s: tensor '%.100s' is said to be in '%.100s'; a shard must be a file of the same folder", path, tensor,
                       file);
    return RMAS_OK;
}

/* Reads the object weight_map of a shard index; other keys are skipped. */
static rmas_status read_index(shard_index *x, const char *path, const char *text, size_t n, rmas_error *err) {
    rm_json j;
    rm_json_init(&j, text, n);
    rmas_status s = RMAS_OK;
    bool in_map = false, seen = false;
    rm_json_event e = rm_json_next(&j);
    if (e != RM_JSON_OBJECT && e != RM_JSON_ERROR) s = rm_fail(err, RMAS_E_FORMAT, "%s: not a JSON object", path);
    while (s == RMAS_OK && e != RM_JSON_END && e != RM_JSON_ERROR) {
        e = rm_json_next(&j);
        if (e == RM_JSON_OBJECT_END) in_map = false;
        if (e != RM_JSON_KEY) continue;
        if (!in_map && rm_json_is(&j, "weight_map")) {
            if (seen) s = rm_fail(err, RMAS_E_FORMAT, "%s: two weight_map", path);
            e = rm_json_next(&j);
            if (e != RM_JSON_OBJECT && e != RM_JSON_ERROR) s = rm_fail(err, RMAS_E_FORMAT, "%s: weight_map is not an object", path);
            in_map = seen = true;
        } else if (in_map) {
            char *tensor = rm_strndup(j.str, j.len);
            if (!tensor) {
                s = rm_reader_nomem(path, err);
                break;
            }
            e = rm_json_next(&j);
            if (e == RM_JSON_STRING)
                s = add_entry(x, path, tensor, &j, err);
            else {
                if (e != RM_JSON_ERROR) s = rm_fail(err, RMAS_E_FORMAT, "%s: weight_map of '%.200s' is not a string", path, tensor);
                rm_free(tensor);
            }
        } else if (!rm_json_skip(&j, e))
            e = RM_JSON_ERROR;
    }
    if (s == RMAS_OK && e == RM_JSON_ERROR) s = rm_fail(err, RMAS_E_FORMAT, "%s: %s at byte %zu", path, j.error, j.pos);
    if (s == RMAS_OK && !x->n) s = rm_fail(err, RMAS_E_FORMAT, "%s: no weight_map", path);
    rm_json_free(&j);
    return s;
}

static int compare_files(const void *a, const void *b) { return strcmp(((const index_entry *)a)->file, ((const index_entry *)b)->file); }

static rmas_status open_shards(rm_weights *w, const char *dir, const char *path, shard_index *x, rmas_error *err) {
    qsort(x->e, x->n, sizeof *x->e, compare_files);
    w->kind = RM_FILE_SAFETENSORS;
    for (size_t i = 0; i < x->n;) {
        int first = w->n_tensor;
        const char *name = x->e[i].file;
        char *file = rm_path_join(dir, name);
        if (!file) return rm_reader_nomem(dir, err);
        rm_map m;
        rmas_status s = add_map(w, file, &m, err);
        if (s == RMAS_OK) s = rm_safetensors_read(w, file, &m, err);
        rm_free(file);
        if (s != RMAS_OK) return s;
        for (; i < x->n && !strcmp(x->e[i].file, name); i++) {
            x->e[i].first = first;
            x->e[i].end = w->n_tensor;
        }
    }
    RM_TRY(rm_reader_index(w, path, err));
    for (size_t i = 0; i < x->n; i++) {
        const rm_tensor *t = rm_weights_find(w, x->e[i].tensor);
        if (!t || t - w->tensor < x->e[i].first || t - w->tensor >= x->e[i].end)
            return rm_fail(err, RMAS_E_FORMAT, "%s: tensor '%.200s' is not in %.200s", path, x->e[i].tensor, x->e[i].file);
    }
    return RMAS_OK;
}

static rmas_status open_folder(rm_weights *w, const char *dir, rmas_error *err) {
    char *single = rm_path_join(dir, "model.safetensors"), *index = rm_path_join(dir, "model.safetensors.index.json");
    rmas_status s;
    shard_index x = {0};
    char *text = NULL;
    size_t n;
    if (!single || !index)
        s = rm_reader_nomem(dir, err);
    else if (rm_path_exists(single))
        s = open_file(w, single, err);
    else if (!rm_path_exists(index))
        s = rm_fail(err, RMAS_E_IO, "%s: the folder has neither model.safetensors nor model.safetensors.index.json", dir);
    else {
        s = rm_file_read(&text, &n, index, 64 << 20, err);
        if (s == RMAS_OK) s = read_index(&x, index, text, n, err);
        if (s == RMAS_OK) s = open_shards(w, dir, index, &x, err);
    }
    free_index(&x);
    rm_free(text);
    rm_free(single);
    rm_free(index);
    return s;
}

rmas_status rm_weights_open(rm_weights **out, const char *path, rmas_error *err) {
    *out = NULL;
    rm_weights *w = RM_NEW(rm_weights);
    if (!w) return rm_reader_nomem(path, err);
    rmas_status s = rm_path_is_dir(path) ? open_folder(w, path, err) : open_file(w, path, err);
    if (s == RMAS_OK)
        *out = w;
    else
        rm_weights_close(w);
    return s;
}

void rm_weights_close(rm_weights *w) {
    if (!w) return;
    rm_gguf_free(w->gguf);
    for (int i = 0; i < w->n_map; i++) rm_map_close(&w->map[i]);
    rm_arena_free(&w->arena);
    rm_free(w->map);
    rm_free(w->tensor);
    rm_free(w->by_name);
    rm_free(w);
}

rm_file_kind rm_weights_kind(const rm_weights *w) { return w->kind; }
const rm_gguf *rm_weights_gguf(const rm_weights *w) { return w->gguf; }
int rm_weights_count(const rm_weights *w) { return w->n_tensor; }
const rm_tensor *rm_weights_at(const rm_weights *w, int i) { return &w->tensor[i]; }

void rm_weights_release(const rm_weights *w, const rm_tensor *t) {
    const uint8_t *data = t->data;
    for (int i = 0; i < w->n_map; i++) {
        const rm_map *m = &w->map[i];
        if (data < m->data || data >= m->data + m->n) continue;
        const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE); /* whole pages of its own only */
        uintptr_t from = ((uintptr_t)data + page - 1) / page * page, to = ((uintptr_t)data + t->n_bytes) / page * page;
        if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED);
    }
}
