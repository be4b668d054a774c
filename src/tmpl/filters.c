/* Filters of single values: text, numbers, JSON. Those of sequences are in filters_seq.c. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/strings.h"
#include "tmpl/text.h"
#include "util/mem.h"
#include "util/number.h"

#define FILTER(name) static bool name(rm_run *r, rm_val *a, const rm_args *all, rm_val *out)
#define UNUSED (void)r, (void)all

static bool given(const rm_val *v) { return v->kind != V_ABSENT; }

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static bool with_case(rm_run *r, const rm_val *v, rm_case how, rm_val *out) {
    rm_val t;
    return rm_tmpl_to_str(r, v, &t) && rm_tmpl_str_case(r, &t, how, out);
}
FILTER(f_upper) { return UNUSED, with_case(r, &a[0], RM_CASE_UPPER, out); }
FILTER(f_lower) { return UNUSED, with_case(r, &a[0], RM_CASE_LOWER, out); }
FILTER(f_capitalize) { return UNUSED, with_case(r, &a[0], RM_CASE_CAPITALIZE, out); }

/* The first letter in upper case (not in title case), the rest in lower case. */
static bool capitalized(rm_run *r, rm_val *io) {
    unsigned cp;
    uint32_t n = (uint32_t)rm_text_next(io->s, io->n, &cp);
    rm_val parts[2] = {rm_val_str(io->s, n), rm_val_str(io->s + n, io->n - n)};
    return rm_tmpl_str_case(r, &parts[0], RM_CASE_UPPER, &parts[0]) && rm_tmpl_str_case(r, &parts[1], RM_CASE_LOWER, &parts[1]) &&
           rm_tmpl_concat(r, parts, 2, io);
}

/* Jinja's own idea of a word: what follows white space, - ( { [ or <. */
FILTER(f_title) {
    UNUSED;
    rm_val t, word;
    rm_strbuf b = {0};
    if (!rm_tmpl_to_str(r, &a[0], &t)) return false;
    bool ok = true;
    for (size_t i = 0; i < t.n && ok;) {
        size_t start = i;
        unsigned cp = 0;
        int len = 0;
        for (; i < t.n; i += (size_t)len) {
            len = rm_text_next(t.s + i, t.n - i, &cp);
            if (rm_cp_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp))) break;
        }
        word = rm_val_str(t.s + start, i - start);
        ok = word.n == 0 || capitalized(r, &word);
        if (!ok) break;
        rm_strbuf_add(&b, word.s, word.n);
        if (i < t.n) {
            rm_strbuf_add(&b, t.s + i, (size_t)len);
            i += (size_t)len;
        }
    }
    if (ok) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}

FILTER(f_trim) {
    UNUSED;
    const char *s, *chars = NULL;
    size_t n, n_chars = 0;
    rm_val t;
    if (!rm_tmpl_to_str(r, &a[0], &t)) return false;
    if (given(&a[1]) && a[1].kind != V_NONE && !rm_tmpl_arg_str(r, &a[1], "chars", &chars, &n_chars)) return false;
    s = t.s;
    n = t.n;
    rm_text_trim(&s, &n, chars, n_chars, true, true);
    *out = rm_val_str(s, n);
    out->flag = t.flag;
    return rm_tmpl_charge(r, (t.n - n) / 16);
}

FILTER(f_string) { return UNUSED, rm_tmpl_to_str(r, &a[0], out); }
FILTER(f_safe) {
    UNUSED;
    if (!rm_tmpl_to_str(r, &a[0], out)) return false;
    out->flag = 1;
    return true;
}

static bool escape(rm_run *r, const rm_val *v, bool always, rm_val *out) {
    return rm_tmpl_to_str(r, v, out) && ((out->flag && !always) || rm_tmpl_escape(r, out));
}
FILTER(f_escape) { return UNUSED, escape(r, &a[0], false, out); }
FILTER(f_forceescape) { return UNUSED, escape(r, &a[0], true, out); }

FILTER(f_replace) {
    UNUSED;
    rm_val t[3];
    int64_t count = -1;
    for (int i = 0; i < 3; i++)
        if (!rm_tmpl_to_str(r, &a[i], &t[i])) return false;
    if (given(&a[3]) && a[3].kind != V_NONE && !rm_tmpl_arg_int(r, &a[3], "count", &count)) return false;
    return rm_tmpl_str_replace(r, &t[0], &t[1], &t[2], count, out);
}

