#include "util/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long fail_countdown; /* 0: off; 1: every allocation fails */

static int must_fail(void) {
    long n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    if (n == 0) return 0;
    if (n == 1) return 1;
    atomic_store_explicit(&fail_countdown, n - 1, memory_order_relaxed);
    return 0;
}

void rm_mem_fail_after(long n) { atomic_store(&fail_countdown, n); }

void *rm_alloc(size_t n) { return must_fail() ? NULL : malloc(n ? n : 1); }

void *rm_calloc(size_t count, size_t size) { return must_fail() ? NULL : calloc(count ? count : 1, size ? size : 1); }

void *rm_array(size_t count, size_t size) {
    size_t n;
    return __builtin_mul_overflow(count, size, &n) ? NULL : rm_alloc(n);
}

void *rm_realloc_array(void *p, size_t count, size_t size) {
    size_t n;
    if (must_fail() || __builtin_mul_overflow(count, size, &n)) return NULL;
    return realloc(p, n ? n : 1);
}

void *rm_aligned(size_t n) {
    if (must_fail() || n > SIZE_MAX - 63) return NULL;
    size_t rounded = (n + 63) & ~(size_t)63;
    return aligned_alloc(64, rounded ? rounded : 64);
}

char *rm_strndup(const char *s, size_t n) {
    char *p = rm_alloc(n + 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

void rm_huge_pages(void *p, size_t n) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = (uintptr_t)2 << 20;
    uintptr_t from = ((uintptr_t)p + page - 1) / page * page, to = ((uintptr_t)p + n) / page * page;
    if (from < to) (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
#else
    (void)p, (void)n;
#endif
}

char *rm_strdup(const char *s) { return rm_strndup(s, strlen(s)); }

void rm_free(void *p) { free(p); }
