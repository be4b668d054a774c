/* Sampling against probabilities of the reference's logit processors (transformers 5.3.0: temperature, top-k, top-p, min-p). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sample/sample.h"
#include "util/mem.h"

enum { N = 16, DRAWS = 40000 };

/* Many equal logits: the cuts fall between equals. */
static const float logits[N] = {2, 1, -1, -1, 2, 0, 0, -1, 1, 0, -1, 0, 1, 0, 3, -1};
static const struct {
    rm_sampling p;
    double want[N];
} cases[] = {
    {{(float)1, (float)1, (float)0, 0},
     {0.148202, 0.054521, 0.007379, 0.007379, 0.148202, 0.020057, 0.020057, 0.007379, 0.054521, 0.020057, 0.007379, 0.020057, 0.054521, 0.020057,
      0.402856, 0.007379}},
    {{(float)0.6, (float)0.95, (float)0, 50}, {0.13034, 0, 0, 0, 0.13034, 0, 0, 0, 0.024618, 0, 0, 0, 0.024618, 0, 0.690084, 0}},
    {{(float)0.7, (float)1, (float)0, 5}, {0.145102, 0.034774, 0, 0, 0.145102, 0, 0, 0, 0.034774, 0, 0, 0, 0.034774, 0, 0.605473, 0}},
    {{(float)1.5, (float)0.7, (float)0, 5}, {0.25331, 0, 0, 0, 0.25331, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.49338, 0}},
    {{(float)1, (float)0.75, (float)0, 0}, {0.196612, 0, 0, 0, 0.196612, 0, 0, 0, 0, 0, 0, 0, 0.072329, 0, 0.534447, 0}},
    {{(float)2, (float)0.8, (float)0.3, 0}, {0.182872, 0.110917, 0, 0, 0.182872, 0, 0, 0, 0.110917, 0, 0, 0, 0.110917, 0, 0.301505, 0}},
    {{(float)1, (float)0.3, (float)0, 0}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}},
    {{(float)3, (float)1, (float)0.5, 2}, {0.294498, 0, 0, 0, 0.294498, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.411005, 0}},
    {{(float)1, (float)1, (float)0.13, 0}, {0.171765, 0.063189, 0, 0, 0.171765, 0, 0, 0, 0.063189, 0, 0, 0, 0.063189, 0, 0.466905, 0}},
};

static void distribution(void **state) {
    (void)state;
    char scratch[N * 8];
    for (size_t c = 0; c < RM_COUNT(cases); c++) {
        int count[N] = {0};
        rm_rng rng = rm_rng_make(42, c);
        for (int i = 0; i < DRAWS; i++) {
            int32_t id = rm_sample(logits, N, &cases[c].p, &rng, scratch);
            assert_in_range(id, 0, N - 1);
            count[id]++;
        }
        for (int i = 0; i < N; i++) {
            double want = cases[c].want[i], sd = sqrt(want * (1 - want) / DRAWS);
            if (want == 0)
                assert_int_equal(count[i], 0);
            else
                assert_true(fabs((double)count[i] / DRAWS - want) < 5 * sd + 1e-6);
        }
    }
}

static void greedy(void **state) {
    (void)state;
    float margin;
    assert_int_equal(rm_argmax(logits, N, &margin), 14);
    assert_true(margin == 1);
    assert_int_equal(rm_argmax(logits, 5, &margin), 0); /* the first of equals */
    assert_true(margin == 0);
    float bad[3] = {1, NAN, 2}, low[3] = {-INFINITY, -INFINITY, -5};
    assert_int_equal(rm_argmax(bad, 3, NULL), -1);
    assert_int_equal(rm_argmax(low, 3, NULL), 2);
    rm_sampling p = {.temperature = 0, .top_p = 1};
    rm_rng rng = rm_rng_make(1, 1);
    assert_int_equal(rm_sample(logits, N, &p, &rng, NULL), 14);
    assert_true(rng.counter == 0); /* greedy draws nothing */
    char scratch[3 * 8];
    p.temperature = 1;
    assert_int_equal(rm_sample(bad, 3, &p, &rng, scratch), -1);
    assert_int_equal(rm_sample(low, 3, &p, &rng, scratch), 2);
    p.top_k = 2;
    assert_int_equal(rm_sample(low, 3, &p, &rng, scratch), 2);
}

