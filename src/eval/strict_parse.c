/* Strict scorer: the expression parser (recursive descent, depth capped). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/strict.h"
#include "util/mem.h"

typedef struct {
    rm_strict *s;
    st_token *t;
    size_t n, i;
    int depth;
} parser;

static st_expr *expr(parser *p);
static st_expr *atom(parser *p);
static st_expr *power(parser *p);
static st_expr *term(parser *p);

/* ---- nodes ------------------------------------------------------------------------------------------------------------------ */

st_expr *rm_st_expr(rm_strict *s, st_kind kind, st_expr *a, st_expr *b) {
    st_expr *e = s->bad ? NULL : rm_st_alloc(s, sizeof *e);
    if (e) *e = (st_expr){.kind = kind, .a = a, .b = b};
    return e;
}

st_expr *rm_st_num(rm_strict *s, long num, unsigned long den) {
    st_expr *e = rm_st_expr(s, E_NUM, NULL, NULL);
    if (!e || !(e->q = rm_st_q(s))) return NULL;
    mpq_set_si(e->q, num, den);
    mpq_canonicalize(e->q);
    return e;
}

static st_expr *named(rm_strict *s, st_kind kind, const char *name) {
    st_expr *e = rm_st_expr(s, kind, NULL, NULL);
    if (e) e->name = name;
    return e;
}

static st_expr *call(rm_strict *s, const char *name, st_expr *a, st_expr *b) {
    st_expr *e = named(s, E_FN, name);
    if (!e || !(e->item = rm_st_alloc(s, 2 * sizeof *e->item))) return NULL;
    e->item[0] = a;
    e->item[1] = b;
    e->n = b ? 2 : 1;
    return e;
}

/* digits[.digits][e[+-]digits] as an exact number */
st_expr *rm_st_number(rm_strict *s, const char *text) {
    size_t whole = strspn(text, "0123456789"), frac = 0;
    const char *after = text + whole, *dot = NULL;
    if (*after == '.') {
        dot = after + 1;
        frac = strspn(dot, "0123456789");
        after = dot + frac;
    }
    long ex = 0;
    if (*after == 'e' || *after == 'E') {
        char *end;
        ex = strtol(after + 1, &end, 10);
        after = end;
    }
    if (*after || whole + frac > ST_MAX_DIGITS || ex > ST_MAX_DIGITS || ex < -ST_MAX_DIGITS) return rm_st_bad(s);
    st_expr *e = rm_st_num(s, 0, 1);
    char *all = rm_st_alloc(s, whole + frac + 2);
    if (!e || !all) return NULL;
    memcpy(all, text, whole);
    if (dot) memcpy(all + whole, dot, frac);
    if (whole + frac == 0) all[0] = '0';
    mpz_set_str(mpq_numref(e->q), all, 10);
    mpz_t ten;
    mpz_init(ten);
    mpz_ui_pow_ui(ten, 10, frac);
    mpz_mul(mpq_denref(e->q), mpq_denref(e->q), ten);
    mpz_ui_pow_ui(ten, 10, (unsigned long)labs(ex));
    mpz_ptr side = ex < 0 ? mpq_denref(e->q) : mpq_numref(e->q);
    mpz_mul(side, side, ten);
    mpz_clear(ten);
    mpq_canonicalize(e->q);
    return e;
}

/* 0.1\overline{6}: head "0.1", rep "6" */
static st_expr *repeating(rm_strict *s, const char *head, const char *rep) {
    const char *dot = strchr(head, '.');
    st_expr *base = rm_st_number(s, head), *tail = rm_st_number(s, rep);
    if (!base || !tail || strpbrk(head, "eE")) return rm_st_bad(s);
    mpz_t d, ten;
    mpz_inits(d, ten, NULL);
    mpz_ui_pow_ui(d, 10, strlen(rep));
    mpz_sub_ui(d, d, 1);
    mpz_ui_pow_ui(ten, 10, strlen(dot + 1));
    mpz_mul(d, d, ten);
    mpz_mul(mpq_denref(tail->q), mpq_denref(tail->q), d);
    mpq_canonicalize(tail->q);
    mpq_add(base->q, base->q, tail->q);
    mpz_clears(d, ten, NULL);
    return base;
}

