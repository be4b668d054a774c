/* The inside of a sequence: blocks of keys and values with counted references, and recurrent state. */
#ifndef RM_SESSION_SEQ_H
#define RM_SESSION_SEQ_H

#include "model/layer.h"
#include "session/session.h"

/* Layers of one kind (full, sliding) have their caches in common blocks of RM_KV_BLOCK positions. */
typedef struct {
    char **tile; /* [cap] by position / RM_KV_BLOCK; NULL: behind the window */
    int n, cap;
    size_t block_bytes; /* 0: no layer of this kind */
    char *spare; /* a block that left the window, for the next one */
} rm_cache;

/* What a tape keeps of a sequence: see session/grad.h. */
typedef struct {
    int first; /* the first position that is kept */
    float **x; /* [n_layer + 1]: inputs of the layers and the last output, [n, d_model] each */
    float **attention; /* [n_layer]: see rm_attention_kept; NULL for linear layers */
    uint16_t **gate_up; /* NULL, or [n_layer]: [n, 2 d_ff], see rm_rows_keep */
    char **in; /* [n_layer]: what goes into the mixers of linear layers, [n, delta_in_dim], see rm_rows_keep; NULL for others */
    float **mid; /* [n_layer]: NULL, or the residual sums between mixer and MLP, [n, d_model] */
    int end; /* of the positions before the first step: of these gate_up is kept, and mid in layers that are not linear */
    float **snap; /* [n_linear]: recurrent states, see rm_snap_index */
} rm_record;

/* Of n positions from pos on: how many, from the first, have their gate_up and mid kept. */
static inline int rm_record_mlp(const rm_record *r, int pos, int n) { return !r->gate_up || r->end <= pos ? 0 : r->end - pos < n ? r->end - pos : n; }

struct rm_seq {
    const rm_model *m;
    int len;
    bool broken;
    bool in_call; /* while the feeds of a call are checked: no sequence may come twice */
    const rm_record *record; /* NULL, or where a tape wants copies; blocks behind the window stay then */
    rm_cache cache[2]; /* RM_LAYER_FULL, RM_LAYER_SLIDING */
    int n_linear;
    float *conv, *state; /* [n_linear] of rm_seq_conv_floats, rm_seq_state_floats */
};

size_t rm_seq_conv_floats(const rm_model *m); /* of one layer */
size_t rm_seq_state_floats(const rm_model *m);
int rm_model_count_layers(const rm_model *m, rm_layer_kind kind);

/* Makes room for n more positions, in blocks that nobody else refers to. */
rmas_status rm_seq_reserve(rm_seq *s, int n, rmas_error *err);
void rm_seq_advance(rm_seq *s, int n); /* n positions are computed: counts them, lets blocks behind the window go */

#endif
