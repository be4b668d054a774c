/* rmas data make: training rows for links, from questions with answers. The team works on each question in text; where its answer
 * is right by the strict scorer, what the agents wrote becomes a row. Each attempt is a results file as of `rmas run --method text`
 * beside the rows, so a run that was killed goes on from there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run_setup.h"
#include "train/style.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/strbuf.h"

typedef struct {
    rm_run_flags run;
    const char *out, *generator, *keep;
    int64_t attempts;
    bool gold;
} settings;

typedef struct {
    rm_show show; /* first: the hooks of a run get a pointer to it */
    const rm_dataset *data;
    rm_train_style style;
    json_t **row; /* [data->n] training rows so far; NULL: none */
    bool *right; /* [data->n] its answer was right */
} maker;

enum { MAX_ATTEMPTS = 100 };

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

static int parse(int argc, char **argv, settings *s, int *n_word) {
    rm_run_flags *f = &s->run;
    const rm_opt own[] = {
        STR("data", dataset_path, "FILE", "questions with answers: {question, answer} as JSON or JSONL, or the file of --dataset"),
        {"out", RM_OPT_STRING, &s->out, NULL, "FILE", "the rows (.jsonl); attempts are kept beside it as FILE.1, FILE.2 ..."},
        {"generator", RM_OPT_STRING, &s->generator, NULL, "MODEL", "a model folder or .gguf file that stands in for every role"},
        {"attempts", RM_OPT_INT, &s->attempts, NULL, "K", "tries for a question until its answer is right, each with the next seed"},
        {"keep", RM_OPT_STRING, &s->keep, NULL, "right|all",
         "rows whose answer is right by the strict scorer, or all (with --gold_answer the team's is not even written)"},
        {"gold_answer", RM_OPT_FLAG, &s->gold, NULL, NULL, "the answer's column gets the data's own solution, not the team's"},
        {"dataset", RM_OPT_STRING, &f->dataset, &f->g_dataset, "NAME", "whose prompts and scorer: math500, gsm8k, medqa, ..."},
        {0},
    };
    return rm_run_parse(argc, argv, f, own, "rmas data make (--style NAME | --system DIR) --data FILE --out rows.jsonl [OPTION]...", n_word);
}

static bool nobody_reads_answers(const settings *s) { return s->gold && !strcmp(s->keep, "all"); }

/* ---- rows --------------------------------------------------------------------------------------------------------------------- */

/* A solution that ends with "#### N", as gsm8k's do, says the same in the words that prompts ask for; other texts stay as they are. */
static char *gold_text(const char *gold) {
    const char *mark = strstr(gold, "####");
    rm_strbuf b = {0};
    if (!mark) return rm_strdup(gold);
    for (const char *p = gold; p < mark; p++) { /* without the marks of a calculator */
        const char *end = !strncmp(p, "<<", 2) ? strstr(p, ">>") : NULL;
        if (end && end < mark)
            p = end + 1;
        else
            rm_strbuf_putc(&b, *p);
    }
    const char *n = mark + 4;
    size_t len = strlen(n);
    rm_text_strip(&n, &len, true, true);
    rm_strbuf_printf(&b, "The answer is \\boxed{%.*s}.", (int)len, n);
    return rm_strbuf_take(&b);
}

/* False: there is no text. NULs that a model wrote are left out, for nobody trains on them. */
static bool set_text(json_t *row, const char *column, const char *text, size_t n) {
    rm_strbuf b = {0};
    for (size_t i = 0; i < n; i++)
        if (text[i]) rm_strbuf_putc(&b, text[i]);
    bool ok = b.n && !b.failed && json_object_set_new(row, column, json_stringn(b.s, b.n)) == 0;
    rm_strbuf_free(&b);
    return ok;
}

