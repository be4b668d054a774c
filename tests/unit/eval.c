/* Data sets, both scorers, programs and statistics. The large set of cases is run by the golden checks; here are the rules that
 * are easy to break, and every form of file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "eval/dataset.h"
#include "eval/grade.h"
#include "util/mem.h"

static rm_grader *g;
static rm_sandbox *sb;

static int setup(void **state) {
    (void)state;
    rmas_error err;
    if (rm_sandbox_new(&sb, NULL, &err)) print_message("SKIP programs: %s\n", err.msg);
    return rm_grader_new(&g, &err);
}

static int teardown(void **state) {
    (void)state;
    rm_sandbox_free(sb);
    rm_grader_free(g);
    return 0;
}

/* ---- data sets --------------------------------------------------------------------------------------------------------------- */

static rmas_status tests_text(void *ctx, const char *question, const char *tests, rm_strbuf *out, rmas_error *err) {
    (void)ctx, (void)err;
    rm_strbuf_printf(out, "%s|%s", question, tests);
    return RMAS_OK;
}

static rmas_status choice_text(void *ctx, const char *question, rm_strbuf *out, rmas_error *err) {
    (void)ctx, (void)err;
    rm_strbuf_printf(out, "%s|choose", question);
    return RMAS_OK;
}

static rm_dataset *opened(const char *name, const char *file, const rm_dataset_options *opt) {
    char path[4096];
    rm_dataset *ds;
    rmas_error err = {0};
    snprintf(path, sizeof path, RMAS_FIXTURES "/datasets/%s", file);
    if (rm_dataset_open(&ds, name, path, opt, &err)) fail_msg("%s", err.msg);
    return ds;
}

static void free_forms(void **state) {
    (void)state;
    static const struct {
        const char *name, *file, *canonical, *id, *question, *gold;
    } cases[] = {
        {"MATH-500", "math500.jsonl", "math500", "own/1", "What is $\\frac{1}{2}+\\frac{1}{3}$?", "\\frac{5}{6}"},
        {"openai/gsm8k", "gsm8k.jsonl", "gsm8k", "0", "A basket holds 5 pears. How many pears do 3 baskets hold?", "3 * 5 = 15\n#### 15"},
        {"aime25", "aime25.jsonl", "aime25", "own-1", "How many two-digit squares are there?", "6"},
        {"bamboogle", "bamboogle.jsonl", "bamboogle", "own-1", "Which river flows through the city where the Louvre stands?", "Seine"},
        {"hotpotqa/hotpot_qa", "hotpotqa.jsonl", "hotpotqa", "0", "Do Oslo and Rome lie in the same country?", "no"},
        {"my own set", "gsm8k.jsonl", "my own set", "0", "A basket holds 5 pears. How many pears do 3 baskets hold?", "3 * 5 = 15\n#### 15"},
    };
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        rm_dataset *ds = opened(cases[i].name, cases[i].file, NULL);
        assert_string_equal(ds->name, cases[i].canonical);
        assert_string_equal(ds->v[0].id, cases[i].id);
        assert_string_equal(ds->v[0].question, cases[i].question);
        assert_string_equal(ds->v[0].gold, cases[i].gold);
        rm_dataset_close(ds);
    }
}

