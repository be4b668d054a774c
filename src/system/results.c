/* Grading answers and keeping them: every line is on the disk before the next question's is written. */
#include "system/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system/engine.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/number.h"

struct rm_results {
    rm_results_options o;
    rm_grader *grader;
    rm_sandbox *sandbox;
    bool sandbox_tried;
    rmas_error sandbox_error;
    char run[20]; /* fingerprint of the settings that the answers depend on */
    char **line; /* [data->n] as in the file, without the line break; NULL: not known */
    int fd; /* -1: no file */
    int n, n_graded, correct, strict, n_unrun;
    int *rollout_correct;
};

enum { MAX_FILE = 1 << 30 };

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

void rm_verdict_free(rm_verdict *v) {
    rm_free(v->pred);
    rm_free(v->gold);
    *v = (rm_verdict){0};
}

/* ---- fingerprint ---------------------------------------------------------------------------------------------------------- */

static void fingerprint(rm_results *s) {
    const rm_run_options *r = s->o.run;
    rm_strbuf b = {0};
    uint64_t h = 0xCBF29CE484222325u;
    char number[3][32];
    rm_number_print(number[0], sizeof number[0], 'g', 9, r->temperature);
    rm_number_print(number[1], sizeof number[1], 'g', 9, r->top_p);
    rm_number_print(number[2], sizeof number[2], 'g', 9, r->min_p);
    rm_strbuf_printf(&b, "%s|%s|%s|%s|%d|%d|%d|%d|%d|%s|%s|%d|%s|%llu|%d|%d|%d|%d|%d|%s|%zu", s->o.sys->name, s->o.sys->family, s->o.dataset,
                     s->o.method, r->n_round, r->text ? 0 : r->latent_steps, r->max_new_tokens, r->ans, r->ans_max_new_tokens, number[0], number[1],
                     r->top_k, number[2], (unsigned long long)r->seed, r->n_rollout, r->allow_python, r->allow_search, r->max_tool_rounds,
                     r->reference_loop, s->o.prompts ? s->o.prompts : "", s->o.data->n);
    if (r->max_answer_tokens) rm_strbuf_printf(&b, "|%d", r->max_answer_tokens);
    if (r->messages) rm_strbuf_printf(&b, "|messages %d", (int)r->messages);
    for (int i = 0; i < r->n_option; i++) rm_strbuf_printf(&b, "|%s", r->option[i]);
    if (s->o.more) rm_strbuf_printf(&b, "|%s", s->o.more);
    for (size_t i = 0; i < b.n; i++) h = (h ^ (unsigned char)b.s[i]) * 0x100000001B3u;
    rm_strbuf_free(&b);
    snprintf(s->run, sizeof s->run, "%016llx", (unsigned long long)h);
}

/* ---- one line ------------------------------------------------------------------------------------------------------------- */

/* The grader's texts cannot hold NUL characters, a model's can: they travel through it as a noncharacter, which counts as what
 * a NUL counts as (neither a letter nor white space), and come back in the record. */
static const char stand_in[] = "\xEF\xB7\x90"; /* U+FDD0 */

static void hide_nul(rm_strbuf *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (text[i])
            rm_strbuf_putc(out, text[i]);
        else
            rm_strbuf_puts(out, stand_in);
}

static json_t *text_or_null(const char *t, bool hidden) {
    if (!t) return json_null();
    if (!hidden || !strstr(t, stand_in)) return rm_record_text(t, strlen(t));
    rm_strbuf b = {0};
    for (const char *p; (p = strstr(t, stand_in)); t = p + 3) {
        rm_strbuf_add(&b, t, (size_t)(p - t));
        rm_strbuf_putc(&b, 0);
    }
    rm_strbuf_puts(&b, t);
    json_t *o = b.failed ? NULL : rm_record_text(b.s, b.n);
    rm_strbuf_free(&b);
    return o;
}

static void set(json_t *o, const char *key, json_t *v) { json_object_set_new(o, key, v ? v : json_null()); }

static double program_timeout(const rm_results *s) {
    return s->o.program_timeout_s > 0 ? s->o.program_timeout_s : !strcmp(s->o.dataset, "mbppplus") ? 10 : 6;
}

