/* Strict scorer: a whole answer: lists, sets, relations, units around expressions. */
#include <stdlib.h>
#include <string.h>

#include "eval/strict.h"
#include "util/mem.h"

static st_answer *answer(rm_strict *s, st_tokens t, int depth);

st_answer *rm_st_answer(rm_strict *s, st_akind kind) {
    st_answer *a = s->bad ? NULL : rm_st_alloc(s, sizeof *a);
    if (a) a->kind = kind;
    return a;
}

st_answer *rm_st_scalar(rm_strict *s, st_expr *e, st_unit unit) {
    st_answer *a = rm_st_answer(s, A_SCALAR);
    if (a) {
        a->e = e;
        a->unit = unit;
    }
    return a;
}

static st_answer *of_expr(rm_strict *s, st_akind kind, st_expr *e) {
    st_answer *a = rm_st_answer(s, kind);
    if (a) a->e = e;
    return a;
}

static st_answer *of_text(rm_strict *s, st_akind kind, const char *text) {
    st_answer *a = rm_st_answer(s, kind);
    if (a) a->text = text;
    return a;
}

static st_answer *with_items(rm_strict *s, st_akind kind, st_answer **item, int n) {
    st_answer *a = rm_st_answer(s, kind);
    if (a) {
        a->item = item;
        a->n = n;
    }
    return a;
}

void rm_st_text_value(const rm_grader *g, rm_sv text, rm_strbuf *out) {
    rm_strbuf a = {0}, b = {0};
    rm_re_sub(g->re[RE_ST_TEXT_COMMAND], text, " ", &a);
    rm_re_sub(g->re[RE_ST_TEXT_SIGNS], rm_sv_buf(&a), " ", &b);
    rm_strbuf_clear(&a);
    rm_sv_casefold(&a, rm_sv_buf(&b));
    rm_strbuf_clear(&b);
    rm_re_sub(g->re[RE_ST_NON_WORDS], rm_sv_buf(&a), " ", &b);
    rm_sv v = rm_sv_strip(rm_sv_buf(&b));
    static const char *const articles[] = {"the ", "a ", "an "};
    for (size_t i = 0; i < RM_COUNT(articles); i++) {
        if (rm_sv_starts(v, articles[i])) {
            v = rm_sv_from(v, strlen(articles[i]));
            break;
        }
    }
    rm_strbuf_add(out, v.s, v.n);
    out->failed |= a.failed || b.failed;
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
}

/* ---- units ----------------------------------------------------------------------------------------------------------------- */

/* The tokens behind a value as a text; bad if they cannot be a unit. */
static void unit_text(rm_strict *s, st_tokens t, rm_strbuf *out) {
    for (size_t i = 0; i < t.n && !s->bad; i++) {
        st_token k = t.v[i];
        if (k.kind == ' ') {
            rm_strbuf_putc(out, ' ');
        } else if (k.kind == 't') {
            rm_strbuf_putc(out, ' ');
            rm_strbuf_puts(out, k.s);
        } else if (k.kind == 'n' || k.kind == 'v') {
            rm_strbuf_puts(out, k.s);
        } else if (k.kind == 'p' && strstr("^{}/.,()-*", k.s)) {
            rm_strbuf_puts(out, k.s);
        } else if (rm_st_is(k, 'c', "circ")) {
            rm_strbuf_puts(out, " degrees ");
        } else if (rm_st_is(k, 'c', "cdot") || rm_st_is(k, 'c', "times")) {
            rm_strbuf_putc(out, ' ');
        } else if (rm_st_is(k, 'c', "dollar")) {
            rm_strbuf_puts(out, " dollars ");
        } else {
            rm_st_bad(s);
        }
    }
}

static size_t count(rm_sv v, char c) {
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++) n += v.s[i] == c;
    return n;
}

typedef struct {
    const char *v[ST_MAX_LEN / 2 + 2];
    int n;
} word_list;