static void choices(void **state) {
    (void)state;
    rm_dataset_options opt = RM_DATASET_OPTIONS_DEFAULT;
    opt.texts.choice = choice_text;
    rm_dataset *ds = opened("medqa", "medqa.json", &opt);
    assert_string_equal(ds->v[0].gold, "B");
    assert_string_equal(ds->v[1].question, "What should be done with the drug?\nA. Continue it\nB. Discontinue it\nC. Double it\nD. Halve it|choose");
    assert_string_equal(ds->v[1].gold, "A"); /* the reference's rule: "continue it" is in "discontinue it" */
    assert_string_equal(ds->v[1].gold_strict, "B");
    rm_dataset_close(ds);
    ds = opened("gpqa", "gpqa.csv", NULL);
    assert_int_equal(ds->n, 2);
    assert_string_equal(ds->v[0].question, "What is 2+2?\nA. 3\nB. 22, joined\nC. 4\nD. 5"); /* order of the reference for seed 42 */
    assert_string_equal(ds->v[0].gold, "C");
    assert_string_equal(ds->v[1].id, "r2");
    assert_non_null(strstr(ds->v[1].question, "Two lines:\nwhich \"word\" is quoted?\n"));
    rm_dataset_close(ds);
    opt = (rm_dataset_options)RM_DATASET_OPTIONS_DEFAULT;
    opt.no_option_shuffle = true;
    ds = opened("gpqa", "gpqa.csv", &opt);
    assert_string_equal(ds->v[0].gold, "A");
    rm_dataset_close(ds);
}

static void code_sets(void **state) {
    (void)state;
    rm_dataset_options opt = RM_DATASET_OPTIONS_DEFAULT;
    opt.texts.tests = tests_text;
    opt.prompt_tests = 2;
    rm_dataset *ds = opened("mbpp+", "mbppplus.jsonl", &opt);
    assert_string_equal(ds->v[0].question, "Write a function that doubles a number.|assert twice(1) == 2\nassert twice(0) == 0");
    assert_string_equal(ds->v[0].fn_name, "twice");
    assert_int_equal(ds->v[0].form, RM_CODE_NAMED);
    assert_non_null(strstr(ds->v[0].eval_sample, "\"num_tests\":4"));
    rm_dataset_close(ds);
    opt.private_tests = true;
    ds = opened("lcb", "livecodebench.jsonl", &opt);
    assert_int_equal(ds->v[0].form, RM_CODE_PROGRAM);
    assert_null(ds->v[0].fn_name);
    assert_string_equal(ds->v[1].fn_name, "turn");
    assert_non_null(strstr(ds->v[1].eval_sample, "\"num_public\":1,\"num_private\":1"));
    rm_dataset_close(ds);
    ds = opened("lcb", "livecodebench_packed.jsonl", &opt);
    assert_non_null(strstr(ds->v[0].eval_sample, "\"inputs\":[\"[1, 2, 3]\",\"[1]\",\"[4, 5]\"]"));
    assert_non_null(strstr(ds->v[0].eval_sample, "\"num_public\":1,\"num_private\":2"));
    rm_dataset_close(ds);
    rmas_error err;
    assert_int_equal(rm_dataset_open(&ds, "lcb", RMAS_FIXTURES "/datasets/livecodebench_hostile.jsonl", &opt, &err), RMAS_E_FORMAT);
    assert_non_null(strstr(err.msg, "private_test_cases"));
}

static void own_questions(void **state) {
    (void)state;
    rm_dataset *ds;
    rmas_error err;
    const char *const q[] = {"One?", "Two?"};
    assert_int_equal(rm_dataset_questions(&ds, NULL, q, 2, NULL, NULL, &err), RMAS_OK);
    assert_int_equal(ds->n, 2);
    assert_null(ds->v[1].gold);
    rm_dataset_close(ds);
    assert_int_equal(rm_dataset_questions(&ds, NULL, NULL, 0, RMAS_FIXTURES "/datasets/own.txt", NULL, &err), RMAS_OK);
    assert_int_equal(ds->n, 2);
    assert_string_equal(ds->v[1].question, "Name a prime above 10.");
    rm_dataset_close(ds);
    assert_int_equal(rm_dataset_questions(&ds, NULL, NULL, 0, RMAS_FIXTURES "/datasets/own.json", NULL, &err), RMAS_OK);
    assert_int_equal(ds->v[0].kind, RM_KIND_MATH);
    assert_int_equal(ds->v[1].kind, RM_KIND_CHOICE);
    assert_string_equal(ds->v[1].question, "Which is a fruit?\nA. Stone\nB. Apple");
    assert_string_equal(ds->v[1].gold, "B");
    rm_dataset_close(ds);
}

