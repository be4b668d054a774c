/* Lookups in a pack: which section fits a request, and its text. */
#include <string.h>

#include "pack.h"
#include "tmpl/text.h"
#include "util/mem.h"
#include "util/utf8.h"

enum { MAX_PROMPT = 64 << 20 };

/* ---- words ---------------------------------------------------------------------------------------------------------- */

static const char *const task_names[] = {[RM_TASK_MATH] = "math", [RM_TASK_CHOICE] = "choice", [RM_TASK_CODE] = "code"};
static const char *const form_names[] = {[RM_FORM_PROGRAM] = "program", [RM_FORM_NAMED] = "named", [RM_FORM_UNNAMED] = "unnamed"};

static int word_index(const char *const *words, int n, const char *s) {
    for (int i = 0; i < n && s; i++)
        if (!strcmp(words[i], s)) return i;
    return -1;
}

rm_task rm_task_of_dataset(const char *dataset) {
    static const char *const code[] = {"mbppplus", "livecodebench"}, *const choice[] = {"medqa", "gpqa"};
    return word_index(code, 2, dataset) >= 0 ? RM_TASK_CODE : word_index(choice, 2, dataset) >= 0 ? RM_TASK_CHOICE : RM_TASK_MATH;
}

bool rm_task_parse(const char *s, rm_task *out) {
    int i = word_index(task_names, (int)RM_COUNT(task_names), s);
    if (i >= 0) *out = (rm_task)i;
    return i >= 0;
}

bool rm_form_parse(const char *s, rm_form *out) {
    int i = word_index(form_names, (int)RM_COUNT(form_names), s);
    if (i >= 0) *out = (rm_form)i;
    return i >= 0;
}

const char *rm_task_name(rm_task t) { return task_names[t]; }

/* ---- rules ---------------------------------------------------------------------------------------------------------- */

void rm_text_strip(const char **s, size_t *n, bool left, bool right) { rm_text_trim(s, n, NULL, 0, left, right); }

static size_t skip_space(const char *s, size_t n, size_t at) {
    const char *p = s + at;
    size_t rest = n - at;
    rm_text_trim(&p, &rest, NULL, 0, true, false);
    return n - rest;
}

bool rm_question_lettered(const char *s, size_t n) {
    for (size_t at = 0; at < n;) { /* at: the start of a line */
        size_t letter = skip_space(s, n, at);
        if (letter < n && (s[letter] | 32) >= 'a' && (s[letter] | 32) <= 'd') {
            size_t sign = skip_space(s, n, letter + 1);
            if (sign < n && s[sign] && strchr(".):-", s[sign]) && skip_space(s, n, sign + 1) > sign + 1) return true;
        }
        /* lines that begin in the white space before the letter lead to the same letter */
        const char *lf = letter < n ? memchr(s + letter, '\n', n - letter) : NULL;
        if (!lf) return false;
        at = (size_t)(lf - s) + 1;
    }
    return false;
}

/* ---- sections ------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *variant[4]; /* what is tried behind a base, in order */
    int n;
} variants;

static variants variants_of(const rm_ask *a) {
    static const char *const forms[] = {[RM_FORM_PROGRAM] = "/code/program", [RM_FORM_NAMED] = "/code/named", [RM_FORM_UNNAMED] = "/code/unnamed"};
    variants v = {.n = 0};
    if (a->task == RM_TASK_CODE) {
        v.variant[v.n++] = forms[a->form];
        v.variant[v.n++] = "/code";
    } else {
        const char *q = a->question ? a->question : "";
        if (a->task == RM_TASK_CHOICE) v.variant[v.n++] = "/choice";
        if (rm_question_lettered(q, strlen(q))) v.variant[v.n++] = "/lettered";
        v.variant[v.n++] = "/math";
    }
    v.variant[v.n++] = "";
    return v;
}

/* The first section that fits one base name; -1: none. */
static int find(const rm_pack *p, const char *base, size_t n_base, const rm_ask *a, const variants *v, rm_strbuf *name) {
    for (int i = 0; i < v->n; i++) {
        for (int w = 0; w <= a->n_option; w++) {
            rm_strbuf_clear(name);
            rm_strbuf_add(name, base, n_base);
            rm_strbuf_puts(name, v->variant[i]);
            if (w < a->n_option) {
                rm_strbuf_putc(name, '@');
                rm_strbuf_puts(name, a->option[w]);
            }
            int k = name->failed ? -1 : rm_pack_find_name(p, rm_str(name), name->n);
            if (k >= 0) return k;
        }
    }
    return -1;
}

