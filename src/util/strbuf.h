/* A growing byte string, always followed by a NUL. Out of memory is remembered: append freely, then look at `failed` once. */
#ifndef RM_UTIL_STRBUF_H
#define RM_UTIL_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    char *s; /* NULL while empty: use rm_str() */
    size_t n, cap;
    bool failed; /* an append did not fit into memory; the content is then incomplete */
} rm_strbuf;

void rm_strbuf_add(rm_strbuf *b, const char *s, size_t n);
void rm_strbuf_puts(rm_strbuf *b, const char *s);
void rm_strbuf_putc(rm_strbuf *b, char c);
void rm_strbuf_printf(rm_strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void rm_strbuf_utf8(rm_strbuf *b, unsigned cp); /* appends a code point */
void rm_strbuf_double(rm_strbuf *b, double v); /* the fewest digits that read back as v, laid out as Python does; v is finite */
void rm_strbuf_clear(rm_strbuf *b); /* keeps the memory */
void rm_strbuf_free(rm_strbuf *b);
char *rm_strbuf_take(rm_strbuf *b); /* the string (caller frees with rm_free), NULL if failed; b is empty then */
static inline const char *rm_str(const rm_strbuf *b) { return b->s ? b->s : ""; }

#endif