static void choosing_rows(void **state) {
    (void)state;
    rm_dataset_options opt = RM_DATASET_OPTIONS_DEFAULT;
    opt.first = 1;
    opt.num_samples = 1;
    rm_dataset *ds = opened("gsm8k", "gsm8k.jsonl", &opt);
    assert_int_equal(ds->n, 1);
    assert_int_equal(ds->v[0].row, 1);
    rm_dataset_close(ds);
    static const size_t want[] = {7, 3, 2, 8, 5, 6, 9, 4, 0, 1}; /* Python: random.Random(42).shuffle */
    size_t perm[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    assert_int_equal(rm_python_shuffle(42, perm, 10, NULL), RMAS_OK);
    assert_memory_equal(perm, want, sizeof want);
}

/* A data set whose file holds this text. */
static rm_dataset *written(const char *name, const char *suffix, const char *text) {
    char path[64];
    rm_dataset *ds = NULL;
    rmas_error err = {0};
    snprintf(path, sizeof path, "/tmp/rmas-set-%ld%s", (long)time(NULL), suffix);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    rmas_status st = name ? rm_dataset_open(&ds, name, path, NULL, &err) : rm_dataset_questions(&ds, NULL, NULL, 0, path, NULL, &err);
    remove(path);
    if (st) fail_msg("%s", err.msg);
    return ds;
}

/* Numbers as golds are the text that Python makes of them. */
static void number_golds(void **state) {
    (void)state;
    rm_dataset *ds = written("gsm8k", ".json",
                             "[{\"question\": \"a\", \"answer\": 0.1}, {\"question\": \"a\", \"answer\": 5.0}, {\"question\": \"a\", \"answer\": -7},"
                             "{\"question\": \"a\", \"answer\": 1e-5}, {\"question\": \"a\", \"answer\": 1.5e16}]");
    static const char *const want[] = {"0.1", "5.0", "-7", "1e-05", "1.5e+16"};
    for (size_t i = 0; i < RM_COUNT(want); i++) assert_string_equal(ds->v[i].gold, want[i]);
    rm_dataset_close(ds);
}

/* Editors of Windows begin a file with a byte order mark. */
static void byte_order_marks(void **state) {
    (void)state;
    static const struct {
        const char *name, *suffix, *text;
    } files[] = {
        {"gsm8k", ".jsonl", "\xEF\xBB\xBF{\"question\": \"One?\", \"answer\": \"1\"}\r\n"},
        {"gsm8k", ".json", "\xEF\xBB\xBF[{\"question\": \"One?\", \"answer\": \"1\"}]"},
        {"gsm8k", ".csv", "\xEF\xBB\xBFquestion,answer\r\nOne?,1\r\n"},
        {NULL, ".txt", "\xEF\xBB\xBFOne?\r\n"},
        {NULL, ".list", "\xEF\xBB\xBF{\"question\": \"One?\"}\n"},
    };
    for (size_t i = 0; i < RM_COUNT(files); i++) {
        rm_dataset *ds = written(files[i].name, files[i].suffix, files[i].text);
        assert_int_equal(ds->n, 1);
        assert_string_equal(ds->v[0].question, "One?");
        rm_dataset_close(ds);
    }
}

/* The function is one whose name stands alone before its bracket; white space around a problem goes. */
static void code_rows(void **state) {
    (void)state;
    static const struct {
        const char *test, *code, *name;
    } rows[] = {
        {"assert math.isclose(half(1), 0.5)", "# def old(x):\\nimport math\\ndef half(x):\\n    return x / 2", "half"},
        {"assertion(np.array(half(1)), 0.5)\\nassert half(2) == 1", "", "half"},
        {"assert abs(half(1)) < 1\\nassert half (2) == 1", "", "half"},
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        char text[500];
        snprintf(text, sizeof text, "{\"prompt\": \"Half.\", \"test_list\": [], \"test\": \"%s\", \"code\": \"%s\"}\n", rows[i].test, rows[i].code);
        rm_dataset *ds = written("mbppplus", ".jsonl", text);
        assert_string_equal(ds->v[0].fn_name, rows[i].name);
        rm_dataset_close(ds);
    }
    rm_dataset *ds = written("livecodebench", ".jsonl", "{\"question_content\": \" Add.\\n\\n\", \"public_test_cases\": [], \"metadata\": \"{}\"}\n");
    assert_string_equal(ds->v[0].question, "Add.");
    rm_dataset_close(ds);
}

/* Options with letters stand under a question without them as they are. */
static void medqa_questions(void **state) {
    (void)state;
    static const struct {
        const char *row, *question;
    } rows[] = {
        {"\"query\": \" Which? \", \"options\": [\"D) salt\", \"C) air\", \"B) milk\", \"A) oil\"]", "Which?\nD) salt\nC) air\nB) milk\nA) oil"},
        {"\"query\": \"\", \"question\": \"Which?\", \"options\": [\"salt\", \"B. air\"]", "Which?\nA. salt\nB. air"},
        {"\"query\": \"Which?\\nA. salt\\nB. air\\n\", \"options\": [\"A. salt\", \"B. air\"]", "Which?\nA. salt\nB. air"},
    };
    for (size_t i = 0; i < RM_COUNT(rows); i++) {
        char text[500];
        snprintf(text, sizeof text, "[{%s, \"answer\": \"air\"}]", rows[i].row);
        rm_dataset *ds = written("medqa", ".json", text);
        assert_string_equal(ds->v[0].question, rows[i].question);
        rm_dataset_close(ds);
    }
}

/* The first option that has a letter and whose words hold those of the answer, or the other way round. */
static void medqa_golds(void **state) {
    (void)state;
    static const struct {
        const char *answer, *option[4];
        char gold;
    } cases[] = {
        {"Heparin", {"A. Aspirin", "B. Heparin", "C. Warfarin", "D. None"}, 'B'},
        {"heparin  drip", {"A. Aspirin", "B. Warfarin", "C. Heparin\tdrip", "D. None"}, 'C'},
        {"Heparin", {"D) Aspirin", "C) Low-dose heparin", "B) Heparin", "A) None"}, 'C'}, /* in the order of the list */
        {"Heparin", {"Aspirin", "Heparin", "Warfarin", "None"}, 'A'}, /* no letters */
        {"Heparin", {"Heparin", "B. Heparin", "C. Warfarin", "D. None"}, 'B'},
        {"Beta\xE2\x80\x93lactam", {"A. Sulfa", "B. Beta-lactam", "C. Beta\xE2\x80\x93lactam", "D. None"}, 'C'},
        {"Heparin", {"A. Aspirin", "B.", "C. Heparin", "D. None"}, 'B'}, /* nothing is in everything */
    };
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        char gold, strict;
        rmas_error err;
        assert_int_equal(rm_medqa_gold(g, cases[i].answer, cases[i].option, 4, &gold, &strict, &err), RMAS_OK);
        if (gold != cases[i].gold) fail_msg("case %zu: %c", i, gold);
    }
}

