/* The reference scorer: what the reference implementation's answer functions return, leniencies and oddities included.
 * Section numbers are those of docs/EVALUATION.md. Dates: refdate.c. Programs are run in program.c. */
#define _GNU_SOURCE /* memrchr */
#include <math.h>
#include <mpfr.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/scorer.h"
#include "util/mem.h"

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

/* ---- boxes and predictions ------------------------------------------------------------------------------------------ */

/* The last \boxed{...} without braces inside; if there is none, the last line's first \boxed{ up to that line's last brace. */
static bool boxed(rm_sv t, rm_sv *out) {
    const rm_sv open = RM_SV("\\boxed{");
    bool flat = false, nested = false;
    size_t flat_at = 0, flat_end = 0, nested_at = 0, nested_end = 0;
    size_t line_done = 0; /* end of the line whose first box has been looked at */
    for (size_t at = 0; (at = rm_sv_find(t, open, at)) != SIZE_MAX;) {
        size_t k = at + open.n, e = k;
        while (e < t.n && t.s[e] != '{' && t.s[e] != '}') e++;
        if (e < t.n && t.s[e] == '}' && e > k) {
            flat = true;
            flat_at = k;
            flat_end = e;
        }
        if (k > line_done) {
            const char *lf = memchr(t.s + k, '\n', t.n - k);
            line_done = lf ? (size_t)(lf - t.s) : t.n;
            const char *brace = memrchr(t.s + k, '}', line_done - k);
            if (brace) {
                nested = true;
                nested_at = k;
                nested_end = (size_t)(brace - t.s);
            }
        }
        at = k;
    }
    if (flat) *out = rm_sv_strip(rm_sv_cut(t, flat_at, flat_end));
    if (!flat && nested) *out = rm_sv_strip(rm_sv_cut(t, nested_at, nested_end));
    return flat || nested;
}

static bool last_group(const rm_re *re, rm_sv t, rm_sv *out) {
    rm_match m;
    bool any = false;
    for (size_t from = 0; rm_re_search(re, t, from, &m); from = m.end[0]) {
        *out = rm_group(t, &m, 1);
        any = true;
    }
    return any;
}

static bool prediction(const rm_grader *g, rm_sv t, rm_sv *out) {
    if (boxed(t, out)) return true;
    if (last_group(g->re[RE_FINAL_ANSWER], t, out)) {
        *out = rm_sv_strip(*out);
        if (out->n) return true;
    }
    *out = rm_sv_strip(t);
    return out->n > 0;
}

/* ---- letters --------------------------------------------------------------------------------------------------------- */

static char letter_core(const rm_grader *g, rm_sv s) {
    rm_match m;
    s = rm_sv_strip(s);
    if (!s.n) return 0;
    if (!rm_re_search(g->re[RE_KEYWORD_LETTER], s, 0, &m) && !rm_re_match(g->re[RE_FIRST_LETTER], s, 0, &m)) return 0;
    return (char)(s.s[m.start[1]] & ~0x20);
}

static char letter_of_text(const rm_grader *g, rm_sv t, char fallback) {
    rm_sv v;
    char c = 0;
    if (boxed(t, &v)) c = letter_core(g, v);
    if (!c && last_group(g->re[RE_FINAL_CHOICE], t, &v)) c = letter_core(g, v);
    if (!c) c = letter_core(g, t);
    return c ? c : fallback;
}

/* ---- normal forms of math500 ------------------------------------------------------------------------------------------ */

static void ascii_integer(rm_strbuf *out, rm_sv digits) {
    for (size_t i = 0, len; i < digits.n; i += len) {
        unsigned c = rm_sv_cp(digits, i, &len);
        rm_strbuf_putc(out, c == '-' ? '-' : (char)('0' + rm_uni_digit_value(c)));
    }
}

enum { MAX_INT_DIGITS = 4300 }; /* Python refuses to read longer integers */

