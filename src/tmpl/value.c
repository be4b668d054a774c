/* What can be done with values: comparison, attributes, subscripts, slices. Each function charges for the work that it does. */
#include "tmpl/value.h"

#include <limits.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/text.h"

bool rm_val_true(const rm_val *v) {
    switch (v->kind) {
    case V_ABSENT:
    case V_UNDEF:
    case V_NONE: return false;
    case V_BOOL: return v->b;
    case V_INT: return v->i != 0;
    case V_FLOAT: return v->f != 0;
    case V_STR:
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW:
    case V_DICT: return v->n > 0;
    default: return true;
    }
}

double rm_val_double(const rm_val *v) { return v->kind == V_FLOAT ? v->f : v->kind == V_INT ? (double)v->i : v->b; }

const char *rm_val_type(const rm_val *v) {
    static const char *const names[] = {
        [V_ABSENT] = "nothing", [V_UNDEF] = "Undefined", [V_NONE] = "NoneType", [V_BOOL] = "bool",     [V_INT] = "int",
        [V_FLOAT] = "float",    [V_STR] = "str",         [V_LIST] = "list",     [V_TUPLE] = "tuple",   [V_RANGE] = "range",
        [V_VIEW] = "dict view", [V_ITER] = "generator",  [V_DICT] = "dict",     [V_NS] = "Namespace",  [V_LOOP] = "LoopContext",
        [V_MACRO] = "Macro",    [V_FUNC] = "function",   [V_METHOD] = "method", [V_CYCLER] = "Cycler", [V_JOINER] = "Joiner"};
    return names[v->kind];
}

bool rm_val_is(const rm_val *v, const char *s) { return v->kind == V_STR && v->n == strlen(s) && !memcmp(v->s, s, v->n); }

rm_val rm_tmpl_undef_of(const rm_val *object, const char *name, size_t n) {
    rm_val u = rm_val_undef(name, n);
    u.flag = object->kind;
    return u;
}

/* ---- from the caller's variables -------------------------------------------------------------------------------------- */

static bool from_array(rm_run *r, const json_t *j, rm_val *out) {
    size_t n = json_array_size(j);
    rm_val *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v) return false;
    for (size_t i = 0; i < n; i++)
        if (!rm_tmpl_from_json(r, json_array_get(j, i), &v[i])) return false;
    *out = rm_val_seq(V_LIST, v, n);
    return true;
}

static bool from_object(rm_run *r, const json_t *j, rm_val *out) {
    size_t n = json_object_size(j), k = 0;
    rm_pair *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v) return false;
    const char *key;
    json_t *val;
    json_object_foreach((json_t *)j, key, val) {
        v[k].key = rm_val_str(key, strlen(key));
        if (!rm_tmpl_from_json(r, val, &v[k].val)) return false;
        k++;
    }
    *out = (rm_val){.kind = V_DICT, .n = (uint32_t)k, .dict = v};
    return true;
}

bool rm_tmpl_from_json(rm_run *r, const json_t *j, rm_val *out) {
    bool ok = rm_tmpl_enter(r);
    if (!ok) return false;
    switch (json_typeof(j)) {
    case JSON_OBJECT: ok = from_object(r, j, out); break;
    case JSON_ARRAY: ok = from_array(r, j, out); break;
    case JSON_STRING:
        if (json_string_length(j) > INT_MAX) return rm_tmpl_fail(r, "a text of more than 2 GiB");
        *out = rm_val_str(json_string_value(j), json_string_length(j));
        break;
    case JSON_INTEGER: *out = rm_val_int(json_integer_value(j)); break;
    case JSON_REAL: *out = rm_val_float(json_real_value(j)); break;
    case JSON_TRUE: *out = rm_val_bool(true); break;
    case JSON_FALSE: *out = rm_val_bool(false); break;
    default: *out = rm_val_none();
    }
    r->depth--;
    return ok;
}

/* ---- sequences ------------------------------------------------------------------------------------------------------ */

bool rm_tmpl_items(rm_run *r, const rm_val *v, const rm_val **items, uint32_t *n) {
    rm_val *out;
    *n = v->n;
    switch (v->kind) {
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: *items = v->seq; return true;
    case V_UNDEF: *n = 0; return true;
    case V_ITER:
        if (v->iter->used) *n = 0;
        v->iter->used = true;
        *items = v->iter->seq;
        return true;
    case V_DICT:
        if (!rm_tmpl_charge(r, v->n / 8) || !(out = rm_tmpl_get(r, v->n * sizeof *out))) return false;
        for (uint32_t i = 0; i < v->n; i++) out[i] = v->dict[i].key;
        break;
    case V_STR: {
        size_t count = rm_text_count(v->s, v->n), at = 0;
        if (!rm_tmpl_charge(r, v->n / 8) || !(out = rm_tmpl_get(r, count * sizeof *out))) return false;
        for (size_t i = 0; i < count; i++) {
            unsigned cp;
            int len = rm_text_next(v->s + at, v->n - at, &cp);
            out[i] = rm_val_str(v->s + at, (size_t)len);
            at += (size_t)len;
        }
        *n = (uint32_t)count;
        break;
    }
    default: return rm_tmpl_fail(r, "'%s' object is not iterable", rm_val_type(v));
    }
    *items = out;
    return true;
}