FILTER(f_center) {
    UNUSED;
    int64_t width = 80;
    rm_val t;
    return rm_tmpl_to_str(r, &a[0], &t) && (!given(&a[1]) || rm_tmpl_arg_int(r, &a[1], "width", &width)) &&
           rm_tmpl_str_pad(r, &t, width, " ", 1, 0, out);
}

FILTER(f_indent) { /* s, width, first, blank */
    UNUSED;
    rm_val t = a[0], by = rm_val_str("    ", 4), lines;
    int64_t width;
    const char *s;
    size_t n;
    if (!rm_tmpl_arg_str(r, &a[0], "what is indented", &s, &n)) return false;
    if (a[1].kind == V_STR) {
        by = a[1];
    } else if (given(&a[1])) {
        rm_val none = rm_val_str("", 0);
        if (!rm_tmpl_arg_int(r, &a[1], "width", &width) || !rm_tmpl_str_pad(r, &none, width, " ", 1, -1, &by)) return false;
    }
    rm_val with_end[2] = {t, rm_val_str("\n", 1)}; /* so that a line break at the end begins one more line */
    with_end[0].flag = 0;
    if (!rm_tmpl_concat(r, with_end, 2, &t) || !rm_tmpl_str_lines(r, &t, false, &lines)) return false;
    const bool blank = rm_val_true(&a[3]);
    rm_strbuf b = {0};
    if (rm_val_true(&a[2])) rm_strbuf_add(&b, by.s, by.n);
    for (uint32_t i = 0; i < lines.n; i++) {
        const rm_val line = lines.seq[i];
        if (!rm_tmpl_charge(r, by.n / 16) || b.n > RM_MAX_OUTPUT) {
            rm_strbuf_free(&b);
            return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
        }
        if (i) rm_strbuf_putc(&b, '\n');
        if (i && (blank || line.n)) rm_strbuf_add(&b, by.s, by.n);
        rm_strbuf_add(&b, line.s, line.n);
    }
    return rm_tmpl_take(r, &b, out);
}

FILTER(f_truncate) { /* s, length, killwords, end, leeway */
    UNUSED;
    rm_val t = a[0], end = rm_val_str("...", 3), to, head;
    int64_t length = 255, leeway = 5, n, n_end;
    const char *text;
    size_t n_text;
    if (!rm_tmpl_arg_str(r, &a[0], "what is truncated", &text, &n_text) || (given(&a[1]) && !rm_tmpl_arg_int(r, &a[1], "length", &length)) ||
        (given(&a[3]) && !rm_tmpl_to_str(r, &a[3], &end)) || (given(&a[4]) && a[4].kind != V_NONE && !rm_tmpl_arg_int(r, &a[4], "leeway", &leeway)) ||
        !rm_tmpl_length(r, &t, &n) || !rm_tmpl_length(r, &end, &n_end))
        return false;
    if (length < n_end || leeway < 0 || leeway > RM_MAX_OUTPUT || length > RM_MAX_OUTPUT) return rm_tmpl_fail(r, "truncate: bad length or leeway");
    if (n <= length + leeway) return *out = t, true;
    to = rm_val_int(length - n_end);
    if (!rm_tmpl_get_slice(r, &t, NULL, &to, NULL, &head)) return false;
    if (!rm_val_true(&a[2])) {
        ptrdiff_t space = rm_text_rfind(head.s, head.n, " ", 1);
        if (space >= 0) head.n = (uint32_t)space;
    }
    rm_val both[2] = {head, end};
    return rm_tmpl_concat(r, both, 2, out);
}

FILTER(f_wordcount) {
    UNUSED;
    rm_val t;
    int64_t n = 0;
    bool inside = false;
    if (!rm_tmpl_to_str(r, &a[0], &t) || !rm_tmpl_charge(r, t.n / 16)) return false;
    for (size_t i = 0; i < t.n;) {
        unsigned cp;
        i += (size_t)rm_text_next(t.s + i, t.n - i, &cp);
        bool word = rm_cp_alpha(cp) || rm_cp_digit(cp) || cp == '_';
        n += word && !inside;
        inside = word;
    }
    *out = rm_val_int(n);
    return true;
}

FILTER(f_format) { /* "..."|format(args): as % does */
    UNUSED;
    rm_val t, args = rm_val_seq(V_TUPLE, a + 1, (size_t)all->n - 1);
    if (all->n_kw) {
        if (all->n > 1) return rm_tmpl_fail(r, "format: either plain or named arguments");
        args = (rm_val){.kind = V_DICT, .n = (uint32_t)all->n_kw, .dict = all->kw};
    }
    return rm_tmpl_to_str(r, &a[0], &t) && rm_tmpl_format_percent(r, &t, &args, out);
}

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