static bool integer(const st_expr *e) { return (e->kind == E_LIT || e->kind == E_NUM) && mpz_cmp_ui(mpq_denref(e->q), 1) == 0; }

/* ---- tokens ------------------------------------------------------------------------------------------------------------------ */

static st_token peek(parser *p) {
    while (p->i < p->n && p->t[p->i].kind == ' ') p->i++;
    return p->i < p->n ? p->t[p->i] : (st_token){0, ""};
}

static st_token take(parser *p) {
    st_token k = peek(p);
    p->i++;
    return k;
}

static bool is_p(parser *p, const char *s) { return rm_st_is(peek(p), 'p', s); }
static bool is_c(parser *p, const char *s) { return rm_st_is(peek(p), 'c', s); }

static bool accept(parser *p, const char *s) {
    if (!is_p(p, s)) return false;
    p->i++;
    return true;
}

static bool expect(parser *p, const char *s) {
    if (accept(p, s)) return true;
    rm_st_bad(p->s);
    return false;
}

static bool enter(parser *p) {
    if (++p->depth <= ST_MAX_DEPTH) return true;
    rm_st_bad(p->s);
    return false;
}

static bool one_of(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, list[i]) == 0) return true;
    }
    return false;
}

static bool starts_factor(parser *p) {
    static const char *const commands[] = {"frac",  "sqrt",  "pi",     "infty",    "binom", "lfloor", "lceil",
                                           "lvert", "begin", "langle", "overline", "angle", "cis"};
    st_token k = peek(p);
    if (k.kind == 'n' || k.kind == 'v') return true;
    if (k.kind == 'p') return strcmp(k.s, "(") == 0 || strcmp(k.s, "{") == 0 || strcmp(k.s, "[") == 0 || strcmp(k.s, "\\{") == 0;
    return k.kind == 'c' && (rm_st_is_function(k.s) || rm_st_is_greek(k.s) || one_of(k.s, commands, RM_COUNT(commands)));
}

/* ---- sums and products --------------------------------------------------------------------------------------------------------- */

static st_expr *plus_minus(parser *p, st_expr *a) {
    int sign = strcmp(take(p).s, "pm") == 0 ? 1 : -1;
    st_expr *b = term(p), *e = b ? rm_st_expr(p->s, E_PM, a, b) : NULL;
    if (e) e->sign = sign;
    return e;
}

static st_expr *expr(parser *p) {
    rm_strict *s = p->s;
    st_expr *a;
    if (!enter(p)) return NULL;
    if (accept(p, "-")) {
        a = term(p);
        a = a ? rm_st_expr(s, E_NEG, a, NULL) : NULL;
    } else if (accept(p, "+")) {
        a = term(p);
    } else if (is_c(p, "pm") || is_c(p, "mp")) {
        a = plus_minus(p, NULL);
    } else {
        a = term(p);
    }
    while (a && !s->bad) {
        if (accept(p, "+")) {
            st_expr *b = term(p);
            a = b ? rm_st_expr(s, E_ADD, a, b) : NULL;
        } else if (accept(p, "-")) {
            st_expr *b = term(p);
            b = b ? rm_st_expr(s, E_NEG, b, NULL) : NULL;
            a = b ? rm_st_expr(s, E_ADD, a, b) : NULL;
        } else if (is_c(p, "pm") || is_c(p, "mp")) {
            a = plus_minus(p, a);
        } else {
            break;
        }
    }
    p->depth--;
    return s->bad ? NULL : a;
}

static st_expr *signed_power(parser *p) {
    bool negative = false, any = false;
    for (; is_p(p, "-") || is_p(p, "+"); p->i++) {
        any = true;
        negative ^= is_p(p, "-");
    }
    st_expr *e = power(p);
    if (!e || !any || !negative) return e;
    return rm_st_expr(p->s, E_NEG, e, NULL);
}

static const st_expr *unwrapped(const st_expr *e) { return e->kind == E_PAREN ? e->a : e; }

