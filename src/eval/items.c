/* What a row of each data set becomes: question, gold, tests. */
#include "eval/items.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "eval/regex.h"
#include "eval/unicode.h"
#include "util/mem.h"

typedef struct {
    rm_item *it;
    const rm_rows *rows;
    const rm_row *row;
    const rm_grader *g;
    const rm_dataset_options *opt;
    rmas_error *err;
} maker;

static rmas_status no_memory(maker *m) { return rm_fail(m->err, RMAS_E_NOMEM, "out of memory"); }

static rmas_status bad(maker *m, const char *name, const char *what) {
    rm_fail(m->err, RMAS_E_FORMAT, "field '%s': %s", name, what);
    return rm_fail_prefix(m->err, RMAS_E_FORMAT, "%s: %s %zu", m->rows->path, m->rows->unit, m->row->line);
}

/* The first of several fields that is there and not null; names: separated by bars. */
static json_t *field(maker *m, const char *names) {
    char name[64];
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, "|");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        json_t *v = json_object_get(m->row->row, name);
        if (v && !json_is_null(v)) return v;
        p += n + (p[n] == '|');
    }
    return NULL;
}

static rmas_status missing(maker *m, const char *names) {
    rm_strbuf has = {0};
    const char *key;
    json_t *v;
    json_object_foreach(m->row->row, key, v) {
        if (has.n < 200) rm_strbuf_printf(&has, "%s%.40s", has.n ? ", " : "", key);
    }
    rm_fail(m->err, RMAS_E_FORMAT, "no field '%s' (there are: %s)", names, rm_str(&has));
    rm_strbuf_free(&has);
    return rm_fail_prefix(m->err, RMAS_E_FORMAT, "%s: %s %zu", m->rows->path, m->rows->unit, m->row->line);
}

/* Text of a field; numbers become text, a list of one text that text. *out NULL if it is not there and not required. */
static rmas_status text_field(maker *m, const char *names, bool required, char **out) {
    json_t *v = field(m, names);
    rm_strbuf b = {0};
    *out = NULL;
    if (!v) return required ? missing(m, names) : RMAS_OK;
    if (json_is_array(v) && json_array_size(v) == 1) v = json_array_get(v, 0);
    if (json_is_integer(v))
        rm_strbuf_printf(&b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        rm_strbuf_double(&b, json_real_value(v));
    else if (json_is_string(v))
        rm_strbuf_puts(&b, json_string_value(v));
    else
        return bad(m, names, "expected a text");
    *out = rm_strbuf_take(&b);
    return *out ? RMAS_OK : no_memory(m);
}

static rmas_status stripped_field(maker *m, const char *names, char **out) {
    char *s;
    RM_TRY(text_field(m, names, true, &s));
    *out = rm_sv_dup(rm_sv_strip(rm_sv_of(s)));
    rm_free(s);
    return *out ? RMAS_OK : no_memory(m);
}

static rmas_status take(maker *m, rm_strbuf *b, char **out) {
    rm_free(*out);
    *out = rm_strbuf_take(b);
    return *out ? RMAS_OK : no_memory(m);
}

static rmas_status copy_gold(maker *m) {
    rm_item *it = m->it;
    if (it->gold && !it->gold_strict && !(it->gold_strict = rm_strdup(it->gold))) return no_memory(m);
    return RMAS_OK;
}

/* ---- choice ---------------------------------------------------------------------------------------------------------- */

/* A line opens like an answer option. */
static rmas_status lettered(maker *m, const char *text, bool *yes) {
    rm_re *re;
    RM_TRY(rm_re_new(&re, "^\\s*+[A-D]\\s*+[.):\\-]\\s", RM_RE_I | RM_RE_M, m->err));
    *yes = rm_re_search(re, rm_sv_of(text), 0, NULL);
    rm_re_free(re);
    return RMAS_OK;
}

static rmas_status add_note(maker *m) {
    const rm_dataset_texts *t = &m->opt->texts;
    if (!t->choice) return RMAS_OK;
    rm_strbuf b = {0};
    rmas_status st = t->choice(t->ctx, m->it->question, &b, m->err);
    if (st) {
        rm_strbuf_free(&b);
        return st;
    }
    return take(m, &b, &m->it->question);
}

static rm_sv without_label(rm_sv option) {
    rm_sv v = rm_sv_strip(option);
    bool letter = v.n >= 2 && ((v.s[0] >= 'A' && v.s[0] <= 'Z') || (v.s[0] >= 'a' && v.s[0] <= 'z')) && strchr(".):-", v.s[1]);
    return letter ? rm_sv_strip(rm_sv_from(v, 2)) : v;
}

static rmas_status options_field(maker *m, json_t *list) {
    rm_item *it = m->it;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n < 2 || n > 26) return bad(m, "options", "expected a list of 2 to 26 texts");
    it->option = rm_calloc(n, sizeof *it->option);
    if (!it->option) return no_memory(m);
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (!s) return bad(m, "options", "expected a list of texts");
        if (!(it->option[i] = rm_sv_dup(without_label(rm_sv_of(s))))) return no_memory(m);
        it->n_option = (int)i + 1;
    }
    return RMAS_OK;
}

