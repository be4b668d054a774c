/* Filters of sequences and dicts. What Python gives as a generator is V_ITER: it can be run through once. */
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/strings.h"
#include "tmpl/text.h"
#include "util/mem.h"

#define FILTER(name) static bool name(rm_run *r, rm_val *a, const rm_args *all, rm_val *out)
#define UNUSED (void)r, (void)all

static bool given(const rm_val *v) { return v->kind != V_ABSENT && v->kind != V_NONE; }

static bool iterator(rm_run *r, const rm_val *v, size_t n, rm_val *out) {
    rm_iter *it = rm_tmpl_get(r, sizeof *it);
    if (!it) return false;
    *it = (rm_iter){.seq = v};
    *out = (rm_val){.kind = V_ITER, .n = (uint32_t)n, .iter = it};
    return true;
}

/* "a.b.0": one subscript after the other. missing: what stands for an undefined result, or NULL. */
static bool attribute(rm_run *r, const rm_val *of, const rm_val *path, const rm_val *missing, rm_val *out) {
    *out = *of;
    if (path->kind == V_STR) {
        for (const char *p = path->s, *end = p + path->n; p <= end;) {
            const char *dot = p < end ? memchr(p, '.', (size_t)(end - p)) : NULL;
            rm_val of2 = *out, key = rm_val_str(p, (size_t)((dot ? dot : end) - p));
            bool number = key.n > 0 && key.n < 9;
            for (uint32_t i = 0; i < key.n; i++) number = number && key.s[i] >= '0' && key.s[i] <= '9';
            if (number) {
                int64_t v = 0;
                for (uint32_t i = 0; i < key.n; i++) v = v * 10 + key.s[i] - '0';
                key = rm_val_int(v);
            }
            if (!rm_tmpl_get_item(r, &of2, &key, out)) return false;
            p = (dot ? dot : end) + 1;
        }
    } else {
        rm_val of2 = *out;
        if (!rm_tmpl_get_item(r, &of2, path, out)) return false;
    }
    if (missing && out->kind == V_UNDEF) *out = *missing;
    return true;
}

/* What an item is compared by: an attribute of it if one is named; text without case unless case_sensitive. */
static bool sort_key(rm_run *r, const rm_val *item, const rm_val *attr, bool case_sensitive, rm_val *out) {
    rm_val v = *item;
    if (given(attr) && !attribute(r, item, attr, NULL, &v)) return false;
    *out = v;
    return case_sensitive || v.kind != V_STR || rm_tmpl_str_case(r, &v, RM_CASE_LOWER, out);
}

/* Several attributes with commas: a tuple. */
static bool sort_keys(rm_run *r, const rm_val *item, const rm_val *attr, bool case_sensitive, rm_val *out) {
    if (attr->kind != V_STR || !memchr(attr->s, ',', attr->n)) return sort_key(r, item, attr, case_sensitive, out);
    rm_val comma = rm_val_str(",", 1), names;
    if (!rm_tmpl_str_split(r, attr, &comma, -1, false, &names)) return false;
    rm_val *v = rm_tmpl_get(r, names.n * sizeof *v);
    if (!v) return false;
    for (uint32_t i = 0; i < names.n; i++)
        if (!sort_key(r, item, &names.seq[i], case_sensitive, &v[i])) return false;
    *out = rm_val_seq(V_TUPLE, v, names.n);
    return true;
}

/* ---- sorting: a stable merge sort of (key, value) pairs ------------------------------------------------------------------- */

static bool merge(rm_run *r, const rm_pair *from, rm_pair *to, size_t lo, size_t mid, size_t hi, bool reverse) {
    for (size_t i = lo, j = mid, k = lo; k < hi; k++) {
        int c = 0;
        bool left = i < mid;
        if (left && j < hi) {
            if (!rm_tmpl_charge(r, 1) || !rm_tmpl_order(r, &from[i].key, &from[j].key, &c)) return false;
            left = reverse ? c >= 0 : c <= 0;
        }
        to[k] = left ? from[i++] : from[j++];
    }
    return true;
}

static bool sort_pairs(rm_run *r, rm_pair *v, size_t n, bool reverse) {
    rm_pair *tmp = rm_tmpl_get(r, n * sizeof *tmp), *from = v, *to = tmp;
    if (!tmp) return false;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            if (!merge(r, from, to, lo, mid, hi, reverse)) return false;
        }
        rm_pair *t = from;
        from = to;
        to = t;
    }
    if (from != v) memcpy(v, from, n * sizeof *v);
    return true;
}

