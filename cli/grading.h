/* Answers are graded beside the run: a program under test takes seconds, and no question waits for it. */
#ifndef RM_GRADING_H
#define RM_GRADING_H

#include "system/run.h"

typedef struct rm_grading rm_grading;
typedef rmas_status (*rm_grade_fn)(void *ctx, const rm_answer *a, rmas_error *err);

/* grade is called for one answer after the other, in the order in which they come, from a thread of its own. */
rmas_status rm_grading_open(rm_grading **out, rm_grade_fn grade, void *ctx, rmas_error *err);
/* Takes a copy of the answer. An error means that an earlier answer could not be graded; no further one is. */
rmas_status rm_grading_add(rm_grading *g, const rm_answer *a, rmas_error *err);
/* Waits until all answers are graded. The first error of any; NULL may be closed. */
rmas_status rm_grading_close(rm_grading *g, rmas_error *err);

#endif
