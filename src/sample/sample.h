/* logits -> token: pure functions; every sequence has its own random stream. */
#ifndef RM_SAMPLE_SAMPLE_H
#define RM_SAMPLE_SAMPLE_H

#include <stdint.h>

#include "util/rng.h"

typedef struct {
    float temperature; /* <= 0: greedy */
    float top_p; /* >= 1: off */
    float min_p; /* <= 0: off */
    int top_k; /* <= 0: off */
} rm_sampling;

/* Index of the largest logit (the first of equals). margin: top-1 minus top-2, may be NULL. */
int32_t rm_argmax(const float *logits, int n_vocab, float *margin);

/* In the order of the reference: temperature, top-k, top-p, min-p, softmax, one draw from rng. Greedy draws nothing.
 * scratch: n_vocab * 8 bytes. Partial selection only, never a full sort of the vocabulary. NaN logits give -1. */
int32_t rm_sample(const float *logits, int n_vocab, const rm_sampling *p, rm_rng *rng, void *scratch);

#endif
