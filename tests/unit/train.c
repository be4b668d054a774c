/* Training: optimiser and losses against torch, fits, rows, orders, resuming. The loops themselves are compared with the reference by
 * check_training.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/align.h"
#include "train/inner.h"
#include "train/linalg.h"
#include "train/loop.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/rng.h"

static rm_exec *engine;
static char dir[64];

static void near(double got, double want, double limit) {
    if (!(fabs(got - want) <= limit)) fail_msg("%.9g, expected %.9g", got, want);
}

static const char *path_of(const char *name) {
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void write_file(const char *name, const char *text) {
    rmas_error err;
    assert_int_equal(rm_file_write(path_of(name), text, strlen(text), &err), RMAS_OK);
}

/* Six steps with clipping, warm-up, cosine and decay of the matrix only; values of torch.optim.AdamW. */
static void adamw(void **state) {
    (void)state;
    static const double want[6][6] = {
        {0.5, -0.25, 1.0, 0.125, 0.75, -0.5},
        {0.49525176728967524, -0.24537676706203987, 0.9950017669482222, 0.12043926774494583, 0.7549575024517952, -0.5049575037336919},
        {0.48558794337986033, -0.23596281781717476, 0.9848381925358319, 0.11115025700523114, 0.7645132900553028, -0.5145132941706276},
        {0.47715587744645727, -0.22774382000316268, 0.9759799894801419, 0.10303779413441957, 0.7722170538300825, -0.5222170605429622},
        {0.4721349305082907, -0.22284757895459034, 0.9707096302772674, 0.09820390651616381, 0.7764417865838605, -0.5264417948906512},
        {0.47064674817217145, -0.22139590386661587, 0.9691484333079435, 0.09677048518917682, 0.7775964949557194, -0.5275965037431184}};
    static const double norm[6] = {3.0573937021587523, 1.89262549121584, 1.9975027812524095, 2.424041369799616, 2.94302671581486, 3.493359275508};
    rmas_error err;
    rm_link *l;
    assert_int_equal(rm_link_new(&l, engine, "linear_adapter", 2, 2, 1, &err), RMAS_OK);
    for (int k = 0; k < 6; k++) rm_link_values(l)[k] = (float)want[0][k];
    rm_trainer t = {.exec = engine, .adamw = RM_ADAMW_DEFAULT, .warmup = 2, .total = 6, .max_grad_norm = 1};
    t.adamw.lr = 0.01;
    t.adamw.weight_decay = 0.1;
    assert_int_equal(rm_trainer_add(&t, "", l, 1, &err), RMAS_OK);
    bool stepped;
    for (int s = 0; s < 6; s++) {
        static const float w[4] = {0.5f, -1, 2, 0.25f}, b[2] = {-0.125f, 3};
        rm_trainer_zero(&t);
        for (int k = 0; k < 4; k++) t.v[0].grad[k] = w[k] * (float)(s + 1) / 4;
        for (int k = 0; k < 2; k++) t.v[0].grad[4 + k] = b[k] / (float)(s + 1);
        t.v[0].used = true;
        assert_int_equal(rm_trainer_step(&t, &stepped, &err), RMAS_OK);
        assert_true(stepped);
        near(t.norm, norm[s], 1e-6);
        for (int k = 0; k < 6; k++) near((double)rm_link_values(l)[k], want[s][k], 2e-7);
    }
    float before[6];
    memcpy(before, rm_link_values(l), sizeof before);
    rm_trainer_zero(&t); /* nothing depends on the link: left alone, even by decay */
    assert_int_equal(rm_trainer_step(&t, &stepped, &err), RMAS_OK);
    assert_memory_equal(before, rm_link_values(l), sizeof before);
    t.v[0].used = true;
    t.v[0].grad[3] = INFINITY; /* a step that would ruin the link is not done */
    assert_int_equal(rm_trainer_step(&t, &stepped, &err), RMAS_OK);
    assert_false(stepped);
    assert_memory_equal(before, rm_link_values(l), sizeof before);
    assert_int_equal(t.v[0].adam.t, 6);
    rm_trainer_free(&t);
}

