/* Gradients of a frozen model with respect to its input embeddings: a tape of independent sequences.
 *
 * Positions are pushed at the end of a sequence (forward: hidden states come back) and later popped from its end (backward: the
 * gradient with respect to the hidden states of the popped rows goes in, with respect to their input embeddings comes out). The
 * tape keeps what popping leaves behind: gradients of the keys, values and recurrent states of the positions that are still
 * there. So cutting is free: any pushes and any pops give the same numbers, bitwise, as one push and one pop of everything.
 *
 *   teacher forcing      push all rows, pop all rows
 *   latent rollout       push X; for t = 1 .. m-1: e_t = I(h_t), push e_t
 *     in full            d h_m from the loss; for t = m-1 .. 1: pop 1 row with d h_{t+1} -> d e_t; d h_t += I'(h_t)^T d e_t;
 *                        then pop X with d_hidden 0 except for its last row, d h_1. Every position is popped once.
 *     truncated          where e_t is a constant nothing is to be inserted: rows are popped together up to the next e_t that is
 *                        none. truncate 1: one pop of everything with all d h_t at their rows.
 *   unseen, unsent       the last layer works on positions whose states are seen only, and going backward on those with a gradient; nothing is
 *                        computed of positions behind the last one that has a gradient
 *   stop early           rows before the first row whose d_embeds is wanted need not be popped at all
 *   common prefix        a sequence can begin as a clone of an rm_seq: those positions cannot be popped (nothing before
 *                        the first slot is trained), and cost no memory but their cache. With the delta rule last bits depend on where the
 *                        prefix ends: states are put together from the one there
 *
 * Memory per pushed position: (n_layer + 1) rows of d_model; keys, values, queries and outputs of the attention layers, and from the first pop on
 * gradients of keys and values; of delta-rule layers a state for every 64 positions; of these, and of attention that norms or gates heads, what goes into
 * the mixer (in native precision rounded to bf16), and where that makes another output the residual sums before the MLP. If wanted, of positions that
 * stand before the first one that is pushed as a step: the products of gate and up, and those sums of all layers (where norms stand behind the blocks,
 * the inputs of these norms). Everything else is computed again, layer by layer, in passes of bounded size. */
#ifndef RM_SESSION_GRAD_H
#define RM_SESSION_GRAD_H

#include "session/session.h"

typedef struct rm_tape rm_tape;

/* gate_up: the products of gate and up, and what stands around them, are kept, too, so that popping does not compute them again. In native precision
 * only, else ignored; the products are rounded to bf16 there, kept or not, so the numbers are the same. */
rmas_status rm_tape_new(rm_tape **out, const rm_model *m, bool gate_up, rmas_error *err);
void rm_tape_free(rm_tape *t);

/* Forgets everything (memory is kept where possible) and makes n_seq >= 0 sequences, empty or clones of prefix[i] (prefix, or single
 * ones, may be NULL). */
rmas_status rm_tape_begin(rm_tape *t, int n_seq, const rm_seq *const *prefix, rmas_error *err);
/* One more sequence, *seq its number; and giving back the memory of one that is not needed any more (its number is not used again). */
rmas_status rm_tape_add(rm_tape *t, const rm_seq *prefix, int *seq, rmas_error *err);
void rm_tape_drop(rm_tape *t, int seq);
int rm_tape_len(const rm_tape *t, int seq); /* positions of a sequence, its prefix included */
size_t rm_tape_bytes(const rm_tape *t); /* memory in use */
size_t rm_tape_bytes_per_token(const rm_model *m, bool gate_up); /* at most */

/* n rows at the end of sequence seq (each sequence at most once per call); tokens and embeds as in rm_feed. */
typedef struct {
    int seq, n;
    const int32_t *tokens;
    const float *embeds;
    int n_unseen; /* as in rm_feed: positions whose d_hidden will be zero; they come before all others of a sequence */
    bool step; /* as in rm_feed */
    float *hidden; /* out [n, d_model] after the final norm, rows of unseen positions undefined; may be NULL */
} rm_tape_rows;
rmas_status rm_tape_push(rm_tape *t, const rm_tape_rows *rows, int n_rows, rmas_error *err);

/* The last n rows of sequence seq (each sequence at most once per call). */
typedef struct {
    int seq, n;
    const float *d_hidden; /* [n, d_model], NULL: zero */
    float *d_embeds; /* out [n, d_model], overwritten; may be NULL. May be d_hidden. */
} rm_tape_grads;
rmas_status rm_tape_pop(rm_tape *t, const rm_tape_grads *grads, int n_grads, rmas_error *err);

/* Cross-entropy of hidden rows [n, d_model] through the LM head: *loss = sum over rows with label[i] >= 0 of -log softmax(logits_i)[label[i]]
 * (label[i] is the token that follows row i: the caller shifts), *n_loss = how many those are. d_hidden [n, d_model], unless NULL, is
 * overwritten with scale times the gradient of the sum (zero for ignored rows). Bounded memory for any n and vocabulary. */
rmas_status rm_cross_entropy(const rm_model *m, const float *hidden, const int32_t *label, int n, float scale, double *loss, int *n_loss,
                             float *d_hidden, rmas_error *err);

#endif
