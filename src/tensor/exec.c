/* The engine's threads, kernel table and scratch memory. */
#include "tensor/exec.h"

#include "kern/kern.h"
#include "tensor/profile.h"
#include "util/mem.h"

typedef struct {
    void *data;
    size_t size;
} block;

struct rm_scratch {
    block shared, local;
};

rmas_status rm_exec_new(rm_exec **out, int n_thread, const char *isa, rmas_error *err) {
    *out = NULL;
    const rm_kern *kern;
    RM_TRY(rm_kern_get(&kern, isa, err));
    rm_exec *e = RM_NEW(rm_exec);
    if (e) e->scratch = RM_NEW(rm_scratch);
    if (!e || !e->scratch) {
        rm_exec_free(e);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for the engine");
    }
    e->kern = kern;
    rmas_status s = rm_pool_new(&e->pool, n_thread, err);
    if (s != RMAS_OK) {
        rm_exec_free(e);
        return s;
    }
    *out = e;
    return RMAS_OK;
}

void rm_exec_free(rm_exec *e) {
    if (!e) return;
    rm_pool_free(e->pool);
    if (e->scratch) {
        rm_free(e->scratch->shared.data);
        rm_free(e->scratch->local.data);
    }
    rm_free(e->scratch);
    rm_profile_free(e->profile);
    rm_free(e);
}

static void *grow(block *b, size_t n) {
    if (b->size < n) {
        rm_free(b->data);
        b->size = 0;
        b->data = rm_aligned(n + n / 8);
        if (b->data) b->size = n + n / 8;
    }
    return b->data;
}

void *rm_exec_shared(rm_exec *e, size_t n_bytes) { return grow(&e->scratch->shared, n_bytes); }

void *rm_exec_local(rm_exec *e, size_t n_bytes) {
    size_t each = (n_bytes + 63) & ~(size_t)63, n_thread = (size_t)rm_pool_size(e->pool);
    return each > (size_t)-1 / 2 / n_thread ? NULL : grow(&e->scratch->local, each * n_thread);
}

const char *rm_exec_isa(const rm_exec *e) { return e->kern->name; }
