/* rmas grade: scores replies, answers and programs, one JSON object per line in and out. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "eval/grade.h"
#include "util/mem.h"

typedef struct {
    const char *dataset;
    bool strict;
    rm_grader *g;
    rm_sandbox *sb;
    rm_sandbox_options sandbox;
} grade_ctx;

static const char *text_of(json_t *in, const char *key) { return json_string_value(json_object_get(in, key)); }

static json_t *or_null(const char *s) { return s ? json_string(s) : json_null(); }

static json_t *reference_reply(grade_ctx *c, json_t *in, rmas_error *err) {
    json_t *text = json_object_get(in, "text");
    rm_ref_grade r;
    if (rm_grade_reference(c->g, c->dataset, json_string_value(text), json_string_length(text), text_of(in, "gold"), &r, err)) return NULL;
    json_t *o = json_object();
    if (r.cleaned) {
        json_object_set_new(o, "cleaned", json_string(r.cleaned));
        json_object_set_new(o, "pred_code_parsed", json_string(r.code));
        json_object_set_new(o, "parse_ok", json_boolean(r.parse_ok));
    } else {
        bool choice = rm_dataset_kind(c->dataset) == RM_KIND_CHOICE;
        json_object_set_new(o, "gold", or_null(r.gold));
        json_object_set_new(o, "pred", or_null(r.pred));
        json_object_set_new(o, "correct", json_boolean(r.correct));
        json_object_set_new(o, "gold_norm", json_string(r.gold_norm));
        json_object_set_new(o, "pred_norm", json_string(r.pred_norm));
        json_object_set_new(o, "boxed", or_null(r.boxed));
        if (choice)
            json_object_set_new(o, "letter", or_null(r.letter));
        else
            json_object_set_new(o, "strategy", or_null(r.strategy));
        json_t *norms = r.n_norm ? json_object() : NULL;
        for (int i = 0; i < r.n_norm; i++) json_object_set_new(norms, r.norm_name[i], json_pack("[s, s]", r.norm_gold[i], r.norm_pred[i]));
        if (norms) json_object_set_new(o, "norms", norms);
    }
    rm_ref_grade_free(&r);
    return o;
}

static json_t *medqa_gold(grade_ctx *c, json_t *in, json_t *options, rmas_error *err) {
    const char *opt[26];
    size_t n = json_array_size(options);
    char ref, strict;
    if (!json_is_array(options) || n > RM_COUNT(opt)) {
        rm_fail(err, RMAS_E_FORMAT, "field 'options': expected a list of at most 26 texts");
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        opt[i] = json_string_value(json_array_get(options, i));
        if (!opt[i]) {
            rm_fail(err, RMAS_E_FORMAT, "field 'options': element %zu is not a text", i + 1);
            return NULL;
        }
    }
    if (rm_medqa_gold(c->g, text_of(in, "answer"), opt, (int)n, &ref, &strict, err)) return NULL;
    char letter[2] = {c->strict ? strict : ref, 0};
    return json_pack("{s:o}", "gold", letter[0] ? json_string(letter) : json_null());
}

static json_t *strict_reply(grade_ctx *c, json_t *in, rmas_error *err) {
    json_t *text = json_object_get(in, "text");
    rm_strict_grade r;
    if (rm_grade_strict(c->g, c->dataset, json_string_value(text), json_string_length(text), text_of(in, "gold"), text_of(in, "fn_name"), &r, err))
        return NULL;
    json_t *o = json_pack("{s:o}", "parsed", or_null(r.parsed));
    if (rm_dataset_kind(c->dataset) != RM_KIND_CODE) json_object_set_new(o, "correct", json_boolean(r.correct));
    if (r.has_f1) {
        json_object_set_new(o, "em", json_integer(r.em));
        json_object_set_new(o, "f1", json_real(r.f1));
        json_object_set_new(o, "precision", json_real(r.precision));
        json_object_set_new(o, "recall", json_real(r.recall));
    }
    rm_strict_grade_free(&r);
    return o;
}

static json_t *strict_answer(grade_ctx *c, json_t *in, rmas_error *err) {
    bool equal = false;
    if (rm_strict_equal(c->g, text_of(in, "gold"), text_of(in, "answer"), &equal, err)) return NULL;
    return json_pack("{s:b}", "correct", equal);
}

static json_t *run_program(grade_ctx *c, json_t *in, rmas_error *err) {
    rm_program_grade r;
    json_t *o = NULL, *sample = json_object_get(in, "eval_sample"), *timeout = json_object_get(in, "timeout_s");
    char *text = json_dumps(sample, JSON_COMPACT);
    if (!text) {
        rm_fail(err, RMAS_E_FORMAT, "field 'eval_sample': expected an object");
        return NULL;
    }
    if (!c->sb && rm_sandbox_new(&c->sb, &c->sandbox, err)) goto end; /* made when the first program comes */
    if (rm_program_run(c->sb, c->strict, text_of(in, "code"), text, json_number_value(timeout), &r, err)) goto end;
    if (c->strict) {
        o = json_pack("{s:s, s:b}", "status", r.status, "correct", r.correct);
    } else {
        o = json_pack("{s:b, s:i, s:i, s:o, s:s?, s:s}", "all_passed", r.all_passed, "passed_tests", r.passed, "total_tests", r.total,
                      "failed_test_index", r.failed_index < 0 ? json_null() : json_integer(r.failed_index), "error_type", r.error_type, "detail",
                      r.detail);
    }
    rm_program_grade_free(&r);
