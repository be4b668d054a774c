/* Programs against their tests, in the sandbox: with the reference's semantics, or strictly (expected results never enter
 * the sandbox, prints do no harm, leaving early is an error). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/grade.h"
#include "eval/program.h"
#include "eval/unicode.h"
#include "util/mem.h"
#include "util/number.h"
#include "util/rng.h"
#include "util/utf8.h"

/* A reference solution of MBPP+ (task 255), whose test runs it twice, needs 2.3 GB. */
static const size_t GRADING_MEMORY = (size_t)4 << 30;

typedef struct {
    const rm_sandbox *sb;
    bool strict;
    const char *code;
    json_t *sample, *in, *out;
    size_t n_test;
    double seconds;
    rm_program_grade *r;
    rmas_error *err;
} runner;

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

void rm_program_grade_free(rm_program_grade *r) {
    rm_free(r->error_type);
    rm_free(r->detail);
    *r = (rm_program_grade){0};
}

/* ---- records ---------------------------------------------------------------------------------------------------------------- */

static rmas_status record(runner *x, int passed, int total, int failed, const char *type, const char *detail) {
    rm_program_grade *r = x->r;
    r->all_passed = type == NULL;
    r->passed = passed;
    r->total = total;
    r->failed_index = failed;
    r->error_type = type ? rm_strdup(type) : NULL;
    r->detail = rm_strdup(detail);
    return (!type || r->error_type) && r->detail ? RMAS_OK : no_memory(x->err);
}

static rmas_status passed(runner *x, int total) {
    x->r->status = "pass";
    x->r->correct = true;
    return record(x, total, total, -1, NULL, "OK");
}

static rmas_status strict_status(runner *x, const char *status) {
    x->r->status = status;
    x->r->failed_index = -1;
    return RMAS_OK;
}

/* At most n code points, then a note. */
static void add_cut(rm_strbuf *out, rm_sv v, size_t n) {
    rm_sv first = rm_sv_first(v, n);
    rm_strbuf_add(out, first.s, first.n);
    if (first.n < v.n) rm_strbuf_puts(out, "\n...<truncated>...");
}

static rmas_status record_cut(runner *x, int passed_tests, int total, const char *type, const rm_strbuf *text, size_t n) {
    rm_strbuf clean = {0}, b = {0};
    rm_sv_clean(&clean, rm_str(text), text->n);
    add_cut(&b, rm_sv_buf(&clean), n);
    rmas_status st = b.failed || clean.failed ? no_memory(x->err) : record(x, passed_tests, total, passed_tests, type, rm_str(&b));
    rm_strbuf_free(&clean);
    rm_strbuf_free(&b);
    return st;
}

