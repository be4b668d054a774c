/* What `rmas run` shows while it works: progress on stderr (one line that is renewed on a terminal, plain lines in a pipe),
 * answers on stdout as they come. */
#ifndef RM_RUN_SHOW_H
#define RM_RUN_SHOW_H

#include <pthread.h>
#include <stdbool.h>

#include "grading.h"
#include "system/results.h"

typedef struct {
    rm_results *results;
    rm_grading *grading; /* NULL: answers are graded at once */
    pthread_mutex_t screen; /* answers come from the thread that grades */
    bool terminal, quiet, full_text; /* full_text: print whole answers (questions of one's own) */
    bool line_open; /* the renewed line is on the screen */
    double started, shown, text_started; /* seconds */
    int text_tokens;
    int last_step; /* of the stage, for plain lines */
    char last_role[64];
    int last_round;
} rm_show;

void rm_show_start(rm_show *s, rm_results *results, bool quiet, bool full_text);
void rm_show_event(void *show, const rm_event *e); /* hook */
rmas_status rm_show_answer(void *show, const rm_answer *a, rmas_error *err); /* hook: grades, keeps, prints */
rmas_status rm_show_grade(void *show, const rm_answer *a, rmas_error *err); /* the same, at once */
bool rm_show_skip(void *show, int index); /* hook */
void rm_show_note(rm_show *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The closing lines. whole: the run has gone to its end. */
void rm_show_end(rm_show *s, bool whole, int n_question);

#endif
