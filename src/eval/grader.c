/* The grader object: every pattern of both scorers, compiled once. */
#include "eval/scorer.h"
#include "util/mem.h"

rmas_status rm_grader_new(rm_grader **out, rmas_error *err) {
    static const struct {
        const char *pattern;
        int flags;
    } table[RM_N_PATTERN] = {
#define X(name, f, p) {p, f},
        RM_PATTERNS(X)
#undef X
    };
    rm_grader *g = RM_NEW(rm_grader);
    *out = NULL;
    if (!g) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    for (int i = 0; i < RM_N_PATTERN; i++) {
        rmas_status st = rm_re_new(&g->re[i], table[i].pattern, table[i].flags, err);
        if (st) {
            rm_grader_free(g);
            return st;
        }
    }
    *out = g;
    return RMAS_OK;
}

void rm_grader_free(rm_grader *g) {
    if (!g) return;
    for (int i = 0; i < RM_N_PATTERN; i++) rm_re_free(g->re[i]);
    rm_free(g);
}
