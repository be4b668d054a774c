/* Models: parity with values of transformers for every family, GGUF files, binding errors, configurations that lie. */
#include "model_fixture.h"

#include <unistd.h>

#include "util/file.h"

/* Hidden states, layers, logits, spliced embeddings. */
static void check_parity(const char *file, const char *name) {
    fixture f = fixture_open(file, name, 2, NULL);
    size_t d = (size_t)f.d, n = (size_t)f.n, v = (size_t)f.v;
    float *hidden = floats(n * d), *layers = floats((size_t)(f.n_layer + 1) * n * d), *logits = floats(2 * v), *embeds = floats(n * d),
          *two = floats(2 * d);
    const int row[2] = {(int)golden_i64(&f, "rows", 0), (int)golden_i64(&f, "rows", 1)};
    rm_batch *b;
    rm_seq *s;
    OK(rm_batch_new(&b, f.model, err));
    OK(rm_seq_new(&s, f.model, err));
    rm_feed feed = {.seq = s, .n = f.n, .tokens = f.tokens, .want_logits = true};
    rm_tap tap = {hidden, layers, row, 2, logits};
    OK(rm_batch_forward_tap(b, &feed, 1, &tap, err));
    assert_int_equal(rm_seq_len(s), f.n);
    assert_near(file, "hidden", hidden, golden_f32(&f, "hidden"), n * d);
    assert_near(file, "logits", logits, golden_f32(&f, "logits"), 2 * v);
    assert_same("last hidden", rm_batch_hidden(b, 0), hidden + (n - 1) * d, d);
    assert_same("last logits", rm_batch_logits(b, 0), logits + v, v);
    for (size_t il = 0; il <= (size_t)f.n_layer; il++) {
        for (size_t i = 0; i < 2; i++) memcpy(two + i * d, layers + (il * n + (size_t)row[i]) * d, d * sizeof *two);
        assert_near(file, "layer", two, golden_f32(&f, "layers") + il * 2 * d, 2 * d);
    }
    rm_seq_free(s);

    for (int i = 0; i < 2; i++) { /* rows in place of tokens; what the tokens there are does not matter */
        size_t at = (size_t)golden_i64(&f, "embed_pos", i);
        f.tokens[at] = -1;
        memcpy(embeds + at * d, golden_f32(&f, "embeds") + (size_t)i * d, d * sizeof *embeds);
    }
    OK(rm_seq_new(&s, f.model, err));
    feed = (rm_feed){.seq = s, .n = f.n, .tokens = f.tokens, .embeds = embeds};
    tap = (rm_tap){.hidden = hidden};
    OK(rm_batch_forward_tap(b, &feed, 1, &tap, err));
    for (size_t i = 0; i < 2; i++) memcpy(two + i * d, hidden + (size_t)row[i] * d, d * sizeof *two);
    assert_near(file, "spliced", two, golden_f32(&f, "spliced"), 2 * d);
    rm_seq_free(s);
    rm_batch_free(b);
    float *all[] = {hidden, layers, logits, embeds, two};
    for (size_t i = 0; i < RM_COUNT(all); i++) rm_free(all[i]);
    fixture_close(&f);
}

static void test_parity(void **state) {
    (void)state;
    for (int i = 0; i < N_FIXTURE; i++) check_parity(fixture_names[i], fixture_names[i]);
}

static void test_gguf(void **state) {
    (void)state;
    check_parity("llama_plain.gguf", "llama_plain");
    check_parity("qwen3_5.gguf", "qwen3_5");
}

