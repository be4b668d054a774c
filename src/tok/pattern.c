/* Owns matching. The hand-written matcher covers the family of expressions that byte-level vocabularies are split with; every
 * character starts a match there, so "the next match" is the one at `from`. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tok/pattern.h"

#include <pcre2.h>
#include <string.h>
#include <time.h>

#include "tok/unicode.h"
#include "util/mem.h"
#include "util/strbuf.h"

const char rm_regex_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char rm_regex_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char rm_regex_qwen2[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char rm_regex_qwen35[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* How the expressions of the family differ. */
typedef struct {
    const char *text;
    bool gpt2; /* contractions in lower case; only a space may stand before a word or a number; line ends are nothing special */
    unsigned letters; /* classes that make words */
    int max_digits; /* 0: any number */
} flavour;

static const flavour flavours[] = {
    {rm_regex_gpt2, true, RM_CH_L, 0},
    {rm_regex_llama3, false, RM_CH_L, 3},
    {rm_regex_qwen2, false, RM_CH_L, 1},
    {rm_regex_qwen35, false, RM_CH_L | RM_CH_M, 1},
};

struct rm_pattern {
    const flavour *known; /* NULL: literal or foreign */
    pcre2_code *code; /* NULL: literal or known */
    char *text; /* as in the file */
    size_t n;
    char *file; /* for messages */
};

/* ---- the family, by hand -------------------------------------------------------------------------------------------------- */

/* The end of the run of characters whose class is in `any` (or, if not `in`, has nothing of `any`), of at most max characters. */
static size_t run(const char *s, size_t n, size_t p, unsigned any, bool in, int max) {
    for (int k = 0; p < n && (max == 0 || k < max); k++) {
        int len;
        if (((rm_char_class(rm_char_at(s + p, &len)) & any) != 0) != in) break;
        p += (size_t)len;
    }
    return p;
}

/* 's 't 're 've 'm 'll 'd behind an apostrophe at p; its end, or p. In any case the long s counts as s. */
static size_t contraction(const char *s, size_t n, size_t p, bool any_case) {
    if (n - p < 2) return p;
    unsigned fold = any_case ? 0x20 : 0, c = (unsigned char)s[p + 1] | fold;
    if (c == 's' || c == 't' || c == 'm' || c == 'd') return p + 2;
    if (n - p < 3) return p;
    unsigned d = (unsigned char)s[p + 2] | fold;
    if ((c == 'r' && d == 'e') || (c == 'v' && d == 'e') || (c == 'l' && d == 'l')) return p + 3;
    if (any_case && (unsigned char)s[p + 1] == 0xC5 && (unsigned char)s[p + 2] == 0xBF) return p + 3;
    return p;
}

/* \s*[\r\n]+ (not for gpt2), \s+(?!\S), \s+ at a white-space character. */
static size_t spaces(const char *s, size_t n, size_t p, bool lines) {
    size_t last = p, line = 0;
    for (size_t i = p; i < n;) {
        int len;
        unsigned c = rm_char_at(s + i, &len);
        if (!(rm_char_class(c) & RM_CH_S)) {
            if (line) return line;
            return last > p ? last : i; /* without the last one, which then stands before the next word */
        }
        last = i;
        i += (size_t)len;
        if (lines && (c == '\r' || c == '\n')) line = i;
    }
    return line ? line : n;
}

static size_t match_known(const flavour *f, const char *s, size_t n, size_t p) {
    int len;
    unsigned c = rm_char_at(s + p, &len), class = rm_char_class(c);
    if (c == '\'') {
        size_t e = contraction(s, n, p, !f->gpt2);
        if (e > p) return e;
    }
    if (class & f->letters) return run(s, n, p, f->letters, true, 0);
    size_t q = p + (size_t)len, e;
    if (f->gpt2 ? c == ' ' : c != '\r' && c != '\n' && !(class & (RM_CH_L | RM_CH_N))) {
        e = run(s, n, q, f->letters, true, 0);
        if (e > q) return e;
    }
    if (class & RM_CH_N) return run(s, n, p, RM_CH_N, true, f->max_digits);
    if (f->gpt2 && c == ' ') {
        e = run(s, n, q, RM_CH_N, true, 0);
        if (e > q) return e;
    }
    unsigned not_other = RM_CH_S | RM_CH_N | f->letters;
    size_t start = c == ' ' ? q : p;
    e = run(s, n, start, not_other, false, 0);
    if (e > start) {
        if (!f->gpt2)
            while (e < n && (s[e] == '\r' || s[e] == '\n')) e++;
        return e;
    }
    return spaces(s, n, p, !f->gpt2);
}

/* ---- PCRE2 ---------------------------------------------------------------------------------------------------------------- */

static void *pcre_alloc(size_t n, void *ctx) {
    (void)ctx;
    return rm_alloc(n);
}

static void pcre_free(void *p, void *ctx) {
    (void)ctx;
    rm_free(p);
}

