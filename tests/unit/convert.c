/* rmas quantize: small random models of the families whose values change on the way (rotary pairs, norms plus one, reordered heads) give the
 * same hidden states from the GGUF file as from the folder, exactly typed or nearly so when quantised; text gives the same ids. */
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

#include "convert/convert.h"
#include "session/session.h"
#include "tok/tok.h"
#include "util/file.h"
#include "util/mem.h"

enum { N_VOCAB = 272, D = 64, D_FF = 96, MAX_TENSOR = 900, N_TOK = 9 };

static char dir[64];
static rm_tensor tensor[MAX_TENSOR];
static int n_tensor;
static uint64_t seed;

static float noise(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

static const char *in_dir(const char *name) {
    static char path[4][128];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

/* A tensor of random values around `mean`; dims end with 0. */
static void add(float mean, float spread, int d0, int d1, int d2, const char *fmt, ...) {
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    rm_tensor *t = &tensor[n_tensor++];
    *t = (rm_tensor){.name = rm_strdup(name), .dtype = RM_F32, .n_dim = d2 ? 3 : d1 ? 2 : 1, .dim = {d0, d1, d2}};
    size_t n = (size_t)rm_tensor_count(t);
    float *v = rm_array(n, sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = mean + spread * noise();
    t->data = v;
    t->n_bytes = n * sizeof *v;
}

static void matrix(int n_out, int n_in, const char *name, int il) {
    add(0, 1.5f / sqrtf((float)n_in), n_out, n_in, 0, "model.layers.%d.%s.weight", il, name);
}
static void norm(int n, float mean, const char *name, int il) { add(mean, 0.3f, n, 0, 0, "model.layers.%d.%s.weight", il, name); }

static void mlp(int il) {
    matrix(D_FF, D, "mlp.gate_proj", il);
    matrix(D_FF, D, "mlp.up_proj", il);
    matrix(D, D_FF, "mlp.down_proj", il);
}

static void ends(float mean) {
    add(0, 0.5f, N_VOCAB, D, 0, "model.embed_tokens.weight");
    add(mean, 0.3f, D, 0, 0, "model.norm.weight");
}

static void attention(int n_head, int n_kv, int d_head, int q_factor, int il) {
    matrix(n_head * d_head * q_factor, D, "self_attn.q_proj", il);
    matrix(n_kv * d_head, D, "self_attn.k_proj", il);
    matrix(n_kv * d_head, D, "self_attn.v_proj", il);
    matrix(D, n_head * d_head, "self_attn.o_proj", il);
}

static void make_llama(void) {
    ends(1);
    for (int il = 0; il < 2; il++) {
        norm(D, 1, "input_layernorm", il);
        norm(D, 1, "post_attention_layernorm", il);
        attention(4, 2, 16, 1, il);
        mlp(il);
    }
}

static void bias(int n, const char *name, int il) { add(0, 0.5f, n, 0, 0, "model.layers.%d.%s.bias", il, name); }

static void make_llama_biased(void) {
    make_llama();
    for (int il = 0; il < 2; il++) {
        bias(64, "self_attn.q_proj", il);
        bias(32, "self_attn.k_proj", il);
        bias(32, "self_attn.v_proj", il);
        bias(D, "self_attn.o_proj", il);
        bias(D_FF, "mlp.gate_proj", il);
        bias(D_FF, "mlp.up_proj", il);
        bias(D, "mlp.down_proj", il);
    }
}

static void make_gemma_of(int n_layer, int n_head) {
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"};
    ends(0);
    for (int il = 0; il < n_layer; il++) {
        for (int k = 0; k < 4; k++) norm(D, 0, norms[k], il);
        norm(16, 0, "self_attn.q_norm", il);
        norm(16, 0, "self_attn.k_norm", il);
        attention(n_head, 1, 16, 1, il);
        mlp(il);
    }
}

static void make_gemma(void) { make_gemma_of(6, 4); }
static void make_gemma_deep(void) { make_gemma_of(62, 2); }

static void make_qwen35(void) {
    enum { NK = 2, NV = 6, DK = 8, DV = 8, C = 2 * NK * DK + NV * DV };
    ends(0);
    for (int il = 0; il < 4; il++) {
        norm(D, 0, "input_layernorm", il);
        norm(D, 0, "post_attention_layernorm", il);
        mlp(il);
        if (il == 3) {
            attention(2, 1, 32, 2, il);
            norm(32, 0, "self_attn.q_norm", il);
            norm(32, 0, "self_attn.k_norm", il);
            continue;
        }
        matrix(C, D, "linear_attn.in_proj_qkv", il);
        matrix(NV * DV, D, "linear_attn.in_proj_z", il);
        matrix(NV, D, "linear_attn.in_proj_b", il);
        matrix(NV, D, "linear_attn.in_proj_a", il);
        add(0, 0.5f, C, 1, 4, "model.layers.%d.linear_attn.conv1d.weight", il);
        add(0, 0.5f, NV, 0, 0, "model.layers.%d.linear_attn.dt_bias", il);
        add(0.5f, 0.5f, NV, 0, 0, "model.layers.%d.linear_attn.A_log", il);
        norm(DV, 1, "linear_attn.norm", il);
        matrix(D, NV * DV, "linear_attn.out_proj", il);
    }
}

static const struct {
    const char *name, *config;
    void (*make)(void);
} models[] = {
    {"llama",
     "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
     "\"intermediate_size\": 96,"
     "\"vocab_size\": 272, \"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 512, \"tie_word_embeddings\": true, \"rope_theta\": 500000.0,"
     "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
     "\"original_max_position_embeddings\": 32}}",
     make_llama},
    {"gemma3_text",
     "{\"model_type\": \"gemma3_text\", \"hidden_size\": 64, \"num_hidden_layers\": 6, \"num_attention_heads\": 4, \"num_key_value_heads\": 1, "
     "\"head_dim\": 16,"
     "\"intermediate_size\": 96, \"vocab_size\": 272, \"rms_norm_eps\": 1e-6, \"max_position_embeddings\": 512, \"sliding_window\": 4, "
     "\"query_pre_attn_scalar\": 20,"
     "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8.0, \"rope_theta\": 500000.0},"
     "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}}}",
     make_gemma},
    {"qwen3_5_text",
     "{\"model_type\": \"qwen3_5_text\", \"hidden_size\": 64, \"num_hidden_layers\": 4, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
     "\"head_dim\": 32,"
     "\"intermediate_size\": 96, \"vocab_size\": 272, \"rms_norm_eps\": 1e-6, \"max_position_embeddings\": 512, \"tie_word_embeddings\": true, "
     "\"linear_num_key_heads\": 2,"
     "\"linear_num_value_heads\": 6, \"linear_key_head_dim\": 8, \"linear_value_head_dim\": 8, \"linear_conv_kernel_dim\": 4, "
     "\"full_attention_interval\": 4,"
     "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000000.0, \"partial_rotary_factor\": 0.25, \"mrope_section\": [2, 1, 1]}}",
     make_qwen35},
    {"llama with yarn",
     "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
     "\"intermediate_size\": 96, \"vocab_size\": 272, \"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 512, \"tie_word_embeddings\": true,"
     "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8.0, \"original_max_position_embeddings\": 64, \"attention_factor\": 1.4, "
     "\"beta_fast\": 4.0}}",
     make_llama},
    {"gemma3_text without windows",
     "{\"model_type\": \"gemma3_text\", \"hidden_size\": 64, \"num_hidden_layers\": 6, \"num_attention_heads\": 4, \"num_key_value_heads\": 1, "
     "\"head_dim\": 16, \"intermediate_size\": 96, \"vocab_size\": 272, \"max_position_embeddings\": 512, \"sliding_window\": 4, "
     "\"query_pre_attn_scalar\": 256, \"sliding_window_pattern\": 1}",
     make_gemma},
    {"gemma3_text of 62 layers",
     "{\"model_type\": \"gemma3_text\", \"hidden_size\": 64, \"num_hidden_layers\": 62, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
     "\"head_dim\": 16, \"intermediate_size\": 96, \"vocab_size\": 272, \"max_position_embeddings\": 512, \"sliding_window\": 4, "
     "\"query_pre_attn_scalar\": 32}",
     make_gemma_deep},
    {"llama with biases",
     "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
     "\"intermediate_size\": 96, \"vocab_size\": 272, \"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 512, \"tie_word_embeddings\": true, "
     "\"attention_bias\": true, \"mlp_bias\": true}",
     make_llama_biased},
    {"llama with biases that its configuration does not name",
     "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
     "\"intermediate_size\": 96, \"vocab_size\": 272, \"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 512, \"tie_word_embeddings\": true}",
     make_llama_biased},
};

static void hidden_of(rm_exec *e, const char *path, float *out) {
    rmas_error err = {0};
    rm_model *m;
    rm_seq *s;
    rm_batch *b;
    int32_t id[N_TOK];
    for (int i = 0; i < N_TOK; i++) id[i] = (i * 37 + 5) % N_VOCAB;
    if (rm_model_open(&m, e, path, RM_EXACT, &err) != RMAS_OK) fail_msg("%s", err.msg);
    assert_int_equal(rm_seq_new(&s, m, &err), RMAS_OK);
    assert_int_equal(rm_batch_new(&b, m, &err), RMAS_OK);
    const rm_feed feed = {.seq = s, .n = N_TOK, .tokens = id};
    const rm_tap tap = {.hidden = out};
    if (rm_batch_forward_tap(b, &feed, 1, &tap, &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_batch_free(b);
    rm_seq_free(s);
    rm_model_close(m);
}

static void same_ids(const char *folder, const char *gguf) {
    static const char text[] = "hello  world<s> it's 12345 \n\n\t \xC3\xA9";
    rm_ids ids[2] = {{0}};
    rmas_error err = {0};
    for (int k = 0; k < 2; k++) {
        rm_tok *t;
        if (rm_tok_open(&t, k ? gguf : folder, &err) != RMAS_OK) fail_msg("%s", err.msg);
        assert_int_equal(rm_tok_encode(t, text, sizeof text - 1, true, &ids[k], &err), RMAS_OK);
        rm_tok_close(t);
    }
    assert_int_equal(ids[0].n, ids[1].n);
    assert_memory_equal(ids[0].id, ids[1].id, sizeof(int32_t) * (size_t)ids[0].n);
    for (int k = 0; k < 2; k++) rm_ids_free(&ids[k]);
}

/* The tensors made so far, which are freed, and their configuration. */
static void write_folder(const char *config) {
    rmas_error err = {0};
    char *json;
    size_t n;
    assert_int_equal(rm_file_read(&json, &n, RMAS_FIXTURES "/../fuzz/bytelevel.json", 1 << 20, &err), RMAS_OK);
    assert_int_equal(rm_file_write(in_dir("tokenizer.json"), json, n, &err), RMAS_OK);
    rm_free(json);
    assert_int_equal(rm_file_write(in_dir("config.json"), config, strlen(config), &err), RMAS_OK);
    assert_int_equal(rm_safetensors_write(in_dir("model.safetensors"), tensor, n_tensor, &err), RMAS_OK);
    for (; n_tensor; n_tensor--) {
        rm_free((void *)(uintptr_t)tensor[n_tensor - 1].name);
        rm_free((void *)(uintptr_t)tensor[n_tensor - 1].data);
    }
}

static void convert_one(size_t k) {
    static const struct {
        rm_dtype type;
        double limit; /* of the relative error of hidden states */
    } types[] = {{RM_F32, 1e-5}, {RM_BF16, 0.01}, {RM_Q8_0, 0.02}, {RM_Q4_K, 0.12}, {RM_Q4_0, 0.25}};
    float want[N_TOK * D], got[N_TOK * D];
    rmas_error err = {0};
    rm_exec *e;
    rm_convert_report report;
    seed = 1 + k;
    models[k].make();
    write_folder(models[k].config);
    assert_int_equal(rm_exec_new(&e, 2, NULL, &err), RMAS_OK);
    hidden_of(e, dir, want);
    for (size_t t = 0; t < RM_COUNT(types); t++) {
        const char *file = in_dir("out.gguf");
        if (rm_convert_gguf(file, dir, types[t].type, e->pool, &report, &err) != RMAS_OK) fail_msg("%s: %s", models[k].name, err.msg);
        hidden_of(e, file, got);
        double diff = 0, norm2 = 0;
        for (int i = 0; i < N_TOK * D; i++) {
            diff += pow((double)want[i] - (double)got[i], 2);
            norm2 += pow((double)want[i], 2);
        }
        double relative = sqrt(diff / norm2);
        const double limit = types[t].limit * (t && k == 2   ? 5
                                               : t && k == 5 ? 3
                                                             : 1); /* the gated norm of the delta rule amplifies rounding, many layers do */
        if (!(relative <= limit))
            fail_msg("%s as %s: relative error %g, at most %g expected", models[k].name, rm_dtype_get(types[t].type)->name, relative, limit);
        if (types[t].type == RM_F32) { /* and once more, from the GGUF file */
            const char *again = in_dir("again.gguf");
            if (rm_convert_gguf(again, file, RM_F32, e->pool, &report, &err) != RMAS_OK) fail_msg("%s", err.msg);
            hidden_of(e, again, want + 0);
            assert_memory_equal(want, got, sizeof got);
            same_ids(dir, file);
        }
    }
    rm_exec_free(e);
}

static void llama(void **state) {
    (void)state;
    convert_one(0);
}
static void gemma(void **state) {
    (void)state;
    convert_one(1);
}
static void qwen35(void **state) {
    (void)state;
    convert_one(2);
}

static void biases(void **state) {
    (void)state;
    convert_one(6);
    convert_one(7);
}
static void gemma_layers(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_exec *e;
    rm_model *m;
    convert_one(4);
    convert_one(5);
    assert_int_equal(rm_exec_new(&e, 1, NULL, &err), RMAS_OK);
    assert_int_equal(rm_model_open(&m, e, in_dir("out.gguf"), RM_EXACT, &err), RMAS_OK);
    assert_true(fabsf(rm_model_config(m)->attn_scale * sqrtf(32) - 1) < 1e-6f); /* d_model / n_head, as llama.cpp understands the 27B */
    rm_model_close(m);
    rm_exec_free(e);
}
static void yarn(void **state) {
    (void)state;
    convert_one(3);
}

static void refuses(const char *config, const char *message) {
    rmas_error err = {0};
    rm_exec *e;
    rm_convert_report report;
    write_folder(config);
    assert_int_equal(rm_exec_new(&e, 1, NULL, &err), RMAS_OK);
    assert_int_not_equal(rm_convert_gguf(in_dir("out.gguf"), dir, RM_F32, e->pool, &report, &err), RMAS_OK);
    if (!strstr(err.msg, message)) fail_msg("%s", err.msg);
    rm_exec_free(e);
}

static void refused(void **state) {
    (void)state;
    make_llama();
    refuses("{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
            "\"intermediate_size\": 96, \"vocab_size\": 272, \"tie_word_embeddings\": true,"
            "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8.0, \"original_max_position_embeddings\": 1e11}}",
            "an original length of 1e+11");
    make_llama();
    for (int i = 0; i < n_tensor; i++)
        if (strstr(tensor[i].name, "embed_tokens")) tensor[i].n_dim = 0, tensor[i].n_bytes = sizeof(float);
    refuses(models[0].config, "is a scalar");
}

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/rmas-convert-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    static const char *const files[] = {"tokenizer.json", "config.json", "model.safetensors", "out.gguf", "again.gguf"};
    for (size_t i = 0; i < RM_COUNT(files); i++) unlink(in_dir(files[i]));
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(llama), cmocka_unit_test(gemma),        cmocka_unit_test(qwen35), cmocka_unit_test(biases),
                                       cmocka_unit_test(yarn),  cmocka_unit_test(gemma_layers), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