/* Words of a unit's text; leading words of scale are multiplied into *scale. */
static bool unit_words(rm_strict *s, rm_sv text, word_list *w, mpq_ptr scale) {
    rm_match m;
    w->n = 0;
    for (size_t from = 0; rm_re_search(s->g->re[RE_ST_UNIT_WORDS], text, from, &m) && w->n < (int)RM_COUNT(w->v); from = m.end[0])
        w->v[w->n++] = rm_st_copy(s, rm_group(text, &m, 0));
    if (s->bad) return false;
    int lead = 0;
    for (; lead < w->n && rm_st_scale(w->v[lead]); lead++) {
        mpz_mul_ui(mpq_numref(scale), mpq_numref(scale), rm_st_scale(w->v[lead]));
    }
    memmove(w->v, w->v + lead, (size_t)(w->n - lead) * sizeof w->v[0]);
    w->n -= lead;
    for (int i = 0; i < w->n; i++) {
        if (rm_st_scale(w->v[i])) return rm_st_bad(s), false;
    }
    return true;
}

static bool filler(const char *w) { return strcmp(w, "the") == 0 || strcmp(w, "a") == 0 || strcmp(w, "of") == 0 || strcmp(w, "in") == 0; }

static st_unit name_unit(rm_strict *s, word_list *w, int power) {
    if (w->n && (strcmp(w->v[0], "square") == 0 || strcmp(w->v[0], "sq") == 0 || strcmp(w->v[0], "cubic") == 0)) {
        power = strcmp(w->v[0], "cubic") == 0 ? 3 : 2;
        memmove(w->v, w->v + 1, (size_t)--w->n * sizeof w->v[0]);
    }
    st_unit none = {0};
    if (w->n > 6) return rm_st_bad(s), none;
    int kept = 0, before = w->n;
    for (int i = 0; i < w->n; i++) {
        if (!filler(w->v[i]) || before == 1) w->v[kept++] = w->v[i];
    }
    w->n = kept;
    if (!w->n) return none;
    if (w->n == 1 && strcmp(w->v[0], "percent") == 0) return (st_unit){"%", true};
    const char *known = w->n == 1 ? rm_st_unit(w->v[0]) : NULL;
    rm_strbuf b = {0};
    if (known)
        rm_strbuf_puts(&b, known);
    else
        for (int i = 0; i < w->n; i++) rm_strbuf_printf(&b, "%s%s", i ? " " : "", w->v[i]);
    if (power > 1) rm_strbuf_printf(&b, "%d", power);
    st_unit u = {rm_st_copy(s, rm_sv_buf(&b)), known != NULL};
    rm_strbuf_free(&b);
    return u;
}

static st_unit unit_of(rm_strict *s, st_tokens t, mpq_ptr scale) {
    rm_strbuf raw = {0}, low = {0}, plain = {0};
    st_unit u = {0};
    unit_text(s, t, &raw);
    rm_sv_lower(&low, rm_sv_buf(&raw));
    rm_sv v = rm_sv_strip_chars(rm_sv_buf(&low), " .,");
    if (!s->bad && v.n) {
        const rm_grader *g = s->g;
        int power = 1;
        if (count(v, '(') != count(v, ')') || count(v, '{') != count(v, '}') || rm_re_search(g->re[RE_ST_UNIT_STRANGE], v, 0, NULL) ||
            rm_re_search(g->re[RE_ST_UNIT_WRONG], v, 0, NULL))
            rm_st_bad(s);
        for (size_t i = 0; i < v.n; i++) rm_strbuf_putc(&plain, strchr("(),", v.s[i]) ? ' ' : v.s[i]);
        rm_match m;
        v = rm_sv_buf(&plain);
        if (rm_re_search(g->re[RE_ST_UNIT_POWER], v, 0, &m)) {
            power = rm_group(v, &m, 1).s[0] - '0';
            memset(plain.s + m.start[0], ' ', m.end[0] - m.start[0]);
        }
        if (strpbrk(rm_str(&plain), "^{}*") || rm_re_search(g->re[RE_ST_DIGIT], v, 0, NULL)) rm_st_bad(s);
        word_list w;
        if (!s->bad && unit_words(s, v, &w, scale)) u = name_unit(s, &w, power);
    }
    if (raw.failed || low.failed || plain.failed) rm_st_bad(s);
    rm_strbuf_free(&raw);
    rm_strbuf_free(&low);
    rm_strbuf_free(&plain);
    return u;
}

