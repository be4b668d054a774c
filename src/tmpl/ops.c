/* Operators and the two ways of Python to format text. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "tmpl/text.h"
#include "util/number.h"

static bool bad_operands(rm_run *r, const char *op, const rm_val *a, const rm_val *b) {
    if (a->kind == V_UNDEF) return rm_tmpl_undefined(r, a);
    if (b->kind == V_UNDEF) return rm_tmpl_undefined(r, b);
    return rm_tmpl_fail(r, "unsupported operands for %s: '%s' and '%s'", op, rm_val_type(a), rm_val_type(b));
}

static int64_t as_int(const rm_val *v) { return v->kind == V_BOOL ? v->b : v->i; }

static bool too_large(rm_run *r) { return rm_tmpl_fail(r, "a whole number grows beyond 64 bits"); }

static bool power(rm_run *r, int64_t a, int64_t b, rm_val *out) {
    if (b < 0) {
        if (!a) return rm_tmpl_fail(r, "zero cannot be raised to a negative power");
        *out = rm_val_float(pow((double)a, (double)b));
        return true;
    }
    int64_t v = 1;
    while (b > 0) {
        if ((b & 1) && __builtin_mul_overflow(v, a, &v)) return too_large(r);
        b >>= 1;
        if (b && __builtin_mul_overflow(a, a, &a)) return too_large(r);
    }
    *out = rm_val_int(v);
    return true;
}

static bool int_op(rm_run *r, unsigned op, int64_t a, int64_t b, rm_val *out) {
    int64_t v = 0;
    bool over = false;
    switch (op) {
    case '+': over = __builtin_add_overflow(a, b, &v); break;
    case '-': over = __builtin_sub_overflow(a, b, &v); break;
    case '*': over = __builtin_mul_overflow(a, b, &v); break;
    case '%':
    case RM_OP2('/', '/'):
        if (!b) return rm_tmpl_fail(r, "division by zero");
        if (b == -1) { /* the one quotient that does not fit, and its remainder, apart */
            over = op != '%' && __builtin_sub_overflow((int64_t)0, a, &v);
            break;
        }
        v = op == '%' ? a % b : a / b;
        if (a % b != 0 && (a % b < 0) != (b < 0)) v = op == '%' ? v + b : v - 1;
        break;
    default: return power(r, a, b, out);
    }
    *out = rm_val_int(v);
    return over ? too_large(r) : true;
}

/* The remainder has the sign of the divisor, also where it is zero; the quotient is the one that belongs to it, which is not
 * always the floor of a / b: 0.5 // 0.1 is 4. As in Python. */
static double float_mod(double a, double b) {
    double m = fmod(a, b);
    return m == 0 ? copysign(0, b) : (m < 0) != (b < 0) ? m + b : m;
}

static double float_div(double a, double b) {
    double m = fmod(a, b), q = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0)) q -= 1;
    if (q == 0) return copysign(0, a / b);
    return q - floor(q) > 0.5 ? floor(q) + 1 : floor(q);
}

static bool float_op(rm_run *r, unsigned op, double a, double b, rm_val *out) {
    double v;
    if (b == 0 && (op == '/' || op == '%' || op == RM_OP2('/', '/'))) return rm_tmpl_fail(r, "division by zero");
    switch (op) {
    case '+': v = a + b; break;
    case '-': v = a - b; break;
    case '*': v = a * b; break;
    case '/': v = a / b; break;
    case '%': v = float_mod(a, b); break;
    case RM_OP2('/', '/'): v = float_div(a, b); break;
    default:
        v = pow(a, b);
        if (isfinite(a) && isfinite(b) && !isfinite(v)) return rm_tmpl_fail(r, "a power is not a real number, or too large");
    }
    *out = rm_val_float(v);
    return true;
}

