/* Strict scorer: normalisation of an answer and its tokens. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/strict.h"
#include "util/mem.h"

/* ---- memory --------------------------------------------------------------------------------------------------------------- */

struct st_chunk {
    st_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void rm_st_init(rm_strict *s, const rm_grader *g) { *s = (rm_strict){.g = g}; }

void rm_st_free(rm_strict *s) {
    for (size_t i = 0; i < s->n_q; i++) mpq_clear(s->q[i]);
    rm_free(s->q);
    while (s->chunks) {
        st_chunk *next = s->chunks->next;
        rm_free(s->chunks);
        s->chunks = next;
    }
}

void *rm_st_bad(rm_strict *s) {
    s->bad = true;
    return NULL;
}

static void *no_memory(rm_strict *s) {
    s->no_memory = true;
    return rm_st_bad(s);
}

void *rm_st_alloc(rm_strict *s, size_t n) {
    n = (n + 15) & ~(size_t)15;
    if (!s->chunks || s->chunks->size - s->chunks->used < n) {
        size_t size = n > 16000 ? n : 16000;
        st_chunk *c = rm_alloc(sizeof *c + size);
        if (!c) return no_memory(s);
        *c = (st_chunk){.next = s->chunks, .size = size};
        s->chunks = c;
    }
    void *p = s->chunks->data + s->chunks->used;
    s->chunks->used += n;
    memset(p, 0, n);
    return p;
}

char *rm_st_copy(rm_strict *s, rm_sv v) {
    char *p = rm_st_alloc(s, v.n + 1);
    if (p && v.n) memcpy(p, v.s, v.n);
    return p;
}

mpq_ptr rm_st_q(rm_strict *s) {
    if (s->n_q == s->cap_q) {
        size_t cap = s->cap_q ? 2 * s->cap_q : 64;
        mpq_ptr *q = rm_realloc_array(s->q, cap, sizeof *q);
        if (!q) return no_memory(s);
        s->q = q;
        s->cap_q = cap;
    }
    mpq_ptr q = rm_st_alloc(s, sizeof(mpq_t));
    if (!q) return NULL;
    mpq_init(q);
    s->q[s->n_q++] = q;
    return q;
}

/* ---- words ----------------------------------------------------------------------------------------------------------------- */

/* Is `word` one of the words of `list`, which are separated by spaces? */
static bool listed(const char *word, const char *list) {
    size_t n = strlen(word);
    if (n == 0 || strchr(word, ' ')) return false;
    for (const char *p = list; (p = strstr(p, word)); p += n) {
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    }
    return false;
}

bool rm_st_is_function(const char *name) { return listed(name, "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp lg"); }

bool rm_st_is_greek(const char *name) {
    return listed(name,
                  "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi varphi chi psi "
                  "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell");
}

static const struct {
    const char *words, *name;
} units[] = {{"degree degrees deg", "deg"},
             {"radian radians rad", "rad"},
             {"dollar dollars usd bucks", "dollar"},
             {"cent cents", "cent"},
             {"euro euros", "euro"},
             {"pound pounds lb lbs", "pound"},
             {"ounce ounces oz", "oz"},
             {"inch inches in", "in"},
             {"foot feet ft", "ft"},
             {"yard yards yd yds", "yd"},
             {"mile miles mi", "mi"},
             {"centimeter centimeters centimetre centimetres cm", "cm"},
             {"meter meters metre metres m", "m"},
             {"kilometer kilometers kilometre kilometres km", "km"},
             {"millimeter millimeters mm", "mm"},
             {"gram grams g", "g"},
             {"kilogram kilograms kg", "kg"},
             {"liter liters litre litres l", "l"},
             {"milliliter milliliters ml", "ml"},
             {"second seconds sec secs s", "s"},
             {"minute minutes min mins", "min"},
             {"hour hours hr hrs h", "h"},
             {"day days", "day"},
             {"week weeks", "week"},
             {"month months", "month"},
             {"year years", "year"},
             {"mph", "mi/h"}};

const char *rm_st_unit(const char *word) {
    for (size_t i = 0; i < RM_COUNT(units); i++) {
        if (listed(word, units[i].words)) return units[i].name;
    }
    return NULL;
}

unsigned long long rm_st_scale(const char *word) {
    static const struct {
        const char *word;
        unsigned long long n;
    } scales[] = {{"hundred", 100}, {"thousand", 1000}, {"million", 1000000}, {"billion", 1000000000ull}, {"trillion", 1000000000000ull},
                  {"dozen", 12}};
    for (size_t i = 0; i < RM_COUNT(scales); i++) {
        if (strcmp(word, scales[i].word) == 0) return scales[i].n;
    }
    return 0;
}

static bool plain_unit(const char *word) {
    return (strlen(word) > 1 && rm_st_unit(word)) || listed(word, "units unit square sq cubic per percent mod");
}

/* ---- normalisation ------------------------------------------------------------------------------------------------------------ */

static const struct {
    unsigned cp;
    const char *latex;
} signs[] = {{0x2212, "-"},
             {0x2013, "-"},
             {0x2014, "-"},
             {0x2010, "-"},
             {0x2011, "-"},
             {0x2012, "-"},
             {0xD7, "\\times "},
             {0xB7, "\\cdot "},
             {0x22C5, "\\cdot "},
             {0x2219, "\\cdot "},
             {0xF7, "/"},
             {0x2215, "/"},
             {0x2044, "/"},
             {0x3C0, "\\pi "},
             {0x221E, "\\infty "},
             {0xB0, "^\\circ "},
             {0xBA, "^\\circ "},
             {0x2264, "\\le "},
             {0x2265, "\\ge "},
             {0x2260, "\\ne "},
             {0xB1, "\\pm "},
             {0x2213, "\\mp "},
             {0x222A, "\\cup "},
             {0x2229, "\\cap "},
             {0x2208, "\\in "},
             {0x2248, "\\approx "},
             {0x221A, "\\sqrt "},
             {0x221B, "\\sqrt[3]"},
             {0x3B8, "\\theta "},
             {0x3B1, "\\alpha "},
             {0x3B2, "\\beta "},
             {0x3C6, "\\phi "},
             {0x3BB, "\\lambda "},
             {0xBC, "\\frac{1}{4}"},
             {0xBD, "\\frac{1}{2}"},
             {0xBE, "\\frac{3}{4}"},
             {0x2153, "\\frac{1}{3}"},
             {0x2154, "\\frac{2}{3}"},
             {0x2155, "\\frac{1}{5}"},
             {0x2156, "\\frac{2}{5}"},
             {0x2157, "\\frac{3}{5}"},
             {0x2158, "\\frac{4}{5}"},
             {0x2159, "\\frac{1}{6}"},
             {0x215A, "\\frac{5}{6}"},
             {0x215B, "\\frac{1}{8}"},
             {0x215C, "\\frac{3}{8}"},
             {0x215D, "\\frac{5}{8}"},
             {0x215E, "\\frac{7}{8}"},
             {0x201C, "\""},
             {0x201D, "\""},
             {0x2018, "'"},
             {0x2019, "'"},
             {0xFF0C, ","},
             {0xFF1B, ";"},
             {0xFF1A, ":"},
             {0xFF08, "("},
             {0xFF09, ")"},
             {0x3002, "."},
             {0x27E8, "\\langle "},
             {0x27E9, "\\rangle "},
             {0x2329, "\\langle "},
             {0x232A, "\\rangle "},
             {0x3008, "\\langle "},
             {0x3009, "\\rangle "},
             {0xA2, "\\text{ cents}"},
             {0xFF05, "%"},
             {0x200B, ""},
             {0x200C, ""},
             {0x200D, ""},
             {0x2060, ""},
             {0xFEFF, ""},
             {0x2026, "\\ldots "},
             {0xA0, " "},
             {0x202F, " "},
             {0x205F, " "},
             {0x3000, " "}};

void rm_st_unicode(rm_sv text, rm_strbuf *out) {
    for (size_t i = 0, len; i < text.n; i += len) {
        unsigned c = rm_sv_cp(text, i, &len);
        const char *to = NULL;
        if (c < 0x80) {
            rm_strbuf_putc(out, c == '\t' || c == '\n' || c == '\r' ? ' ' : (char)c);
            continue;
        }
        if (c >= 0x2000 && c <= 0x200A) to = " ";
        for (size_t k = 0; !to && k < RM_COUNT(signs); k++) {
            if (signs[k].cp == c) to = signs[k].latex;
        }
        if (to)
            rm_strbuf_puts(out, to);
        else if (c >= 0xFF10 && c <= 0xFF19)
            rm_strbuf_putc(out, (char)('0' + c - 0xFF10));
        else
            rm_strbuf_add(out, text.s + i, len);
    }
}

static char superscript(unsigned c) {
    if (c == 0xB9) return '1';
    if (c == 0xB2 || c == 0xB3) return (char)('2' + c - 0xB2);
    if (c == 0x2070 || (c >= 0x2074 && c <= 0x2079)) return (char)('0' + c - 0x2070);
    return c == 0x207A ? '+' : c == 0x207B ? '-' : c == 0x207F ? 'n' : 0;
}

static char subscript(unsigned c) { return c >= 0x2080 && c <= 0x2089 ? (char)('0' + c - 0x2080) : 0; }

/* Runs of raised or lowered digits become ^{..} and _{..}. */
static void raised(rm_sv v, char (*of)(unsigned), const char *open, rm_strbuf *out) {
    bool in = false;
    for (size_t i = 0, len; i < v.n; i += len) {
        char c = of(rm_sv_cp(v, i, &len));
        if ((c != 0) != in) rm_strbuf_puts(out, in ? "}" : open);
        in = c != 0;
        if (c)
            rm_strbuf_putc(out, c);
        else
            rm_strbuf_add(out, v.s + i, len);
    }
    if (in) rm_strbuf_putc(out, '}');
}

/* b <- sub(b) */
static void sub(rm_strict *s, rm_strbuf *b, int re, const char *with) {
    rm_strbuf next = {0};
    rm_re_sub(s->g->re[re], rm_sv_buf(b), with, &next);
    next.failed |= b->failed;
    rm_strbuf_free(b);
    *b = next;
}

static void replace(rm_strbuf *b, const char *what, const char *with) {
    rm_strbuf next = {0};
    rm_sv_replace(&next, rm_sv_buf(b), what, with);
    next.failed |= b->failed;
    rm_strbuf_free(b);
    *b = next;
}

static void set_to(rm_strbuf *b, rm_sv v) {
    rm_strbuf next = {0};
    rm_strbuf_add(&next, v.s, v.n);
    next.failed |= b->failed;
    rm_strbuf_free(b);
    *b = next;
}

/* Digit groups are joined, but "(12,102)" alone in its brackets is a pair. */
static void join_thousands(rm_strict *s, rm_strbuf *b) {
    const rm_re *groups = s->g->re[RE_ST_THOUSANDS], *pair = s->g->re[RE_ST_PAIR];
    rm_sv v = rm_sv_buf(b);
    rm_strbuf out = {0};
    rm_match m, p = {{0}, {0}};
    size_t at = 0;
    bool more = rm_re_search(pair, v, 0, &p);
    for (size_t from = 0; rm_re_search(groups, v, from, &m); from = m.end[0]) {
        while (more && p.end[0] <= m.start[0]) more = rm_re_search(pair, v, p.end[0], &p);
        if (more && p.start[0] <= m.start[0]) continue;
        rm_strbuf_add(&out, v.s + at, m.end[1] - at);
        for (size_t i = m.start[2], len; i < m.end[2]; i += len) {
            if (rm_uni_digit(rm_sv_cp(v, i, &len))) rm_strbuf_add(&out, v.s + i, len);
        }
        at = m.end[0];
    }
    rm_strbuf_add(&out, v.s + at, v.n - at);
    out.failed |= b->failed;
    rm_strbuf_free(b);
    *b = out;
}

bool rm_st_normal(rm_strict *s, rm_sv text, bool thousands, rm_strbuf *out) {
    rm_strbuf b = {0}, c = {0};
    if (rm_sv_length(text) > ST_MAX_LEN) return rm_st_bad(s);
    raised(text, superscript, "^{", &b);
    raised(rm_sv_buf(&b), subscript, "_{", &c);
    rm_strbuf_clear(&b);
    rm_st_unicode(rm_sv_buf(&c), &b);
    c.failed |= b.failed;
    set_to(&b, rm_sv_strip(rm_sv_buf(&b)));
    sub(s, &b, RE_ST_MARKDOWN_ENDS, "");
    set_to(&b, rm_sv_strip(rm_sv_buf(&b)));
    replace(&b, "\\$", "\\dollar ");
    sub(s, &b, RE_ST_MATH_BRACKETS, " ");
    replace(&b, "$$", " ");
    size_t dollars = 0;
    for (size_t i = 0; i < b.n; i++) dollars += b.s[i] == '$';
    if (dollars == 1) sub(s, &b, RE_ST_MONEY, "\\dollar ");
    replace(&b, "$", " ");
    if (thousands) join_thousands(s, &b);
    sub(s, &b, RE_ST_SPACING, " ");
    sub(s, &b, RE_ST_SIZING, " ");
    sub(s, &b, RE_ST_FRAC, "\\frac");
    replace(&b, "\\dbinom", "\\binom");
    replace(&b, "\\tbinom", "\\binom");
    rm_sv v = rm_sv_strip(rm_sv_buf(&b));
    while (v.n && strchr(".,;:", v.s[v.n - 1]) && !rm_sv_ends(v, "\\;")) v = rm_sv_rstrip(rm_sv_cut(v, 0, v.n - 1));
    v = rm_sv_strip(v);
    rm_strbuf_add(out, v.s, v.n);
    if (b.failed || c.failed || out->failed) no_memory(s);
    rm_strbuf_free(&b);
    rm_strbuf_free(&c);
    return !s->bad;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------------------- */

bool rm_st_is(st_token k, char kind, const char *text) { return k.kind == kind && strcmp(k.s, text) == 0; }

st_tokens rm_st_trim(st_tokens t) {
    while (t.n && t.v[0].kind == ' ') t.v++, t.n--;
    while (t.n && t.v[t.n - 1].kind == ' ') t.n--;
    t.cap = 0;
    return t;
}

static void push(rm_strict *s, st_tokens *t, char kind, const char *text) {
    if (!text) return;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 32;
        st_token *v = rm_st_alloc(s, cap * sizeof *v);
        if (!v) return;
        if (t->n) memcpy(v, t->v, t->n * sizeof *v);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = (st_token){kind, text};
}

static void push_sv(rm_strict *s, st_tokens *t, char kind, rm_sv v) { push(s, t, kind, rm_st_copy(s, v)); }

static bool text_command(rm_sv name) {
    char w[24];
    if (name.n >= sizeof w) return false;
    memcpy(w, name.s, name.n);
    w[name.n] = 0;
    return listed(w, "text mbox textbf textrm textit textup mathrm operatorname mathsf hbox textnormal texttt emph textsuperscript");
}

static bool font_command(const char *name) { return listed(name, "mathbf mathit boldsymbol bm vec mathcal bf rm it hat pmb"); }

/* Index of the brace that closes the one at i; SIZE_MAX if none. */
static size_t close_brace(rm_sv v, size_t i) {
    for (int depth = 0; i < v.n; i++) {
        if (v.s[i] == '\\')
            i++;
        else if (v.s[i] == '{')
            depth++;
        else if (v.s[i] == '}' && --depth == 0)
            return i;
    }
    return SIZE_MAX;
}

/* The content of \text{..} and its like. */
static void text_body(rm_strict *s, rm_sv name, rm_sv body, st_tokens *out) {
    const rm_grader *g = s->g;
    rm_sv bare = rm_sv_strip(body);
    char *word = rm_st_copy(s, bare);
    rm_match m;
    if (!word) return;
    bool roman = rm_sv_is(name, "mathrm");
    if ((roman || rm_sv_is(name, "operatorname")) && (rm_st_is_function(word) || strcmp(word, "arccot") == 0)) {
        push(s, out, 'c', word);
    } else if (rm_re_full(g->re[RE_ST_TEXT_VALUE], body)) {
        st_tokens inner = {0};
        if (!rm_st_tokens(s, body, &inner)) return;
        bool loose = false; /* a money or degree sign stands beside its number, not in a group */
        for (size_t i = 0; i < inner.n; i++) loose |= rm_st_is(inner.v[i], 'c', "dollar") || rm_st_is(inner.v[i], 'c', "circ");
        if (!loose && !bare.n) {
            push(s, out, ' ', " ");
            return;
        }
        if (!loose) push(s, out, 'p', "{");
        for (size_t i = 0; i < inner.n; i++) push(s, out, inner.v[i].kind, inner.v[i].s);
        if (!loose) push(s, out, 'p', "}");
    } else if (rm_re_match(g->re[RE_ST_STARTS_NUMBER], body, 0, NULL) && rm_re_match(g->re[RE_ST_NUMBER_WORDS], body, 0, &m)) {
        if (!rm_st_tokens(s, rm_group(body, &m, 1), out)) return;
        push(s, out, ' ', " ");
        push_sv(s, out, 't', rm_group(body, &m, 2));
    } else if ((roman || rm_sv_is(name, "textit") || rm_sv_is(name, "text") || rm_sv_is(name, "textrm")) && bare.n == 1 &&
               strchr("eixyn", bare.s[0])) {
        push(s, out, 'v', word);
    } else {
        push_sv(s, out, 't', body);
    }
}

/* i stands on a backslash; returns where to go on. */
static size_t command(rm_strict *s, rm_sv v, size_t i, st_tokens *out) {
    size_t from = i + 1, to = from, len;
    while (to < v.n && ((v.s[to] >= 'a' && v.s[to] <= 'z') || (v.s[to] >= 'A' && v.s[to] <= 'Z'))) to++;
    if (from >= v.n) {
        rm_st_bad(s);
        return v.n;
    }
    if (to == from) {
        rm_sv_cp(v, from, &len);
        if (len == 1 && strchr("{}%#&_|\\", v.s[from]))
            push_sv(s, out, 'p', rm_sv_cut(v, i, from + 1));
        else
            rm_st_bad(s);
        return from + len;
    }
    rm_sv name = rm_sv_cut(v, from, to);
    if (to < v.n && v.s[to] == '*') to++;
    if (text_command(name)) {
        while (to < v.n && rm_uni_space(rm_sv_cp(v, to, &len))) to += len;
        if (to < v.n && v.s[to] == '{') {
            size_t e = close_brace(v, to);
            if (e == SIZE_MAX) {
                rm_st_bad(s);
                return v.n;
            }
            if (!rm_sv_is(name, "textsuperscript")) text_body(s, name, rm_sv_cut(v, to + 1, e), out);
            return e + 1;
        }
        return to;
    }
    const char *w = rm_st_copy(s, name);
    if (w && !font_command(w)) push(s, out, 'c', w);
    return to;
}

static size_t letters(rm_strict *s, rm_sv v, size_t i, st_tokens *out) {
    rm_match m;
    rm_strbuf low = {0};
    if (!rm_re_match(s->g->re[RE_ST_WORD], v, i, &m)) {
        rm_st_bad(s);
        return v.n;
    }
    rm_sv w = rm_group(v, &m, 0);
    rm_sv_lower(&low, w);
    const char *lw = rm_st_copy(s, rm_sv_buf(&low)), *ww = rm_st_copy(s, w);
    rm_strbuf_free(&low);
    if (!lw || !ww) return v.n;
    bool ascii = rm_sv_length(w) == w.n;
    if (listed(ww, "sqrt pi infty") || (rm_st_is_function(lw) && strcmp(lw, ww) == 0))
        push(s, out, 'c', ww);
    else if (listed(lw, "infinity inf oo"))
        push(s, out, 'c', "infty");
    else if (listed(lw, "and or"))
        push(s, out, 't', lw);
    else if (plain_unit(lw) || rm_st_scale(lw) || w.n > 3 || !ascii)
        push(s, out, 't', ww);
    else
        for (size_t k = 0; k < w.n; k++) push_sv(s, out, 'v', rm_sv_cut(w, k, k + 1));
    return m.end[0];
}

static size_t digits(rm_strict *s, rm_sv v, size_t i, st_tokens *out) {
    rm_match m;
    rm_strbuf ascii = {0};
    if (!rm_re_match(s->g->re[RE_ST_NUMBER], v, i, &m)) {
        rm_st_bad(s);
        return v.n;
    }
    rm_sv w = rm_group(v, &m, 0);
    for (size_t k = 0, len; k < w.n; k += len) {
        unsigned c = rm_sv_cp(w, k, &len);
        rm_strbuf_putc(&ascii, c < 0x80 ? (char)c : (char)('0' + rm_uni_digit_value(c)));
    }
    push_sv(s, out, 'n', rm_sv_buf(&ascii));
    rm_strbuf_free(&ascii);
    i = m.end[0];
    size_t len;
    bool last = i + 1 >= v.n;
    if (i < v.n && v.s[i] == '.' && (last || !rm_uni_digit(rm_sv_cp(v, i + 1, &len)))) {
        if (rm_sv_starts(rm_sv_from(v, i), "...")) rm_st_bad(s);
        if (last || strchr(" }),]", v.s[i + 1])) i++;
    }
    return i;
}

bool rm_st_tokens(rm_strict *s, rm_sv v, st_tokens *out) {
    for (size_t i = 0, len; i < v.n && !s->bad;) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (rm_uni_space(c)) {
            push(s, out, ' ', " ");
            i += len;
        } else if ((c < 0x80 && rm_uni_digit(c)) || (c == '.' && i + 1 < v.n && rm_uni_digit(rm_sv_cp(v, i + 1, &len)))) {
            i = digits(s, v, i, out);
        } else if (c == '\\') {
            i = command(s, v, i, out);
        } else if (rm_uni_alpha(c)) {
            i = letters(s, v, i, out);
        } else if (c < 0x80 && strchr("+-*/^_()[]{}|,;:=<>!'&%\"", (int)c)) {
            rm_sv two = rm_sv_cut(v, i, i + 2 <= v.n ? i + 2 : v.n);
            if (rm_sv_is(two, "<=") || rm_sv_is(two, ">=") || rm_sv_is(two, "!=") || rm_sv_is(two, "**")) {
                push(s, out, 'p', rm_sv_is(two, "**") ? "^" : rm_st_copy(s, two));
                i += 2;
            } else {
                push_sv(s, out, 'p', rm_sv_cut(v, i, i + 1));
                i++;
            }
        } else {
            rm_st_bad(s);
        }
    }
    return !s->bad;
}