/* The training columns of one line of an attempt; *out NULL if a text is missing. */
static rmas_status make_row(json_t **out, const maker *m, const settings *s, const json_t *line, int index, int attempt, rmas_error *err) {
    static const char *const family[] = {[RM_KIND_MATH] = NULL, [RM_KIND_CHOICE] = "choice", [RM_KIND_CODE] = "code"};
    const rm_item *item = &m->data->v[index];
    const json_t *said = json_object_get(line, "said");
    json_t *row = *out = json_pack("{s:s}", "question", item->question);
    if (!row) return nomem(err);
    bool whole = true;
    for (int r = 0; whole && r < m->style.n_role; r++) {
        const rm_train_role *role = &m->style.role[r];
        bool answers = role->agent == m->style.system->answer;
        const json_t *text = answers ? json_object_get(line, "raw_output") : json_object_get(said, role->name);
        const char *t = json_string_value(text);
        size_t n = json_string_length(text);
        char *gold = answers && s->gold ? gold_text(item->gold) : NULL;
        if (answers && s->gold && !gold) {
            json_decref(row);
            return nomem(err);
        }
        if (gold) t = gold, n = strlen(gold);
        rm_text_strip(&t, &n, true, true);
        whole = set_text(row, role->inner[0], t, n) && (!answers || set_text(row, "answer", t, n));
        rm_free(gold);
    }
    if (family[item->kind]) json_object_set_new(row, "task_family", json_string(family[item->kind]));
    if (item->fn_name) json_object_set_new(row, "fn_name", json_string(item->fn_name));
    json_object_set_new(row, "sample_idx", json_integer(index));
    json_object_set_new(row, "attempt", json_integer(attempt));
    if (!nobody_reads_answers(s)) json_object_set_new(row, "strict_correct", json_boolean(json_is_true(json_object_get(line, "strict_correct"))));
    if (whole) return RMAS_OK;
    json_decref(row);
    *out = NULL;
    return RMAS_OK;
}

/* Rows of the questions that an attempt has answered. */
static rmas_status collect(maker *m, const settings *s, const rm_results *results, int attempt, rmas_error *err) {
    bool all = !strcmp(s->keep, "all");
    for (size_t i = 0; i < m->data->n; i++) {
        const char *text = rm_results_line(results, (int)i);
        if (!text || m->right[i]) continue;
        json_t *line = json_loads(text, JSON_ALLOW_NUL, NULL), *row = NULL;
        bool right = json_is_true(json_object_get(line, "strict_correct"));
        rmas_status st = right || (all && !m->row[i]) ? make_row(&row, m, s, line, (int)i, attempt, err) : RMAS_OK;
        json_decref(line);
        RM_TRY(st);
        if (!row) continue;
        json_decref(m->row[i]);
        m->row[i] = row;
        m->right[i] = right;
    }
    return RMAS_OK;
}

static rmas_status write_rows(const maker *m, const char *path, int *n, rmas_error *err) {
    rm_file_writer w;
    RM_TRY(rm_writer_open(&w, path, err));
    rmas_status st = RMAS_OK;
    *n = 0;
    for (size_t i = 0; st == RMAS_OK && i < m->data->n; i++) {
        if (!m->row[i]) continue;
        char *text = json_dumps(m->row[i], 0);
        st = text ? rm_writer_add(&w, text, strlen(text), err) : nomem(err);
        if (st == RMAS_OK) st = rm_writer_add(&w, "\n", 1, err);
        free(text);
        ++*n;
    }
    if (st == RMAS_OK) return rm_writer_commit(&w, err);
    rm_writer_abort(&w);
    return st;
}

/* ---- attempts ------------------------------------------------------------------------------------------------------------------- */

static bool skip(void *ctx, int index) {
    const maker *m = ctx;
    return m->right[index] || rm_show_skip(ctx, index);
}