/* A JSON object of texts, written as Python's json.dumps does. */
static char *dumps(const char *const *key, const rm_sv *value, int n) {
    rm_strbuf out = {0};
    rm_strbuf_putc(&out, '{');
    for (int i = 0; i < n; i++) {
        rm_strbuf cut = {0};
        add_cut(&cut, value[i], 400);
        json_t *s = json_stringn(rm_str(&cut), cut.n);
        char *text = s ? json_dumps(s, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
        rm_strbuf_printf(&out, "%s\"%s\": %s", i ? ", " : "", key[i], text ? text : "null");
        if (cut.failed || !text) out.failed = true;
        free(text);
        json_decref(s);
        rm_strbuf_free(&cut);
    }
    rm_strbuf_putc(&out, '}');
    return rm_strbuf_take(&out);
}

static bool has_numpy_gap(const rm_strbuf *stderr_text) { return strstr(rm_str(stderr_text), "No module named 'numpy'") != NULL; }

static rmas_status numpy_missing(runner *x) {
    return rm_fail(x->err, RMAS_E_TOOL, "the tests of this data set import numpy, which %s does not have: install python3-numpy or set RMAS_PYTHON",
                   rm_sandbox_python(x->sb));
}

static rmas_status run(runner *x, const rm_sandbox_file *file, int n_file, const char *main_file, const char *in, bool side, double seconds,
                       rm_sandbox_result *r) {
    rm_sandbox_job job = {.arg = &main_file, .n_arg = 1, .file = file, .n_file = n_file, .in = in, .n_in = in ? strlen(in) : 0, .side = side};
    job.limits.timeout_s = seconds;
    job.limits.memory = GRADING_MEMORY;
    return rm_sandbox_run(x->sb, &job, r, x->err);
}

/* Strict: does the program compile? Sets *ok, or the status. */
static rmas_status compiles(runner *x, const char *source, bool *ok) {
    const rm_sandbox_file files[] = {{"check.py", rm_py_compile, strlen(rm_py_compile)}, {"prog.py", source, strlen(source)}};
    rm_sandbox_result r;
    RM_TRY(run(x, files, 2, "check.py", NULL, false, x->seconds > 10 ? x->seconds : 10, &r));
    *ok = r.how == RM_ENDED_EXIT && r.code == 0;
    if (!*ok) strict_status(x, r.how == RM_ENDED_TIMEOUT ? "timeout" : "compile_error");
    rm_sandbox_result_free(&r);
    return RMAS_OK;
}

/* ---- programs that read standard input -------------------------------------------------------------------------------------------- */

static rmas_status stdin_failed(runner *x, int i, const rm_sandbox_result *r, const char *given, const char *want, const rm_strbuf *got, bool text) {
    if (x->strict) {
        if (r->how == RM_ENDED_TIMEOUT) return strict_status(x, "timeout");
        if (r->how == RM_ENDED_OUTPUT) return strict_status(x, "output_limit");
        return strict_status(x, r->how == RM_ENDED_EXIT && r->code == 0 ? "wrong_answer" : "runtime_error");
    }
    int n = (int)x->n_test;
    if (r->how == RM_ENDED_TIMEOUT || r->how == RM_ENDED_OUTPUT) return record(x, i, n, i, "TLE", "subprocess timeout");
    if (r->how != RM_ENDED_EXIT || r->code != 0) return record_cut(x, i, n, "RE", &r->err, 800);
    if (!text) return record(x, i, n, i, "RE", "the output is not UTF-8");
    static const char *const keys[] = {"input", "expected", "prediction"};
    const rm_sv values[] = {rm_sv_of(given), rm_sv_of(want), rm_sv_buf(got)};
    char *detail = dumps(keys, values, 3);
    rmas_status st = detail ? record(x, i, n, i, "WA", detail) : no_memory(x->err);
    rm_free(detail);
    return st;
}

static rmas_status run_stdin(runner *x) {
    if (x->strict) {
        bool ok;
        RM_TRY(compiles(x, x->code, &ok));
        if (!ok) return RMAS_OK;
    }
    const rm_sandbox_file file = {"prog.py", x->code, strlen(x->code)};
    for (size_t i = 0; i < x->n_test; i++) {
        const char *given = json_string_value(json_array_get(x->in, i)), *want = json_string_value(json_array_get(x->out, i));
        rm_sandbox_result r;
        rm_strbuf got = {0};
        RM_TRY(run(x, &file, 1, "prog.py", given, false, x->seconds, &r));
        bool text = rm_output_text(&r.out, &got);
        bool ok = r.how == RM_ENDED_EXIT && r.code == 0 && text && rm_output_equal(rm_str(&got), want, x->strict);
        rmas_status st = ok ? RMAS_OK : stdin_failed(x, (int)i, &r, given, want, &got, text);
        rm_strbuf_free(&got);
        rm_sandbox_result_free(&r);
        if (!ok || st) return st;
    }
    return passed(x, (int)x->n_test);
}

/* ---- functions ------------------------------------------------------------------------------------------------------------------------ */

static bool is_json(const char *text) {
    bool valid;
    rm_json_equal(text, text, &valid);
    return valid;
}

/* A test's arguments: one JSON value per line that is not blank. */
static bool are_arguments(const char *text) {
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        char *line = rm_strndup(p, n);
        bool ok = line && (rm_sv_strip(rm_sv_of(line)).n == 0 || is_json(line));
        rm_free(line);
        if (!ok) return false;
        p += n + (p[n] == '\n');
    }
    return true;
}

