/* Source to tokens: text outside of tags, and inside them what the parser reads. Owns white-space control, comments and raw blocks. */
#include "tmpl/lex.h"

#include <string.h>

#include "tmpl/text.h"
#include "util/mem.h"
#include "util/utf8.h"

typedef struct {
    const char *s; /* normalised source */
    size_t n, pos;
    int line;
    bool line_start; /* the last thing read ended with a line break (or nothing was read) */
    char open[256]; /* brackets that are open inside the tag */
    int n_open;
    rm_tokens *out;
    rm_tmpl_arena *arena;
    const char *name;
    rmas_error *err;
} lexer;

static rmas_status fail(lexer *l, const char *what) { return rm_fail(l->err, RMAS_E_FORMAT, "%s line %d: %s", l->name, l->line, what); }

static rmas_status emit(lexer *l, rm_tok_kind kind, unsigned op, const char *s, size_t n) {
    rm_tokens *t = l->out;
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 256;
        rm_token *v = rm_realloc_array(t->v, (size_t)cap, sizeof *v);
        if (!v) return rm_fail(l->err, RMAS_E_NOMEM, "%s: out of memory", l->name);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = (rm_token){(uint8_t)kind, (uint16_t)op, l->line, (uint32_t)n, s};
    return RMAS_OK;
}

/* Moves to `to`, counting lines. */
static void advance(lexer *l, size_t to) {
    for (; l->pos < to; l->pos++) l->line += l->s[l->pos] == '\n';
    l->line_start = to > 0 && l->s[to - 1] == '\n';
}

static size_t skip_space(const lexer *l, size_t at) {
    while (at < l->n) {
        unsigned cp;
        int len = rm_text_next(l->s + at, l->n - at, &cp);
        if (!rm_cp_space(cp)) break;
        at += (size_t)len;
    }
    return at;
}

static bool at_str(const lexer *l, size_t at, const char *what) {
    size_t n = strlen(what);
    return at <= l->n && l->n - at >= n && !memcmp(l->s + at, what, n);
}

/* If a closing "%}", "#}" stands at `at`, with its sign, the place behind it and behind what it swallows; else 0. */
static size_t closing(const lexer *l, size_t at, const char *close, bool trim) {
    if (at_str(l, at, close)) return at + 2 + (trim && at_str(l, at + 2, "\n"));
    if (at < l->n && (l->s[at] == '-' || (l->s[at] == '+' && trim)) && at_str(l, at + 1, close))
        return l->s[at] == '-' ? skip_space(l, at + 3) : at + 3;
    return 0;
}

/* Data up to `to`, where a tag with this sign begins. */
static rmas_status data(lexer *l, size_t to, char sign, bool lstrip) {
    const char *s = l->s + l->pos;
    size_t n = to - l->pos;
    if (sign == '-')
        rm_text_trim(&s, &n, NULL, 0, false, true);
    else if (sign != '+' && lstrip) {
        size_t line = n;
        while (line > 0 && s[line - 1] != '\n') line--;
        const char *rest = s + line;
        size_t n_rest = n - line;
        rm_text_trim(&rest, &n_rest, NULL, 0, true, false);
        if ((line > 0 || l->line_start) && n_rest == 0) n = line;
    }
    if (n) RM_TRY(emit(l, T_DATA, 0, s, n));
    advance(l, to);
    return RMAS_OK;
}

/* {% WORD %} at `at` (behind "{%" and its sign): the place behind the tag, or 0. */
static size_t word_tag(const lexer *l, size_t at, const char *word, bool trim) {
    at = skip_space(l, at);
    if (!at_str(l, at, word)) return 0;
    at = skip_space(l, at + strlen(word));
    if (trim) return closing(l, at, "%}", true);
    if (at_str(l, at, "%}")) return at + 2;
    return at_str(l, at, "-%}") ? skip_space(l, at + 3) : 0;
}

static rmas_status raw(lexer *l) {
    for (size_t at = l->pos; at + 2 <= l->n; at++) {
        if (!at_str(l, at, "{%")) continue;
        char sign = at + 2 < l->n && (l->s[at + 2] == '-' || l->s[at + 2] == '+') ? l->s[at + 2] : 0;
        size_t end = word_tag(l, at + 2 + (sign != 0), "endraw", true);
        if (!end) continue;
        RM_TRY(data(l, at, sign, true));
        advance(l, end);
        return RMAS_OK;
    }
    return fail(l, "{% raw %} without {% endraw %}");
}