static bool repeat(rm_run *r, const rm_val *v, int64_t times, rm_val *out) {
    size_t n = v->n, size = v->kind == V_STR ? 1 : sizeof(rm_val);
    if (times < 0) times = 0;
    if (n && (uint64_t)times > RM_MAX_OUTPUT / n) return rm_tmpl_fail(r, "a repetition grows beyond %d bytes", RM_MAX_OUTPUT);
    if (!rm_tmpl_charge(r, n * (size_t)times / 16 + (size_t)times * (n != 0))) return false;
    char *p = rm_tmpl_get(r, n * (size_t)times * size + 1);
    if (!p) return false;
    const void *from = v->kind == V_STR ? (const void *)v->s : v->seq;
    for (int64_t i = 0; n && i < times; i++) memcpy(p + (size_t)i * n * size, from, n * size);
    *out = v->kind == V_STR ? rm_val_str(p, n * (size_t)times) : rm_val_seq(v->kind, (rm_val *)p, n * (size_t)times);
    out->flag = v->flag;
    return true;
}

static bool add(rm_run *r, const rm_val *a, const rm_val *b, rm_val *out) {
    if (a->kind == V_STR && b->kind == V_STR) {
        rm_val both[2] = {*a, *b};
        const bool safe = a->flag || b->flag; /* "+" beside text that is marked safe escapes the other (Jinja's Markup); "~" does not */
        for (int i = 0; i < 2 && safe; i++)
            if (!both[i].flag && !rm_tmpl_escape(r, &both[i])) return false;
        if (!rm_tmpl_concat(r, both, 2, out)) return false;
        out->flag = safe;
        return true;
    }
    if (a->kind != b->kind || (a->kind != V_LIST && a->kind != V_TUPLE)) return bad_operands(r, "+", a, b);
    size_t n = (size_t)a->n + b->n;
    rm_val *v = n < UINT32_MAX / 2 ? rm_tmpl_get(r, n * sizeof *v) : NULL;
    if (!v) return r->st == RMAS_OK ? rm_tmpl_fail(r, "a list grows too long") : false;
    if (a->n) memcpy(v, a->seq, a->n * sizeof *v);
    if (b->n) memcpy(v + a->n, b->seq, b->n * sizeof *v);
    *out = rm_val_seq(a->kind, v, n);
    return rm_tmpl_charge(r, n / 8);
}

bool rm_tmpl_binary(rm_run *r, unsigned op, const rm_val *a, const rm_val *b, rm_val *out) {
    char name[3] = {op > 255 ? (char)(op >> 8) : (char)op, op > 255 ? (char)op : 0, 0};
    if (op == '%' && a->kind == V_STR) return rm_tmpl_format_percent(r, a, b, out);
    if (rm_val_is_number(a) && rm_val_is_number(b)) {
        if (op == '/' || a->kind == V_FLOAT || b->kind == V_FLOAT) return float_op(r, op, rm_val_double(a), rm_val_double(b), out);
        return int_op(r, op, as_int(a), as_int(b), out);
    }
    if (op == '+') return add(r, a, b, out);
    if (op == '*') {
        bool left = b->kind == V_INT || b->kind == V_BOOL;
        const rm_val *v = left ? a : b, *times = left ? b : a;
        if ((times->kind == V_INT || times->kind == V_BOOL) && (v->kind == V_STR || v->kind == V_LIST || v->kind == V_TUPLE))
            return repeat(r, v, as_int(times), out);
    }
    return bad_operands(r, name, a, b);
}

/* Texts of all values, one after the other. */
bool rm_tmpl_concat(rm_run *r, const rm_val *v, int n, rm_val *out) {
    size_t size = 0;
    bool plain = true;
    for (int i = 0; i < n; i++) {
        plain = plain && v[i].kind == V_STR;
        size += v[i].kind == V_STR ? v[i].n : 0;
    }
    if (plain) { /* the usual case: one copy */
        if (size > RM_MAX_OUTPUT) return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
        char *s = rm_tmpl_charge(r, (size_t)n + size / 64) ? rm_tmpl_get(r, size + 1) : NULL;
        if (!s) return false;
        size_t k = 0;
        for (int i = 0; i < n; i++) {
            if (v[i].n) memcpy(s + k, v[i].s, v[i].n);
            k += v[i].n;
        }
        *out = rm_val_str(s, k);
        return true;
    }
    rm_strbuf b = {0};
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        rm_val t;
        ok = rm_tmpl_to_str(r, &v[i], &t) && rm_tmpl_charge(r, 1 + t.n / 64);
        if (ok) rm_strbuf_add(&b, t.s, t.n);
        if (b.n > RM_MAX_OUTPUT) ok = rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
    }
    if (ok) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}