/* Runs the program of a reply. Without a sandbox nothing is run, and the record says so. */
static rmas_status run_program(rm_results *s, const char *code, const rm_item *item, json_t *o, bool *correct, bool *strict, rmas_error *err) {
    rm_program_grade g = {0}, h = {0};
    bool empty = !code || !*code;
    if (!empty && !s->sandbox_tried) {
        rm_sandbox_options so = {.unsafe = s->o.unsafe};
        s->sandbox_tried = true;
        rm_sandbox_new(&s->sandbox, &so, &s->sandbox_error);
    }
    if (!empty && !s->sandbox) {
        s->n_unrun++;
        set(o, "eval",
            json_pack("{s:b, s:i, s:i, s:n, s:s, s:s}", "all_passed", 0, "passed_tests", 0, "total_tests", 0, "failed_test_index", "error_type",
                      "NO_SANDBOX", "detail", s->sandbox_error.msg));
        return RMAS_OK;
    }
    rmas_status st = rm_program_run(s->sandbox, false, code ? code : "", item->eval_sample, program_timeout(s), &g, err);
    if (st == RMAS_OK && !empty) st = rm_program_run(s->sandbox, true, code, item->eval_sample, program_timeout(s), &h, err);
    if (st == RMAS_OK) {
        json_t *index = g.failed_index >= 0 ? json_integer(g.failed_index) : json_null();
        set(o, "eval",
            json_pack("{s:b, s:i, s:i, s:o, s:o, s:o}", "all_passed", g.all_passed, "passed_tests", g.passed, "total_tests", g.total,
                      "failed_test_index", index, "error_type", text_or_null(g.error_type, false), "detail",
                      text_or_null(g.detail ? g.detail : "", false)));
        set(o, "strict_status", json_string(empty ? "no_code" : h.status));
        *correct = g.all_passed;
        *strict = !empty && h.correct;
    }
    rm_program_grade_free(&g);
    rm_program_grade_free(&h);
    return st;
}

/* The answer fields of one text, into o. */
static rmas_status grade_text(rm_results *s, const rm_item *item, const char *text, size_t n, json_t *o, bool *correct, bool *strict, rm_verdict *v,
                              rmas_error *err) {
    rm_ref_grade g = {0};
    rm_strict_grade h = {0};
    bool code = item->kind == RM_KIND_CODE;
    const char *name = s->o.data->name;
    bool hidden = n && memchr(text, 0, n);
    rm_strbuf clean = {0};
    if (hidden) {
        hide_nul(&clean, text, n);
        if (clean.failed) return nomem(err);
        text = clean.s;
        n = clean.n;
    }
    rmas_status st = rm_grade_reference(s->grader, name, text, n, item->gold, &g, err);
    if (st == RMAS_OK) st = rm_grade_strict(s->grader, name, text, n, item->gold_strict, item->fn_name, &h, err);
    *correct = st == RMAS_OK && !code && g.correct;
    *strict = st == RMAS_OK && !code && h.correct;
    if (st == RMAS_OK && code) {
        set(o, "pred_code_parsed", text_or_null(g.code ? g.code : "", hidden));
        set(o, "parse_ok", json_boolean(g.parse_ok));
        if (item->eval_sample) st = run_program(s, g.code, item, o, correct, strict, err);
    } else if (st == RMAS_OK) {
        set(o, "gold_answer_parsed", item->gold ? text_or_null(g.gold, hidden) : json_null());
        set(o, "pred_answer_parsed", text_or_null(g.pred, hidden));
        set(o, "gold_norm", text_or_null(g.gold_norm, hidden));
        set(o, "pred_norm", text_or_null(g.pred_norm, hidden));
        set(o, "strict_parsed", text_or_null(h.parsed, hidden));
        if (h.has_f1) set(o, "f1", json_real(h.f1));
    }
    if (st == RMAS_OK) {
        bool known = code ? item->eval_sample != NULL : item->gold != NULL;
        set(o, "correct", known ? json_boolean(*correct) : json_null());
        set(o, "strict_correct", known ? json_boolean(*strict) : json_null());
        if (!v->pred && !v->gold) {
            v->graded = known;
            v->pred = g.pred ? rm_strdup(g.pred) : h.parsed && !code ? rm_strdup(h.parsed) : NULL;
            v->gold = known && !code && g.gold ? rm_strdup(g.gold) : NULL;
        }
    }
    rm_ref_grade_free(&g);
    rm_strict_grade_free(&h);
    rm_strbuf_free(&clean);
    return st;
}