/* Appends the quotient of two integers as Python prints it. False where the reference raises. */
static bool quotient(rm_sv a, rm_sv b, rm_strbuf *out, bool *zero) {
    rm_strbuf x = {0}, y = {0};
    ascii_integer(&x, a);
    ascii_integer(&y, b);
    bool ok = x.n <= MAX_INT_DIGITS + 1 && y.n <= MAX_INT_DIGITS + 1 && !x.failed && !y.failed;
    if (ok) {
        mpq_t q;
        mpfr_t f;
        mpq_init(q);
        mpfr_init2(f, 53);
        mpz_set_str(mpq_numref(q), x.s, 10);
        mpz_set_str(mpq_denref(q), y.s, 10);
        *zero = mpz_sgn(mpq_denref(q)) == 0;
        if (!*zero) {
            mpq_canonicalize(q);
            mpfr_set_q(f, q, MPFR_RNDN);
            double v = mpfr_get_d(f, MPFR_RNDN);
            ok = isfinite(v);
            if (ok) rm_strbuf_double(out, v);
        }
        mpq_clear(q);
        mpfr_clear(f);
    }
    rm_strbuf_free(&x);
    rm_strbuf_free(&y);
    return ok;
}

static void replace_in(rm_strbuf *b, const char *what, const char *with) {
    rm_strbuf next = {0};
    rm_sv_replace(&next, rm_sv_buf(b), what, with);
    if (b->failed) next.failed = true;
    rm_strbuf_free(b);
    *b = next;
}

static void intpart(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    rm_strbuf t = {0}, u = {0};
    rm_re_sub(g->re[RE_LATEX_TEXT], rm_sv_strip(s), "\\1", &t);
    size_t at = 0;
    rm_match m;
    bool raises = false;
    for (rm_sv v = rm_sv_buf(&t); !raises && rm_re_search(g->re[RE_LATEX_FRAC], v, at, &m); at = m.end[0]) {
        bool zero = false;
        rm_strbuf_add(&u, v.s + at, m.start[0] - at);
        raises = !quotient(rm_group(v, &m, 1), rm_group(v, &m, 2), &u, &zero);
        if (zero) rm_strbuf_add(&u, v.s + m.start[0], m.end[0] - m.start[0]);
    }
    rm_strbuf_add(&u, t.s + at, t.n - at);
    rm_strbuf_free(&t);
    replace_in(&u, "\\left", "");
    replace_in(&u, "\\right", "");
    replace_in(&u, ",", "");
    replace_in(&u, "\\circ", "");
    rm_sv v = rm_sv_buf(&u);
    size_t i = 0, len, end, n_digit = 0;
    while (i < v.n && !rm_uni_digit(rm_sv_cp(v, i, &len))) i += len;
    for (end = i; end < v.n && rm_uni_digit(rm_sv_cp(v, end, &len)); end += len) n_digit++;
    if (!raises && n_digit && n_digit <= MAX_INT_DIGITS) {
        bool negative = i > 0 && v.s[i - 1] == '-';
        rm_strbuf digits = {0};
        ascii_integer(&digits, rm_sv_cut(v, i, end));
        rm_sv d = rm_sv_buf(&digits);
        while (d.n > 1 && d.s[0] == '0') d = rm_sv_from(d, 1);
        if (negative && !rm_sv_is(d, "0")) rm_strbuf_putc(out, '-');
        rm_strbuf_add(out, d.s, d.n);
        rm_strbuf_free(&digits);
    }
    out->failed |= u.failed;
    rm_strbuf_free(&u);
}

static void latex_text(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    static const char *const drop[] = {"\\left", "\\right", "$", "\\,", "\\;", "\\!", "\\:", "{", "}", "\"", "'"};
    rm_strbuf t = {0};
    rm_re_sub(g->re[RE_LATEX_TEXT], rm_sv_strip(s), "\\1", &t);
    for (size_t i = 0; i < RM_COUNT(drop); i++) replace_in(&t, drop[i], "");
    rm_sv_drop_space(out, rm_sv_buf(&t));
    out->failed |= t.failed;
    rm_strbuf_free(&t);
}

static void nospace(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    (void)g;
    rm_sv_drop_space(out, s);
}

static void digits(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    (void)g;
    bool any = false;
    for (size_t i = 0, len; i < s.n && s.s[i] != '.'; i += len) {
        unsigned c = rm_sv_cp(s, i, &len);
        if (!rm_uni_digit(c)) continue;
        any = true;
        if (c != '0' || out->n) rm_strbuf_add(out, s.s + i, len);
    }
    if (any && !out->n) rm_strbuf_putc(out, '0');
}

/* ---- normal forms of everything else ---------------------------------------------------------------------------------- */

