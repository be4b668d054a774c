/* Inside the weights module: what the readers of the three formats fill in. */
#ifndef RM_WEIGHTS_READER_H
#define RM_WEIGHTS_READER_H

#include "util/file.h"
#include "weights/weights.h"

/* Memory that is given back all at once. */
typedef struct rm_block {
    struct rm_block *next;
    size_t used, cap;
    _Alignas(16) char data[];
} rm_block;
typedef struct {
    rm_block *blocks;
} rm_arena;
void *rm_arena_alloc(rm_arena *a, size_t n); /* 16-byte aligned; NULL when there is none */
void rm_arena_free(rm_arena *a);

struct rm_weights {
    rm_file_kind kind;
    rm_map *map; /* one for each file */
    int n_map, cap_map;
    rm_tensor *tensor;
    int n_tensor, cap_tensor;
    int *by_name; /* indices into tensor, ordered by name; made by rm_reader_index */
    rm_arena arena; /* names and materialised tensors */
    rm_gguf *gguf;
};

rmas_status rm_reader_nomem(const char *path, rmas_error *err);
/* Appends a tensor; the name is copied. NUL bytes in a name and empty names are refused. */
rmas_status rm_reader_add(rm_weights *w, const char *path, const char *name, size_t n_name, const rm_tensor *t, rmas_error *err);
/* Orders the names; two equal ones are an error. */
rmas_status rm_reader_index(rm_weights *w, const char *path, rmas_error *err);
/* Bytes of a tensor of these dimensions; false on overflow or if rows are not whole blocks. */
bool rm_reader_size(rm_dtype t, const int64_t *dim, int n_dim, size_t *n_bytes);

/* Each appends the tensors of one mapped file. The map is already among w->map. */
rmas_status rm_safetensors_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err);
rmas_status rm_gguf_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err); /* metadata: kept of the first file */
int rm_gguf_parts(const rm_gguf *g); /* 1: not a split file */
rmas_status rm_pt_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err);
void rm_gguf_free(rm_gguf *g);
int rm_gguf_type_id(rm_dtype t); /* the number of a type in GGUF, -1: it has none */

static inline uint16_t rm_le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t rm_le32(const uint8_t *p) { return (uint32_t)rm_le16(p) | (uint32_t)rm_le16(p + 2) << 16; }
static inline uint64_t rm_le64(const uint8_t *p) { return (uint64_t)rm_le32(p) | (uint64_t)rm_le32(p + 4) << 32; }

#endif
