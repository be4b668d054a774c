/* The public header, used as a program outside would: sessions, links, errors. Needs nothing but rmas.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rmas.h"

static const int32_t prompt[] = {5, 17, 3, 8, 41, 9, 20, 6, 2, 33};
enum { N = sizeof prompt / sizeof prompt[0], STEPS = 5 };

static rmas_engine *engine;
static rmas_model *model;
static rmas_model_info info;

static int set_up(void **state) {
    (void)state;
    rmas_error err;
    if (rmas_engine_new(&engine, 2, NULL, &err) != RMAS_OK) return -1;
    if (rmas_model_open(&model, engine, RMAS_FIXTURES "/models/qwen3", RMAS_EXACT, &err) != RMAS_OK) return -1;
    rmas_model_get_info(model, &info);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rmas_model_close(model);
    rmas_engine_free(engine);
    return 0;
}

static void a_session_can_be_cut_copied_and_reset(void **state) {
    (void)state;
    rmas_session *s;
    assert_string_equal(info.arch, "qwen3");
    assert_int_equal(rmas_session_new(&s, model, 2, NULL), RMAS_OK);
    size_t bytes = (size_t)info.n_vocab * sizeof(float);
    float *whole = malloc(bytes);
    assert_int_equal(rmas_session_feed(s, &(rmas_feed){.seq = 0, .n = N, .tokens = prompt}, 1, NULL), RMAS_OK);
    memcpy(whole, rmas_session_logits(s, 0), bytes);
    assert_null(rmas_session_logits(s, 1));

    assert_int_equal(rmas_session_feed(s, &(rmas_feed){.seq = 1, .n = 4, .tokens = prompt}, 1, NULL), RMAS_OK);
    assert_int_equal(rmas_session_copy(s, 0, 1, NULL), RMAS_OK);
    rmas_feed both[2] = {{.seq = 0, .n = N - 4, .tokens = prompt + 4}, {.seq = 1, .n = 1, .tokens = prompt}};
    assert_int_equal(rmas_session_feed(s, both, 2, NULL), RMAS_OK);
    assert_int_equal(rmas_session_length(s, 0), N);
    assert_memory_equal(rmas_session_logits(s, 0), whole, bytes);
    rmas_sampling greedy = {.temperature = 0}, warm = {.temperature = 1, .top_p = 0.9f, .seed = 7};
    int32_t best = rmas_session_sample(s, 0, &greedy);
    for (int i = 0; i < info.n_vocab; i++) assert_true(whole[i] <= whole[best]);
    assert_int_equal(rmas_session_sample(s, 0, &warm), rmas_session_sample(s, 0, &warm));

    assert_int_equal(rmas_session_reset(s, 0, NULL), RMAS_OK);
    assert_int_equal(rmas_session_length(s, 0), 0);
    free(whole);
    rmas_session_free(s);
}

/* rmas_session_latent is the loop that anyone could write with feed and apply. */
static void latent_thoughts(void **state) {
    (void)state;
    rmas_session *s;
    rmas_link *inner, *outer, *again;
    size_t d = (size_t)info.d_model;
    float *got = malloc(STEPS * d * sizeof(float)), *e = malloc(d * sizeof(float)), *y = malloc((size_t)2 * STEPS * 24 * sizeof(float));
    assert_int_equal(rmas_link_new(&inner, engine, info.d_model, info.d_model, 1, 3, NULL), RMAS_OK);
    assert_int_equal(rmas_session_new(&s, model, 1, NULL), RMAS_OK);
    assert_int_equal(rmas_session_feed(s, &(rmas_feed){.n = N, .tokens = prompt}, 1, NULL), RMAS_OK);
    assert_int_equal(rmas_session_latent(s, 0, inner, STEPS, got, NULL), RMAS_OK);
    assert_int_equal(rmas_session_length(s, 0), N + STEPS - 1);

    assert_int_equal(rmas_session_reset(s, 0, NULL), RMAS_OK);
    assert_int_equal(rmas_session_feed(s, &(rmas_feed){.n = N, .tokens = prompt}, 1, NULL), RMAS_OK);
    for (size_t t = 0; t < STEPS; t++) {
        assert_memory_equal(rmas_session_hidden(s, 0), got + t * d, d * sizeof(float));
        assert_int_equal(rmas_link_apply(inner, rmas_session_hidden(s, 0), 1, e, NULL), RMAS_OK);
        assert_int_equal(rmas_session_feed(s, &(rmas_feed){.n = 1, .embeds = e}, 1, NULL), RMAS_OK);
    }

    assert_int_equal(rmas_link_new(&outer, engine, info.d_model, 24, 0, 4, NULL), RMAS_OK);
    assert_int_equal(rmas_link_d_dst(outer), 24);
    assert_int_equal(rmas_link_apply(outer, got, STEPS, y, NULL), RMAS_OK);
    char path[] = "/tmp/rmas_api_XXXXXX.pt";
    assert_true(mkstemps(path, 3) >= 0);
    assert_int_equal(rmas_link_save(outer, path, NULL), RMAS_OK);
    assert_int_equal(rmas_link_open(&again, engine, path, RMAS_EXACT, NULL), RMAS_OK);
    assert_int_equal(rmas_link_apply(again, got, STEPS, y + STEPS * 24, NULL), RMAS_OK);
    assert_memory_equal(y, y + STEPS * 24, STEPS * 24 * sizeof(float));
    remove(path);
    rmas_link_close(again);
    rmas_link_close(outer);
    rmas_link_close(inner);
    rmas_session_free(s);
    free(got);
    free(e);
    free(y);
}