/* ---- splitting ------------------------------------------------------------------------------------------------------------------ */

typedef bool (*token_test)(st_token k);

static bool is_sep(st_token k) {
    if (k.kind == 'p') return strcmp(k.s, ",") == 0 || strcmp(k.s, ";") == 0;
    if (k.kind == 'c') return strcmp(k.s, "lor") == 0 || strcmp(k.s, "vee") == 0;
    if (k.kind != 't') return false;
    rm_strbuf low = {0};
    rm_sv_lower(&low, rm_sv_strip(rm_sv_of(k.s)));
    rm_sv v = rm_sv_strip(rm_sv_strip_chars(rm_sv_buf(&low), ","));
    bool yes = v.n == 0 || rm_sv_is(v, "and") || rm_sv_is(v, "or");
    rm_strbuf_free(&low);
    return yes;
}

static bool is_cup(st_token k) { return rm_st_is(k, 'c', "cup"); }
static bool is_colon(st_token k) { return rm_st_is(k, 'p', ":"); }

/* The operator of a relation in its plain form, or NULL. */
static const char *relation(st_token k) {
    static const char *const commands[][2] = {{"le", "<="},       {"leq", "<="}, {"leqslant", "<="}, {"ge", ">="}, {"geq", ">="},
                                              {"geqslant", ">="}, {"lt", "<"},   {"gt", ">"},        {"ne", "!="}, {"neq", "!="},
                                              {"approx", "~"},    {"in", "in"},  {"equiv", "=="},    {"sim", "~"}, {"simeq", "~"}};
    static const char *const plain[] = {"=", "<", ">", "<=", ">=", "!="};
    for (size_t i = 0; k.kind == 'c' && i < RM_COUNT(commands); i++) {
        if (strcmp(k.s, commands[i][0]) == 0) return commands[i][1];
    }
    for (size_t i = 0; k.kind == 'p' && i < RM_COUNT(plain); i++) {
        if (strcmp(k.s, plain[i]) == 0) return plain[i];
    }
    return NULL;
}

static bool is_relation(st_token k) { return relation(k) != NULL; }

typedef struct {
    st_tokens *v;
    st_token *at; /* the separator behind each part but the last */
    size_t n;
} parts;

/* Splits at the tokens outside every bracket for which `test` holds. */
static bool split(rm_strict *s, st_tokens t, token_test test, parts *out) {
    *out = (parts){rm_st_alloc(s, (t.n + 1) * sizeof(st_tokens)), rm_st_alloc(s, (t.n + 1) * sizeof(st_token)), 0};
    if (!out->v || !out->at) return false;
    int depth = 0, env = 0;
    size_t start = 0;
    for (size_t i = 0; i <= t.n; i++) {
        if (i < t.n) {
            st_token k = t.v[i];
            if (k.kind == 'p' && (strcmp(k.s, "(") == 0 || strcmp(k.s, "[") == 0 || strcmp(k.s, "{") == 0 || strcmp(k.s, "\\{") == 0)) depth++;
            if (k.kind == 'p' && (strcmp(k.s, ")") == 0 || strcmp(k.s, "]") == 0 || strcmp(k.s, "}") == 0 || strcmp(k.s, "\\}") == 0)) depth--;
            if (rm_st_is(k, 'c', "begin") || rm_st_is(k, 'c', "langle")) env++;
            if (rm_st_is(k, 'c', "end") || rm_st_is(k, 'c', "rangle")) env--;
            if (depth != 0 || env != 0 || !test(k)) continue;
            out->at[out->n] = k;
        }
        out->v[out->n++] = rm_st_trim((st_tokens){t.v + start, i - start, 0});
        start = i + 1;
    }
    return true;
}