/* The job as JSON text. Arguments stay texts: Python reads integers of any size. */
static char *job_text(runner *x, const char *source, bool with_outputs) {
    rm_strbuf b = {0};
    const char *name = json_string_value(json_object_get(x->sample, "fn_name"));
    json_t *o =
        json_pack("{s:s, s:s, s:i, s:O}", "source", source, "name", name ? name : "", "seconds", (int)fmax(1, ceil(x->seconds)), "inputs", x->in);
    if (o && with_outputs) json_object_set(o, "outputs", x->out);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text) rm_strbuf_puts(&b, text);
    bool ok = text != NULL;
    free(text);
    json_decref(o);
    if (!ok) b.failed = true;
    return rm_strbuf_take(&b);
}

static rmas_status reference_result(runner *x, const rm_sandbox_result *r) {
    int n = (int)x->n_test;
    if (r->how == RM_ENDED_TIMEOUT || r->how == RM_ENDED_OUTPUT) return record(x, 0, n, 0, "TLE", "functional-eval subprocess timeout");
    if (r->how != RM_ENDED_EXIT || r->code != 0) return record_cut(x, 0, n, "EVAL_CRASH", r->err.n ? &r->err : &r->out, 800);
    json_t *o = json_loadb(rm_str(&r->out), r->out.n, 0, NULL), *type = json_object_get(o, "error_type"),
           *at = json_object_get(o, "failed_test_index");
    rmas_status st;
    if (json_is_object(o) && json_is_string(json_object_get(o, "detail"))) {
        st = record(x, (int)json_integer_value(json_object_get(o, "passed_tests")), (int)json_integer_value(json_object_get(o, "total_tests")),
                    json_is_integer(at) ? (int)json_integer_value(at) : -1, json_string_value(type), json_string_value(json_object_get(o, "detail")));
    } else {
        rm_strbuf b = {0};
        rm_strbuf_puts(&b, "parse_error=JSONDecodeError('Expecting value: line 1 column 1 (char 0)') stdout=");
        rm_strbuf_add(&b, rm_str(&r->out), r->out.n);
        st = record_cut(x, 0, n, "EVAL_BAD_OUTPUT", &b, 1000);
        rm_strbuf_free(&b);
    }
    json_decref(o);
    return st;
}

/* Lines {"test", "value"} in order, then perhaps {"status"}. */
static rmas_status strict_result(runner *x, const rm_sandbox_result *r) {
    size_t right = 0;
    const char *status = NULL;
    static const char *const known[] = {"timeout", "no_function", "wrong_answer", "runtime_error"};
    for (const char *p = rm_str(&r->side); *p && !status;) {
        size_t n = strcspn(p, "\n");
        json_t *o = json_loadb(p, n, 0, NULL);
        const char *value = json_string_value(json_object_get(o, "value")), *said = json_string_value(json_object_get(o, "status"));
        for (size_t k = 0; said && k < RM_COUNT(known); k++) {
            if (strcmp(said, known[k]) == 0) status = known[k];
        }
        bool valid;
        if (!status && value && right < x->n_test) {
            if (rm_json_equal(value, json_string_value(json_array_get(x->out, right)), &valid))
                right++;
            else
                status = "wrong_answer";
        }
        json_decref(o);
        p += n + (p[n] == '\n');
    }
    if (!status && r->how == RM_ENDED_TIMEOUT) status = "timeout";
    if (!status && r->how == RM_ENDED_OUTPUT) status = "output_limit";
    if (!status && right == x->n_test) return passed(x, (int)x->n_test);
    return strict_status(x, status ? status : "runtime_error");
}

