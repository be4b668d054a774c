/* Expressions of templates, in the order of binding of Jinja. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/parse.h"
#include "util/number.h"

static rm_node *unary(rm_parser *p, bool with_filter);
static rm_node *primary(rm_parser *p, bool with_ns);

static rm_node *node2(rm_parser *p, rm_node_kind kind, int line, rm_node *a, rm_node *b) {
    rm_node *n = a && b ? rm_tmpl_parse_node(p, kind, line) : NULL;
    if (n) {
        n->a = a;
        n->b = b;
    }
    return n;
}

/* ---- from loose to tight -------------------------------------------------------------------------------------------- */

rm_node *rm_tmpl_parse_expr(rm_parser *p) {
    if (!rm_tmpl_parse_enter(p)) return NULL;
    int line = p->t->line;
    rm_node *e = rm_tmpl_parse_or(p);
    while (e && rm_tmpl_parse_skip_name(p, "if")) {
        rm_node *n = node2(p, N_COND, line, rm_tmpl_parse_or(p), e);
        if (!n) return NULL;
        n->b = n->a; /* node2 keeps the order of parsing: condition, value */
        n->a = e;
        if (rm_tmpl_parse_skip_name(p, "else") && !(n->c = rm_tmpl_parse_expr(p))) return NULL;
        e = n;
        line = p->t->line;
    }
    p->depth--;
    return e;
}

static rm_node *not_(rm_parser *p);

static rm_node *and_(rm_parser *p) {
    int line = p->t->line;
    rm_node *e = not_(p);
    while (e && rm_tmpl_parse_skip_name(p, "and")) e = node2(p, N_AND, line, e, not_(p));
    return e;
}

rm_node *rm_tmpl_parse_or(rm_parser *p) {
    int line = p->t->line;
    rm_node *e = and_(p);
    while (e && rm_tmpl_parse_skip_name(p, "or")) e = node2(p, N_OR, line, e, and_(p));
    return e;
}

static rm_node *math2(rm_parser *p) {
    int line = p->t->line;
    rm_node *e = NULL;
    for (unsigned op = 0;;) {
        rm_node *f = unary(p, true);
        for (int l = p->t->line; f && rm_tmpl_parse_skip_op(p, RM_OP2('*', '*')); l = p->t->line)
            if ((f = node2(p, N_BINARY, l, f, unary(p, true)))) f->op = RM_OP2('*', '*');
        if (!f) return NULL;
        if (!op)
            e = f;
        else if ((e = node2(p, N_BINARY, line, e, f)))
            e->op = (uint16_t)op;
        op = p->t->op;
        if (!e || p->t->kind != T_OP || (op != '*' && op != '/' && op != '%' && op != RM_OP2('/', '/'))) return e;
        p->t++;
        line = p->t->line;
    }
}

static rm_node *concat(rm_parser *p) {
    int line = p->t->line;
    rm_nodes l = {0};
    rm_node *e = math2(p);
    if (!e || !rm_tmpl_parse_is_op(p, '~')) return e;
    rm_nodes_add(&l, e);
    while (rm_tmpl_parse_skip_op(p, '~')) {
        if (!(e = math2(p))) return NULL;
        rm_nodes_add(&l, e);
    }
    if ((e = rm_tmpl_parse_node(p, N_CONCAT, line))) {
        e->list = l.first;
        e->n = l.n;
    }
    return e;
}

static rm_node *math1(rm_parser *p) {
    int line = p->t->line;
    rm_node *e = concat(p);
    while (e && (rm_tmpl_parse_is_op(p, '+') || rm_tmpl_parse_is_op(p, '-'))) {
        unsigned op = p->t++->op;
        if ((e = node2(p, N_BINARY, line, e, concat(p)))) e->op = (uint16_t)op;
    }
    return e;
}