/* ---- formatting ----------------------------------------------------------------------------------------------------- */

typedef struct { /* [[fill]align][sign][#][0][width][,][.precision][type]; flags of % go into the same */
    char fill, align, sign, type;
    bool zero, alt, comma;
    int width, precision; /* -1: none */
} spec;

static bool small_number(const char *s, size_t n, size_t *at, int *out) {
    int v = 0;
    while (*at < n && s[*at] >= '0' && s[*at] <= '9') {
        v = v * 10 + (s[(*at)++] - '0');
        if (v > 10000) return false;
    }
    *out = v;
    return true;
}

static void pad(const char *s, size_t n, const spec *p, char align, rm_strbuf *out) {
    size_t chars = rm_text_count(s, n), total = p->width > 0 && (size_t)p->width > chars ? (size_t)p->width - chars : 0;
    size_t left = align == '>' ? total : align == '^' ? total / 2 : 0;
    for (size_t i = 0; i < left; i++) rm_strbuf_putc(out, p->fill);
    rm_strbuf_add(out, s, n);
    for (size_t i = left; i < total; i++) rm_strbuf_putc(out, p->fill);
}

static void put_number(const char *digits, bool negative, const spec *p, rm_strbuf *out) {
    char text[512];
    size_t n = 0, len = strlen(digits), whole = strcspn(digits, ".e");
    const char *sign = negative ? "-" : p->sign == '+' ? "+" : p->sign == ' ' ? " " : "";
    n = strlen(sign);
    memcpy(text, sign, n);
    if (p->zero && !p->align)
        for (size_t k = n + len; k < (size_t)p->width && n < 200; k++) text[n++] = '0';
    for (size_t i = 0; i < len && n < sizeof text - 2; i++) {
        if (p->comma && i && i < whole && (whole - i) % 3 == 0) text[n++] = ',';
        text[n++] = digits[i];
    }
    pad(text, n, p, p->align ? p->align : '>', out);
}

/* One value by its spec. type 0: by the kind of the value. */
static bool put_value(rm_run *r, const rm_val *v, spec *p, rm_strbuf *out) {
    char digits[400];
    if (v->kind == V_UNDEF && p->type && p->type != 's' && p->type != 'r') return rm_tmpl_undefined(r, v);
    if (p->type == 0) p->type = v->kind == V_INT ? 'd' : v->kind == V_FLOAT && p->precision >= 0 ? 'g' : 's';
    if (p->precision > 300) return rm_tmpl_fail(r, "a precision above 300 is not supported");
    switch (p->type) {
    case 's':
    case 'r': {
        rm_strbuf b = {0};
        bool ok = p->type == 'r' ? rm_tmpl_repr(r, v, &b) : rm_tmpl_show(r, v, &b);
        size_t n = p->precision >= 0 ? rm_text_offset(rm_str(&b), b.n, (size_t)p->precision) : b.n;
        if (ok) pad(rm_str(&b), n, p, p->align ? p->align : v->kind == V_FLOAT ? '>' : '<', out);
        ok = ok && !b.failed;
        rm_strbuf_free(&b);
        return ok || r->st != RMAS_OK ? ok : rm_tmpl_fail_code(r, RMAS_E_NOMEM, "out of memory");
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
        if (!rm_val_is_number(v)) return rm_tmpl_fail(r, "format %%%c needs a number, not %s", p->type, rm_val_type(v));
        if (v->kind == V_FLOAT && !(fabs(v->f) < 9e18)) return too_large(r);
        int64_t i = v->kind == V_FLOAT ? (int64_t)v->f : as_int(v);
        unsigned long long u = i < 0 ? 0 - (unsigned long long)i : (unsigned long long)i;
        snprintf(digits, sizeof digits, p->type == 'x' ? "%llx" : p->type == 'X' ? "%llX" : p->type == 'o' ? "%llo" : "%llu", u);
        put_number(digits, i < 0, p, out);
        return true;
    }
    case 'f':
    case 'F':
    case 'e':
    case 'g': {
        if (!rm_val_is_number(v)) return rm_tmpl_fail(r, "format %%%c needs a number, not %s", p->type, rm_val_type(v));
        double f = rm_val_double(v);
        int precision = p->precision < 0 ? 6 : p->precision;
        if (fabs(f) > 1e80) return rm_tmpl_fail(r, "a number this large is not supported in formats");
        rm_number_print(digits, sizeof digits, p->type, precision, fabs(f));
        put_number(digits, signbit(f), p, out);
        return true;
    }
    default: return rm_tmpl_fail(r, "format character '%c' is not supported", p->type);
    }
}

