/* Methods of strings, lists, dicts, loops and cyclers. What would change a value is not there: the values of a template
 * are immutable in transformers' sandbox too. a[0] is the object itself. */
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/strings.h"
#include "tmpl/text.h"
#include "util/mem.h"

#define METHOD(name) static bool name(rm_run *r, rm_val *a, const rm_args *all, rm_val *out)
#define UNUSED (void)r, (void)all

static bool given(const rm_val *v) { return v->kind != V_ABSENT && v->kind != V_NONE; }

/* ---- strings -------------------------------------------------------------------------------------------------------- */

METHOD(s_upper) { return UNUSED, rm_tmpl_str_case(r, &a[0], RM_CASE_UPPER, out); }
METHOD(s_lower) { return UNUSED, rm_tmpl_str_case(r, &a[0], RM_CASE_LOWER, out); }
METHOD(s_capitalize) { return UNUSED, rm_tmpl_str_case(r, &a[0], RM_CASE_CAPITALIZE, out); }
METHOD(s_title) { return UNUSED, rm_tmpl_str_case(r, &a[0], RM_CASE_TITLE, out); }
METHOD(s_swapcase) { return UNUSED, rm_tmpl_str_case(r, &a[0], RM_CASE_SWAP, out); }

static bool strip(rm_run *r, const rm_val *a, bool left, bool right, rm_val *out) {
    const char *s = a[0].s, *chars = NULL;
    size_t n = a[0].n, n_chars = 0;
    if (given(&a[1]) && !rm_tmpl_arg_str(r, &a[1], "chars", &chars, &n_chars)) return false;
    rm_text_trim(&s, &n, chars, n_chars, left, right);
    *out = rm_val_str(s, n);
    return rm_tmpl_charge(r, (a[0].n - n) / 16 * (1 + n_chars / 16));
}
METHOD(s_strip) { return UNUSED, strip(r, a, true, true, out); }
METHOD(s_lstrip) { return UNUSED, strip(r, a, true, false, out); }
METHOD(s_rstrip) { return UNUSED, strip(r, a, false, true, out); }

static bool split(rm_run *r, const rm_val *a, bool from_right, rm_val *out) {
    int64_t max = -1;
    const char *s;
    size_t n;
    if (given(&a[1]) && !rm_tmpl_arg_str(r, &a[1], "sep", &s, &n)) return false;
    if (a[2].kind != V_ABSENT && !rm_tmpl_arg_int(r, &a[2], "maxsplit", &max)) return false;
    return rm_tmpl_str_split(r, &a[0], given(&a[1]) ? &a[1] : NULL, max < 0 ? -1 : max, from_right, out);
}
METHOD(s_split) { return UNUSED, split(r, a, false, out); }
METHOD(s_rsplit) { return UNUSED, split(r, a, true, out); }
METHOD(s_splitlines) { return UNUSED, rm_tmpl_str_lines(r, &a[0], rm_val_true(&a[1]), out); }

/* The part of a[0] between the optional a[2] and a[3], and the number of characters before it; false in *in: start is behind the end. */
static bool part(rm_run *r, const rm_val *a, rm_val *out, int64_t *before, bool *in) {
    int64_t n, start = 0;
    *out = a[0];
    *before = 0;
    *in = true;
    if (!given(&a[2]) && !given(&a[3])) return true;
    if (!rm_tmpl_length(r, &a[0], &n)) return false;
    if (given(&a[2]) && !rm_tmpl_arg_int(r, &a[2], "start", &start)) return false;
    if (start < 0) start = start < -n ? 0 : start + n;
    *in = start <= n;
    *before = start;
    return rm_tmpl_get_slice(r, &a[0], given(&a[2]) ? &a[2] : NULL, given(&a[3]) ? &a[3] : NULL, NULL, out);
}