static rmas_status run_function(runner *x) {
    rm_strbuf source = {0};
    rm_strbuf_puts(&source, rm_py_imports);
    rm_strbuf_puts(&source, x->code);
    bool good = true, ok = true;
    for (size_t i = 0; x->strict && i < x->n_test; i++) {
        good &= are_arguments(json_string_value(json_array_get(x->in, i))) && is_json(json_string_value(json_array_get(x->out, i)));
    }
    if (!good) {
        rm_strbuf_free(&source);
        return strict_status(x, "bad_tests");
    }
    rmas_status st = x->strict ? compiles(x, rm_str(&source), &ok) : RMAS_OK;
    char *job = !st && ok ? job_text(x, rm_str(&source), !x->strict) : NULL;
    if (!st && ok && (!job || source.failed)) st = no_memory(x->err);
    if (!st && ok) {
        const char *harness = x->strict ? rm_py_strict_call : rm_py_reference_call;
        const rm_sandbox_file files[] = {{"call.py", harness, strlen(harness)}, {"job.json", job, strlen(job)}};
        rm_sandbox_result r;
        st = run(x, files, 2, "call.py", NULL, x->strict, fmax(10, x->seconds * (double)x->n_test + 5), &r);
        if (!st) {
            st = x->strict ? strict_result(x, &r) : reference_result(x, &r);
            rm_sandbox_result_free(&r);
        }
    }
    rm_free(job);
    rm_strbuf_free(&source);
    return st;
}

/* ---- scripts ---------------------------------------------------------------------------------------------------------------------------- */

static rmas_status reference_script(runner *x, const char *test, int total) {
    rm_strbuf b = {0};
    rm_sandbox_result r;
    rm_strbuf_printf(&b, "%s%s\n\n%s\n", rm_py_imports, x->code, test);
    if (b.failed) return no_memory(x->err);
    const rm_sandbox_file file = {"prog.py", b.s, b.n};
    rmas_status st = run(x, &file, 1, "prog.py", NULL, false, fmax(1, x->seconds), &r);
    rm_strbuf_free(&b);
    RM_TRY(st);
    if (r.how == RM_ENDED_TIMEOUT || r.how == RM_ENDED_OUTPUT) {
        char detail[80], seconds[32];
        rm_number_print(seconds, sizeof seconds, 'g', 6, x->seconds);
        snprintf(detail, sizeof detail, "Execution exceeded %s seconds", seconds);
        st = record(x, 0, total, 0, "TLE", detail);
    } else if (r.how == RM_ENDED_EXIT && r.code == 0) {
        st = passed(x, total);
    } else if (has_numpy_gap(&r.err) && !strstr(x->code, "numpy") && strstr(test, "numpy")) {
        st = numpy_missing(x);
    } else {
        st = record_cut(x, 0, total, "RE", rm_sv_strip(rm_sv_buf(&r.err)).n ? &r.err : &r.out, 1000);
    }
    rm_sandbox_result_free(&r);
    return st;
}

static rmas_status strict_script(runner *x, const char *test) {
    rm_strbuf b = {0};
    char word[40];
    rm_sandbox_result r;
    bool ok = true;
    rm_strbuf_printf(&b, "%s%s\n", rm_py_imports, x->code);
    if (b.failed) return no_memory(x->err);
    rmas_status st = compiles(x, b.s, &ok);
    if (st || !ok) {
        rm_strbuf_free(&b);
        return st;
    }
    rm_rng rng = rm_rng_make((uint64_t)(uintptr_t)&r, (uint64_t)(uintptr_t)b.s ^ b.n);
    snprintf(word, sizeof word, "done-%016llx", (unsigned long long)rm_rng_u64(&rng));
    const rm_sandbox_file files[] = {{"script.py", rm_py_strict_script, strlen(rm_py_strict_script)},
                                     {"prog.py", b.s, b.n},
                                     {"test.py", test, strlen(test)},
                                     {"word", word, strlen(word)}};
    st = run(x, files, 4, "script.py", NULL, true, fmax(1, x->seconds), &r);
    rm_strbuf_free(&b);
    RM_TRY(st);
    rm_sv said = rm_sv_strip(rm_sv_buf(&r.side));
    if (r.how == RM_ENDED_TIMEOUT)
        st = strict_status(x, "timeout");
    else if (r.how == RM_ENDED_OUTPUT)
        st = strict_status(x, "output_limit");
    else if (rm_sv_is(said, word) && r.how == RM_ENDED_EXIT && r.code == 0)
        st = passed(x, 1);
    else if (rm_sv_is(said, "missing numpy"))
        st = numpy_missing(x);
    else
        st = strict_status(x, rm_sv_starts(said, "wrong_answer") ? "wrong_answer" : "runtime_error");
    rm_sandbox_result_free(&r);
    return st;
}

