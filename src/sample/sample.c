/* Choosing a token from logits. Owns the order and the tie rules of the reference's logit processing; knows
 * nothing of models.
 *
 * Candidates live in a max-heap over (logit, index): building it is linear, and only as many are taken out as the filters
 * need. Before a top-p cut, everything too small to be in any nucleus is left out of the heap. */
#include "sample/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    float logit;
    int32_t id;
} candidate;

_Static_assert(sizeof(candidate) == 8, "the caller gives 8 bytes per token");

int32_t rm_argmax(const float *logits, int n_vocab, float *margin) {
    if (margin) *margin = 0;
    if (n_vocab <= 0 || isnan(logits[0])) return -1;
    int32_t best = 0;
    float first = logits[0], second = -INFINITY;
    for (int i = 1; i < n_vocab; i++) {
        float x = logits[i];
        if (x <= second) continue; /* false for NaN too, which must not pass unseen */
        if (isnan(x)) return -1;
        if (x > first) {
            second = first;
            first = x;
            best = i;
        } else {
            second = x;
        }
    }
    if (margin) *margin = first - second;
    return best;
}

/* Larger logits first; of equal ones the larger index first: the reference cuts an ascending sort from its low end. */
static bool before(candidate a, candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id > b.id); }

static void sift(candidate *h, int n, int i) {
    candidate c = h[i];
    for (int k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && before(h[k + 1], h[k])) k++;
        if (!before(h[k], c)) break;
        h[i] = h[k];
    }
    h[i] = c;
}

static void heapify(candidate *h, int n) {
    for (int i = n / 2 - 1; i >= 0; i--) sift(h, n, i);
}

/* Moves the best of h[0..n) to h[n - 1]; what was taken before stands behind it, best last. */
static void take(candidate *h, int n) {
    candidate c = h[0];
    h[0] = h[n - 1];
    sift(h, n - 1, 0);
    h[n - 1] = c;
}

/* e^(logit - max) in double: sums over a vocabulary keep their small terms. */
static double weight(float logit, float max) { return exp((double)logit - (double)max); }

/* Orders candidates best last in h[n - kept .. n) as far as the filters keep them. Returns kept >= 1. */
static int select_top(candidate *h, int n, const rm_sampling *p, float max, double mass) {
    bool nucleus = p->top_p<1, smallest = p->min_p> 0;
    int limit = p->top_k > 0 && p->top_k < n ? p->top_k : n, kept = 0;
    if (limit < n) { /* top-k first: its mass is what top-p refers to. Equal to the last one stays, as in the reference */
        float last = 0;
        for (; kept < n && (kept < limit || h[0].logit == last); kept++) {
            last = h[0].logit;
            take(h, n - kept);
        }
        mass = 0;
        for (int i = n - 1; i >= n - kept; i--) mass += weight(h[i].logit, max);
        if (nucleus) {
            double above = 0;
            int keep = 0;
            while (keep < kept && (keep == 0 || above < (double)p->top_p * mass)) above += weight(h[n - 1 - keep++].logit, max);
            kept = keep;
        }
    } else {
        double above = 0; /* a candidate stays while the mass above it is less than top_p */
        for (; kept < n && (kept == 0 || !nucleus || above < (double)p->top_p * mass); kept++) {
            if (smallest && kept && weight(h[0].logit, max) < (double)p->min_p) break; /* relative to the best, whose weight is 1 */
            above += weight(h[0].logit, max);
            take(h, n - kept);
        }
    }
    if (smallest)
        while (kept > 1 && weight(h[n - kept].logit, max) < (double)p->min_p) kept--;
    return kept;
}

int32_t rm_sample(const float *logits, int n_vocab, const rm_sampling *p, rm_rng *rng, void *scratch) {
    int32_t best = rm_argmax(logits, n_vocab, NULL);
    if (best < 0 || p->temperature <= 0) return best;
    float max = logits[best] / p->temperature;
    if (!isfinite(max)) return isinf(logits[best]) && logits[best] < 0 ? -1 : best;

    candidate *h = scratch;
    int n = 0;
    double mass = 0;
    for (int i = 0; i < n_vocab; i++) mass += weight(logits[i] / p->temperature, max);
    bool top_k = p->top_k > 0 && p->top_k < n_vocab, nucleus = p->top_p < 1;
    if (!top_k && !nucleus && p->min_p <= 0) { /* no filter: no order needed either */
        double u = rm_rng_double(rng) * mass;
        for (int i = 0; i < n_vocab; i++)
            if ((u -= weight(logits[i] / p->temperature, max)) < 0) return i;
        return best;
    }
    /* All candidates of a weight up to this together weigh no more than 1 - top_p, so the nucleus has none of them. */
    double floor = nucleus && !top_k ? (1 - (double)p->top_p) * mass / n_vocab : -1;
    for (int i = 0; i < n_vocab; i++) {
        float x = logits[i] / p->temperature;
        if (i == best || weight(x, max) > floor) h[n++] = (candidate){x, i};
    }
    heapify(h, n);
    int kept = select_top(h, n, p, max, mass);

    double total = 0;
    for (int i = n - 1; i >= n - kept; i--) total += weight(h[i].logit, max);
    double u = rm_rng_double(rng) * total;
    for (int i = n - 1; i >= n - kept; i--)
        if ((u -= weight(h[i].logit, max)) < 0) return h[i].id;
    return h[n - 1].id;
}