/* A proper fraction of integer literals: the second part of a mixed number. */
static bool proper(const st_expr *e) {
    if (e->kind != E_DIV) return false;
    const st_expr *n = unwrapped(e->a), *d = unwrapped(e->b);
    return integer(n) && integer(d) && mpq_sgn(n->q) > 0 && mpq_cmp(n->q, d->q) < 0;
}

/* A factor right behind another one: a product, or the fraction of a mixed number. */
static st_expr *juxtaposed(parser *p, st_expr *a, bool after_integer) {
    rm_strict *s = p->s;
    st_token k = peek(p);
    bool frac = rm_st_is(k, 'c', "frac");
    st_expr *b = power(p);
    if (!b) return NULL;
    if (after_integer && frac && proper(b)) return rm_st_expr(s, E_ADD, a, b);
    if (after_integer && frac && b->kind == E_DEG && proper(b->a)) return rm_st_expr(s, E_DEG, rm_st_expr(s, E_ADD, a, b->a), NULL);
    if (k.kind != 'n') return rm_st_expr(s, E_MUL, a, b);
    if (!after_integer || !integer(b) || !accept(p, "/")) return rm_st_bad(s);
    st_expr *d = power(p);
    if (!d) return NULL;
    if (!integer(d) || mpq_sgn(b->q) <= 0 || mpq_cmp(b->q, d->q) >= 0) return rm_st_bad(s);
    return rm_st_expr(s, E_ADD, a, rm_st_expr(s, E_DIV, b, d));
}

static st_expr *term(parser *p) {
    rm_strict *s = p->s;
    st_expr *a = signed_power(p);
    bool first_integer = a && integer(a);
    while (a && !s->bad) {
        bool times = is_p(p, "*") || is_c(p, "cdot") || is_c(p, "times") || is_c(p, "ast"), over = is_p(p, "/") || is_c(p, "div");
        if (times || over) {
            p->i++;
            st_expr *b = signed_power(p);
            a = b ? rm_st_expr(s, times ? E_MUL : E_DIV, a, b) : NULL;
        } else if (starts_factor(p)) {
            a = juxtaposed(p, a, first_integer);
        } else {
            break;
        }
        first_integer = false;
    }
    return s->bad ? NULL : a;
}

/* ---- powers, marks, subscripts --------------------------------------------------------------------------------------------------- */

/* A group, or one token; of an unbraced number only the first digit unless whole. */
static st_expr *arg(parser *p, bool whole) {
    rm_strict *s = p->s;
    if (accept(p, "{")) {
        st_expr *a = expr(p);
        return a && expect(p, "}") ? a : NULL;
    }
    st_token k = peek(p);
    if (k.kind == 'n' && !whole && strlen(k.s) > 1) {
        p->t[p->i].s = k.s + 1;
        return rm_st_number(s, (const char[]){k.s[0], 0});
    }
    if (whole && accept(p, "-")) {
        st_expr *a = atom(p);
        return a ? rm_st_expr(s, E_NEG, a, NULL) : NULL;
    }
    return atom(p);
}

static bool all_digits(const char *s) { return *s && s[strspn(s, "0123456789")] == 0; }

static const char *subscript(parser *p) {
    static const char *const words[][2] = {{"two", "2"},   {"three", "3"}, {"four", "4"}, {"five", "5"},    {"six", "6"},     {"seven", "7"},
                                           {"eight", "8"}, {"nine", "9"},  {"ten", "10"}, {"twelve", "12"}, {"sixteen", "16"}};
    rm_strict *s = p->s;
    rm_strbuf out = {0}, low = {0};
    st_token k = take(p);
    if (rm_st_is(k, 'p', "{")) {
        while (!is_p(p, "}") && !s->bad) {
            k = take(p);
            if (!k.kind || !strchr("nvtp", k.kind) || strcmp(k.s, "{") == 0) rm_st_bad(s);
            rm_sv v = rm_sv_strip(rm_sv_of(k.s));
            rm_strbuf_add(&out, v.s, v.n);
        }
        p->i++;
    } else if (k.kind && strchr("nvt", k.kind)) {
        rm_sv v = rm_sv_strip(rm_sv_of(k.s));
        rm_strbuf_add(&out, v.s, v.n);
    } else {
        rm_st_bad(s);
    }
    const char *got = rm_st_copy(s, rm_sv_buf(&out));
    rm_sv_lower(&low, rm_sv_buf(&out));
    for (size_t i = 0; i < RM_COUNT(words); i++) {
        if (rm_sv_is(rm_sv_buf(&low), words[i][0])) got = words[i][1];
    }
    rm_strbuf_free(&out);
    rm_strbuf_free(&low);
    return s->bad ? NULL : got;
}

