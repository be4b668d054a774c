/* Strict scorer: the answer that a reply gives, and the verdict on it. Only what is visible counts: no thinking, no tool results. */
#include "eval/strict.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/mem.h"

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

static size_t find_tag(rm_sv v, const char *tag, size_t from) {
    size_t n = strlen(tag);
    while (from < v.n && v.n - from >= n) {
        const char *lt = memchr(v.s + from, '<', v.n - from - n + 1);
        if (!lt) break;
        from = (size_t)(lt - v.s);
        if (strncasecmp(lt, tag, n) == 0) return from;
        from++;
    }
    return SIZE_MAX;
}

/* What may hold the answer: behind the last </think>, tool calls and results taken out. False: nothing (thinking never ended). */
static bool visible(rm_sv t, rm_strbuf *out) {
    static const char *const tags[3][2] = {{"<python>", "</python>"}, {"<search>", "</search>"}, {"<result>", "</result>"}};
    size_t end = SIZE_MAX;
    for (size_t at = 0; (at = find_tag(t, "</think>", at)) != SIZE_MAX; at++) end = at;
    if (end != SIZE_MAX)
        t = rm_sv_from(t, end + 8);
    else if (find_tag(t, "<think>", 0) != SIZE_MAX)
        return false;
    size_t open[3], at = 0;
    for (int k = 0; k < 3; k++) open[k] = find_tag(t, tags[k][0], 0);
    for (;;) {
        int first = -1;
        for (int k = 0; k < 3; k++) {
            if (open[k] != SIZE_MAX && open[k] < at) open[k] = find_tag(t, tags[k][0], at);
            if (open[k] != SIZE_MAX && (first < 0 || open[k] < open[first])) first = k;
        }
        if (first < 0) break;
        size_t close = find_tag(t, tags[first][1], open[first] + 8);
        if (close == SIZE_MAX) {
            open[first] = SIZE_MAX; /* this and every later one stays open */
            continue;
        }
        rm_strbuf_add(out, t.s + at, open[first] - at);
        rm_strbuf_putc(out, ' ');
        at = close + 9;
    }
    rm_strbuf_add(out, t.s + at, t.n - at);
    return true;
}

/* ---- boxes ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    size_t start, end;
    rm_sv content;
} box;
typedef struct {
    box *v;
    size_t n, cap;
    bool failed;
} boxes;

static void add_box(boxes *b, box x) {
    if (b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 16;
        box *v = rm_realloc_array(b->v, cap, sizeof *v);
        if (!v) {
            b->failed = true;
            return;
        }
        b->v = v;
        b->cap = cap;
    }
    b->v[b->n++] = x;
}

/* For each open brace where it is closed (SIZE_MAX: never), in one pass; a backslash protects the next character. */
static size_t *matching_braces(rm_sv t) {
    size_t *match = rm_array(t.n + 1, sizeof *match), depth = 0;
    size_t *stack = rm_array(t.n + 1, sizeof *stack);
    for (size_t i = 0; match && stack && i < t.n; i++) {
        if (t.s[i] == '\\') {
            i++;
        } else if (t.s[i] == '{') {
            match[i] = SIZE_MAX;
            stack[depth++] = i;
        } else if (t.s[i] == '}' && depth) {
            match[stack[--depth]] = i;
        }
    }
    if (!stack) {
        rm_free(match);
        match = NULL;
    }
    rm_free(stack);
    return match;
}

/* The closed, non-empty, outermost boxes. */
static void find_boxes(const rm_grader *g, rm_sv t, boxes *out) {
    size_t *match = NULL;
    rm_match m;
    for (size_t pos = 0; rm_re_search(g->re[RE_EX_BOX], t, pos, &m);) {
        size_t k = m.end[0], end;
        rm_sv content;
        if (k < t.n && t.s[k] == '{') {
            if (!match && !(match = matching_braces(t))) {
                out->failed = true;
                break;
            }
            if (match[k] == SIZE_MAX) {
                pos = k;
                continue;
            }
            content = rm_sv_cut(t, k + 1, match[k]);
            end = match[k] + 1;
        } else {
            end = k;
            while (end < t.n && t.s[end] != '$' && t.s[end] != '\n' && !(t.s[end] == '\\' && end + 1 < t.n && strchr(")]", t.s[end + 1]))) end++;
            content = rm_sv_cut(t, k, end);
        }
        content = rm_sv_strip(content);
        if (content.n) add_box(out, (box){m.start[0], end, content});
        pos = end;
    }
    rm_free(match);
}

