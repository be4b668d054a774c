/* What programs give, compared: texts line by line, JSON values as Python compares them. */
#include <gmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/program.h"
#include "eval/unicode.h"
#include "util/json.h"
#include "util/mem.h"
#include "util/number.h"
#include "util/utf8.h"

bool rm_output_text(const rm_strbuf *raw, rm_strbuf *out) {
    if (!rm_utf8_valid(rm_str(raw), raw->n)) return false;
    for (size_t i = 0; i < raw->n; i++) {
        char c = raw->s[i];
        if (c == '\r') {
            c = '\n';
            if (i + 1 < raw->n && raw->s[i + 1] == '\n') i++;
        }
        rm_strbuf_putc(out, c ? c : 1);
    }
    return true;
}

/* ---- decimal numbers ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    bool negative, infinite;
    char *digits; /* without leading and trailing zeros; "" for zero */
    long long exponent; /* of the last digit */
} decimal;

static bool word_is(rm_sv v, const char *w) {
    size_t n = strlen(w);
    if (v.n != n) return false;
    for (size_t i = 0; i < n; i++) {
        if ((v.s[i] | 0x20) != w[i]) return false;
    }
    return true;
}

/* Python's Decimal(text), or the plain form digits[.digits][e..]. False if it is no number (or none that equals anything). */
static bool read_decimal(rm_sv v, bool plain, decimal *out) {
    rm_strbuf d = {0};
    *out = (decimal){0};
    size_t i = 0, before = 0, after = 0;
    if (i < v.n && (v.s[i] == '+' || v.s[i] == '-')) out->negative = v.s[i++] == '-';
    rm_sv rest = rm_sv_from(v, i);
    if (!plain && (word_is(rest, "inf") || word_is(rest, "infinity"))) {
        out->infinite = true;
        out->digits = rm_strdup("");
        return out->digits != NULL;
    }
    bool dot = false, bad = false;
    for (size_t len; i < v.n && !bad; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (c == '.' && !dot) {
            dot = true;
        } else if (c == '_' && !plain) {
            continue;
        } else if (plain ? c >= '0' && c <= '9' : rm_uni_digit(c)) {
            rm_strbuf_putc(&d, (char)('0' + rm_uni_digit_value(c)));
            if (dot)
                after++;
            else
                before++;
        } else {
            break;
        }
    }
    bad = before + after == 0 || (plain && (!before || (dot && !after)));
    long long ex = 0;
    if (!bad && i < v.n) {
        bool minus = false;
        size_t n_digit = 0;
        bad = (v.s[i] | 0x20) != 'e';
        i++;
        if (i < v.n && (v.s[i] == '+' || v.s[i] == '-')) minus = v.s[i++] == '-';
        for (; i < v.n && !bad; i++) {
            if (v.s[i] == '_' && !plain) continue;
            bad = v.s[i] < '0' || v.s[i] > '9' || ++n_digit > 17;
            ex = ex * 10 + (v.s[i] - '0');
        }
        bad |= n_digit == 0;
        if (minus) ex = -ex;
    }
    rm_sv digits = rm_sv_buf(&d);
    ex -= (long long)after;
    while (digits.n && digits.s[digits.n - 1] == '0') digits.n--, ex++;
    while (digits.n && digits.s[0] == '0') digits = rm_sv_from(digits, 1);
    out->exponent = digits.n ? ex : 0;
    if (!digits.n) out->negative = false;
    out->digits = bad ? NULL : rm_sv_dup(digits);
    rm_strbuf_free(&d);
    return out->digits != NULL;
}

static bool decimal_equal(rm_sv a, rm_sv b, bool plain) {
    decimal x = {0}, y = {0};
    bool eq = read_decimal(a, plain, &x) && read_decimal(b, plain, &y) && x.negative == y.negative && x.infinite == y.infinite &&
              x.exponent == y.exponent && strcmp(x.digits, y.digits) == 0;
    rm_free(x.digits);
    rm_free(y.digits);
    return eq;
}

static bool next_word(rm_sv *v, rm_sv *w) {
    *v = rm_sv_lstrip(*v);
    size_t i = 0, len;
    while (i < v->n && !rm_uni_space(rm_sv_cp(*v, i, &len))) i += len;
    *w = rm_sv_cut(*v, 0, i);
    *v = rm_sv_from(*v, i);
    return i > 0;
}

static bool line_equal(rm_sv a, rm_sv b, bool plain) {
    rm_sv x, y;
    a = rm_sv_strip(a);
    b = rm_sv_strip(b);
    if (rm_sv_eq(a, b)) return true;
    for (;;) {
        bool more = next_word(&a, &x), other = next_word(&b, &y);
        if (!more || !other) return more == other;
        if (!decimal_equal(x, y, plain)) return false;
    }
}

bool rm_output_equal(const char *got, const char *want, bool strict) {
    rm_sv a = rm_sv_strip(rm_sv_of(got)), b = rm_sv_strip(rm_sv_of(want));
    for (size_t i = 0, k = 0;;) {
        const char *p = i < a.n ? memchr(a.s + i, '\n', a.n - i) : NULL, *q = k < b.n ? memchr(b.s + k, '\n', b.n - k) : NULL;
        size_t end_a = p ? (size_t)(p - a.s) : a.n, end_b = q ? (size_t)(q - b.s) : b.n;
        if ((p != NULL) != (q != NULL) || !line_equal(rm_sv_cut(a, i, end_a), rm_sv_cut(b, k, end_b), strict)) return false;
        if (!p) return true;
        i = end_a + 1;
        k = end_b + 1;
    }
}