static rmas_status one_attempt(maker *m, const settings *s, rm_run_parts *p, rm_run_options *o, int attempt, rmas_error *err) {
    rm_results_options ro = rm_run_results_options(&s->run, p, o);
    rm_strbuf path = {0};
    rm_strbuf_printf(&path, "%s.%d", s->out, attempt);
    ro.path = rm_str(&path);
    rmas_status st = rm_results_open(&p->results, &ro, err);
    if (st == RMAS_OK) {
        m->show.results = p->results;
        rm_run_hooks hooks = {&m->show, rm_show_event, rm_show_answer, skip};
        st = rm_run(p->team, p->pack, p->data, o, &hooks, err);
        rmas_error later = {0};
        rmas_status kept = collect(m, s, p->results, attempt, &later);
        if (st == RMAS_OK && kept == RMAS_OK) kept = rm_results_finish(p->results, &later);
        if (st == RMAS_OK && kept != RMAS_OK) *err = later, st = kept;
        rm_score score = rm_results_score(p->results);
        if (!nobody_reads_answers(s)) rm_show_note(&m->show, "attempt %d: %d of %d answers right", attempt, score.strict, score.n);
        if (score.n_unrun) rm_show_note(&m->show, "%d programs were not run: %s", score.n_unrun, score.why_unrun);
    }
    rm_results_close(p->results);
    p->results = NULL;
    rm_strbuf_free(&path);
    return st;
}

/* Nothing that is there already is overwritten without --resume. */
static rmas_status check_files(const settings *s, rmas_error *err) {
    for (int k = 0; !s->run.resume && k <= s->attempts; k++) {
        rm_strbuf path = {0};
        rm_strbuf_printf(&path, k ? "%s.%d" : "%s", s->out, k);
        bool there = rm_path_exists(rm_str(&path));
        rmas_status st =
            there ? rm_fail(err, RMAS_E_ARG, "%s exists already; --resume goes on with it, or name another --out", rm_str(&path)) : RMAS_OK;
        rm_strbuf_free(&path);
        RM_TRY(st);
    }
    return RMAS_OK;
}

static rmas_status check(const settings *s, rmas_error *err) {
    if (!s->out) return rm_fail(err, RMAS_E_ARG, "--out FILE is needed: where the rows go");
    if (!s->run.dataset_path && !s->run.g_dataset) return rm_fail(err, RMAS_E_ARG, "--data FILE is needed: questions with answers");
    if (strcmp(s->keep, "right") && strcmp(s->keep, "all")) return rm_fail(err, RMAS_E_ARG, "--keep %s: there are right and all", s->keep);
    if (s->attempts < 1 || s->attempts > MAX_ATTEMPTS)
        return rm_fail(err, RMAS_E_ARG, "--attempts %lld: expected 1 to %d", (long long)s->attempts, MAX_ATTEMPTS);
    if (s->attempts > 1 && s->run.g_temperature && s->run.temperature <= 0)
        return rm_fail(err, RMAS_E_ARG, "--attempts %d with --temperature 0: every attempt would write the same", (int)s->attempts);
    return check_files(s, err);
}

/* The generator takes the place of every model; what --ckpt_override names still wins. */
static rmas_status use_generator(settings *s, const rm_system *sys, char **own, rmas_error *err) {
    rm_opt_list *l = &s->run.override;
    size_t n = (size_t)l->n, k = (size_t)sys->n_agent;
    const char **v = rm_array(n + k, sizeof *v);
    if (!v) return nomem(err);
    for (size_t a = 0; a < k; a++) {
        rm_strbuf b = {0};
        rm_strbuf_printf(&b, "%s=%s", sys->agent[a].role, s->generator);
        v[a] = own[a] = rm_strbuf_take(&b);
        if (!own[a]) {
            rm_free(v);
            return nomem(err);
        }
    }
    if (n) memcpy(v + k, l->v, n * sizeof *v);
    rm_free(l->v);
    *l = (rm_opt_list){v, (int)(n + k)};
    return RMAS_OK;
}

