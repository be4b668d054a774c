/* Case, padding, splitting and joining, as Python does them; limited like everything else. */
#include "tmpl/strings.h"

#include <string.h>

static bool grows(rm_run *r) { return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT); }

bool rm_tmpl_str_case(rm_run *r, const rm_val *s, rm_case how, rm_val *out) {
    rm_strbuf b = {0};
    uint8_t flag = s->flag;
    if (!rm_tmpl_charge(r, s->n / 16)) return false;
    rm_text_case(s->s, s->n, how, &b);
    if (!rm_tmpl_take(r, &b, out)) return false;
    out->flag = flag;
    return true;
}

bool rm_tmpl_str_replace(rm_run *r, const rm_val *s, const rm_val *from, const rm_val *to, int64_t count, rm_val *out) {
    rm_strbuf b = {0};
    size_t at = 0;
    if (!rm_tmpl_charge(r, s->n / 16)) return false;
    for (; count != 0 && at <= s->n; count--) {
        size_t skip;
        if (from->n) {
            ptrdiff_t k = rm_text_find(s->s + at, s->n - at, from->s, from->n);
            if (k < 0) break;
            rm_strbuf_add(&b, s->s + at, (size_t)k);
            rm_strbuf_add(&b, to->s, to->n);
            skip = (size_t)k + from->n;
        } else { /* between all characters, and at both ends */
            unsigned cp;
            rm_strbuf_add(&b, to->s, to->n);
            if (at == s->n) break;
            skip = (size_t)rm_text_next(s->s + at, s->n - at, &cp);
            rm_strbuf_add(&b, s->s + at, skip);
        }
        at += skip;
        if (b.n > RM_MAX_OUTPUT || !rm_tmpl_charge(r, 1)) {
            rm_strbuf_free(&b);
            return grows(r);
        }
    }
    if (at < s->n) rm_strbuf_add(&b, s->s + at, s->n - at);
    return rm_tmpl_take(r, &b, out);
}

bool rm_tmpl_str_pad(rm_run *r, const rm_val *s, int64_t width, const char *fill, size_t n_fill, int align, rm_val *out) {
    int64_t chars = (int64_t)rm_text_count(s->s, s->n);
    if (width <= chars) return *out = *s, true;
    if (width > RM_MAX_OUTPUT / 4) return grows(r);
    int64_t total = width - chars, left = align < 0 ? 0 : align > 0 ? total : total / 2 + (total & width & 1);
    size_t n = s->n + (size_t)total * n_fill, k = 0;
    char *p = rm_tmpl_charge(r, n / 16) ? rm_tmpl_get(r, n + 1) : NULL;
    if (!p) return false;
    for (int64_t i = 0; i < total; i++) {
        if (i == left) {
            memcpy(p + k, s->s, s->n);
            k += s->n;
        }
        memcpy(p + k, fill, n_fill);
        k += n_fill;
    }
    if (left == total) memcpy(p + k, s->s, s->n);
    *out = rm_val_str(p, n);
    return true;
}

/* A list of strings that grows. */
typedef struct {
    rm_val *v;
    size_t n, cap;
} list;

static bool push(rm_run *r, list *l, const char *s, size_t n) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 8;
        rm_val *v = rm_tmpl_get(r, cap * sizeof *v);
        if (!v) return false;
        if (l->n) memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = rm_val_str(s, n);
    return rm_tmpl_charge(r, 1);
}

static bool is_line_end(unsigned cp) {
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

bool rm_tmpl_str_lines(rm_run *r, const rm_val *s, bool keep_ends, rm_val *out) {
    list l = {0};
    size_t start = 0;
    for (size_t i = 0; i < s->n;) {
        unsigned cp;
        size_t len = (size_t)rm_text_next(s->s + i, s->n - i, &cp);
        if (is_line_end(cp)) {
            if (cp == '\r' && i + 1 < s->n && s->s[i + 1] == '\n') len = 2;
            if (!push(r, &l, s->s + start, i + (keep_ends ? len : 0) - start)) return false;
            start = i + len;
        }
        i += len;
    }
    if (start < s->n && !push(r, &l, s->s + start, s->n - start)) return false;
    *out = rm_val_seq(V_LIST, l.v, l.n);
    return rm_tmpl_charge(r, s->n / 16);
}

static void reverse(list *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        rm_val t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
}

static bool split_space(rm_run *r, const char *s, size_t n, int64_t max, bool from_right, list *l) {
    for (;;) {
        size_t k = 0;
        unsigned cp;
        rm_text_trim(&s, &n, NULL, 0, !from_right, from_right);
        if (!n) return true;
        if (max-- == 0) { /* the rest is one piece, its other end not trimmed */
            return push(r, l, s, n);
        }
        while (k < n) {
            int len = from_right ? rm_text_last(s, n - k, &cp) : rm_text_next(s + k, n - k, &cp);
            if (rm_cp_space(cp)) break;
            k += (size_t)len;
        }
        if (!push(r, l, from_right ? s + n - k : s, k)) return false;
        if (!from_right) s += k;
        n -= k;
    }
}

bool rm_tmpl_str_split(rm_run *r, const rm_val *v, const rm_val *sep, int64_t max, bool from_right, rm_val *out) {
    list l = {0};
    const char *s = v->s;
    size_t n = v->n;
    if (!rm_tmpl_charge(r, n / 16)) return false;
    if (!sep) {
        if (!split_space(r, s, n, max, from_right, &l)) return false;
    } else {
        if (!sep->n) return rm_tmpl_fail(r, "split: empty separator");
        while (max-- != 0) {
            if (from_right && !rm_tmpl_charge(r, n / 64)) return false;
            ptrdiff_t k = from_right ? rm_text_rfind(s, n, sep->s, sep->n) : rm_text_find(s, n, sep->s, sep->n);
            if (k < 0) break;
            size_t end = (size_t)k + sep->n;
            if (!push(r, &l, from_right ? s + end : s, from_right ? n - end : (size_t)k)) return false;
            if (!from_right) s += end;
            n = from_right ? (size_t)k : n - end;
        }
        if (!push(r, &l, s, n)) return false;
    }
    if (from_right) reverse(&l);
    *out = rm_val_seq(V_LIST, l.v, l.n);
    return true;
}

bool rm_tmpl_str_join(rm_run *r, const rm_val *sep, const rm_val *items, uint32_t n, rm_val *out) {
    rm_strbuf b = {0};
    bool ok = true;
    for (uint32_t i = 0; i < n && ok; i++) {
        if (i) rm_strbuf_add(&b, sep->s, sep->n);
        ok = rm_tmpl_show(r, &items[i], &b) && rm_tmpl_charge(r, 1 + sep->n / 64);
        if (b.n > RM_MAX_OUTPUT) ok = grows(r);
    }
    if (ok) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}