static rmas_status append_options(maker *m) {
    rm_strbuf b = {0};
    rm_strbuf_puts(&b, m->it->question);
    for (int i = 0; i < m->it->n_option; i++) rm_strbuf_printf(&b, "\n%c. %s", 'A' + i, m->it->option[i]);
    return take(m, &b, &m->it->question);
}

/* Options that carry letters stand under the question as they are, others get letters. */
static rmas_status append_medqa_options(maker *m, const char *const *raw, int n) {
    rm_strbuf b = {0};
    bool has = false;
    for (int i = 0; i < n; i++) {
        RM_TRY(lettered(m, raw[i], &has));
        if (!has) return append_options(m);
    }
    rm_strbuf_puts(&b, m->it->question);
    for (int i = 0; i < n; i++) rm_strbuf_printf(&b, "\n%s", raw[i]);
    return take(m, &b, &m->it->question);
}

static rmas_status medqa(maker *m) {
    rm_item *it = m->it;
    char *answer;
    const char *raw[26], *query = json_string_value(field(m, "query"));
    RM_TRY(stripped_field(m, query && !*query ? "question" : "query|question", &it->question));
    json_t *list = field(m, "options");
    if (!list) return missing(m, "options");
    RM_TRY(options_field(m, list));
    for (int i = 0; i < it->n_option; i++) raw[i] = json_string_value(json_array_get(list, (size_t)i));
    bool has = false;
    RM_TRY(lettered(m, it->question, &has));
    if (!has) RM_TRY(append_medqa_options(m, raw, it->n_option));
    RM_TRY(add_note(m));
    RM_TRY(text_field(m, "answer", true, &answer));
    char ref[2] = {0}, strict[2] = {0};
    rmas_status st = rm_medqa_gold(m->g, answer, raw, it->n_option, &ref[0], &strict[0], m->err);
    rm_free(answer);
    RM_TRY(st);
    if (!strict[0]) strict[0] = ref[0];
    it->gold = rm_strdup(ref);
    it->gold_strict = rm_strdup(strict);
    return it->gold && it->gold_strict ? RMAS_OK : no_memory(m);
}

static rmas_status gpqa_order(maker *m, const char *stem, char *const opts[4], size_t perm[4]) {
    for (size_t i = 0; i < 4; i++) perm[i] = i;
    if (m->opt->no_option_shuffle) return RMAS_OK;
    rm_strbuf key = {0};
    rm_strbuf_printf(&key, "%lld::", (long long)m->opt->seed);
    if (*stem)
        rm_strbuf_puts(&key, stem);
    else
        for (int i = 0; i < 4; i++) rm_strbuf_printf(&key, "%s%s", i ? "||" : "", opts[i]);
    unsigned char d[16];
    if (key.failed) return no_memory(m);
    rm_md5(rm_str(&key), key.n, d);
    rm_strbuf_free(&key);
    uint64_t s = 0;
    for (int i = 0; i < 8; i++) s = s << 8 | d[i];
    return rm_python_shuffle(s, perm, 4, m->err);
}