static const char *shape_name(const rm_system *sys) {
    static const char *const names[][2] = {{"sequential", "chain"}, {"mixture", "hie"}, {"distillation", "distill"}};
    for (size_t i = 0; i < RM_COUNT(names); i++)
        if (!strcmp(sys->family, names[i][0])) return names[i][1];
    return sys->family;
}

static void method_name(const rm_results *s, char *out, size_t n) {
    const char *shape = shape_name(s->o.sys);
    if (strcmp(s->o.method, "latent") || !s->o.sys->style)
        snprintf(out, n, "%s", s->o.method);
    else if (!strcmp(shape, "chain"))
        snprintf(out, n, "ours_recursive");
    else if (!strcmp(shape, "hie"))
        snprintf(out, n, "ours_hie_recursive");
    else
        snprintf(out, n, "ours_recursive_%s", shape);
}

static json_t *common_fields(const rm_results *s) {
    char method[64];
    method_name(s, method, sizeof method);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i}", "dataset", s->o.dataset, "dataset_split", s->o.split ? s->o.split : "", "method", method,
                     "mas_shape", shape_name(s->o.sys), "latent_steps", s->o.run->text ? 0 : s->o.run->latent_steps, "num_recursive_rounds",
                     s->o.run->n_round);
}

static void answer_fields(const rm_results *s, const rm_answer *a, int k, json_t *o) {
    set(o, "rollout_idx", json_integer(k));
    set(o, "sample_seed", json_integer((json_int_t)(s->o.run->seed + (uint64_t)k)));
    set(o, "raw_output", rm_record_text(a->text[k], a->n_text[k]));
    set(o, "n_tokens", json_integer(a->n_token[k]));
    set(o, "asked_again", json_boolean(a->retried[k]));
}

/* Text mode: the last texts of the agents that do not answer. */
static json_t *what_was_said(const rm_results *s, const rm_answer *a) {
    json_t *o = json_object();
    for (int i = 0; i < s->o.sys->n_agent; i++)
        if (a->said[i].s) set(o, s->o.sys->agent[i].role, rm_record_text(a->said[i].s, a->said[i].n));
    return o;
}

static rmas_status make_line(rm_results *s, const rm_answer *a, json_t **out, rm_verdict *v, bool *rollout_correct, rmas_error *err) {
    json_t *o = json_pack("{s:i}", "sample_idx", a->index), *common = common_fields(s), *rollouts = a->n_rollout > 1 ? json_array() : NULL;
    rmas_status st = o && common ? RMAS_OK : nomem(err);
    if (st == RMAS_OK) {
        json_object_update(o, common);
        set(o, "question", rm_record_text(a->item->question, strlen(a->item->question)));
        set(o, "gold_answer_raw", text_or_null(a->item->gold, false));
        set(o, "n_tokens_others", json_integer(a->n_other));
        set(o, "n_latent_steps", json_integer(a->n_latent));
    }
    json_decref(common);
    if (st == RMAS_OK && s->o.run->text) set(o, "said", what_was_said(s, a));
    for (int k = 0; st == RMAS_OK && k < a->n_rollout; k++) {
        json_t *one = rollouts ? json_object() : o;
        bool correct = false, strict = false;
        answer_fields(s, a, k, one);
        st = grade_text(s, a->item, a->text[k], a->n_text[k], one, &correct, &strict, v, err);
        rollout_correct[k] = correct;
        v->correct |= correct;
        v->strict |= strict;
        if (rollouts) json_array_append_new(rollouts, one);
    }
    if (st == RMAS_OK && rollouts) {
        set(o, "pass_at_k_correct", v->graded ? json_boolean(v->correct) : json_null());
        set(o, "strict_pass_at_k_correct", v->graded ? json_boolean(v->strict) : json_null());
        set(o, "gold_answer_parsed", text_or_null(v->gold, false));
        json_object_set(o, "rollouts", rollouts);
    }
    json_decref(rollouts);
    if (st == RMAS_OK) set(o, "run", json_string(s->run));
    if (st == RMAS_OK)
        *out = o;
    else
        json_decref(o);
    return st;
}

/* ---- the file --------------------------------------------------------------------------------------------------------------- */