static void schedules(void **state) {
    (void)state;
    assert_true(rm_schedule_factor(RM_SCHEDULE_COSINE, 0, 10, 100) == 0); /* the first step does not move */
    near(rm_schedule_factor(RM_SCHEDULE_COSINE, 5, 10, 100), 0.5, 1e-15);
    near(rm_schedule_factor(RM_SCHEDULE_COSINE, 55, 10, 100), 0.5, 1e-15);
    assert_true(rm_schedule_factor(RM_SCHEDULE_COSINE, 99, 10, 100) > 0);
    near(rm_schedule_factor(RM_SCHEDULE_COSINE, 100, 10, 100), 0, 1e-15);
    assert_true(rm_schedule_factor(RM_SCHEDULE_COSINE, 0, 0, 100) == 1);
    assert_true(rm_schedule_factor(RM_SCHEDULE_CONSTANT, 99, 10, 100) == 1);
}

static void pair_losses(void **state) {
    (void)state;
    static const float p[6] = {0.3f, -0.4f, 0.5f, 1.0f, 0.2f, -0.7f}, y[6] = {0.1f, 0.9f, -0.2f, 0.6f, 0.5f, 0.4f};
    static const double want[6] = {-0.25630577422869566, -0.5322793588579742,  -0.11704002254916201,
                                   -0.116606435961735,   -0.23003811825289466, -0.36444865658901987};
    float dp[6];
    double cosine, mse;
    rm_pair_losses(p, y, 2, 3, 1, 0.25, &cosine, &mse, dp);
    near(cosine, 1.1343954287271263, 1e-7);
    near(mse, 0.6133333333333334, 1e-7);
    for (int k = 0; k < 6; k++) near((double)dp[k], want[k], 1e-7);
    static const float zero[3];
    rm_pair_losses(zero, y, 1, 3, 1, 0, &cosine, &mse, dp); /* no direction: no gradient that is not finite */
    near(cosine, 1, 0);
    for (int k = 0; k < 3; k++) assert_true(isfinite(dp[k]));
    rm_pair_losses(p, y, 0, 3, 1, 0, &cosine, &mse, dp);
    assert_true(cosine == 0 && mse == 0);
}

static void eigenvectors(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 3, 17, 64, 65};
    for (size_t c = 0; c < RM_COUNT(sizes); c++) {
        int n = sizes[c];
        size_t cells = (size_t)n * (size_t)n;
        double *a = rm_array(cells, sizeof *a), *v = rm_array(cells, sizeof *v), *w = rm_array((size_t)n, sizeof *w);
        rm_rng r = rm_rng_make(4, c);
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = rm_rng_normal(&r);
        memcpy(v, a, cells * sizeof *v);
        rmas_error err;
        assert_int_equal(rm_eigen(engine, v, n, w, &err), RMAS_OK);
        for (int k = 0; k < n; k++) {
            if (k) assert_true(w[k] >= w[k - 1]);
            for (int i = 0; i < n; i++) {
                double av = 0, dot = 0;
                for (int j = 0; j < n; j++) av += a[i * n + j] * v[k * n + j];
                for (int j = 0; j < n; j++) dot += v[i * n + j] * v[k * n + j];
                near(av, w[k] * v[k * n + i], 1e-12 * n);
                near(dot, i == k, 1e-12 * n);
            }
        }
        for (int i = 0; i < n; i++) v[i] = a[i];
        rm_free(a);
        rm_free(v);
        rm_free(w);
    }
    double not_positive[4] = {1, 2, 2, 1};
    assert_false(rm_cholesky(not_positive, 2));
    double spd[4] = {4, 2, 2, 3}, b[2] = {8, 7}; /* x = (1.25, 1.5) */
    assert_true(rm_cholesky(spd, 2));
    rm_cholesky_solve(engine, spd, 2, b, 1);
    near(b[0], 1.25, 1e-15);
    near(b[1], 1.5, 1e-15);
}

