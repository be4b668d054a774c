/* The inside of a model: bound weights, and the blocks of a layer, forward and backward. The walk over layers and the caches
 * are the session's; the blocks get pointers.
 *
 * A pass computes rows; a run is a stretch of rows that are consecutive positions of one sequence. Every block works row by
 * row in an order of operations that depends on the row's position and the weights only, so no number depends on the rows
 * beside it. */
#ifndef RM_MODEL_LAYER_H
#define RM_MODEL_LAYER_H

#include "kern/kern.h"
#include "model/family.h"
#include "model/linear.h"
#include "model/model.h"

typedef struct {
    float *norm, *mlp_norm; /* before the mixer and before the MLP: factors, the one of "1 + w" included */
    float *post_norm, *post_mlp_norm; /* or NULL */
    rm_linear in, out; /* of the mixer: q | k | v and o, or qkv | z | b | a and out */
    rm_linear gate_up, down;
    float *q_norm, *k_norm; /* [d_head] or NULL */
    float *conv; /* [conv_dim, n_tap], oldest tap first */
    float *dt_bias, *a; /* [n_value]; a < 0 */
    float *delta_norm; /* [d_value] */
} rm_layer;

struct rm_model {
    rm_exec *exec;
    rm_config cfg;
    const rm_family *family;
    rm_weights *weights;
    rm_precision precision;
    char *path;
    const rm_tensor *embed;
    float embed_scale; /* 0: none */
    bool kv_half; /* caches hold IEEE half instead of float */
    float *out_norm;
    rm_linear head;
    rm_layer *layer;
    size_t n_bytes;
};

/* Finds and checks all tensors of m->weights. */
rmas_status rm_model_bind(rm_model *m, rmas_error *err);
void rm_layer_free(rm_layer *l);

/* ---- rows in parallel ------------------------------------------------------------------------------------------------ */

typedef void (*rm_rows_fn)(void *ctx, int from, int to);
/* Calls fn for ranges of at most grain rows that cover [0, n_row). Every row must be independent of the others. */
void rm_rows_run(rm_exec *e, int n_row, int grain, rm_rows_fn fn, void *ctx);
void rm_rows_copy(rm_exec *e, float *to, const float *from, int n_row, size_t n); /* [n_row, n] */

/* Rows [n_row, n] that are kept for the backward pass: as bf16 in native precision, else as float; and what was kept. rm_rows_round: the one, then the
 * other. */
static inline size_t rm_kept_bytes(const rm_model *m) { return m->precision == RM_NATIVE ? sizeof(uint16_t) : sizeof(float); }
void rm_rows_keep(const rm_model *m, void *kept, const float *x, int n_row, size_t n);
void rm_rows_kept(const rm_model *m, float *x, const void *kept, int n_row, size_t n);
void rm_rows_round(const rm_model *m, float *x, int n_row, size_t n);

/* ---- norms, residual sums --------------------------------------------------------------------------------------------- */

void rm_norm(rm_exec *e, float *y, const float *x, const float *w, int d, int n_row, float eps); /* y may be x */
/* dx += gradient, given dy; x is the input of the norm. */
void rm_norm_back(rm_exec *e, float *dx, const float *dy, const float *x, const float *w, int d, int n_row, float eps);
/* x += t, or x += norm(t) if w is given; t is overwritten. */
void rm_residual(rm_exec *e, float *x, float *t, const float *w, int d, int n_row, float eps);

/* ---- rotary positions ------------------------------------------------------------------------------------------------ */

/* cs [n_row, n_rot]: cos of the n_rot / 2 angles, then sin; pos [n_row]. */
void rm_rope_table(rm_exec *e, float *cs, const rm_rope *r, const int *pos, int n_row);
void rm_rope_back(float *dx, const float *cs, int half, bool adjacent); /* the inverse rotation, in place */

/* ---- runs -------------------------------------------------------------------------------------------------------------- */

typedef struct {
    int row, n, pos; /* rows [row, row + n) of the pass are positions [pos, pos + n) of one sequence */
    char *const *tile; /* attention: cache blocks by position / RM_KV_BLOCK (NULL for those behind the window) */
    float *attention; /* attention: NULL, or where its output is kept, see rm_attention_kept */
    float *conv; /* delta rule: [n_tap - 1, conv_dim], the rows before, oldest first */
    float *state; /* delta rule: [n_value, d_key, d_value] */
    float *snap; /* delta rule: NULL, or where copies of the state before certain positions go, see rm_snap_index */
    bool again; /* delta rule: the copies are there, and the state is taken from them */
    int snap_first, skip; /* skip: so many rows at the begin go through the convolution only */
} rm_run;

/* States are kept for position `first` and for all later multiples of RM_KV_BLOCK. The copy from which a position is reached: */
static inline int rm_snap_index(int first, int pos) { return pos / RM_KV_BLOCK - first / RM_KV_BLOCK; }
static inline int rm_snap_begin(int first, int pos) { return pos / RM_KV_BLOCK == first / RM_KV_BLOCK ? first : pos / RM_KV_BLOCK * RM_KV_BLOCK; }

/* ---- mixers ------------------------------------------------------------------------------------------------------------ */

/* Floats of a row of `in`, what goes into the mixer, that the way back wants again (see rm_rows_keep); 0: none. Attention wants what its norms on
 * heads and its gate were given. */