/* Text as Python's int() and float() read it: white space around, underscores between digits. NULL: not a number. */
static const char *clean_number(const rm_val *v, char *buf, size_t cap) {
    const char *s = v->s;
    size_t n = v->n, k = 0;
    rm_text_trim(&s, &n, NULL, 0, true, true);
    if (!n || n >= cap) return NULL;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '_') {
            if (i == 0 || i + 1 == n || s[i - 1] == '_' || !strchr("0123456789abcdefABCDEF", s[i + 1])) return NULL;
            continue;
        }
        if (!s[i] || !strchr("0123456789abcdefABCDEFxXoO+-.infaINFAtyTY", s[i])) return NULL;
        buf[k++] = s[i];
    }
    buf[k] = 0;
    return buf;
}

static bool read_float(const rm_val *v, double *out) {
    char buf[400], *end;
    if (rm_val_is_number(v)) return *out = rm_val_double(v), true;
    const char *s = v->kind == V_STR ? clean_number(v, buf, sizeof buf) : NULL;
    if (!s || strpbrk(s, "xX")) return false;
    *out = rm_number_parse(s, &end);
    return !*end;
}

static bool read_int(const rm_val *v, int base, int64_t *out) {
    char buf[400], *end;
    if (v->kind == V_INT || v->kind == V_BOOL) return *out = v->kind == V_INT ? v->i : v->b, true;
    if (v->kind == V_STR) {
        const char *s = clean_number(v, buf, sizeof buf);
        if (s) {
            const char *d = s + (*s == '-' || *s == '+');
            if (base == 2 || base == 8) /* strtoll knows no 0b and 0o */
                if (d[0] == '0' && (d[1] | 32) == (base == 2 ? 'b' : 'o') && d == s) s += 2;
            errno = 0;
            long long i = strtoll(s, &end, base);
            if (!*end && end != s && !errno) return *out = i, true;
        }
    }
    double f;
    if (!read_float(v, &f) || !(fabs(f) < 9e18)) return false;
    *out = (int64_t)f;
    return true;
}

FILTER(f_int) { /* value, default, base */
    UNUSED;
    int64_t base = 10, i;
    if (a[0].kind == V_UNDEF) return rm_tmpl_undefined(r, &a[0]);
    if (given(&a[2]) && !rm_tmpl_arg_int(r, &a[2], "base", &base)) return false;
    if (base < 2 || base > 36) return rm_tmpl_fail(r, "int: base %lld is not supported", (long long)base);
    if (a[0].kind == V_FLOAT && fabs(a[0].f) >= 9e18) return rm_tmpl_fail(r, "int: a whole number has 64 bits; this one needs more");
    *out = read_int(&a[0], (int)base, &i) ? rm_val_int(i) : given(&a[1]) ? a[1] : rm_val_int(0);
    return true;
}

FILTER(f_float) {
    UNUSED;
    double f;
    if (a[0].kind == V_UNDEF) return rm_tmpl_undefined(r, &a[0]);
    *out = read_float(&a[0], &f) ? rm_val_float(f) : given(&a[1]) ? a[1] : rm_val_float(0);
    return true;
}

FILTER(f_abs) {
    UNUSED;
    rm_val zero = rm_val_int(0);
    if (a[0].kind == V_UNDEF) return rm_tmpl_undefined(r, &a[0]);
    if (!rm_val_is_number(&a[0])) return rm_tmpl_fail(r, "abs: '%s' is not a number", rm_val_type(&a[0]));
    if (a[0].kind == V_FLOAT) return *out = rm_val_float(fabs(a[0].f)), true;
    return rm_tmpl_binary(r, a[0].kind == V_INT && a[0].i < 0 ? '-' : '+', &zero, &a[0], out);
}

