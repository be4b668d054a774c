/* Sequences that live on a model (KV cache and recurrent state), and computing a ragged batch of them together.
 *
 * The numbers of a sequence do not depend on what else is in the batch, on how its prompts are cut into calls, or on
 * the number of threads: bitwise. */
#ifndef RM_SESSION_SESSION_H
#define RM_SESSION_SESSION_H

#include <signal.h>

#include "model/model.h"

/* ---- one sequence --------------------------------------------------------------------------------------------------- */

typedef struct rm_seq rm_seq;

rmas_status rm_seq_new(rm_seq **out, const rm_model *m, rmas_error *err);
void rm_seq_free(rm_seq *s);
int rm_seq_len(const rm_seq *s); /* positions computed so far */
/* A second sequence with the same past; the past is shared in memory (copied only where one of them writes on). */
rmas_status rm_seq_clone(rm_seq **out, const rm_seq *s, rmas_error *err);
size_t rm_seq_bytes_per_token(const rm_model *m); /* of attention caches */
size_t rm_seq_bytes_fixed(const rm_model *m); /* recurrent state */

/* ---- a batch -------------------------------------------------------------------------------------------------------- */

/* n new positions of one sequence. Position i takes embeds row i if tokens is NULL or tokens[i] < 0, else the token's
 * embedding. embeds: [n, d_model], as the layers see them (not multiplied by Gemma's factor again). */
typedef struct {
    rm_seq *seq;
    int n;
    const int32_t *tokens;
    const float *embeds;
    int n_unseen; /* so many positions at the begin whose states nobody looks at, of those that a tap would show or a tape would keep */
    bool want_logits; /* of the last position */
    bool
        step; /* a step of generation, or n of them; else positions of a prompt. They may be computed differently, to the last bits (rm_matrix_mul). */
} rm_feed;

typedef struct rm_batch rm_batch; /* workspace for calls of rm_batch_forward; one thread at a time */

/* What the workspace takes for calls of n_feed feeds with logits and n_row positions in all. */
size_t rm_batch_bytes(const rm_config *c, int n_row, int n_feed);
rmas_status rm_batch_new(rm_batch **out, const rm_model *m, rmas_error *err);
void rm_batch_free(rm_batch *b);
/* Once *cancel is not 0 a call ends before its next pass, as a failure with RMAS_E_CANCELLED. The flag must live until the next rm_batch_watch;
 * NULL: no flag. */
void rm_batch_watch(rm_batch *b, const volatile sig_atomic_t *cancel);

/* Appends the positions of all feeds to their sequences (each sequence at most once). On failure the sequences of the
 * call are broken and may only be freed. Long feeds are cut into passes of bounded workspace. */
rmas_status rm_batch_forward(rm_batch *b, const rm_feed *feed, int n_feed, rmas_error *err);
const float *rm_batch_hidden(const rm_batch *b, int i); /* [d_model] after the final norm, last position of feed i; until the next call */
const float *rm_batch_logits(const rm_batch *b, int i); /* [n_vocab], NULL unless wanted */

/* Everything of one call, for rmas probe and training; members may be NULL. */
typedef struct {
    float *hidden; /* [sum n, d_model] after the final norm, feeds one after the other; rows of unseen positions are left as they are */
    float *layers; /* [n_layer + 1, sum n, d_model]: embeddings, output of each layer before the final norm */
    const int *logit_row; /* rows (over all feeds) whose logits are wanted */
    int n_logit_row;
    float *logits; /* [n_logit_row, n_vocab] */
} rm_tap;
rmas_status rm_batch_forward_tap(rm_batch *b, const rm_feed *feed, int n_feed, const rm_tap *tap, rmas_error *err);

#endif
