/* The date strategy of the reference scorer: the part of dateutil's parser that dates without a time of day need. What would
 * depend on the day of the run (missing parts, two-digit years), times of day and time zones give no date. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/scorer.h"
#include "util/mem.h"

typedef struct {
    rm_sv *v;
    size_t n, cap;
    bool failed;
} tokens;

typedef struct {
    int v[3];
    int n, year, month; /* year, month: which value is marked so, or -1 */
    bool as_text;
} ymd;

/* Digits beyond ASCII are written as 0x10 + value: they count in some places only. */
static bool foreign(char c) { return c >= 0x10 && c <= 0x19; }
static bool digit(char c) { return (c >= '0' && c <= '9') || foreign(c); }
static bool alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool in_list(rm_sv w, const char *list) { /* list: words with a space before and behind each */
    if (w.n == 0 || w.n > 12 || memchr(w.s, ' ', w.n)) return false;
    char key[16];
    snprintf(key, sizeof key, " %.*s ", (int)w.n, w.s);
    return strstr(list, key) != NULL;
}

static bool is_space(rm_sv w) { return rm_sv_is(w, " "); }
static bool is_jump(rm_sv w) { return is_space(w) || in_list(w, " . , ; - / ' at on and ad m t of st nd rd th "); }
static bool is_hms(rm_sv w) { return in_list(w, " h hour hours m minute minutes s second seconds "); }
static bool is_ampm(rm_sv w) { return in_list(w, " am a pm p "); }
static bool is_weekday(rm_sv w) { return in_list(w, " monday mon tuesday tue wednesday wed thursday thu friday fri saturday sat sunday sun "); }

static int month_of(rm_sv w) {
    static const char *const names[] = {"january", "february", "march",     "april",   "may",      "june",
                                        "july",    "august",   "september", "october", "november", "december"};
    if (rm_sv_is(w, "sept")) return 9;
    for (int i = 0; i < 12; i++) {
        if (rm_sv_is(w, names[i]) || (w.n == 3 && memcmp(w.s, names[i], 3) == 0)) return i + 1;
    }
    return 0;
}

static bool all_digits(rm_sv w) {
    for (size_t i = 0; i < w.n; i++) {
        if (!digit(w.s[i])) return false;
    }
    return w.n > 0;
}

static int value_of(rm_sv w) { /* of digits; large numbers are all alike here */
    long v = 0;
    for (size_t i = 0; i < w.n && v < 1000000; i++) v = v * 10 + (w.s[i] & 15);
    return v > 1000000 ? 1000000 : (int)v;
}

static void push(tokens *t, rm_sv w) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 32;
        rm_sv *v = rm_realloc_array(t->v, cap, sizeof *v);
        if (!v) {
            t->failed = true;
            return;
        }
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = w;
}

/* One run of letters or digits with the dots and commas that belong to it. buf: s made writable (commas become dots). */
static size_t lex_run(char *buf, size_t n, size_t i, tokens *t) {
    size_t start = i;
    enum { WORD, NUMBER, WORD_DOT, NUMBER_DOT } state = alpha(buf[i]) ? WORD : NUMBER;
    bool letters = state == WORD;
    for (i++; i < n; i++) {
        char c = buf[i];
        bool after_dot = buf[i - 1] == '.';
        if (state == WORD) {
            if (c == '.')
                state = WORD_DOT;
            else if (!alpha(c))
                break;
        } else if (state == NUMBER) {
            if (c == '.' || (c == ',' && i - start >= 2))
                state = NUMBER_DOT;
            else if (!digit(c))
                break;
        } else if (state == WORD_DOT) {
            if (c == '.' || alpha(c))
                letters = true;
            else if (digit(c) && after_dot)
                state = NUMBER_DOT;
            else
                break;
        } else {
            if (alpha(c) && after_dot) {
                state = WORD_DOT;
                letters = true;
            } else if (c != '.' && !digit(c)) {
                break;
            }
        }
    }
    rm_sv w = {buf + start, i - start};
    size_t dots = 0;
    for (size_t k = 0; k < w.n; k++) dots += w.s[k] == '.';
    char last = w.s[w.n - 1];
    if ((state == WORD_DOT || state == NUMBER_DOT) && (letters || dots > 1 || last == '.' || last == ',')) {
        size_t from = 0;
        for (size_t k = 0; k <= w.n; k++) {
            if (k < w.n && w.s[k] != '.' && w.s[k] != ',') continue;
            if (k > from) push(t, rm_sv_cut(w, from, k));
            if (k < w.n) push(t, rm_sv_cut(w, k, k + 1));
            from = k + 1;
        }
    } else {
        if (state == NUMBER_DOT && dots == 0) {
            for (size_t k = start; k < i; k++) {
                if (buf[k] == ',') buf[k] = '.';
            }
        }
        push(t, w);
    }
    return i;
}