/* ---- JSON values ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    rm_json_event kind;
    char *text; /* of a string, number; of a member its key is in `key` */
    size_t n_text;
    char *key;
    size_t n_key;
    size_t next; /* index behind this value and all that is in it */
    size_t n; /* elements */
} node;
typedef struct {
    node *v;
    size_t n, cap;
    bool failed;
} tree;

static node *push(tree *t) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        node *v = rm_realloc_array(t->v, cap, sizeof *v);
        if (!v) {
            t->failed = true;
            return NULL;
        }
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n] = (node){0};
    return &t->v[t->n++];
}

static void free_tree(tree *t) {
    for (size_t i = 0; i < t->n; i++) {
        rm_free(t->v[i].text);
        rm_free(t->v[i].key);
    }
    rm_free(t->v);
}

/* The document as nodes in order, children behind their parent. */
static bool read_tree(const char *text, tree *t) {
    rm_json j;
    size_t open[RM_JSON_MAX_DEPTH + 1];
    int depth = 0;
    char *key = NULL;
    size_t n_key = 0;
    rm_json_init(&j, text, strlen(text));
    rm_json_event e;
    while ((e = rm_json_next(&j)) > RM_JSON_END && !t->failed) {
        if (e == RM_JSON_OBJECT_END || e == RM_JSON_ARRAY_END) {
            t->v[open[--depth]].next = t->n;
            continue;
        }
        if (e == RM_JSON_KEY) {
            rm_free(key);
            key = rm_strndup(j.str, n_key = j.len);
            if (!key) t->failed = true;
            continue;
        }
        if (depth) t->v[open[depth - 1]].n++;
        node *v = push(t);
        if (!v) break;
        v->kind = e;
        v->key = key;
        v->n_key = n_key;
        key = NULL;
        v->next = t->n;
        if (e == RM_JSON_STRING || e == RM_JSON_NUMBER) {
            v->text = rm_strndup(j.str, v->n_text = j.len);
            if (!v->text) t->failed = true;
        }
        if (e == RM_JSON_OBJECT || e == RM_JSON_ARRAY) open[depth++] = t->n - 1;
    }
    rm_free(key);
    rm_json_free(&j);
    return e == RM_JSON_END && !t->failed && t->n > 0;
}

static bool numeric(const node *v) { return v->kind == RM_JSON_NUMBER || v->kind == RM_JSON_TRUE || v->kind == RM_JSON_FALSE; }

static bool number_equal(const node *a, const node *b) {
    const char *x = a->kind == RM_JSON_NUMBER ? a->text : a->kind == RM_JSON_TRUE ? "1" : "0";
    const char *y = b->kind == RM_JSON_NUMBER ? b->text : b->kind == RM_JSON_TRUE ? "1" : "0";
    bool float_x = strpbrk(x, ".eE") != NULL, float_y = strpbrk(y, ".eE") != NULL;
    if (float_x && float_y) return rm_number_parse(x, NULL) == rm_number_parse(y, NULL);
    mpz_t p, q;
    bool eq;
    mpz_init(p);
    mpz_init(q);
    if (!float_x) mpz_set_str(p, x, 10);
    if (!float_y) mpz_set_str(q, y, 10);
    if (!float_x && !float_y) {
        eq = mpz_cmp(p, q) == 0;
    } else {
        double d = rm_number_parse(float_x ? x : y, NULL);
        eq = d - d == 0 && mpz_cmp_d(float_x ? q : p, d) == 0;
    }
    mpz_clear(p);
    mpz_clear(q);
    return eq;
}

static bool same_bytes(const char *a, size_t n, const char *b, size_t m) { return n == m && (n == 0 || memcmp(a, b, n) == 0); }

/* Depth is capped by the JSON reader. */
static bool node_equal(const tree *s, size_t i, const tree *t, size_t k) {
    const node *a = &s->v[i], *b = &t->v[k];
    if (numeric(a) || numeric(b)) return numeric(a) && numeric(b) && number_equal(a, b);
    if (a->kind != b->kind) return false;
    if (a->kind == RM_JSON_STRING) return same_bytes(a->text, a->n_text, b->text, b->n_text);
    if (a->kind == RM_JSON_NULL) return true;
    if (a->n != b->n) return false;
    size_t x = i + 1, y = k + 1;
    for (size_t c = 0; c < a->n; c++) {
        if (a->kind == RM_JSON_OBJECT) { /* members usually come in the same order: look on from there */
            size_t tried = 0;
            for (; tried < b->n && !same_bytes(s->v[x].key, s->v[x].n_key, t->v[y].key, t->v[y].n_key); tried++)
                y = t->v[y].next < b->next ? t->v[y].next : k + 1;
            if (tried == b->n) return false;
        }
        if (!node_equal(s, x, t, y)) return false;
        x = s->v[x].next;
        y = t->v[y].next < b->next || a->kind == RM_JSON_ARRAY ? t->v[y].next : k + 1;
    }
    return true;
}

bool rm_json_equal(const char *a, const char *b, bool *valid) {
    tree s = {0}, t = {0};
    *valid = read_tree(a, &s) && read_tree(b, &t);
    bool eq = *valid && node_equal(&s, 0, &t, 0);
    free_tree(&s);
    free_tree(&t);
    return eq;
}
