/* Links against float64 values of torch for every type; row invariance; files and their errors. */
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

#include "link/link.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/rng.h"
#include "weights/weights.h"

static rm_exec *one, *many;
static char dir[64];

/* The numbers that the values were made with: exact in float32. */
static void fill(float *v, size_t n, int seed, float scale) {
    for (size_t i = 0; i < n; i++) v[i] = (float)((int)((i * 7919 + (size_t)seed * 104729) % 2001) - 1000) / 1024 * scale;
}

static double against_cosines(const float *v, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)v[i] * cos((double)i);
    return s;
}

static void fill_link(rm_link *l) {
    for (int i = 0; i < rm_link_n_param(l); i++) {
        const rm_link_param *p = rm_link_param_at(l, i);
        fill(p->value, p->n, i + 1, 0.5f);
        if (strstr(p->name, "ln") && strstr(p->name, "weight"))
            for (size_t k = 0; k < p->n; k++) p->value[k] += 1;
    }
    rmas_error err;
    assert_int_equal(rm_link_changed(l, &err), RMAS_OK);
}

static void near(double got, double want) {
    if (fabs(got - want) > 2e-6 * (1 + fabs(want))) fail_msg("%.9g, expected %.9g", got, want);
}

static const struct {
    const char *type;
    int d_in, d_out;
    double y[3], all_y, all_dx, grad[10]; /* y[0][0], y[1][2], y[2][last]; sums of v[i] cos(i) */
} cases[] = {
    {"linear_adapter", 5, 5, {-0.57316494, 0.499237061, 0.126431465}, -1.72905082, 2.21215294, {-0.950894117, -2.18419291}},
    {"linear_res_adapter", 5, 5, {0.241288185, 0.732635498, -0.221224785}, -1.58285477, 1.91807338, {-0.950894117, -2.18419291}},
    {"adapter", 5, 5, {0.396329464, -0.232339438, -0.329018207}, 1.47716551, 0.0515288053, {0.114087669, 0.408121843, 0.444839281, -2.18419291}},
    {"res_adapter", 5, 5, {1.21078259, 0.00105899992, -0.676674457}, 1.62336157, -0.242550753, {0.114087669, 0.408121843, 0.444839281, -2.18419291}},
    {"ln_res_adapter",
     5,
     5,
     {1.43067748, 0.108469953, -0.929748367},
     3.37237946,
     0.800009835,
     {0.275318162, 0.237007907, 1.43607659, -0.943004867, 0.147622967, -0.0848152889, -0.838160783, -2.18419291}},
    {"outer_linear_adapter", 5, 3, {-0.57316494, 0.499237061, -0.167500496}, -0.477671523, 2.12722509, {-2.17441753, -2.13827596}},
    {"outer_linear_res_adapter",
     5,
     3,
     {-0.11449337, 0.313882351, -0.364001274},
     -0.449951026,
     0.704753291,
     {-2.17441753, -2.13827596, -2.17441753, -2.13827596}},
    {"outer_adapter",
     5,
     3,
     {0.316074863, -0.189364183, -0.169116635},
     0.0551781758,
     0.00272827128,
     {-0.157189642, 0.956471377, 0.0557854326, -2.13827596}},
    {"outer_res_adapter",
     5,
     3,
     {0.230325236, -0.082259881, 0.582433085},
     0.210878948,
     -1.08458501,
     {-0.157189642, 0.956471377, 0.0557854326, -2.13827596, -2.17441753, -2.13827596}},
    {"outer_ln_adapter",
     5,
     3,
     {1.24166109, -0.869897613, -0.869897613},
     1.58207322,
     -0.051476624,
     {2.49496057, 0.899440226, -0.00650668234, 0.557101904, -0.699578825, 0.233980053, -2.99824593, -2.13827596}},
    {"outer_ln_res_adapter",
     5,
     3,
     {0.103975009, -0.937463015, -0.76612976},
     1.11366625,
     -1.24374382,
     {0.87760506, 0.267110913, -0.303325449, 1.58127158, -0.295018247, 0.389843669, -2.79589396, -2.13827596, 0.551460546, 1.58127158}},
};