static rmas_status gpqa(maker *m) {
    static const char *const names[4] = {"Correct Answer|correct answer|correct_answer", "Incorrect Answer 1|incorrect answer 1|incorrect_answer_1",
                                         "Incorrect Answer 2|incorrect answer 2|incorrect_answer_2",
                                         "Incorrect Answer 3|incorrect answer 3|incorrect_answer_3"};
    rm_item *it = m->it;
    char *opts[4] = {0};
    size_t perm[4];
    it->option = rm_calloc(4, sizeof *it->option);
    if (!it->option) return no_memory(m);
    rmas_status st = stripped_field(m, "Question|question|query|prompt", &it->question);
    for (int i = 0; !st && i < 4; i++) st = stripped_field(m, names[i], &opts[i]);
    if (!st) st = gpqa_order(m, it->question, opts, perm);
    for (int i = 0; !st && i < 4; i++) {
        it->option[i] = rm_strdup(opts[perm[i]]);
        it->n_option = i + 1;
        if (!it->option[i]) st = no_memory(m);
        if (perm[i] == 0) it->gold = rm_strdup((const char[]){(char)('A' + i), 0});
    }
    for (int i = 0; i < 4; i++) rm_free(opts[i]);
    RM_TRY(st);
    if (!it->gold) return no_memory(m);
    RM_TRY(append_options(m));
    return add_note(m);
}

/* ---- code ------------------------------------------------------------------------------------------------------------ */

static rmas_status dump(maker *m, json_t *v, char **out) {
    char *s = v ? json_dumps(v, JSON_COMPACT) : NULL;
    *out = s ? rm_strdup(s) : NULL;
    if (s) {
        void (*release)(void *);
        json_get_alloc_funcs(NULL, &release);
        release(s);
    }
    json_decref(v);
    return *out ? RMAS_OK : no_memory(m);
}

/* The function's name: group 1 of the first or last match. */
static rmas_status name_in(maker *m, const char *pattern, const char *text, bool last, char **out) {
    rm_re *re;
    rm_match mt;
    if (*out || !text) return RMAS_OK;
    RM_TRY(rm_re_new(&re, pattern, 0, m->err));
    rm_sv v = rm_sv_of(text), found = {0};
    for (size_t from = 0; rm_re_search(re, v, from, &mt); from = mt.end[0]) {
        found = rm_group(v, &mt, 1);
        if (!last) break;
    }
    rm_re_free(re);
    if (found.n && !(*out = rm_sv_dup(found))) return no_memory(m);
    return RMAS_OK;
}

