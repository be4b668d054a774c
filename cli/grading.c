#include "grading.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "util/mem.h"

typedef struct waiting {
    struct waiting *next;
    rm_answer *a;
} waiting;

struct rm_grading {
    rm_grade_fn grade;
    void *ctx;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    waiting *first, **last;
    bool closing;
    rmas_status status;
    rmas_error err;
};

static void *run(void *grading) {
    rm_grading *g = grading;
    pthread_mutex_lock(&g->lock);
    for (;;) {
        while (!g->first && !g->closing) pthread_cond_wait(&g->changed, &g->lock);
        waiting *w = g->first;
        if (!w) break;
        g->first = w->next;
        if (!g->first) g->last = &g->first;
        rmas_error err = {0};
        rmas_status st = g->status;
        pthread_mutex_unlock(&g->lock);
        if (st == RMAS_OK) st = g->grade(g->ctx, w->a, &err);
        rm_answer_free(w->a);
        rm_free(w);
        pthread_mutex_lock(&g->lock);
        if (g->status == RMAS_OK && st != RMAS_OK) {
            g->status = st;
            g->err = err;
        }
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

rmas_status rm_grading_open(rm_grading **out, rm_grade_fn grade, void *ctx, rmas_error *err) {
    rm_grading *g = *out = RM_NEW(rm_grading);
    if (!g) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    g->grade = grade;
    g->ctx = ctx;
    g->last = &g->first;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the run */
    int failed = pthread_create(&g->thread, NULL, run, g);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!failed) return RMAS_OK;
    rm_free(g);
    *out = NULL;
    return rm_fail(err, RMAS_E_IO, "cannot start a thread: %s", strerror(failed));
}

static rmas_status status_of(const rm_grading *g, rmas_error *err) {
    if (g->status != RMAS_OK && err) *err = g->err;
    return g->status;
}

rmas_status rm_grading_add(rm_grading *g, const rm_answer *a, rmas_error *err) {
    waiting *w = RM_NEW(waiting);
    if (!w || !(w->a = rm_answer_copy(a))) {
        rm_free(w);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    pthread_mutex_lock(&g->lock);
    *g->last = w;
    g->last = &w->next;
    rmas_status st = status_of(g, err);
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return st;
}

rmas_status rm_grading_close(rm_grading *g, rmas_error *err) {
    if (!g) return RMAS_OK;
    pthread_mutex_lock(&g->lock);
    g->closing = true;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    rmas_status st = status_of(g, err);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    rm_free(g);
    return st;
}