/* ---- rendering ------------------------------------------------------------------------------------------------------ */

void rm_parts_free(rm_parts *p) {
    for (int i = 0; i < p->n; i++) rm_free(p->v[i].text);
    rm_free(p->v);
    *p = (rm_parts){0};
}

typedef struct {
    const rm_pack *p;
    const rm_ask *ask;
    variants v;
    rm_strbuf name; /* of the section that is looked for */
    const char *extra; /* value of {{tests}}, {{starter_code}} or {{query}} */
    rm_strbuf choice; /* the choice question, once it was needed */
    bool have_choice;
    rm_strbuf text; /* since the last slot */
    size_t total;
    rm_parts *out;
    rmas_error *err;
} renderer;

static rmas_status no_memory(renderer *r) { return rm_fail(r->err, RMAS_E_NOMEM, "%s: out of memory", r->p->name); }

static bool add_part(renderer *r, bool is_slot, const char *s, size_t n) {
    rm_parts *o = r->out;
    if (o->n == o->cap) {
        int cap = o->cap ? 2 * o->cap : 8;
        rm_part *v = rm_realloc_array(o->v, (size_t)cap, sizeof *v);
        if (!v) return false;
        o->v = v;
        o->cap = cap;
    }
    char *copy = rm_strndup(s, n);
    if (!copy) return false;
    o->v[o->n++] = (rm_part){is_slot, copy, n};
    return true;
}

static bool flush(renderer *r) {
    if (r->text.failed) return false;
    if (r->text.n && !add_part(r, false, rm_str(&r->text), r->text.n)) return false;
    rm_strbuf_clear(&r->text);
    return true;
}

static rmas_status emit_text(renderer *r, const char *s, size_t n) {
    if (n > MAX_PROMPT - r->total) return rm_pack_fail(r->p, r->err, "E_SIZE", 0, "a prompt grows beyond %d MiB", MAX_PROMPT >> 20);
    r->total += n;
    rm_strbuf_add(&r->text, s, n);
    return RMAS_OK;
}

static void choice_question(const rm_pack *p, const char *q, rm_strbuf *out) {
    size_t n = strlen(q);
    rm_text_strip(&q, &n, false, true);
    rm_strbuf_add(out, q, n);
    if (rm_pack_is_marked(p, q, n)) return;
    rm_strbuf_puts(out, "\n\n");
    rm_pack_plain(p, p->note, out);
}

static rmas_status emit(renderer *r, int section);

static rmas_status emit_part(renderer *r, const rm_pack_part *part, int line) {
    const char *q = r->ask->question ? r->ask->question : "";
    const char *fn = r->ask->fn_name ? r->ask->fn_name : "";
    switch (part->kind) {
    case PART_TEXT: return emit_text(r, part->s, part->n);
    case PART_QUESTION: return emit_text(r, q, strlen(q));
    case PART_FN_NAME: return emit_text(r, fn, strlen(fn));
    case PART_CHOICE_QUESTION:
        if (!r->have_choice) choice_question(r->p, q, &r->choice);
        r->have_choice = true;
        return emit_text(r, rm_str(&r->choice), r->choice.n);
    case PART_SLOT: return flush(r) && add_part(r, true, part->s, part->n) ? RMAS_OK : no_memory(r);
    case PART_INCLUDE: {
        int k = find(r->p, part->s, part->n, r->ask, &r->v, &r->name);
        if (k < 0)
            return rm_pack_fail(r->p, r->err, "E_MISSING", line, "no section for %.*s, task %s", (int)(part->n > 60 ? 60 : part->n), part->s,
                                rm_task_name(r->ask->task));
        return emit(r, k);
    }
    default: return emit_text(r, r->extra ? r->extra : "", r->extra ? strlen(r->extra) : 0);
    }
}

static rmas_status emit(renderer *r, int section) { /* the depth was checked when the pack was read */
    const rm_pack_section_ *s = &r->p->section[section];
    for (int i = 0; i < s->n_part; i++) RM_TRY(emit_part(r, &r->p->part[s->first + i], s->line));
    return RMAS_OK;
}