static bool percent(rm_run *r, const rm_val *f, const rm_val *args, rm_strbuf *out) {
    uint32_t used = 0, given = args->kind == V_TUPLE ? args->n : 1;
    for (size_t i = 0; i < f->n;) {
        if (f->s[i] != '%') {
            const char *next = memchr(f->s + i, '%', f->n - i);
            size_t n = next ? (size_t)(next - f->s) - i : f->n - i;
            rm_strbuf_add(out, f->s + i, n);
            i += n;
            continue;
        }
        if (!rm_tmpl_charge(r, 1)) return false;
        rm_val v;
        bool have = false;
        spec p = {.fill = ' ', .precision = -1};
        i++;
        if (i < f->n && f->s[i] == '(') {
            const char *end = memchr(f->s + i, ')', f->n - i);
            if (!end || args->kind != V_DICT) return rm_tmpl_fail(r, "format requires a mapping");
            rm_val key = rm_val_str(f->s + i + 1, (size_t)(end - f->s) - i - 1);
            const rm_val *val;
            if (!rm_tmpl_dict_find(r, args, &key, &val)) return false;
            if (!val) return rm_tmpl_fail(r, "format: no key '%.*s'", (int)(key.n > 60 ? 60 : key.n), key.s);
            v = *val;
            have = true;
            used = given;
            i = (size_t)(end - f->s) + 1;
        }
        for (; i < f->n && f->s[i] && strchr("-+ 0#", f->s[i]); i++) {
            if (f->s[i] == '-') p.align = '<';
            if (f->s[i] == '0') p.zero = true;
            if (f->s[i] == '+' || (f->s[i] == ' ' && !p.sign)) p.sign = f->s[i];
        }
        if (!small_number(f->s, f->n, &i, &p.width)) return rm_tmpl_fail(r, "a width above 10000 is not supported");
        if (i < f->n && f->s[i] == '.' && (i++, !small_number(f->s, f->n, &i, &p.precision)))
            return rm_tmpl_fail(r, "a precision above 10000 is not supported");
        if (i == f->n) return rm_tmpl_fail(r, "incomplete format");
        p.type = f->s[i++];
        if (p.type == '%') {
            rm_strbuf_putc(out, '%');
            continue;
        }
        if (!have) {
            if (used >= given) return rm_tmpl_fail(r, "not enough arguments for format string");
            v = args->kind == V_TUPLE ? args->seq[used] : *args;
            used++;
        }
        if (!p.align && !p.zero) p.align = '>';
        if (!put_value(r, &v, &p, out)) return false;
        if (out->n > RM_MAX_OUTPUT) return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
    }
    if (used < given && args->kind != V_DICT && args->kind != V_LIST) return rm_tmpl_fail(r, "not all arguments converted during string formatting");
    return true;
}

bool rm_tmpl_format_percent(rm_run *r, const rm_val *format, const rm_val *args, rm_val *out) {
    rm_strbuf b = {0};
    if (percent(r, format, args, &b)) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}