static void test_sizes(void **state) {
    (void)state;
    fixture f = fixture_open("qwen3_5", "qwen3_5", 1, NULL);
    const rm_config *c = rm_model_config(f.model);
    assert_string_equal(c->model_type, "qwen3_5_text");
    assert_true(c->tied && c->attn_gate && c->qk_norm && !c->post_norm);
    assert_int_equal(c->layer[0], RM_LAYER_LINEAR);
    assert_int_equal(c->layer[1], RM_LAYER_FULL);
    assert_int_equal(rm_seq_bytes_per_token(f.model), 2 * 1 * 16 * 2 * 4); /* two full layers, one head of 16, keys and values */
    assert_int_equal(rm_seq_bytes_fixed(f.model), 2 * 4 * (4 * 6 * 10 + 3 * (2 * 2 * 6 + 4 * 10)));
    float row[64];
    rmas_error e = {0};
    assert_int_equal(rm_model_embed(f.model, (int32_t[]){f.v}, 1, row, &e), RMAS_E_ARG);
    assert_int_equal(rm_model_embed(f.model, (int32_t[]){-1}, 1, row, &e), RMAS_E_ARG);
    fixture_close(&f);
}

/* ---- files that lie ----------------------------------------------------------------------------------------------------- */

static char *temp_dir(void) {
    static char path[] = "/tmp/rmas-test-model-XXXXXX", copy[sizeof path];
    memcpy(copy, path, sizeof path);
    assert_non_null(mkdtemp(copy));
    return copy;
}

static void put_file(const char *dir, const char *name, const void *data, size_t n) {
    char *path = rm_path_join(dir, name);
    OK(rm_file_write(path, data, n, err));
    rm_free(path);
}

static void remove_file(const char *dir, const char *name) {
    char *path = rm_path_join(dir, name);
    unlink(path);
    rm_free(path);
}

/* The folder dir with the weight file `file`, which is freed. */
static void remove_model(const char *dir, char *file) {
    remove(file);
    remove_file(dir, "config.json");
    rmdir(dir);
    rm_free(file);
}

static rmas_status read_text(const char *dir, const char *text, rm_config *c, rmas_error *err) {
    put_file(dir, "config.json", text, strlen(text));
    return rm_config_read(c, dir, err);
}

#define BASE "\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,\"vocab_size\":9"

