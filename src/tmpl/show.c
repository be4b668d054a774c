/* Values as text: str, repr, json.dumps. */
#include <math.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/text.h"
#include "util/mem.h"

enum { SHOW_DOUBLE_STEPS = 256 }; /* it may try 17 lengths: as much work as so many steps */

static void show_double(double f, rm_strbuf *out) {
    if (isnan(f)) return rm_strbuf_puts(out, "nan");
    if (isinf(f)) return rm_strbuf_puts(out, f < 0 ? "-inf" : "inf");
    rm_strbuf_double(out, f);
}

static void repr_text(const char *s, size_t n, rm_strbuf *out) {
    char quote = memchr(s, '\'', n) && !memchr(s, '"', n) ? '"' : '\'';
    rm_strbuf_putc(out, quote);
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = rm_text_next(s + i, n - i, &cp);
        const char *simple = cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : cp == '\t' ? "\\t" : cp == '\\' ? "\\\\" : NULL;
        if (simple)
            rm_strbuf_puts(out, simple);
        else if (cp == (unsigned char)quote)
            rm_strbuf_printf(out, "\\%c", quote);
        else if (rm_cp_printable(cp))
            rm_strbuf_add(out, s + i, (size_t)len);
        else if (cp < 0x100)
            rm_strbuf_printf(out, "\\x%02x", cp);
        else if (cp < 0x10000)
            rm_strbuf_printf(out, "\\u%04x", cp);
        else
            rm_strbuf_printf(out, "\\U%08x", cp);
        i += (size_t)len;
    }
    rm_strbuf_putc(out, quote);
}

static bool repr_items(rm_run *r, const rm_val *v, rm_strbuf *out) {
    rm_strbuf_putc(out, v->kind == V_TUPLE ? '(' : '[');
    for (uint32_t i = 0; i < v->n; i++) {
        if (i) rm_strbuf_puts(out, ", ");
        if (!rm_tmpl_repr(r, &v->seq[i], out)) return false;
    }
    if (v->kind == V_TUPLE && v->n == 1) rm_strbuf_putc(out, ',');
    rm_strbuf_putc(out, v->kind == V_TUPLE ? ')' : ']');
    return true;
}

static bool repr_dict(rm_run *r, const rm_pair *v, uint32_t n, rm_strbuf *out) {
    rm_strbuf_putc(out, '{');
    for (uint32_t i = 0; i < n; i++) {
        if (i) rm_strbuf_puts(out, ", ");
        if (!rm_tmpl_repr(r, &v[i].key, out)) return false;
        rm_strbuf_puts(out, ": ");
        if (!rm_tmpl_repr(r, &v[i].val, out)) return false;
    }
    rm_strbuf_putc(out, '}');
    return true;
}

bool rm_tmpl_repr(rm_run *r, const rm_val *v, rm_strbuf *out) {
    static const char *const views[] = {"dict_keys(", "dict_values(", "dict_items("};
    bool ok = true;
    size_t cost = v->kind == V_STR ? v->n / 16 : v->kind == V_FLOAT ? SHOW_DOUBLE_STEPS : 0;
    if (!rm_tmpl_charge(r, 1 + cost) || !rm_tmpl_enter(r)) return false;
    if (out->n > RM_MAX_OUTPUT) return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
    switch (v->kind) {
    case V_UNDEF: rm_strbuf_puts(out, "Undefined"); break;
    case V_NONE: rm_strbuf_puts(out, "None"); break;
    case V_BOOL: rm_strbuf_puts(out, v->b ? "True" : "False"); break;
    case V_INT: rm_strbuf_printf(out, "%lld", (long long)v->i); break;
    case V_FLOAT: show_double(v->f, out); break;
    case V_STR: repr_text(v->s, v->n, out); break;
    case V_LIST:
    case V_TUPLE: ok = repr_items(r, v, out); break;
    case V_VIEW:
        rm_strbuf_puts(out, views[v->flag]);
        ok = repr_items(r, v, out);
        rm_strbuf_putc(out, ')');
        break;
    case V_RANGE: {
        long long start = v->n ? v->seq[0].i : 0, step = v->n > 1 ? v->seq[1].i - start : 1, stop = start + step * v->n;
        rm_strbuf_printf(out, step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)", start, stop, step);
        break;
    }
    case V_DICT: ok = repr_dict(r, v->dict, v->n, out); break;
    case V_NS:
        rm_strbuf_puts(out, "<Namespace ");
        ok = repr_dict(r, v->ns->v, v->ns->n, out);
        rm_strbuf_putc(out, '>');
        break;
    case V_MACRO: rm_strbuf_printf(out, "<Macro '%.*s'>", (int)v->macro->node->n_text, v->macro->node->text); break;
    case V_FUNC: rm_strbuf_printf(out, "<function %s>", v->func->name); break;
    default: rm_strbuf_printf(out, "<%s>", rm_val_type(v));
    }
    r->depth--;
    return ok;
}