static st_expr *with_subscript(parser *p, st_expr *a) {
    rm_strict *s = p->s;
    const char *sub = subscript(p);
    if (!sub) return NULL;
    const st_expr *lit = a->kind == E_LIT ? a : a->kind == E_PAREN && a->a->kind == E_LIT ? a->a : NULL;
    if (a->kind == E_SYM) {
        rm_strbuf b = {0};
        rm_strbuf_printf(&b, "%s_%s", a->name, sub);
        st_expr *e = named(s, E_SYM, rm_st_copy(s, rm_sv_buf(&b)));
        rm_strbuf_free(&b);
        return e;
    }
    if (!lit || !all_digits(sub)) return rm_st_bad(s);
    st_expr *e = named(s, E_BASE, lit->name);
    while (sub[0] == '0' && sub[1]) sub++;
    if (e) e->base = sub;
    return e;
}

/* Behind "^": \circ, {\circ} or {^\circ} is a degree mark. */
static bool degree_mark(parser *p) {
    size_t save = p->i;
    if (is_c(p, "circ")) {
        p->i++;
        return true;
    }
    if (accept(p, "{")) {
        accept(p, "^");
        if (is_c(p, "circ")) {
            p->i++;
            expect(p, "}");
            return true;
        }
    }
    p->i = save;
    return false;
}

static st_expr *power(parser *p) {
    rm_strict *s = p->s;
    st_expr *a = atom(p);
    while (a && !s->bad) {
        if (accept(p, "!")) {
            a = call(s, "fact", a, NULL);
        } else if (accept(p, "%") || accept(p, "\\%")) {
            a = rm_st_expr(s, E_PCT, a, NULL);
        } else if (accept(p, "^")) {
            if (degree_mark(p)) {
                a = rm_st_expr(s, E_DEG, a, NULL);
            } else {
                st_expr *b = arg(p, true);
                a = b ? rm_st_expr(s, E_POW, a, b) : NULL;
            }
        } else if (is_c(p, "circ")) {
            p->i++;
            a = rm_st_expr(s, E_DEG, a, NULL);
        } else if (accept(p, "_")) {
            a = with_subscript(p, a);
        } else {
            break;
        }
    }
    return s->bad ? NULL : a;
}

/* ---- atoms ------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    st_expr *v[ST_MAX_ITEMS + 1];
    int n;
} item_list;

/* Expressions up to something that separates nothing; closer NULL: any. */
static bool items(parser *p, item_list *l, const char *close1, const char *close2) {
    l->n = 0;
    if (close1 && (is_p(p, close1) || (close2 && is_p(p, close2)))) return true;
    for (;;) {
        st_expr *e = expr(p);
        if (!e) return false;
        l->v[l->n++] = e;
        if (l->n > ST_MAX_ITEMS) {
            rm_st_bad(p->s);
            return false;
        }
        st_token k = peek(p);
        if (!(rm_st_is(k, 'p', ",") || rm_st_is(k, 'p', ";") || rm_st_is(k, 't', "and") || rm_st_is(k, 't', "or"))) return true;
        p->i++;
    }
}

static st_expr *container(rm_strict *s, st_kind kind, const item_list *l, char open, char close) {
    st_expr *e = rm_st_expr(s, kind, NULL, NULL);
    if (!e || !(e->item = rm_st_alloc(s, ((size_t)l->n + 1) * sizeof *e->item))) return NULL;
    memcpy(e->item, l->v, (size_t)l->n * sizeof *e->item);
    e->n = l->n;
    e->open = open;
    e->close = close;
    return e;
}

static st_expr *wrapped(rm_strict *s, st_expr *e) { return e && e->kind == E_LIT ? rm_st_expr(s, E_PAREN, e, NULL) : e; }