/* Rewrites an expression of Oniguruma (the reference's engine) where PCRE2 would read it differently: \s, \w. What cannot be
 * rewritten simply is refused. (^ and $ are those of lines: see compile.) */
static const char *translate(rm_strbuf *out, const char *s, size_t n) {
    static const char space[] = "\\x09-\\x0d \\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
    static const char word[] = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
    static const char number[] = "\\xb2\\xb3\\xb9\\xbc-\\xbe"; /* of \w, but not within a set */
    bool class = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '\\' && i + 1 < n) {
            char d = s[++i];
            if (d == 's' || (d == 'S' && !class))
                rm_strbuf_printf(out, class ? "%s%s%s" : "[%s%s%s", d == 'S' ? "^" : "", space, class ? "" : "]");
            else if (d == 'w' || (d == 'W' && !class))
                rm_strbuf_printf(out, class ? "%s%s%s%s" : "[%s%s%s%s", d == 'W' ? "^" : "", word, class ? "" : number, class ? "" : "]");
            else if (d && strchr("hHRXKkgNCQEoOyYWbB", d))
                return "an escape that is read differently elsewhere";
            else
                rm_strbuf_putc(out, '\\'), rm_strbuf_putc(out, d);
            if ((d == 'p' || d == 'P' || d == 'x') && i + 1 < n && s[i + 1] == '{') /* the name of a property, a code: as they are */
                while (i + 1 < n && s[i] != '}') rm_strbuf_putc(out, s[++i]);
            continue;
        }
        if (class && c == '[' && !(i + 1 < n && s[i + 1] == ':')) return "a set within a set";
        if (class && c == '&' && i + 1 < n && s[i + 1] == '&') return "an intersection of sets";
        if (class && c == '[') { /* [:name:] */
            while (i < n && s[i] != ']') rm_strbuf_putc(out, s[i++]);
            if (i == n) return "a set without end";
        } else if (!class && c == '[') {
            class = true;
            if (i + 1 < n && s[i + 1] == '^') rm_strbuf_putc(out, s[i++]), c = '^';
            if (i + 1 < n && s[i + 1] == ']') return "an empty set";
        } else if (class && c == ']') {
            class = false;
        } else if (!class && c == '}' && i + 1 < n && s[i + 1] == '+') {
            return "a counted possessive repetition";
        } else if (!class && c == '(' && i + 1 < n && (s[i + 1] == '*' || (i + 2 < n && s[i + 1] == '?' && strchr("R&P|0123456789+C", s[i + 2])))) {
            return "a verb, a recursion or a call-out";
        }
        rm_strbuf_putc(out, c);
    }
    return out->failed ? "too long for the memory" : NULL;
}