bool rm_tmpl_show(rm_run *r, const rm_val *v, rm_strbuf *out) {
    if (v->kind == V_UNDEF) return true;
    if (v->kind != V_STR) return rm_tmpl_repr(r, v, out);
    rm_strbuf_add(out, v->s, v->n);
    return rm_tmpl_charge(r, v->n / 64);
}

bool rm_tmpl_to_str(rm_run *r, const rm_val *v, rm_val *out) {
    *out = *v;
    if (v->kind == V_STR) return true;
    rm_strbuf b = {0};
    if (rm_tmpl_show(r, v, &b)) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}

static void escape_html(const char *s, size_t n, rm_strbuf *out) {
    for (size_t i = 0; i < n; i++) switch (s[i]) {
        case '&': rm_strbuf_puts(out, "&amp;"); break;
        case '<': rm_strbuf_puts(out, "&lt;"); break;
        case '>': rm_strbuf_puts(out, "&gt;"); break;
        case '\'': rm_strbuf_puts(out, "&#39;"); break;
        case '"': rm_strbuf_puts(out, "&#34;"); break;
        default: rm_strbuf_putc(out, s[i]);
        }
}

bool rm_tmpl_escape(rm_run *r, rm_val *io) {
    rm_strbuf b = {0};
    if (!rm_tmpl_charge(r, io->n / 8)) return false;
    escape_html(io->s, io->n, &b);
    if (!rm_tmpl_take(r, &b, io)) return false;
    io->flag = 1;
    return true;
}

/* ---- json.dumps ----------------------------------------------------------------------------------------------------- */

static void dump_text(const char *s, size_t n, bool ascii, rm_strbuf *out) {
    static const char plain[] = "\"\\\n\r\t\f\b", escaped[] = "\"\\nrtfb";
    rm_strbuf_putc(out, '"');
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = rm_text_next(s + i, n - i, &cp);
        const char *p = cp && cp < 0x80 ? strchr(plain, (int)cp) : NULL;
        if (p) {
            rm_strbuf_putc(out, '\\');
            rm_strbuf_putc(out, escaped[p - plain]);
        } else if (cp < 0x20 || (ascii && cp > 0x7E && cp < 0x10000)) {
            rm_strbuf_printf(out, "\\u%04x", cp);
        } else if (ascii && cp >= 0x10000) {
            rm_strbuf_printf(out, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + ((cp - 0x10000) & 0x3FF));
        } else {
            rm_strbuf_add(out, s + i, (size_t)len);
        }
        i += (size_t)len;
    }
    rm_strbuf_putc(out, '"');
}

static void dump_double(double f, rm_strbuf *out) {
    if (isnan(f))
        rm_strbuf_puts(out, "NaN");
    else if (isinf(f))
        rm_strbuf_puts(out, f < 0 ? "-Infinity" : "Infinity");
    else
        show_double(f, out);
}

static void new_line(const rm_dump_style *s, int level, rm_strbuf *out) {
    if (!s->indented) return;
    rm_strbuf_putc(out, '\n');
    for (int i = 0; i < level; i++) rm_strbuf_add(out, s->indent, s->n_indent);
}

