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

/* Rows [n, d_model] of a layer that a tape can keep. */
typedef enum {
    RM_KEPT_X, /* its input; of the layer behind the last: the output */
    RM_KEPT_MID, /* the residual sums between mixer and MLP */
    RM_KEPT_MIX, /* where norms stand behind the blocks, instead of these: what the mixer gives, before its norm */
    RM_KEPT_MLP, /* likewise of the MLP */
    RM_KEPT_COUNT
} rm_kept;

/* What a tape keeps of a sequence: see session/grad.h. */
typedef struct {
    int first, seen; /* the first position that is kept, and the first whose state was seen */
    float **rows[RM_KEPT_COUNT]; /* [n_layer + 1] each, NULL where nothing is kept */
    float **attention; /* [n_layer]: see rm_attention_kept; NULL for linear layers */
    uint16_t **gate_up; /* NULL, or [n_layer]: [n, 2 d_ff], see rm_rows_keep */
    char **in; /* [n_layer]: what goes into the mixer, [n, rm_mixer_in_kept], see rm_rows_keep; NULL where it is not wanted again */
    int end; /* of the positions before the first step: gate_up is kept of these only, and all rows but X and those of rm_mixer_rounds */
    float **snap; /* [n_linear]: recurrent states, see rm_snap_index */
} rm_record;

/* Of n positions from pos on: how many, from the first, have their gate_up kept. */
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
