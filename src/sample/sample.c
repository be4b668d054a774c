/* Choosing a token from logits. Owns the order and the tie rules of the reference's logit processing; knows
 * nothing of models.
 *
 * Vocabularies are large and few tokens matter: a pass over all logits finds a bound that the filters cannot go below, and only what
 * lies above it becomes a candidate. Candidates live in a max-heap over (logit, index): building it is linear, and only as many are
 * taken out as the filters need. */
#include "sample/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    float logit;
    int32_t id;
} candidate;

_Static_assert(sizeof(candidate) == 8, "the caller gives 8 bytes per token");

enum { BLOCK = 256, LANES = 16 }; /* loops over these become vectors */

static inline int block_size(int at, int n) { return n - at < BLOCK ? n - at : BLOCK; }

/* Is one of them above the bound, or no number? */
static inline bool any_above(const float *x, int n, float bound) {
    int any = 0;
    for (int i = 0; i < n; i++) any |= !(x[i] <= bound);
    return any;
}

int32_t rm_argmax(const float *logits, int n_vocab, float *margin) {
    if (margin) *margin = 0;
    if (n_vocab <= 0 || isnan(logits[0])) return -1;
    int32_t best = 0;
    float first = logits[0], second = -INFINITY;
    for (int at = 1; at < n_vocab; at += BLOCK) {
        int end = at + block_size(at, n_vocab);
        if (!any_above(logits + at, end - at, second)) continue;
        for (int i = at; i < end; i++) {
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

/* Orders candidates best last in h[n - kept .. n) as far as the filters keep them; limit: of top-k, or 0. Returns kept >= 1. */
static int select_top(candidate *h, int n, int limit, const rm_sampling *p, float max, double mass) {
    bool nucleus = p->top_p<1, smallest = p->min_p> 0;
    int kept = 0;
    if (limit) { /* top-k first: its mass is what top-p refers to. Equal to the last one stays, as in the reference */
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

/* ---- the whole vocabulary --------------------------------------------------------------------------------------------- */

typedef union {
    float f;
    int32_t i;
} number;

/* e^x for x <= 0 to 2e-7, 0 below -87: whole powers of two and a polynomial on [-ln 2 / 2, ln 2 / 2]. No branches: compilers make
 * vectors of it. */
static inline float exp_small(float x) {
    number t = {.f = x * 1.44269504f + 0x1.8p23f}; /* the low bits of t hold the nearest integer */
    float k = t.f - 0x1.8p23f, f = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1 + f * (1 + f * (0.5f + f * (0.166666667f + f * (0.0416666667f + f * (0.00833333333f + f * 0.00138888889f)))));
    number power = {.i = (int32_t)(((uint32_t)t.i + 127) << 23 & 0x7F800000)}, y = {.f = p};
    y.f *= power.f;
    y.i &= -(x > -87);
    return y.f;
}

/* w[i] = e^(logit / temperature - max), i < n <= BLOCK; returns their sum. */
static double block_weights(float w[BLOCK], const float *logits, int n, float temperature, float max) {
    float sum[LANES] = {0};
    for (int i = 0; i < n; i++) w[i] = exp_small(logits[i] / temperature - max);
    for (int i = n; i < BLOCK; i++) w[i] = 0;
    for (int i = 0; i < BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) sum[l] += w[i + l];
    double all = 0;
    for (int l = 0; l < LANES; l++) all += (double)sum[l];
    return all;
}

static double whole_mass(const float *logits, int n, float temperature, float max) {
    float w[BLOCK];
    double mass = 0;
    for (int at = 0; at < n; at += BLOCK) mass += block_weights(w, logits + at, block_size(at, n), temperature, max);
    return mass;
}

/* Nothing is filtered: no order is needed either. */
static int32_t draw_any(const float *logits, int n, float temperature, float max, int32_t best, rm_rng *rng) {
    float w[BLOCK];
    double u = rm_rng_double(rng) * whole_mass(logits, n, temperature, max);
    for (int at = 0; at < n; at += BLOCK) {
        double block = block_weights(w, logits + at, block_size(at, n), temperature, max);
        if (u >= block) {
            u -= block;
            continue;
        }
        for (int i = 0; i < block_size(at, n); i++)
            if ((u -= (double)w[i]) < 0) return at + i;
    }
    return best; /* rounding */
}

/* The k-th largest of n > k values. heap: room for k floats, the smallest on top. */
static float kth_largest(const float *x, int n, int k, float *heap) {
    for (int i = 0; i < k; i++) heap[i] = -INFINITY;
    for (int block = 0; block < n; block += BLOCK) {
        if (!any_above(x + block, block_size(block, n), heap[0])) continue;
        for (int i = block; i < block + block_size(block, n); i++) {
            if (!(x[i] > heap[0])) continue;
            int at = 0;
            for (int c; (c = 2 * at + 1) < k; at = c) {
                if (c + 1 < k && heap[c + 1] < heap[c]) c++;
                if (!(heap[c] < x[i])) break;
                heap[at] = heap[c];
            }
            heap[at] = x[i];
        }
    }
    return heap[0];
}

/* A logit below which no token passes the filters. Rounding is allowed for: a few too many do no harm. */
static float lower_bound(const float *logits, int n, const rm_sampling *p, float max, double mass, void *scratch) {
    if (p->top_k > 0 && p->top_k < n) {
        float last = kth_largest(logits, n, p->top_k, scratch);
        return last - 1e-5f * fabsf(last) - 1e-30f;
    }
    double floor = p->min_p > 0 ? (double)p->min_p : 0; /* of weights */
    /* All candidates of a weight up to this together weigh no more than 1 - top_p, so the nucleus has none of them. */
    double rest = p->top_p < 1 ? (1 - (double)p->top_p) * mass / n : 0;
    if (rest > floor) floor = rest;
    float x = (max + (float)log(floor)) * p->temperature;
    return x - 1e-4f * (1 + fabsf(x));
}

int32_t rm_sample(const float *logits, int n_vocab, const rm_sampling *p, rm_rng *rng, void *scratch) {
    int32_t best = rm_argmax(logits, n_vocab, NULL);
    if (best < 0 || p->temperature <= 0) return best;
    float max = logits[best] / p->temperature;
    if (!isfinite(max)) return isinf(logits[best]) && logits[best] < 0 ? -1 : best;
    bool top_k = p->top_k > 0 && p->top_k < n_vocab, nucleus = p->top_p < 1;
    if (!top_k && !nucleus && p->min_p <= 0) return draw_any(logits, n_vocab, p->temperature, max, best, rng);

    double mass = nucleus && !top_k ? whole_mass(logits, n_vocab, p->temperature, max) : 0;
    float bound = lower_bound(logits, n_vocab, p, max, mass, scratch);
    candidate *h = scratch;
    int n = 0;
    for (int at = 0; at < n_vocab; at += BLOCK) {
        if (!any_above(logits + at, block_size(at, n_vocab), bound)) continue;
        for (int i = at; i < at + block_size(at, n_vocab); i++)
            if (logits[i] > bound || i == best) h[n++] = (candidate){logits[i] / p->temperature, i};
    }
    heapify(h, n);
    int kept = select_top(h, n, top_k ? p->top_k : 0, p, max, mass);

    double total = 0;
    for (int i = n - 1; i >= n - kept; i--) total += weight(h[i].logit, max);
    double u = rm_rng_double(rng) * total;
    for (int i = n - 1; i >= n - kept; i--)
        if ((u -= weight(h[i].logit, max)) < 0) return h[i].id;
    return h[n - 1].id;
}