static void test_config_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *word; /* the word must be in the message */
    } bad[] = {
        {"", "config.json"},
        {"[]", "object"},
        {"{}", "model_type"},
        {"{\"model_type\":7}", "model_type"},
        {"{\"model_type\":\"mamba\"}", "mamba"},
        {"{\"model_type\":\"llama\"}", "num_hidden_layers"},
        {"{" BASE ",\"num_hidden_layers\":0}", "num_hidden_layers"},
        {"{" BASE ",\"num_hidden_layers\":-3}", "num_hidden_layers"},
        {"{" BASE ",\"num_hidden_layers\":1e18}", "num_hidden_layers"},
        {"{" BASE ",\"num_hidden_layers\":2.5}", "num_hidden_layers"},
        {"{" BASE ",\"num_hidden_layers\":\"2\"}", "num_hidden_layers"},
        {"{" BASE ",\"hidden_size\":99999999999}", "hidden_size"},
        {"{" BASE ",\"num_attention_heads\":0}", "num_attention_heads"},
        {"{" BASE ",\"num_key_value_heads\":3}", "evenly"},
        {"{" BASE ",\"num_key_value_heads\":0}", "num_key_value_heads"},
        {"{" BASE ",\"num_attention_heads\":16}", "head_dim"},
        {"{" BASE ",\"head_dim\":5}", "even"},
        {"{" BASE ",\"head_dim\":-2}", "head_dim"},
        {"{" BASE ",\"model_type\":\"qwen3_5\",\"num_key_value_heads\":1,\"head_dim\":4}", "1 of 4 elements of a head"},
        {"{" BASE ",\"num_attention_heads\":16384,\"num_key_value_heads\":1,\"head_dim\":4096}", "elements"},
        {"{" BASE ",\"vocab_size\":-1}", "vocab_size"},
        {"{" BASE ",\"vocab_size\":4294967297}", "vocab_size"},
        {"{" BASE ",\"rms_norm_eps\":-1}", "rms_norm_eps"},
        {"{" BASE ",\"rms_norm_eps\":\"x\"}", "rms_norm_eps"},
        {"{" BASE ",\"rope_theta\":0}", "rope"},
        {"{" BASE ",\"rope_theta\":-1e4}", "rope"},
        {"{" BASE ",\"rope_theta\":\"big\"}", "rope_theta"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"longrope\",\"factor\":2}}", "longrope"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"yarn\"}}", "factor"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"beta_slow\":0}}", "beta_slow"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"attention_factor\":-1}}", "attention_factor"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2},\"rope_theta\":1}", "base"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"linear\"}}", "factor"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":0}}", "factor"},
        {"{" BASE ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":2}}", "low_freq_factor"},
        {"{" BASE ",\"rope_parameters\":{\"rope_type\":3}}", "rope_type"},
        {"{" BASE ",\"partial_rotary_factor\":1.5}", "partial_rotary_factor"},
        {"{" BASE ",\"tie_word_embeddings\":\"yes\"}", "tie_word_embeddings"},
        {"{" BASE ",\"hidden_act\":\"relu\"}", "relu"},
        {"{" BASE ",\"layer_types\":[\"full_attention\"]}", "layer_types"},
        {"{" BASE ",\"layer_types\":[\"full_attention\",4]}", "layer_types"},
        {"{" BASE ",\"layer_types\":[\"full_attention\",\"linear_attention\"]}", "linear_attention"},
        {"{" BASE ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "sliding_window"},
        {"{" BASE ",\"model_type\":\"mistral\",\"num_key_value_heads\":1,\"sliding_window\":-4}", "sliding_window"},
        {"{" BASE ",\"model_type\":\"gemma3_text\",\"num_key_value_heads\":1,\"sliding_window_pattern\":0}", "sliding_window_pattern"},
        {"{" BASE ",\"model_type\":\"gemma3_text\",\"num_key_value_heads\":1,\"query_pre_attn_scalar\":0}", "query_pre_attn_scalar"},
        {"{" BASE ",\"model_type\":\"gemma3_text\",\"num_key_value_heads\":1,\"attn_logit_softcapping\":50}", "attn_logit_softcapping"},
        {"{" BASE ",\"model_type\":\"gemma3_text\",\"num_key_value_heads\":1,\"use_bidirectional_attention\":true}", "use_bidirectional_attention"},
        {"{" BASE ",\"model_type\":\"qwen3_5\",\"num_key_value_heads\":1,\"linear_num_key_heads\":3}", "evenly"},
        {"{" BASE ",\"model_type\":\"qwen3_5\",\"num_key_value_heads\":1,\"linear_conv_kernel_dim\":1000}", "linear_conv_kernel_dim"},
        {"{" BASE ",\"model_type\":\"qwen3_5\",\"num_key_value_heads\":1,\"linear_key_head_dim\":0}", "linear_key_head_dim"},
        {"{" BASE ",\"model_type\":\"qwen3_5\",\"num_key_value_heads\":1,\"full_attention_interval\":0}", "full_attention_interval"},
    };
    char *dir = temp_dir();
    rm_config c;
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        rmas_error e = {0};
        if (read_text(dir, bad[i].text, &c, &e) == RMAS_OK) fail_msg("accepted: %s", bad[i].text);
        if (!strstr(e.msg, bad[i].word)) fail_msg("%s: the message is \"%s\", without %s", bad[i].text, e.msg, bad[i].word);
    }
    OK(read_text(dir, "{" BASE ",\"rope_scaling\":null,\"head_dim\":null}", &c, err));
    assert_int_equal(c.d_head, 4);
    assert_int_equal(c.n_kv, 2);
    rm_config_free(&c);
    OK(read_text(dir, "{\"text_config\":{" BASE ",\"hidden_size\":16},\"hidden_size\":8}", &c, err));
    assert_int_equal(c.d_model, 16);
    rm_config_free(&c);
    remove_file(dir, "config.json");
    rmdir(dir);
}