static bool parse_spec(rm_run *r, const char *s, size_t n, spec *p) {
    size_t i = 0;
    if (n > 1 && s[1] && strchr("<>^", s[1])) p->fill = s[i++];
    if (i < n && s[i] && strchr("<>^", s[i])) p->align = s[i++];
    if (i < n && s[i] && strchr("+- ", s[i])) p->sign = s[i++];
    if (i < n && s[i] == '0') {
        p->zero = true;
        i++;
    }
    if (!small_number(s, n, &i, &p->width)) return rm_tmpl_fail(r, "a width above 10000 is not supported");
    if (i < n && s[i] == ',') {
        p->comma = true;
        i++;
    }
    if (i < n && s[i] == '.' && (i++, !small_number(s, n, &i, &p->precision))) return rm_tmpl_fail(r, "a precision above 10000 is not supported");
    if (i < n) p->type = s[i++];
    return i == n || rm_tmpl_fail(r, "format '%.*s' is not supported", (int)(n > 40 ? 40 : n), s);
}

/* The value that "{FIELD...}" names: empty, a number, a name; then .attr and [item] are not supported. */
static bool field_value(rm_run *r, const char *s, size_t n, const rm_args *args, int *automatic, rm_val *out) {
    size_t at = 0;
    int number;
    if (n == 0) {
        number = (*automatic)++;
    } else if (!small_number(s, n, &at, &number) || at < n) {
        for (int i = 0; i < args->n_kw; i++)
            if (args->kw[i].key.n == n && !memcmp(args->kw[i].key.s, s, n)) {
                *out = args->kw[i].val;
                return true;
            }
        return rm_tmpl_fail(r, "format: no argument '%.*s'", (int)(n > 60 ? 60 : n), s);
    }
    if (number + 1 >= args->n) return rm_tmpl_fail(r, "format: no argument number %d", number);
    *out = args->v[number + 1];
    return true;
}

static bool braces(rm_run *r, const rm_val *f, const rm_args *args, rm_strbuf *out) {
    int automatic = 0;
    for (size_t i = 0; i < f->n; i++) {
        char c = f->s[i];
        if (c != '{' && c != '}') {
            rm_strbuf_putc(out, c);
            continue;
        }
        if (i + 1 < f->n && f->s[i + 1] == c) {
            rm_strbuf_putc(out, c);
            i++;
            continue;
        }
        const char *end = c == '{' ? memchr(f->s + i, '}', f->n - i) : NULL;
        if (!end || !rm_tmpl_charge(r, 1)) return end ? false : rm_tmpl_fail(r, "single '%c' in a format", c);
        const char *s = f->s + i + 1;
        size_t n = (size_t)(end - s), name = 0;
        while (name < n && s[name] != ':' && s[name] != '!') name++;
        spec p = {.fill = ' ', .precision = -1};
        size_t at = name;
        rm_val v;
        if (at + 1 < n && s[at] == '!') {
            p.type = s[at + 1];
            at += 2;
        }
        if (at < n && s[at] == ':') {
            char conversion = p.type;
            if (!parse_spec(r, s + at + 1, n - at - 1, &p)) return false;
            if (conversion) p.type = conversion;
        } else if (at < n) {
            return rm_tmpl_fail(r, "format '%.*s' is not supported", (int)(n > 40 ? 40 : n), s);
        }
        if (!field_value(r, s, name, args, &automatic, &v) || !put_value(r, &v, &p, out)) return false;
        if (out->n > RM_MAX_OUTPUT) return rm_tmpl_fail(r, "a text grows beyond %d bytes", RM_MAX_OUTPUT);
        i = (size_t)(end - f->s);
    }
    return true;
}

bool rm_tmpl_format_braces(rm_run *r, const rm_val *format, const rm_args *args, rm_val *out) {
    rm_strbuf b = {0};
    if (braces(r, format, args, &b)) return rm_tmpl_take(r, &b, out);
    rm_strbuf_free(&b);
    return false;
}