/* The last box, with those that stand right before it ("\boxed{1} or \boxed{-2}"), without repeats. */
static void join_boxes(const rm_grader *g, rm_sv t, const boxes *b, rm_strbuf *out) {
    size_t first = b->n - 1;
    while (first > 0 && rm_re_match(g->re[RE_EX_GLUE], rm_sv_cut(t, b->v[first - 1].end, b->v[first].start), 0, NULL)) first--;
    size_t n = b->n - first, size = 4;
    while (size < 2 * n) size *= 2;
    size_t *table = rm_calloc(size, sizeof *table); /* number of the box + 1 */
    if (!table) {
        out->failed = true;
        return;
    }
    for (size_t i = first; i < b->n; i++) {
        rm_sv c = b->v[i].content;
        uint64_t h = 14695981039346656037u;
        for (size_t k = 0; k < c.n; k++) h = (h ^ (unsigned char)c.s[k]) * 1099511628211u;
        size_t at = h & (size - 1);
        while (table[at] && !rm_sv_eq(b->v[table[at] - 1].content, c)) at = (at + 1) & (size - 1);
        if (table[at]) continue;
        table[at] = i + 1;
        if (out->n) rm_strbuf_puts(out, ", ");
        rm_strbuf_add(out, c.s, c.n);
    }
    rm_free(table);
}

/* ---- free answers -------------------------------------------------------------------------------------------------------------- */

static rm_sv trim_markdown(rm_sv s) { return rm_sv_strip(rm_sv_strip_chars(rm_sv_strip(s), "*_`")); }

static rm_sv cut_at(const rm_grader *g, int re, rm_sv s) {
    rm_match m;
    return rm_re_search(g->re[re], s, 0, &m) ? rm_sv_cut(s, 0, m.start[0]) : s;
}

/* The answer in the rest of a line that follows a marker; phrase: it may be several words. */
static rm_sv clean_tail(const rm_grader *g, rm_sv s, bool phrase) {
    rm_match m;
    s = trim_markdown(s);
    if (rm_re_match(g->re[RE_EX_AGAIN], s, 0, &m)) s = rm_sv_from(s, m.end[0]);
    if (phrase) {
        s = cut_at(g, RE_EX_LONG_SENTENCE, s);
    } else {
        s = cut_at(g, RE_EX_SENTENCE, s);
        s = cut_at(g, RE_EX_BECAUSE, s);
    }
    s = trim_markdown(s);
    while (s.n && strchr(".,;:!", s.s[s.n - 1])) s = rm_sv_rstrip(rm_sv_cut(s, 0, s.n - 1));
    return rm_sv_strip_chars(s, "*_`");
}

/* False: no answer. Appends the answer to out. */
static bool extract_free(const rm_grader *g, rm_sv t, bool phrase, rm_strbuf *out) {
    boxes b = {0};
    find_boxes(g, t, &b);
    bool found = b.n > 0;
    out->failed |= b.failed;
    if (found) join_boxes(g, t, &b, out);
    rm_free(b.v);
    if (found) return true;
    rm_match m;
    size_t last = SIZE_MAX;
    for (size_t from = 0; rm_re_search(g->re[RE_EX_MARK], t, from, &m); from = m.end[0]) last = m.end[0];
    rm_sv tail = {"", 0};
    if (last != SIZE_MAX) {
        for (size_t at = last; at <= t.n && !tail.n;) {
            const char *lf = at < t.n ? memchr(t.s + at, '\n', t.n - at) : NULL;
            size_t end = lf ? (size_t)(lf - t.s) : t.n;
            tail = clean_tail(g, rm_sv_cut(t, at, end), phrase);
            at = end + 1;
        }
    } else {
        rm_sv whole = rm_sv_strip(t);
        if (whole.n && !memchr(whole.s, '\n', whole.n) && rm_sv_length(whole) <= 200) tail = clean_tail(g, whole, phrase);
    }
    rm_strbuf_add(out, tail.s, tail.n);
    return tail.n > 0;
}

