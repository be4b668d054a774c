/* Replies, answers, data set files and tool calls: whatever a model or a stranger may write. The first byte chooses. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "eval/grade.h"
#include "util/mem.h"

static void files(const uint8_t *data, size_t n, const char *name) {
    const rm_dataset_options opt = {.seed = 42, .num_samples = -1, .prompt_tests = -1, .private_tests = true, .shuffle = n % 2};
    rm_dataset *ds;
    rmas_error err;
    if (rm_dataset_open(&ds, name, fuzz_file(data, n), &opt, &err) == RMAS_OK) rm_dataset_close(ds);
    if (rm_dataset_questions(&ds, name, NULL, 0, fuzz_file(data, n), &opt, &err) == RMAS_OK) rm_dataset_close(ds);
}

static void replies(const rm_grader *g, const char *text, size_t n, const char *name) {
    rm_ref_grade r;
    rm_strict_grade s;
    rm_tool_call c;
    rmas_error err;
    bool has;
    if (rm_grade_reference(g, name, text, n, "12 April 1999", &r, &err) == RMAS_OK) rm_ref_grade_free(&r);
    if (rm_grade_strict(g, name, text, n, "x^2+1", "f", &s, &err) == RMAS_OK) rm_strict_grade_free(&s);
    if (rm_reply_has_answer(g, rm_dataset_kind(name), text, n, &has, &err) != RMAS_OK) abort();
    if (rm_tool_find(text, n, 0, &c) == RM_CALL_COMPLETE && (c.end > n || c.content + c.n_content > c.end || c.start >= c.end)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const names[] = {"math500", "gsm8k", "medqa", "gpqa", "mbppplus", "livecodebench", "bamboogle", "own"};
    static rm_grader *g;
    rmas_error err;
    if (!g && rm_grader_new(&g, &err)) abort();
    if (n < 2) return 0;
    const char *name = names[data[0] % 8], *text = (const char *)data + 1;
    size_t rest = n - 1;
    if (data[0] & 8) {
        files(data + 1, rest, name);
    } else if (data[0] & 16) { /* two answers, separated by a line break */
        char *copy = rm_strndup(text, rest), *lf = copy ? memchr(copy, '\n', rest) : NULL;
        bool equal;
        if (lf) {
            *lf = 0;
            if (rm_strict_equal(g, copy, lf + 1, &equal, &err) != RMAS_OK) abort();
            if (rm_strict_equal(g, copy, copy, &equal, &err) != RMAS_OK) abort();
        }
        rm_free(copy);
    } else {
        replies(g, text, rest, name);
    }
    return 0;
}