/* Two spellings that mean the same rotary table. */
static void same_rope(const char *one, const char *other) {
    char *dir = temp_dir();
    rm_config c[2];
    OK(read_text(dir, one, &c[0], err));
    OK(read_text(dir, other, &c[1], err));
    for (int k = 0; k < 2; k++) {
        const rm_rope *a = &c[0].rope[k], *b = &c[1].rope[k];
        assert_int_equal(a->n_rot, b->n_rot);
        if (memcmp(a->inv_freq, b->inv_freq, (size_t)a->n_rot / 2 * sizeof *a->inv_freq)) fail_msg("not the frequencies of %s: %s", one, other);
    }
    for (int k = 0; k < 2; k++) rm_config_free(&c[k]);
    remove_file(dir, "config.json");
    rmdir(dir);
}

#define ROPE_BASE "{" BASE ",\"head_dim\":16,\"max_position_embeddings\":512,"
#define LLAMA3 "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4"

static void test_rope_spellings(void **state) {
    (void)state;
    /* the length of the training is that of the context where no other is given */
    same_rope(ROPE_BASE "\"rope_scaling\":{" LLAMA3 ",\"original_max_position_embeddings\":512}}", ROPE_BASE "\"rope_scaling\":{" LLAMA3 "}}");
    /* families that rotate all of a head do so whatever partial_rotary_factor says */
    same_rope(ROPE_BASE "\"rope_theta\":500}", ROPE_BASE "\"rope_theta\":500,\"partial_rotary_factor\":0.5}");
    /* rope_scaling stands in place of rope_parameters, its base included */
    same_rope(ROPE_BASE "\"rope_theta\":10000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}",
              ROPE_BASE "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500},\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}");
    same_rope(ROPE_BASE "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500}}",
              ROPE_BASE "\"rope_parameters\":{\"rope_theta\":500},\"rope_scaling\":null}");
}

/* Values of the reference, for heads of 16, base 10000, factor 4 and an original length of 4096. */
static void test_yarn(void **state) {
    (void)state;
    static const struct {
        const char *more;
        float inv_freq[8], scale;
    } want[] = {
        {"", {1.0f, 0.31622776f, 0.1f, 0.025693506f, 0.0062499996f, 0.0013834966f, 0.00025000001f, 7.9056947e-05f}, 1.138629436111989f},
        {"\"beta_fast\":8,\"beta_slow\":0.5,\"mscale\":0.7,\"mscale_all_dim\":0.5,",
         {1.0f, 0.31622776f, 0.1f, 0.031622779f, 0.0081249997f, 0.0019764237f, 0.00043750001f, 7.9056947e-05f},
         1.0259286501478284f},
        {"\"truncate\":false,\"attention_factor\":1.3,",
         {1.0f, 0.31622776f, 0.1f, 0.02861361f, 0.006556971f, 0.0012856319f, 0.00025000001f, 7.9056947e-05f},
         1.3f},
    };
    char *dir = temp_dir(), text[512];
    rm_config c;
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        snprintf(text, sizeof text, ROPE_BASE "\"rope_scaling\":{%s\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":4096}}",
                 want[i].more);
        OK(read_text(dir, text, &c, err));
        for (int j = 0; j < 8; j++) assert_true(fabsf(c.rope[0].inv_freq[j] / want[i].inv_freq[j] - 1) < 1e-6f);
        assert_true(fabsf(c.rope[0].scale / want[i].scale - 1) < 1e-6f);
        rm_config_free(&c);
    }
    remove_file(dir, "config.json");
    rmdir(dir);
}

