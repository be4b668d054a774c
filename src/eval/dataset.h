/* Data sets: local JSON, JSONL and CSV files in their usual forms -> items {question, gold, tests}.
 *
 * Nothing is downloaded and no prompt text is known here: the words around a question (example assertions, starter code,
 * the note of choice questions) come from the caller's prompt pack through rm_dataset_texts. Every message names file,
 * line (or element of the array) and field. Rules: docs/EVALUATION.md. */
#ifndef RM_EVAL_DATASET_H
#define RM_EVAL_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/strbuf.h"

typedef enum { RM_KIND_MATH, RM_KIND_CHOICE, RM_KIND_CODE } rm_kind; /* math: every free answer, words too */
typedef enum { RM_CODE_PROGRAM, RM_CODE_NAMED, RM_CODE_UNNAMED } rm_code_form; /* program on standard input, or a function */

/* The canonical name of a data set or of one of its aliases ("MATH-500", "openai/gsm8k", "lcb", "mbpp+" ...); NULL if unknown:
 * such a name reads {question|problem, answer} and is graded like gsm8k's words. */
const char *rm_dataset_canonical(const char *name);
rm_kind rm_dataset_kind(const char *canonical);
bool rm_dataset_needs_search(const char *canonical); /* bamboogle, hotpotqa: the reference runs them with the search tool only */
const char *rm_dataset_split(const char *canonical); /* split of the usual release that a run reports: "test", "train" (gpqa, medqa) ... */

typedef struct {
    char *id; /* the row's own name (task_id, unique_id, id ...), else its number in the file from 0 */
    size_t row; /* element of the array, or line, in the file, from 0 */
    char *question; /* as the prompts get it */
    char *gold; /* gold_answer_raw: what the reference scorer gets (gsm8k: the whole solution; choice: the letter by its rule;
                   code: the tests as text); NULL if the question has no answer */
    char *gold_strict; /* what the strict scorer gets; differs from gold for three rows of medqa; NULL as above */
    rm_kind kind;
    rm_code_form form; /* of code */
    char *fn_name; /* of a function with a known name, else NULL */
    char **option; /* choice: the options' texts as shown, without letters */
    int n_option;
    char *eval_sample; /* code: JSON object with mode, inputs, outputs, test_script ... (rm_program_run); else NULL */
} rm_item;

/* Texts around questions. Each appends to out. NULL members: the question alone (stripped where the reference strips). */
typedef struct {
    void *ctx;
    rmas_status (*tests)(void *ctx, const char *question, const char *tests, rm_strbuf *out, rmas_error *err);
    rmas_status (*starter)(void *ctx, const char *question, const char *starter, rm_strbuf *out, rmas_error *err);
    rmas_status (*choice)(void *ctx, const char *question, rm_strbuf *out, rmas_error *err); /* adds the choice note once */
} rm_dataset_texts;

typedef struct {
    int64_t seed; /* order of gpqa's options, and of --shuffle; the reference's default is 42 */
    bool shuffle; /* rows, as Python's random.Random(seed).shuffle */
    bool no_option_shuffle; /* gpqa: keep the right option first */
    bool private_tests; /* livecodebench: add the private tests (JSON, or packed as in the release: the pickle is read, not run) */
    int64_t first, num_samples; /* after shuffling: skip `first`, take num_samples; < 0: all */
    int prompt_tests; /* mbppplus: how many example assertions to show; < 0: 3 */
    rm_dataset_texts texts;
} rm_dataset_options;
#define RM_DATASET_OPTIONS_DEFAULT                                                                                                                   \
    { .seed = 42, .num_samples = -1, .prompt_tests = -1 }

typedef struct {
    char *name; /* canonical, or as given */
    rm_kind kind; /* of all items; questions of one's own may mix kinds */
    rm_item *v;
    size_t n;
} rm_dataset;

/* path: .json (an array of objects, or an object with one array), .jsonl, .csv (gpqa). An empty set is an error. */
rmas_status rm_dataset_open(rm_dataset **out, const char *name, const char *path, const rm_dataset_options *opt, rmas_error *err);

/* Questions of one's own. `text`: each string is a question without gold (-q, repeatable). `path`: a text file (one question per
 * non-empty line), JSON (array of strings or objects) or JSONL. Fields: question | query | prompt | text | input | problem, and
 * optional answer | gold, options (array), id. name: the data set whose grading and prompts they follow ("gsm8k" if NULL). */
rmas_status rm_dataset_questions(rm_dataset **out, const char *name, const char *const *text, size_t n_text, const char *path,
                                 const rm_dataset_options *opt, rmas_error *err);

void rm_dataset_close(rm_dataset *ds); /* NULL is fine */

/* ---- statistics ------------------------------------------------------------------------------------------------------ */

typedef struct {
    double lo, hi;
} rm_interval;
rm_interval rm_wilson(int64_t right, int64_t n, double z); /* z = 1.96 for 95 %; n = 0: [0, 1] */
double rm_pass_at_k(int64_t n, int64_t right, int64_t k); /* 1 - C(n-right, k) / C(n, k), the unbiased estimate; k <= n */

/* Python's random.Random(seed).shuffle of 0..n-1 (MT19937); public because recordings of the reference depend on it. */
rmas_status rm_python_shuffle(uint64_t seed, size_t *perm, size_t n, rmas_error *err);

#endif