static st_expr *bracket(parser *p, char open) {
    rm_strict *s = p->s;
    item_list l;
    if (!items(p, &l, ")", "]")) return NULL;
    st_token k = take(p);
    if (!rm_st_is(k, 'p', ")") && !rm_st_is(k, 'p', "]")) return rm_st_bad(s);
    char close = k.s[0];
    if (l.n == 0) return rm_st_bad(s);
    if (l.n == 1) return (open == '(') == (close == ')') ? wrapped(s, l.v[0]) : rm_st_bad(s);
    return container(s, E_TUPLE, &l, open, close);
}

static st_expr *function(parser *p, const char *name) {
    rm_strict *s = p->s;
    st_expr *pw = NULL, *base = NULL, *a = NULL;
    while (is_p(p, "^") || is_p(p, "_")) {
        bool up = is_p(p, "^");
        p->i++;
        st_expr *e = arg(p, true);
        if (!e) return NULL;
        if (up)
            pw = e;
        else
            base = e;
    }
    if (is_p(p, "(") || is_p(p, "{")) {
        a = atom(p);
    } else {
        while (starts_factor(p) && !s->bad) {
            st_token k = peek(p);
            if (a && ((k.kind == 'c' && rm_st_is_function(k.s)) || is_p(p, "(") || is_p(p, "{") || is_p(p, "["))) break;
            st_expr *b = power(p);
            if (!b) return NULL;
            a = a ? rm_st_expr(s, E_MUL, a, b) : b;
        }
    }
    if (!a || s->bad) return rm_st_bad(s);
    st_expr *e;
    if (strcmp(name, "exp") == 0) {
        e = rm_st_expr(s, E_POW, named(s, E_CONST, "e"), a);
    } else if (strcmp(name, "log") == 0 || strcmp(name, "lg") == 0) {
        e = call(s, "log", a, base ? base : rm_st_num(s, 10, 1));
    } else {
        if (base) return rm_st_bad(s);
        e = call(s, name, a, NULL);
    }
    if (!pw || !e) return e;
    const st_expr *one = pw->kind == E_NEG ? unwrapped(pw->a) : NULL;
    if (one && (one->kind == E_LIT || one->kind == E_NUM) && mpq_cmp_si(one->q, 1, 1) == 0) { /* \sin^{-1} */
        if (strcmp(name, "sin") == 0) return call(s, "arcsin", a, NULL);
        if (strcmp(name, "cos") == 0) return call(s, "arccos", a, NULL);
        if (strcmp(name, "tan") == 0) return call(s, "arctan", a, NULL);
    }
    return rm_st_expr(s, E_POW, e, pw);
}

/* {name}: its tokens joined. False if it is not closed. */
static bool environment(parser *p, rm_strbuf *name) {
    if (!expect(p, "{")) return false;
    while (!is_p(p, "}")) {
        st_token k = take(p);
        if (!k.kind) {
            rm_st_bad(p->s);
            return false;
        }
        rm_strbuf_puts(name, k.s);
    }
    p->i++;
    return true;
}

static st_expr *matrix(parser *p) {
    static const char *const known[] = {"pmatrix", "bmatrix", "matrix", "array", "Bmatrix", "smallmatrix"};
    rm_strict *s = p->s;
    rm_strbuf name = {0};
    bool ok = environment(p, &name) && one_of(rm_str(&name), known, RM_COUNT(known));
    if (ok && strcmp(name.s, "array") == 0 && is_p(p, "{")) {
        rm_strbuf columns = {0};
        ok = environment(p, &columns);
        rm_strbuf_free(&columns);
    }
    rm_strbuf_free(&name);
    if (!ok) return rm_st_bad(s);
    item_list all = {.n = 0};
    int cols = 0, col = 0, row_start = 0;
    while (!is_c(p, "end")) {
        st_expr *e = expr(p);
        if (!e) return NULL;
        if (all.n >= ST_MAX_ITEMS) return rm_st_bad(s);
        all.v[all.n++] = e;
        col++;
        if (accept(p, "&")) continue;
        if (cols && col != cols) return rm_st_bad(s);
        cols = col;
        col = 0;
        row_start = all.n;
        if (!accept(p, "\\\\")) break;
    }
    all.n = row_start; /* a row that ends with & is not one */
    rm_strbuf end = {0};
    bool closed = is_c(p, "end");
    p->i++;
    closed = closed && environment(p, &end);
    rm_strbuf_free(&end);
    if (!closed || !all.n) return rm_st_bad(s);
    st_expr *m = container(s, E_MAT, &all, 0, 0);
    if (m) m->n_col = cols;
    return m;
}

