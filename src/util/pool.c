#define _GNU_SOURCE /* cpu_set_t */
#include "util/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "util/mem.h"

enum { SPIN = 20000 }; /* a worker looks this often for new work before it sleeps: decoding posts work every few microseconds */

struct rm_pool {
    int n_thread, n_started;
    pthread_t *thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint generation; /* counts the calls of rm_pool_run */
    atomic_int next, busy, stop;
    int sleeping; /* workers in pthread_cond_wait, under lock */
    int n_chunk;
    rm_pool_fn fn;
    void *ctx;
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

static void take_chunks(rm_pool *p, int thread) {
    for (int c; (c = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n_chunk;) p->fn(p->ctx, c, thread);
}

static void *worker(void *arg) {
    worker_arg a = *(worker_arg *)arg;
    rm_free(arg);
    rm_pool *p = a.pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPIN && atomic_load_explicit(&p->generation, memory_order_acquire) == seen; i++) relax();
        if (atomic_load_explicit(&p->generation, memory_order_acquire) == seen) {
            pthread_mutex_lock(&p->lock);
            p->sleeping++;
            while (atomic_load(&p->generation) == seen) pthread_cond_wait(&p->wake, &p->lock);
            p->sleeping--;
            pthread_mutex_unlock(&p->lock);
        }
        seen++;
        if (atomic_load(&p->stop)) return NULL;
        take_chunks(p, a.index);
        atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
    }
}

static void post(rm_pool *p) {
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    if (p->sleeping) pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

rmas_status rm_pool_new(rm_pool **out, int n_thread, rmas_error *err) {
    *out = NULL;
    if (n_thread <= 0) {
        cpu_set_t set;
        n_thread = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    if (n_thread > 1024) return rm_fail(err, RMAS_E_ARG, "threads: %d, at most 1024", n_thread);
    rm_pool *p = RM_NEW(rm_pool);
    if (p) p->thread = rm_calloc((size_t)n_thread, sizeof *p->thread);
    if (!p || !p->thread) {
        rm_free(p);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for the thread pool");
    }
    p->n_thread = n_thread;
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
    post(p);
    for (int i = 1; i <= p->n_started; i++) pthread_join(p->thread[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
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
    p->fn = fn;
    p->ctx = ctx;
    p->n_chunk = n_chunk;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, p->n_thread - 1, memory_order_relaxed);
    post(p);
    take_chunks(p, 0);
    for (int i = 0; atomic_load_explicit(&p->busy, memory_order_acquire) > 0; i++) {
        relax();
        if (i > SPIN) sched_yield(); /* more threads than processors */
    }
}