/* A large vocabulary: partial selection gives what a full sort would give. */
static void large(void **state) {
    (void)state;
    enum { V = 5000 };
    static float x[V];
    static char scratch[V * 8];
    rm_rng rng = rm_rng_make(3, 3);
    for (int i = 0; i < V; i++) x[i] = (float)rm_rng_normal(&rng) * 3;
    rm_sampling p = {.temperature = 0.9f, .top_p = 0.6f};
    double mass = 0, max = x[rm_argmax(x, V, NULL)] / p.temperature;
    for (int i = 0; i < V; i++) mass += exp((double)(x[i] / p.temperature) - max);
    for (int draw = 0; draw < 500; draw++) {
        int32_t id = rm_sample(x, V, &p, &rng, scratch);
        double above = 0;
        for (int i = 0; i < V; i++)
            if (x[i] > x[id]) above += exp((double)(x[i] / p.temperature) - max);
        assert_true(above < 0.6 * mass);
    }
    /* top-k of many: never outside, and all of the best come up */
    rm_sampling top = {.temperature = 4, .top_p = 1, .top_k = 20};
    static int seen[V];
    int n_seen = 0, n_above;
    for (int draw = 0; draw < 4000; draw++) {
        int32_t id = rm_sample(x, V, &top, &rng, scratch);
        n_seen += !seen[id]++;
        n_above = 0;
        for (int i = 0; i < V; i++) n_above += x[i] > x[id];
        assert_true(n_above < 20);
    }
    assert_int_equal(n_seen, 20);
    /* without a filter: shares of the groups between quartiles of the logits as by exact weights */
    rm_sampling all = {.temperature = 3, .top_p = 1};
    double want = 0, total = 0;
    int high = 0;
    for (int i = 0; i < V; i++) total += exp((double)x[i] / 3), want += x[i] > 2 ? exp((double)x[i] / 3) : 0;
    for (int draw = 0; draw < 4000; draw++) high += x[rm_sample(x, V, &all, &rng, scratch)] > 2;
    want /= total;
    assert_true(fabs(high / 4000.0 - want) < 5 * sqrt(want * (1 - want) / 4000));
    /* one draw depends on (seed, sequence) alone */
    rm_rng a = rm_rng_make(7, 2), b = rm_rng_make(7, 2), c = rm_rng_make(7, 3);
    int differ = 0;
    for (int i = 0; i < 50; i++) {
        int32_t first = rm_sample(x, V, &p, &a, scratch);
        assert_int_equal(first, rm_sample(x, V, &p, &b, scratch));
        differ += first != rm_sample(x, V, &p, &c, scratch);
    }
    assert_true(differ > 25);
}

/* ---- the same choice as a full sort makes ---- */

typedef struct {
    float x;
    int id;
} entry;

static int by_logit(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return x->x != y->x ? (x->x < y->x) - (x->x > y->x) : (x->id < y->id) - (x->id > y->id);
}

static int sorted_choice(entry *e, const float *x, int n, const rm_sampling *p, rm_rng *rng) {
    double mass = 0, above = 0, total = 0;
    int kept = n, keep = 0;
    for (int i = 0; i < n; i++) e[i] = (entry){x[i] / p->temperature, i};
    qsort(e, (size_t)n, sizeof *e, by_logit);
    float max = e[0].x;
    if (p->top_k > 0 && p->top_k < n)
        for (kept = p->top_k; kept < n && e[kept].x == e[kept - 1].x;) kept++;
    for (int i = kept - 1; i >= 0; i--) mass += exp((double)e[i].x - (double)max);
    while (keep < kept && (keep == 0 || p->top_p >= 1 || above < (double)p->top_p * mass)) above += exp((double)e[keep++].x - (double)max);
    while (keep > 1 && exp((double)e[keep - 1].x - (double)max) < (double)p->min_p) keep--;
    for (int i = 0; i < keep; i++) total += exp((double)e[i].x - (double)max);
    double u = rm_rng_double(rng) * total;
    for (int i = 0; i < keep; i++)
        if ((u -= exp((double)e[i].x - (double)max)) < 0) return e[i].id;
    return e[0].id;
}

static void large_vocabulary(void **state) {
    (void)state;
    enum { MOST = 9000 };
    static float x[MOST];
    static char scratch[MOST * 8];
    static entry e[MOST];
    static const rm_sampling p[] = {{0.6f, 0.95f, 0, 50}, {1, 1, 0, 7},       {1.4f, 0.9f, 0.02f, 300},
                                    {0.7f, 1, 0.1f, 40},  {0.5f, 0.8f, 0, 1}, {0.9f, 0.95f, 0, 0}};
    rm_rng rng = rm_rng_make(3, 4);
    for (int c = 0; c < 120; c++) {
        int n = c % 5 == 0 ? 60 + c : 1000 + (int)(rm_rng_double(&rng) * (MOST - 1000));
        double grid = c % 3 ? 1e6 : 2; /* every third: many equal logits */
        for (int i = 0; i < n; i++) x[i] = (float)(floor(4 * rm_rng_normal(&rng) * grid) / grid);
        for (size_t k = 0; k < RM_COUNT(p); k++) {
            rm_rng a = rm_rng_make((uint64_t)c, k), b = a;
            for (int d = 0; d < 3; d++) assert_int_equal(rm_sample(x, n, &p[k], &a, scratch), sorted_choice(e, x, n, &p[k], &b));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(distribution), cmocka_unit_test(greedy), cmocka_unit_test(large),
                                       cmocka_unit_test(large_vocabulary)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