static rm_node *compare(rm_parser *p) {
    int line = p->t->line;
    rm_node *first = math1(p);
    rm_nodes l = {0};
    while (first) {
        unsigned op = p->t->op;
        if (p->t->kind == T_OP &&
            (op == '<' || op == '>' || op == RM_OP2('=', '=') || op == RM_OP2('!', '=') || op == RM_OP2('<', '=') || op == RM_OP2('>', '='))) {
            p->t++;
        } else if (rm_tmpl_parse_skip_name(p, "in")) {
            op = RM_OP_IN;
        } else if (rm_tmpl_parse_is_name(p, "not") && p->t[1].kind == T_NAME && p->t[1].n == 2 && !memcmp(p->t[1].s, "in", 2)) {
            p->t += 2;
            op = RM_OP_NOT_IN;
        } else {
            break;
        }
        rm_node *o = rm_tmpl_parse_node(p, N_OPERAND, line);
        if (!o || !(o->a = math1(p))) return NULL;
        o->op = (uint16_t)op;
        rm_nodes_add(&l, o);
    }
    if (!first || !l.n) return first;
    rm_node *n = rm_tmpl_parse_node(p, N_COMPARE, line);
    if (n) {
        n->a = first;
        n->list = l.first;
    }
    return n;
}

static rm_node *not_(rm_parser *p) {
    int line = p->t->line, negations = 0;
    while (rm_tmpl_parse_skip_name(p, "not")) negations++;
    rm_node *e = compare(p);
    if (!e || !negations) return e;
    rm_node *n = rm_tmpl_parse_node(p, N_NOT, line);
    if (!n) return NULL;
    n->a = e;
    if (negations % 2) return n;
    rm_node *twice = rm_tmpl_parse_node(p, N_NOT, line);
    if (twice) twice->a = n;
    return twice;
}

/* ---- calls, subscripts, filters, tests --------------------------------------------------------------------------------- */

/* "(...)": arguments into n->list */
static bool arguments(rm_parser *p, rm_node *n) {
    const int line = p->t->line;
    rm_nodes l = {0};
    bool keyword = false, star = false, star2 = false;
    if (!rm_tmpl_parse_expect_op(p, '(')) return false;
    while (!rm_tmpl_parse_is_op(p, ')')) {
        if (l.n && (!rm_tmpl_parse_expect_op(p, ',') || rm_tmpl_parse_is_op(p, ')'))) break;
        const rm_token *t = p->t;
        rm_node *a;
        if (star2) return rm_tmpl_parse_fail(p, line, "arguments after **");
        if (rm_tmpl_parse_skip_op(p, '*') || rm_tmpl_parse_skip_op(p, RM_OP2('*', '*'))) {
            bool two = t->op != '*';
            if (!two && star) return rm_tmpl_parse_fail(p, line, "two * arguments");
            star = star || !two;
            star2 = two;
            if (!(a = rm_tmpl_parse_node(p, two ? N_STAR2 : N_STAR, t->line)) || !(a->a = rm_tmpl_parse_expr(p))) return false;
        } else if (t->kind == T_NAME && t[1].kind == T_OP && t[1].op == '=') {
            p->t += 2;
            keyword = true;
            if (!(a = rm_tmpl_parse_node(p, N_KEYWORD, t->line)) || !(a->a = rm_tmpl_parse_expr(p))) return false;
            a->text = t->s;
            a->n_text = t->n;
        } else {
            if (keyword || star) return rm_tmpl_parse_fail(p, line, "a plain argument after a named one");
            if (!(a = rm_tmpl_parse_expr(p))) return false;
        }
        rm_nodes_add(&l, a);
    }
    if (!rm_tmpl_parse_expect_op(p, ')')) return false;
    n->list = l.first;
    n->n = l.n;
    return true;
}

static rm_node *subscribed(rm_parser *p, rm_node *of, int line) {
    rm_node *first = NULL;
    if (!rm_tmpl_parse_is_op(p, ':') && !(first = rm_tmpl_parse_expr(p))) return NULL;
    rm_node *n;
    if (!rm_tmpl_parse_skip_op(p, ':')) {
        if (rm_tmpl_parse_is_op(p, ',')) { /* x[a, b]: a tuple as a key */
            rm_node *t = rm_tmpl_parse_node(p, N_TUPLE, line);
            rm_nodes l = {0};
            rm_nodes_add(&l, first);
            while (t && rm_tmpl_parse_skip_op(p, ',')) {
                rm_node *e = rm_tmpl_parse_expr(p);
                if (!e) return NULL;
                rm_nodes_add(&l, e);
            }
            if (!t) return NULL;
            t->list = l.first;
            t->n = l.n;
            first = t;
        }
        return node2(p, N_GETITEM, line, of, first);
    }
    if (!(n = rm_tmpl_parse_node(p, N_SLICE, line))) return NULL;
    n->a = of;
    n->b = first;
    if (!rm_tmpl_parse_is_op(p, ':') && !rm_tmpl_parse_is_op(p, ']') && !(n->c = rm_tmpl_parse_expr(p))) return NULL;
    if (rm_tmpl_parse_skip_op(p, ':') && !rm_tmpl_parse_is_op(p, ']') && !(n->d = rm_tmpl_parse_expr(p))) return NULL;
    return n;
}

