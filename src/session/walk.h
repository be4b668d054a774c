/* The forward walk: rows of a pass through the layers of the plan. One walk for running and for training. */
#ifndef RM_SESSION_WALK_H
#define RM_SESSION_WALK_H

#include "session/seq.h"

/* Buffers of a pass, [cap, ...] each; kept from call to call. */
typedef struct {
    const rm_model *m;
    int cap;
    float *memory;
    float *x, *a, *in, *q, *t, *o, *lse, *gate_up, *h, *delta_gate;
    float *cs[2]; /* rotary tables of full and sliding layers */
    float *scratch; /* for attention; grows with the longest sequence */
    size_t cap_scratch;
    int *pos;
    rm_run *run,
        *last; /* last: the same, of the positions of which the last layer's output is wanted, at the end of each run; its rows follow each other */
    const rm_run *at; /* run or last: where the rows of x are */
    rm_seq **seq; /* of each run */
    int n_run, cap_run;
} rm_work;

size_t rm_work_bytes(const rm_config *c, int n_row); /* of the buffers of a pass */
rmas_status rm_work_fit(rm_work *w, const rm_model *m, int n_row, int n_run, rmas_error *err);
void rm_work_free(rm_work *w);

/* Positions, rotary tables and attention's scratch space for the runs in w. x has the rows of w->run then. */
rmas_status rm_work_begin(rm_work *w, int n_row, rmas_error *err);
/* Makes *p hold at least n floats. */
rmas_status rm_scratch_fit(float **p, size_t *cap, size_t n, rmas_error *err);
/* Layer il over w->x: what it adds to the cache is written, the lengths of the sequences stay. slot: how many layers of its kind
 * come before it. Behind the last layer x has the rows of w->last. */
rmas_status rm_walk_layer(rm_work *w, int il, int slot, int n_row, rmas_error *err);

#endif
