/* Memory that is released at once: a template's tree, everything that one rendering makes. Bounded. */
#ifndef RM_TMPL_ARENA_H
#define RM_TMPL_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct rm_tmpl_arena_chunk rm_tmpl_arena_chunk;
typedef struct {
    rm_tmpl_arena_chunk *head;
    size_t used, limit; /* bytes given out; the most that may be */
    bool full; /* a request was refused because of the limit, not for want of memory */
} rm_tmpl_arena;

void *rm_tmpl_arena_get(rm_tmpl_arena *a, size_t n); /* 16-byte aligned, uninitialised; NULL at the limit or out of memory */
void *rm_tmpl_arena_zero(rm_tmpl_arena *a, size_t n);
void rm_tmpl_arena_free(rm_tmpl_arena *a);

#endif