/* ---- letters ---------------------------------------------------------------------------------------------------------------------- */

char rm_strict_letter_of(const rm_grader *g, rm_sv content) {
    rm_strbuf a = {0}, b = {0};
    rm_match m;
    char letter = 0;
    rm_re_sub(g->re[RE_EX_TEXT_COMMANDS], content, "", &a);
    rm_re_sub(g->re[RE_EX_LETTER_SIGNS], rm_sv_buf(&a), "", &b);
    rm_sv s = rm_sv_strip(rm_sv_buf(&b));
    if (rm_re_match(g->re[RE_EX_LETTER_LABEL], s, 0, &m)) s = rm_sv_from(s, m.end[0]);
    if (rm_re_match(g->re[RE_EX_LETTER], s, 0, &m)) {
        char c = s.s[m.start[1]];
        bool small = c >= 'a' && c <= 'z';
        rm_sv rest = rm_sv_from(s, m.end[1]), left = rm_sv_lstrip(rest);
        bool second = rm_re_match(g->re[RE_EX_SECOND_LETTER], rest, 0, NULL);
        bool words = rm_sv_strip_chars(rest, " .)]").n > 0, delimited = left.n && strchr(")].:", left.s[0]);
        if (!second && !(words && small && !delimited)) letter = (char)(small ? c - 32 : c);
    }
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
    return letter;
}

static char extract_choice(const rm_grader *g, rm_sv t, bool *failed) {
    boxes b = {0};
    rm_match m;
    char best = 0;
    find_boxes(g, t, &b);
    bool boxed = b.n > 0;
    *failed |= b.failed;
    if (boxed) best = rm_strict_letter_of(g, b.v[b.n - 1].content);
    rm_free(b.v);
    if (boxed) return best;
    for (size_t from = 0; rm_re_search(g->re[RE_EX_CHOICE], t, from, &m); from = m.end[0]) {
        char c = t.s[m.start[2]];
        bool small = c >= 'a' && c <= 'z', wrapped = m.end[1] > m.start[1] || m.end[3] > m.start[3];
        size_t after = m.end[0];
        if (small && !wrapped && (!memchr(t.s + m.start[0], ':', m.end[0] - m.start[0]) || !rm_re_match(g->re[RE_EX_LINE_END], t, after, NULL)))
            continue;
        if (rm_re_match(g->re[RE_EX_OTHER_LETTER], t, after, NULL)) {
            best = 0;
            continue;
        }
        bool article = !wrapped && c == 'A' && rm_re_match(g->re[RE_EX_WORD_AFTER], t, after, NULL);
        if (article && !rm_re_match(g->re[RE_EX_REASON], t, after, NULL)) continue;
        if (m.end[2] - m.start[2] == 1) best = (char)(small ? c - 32 : c);
    }
    if (best) return best;
    rm_sv whole = rm_sv_strip(t);
    bool line = !memchr(whole.s, '\n', whole.n) && rm_sv_length(whole) <= 200;
    return line && rm_re_match(g->re[RE_EX_BARE_LETTER], whole, 0, NULL) ? rm_strict_letter_of(g, whole) : 0;
}

/* ---- programs ------------------------------------------------------------------------------------------------------------------------ */

typedef enum { LABEL_PYTHON, LABEL_NONE, LABEL_OTHER } label_kind;

static label_kind label_of(rm_sv v) {
    static const char *const names[] = {"python", "py", "python3"};
    if (!v.n) return LABEL_NONE;
    for (size_t i = 0; i < RM_COUNT(names); i++) {
        if (v.n == strlen(names[i]) && strncasecmp(v.s, names[i], v.n) == 0) return LABEL_PYTHON;
    }
    return LABEL_OTHER;
}

