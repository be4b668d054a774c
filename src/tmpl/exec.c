/* Statements: scopes, loops, macros, captured blocks. */
#include <string.h>

#include "tmpl/builtin.h"

typedef enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAIL } flow;
static flow exec_list(rm_run *r, const rm_node *first);

/* ---- scopes --------------------------------------------------------------------------------------------------------- */

rm_scope *rm_tmpl_scope_new(rm_run *r, rm_scope *up) {
    rm_scope *s = rm_tmpl_get(r, sizeof *s);
    if (s) *s = (rm_scope){.up = up};
    return s;
}

bool rm_tmpl_scope_set(rm_run *r, rm_scope *s, int id, const rm_val *v) {
    for (int i = 0; i < s->n; i++)
        if (s->v[i].id == id) {
            s->v[i].v = *v;
            return true;
        }
    if (s->n == s->cap) {
        int cap = s->cap ? 2 * s->cap : 4;
        rm_binding *b = rm_tmpl_get(r, (size_t)cap * sizeof *b);
        if (!b) return false;
        if (s->n) memcpy(b, s->v, (size_t)s->n * sizeof *b);
        s->v = b;
        s->cap = cap;
    }
    s->v[s->n++] = (rm_binding){id, *v};
    return true;
}

bool rm_tmpl_scope_get(rm_run *r, int id, rm_val *out) {
    size_t looked = 0;
    for (const rm_scope *s = r->scope; s; s = s->up)
        for (int i = 0; i < s->n; i++, looked++)
            if (s->v[i].id == id) {
                *out = s->v[i].v;
                return rm_tmpl_charge(r, looked / 16);
            }
    const char *name = r->tree->names.v[id];
    const size_t n = r->tree->names.n[id];
    const json_t *j = json_object_getn(r->vars, name, n);
    const rm_entry *e = j ? NULL : rm_tmpl_global_find(name, n);
    *out = e ? (rm_val){.kind = V_FUNC, .func = e} : rm_val_undef(name, n);
    if (!j) return true;
    return rm_tmpl_from_json(r, j, out) && rm_tmpl_scope_set(r, r->root, id, out); /* converted once */
}

/* ---- assignment ----------------------------------------------------------------------------------------------------- */

static bool ns_set(rm_run *r, const rm_node *t, const rm_val *v) {
    rm_val of;
    if (!rm_tmpl_scope_get(r, t->id, &of)) return false;
    if (of.kind != V_NS) return rm_tmpl_fail(r, "cannot assign to an attribute of '%s': only namespaces have such", rm_val_type(&of));
    rm_ns *ns = of.ns;
    if (!rm_tmpl_charge(r, ns->n / 16)) return false;
    for (uint32_t i = 0; i < ns->n; i++)
        if (ns->v[i].key.n == t->n_text && !memcmp(ns->v[i].key.s, t->text, t->n_text)) {
            ns->v[i].val = *v;
            return true;
        }
    if (ns->n == ns->cap) {
        rm_pair *p = rm_tmpl_get(r, (2 * (size_t)ns->cap + 4) * sizeof *p);
        if (!p) return false;
        if (ns->n) memcpy(p, ns->v, ns->n * sizeof *p);
        ns->v = p;
        ns->cap = 2 * ns->cap + 4;
    }
    ns->v[ns->n++] = (rm_pair){rm_val_str(t->text, t->n_text), *v};
    return true;
}

static bool assign(rm_run *r, rm_scope *s, const rm_node *t, const rm_val *v) {
    const rm_val *items;
    uint32_t n;
    if (t->kind == N_NAME) return rm_tmpl_scope_set(r, s, t->id, v);
    if (t->kind == N_NSREF) return ns_set(r, t, v);
    if (!rm_tmpl_items(r, v, &items, &n)) return false;
    if (n != (uint32_t)t->n) return rm_tmpl_fail(r, "%u values for %d names", n, t->n);
    for (const rm_node *e = t->list; e; e = e->next)
        if (!assign(r, s, e, items++)) return false;
    return true;
}

/* Runs a list of statements in a scope of its own; what it writes becomes *out. */
static flow capture(rm_run *r, const rm_node *first, rm_scope *scope, rm_val *out) {
    rm_strbuf b = {0}, *before = r->out;
    rm_scope *outer = r->scope;
    if (!scope) return FLOW_FAIL;
    r->out = &b;
    r->scope = scope;
    flow f = exec_list(r, first);
    r->out = before;
    r->scope = outer;
    if (f != FLOW_ON) {
        rm_strbuf_free(&b);
        return f;
    }
    return rm_tmpl_take(r, &b, out) ? FLOW_ON : FLOW_FAIL;
}