bool rm_tmpl_length(rm_run *r, const rm_val *v, int64_t *out) {
    if (v->kind == V_STR)
        *out = (int64_t)rm_text_count(v->s, v->n);
    else if (rm_val_is_seq(v) || v->kind == V_DICT)
        *out = v->n;
    else if (v->kind == V_UNDEF)
        *out = 0;
    else
        return rm_tmpl_fail(r, "object of type '%s' has no length", rm_val_type(v));
    return rm_tmpl_charge(r, v->kind == V_STR ? v->n / 64 : 0);
}

/* ---- comparison ----------------------------------------------------------------------------------------------------- */

static bool equal_items(rm_run *r, const rm_val *a, const rm_val *b, bool *out) {
    for (uint32_t i = 0; i < a->n && *out; i++)
        if (!rm_tmpl_equal(r, &a->seq[i], &b->seq[i], out)) return false;
    return true;
}

static bool equal_dicts(rm_run *r, const rm_val *a, const rm_val *b, bool *out) {
    for (uint32_t i = 0; i < a->n && *out; i++) {
        const rm_val *other;
        if (!rm_tmpl_dict_find(r, b, &a->dict[i].key, &other)) return false;
        *out = other != NULL;
        if (other && !rm_tmpl_equal(r, &a->dict[i].val, other, out)) return false;
    }
    return true;
}

bool rm_tmpl_equal(rm_run *r, const rm_val *a, const rm_val *b, bool *out) {
    bool ok = true;
    if (rm_val_is_number(a) && rm_val_is_number(b)) {
        if (a->kind != V_FLOAT && b->kind != V_FLOAT)
            *out = (a->kind == V_INT ? a->i : a->b) == (b->kind == V_INT ? b->i : b->b);
        else
            *out = rm_val_double(a) == rm_val_double(b);
        return true;
    }
    *out = false;
    if (a->kind != b->kind) return true;
    switch (a->kind) {
    case V_UNDEF:
    case V_NONE: *out = true; return true;
    case V_STR: *out = a->n == b->n && !memcmp(a->s, b->s, a->n); return rm_tmpl_charge(r, a->n / 64);
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_DICT:
        *out = a->n == b->n;
        if (!*out) return true;
        if (!rm_tmpl_enter(r) || !rm_tmpl_charge(r, a->n)) return false;
        ok = a->kind == V_DICT ? equal_dicts(r, a, b, out) : equal_items(r, a, b, out);
        r->depth--;
        return ok;
    case V_FUNC: *out = a->func == b->func; return true;
    default: *out = a->s == b->s; return true; /* identity */
    }
}

bool rm_tmpl_order(rm_run *r, const rm_val *a, const rm_val *b, int *out) {
    if (a->kind == V_UNDEF) return rm_tmpl_undefined(r, a);
    if (b->kind == V_UNDEF) return rm_tmpl_undefined(r, b);
    if (rm_val_is_number(a) && rm_val_is_number(b)) {
        if (a->kind != V_FLOAT && b->kind != V_FLOAT) {
            int64_t x = a->kind == V_INT ? a->i : a->b, y = b->kind == V_INT ? b->i : b->b;
            *out = (x > y) - (x < y);
        } else {
            double x = rm_val_double(a), y = rm_val_double(b);
            *out = (x > y) - (x < y);
        }
        return true;
    }
    if (a->kind == V_STR && b->kind == V_STR) {
        uint32_t n = a->n < b->n ? a->n : b->n;
        int c = n ? memcmp(a->s, b->s, n) : 0; /* the order of bytes is the order of code points */
        *out = c ? c : (a->n > b->n) - (a->n < b->n);
        return rm_tmpl_charge(r, n / 64);
    }
    if (a->kind == b->kind && (a->kind == V_LIST || a->kind == V_TUPLE)) {
        if (!rm_tmpl_enter(r)) return false;
        for (uint32_t i = 0; i < a->n && i < b->n; i++) {
            bool same;
            if (!rm_tmpl_charge(r, 1) || !rm_tmpl_equal(r, &a->seq[i], &b->seq[i], &same)) return false;
            if (same) continue;
            r->depth--;
            return rm_tmpl_order(r, &a->seq[i], &b->seq[i], out);
        }
        r->depth--;
        *out = (a->n > b->n) - (a->n < b->n);
        return true;
    }
    return rm_tmpl_fail(r, "'%s' and '%s' have no order", rm_val_type(a), rm_val_type(b));
}

