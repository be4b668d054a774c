/* Readers and writers of weight files: round trips, values of strided tensors, metadata, and files that are cut or damaged at
 * every place: they must be refused or read, never crash (this runs under ASan too). */
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

#include "util/file.h"
#include "util/mem.h"
#include "weights/gguf_write.h"
#include "weights/weights.h"

static char dir[64];

static const char *in_dir(const char *name) {
    static char path[4][128];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

static rm_weights *open_ok(const char *path) {
    rmas_error err = {0};
    rm_weights *w;
    if (rm_weights_open(&w, path, &err) != RMAS_OK) fail_msg("%s", err.msg);
    return w;
}

static void values_are(const rm_weights *w, const char *name, const float *want, int n) {
    const rm_tensor *t = rm_weights_find(w, name);
    if (!t) fail_msg("no tensor %s", name);
    float got[64];
    assert_int_equal(rm_tensor_count(t), n);
    rm_dequant(t->dtype, t->data, got, (size_t)n);
    for (int i = 0; i < n; i++)
        if (got[i] != want[i]) fail_msg("%s[%d]: %g, expected %g", name, i, (double)got[i], (double)want[i]);
}

/* ---- types ---------------------------------------------------------------------------------------------------------- */

static void halves(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float f = rm_f16_to_f32((uint16_t)h);
        unsigned e = h >> 10 & 31, m = h & 1023;
        if (e == 31 && m) {
            assert_true(isnan(f));
            assert_true(isnan(rm_f16_to_f32(rm_f32_to_f16(f))));
            continue;
        }
        float want = e == 31 ? INFINITY : e ? ldexpf((float)(1024 + m), (int)e - 25) : ldexpf((float)m, -24);
        assert_true(f == (h & 0x8000 ? -want : want));
        assert_int_equal(rm_f32_to_f16(f), h);
        if (e == 31 || (h & 0x7fff) == 0x7bff) continue;
        /* between two neighbours: exactly in the middle to the even one, else to the nearer */
        float next = rm_f16_to_f32((uint16_t)(h + 1)), middle = f / 2 + next / 2;
        assert_int_equal(rm_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(rm_f32_to_f16(nextafterf(middle, f)), h);
        assert_int_equal(rm_f32_to_f16(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(rm_f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(rm_f32_to_f16(65520), 0x7c00);
    assert_int_equal(rm_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(rm_f32_to_bf16(1.00390625f), 0x3f80); /* half an ulp above an even number */
    assert_int_equal(rm_f32_to_bf16(1.01171875f), 0x3f82); /* half an ulp above an odd one */
    assert_true(isnan(rm_bf16_to_f32(rm_f32_to_bf16(NAN))));
    assert_true(isinf(rm_bf16_to_f32(rm_f32_to_bf16(3.4e38f))));
}

/* Relative squared error of normal values through each type that is written: bounds are 1.1 times what was measured. */
static void quantised_errors(void **state) {
    (void)state;
    static const struct {
        rm_dtype t;
        double limit;
    } bound[] = {{RM_F32, 0},       {RM_F16, 1e-7},    {RM_BF16, 5e-6},   {RM_Q8_0, 3.2e-5},
                 {RM_Q6_K, 3.3e-4}, {RM_Q5_0, 1.8e-3}, {RM_Q4_K, 5.4e-3}, {RM_Q4_0, 7.3e-3}};
    enum { N = 1 << 14 };
    static float x[N], y[N];
    static uint8_t q[N * 4];
    uint64_t s = 1;
    for (int i = 0; i < N; i++) {
        float sum = -6;
        for (int k = 0; k < 12; k++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(s >> 40) * 0x1p-24f;
        }
        x[i] = sum * 0.02f;
    }
    for (size_t b = 0; b < RM_COUNT(bound); b++) {
        assert_true(rm_quant(bound[b].t, x, q, N));
        rm_dequant(bound[b].t, q, y, N);
        double e = 0, r = 0;
        for (int i = 0; i < N; i++) {
            e += pow((double)x[i] - (double)y[i], 2);
            r += pow((double)x[i], 2);
        }
        if (!(e / r <= bound[b].limit)) fail_msg("%s: relative error %g, at most %g expected", rm_dtype_get(bound[b].t)->name, e / r, bound[b].limit);
    }
    assert_false(rm_quant(RM_Q2_K, x, q, 256));
    memset(x, 0, sizeof x);
    for (size_t b = 0; b < RM_COUNT(bound); b++) { /* zeros stay zeros, and NaN does no harm */
        rm_quant(bound[b].t, x, q, 512);
        rm_dequant(bound[b].t, q, y, 512);
        for (int i = 0; i < 512; i++) assert_true(y[i] == 0);
        x[7] = NAN;
        x[300] = INFINITY;
        rm_quant(bound[b].t, x, q, 512);
        x[7] = x[300] = 0;
    }
}

/* Blocks of every type beside the values that ggml gives them (ref/make_block_fixtures.py). */
static void block_values(void **state) {
    (void)state;
    rm_weights *w = open_ok(RMAS_FIXTURES "/weights/blocks.gguf"), *values = open_ok(RMAS_FIXTURES "/weights/blocks.safetensors");
    assert_int_equal(rm_weights_count(w), RM_DTYPE_COUNT - RM_Q4_0);
    for (int i = 0; i < rm_weights_count(w); i++) {
        const rm_tensor *t = rm_weights_at(w, i), *want = rm_weights_find(values, t->name);
        float got[512];
        assert_int_equal(rm_tensor_count(t), 512);
        rm_dequant(t->dtype, t->data, got, 512);
        if (!want || memcmp(got, want->data, sizeof got)) fail_msg("%s: not the values of ggml", t->name);
    }
    rm_weights_close(w);
    rm_weights_close(values);
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static const float f32_data[6] = {0, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f};
static const uint16_t bf16_data[2] = {0x3f80, 0xc000};
static const int64_t i64_data[3] = {-1, 0, 1L << 40};
static const rm_tensor some[] = {
    {.name = "w", .dtype = RM_F32, .n_dim = 2, .dim = {2, 3}, .data = f32_data, .n_bytes = 24},
    {.name = "layer.\"0\"\\b", .dtype = RM_BF16, .n_dim = 1, .dim = {2}, .data = bf16_data, .n_bytes = 4},
    {.name = "i", .dtype = RM_I64, .n_dim = 1, .dim = {3}, .data = i64_data, .n_bytes = 24},
    {.name = "empty", .dtype = RM_F32, .n_dim = 2, .dim = {0, 5}, .data = f32_data, .n_bytes = 0},
    {.name = "scalar", .dtype = RM_F32, .n_dim = 0, .data = f32_data + 1, .n_bytes = 4},
};

static rmas_status copy_tensor(void *ctx, int i, rm_gguf_sink *sink, rmas_error *err) {
    const rm_tensor *t = (const rm_tensor *)ctx + i;
    return rm_gguf_add(sink, t->data, t->n_bytes, err);
}

static void write_all(void) {
    rmas_error err = {0};
    if (rm_safetensors_write(in_dir("a.safetensors"), some, 5, &err) != RMAS_OK) fail_msg("%s", err.msg);
    if (rm_pt_write(in_dir("a.pt"), some, 5, &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_gguf_meta m = {0};
    const rm_span words[] = {{"one", 3}, {"", 0}, {"three\0x", 7}};
    const int32_t numbers[] = {-5, 7};
    const float reals[] = {0.5f};
    const bool flags[] = {true, false};
    rm_gguf_put_str(&m, "general.architecture", "llama", 5);
    rm_gguf_put_u32(&m, "llama.block_count", 3);
    rm_gguf_put_f32(&m, "eps", 1e-5f);
    rm_gguf_put_bool(&m, "flag", true);
    rm_gguf_put_strs(&m, "words", words, 3);
    rm_gguf_put_i32s(&m, "numbers", numbers, 2);
    rm_gguf_put_f32s(&m, "reals", reals, 1);
    rm_gguf_put_bools(&m, "flags", flags, 2);
    if (rm_gguf_write(in_dir("a.gguf"), &m, some, 3, copy_tensor, (void *)(uintptr_t)some, &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_gguf_meta_free(&m);
}

static void round_trips(void **state) {
    (void)state;
    static const char *const names[] = {"a.safetensors", "a.pt", "a.gguf"};
    static const rm_file_kind kinds[] = {RM_FILE_SAFETENSORS, RM_FILE_PT, RM_FILE_GGUF};
    write_all();
    for (int k = 0; k < 3; k++) {
        rm_weights *w = open_ok(in_dir(names[k]));
        int n = k == 2 ? 3 : 5;
        assert_int_equal(rm_weights_kind(w), kinds[k]);
        assert_int_equal(rm_weights_count(w), n);
        for (int i = 0; i < n; i++) {
            const rm_tensor *t = rm_weights_find(w, some[i].name);
            assert_non_null(t);
            assert_int_equal(t->dtype, some[i].dtype);
            assert_int_equal(t->n_dim, some[i].n_dim);
            for (int d = 0; d < t->n_dim; d++) assert_int_equal(t->dim[d], some[i].dim[d]);
            assert_int_equal(t->n_bytes, some[i].n_bytes);
            assert_memory_equal(t->data, some[i].data, t->n_bytes);
        }
        assert_null(rm_weights_find(w, "nothing"));
        rm_weights_close(w);
    }
}

static void metadata(void **state) {
    (void)state;
    rm_weights *w = open_ok(in_dir("a.gguf"));
    const rm_gguf *g = rm_weights_gguf(w);
    rm_span s;
    int64_t i;
    double d;
    assert_true(rm_gguf_str(g, "general.architecture", &s) && s.n == 5 && !memcmp(s.s, "llama", 5));
    assert_true(rm_gguf_int(g, "llama.block_count", &i) && i == 3);
    assert_true(rm_gguf_float(g, "llama.block_count", &d) && d == 3);
    assert_true(rm_gguf_float(g, "eps", &d) && (float)d == 1e-5f);
    assert_false(rm_gguf_int(g, "eps", &i));
    assert_true(rm_gguf_int(g, "flag", &i) && i == 1);
    assert_int_equal(rm_gguf_array_len(g, "words"), 3);
    assert_true(rm_gguf_item_str(rm_gguf_array_find(g, "words"), 2, &s) && s.n == 7);
    assert_false(rm_gguf_item_str(rm_gguf_array_find(g, "words"), 3, &s));
    assert_false(rm_gguf_item_str(rm_gguf_array_find(g, "words"), -1, &s));
    assert_false(rm_gguf_array_int(g, "words", 0, &i));
    assert_true(rm_gguf_array_int(g, "numbers", 0, &i) && i == -5);
    assert_true(rm_gguf_item_float(rm_gguf_array_find(g, "reals"), 0, &d) && d == 0.5);
    assert_true(rm_gguf_array_int(g, "flags", 1, &i) && i == 0);
    assert_int_equal(rm_gguf_array_len(g, "eps"), -1);
    assert_false(rm_gguf_str(g, "words", &s));
    assert_false(rm_gguf_has(g, "word"));
    rm_weights_close(w);
}

/* tests/fixtures/weights/strided.pt was written by torch.save 2.9.0. */
static void strided(void **state) {
    (void)state;
    rm_weights *w = open_ok(RMAS_FIXTURES "/weights/strided.pt");
    float a[24], b[12];
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 4; k++) a[4 * i + k] = (float)(6 * k + i);
    for (int i = 0; i < 12; i++) b[i] = (float)(5 + i);
    values_are(w, "state_dict.a", a, 24);
    values_are(w, "state_dict.b", b, 12);
    values_are(w, "state_dict.c", (const float[]){-2, -2, -2}, 3);
    values_are(w, "state_dict.s", (const float[]){1, 2, 9, 10, 13, 14, 21, 22}, 8);
    values_are(w, "p", (const float[]){7}, 1);
    assert_int_equal(rm_weights_count(w), 5);
    rm_weights_close(w);
}

static void shards(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_weights *w;
    char index[128];
    snprintf(index, sizeof index, "%s/m/model.safetensors.index.json", dir);
    assert_int_equal(rm_mkdirs(in_dir("m"), &err), RMAS_OK);
    assert_int_equal(rm_safetensors_write(in_dir("m/x.safetensors"), some, 1, &err), RMAS_OK);
    assert_int_equal(rm_safetensors_write(in_dir("m/y.safetensors"), some + 1, 2, &err), RMAS_OK);
    static const struct {
        const char *map;
        bool good;
    } cases[] = {
        {"{\"metadata\": {\"total_size\": 52, \"weight_map\": 1}, \"weight_map\": {\"w\": \"x.safetensors\", \"i\": \"y.safetensors\"}}", true},
        {"{\"weight_map\": {\"w\": \"y.safetensors\"}}", false}, /* in the other shard */
        {"{\"weight_map\": {\"w\": \"x.safetensors\", \"i\": \"x.safetensors\"}}", false},
        {"{\"weight_map\": {\"w\": \"../m/x.safetensors\"}}", false},
        {"{\"weight_map\": {\"w\": \"z.safetensors\"}}", false},
        {"{\"weight_map\": {\"w\": 1}}", false},
        {"{\"weight_map\": []}", false},
        {"{}", false},
        {"[]", false},
        {"{\"weight_map\": {\"w\": \"x.safetensors\"}", false},
    };
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        assert_int_equal(rm_file_write(index, cases[i].map, strlen(cases[i].map), &err), RMAS_OK);
        rmas_status s = rm_weights_open(&w, in_dir("m"), &err);
        if ((s == RMAS_OK) != cases[i].good) fail_msg("%s: %s", cases[i].map, s == RMAS_OK ? "accepted" : err.msg);
        if (s == RMAS_OK) assert_int_equal(rm_weights_count(w), 3);
        rm_weights_close(w);
    }
}

/* ---- damage --------------------------------------------------------------------------------------------------------- */

static bool opens(const char *path, const void *data, size_t n) {
    rmas_error err = {0};
    rm_weights *w;
    unlink(path);
    FILE *f = fopen(path, "wb"); /* thousands of files: without the fsync of rm_file_write, and new ones, which file systems need not write out */
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
    bool ok = rm_weights_open(&w, path, &err) == RMAS_OK;
    if (ok) { /* whatever was read can be read */
        float v[64];
        for (int i = 0; i < rm_weights_count(w); i++) {
            const rm_tensor *t = rm_weights_at(w, i);
            if (rm_tensor_count(t) <= 64) rm_dequant(t->dtype, t->data, v, (size_t)rm_tensor_count(t));
        }
    } else
        assert_true(err.msg[0] && !strchr(err.msg, '\n'));
    rm_weights_close(w);
    return ok;
}

static void damaged(void **state) {
    (void)state;
    static const char *const names[] = {"a.safetensors", "a.pt", "a.gguf"};
    for (int k = 0; k < 3; k++) {
        char *data, path[128];
        size_t n;
        assert_int_equal(rm_file_read(&data, &n, in_dir(names[k]), 1 << 20, NULL), RMAS_OK);
        snprintf(path, sizeof path, "%s/damaged%s", dir, strrchr(names[k], '.'));
        for (size_t cut = 0; cut < n; cut++)
            if (opens(path, data, cut) && !(k == 2 && n - cut < 32))
                fail_msg("%s cut at %zu of %zu is accepted", names[k], cut, n); /* GGUF: padding */
        for (size_t at = 0; at < n; at++)
            for (int flip = 0; flip < 3; flip++) {
                char old = data[at];
                data[at] = (char)(flip == 0 ? old ^ 1 : flip == 1 ? old ^ 0x80 : 0xff);
                opens(path, data, n);
                data[at] = old;
            }
        rm_free(data);
    }
}

static void out_of_memory(void **state) {
    (void)state;
    static const char *const names[] = {"a.safetensors", "a.pt", "a.gguf"};
    for (int k = 0; k < 3; k++) {
        rmas_status s = RMAS_E_NOMEM;
        for (long n = 1; s != RMAS_OK; n++) {
            rm_weights *w;
            rmas_error err = {0};
            rm_mem_fail_after(n);
            s = rm_weights_open(&w, in_dir(names[k]), &err);
            rm_mem_fail_after(0);
            if (s != RMAS_OK && s != RMAS_E_NOMEM && !strstr(err.msg, "memory")) fail_msg("allocation %ld: %s", n, err.msg);
            rm_weights_close(w);
            assert_true(n < 1000);
        }
    }
}

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/rmas-weights-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    static const char *const files[] = {"a.safetensors",
                                        "a.pt",
                                        "a.gguf",
                                        "damaged.safetensors",
                                        "damaged.pt",
                                        "damaged.gguf",
                                        "s-00001-of-00003.gguf",
                                        "s-00002-of-00003.gguf",
                                        "s-00003-of-00003.gguf",
                                        "other.gguf",
                                        "m/x.safetensors",
                                        "m/y.safetensors",
                                        "m/model.safetensors.index.json"};
    for (size_t i = 0; i < RM_COUNT(files); i++) unlink(in_dir(files[i]));
    rmdir(in_dir("m"));
    return rmdir(dir);
}

/* Parts of a split GGUF file: metadata of the first, tensors of all. */
static void put_part(const char *name, int no, int count, int total, const rm_tensor *t, int n) {
    rm_gguf_meta m = {0};
    rmas_error err = {0};
    if (!no) rm_gguf_put_str(&m, "general.architecture", "llama", 5);
    rm_gguf_put_u32(&m, "split.no", (uint32_t)no);
    rm_gguf_put_u32(&m, "split.count", (uint32_t)count);
    rm_gguf_put_u32(&m, "split.tensors.count", (uint32_t)total);
    if (rm_gguf_write(in_dir(name), &m, t, n, copy_tensor, (void *)(uintptr_t)t, &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_gguf_meta_free(&m);
}

static void split_is_refused(const char *name, const char *says) {
    rmas_error err = {0};
    rm_weights *w;
    if (rm_weights_open(&w, in_dir(name), &err) == RMAS_OK) fail_msg("accepted, but should be refused: %s", says);
    if (!strstr(err.msg, says)) fail_msg("'%s' does not say '%s'", err.msg, says);
}

static void split_gguf(void **state) {
    (void)state;
    static const char one[] = "s-00001-of-00003.gguf", two[] = "s-00002-of-00003.gguf", three[] = "s-00003-of-00003.gguf";
    put_part(one, 0, 3, 3, some, 0); /* as llama-gguf-split --no-tensor-first-split makes it */
    put_part(two, 1, 3, 3, some, 1);
    split_is_refused(one, "s-00003-of-00003.gguf: cannot open");
    put_part(three, 2, 3, 3, some + 1, 2);
    rm_weights *w = open_ok(in_dir(one));
    assert_int_equal(rm_weights_count(w), 3);
    assert_true(rm_gguf_has(rm_weights_gguf(w), "general.architecture"));
    values_are(w, "w", f32_data, 6);
    const rm_tensor *t = rm_weights_find(w, "i");
    assert_non_null(t);
    assert_memory_equal(t->data, i64_data, sizeof i64_data);
    rm_weights_close(w);
    split_is_refused(two, "part 2 of a split file of 3; name the first");
    put_part("other.gguf", 0, 3, 3, some, 1);
    split_is_refused("other.gguf", "must end in -00001-of-00003.gguf");
    put_part(three, 1, 3, 3, some + 1, 2);
    split_is_refused(one, "is part 2, not part 3");
    put_part(three, 2, 4, 3, some + 1, 2);
    split_is_refused(one, "is not one of 3 parts");
    put_part(three, 2, 3, 3, some, 2);
    split_is_refused(one, "tensor 'w' is there twice");
    put_part(three, 2, 3, 3, some + 1, 1);
    split_is_refused(one, "2 tensors together, not 3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_gguf),  cmocka_unit_test(halves),        cmocka_unit_test(quantised_errors), cmocka_unit_test(block_values),
        cmocka_unit_test(round_trips), cmocka_unit_test(metadata),      cmocka_unit_test(strided),          cmocka_unit_test(shards),
        cmocka_unit_test(damaged),     cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
