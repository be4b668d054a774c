/* Verdicts on answers and the results file: a JSON line per question as soon as it is known, whole and in order at the end. */
#ifndef RM_SYSTEM_RESULTS_H
#define RM_SYSTEM_RESULTS_H

#include "eval/grade.h"
#include "system/run.h"

typedef struct rm_results rm_results;

typedef struct {
    const rm_dataset *data;
    const rm_system *sys;
    const rm_run_options *run;
    const char *dataset, *split; /* as reported */
    const char *method; /* latent, text ... */
    const char *prompts; /* pack, for the fingerprint of the run; may be NULL */
    const char *more; /* whatever else the answers depend on, for the fingerprint; may be NULL */
    const char *path; /* results file; NULL: none */
    bool resume; /* go on with the file that is there */
    bool unsafe; /* run programs without a sandbox */
    double program_timeout_s; /* <= 0: 10 for mbppplus, 6 per test otherwise */
} rm_results_options;

/* What is known about one answer (of rollout 0), for the screen. Strings belong to the verdict. */
typedef struct {
    bool graded; /* there was a right answer to compare with */
    bool correct, strict; /* reference scorer, strict scorer; of any rollout for several */
    char *pred, *gold; /* may be NULL */
} rm_verdict;
void rm_verdict_free(rm_verdict *v);

rmas_status rm_results_open(rm_results **out, const rm_results_options *o, rmas_error *err);
bool rm_results_has(const rm_results *s, int index); /* known from the file that was there */
const char *rm_results_line(const rm_results *s, int index); /* its JSON; NULL: not known */
rmas_status rm_results_add(rm_results *s, const rm_answer *a, rm_verdict *verdict, rmas_error *err);
/* Puts the lines in order, adds the summary. Only at the end of a whole run. */
rmas_status rm_results_finish(rm_results *s, rmas_error *err);
void rm_results_close(rm_results *s);

typedef struct {
    int n, n_graded; /* questions that are done; with a right answer to compare with */
    int correct, strict; /* any rollout right */
    int n_rollout;
    const int *rollout_correct; /* [n_rollout] */
    int n_unrun; /* programs that could not be run for lack of a sandbox */
    const char *why_unrun;
} rm_score;
rm_score rm_results_score(const rm_results *s);

#endif