static rmas_status append(rm_results *s, const char *line, rmas_error *err) {
    size_t n = strlen(line), done = 0;
    off_t end = lseek(s->fd, 0, SEEK_END);
    char *text = rm_alloc(n + 1);
    if (!text) return nomem(err);
    memcpy(text, line, n);
    text[n++] = '\n';
    int why = end < 0 ? errno : 0;
    while (!why && done < n) {
        ssize_t k = write(s->fd, text + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) why = errno;
        if (k > 0) done += (size_t)k;
    }
    if (!why && fsync(s->fd) != 0 && errno != EINVAL && errno != EROFS) why = errno; /* pipes and devices cannot sync */
    rm_free(text);
    if (!why) return RMAS_OK;
    if (end >= 0 && ftruncate(s->fd, end) != 0) why = errno;
    return rm_fail(err, RMAS_E_IO, "%s: cannot write: %s; the %d results before are there, --resume goes on", s->o.path, strerror(why), s->n);
}

static void count(rm_results *s, const json_t *o) {
    const json_t *rollouts = json_object_get(o, "rollouts"), *one;
    const json_t *c = json_object_get(o, rollouts ? "pass_at_k_correct" : "correct"),
                 *t = json_object_get(o, rollouts ? "strict_pass_at_k_correct" : "strict_correct");
    size_t k;
    s->n++;
    if (json_is_boolean(c)) s->n_graded++;
    s->correct += json_is_true(c);
    s->strict += json_is_true(t);
    if (!rollouts) s->rollout_correct[0] += json_is_true(c);
    json_array_foreach((json_t *)rollouts, k, one) if (k < (size_t)s->o.run->n_rollout) s->rollout_correct[k] +=
        json_is_true(json_object_get(one, "correct"));
}

/* One line of the file that is there. The last may be cut off (the machine went down while it was written): it is dropped. */
static rmas_status old_line(rm_results *s, const char *text, size_t n, int number, bool last, rmas_error *err) {
    json_error_t je;
    json_t *o = json_loadb(text, n, JSON_ALLOW_NUL, &je); /* a model may have written NULs */
    rmas_status st = RMAS_OK;
    if (!json_is_object(o)) {
        if (!last) st = rm_fail(err, RMAS_E_FORMAT, "%s: line %d: not a result: %s", s->o.path, number, o ? "another kind of value" : je.text);
    } else if (!json_object_get(o, "type")) {
        json_int_t index = json_is_integer(json_object_get(o, "sample_idx")) ? json_integer_value(json_object_get(o, "sample_idx")) : -1;
        const char *run = json_string_value(json_object_get(o, "run")), *question = json_string_value(json_object_get(o, "question"));
        if (index < 0 || (size_t)index >= s->o.data->n || !question || strcmp(question, s->o.data->v[index].question))
            st = rm_fail(err, RMAS_E_ARG, "%s: line %d: not a question of this run; --resume needs the same data set and the same questions",
                         s->o.path, number);
        else if (!run || strcmp(run, s->run))
            st = rm_fail(err, RMAS_E_ARG,
                         "%s: line %d: made with other settings (run %s, this is run %s); give the same flags, or another --result_jsonl", s->o.path,
                         number, run ? run : "unknown", s->run);
        else if (!s->line[index]) {
            s->line[index] = rm_strndup(text, n);
            if (!s->line[index]) st = nomem(err);
            count(s, o);
        }
    }
    json_decref(o);
    return st;
}

static rmas_status write_all(const rm_results *s, const char *summary, rmas_error *err) {
    rm_file_writer w;
    RM_TRY(rm_writer_open(&w, s->o.path, err));
    rmas_status st = RMAS_OK;
    for (size_t i = 0; st == RMAS_OK && i < s->o.data->n; i++) {
        if (!s->line[i]) continue;
        st = rm_writer_add(&w, s->line[i], strlen(s->line[i]), err);
        if (st == RMAS_OK) st = rm_writer_add(&w, "\n", 1, err);
    }
    if (st == RMAS_OK && summary) st = rm_writer_add(&w, summary, strlen(summary), err);
    if (st == RMAS_OK && summary) st = rm_writer_add(&w, "\n", 1, err);
    if (st == RMAS_OK) return rm_writer_commit(&w, err);
    rm_writer_abort(&w);
    return st;
}