bool rm_tmpl_contains(rm_run *r, const rm_val *in, const rm_val *v, bool *out) {
    const rm_val *items, *found;
    uint32_t n;
    if (in->kind == V_STR) {
        if (v->kind == V_UNDEF) return rm_tmpl_undefined(r, v);
        if (v->kind != V_STR) return rm_tmpl_fail(r, "'in <string>' requires string as left operand, not %s", rm_val_type(v));
        *out = rm_text_find(in->s, in->n, v->s, v->n) >= 0;
        return rm_tmpl_charge(r, in->n / 32);
    }
    if (in->kind == V_DICT) {
        if (!rm_tmpl_dict_find(r, in, v, &found)) return false;
        *out = found != NULL;
        return true;
    }
    *out = false;
    if (!rm_tmpl_items(r, in, &items, &n) || !rm_tmpl_charge(r, n)) return false;
    for (uint32_t i = 0; i < n && !*out; i++)
        if (!rm_tmpl_equal(r, v, &items[i], out)) return false;
    return true;
}

/* ---- dicts ---------------------------------------------------------------------------------------------------------- */

bool rm_tmpl_dict_find(rm_run *r, const rm_val *dict, const rm_val *key, const rm_val **out) {
    *out = NULL;
    if (key->kind == V_LIST || key->kind == V_DICT) return rm_tmpl_fail(r, "unhashable type: '%s'", rm_val_type(key));
    if (!rm_tmpl_charge(r, dict->n / 8)) return false;
    for (uint32_t i = 0; i < dict->n; i++) {
        const rm_val *k = &dict->dict[i].key;
        bool same = false;
        if (key->kind == V_STR)
            same = k->kind == V_STR && k->n == key->n && !memcmp(k->s, key->s, k->n);
        else if (!rm_tmpl_equal(r, k, key, &same))
            return false;
        if (!same) continue;
        *out = &dict->dict[i].val;
        return true;
    }
    return true;
}

bool rm_tmpl_dict_put(rm_run *r, rm_pair *v, uint32_t *n, const rm_val *key, const rm_val *val) {
    rm_val d = {.kind = V_DICT, .n = *n, .dict = v};
    const rm_val *found;
    if (!rm_tmpl_dict_find(r, &d, key, &found)) return false;
    if (found) {
        v[(const rm_pair *)((const char *)found - offsetof(rm_pair, val)) - v].val = *val;
        return true;
    }
    v[*n].key = *key;
    v[(*n)++].val = *val;
    return true;
}

/* ---- attributes and subscripts ------------------------------------------------------------------------------------------ */

static bool ns_find(const rm_ns *ns, const char *name, size_t n, rm_val *out) {
    for (uint32_t i = 0; i < ns->n; i++)
        if (ns->v[i].key.n == n && !memcmp(ns->v[i].key.s, name, n)) {
            *out = ns->v[i].val;
            return true;
        }
    return false;
}

bool rm_tmpl_get_attr(rm_run *r, const rm_val *of, const char *name, size_t n, rm_val *out) {
    bool found = false;
    if (of->kind == V_UNDEF) return rm_tmpl_undefined(r, of);
    if (of->kind == V_NS && ns_find(of->ns, name, n, out)) return true;
    if (of->kind == V_LOOP) {
        if (!rm_tmpl_loop_attr(r, of->loop, name, n, out, &found)) return false;
        if (found) return true;
    }
    const rm_entry *e = rm_tmpl_method_find(of, name, n);
    if (e) {
        rm_bound *b = rm_tmpl_get(r, sizeof *b);
        if (!b) return false;
        *b = (rm_bound){*of, e};
        *out = (rm_val){.kind = V_METHOD, .bound = b};
        return true;
    }
    if (of->kind == V_DICT) {
        rm_val key = rm_val_str(name, n);
        const rm_val *val;
        if (!rm_tmpl_dict_find(r, of, &key, &val)) return false;
        if (val) {
            *out = *val;
            return true;
        }
    }
    if (of->kind == V_MACRO && n == 4 && !memcmp(name, "name", 4)) {
        *out = rm_val_str(of->macro->node->text, of->macro->node->n_text);
        return true;
    }
    *out = rm_tmpl_undef_of(of, name, n);
    return true;
}

static bool index_of(const rm_val *key, int64_t count, int64_t *at) {
    if (key->kind != V_INT && key->kind != V_BOOL) return false;
    *at = key->kind == V_INT ? key->i : key->b;
    if (*at < 0) *at += count;
    return *at >= 0 && *at < count;
}