static bool keyed(rm_run *r, const rm_val *of, const rm_val *attr, bool case_sensitive, rm_pair **out, uint32_t *n) {
    const rm_val *items;
    if (!rm_tmpl_items(r, of, &items, n) || !(*out = rm_tmpl_get(r, *n * sizeof **out))) return false;
    for (uint32_t i = 0; i < *n; i++) {
        (*out)[i].val = items[i];
        if (!rm_tmpl_charge(r, 1) || !sort_keys(r, &items[i], attr, case_sensitive, &(*out)[i].key)) return false;
    }
    return true;
}

static bool values_of(rm_run *r, const rm_pair *p, uint32_t n, rm_val *out) {
    rm_val *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v) return false;
    for (uint32_t i = 0; i < n; i++) v[i] = p[i].val;
    *out = rm_val_seq(V_LIST, v, n);
    return true;
}

FILTER(f_sort) { /* value, reverse, case_sensitive, attribute */
    UNUSED;
    rm_pair *p;
    uint32_t n;
    return keyed(r, &a[0], &a[3], rm_val_true(&a[2]), &p, &n) && sort_pairs(r, p, n, rm_val_true(&a[1])) && values_of(r, p, n, out);
}

FILTER(f_dictsort) { /* value, case_sensitive, by, reverse */
    UNUSED;
    const bool by_value = rm_val_is(&a[2], "value");
    if (a[0].kind != V_DICT) return rm_tmpl_fail(r, "dictsort needs a dict, not %s", rm_val_type(&a[0]));
    if (given(&a[2]) && !by_value && !rm_val_is(&a[2], "key")) return rm_tmpl_fail(r, "dictsort: by must be 'key' or 'value'");
    rm_pair *p = rm_tmpl_get(r, a[0].n * sizeof *p);
    if (!p) return false;
    for (uint32_t i = 0; i < a[0].n; i++) {
        rm_val *both = rm_tmpl_get(r, 2 * sizeof *both), none = {0};
        if (!both || !rm_tmpl_charge(r, 1)) return false;
        both[0] = a[0].dict[i].key;
        both[1] = a[0].dict[i].val;
        p[i].val = rm_val_seq(V_TUPLE, both, 2);
        if (!sort_key(r, &both[by_value], &none, rm_val_true(&a[1]), &p[i].key)) return false;
    }
    return sort_pairs(r, p, a[0].n, rm_val_true(&a[3])) && values_of(r, p, a[0].n, out);
}

static bool extreme(rm_run *r, rm_val *a, int sign, rm_val *out) { /* value, case_sensitive, attribute */
    rm_pair *p;
    uint32_t n, best = 0;
    if (!keyed(r, &a[0], &a[2], rm_val_true(&a[1]), &p, &n)) return false;
    if (!n) return *out = rm_val_undef("the first of an empty sequence", 30), true;
    for (uint32_t i = 1; i < n; i++) {
        int c;
        if (!rm_tmpl_order(r, &p[i].key, &p[best].key, &c)) return false;
        if (c * sign > 0) best = i;
    }
    *out = p[best].val;
    return true;
}
FILTER(f_max) { return UNUSED, extreme(r, a, 1, out); }
FILTER(f_min) { return UNUSED, extreme(r, a, -1, out); }

FILTER(f_unique) { /* value, case_sensitive, attribute */
    UNUSED;
    rm_pair *p;
    uint32_t n, kept = 0;
    if (!keyed(r, &a[0], &a[2], rm_val_true(&a[1]), &p, &n)) return false;
    rm_val *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v) return false;
    for (uint32_t i = 0; i < n; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < kept && !seen; k++)
            if (!rm_tmpl_charge(r, 1) || !rm_tmpl_equal(r, &p[k].key, &p[i].key, &seen)) return false;
        if (seen) continue;
        v[kept] = p[i].val;
        p[kept++].key = p[i].key;
    }
    return iterator(r, v, kept, out);
}