/* Does a line of the code define the function? "def NAME(" at its start, indented or not, async or not. */
static bool defines(rm_sv code, const char *name) {
    size_t n = strlen(name);
    for (size_t at = 0; at <= code.n;) {
        const char *lf = at < code.n ? memchr(code.s + at, '\n', code.n - at) : NULL;
        size_t end = lf ? (size_t)(lf - code.s) : code.n;
        rm_sv v = rm_sv_cut(code, at, end);
        at = end + 1;
        while (v.n && strchr(" \t", v.s[0])) v = rm_sv_from(v, 1);
        for (int word = 0; word < 2; word++) {
            const char *w = word ? "def" : "async";
            size_t k = strlen(w);
            if (!rm_sv_starts(v, w) || v.n == k || !strchr(" \t", v.s[k])) {
                if (word) v.n = 0;
                continue;
            }
            v = rm_sv_from(v, k);
            while (v.n && strchr(" \t", v.s[0])) v = rm_sv_from(v, 1);
        }
        if (v.n <= n || memcmp(v.s, name, n) != 0) continue;
        v = rm_sv_from(v, n);
        while (v.n && strchr(" \t", v.s[0])) v = rm_sv_from(v, 1);
        if (v.n && v.s[0] == '(') return true;
    }
    return false;
}

/* The blocks seen so far: the best of each kind, the last one wins. */
typedef struct {
    rm_strbuf best[3]; /* python or unlabelled with the function, python, unlabelled */
    bool has[3];
} pick;

static void keep(pick *p, int which, rm_sv code) {
    rm_strbuf_clear(&p->best[which]);
    rm_strbuf_add(&p->best[which], code.s, code.n);
    p->has[which] = true;
}

static void block(pick *p, label_kind label, rm_sv code, const char *fn_name) {
    if (label == LABEL_OTHER || !rm_sv_strip(code).n) return;
    if (fn_name && *fn_name && defines(code, fn_name)) keep(p, 0, code);
    keep(p, label == LABEL_PYTHON ? 1 : 2, code);
}

static bool closes(rm_sv line, char fence, size_t width) {
    rm_sv v = rm_sv_strip(line);
    for (size_t i = 0; i < v.n; i++) {
        if (v.s[i] != fence) return false;
    }
    return v.n >= width;
}

static void extract_code(const rm_grader *g, rm_sv t, const char *fn_name, rm_strbuf *out) {
    pick p = {0};
    rm_strbuf body = {0};
    bool in = false;
    char fence = 0;
    size_t width = 0, indent = 0, n_line = 0;
    label_kind label = LABEL_OTHER;
    for (size_t at = 0; at <= t.n;) {
        const char *lf = at < t.n ? memchr(t.s + at, '\n', t.n - at) : NULL;
        size_t end = lf ? (size_t)(lf - t.s) : t.n;
        rm_sv line = rm_sv_cut(t, at, end);
        rm_match m;
        at = end + 1;
        if (line.n && line.s[line.n - 1] == '\r') line.n--;
        if (!in) {
            if (!rm_re_match(g->re[RE_EX_FENCE], line, 0, &m)) continue;
            in = true;
            fence = line.s[m.start[1]];
            width = m.end[1] - m.start[1];
            label = label_of(rm_group(line, &m, 2));
            indent = m.start[1];
            n_line = 0;
            rm_strbuf_clear(&body);
        } else if (closes(line, fence, width)) {
            block(&p, label, rm_sv_buf(&body), fn_name);
            in = false;
        } else {
            size_t k = 0;
            while (k < indent && k < line.n && strchr(" \t", line.s[k])) k++;
            if (n_line++) rm_strbuf_putc(&body, '\n');
            rm_strbuf_add(&body, line.s + k, line.n - k);
        }
    }
    if (in) block(&p, label, rm_sv_buf(&body), fn_name);
    for (int i = 0; i < 3; i++) {
        if (!p.has[i]) continue;
        rm_sv v = rm_sv_buf(&p.best[i]);
        while (v.n && v.s[0] == '\n') v = rm_sv_from(v, 1);
        v = rm_sv_rstrip(v);
        rm_strbuf_add(out, v.s, v.n);
        break;
    }
    for (int i = 0; i < 3; i++) {
        out->failed |= p.best[i].failed;
        rm_strbuf_free(&p.best[i]);
    }
    out->failed |= body.failed;
    rm_strbuf_free(&body);
}

/* ---- short answers ------------------------------------------------------------------------------------------------------------------- */

/* b <- sub(b) */
static void sub(const rm_grader *g, int re, const char *with, rm_strbuf *b) {
    rm_strbuf next = {0};
    rm_re_sub(g->re[re], rm_sv_buf(b), with, &next);
    next.failed |= b->failed;
    rm_strbuf_free(b);
    *b = next;
}

