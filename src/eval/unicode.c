#define _GNU_SOURCE /* memmem */
#include "eval/unicode.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "util/mem.h"
#include "util/utf8.h"

rm_sv rm_sv_of(const char *s) { return (rm_sv){s ? s : "", s ? strlen(s) : 0}; }
rm_sv rm_sv_buf(const rm_strbuf *b) { return (rm_sv){rm_str(b), b->n}; }
rm_sv rm_sv_from(rm_sv v, size_t at) { return (rm_sv){v.s + at, v.n - at}; }
rm_sv rm_sv_cut(rm_sv v, size_t from, size_t to) { return (rm_sv){v.s + from, to - from}; }
bool rm_sv_eq(rm_sv a, rm_sv b) { return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0); }
bool rm_sv_is(rm_sv a, const char *b) { return rm_sv_eq(a, rm_sv_of(b)); }

bool rm_sv_starts(rm_sv a, const char *b) {
    size_t n = strlen(b);
    return a.n >= n && memcmp(a.s, b, n) == 0;
}

bool rm_sv_ends(rm_sv a, const char *b) {
    size_t n = strlen(b);
    return a.n >= n && memcmp(a.s + a.n - n, b, n) == 0;
}

size_t rm_sv_find(rm_sv v, rm_sv what, size_t from) {
    if (from > v.n) return SIZE_MAX;
    const char *p = memmem(v.s + from, v.n - from, what.s, what.n);
    return p ? (size_t)(p - v.s) : SIZE_MAX;
}

char *rm_sv_dup(rm_sv v) { return rm_strndup(v.s, v.n); }

/* ---- characters ------------------------------------------------------------------------------------------------------ */