static void bad_file(const char *suffix, const char *text, const char *part) {
    char path[64];
    rm_dataset *ds;
    rmas_error err = {0};
    snprintf(path, sizeof path, "/tmp/rmas-bad-%ld%s", (long)time(NULL), suffix);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(rm_dataset_open(&ds, "gsm8k", path, NULL, &err), RMAS_E_FORMAT);
    assert_null(ds);
    if (!strstr(err.msg, part) || !strstr(err.msg, path)) fail_msg("'%s' does not hold '%s' and the file", err.msg, part);
    remove(path);
}

static void bad_files(void **state) {
    (void)state;
    bad_file(".jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\",}\n", "line 2, column 18");
    bad_file(".jsonl", "\n\n[1]\n", "line 3: expected an object");
    bad_file(".jsonl", "{\"questio\": \"a\"}\n", "line 1: no field 'question|problem' (there are: questio)");
    bad_file(".json", "[{\"question\": \"a\", \"answer\": {}}]", "element 1: field 'answer'");
    bad_file(".json", "[]", "no questions");
    bad_file(".json", "7", "line 1, column 1");
    bad_file(".csv", "a,b\n1,2,3\n", "row 1 has 3 fields, the heading 2");
    bad_file(".csv", "question,answer\n\"1,2\n", "does not end");
    bad_file(".jsonl", "{\"question\": \"\xff\", \"answer\": \"b\"}\n", "line 1");
}

