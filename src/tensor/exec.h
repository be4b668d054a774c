/* What every computation needs: the threads and the kernel table. One per engine; shared, read-only but for the pool. */
#ifndef RM_TENSOR_EXEC_H
#define RM_TENSOR_EXEC_H

#include "util/pool.h"

typedef struct rm_kern rm_kern;

typedef struct {
    rm_pool *pool;
    const rm_kern *kern;
} rm_exec;

/* isa: NULL for the best that this CPU has (or RMAS_ISA names), else "portable", "avx2", "avx512", "neon". n_thread <= 0: all processors. */
rmas_status rm_exec_new(rm_exec **out, int n_thread, const char *isa, rmas_error *err);
void rm_exec_free(rm_exec *e);

#endif