static rm_node *postfix(rm_parser *p, rm_node *e) {
    while (e) {
        const int line = p->t->line;
        rm_node *n;
        if (rm_tmpl_parse_skip_op(p, '.')) {
            const rm_token *t = p->t;
            if (t->kind == T_INT) {
                if (!(n = node2(p, N_GETITEM, line, e, primary(p, false)))) return NULL;
            } else {
                if (!rm_tmpl_parse_expect(p, T_NAME) || !(n = rm_tmpl_parse_node(p, N_GETATTR, line))) return NULL;
                n->a = e;
                n->text = t->s;
                n->n_text = t->n;
            }
        } else if (rm_tmpl_parse_skip_op(p, '[')) {
            if (!(n = subscribed(p, e, line)) || !rm_tmpl_parse_expect_op(p, ']')) return NULL;
        } else if (rm_tmpl_parse_is_op(p, '(')) {
            if (!(n = rm_tmpl_parse_node(p, N_CALL, line)) || !arguments(p, n)) return NULL;
            n->a = e;
        } else {
            break;
        }
        e = n;
    }
    return e;
}

bool rm_tmpl_parse_filters(rm_parser *p, rm_node **io, bool first_without_bar) {
    while (first_without_bar || rm_tmpl_parse_skip_op(p, '|')) {
        first_without_bar = false;
        const rm_token *t = p->t;
        rm_node *n = rm_tmpl_parse_expect(p, T_NAME) ? rm_tmpl_parse_node(p, N_FILTER, t->line) : NULL;
        if (!n) return false;
        n->text = t->s;
        n->n_text = t->n;
        if (!(n->fn = rm_tmpl_filter_find(t->s, t->n)) && !p->n_if)
            return rm_tmpl_parse_fail(p, t->line, "filter '%.*s' is not supported here", (int)(t->n > 40 ? 40 : t->n), t->s);
        n->a = *io;
        if (rm_tmpl_parse_is_op(p, '(') && !arguments(p, n)) return false;
        *io = n;
    }
    return true;
}

static rm_node *test(rm_parser *p, rm_node *e) {
    const int line = p->t[-1].line;
    const bool negated = rm_tmpl_parse_skip_name(p, "not");
    const rm_token *t = p->t;
    rm_node *n = rm_tmpl_parse_expect(p, T_NAME) ? rm_tmpl_parse_node(p, N_TEST, line) : NULL;
    if (!n) return NULL;
    n->text = t->s;
    n->n_text = t->n;
    if (!(n->fn = rm_tmpl_test_find(t->s, t->n)) && !p->n_if)
        return rm_tmpl_parse_fail(p, t->line, "test '%.*s' is not supported here", (int)(t->n > 40 ? 40 : t->n), t->s);
    n->a = e;
    const rm_token *c = p->t;
    if (rm_tmpl_parse_is_op(p, '(')) {
        if (!arguments(p, n)) return NULL;
    } else if ((c->kind == T_NAME && !rm_tmpl_parse_is_name(p, "else") && !rm_tmpl_parse_is_name(p, "or") && !rm_tmpl_parse_is_name(p, "and")) ||
               (c->kind >= T_STRING && c->kind <= T_FLOAT) || rm_tmpl_parse_is_op(p, '[') || rm_tmpl_parse_is_op(p, '{')) {
        if (rm_tmpl_parse_is_name(p, "is")) return rm_tmpl_parse_fail(p, c->line, "two tests with 'is' in a row");
        if (!(n->list = primary(p, false)) || !(n->list = postfix(p, n->list))) return NULL;
        n->n = 1;
    }
    if (!negated) return n;
    rm_node *inverse = rm_tmpl_parse_node(p, N_NOT, line);
    if (inverse) inverse->a = n;
    return inverse;
}

