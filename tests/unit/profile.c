/* The profile: time goes to the class and stage on which the clock runs, all of it and none twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "tensor/matrix.h"
#include "tensor/profile.h"

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_ms(int n) {
    for (uint64_t end = now() + (uint64_t)n * 1000000; now() < end;) {}
}

static void off_does_nothing(void **state) {
    (void)state;
    rm_exec *e;
    assert_int_equal(rm_exec_new(&e, 1, "portable", NULL), RMAS_OK);
    assert_null(e->profile);
    assert_int_equal(rm_time_to(e, RM_TIME_FFN), RM_TIME_OTHER);
    rm_time_stage(e, "solver", 1, RM_PHASE_DECODE);
    rm_time_work(e, RM_OPS_F32, 1, 1);
    rm_time_pass(e, 1);
    rm_exec_free(e);
}

static void every_moment_once(void **state) {
    (void)state;
    rm_exec *e;
    assert_int_equal(rm_exec_new(&e, 1, "portable", NULL), RMAS_OK);
    uint64_t began = now();
    assert_int_equal(rm_profile_start(e, NULL), RMAS_OK);
    rm_time_to(e, RM_TIME_LOAD);
    wait_ms(2);
    for (int round = 1; round <= 2; round++)
        for (int i = 0; i < 3; i++) {
            rm_time_stage(e, "planner", round, RM_PHASE_LATENT); /* the clock runs on, for this stage now */
            rm_time was = rm_time_to(e, RM_TIME_FFN);
            wait_ms(1);
            rm_time_work(e, RM_OPS_INT8, 10, 20);
            rm_time inner = rm_time_to(e, RM_TIME_QUANT);
            assert_int_equal(inner, RM_TIME_FFN);
            wait_ms(1);
            rm_time_back(e, inner);
            wait_ms(1);
            rm_time_work(e, RM_OPS_F32, 1, 2);
            rm_time_pass(e, 7);
            rm_time_reused(e, 5);
            rm_time_back(e, was);
        }
    rm_profile *p = e->profile;
    rm_profile_stop(p);
    uint64_t spent = now() - began, sum = 0;
    assert_int_equal(p->n_stage, 3);
    for (int i = 0; i < p->n_stage; i++)
        for (int t = 0; t < RM_N_TIME; t++) sum += p->stage[i].cell[t].ns;
    assert_true(sum <= spent && sum + 1000000 > spent - spent / 10);
    assert_true(p->stage[0].cell[RM_TIME_LOAD].ns >= 2000000);
    for (int i = 1; i <= 2; i++) {
        const rm_profile_stage *s = &p->stage[i];
        assert_string_equal(s->role, "planner");
        assert_int_equal(s->round, i);
        assert_int_equal(s->n_call, 3);
        assert_int_equal(s->n_pos, 21);
        assert_int_equal(s->n_reused, 15);
        assert_int_equal(s->cell[RM_TIME_FFN].n_call, 3); /* going back is no call */
        assert_int_equal(s->cell[RM_TIME_QUANT].n_call, 3);
        assert_true(s->cell[RM_TIME_FFN].ns >= 6000000 && s->cell[RM_TIME_QUANT].ns >= 3000000);
        assert_true(s->cell[RM_TIME_FFN].bytes == 33 && s->cell[RM_TIME_FFN].ops[RM_OPS_INT8] == 60 && s->cell[RM_TIME_FFN].ops[RM_OPS_F32] == 6);
    }
    rm_exec_free(e);
}

/* A product says which weights it read and how much it computed, and by which arithmetic. */
static void products_count(void **state) {
    (void)state;
    enum { N_IN = 64, N_OUT = 40, ROWS = 3 };
    static float w[N_OUT * N_IN], x[ROWS * N_IN], y[ROWS * 2 * N_OUT];
    static uint8_t q[N_OUT * N_IN / 32 * 34];
    rm_exec *e;
    assert_int_equal(rm_exec_new(&e, 1, "portable", NULL), RMAS_OK);
    rm_tensor f32 = {.name = "f", .dtype = RM_F32, .n_dim = 2, .dim = {N_OUT, N_IN}, .data = w, .n_bytes = sizeof w};
    rm_tensor q8 = {.name = "q", .dtype = RM_Q8_0, .n_dim = 2, .dim = {N_OUT, N_IN}, .data = q, .n_bytes = sizeof q};
    const rm_tensor *part[2] = {&f32, &q8};
    rm_matrix *m;
    assert_int_equal(rm_matrix_new(&m, e, part, 2, RM_NATIVE, NULL), RMAS_OK);
    assert_int_equal(rm_profile_start(e, NULL), RMAS_OK);
    rm_time_to(e, RM_TIME_FFN);
    assert_int_equal(rm_matrix_mul(e, y, 2 * N_OUT, x, N_IN, ROWS, m, NULL, NULL), RMAS_OK);
    rm_profile_stop(e->profile);
    const rm_profile_cell *c = &e->profile->stage[0].cell[RM_TIME_FFN];
    double ops = 2.0 * ROWS * N_OUT * N_IN, bytes = (double)sizeof w + (double)sizeof q;
    assert_true(c->ops[RM_OPS_F32] == ops && c->ops[RM_OPS_INT8] == ops && c->ops[RM_OPS_BF16] == 0);
    assert_true(c->bytes == bytes);
    assert_int_equal(c->n_call, 1);
    assert_int_equal(e->profile->stage[0].cell[RM_TIME_QUANT].n_call, 1);
    rm_matrix_free(m);
    rm_exec_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(off_does_nothing), cmocka_unit_test(every_moment_once), cmocka_unit_test(products_count)};
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