FILTER(f_groupby) { /* value, attribute, default, case_sensitive */
    UNUSED;
    const rm_val *items;
    uint32_t n, groups = 0;
    if (!rm_tmpl_items(r, &a[0], &items, &n)) return false;
    rm_pair *p = rm_tmpl_get(r, n * sizeof *p);
    rm_val *v = p ? rm_tmpl_get(r, n * sizeof *v) : NULL;
    if (!v) return false;
    for (uint32_t i = 0; i < n; i++) {
        rm_val key, none = {0};
        if (!rm_tmpl_charge(r, 1) || !attribute(r, &items[i], &a[1], a[2].kind != V_ABSENT ? &a[2] : NULL, &key)) return false;
        p[i].val = items[i];
        if (!sort_key(r, &key, &none, rm_val_true(&a[3]), &p[i].key)) return false;
    }
    if (!sort_pairs(r, p, n, false)) return false;
    for (uint32_t i = 0, k; i < n; i = k) {
        bool same = true;
        for (k = i + 1; k < n; k++) {
            if (!rm_tmpl_equal(r, &p[i].key, &p[k].key, &same)) return false;
            if (!same) break;
        }
        rm_val *pair = rm_tmpl_get(r, 2 * sizeof *pair);
        if (!pair || !attribute(r, &p[i].val, &a[1], a[2].kind != V_ABSENT ? &a[2] : NULL, &pair[0]) || !values_of(r, p + i, k - i, &pair[1]))
            return false;
        if (rm_val_true(&a[3])) pair[0] = p[i].key;
        v[groups++] = rm_val_seq(V_TUPLE, pair, 2);
    }
    *out = rm_val_seq(V_LIST, v, groups);
    return true;
}

/* ---- parts of sequences ------------------------------------------------------------------------------------------------- */

static bool end_of(rm_run *r, const rm_val *of, bool last, rm_val *out) {
    const rm_val *items;
    uint32_t n;
    if (!rm_tmpl_items(r, of, &items, &n)) return false;
    *out = n ? items[last ? n - 1 : 0] : rm_val_undef(last ? "the last of an empty sequence" : "the first of an empty sequence", last ? 29 : 30);
    return true;
}
FILTER(f_first) { return UNUSED, end_of(r, &a[0], false, out); }
FILTER(f_last) {
    UNUSED;
    if (a[0].kind == V_ITER) return rm_tmpl_fail(r, "'generator' object is not reversible");
    return end_of(r, &a[0], true, out);
}

FILTER(f_list) {
    UNUSED;
    const rm_val *items;
    uint32_t n;
    if (!rm_tmpl_items(r, &a[0], &items, &n)) return false;
    *out = rm_val_seq(V_LIST, items, n);
    return true;
}

FILTER(f_reverse) {
    UNUSED;
    const rm_val *items;
    uint32_t n;
    if (!rm_tmpl_items(r, &a[0], &items, &n)) return false;
    rm_val *v = rm_tmpl_charge(r, n / 8) ? rm_tmpl_get(r, n * sizeof *v) : NULL;
    if (!v) return false;
    for (uint32_t i = 0; i < n; i++) v[i] = items[n - 1 - i];
    return a[0].kind == V_STR ? rm_tmpl_concat(r, v, (int)n, out) : iterator(r, v, n, out);
}

FILTER(f_batch) { /* value, linecount, fill_with */
    UNUSED;
    const rm_val *items;
    uint32_t n, rows = 0;
    int64_t size;
    if (!rm_tmpl_items(r, &a[0], &items, &n) || !rm_tmpl_arg_int(r, &a[1], "linecount", &size)) return false;
    if (size < 1 || size > RM_MAX_RANGE) return rm_tmpl_fail(r, "batch: bad linecount");
    rm_val *v = rm_tmpl_get(r, ((size_t)n / (size_t)size + 1) * sizeof *v);
    if (!v) return false;
    for (uint32_t i = 0; i < n; i += (uint32_t)size) {
        uint32_t here = n - i < (uint32_t)size ? n - i : (uint32_t)size;
        v[rows] = rm_val_seq(V_LIST, items + i, here);
        if (here < size && given(&a[2])) {
            rm_val *full = rm_tmpl_get(r, (size_t)size * sizeof *full);
            if (!full) return false;
            for (int64_t k = 0; k < size; k++) full[k] = k < here ? items[i + k] : a[2];
            v[rows] = rm_val_seq(V_LIST, full, (size_t)size);
        }
        rows++;
    }
    return iterator(r, v, rows, out);
}