static void undress(const rm_grader *g, rm_strbuf *b) {
    rm_strbuf t = {0};
    sub(g, RE_EX_QA_COMMANDS, "", b);
    sub(g, RE_EX_QA_SPACING, "", b);
    rm_sv_replace(&t, rm_sv_buf(b), "\\ ", " ");
    for (size_t i = 0; i < t.n; i++) {
        if (t.s[i] == '~') t.s[i] = ' ';
    }
    t.failed |= b->failed;
    rm_strbuf_free(b);
    *b = t;
    sub(g, RE_EX_QA_ESCAPES, "\\1", b);
    sub(g, RE_EX_QA_BRACES, "", b);
    t = (rm_strbuf){0};
    rm_sv_collapse(&t, rm_sv_strip(rm_sv_buf(b)));
    t.failed |= b->failed;
    rm_strbuf_free(b);
    *b = t;
}

/* Lower case, no ASCII punctuation, no articles, single spaces. */
static void qa_normal(const rm_grader *g, rm_sv v, rm_strbuf *out) {
    rm_strbuf a = {0}, b = {0};
    rm_sv_lower(&a, v);
    for (size_t i = 0; i < a.n; i++) {
        char c = a.s[i];
        bool punctuation = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
        if (!punctuation) rm_strbuf_putc(&b, c);
    }
    rm_strbuf_clear(&a);
    rm_re_sub(g->re[RE_ARTICLES], rm_sv_buf(&b), " ", &a);
    rm_sv_collapse(out, rm_sv_strip(rm_sv_buf(&a)));
    out->failed |= a.failed || b.failed;
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
}

enum { MAX_GOLD_WORDS = 1000 };

static size_t next_word(rm_sv v, size_t at, rm_sv *w) {
    const char *sp = at < v.n ? memchr(v.s + at, ' ', v.n - at) : NULL;
    size_t end = sp ? (size_t)(sp - v.s) : v.n;
    *w = at < v.n ? rm_sv_cut(v, at, end) : (rm_sv){"", 0};
    return end + 1;
}

static bool verdict_word(rm_sv v) { return rm_sv_is(v, "yes") || rm_sv_is(v, "no") || rm_sv_is(v, "noanswer"); }

static void f1_score(rm_sv g, rm_sv p, rm_strict_grade *out) {
    rm_sv word, gold[MAX_GOLD_WORDS];
    bool used[MAX_GOLD_WORDS] = {false};
    size_t n_g = 0, n_p = 0, common = 0;
    out->em = rm_sv_eq(g, p);
    out->correct = out->em;
    if (!out->em && (verdict_word(g) || verdict_word(p))) return;
    for (size_t at = 0; at < g.n && n_g < MAX_GOLD_WORDS; n_g++) at = next_word(g, at, &gold[n_g]);
    for (size_t at = 0; at < p.n; n_p++) {
        at = next_word(p, at, &word);
        for (size_t k = 0; k < n_g; k++) {
            if (used[k] || !rm_sv_eq(gold[k], word)) continue;
            used[k] = true;
            common++;
            break;
        }
    }
    if (!common) return;
    out->precision = (double)common / (double)n_p;
    out->recall = (double)common / (double)n_g;
    out->f1 = 2 * out->precision * out->recall / (out->precision + out->recall);
}

/* ---- verdicts ------------------------------------------------------------------------------------------------------------------------------ */

/* The number behind #### of a gsm8k solution, without separators and leading zeros. */
static void gsm8k_gold(rm_sv gold, rm_strbuf *out) {
    size_t at = rm_sv_find(gold, RM_SV("####"), 0);
    rm_sv v = rm_sv_strip(at == SIZE_MAX ? gold : rm_sv_from(gold, at + 4));
    if (!v.n) v = rm_sv_strip(gold);
    rm_strbuf b = {0};
    rm_sv_replace(&b, v, ",", "");
    rm_sv d = rm_sv_buf(&b), digits = d;
    bool negative = d.n && d.s[0] == '-';
    if (d.n && strchr("+-", d.s[0])) digits = rm_sv_from(d, 1);
    bool whole = digits.n > 0;
    for (size_t i = 0; i < digits.n; i++) whole &= digits.s[i] >= '0' && digits.s[i] <= '9';
    if (whole) {
        while (digits.n > 1 && digits.s[0] == '0') digits = rm_sv_from(digits, 1);
        if (negative && !rm_sv_is(digits, "0")) rm_strbuf_putc(out, '-');
        d = digits;
    }
    rm_strbuf_add(out, d.s, d.n);
    out->failed |= b.failed;
    rm_strbuf_free(&b);
}