static st_expr *delimited(parser *p, const char *name) {
    static const char *const pairs[][3] = {
        {"lfloor", "rfloor", "floor"}, {"lceil", "rceil", "ceil"}, {"lvert", "rvert", "abs"}, {"langle", "rangle", ""}};
    rm_strict *s = p->s;
    item_list l;
    for (size_t i = 0; i < RM_COUNT(pairs); i++) {
        if (strcmp(name, pairs[i][0]) != 0) continue;
        if (!items(p, &l, NULL, NULL)) return NULL;
        if (!rm_st_is(take(p), 'c', pairs[i][1])) return rm_st_bad(s);
        if (i == 3) return container(s, E_TUPLE, &l, '(', ')');
        return l.n == 1 ? call(s, pairs[i][2], l.v[0], NULL) : rm_st_bad(s);
    }
    return rm_st_bad(s);
}

static st_expr *command(parser *p, const char *name) {
    rm_strict *s = p->s;
    if (strcmp(name, "frac") == 0 || strcmp(name, "cfrac") == 0 || strcmp(name, "binom") == 0) {
        st_expr *a = arg(p, false), *b = a ? arg(p, false) : NULL;
        if (!b) return NULL;
        return name[0] == 'b' ? call(s, "binom", a, b) : rm_st_expr(s, E_DIV, a, b);
    }
    if (strcmp(name, "sqrt") == 0) {
        st_expr *n = NULL;
        if (accept(p, "[")) {
            n = expr(p);
            if (!n || !expect(p, "]")) return NULL;
        }
        st_expr *a = arg(p, true);
        if (!a) return NULL;
        return n ? call(s, "root", a, n) : call(s, "sqrt", a, NULL);
    }
    if (strcmp(name, "pi") == 0) return named(s, E_CONST, "pi");
    if (strcmp(name, "infty") == 0) return named(s, E_CONST, "oo");
    if (rm_st_is_function(name)) return function(p, name);
    if (rm_st_is_greek(name)) return named(s, E_SYM, name);
    return strcmp(name, "begin") == 0 ? matrix(p) : delimited(p, name);
}

static st_expr *literal(parser *p, const char *text) {
    rm_strict *s = p->s;
    bool line = p->i < p->n && (rm_st_is(p->t[p->i], 'c', "overline") || rm_st_is(p->t[p->i], 'c', "bar"));
    if (line) {
        p->i++;
        if (accept(p, "{")) {
            st_token d = take(p);
            if (d.kind == 'n' && all_digits(d.s) && strchr(text, '.') && expect(p, "}")) return repeating(s, text, d.s);
        }
        return rm_st_bad(s);
    }
    st_expr *e = rm_st_number(s, text);
    if (!e) return NULL;
    e->kind = E_LIT;
    e->name = text;
    return e;
}

static st_expr *punctuation(parser *p, const char *c) {
    rm_strict *s = p->s;
    if (strcmp(c, "{") == 0) {
        st_expr *a = expr(p);
        return a && expect(p, "}") ? wrapped(s, a) : NULL;
    }
    if (strcmp(c, "(") == 0 || strcmp(c, "[") == 0) return bracket(p, c[0]);
    if (strcmp(c, "\\{") == 0) {
        item_list l;
        return items(p, &l, "\\}", NULL) && expect(p, "\\}") ? container(s, E_SET, &l, 0, 0) : NULL;
    }
    if (strcmp(c, "|") == 0) {
        st_expr *a = expr(p);
        return a && expect(p, "|") ? call(s, "abs", a, NULL) : NULL;
    }
    return rm_st_bad(s);
}