static void lower(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    (void)g;
    rm_strbuf t = {0}, u = {0};
    rm_sv_lower(&t, rm_sv_strip(s));
    rm_sv v = rm_sv_buf(&t);
    for (size_t i = 0, len; i < v.n; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (c == 0x2019 || c == '`')
            rm_strbuf_putc(&u, '\'');
        else if (c >= 0x2010 && c <= 0x2015)
            rm_strbuf_putc(&u, '-');
        else
            rm_strbuf_add(&u, v.s + i, len);
    }
    rm_strbuf_clear(&t);
    rm_sv_collapse(&t, rm_sv_strip(rm_sv_buf(&u)));
    rm_strbuf_add(out, rm_str(&t), t.n);
    out->failed |= t.failed || u.failed;
    rm_strbuf_free(&t);
    rm_strbuf_free(&u);
}

static void em(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    rm_strbuf t = {0}, u = {0};
    lower(g, s, &t);
    rm_sv v = rm_sv_buf(&t);
    for (size_t i = 0, len; i < v.n; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (rm_uni_word(c) || rm_uni_space(c))
            rm_strbuf_add(&u, v.s + i, len);
        else
            rm_strbuf_putc(&u, ' ');
    }
    rm_strbuf_clear(&t);
    rm_re_sub(g->re[RE_ARTICLES], rm_sv_buf(&u), " ", &t);
    rm_sv_collapse(out, rm_sv_strip(rm_sv_buf(&t)));
    out->failed |= t.failed || u.failed;
    rm_strbuf_free(&t);
    rm_strbuf_free(&u);
}

static void date(const rm_grader *g, rm_sv s, rm_strbuf *out) {
    rm_strbuf t = {0};
    lower(g, s, &t);
    rm_ref_date(g, rm_sv_buf(&t), out);
    out->failed |= t.failed;
    rm_strbuf_free(&t);
}

typedef struct {
    const char *name;
    void (*form)(const rm_grader *g, rm_sv s, rm_strbuf *out);
} strategy;
static const strategy math_strategies[] = {{"intpart", intpart}, {"latex_text", latex_text}, {"nospace", nospace}, {"digits", digits}};
static const strategy other_strategies[] = {{"date", date}, {"em", em}, {"lower", lower}};

/* ---- records ---------------------------------------------------------------------------------------------------------- */

static rm_sv gold_of(rm_sv gold, bool gsm8k) {
    if (gsm8k) {
        size_t at = rm_sv_find(gold, RM_SV("####"), 0);
        if (at != SIZE_MAX) {
            rm_sv rest = rm_sv_strip(rm_sv_from(gold, at + 4));
            if (rest.n) return rest;
        }
    }
    return rm_sv_strip(gold);
}

static char *joined(const char *name, const char *form) {
    rm_strbuf b = {0};
    rm_strbuf_printf(&b, "%s:%s", name, form);
    return rm_strbuf_take(&b);
}

static bool grade_free(const rm_grader *g, const char *dataset, rm_sv t, rm_sv gold, rm_ref_grade *r) {
    bool math = strcmp(dataset, "math500") == 0;
    rm_sv p, box, gd = gold_of(gold, strcmp(dataset, "gsm8k") == 0);
    bool has = prediction(g, t, &p);
    if (!(r->gold = rm_sv_dup(gd))) return false;
    if (boxed(t, &box) && !(r->boxed = rm_sv_dup(box))) return false;
    int hit = -1, shown = -1;
    if (has) {
        if (!(r->pred = rm_sv_dup(p))) return false;
        const strategy *s = math ? math_strategies : other_strategies;
        int n = math ? (int)RM_COUNT(math_strategies) : (int)RM_COUNT(other_strategies);
        for (int i = 0; i < n; i++) {
            rm_strbuf a = {0}, b = {0};
            s[i].form(g, gd, &a);
            s[i].form(g, p, &b);
            r->norm_name[i] = s[i].name;
            r->norm_gold[i] = rm_strbuf_take(&a);
            r->norm_pred[i] = rm_strbuf_take(&b);
            r->n_norm = i + 1;
            if (!r->norm_gold[i] || !r->norm_pred[i]) return false;
            const char *x = r->norm_gold[i], *y = r->norm_pred[i];
            if (hit < 0 && *x && strcmp(x, y) == 0) hit = i;
            if (shown < 0 && *x && *y) shown = i;
        }
        if (hit >= 0) {
            shown = hit;
            if (!(r->strategy = rm_strdup(s[hit].name))) return false;
        }
        r->correct = hit >= 0;
    }
    r->gold_norm = shown >= 0 ? joined(r->norm_name[shown], r->norm_gold[shown]) : rm_strdup("");
    r->pred_norm = shown >= 0 ? joined(r->norm_name[shown], r->norm_pred[shown]) : rm_strdup("");
    return r->gold_norm && r->pred_norm;
}

