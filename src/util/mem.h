/* All heap memory goes through these functions, so that tests can fail the N-th allocation. */
#ifndef RM_UTIL_MEM_H
#define RM_UTIL_MEM_H

#include <stddef.h>

void *rm_alloc(size_t n); /* uninitialised; NULL when out of memory; n == 0 gives a valid pointer */
void *rm_calloc(size_t count, size_t size); /* zeroed; NULL on overflow of count * size too */
void *rm_array(size_t count, size_t size); /* uninitialised; NULL on overflow too */
void *rm_realloc_array(void *p, size_t count, size_t size); /* p stays valid when NULL comes back */
void *rm_aligned(size_t n); /* 64-byte aligned, uninitialised; free with rm_free */
/* Asks for large pages in memory that was just allocated, where the system has them on request: fewer page faults, fewer TLB misses. */
void rm_huge_pages(void *p, size_t n);
char *rm_strdup(const char *s);
char *rm_strndup(const char *s, size_t n);
void rm_free(void *p); /* NULL is fine */

/* Makes allocation number n from now (1 = the next) and all later ones fail; 0 switches it off. Tests only. */
void rm_mem_fail_after(long n);

#define RM_NEW(type) ((type *)rm_calloc(1, sizeof(type)))
#define RM_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif
