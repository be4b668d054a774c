/* Tiny models with golden values (ref/make_model_fixtures.py), for the tests of model and session. */
#ifndef RM_TEST_MODEL_FIXTURE_H
#define RM_TEST_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "session/grad.h"
#include "session/session.h"
#include "util/mem.h"
#include "weights/weights.h"

#define OK(call)                                                                                                                                     \
    do {                                                                                                                                             \
        rmas_error ok_err_ = {0}, *err = &ok_err_;                                                                                                   \
        if ((call) != RMAS_OK) fail_msg("%s: %s", #call, err->msg);                                                                                  \
    } while (0)

static const char *const fixture_names[] = {"llama", "llama_plain", "mistral", "qwen2", "qwen3", "gemma3", "qwen3_5", "qwen3_5_tap3", "smollm3"};
enum { N_FIXTURE = 9 };

typedef struct {
    rm_exec *exec;
    rm_model *model;
    rm_weights *golden;
    int n, d, v, n_layer;
    int32_t *tokens;
} fixture;

static const rm_tensor *golden_tensor(const fixture *f, const char *name) {
    const rm_tensor *t = rm_weights_find(f->golden, name);
    if (!t) fail_msg("no golden %s", name);
    return t;
}
static inline const float *golden_f32(const fixture *f, const char *name) {
    return golden_tensor(f, name)->data;
} /* files are mapped, data 8-byte aligned */
static inline int64_t golden_i64(const fixture *f, const char *name, int i) {
    int64_t v;
    memcpy(&v, (const char *)golden_tensor(f, name)->data + 8 * (size_t)i, 8);
    return v;
}

/* file: what stands after tests/fixtures/models/, name: of the folder with the golden values */
static inline fixture fixture_open_as(const char *file, const char *name, int n_thread, const char *isa, rm_precision precision) {
    fixture f = {0};
    char path[512];
    OK(rm_exec_new(&f.exec, n_thread, isa, err));
    snprintf(path, sizeof path, "%s/models/%s", RMAS_FIXTURES, file);
    OK(rm_model_open(&f.model, f.exec, path, precision, err));
    snprintf(path, sizeof path, "%s/models/%s/golden.safetensors", RMAS_FIXTURES, name);
    OK(rm_weights_open(&f.golden, path, err));
    const rm_config *c = rm_model_config(f.model);
    f.d = c->d_model, f.v = c->n_vocab, f.n_layer = c->n_layer;
    f.n = (int)golden_tensor(&f, "tokens")->dim[0];
    f.tokens = rm_array((size_t)f.n, sizeof *f.tokens);
    for (int i = 0; i < f.n; i++) f.tokens[i] = (int32_t)golden_i64(&f, "tokens", i);
    return f;
}

static inline fixture fixture_open(const char *file, const char *name, int n_thread, const char *isa) {
    return fixture_open_as(file, name, n_thread, isa, RM_EXACT);
}

static inline void fixture_close(fixture *f) {
    rm_free(f->tokens);
    rm_weights_close(f->golden);
    rm_model_close(f->model);
    rm_exec_free(f->exec);
}

static inline float *floats(size_t n) {
    float *p = rm_calloc(n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

/* Largest difference as a share of the largest value (the golden values are those of a float64 run). */
static inline void assert_within(float share, const char *what, const char *name, const float *got, const float *want, size_t n) {
    float max = 0, diff = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(got[i]) < 1e30f)) fail_msg("%s %s[%zu] is %g", what, name, i, (double)got[i]);
        max = fmaxf(max, fabsf(want[i]));
        diff = fmaxf(diff, fabsf(got[i] - want[i]));
    }
    if (diff > share * max) fail_msg("%s: %s is off by %g, largest value %g", what, name, (double)diff, (double)max);
}
static inline void assert_near(const char *what, const char *name, const float *got, const float *want, size_t n) {
    assert_within(2e-5f, what, name, got, want, n);
}

static inline void assert_same(const char *what, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a))
            fail_msg("%s: element %zu of %zu is %.9g, expected the same bits as %.9g", what, i, n, (double)a[i], (double)b[i]);
}

#endif