static rmas_status comment(lexer *l) {
    for (size_t at = l->pos; at + 2 <= l->n; at++) {
        size_t end = closing(l, at, "#}", true);
        if (!end) continue;
        advance(l, end);
        return RMAS_OK;
    }
    return fail(l, "comment {# without #}");
}

/* ---- inside a tag --------------------------------------------------------------------------------------------------- */

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool name_char(char c) { return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80); }

static size_t digits(const lexer *l, size_t at) { /* 1_000 too */
    while (at < l->n && (digit(l->s[at]) || (l->s[at] == '_' && at + 1 < l->n && digit(l->s[at + 1])))) at++;
    return at;
}

static size_t number(const lexer *l, size_t at, bool *is_float) {
    *is_float = false;
    if (l->s[at] == '0' && at + 2 < l->n && strchr("xXoObB", l->s[at + 1])) {
        size_t end = at + 2;
        while (end < l->n && (digit(l->s[end]) || ((l->s[end] | 32) >= 'a' && (l->s[end] | 32) <= 'f') || l->s[end] == '_')) end++;
        return end;
    }
    size_t end = digits(l, at), frac = end, e;
    if (at > 0 && l->s[at - 1] == '.') return end; /* x.0.1: two subscripts */
    if (frac + 1 < l->n && l->s[frac] == '.' && digit(l->s[frac + 1])) {
        frac = digits(l, frac + 1);
        *is_float = true;
    }
    e = frac;
    if (e + 1 < l->n && (l->s[e] | 32) == 'e') {
        e++;
        if (l->s[e] == '+' || l->s[e] == '-') e++;
        if (e < l->n && digit(l->s[e])) {
            *is_float = true;
            return digits(l, e);
        }
    }
    return frac;
}

/* A code point in that many hexadecimal digits; -1 if they are no such thing. */
static int hex_value(const char *s, size_t n, int digits_wanted) {
    int v = 0;
    if (n < (size_t)digits_wanted) return -1;
    for (int i = 0; i < digits_wanted; i++) {
        char c = s[i];
        int d = digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0 || v > 0x10FFFF) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Python's escapes of s[0..n) into out (never longer than the source). Returns the length, -1 for a bad escape. */
static ptrdiff_t unescape(const char *s, size_t n, char *out) {
    static const char from[] = "nrtbfav\\'\"", to[] = "\n\r\t\b\f\a\v\\'\"";
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        if (s[i] != '\\' || i + 1 == n) {
            out[k++] = s[i++];
            continue;
        }
        char c = s[i + 1];
        const char *simple = c ? strchr(from, c) : NULL;
        i += 2;
        if (simple)
            out[k++] = to[simple - from];
        else if (c == '\n')
            continue;
        else if (c == 'x' || c == 'u' || c == 'U') {
            int want = c == 'x' ? 2 : c == 'u' ? 4 : 8, v = hex_value(s + i, n - i, want);
            if (v < 0 || v > 0x10FFFF || (v >= 0xD800 && v < 0xE000)) return -1;
            k += (size_t)rm_utf8_encode((unsigned)v, out + k);
            i += (size_t)want;
        } else if (c >= '0' && c <= '7') {
            unsigned v = (unsigned)(c - '0');
            for (int d = 0; d < 2 && i < n && s[i] >= '0' && s[i] <= '7'; d++) v = v * 8 + (unsigned)(s[i++] - '0');
            k += (size_t)rm_utf8_encode(v, out + k);
        } else if (c == 'N')
            return -1; /* names of characters: no table of them here */
        else {
            out[k++] = '\\';
            out[k++] = c;
        }
    }
    return (ptrdiff_t)k;
}

static rmas_status string(lexer *l) {
    char quote = l->s[l->pos];
    size_t end = l->pos + 1;
    while (end < l->n && l->s[end] != quote) end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->n) return fail(l, "string without its closing quote");
    const char *s = l->s + l->pos + 1;
    size_t n = end - l->pos - 1;
    if (memchr(s, '\\', n)) {
        char *u = rm_tmpl_arena_get(l->arena, n + 4);
        if (!u) return rm_fail(l->err, RMAS_E_NOMEM, "%s: out of memory", l->name);
        ptrdiff_t m = unescape(s, n, u);
        if (m < 0) return fail(l, "bad escape in a string");
        s = u;
        n = (size_t)m;
    }
    RM_TRY(emit(l, T_STRING, 0, s, n));
    advance(l, end + 1);
    return RMAS_OK;
}