static void test_windows(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int window;
        bool slides[2];
    } want[] = {
        {"{" BASE ",\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":1,\"sliding_window\":6}", 6, {false, true}},
        {"{" BASE ",\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":1}", 4096, {false, true}},
        {"{" BASE ",\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"max_window_layers\":1,\"sliding_window\":null}", 0, {false, false}},
        {"{" BASE ",\"model_type\":\"mistral\",\"num_key_value_heads\":1,\"sliding_window\":null}", 0, {false, false}},
        {"{" BASE ",\"model_type\":\"smollm3\",\"num_key_value_heads\":1,\"sliding_window\":6}", 0, {false, false}},
        {"{" BASE ",\"model_type\":\"smollm3\",\"num_key_value_heads\":1,\"use_sliding_window\":true,\"sliding_window\":6,\"no_rope_layers\":[1,0]}",
         6,
         {false, true}},
        {"{" BASE ",\"model_type\":\"smollm3\",\"num_key_value_heads\":1,\"use_sliding_window\":true,\"no_rope_layers\":[1,0]}", 0, {false, false}},
        {"{" BASE
         ",\"model_type\":\"smollm3\",\"num_key_value_heads\":1,\"sliding_window\":6,\"layer_types\":[\"sliding_attention\",\"full_attention\"]}",
         6,
         {true, false}},
    };
    char *dir = temp_dir();
    rm_config c;
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        OK(read_text(dir, want[i].text, &c, err));
        assert_int_equal(c.window, want[i].window);
        for (int k = 0; k < 2; k++) assert_int_equal(c.layer[k] == RM_LAYER_SLIDING, want[i].slides[k]);
        rm_config_free(&c);
    }
    remove_file(dir, "config.json");
    rmdir(dir);
}

/* The weights of a fixture with one change. */
static void test_binding_errors(void **state) {
    (void)state;
    char path[512], *dir = temp_dir(), *file = rm_path_join(dir, "model.safetensors"), *text;
    size_t n_text;
    snprintf(path, sizeof path, "%s/models/qwen3/config.json", RMAS_FIXTURES);
    OK(rm_file_read(&text, &n_text, path, 1 << 20, err));
    put_file(dir, "config.json", text, n_text);
    rm_free(text);
    snprintf(path, sizeof path, "%s/models/qwen3/model.safetensors", RMAS_FIXTURES);
    rm_weights *w;
    OK(rm_weights_open(&w, path, err));
    int n = rm_weights_count(w);
    rm_exec *e;
    OK(rm_exec_new(&e, 1, NULL, err));
    rm_tensor *t = rm_calloc((size_t)n, sizeof *t);
    for (int change = 0; change < 4 * n; change++) { /* missing, misshapen, of integers, with one more dimension */
        int i = change / 4, kind = change % 4, k = 0;
        if (kind == 3 && rm_weights_at(w, i)->n_dim < 2) continue;
        for (int x = 0; x < n; x++) {
            t[k] = *rm_weights_at(w, x);
            if (x == i && kind == 0) continue;
            if (x == i && kind == 1) t[k].n_bytes -= rm_tensor_count(&t[k]) / t[k].dim[0] * 4, t[k].dim[0]--;
            if (x == i && kind == 2) t[k].dtype = RM_I32;
            if (x == i && kind == 3) t[k].n_dim = 3, t[k].dim[2] = t[k].dim[1], t[k].dim[1] = 1;
            k++;
        }
        OK(rm_safetensors_write(file, t, k, err));
        rm_model *m = NULL;
        rmas_error why = {0};
        if (rm_model_open(&m, e, dir, RM_EXACT, &why) == RMAS_OK) fail_msg("%s: change %d is accepted", rm_weights_at(w, i)->name, kind);
        if (!strstr(why.msg, rm_weights_at(w, i)->name)) fail_msg("%s is not in the message: %s", rm_weights_at(w, i)->name, why.msg);
        if (!strstr(why.msg, dir)) fail_msg("the message does not name the file: %s", why.msg);
        assert_null(m);
    }
    rm_free(t);
    rm_weights_close(w);
    rm_exec_free(e);
    remove_model(dir, file);
}