/* ---- scorers ------------------------------------------------------------------------------------------------------------------ */

static void reference_verdicts(void **state) {
    (void)state;
    static const struct {
        const char *dataset, *gold, *text, *pred_norm;
        bool correct;
    } cases[] = {
        {"math500", "2\\sqrt{3}", "\\boxed{2\\sqrt{5}}", "intpart:2", true}, /* its famous leniency */
        {"math500", "6", "\\boxed{\\frac{1}{16384}}", "intpart:6", true}, /* 6.1e-05 */
        {"math500", "\\frac{1}{2}", "\\boxed{5} and \\boxed{\\frac{1}{3}}", "intpart:5", false}, /* a flat box beats a nested one */
        {"math500", "5", "\\boxed{}", "", false},
        {"math500", "x", "no box", "latex_text:nobox", false},
        {"gsm8k", "a #### 18", "\\boxed{\\$18}", "em:18", true},
        {"gsm8k", "a #### 18", "\\boxed{18.0}", "em:18 0", false},
        {"gsm8k", "a #### 1080", "\\boxed{1080.50}", "date:1080", true},
        {"bamboogle", "April 30, 1789", "Final Answer: the 30th of April 1789", "em:30th of april 1789", false},
        {"bamboogle", "April 30, 1789", "Final Answer: 30th of April 1789", "date:1789-04-30", true},
        {"bamboogle", "\xCE\x9F\xCE\x94\xCE\x9F\xCE\xA3", "\\boxed{\xCE\xBF\xCE\xB4\xCE\xBF\xCF\x82}", "em:\xCE\xBF\xCE\xB4\xCE\xBF\xCF\x82", true},
        {"medqa", "A", "no idea", "choice:a", true}, /* the default */
        {"medqa", "C", "Final Choice: \\boxed{(C)}", "choice:c", true},
        {"medqa", "A", "the answer is b", "choice:a", true},
    };
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        rm_ref_grade r;
        rmas_error err;
        assert_int_equal(rm_grade_reference(g, cases[i].dataset, cases[i].text, strlen(cases[i].text), cases[i].gold, &r, &err), RMAS_OK);
        assert_string_equal(r.pred_norm, cases[i].pred_norm);
        if (r.correct != cases[i].correct) fail_msg("%s: %s", cases[i].gold, cases[i].text);
        rm_ref_grade_free(&r);
    }
}