static bool dump_key(rm_run *r, const rm_val *k, const rm_dump_style *s, rm_strbuf *out) {
    if (k->kind == V_STR) {
        dump_text(k->s, k->n, s->ascii, out);
        return true;
    }
    if (k->kind > V_FLOAT || k->kind == V_UNDEF)
        return rm_tmpl_fail(r, "keys of JSON must be text, a number, a bool or none, not %s", rm_val_type(k));
    rm_strbuf_putc(out, '"');
    bool ok = rm_tmpl_dump(r, k, s, 0, out);
    rm_strbuf_putc(out, '"');
    return ok;
}

static const rm_pair *sorted(rm_run *r, const rm_val *v) {
    rm_pair *p = rm_tmpl_get(r, v->n * sizeof *p);
    if (!p || !rm_tmpl_charge(r, v->n)) return NULL;
    for (uint32_t i = 0; i < v->n; i++) { /* insertion: dicts of templates are small, and long ones pay in steps */
        uint32_t k = i;
        for (; k > 0; k--) {
            int c;
            if (!rm_tmpl_charge(r, 1) || !rm_tmpl_order(r, &p[k - 1].key, &v->dict[i].key, &c)) return NULL;
            if (c <= 0) break;
            p[k] = p[k - 1];
        }
        p[k] = v->dict[i];
    }
    return p;
}

static bool dump_dict(rm_run *r, const rm_val *v, const rm_dump_style *s, int level, rm_strbuf *out) {
    const rm_pair *p = s->sorted ? sorted(r, v) : v->dict;
    if (v->n && !p) return false;
    rm_strbuf_putc(out, '{');
    for (uint32_t i = 0; i < v->n; i++) {
        if (i) rm_strbuf_add(out, s->item, s->n_item);
        new_line(s, level + 1, out);
        if (!dump_key(r, &p[i].key, s, out)) return false;
        rm_strbuf_add(out, s->key, s->n_key);
        if (!rm_tmpl_dump(r, &p[i].val, s, level + 1, out)) return false;
    }
    if (v->n) new_line(s, level, out);
    rm_strbuf_putc(out, '}');
    return true;
}

static bool dump_items(rm_run *r, const rm_val *v, const rm_dump_style *s, int level, rm_strbuf *out) {
    rm_strbuf_putc(out, '[');
    for (uint32_t i = 0; i < v->n; i++) {
        if (i) rm_strbuf_add(out, s->item, s->n_item);
        new_line(s, level + 1, out);
        if (!rm_tmpl_dump(r, &v->seq[i], s, level + 1, out)) return false;
    }
    if (v->n) new_line(s, level, out);
    rm_strbuf_putc(out, ']');
    return true;
}

bool rm_tmpl_dump(rm_run *r, const rm_val *v, const rm_dump_style *s, int level, rm_strbuf *out) {
    bool ok = true;
    size_t cost = v->kind == V_STR ? v->n / 16 : v->kind == V_FLOAT ? SHOW_DOUBLE_STEPS : 0;
    if (!rm_tmpl_charge(r, 1 + cost) || !rm_tmpl_enter(r)) return false;
    if (out->n > RM_MAX_OUTPUT) return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
    switch (v->kind) {
    case V_NONE: rm_strbuf_puts(out, "null"); break;
    case V_BOOL: rm_strbuf_puts(out, v->b ? "true" : "false"); break;
    case V_INT: rm_strbuf_printf(out, "%lld", (long long)v->i); break;
    case V_FLOAT: dump_double(v->f, out); break;
    case V_STR: dump_text(v->s, v->n, s->ascii, out); break;
    case V_LIST:
    case V_TUPLE: ok = dump_items(r, v, s, level, out); break;
    case V_DICT: ok = dump_dict(r, v, s, level, out); break;
    default: ok = rm_tmpl_fail(r, "Object of type %s is not JSON serializable", rm_val_type(v));
    }
    r->depth--;
    return ok;
}