static inline size_t rm_mixer_in_kept(const rm_config *c, int il) {
    if (c->layer[il] == RM_LAYER_LINEAR) return (size_t)rm_delta_in_dim(&c->delta);
    return c->qk_norm || c->attn_gate ? (size_t)rm_config_qkv_dim(c) : 0;
}
/* Would the mixer's output be another if it were made from what is kept? */
static inline bool rm_mixer_rounds(const rm_config *c, int il) { return c->layer[il] == RM_LAYER_LINEAR || c->attn_gate; }

/* ---- attention --------------------------------------------------------------------------------------------------------- */

/* Bytes of one layer in a cache block: per kv head keys [d_head, RM_KV_BLOCK], then values [RM_KV_BLOCK, d_head]. */
size_t rm_kv_layer_bytes(const rm_model *m);

/* From in [n_row, qkv_dim]: q (normed, rotated) as [n_kv, n_row, n_head / n_kv, d_head]; keys (normed, rotated) and values
 * go to the cache. off: of this layer inside a block. */
void rm_attention_prepare(const rm_model *m, int il, float *q, const float *in, const float *cs, const rm_run *run, int n_run, int n_row, size_t off);
/* o [n_row, q_dim]: attention over the cache, times the gate if the plan has one (in: where the gate stands). t: scratch like q; lse:
 * scratch [n_row, n_head], or NULL if no run keeps anything. scratch: rm_attention_scratch floats. */
size_t rm_attention_scratch(const rm_model *m, const rm_run *run, int n_run);
void rm_attention(const rm_model *m, int il, float *o, float *t, float *lse, const float *q, const float *in, const rm_run *run, int n_run, int n_row,
                  size_t off, float *scratch);

/* Floats of a row that are kept for the backward pass: the output before the gate, of each head the logarithm of the sum of exponentials, q. */
static inline size_t rm_attention_kept(const rm_config *c) { return (size_t)rm_config_q_dim(c) * 2 + (size_t)c->n_head; }

/* Backward. Keys and values of earlier positions get gradients too: d_kv [n, 2 kv_dim], keys as they stand in the cache (normed,
 * rotated) then values, row 0 for position `first` (positions before it get none). */
typedef struct {
    float *d_kv;
    int first;
    const float *kept; /* of the run's first row, see rm_attention_kept */
} rm_kv_grad;

/* d_in [n_row, qkv_dim] from d_o [n_row, q_dim] (overwritten); kv_grad: one per run; in: as kept, not looked at where rm_mixer_in_kept is 0.
 * scratch: rm_attention_back_scratch floats. */
size_t rm_attention_back_scratch(const rm_model *m, int n_row);
void rm_attention_back(const rm_model *m, int il, float *d_in, float *d_o, const float *in, const float *cs, const rm_run *run,
                       const rm_kv_grad *kv_grad, int n_run, int n_row, size_t off, float *scratch);

/* ---- delta rule -------------------------------------------------------------------------------------------------------- */

/* From in [n_row, delta_in_dim]: conv [n_row, conv_dim] (after silu; q and k normalised), gate [n_row, 2 n_value] (decay, beta)
 * and o [n_row, value_dim] (normed, gated). conv and recurrent state of the runs move on. With rest [n_row, value_dim], which the way back wants (NULL
 * otherwise), o is what the recurrence gives. */
void rm_delta_mix(const rm_model *m, int il, float *o, float *rest, float *conv, float *gate, const float *in, const rm_run *run, int n_run,
                  int n_row);

/* Backward for the rows of a run. Gradients of what later positions took from here: */
typedef struct {
    float *d_state; /* [n_value, d_key, d_value], of the state after the last row; afterwards of the state before the first */
    float *d_decay; /* [n_value], of the logarithm of the decay of the row after the last; afterwards of the first row's */
    float *d_conv; /* [n_tap - 1, conv_dim], of the convolution's sums at the positions after the last row; afterwards at the first rows */
    const float *snap; /* states kept by the forward pass, see rm_run */
    int snap_first;
    int ext_row, ext_pos; /* row and position of the run's first row in in, conv and gate: they begin earlier than the run */
} rm_delta_grad;

/* d_in [n_row, delta_in_dim] of the rows of the runs from d_o [n_row, value_dim]. o, rest, in, conv, gate: of rm_delta_mix over the longer
 * runs (rows ext_row ..); du [n_row, conv_dim], d_qk [n_row, n_value, 2 d_key], d_gate [n_row, 2 n_value]: scratch; scratch: per thread
 * rm_delta_back_scratch floats. */
typedef struct {
    const float *o, *rest, *in, *conv, *gate;
    float *du, *d_qk, *d_gate, *scratch;
} rm_delta_rows;
size_t rm_delta_back_scratch(const rm_model *m);
void rm_delta_back(const rm_model *m, int il, float *d_in, const float *d_o, const rm_delta_rows *rows, const rm_run *run, const rm_delta_grad *grad,
                   int n_run);

/* ---- MLP --------------------------------------------------------------------------------------------------------------- */

void rm_act_mul(const rm_model *m, float *h, const float *gate_up, int n_row); /* h [n_row, d_ff] = act(gate) up */
void rm_act_mul_back(const rm_model *m, float *d_gate_up, const float *dh, const float *gate_up, int n_row);

#endif