bool rm_uni_space(unsigned c) {
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

static utf8proc_category_t category(unsigned c) { return utf8proc_category((utf8proc_int32_t)c); }

bool rm_uni_digit(unsigned c) { return c < 0x80 ? c >= '0' && c <= '9' : category(c) == UTF8PROC_CATEGORY_ND; }

/* Decimal digits stand in runs of ten, and every unbroken run of them begins with a zero. */
int rm_uni_digit_value(unsigned c) {
    if (c < 0x80) return (int)c - '0';
    unsigned start = c;
    while (start > 0x80 && rm_uni_digit(start - 1)) start--;
    return (int)((c - start) % 10);
}

bool rm_uni_alpha(unsigned c) {
    if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool rm_uni_word(unsigned c) {
    if (c < 0x80) return rm_uni_alpha(c) || (c >= '0' && c <= '9') || c == '_';
    utf8proc_category_t k = category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

unsigned rm_sv_cp(rm_sv v, size_t at, size_t *len) {
    unsigned cp;
    *len = (size_t)rm_utf8_decode_lossy(v.s + at, v.n - at, &cp);
    return cp;
}

unsigned rm_sv_cp_before(rm_sv v, size_t at, size_t *len) {
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && ((unsigned char)v.s[start] & 0xC0) == 0x80) start--;
    size_t n;
    unsigned cp = rm_sv_cp(v, start, &n);
    *len = at - start;
    return cp;
}

/* ---- strings --------------------------------------------------------------------------------------------------------- */

rm_sv rm_sv_lstrip(rm_sv v) {
    size_t len;
    while (v.n && rm_uni_space(rm_sv_cp(v, 0, &len))) v = rm_sv_from(v, len);
    return v;
}

rm_sv rm_sv_rstrip(rm_sv v) {
    size_t len;
    while (v.n && rm_uni_space(rm_sv_cp_before(v, v.n, &len))) v.n -= len;
    return v;
}

rm_sv rm_sv_strip(rm_sv v) { return rm_sv_rstrip(rm_sv_lstrip(v)); }

rm_sv rm_sv_rstrip_chars(rm_sv v, const char *ascii) {
    while (v.n && strchr(ascii, v.s[v.n - 1])) v.n--;
    return v;
}

rm_sv rm_sv_strip_chars(rm_sv v, const char *ascii) {
    while (v.n && strchr(ascii, v.s[0])) v = rm_sv_from(v, 1);
    return rm_sv_rstrip_chars(v, ascii);
}

size_t rm_sv_length(rm_sv v) { return rm_utf8_length(v.s, v.n); }

rm_sv rm_sv_first(rm_sv v, size_t n_cp) {
    size_t at = 0, len;
    for (; n_cp && at < v.n; n_cp--, at += len) rm_sv_cp(v, at, &len);
    return (rm_sv){v.s, at};
}

void rm_sv_clean(rm_strbuf *out, const char *s, size_t n) {
    size_t start = 0, i = 0;
    while (i < n) {
        unsigned cp;
        int len = rm_utf8_decode(s + i, n - i, &cp);
        if (len && cp) {
            i += (size_t)len;
            continue;
        }
        rm_strbuf_add(out, s + start, i - start);
        rm_strbuf_utf8(out, 0xFFFD);
        i += (size_t)rm_utf8_decode_lossy(s + i, n - i, &cp);
        start = i;
    }
    rm_strbuf_add(out, s + start, n - start);
}

/* Has a case at all, and does not count for the final-sigma rule (approximately Unicode's Cased and Case_Ignorable). */
static bool cased(unsigned c) {
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static bool case_ignorable(unsigned c) {
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM ||
           k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2019 || c == 0x2018 || c == 0x2024 || c == 0x2027;
}

/* A capital sigma ends a word: a cased letter before it and none behind it, case-ignorable characters passed over. */
static bool final_sigma(rm_sv v, size_t at) {
    size_t i = at, len;
    bool before = false;
    while (i > 0) {
        unsigned c = rm_sv_cp_before(v, i, &len);
        i -= len;
        if (case_ignorable(c)) continue;
        before = cased(c);
        break;
    }
    if (!before) return false;
    for (i = at + 2; i < v.n; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (case_ignorable(c)) continue;
        return !cased(c);
    }
    return true;
}

void rm_sv_lower(rm_strbuf *out, rm_sv v) {
    for (size_t i = 0, len; i < v.n; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (c < 0x80) {
            rm_strbuf_putc(out, (char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
        } else if (c == 0x130) {
            rm_strbuf_utf8(out, 'i');
            rm_strbuf_utf8(out, 0x307);
        } else if (c == 0x3A3) {
            rm_strbuf_utf8(out, final_sigma(v, i) ? 0x3C2 : 0x3C3);
        } else {
            rm_strbuf_utf8(out, (unsigned)utf8proc_tolower((utf8proc_int32_t)c));
        }
    }
}

static bool map(rm_strbuf *out, rm_sv v, utf8proc_option_t options) {
    utf8proc_uint8_t *got = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)v.s, (utf8proc_ssize_t)v.n, &got, options);
    if (n >= 0) rm_strbuf_add(out, (const char *)got, (size_t)n);
    free(got);
    return n >= 0;
}

void rm_sv_casefold(rm_strbuf *out, rm_sv v) {
    rm_strbuf nfkc = {0};
    bool ok = map(&nfkc, v, UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE) && !nfkc.failed && map(out, rm_sv_buf(&nfkc), UTF8PROC_CASEFOLD);
    if (!ok) out->failed = true;
    rm_strbuf_free(&nfkc);
}

void rm_sv_replace(rm_strbuf *out, rm_sv v, const char *what, const char *with) {
    size_t n = strlen(what), from = 0, at;
    while ((at = rm_sv_find(v, (rm_sv){what, n}, from)) != SIZE_MAX) {
        rm_strbuf_add(out, v.s + from, at - from);
        rm_strbuf_puts(out, with);
        from = at + n;
    }
    rm_strbuf_add(out, v.s + from, v.n - from);
}

void rm_sv_drop_space(rm_strbuf *out, rm_sv v) {
    for (size_t i = 0, len; i < v.n; i += len) {
        if (!rm_uni_space(rm_sv_cp(v, i, &len))) rm_strbuf_add(out, v.s + i, len);
    }
}

void rm_sv_collapse(rm_strbuf *out, rm_sv v) {
    bool space = false;
    for (size_t i = 0, len; i < v.n; i += len) {
        bool now = rm_uni_space(rm_sv_cp(v, i, &len));
        if (!now) rm_strbuf_add(out, v.s + i, len);
        if (now && !space) rm_strbuf_putc(out, ' ');
        space = now;
    }
}

bool rm_sv_next_line(rm_sv v, size_t *at, rm_sv *line) {
    if (*at >= v.n) return false;
    size_t start = *at, len;
    for (size_t i = start; i < v.n; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        bool end = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
        if (!end) continue;
        *line = rm_sv_cut(v, start, i);
        *at = i + len;
        if (c == '\r' && *at < v.n && v.s[*at] == '\n') ++*at;
        return true;
    }
    *line = rm_sv_from(v, start);
    *at = v.n;
    return true;
}