static rmas_status mbppplus(maker *m) {
    rm_item *it = m->it;
    char *code = NULL;
    it->form = RM_CODE_UNNAMED;
    RM_TRY(stripped_field(m, "prompt|text", &it->question));
    RM_TRY(text_field(m, "test", true, &it->gold));
    RM_TRY(copy_gold(m));
    json_t *tests = field(m, "test_list");
    size_t n_test = json_array_size(tests);
    RM_TRY(name_in(m, "assertion\\(\\s*+([A-Za-z_][A-Za-z0-9_]*+)\\s*+\\(", it->gold, true, &it->fn_name));
    RM_TRY(name_in(m, "assert\\s++([A-Za-z_][A-Za-z0-9_]*+)\\s*+\\(", it->gold, true, &it->fn_name));
    rm_strbuf shown = {0};
    int limit = m->opt->prompt_tests < 0 ? 3 : m->opt->prompt_tests;
    for (size_t i = 0; i < n_test; i++) {
        const char *s = json_string_value(json_array_get(tests, i));
        if (!s) return bad(m, "test_list", "expected a list of texts");
        RM_TRY(name_in(m, "assert\\s++([A-Za-z_][A-Za-z0-9_]*+)\\s*+\\(", s, false, &it->fn_name));
        if (i < (size_t)limit) rm_strbuf_printf(&shown, "%s%s", i ? "\n" : "", s);
    }
    RM_TRY(text_field(m, "code", false, &code));
    rmas_status st = name_in(m, "(?m)^\\s*def\\s++([A-Za-z_][A-Za-z0-9_]*+)\\s*+\\(", code, false, &it->fn_name);
    rm_free(code);
    if (!st && it->fn_name) it->form = RM_CODE_NAMED;
    const rm_dataset_texts *t = &m->opt->texts;
    if (!st && shown.n && t->tests) {
        rm_strbuf b = {0};
        st = t->tests(t->ctx, it->question, shown.s, &b, m->err);
        if (!st) st = take(m, &b, &it->question);
        rm_strbuf_free(&b);
    }
    rm_strbuf_free(&shown);
    RM_TRY(st);
    return dump(m,
                json_pack("{s:s?, s:s, s:s, s:s, s:[], s:[], s:I}", "fn_name", it->fn_name, "mode", "mbppplus_script", "testtype", "python_script",
                          "test_script", it->gold, "inputs", "outputs", "num_tests", (json_int_t)(n_test ? n_test : 1)),
                &it->eval_sample);
}

/* Tests as a list, as a list written into a text, or packed. New reference. */
static json_t *test_list(json_t *v) {
    if (json_is_array(v)) return json_incref(v);
    json_t *list = json_is_string(v) ? json_loads(json_string_value(v), 0, NULL) : NULL;
    if (!list && json_is_string(v)) {
        char *text = rm_unpack_tests(json_string_value(v));
        list = text ? json_loads(text, 0, NULL) : NULL;
        rm_free(text);
    }
    if (json_is_array(list)) return list;
    json_decref(list);
    return NULL;
}

static rmas_status add_tests(maker *m, json_t *list, json_t *in, json_t *out) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *t = json_array_get(list, i), *a = json_object_get(t, "input"), *b = json_object_get(t, "output");
        if (!json_is_string(a) || !json_is_string(b)) return bad(m, "public_test_cases", "a test without input and output");
        json_array_append(in, a);
        json_array_append(out, b);
    }
    return RMAS_OK;
}

static rmas_status lcb_tests(maker *m) {
    rm_item *it = m->it;
    json_t *tests = test_list(field(m, "public_test_cases")), *hidden = NULL;
    json_t *in = json_array(), *out = json_array();
    rmas_status st = tests ? RMAS_OK : bad(m, "public_test_cases", "expected a list of tests");
    if (!st) st = add_tests(m, tests, in, out);
    if (!st && m->opt->private_tests) {
        json_t *v = field(m, "private_test_cases");
        hidden = test_list(v);
        if (v && !hidden) st = bad(m, "private_test_cases", "neither a list of tests nor one packed as base64, zlib and a pickled text");
        if (!st) st = add_tests(m, hidden, in, out);
    }
    size_t n_public = json_array_size(tests), n_private = json_array_size(hidden);
    const char *mode = it->form == RM_CODE_NAMED ? "functional" : "stdin";
    if (!st) {
        st = dump(m,
                  json_pack("{s:s?, s:s, s:s, s:O, s:O, s:I, s:I}", "fn_name", it->fn_name, "mode", mode, "testtype", mode, "inputs", in, "outputs",
                            out, "num_public", (json_int_t)n_public, "num_private", (json_int_t)n_private),
                  &it->eval_sample);
    }
    if (!st) st = dump(m, json_incref(tests), &it->gold);
    json_decref(in);
    json_decref(out);
    json_decref(tests);
    json_decref(hidden);
    return st;
}