/* What is linear in the states is found again by every type that can hold it. */
static void aligned_links(void **state) {
    (void)state;
    enum { N = 600, I = 12, O = 8 };
    static float x[N * I], y[N * I], out[N * I];
    static const struct {
        const char *type;
        double least; /* mean cosine */
    } cases[] = {{"linear_adapter", 0.995},
                 {"linear_res_adapter", 0.995},
                 {"adapter", 0.6},
                 {"res_adapter", 0.5},
                 {"ln_res_adapter", 0.6},
                 {"outer_linear_adapter", 0.995},
                 {"outer_linear_res_adapter", 0.995},
                 {"outer_adapter", 0.6},
                 {"outer_res_adapter", 0.995},
                 {"outer_ln_adapter", 0.85},
                 {"outer_ln_res_adapter", 0.85}};
    rm_rng r = rm_rng_make(11, 0);
    for (size_t c = 0; c < RM_COUNT(cases); c++) {
        bool inner;
        assert_true(rm_link_type_known(cases[c].type, &inner));
        int o = inner ? I : O;
        double w[I * I];
        for (int k = 0; k < o * I; k++) w[k] = rm_rng_normal(&r);
        for (int n = 0; n < N; n++) {
            for (int i = 0; i < I; i++) x[n * I + i] = (float)rm_rng_normal(&r);
            for (int k = 0; k < o; k++) {
                double s = 0;
                for (int i = 0; i < I; i++) s += w[k * I + i] * (double)x[n * I + i];
                y[n * o + k] = (float)(0.1 * s);
            }
        }
        rmas_error err = {0};
        rm_link *l;
        assert_int_equal(rm_link_new(&l, engine, cases[c].type, I, o, 3, &err), RMAS_OK);
        assert_int_equal((inner ? rm_align_inner : rm_align_outer)(l, x, y, N, &err), RMAS_OK);
        assert_int_equal(rm_link_apply(l, x, N, out, &err), RMAS_OK);
        double cosine, mse;
        rm_pair_losses(out, y, N, o, 1, 0, &cosine, &mse, NULL);
        if (1 - cosine < cases[c].least) fail_msg("%s: mean cosine %.3f", cases[c].type, 1 - cosine);
        rm_link_close(l);
    }
}

static void rows(void **state) {
    (void)state;
    rmas_error err;
    rm_rows r;
    rm_strbuf s = {0};
    bool present;
    write_file("a.jsonl", "{\"q\": \" x \\n\", \"n\": 12, \"f\": 0.1, \"g\": 1e20, \"b\": true, \"z\": null}\n\n{\"q\": [1]}\n");
    assert_int_equal(rm_rows_open(&r, path_of("a.jsonl"), NULL, &err), RMAS_OK);
    assert_int_equal(r.n, 2);
    static const struct {
        const char *column, *want;
    } texts[] = {{"q", "x"}, {"n", "12"}, {"f", "0.1"}, {"g", "1e+20"}, {"b", "True"}, {"z", ""}, {"absent", ""}};
    for (size_t i = 0; i < RM_COUNT(texts); i++) {
        assert_int_equal(rm_rows_text(&r, 0, texts[i].column, true, &s, &present, &err), RMAS_OK);
        assert_string_equal(rm_str(&s), texts[i].want);
        assert_int_equal(present, strcmp(texts[i].column, "absent") != 0);
    }
    assert_int_equal(rm_rows_text(&r, 1, "q", true, &s, NULL, &err), RMAS_E_FORMAT);
    assert_non_null(strstr(err.msg, "row 1, column 'q'"));
    static const char *const z_or_n[] = {"z", "n", NULL};
    assert_int_equal(rm_rows_first(&r, 0, z_or_n, false, &s, &err), RMAS_OK);
    assert_string_equal(rm_str(&s), "12"); /* the outer loop passes over empty ones */
    assert_int_equal(rm_rows_first(&r, 0, z_or_n, true, &s, &err), RMAS_OK);
    assert_string_equal(rm_str(&s), ""); /* the inner loop takes the first that is there */
    rm_rows_close(&r);
    rm_strbuf_free(&s);
    static const struct {
        const char *name, *text, *words;
    } bad[] = {{"b.jsonl", "{\"a\": 1}\n{\"a\": }\n", "line 2"}, {"c.jsonl", "[1]\n", "line 1"}, {"d.jsonl", "\n\n", "no rows"},
               {"e.json", "{\"rows\": []}", "array of rows"},    {"f.json", "[1]", "row 0"},     {"g.csv", "a\n1\n", ".jsonl or .json"}};
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        write_file(bad[i].name, bad[i].text);
        assert_int_not_equal(rm_rows_open(&r, path_of(bad[i].name), NULL, &err), RMAS_OK);
        if (!strstr(err.msg, bad[i].words) || !strstr(err.msg, bad[i].name)) fail_msg("'%s' does not say '%s'", err.msg, bad[i].words);
        unlink(path_of(bad[i].name));
    }
    write_file("h.json", "{\"data\": [{\"a\": 1}, {\"a\": 2}]}");
    assert_int_equal(rm_rows_open(&r, path_of("h.json"), NULL, &err), RMAS_OK);
    assert_int_equal(r.n, 2);
    rm_rows_close(&r);
    unlink(path_of("h.json"));
    unlink(path_of("a.jsonl"));
}