static void all_types(void **state) {
    (void)state;
    rmas_error err = {0};
    for (size_t c = 0; c < RM_COUNT(cases); c++) {
        rm_link *l;
        assert_int_equal(rm_link_new(&l, one, cases[c].type, cases[c].d_in, cases[c].d_out, 1, &err), RMAS_OK);
        fill_link(l);
        float x[15], dy[15], y[15], dx[15], *grad = rm_calloc(rm_link_n_value(l), sizeof(float));
        int o = cases[c].d_out;
        fill(x, 15, 50, 1);
        fill(dy, 3 * (size_t)o, 51, 1);
        assert_int_equal(rm_link_apply(l, x, 3, y, &err), RMAS_OK);
        near((double)y[0], cases[c].y[0]);
        near((double)y[o + 2], cases[c].y[1]);
        near((double)y[3 * o - 1], cases[c].y[2]);
        near(against_cosines(y, 3 * (size_t)o), cases[c].all_y);
        assert_int_equal(rm_link_backward(l, x, 3, dy, dx, grad, &err), RMAS_OK);
        near(against_cosines(dx, 15), cases[c].all_dx);
        for (int i = 0; i < rm_link_n_param(l); i++)
            near(against_cosines(grad + rm_link_param_at(l, i)->at, rm_link_param_at(l, i)->n), cases[c].grad[i]);
        rm_free(grad);
        rm_link_close(l);
    }
}

/* A row's numbers are the same alone, among others, and with more threads; so is the sum of gradients with more threads. */
static void rows_are_independent(void **state) {
    (void)state;
    enum { N = 150, I = 72, O = 56 };
    rmas_error err = {0};
    rm_link *a, *b;
    assert_int_equal(rm_link_new(&a, one, "outer_ln_res_adapter", I, O, 9, &err), RMAS_OK);
    assert_int_equal(rm_link_new(&b, many, "outer_ln_res_adapter", I, O, 9, &err), RMAS_OK);
    float *x = rm_array(N * I, sizeof(float)), *y = rm_array(N * O, sizeof(float)), *z = rm_array(N * O, sizeof(float));
    fill(x, N * I, 3, 2);
    assert_int_equal(rm_link_apply(a, x, N, y, &err), RMAS_OK);
    assert_int_equal(rm_link_apply(b, x, N, z, &err), RMAS_OK);
    assert_memory_equal(y, z, N * O * sizeof(float));
    for (int r = 0; r < N; r += 7) {
        assert_int_equal(rm_link_apply(b, x + r * I, 1, z, &err), RMAS_OK);
        assert_memory_equal(y + r * O, z, O * sizeof(float));
    }
    size_t n = rm_link_n_value(a);
    float *ga = rm_calloc(n, sizeof(float)), *gb = rm_calloc(n, sizeof(float)), *dx = rm_array(N * I, sizeof(float));
    fill(y, N * O, 4, 1);
    assert_int_equal(rm_link_backward(a, x, N, y, dx, ga, &err), RMAS_OK);
    assert_int_equal(rm_link_backward(b, x, N, y, NULL, gb, &err), RMAS_OK);
    assert_memory_equal(ga, gb, n * sizeof(float));
    rm_link_close(a);
    rm_link_close(b);
    rm_free(x);
    rm_free(y);
    rm_free(z);
    rm_free(ga);
    rm_free(gb);
    rm_free(dx);
}

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void initialisation(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_link *l, *m;
    assert_int_equal(rm_link_new(&l, one, "2layer_ln_res", 64, 32, 5, &err), RMAS_OK); /* only the outer type fits these widths */
    assert_string_equal(rm_link_type(l), "outer_ln_res_adapter");
    for (int i = 0; i < rm_link_n_param(l); i++) {
        const rm_link_param *p = rm_link_param_at(l, i);
        bool norm = strstr(p->name, "ln_") != NULL;
        double limit = 1 / 8.0, mean = 0, square = 0; /* fan-in 64 everywhere: 64 inputs, 2 * 32 hidden units */
        for (size_t k = 0; k < p->n; k++) {
            if (norm)
                assert_true(p->value[k] == (strstr(p->name, "weight") ? 1.0f : 0.0f));
            else
                assert_true(fabs((double)p->value[k]) <= limit);
            mean += (double)p->value[k] / (double)p->n;
            square += (double)p->value[k] * (double)p->value[k] / (double)p->n;
        }
        if (!norm && p->n > 1000) {
            assert_true(fabs(mean) < 0.01);
            assert_true(fabs(square / (limit * limit / 3) - 1) < 0.1);
        }
    }
    assert_int_equal(rm_link_new(&m, one, "outer_ln_res_adapter", 64, 32, 5, &err), RMAS_OK);
    assert_memory_equal(rm_link_values(l), rm_link_values(m), rm_link_n_value(l) * sizeof(float));
    rm_link_close(m);
    rm_link_close(l);
    assert_int_equal(rm_link_new(&l, one, "ln_res_adapter", 64, 32, 5, &err), RMAS_E_ARG);
    assert_int_equal(rm_link_new(&l, one, "nonsense", 64, 64, 5, &err), RMAS_E_ARG);
}