static void strict_verdicts(void **state) {
    (void)state;
    static const struct {
        const char *gold, *answer;
        bool equal;
    } cases[] = {
        {"2\\sqrt{3}", "2\\sqrt{5}", false},
        {"2\\sqrt{3}", "\\sqrt{12}", true},
        {"\\frac{1}{2}", "0.5", true},
        {"\\frac{1}{3}", "0.333", false},
        {"\\frac{1}{3}", "0.\\overline{3}", true},
        {"1\\frac{4}{5}", "1.8", true},
        {"10,\\!080", "10080", true},
        {"(12,102)", "(12, 102)", true},
        {"x^2-1", "(x-1)(x+1)", true},
        {"x^2-1", "x^2+1", false},
        {"\\sin^2 x", "1-\\cos^2 x", true},
        {"1,-2", "-2 \\text{ and } 1", true},
        {"1,1,2", "1,2", false},
        {"(-\\infty,3]", "x \\le 3", true},
        {"(1,2)", "[1,2]", false},
        {"\\{1,2\\}", "\\{2,1,1\\}", true},
        {"40_9", "40_{9}", true},
        {"40_9", "36", false},
        {"36^\\circ", "36 \\text{ degrees}", true},
        {"5\\text{ cm}", "5 \\text{ inches}", false},
        {"50\\%", "0.5", true},
        {"x=5", "5", true},
        {"5", "2x = 10", false},
        {"\\pm 2", "2, -2", true},
        {"\\text{(C)}", "C", true},
        {"\\text{Evelyn}", "evelyn", true},
        {"5", "5 or 6", false},
        {"0", "e^{-1000}", false},
        {"\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1,2)", true},
        {"i", "\\sqrt{-1}", true},
    };
    rmas_error err;
    bool equal;
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        assert_int_equal(rm_strict_equal(g, cases[i].gold, cases[i].answer, &equal, &err), RMAS_OK);
        if (equal != cases[i].equal) fail_msg("%s and %s: %s", cases[i].gold, cases[i].answer, equal ? "equal" : "different");
    }
}

static void strict_extraction(void **state) {
    (void)state;
    static const struct {
        const char *dataset, *text, *parsed;
    } cases[] = {
        {"math500", "<think>\\boxed{4}</think> so \\boxed{5}", "5"},
        {"math500", "<think>\\boxed{4}", NULL},
        {"math500", "\\boxed{1} or \\boxed{-2}", "1, -2"},
        {"math500", "\\boxed{5}, no, wait, it is \\boxed{7}", "7"},
        {"math500", "<python>print(1)</python> <result> \\boxed{3} </result>\nThe answer is 4.", "4"},
        {"math500", "first line\nsecond line 5", NULL},
        {"math500", "**Final Answer:** $12$ because I say so", "$12$"},
        {"gsm8k", "reasons\n#### 1,080", "1,080"},
        {"medqa", "The answer is (B).", "B"},
        {"medqa", "A patient comes.\nThe answer is a matter of taste.", NULL},
        {"medqa", "Answer: A or B", NULL},
        {"mbppplus", "```\nx\n```\ntext\n```python\ndef f(): pass\n```\n", "def f(): pass"},
        {"bamboogle", "The final answer is \\boxed{\\text{The Seine}}.", "The Seine"},
    };
    rmas_error err;
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        rm_strict_grade r;
        assert_int_equal(rm_grade_strict(g, cases[i].dataset, cases[i].text, strlen(cases[i].text), "x", NULL, &r, &err), RMAS_OK);
        if (!r.parsed != !cases[i].parsed || (r.parsed && strcmp(r.parsed, cases[i].parsed) != 0)) fail_msg("%s: got %s", cases[i].text, r.parsed);
        rm_strict_grade_free(&r);
    }
}

static void retry(void **state) {
    (void)state;
    static const struct {
        rm_kind kind;
        const char *text;
        bool has;
    } cases[] = {{RM_KIND_MATH, "5", false},
                 {RM_KIND_MATH, "\\boxed{}", true},
                 {RM_KIND_CHOICE, "no idea", false},
                 {RM_KIND_CHOICE, "answer: B", true},
                 {RM_KIND_CODE, "```python\n", false},
                 {RM_KIND_CODE, "```python\nx\n```", true},
                 {RM_KIND_CODE, "<think>```python\nx\n```</think>", false}};
    rmas_error err;
    bool has;
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        assert_int_equal(rm_reply_has_answer(g, cases[i].kind, cases[i].text, strlen(cases[i].text), &has, &err), RMAS_OK);
        assert_int_equal(has, cases[i].has);
    }
}