static bool add(ymd *d, rm_sv text, int month) {
    if (!month) {
        if (!all_digits(text)) return false;
        if (d->as_text ? text.n > 2 : value_of(text) > 100) {
            if (d->year >= 0) return false;
            d->year = d->n;
        }
    } else {
        if (d->month >= 0) return false;
        d->month = d->n;
    }
    if (d->n == 3) return false;
    d->v[d->n++] = month ? month : value_of(text);
    return true;
}

/* (year, month, day), 0 where not given (-1: given as 0). */
static void resolve(const ymd *d, int out[3]) {
    const int *v = d->v;
    int n = d->n, known = (d->year >= 0) + (d->month >= 0);
    int y = -2, m = -2, day = -2;
    if ((n == known && n > 0) || (n == 3 && known == 2)) {
        if (d->year >= 0) y = v[d->year];
        if (d->month >= 0) m = v[d->month];
        if (n == 3) day = v[3 - d->year - d->month];
    } else if (n == 1 || (d->month >= 0 && n == 2)) {
        if (d->month >= 0) m = v[d->month];
        if (!(n == 1 && d->month >= 0)) {
            int other = d->month < 0 ? v[0] : v[1 - d->month];
            if (other > 31)
                y = other;
            else
                day = other;
        }
    } else if (n == 2) {
        if (v[0] > 31)
            y = v[0], m = v[1];
        else if (v[1] > 31)
            y = v[1], m = v[0];
        else
            m = v[0], day = v[1];
    } else if (n == 3) {
        if (d->month == 0) {
            bool second = v[1] > 31;
            m = v[0], y = second ? v[1] : v[2], day = second ? v[2] : v[1];
        } else if (d->month == 1) {
            bool first = v[0] > 31;
            m = v[1], y = first ? v[0] : v[2], day = first ? v[2] : v[0];
        } else if (d->month == 2) {
            bool second = v[1] > 31;
            m = v[2], y = second ? v[1] : v[0], day = second ? v[0] : v[1];
        } else if (v[0] > 31 || d->year == 0) {
            y = v[0], m = v[1], day = v[2];
        } else if (v[0] > 12) {
            y = v[2], m = v[1], day = v[0];
        } else {
            y = v[2], m = v[0], day = v[1];
        }
    }
    out[0] = y;
    out[1] = m;
    out[2] = day;
}

static int month_days(int y, int m) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    return m < 1 || m > 12 ? 0 : m == 2 && leap ? 29 : days[m - 1];
}

static bool could_be_day(const ymd *d, int v) {
    if (v < 1 || v > 31) return false;
    if (d->month < 0) return true;
    int y = d->year < 0 ? 2000 : d->v[d->year];
    return y >= 1 && y <= 9999 && v <= month_days(y, d->v[d->month]);
}

/* A number and what belongs to it; *i stands on it and is left on the last token used. */
static bool number(const tokens *tk, size_t *at, ymd *d) {
    const rm_sv *t = tk->v;
    size_t n = tk->n, i = *at;
    rm_sv w = t[i], none = {"", 0};
    const char *dot = memchr(w.s, '.', w.n);
    size_t dot_at = dot ? (size_t)(dot - w.s) : SIZE_MAX;
    if (w.n == 6 || w.n == 8 || w.n == 12 || w.n == 14 || dot_at == 6) return false;
    for (size_t k = 0; k < w.n; k++) {
        if (foreign(w.s[k])) return false;
    }
    bool has_next = i + 1 < n;
    rm_sv next = has_next ? t[i + 1] : none, next2 = i + 2 < n ? t[i + 2] : none;
    if (d->n == 3 && (w.n == 2 || w.n == 4) && (!has_next || is_space(next))) return false; /* a time of day */
    if (is_hms(next) || (is_space(next) && is_hms(next2))) return false;
    if ((i > 0 && is_hms(t[i - 1])) || (i == n - 1 && i > 1 && is_space(t[i - 1]) && is_hms(t[i - 2]))) return false;
    if (rm_sv_is(next, ":") && i + 2 < n) return false;
    if (rm_sv_is(next, "-") || rm_sv_is(next, "/") || rm_sv_is(next, ".")) {
        d->as_text = true;
        if (!add(d, w, 0)) return false;
        if (i + 2 < n && !is_jump(next2)) {
            int m = all_digits(next2) ? 0 : month_of(next2);
            if (!add(d, next2, m)) return false;
            if (i + 3 < n && rm_sv_eq(t[i + 3], next)) {
                if (i + 4 >= n || !add(d, t[i + 4], month_of(t[i + 4]))) return false;
                i += 2;
            }
            i++;
        }
        i++;
    } else if (!has_next || is_jump(next)) {
        if (is_ampm(next2)) return false;
        d->as_text = false;
        rm_sv whole = dot ? rm_sv_cut(w, 0, dot_at) : w;
        if (!add(d, whole.n ? whole : RM_SV("0"), 0)) return false;
        i++;
    } else if (!is_ampm(next) && !dot && could_be_day(d, value_of(w))) {
        d->as_text = false;
        if (!add(d, w, 0)) return false;
    } else {
        return false;
    }
    *at = i;
    return true;
}