static void files(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_link *l, *m;
    float x[24], y[24], z[24];
    fill(x, 24, 8, 1);
    assert_int_equal(rm_link_new(&l, one, "ln_res_adapter", 8, 8, 7, &err), RMAS_OK);
    assert_int_equal(rm_link_apply(l, x, 3, y, &err), RMAS_OK);
    static const char *const names[] = {"a.safetensors", "a.pt"};
    for (int f = 0; f < 2; f++) {
        assert_int_equal(rm_link_save(l, path_of(names[f]), &err), RMAS_OK);
        assert_int_equal(rm_link_open(&m, one, path_of(names[f]), NULL, RM_EXACT, &err), RMAS_OK);
        assert_string_equal(rm_link_type(m), "ln_res_adapter");
        assert_int_equal(rm_link_dtype(m), RM_F32);
        assert_int_equal(rm_link_apply(m, x, 3, z, &err), RMAS_OK);
        assert_memory_equal(y, z, sizeof y);
        assert_null(rm_link_values(m));
        assert_int_equal(rm_link_thaw(m, &err), RMAS_OK);
        assert_memory_equal(rm_link_values(m), rm_link_values(l), rm_link_n_value(l) * sizeof(float));
        assert_int_equal(rm_link_apply(m, x, 3, z, &err), RMAS_OK);
        assert_memory_equal(y, z, sizeof y);
        rm_link_close(m);
    }
    assert_int_equal(rm_link_save_as(l, path_of("b.safetensors"), RM_BF16, &err), RMAS_OK);
    assert_int_equal(rm_link_open(&m, one, path_of("b.safetensors"), NULL, RM_NATIVE, &err), RMAS_OK);
    assert_int_equal(rm_link_dtype(m), RM_BF16);
    assert_int_equal(rm_link_apply(m, x, 3, z, &err), RMAS_OK);
    for (int i = 0; i < 24; i++) assert_true(fabsf(y[i] - z[i]) < 0.05f);
    assert_int_equal(rm_link_backward(m, x, 3, y, z, NULL, &err), RMAS_E_ARG); /* gradients need the exact mode */
    rm_link_close(m);
    assert_int_equal(rm_link_save(l, path_of("a.bin"), &err), RMAS_E_ARG);
    rm_link_close(l);
}

static void error_is(const char *file, const char *type, const char *words) {
    rmas_error err = {0};
    rm_link *l;
    assert_int_not_equal(rm_link_open(&l, one, path_of(file), type, RM_EXACT, &err), RMAS_OK);
    assert_null(l);
    if (!strstr(err.msg, words)) fail_msg("'%s' does not say '%s'", err.msg, words);
}

/* Writes the named tensors of zeros; a name may be followed by :ROWSxCOLS. */
static void write_zeros(const char *file, const char *const *spec, int n) {
    static const float zeros[256];
    rm_tensor t[16];
    char names[16][32];
    for (int i = 0; i < n; i++) {
        int a = 4, b = 0;
        t[i] = (rm_tensor){.name = names[i], .dtype = RM_F32, .data = zeros};
        sscanf(spec[i], "%31[^:]:%dx%d", names[i], &a, &b);
        t[i].n_dim = b ? 2 : 1;
        t[i].dim[0] = a;
        t[i].dim[1] = b;
        t[i].n_bytes = (size_t)(a * (b ? b : 1)) * 4;
    }
    rmas_error err;
    assert_int_equal(rm_safetensors_write(path_of(file), t, n, &err), RMAS_OK);
}