static rmas_status compile(rm_pattern *p, rmas_error *err) {
    rm_strbuf b = {0};
    int shown = p->n > 200 ? 200 : (int)p->n;
    const char *why = translate(&b, p->text, p->n);
    if (why) {
        rm_strbuf_free(&b);
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: unsupported regular expression (%s): %.*s", p->file, why, shown, p->text);
    }
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_general_context *g = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    pcre2_compile_context *c = g ? pcre2_compile_context_create(g) : NULL;
    rmas_status s = RMAS_OK;
    if (c) {
        pcre2_set_parens_nest_limit(c, 60);
        p->code = pcre2_compile((PCRE2_SPTR)rm_str(&b), b.n,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &code, &at, c);
    }
    if (!c) {
        s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for a regular expression", p->file);
    } else if (!p->code) {
        PCRE2_UCHAR msg[120] = "";
        pcre2_get_error_message(code, msg, sizeof msg);
        s = rm_fail(err, RMAS_E_UNSUPPORTED, "%s: unsupported regular expression (%s): %.*s", p->file, (const char *)msg, shown, p->text);
    } else {
        pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
    }
    pcre2_compile_context_free(c);
    pcre2_general_context_free(g);
    rm_strbuf_free(&b);
    return s;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { STARTS = 256, SECONDS = 20 };

static bool prepare(rm_pattern_work *w) {
    if (w->match) return true;
    pcre2_general_context *g = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (g) {
        w->context = pcre2_match_context_create(g);
        w->match = pcre2_match_data_create(1, g);
        w->stack = pcre2_jit_stack_create(32 << 10, 8 << 20, g);
    }
    pcre2_general_context_free(g);
    if (!w->context || !w->match || !w->stack) {
        rm_pattern_work_free(w);
        return false;
    }
    pcre2_jit_stack_assign(w->context, NULL, w->stack);
    pcre2_set_heap_limit(w->context, 64 << 10); /* KiB */
    w->deadline = now() + SECONDS;
    return true;
}

void rm_pattern_work_free(rm_pattern_work *w) {
    pcre2_match_context_free(w->context);
    pcre2_match_data_free(w->match);
    pcre2_jit_stack_free(w->stack);
    *w = (rm_pattern_work){0};
}

/* One call of PCRE2 from `from`, with matches that start up to `last`. */
static rmas_status try_foreign(const rm_pattern *p, rm_pattern_work *w, const char *s, size_t n, size_t from, size_t last, size_t *a, size_t *b,
                               rmas_error *err) {
    pcre2_set_offset_limit(w->context, last);
    int rc = pcre2_match(p->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, w->match, w->context);
    if (now() > w->deadline) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: its split expression takes too long on this text (%d s)", p->file, SECONDS);
    if (rc == PCRE2_ERROR_NOMATCH) return RMAS_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for a regular expression", p->file);
    if (rc < 0) {
        PCRE2_UCHAR msg[120] = "";
        pcre2_get_error_message(rc, msg, sizeof msg);
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: its split expression takes too long on this text (%s)", p->file, (const char *)msg);
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(w->match);
    if (v[0] < from || v[1] < v[0]) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: unsupported regular expression (its matches go backwards)", p->file);
    *a = v[0];
    *b = v[1];
    return RMAS_OK;
}

/* An expression can be slow in one place (the match limit ends that) and slow by trying every place: so a few places at a
 * time, and a look at the clock between. */
static rmas_status next_foreign(const rm_pattern *p, rm_pattern_work *w, const char *s, size_t n, size_t from, size_t *a, size_t *b,
                                rmas_error *err) {
    if (!prepare(w)) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for a regular expression", p->file);
    pcre2_set_match_limit(w->context, n < 100000000 ? 200000 + 8 * (uint32_t)n : UINT32_MAX);
    while (from <= n && *a > n) {
        size_t last = n - from > STARTS ? from + STARTS : n;
        RM_TRY(try_foreign(p, w, s, n, from, last, a, b, err));
        from = last + 1;
        while (from < n && ((unsigned char)s[from] & 0xC0) == 0x80) from++;
    }
    return RMAS_OK;
}

/* ---- patterns ------------------------------------------------------------------------------------------------------------- */

static rm_pattern *make(const char *text, size_t n, const char *file) {
    rm_pattern *p = RM_NEW(rm_pattern);
    if (!p) return NULL;
    p->text = rm_strndup(text, n);
    p->file = rm_strdup(file);
    p->n = n;
    if (p->text && p->file) return p;
    rm_pattern_free(p);
    return NULL;
}

rmas_status rm_pattern_literal(rm_pattern **out, const char *text, size_t n, const char *file, rmas_error *err) {
    *out = make(text, n, file);
    return *out ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", file);
}

rmas_status rm_pattern_regex(rm_pattern **out, const char *text, size_t n, const char *file, rmas_error *err) {
    RM_TRY(rm_pattern_literal(out, text, n, file, err));
    for (size_t i = 0; i < RM_COUNT(flavours); i++)
        if (strlen(flavours[i].text) == n && memcmp(flavours[i].text, text, n) == 0) (*out)->known = &flavours[i];
    if ((*out)->known) return RMAS_OK;
    rmas_status s = compile(*out, err);
    if (s != RMAS_OK) {
        rm_pattern_free(*out);
        *out = NULL;
    }
    return s;
}

void rm_pattern_free(rm_pattern *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    rm_free(p->text);
    rm_free(p->file);
    rm_free(p);
}

rmas_status rm_pattern_next(const rm_pattern *p, rm_pattern_work *w, const char *s, size_t n, size_t from, size_t *a, size_t *b, rmas_error *err) {
    *a = *b = n + 1;
    if (from > n) return RMAS_OK;
    if (p->code) return next_foreign(p, w, s, n, from, a, b, err);
    if (p->known) {
        if (from < n) *a = from, *b = match_known(p->known, s, n, from);
        return RMAS_OK;
    }
    if (p->n == 0) {
        *a = *b = from;
        return RMAS_OK;
    }
    for (size_t i = from; i + p->n <= n; i++) {
        const char *q = memchr(s + i, p->text[0], n - p->n + 1 - i);
        if (!q) return RMAS_OK;
        i = (size_t)(q - s);
        if (memcmp(q, p->text, p->n) == 0) {
            *a = i;
            *b = i + p->n;
            return RMAS_OK;
        }
    }
    return RMAS_OK;
}

rmas_status rm_pattern_walk(const rm_pattern *p, rm_pattern_work *w, rm_match_walk *walk, const char *s, size_t n, size_t *a, size_t *b,
                            rmas_error *err) {
    for (;;) {
        RM_TRY(rm_pattern_next(p, w, s, n, walk->from, a, b, err));
        if (*a > n) return RMAS_OK;
        if (*a < *b || !walk->any || *a != walk->last_end) break;
        int len = 1;
        if (walk->from < n) rm_char_at(s + walk->from, &len);
        walk->from += (size_t)len;
    }
    walk->any = true;
    walk->from = walk->last_end = *b;
    return RMAS_OK;
}