static void logits_of(rm_exec *e, const char *path, bool tied, float *out) {
    const int32_t tokens[3] = {5, 9, 31};
    rm_model *m;
    rm_batch *b;
    rm_seq *s;
    OK(rm_model_open(&m, e, path, RM_EXACT, err));
    assert_int_equal(rm_model_config(m)->tied, tied);
    OK(rm_batch_new(&b, m, err));
    OK(rm_seq_new(&s, m, err));
    const rm_feed feed = {.seq = s, .n = 3, .tokens = tokens, .want_logits = true};
    OK(rm_batch_forward(b, &feed, 1, err));
    memcpy(out, rm_batch_logits(b, 0), (size_t)rm_model_config(m)->n_vocab * sizeof *out);
    rm_batch_free(b);
    rm_seq_free(s);
    rm_model_close(m);
}

/* A tied model with a copy of its embedding as the head, with the head alone, and with a head that is another matrix. */
static void test_ends_of_tied_model(void **state) {
    (void)state;
    enum { COPY, ALONE, OTHER, N_KIND };
    char path[512], *dir = temp_dir(), *file = rm_path_join(dir, "model.safetensors"), *text;
    size_t n_text;
    float want[64], got[64];
    rm_weights *w;
    rm_exec *e;
    OK(rm_exec_new(&e, 1, NULL, err));
    snprintf(path, sizeof path, "%s/models/qwen3/config.json", RMAS_FIXTURES);
    OK(rm_file_read(&text, &n_text, path, 1 << 20, err));
    put_file(dir, "config.json", text, n_text);
    rm_free(text);
    snprintf(path, sizeof path, "%s/models/qwen3", RMAS_FIXTURES);
    logits_of(e, path, true, want);
    OK(rm_weights_open(&w, path, err));
    int n = rm_weights_count(w);
    rm_tensor *t = rm_calloc((size_t)n + 1, sizeof *t);
    const rm_tensor *embed = rm_weights_find(w, "model.embed_tokens.weight");
    int n_vocab = (int)embed->dim[0];
    float *twice = floats((size_t)rm_tensor_count(embed));
    memcpy(twice, embed->data, embed->n_bytes);
    for (int64_t i = 0; i < rm_tensor_count(embed); i++) twice[i] *= 2;
    for (int kind = 0; kind < N_KIND; kind++) {
        int k = 0;
        for (int i = 0; i < n; i++)
            if (kind != ALONE || rm_weights_at(w, i) != embed) t[k++] = *rm_weights_at(w, i);
        t[k] = *embed;
        t[k].name = "lm_head.weight";
        if (kind == OTHER) t[k].data = twice;
        OK(rm_safetensors_write(file, t, k + 1, err));
        logits_of(e, dir, kind != OTHER, got);
        for (int i = 0; i < n_vocab; i++) assert_true(got[i] == (kind == OTHER ? 2 : 1) * want[i]);
    }
    rm_free(twice);
    rm_free(t);
    rm_weights_close(w);
    rm_exec_free(e);
    remove_model(dir, file);
}

/* Every allocation of opening fails in turn. */
static void test_open_without_memory(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/models/qwen3_5", RMAS_FIXTURES);
    rm_exec *e;
    OK(rm_exec_new(&e, 1, NULL, err));
    bool done = false;
    for (long i = 1; !done && i < 100000; i++) {
        rm_model *m = NULL;
        rmas_error why = {0};
        rm_mem_fail_after(i);
        done = rm_model_open(&m, e, path, RM_EXACT, &why) == RMAS_OK;
        rm_mem_fail_after(0);
        if (!done) assert_null(m);
        rm_model_close(m);
    }
    assert_true(done);
    rm_exec_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_config_errors),
        cmocka_unit_test(test_binding_errors),
        cmocka_unit_test(test_open_without_memory),
        cmocka_unit_test(test_ends_of_tied_model),
        cmocka_unit_test(test_rope_spellings),
        cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