static bool starts(rm_run *r, const rm_val *a, bool end, rm_val *out) {
    rm_val s;
    int64_t before;
    bool in;
    const rm_val *options = &a[1];
    uint32_t n = 1;
    if (a[1].kind == V_TUPLE) {
        options = a[1].seq;
        n = a[1].n;
    }
    if (!part(r, a, &s, &before, &in)) return false;
    *out = rm_val_bool(false);
    for (uint32_t i = 0; i < n; i++) {
        const char *p;
        size_t len;
        if (!rm_tmpl_arg_str(r, &options[i], "prefix", &p, &len)) return false;
        if (in && len <= s.n && !memcmp(end ? s.s + s.n - len : s.s, p, len)) *out = rm_val_bool(true);
    }
    return rm_tmpl_charge(r, n);
}
METHOD(s_startswith) { return UNUSED, starts(r, a, false, out); }
METHOD(s_endswith) { return UNUSED, starts(r, a, true, out); }

static bool find(rm_run *r, const rm_val *a, bool last, bool must, rm_val *out) {
    rm_val s;
    int64_t before;
    bool in;
    const char *p;
    size_t len;
    if (!rm_tmpl_arg_str(r, &a[1], "sub", &p, &len) || !part(r, a, &s, &before, &in) || !rm_tmpl_charge(r, s.n / 16)) return false;
    if (last && !rm_tmpl_charge(r, s.n / 16 * (1 + len / 16))) return false;
    ptrdiff_t k = !in ? -1 : last ? rm_text_rfind(s.s, s.n, p, len) : rm_text_find(s.s, s.n, p, len);
    if (k < 0 && must) return rm_tmpl_fail(r, "substring not found");
    *out = rm_val_int(k < 0 ? -1 : before + (int64_t)rm_text_count(s.s, (size_t)k));
    return true;
}
METHOD(s_find) { return UNUSED, find(r, a, false, false, out); }
METHOD(s_rfind) { return UNUSED, find(r, a, true, false, out); }
METHOD(s_index) { return UNUSED, find(r, a, false, true, out); }
METHOD(s_rindex) { return UNUSED, find(r, a, true, true, out); }

METHOD(s_count) {
    UNUSED;
    rm_val s;
    int64_t before, count = 0;
    bool in;
    const char *p;
    size_t len;
    if (!rm_tmpl_arg_str(r, &a[1], "sub", &p, &len) || !part(r, a, &s, &before, &in) || !rm_tmpl_charge(r, s.n / 16)) return false;
    if (!len && in) count = (int64_t)rm_text_count(s.s, s.n) + 1;
    for (size_t at = 0; len && at + len <= s.n; count++) {
        ptrdiff_t k = rm_text_find(s.s + at, s.n - at, p, len);
        if (k < 0) break;
        at += (size_t)k + len;
    }
    *out = rm_val_int(count);
    return true;
}

METHOD(s_replace) {
    UNUSED;
    int64_t count = -1;
    const char *s;
    size_t n;
    if (!rm_tmpl_arg_str(r, &a[1], "old", &s, &n) || !rm_tmpl_arg_str(r, &a[2], "new", &s, &n)) return false;
    if (a[3].kind != V_ABSENT && !rm_tmpl_arg_int(r, &a[3], "count", &count)) return false;
    return rm_tmpl_str_replace(r, &a[0], &a[1], &a[2], count, out);
}