/* The filters at the head of a block, innermost first, applied to its text. */
static bool apply_filters(rm_run *r, const rm_node *n, rm_val *io) {
    if (!n) return true;
    if (!rm_tmpl_enter(r) || !apply_filters(r, n->a, io)) return false;
    r->depth--;
    r->line = n->line;
    rm_val v = *io;
    return rm_tmpl_call_node(r, n, n->fn, &v, io);
}

static bool put(rm_run *r, const rm_val *v) {
    if (v->kind == V_UNDEF) return true;
    rm_val t;
    return rm_tmpl_to_str(r, v, &t) && rm_tmpl_put(r, t.s, t.n);
}

static flow exec_block(rm_run *r, const rm_node *n) {
    rm_val v;
    flow f = capture(r, n->body, rm_tmpl_scope_new(r, r->scope), &v);
    if (f != FLOW_ON) return f;
    if (!apply_filters(r, n->b, &v)) return FLOW_FAIL;
    if (n->kind == N_SETBLOCK) return assign(r, r->scope, n->a, &v) ? FLOW_ON : FLOW_FAIL;
    return put(r, &v) ? FLOW_ON : FLOW_FAIL;
}

/* ---- loops ---------------------------------------------------------------------------------------------------------- */

/* The next item that passes the loop's condition. */
static bool fetch(rm_run *r, rm_loop *l, rm_val *out) {
    *out = (rm_val){0};
    while (l->at < l->n) {
        *out = l->seq[l->at++];
        if (!l->filter) return true;
        rm_scope *outer = r->scope, *s = rm_tmpl_scope_new(r, l->scope);
        rm_val yes;
        if (!s || !assign(r, s, l->node->a, out)) return false;
        r->scope = s;
        bool ok = rm_tmpl_eval(r, l->node->c, &yes);
        r->scope = outer;
        if (!ok) return false;
        if (rm_val_true(&yes)) return true;
        *out = (rm_val){0};
    }
    return true;
}

static bool peek(rm_run *r, rm_loop *l) { return l->ahead.kind != V_ABSENT || fetch(r, l, &l->ahead); }

/* Asks the condition for all that is left, so that the number of items is known. */
static bool settle(rm_run *r, rm_loop *l) {
    if (!l->filter) return true;
    rm_val *v = rm_tmpl_get(r, (size_t)(l->n - l->at + 1) * sizeof *v);
    uint32_t n = 0;
    if (!v) return false;
    for (;;) {
        if (!fetch(r, l, &v[n])) return false;
        if (v[n].kind == V_ABSENT) break;
        n++;
    }
    l->seq = v;
    l->at = 0;
    l->n = n;
    l->filter = false;
    return true;
}

bool rm_tmpl_loop_attr(rm_run *r, rm_loop *l, const char *name, size_t n, rm_val *out, bool *found) {
    static const char *const names[] = {"index",     "index0",   "first",    "last",  "length", "revindex",
                                        "revindex0", "previtem", "nextitem", "depth", "depth0"};
    size_t k = 0;
    while (k < sizeof names / sizeof names[0] && (strlen(names[k]) != n || memcmp(names[k], name, n))) k++;
    *found = k < sizeof names / sizeof names[0];
    if ((k == 3 || k == 8) && !peek(r, l)) return false;
    if (k >= 4 && k <= 6 && !settle(r, l)) return false;
    const int64_t left = l->n - l->at + (l->ahead.kind != V_ABSENT);
    switch (k) {
    case 0: *out = rm_val_int(l->index + 1); break;
    case 1: *out = rm_val_int(l->index); break;
    case 2: *out = rm_val_bool(l->index == 0); break;
    case 3: *out = rm_val_bool(l->ahead.kind == V_ABSENT); break;
    case 4: *out = rm_val_int(l->index + 1 + left); break;
    case 5: *out = rm_val_int(left + 1); break;
    case 6: *out = rm_val_int(left); break;
    case 7: *out = l->prev.kind == V_ABSENT ? rm_val_undef("there is no previous item", 25) : l->prev; break;
    case 8: *out = l->ahead.kind == V_ABSENT ? rm_val_undef("there is no next item", 21) : l->ahead; break;
    case 9: *out = rm_val_int(l->depth + 1); break;
    case 10: *out = rm_val_int(l->depth); break;
    default: break;
    }
    return true;
}

