/* The inside of a tape, and the backward walk. */
#ifndef RM_SESSION_TAPE_H
#define RM_SESSION_TAPE_H

#include "session/grad.h"
#include "session/walk.h"

enum { RM_POP_ROWS = 512 };

typedef struct {
    rm_seq *seq; /* NULL: dropped */
    bool popped; /* nothing can be pushed any more */
    rm_record record; /* its arrays are of cap positions, snap of cap_snap states, and this sequence's */
    int cap, cap_snap; /* positions, states */
    float **d_kv; /* [n_layer] of [cap, 2 kv_dim]: gradients of keys and values, from the first pop on; NULL for linear layers */
    float *conv0; /* [n_linear] convolution rows before the first position */
    float *d_state, *d_conv, *d_decay; /* [n_linear] gradients of what later positions took, see rm_delta_grad */
} rm_tape_seq;

/* A pass of the backward walk: rows of runs, and buffers [cap, ...] each. */
typedef struct {
    const rm_model *m;
    int cap, cap_run, n_run;
    bool prompt; /* the rows are positions of prompts, else steps */
    rm_run *run, *ext; /* rows that are popped; the same begun earlier, for layers with a convolution and a state */
    rm_run *last; /* of run, from the first to the last with a gradient: all that the last layer's MLP and output have to do with */
    rm_tape_seq **seq;
    int *item;
    rm_kv_grad *kv_grad;
    rm_delta_grad *delta_grad;
    float *memory, *scratch;
    float *d_hidden, *dx; /* in and out of a pass */
    float *x, *mid, *a, *da, *in, *d_in, *o, *d_o, *t1, *t2, *gate_up, *h, *cs[2];
    float *ext_in, *conv, *gate, *ext_o, *rest, *d_gate, *du, *d_qk; /* delta rule */
    float *conv_tmp, *state_tmp; /* [cap_run] */
    int *pos;
} rm_back;

static inline bool rm_all_zero(const float *x, size_t n) {
    size_t i = 0;
    while (i < n && x[i] == 0) i++;
    return i == n;
}

rmas_status rm_back_fit(rm_back *b, const rm_model *m, int n_row, int n_run, rmas_error *err);
void rm_back_free(rm_back *b);
/* From b->d_hidden to b->dx through all layers, for b->run and b->seq. */
rmas_status rm_back_rows(rm_back *b, int n_row, rmas_error *err);

struct rm_tape {
    const rm_model *m;
    rm_batch *batch;
    rm_tape_seq *seq;
    int n_seq;
    bool gate_up; /* is kept */
    bool broken;
    rm_back back;
};

#endif