static rmas_status livecodebench(maker *m) {
    rm_item *it = m->it;
    char *starter;
    it->form = RM_CODE_PROGRAM;
    RM_TRY(stripped_field(m, "question_content|question", &it->question));
    json_t *meta = field(m, "metadata");
    json_t *parsed = json_is_string(meta) ? json_loads(json_string_value(meta), 0, NULL) : json_incref(meta);
    const char *name = json_string_value(json_object_get(parsed, "func_name"));
    if (name && *name) {
        it->fn_name = rm_strdup(name);
        it->form = RM_CODE_NAMED;
    }
    json_decref(parsed);
    if (it->form == RM_CODE_NAMED && !it->fn_name) return no_memory(m);
    RM_TRY(lcb_tests(m));
    RM_TRY(copy_gold(m));
    RM_TRY(text_field(m, "starter_code", false, &starter));
    const rm_dataset_texts *t = &m->opt->texts;
    rmas_status st = RMAS_OK;
    if (starter && t->starter && rm_sv_strip(rm_sv_of(starter)).n) {
        rm_strbuf b = {0};
        st = t->starter(t->ctx, it->question, starter, &b, m->err);
        if (!st) st = take(m, &b, &it->question);
        rm_strbuf_free(&b);
    }
    rm_free(starter);
    return st;
}

/* ---- everything else ------------------------------------------------------------------------------------------------- */

static rmas_status free_answer(maker *m, bool own) {
    rm_item *it = m->it;
    RM_TRY(text_field(m, own ? "question|query|prompt|text|input|problem" : "question|problem", true, &it->question));
    RM_TRY(text_field(m, own ? "answer|gold" : "answer", !own, &it->gold));
    return copy_gold(m);
}

/* A question of one's own with options: lettered lines, and a letter as the gold. */
static rmas_status own_choice(maker *m) {
    rm_item *it = m->it;
    it->kind = RM_KIND_CHOICE;
    json_t *list = field(m, "options|choices");
    if (list) {
        RM_TRY(options_field(m, list));
        bool has = false;
        RM_TRY(lettered(m, it->question, &has));
        if (!has) RM_TRY(append_options(m));
    }
    RM_TRY(add_note(m));
    for (int i = 0; it->gold && i < it->n_option; i++) {
        if (!rm_sv_eq(rm_sv_of(it->option[i]), without_label(rm_sv_of(it->gold)))) continue;
        rm_free(it->gold);
        rm_free(it->gold_strict);
        it->gold = rm_strdup((const char[]){(char)('A' + i), 0});
        it->gold_strict = NULL;
        if (!it->gold) return no_memory(m);
    }
    return copy_gold(m);
}

rmas_status rm_item_build(rm_item *it, const char *dataset, const rm_rows *rows, size_t i, bool own, const rm_grader *g,
                          const rm_dataset_options *opt, rmas_error *err) {
    maker m = {it, rows, &rows->v[i], g, opt, err};
    bool choice = strcmp(dataset, "medqa") == 0 || strcmp(dataset, "gpqa") == 0;
    if (own) {
        RM_TRY(free_answer(&m, true));
        if (choice || field(&m, "options|choices"))
            RM_TRY(own_choice(&m));
        else if (it->kind == RM_KIND_CODE)
            it->form = RM_CODE_UNNAMED;
    } else if (strcmp(dataset, "medqa") == 0) {
        RM_TRY(medqa(&m));
    } else if (strcmp(dataset, "gpqa") == 0) {
        RM_TRY(gpqa(&m));
    } else if (strcmp(dataset, "mbppplus") == 0) {
        RM_TRY(mbppplus(&m));
    } else if (strcmp(dataset, "livecodebench") == 0) {
        RM_TRY(livecodebench(&m));
    } else {
        RM_TRY(free_answer(&m, false));
    }
    RM_TRY(copy_gold(&m));
    char number[24];
    snprintf(number, sizeof number, "%zu", i);
    json_t *id = field(&m, "unique_id|task_id|question_id|id|idx|Record ID|_id");
    if (json_is_string(id))
        it->id = rm_strdup(json_string_value(id));
    else {
        if (json_is_integer(id)) snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
        it->id = rm_strdup(number);
    }
    return it->id ? RMAS_OK : no_memory(&m);
}