static st_tokens from(st_tokens t, size_t i) { return rm_st_trim((st_tokens){t.v + i, t.n - i, 0}); }

/* ---- kinds of answers ------------------------------------------------------------------------------------------------------------- */

static st_answer *words_only(rm_strict *s, st_tokens t) {
    bool any = false;
    for (size_t i = 0; i < t.n; i++) {
        st_token k = t.v[i];
        any |= k.kind == 't';
        if (!(k.kind == 't' || k.kind == ' ' || (k.kind == 'p' && strstr("-'\".", k.s)))) return NULL;
    }
    if (!any) return NULL;
    rm_strbuf b = {0}, v = {0};
    for (size_t i = 0; i < t.n; i++) rm_strbuf_printf(&b, "%s%s", i ? " " : "", t.v[i].s);
    rm_st_text_value(s->g, rm_sv_buf(&b), &v);
    st_answer *a = v.n ? of_text(s, A_TEXT, rm_st_copy(s, rm_sv_buf(&v))) : NULL;
    rm_strbuf_free(&b);
    rm_strbuf_free(&v);
    return a;
}

static st_answer *list(rm_strict *s, const parts *p, int depth) {
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->v[i].n) p->v[n++] = p->v[i];
    }
    if (n > ST_MAX_ITEMS || n == 0) return rm_st_bad(s);
    if (n == 1) return answer(s, p->v[0], depth + 1);
    st_answer **item = rm_st_alloc(s, n * sizeof *item);
    size_t n_text = 0;
    for (size_t i = 0; i < n && item; i++) {
        if (!(item[i] = answer(s, p->v[i], depth + 1))) return NULL;
        n_text += item[i]->kind == A_TEXT;
    }
    if (n_text && n_text < n) return rm_st_bad(s); /* words among values */
    return item ? with_items(s, A_LIST, item, (int)n) : NULL;
}

static st_answer *all_of(rm_strict *s, st_akind kind, const parts *p, int depth) {
    st_answer **item = rm_st_alloc(s, p->n * sizeof *item);
    for (size_t i = 0; i < p->n && item; i++) {
        if (!(item[i] = answer(s, p->v[i], depth + 1))) return NULL;
    }
    return item ? with_items(s, kind, item, (int)p->n) : NULL;
}

/* { x | condition }: where the condition begins; 0 if it is no such set. */
static size_t set_builder(st_tokens t) {
    if (t.n < 3 || !rm_st_is(t.v[0], 'p', "\\{") || !rm_st_is(t.v[t.n - 1], 'p', "\\}")) return 0;
    size_t bar = 0, bars = 0, first = 1;
    for (size_t i = 1; i + 1 < t.n; i++) {
        if (!(rm_st_is(t.v[i], 'p', "|") || rm_st_is(t.v[i], 'c', "mid") || rm_st_is(t.v[i], 'p', ":") || rm_st_is(t.v[i], 'p', "\\|"))) continue;
        bar = i;
        bars++;
    }
    while (first < bar && t.v[first].kind == ' ') first++;
    return bars == 1 && first < bar && t.v[first].kind == 'v' ? bar + 1 : 0;
}

/* x \in S is S */
static st_answer *membership(rm_strict *s, st_tokens left, st_tokens right, int depth) {
    for (size_t i = 0; i < left.n; i++) {
        st_token k = left.v[i];
        bool plain = strchr("v tpn", k.kind) || rm_st_is_greek(k.s);
        if (!plain || (k.kind == 'n' && i == 0)) return rm_st_bad(s);
    }
    st_answer *a = answer(s, right, depth + 1);
    if (a && a->kind != A_TUPLE && a->kind != A_SET && a->kind != A_UNION) return rm_st_bad(s);
    return a;
}