/* Long hostile texts take time in proportion to their length. */
static void linear_time(void **state) {
    (void)state;
    static const char *const units[] = {"\\",      "\\boxed{", "{",         "\\boxed{1} ", "<think>", "<python>", "final answer ",
                                        "answer ", " ",        "```python", ", ",          "\xff",    "`"};
    static const char *const sets[] = {"math500", "gsm8k", "medqa", "mbppplus", "bamboogle"};
    enum { SIZE = 300000 };
    char *text = rm_alloc(SIZE + 1);
    assert_non_null(text);
    clock_t start = clock();
    for (size_t i = 0; i < RM_COUNT(units); i++) {
        size_t n = 0, k = strlen(units[i]);
        while (n + k <= SIZE) {
            memcpy(text + n, units[i], k);
            n += k;
        }
        for (size_t d = 0; d < RM_COUNT(sets); d++) {
            rm_ref_grade r;
            rm_strict_grade s;
            rmas_error err;
            assert_int_equal(rm_grade_reference(g, sets[d], text, n, "12", &r, &err), RMAS_OK);
            assert_int_equal(rm_grade_strict(g, sets[d], text, n, "12", "f", &s, &err), RMAS_OK);
            rm_ref_grade_free(&r);
            rm_strict_grade_free(&s);
        }
    }
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 60); /* quadratic time would need many minutes */
    rm_free(text);
}

static void no_memory(void **state) {
    (void)state;
    static const char text[] = "<think>x</think> The answer is \\boxed{\\frac{x^2-1}{x+1}, \\{1, \\sqrt{2}\\}}";
    int failures = 0;
    for (long n = 1; n < 400; n++) {
        rm_ref_grade r;
        rm_strict_grade s;
        rmas_error err;
        rm_mem_fail_after(n);
        rmas_status a = rm_grade_reference(g, "bamboogle", text, sizeof text - 1, "April 30, 1789", &r, &err);
        rmas_status b = rm_grade_strict(g, "math500", text, sizeof text - 1, "x-1, \\{1, 2\\}", NULL, &s, &err);
        rm_mem_fail_after(0);
        assert_true(a == RMAS_OK || a == RMAS_E_NOMEM);
        assert_true(b == RMAS_OK || b == RMAS_E_NOMEM);
        failures += b == RMAS_E_NOMEM;
        rm_ref_grade_free(&r);
        rm_strict_grade_free(&s);
    }
    assert_true(failures > 10);
}

/* ---- programs ---------------------------------------------------------------------------------------------------------------------- */

