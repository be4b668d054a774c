/* Strict scorer: equality of two answers. */
#include <stdlib.h>
#include <string.h>

#include "eval/strict.h"
#include "util/mem.h"

enum { MAX_ELEMENTS = 256 };

static bool same(rm_strict *s, st_answer *g, st_answer *p);

/* ---- structure ------------------------------------------------------------------------------------------------------------- */

static bool same_name(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

/* The same tree: Python's == of the two tuples. */
static bool identical(const st_answer *a, const st_answer *b) {
    if (a == b) return true;
    if (!a || !b || a->kind != b->kind || a->n != b->n || !same_name(a->text, b->text) || !same_name(a->unit.name, b->unit.name)) return false;
    for (int i = 0; i < a->n; i++) {
        if (!identical(a->item[i], b->item[i])) return false;
        if (a->op && i + 1 < a->n && strcmp(a->op[i], b->op[i]) != 0) return false;
    }
    return rm_st_same_tree(a->e, b->e);
}

static bool has_plus_minus(const st_expr *e) {
    if (!e) return false;
    if (e->kind == E_PM) return true;
    for (int i = 0; i < e->n; i++) {
        if (has_plus_minus(e->item[i])) return true;
    }
    return has_plus_minus(e->a) || has_plus_minus(e->b);
}

/* The expression with every plus-minus decided: sign 1 takes the upper one. */
static st_expr *pick(rm_strict *s, const st_expr *e, int sign) {
    if (!e || s->bad) return NULL;
    if (e->kind == E_PM) {
        st_expr *t = pick(s, e->b, sign);
        if (t && e->sign * sign < 0) t = rm_st_expr(s, E_NEG, t, NULL);
        return e->a && t ? rm_st_expr(s, E_ADD, pick(s, e->a, sign), t) : t;
    }
    st_expr *c = rm_st_expr(s, e->kind, NULL, NULL);
    if (!c) return NULL;
    *c = *e;
    c->a = pick(s, e->a, sign);
    c->b = pick(s, e->b, sign);
    if (e->n) {
        c->item = rm_st_alloc(s, (size_t)e->n * sizeof *c->item);
        for (int i = 0; i < e->n && c->item; i++) c->item[i] = pick(s, e->item[i], sign);
    }
    return s->bad ? NULL : c;
}

/* An element of a tuple, set or matrix as an answer. */
static st_answer *lift(rm_strict *s, st_expr *e) {
    st_akind kind = e->kind == E_TUPLE ? A_TUPLE : e->kind == E_SET ? A_SET : A_SCALAR;
    st_expr *m = kind == A_SCALAR ? rm_st_fold_matrix(s, e) : NULL;
    st_answer *a = rm_st_answer(s, m ? A_MAT : kind);
    if (a) a->e = m ? m : e;
    return a;
}

/* ---- relations ---------------------------------------------------------------------------------------------------------------- */

static bool named_expr(const st_expr *e) {
    switch (e->kind) {
    case E_SYM: return true;
    case E_MUL: return (named_expr(e->a) && named_expr(e->b));
    case E_ADD:
    case E_DIV: return named_expr(e->a) && named_expr(e->b);
    case E_NEG: return named_expr(e->a);
    case E_FN: return (rm_st_is_function(e->name) || strcmp(e->name, "abs") == 0) && named_expr(e->item[0]);
    default: return false;
    }
}

/* Does the left side of "=" only name the value: x, AB, f(x), a+b, words? */
static bool name_like(const st_answer *a) {
    if (a->kind == A_NAME) {
        for (const char *c = a->text; *c; c++) {
            if (*c >= '0' && *c <= '9') return false;
        }
        return true;
    }
    if (a->kind == A_TEXT) return true;
    if (a->kind == A_TUPLE) {
        for (int i = 0; i < a->e->n; i++) {
            if (!named_expr(a->e->item[i])) return false;
        }
        return true;
    }
    return a->kind == A_SCALAR && named_expr(a->e);
}

static bool function_call(const st_answer *a) {
    return a->kind == A_SCALAR && a->e->kind == E_MUL && a->e->a->kind == E_SYM && !rm_st_has_symbols(a->e->b);
}

static bool equality(const char *op) { return strcmp(op, "=") == 0 || strcmp(op, "~") == 0 || strcmp(op, "==") == 0; }

/* A relation states a value, or is an equation (left, right), or neither. */
typedef struct {
    st_answer *value, *left, *right;
} reduced;

static bool true_chain(rm_strict *s, const st_answer *r) {
    for (int i = 1; i < r->n; i++) {
        st_answer *v = r->item[i];
        if (v->kind != A_SCALAR || rm_st_has_symbols(v->e)) return false;
        if (strcmp(r->op[i - 1], "=") == 0 && !rm_st_same_number(s, r->item[0]->e, v->e)) return false;
        if (strcmp(r->op[i - 1], "~") == 0 && !rm_st_near(s, r->item[0]->e, v->e)) return false;
    }
    return true;
}

static reduced reduce(rm_strict *s, const st_answer *r) {
    reduced out = {0};
    for (int i = 0; i + 1 < r->n; i++) {
        if (!equality(r->op[i])) return out;
    }
    st_answer *first = r->item[0];
    bool named = name_like(first) || function_call(first);
    if (!named && first->kind == A_SCALAR && !rm_st_has_symbols(first->e)) { /* 10/4 = 2.5 */
        if (!true_chain(s, r))
            rm_st_bad(s);
        else
            out.value = first;
    } else if (named) {
        if (r->n > 2) {
            st_answer rest = {.kind = A_REL, .item = r->item + 1, .op = r->op + 1, .n = r->n - 1};
            out.value = reduce(s, &rest).value;
        } else {
            out = (reduced){r->item[1], first, r->item[1]};
        }
    } else if (r->n == 2 && first->kind == A_SCALAR && r->item[1]->kind == A_SCALAR) {
        out.left = first;
        out.right = r->item[1];
    } else {
        rm_st_bad(s);
    }
    return out;
}

static st_answer *interval(rm_strict *s, bool closed_lo, bool closed_hi, st_expr *lo, st_expr *hi) {
    st_expr *t = rm_st_expr(s, E_TUPLE, NULL, NULL);
    st_answer *a = rm_st_answer(s, A_TUPLE);
    if (!t || !a || !(t->item = rm_st_alloc(s, 2 * sizeof *t->item))) return NULL;
    t->open = closed_lo ? '[' : '(';
    t->close = closed_hi ? ']' : ')';
    t->item[0] = lo;
    t->item[1] = hi;
    t->n = 2;
    a->e = t;
    return a;
}

/* x > a, a < x, a < x <= b as an interval; NULL otherwise. */
static st_answer *rel_interval(rm_strict *s, const st_answer *r) {
    for (int i = 0; i < r->n; i++) {
        if (r->item[i]->kind != A_SCALAR || r->item[i]->unit.name) return NULL;
    }
    for (int i = 0; i + 1 < r->n; i++) {
        if (r->op[i][0] != '<' && r->op[i][0] != '>') return NULL;
    }
    if (r->n == 2) {
        st_expr *a = r->item[0]->e, *b = r->item[1]->e;
        bool less = r->op[0][0] == '<', closed = r->op[0][1] == '=';
        if (b->kind == E_SYM && !rm_st_has_symbols(a)) {
            st_expr *t = a;
            a = b;
            b = t;
            less = !less;
        }
        if (a->kind != E_SYM || rm_st_has_symbols(b)) return NULL;
        st_expr *oo = rm_st_expr(s, E_CONST, NULL, NULL);
        if (!oo) return NULL;
        oo->name = "oo";
        return less ? interval(s, false, closed, rm_st_expr(s, E_NEG, oo, NULL), b) : interval(s, closed, false, b, oo);
    }
    if (r->n != 3 || r->op[0][0] != r->op[1][0] || r->item[1]->e->kind != E_SYM) return NULL;
    st_expr *x = r->item[0]->e, *y = r->item[2]->e;
    if (rm_st_has_symbols(x) || rm_st_has_symbols(y)) return NULL;
    bool c0 = r->op[0][1] == '=', c1 = r->op[1][1] == '=';
    return r->op[0][0] == '<' ? interval(s, c0, c1, x, y) : interval(s, c1, c0, y, x);
}

/* ---- simple forms ---------------------------------------------------------------------------------------------------------------- */

static st_answer *pair_of(rm_strict *s, st_akind kind, st_answer *a, st_answer *b) {
    st_answer *r = rm_st_answer(s, kind);
    if (!r || !(r->item = rm_st_alloc(s, 2 * sizeof *r->item))) return NULL;
    r->item[0] = a;
    r->item[1] = b;
    r->n = 2;
    return r;
}

static st_answer *simple(rm_strict *s, st_answer *a);

static st_answer *simple_relation(rm_strict *s, st_answer *a) {
    st_answer *iv = rel_interval(s, a);
    if (iv || s->bad) return iv;
    reduced r = reduce(s, a);
    if (s->bad) return NULL;
    if (r.value && r.left) { /* named: its equation is item 0 = left, item 2 = right */
        st_answer *v = simple(s, r.value), *n = v ? rm_st_answer(s, A_NAMED) : NULL;
        if (!n || !(n->item = rm_st_alloc(s, 3 * sizeof *n->item))) return NULL;
        n->item[0] = r.left;
        n->item[1] = v;
        n->item[2] = r.right;
        n->n = 3;
        return n;
    }
    if (r.value) return simple(s, r.value);
    if (r.left) return pair_of(s, A_EQUATION, r.left, r.right);
    st_answer *rel = rm_st_answer(s, A_RELATION);
    if (rel) {
        rel->item = a->item;
        rel->op = a->op;
        rel->n = a->n;
    }
    return rel;
}

/* Names, plus-minus and inequalities resolved. */
static st_answer *simple(rm_strict *s, st_answer *a) {
    if (s->bad) return NULL;
    if (a->kind == A_REL) return simple_relation(s, a);
    if (a->kind == A_SCALAR && has_plus_minus(a->e)) {
        st_answer *x = rm_st_scalar(s, pick(s, a->e, 1), a->unit), *y = rm_st_scalar(s, pick(s, a->e, -1), a->unit);
        return x && y ? pair_of(s, A_LIST, x, y) : NULL;
    }
    if (a->kind == A_LIST) {
        st_answer **iv = rm_st_alloc(s, (size_t)a->n * sizeof *iv);
        bool all = iv != NULL;
        for (int i = 0; i < a->n && all; i++) {
            iv[i] = a->item[i]->kind == A_REL ? rel_interval(s, a->item[i]) : NULL;
            all = iv[i] != NULL;
        }
        if (all) {
            st_answer *u = rm_st_answer(s, A_UNION);
            if (!u) return NULL;
            u->item = iv;
            u->n = a->n;
            return u;
        }
    }
    if (a->kind == A_UNION) {
        st_answer *u = rm_st_answer(s, A_UNION);
        if (!u || !(u->item = rm_st_alloc(s, (size_t)a->n * sizeof *u->item))) return NULL;
        u->n = a->n;
        for (int i = 0; i < a->n; i++) {
            if (!(u->item[i] = simple(s, a->item[i]))) return NULL;
        }
        return u;
    }
    return a;
}

typedef struct {
    st_answer *v[MAX_ELEMENTS];
    int n;
} elements;

/* A list or set as a flat list of answers, plus-minus expanded. */
static void flatten(rm_strict *s, st_answer *a, elements *out) {
    if (!a || s->bad) return;
    if (a->kind == A_LIST) {
        for (int i = 0; i < a->n; i++) flatten(s, a->item[i], out);
    } else if (a->kind == A_SET) {
        for (int i = 0; i < a->e->n; i++) flatten(s, lift(s, a->e->item[i]), out);
    } else if (a->kind == A_REL) {
        st_answer *v = reduce(s, a).value;
        if (!v) rm_st_bad(s);
        flatten(s, v, out);
    } else if (out->n + 2 > MAX_ELEMENTS) {
        rm_st_bad(s);
    } else if (a->kind == A_SCALAR && has_plus_minus(a->e)) {
        for (int sign = 1; sign >= -1; sign -= 2) out->v[out->n++] = rm_st_scalar(s, pick(s, a->e, sign), a->unit);
    } else {
        out->v[out->n++] = a;
    }
}

/* Is ys a permutation of xs? */
static bool match_all(rm_strict *s, st_answer *const *xs, int n, st_answer *const *ys, int n_y) {
    if (n != n_y) return false;
    bool *used = rm_st_alloc(s, (size_t)n + 1);
    for (int i = 0; i < n && used && !s->bad; i++) {
        int k = 0;
        while (k < n && (used[k] || !same(s, xs[i], ys[k]))) k++;
        if (k == n || s->bad) return false;
        used[k] = true;
    }
    return !s->bad;
}

static void without_repeats(rm_strict *s, elements *l) {
    int n = 0;
    for (int i = 0; i < l->n && !s->bad; i++) {
        bool seen = false;
        for (int k = 0; k < n && !seen; k++) seen = same(s, l->v[i], l->v[k]);
        if (!seen) l->v[n++] = l->v[i];
    }
    l->n = n;
}

/* ---- equality --------------------------------------------------------------------------------------------------------------------- */

static st_expr *difference(rm_strict *s, st_answer *left, st_answer *right) {
    st_expr *l = left->kind == A_SCALAR ? left->e : NULL;
    if (left->kind == A_NAME && (l = rm_st_expr(s, E_SYM, NULL, NULL))) l->name = left->text;
    if (!l || right->kind != A_SCALAR) return NULL;
    return rm_st_expr(s, E_ADD, l, rm_st_expr(s, E_NEG, right->e, NULL));
}

static bool same_equation(rm_strict *s, st_answer *l1, st_answer *r1, st_answer *l2, st_answer *r2) {
    st_expr *p = difference(s, l1, r1), *q = difference(s, l2, r2);
    return p && q && rm_st_proportional(s, p, q);
}

static bool same_left(rm_strict *s, st_answer *a, st_answer *b) {
    bool ta = a->kind == A_NAME || a->kind == A_TEXT, tb = b->kind == A_NAME || b->kind == A_TEXT;
    if (ta != tb) return false;
    if (!ta) return identical(a, b);
    rm_strbuf x = {0}, y = {0};
    rm_st_text_value(s->g, rm_sv_of(a->text), &x);
    rm_st_text_value(s->g, rm_sv_of(b->text), &y);
    bool eq = rm_sv_eq(rm_sv_buf(&x), rm_sv_buf(&y));
    rm_strbuf_free(&x);
    rm_strbuf_free(&y);
    return eq;
}

static bool same_named(rm_strict *s, st_answer *g, st_answer *p) {
    if (g->kind == A_NAMED && p->kind == A_NAMED) {
        if (same_equation(s, g->item[0], g->item[2], p->item[0], p->item[2])) return true;
        return same_left(s, g->item[0], p->item[0]) && same(s, g->item[1], p->item[1]);
    }
    if (g->kind == A_NAMED) {
        if (p->kind == A_EQUATION) return same_equation(s, g->item[0], g->item[2], p->item[0], p->item[1]);
        return same(s, g->item[1], p);
    }
    if (g->kind == A_EQUATION) return same_equation(s, g->item[0], g->item[1], p->item[0], p->item[2]);
    return same(s, g, p->item[1]);
}

static bool same_relation(rm_strict *s, st_answer *g, st_answer *p) {
    if (g->kind != p->kind || g->n != p->n) return false;
    for (int i = 0; i + 1 < g->n; i++) {
        if (strcmp(g->op[i], p->op[i]) != 0) return false;
    }
    for (int i = 0; i < g->n; i++) {
        if (g->item[i]->kind != p->item[i]->kind) return false;
        if (!identical(g->item[i], p->item[i]) && !same(s, g->item[i], p->item[i])) return false;
    }
    return true;
}

static bool same_base(rm_strict *s, st_answer *g, st_answer *p) {
    if (g->kind == p->kind) {
        rm_sv a = rm_sv_of(g->e->name), b = rm_sv_of(p->e->name);
        while (a.n && a.s[0] == '0') a = rm_sv_from(a, 1);
        while (b.n && b.s[0] == '0') b = rm_sv_from(b, 1);
        return rm_sv_eq(a, b) && strcmp(g->e->base, p->e->base) == 0;
    }
    st_answer *b = g->kind == A_BASE ? g : p, *v = b == g ? p : g;
    if (p->kind == A_BASE && strcmp(p->e->base, "10") != 0) return false; /* a gold without a base is decimal */
    if (v->kind != A_SCALAR || v->e->kind != E_NUM || v->unit.name) return false;
    st_expr *n = rm_st_number(s, b->e->name);
    return n && mpq_equal(n->q, v->e->q) != 0;
}

/* Entries of a matrix; a tuple stands for a column. */
static bool entries(const st_answer *a, st_expr *const **v, int *n, int *n_col) {
    if (a->kind == A_MAT) {
        *n_col = a->e->n_col;
    } else if (a->kind == A_TUPLE && (a->e->open == '(') == (a->e->close == ')')) {
        *n_col = 1;
    } else {
        return false;
    }
    *v = a->e->item;
    *n = a->e->n;
    return true;
}

static bool same_matrix(rm_strict *s, const st_answer *g, const st_answer *p) {
    st_expr *const *x, *const *y;
    int n, m, c, d;
    if (!entries(g, &x, &n, &c) || !entries(p, &y, &m, &d) || n != m || c != d) return false;
    for (int i = 0; i < n; i++) {
        if (!rm_st_same_number(s, x[i], y[i])) return false;
    }
    return true;
}

static bool same_tuple_and_list(rm_strict *s, st_answer *t, st_answer *o) {
    elements *l = rm_st_alloc(s, sizeof *l);
    if (o->kind != A_LIST || t->e->open != '(' || t->e->close != ')' || !l) return false;
    flatten(s, o, l);
    if (s->bad || l->n != t->e->n) return false;
    for (int i = 0; i < l->n; i++) {
        st_answer *x = lift(s, t->e->item[i]);
        if (!x || !same(s, x, l->v[i])) return false;
    }
    return true;
}

static bool same_tuples(rm_strict *s, const st_expr *g, const st_expr *p) {
    if (g->open != p->open || g->close != p->close || g->n != p->n) return false;
    for (int i = 0; i < g->n; i++) {
        st_answer *x = lift(s, g->item[i]), *y = x ? lift(s, p->item[i]) : NULL;
        if (!y || !same(s, x, y)) return false;
    }
    return true;
}

static bool percent(st_unit u) { return u.name && strcmp(u.name, "%") == 0; }

static bool same_scalar(rm_strict *s, const st_answer *g, const st_answer *p) {
    st_expr *hundredth = rm_st_num(s, 1, 100);
    bool gp = percent(g->unit), pp = percent(p->unit);
    if (!hundredth) return false;
    if (pp && !gp) {
        if (rm_st_same_number(s, g->e, rm_st_expr(s, E_MUL, p->e, hundredth))) return true;
        return !g->unit.name && rm_st_at_least_one(s, g->e) && rm_st_same_number(s, g->e, p->e);
    }
    if (gp && !pp) {
        if (p->unit.name) return false;
        return rm_st_same_number(s, g->e, p->e) || rm_st_same_number(s, rm_st_expr(s, E_MUL, g->e, hundredth), p->e);
    }
    bool disagree = g->unit.name && p->unit.name && g->unit.known && p->unit.known && strcmp(g->unit.name, p->unit.name) != 0;
    return !disagree && rm_st_same_number(s, g->e, p->e);
}

static bool same_collections(rm_strict *s, st_answer *g, st_answer *p) {
    elements *x = rm_st_alloc(s, sizeof *x), *y = rm_st_alloc(s, sizeof *y);
    if (!x || !y) return false;
    flatten(s, g, x);
    flatten(s, p, y);
    if (s->bad) return false;
    if (g->kind == A_SET || p->kind == A_SET) {
        without_repeats(s, x);
        without_repeats(s, y);
    }
    return match_all(s, x->v, x->n, y->v, y->n);
}

/* g is the gold. */
static bool same(rm_strict *s, st_answer *g, st_answer *p) {
    g = simple(s, g);
    p = g ? simple(s, p) : NULL;
    if (!g || !p || s->bad) return false;
#define EITHER(k) (g->kind == (k) || p->kind == (k))
    if (EITHER(A_NAMED)) return same_named(s, g, p);
    if (EITHER(A_RELATION)) return same_relation(s, g, p);
    if (EITHER(A_EQUATION)) return g->kind == p->kind && same_equation(s, g->item[0], g->item[1], p->item[0], p->item[1]);
    if (EITHER(A_TEXT)) return identical(g, p);
    if (EITHER(A_BASE)) return same_base(s, g, p);
    if (EITHER(A_UNION)) {
        st_answer **x = g->kind == A_UNION ? g->item : &g, **y = p->kind == A_UNION ? p->item : &p;
        return match_all(s, x, g->kind == A_UNION ? g->n : 1, y, p->kind == A_UNION ? p->n : 1);
    }
    if (EITHER(A_MAT)) return same_matrix(s, g, p);
    if (g->kind == A_TUPLE && p->kind == A_TUPLE) return same_tuples(s, g->e, p->e);
    if (EITHER(A_TUPLE)) return g->kind == A_TUPLE ? same_tuple_and_list(s, g, p) : same_tuple_and_list(s, p, g);
    if (EITHER(A_NAME)) return false;
    if (g->kind == A_SCALAR && p->kind == A_SCALAR) return same_scalar(s, g, p);
    return same_collections(s, g, p);
#undef EITHER
}

/* ---- two texts ------------------------------------------------------------------------------------------------------------------------ */

/* Layout taken out; braces stay, or \frac{2}{3}x would equal \frac{2}{3x}. */
static void squash(const rm_grader *g, rm_sv text, rm_strbuf *out) {
    rm_strbuf a = {0}, b = {0};
    rm_st_unicode(text, &a);
    rm_re_sub(g->re[RE_ST_SQUASH_COMMAND], rm_sv_buf(&a), "", &b);
    rm_strbuf_clear(&a);
    rm_sv_replace(&a, rm_sv_buf(&b), "\\!", "");
    rm_strbuf_clear(&b);
    rm_re_sub(g->re[RE_ST_SPACING], rm_sv_buf(&a), " ", &b);
    rm_strbuf_clear(&a);
    rm_re_sub(g->re[RE_ST_ANY_FRAC], rm_sv_buf(&b), "\\frac", &a);
    rm_strbuf_clear(&b);
    rm_re_sub(g->re[RE_ST_SQUASH_MATH], rm_sv_buf(&a), "", &b);
    rm_strbuf_clear(&a);
    rm_re_sub(g->re[RE_ST_BETWEEN_DIGITS], rm_sv_buf(&b), "\x01", &a);
    rm_strbuf_clear(&b);
    rm_sv_drop_space(&b, rm_sv_buf(&a));
    rm_sv v = rm_sv_rstrip_chars(rm_sv_buf(&b), ".,;:");
    rm_strbuf_add(out, v.s, v.n);
    out->failed |= a.failed || b.failed;
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
}

/* The gold is one capital letter, perhaps in brackets: that letter, else 0. */
static char letter_gold(const rm_grader *g, rm_sv gold) {
    rm_strbuf b = {0};
    char c = 0;
    rm_re_sub(g->re[RE_ST_LETTER_DRESS], gold, "", &b);
    rm_sv v = rm_sv_buf(&b);
    if (v.n && v.s[0] == '(') v = rm_sv_from(v, 1);
    if (v.n == 2 && v.s[1] == ')') v.n = 1;
    if (v.n == 1 && v.s[0] >= 'A' && v.s[0] <= 'Z') c = v.s[0];
    rm_strbuf_free(&b);
    return c;
}

static bool same_words(const rm_grader *g, const char *gold, rm_sv gold_text, rm_sv answer, bool *failed) {
    rm_strbuf a = {0}, b = {0};
    if (gold)
        rm_strbuf_puts(&a, gold);
    else
        rm_st_text_value(g, gold_text, &a);
    rm_st_text_value(g, answer, &b);
    bool eq = a.n && rm_sv_eq(rm_sv_buf(&a), rm_sv_buf(&b));
    *failed |= a.failed || b.failed;
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
    return eq;
}

static bool same_squashed(const rm_grader *g, rm_sv gold, rm_sv answer, bool *failed) {
    rm_strbuf a = {0}, b = {0};
    squash(g, gold, &a);
    squash(g, answer, &b);
    bool eq = a.n && rm_sv_eq(rm_sv_buf(&a), rm_sv_buf(&b));
    *failed |= a.failed || b.failed;
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
    return eq;
}

bool rm_strict_same(const rm_grader *g, rm_sv gold, rm_sv answer, bool *failed) {
    char letter = letter_gold(g, gold);
    if (letter) return rm_strict_letter_of(g, answer) == letter;
    if (same_squashed(g, gold, answer, failed)) return true;
    rm_strict s;
    bool equal = false;
    rm_st_init(&s, g);
    st_answer *want = rm_st_parse_answer(&s, gold, true);
    if (!want) {
        equal = !s.no_memory && !rm_re_search(g->re[RE_ST_DIGIT], gold, 0, NULL) && same_words(g, NULL, gold, answer, failed);
    } else if (want->kind == A_TEXT) {
        equal = same_words(g, want->text, gold, answer, failed);
    } else {
        for (int thousands = 1; thousands >= 0 && !equal && !s.no_memory; thousands--) {
            s.bad = false;
            st_answer *got = rm_st_parse_answer(&s, answer, thousands == 1);
            equal = got && same(&s, want, got) && !s.bad;
        }
    }
    *failed |= s.no_memory;
    rm_st_free(&s);
    return equal;
}