static rm_node *unary(rm_parser *p, bool with_filter) {
    if (!rm_tmpl_parse_enter(p)) return NULL;
    const int line = p->t->line;
    rm_node *e;
    if (rm_tmpl_parse_is_op(p, '-') || rm_tmpl_parse_is_op(p, '+')) {
        unsigned op = p->t++->op;
        rm_node *inner = unary(p, false);
        if (!inner || !(e = rm_tmpl_parse_node(p, op == '-' ? N_NEG : N_POS, line))) return NULL;
        e->a = inner;
    } else {
        e = primary(p, false);
    }
    e = postfix(p, e);
    while (e && with_filter) {
        if (rm_tmpl_parse_is_op(p, '|')) {
            if (!rm_tmpl_parse_filters(p, &e, false)) return NULL;
        } else if (rm_tmpl_parse_skip_name(p, "is")) {
            e = test(p, e);
        } else if (rm_tmpl_parse_is_op(p, '(')) {
            rm_node *n = rm_tmpl_parse_node(p, N_CALL, p->t->line);
            if (!n || !arguments(p, n)) return NULL;
            n->a = e;
            e = n;
        } else {
            break;
        }
    }
    p->depth--;
    return e;
}

/* ---- primaries ------------------------------------------------------------------------------------------------------ */

static rm_node *constant(rm_parser *p, int line, rm_val v) {
    rm_node *n = rm_tmpl_parse_node(p, N_CONST, line);
    if (n) n->val = v;
    return n;
}

static rm_node *number(rm_parser *p) {
    const rm_token *t = p->t++;
    char text[64];
    size_t k = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->s[i] == '_') continue;
        if (k + 1 >= sizeof text) return rm_tmpl_parse_fail(p, t->line, "number with more than 60 digits");
        text[k++] = t->s[i];
    }
    text[k] = 0;
    char *end;
    if (t->kind == T_FLOAT) return constant(p, t->line, rm_val_float(rm_number_parse(text, NULL)));
    errno = 0;
    char kind = k > 2 ? (char)(text[1] | 32) : 0;
    bool prefix = kind == 'x' || kind == 'o' || kind == 'b';
    long long v = strtoll(text + (prefix ? 2 : 0), &end, kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10);
    if (errno || *end) return rm_tmpl_parse_fail(p, t->line, "number '%s' is not a whole number of 64 bits", text);
    return constant(p, t->line, rm_val_int(v));
}

static rm_node *strings(rm_parser *p) { /* neighbouring strings are one */
    const rm_token *first = p->t;
    size_t n = 0;
    const rm_token *t = first;
    for (; t->kind == T_STRING; t++) n += t->n;
    p->t = t;
    if (t - first == 1) return constant(p, first->line, rm_val_str(first->s, first->n));
    char *s = rm_tmpl_arena_get(&p->tree->arena, n + 1);
    if (!s) {
        rm_fail(p->err, RMAS_E_NOMEM, "%s: out of memory", p->name);
        return NULL;
    }
    size_t k = 0;
    for (t = first; t->kind == T_STRING; k += t->n, t++) memcpy(s + k, t->s, t->n);
    return constant(p, first->line, rm_val_str(s, n));
}

static rm_node *list(rm_parser *p, bool dict) {
    const rm_token *t = p->t++;
    const unsigned close = dict ? '}' : ']';
    rm_node *n = rm_tmpl_parse_node(p, dict ? N_DICT : N_LIST, t->line);
    rm_nodes l = {0};
    while (n && !rm_tmpl_parse_is_op(p, close)) {
        if (l.n && (!rm_tmpl_parse_expect_op(p, ',') || rm_tmpl_parse_is_op(p, close))) break;
        rm_node *e = rm_tmpl_parse_expr(p);
        if (!e) return NULL;
        rm_nodes_add(&l, e);
        if (!dict) continue;
        if (!rm_tmpl_parse_expect_op(p, ':') || !(e = rm_tmpl_parse_expr(p))) return NULL;
        rm_nodes_add(&l, e);
    }
    if (!n || !rm_tmpl_parse_expect_op(p, close)) return NULL;
    n->list = l.first;
    n->n = l.n;
    return n;
}

