#define _GNU_SOURCE /* cpu_set_t */
#include "util/pool.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "util/mem.h"

enum { NO_CHUNK = INT_MAX };
enum { SPIN = 20000 }; /* a worker looks this often for new work before it sleeps: decoding posts work every few microseconds */

/* Where the next chunk of a range comes from: the job's number in the upper half, the chunk in the lower half. A worker takes a chunk by a
 * compare-and-swap of both, so that one who comes late (its processor was taken away) finds the number changed and takes nothing; nobody
 * waits for it. */
typedef struct {
    _Alignas(64) atomic_ullong next;
} range;

struct rm_pool {
    int n_thread, n_started;
    pthread_t *thread;
    range *range; /* [n_thread]: the chunks of a job are cut into one range per thread */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Alignas(64) atomic_uint number; /* of the job */
    _Atomic(rm_pool_fn) fn;
    _Atomic(void *) ctx;
    atomic_int n_chunk, stop;
    _Alignas(64) atomic_int n_done; /* chunks finished */
    int sleeping; /* workers in pthread_cond_wait, under lock */
};

typedef struct {
    rm_pool *pool;
    int index;
} worker_arg;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static inline unsigned long long at(uint32_t number, int chunk) { return (unsigned long long)number << 32 | (uint32_t)chunk; }
static inline int range_begin(const rm_pool *p, int r, int n_chunk) { return (int)((int64_t)n_chunk * r / p->n_thread); }

/* Takes chunks of range r of job `number` until there are none left. */
static void take_range(rm_pool *p, uint32_t number, int r, int thread) {
    atomic_ullong *next = &p->range[r].next;
    unsigned long long job = atomic_load_explicit(next, memory_order_acquire);
    for (;;) {
        /* these belong to the job if the exchange succeeds: they change only after it was closed */
        rm_pool_fn fn = atomic_load_explicit(&p->fn, memory_order_acquire);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_acquire);
        int c = (int)(uint32_t)job, end = range_begin(p, r + 1, atomic_load_explicit(&p->n_chunk, memory_order_acquire));
        if ((uint32_t)(job >> 32) != number || c >= end) return;
        if (!atomic_compare_exchange_weak_explicit(next, &job, job + 1, memory_order_acq_rel, memory_order_acquire)) continue;
        fn(ctx, c, thread);
        atomic_fetch_add_explicit(&p->n_done, 1, memory_order_release);
        job = atomic_load_explicit(next, memory_order_acquire);
    }
}

/* A thread's own range first, in order: it may fetch ahead what its next chunk reads. Then what others have not come to. */
static void take_chunks(rm_pool *p, uint32_t number, int thread) {
    for (int i = 0; i < p->n_thread; i++) take_range(p, number, (thread + i) % p->n_thread, thread);
}

static void *worker(void *arg) {
    worker_arg a = *(worker_arg *)arg;
    rm_free(arg);
    rm_pool *p = a.pool;
    uint32_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPIN && atomic_load_explicit(&p->number, memory_order_acquire) == seen; i++) relax();
        if (atomic_load_explicit(&p->number, memory_order_acquire) == seen) {
            pthread_mutex_lock(&p->lock);
            p->sleeping++;
            while (atomic_load(&p->number) == seen) pthread_cond_wait(&p->wake, &p->lock);
            p->sleeping--;
            pthread_mutex_unlock(&p->lock);
        }
        seen = atomic_load(&p->number);
        if (atomic_load(&p->stop)) return NULL;
        take_chunks(p, seen, a.index);
    }
}

/* Ends the job so that nobody takes a chunk of it any more (a late worker's exchange fails): then the fields may change. */
static void close_job(rm_pool *p) {
    uint32_t number = atomic_load_explicit(&p->number, memory_order_relaxed);
    for (int r = 0; r < p->n_thread; r++) atomic_store(&p->range[r].next, at(number + 1, NO_CHUNK));
}

/* Starts the next job; its fields are set. Returns its number. */
static uint32_t post(rm_pool *p, int n_chunk) {
    uint32_t number = atomic_load_explicit(&p->number, memory_order_relaxed) + 1;
    for (int r = 0; r < p->n_thread; r++) atomic_store_explicit(&p->range[r].next, at(number, range_begin(p, r, n_chunk)), memory_order_release);
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->number, number);
    if (p->sleeping) pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    return number;
}

rmas_status rm_pool_new(rm_pool **out, int n_thread, rmas_error *err) {
    *out = NULL;
    if (n_thread <= 0) {
        cpu_set_t set;
        n_thread = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    if (n_thread > 1024) return rm_fail(err, RMAS_E_ARG, "threads: %d, at most 1024", n_thread);
    rm_pool *p = rm_aligned(sizeof *p);
    if (p) memset(p, 0, sizeof *p);
    if (p) p->thread = rm_calloc((size_t)n_thread, sizeof *p->thread);
    if (p) p->range = rm_aligned((size_t)n_thread * sizeof *p->range);
    if (!p || !p->thread || !p->range) {
        if (p) rm_free(p->range);
        if (p) rm_free(p->thread);
        rm_free(p);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for the thread pool");
    }
    p->n_thread = n_thread;
    memset(p->range, 0, (size_t)n_thread * sizeof *p->range);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    sigset_t all, old;
    sigfillset(&all); /* signals (Ctrl-C) go to the caller's thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rmas_status s = RMAS_OK;
    for (int i = 1; i < n_thread && s == RMAS_OK; i++) {
        worker_arg *a = RM_NEW(worker_arg);
        if (a) *a = (worker_arg){p, i};
        if (!a || pthread_create(&p->thread[i], NULL, worker, a) != 0) {
            rm_free(a);
            s = rm_fail(err, RMAS_E_NOMEM, "cannot start thread %d of %d", i + 1, n_thread);
        } else {
            p->n_started++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (s != RMAS_OK) {
        rm_pool_free(p);
        return s;
    }
    *out = p;
    return RMAS_OK;
}

void rm_pool_free(rm_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, 1);
    post(p, 0);
    for (int i = 1; i <= p->n_started; i++) pthread_join(p->thread[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    rm_free(p->range);
    rm_free(p->thread);
    rm_free(p);
}

int rm_pool_size(const rm_pool *p) { return p->n_thread; }

void rm_pool_run(rm_pool *p, int n_chunk, rm_pool_fn fn, void *ctx) {
    if (n_chunk <= 0) return;
    if (n_chunk == 1 || p->n_thread == 1) {
        for (int c = 0; c < n_chunk; c++) fn(ctx, c, 0);
        return;
    }
    close_job(p);
    atomic_store_explicit(&p->fn, fn, memory_order_release);
    atomic_store_explicit(&p->ctx, ctx, memory_order_release);
    atomic_store_explicit(&p->n_chunk, n_chunk, memory_order_release);
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    take_chunks(p, post(p, n_chunk), 0);
    for (int i = 0; atomic_load_explicit(&p->n_done, memory_order_acquire) < n_chunk; i++) {
        relax();
        if (i > SPIN) sched_yield(); /* more threads than processors */
    }
}