static rmas_status missing(renderer *r, const char *const *base, int n_base) {
    rm_strbuf tried = {0};
    for (int b = 0; b < n_base; b++)
        for (int i = 0; i < r->v.n; i++) rm_strbuf_printf(&tried, "%s%s%s", tried.n ? ", " : "", base[b], r->v.variant[i]);
    rmas_status st =
        rm_pack_fail(r->p, r->err, "E_MISSING", 0, "no section for %s, task %s; tried: %.200s", base[0], rm_task_name(r->ask->task), rm_str(&tried));
    rm_strbuf_free(&tried);
    return st;
}

static rmas_status render(const rm_pack *p, const char *const *base, int n_base, const rm_ask *ask, const char *extra, rm_parts *out,
                          rmas_error *err) {
    renderer r = {.p = p, .ask = ask, .v = variants_of(ask), .extra = extra, .out = out, .err = err};
    int k = -1;
    *out = (rm_parts){0};
    for (int i = 0; i < n_base && k < 0; i++) k = find(p, base[i], strlen(base[i]), ask, &r.v, &r.name);
    rmas_status st = r.name.failed ? no_memory(&r) : k < 0 ? missing(&r, base, n_base) : emit(&r, k);
    if (st == RMAS_OK && (!flush(&r) || r.choice.failed)) st = no_memory(&r);
    if (st == RMAS_OK) out->section = p->section[k].name;
    rm_strbuf_free(&r.name);
    rm_strbuf_free(&r.choice);
    rm_strbuf_free(&r.text);
    if (st != RMAS_OK) rm_parts_free(out);
    return st;
}

rmas_status rm_pack_lookup(const rm_pack *p, const char *const *base, int n_base, const rm_ask *ask, rm_parts *out, rmas_error *err) {
    return render(p, base, n_base, ask, NULL, out, err);
}

/* A text without slots, appended to out. */
static rmas_status plain(const rm_pack *p, const char *const *base, int n_base, const rm_ask *ask, const char *extra, rm_strbuf *out,
                         rmas_error *err) {
    rm_parts parts;
    RM_TRY(render(p, base, n_base, ask, extra, &parts, err));
    rmas_status st = RMAS_OK;
    for (int i = 0; i < parts.n && st == RMAS_OK; i++) {
        if (parts.v[i].is_slot)
            st = rm_pack_fail(p, err, "E_SLOTS", 0, "section %s has a slot, but it is plain text", parts.section);
        else
            rm_strbuf_add(out, parts.v[i].text, parts.v[i].n);
    }
    rm_parts_free(&parts);
    return st == RMAS_OK && out->failed ? rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name) : st;
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

typedef struct { /* base names, made of words of the caller */
    rm_strbuf name[5];
    const char *v[5];
    int n;
} bases;

static void add_base(bases *b, const char *prefix, const char *style, const char *role, const char *end) {
    rm_strbuf *s = &b->name[b->n];
    rm_strbuf_printf(s, "%s%s%s%s%s", prefix, style, role ? "/" : "", role ? role : "", end);
    b->v[b->n++] = rm_str(s);
}

static void free_bases(bases *b) {
    for (int i = 0; i < b->n; i++) rm_strbuf_free(&b->name[i]);
}

rmas_status rm_pack_user(const rm_pack *p, const char *style, const char *role, bool feedback, bool text_mode, const rm_ask *ask, rm_parts *out,
                         rmas_error *err) {
    bases b = {0};
    const char *end = feedback ? "/feedback" : "";
    if (text_mode) add_base(&b, "text/", style, role, end);
    add_base(&b, "", style, role, end);
    rmas_status st = render(p, b.v, b.n, ask, NULL, out, err);
    free_bases(&b);
    return st;
}

rmas_status rm_pack_system(const rm_pack *p, const char *style, const char *role, bool text_mode, const rm_ask *ask, rm_strbuf *out,
                           rmas_error *err) {
    bases b = {0};
    for (int text = text_mode; text >= 0; text--) {
        add_base(&b, text ? "text/" : "", style, role, "/system");
        add_base(&b, text ? "text/" : "", style, NULL, "/system");
    }
    add_base(&b, "", "system", NULL, "");
    rmas_status st = plain(p, b.v, b.n, ask, NULL, out, err);
    free_bases(&b);
    return st;
}

