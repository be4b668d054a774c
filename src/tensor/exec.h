/* What every computation needs: the threads and the kernel table. One per engine. The scratch memory makes it not reentrant: one
 * caller at a time, like the pool. */
#ifndef RM_TENSOR_EXEC_H
#define RM_TENSOR_EXEC_H

#include <stdbool.h>
#include <stddef.h>

#include "util/pool.h"

typedef struct rm_kern rm_kern;
typedef struct rm_scratch rm_scratch;
typedef struct rm_profile rm_profile;

typedef struct {
    rm_pool *pool;
    const rm_kern *kern;
    rm_scratch *scratch;
    bool prompt; /* the rows of products and attention are positions of prompts, see rm_matrix_mul; false unless someone sets it for a while */
    rm_profile *profile; /* NULL: nobody counts the time, see tensor/profile.h */
} rm_exec;

/* isa: NULL for the best that this CPU has (or RMAS_ISA names), else "portable", "avx2", "avx-vnni", "avx512", "avx512-intel", "amx", "neon", "neon-dot". n_thread <= 0: all processors. */
rmas_status rm_exec_new(rm_exec **out, int n_thread, const char *isa, rmas_error *err);
void rm_exec_free(rm_exec *e);
const char *rm_exec_isa(const rm_exec *e); /* name of the kernel table: "avx512" ... */

/* Scratch memory that is kept for the next call, 64-byte aligned; NULL when out of memory. The content is undefined after each call
 * of rm_exec_shared or rm_exec_local. Only the functions of src/tensor use these: they do not nest. */
void *rm_exec_shared(rm_exec *e, size_t n_bytes); /* one block for the caller */
void *rm_exec_local(rm_exec *e, size_t n_bytes); /* the same number of bytes for each thread; thread t's begin at t * n_bytes rounded up to 64 */

#endif