static void orders(void **state) {
    (void)state;
    rmas_error err;
    rm_batches b, c;
    assert_int_equal(rm_batches_init(&b, 7, 2, true, 5, &err), RMAS_OK);
    assert_int_equal(rm_batches_init(&c, 7, 2, true, 5, &err), RMAS_OK);
    int differ = 0;
    for (int epoch = 0; epoch < 3; epoch++) { /* every epoch: six different rows of seven */
        int seen[7] = {0};
        for (int s = 0; s < 3; s++)
            for (size_t i = 0; i < 2; i++) seen[rm_batches_at(&b, 3 * epoch + s, i)]++;
        for (int k = 0; k < 7; k++) assert_true(seen[k] <= 1);
        differ += rm_batches_at(&b, 3 * epoch, 0) != rm_batches_at(&b, 0, 0);
    }
    assert_int_equal(rm_batches_at(&c, 8, 1), rm_batches_at(&b, 8, 1)); /* asked out of order: the same */
    rm_batches_free(&b);
    rm_batches_free(&c);
    assert_int_equal(rm_batches_init(&b, 1, 2, false, 5, &err), RMAS_E_ARG);
    size_t *train, *held;
    assert_int_equal(rm_hold_out(10, 3, 1, &train, &held, &err), RMAS_OK);
    int seen[10] = {0};
    for (int i = 0; i < 7; i++) seen[train[i]]++;
    for (int i = 0; i < 3; i++) seen[held[i]]++;
    for (int i = 0; i < 10; i++) assert_int_equal(seen[i], 1);
    rm_free(train);
    rm_free(held);
}

/* ---- the run loop on a toy: a linear link learns y = 2 x --------------------------------------------------------------------------- */

typedef struct {
    rm_trainer trainer;
    rm_batches batches;
    int64_t stop; /* the run breaks off at this batch; 0: never */
} toy;

static rmas_status toy_batch(void *ctx, int64_t number, json_t *line, rm_arrays *arrays, bool *valid, double *loss, rmas_error *err) {
    toy *t = ctx;
    (void)line;
    (void)arrays;
    if (t->stop && number == t->stop) return rm_fail(err, RMAS_E_CANCELLED, "broken off");
    float x[4], y[4];
    *loss = 0;
    for (size_t i = 0; i < 2; i++) {
        size_t row = rm_batches_at(&t->batches, number, i);
        x[2 * i] = (float)row - 3;
        x[2 * i + 1] = 1;
    }
    RM_TRY(rm_link_apply(t->trainer.v[0].link, x, 2, y, err));
    for (int k = 0; k < 4; k++) {
        y[k] -= 2 * x[k];
        *loss += (double)y[k] * (double)y[k] / 2;
    }
    t->trainer.v[0].used = *valid = number != 4; /* one batch that does not count */
    return rm_link_backward(t->trainer.v[0].link, x, 2, y, NULL, t->trainer.v[0].grad, err);
}

static rmas_status toy_save(void *ctx, const char *where, rmas_error *err) {
    toy *t = ctx;
    char path[160];
    snprintf(path, sizeof path, "%s/adapter.safetensors", where);
    return rm_link_save(t->trainer.v[0].link, path, err);
}

static rmas_status toy_held_out(void *ctx, json_t *line, double *loss, rmas_error *err) {
    toy *t = ctx;
    (void)line;
    float x[2] = {5, 1}, y[2];
    RM_TRY(rm_link_apply(t->trainer.v[0].link, x, 1, y, err));
    *loss = fabs((double)y[0] - 10) + fabs((double)y[1] - 2);
    return RMAS_OK;
}

/* stop: the batch at which the run breaks off. */
static rmas_status toy_run(const char *where, int64_t stop, bool resume, rm_train_options *o, rmas_error *err) {
    toy t = {.stop = stop, .trainer = {.exec = engine, .adamw = RM_ADAMW_DEFAULT, .warmup = 2, .total = 30, .max_grad_norm = 1}};
    t.trainer.adamw.lr = 0.1;
    rm_link *l;
    RM_TRY(rm_link_new(&l, engine, "linear_adapter", 2, 2, 1, err));
    RM_TRY(rm_trainer_add(&t.trainer, "", l, 1, err));
    RM_TRY(rm_batches_init(&t.batches, 7, 2, true, 5, err));
    o->save_dir = where;
    o->resume = resume;
    json_t *args = json_pack("{s:i}", "steps", 30);
    rm_loop loop = {.trainer = &t.trainer,
                    .options = o,
                    .batches = &t.batches,
                    .args = args,
                    .ctx = &t,
                    .batch = toy_batch,
                    .held_out = toy_held_out,
                    .save = toy_save};
    rmas_status st = rm_loop_run(&loop, err);
    json_decref(args);
    rm_batches_free(&t.batches);
    rm_trainer_free(&t.trainer);
    return st;
}

