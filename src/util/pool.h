/* One thread pool per engine. Work is cut into chunks whose number does not depend on the number of threads, so that
 * results do not either; threads take chunks as they come. */
#ifndef RM_UTIL_POOL_H
#define RM_UTIL_POOL_H

#include "util/error.h"

typedef struct rm_pool rm_pool;

/* n_thread <= 0: the number of processors this process may use. */
rmas_status rm_pool_new(rm_pool **out, int n_thread, rmas_error *err);
void rm_pool_free(rm_pool *p);
int rm_pool_size(const rm_pool *p);

/* Calls fn(ctx, chunk, thread) for every chunk in [0, n_chunk), 0 <= thread < rm_pool_size (for per-thread scratch).
 * Returns when all are done. Not reentrant; one caller at a time. */
typedef void (*rm_pool_fn)(void *ctx, int chunk, int thread);
void rm_pool_run(rm_pool *p, int n_chunk, rm_pool_fn fn, void *ctx);

#endif
