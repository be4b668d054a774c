/* Owns the chunks of an arena: small pieces share one, large ones stand alone. */
#include "tmpl/arena.h"

#include <stdalign.h>
#include <string.h>

#include "util/mem.h"

struct rm_tmpl_arena_chunk {
    rm_tmpl_arena_chunk *next;
    size_t n, cap;
    alignas(16) char data[];
};
enum { CHUNK = 16 << 10 };

void *rm_tmpl_arena_get(rm_tmpl_arena *a, size_t n) {
    if (n > a->limit - a->used || a->used > a->limit) {
        a->full = true;
        return NULL;
    }
    n = (n + 15) & ~(size_t)15;
    rm_tmpl_arena_chunk *c = a->head;
    if (!c || c->cap - c->n < n) {
        size_t cap = n > CHUNK / 4 ? n : CHUNK;
        c = rm_alloc(sizeof *c + cap);
        if (!c) return NULL;
        *c = (rm_tmpl_arena_chunk){.cap = cap};
        if (n > CHUNK / 4 && a->head) { /* a large piece stands alone, the open chunk stays open */
            c->next = a->head->next;
            a->head->next = c;
        } else {
            c->next = a->head;
            a->head = c;
        }
    }
    void *p = c->data + c->n;
    c->n += n;
    a->used += n;
    return p;
}

void *rm_tmpl_arena_zero(rm_tmpl_arena *a, size_t n) {
    void *p = rm_tmpl_arena_get(a, n);
    return p ? memset(p, 0, n) : NULL;
}

void rm_tmpl_arena_free(rm_tmpl_arena *a) {
    for (rm_tmpl_arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        rm_free(c);
    }
    a->head = NULL;
    a->used = 0;
}
