/* Errands: tool calls that run beside the writing. Each has a thread, which waits for a place and then runs the call; what it
 * gives does not depend on when it is fetched. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "system/engine.h"
#include "util/mem.h"

struct rm_errand {
    rm_errands *x;
    bool search, has_thread;
    char *content;
    size_t n;
    pthread_t thread;
    /* written by the thread, read when done */
    rm_strbuf result;
    rmas_status status;
    rmas_error err;
    atomic_bool done;
};

/* A place per processor: programs that compute would only take one another's time, which is limited. */
rmas_status rm_errands_open(rm_errands *x, const rm_runner *r, rmas_error *err) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    x->r = r;
    atomic_init(&x->stop, false);
    if (sem_init(&x->places, 0, n < 2 ? 2 : n > 64 ? 64 : (unsigned)n) == 0) return RMAS_OK;
    return rm_fail(err, RMAS_E_IO, "cannot make a semaphore");
}

void rm_errands_close(rm_errands *x) { sem_destroy(&x->places); }

static void *run(void *errand) {
    rm_errand *e = errand;
    while (sem_wait(&e->x->places) != 0 && errno == EINTR) continue;
    if (!atomic_load(&e->x->stop)) e->status = rm_tool_call_run(e->x->r, e->search, e->content, e->n, &e->x->stop, &e->result, &e->err);
    sem_post(&e->x->places);
    atomic_store(&e->done, true);
    return NULL;
}

/* Signals are for the thread that runs the rows. */
static bool start_thread(rm_errand *e) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&e->thread, NULL, run, e) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

rmas_status rm_errand_new(rm_errand **out, rm_errands *x, const rm_tool_call *call, const char *text, rmas_error *err) {
    rm_errand *e = *out = RM_NEW(rm_errand);
    if (e) e->content = rm_strndup(text + call->content, call->n_content);
    if (!e || !e->content) {
        rm_free(e);
        *out = NULL;
        return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    e->x = x;
    e->search = call->search;
    e->n = call->n_content;
    e->has_thread = start_thread(e);
    if (!e->has_thread) run(e); /* too many threads on this machine: then one after the other */
    return RMAS_OK;
}

bool rm_errand_is_done(const rm_errand *e) { return atomic_load(&e->done); }

rmas_status rm_errand_get(const rm_errand *e, rm_errand_report *out, rmas_error *err) {
    *out = (rm_errand_report){e->search ? "search" : "python", e->content, rm_str(&e->result), e->n, e->result.n};
    if (e->status != RMAS_OK && err) *err = e->err;
    return e->status;
}

void rm_errand_free(rm_errand *e) {
    if (!e) return;
    if (e->has_thread) pthread_join(e->thread, NULL);
    rm_strbuf_free(&e->result);
    rm_free(e->content);
    rm_free(e);
}