FILTER(f_slice) { /* value, slices, fill_with */
    UNUSED;
    const rm_val *items;
    uint32_t n, at = 0;
    int64_t slices;
    if (!rm_tmpl_items(r, &a[0], &items, &n) || !rm_tmpl_arg_int(r, &a[1], "slices", &slices)) return false;
    if (slices < 1 || slices > RM_MAX_RANGE) return rm_tmpl_fail(r, "slice: bad number of slices");
    rm_val *v = rm_tmpl_charge(r, (size_t)slices) ? rm_tmpl_get(r, (size_t)slices * sizeof *v) : NULL;
    if (!v) return false;
    const uint32_t each = n / (uint32_t)slices, more = n % (uint32_t)slices;
    for (uint32_t i = 0; i < (uint32_t)slices; i++) {
        uint32_t here = each + (i < more);
        v[i] = rm_val_seq(V_LIST, items + at, here);
        if (given(&a[2]) && i >= more) {
            rm_val *full = rm_tmpl_get(r, ((size_t)here + 1) * sizeof *full);
            if (!full) return false;
            for (uint32_t k = 0; k < here; k++) full[k] = items[at + k];
            full[here] = a[2];
            v[i] = rm_val_seq(V_LIST, full, (size_t)here + 1);
        }
        at += here;
    }
    return iterator(r, v, (size_t)slices, out);
}

/* ---- all items ---------------------------------------------------------------------------------------------------------- */

FILTER(f_join) { /* value, d, attribute */
    UNUSED;
    const rm_val *items;
    uint32_t n;
    rm_val sep = rm_val_str("", 0);
    if (!rm_tmpl_items(r, &a[0], &items, &n) || (a[1].kind != V_ABSENT && !rm_tmpl_to_str(r, &a[1], &sep))) return false;
    if (!given(&a[2])) return rm_tmpl_str_join(r, &sep, items, n, out);
    rm_val *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!rm_tmpl_charge(r, 1) || !attribute(r, &items[i], &a[2], NULL, &v[i])) return false;
    return rm_tmpl_str_join(r, &sep, v, n, out);
}

FILTER(f_sum) { /* iterable, attribute, start */
    UNUSED;
    const rm_val *items;
    uint32_t n;
    rm_val sum = a[2].kind != V_ABSENT ? a[2] : rm_val_int(0), v;
    if (!rm_tmpl_items(r, &a[0], &items, &n)) return false;
    for (uint32_t i = 0; i < n; i++) {
        rm_val before = sum;
        v = items[i];
        if (given(&a[1]) && !attribute(r, &items[i], &a[1], NULL, &v)) return false;
        if (!rm_tmpl_charge(r, 1) || !rm_tmpl_binary(r, '+', &before, &v, &sum)) return false;
    }
    *out = sum;
    return true;
}

FILTER(f_attr) {
    UNUSED;
    rm_val name;
    if (!rm_tmpl_to_str(r, &a[1], &name)) return false;
    if (a[0].kind != V_DICT) return rm_tmpl_get_attr(r, &a[0], name.s, name.n, out);
    const rm_entry *e = rm_tmpl_method_find(&a[0], name.s, name.n); /* an attribute, never an item */
    if (e) return rm_tmpl_get_attr(r, &a[0], name.s, name.n, out);
    *out = rm_tmpl_undef_of(&a[0], name.s, name.n);
    return true;
}

FILTER(f_items) {
    UNUSED;
    if (a[0].kind == V_UNDEF) return iterator(r, NULL, 0, out);
    if (a[0].kind != V_DICT) return rm_tmpl_fail(r, "Can only get item pairs from a mapping.");
    rm_val *v = rm_tmpl_charge(r, a[0].n) ? rm_tmpl_get(r, a[0].n * sizeof *v) : NULL;
    if (!v) return false;
    for (uint32_t i = 0; i < a[0].n; i++) {
        rm_val *pair = rm_tmpl_get(r, 2 * sizeof *pair);
        if (!pair) return false;
        pair[0] = a[0].dict[i].key;
        pair[1] = a[0].dict[i].val;
        v[i] = rm_val_seq(V_TUPLE, pair, 2);
    }
    return iterator(r, v, a[0].n, out);
}