METHOD(s_join) {
    UNUSED;
    const rm_val *items;
    uint32_t n;
    if (!rm_tmpl_items(r, &a[1], &items, &n)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (items[i].kind != V_STR) return rm_tmpl_fail(r, "sequence item %u: expected str instance, %s found", i, rm_val_type(&items[i]));
    return rm_tmpl_str_join(r, &a[0], items, n, out);
}

static bool partition(rm_run *r, const rm_val *a, bool last, rm_val *out) {
    const char *p;
    size_t len;
    if (!rm_tmpl_arg_str(r, &a[1], "sep", &p, &len) || !rm_tmpl_charge(r, a[0].n / 16)) return false;
    if (!len) return rm_tmpl_fail(r, "empty separator");
    rm_val *v = rm_tmpl_get(r, 3 * sizeof *v);
    if (!v) return false;
    ptrdiff_t k = last ? rm_text_rfind(a[0].s, a[0].n, p, len) : rm_text_find(a[0].s, a[0].n, p, len);
    v[0] = v[1] = v[2] = rm_val_str("", 0);
    if (k < 0) {
        v[last ? 2 : 0] = a[0];
    } else {
        v[0] = rm_val_str(a[0].s, (size_t)k);
        v[1] = a[1];
        v[2] = rm_val_str(a[0].s + k + len, a[0].n - (size_t)k - len);
    }
    *out = rm_val_seq(V_TUPLE, v, 3);
    return true;
}
METHOD(s_partition) { return UNUSED, partition(r, a, false, out); }
METHOD(s_rpartition) { return UNUSED, partition(r, a, true, out); }

METHOD(s_removeprefix) {
    UNUSED;
    const char *p;
    size_t len;
    if (!rm_tmpl_arg_str(r, &a[1], "prefix", &p, &len)) return false;
    if (len > a[0].n || memcmp(a[0].s, p, len)) len = 0;
    *out = rm_val_str(a[0].s + len, a[0].n - len);
    return true;
}
METHOD(s_removesuffix) {
    UNUSED;
    const char *p;
    size_t len;
    if (!rm_tmpl_arg_str(r, &a[1], "suffix", &p, &len)) return false;
    if (len > a[0].n || memcmp(a[0].s + a[0].n - len, p, len)) len = 0;
    *out = rm_val_str(a[0].s, a[0].n - len);
    return true;
}

static bool pad(rm_run *r, const rm_val *a, int align, rm_val *out) {
    int64_t width;
    const char *fill = " ";
    size_t n = 1;
    if (!rm_tmpl_arg_int(r, &a[1], "width", &width) || (a[2].kind != V_ABSENT && !rm_tmpl_arg_str(r, &a[2], "fillchar", &fill, &n))) return false;
    if (rm_text_count(fill, n) != 1) return rm_tmpl_fail(r, "The fill character must be exactly one character long");
    return rm_tmpl_str_pad(r, &a[0], width, fill, n, align, out);
}
METHOD(s_ljust) { return UNUSED, pad(r, a, -1, out); }
METHOD(s_rjust) { return UNUSED, pad(r, a, 1, out); }
METHOD(s_center) { return UNUSED, pad(r, a, 0, out); }

METHOD(s_zfill) {
    UNUSED;
    int64_t width;
    rm_val parts[2] = {a[0], a[0]};
    if (!rm_tmpl_arg_int(r, &a[1], "width", &width)) return false;
    uint32_t sign = a[0].n && (a[0].s[0] == '-' || a[0].s[0] == '+');
    parts[0].n = sign;
    parts[1].s += sign;
    parts[1].n -= sign;
    rm_val digits;
    return rm_tmpl_str_pad(r, &parts[1], width - sign, "0", 1, 1, &digits) && (parts[1] = digits, rm_tmpl_concat(r, parts, 2, out));
}

METHOD(s_format) {
    (void)a;
    return rm_tmpl_format_braces(r, &all->v[0], all, out);
}

/* isX: every character is one, and there is one. Upper and lower case ask only the letters that have case. */
static bool every(rm_run *r, const rm_val *s, bool (*is)(unsigned), bool (*is_not)(unsigned), rm_val *out) {
    bool any = false, ok = true;
    for (size_t i = 0; i < s->n && ok;) {
        unsigned cp;
        i += (size_t)rm_text_next(s->s + i, s->n - i, &cp);
        any = any || is(cp);
        ok = is_not ? !is_not(cp) : is(cp);
    }
    *out = rm_val_bool(any && ok);
    return rm_tmpl_charge(r, s->n / 16);
}
static bool alnum(unsigned cp) { return rm_cp_alpha(cp) || rm_cp_digit(cp); }
static bool ascii(unsigned cp) { return cp < 0x80; }
METHOD(s_isalpha) { return UNUSED, every(r, &a[0], rm_cp_alpha, NULL, out); }
METHOD(s_isdigit) { return UNUSED, every(r, &a[0], rm_cp_digit, NULL, out); }
METHOD(s_isalnum) { return UNUSED, every(r, &a[0], alnum, NULL, out); }
METHOD(s_isspace) { return UNUSED, every(r, &a[0], rm_cp_space, NULL, out); }
METHOD(s_isupper) { return UNUSED, every(r, &a[0], rm_cp_upper, rm_cp_lower, out); }
METHOD(s_islower) { return UNUSED, every(r, &a[0], rm_cp_lower, rm_cp_upper, out); }
METHOD(s_isascii) {
    if (a[0].n == 0) return *out = rm_val_bool(true), true;
    return UNUSED, every(r, &a[0], ascii, NULL, out);
}

static const rm_entry string_methods[] = {
    {"capitalize", "self", 1, s_capitalize},
    {"casefold", "self", 1, s_lower},
    {"center", "self width fillchar", 2, s_center},
    {"count", "self sub start end", 2, s_count},
    {"endswith", "self suffix start end", 2, s_endswith},
    {"find", "self sub start end", 2, s_find},
    {"format", NULL, 1, s_format},
    {"index", "self sub start end", 2, s_index},
    {"isalnum", "self", 1, s_isalnum},
    {"isalpha", "self", 1, s_isalpha},
    {"isascii", "self", 1, s_isascii},
    {"isdecimal", "self", 1, s_isdigit},
    {"isdigit", "self", 1, s_isdigit},
    {"islower", "self", 1, s_islower},
    {"isnumeric", "self", 1, s_isdigit},
    {"isspace", "self", 1, s_isspace},
    {"isupper", "self", 1, s_isupper},
    {"join", "self iterable", 2, s_join},
    {"ljust", "self width fillchar", 2, s_ljust},
    {"lower", "self", 1, s_lower},
    {"lstrip", "self chars", 1, s_lstrip},
    {"partition", "self sep", 2, s_partition},
    {"removeprefix", "self prefix", 2, s_removeprefix},
    {"removesuffix", "self suffix", 2, s_removesuffix},
    {"replace", "self old new count", 3, s_replace},
    {"rfind", "self sub start end", 2, s_rfind},
    {"rindex", "self sub start end", 2, s_rindex},
    {"rjust", "self width fillchar", 2, s_rjust},
    {"rpartition", "self sep", 2, s_rpartition},
    {"rsplit", "self sep maxsplit", 1, s_rsplit},
    {"rstrip", "self chars", 1, s_rstrip},
    {"split", "self sep maxsplit", 1, s_split},
    {"splitlines", "self keepends", 1, s_splitlines},
    {"startswith", "self prefix start end", 2, s_startswith},
    {"strip", "self chars", 1, s_strip},
    {"swapcase", "self", 1, s_swapcase},
    {"title", "self", 1, s_title},
    {"upper", "self", 1, s_upper},
    {"zfill", "self width", 2, s_zfill},
};

/* ---- lists and tuples --------------------------------------------------------------------------------------------------- */

static bool count_items(rm_run *r, const rm_val *a, bool first, int64_t *out) {
    *out = first ? -1 : 0;
    if (!rm_tmpl_charge(r, a[0].n)) return false;
    for (uint32_t i = 0; i < a[0].n; i++) {
        bool same;
        if (!rm_tmpl_equal(r, &a[0].seq[i], &a[1], &same)) return false;
        if (!same) continue;
        if (first) return *out = i, true;
        ++*out;
    }
    return true;
}
METHOD(l_count) {
    int64_t n;
    if (!count_items(r, a, false, &n)) return false;
    return UNUSED, *out = rm_val_int(n), true;
}
METHOD(l_index) {
    int64_t n;
    if (!count_items(r, a, true, &n)) return false;
    if (n < 0) return rm_tmpl_fail(r, "the value is not in the list");
    return UNUSED, *out = rm_val_int(n), true;
}
METHOD(l_copy) { return UNUSED, *out = a[0], true; }

static const rm_entry list_methods[] = {{"copy", "self", 1, l_copy}, {"count", "self value", 2, l_count}, {"index", "self value", 2, l_index}};

/* ---- dicts ---------------------------------------------------------------------------------------------------------- */

static bool view(rm_run *r, const rm_val *d, int what, rm_val *out) {
    rm_val *v = rm_tmpl_charge(r, d->n) ? rm_tmpl_get(r, d->n * sizeof *v) : NULL;
    if (!v) return false;
    for (uint32_t i = 0; i < d->n; i++) {
        if (what == 2) {
            rm_val *pair = rm_tmpl_get(r, 2 * sizeof *pair);
            if (!pair) return false;
            pair[0] = d->dict[i].key;
            pair[1] = d->dict[i].val;
            v[i] = rm_val_seq(V_TUPLE, pair, 2);
        } else {
            v[i] = what ? d->dict[i].val : d->dict[i].key;
        }
    }
    *out = rm_val_seq(V_VIEW, v, d->n);
    out->flag = (uint8_t)what;
    return true;
}
METHOD(d_keys) { return UNUSED, view(r, &a[0], 0, out); }
METHOD(d_values) { return UNUSED, view(r, &a[0], 1, out); }
METHOD(d_items) { return UNUSED, view(r, &a[0], 2, out); }
METHOD(d_get) {
    UNUSED;
    const rm_val *found;
    if (!rm_tmpl_dict_find(r, &a[0], &a[1], &found)) return false;
    *out = found ? *found : a[2].kind != V_ABSENT ? a[2] : rm_val_none();
    return true;
}

static const rm_entry dict_methods[] = {{"copy", "self", 1, l_copy},
                                        {"get", "self key default", 2, d_get},
                                        {"items", "self", 1, d_items},
                                        {"keys", "self", 1, d_keys},
                                        {"values", "self", 1, d_values}};

/* ---- loops and cyclers -------------------------------------------------------------------------------------------------- */

METHOD(loop_cycle) {
    if (all->n < 2) return rm_tmpl_fail(r, "no items for cycling given");
    *out = a[1 + a[0].loop->index % (all->n - 1)];
    return true;
}
METHOD(loop_changed) {
    rm_val now = rm_val_seq(V_TUPLE, a + 1, (size_t)all->n - 1);
    bool same = false;
    if (a[0].loop->changed.kind != V_ABSENT && !rm_tmpl_equal(r, &a[0].loop->changed, &now, &same)) return false;
    a[0].loop->changed = now;
    *out = rm_val_bool(!same);
    return true;
}
static const rm_entry loop_methods[] = {{"cycle", NULL, 1, loop_cycle}, {"changed", NULL, 1, loop_changed}};

METHOD(cycler_next) {
    rm_cycler *c = a[0].cycler;
    *out = c->v[c->at];
    c->at = (c->at + 1) % c->n;
    return UNUSED, true;
}
METHOD(cycler_reset) { return UNUSED, a[0].cycler->at = 0, *out = rm_val_none(), true; }
static const rm_entry cycler_methods[] = {{"next", "self", 1, cycler_next}, {"reset", "self", 1, cycler_reset}};

const rm_entry *rm_tmpl_method_find(const rm_val *of, const char *s, size_t n) {
    switch (of->kind) {
    case V_STR: return rm_tmpl_entry_find(string_methods, RM_COUNT(string_methods), s, n);
    case V_LIST: return rm_tmpl_entry_find(list_methods, RM_COUNT(list_methods), s, n);
    case V_TUPLE:
    case V_RANGE: return rm_tmpl_entry_find(list_methods + 1, RM_COUNT(list_methods) - 1, s, n);
    case V_DICT: return rm_tmpl_entry_find(dict_methods, RM_COUNT(dict_methods), s, n);
    case V_LOOP: return rm_tmpl_entry_find(loop_methods, RM_COUNT(loop_methods), s, n);
    case V_CYCLER: return rm_tmpl_entry_find(cycler_methods, RM_COUNT(cycler_methods), s, n);
    default: return NULL;
    }
}