static rmas_status make(settings *s, rm_run_parts *p, maker *m, char **own, rmas_error *err) {
    rm_run_flags *f = &s->run;
    rm_run_options o = {.cancel = rm_cli_catch_interrupts()};
    int n_row = 0, n_right = 0;
    RM_TRY(check(s, err));
    RM_TRY(rm_run_open_questions(f, p, &o, err));
    RM_TRY(rm_train_style_make(&m->style, p->sys, err));
    for (size_t i = 0; i < p->data->n; i++)
        if (!p->data->v[i].gold)
            return rm_fail(err, RMAS_E_FORMAT, "%s: question %zu has no answer; training rows need questions with answers", f->dataset_path, i);
    if (s->generator) RM_TRY(use_generator(s, p->sys, own, err));
    RM_TRY(rm_run_open_team(f, p, &m->show, &o, err));
    m->data = p->data;
    m->row = rm_calloc(p->data->n, sizeof *m->row);
    m->right = rm_calloc(p->data->n, sizeof *m->right);
    if (!m->row || !m->right) return nomem(err);
    if (nobody_reads_answers(s)) o.max_answer_tokens = 1;
    rmas_status st = RMAS_OK;
    uint64_t seed = o.seed;
    for (int k = 1; st == RMAS_OK && k <= s->attempts; k++) {
        o.seed = seed + (uint64_t)k - 1;
        st = one_attempt(m, s, p, &o, k, err);
    }
    if (st != RMAS_OK && st != RMAS_E_CANCELLED) return st;
    RM_TRY(write_rows(m, s->out, &n_row, err));
    for (size_t i = 0; i < p->data->n; i++) n_right += m->right[i];
    fprintf(stderr, "%s: %d rows of %zu questions, ", s->out, n_row, p->data->n);
    if (!nobody_reads_answers(s)) fprintf(stderr, "%d with a right answer, ", n_right);
    fprintf(stderr, "%zu dropped%s\n", p->data->n - (size_t)n_row, st == RMAS_OK ? "" : " or not reached (stopped early)");
    return st;
}

static int run_make(int argc, char **argv) {
    settings s = {.run = rm_run_defaults, .keep = "right", .attempts = 1};
    rm_run_parts p = {0};
    maker m = {0};
    rmas_error err = {0};
    char *own[RM_SYSTEM_MAX_AGENT] = {0};
    s.run.method = "text";
    s.run.dataset = "gsm8k";
    s.run.ans = 0; /* a text that is asked for twice is no example */
    s.run.g_ans = true;
    int n_word, status = 0, bad = parse(argc, argv, &s, &n_word);
    if (!bad) {
        rm_show_start(&m.show, NULL, s.run.quiet, false);
        rmas_status st = n_word ? rm_fail(&err, RMAS_E_ARG, "'%s' is not an option", argv[1]) : make(&s, &p, &m, own, &err);
        if (st == RMAS_E_CANCELLED) {
            fprintf(stderr, "rmas data make: interrupted; the attempts so far are kept, --resume goes on\n");
            status = 128 + *rm_cli_catch_interrupts();
        } else if (st != RMAS_OK) {
            status = rm_cli_fail(argv[0], &err);
        }
    }
    for (size_t i = 0; m.row && i < m.data->n; i++) json_decref(m.row[i]);
    rm_free(m.row);
    rm_free(m.right);
    rm_run_close(&p);
    for (int a = 0; a < RM_SYSTEM_MAX_AGENT; a++) rm_free(own[a]);
    rm_free(s.run.override.v);
    return bad ? bad == 1 : status;
}

int cmd_data(int argc, char **argv) {
    static const char usage[] = "usage: rmas data make [OPTIONS]\n\n"
                                "  make  training rows from questions with answers: a team works on them in text\n\n"
                                "'rmas data make --help' lists the options.\n";
    if (argc >= 2 && !strcmp(argv[1], "make")) {
        static char title[] = "data make";
        argv[1] = title;
        return run_make(argc - 1, argv + 1);
    }
    bool help = argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
    fputs(usage, help ? stdout : stderr);
    return !help;
}
