/* Calls: arguments, built-ins, macros, recursive loops. */
#include <string.h>

#include "tmpl/builtin.h"

/* ---- arguments ------------------------------------------------------------------------------------------------------ */

static bool count_args(rm_run *r, const rm_node *n, rm_val *stars, int *n_v, int *n_kw) {
    const rm_val *items;
    uint32_t count;
    for (const rm_node *e = n->list; e; e = e->next) {
        if (e->kind == N_KEYWORD) {
            ++*n_kw;
        } else if (e->kind == N_STAR) {
            if (!rm_tmpl_eval(r, e->a, &stars[0]) || !rm_tmpl_items(r, &stars[0], &items, &count)) return false;
            stars[0] = rm_val_seq(V_LIST, items, count);
            *n_v += (int)count;
        } else if (e->kind == N_STAR2) {
            if (!rm_tmpl_eval(r, e->a, &stars[1])) return false;
            if (stars[1].kind != V_DICT) return rm_tmpl_fail(r, "** needs a dict, not %s", rm_val_type(&stars[1]));
            *n_kw += (int)stars[1].n;
        } else {
            ++*n_v;
        }
    }
    return true;
}

/* first: goes before the arguments, may be NULL */
bool rm_tmpl_args_eval(rm_run *r, const rm_node *n, const rm_val *first, rm_args *out) {
    rm_val stars[2];
    int n_v = first != NULL, n_kw = 0;
    if (!count_args(r, n, stars, &n_v, &n_kw)) return false;
    rm_val *v = rm_tmpl_get(r, (size_t)n_v * sizeof *v);
    rm_pair *kw = v ? rm_tmpl_get(r, (size_t)n_kw * sizeof *kw) : NULL;
    if (!v || !kw) return false;
    *out = (rm_args){.v = v, .kw = kw};
    if (first) v[out->n++] = *first;
    for (const rm_node *e = n->list; e; e = e->next) {
        if (e->kind == N_KEYWORD) {
            kw[out->n_kw].key = rm_val_str(e->text, e->n_text);
            if (!rm_tmpl_eval(r, e->a, &kw[out->n_kw++].val)) return false;
        } else if (e->kind == N_STAR) {
            for (uint32_t i = 0; i < stars[0].n; i++) v[out->n++] = stars[0].seq[i];
        } else if (e->kind == N_STAR2) {
            for (uint32_t i = 0; i < stars[1].n; i++) {
                if (stars[1].dict[i].key.kind != V_STR) return rm_tmpl_fail(r, "keywords must be strings");
                kw[out->n_kw++] = stars[1].dict[i];
            }
        } else if (!rm_tmpl_eval(r, e, &v[out->n++])) {
            return false;
        }
    }
    return rm_tmpl_charge(r, (size_t)(out->n + out->n_kw));
}

bool rm_tmpl_arg_str(rm_run *r, const rm_val *v, const char *what, const char **s, size_t *n) {
    if (v->kind != V_STR) return v->kind == V_UNDEF ? rm_tmpl_undefined(r, v) : rm_tmpl_fail(r, "%s must be text, not %s", what, rm_val_type(v));
    *s = v->s;
    *n = v->n;
    return true;
}

bool rm_tmpl_arg_int(rm_run *r, const rm_val *v, const char *what, int64_t *out) {
    if (v->kind != V_INT && v->kind != V_BOOL)
        return v->kind == V_UNDEF ? rm_tmpl_undefined(r, v) : rm_tmpl_fail(r, "%s must be a whole number, not %s", what, rm_val_type(v));
    *out = v->kind == V_INT ? v->i : v->b;
    return true;
}

/* ---- built-ins ------------------------------------------------------------------------------------------------------ */

const rm_entry *rm_tmpl_entry_find(const rm_entry *table, size_t n_table, const char *s, size_t n) {
    for (size_t i = 0; i < n_table; i++)
        if (strlen(table[i].name) == n && !memcmp(table[i].name, s, n)) return &table[i];
    return NULL;
}

/* Slot of a parameter by name, -1 if there is none. */
static int param_index(const char *params, const rm_val *key) {
    int i = 0;
    for (const char *p = params; *p; i++) {
        size_t n = strcspn(p, " ");
        if (n == key->n && !memcmp(p, key->s, n)) return i;
        p += n + (p[n] == ' ');
    }
    return -1;
}

static int param_count(const char *params) {
    int n = *params != 0;
    for (; *params; params++) n += *params == ' ';
    return n;
}

bool rm_tmpl_call_entry(rm_run *r, const rm_entry *e, const rm_args *args, rm_val *out) {
    if (!e->params) return args->n < e->required ? rm_tmpl_fail(r, "%s: too few arguments", e->name) : e->fn(r, args->v, args, out);
    rm_val slot[RM_MAX_PARAMS] = {0};
    int n = param_count(e->params);
    if (args->n > n) return rm_tmpl_fail(r, "%s: too many arguments", e->name);
    for (int i = 0; i < args->n; i++) slot[i] = args->v[i];
    for (int i = 0; i < args->n_kw; i++) {
        const rm_val *key = &args->kw[i].key;
        int k = param_index(e->params, key);
        if (k < 0 || slot[k].kind != V_ABSENT)
            return rm_tmpl_fail(r, "%s: unexpected argument '%.*s'", e->name, (int)(key->n > 60 ? 60 : key->n), key->s);
        slot[k] = args->kw[i].val;
    }
    for (int i = 0; i < e->required; i++)
        if (slot[i].kind == V_ABSENT) return rm_tmpl_fail(r, "%s: too few arguments", e->name);
    return e->fn(r, slot, args, out);
}

bool rm_tmpl_call_node(rm_run *r, const rm_node *n, const rm_entry *e, const rm_val *first, rm_val *out) {
    rm_args args;
    if (!e)
        return rm_tmpl_fail(r, "%s '%.*s' is not supported here", n->kind == N_FILTER ? "filter" : "test", (int)(n->n_text > 40 ? 40 : n->n_text),
                            n->text);
    return rm_tmpl_args_eval(r, n, first, &args) && rm_tmpl_call_entry(r, e, &args, out);
}

/* ---- everything that can be called -------------------------------------------------------------------------------------- */

bool rm_tmpl_call(rm_run *r, const rm_val *f, const rm_args *args, rm_val *out) {
    rm_args with_self;
    switch (f->kind) {
    case V_UNDEF: return rm_tmpl_undefined(r, f);
    case V_FUNC: return rm_tmpl_call_entry(r, f->func, args, out);
    case V_MACRO: return rm_tmpl_macro_call(r, f->macro, args, out);
    case V_METHOD:
        with_self = *args;
        if (!(with_self.v = rm_tmpl_get(r, ((size_t)args->n + 1) * sizeof *with_self.v))) return false;
        with_self.v[0] = f->bound->self;
        if (args->n) memcpy(with_self.v + 1, args->v, (size_t)args->n * sizeof *args->v);
        with_self.n++;
        return rm_tmpl_call_entry(r, f->bound->fn, &with_self, out);
    case V_LOOP:
        if (args->n != 1 || args->n_kw) return rm_tmpl_fail(r, "loop() takes one argument");
        return rm_tmpl_loop_again(r, f->loop, &args->v[0], out);
    case V_JOINER: {
        rm_cycler *j = f->cycler;
        *out = j->at ? j->v[0] : rm_val_str("", 0);
        j->at = 1;
        return true;
    }
    default: return rm_tmpl_fail(r, "'%s' object is not callable", rm_val_type(f));
    }
}