bool rm_tmpl_get_item(rm_run *r, const rm_val *of, const rm_val *key, rm_val *out) {
    int64_t at;
    if (of->kind == V_UNDEF) return rm_tmpl_undefined(r, of);
    if (of->kind == V_DICT && key->kind != V_LIST && key->kind != V_DICT) {
        const rm_val *val;
        if (!rm_tmpl_dict_find(r, of, key, &val)) return false;
        if (val) {
            *out = *val;
            return true;
        }
    } else if (rm_val_is_seq(of) && of->kind != V_VIEW) {
        if (index_of(key, of->n, &at)) {
            *out = of->seq[at];
            return true;
        }
    } else if (of->kind == V_STR && key->kind != V_STR) {
        int64_t count;
        if (!rm_tmpl_length(r, of, &count)) return false;
        if (index_of(key, count, &at)) {
            size_t byte = rm_text_offset(of->s, of->n, (size_t)at);
            unsigned cp;
            if (!rm_tmpl_charge(r, byte / 64)) return false;
            *out = rm_val_str(of->s + byte, (size_t)rm_text_next(of->s + byte, of->n - byte, &cp));
            return true;
        }
    }
    if (key->kind == V_STR) return rm_tmpl_get_attr(r, of, key->s, key->n, out);
    rm_strbuf b = {0};
    rm_val text;
    if (!rm_tmpl_repr(r, key, &b)) {
        rm_strbuf_free(&b);
        return false;
    }
    if (!rm_tmpl_take(r, &b, &text)) return false;
    *out = rm_tmpl_undef_of(of, text.s, text.n);
    return true;
}

/* Python's slice.indices for a sequence of n items. */
static bool bounds(rm_run *r, const rm_val *a, const rm_val *b, const rm_val *c, int64_t n, int64_t *start, int64_t *stop, int64_t *step) {
    const rm_val *in[3] = {a, b, c};
    int64_t v[3];
    bool given[3];
    for (int i = 0; i < 3; i++) {
        given[i] = in[i] && in[i]->kind != V_NONE;
        if (!given[i]) continue;
        if (in[i]->kind == V_UNDEF) return rm_tmpl_undefined(r, in[i]);
        if (in[i]->kind != V_INT && in[i]->kind != V_BOOL) return rm_tmpl_fail(r, "slice indices must be integers, not %s", rm_val_type(in[i]));
        v[i] = in[i]->kind == V_INT ? in[i]->i : in[i]->b;
    }
    *step = given[2] ? v[2] : 1;
    if (*step == 0) return rm_tmpl_fail(r, "slice step cannot be zero");
    int64_t lo = *step < 0 ? -1 : 0, hi = *step < 0 ? n - 1 : n;
    int64_t *const to[2] = {start, stop};
    for (int i = 0; i < 2; i++) {
        if (!given[i]) {
            *to[i] = (i == 0) == (*step > 0) ? lo : hi;
            continue;
        }
        int64_t x = v[i] < 0 ? (v[i] < -n ? lo : v[i] + n) : v[i];
        *to[i] = x < lo ? lo : x > hi ? hi : x;
    }
    return true;
}

bool rm_tmpl_get_slice(rm_run *r, const rm_val *of, const rm_val *a, const rm_val *b, const rm_val *c, rm_val *out) {
    int64_t n, start = 0, stop = 0, step = 1, count;
    if (of->kind == V_UNDEF) return rm_tmpl_undefined(r, of);
    if (of->kind != V_STR && (!rm_val_is_seq(of) || of->kind == V_VIEW)) return rm_tmpl_fail(r, "'%s' object has no slices", rm_val_type(of));
    if (!rm_tmpl_length(r, of, &n) || !bounds(r, a, b, c, n, &start, &stop, &step)) return false;
    if (step > n || step < -n) step = step > 0 ? n + 1 : -n - 1;
    count = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0) : (start > stop ? (start - stop - 1) / -step + 1 : 0);
    if (!rm_tmpl_charge(r, (size_t)count / 8 + of->n / 64)) return false;
    if (of->kind == V_STR && (step == 1 || count == 0)) {
        size_t from = count ? rm_text_offset(of->s, of->n, (size_t)start) : 0;
        *out = rm_val_str(of->s + from, count ? rm_text_offset(of->s + from, of->n - from, (size_t)count) : 0);
        return true;
    }
    rm_val items = *of;
    if (of->kind == V_STR && !rm_tmpl_items(r, of, &items.seq, &items.n)) return false;
    if (step == 1) {
        *out = rm_val_seq(of->kind, of->seq + start, (size_t)count);
        return true;
    }
    rm_val *v = rm_tmpl_get(r, (size_t)count * sizeof *v);
    if (!v) return false;
    for (int64_t i = 0; i < count; i++) v[i] = items.seq[start + i * step];
    *out = rm_val_seq(of->kind, v, (size_t)count);
    return of->kind != V_STR || rm_tmpl_concat(r, v, (int)count, out);
}