static bool tuple_end(const rm_parser *p) { return p->t->kind == T_VAR_END || p->t->kind == T_BLOCK_END || rm_tmpl_parse_is_op(p, ')'); }

/* x | x, | x, y: simple: only primaries (an assignment target, which "in" ends) */
static rm_node *tuple(rm_parser *p, bool with_cond, bool parentheses, bool simple, bool with_ns) {
    const int line = p->t->line;
    rm_nodes l = {0};
    bool commas = false;
    while (!tuple_end(p) && !(simple && rm_tmpl_parse_is_name(p, "in")) && !(!simple && rm_tmpl_parse_is_name(p, "recursive") && l.n)) {
        rm_node *e = simple ? primary(p, with_ns) : with_cond ? rm_tmpl_parse_expr(p) : rm_tmpl_parse_or(p);
        if (!e) return NULL;
        rm_nodes_add(&l, e);
        if (!rm_tmpl_parse_skip_op(p, ',')) break;
        commas = true;
    }
    if (!commas && l.n) return l.first;
    if (!commas && !parentheses) return rm_tmpl_parse_unexpected(p, "an expression");
    rm_node *n = rm_tmpl_parse_node(p, N_TUPLE, line);
    if (n) {
        n->list = l.first;
        n->n = l.n;
    }
    return n;
}

rm_node *rm_tmpl_parse_tuple(rm_parser *p, bool with_cond, bool parentheses) { return tuple(p, with_cond, parentheses, false, false); }

static rm_node *name(rm_parser *p, bool with_ns) {
    static const struct {
        const char *name;
        rm_val v;
    } consts[] = {{"true", {.kind = V_BOOL, .b = true}},
                  {"True", {.kind = V_BOOL, .b = true}},
                  {"false", {.kind = V_BOOL}},
                  {"False", {.kind = V_BOOL}},
                  {"none", {.kind = V_NONE}},
                  {"None", {.kind = V_NONE}}};
    const int line = p->t->line;
    for (size_t i = 0; i < sizeof consts / sizeof consts[0]; i++)
        if (rm_tmpl_parse_skip_name(p, consts[i].name)) return constant(p, line, consts[i].v);
    rm_node *n = rm_tmpl_parse_name(p);
    if (!n) return NULL;
    if (n->id == RM_ID_CALLER) p->macro_flags |= RM_MACRO_CALLER;
    if (n->id == RM_ID_VARARGS) p->macro_flags |= RM_MACRO_VARARGS;
    if (n->id == RM_ID_KWARGS) p->macro_flags |= RM_MACRO_KWARGS;
    if (with_ns && rm_tmpl_parse_skip_op(p, '.')) {
        const rm_token *t = p->t;
        if (!rm_tmpl_parse_expect(p, T_NAME)) return NULL;
        n->kind = N_NSREF;
        n->text = t->s;
        n->n_text = t->n;
    }
    return n;
}

static rm_node *primary(rm_parser *p, bool with_ns) {
    rm_node *e;
    switch (p->t->kind) {
    case T_NAME: return name(p, with_ns);
    case T_STRING: return strings(p);
    case T_INT:
    case T_FLOAT: return number(p);
    default: break;
    }
    if (rm_tmpl_parse_is_op(p, '[')) return list(p, false);
    if (rm_tmpl_parse_is_op(p, '{')) return list(p, true);
    if (!rm_tmpl_parse_is_op(p, '(')) return rm_tmpl_parse_unexpected(p, "an expression");
    p->t++;
    return rm_tmpl_parse_enter(p) && (e = tuple(p, true, true, false, false)) && rm_tmpl_parse_expect_op(p, ')') ? (p->depth--, e) : NULL;
}

static bool assignable(const rm_node *n) {
    if (n->kind == N_NAME || n->kind == N_NSREF) return true;
    if (n->kind != N_TUPLE) return false;
    for (const rm_node *e = n->list; e; e = e->next)
        if (!assignable(e)) return false;
    return true;
}

rm_node *rm_tmpl_parse_target(rm_parser *p, bool with_ns) {
    const int line = p->t->line;
    rm_node *n = tuple(p, false, false, true, with_ns);
    if (n && !assignable(n)) return rm_tmpl_parse_fail(p, line, "cannot assign to this expression");
    return n;
}