static rmas_status open_file(rm_results *s, rmas_error *err) {
    char *text;
    size_t n;
    RM_TRY(rm_append_lock(&s->fd, s->o.path, err));
    RM_TRY(rm_file_read(&text, &n, s->o.path, MAX_FILE, err));
    if (n && !s->o.resume) {
        rm_free(text);
        return rm_fail(err, RMAS_E_ARG, "%s exists already; --resume goes on with it, or name another file", s->o.path);
    }
    rmas_status st = RMAS_OK;
    int number = 0;
    for (char *p = text, *end; st == RMAS_OK && p && p < text + n; p = end + 1) {
        end = memchr(p, '\n', (size_t)(text + n - p));
        bool last = !end;
        if (!end) end = text + n;
        if (end > p) st = old_line(s, p, (size_t)(end - p), ++number, last, err);
    }
    rm_free(text);
    if (st == RMAS_OK && n) {
        st = write_all(s, NULL, err); /* without a summary and without half a line */
        if (st == RMAS_OK) st = rm_append_lock(&s->fd, s->o.path, err);
    }
    return st;
}

/* ---- all together ------------------------------------------------------------------------------------------------------------- */

rmas_status rm_results_open(rm_results **out, const rm_results_options *o, rmas_error *err) {
    rm_results *s = *out = RM_NEW(rm_results);
    if (!s) return nomem(err);
    s->o = *o;
    s->fd = -1;
    s->line = rm_calloc(o->data->n, sizeof(char *));
    s->rollout_correct = rm_calloc((size_t)o->run->n_rollout, sizeof(int));
    fingerprint(s);
    rmas_status st = s->line && s->rollout_correct ? rm_grader_new(&s->grader, err) : nomem(err);
    if (st == RMAS_OK && o->path) st = open_file(s, err);
    if (st != RMAS_OK) {
        rm_results_close(s);
        *out = NULL;
    }
    return st;
}

bool rm_results_has(const rm_results *s, int index) { return s->line[index] != NULL; }

const char *rm_results_line(const rm_results *s, int index) { return s->line[index]; }

rmas_status rm_results_add(rm_results *s, const rm_answer *a, rm_verdict *verdict, rmas_error *err) {
    json_t *o = NULL;
    bool *right = rm_calloc((size_t)a->n_rollout, sizeof *right);
    *verdict = (rm_verdict){0};
    rmas_status st = right ? make_line(s, a, &o, verdict, right, err) : nomem(err);
    rm_free(right);
    RM_TRY(st);
    char *text = json_dumps(o, 0);
    rm_free(s->line[a->index]);
    s->line[a->index] = text ? rm_strdup(text) : NULL;
    free(text);
    st = s->line[a->index] ? RMAS_OK : nomem(err);
    if (st == RMAS_OK && s->fd >= 0) st = append(s, s->line[a->index], err);
    if (st == RMAS_OK) count(s, o);
    json_decref(o);
    return st;
}

rm_score rm_results_score(const rm_results *s) {
    return (rm_score){s->n, s->n_graded, s->correct, s->strict, s->o.run->n_rollout, s->rollout_correct, s->n_unrun, s->sandbox_error.msg};
}

rmas_status rm_results_finish(rm_results *s, rmas_error *err) {
    if (s->fd < 0) return RMAS_OK;
    double n = s->n_graded ? s->n_graded : 1;
    json_t *o = json_pack("{s:s}", "type", "summary"), *common = common_fields(s), *rights = json_array(), *shares = json_array();
    for (int k = 0; k < s->o.run->n_rollout; k++) {
        json_array_append_new(rights, json_integer(s->rollout_correct[k]));
        json_array_append_new(shares, json_real(s->rollout_correct[k] / n));
    }
    json_object_update(o, common);
    json_decref(common);
    set(o, "num_samples", json_integer(s->n));
    set(o, "num_rollouts", json_integer(s->o.run->n_rollout));
    set(o, "sample_seed_base", json_integer((json_int_t)s->o.run->seed));
    set(o, "per_rollout_num_correct", rights);
    set(o, "per_rollout_accuracy", shares);
    set(o, "num_correct", json_integer(s->correct));
    set(o, "accuracy", json_real(s->correct / n));
    set(o, "pass_at_k", json_real(s->correct / n));
    set(o, "strict_num_correct", json_integer(s->strict));
    set(o, "strict_accuracy", json_real(s->strict / n));
    set(o, "run", json_string(s->run));
    char *text = json_dumps(o, 0);
    json_decref(o);
    rmas_status st = text ? write_all(s, text, err) : nomem(err);
    free(text);
    return st;
}

void rm_results_close(rm_results *s) {
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    for (size_t i = 0; s->line && i < s->o.data->n; i++) rm_free(s->line[i]);
    rm_free(s->line);
    rm_free(s->rollout_correct);
    rm_grader_free(s->grader);
    rm_sandbox_free(s->sandbox);
    rm_free(s);
}