static rmas_status run_script(runner *x, bool no_code) {
    const char *test = json_string_value(json_object_get(x->sample, "test_script"));
    json_int_t n = json_integer_value(json_object_get(x->sample, "num_tests"));
    int total = n < 1 ? 1 : n > 1000000 ? 1000000 : (int)n;
    if (no_code) return x->strict ? strict_status(x, "no_code") : record(x, 0, total, 0, "EMPTY_CODE", "No code after parsing");
    if (!test || !rm_sv_strip(rm_sv_of(test)).n)
        return x->strict ? strict_status(x, "no_tests") : record(x, 0, 0, -1, "NO_TESTS", "No executable tests available");
    return x->strict ? strict_script(x, test) : reference_script(x, test, total);
}

/* ------------------------------------------------------------------------------------------------------------------------------------------- */

static rmas_status check_sample(runner *x) {
    if (!json_is_object(x->sample)) return rm_fail(x->err, RMAS_E_FORMAT, "eval_sample: expected an object");
    x->in = json_object_get(x->sample, "inputs");
    x->out = json_object_get(x->sample, "outputs");
    if (!json_is_array(x->in) || !json_is_array(x->out) || json_array_size(x->in) != json_array_size(x->out))
        return rm_fail(x->err, RMAS_E_FORMAT, "eval_sample: expected lists 'inputs' and 'outputs' of the same length");
    x->n_test = json_array_size(x->in);
    for (size_t i = 0; i < x->n_test; i++) {
        if (!json_is_string(json_array_get(x->in, i)) || !json_is_string(json_array_get(x->out, i)))
            return rm_fail(x->err, RMAS_E_FORMAT, "eval_sample: test %zu: expected texts", i + 1);
    }
    return RMAS_OK;
}

static rmas_status dispatch(runner *x) {
    const char *mode = json_string_value(json_object_get(x->sample, "mode"));
    bool no_code = rm_sv_strip(rm_sv_of(x->code)).n == 0;
    int n = (int)x->n_test;
    if (mode && strcmp(mode, "mbppplus_script") == 0) return run_script(x, no_code);
    if (no_code) return x->strict ? strict_status(x, "no_code") : record(x, 0, n, n ? 0 : -1, "EMPTY_CODE", "No code after parsing");
    if (!n) return x->strict ? strict_status(x, "no_tests") : record(x, 0, 0, -1, "NO_TESTS", "No executable tests available");
    if (mode && strcmp(mode, "functional") == 0) return run_function(x);
    if (mode && strcmp(mode, "stdin") == 0) return run_stdin(x);
    return rm_fail(x->err, RMAS_E_FORMAT, "eval_sample: mode '%s': expected stdin, functional or mbppplus_script", mode ? mode : "");
}

rmas_status rm_program_run(const rm_sandbox *sb, bool strict, const char *code, const char *eval_sample, double timeout_s, rm_program_grade *out,
                           rmas_error *err) {
    json_error_t je;
    *out = (rm_program_grade){.failed_index = -1};
    runner x = {.sb = sb, .strict = strict, .code = code, .seconds = timeout_s > 0 ? timeout_s : 10, .r = out, .err = err};
    x.sample = json_loads(eval_sample, 0, &je);
    if (!x.sample) return rm_fail(err, RMAS_E_FORMAT, "eval_sample: %s", je.text);
    rmas_status st = check_sample(&x);
    if (!st) st = dispatch(&x);
    json_decref(x.sample);
    if (st) rm_program_grade_free(out);
    return st;
}