void rm_strict_grade_free(rm_strict_grade *r) {
    rm_free(r->parsed);
    *r = (rm_strict_grade){0};
}

static bool is_qa(const char *dataset) { return strcmp(dataset, "bamboogle") == 0 || strcmp(dataset, "hotpotqa") == 0; }

/* The reply's visible part -> the record. False when out of memory. */
static bool grade_visible(const rm_grader *g, const char *dataset, rm_sv v, rm_sv gold, const char *fn_name, rm_strict_grade *out) {
    rm_strbuf b = {0}, want = {0};
    rm_kind kind = rm_dataset_kind(dataset);
    bool failed = false, has;
    if (kind == RM_KIND_CODE) {
        extract_code(g, v, fn_name, &b);
        has = b.n > 0;
    } else if (kind == RM_KIND_CHOICE) {
        char c = extract_choice(g, v, &failed);
        has = c != 0;
        if (c) rm_strbuf_putc(&b, c);
        out->correct = has && rm_sv_eq(rm_sv_buf(&b), rm_sv_strip(gold));
    } else if (is_qa(dataset)) {
        has = extract_free(g, v, true, &b);
        if (has) undress(g, &b);
        has = b.n > 0;
        if (has) {
            rm_strbuf p = {0};
            qa_normal(g, gold, &want);
            qa_normal(g, rm_sv_buf(&b), &p);
            f1_score(rm_sv_buf(&want), rm_sv_buf(&p), out);
            failed |= p.failed;
            rm_strbuf_free(&p);
        }
    } else {
        has = extract_free(g, v, false, &b);
        if (strcmp(dataset, "gsm8k") == 0)
            gsm8k_gold(gold, &want);
        else
            rm_strbuf_add(&want, gold.s, gold.n);
        if (has) out->correct = rm_strict_same(g, rm_sv_buf(&want), rm_sv_buf(&b), &failed);
    }
    failed |= b.failed || want.failed;
    rm_strbuf_free(&want);
    if (has && !failed && !(out->parsed = rm_strbuf_take(&b))) failed = true;
    rm_strbuf_free(&b);
    return !failed;
}

rmas_status rm_grade_strict(const rm_grader *g, const char *dataset, const char *text, size_t n, const char *gold, const char *fn_name,
                            rm_strict_grade *out, rmas_error *err) {
    rm_strbuf t = {0}, v = {0}, gd = {0};
    *out = (rm_strict_grade){.has_f1 = is_qa(dataset)};
    rm_sv_clean(&t, text, n);
    rm_sv_clean(&gd, gold ? gold : "", gold ? strlen(gold) : 0);
    bool ok = !t.failed && !gd.failed;
    if (ok && visible(rm_sv_buf(&t), &v)) ok = !v.failed && grade_visible(g, dataset, rm_sv_buf(&v), rm_sv_buf(&gd), fn_name, out);
    if (!gold) out->correct = false;
    rm_strbuf_free(&t);
    rm_strbuf_free(&v);
    rm_strbuf_free(&gd);
    if (ok) return RMAS_OK;
    rm_strict_grade_free(out);
    return no_memory(err);
}

rmas_status rm_strict_equal(const rm_grader *g, const char *gold, const char *answer, bool *equal, rmas_error *err) {
    rm_strbuf a = {0}, b = {0};
    bool failed = false;
    rm_sv_clean(&a, gold, strlen(gold));
    rm_sv_clean(&b, answer, strlen(answer));
    failed = a.failed || b.failed;
    *equal = !failed && rm_strict_same(g, rm_sv_buf(&a), rm_sv_buf(&b), &failed);
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
    return failed ? no_memory(err) : RMAS_OK;
}
