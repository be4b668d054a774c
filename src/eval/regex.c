#include "eval/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "util/mem.h"

struct rm_re {
    pcre2_code *code;
    pcre2_match_context *limits;
};

#define SPACE "\\x09-\\x0d\\x1c-\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD "\\p{L}\\p{N}_"

/* Writes Python's classes out, since those of PCRE2_UCP differ (control characters, marks, connectors). */
static void translate(rm_strbuf *out, const char *p, int flags) {
    bool in_class = false;
    for (; *p; p++) {
        if (*p == '\\') {
            switch (*++p) {
            case 's': rm_strbuf_puts(out, in_class ? SPACE : "[" SPACE "]"); break;
            case 'S': rm_strbuf_puts(out, "[^" SPACE "]"); break;
            case 'd': rm_strbuf_puts(out, "\\p{Nd}"); break;
            case 'D': rm_strbuf_puts(out, "\\P{Nd}"); break;
            case 'w': rm_strbuf_puts(out, in_class ? WORD : "[" WORD "]"); break;
            case 'W': rm_strbuf_puts(out, "[^" WORD "]"); break;
            case 'b': rm_strbuf_puts(out, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"); break;
            case 'Z': rm_strbuf_puts(out, "\\z"); break;
            default: rm_strbuf_putc(out, '\\'); rm_strbuf_putc(out, *p);
            }
            continue;
        }
        if (*p == '[' && !in_class) {
            in_class = true;
            rm_strbuf_putc(out, *p);
            if (p[1] == '^') rm_strbuf_putc(out, *++p);
            if (p[1] == ']') { /* a literal bracket */
                rm_strbuf_puts(out, "\\]");
                p++;
            }
            continue;
        }
        if (*p == '[' && in_class) {
            rm_strbuf_puts(out, "\\[");
            continue;
        }
        if (*p == ']') in_class = false;
        if ((*p == 'i' || *p == 'I') && (flags & RM_RE_I) && !in_class && !(p[-1] == '?'))
            rm_strbuf_puts(out, "[i\\x{130}\\x{131}]");
        else
            rm_strbuf_putc(out, *p);
    }
}

rmas_status rm_re_new(rm_re **out, const char *pattern, int flags, rmas_error *err) {
    rm_strbuf b = {0};
    rm_re *re = RM_NEW(rm_re);
    pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
    rmas_status st = RMAS_OK;
    *out = NULL;
    translate(&b, pattern, flags);
    if (!re || !cc || b.failed) {
        st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
        goto end;
    }
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    uint32_t opt = PCRE2_UTF | PCRE2_NO_UTF_CHECK | (flags & RM_RE_I ? PCRE2_CASELESS : 0) | (flags & RM_RE_M ? PCRE2_MULTILINE : 0) |
                   (flags & RM_RE_S ? PCRE2_DOTALL : 0);
    int code;
    PCRE2_SIZE at;
    re->code = pcre2_compile((PCRE2_SPTR)b.s, b.n, opt, &code, &at, cc);
    re->limits = pcre2_match_context_create(NULL);
    if (!re->code) st = rm_fail(err, RMAS_E_ARG, "pattern '%s': error %d at byte %zu of its translation", pattern, code, (size_t)at);
    if (!st && !re->limits) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (!st) {
        pcre2_set_match_limit(re->limits, 4000000);
        pcre2_set_heap_limit(re->limits, 64 * 1024); /* KiB */
    }
end:
    pcre2_compile_context_free(cc);
    rm_strbuf_free(&b);
    if (st) {
        rm_re_free(re);
        return st;
    }
    *out = re;
    return RMAS_OK;
}

void rm_re_free(rm_re *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    pcre2_match_context_free(re->limits);
    rm_free(re);
}

static bool run(const rm_re *re, rm_sv text, size_t from, uint32_t options, rm_match *m) {
    if (from > text.n) return false;
    pcre2_match_data *md = pcre2_match_data_create(RM_RE_GROUPS, NULL);
    if (!md) return false;
    int n = pcre2_match(re->code, (PCRE2_SPTR)text.s, text.n, from, options | PCRE2_NO_UTF_CHECK, md, re->limits);
    if (n >= 0 && m) {
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(md);
        for (int i = 0; i < RM_RE_GROUPS; i++) {
            bool set = (n == 0 || i < n) && v[2 * i] != PCRE2_UNSET;
            m->start[i] = set ? v[2 * i] : SIZE_MAX;
            m->end[i] = set ? v[2 * i + 1] : SIZE_MAX;
        }
    }
    pcre2_match_data_free(md);
    return n >= 0;
}

bool rm_re_search(const rm_re *re, rm_sv text, size_t from, rm_match *m) { return run(re, text, from, 0, m); }
bool rm_re_match(const rm_re *re, rm_sv text, size_t from, rm_match *m) { return run(re, text, from, PCRE2_ANCHORED, m); }
bool rm_re_full(const rm_re *re, rm_sv text) { return run(re, text, 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED, NULL); }

rm_sv rm_group(rm_sv text, const rm_match *m, int k) { return m->start[k] == SIZE_MAX ? (rm_sv){"", 0} : rm_sv_cut(text, m->start[k], m->end[k]); }

void rm_re_sub(const rm_re *re, rm_sv text, const char *with, rm_strbuf *out) {
    size_t at = 0, from = 0;
    rm_match m;
    while (rm_re_search(re, text, from, &m)) {
        rm_strbuf_add(out, text.s + at, m.start[0] - at);
        for (const char *w = with; *w; w++) {
            if (w[0] == '\\' && w[1] >= '1' && w[1] <= '9') {
                rm_sv g = rm_group(text, &m, *++w - '0');
                rm_strbuf_add(out, g.s, g.n);
            } else {
                rm_strbuf_putc(out, *w);
            }
        }
        at = from = m.end[0];
        if (m.end[0] == m.start[0]) { /* an empty match: go on behind the next character */
            if (from >= text.n) break;
            size_t len;
            rm_sv_cp(text, from, &len);
            from += len;
        }
    }
    rm_strbuf_add(out, text.s + at, text.n - at);
}