static void programs(void **state) {
    (void)state;
    static const char sum[] = "{\"mode\": \"stdin\", \"inputs\": [\"1 2\\n\", \"5 -5\\n\"], \"outputs\": [\"3\\n\", \"0\\n\"]}";
    static const char turn[] =
        "{\"mode\": \"functional\", \"fn_name\": \"turn\", \"inputs\": [\"[1, [2, 3.5]]\"], \"outputs\": [\"[[2.0, 3.5], true]\"]}";
    static const char twice[] =
        "{\"mode\": \"mbppplus_script\", \"inputs\": [], \"outputs\": [], \"num_tests\": 2, \"test_script\": \"assert twice(2) == 4\"}";
    static const struct {
        const char *code, *sample, *strict, *reference;
    } cases[] = {
        {"print(sum(map(int, input().split())))", sum, "pass", NULL},
        {"print('%.2e' % sum(map(int, input().split())))", sum, "pass", NULL}, /* numbers may be written in any form */
        {"print(3)", sum, "wrong_answer", "WA"},
        {"print(", sum, "compile_error", "RE"},
        {"", sum, "no_code", "EMPTY_CODE"},
        {"def turn(x):\n  return tuple(x[::-1])", turn, "pass", NULL},
        {"print('noise')\ndef turn(x):\n  return x[::-1]", turn, "pass", "EVAL_BAD_OUTPUT"},
        {"class All:\n  def __eq__(s, o): return True\n  def __ne__(s, o): return False\ndef turn(x): return All()", turn, "wrong_answer", NULL},
        {"def other(x): pass", turn, "no_function", "NO_FUNC"},
        {"import sys\ndef turn(x): sys.exit(0)", turn, "runtime_error", "EVAL_BAD_OUTPUT"},
        {"def twice(x): return 2 * x", twice, "pass", NULL},
        {"def twice(x): return x", twice, "wrong_answer", "RE"},
        {"import sys\nsys.exit(0)", twice, "runtime_error", NULL}, /* the reference only looks at the exit status */
    };
    if (!sb) skip();
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        rm_program_grade r;
        rmas_error err = {0};
        if (rm_program_run(sb, true, cases[i].code, cases[i].sample, 4, &r, &err)) fail_msg("%s", err.msg);
        if (strcmp(r.status, cases[i].strict) != 0) fail_msg("%s: %s", cases[i].code, r.status);
        assert_int_equal(r.correct, strcmp(r.status, "pass") == 0);
        rm_program_grade_free(&r);
        if (rm_program_run(sb, false, cases[i].code, cases[i].sample, 4, &r, &err)) fail_msg("%s", err.msg);
        if (!r.error_type != !cases[i].reference || (r.error_type && strcmp(r.error_type, cases[i].reference) != 0))
            fail_msg("%s: %s", cases[i].code, r.error_type);
        rm_program_grade_free(&r);
    }
    rm_program_grade r;
    rmas_error err;
    assert_int_equal(rm_program_run(sb, true, "x", "{\"mode\": \"stdin\", \"inputs\": [1], \"outputs\": [\"\"]}", 1, &r, &err), RMAS_E_FORMAT);
    assert_int_equal(rm_program_run(sb, true, "x", "[", 1, &r, &err), RMAS_E_FORMAT);
}

static void statistics(void **state) {
    (void)state;
    rm_interval w = rm_wilson(8, 10, 1.959963984540054);
    assert_true(fabs(w.lo - 0.490162) < 1e-5 && fabs(w.hi - 0.943317) < 1e-5);
    w = rm_wilson(0, 10, 1.96);
    assert_true(w.lo == 0 && fabs(w.hi - 0.277539) < 1e-4);
    w = rm_wilson(10, 10, 1.96);
    assert_true(w.hi == 1);
    w = rm_wilson(0, 0, 1.96);
    assert_true(w.lo == 0 && w.hi == 1);
    assert_true(fabs(rm_pass_at_k(10, 3, 1) - 0.3) < 1e-12);
    assert_true(fabs(rm_pass_at_k(10, 3, 2) - (1 - 42.0 / 90)) < 1e-12);
    assert_true(rm_pass_at_k(10, 0, 5) == 0 && rm_pass_at_k(10, 6, 5) == 1 && isnan(rm_pass_at_k(3, 1, 4)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_forms),        cmocka_unit_test(choices),     cmocka_unit_test(code_sets),          cmocka_unit_test(own_questions),
        cmocka_unit_test(choosing_rows),     cmocka_unit_test(bad_files),   cmocka_unit_test(reference_verdicts), cmocka_unit_test(strict_verdicts),
        cmocka_unit_test(strict_extraction), cmocka_unit_test(retry),       cmocka_unit_test(linear_time),        cmocka_unit_test(no_memory),
        cmocka_unit_test(programs),          cmocka_unit_test(statistics),  cmocka_unit_test(number_golds),       cmocka_unit_test(byte_order_marks),
        cmocka_unit_test(code_rows),         cmocka_unit_test(medqa_golds), cmocka_unit_test(medqa_questions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