static void broken_files(void **state) {
    (void)state;
    static const char *const two[] = {"proj1.weight:4x4", "proj1.bias:4", "proj2.weight:4x4", "proj2.bias:4", "extra:4"};
    write_zeros("two.safetensors", two, 4);
    error_is("two.safetensors", NULL, "adapter and res_adapter");
    error_is("two.safetensors", "ln_res_adapter", "pre_ln.weight");
    error_is("two.safetensors", "sigmoid_adapter", "unknown link type 'sigmoid_adapter'");
    rmas_error err;
    rm_link *l;
    assert_int_equal(rm_link_open(&l, one, path_of("two.safetensors"), "2layer_res", RM_EXACT, &err), RMAS_OK);
    assert_string_equal(rm_link_type(l), "res_adapter");
    rm_link_close(l);
    static const char config[] = "{\"other\": {\"adapter_type\": \"x\"}, \"adapter_type\": \"adapter\"}";
    assert_int_equal(rm_file_write(path_of("adapter_config.json"), config, sizeof config - 1, &err), RMAS_OK);
    assert_int_equal(rm_link_open(&l, one, path_of("two.safetensors"), NULL, RM_EXACT, &err), RMAS_OK);
    assert_string_equal(rm_link_type(l), "adapter");
    rm_link_close(l);
    write_zeros("extra.safetensors", two, 5);
    error_is("extra.safetensors", NULL, "unexpected tensor 'extra'");
    static const char *const wrong[] = {"proj1.weight:4x3",   "proj1.bias:4",     "proj2.weight:2x4",   "proj2.bias:3",
                                        "ln_source.weight:3", "ln_source.bias:3", "ln_target.weight:2", "ln_target.bias:2"};
    write_zeros("wrong.safetensors", wrong, 8);
    error_is("wrong.safetensors", NULL, "'proj2.bias' has the shape [3], expected [2]");
    write_zeros("lacks.safetensors", wrong, 7);
    error_is("lacks.safetensors", NULL, "no tensor 'ln_target.bias'");
    error_is("nothing.safetensors", NULL, "nothing.safetensors");
}

/* Every allocation fails once: an error comes back, nothing leaks (the sanitizers watch). */
static void lack_of_memory(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_link *l;
    assert_int_equal(rm_link_new(&l, one, "ln_res_adapter", 8, 8, 7, &err), RMAS_OK);
    assert_int_equal(rm_link_save(l, path_of("a.pt"), &err), RMAS_OK);
    rm_link_close(l);
    float x[16], y[16];
    fill(x, 16, 8, 1);
    int failures = 0;
    for (long n = 1;; n++) {
        rm_mem_fail_after(n);
        rmas_status st = rm_link_open(&l, one, path_of("a.pt"), NULL, RM_EXACT, &err);
        if (st == RMAS_OK) st = rm_link_thaw(l, &err);
        if (st == RMAS_OK) st = rm_link_apply(l, x, 2, y, &err);
        if (st == RMAS_OK) st = rm_link_backward(l, x, 2, y, y, rm_link_values(l), &err);
        if (st == RMAS_OK) st = rm_link_save(l, path_of("b.safetensors"), &err);
        rm_mem_fail_after(0);
        rm_link_close(l);
        if (st == RMAS_OK) break;
        assert_true(err.msg[0] != 0);
        failures++;
        assert_true(n < 10000);
    }
    assert_true(failures > 10);
}

static int set_up(void **state) {
    (void)state;
    rmas_error err;
    snprintf(dir, sizeof dir, "/tmp/rmas-link-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    return rm_exec_new(&one, 1, NULL, &err) || rm_exec_new(&many, 3, NULL, &err);
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {
        "a.safetensors",      "a.pt", "b.safetensors", "two.safetensors", "extra.safetensors", "wrong.safetensors", "lacks.safetensors",
        "adapter_config.json"};
    for (size_t i = 0; i < RM_COUNT(names); i++) unlink(path_of(names[i]));
    rmdir(dir);
    rm_exec_free(one);
    rm_exec_free(many);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_types), cmocka_unit_test(rows_are_independent), cmocka_unit_test(initialisation),
                                       cmocka_unit_test(files),     cmocka_unit_test(broken_files),         cmocka_unit_test(lack_of_memory)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