static char *content(const char *where, const char *name, size_t *n) {
    char path[160], *text;
    rmas_error err;
    snprintf(path, sizeof path, "%s/%s", where, name);
    if (rm_file_read(&text, n, path, 1 << 20, &err) != RMAS_OK) fail_msg("%s", err.msg);
    return text;
}

static void resuming(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_train_options o = {.data = "toy", .save_steps = 5, .eval_every = 3, .log_every = 10};
    char whole[128], parts[128], command[400];
    snprintf(whole, sizeof whole, "%s", path_of("whole"));
    snprintf(parts, sizeof parts, "%s", path_of("parts"));
    if (toy_run(whole, 0, false, &o, &err) != RMAS_OK) fail_msg("%s", err.msg);
    assert_int_equal(toy_run(parts, 12, false, &o, &err), RMAS_E_CANCELLED);
    assert_int_equal(toy_run(parts, 0, false, &o, &err), RMAS_E_ARG); /* not over another run */
    assert_non_null(strstr(err.msg, "--resume"));
    assert_int_equal(toy_run(parts, 19, true, &o, &err), RMAS_E_CANCELLED);
    assert_int_equal(toy_run(parts, 0, true, &o, &err), RMAS_OK);
    static const char *const files[] = {"adapter.safetensors", "last/adapter.safetensors", "checkpoint-15/adapter.safetensors",
                                        "checkpoint-30/adapter.safetensors"};
    for (size_t i = 0; i < RM_COUNT(files); i++) {
        size_t a, b;
        char *x = content(whole, files[i], &a), *y = content(parts, files[i], &b);
        assert_int_equal(a, b);
        assert_memory_equal(x, y, a);
        rm_free(x);
        rm_free(y);
    }
    size_t n;
    char *log = content(parts, "log.jsonl", &n);
    int lines = 0;
    for (size_t i = 0; i < n; i++) lines += log[i] == '\n';
    assert_int_equal(lines, 32); /* the start, 30 steps and the batch that did not count */
    rm_free(log);
    /* counters of no run: steps before the first or after the last one, batches without a line */
    static const int64_t wrong[][2] = {{0, -1}, {0, 31}, {1, -5}, {1, INT64_MAX}, {2, -1}, {2, 99}, {3, -1}, {5, -1}};
    char state_path[160];
    snprintf(state_path, sizeof state_path, "%s/state.safetensors", parts);
    char *good = content(parts, "state.safetensors", &n);
    for (size_t i = 0; i < RM_COUNT(wrong); i++) {
        char *bad = rm_array(n, 1);
        assert_non_null(bad);
        memcpy(bad, good, n);
        memcpy(bad + n - 6 * 8 + 8 * wrong[i][0], &wrong[i][1], 8); /* the last tensor */
        assert_int_equal(rm_file_write(state_path, bad, n, &err), RMAS_OK);
        assert_int_equal(toy_run(parts, 0, true, &o, &err), RMAS_E_FORMAT);
        assert_non_null(strstr(err.msg, "counters"));
        rm_free(bad);
    }
    rm_free(good);
    snprintf(command, sizeof command, "rm -rf '%s' '%s'", whole, parts);
    assert_int_equal(system(command), 0);
}

static int set_up(void **state) {
    (void)state;
    rmas_error err;
    snprintf(dir, sizeof dir, "/tmp/rmas-train-XXXXXX");
    return !mkdtemp(dir) || rm_exec_new(&engine, 2, NULL, &err);
}

static int tear_down(void **state) {
    (void)state;
    rm_exec_free(engine);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(adamw),        cmocka_unit_test(schedules),     cmocka_unit_test(pair_losses),
                                       cmocka_unit_test(eigenvectors), cmocka_unit_test(aligned_links), cmocka_unit_test(rows),
                                       cmocka_unit_test(orders),       cmocka_unit_test(resuming)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