/* map('filter', args...), map(attribute='x', default=...) */
FILTER(f_map) {
    const rm_val *items, *path = NULL, *missing = NULL;
    uint32_t n;
    const rm_entry *e = NULL;
    if (!rm_val_true(&a[0])) return iterator(r, NULL, 0, out); /* none too */
    if (all->n == 1) {
        for (int i = 0; i < all->n_kw; i++) {
            if (rm_val_is(&all->kw[i].key, "attribute"))
                path = &all->kw[i].val;
            else if (rm_val_is(&all->kw[i].key, "default"))
                missing = &all->kw[i].val;
            else
                return rm_tmpl_fail(r, "map: unexpected argument '%.*s'", (int)(all->kw[i].key.n > 60 ? 60 : all->kw[i].key.n), all->kw[i].key.s);
        }
        if (!path) return rm_tmpl_fail(r, "map requires a filter argument");
    } else if (a[1].kind != V_STR || !(e = rm_tmpl_filter_find(a[1].s, a[1].n))) {
        return rm_tmpl_fail(r, "map: no such filter");
    }
    if (!rm_tmpl_items(r, &a[0], &items, &n)) return false;
    rm_val *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v || !rm_tmpl_enter(r)) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!rm_tmpl_charge(r, 1)) return false;
        if (path) {
            if (!attribute(r, &items[i], path, missing, &v[i])) return false;
            continue;
        }
        rm_args args = {.v = a + 1, .n = all->n - 1, .kw = all->kw, .n_kw = all->n_kw};
        a[1] = items[i]; /* stands where the filter's name stood */
        if (!rm_tmpl_call_entry(r, e, &args, &v[i])) return false;
    }
    r->depth--;
    return iterator(r, v, n, out);
}

/* select, reject (by a test or by truth); with an attribute: selectattr, rejectattr */
static bool choose(rm_run *r, rm_val *a, const rm_args *all, bool keep, bool by_attr, rm_val *out) {
    const rm_val *items;
    const int at = by_attr ? 2 : 1; /* where the test's name stands */
    const rm_entry *e = NULL;
    uint32_t n, kept = 0;
    if (!rm_val_true(&a[0])) return iterator(r, NULL, 0, out); /* none too */
    if (by_attr && all->n < 2) return rm_tmpl_fail(r, "selectattr and rejectattr need an attribute");
    if (all->n > at && (a[at].kind != V_STR || !(e = rm_tmpl_test_find(a[at].s, a[at].n)))) return rm_tmpl_fail(r, "select: no such test");
    if (!rm_tmpl_items(r, &a[0], &items, &n)) return false;
    rm_val *v = rm_tmpl_get(r, n * sizeof *v);
    if (!v || !rm_tmpl_enter(r)) return false;
    const rm_val path = by_attr ? a[1] : rm_val_none();
    for (uint32_t i = 0; i < n; i++) {
        rm_val item = items[i], yes;
        if (!rm_tmpl_charge(r, 1) || (by_attr && !attribute(r, &items[i], &path, NULL, &item))) return false;
        yes = item;
        if (e) {
            rm_args args = {.v = a + at, .n = all->n - at, .kw = all->kw, .n_kw = all->n_kw};
            a[at] = item;
            if (!rm_tmpl_call_entry(r, e, &args, &yes)) return false;
        }
        if (rm_val_true(&yes) == keep) v[kept++] = items[i];
    }
    r->depth--;
    return iterator(r, v, kept, out);
}
FILTER(f_select) { return choose(r, a, all, true, false, out); }
FILTER(f_reject) { return choose(r, a, all, false, false, out); }
FILTER(f_selectattr) { return choose(r, a, all, true, true, out); }
FILTER(f_rejectattr) { return choose(r, a, all, false, true, out); }

static const rm_entry filters[] = {
    {"attr", "obj name", 2, f_attr},
    {"batch", "value linecount fill_with", 2, f_batch},
    {"dictsort", "value case_sensitive by reverse", 1, f_dictsort},
    {"first", "seq", 1, f_first},
    {"groupby", "value attribute default case_sensitive", 2, f_groupby},
    {"items", "value", 1, f_items},
    {"join", "value d attribute", 1, f_join},
    {"last", "seq", 1, f_last},
    {"list", "value", 1, f_list},
    {"map", NULL, 1, f_map},
    {"max", "value case_sensitive attribute", 1, f_max},
    {"min", "value case_sensitive attribute", 1, f_min},
    {"reject", NULL, 1, f_reject},
    {"rejectattr", NULL, 1, f_rejectattr},
    {"reverse", "value", 1, f_reverse},
    {"select", NULL, 1, f_select},
    {"selectattr", NULL, 1, f_selectattr},
    {"slice", "value slices fill_with", 2, f_slice},
    {"sort", "value reverse case_sensitive attribute", 1, f_sort},
    {"sum", "iterable attribute start", 1, f_sum},
    {"unique", "value case_sensitive attribute", 1, f_unique},
};

const rm_entry *rm_tmpl_filter_seq_find(const char *s, size_t n) { return rm_tmpl_entry_find(filters, RM_COUNT(filters), s, n); }