static rmas_status operator_(lexer *l) {
    static const char two[][3] = {"//", "**", "==", "!=", ">=", "<="};
    const char *s = l->s + l->pos;
    for (size_t i = 0; i < RM_COUNT(two); i++)
        if (at_str(l, l->pos, two[i])) {
            RM_TRY(emit(l, T_OP, RM_OP2((unsigned)two[i][0], (unsigned)two[i][1]), s, 2));
            l->pos += 2;
            return RMAS_OK;
        }
    if (!*s || !strchr("+-/*%~[](){}><=.:|,;", *s))
        return rm_fail(l->err, RMAS_E_FORMAT, "%s line %d: unexpected character '%.1s'", l->name, l->line, s);
    if (strchr("([{", *s)) {
        if (l->n_open == (int)sizeof l->open) return fail(l, "brackets nested deeper than 256");
        l->open[l->n_open++] = *s == '(' ? ')' : *s == '[' ? ']' : '}';
    } else if (strchr(")]}", *s)) {
        if (!l->n_open || l->open[--l->n_open] != *s) return rm_fail(l->err, RMAS_E_FORMAT, "%s line %d: unexpected '%c'", l->name, l->line, *s);
    }
    RM_TRY(emit(l, T_OP, (unsigned char)*s, s, 1));
    l->pos++;
    return RMAS_OK;
}

static rmas_status tag(lexer *l, bool block) {
    while (l->pos < l->n) {
        size_t end = l->n_open ? 0 : block ? closing(l, l->pos, "%}", true) : closing(l, l->pos, "}}", false);
        if (end) {
            RM_TRY(emit(l, block ? T_BLOCK_END : T_VAR_END, 0, l->s + l->pos, 2));
            advance(l, end);
            return RMAS_OK;
        }
        size_t at = l->pos;
        char c = l->s[at];
        if ((end = skip_space(l, at)) > at) {
            advance(l, end);
        } else if (digit(c)) {
            bool is_float;
            end = number(l, at, &is_float);
            RM_TRY(emit(l, is_float ? T_FLOAT : T_INT, 0, l->s + at, end - at));
            l->pos = end;
        } else if (name_char(c)) {
            while (end < l->n && name_char(l->s[end])) end++;
            RM_TRY(emit(l, T_NAME, 0, l->s + at, end - at));
            l->pos = end;
        } else if (c == '\'' || c == '"') {
            RM_TRY(string(l));
        } else {
            RM_TRY(operator_(l));
        }
    }
    return fail(l, block ? "{% without %}" : "{{ without }}");
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static rmas_status root(lexer *l) {
    while (l->pos < l->n) {
        const char *p = l->s + l->pos, *end = l->s + l->n;
        while ((p = memchr(p, '{', (size_t)(end - p))) && !(p + 1 < end && strchr("%{#", p[1]) && p[1])) p++;
        if (!p) {
            RM_TRY(emit(l, T_DATA, 0, l->s + l->pos, l->n - l->pos));
            advance(l, l->n);
            break;
        }
        size_t at = (size_t)(p - l->s);
        char kind = p[1], sign = p + 2 < end && (p[2] == '-' || p[2] == '+') ? p[2] : 0;
        size_t inside = at + 2 + (sign != 0), raw_end = kind == '%' ? word_tag(l, inside, "raw", false) : 0;
        RM_TRY(data(l, at, sign, kind != '{'));
        advance(l, raw_end ? raw_end : inside);
        if (raw_end) {
            RM_TRY(raw(l));
        } else if (kind == '#') {
            RM_TRY(comment(l));
        } else {
            RM_TRY(emit(l, kind == '%' ? T_BLOCK_BEGIN : T_VAR_BEGIN, 0, p, 2));
            l->n_open = 0;
            RM_TRY(tag(l, kind == '%'));
        }
    }
    return RMAS_OK;
}

rmas_status rm_tmpl_lex(rm_tokens *out, rm_tmpl_arena *a, const char *source, size_t n, const char *name, rmas_error *err) {
    *out = (rm_tokens){0};
    if (n > (1u << 30)) return rm_fail(err, RMAS_E_FORMAT, "%s: a template of %zu bytes is not accepted", name, n);
    if (!rm_utf8_valid(source, n)) return rm_fail(err, RMAS_E_FORMAT, "%s: the template is not valid UTF-8", name);
    char *s = rm_tmpl_arena_get(a, n + 1);
    if (!s) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') continue;
        s[k++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (k && s[k - 1] == '\n') k--; /* one line break at the very end does not count */
    s[k] = 0;
    lexer l = {.s = s, .n = k, .line = 1, .line_start = true, .out = out, .arena = a, .name = name, .err = err};
    RM_TRY(root(&l));
    return emit(&l, T_EOF, 0, s + k, 0);
}