static bool stated(const char *op) { return strcmp(op, "=") == 0 || strcmp(op, "~") == 0; }

static st_answer *relations(rm_strict *s, const parts *p, int depth) {
    size_t n = p->n, first = 0;
    const char **op = rm_st_alloc(s, n * sizeof *op);
    st_answer **side = rm_st_alloc(s, n * sizeof *side);
    if (!op || !side) return NULL;
    for (size_t i = 0; i + 1 < n; i++) op[i] = relation(p->at[i]);
    if (!p->v[0].n && stated(op[0])) { /* "= 5" */
        first = 1;
        op++;
        if (n == 2) return answer(s, p->v[1], depth + 1);
    }
    n -= first;
    const st_tokens *v = p->v + first;
    if (n == 2 && strcmp(op[0], "in") == 0) return membership(s, v[0], v[1], depth);
    for (size_t i = 0; i < n; i++) {
        side[i] = answer(s, v[i], depth + 1);
        if (!side[i] && i == 0 && stated(op[0]) && !s->no_memory) { /* an unreadable left side is a name */
            rm_strbuf b = {0};
            s->bad = false;
            for (size_t k = 0; k < v[i].n; k++) rm_strbuf_puts(&b, v[i].v[k].s);
            side[i] = of_text(s, A_NAME, rm_st_copy(s, rm_sv_buf(&b)));
            rm_strbuf_free(&b);
        }
        if (!side[i]) return NULL;
    }
    if (side[0]->kind == A_TEXT) side[0] = of_text(s, A_NAME, side[0]->text);
    if (!side[0]) return NULL;
    if (n == 2 && stated(op[0]) && side[1]->kind == A_SCALAR && side[1]->e->kind == E_SYM && side[0]->kind != A_NAME) { /* 5 = x */
        st_answer *t = side[0];
        side[0] = side[1];
        side[1] = t;
    }
    st_answer *a = with_items(s, A_REL, side, (int)n);
    if (a) a->op = op;
    return a;
}

static bool hedge(const char *w) {
    static const char *const words[] = {"about", "approximately", "exactly", "only"};
    rm_strbuf low = {0};
    bool yes = false;
    rm_sv_lower(&low, rm_sv_strip(rm_sv_of(w)));
    for (size_t i = 0; i < RM_COUNT(words); i++) yes |= rm_sv_is(rm_sv_buf(&low), words[i]);
    rm_strbuf_free(&low);
    return yes;
}

/* A degree or percent mark on the value itself is its unit. */
static st_expr *take_mark(rm_strict *s, st_expr *e, st_unit *unit) {
    if (e->kind == E_DEG) {
        if (unit->name && unit->known && strcmp(unit->name, "deg") != 0 && strcmp(unit->name, "c") != 0 && strcmp(unit->name, "f") != 0)
            return rm_st_bad(s);
        *unit = (st_unit){"deg", true};
        e = e->a;
    }
    if (e->kind == E_NEG && e->a->kind == E_DEG) {
        *unit = (st_unit){"deg", true};
        e = rm_st_expr(s, E_NEG, e->a->a, NULL);
    }
    if (e && e->kind == E_PCT) {
        *unit = (st_unit){"%", true};
        e = e->a;
    }
    if (e && e->kind == E_NEG && e->a->kind == E_PCT) {
        *unit = (st_unit){"%", true};
        e = rm_st_expr(s, E_NEG, e->a->a, NULL);
    }
    return e;
}