static st_expr *atom(parser *p) {
    rm_strict *s = p->s;
    if (!enter(p)) return NULL;
    st_token k = take(p);
    st_expr *e;
    switch (k.kind) {
    case 'n': e = literal(p, k.s); break;
    case 'v': e = strcmp(k.s, "i") == 0 || strcmp(k.s, "e") == 0 ? named(s, E_CONST, k.s) : named(s, E_SYM, k.s); break;
    case 'p': e = punctuation(p, k.s); break;
    case 'c': e = command(p, k.s); break;
    default: e = rm_st_bad(s);
    }
    p->depth--;
    return s->bad ? NULL : e;
}

st_expr *rm_st_parse(rm_strict *s, st_tokens t, st_tokens *rest) {
    st_token *copy = rm_st_alloc(s, (t.n + 1) * sizeof *copy); /* the parser takes digits off number tokens */
    if (!copy) return NULL;
    if (t.n) memcpy(copy, t.v, t.n * sizeof *copy);
    parser p = {s, copy, t.n, 0, 0};
    st_expr *e = expr(&p);
    if (!e) return NULL;
    size_t at = p.i < t.n ? p.i : t.n;
    *rest = rm_st_trim((st_tokens){copy + at, t.n - at, 0});
    return e;
}

/* ---- trees ---------------------------------------------------------------------------------------------------------------------------- */

st_expr *rm_st_strip(rm_strict *s, st_expr *e) {
    if (!e) return NULL;
    while (e->kind == E_PAREN) e = e->a;
    if (e->kind == E_LIT) e->kind = E_NUM;
    if (e->a) e->a = rm_st_strip(s, e->a);
    if (e->b) e->b = rm_st_strip(s, e->b);
    for (int i = 0; i < e->n; i++) e->item[i] = rm_st_strip(s, e->item[i]);
    return e;
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

bool rm_st_same_tree(const st_expr *a, const st_expr *b) {
    if (a == b) return true;
    if (!a || !b || a->kind != b->kind || a->n != b->n || a->n_col != b->n_col || a->sign != b->sign || a->open != b->open || a->close != b->close)
        return false;
    if (a->kind == E_NUM) return mpq_equal(a->q, b->q) != 0;
    if (!same_text(a->name, b->name) || !same_text(a->base, b->base)) return false;
    for (int i = 0; i < a->n; i++) {
        if (!rm_st_same_tree(a->item[i], b->item[i])) return false;
    }
    return rm_st_same_tree(a->a, b->a) && rm_st_same_tree(a->b, b->b);
}

bool rm_st_has_symbols(const st_expr *e) {
    if (!e) return false;
    if (e->kind == E_SYM) return true;
    for (int i = 0; i < e->n; i++) {
        if (rm_st_has_symbols(e->item[i])) return true;
    }
    return rm_st_has_symbols(e->a) || rm_st_has_symbols(e->b);
}

/* Applies `kind` with the other operand to every entry. */
static st_expr *map_matrix(rm_strict *s, const st_expr *m, st_kind kind, st_expr *left, st_expr *right) {
    st_expr *r = rm_st_expr(s, E_MAT, NULL, NULL);
    if (!r || !(r->item = rm_st_alloc(s, (size_t)m->n * sizeof *r->item))) return NULL;
    r->n = m->n;
    r->n_col = m->n_col;
    for (int i = 0; i < m->n; i++) r->item[i] = rm_st_expr(s, kind, left ? left : m->item[i], left ? m->item[i] : right);
    return s->bad ? NULL : r;
}

st_expr *rm_st_fold_matrix(rm_strict *s, st_expr *e) {
    if (e->kind == E_MAT) return e;
    if (e->kind != E_NEG && e->kind != E_MUL && e->kind != E_DIV) return NULL;
    st_expr *a = rm_st_fold_matrix(s, e->a);
    if (s->bad) return NULL;
    if (e->kind == E_NEG) return a ? map_matrix(s, a, E_NEG, NULL, NULL) : NULL;
    if (e->kind == E_DIV) return a ? map_matrix(s, a, E_DIV, NULL, e->b) : NULL;
    st_expr *b = rm_st_fold_matrix(s, e->b);
    if (a && b) return rm_st_bad(s);
    if (a) return map_matrix(s, a, E_MUL, NULL, e->b);
    return b ? map_matrix(s, b, E_MUL, e->a, NULL) : NULL;
}