static char *one_letter(const char *prefix, char c) {
    rm_strbuf b = {0};
    rm_strbuf_printf(&b, "%s%c", prefix, c);
    return rm_strbuf_take(&b);
}

static bool grade_choice(const rm_grader *g, rm_sv t, rm_sv gold, rm_ref_grade *r) {
    char gl = letter_of_text(g, gold, 'A'), pl = letter_of_text(g, t, 0);
    rm_sv box;
    if (boxed(t, &box) && !(r->boxed = rm_sv_dup(box))) return false;
    if (pl && !(r->letter = one_letter("", pl))) return false;
    if (!pl) pl = 'A';
    r->gold = one_letter("", gl);
    r->pred = one_letter("", pl);
    r->gold_norm = one_letter("choice:", (char)(gl | 0x20));
    r->pred_norm = one_letter("choice:", (char)(pl | 0x20));
    r->correct = gl == pl;
    return r->gold && r->pred && r->gold_norm && r->pred_norm;
}

/* Deletes <think>...</think>; an element that is never closed stays. */
static void without_thinking(const rm_grader *g, rm_sv t, rm_strbuf *out) {
    size_t at = 0;
    rm_match a, b;
    while (rm_re_search(g->re[RE_THINK_OPEN], t, at, &a) && rm_re_search(g->re[RE_THINK_CLOSE], t, a.end[0], &b)) {
        rm_strbuf_add(out, t.s + at, a.start[0] - at);
        at = b.end[0];
    }
    rm_strbuf_add(out, t.s + at, t.n - at);
}

static void extract_program(const rm_grader *g, rm_sv t, rm_strbuf *out) {
    rm_match m;
    if (!rm_re_search(g->re[RE_PYTHON_FENCE], t, 0, &m)) return;
    size_t end = rm_sv_find(t, RM_SV("```"), m.end[0]);
    if (end == SIZE_MAX) return;
    rm_sv code = rm_sv_strip(rm_sv_cut(t, m.end[0], end)), line;
    rm_strbuf b = {0};
    bool first = true;
    for (size_t at = 0; rm_sv_next_line(code, &at, &line);) {
        if (rm_sv_starts(rm_sv_strip(line), "```")) continue;
        if (!first) rm_strbuf_putc(&b, '\n');
        rm_strbuf_add(&b, line.s, line.n);
        first = false;
    }
    rm_sv v = rm_sv_strip(rm_sv_buf(&b));
    size_t at = 0;
    if (rm_sv_next_line(v, &at, &line)) {
        rm_strbuf low = {0};
        rm_sv_lower(&low, rm_sv_strip(line));
        if (rm_sv_is(rm_sv_buf(&low), "python")) v = rm_sv_strip(rm_sv_from(v, at));
        b.failed |= low.failed;
        rm_strbuf_free(&low);
    }
    rm_strbuf_add(out, v.s, v.n);
    out->failed |= b.failed;
    rm_strbuf_free(&b);
}

static bool grade_code(const rm_grader *g, rm_sv t, rm_ref_grade *r) {
    rm_strbuf b = {0}, code = {0};
    without_thinking(g, t, &b);
    rm_sv clean = rm_sv_strip(rm_sv_buf(&b));
    r->cleaned = b.failed ? NULL : rm_sv_dup(clean);
    extract_program(g, clean, &code);
    r->parse_ok = code.n > 0;
    r->code = rm_strbuf_take(&code);
    rm_strbuf_free(&b);
    return r->cleaned && r->code;
}

