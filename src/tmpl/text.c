/* Characters and searching; the classes come from utf8proc. */
#include "tmpl/text.h"

#include <string.h>
#include <utf8proc.h>

#include "util/utf8.h"

bool rm_cp_space(unsigned cp) {
    if (cp < 0x80) return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

bool rm_cp_printable(unsigned cp) {
    if (cp < 0x7F) return cp >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

bool rm_cp_upper(unsigned cp) { return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LU; }
bool rm_cp_lower(unsigned cp) { return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LL; }
bool rm_cp_digit(unsigned cp) { return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND; }
bool rm_cp_alpha(unsigned cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

int rm_text_next(const char *s, size_t n, unsigned *cp) {
    if (!(s[0] & 0x80)) {
        *cp = (unsigned char)s[0];
        return 1;
    }
    return rm_utf8_decode_lossy(s, n, cp);
}

int rm_text_last(const char *s, size_t n, unsigned *cp) {
    size_t k = n - 1;
    while (k > 0 && n - k < 4 && ((unsigned char)s[k] & 0xC0) == 0x80) k--;
    return rm_text_next(s + k, n - k, cp);
}

size_t rm_text_count(const char *s, size_t n) {
    size_t c = 0;
    for (size_t i = 0; i < n; i++) c += ((unsigned char)s[i] & 0xC0) != 0x80;
    return c;
}

size_t rm_text_offset(const char *s, size_t n, size_t chars) {
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] & 0xC0) != 0x80 && chars-- == 0) return i;
    return n;
}

static bool in_set(const char *at, int len, unsigned cp, const char *chars, size_t n_chars) {
    return chars ? rm_text_find(chars, n_chars, at, (size_t)len) >= 0 : rm_cp_space(cp);
}

void rm_text_trim(const char **s, size_t *n, const char *chars, size_t n_chars, bool left, bool right) {
    unsigned cp;
    while (left && *n) {
        int len = rm_text_next(*s, *n, &cp);
        if (!in_set(*s, len, cp, chars, n_chars)) break;
        *s += len;
        *n -= (size_t)len;
    }
    while (right && *n) {
        int len = rm_text_last(*s, *n, &cp);
        if (!in_set(*s + *n - len, len, cp, chars, n_chars)) break;
        *n -= (size_t)len;
    }
}

/* memmem is not in POSIX of 2008; it is in every libc that rmas is built with, and linear there */
void *memmem(const void *, size_t, const void *, size_t);

ptrdiff_t rm_text_find(const char *s, size_t n, const char *what, size_t n_what) {
    if (!n_what) return 0;
    const char *p = n ? memmem(s, n, what, n_what) : NULL;
    return p ? p - s : -1;
}

ptrdiff_t rm_text_rfind(const char *s, size_t n, const char *what, size_t n_what) {
    if (!n_what) return (ptrdiff_t)n;
    ptrdiff_t last = -1;
    for (size_t at = 0; at + n_what <= n;) { /* forward, so that it stays linear */
        ptrdiff_t k = rm_text_find(s + at, n - at, what, n_what);
        if (k < 0) break;
        last = (ptrdiff_t)at + k;
        at = (size_t)last + 1;
    }
    return last;
}

void rm_text_case(const char *s, size_t n, rm_case how, rm_strbuf *out) {
    bool in_word = false;
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = rm_text_next(s + i, n - i, &cp);
        bool up = how == RM_CASE_UPPER || (how == RM_CASE_CAPITALIZE && i == 0) || (how == RM_CASE_TITLE && !in_word) ||
                  (how == RM_CASE_SWAP && rm_cp_lower(cp));
        bool down = !up && (how != RM_CASE_SWAP || rm_cp_upper(cp));
        bool cased = rm_cp_alpha(cp);
        if (up && cp == 0xDF)
            rm_strbuf_puts(out, how == RM_CASE_UPPER || how == RM_CASE_SWAP ? "SS" : "Ss");
        else if (up || down) {
            utf8proc_int32_t c = (utf8proc_int32_t)cp;
            rm_strbuf_utf8(out, (unsigned)(up ? (how == RM_CASE_UPPER || how == RM_CASE_SWAP ? utf8proc_toupper(c) : utf8proc_totitle(c))
                                              : utf8proc_tolower(c)));
        } else
            rm_strbuf_add(out, s + i, (size_t)len);
        in_word = cased;
        i += (size_t)len;
    }
}