end:
    free(text);
    return o;
}

static json_t *grade_line(void *ctx, json_t *in, rmas_error *err) {
    grade_ctx *c = ctx;
    json_t *options = json_object_get(in, "options");
    if (json_object_get(in, "eval_sample") && text_of(in, "code")) return run_program(c, in, err);
    if (options && text_of(in, "answer")) return medqa_gold(c, in, options, err);
    if (!c->strict && text_of(in, "text")) return reference_reply(c, in, err);
    if (c->strict && text_of(in, "text")) return strict_reply(c, in, err);
    if (c->strict && text_of(in, "answer") && text_of(in, "gold")) return strict_answer(c, in, err);
    rm_fail(err, RMAS_E_FORMAT, "expected \"text\" (with \"gold\"), \"answer\" with \"gold\" or \"options\", or \"code\" with \"eval_sample\"");
    return NULL;
}

int cmd_grade(int argc, char **argv) {
    grade_ctx c = {0};
    const char *dataset = NULL, *scorer = "strict";
    bool jsonl = false;
    const rm_opt opts[] = {
        {"dataset", RM_OPT_STRING, &dataset, NULL, "NAME",
         "data set whose rules hold: math500, gsm8k, medqa, gpqa, mbppplus, livecodebench, aime25 ..."},
        {"scorer", RM_OPT_STRING, &scorer, NULL, "NAME", "reference (what the reference implementation says) or strict (default)"},
        {"python", RM_OPT_STRING, &c.sandbox.python, NULL, "FILE", "interpreter for programs (RMAS_PYTHON, else /usr/bin/python3)"},
        {"unsafe_python", RM_OPT_FLAG, &c.sandbox.unsafe, NULL, NULL,
         "run programs without a sandbox: only inside a container that isolates already"},
        {"jsonl", RM_OPT_FLAG, &jsonl, NULL, NULL, "read JSON lines from standard input (the only form)"},
        {0},
    };
    int n_word = 0;
    rmas_error err = {0};
    int got = rm_opt_parse(argc, argv, opts, "rmas grade --dataset NAME --scorer reference|strict --jsonl < LINES", &n_word);
    if (got) return got == 2 ? 0 : 1;
    c.strict = strcmp(scorer, "strict") == 0;
    if (!dataset || (!c.strict && strcmp(scorer, "reference") != 0) || n_word) {
        rm_fail(&err, RMAS_E_ARG,
                !dataset ? "--dataset is missing"
                : n_word ? "unexpected word '%s'"
                         : "--scorer: expected reference or strict, found '%s'",
                n_word ? argv[1] : scorer);
        return rm_cli_fail("grade", &err);
    }
    c.dataset = rm_dataset_canonical(dataset) ? rm_dataset_canonical(dataset) : dataset;
    if (rm_grader_new(&c.g, &err)) return rm_cli_fail("grade", &err);
    int status = rm_cli_jsonl(grade_line, &c);
    rm_sandbox_free(c.sb);
    rm_grader_free(c.g);
    return status;
}