rmas_status rm_grade_reference(const rm_grader *g, const char *dataset, const char *text, size_t n, const char *gold, rm_ref_grade *out,
                               rmas_error *err) {
    rm_strbuf t = {0}, gd = {0};
    *out = (rm_ref_grade){0};
    rm_sv_clean(&t, text, n);
    rm_sv_clean(&gd, gold ? gold : "", gold ? strlen(gold) : 0);
    bool ok = !t.failed && !gd.failed;
    if (ok) {
        rm_kind kind = rm_dataset_kind(dataset);
        if (kind == RM_KIND_CODE)
            ok = grade_code(g, rm_sv_buf(&t), out);
        else if (kind == RM_KIND_CHOICE)
            ok = grade_choice(g, rm_sv_buf(&t), rm_sv_buf(&gd), out);
        else
            ok = grade_free(g, dataset, rm_sv_buf(&t), rm_sv_buf(&gd), out);
        if (!gold) out->correct = false;
    }
    rm_strbuf_free(&t);
    rm_strbuf_free(&gd);
    if (ok) return RMAS_OK;
    rm_ref_grade_free(out);
    return no_memory(err);
}

void rm_ref_grade_free(rm_ref_grade *r) {
    rm_free(r->gold);
    rm_free(r->pred);
    rm_free(r->gold_norm);
    rm_free(r->pred_norm);
    rm_free(r->strategy);
    rm_free(r->boxed);
    rm_free(r->letter);
    rm_free(r->cleaned);
    rm_free(r->code);
    for (int i = 0; i < r->n_norm; i++) {
        rm_free(r->norm_gold[i]);
        rm_free(r->norm_pred[i]);
    }
    *r = (rm_ref_grade){0};
}

rmas_status rm_reply_has_answer(const rm_grader *g, rm_kind kind, const char *text, size_t n, bool *has, rmas_error *err) {
    rm_strbuf t = {0}, clean = {0}, code = {0};
    rm_sv box;
    rm_sv_clean(&t, text, n);
    rm_sv v = rm_sv_buf(&t);
    if (kind == RM_KIND_CODE) {
        without_thinking(g, v, &clean);
        extract_program(g, rm_sv_strip(rm_sv_buf(&clean)), &code);
        *has = code.n > 0;
    } else {
        *has = kind == RM_KIND_CHOICE ? letter_of_text(g, v, 0) != 0 : boxed(v, &box);
    }
    bool failed = t.failed || clean.failed || code.failed;
    rm_strbuf_free(&t);
    rm_strbuf_free(&clean);
    rm_strbuf_free(&code);
    return failed ? no_memory(err) : RMAS_OK;
}

/* ---- the gold of medqa ------------------------------------------------------------------------------------------------ */

static rm_sv without_label(const rm_grader *g, rm_sv option) {
    rm_match m;
    return rm_re_match(g->re[RE_OPTION_LABEL], option, 0, &m) ? rm_sv_from(option, m.end[0]) : option;
}

/* The words of an option or answer: without its label, white space collapsed, in small letters. */
static void option_words(const rm_grader *g, rm_sv option, rm_strbuf *out) {
    rm_strbuf t = {0};
    rm_sv_collapse(&t, rm_sv_strip(without_label(g, option)));
    rm_sv_lower(out, rm_sv_buf(&t));
    out->failed |= t.failed;
    rm_strbuf_free(&t);
}

rmas_status rm_medqa_gold(const rm_grader *g, const char *answer, const char *const *option, int n_option, char *reference, char *strict,
                          rmas_error *err) {
    rm_strbuf words = {0}, b = {0};
    rm_sv ans = rm_sv_of(answer);
    char ref = letter_of_text(g, ans, 0);
    *strict = 0;
    for (int i = 0; i < n_option && !*strict; i++) {
        rm_sv o = rm_sv_of(option[i]);
        bool same = rm_sv_eq(rm_sv_strip(without_label(g, o)), rm_sv_strip(ans));
        if (same) *strict = (char)('A' + i);
    }
    if (!ref) option_words(g, ans, &words);
    rm_sv a = rm_sv_buf(&words);
    for (int i = 0; i < n_option && !ref && a.n; i++) {
        char label = letter_core(g, rm_sv_of(option[i])); /* an option without a letter cannot be the gold */
        rm_strbuf_clear(&b);
        option_words(g, rm_sv_of(option[i]), &b);
        rm_sv t = rm_sv_buf(&b);
        if (rm_sv_find(a, t, 0) != SIZE_MAX || rm_sv_find(t, a, 0) != SIZE_MAX) ref = label;
        if (b.failed) break;
    }
    bool ok = !words.failed && !b.failed;
    rm_strbuf_free(&words);
    rm_strbuf_free(&b);
    *reference = ref ? ref : 'A';
    return ok ? RMAS_OK : no_memory(err);
}
