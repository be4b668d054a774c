/* Writing GGUF v3: metadata collected in memory, tensors streamed. */
#ifndef RM_WEIGHTS_GGUF_WRITE_H
#define RM_WEIGHTS_GGUF_WRITE_H

#include "tensor/tensor.h"
#include "util/error.h"
#include "util/strbuf.h"
#include "weights/gguf.h"

typedef struct {
    rm_strbuf bytes; /* entries as they will stand in the file; out of memory is noticed on writing */
    uint64_t n;
} rm_gguf_meta;

void rm_gguf_meta_free(rm_gguf_meta *m);
void rm_gguf_put_str(rm_gguf_meta *m, const char *key, const char *s, size_t n);
void rm_gguf_put_u32(rm_gguf_meta *m, const char *key, uint32_t v);
void rm_gguf_put_f32(rm_gguf_meta *m, const char *key, float v);
void rm_gguf_put_bool(rm_gguf_meta *m, const char *key, bool v);
void rm_gguf_put_strs(rm_gguf_meta *m, const char *key, const rm_span *v, size_t n);
void rm_gguf_put_i32s(rm_gguf_meta *m, const char *key, const int32_t *v, size_t n);
void rm_gguf_put_f32s(rm_gguf_meta *m, const char *key, const float *v, size_t n);
void rm_gguf_put_bools(rm_gguf_meta *m, const char *key, const bool *v, size_t n);
/* Copies every entry of a file for which keep(key) is true. */
void rm_gguf_put_all(rm_gguf_meta *m, const rm_gguf *from, bool (*keep)(rm_span key));

/* Writes n bytes of tensor data to the file; called by the function that makes the data of one tensor. */
typedef struct rm_gguf_sink rm_gguf_sink;
rmas_status rm_gguf_add(rm_gguf_sink *s, const void *data, size_t n, rmas_error *err);
typedef rmas_status (*rm_gguf_make)(void *ctx, int i, rm_gguf_sink *s, rmas_error *err);

/* t: names, types and shapes (n_bytes set, data not used); make(ctx, i, ...) must add exactly t[i].n_bytes. Atomic. */
rmas_status rm_gguf_write(const char *path, const rm_gguf_meta *m, const rm_tensor *t, int n, rm_gguf_make make, void *ctx, rmas_error *err);

#endif
