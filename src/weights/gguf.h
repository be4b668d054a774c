/* GGUF metadata: typed look-ups by key. Values belong to the file. */
#ifndef RM_WEIGHTS_GGUF_H
#define RM_WEIGHTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rm_gguf rm_gguf;

typedef struct {
    const char *s; /* not NUL-terminated */
    size_t n;
} rm_span;

bool rm_gguf_has(const rm_gguf *g, const char *key);
bool rm_gguf_str(const rm_gguf *g, const char *key, rm_span *out);
bool rm_gguf_int(const rm_gguf *g, const char *key, int64_t *out); /* any integer type or bool */
bool rm_gguf_float(const rm_gguf *g, const char *key, double *out); /* f32, f64 or an integer */
/* Arrays: the count, or -1 if the key is absent or not an array of that kind. */
int64_t rm_gguf_array_len(const rm_gguf *g, const char *key);
bool rm_gguf_array_int(const rm_gguf *g, const char *key, int64_t i, int64_t *out);
/* An array for many look-ups of elements, each O(1). NULL: no such array; the others then say false. */
typedef struct rm_gguf_array rm_gguf_array;
const rm_gguf_array *rm_gguf_array_find(const rm_gguf *g, const char *key);
bool rm_gguf_item_str(const rm_gguf_array *a, int64_t i, rm_span *out);
bool rm_gguf_item_int(const rm_gguf_array *a, int64_t i, int64_t *out);
bool rm_gguf_item_float(const rm_gguf_array *a, int64_t i, double *out);

/* Entry number i in the order of keys: its key, and all its bytes in the file. False when there are no more. */
bool rm_gguf_entry(const rm_gguf *g, size_t i, rm_span *key, rm_span *raw);

#endif
