/* Grading replies: the reference scorer (bit for bit what the reference implementation says, leniencies included) and the
 * strict scorer (equality is mathematical; no default, no guess). Both are pure functions of (data set, reply, item); both
 * numbers should be reported under their names. Rules: docs/EVALUATION.md.
 *
 * Texts are UTF-8; invalid bytes count as U+FFFD. Time is linear in the reply's length. */
#ifndef RM_EVAL_GRADE_H
#define RM_EVAL_GRADE_H

#include <stdbool.h>
#include <stddef.h>

#include "eval/dataset.h"
#include "toolbox/toolbox.h"
#include "util/error.h"

typedef struct rm_grader rm_grader; /* compiled patterns; read-only after making, may be shared between threads */
rmas_status rm_grader_new(rm_grader **out, rmas_error *err);
void rm_grader_free(rm_grader *g);

enum { RM_N_NORM = 4 };

/* What the reference's scorer says; strings belong to the record. */
typedef struct {
    char *gold, *pred; /* parsed answers; pred NULL: none. choice: letters */
    bool correct;
    char *gold_norm, *pred_norm; /* "strategy:form" as logged; "" if none */
    char *strategy; /* that decided; NULL if not correct, and for choice */
    char *boxed; /* content of the box that counts; NULL: none */
    char *letter; /* choice: letter without the default; NULL: none */
    int n_norm; /* the strategies tried; 0 without a prediction, and for choice */
    const char *norm_name[RM_N_NORM];
    char *norm_gold[RM_N_NORM], *norm_pred[RM_N_NORM];
    /* code */
    char *cleaned; /* reply without thinking */
    char *code; /* pred_code_parsed; "" if none */
    bool parse_ok;
} rm_ref_grade;
void rm_ref_grade_free(rm_ref_grade *r); /* fine on a zeroed struct */

/* gold may be NULL for code and for questions without an answer (correct is false then, gold ""). */
rmas_status rm_grade_reference(const rm_grader *g, const char *dataset, const char *text, size_t n, const char *gold, rm_ref_grade *out,
                               rmas_error *err);

typedef struct {
    char *parsed; /* the answer or the program taken out of the reply; NULL: none */
    bool correct; /* false for code: run it */
    bool has_f1; /* bamboogle, hotpotqa: */
    int em;
    double f1, precision, recall;
} rm_strict_grade;
void rm_strict_grade_free(rm_strict_grade *r);
rmas_status rm_grade_strict(const rm_grader *g, const char *dataset, const char *text, size_t n, const char *gold, const char *fn_name,
                            rm_strict_grade *out, rmas_error *err);
/* Two answers taken out of their texts. */
rmas_status rm_strict_equal(const rm_grader *g, const char *gold, const char *answer, bool *equal, rmas_error *err);

/* Does the reply hold an answer (protocol: answer retry)? false: the reference asks again. */
rmas_status rm_reply_has_answer(const rm_grader *g, rm_kind kind, const char *text, size_t n, bool *has, rmas_error *err);

/* The letter of medqa's gold: by the reference's rule, and the true one (option whose text equals the answer; 0 if none). */
rmas_status rm_medqa_gold(const rm_grader *g, const char *answer, const char *const *option, int n_option, char *reference, char *strict,
                          rmas_error *err);

/* ---- programs ------------------------------------------------------------------------------------------------------- */

typedef struct {
    /* reference */
    bool all_passed;
    int passed, total;
    int failed_index; /* < 0: null */
    char *error_type; /* NULL when all passed */
    char *detail;
    /* strict */
    const char *status; /* "pass", "wrong_answer", "runtime_error", "timeout" ... */
    bool correct;
} rm_program_grade;
void rm_program_grade_free(rm_program_grade *r);

/* Runs a program against its tests in the sandbox. eval_sample: JSON text (rm_item.eval_sample). timeout_s: per test for
 * standard input and functions, for the whole script of mbppplus. RMAS_E_TOOL if no sandbox can be made. */
rmas_status rm_program_run(const rm_sandbox *sb, bool strict, const char *code, const char *eval_sample, double timeout_s, rm_program_grade *out,
                           rmas_error *err);

#endif