FILTER(f_round) { /* value, precision, method */
    UNUSED;
    int64_t precision = 0;
    char text[400];
    if (a[0].kind == V_UNDEF) return rm_tmpl_undefined(r, &a[0]);
    if (!rm_val_is_number(&a[0])) return rm_tmpl_fail(r, "round: '%s' is not a number", rm_val_type(&a[0]));
    if (given(&a[1]) && !rm_tmpl_arg_int(r, &a[1], "precision", &precision)) return false;
    if (precision < 0 || precision > 50) return rm_tmpl_fail(r, "round: precision %lld is not supported", (long long)precision);
    bool common = !given(&a[2]) || rm_val_is(&a[2], "common"), up = !common && rm_val_is(&a[2], "ceil");
    if (!common && !up && !rm_val_is(&a[2], "floor")) return rm_tmpl_fail(r, "method must be common, ceil or floor");
    if (common && a[0].kind != V_FLOAT) return *out = rm_val_int(a[0].kind == V_INT ? a[0].i : a[0].b), true;
    double f = rm_val_double(&a[0]), scale = pow(10, (double)precision);
    if (common && fabs(f) < 1e80) {
        rm_number_print(text, sizeof text, 'f', (int)precision, f); /* rounds the exact value, halves to even, as Python does */
        f = rm_number_parse(text, NULL);
    } else if (!common) {
        f = (up ? ceil(f * scale) : floor(f * scale)) / scale;
    }
    *out = rm_val_float(f);
    return true;
}

/* ---- others --------------------------------------------------------------------------------------------------------- */

FILTER(f_default) { /* value, default, boolean */
    UNUSED;
    bool missing = a[0].kind == V_UNDEF || (rm_val_true(&a[2]) && !rm_val_true(&a[0]));
    *out = !missing ? a[0] : given(&a[1]) ? a[1] : rm_val_str("", 0);
    return true;
}

FILTER(f_length) {
    UNUSED;
    int64_t n;
    if (!rm_tmpl_length(r, &a[0], &n)) return false;
    *out = rm_val_int(n);
    return true;
}

FILTER(f_tojson) { /* x, ensure_ascii, indent, separators, sort_keys: transformers' filter, not Jinja's */
    UNUSED;
    rm_dump_style s = {.ascii = rm_val_true(&a[1]), .sorted = rm_val_true(&a[4]), .item = ", ", .n_item = 2, .key = ": ", .n_key = 2};
    rm_val by = {0}, none = rm_val_str("", 0);
    if (given(&a[2]) && a[2].kind != V_NONE) {
        int64_t width;
        by = a[2];
        if (by.kind != V_STR && (!rm_tmpl_arg_int(r, &a[2], "indent", &width) || !rm_tmpl_str_pad(r, &none, width, " ", 1, -1, &by))) return false;
        s.indented = true;
        s.indent = by.s;
        s.n_indent = by.n;
        s.n_item = 1; /* "," before a line break */
    }
    if (given(&a[3]) && a[3].kind != V_NONE) {
        if ((a[3].kind != V_TUPLE && a[3].kind != V_LIST) || a[3].n != 2) return rm_tmpl_fail(r, "separators must be two texts");
        if (!rm_tmpl_arg_str(r, &a[3].seq[0], "separators", &s.item, &s.n_item) || !rm_tmpl_arg_str(r, &a[3].seq[1], "separators", &s.key, &s.n_key))
            return false;
    }
    rm_strbuf b = {0};
    if (rm_tmpl_dump(r, &a[0], &s, 0, &b)) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}

static const rm_entry filters[] = {
    {"abs", "x", 1, f_abs},
    {"capitalize", "s", 1, f_capitalize},
    {"center", "value width", 1, f_center},
    {"count", "obj", 1, f_length},
    {"d", "value default_value boolean", 1, f_default},
    {"default", "value default_value boolean", 1, f_default},
    {"e", "s", 1, f_escape},
    {"escape", "s", 1, f_escape},
    {"float", "value default", 1, f_float},
    {"forceescape", "value", 1, f_forceescape},
    {"format", NULL, 1, f_format},
    {"indent", "s width first blank", 1, f_indent},
    {"int", "value default base", 1, f_int},
    {"length", "obj", 1, f_length},
    {"lower", "s", 1, f_lower},
    {"replace", "s old new count", 3, f_replace},
    {"round", "value precision method", 1, f_round},
    {"safe", "value", 1, f_safe},
    {"string", "object", 1, f_string},
    {"title", "s", 1, f_title},
    {"tojson", "x ensure_ascii indent separators sort_keys", 1, f_tojson},
    {"trim", "value chars", 1, f_trim},
    {"truncate", "s length killwords end leeway", 1, f_truncate},
    {"upper", "s", 1, f_upper},
    {"wordcount", "s", 1, f_wordcount},
};

const rm_entry *rm_tmpl_filter_find(const char *s, size_t n) {
    const rm_entry *e = rm_tmpl_entry_find(filters, RM_COUNT(filters), s, n);
    return e ? e : rm_tmpl_filter_seq_find(s, n);
}