static flow run_loop(rm_run *r, const rm_node *n, rm_scope *scope, const rm_val *over, int depth) {
    rm_scope *outer = r->scope;
    rm_loop *l = rm_tmpl_get(r, sizeof *l);
    if (!l) return FLOW_FAIL;
    *l = (rm_loop){.node = n, .scope = scope, .filter = n->c != NULL, .index = -1, .depth = depth};
    if (!rm_tmpl_items(r, over, &l->seq, &l->n)) return FLOW_FAIL;
    const rm_val self = {.kind = V_LOOP, .loop = l};
    flow f = FLOW_ON;
    while (f == FLOW_ON || f == FLOW_CONTINUE) {
        rm_val item = l->ahead;
        l->ahead = (rm_val){0};
        if (item.kind == V_ABSENT && !fetch(r, l, &item)) f = FLOW_FAIL;
        if (f == FLOW_FAIL || item.kind == V_ABSENT) break;
        l->prev = l->cur;
        l->cur = item;
        l->index++;
        rm_scope *s = rm_tmpl_scope_new(r, scope);
        if (!s || !rm_tmpl_scope_set(r, s, RM_ID_LOOP, &self) || !assign(r, s, n->a, &item) || !rm_tmpl_charge(r, 1)) {
            f = FLOW_FAIL;
            break;
        }
        r->scope = s;
        f = exec_list(r, n->body);
    }
    r->scope = outer;
    if (f == FLOW_FAIL) return f;
    if (l->index < 0 && n->other) {
        if (!(r->scope = rm_tmpl_scope_new(r, scope))) return FLOW_FAIL;
        f = exec_list(r, n->other);
        r->scope = outer;
        return f;
    }
    return FLOW_ON;
}

bool rm_tmpl_loop_again(rm_run *r, const rm_loop *l, const rm_val *items, rm_val *out) {
    if (!l->node->op) return rm_tmpl_fail(r, "loop() needs {%% for ... recursive %%}");
    rm_strbuf b = {0}, *before = r->out;
    if (!rm_tmpl_enter(r)) return false;
    r->out = &b;
    flow f = run_loop(r, l->node, l->scope, items, l->depth + 1);
    r->out = before;
    r->depth--;
    if (f != FLOW_FAIL) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}

/* ---- macros --------------------------------------------------------------------------------------------------------- */

static bool is_param(const rm_node *m, const rm_val *key) {
    for (const rm_node *p = m->list; p; p = p->next)
        if (p->n_text == key->n && !memcmp(p->text, key->s, key->n)) return true;
    return false;
}

/* What is left over of the arguments: varargs, kwargs, caller. */
static bool bind_rest(rm_run *r, const rm_node *m, const rm_args *args, rm_scope *s) {
    rm_pair *kw = rm_tmpl_get(r, (size_t)args->n_kw * sizeof *kw);
    uint32_t n_kw = 0;
    rm_val caller = rm_val_undef("caller", 6);
    if (!kw) return false;
    for (int i = 0; i < args->n_kw; i++) {
        if (is_param(m, &args->kw[i].key)) continue;
        if (m->op & RM_MACRO_CALLER && rm_val_is(&args->kw[i].key, "caller"))
            caller = args->kw[i].val;
        else
            kw[n_kw++] = args->kw[i];
    }
    if (n_kw && !(m->op & RM_MACRO_KWARGS))
        return rm_tmpl_fail(r, "macro '%.*s' takes no argument '%.*s'", (int)m->n_text, m->text, (int)(kw[0].key.n > 60 ? 60 : kw[0].key.n),
                            kw[0].key.s);
    if (args->n > m->n && !(m->op & RM_MACRO_VARARGS))
        return rm_tmpl_fail(r, "macro '%.*s' takes not more than %d arguments", (int)m->n_text, m->text, m->n);
    int extra = args->n > m->n ? args->n - m->n : 0;
    rm_val rest = rm_val_seq(V_TUPLE, extra ? args->v + m->n : args->v, (size_t)extra), dict = {.kind = V_DICT, .n = n_kw, .dict = kw};
    return (!(m->op & RM_MACRO_VARARGS) || rm_tmpl_scope_set(r, s, RM_ID_VARARGS, &rest)) &&
           (!(m->op & RM_MACRO_KWARGS) || rm_tmpl_scope_set(r, s, RM_ID_KWARGS, &dict)) &&
           (!(m->op & RM_MACRO_CALLER) || rm_tmpl_scope_set(r, s, RM_ID_CALLER, &caller));
}

static bool bind_params(rm_run *r, const rm_node *m, const rm_args *args, rm_scope *s) {
    int i = 0;
    for (const rm_node *p = m->list; p; p = p->next, i++) {
        rm_val v = rm_val_undef(p->text, p->n_text);
        bool given = i < args->n;
        if (given) v = args->v[i];
        for (int k = 0; k < args->n_kw; k++) {
            if (args->kw[k].key.n != p->n_text || memcmp(args->kw[k].key.s, p->text, p->n_text)) continue;
            if (given) return rm_tmpl_fail(r, "macro '%.*s' got two values for '%.*s'", (int)m->n_text, m->text, (int)p->n_text, p->text);
            given = true;
            v = args->kw[k].val;
        }
        if (!given && p->a) {
            rm_scope *outer = r->scope;
            r->scope = s;
            bool ok = rm_tmpl_eval(r, p->a, &v);
            r->scope = outer;
            if (!ok) return false;
        }
        if (!rm_tmpl_scope_set(r, s, p->id, &v)) return false;
    }
    return true;
}