static bool month_word(const tokens *tk, size_t *at, ymd *d) {
    const rm_sv *t = tk->v;
    size_t n = tk->n, i = *at;
    if (!add(d, t[i], month_of(t[i]))) return false;
    if (i + 1 < n && (rm_sv_is(t[i + 1], "-") || rm_sv_is(t[i + 1], "/"))) {
        d->as_text = true;
        if (i + 2 >= n || !add(d, t[i + 2], 0)) return false;
        if (i + 3 < n && rm_sv_eq(t[i + 3], t[i + 1])) {
            if (i + 4 >= n || !add(d, t[i + 4], 0)) return false;
            i += 2;
        }
        i += 2;
    } else if (i + 4 < n && is_space(t[i + 1]) && is_space(t[i + 3]) && rm_sv_is(t[i + 2], "of") && all_digits(t[i + 4])) {
        d->as_text = true;
        if (d->year >= 0 || value_of(t[i + 4]) < 100 || d->n == 3) return false; /* two digits: depends on the day of the run */
        d->year = d->n;
        d->v[d->n++] = value_of(t[i + 4]);
        i += 4;
    }
    *at = i;
    return true;
}

static bool parse(const tokens *tk, int out[3]) {
    ymd d = {.year = -1, .month = -1, .as_text = true};
    for (size_t i = 0; i < tk->n; i++) {
        rm_sv w = tk->v[i];
        if (digit(w.s[0]) || (w.s[0] == '.' && w.n > 1 && digit(w.s[1]))) {
            if (!number(tk, &i, &d)) return false;
        } else if (is_weekday(w)) {
            continue;
        } else if (month_of(w)) {
            if (!month_word(tk, &i, &d)) return false;
        } else if (is_ampm(w) || !is_jump(w)) {
            return false;
        }
    }
    resolve(&d, out);
    if (out[0] == -2 && out[1] == -2 && out[2] == -2) return false;
    return !(out[0] >= 0 && out[0] < 100 && d.year < 0); /* two-digit year */
}

void rm_ref_date(const rm_grader *g, rm_sv lowered, rm_strbuf *out) {
    rm_strbuf s = {0};
    tokens t = {0};
    rm_re_sub(g->re[RE_ORDINAL], lowered, "\\1", &s);
    rm_sv v = rm_sv_buf(&s);
    bool has_year = rm_re_search(g->re[RE_HAS_YEAR], v, 0, NULL);
    bool has_month = rm_re_search(g->re[RE_HAS_MONTH], v, 0, NULL) || rm_re_search(g->re[RE_HAS_DD], v, 0, NULL);
    bool ok = has_year && s.n && !s.failed; /* without a year the reference fills in today's */
    rm_strbuf b = {0};
    for (size_t i = 0, len; ok && i < v.n; i += len) {
        unsigned c = rm_sv_cp(v, i, &len);
        if (rm_uni_space(c))
            rm_strbuf_putc(&b, ' ');
        else if (c < 0x80)
            rm_strbuf_putc(&b, c < ' ' ? 1 : (char)c);
        else if (rm_uni_digit(c))
            rm_strbuf_putc(&b, (char)(0x10 + rm_uni_digit_value(c)));
        else
            ok = false; /* letters and signs beyond ASCII are in no table of the parser */
    }
    for (size_t i = 0; ok && i < b.n;) {
        if (alpha(b.s[i]) || digit(b.s[i]))
            i = lex_run(b.s, b.n, i, &t);
        else
            push(&t, (rm_sv){b.s + i++, 1});
    }
    int d[3];
    if (ok && !t.failed && !b.failed && parse(&t, d)) {
        bool fine = d[0] >= 1 && d[0] <= 9999 && (d[1] == -2 || (d[1] >= 1 && d[1] <= 12)) && (d[2] == -2 || (d[2] >= 1 && d[2] <= 31)) &&
                    (d[1] == -2 || d[2] == -2 || d[2] <= month_days(d[0], d[1]));
        bool has_day = has_month && rm_re_search(g->re[RE_HAS_DAY], v, 0, NULL);
        if (fine && has_day && d[1] > 0 && d[2] > 0)
            rm_strbuf_printf(out, "%d-%02d-%02d", d[0], d[1], d[2]);
        else if (fine && has_month && !has_day && d[1] > 0)
            rm_strbuf_printf(out, "%d-%02d", d[0], d[1]);
        else if (fine && !has_month)
            rm_strbuf_printf(out, "%d", d[0]);
    }
    out->failed |= s.failed || t.failed || b.failed;
    rm_free(t.v);
    rm_strbuf_free(&b);
    rm_strbuf_free(&s);
}
