/* Expressions: from node to value. */
#include <string.h>

#include "tmpl/builtin.h"

static bool eval_list(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val *v = rm_tmpl_get(r, (size_t)n->n * sizeof *v);
    if (!v) return false;
    int i = 0;
    for (const rm_node *e = n->list; e; e = e->next)
        if (!rm_tmpl_eval(r, e, &v[i++])) return false;
    *out = rm_val_seq(n->kind == N_LIST ? V_LIST : V_TUPLE, v, (size_t)n->n);
    return true;
}

static bool eval_dict(rm_run *r, const rm_node *n, rm_val *out) {
    rm_pair *v = rm_tmpl_get(r, (size_t)n->n / 2 * sizeof *v);
    uint32_t count = 0;
    if (!v) return false;
    for (const rm_node *e = n->list; e; e = e->next->next) {
        rm_val key, val;
        if (!rm_tmpl_eval(r, e, &key) || !rm_tmpl_eval(r, e->next, &val) || !rm_tmpl_dict_put(r, v, &count, &key, &val)) return false;
    }
    *out = (rm_val){.kind = V_DICT, .n = count, .dict = v};
    return true;
}

static bool eval_slice(rm_run *r, const rm_node *n, rm_val *out) {
    const rm_node *parts[3] = {n->b, n->c, n->d};
    rm_val of, v[3];
    if (!rm_tmpl_eval(r, n->a, &of)) return false;
    for (int i = 0; i < 3; i++)
        if (parts[i] && !rm_tmpl_eval(r, parts[i], &v[i])) return false;
    return rm_tmpl_get_slice(r, &of, n->b ? &v[0] : NULL, n->c ? &v[1] : NULL, n->d ? &v[2] : NULL, out);
}

static bool eval_concat(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val *v = rm_tmpl_get(r, (size_t)n->n * sizeof *v);
    if (!v) return false;
    int i = 0;
    for (const rm_node *e = n->list; e; e = e->next)
        if (!rm_tmpl_eval(r, e, &v[i++])) return false;
    return rm_tmpl_concat(r, v, n->n, out);
}

static bool operand(rm_run *r, unsigned op, const rm_val *a, const rm_val *b, bool *out) {
    int c = 0;
    switch (op) {
    case RM_OP2('=', '='): return rm_tmpl_equal(r, a, b, out);
    case RM_OP2('!', '='):
        if (!rm_tmpl_equal(r, a, b, out)) return false;
        *out = !*out;
        return true;
    case RM_OP_IN: return rm_tmpl_contains(r, b, a, out);
    case RM_OP_NOT_IN:
        if (!rm_tmpl_contains(r, b, a, out)) return false;
        *out = !*out;
        return true;
    default:
        if (!rm_tmpl_order(r, a, b, &c)) return false;
        *out = op == '<' ? c < 0 : op == '>' ? c > 0 : op == RM_OP2('<', '=') ? c <= 0 : c >= 0;
        return true;
    }
}

static bool eval_compare(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val left, right;
    bool yes = true;
    if (!rm_tmpl_eval(r, n->a, &left)) return false;
    for (const rm_node *o = n->list; o && yes; o = o->next) {
        if (!rm_tmpl_eval(r, o->a, &right) || !operand(r, o->op, &left, &right, &yes)) return false;
        left = right;
    }
    *out = rm_val_bool(yes);
    return true;
}

static bool eval_sign(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val v, zero = rm_val_int(0);
    if (!rm_tmpl_eval(r, n->a, &v)) return false;
    if (v.kind == V_UNDEF) return rm_tmpl_undefined(r, &v);
    if (!rm_val_is_number(&v)) return rm_tmpl_fail(r, "bad operand for a sign: '%s'", rm_val_type(&v));
    if (v.kind == V_FLOAT && n->kind == N_NEG) {
        *out = rm_val_float(-v.f);
        return true;
    }
    return n->kind == N_NEG ? rm_tmpl_binary(r, '-', &zero, &v, out) : rm_tmpl_binary(r, '+', &zero, &v, out);
}

static bool eval_cond(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val yes;
    if (!rm_tmpl_eval(r, n->b, &yes)) return false;
    if (rm_val_true(&yes)) return rm_tmpl_eval(r, n->a, out);
    if (n->c) return rm_tmpl_eval(r, n->c, out);
    *out = rm_val_undef("an 'if' without 'else'", 22);
    return true;
}

static bool eval_call(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val f;
    rm_args args;
    if (!rm_tmpl_eval(r, n->a, &f)) return false;
    if (f.kind == V_METHOD)
        return rm_tmpl_args_eval(r, n, &f.bound->self, &args) && (r->line = n->line, rm_tmpl_call_entry(r, f.bound->fn, &args, out));
    return rm_tmpl_args_eval(r, n, NULL, &args) && (r->line = n->line, rm_tmpl_call(r, &f, &args, out));
}

static bool eval_filter(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val v;
    if (!rm_tmpl_eval(r, n->a, &v)) return false;
    r->line = n->line;
    return rm_tmpl_call_node(r, n, n->fn, &v, out);
}

static bool eval_node(rm_run *r, const rm_node *n, rm_val *out) {
    rm_val a, b;
    switch (n->kind) {
    case N_CONST: *out = n->val; return true;
    case N_NAME: return rm_tmpl_scope_get(r, n->id, out);
    case N_LIST:
    case N_TUPLE: return eval_list(r, n, out);
    case N_DICT: return eval_dict(r, n, out);
    case N_GETATTR: return rm_tmpl_eval(r, n->a, &a) && (r->line = n->line, rm_tmpl_get_attr(r, &a, n->text, n->n_text, out));
    case N_GETITEM: return rm_tmpl_eval(r, n->a, &a) && rm_tmpl_eval(r, n->b, &b) && (r->line = n->line, rm_tmpl_get_item(r, &a, &b, out));
    case N_SLICE: return eval_slice(r, n, out);
    case N_CALL: return eval_call(r, n, out);
    case N_FILTER:
    case N_TEST: return eval_filter(r, n, out);
    case N_NOT:
        if (!rm_tmpl_eval(r, n->a, &a)) return false;
        *out = rm_val_bool(!rm_val_true(&a));
        return true;
    case N_NEG:
    case N_POS: return eval_sign(r, n, out);
    case N_BINARY: return rm_tmpl_eval(r, n->a, &a) && rm_tmpl_eval(r, n->b, &b) && (r->line = n->line, rm_tmpl_binary(r, n->op, &a, &b, out));
    case N_CONCAT: return eval_concat(r, n, out);
    case N_COMPARE: return eval_compare(r, n, out);
    case N_AND:
    case N_OR: return rm_tmpl_eval(r, n->a, out) && (rm_val_true(out) == (n->kind == N_OR) || rm_tmpl_eval(r, n->b, out));
    case N_COND: return eval_cond(r, n, out);
    default: return rm_tmpl_fail(r, "not an expression");
    }
}

bool rm_tmpl_eval(rm_run *r, const rm_node *n, rm_val *out) {
    if (!rm_tmpl_charge(r, 1) || !rm_tmpl_enter(r)) return false;
    bool ok = eval_node(r, n, out);
    r->depth--;
    return ok;
}
