/* What a text is split or replaced by: a literal string, or a regular expression. The split expressions of the well-known
 * models are recognised by their exact text and matched by hand; all others run in PCRE2 with limits. */
#ifndef RM_TOK_PATTERN_H
#define RM_TOK_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

typedef struct rm_pattern rm_pattern; /* read-only after making */

/* Working memory of one thread; zeroed at first. Holds the time that hostile expressions have used up, too. */
typedef struct {
    struct pcre2_real_match_data_8 *match;
    struct pcre2_real_match_context_8 *context;
    struct pcre2_real_jit_stack_8 *stack;
    double deadline;
} rm_pattern_work;
void rm_pattern_work_free(rm_pattern_work *w);

extern const char rm_regex_gpt2[], rm_regex_llama3[], rm_regex_qwen2[], rm_regex_qwen35[];

rmas_status rm_pattern_literal(rm_pattern **out, const char *text, size_t n, const char *file, rmas_error *err);
rmas_status rm_pattern_regex(rm_pattern **out, const char *text, size_t n, const char *file, rmas_error *err);
void rm_pattern_free(rm_pattern *p);

/* The first match in s[from..n), which may be empty: [*a, *b); *a = n + 1 if there is none. s is valid UTF-8. */
rmas_status rm_pattern_next(const rm_pattern *p, rm_pattern_work *w, const char *s, size_t n, size_t from, size_t *a, size_t *b, rmas_error *err);

/* Walks over all matches as the reference does: no empty match right behind another one. */
typedef struct {
    size_t from, last_end;
    bool any;
} rm_match_walk;
rmas_status rm_pattern_walk(const rm_pattern *p, rm_pattern_work *w, rm_match_walk *walk, const char *s, size_t n, size_t *a, size_t *b,
                            rmas_error *err);

#endif