static void errors_say_what_is_wrong(void **state) {
    (void)state;
    rmas_error err = {0};
    rmas_model *m;
    rmas_session *s;
    rmas_system *sys;
    rmas_link *l;
    int n;
    assert_int_equal(rmas_model_open(&m, engine, "/nowhere/model", RMAS_EXACT, &err), RMAS_E_IO);
    assert_null(m);
    assert_non_null(strstr(err.msg, "/nowhere/model"));
    assert_int_equal(rmas_model_tokenize(model, "a", 1, 0, NULL, 0, &n, &err), RMAS_E_UNSUPPORTED);
    assert_int_not_equal(rmas_system_open(&sys, engine, "/nowhere/system", RMAS_NATIVE, &err), RMAS_OK);
    assert_null(sys);
    assert_int_equal(rmas_link_new(&l, engine, 8, 9, 1, 0, &err), RMAS_E_ARG);
    assert_int_equal(rmas_session_new(&s, model, 1, NULL), RMAS_OK);
    assert_int_equal(rmas_session_feed(s, &(rmas_feed){.seq = 3, .n = 1, .tokens = prompt}, 1, &err), RMAS_E_ARG);
    assert_int_equal(rmas_session_feed(s, &(rmas_feed){.n = 1, .tokens = (int32_t[]){1 << 30}}, 1, &err), RMAS_E_ARG);
    rmas_session_free(s);

    /* of a call that is refused in its second feed nothing is left, the first time and later */
    assert_int_equal(rmas_session_new(&s, model, 2, NULL), RMAS_OK);
    rmas_feed bad[2] = {{.seq = 0, .n = 1, .tokens = prompt}, {.seq = 2, .n = 1, .tokens = prompt}}, good = {.seq = 1, .n = 1, .tokens = prompt};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rmas_session_feed(s, bad, 2, &err), RMAS_E_ARG);
        for (int seq = 0; seq < 2; seq++) assert_null(rmas_session_logits(s, seq));
        assert_int_equal(rmas_session_sample(s, 0, &(rmas_sampling){0}), -1);
        assert_int_equal(rmas_session_feed(s, &good, 1, NULL), RMAS_OK);
        assert_non_null(rmas_session_hidden(s, 1));
    }
    rmas_session_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_can_be_cut_copied_and_reset),
        cmocka_unit_test(latent_thoughts),
        cmocka_unit_test(errors_say_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
