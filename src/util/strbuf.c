#include "util/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "util/number.h"
#include "util/utf8.h"

static bool reserve(rm_strbuf *b, size_t more) {
    if (b->failed) return false;
    if (b->s && more < b->cap - b->n) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->n <= more) {
        if (cap > (size_t)1 << 60) goto fail;
        cap *= 2;
    }
    char *s = rm_realloc_array(b->s, cap, 1);
    if (!s) goto fail;
    b->s = s;
    b->cap = cap;
    return true;
fail:
    b->failed = true;
    return false;
}

void rm_strbuf_add(rm_strbuf *b, const char *s, size_t n) {
    if (!reserve(b, n)) return;
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    b->s[b->n] = 0;
}

void rm_strbuf_puts(rm_strbuf *b, const char *s) { rm_strbuf_add(b, s, strlen(s)); }
void rm_strbuf_putc(rm_strbuf *b, char c) { rm_strbuf_add(b, &c, 1); }

void rm_strbuf_printf(rm_strbuf *b, const char *fmt, ...) {
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->s + b->n, (size_t)n + 1, fmt, ap2);
        b->n += (size_t)n;
    }
    va_end(ap2);
}

void rm_strbuf_utf8(rm_strbuf *b, unsigned cp) {
    char tmp[4];
    rm_strbuf_add(b, tmp, (size_t)rm_utf8_encode(cp, tmp));
}

void rm_strbuf_double(rm_strbuf *b, double v) {
    char text[40];
    int p = 0; /* digits behind the first */
    do rm_number_print(text, sizeof text, 'e', p, v);
    while (rm_number_parse(text, NULL) != v && ++p < 17);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent < 16 && exponent >= -4) rm_number_print(text, sizeof text, 'f', p - exponent > 1 ? p - exponent : 1, v);
    rm_strbuf_puts(b, text);
}

void rm_strbuf_clear(rm_strbuf *b) {
    b->n = 0;
    b->failed = false;
    if (b->s) b->s[0] = 0;
}

void rm_strbuf_free(rm_strbuf *b) {
    rm_free(b->s);
    *b = (rm_strbuf){0};
}

char *rm_strbuf_take(rm_strbuf *b) {
    if (!b->failed && !b->s) reserve(b, 0);
    if (b->failed) {
        rm_strbuf_free(b);
        return NULL;
    }
    char *s = b->s;
    s[b->n] = 0;
    *b = (rm_strbuf){0};
    return s;
}