static st_answer *value(rm_strict *s, st_tokens t) {
    bool money = false, minus = false;
    st_tokens rest, after = from(t, 1);
    if (rm_st_is(t.v[0], 'c', "dollar")) {
        money = true;
        t = after;
    } else if (rm_st_is(t.v[0], 'p', "-") && after.n && rm_st_is(after.v[0], 'c', "dollar")) {
        money = minus = true;
        t = from(after, 1);
    }
    if (minus) { /* -$5 is -5 dollars */
        st_token *v = rm_st_alloc(s, (t.n + 1) * sizeof *v);
        if (!v) return NULL;
        v[0] = (st_token){'p', "-"};
        if (t.n) memcpy(v + 1, t.v, t.n * sizeof *v);
        t = (st_tokens){v, t.n + 1, 0};
    }
    if (t.n && t.v[0].kind == 't' && hedge(t.v[0].s)) t = from(t, 1);
    st_expr *e = rm_st_parse(s, t, &rest), *scale = rm_st_num(s, 1, 1);
    if (!e || !scale) return NULL;
    st_unit unit = unit_of(s, rest, scale->q);
    if (s->bad) return NULL;
    if (money) {
        if (unit.name && unit.known && strcmp(unit.name, "dollar") != 0) return rm_st_bad(s);
        unit = (st_unit){"dollar", true};
    }
    if (e->kind == E_BASE) return of_expr(s, A_BASE, e);
    e = rm_st_strip(s, e);
    if (e->kind == E_SET) return of_expr(s, A_SET, e);
    if (e->kind == E_TUPLE) return of_expr(s, A_TUPLE, e);
    e = take_mark(s, e, &unit);
    if (!e) return NULL;
    if (mpq_cmp_si(scale->q, 1, 1) != 0) e = rm_st_expr(s, E_MUL, e, scale);
    if (!e) return NULL;
    st_expr *m = rm_st_fold_matrix(s, e);
    if (s->bad) return NULL;
    return m ? of_expr(s, A_MAT, m) : rm_st_scalar(s, e, unit);
}

static st_answer *answer(rm_strict *s, st_tokens t, int depth) {
    parts p;
    if (s->bad) return NULL;
    if (depth > ST_MAX_LISTS) return rm_st_bad(s);
    t = rm_st_trim(t);
    if (!t.n) return rm_st_bad(s);
    st_answer *w = words_only(s, t);
    if (w || s->bad) return w;
    if (!split(s, t, is_sep, &p)) return NULL;
    if (p.n > 1) return list(s, &p, depth);
    for (size_t i = 0; i < t.n; i++) {
        if (is_cup(t.v[i])) return split(s, t, is_cup, &p) ? all_of(s, A_UNION, &p, depth) : NULL;
    }
    size_t condition = set_builder(t);
    if (condition) return answer(s, (st_tokens){t.v + condition, t.n - 1 - condition, 0}, depth + 1);
    if (t.v[0].kind == 't' && t.n > 1 && rm_sv_ends(rm_sv_rstrip(rm_sv_of(t.v[0].s)), ":")) return answer(s, from(t, 1), depth + 1);
    if (!split(s, t, is_relation, &p)) return NULL;
    if (p.n > 1) return relations(s, &p, depth);
    if (!split(s, t, is_colon, &p)) return NULL;
    if (p.n == 2) { /* "x: 5" */
        bool name = true;
        for (size_t i = 0; i < p.v[0].n; i++) name &= strchr("vt ", p.v[0].v[i].kind) != NULL;
        if (name) return answer(s, p.v[1], depth + 1);
    }
    return value(s, t);
}

st_answer *rm_st_parse_answer(rm_strict *s, rm_sv text, bool thousands) {
    rm_strbuf b = {0};
    st_tokens t = {0};
    st_answer *a = NULL;
    if (rm_st_normal(s, text, thousands, &b) && rm_st_tokens(s, rm_sv_buf(&b), &t)) a = answer(s, t, 0);
    rm_strbuf_free(&b);
    return a;
}