bool rm_tmpl_macro_call(rm_run *r, const rm_macro *m, const rm_args *args, rm_val *out) {
    rm_scope *s = rm_tmpl_scope_new(r, m->scope);
    const int line = r->line;
    if (!s || !bind_rest(r, m->node, args, s) || !bind_params(r, m->node, args, s) || !rm_tmpl_enter(r)) return false;
    bool ok = capture(r, m->node->body, s, out) == FLOW_ON;
    r->depth--;
    if (ok) r->line = line;
    return ok;
}

static bool make_macro(rm_run *r, const rm_node *n, rm_val *out) {
    rm_macro *m = rm_tmpl_get(r, sizeof *m);
    if (!m) return false;
    *m = (rm_macro){n, r->scope};
    *out = (rm_val){.kind = V_MACRO, .macro = m};
    return true;
}

static bool exec_call_block(rm_run *r, const rm_node *n) {
    rm_val f, caller, out;
    rm_args args;
    if (!rm_tmpl_eval(r, n->a->a, &f) || !rm_tmpl_args_eval(r, n->a, NULL, &args) || !make_macro(r, n->b, &caller)) return false;
    rm_pair *kw = rm_tmpl_get(r, ((size_t)args.n_kw + 1) * sizeof *kw);
    if (!kw) return false;
    if (args.n_kw) memcpy(kw, args.kw, (size_t)args.n_kw * sizeof *kw);
    kw[args.n_kw++] = (rm_pair){rm_val_str("caller", 6), caller};
    args.kw = kw;
    return rm_tmpl_call(r, &f, &args, &out) && put(r, &out);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------- */

static flow exec_scoped(rm_run *r, const rm_node *n) { /* with, generation */
    rm_scope *outer = r->scope, *s = rm_tmpl_scope_new(r, outer);
    if (!s) return FLOW_FAIL;
    for (const rm_node *e = n->list; e; e = e->next) { /* the values see the outer scope */
        rm_val v;
        if (!rm_tmpl_eval(r, e->b, &v) || !assign(r, s, e->a, &v)) return FLOW_FAIL;
    }
    r->scope = s;
    flow f = exec_list(r, n->body);
    r->scope = outer;
    return f;
}

static flow exec_if(rm_run *r, const rm_node *n) {
    for (const rm_node *b = n->list; b; b = b->next) {
        rm_val yes = rm_val_bool(true);
        if (b->a && !rm_tmpl_eval(r, b->a, &yes)) return FLOW_FAIL;
        if (rm_val_true(&yes)) return exec_list(r, b->body);
    }
    return FLOW_ON;
}

static flow exec(rm_run *r, const rm_node *n) {
    rm_val v;
    r->line = n->line;
    switch (n->kind) {
    case N_DATA: return rm_tmpl_put(r, n->text, n->n_text) ? FLOW_ON : FLOW_FAIL;
    case N_PRINT: return rm_tmpl_eval(r, n->a, &v) && put(r, &v) ? FLOW_ON : FLOW_FAIL;
    case N_IF: return exec_if(r, n);
    case N_FOR: return rm_tmpl_eval(r, n->b, &v) ? run_loop(r, n, r->scope, &v, 0) : FLOW_FAIL;
    case N_SET: return rm_tmpl_eval(r, n->b, &v) && assign(r, r->scope, n->a, &v) ? FLOW_ON : FLOW_FAIL;
    case N_SETBLOCK:
    case N_FILTERBLOCK: return exec_block(r, n);
    case N_MACRO: return make_macro(r, n, &v) && rm_tmpl_scope_set(r, r->scope, n->id, &v) ? FLOW_ON : FLOW_FAIL;
    case N_CALLBLOCK: return exec_call_block(r, n) ? FLOW_ON : FLOW_FAIL;
    case N_WITH:
    case N_BODY: return exec_scoped(r, n);
    case N_BREAK: return FLOW_BREAK;
    default: return FLOW_CONTINUE;
    }
}

static flow exec_list(rm_run *r, const rm_node *first) {
    flow f = FLOW_ON;
    if (!rm_tmpl_enter(r)) return FLOW_FAIL;
    for (const rm_node *n = first; n && f == FLOW_ON; n = n->next) f = rm_tmpl_charge(r, 1) ? exec(r, n) : FLOW_FAIL;
    r->depth--;
    return f;
}

bool rm_tmpl_exec_all(rm_run *r) {
    r->root = rm_tmpl_scope_new(r, NULL);
    r->scope = r->root ? rm_tmpl_scope_new(r, r->root) : NULL;
    return r->scope && exec_list(r, r->tree->body) == FLOW_ON;
}