rmas_status rm_pack_retry(const rm_pack *p, const char *style, const rm_ask *ask, rm_strbuf *out, rmas_error *err) {
    bases b = {0};
    add_base(&b, "", style, NULL, "/retry");
    add_base(&b, "", "retry", NULL, "");
    rmas_status st = plain(p, b.v, b.n, ask, NULL, out, err);
    free_bases(&b);
    return st;
}

static rmas_status question_with(const rm_pack *p, const char *base, const char *question, const char *value, rm_strbuf *out, rmas_error *err) {
    const rm_ask ask = {.question = question};
    return plain(p, &base, 1, &ask, value, out, err);
}

static rmas_status alone(const rm_pack *p, const char *question, rm_strbuf *out, rmas_error *err) {
    rm_strbuf_puts(out, question);
    return out->failed ? rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name) : RMAS_OK;
}

rmas_status rm_pack_question_tests(const rm_pack *p, const char *question, const char *tests, rm_strbuf *out, rmas_error *err) {
    return tests && *tests ? question_with(p, "question/tests", question, tests, out, err) : alone(p, question, out, err);
}

rmas_status rm_pack_question_starter(const rm_pack *p, const char *question, const char *starter, rm_strbuf *out, rmas_error *err) {
    const char *s = starter ? starter : "";
    size_t n = strlen(s);
    rm_text_strip(&s, &n, true, true);
    return n ? question_with(p, "question/starter_code", question, starter, out, err) : alone(p, question, out, err);
}

rmas_status rm_pack_question_choice(const rm_pack *p, const char *question, rm_strbuf *out, rmas_error *err) {
    if (p->note < 0 || p->mark < 0) return rm_pack_fail(p, err, "E_MISSING", 0, "choice questions need the sections choice-note and choice-mark");
    choice_question(p, question, out);
    return out->failed ? rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name) : RMAS_OK;
}

rmas_status rm_pack_search_off(const rm_pack *p, const char *query, rm_strbuf *out, rmas_error *err) {
    const char *base = "tool/search_off";
    const rm_ask ask = {0};
    return plain(p, &base, 1, &ask, query, out, err);
}

/* ---- slots ---------------------------------------------------------------------------------------------------------- */

rmas_status rm_parts_check(const rm_parts *p, const char *const *role, int n_role, rmas_error *err) {
    const char *section = p->section ? p->section : "the prompt";
    int slots = 0;
    for (int i = 0; i < p->n; i++) {
        if (!p->v[i].is_slot) continue;
        slots++;
        if (word_index(role, n_role, p->v[i].text) < 0)
            return rm_fail(err, RMAS_E_FORMAT, "E_SLOTS: %s has a slot for '%s', which sends nothing here", section, p->v[i].text);
        for (int k = 0; k < i; k++)
            if (p->v[k].is_slot && !strcmp(p->v[k].text, p->v[i].text))
                return rm_fail(err, RMAS_E_FORMAT, "E_SLOTS: %s has two slots for '%s'", section, p->v[i].text);
    }
    for (int i = 0; i < n_role && slots < n_role; i++) {
        int k = 0;
        while (k < p->n && !(p->v[k].is_slot && !strcmp(p->v[k].text, role[i]))) k++;
        if (k == p->n) return rm_fail(err, RMAS_E_FORMAT, "E_SLOTS: %s has no slot for '%s'", section, role[i]);
    }
    return RMAS_OK;
}

rmas_status rm_parts_fill(const rm_parts *p, const char *const *role, const rm_strbuf *const *text, int n_role, rm_strbuf *out, rmas_error *err) {
    for (int i = 0; i < p->n; i++) {
        const char *s = p->v[i].text;
        size_t n = p->v[i].n;
        if (p->v[i].is_slot) {
            int k = word_index(role, n_role, s);
            if (k < 0) return rm_fail(err, RMAS_E_FORMAT, "E_SLOTS: there is no text for the slot of '%s'", s);
            s = rm_str(text[k]);
            n = text[k]->n;
            rm_text_strip(&s, &n, true, true);
        }
        rm_strbuf_add(out, s, n);
    }
    return out->failed ? rm_fail(err, RMAS_E_NOMEM, "out of memory") : RMAS_OK;
}
