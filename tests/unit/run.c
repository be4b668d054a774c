/* Whole runs of a system of tiny random models, which the test writes itself: what must not change an answer (batch, order,
 * neighbours, shared beginnings of prompts, threads), graphs of one's own, the tool loop, results files and going on with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "rmas.h"
#include "system/results.h"
#include "system/run.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/rng.h"
#include "weights/weights.h"

/* ---- a team in a temporary folder --------------------------------------------------------------------------------------- */

static char folder[64];

static char *in_folder(const char *name) {
    char *p = rm_path_join(folder, name);
    assert_non_null(p);
    return p;
}

static void write_file(const char *name, const char *text) {
    rmas_error err = {0};
    char *p = in_folder(name);
    if (rm_file_write(p, text, strlen(text), &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_free(p);
}

typedef struct {
    rm_tensor t[64];
    int n;
    rm_rng rng;
} weights;

static void add(weights *w, const char *name, int64_t rows, int64_t cols, float scale, float shift) {
    size_t n = (size_t)(rows * (cols ? cols : 1));
    float *x = rm_array(n, sizeof *x);
    char *own = rm_strdup(name);
    assert_true(x && own && w->n < 64);
    for (size_t i = 0; i < n; i++) x[i] = shift + scale * (float)rm_rng_normal(&w->rng);
    w->t[w->n++] = (rm_tensor){.name = own, .dtype = RM_F32, .n_dim = cols ? 2 : 1, .dim = {rows, cols}, .data = x, .n_bytes = n * sizeof *x};
}

/* A byte-level tokenizer without merges: ASCII, two special tokens, and two that are whole tool calls, a slow and a fast one:
 * so models of random numbers call tools. */
static void write_tokenizer(const char *dir) {
    rm_strbuf b = {0};
    char name[64];
    rm_strbuf_puts(&b, "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 96, \"content\": \"<|start|>\", \"special\": true}, "
                       "{\"id\": 97, \"content\": \"<|end|>\", \"special\": true}, "
                       "{\"id\": 98, \"content\": \"<python>import time; time.sleep(0.4); print('slow')</python>\", \"special\": false}, "
                       "{\"id\": 99, \"content\": \"<python>print('fast')</python>\", \"special\": false}], \"pre_tokenizer\": {\"type\": "
                       "\"ByteLevel\", \"add_prefix_space\": false, "
                       "\"use_regex\": false}, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {");
    for (int i = 0; i < 96; i++) { /* as such tokenizers write bytes: white space as U+0100 + byte */
        int c = i < 95 ? 32 + i : '\n';
        rm_strbuf_printf(&b, "%s\"\\u%04x\": %d", i ? ", " : "", c <= 32 ? 256 + c : c, i);
    }
    rm_strbuf_puts(&b, "}, \"merges\": []}}");
    snprintf(name, sizeof name, "%s/tokenizer.json", dir);
    write_file(name, rm_str(&b));
    rm_strbuf_free(&b);
    snprintf(name, sizeof name, "%s/tokenizer_config.json", dir);
    write_file(
        name, "{\"eos_token\": \"<|end|>\", \"chat_template\": \"{% for m in messages %}<|start|>{{ m.role }}\\n{{ m.content }}<|end|>\\n{% endfor %}"
              "{% if add_generation_prompt %}<|start|>assistant\\n{% endif %}\"}");
}

static void write_model(const char *dir, int d, uint64_t seed) {
    weights w = {.rng = rm_rng_make(seed, 0)};
    char name[96], *path = in_folder(dir), text[512];
    rmas_error err = {0};
    float s = 1.2f / (float)d;
    assert_int_equal(rm_mkdirs(path, &err), RMAS_OK);
    rm_free(path);
    snprintf(text, sizeof text,
             "{\"model_type\": \"qwen2\", \"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_size\": %d, \"intermediate_size\": %d, "
             "\"num_hidden_layers\": 2, "
             "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"vocab_size\": 100, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, "
             "\"hidden_act\": "
             "\"silu\", \"tie_word_embeddings\": false, \"max_position_embeddings\": 4096, \"torch_dtype\": \"float32\"}",
             d, 2 * d);
    snprintf(name, sizeof name, "%s/config.json", dir);
    write_file(name, text);
    add(&w, "model.embed_tokens.weight", 100, d, 0.7f, 0);
    add(&w, "lm_head.weight", 100, d, 0.7f, 0);
    add(&w, "model.norm.weight", d, 0, 0.05f, 1);
    static const struct {
        const char *name;
        int rows, cols; /* in units of d / 2; 0 columns: a vector */
        bool norm;
    } parts[] = {{"input_layernorm.weight", 2, 0, true},   {"post_attention_layernorm.weight", 2, 0, true},
                 {"self_attn.q_proj.weight", 2, 2, false}, {"self_attn.q_proj.bias", 2, 0, false},
                 {"self_attn.k_proj.weight", 1, 2, false}, {"self_attn.k_proj.bias", 1, 0, false},
                 {"self_attn.v_proj.weight", 1, 2, false}, {"self_attn.v_proj.bias", 1, 0, false},
                 {"self_attn.o_proj.weight", 2, 2, false}, {"mlp.gate_proj.weight", 4, 2, false},
                 {"mlp.up_proj.weight", 4, 2, false},      {"mlp.down_proj.weight", 2, 4, false}};
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < RM_COUNT(parts); i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, parts[i].name);
            add(&w, name, parts[i].rows * d / 2, parts[i].cols * d / 2, parts[i].norm ? 0.05f : 4 * s, parts[i].norm ? 1 : 0);
        }
    snprintf(name, sizeof name, "%s/model.safetensors", dir);
    path = in_folder(name);
    if (rm_safetensors_write(path, w.t, w.n, &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_free(path);
    for (int i = 0; i < w.n; i++) {
        rm_free((char *)(uintptr_t)w.t[i].name);
        rm_free((void *)(uintptr_t)w.t[i].data);
    }
    write_tokenizer(dir);
}

static const char pack_text[] =
    "rmas-prompts 1\n"
    "=== system\nBe brief, be right, be kind to the reader.\n"
    "=== review/author\nYou write a first draft.\n{{question}}\n"
    "=== review/author/feedback\nYou write the next draft.\n{{question}}\nWhat the editor says:\n{{slot:editor}}\nGo on.\n"
    "=== review/ca\nYou look for mistakes.\n{{slot:author}}\n{{question}}\n"
    "=== review/cb\nYou look for beauty.\n{{question}}\n{{slot:author}}\nSay it.\n"
    "=== review/editor\nYou answer.\nMistakes:\n{{slot:ca}}\nBeauty:\n{{slot:cb}}\nThe question:\n{{question}}\n"
    "=== single/agent\nAnswer.\n{{question}}\n"
    "=== retry\nAnswer: \\boxed{\n"
    "=== tool/search_off\nnothing about {{query}}\n";

static const char graph_text[] = "{\"rmas_system\": 1, \"name\": \"two critics\", \"family\": \"review\", \"agents\": {\"author\": {\"model\": "
                                 "\"a\"}, \"ca\": {\"model\": \"b\"}, "
                                 "\"cb\": {\"model\": \"a\"}, \"editor\": {\"model\": \"b\", \"tools\": true}}, \"edges\": [{\"from\": \"author\", "
                                 "\"to\": \"ca\"}, {\"from\": \"author\", \"to\": \"cb\"}, "
                                 "{\"from\": \"ca\", \"to\": \"editor\"}, {\"from\": \"cb\", \"to\": \"editor\"}, {\"from\": \"editor\", \"to\": "
                                 "\"author\", \"feedback\": true}], "
                                 "\"init_seed\": 3}";

enum { N_QUESTION = 7 };

typedef struct {
    rm_system *sys;
    rm_files files;
    rm_exec *exec;
    rm_team *team;
    rm_pack *pack;
    rm_dataset *data;
} world;

static world shared;

static void must(rmas_status st, const rmas_error *err) {
    if (st != RMAS_OK) fail_msg("%s", err->msg);
}

static int set_up(void **state) {
    (void)state;
    rmas_error err = {0};
    strcpy(folder, "/tmp/rmas-run-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    write_model("a", 16, 1);
    write_model("b", 24, 2);
    write_file("system.json", graph_text);
    rm_strbuf rows = {0};
    for (int i = 0; i < N_QUESTION; i++)
        rm_strbuf_printf(&rows, "{\"question\": \"How many%.*s apples are %d and %d?\", \"answer\": \"#### %d\"}\n", 4 * i,
                         " red green ripe small sweet", i, 2 * i, 3 * i);
    write_file("questions.jsonl", rm_str(&rows));
    rm_strbuf_free(&rows);
    char *path = in_folder("questions.jsonl");
    rm_dataset_options dopt = RM_DATASET_OPTIONS_DEFAULT;
    must(rm_system_open(&shared.sys, folder, &err), &err);
    must(rm_system_locate(&shared.files, shared.sys, &(rm_resolve_options){.links = true}, &err), &err);
    must(rm_exec_new(&shared.exec, 2, NULL, &err), &err);
    must(rm_team_open(&shared.team, shared.exec, shared.sys, &shared.files, &(rm_team_options){RM_EXACT, true, {.date = {2024, 7, 26}}}, &err), &err);
    must(rm_pack_parse(&shared.pack, pack_text, sizeof pack_text - 1, "pack", &err), &err);
    must(rm_dataset_open(&shared.data, "gsm8k", path, &dopt, &err), &err);
    rm_free(path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    rm_dataset_close(shared.data);
    rm_pack_close(shared.pack);
    rm_team_close(shared.team);
    rm_exec_free(shared.exec);
    rm_files_free(&shared.files);
    rm_system_free(shared.sys);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* ---- runs --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    char *text[N_QUESTION][4];
    int n, order[N_QUESTION], stop_after;
    sig_atomic_t *cancel;
} answers;

static void answers_free(answers *a) {
    for (int i = 0; i < N_QUESTION; i++)
        for (int k = 0; k < 4; k++) rm_free(a->text[i][k]);
}

static rmas_status keep(void *ctx, const rm_answer *a, rmas_error *err) {
    answers *o = ctx;
    (void)err;
    o->order[o->n++] = a->index;
    for (int k = 0; k < a->n_rollout; k++) {
        assert_null(o->text[a->index][k]);
        o->text[a->index][k] = rm_strdup(a->text[k]);
        assert_int_equal(a->n_text[k] >= strlen(a->text[k]), 1);
    }
    return RMAS_OK;
}

static rm_run_options usual(void) {
    return (rm_run_options){.n_round = 2,
                            .latent_steps = 3,
                            .batch_size = 4,
                            .max_new_tokens = 20,
                            .temperature = 0.8,
                            .top_p = 0.95,
                            .top_k = -1,
                            .min_p = -1,
                            .seed = 5,
                            .n_rollout = 1,
                            .max_tool_rounds = 5};
}

static void go_on(const rm_dataset *data, const rm_run_options *o, answers *a) {
    rmas_error err = {0};
    *a = (answers){0};
    must(rm_run_check_prompts(shared.sys, shared.pack, data, o, &err), &err);
    must(rm_run(shared.team, shared.pack, data, o, &(rm_run_hooks){.ctx = a, .answer = keep}, &err), &err);
}

static void assert_same_answers(const answers *a, const answers *b) {
    for (int i = 0; i < N_QUESTION; i++)
        if (a->text[i][0] && b->text[i][0]) assert_string_equal(a->text[i][0], b->text[i][0]);
}

static void test_batch_does_not_matter(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers one, many;
    o.batch_size = 1;
    go_on(shared.data, &o, &one);
    assert_int_equal(one.n, N_QUESTION);
    for (int b = 2; b <= 9; b += 3) {
        o.batch_size = b;
        go_on(shared.data, &o, &many);
        assert_int_equal(many.n, N_QUESTION);
        assert_same_answers(&one, &many);
        answers_free(&many);
    }
    answers_free(&one);
}

/* Alone, a question has nothing to share a beginning with; and its random stream is that of its row. */
static void test_alone_as_among_others(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers all, alone;
    rmas_error err = {0};
    char *path = in_folder("questions.jsonl");
    o.n_round = 3;
    go_on(shared.data, &o, &all);
    for (int i = 0; i < N_QUESTION; i += 3) {
        rm_dataset *one;
        rm_dataset_options dopt = RM_DATASET_OPTIONS_DEFAULT;
        dopt.first = i;
        dopt.num_samples = 1;
        must(rm_dataset_open(&one, "gsm8k", path, &dopt, &err), &err);
        go_on(one, &o, &alone);
        assert_int_equal(alone.n, 1);
        assert_string_equal(alone.text[0][0], all.text[i][0]);
        answers_free(&alone);
        rm_dataset_close(one);
    }
    rm_free(path);
    answers_free(&all);
}

/* Latents do arrive: other rounds, steps and links give other answers; without latent steps rounds mean nothing. */
static void test_latents_matter(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers a, b;
    int differ = 0;
    o.max_new_tokens = 200;
    o.n_round = 1;
    go_on(shared.data, &o, &a);
    o.n_round = 2;
    go_on(shared.data, &o, &b);
    for (int i = 0; i < N_QUESTION; i++) differ += strcmp(a.text[i][0], b.text[i][0]) != 0;
    assert_true(differ > 0);
    answers_free(&a);
    answers_free(&b);
    o.latent_steps = 0;
    go_on(shared.data, &o, &a);
    o.n_round = 1;
    go_on(shared.data, &o, &b);
    assert_same_answers(&a, &b);
    answers_free(&a);
    answers_free(&b);
}

/* Controls: messages of another question or zeros change answers; a question that is alone has only its own, and zeros do not depend on the batch. */
static void test_message_controls(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers own, control, again;
    int differ[2] = {0};
    o.max_new_tokens = 200;
    go_on(shared.data, &o, &own);
    for (int k = 0; k < 2; k++) {
        o.messages = k ? RM_MESSAGES_ZERO : RM_MESSAGES_OTHER;
        o.batch_size = N_QUESTION;
        go_on(shared.data, &o, &control);
        for (int i = 0; i < N_QUESTION; i++) differ[k] += strcmp(own.text[i][0], control.text[i][0]) != 0;
        o.batch_size = 1;
        go_on(shared.data, &o, &again);
        assert_same_answers(&again, k ? &control : &own);
        answers_free(&control);
        answers_free(&again);
    }
    assert_true(differ[0] > 0 && differ[1] > 0);
    answers_free(&own);
}

static void test_rollouts(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers one, three;
    int differ = 0;
    go_on(shared.data, &o, &one);
    o.n_rollout = 3;
    go_on(shared.data, &o, &three);
    assert_same_answers(&one, &three);
    for (int i = 0; i < N_QUESTION; i++) differ += strcmp(three.text[i][0], three.text[i][1]) != 0 && strcmp(three.text[i][1], three.text[i][2]) != 0;
    assert_true(differ > 0);
    answers_free(&three);
    o.temperature = 0;
    go_on(shared.data, &o, &three);
    for (int i = 0; i < N_QUESTION; i++) assert_string_equal(three.text[i][0], three.text[i][2]);
    answers_free(&three);
    /* rollout k is what a run with seed + k gives */
    answers_free(&one);
    o = usual();
    o.seed++;
    go_on(shared.data, &o, &one);
    o.seed--;
    o.n_rollout = 2;
    go_on(shared.data, &o, &three);
    for (int i = 0; i < N_QUESTION; i++) assert_string_equal(one.text[i][0], three.text[i][1]);
    answers_free(&one);
    answers_free(&three);
}

static void test_text_mode(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers one, many;
    o.text = true;
    o.batch_size = 1;
    go_on(shared.data, &o, &one);
    o.batch_size = 5;
    go_on(shared.data, &o, &many);
    assert_int_equal(many.n, N_QUESTION);
    assert_same_answers(&one, &many);
    answers_free(&one);
    answers_free(&many);
}

static void test_recording_changes_nothing(void **state) {
    (void)state;
    rm_run_options o = usual();
    answers plain, recorded;
    char *dir = in_folder("record");
    go_on(shared.data, &o, &plain);
    o.record = dir;
    go_on(shared.data, &o, &recorded);
    assert_same_answers(&plain, &recorded);
    char *path = in_folder("record/000003.json");
    assert_true(rm_path_exists(path));
    rm_free(path);
    rm_free(dir);
    answers_free(&plain);
    answers_free(&recorded);
}

/* ---- tools -------------------------------------------------------------------------------------------------------------- */

static rm_replay *replay_of(const char *lines) {
    rmas_error err = {0};
    rm_replay *r;
    char *path = in_folder("replay.jsonl");
    write_file("replay.jsonl", lines);
    must(rm_replay_open(&r, path, shared.team, 2, &err), &err);
    rm_free(path);
    return r;
}

static void test_tool_loops(void **state) {
    (void)state;
    /* what follows the tag in the same call is dropped by the reference's loop; the other one stops at the tag */
    rm_replay *r = replay_of("{\"index\": 0, \"role\": \"editor\", \"text\": \"I look. <search>the moon</search>\"}\n"
                             "{\"index\": 0, \"role\": \"editor\", \"call\": 1, \"text\": \" \\\\boxed{7}\"}\n"
                             "{\"index\": 1, \"role\": \"editor\", \"text\": \"<python>1</python>\"}\n"
                             "{\"index\": 2, \"role\": \"editor\", \"text\": \"no tool \\\\boxed{1}\"}\n"
                             "{\"index\": 3, \"role\": \"editor\", \"text\": \"open <python>1\"}\n"
                             "{\"index\": 4, \"role\": \"editor\", \"text\": \"\"}\n{\"index\": 5, \"role\": \"editor\", \"text\": \"\"}\n"
                             "{\"index\": 6, \"role\": \"editor\", \"text\": \"\"}\n");
    rm_run_options o = usual();
    answers a;
    o.replay = r;
    o.max_new_tokens = 60;
    for (int reference = 0; reference < 2; reference++) {
        o.reference_loop = reference;
        go_on(shared.data, &o, &a);
        assert_string_equal(a.text[0][0], "I look. <search>the moon</search> <result> nothing about the moon </result> \\boxed{7}");
        assert_string_equal(a.text[1][0], "<python>1</python> <result> [python is switched off in this run] </result>");
        assert_string_equal(a.text[2][0], "no tool \\boxed{1}");
        assert_string_equal(a.text[3][0], "open <python>1");
        assert_string_equal(a.text[4][0], "");
        answers_free(&a);
    }
    o.reference_loop = false;
    o.max_tool_rounds = 0; /* the call is refused, and the text may go on */
    go_on(shared.data, &o, &a);
    assert_string_equal(a.text[0][0], "I look. <search>the moon</search> <result> [tool limit reached after 0 calls] </result> \\boxed{7}");
    answers_free(&a);
    rm_replay_close(r);
}

typedef struct {
    volatile sig_atomic_t *cancel;
} stopper;

static rmas_status stop_at_first(void *ctx, const rm_answer *a, rmas_error *err) {
    (void)a, (void)err;
    *((stopper *)ctx)->cancel = 1;
    return RMAS_OK;
}

/* Programs that the models write are run, and the models go on behind the results: a slow call holds up its own row only, and
 * no answer depends on how long a neighbour's call takes. */
static void test_tools_hold_up_nobody(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_sandbox *sandbox;
    if (rm_sandbox_new(&sandbox, NULL, &err) != RMAS_OK) {
        print_message("SKIP tools: %s\n", err.msg);
        return;
    }
    rm_run_options o = usual();
    answers one, all;
    o.allow_python = true;
    o.sandbox = sandbox;
    o.max_new_tokens = 60;
    o.temperature = 3;
    o.max_tool_rounds = 2;
    o.batch_size = 1;
    go_on(shared.data, &o, &one);
    o.batch_size = N_QUESTION;
    go_on(shared.data, &o, &all);
    assert_same_answers(&one, &all);
    int n_slow = 0, n_fast = 0, overtaken = 0;
    for (int i = 0; i < N_QUESTION; i++) {
        bool slow = strstr(all.text[i][0], "</python> <result> slow </result>");
        n_slow += slow;
        n_fast += strstr(all.text[i][0], "</python> <result> fast </result>") != NULL;
    }
    for (int k = 0; k < all.n; k++) /* finished before a slow one that stands before it */
        for (int l = k + 1; l < all.n; l++) overtaken += all.order[k] > all.order[l] && strstr(all.text[all.order[l]][0], "<result> slow");
    print_message("%d slow, %d fast, %d overtaken\n", n_slow, n_fast, overtaken);
    assert_true(n_slow > 0 && n_fast > 0 && overtaken > 0);
    answers_free(&one);
    answers_free(&all);
    /* a run that is stopped does not wait for a program */
    rm_replay *r = replay_of("{\"index\": 0, \"role\": \"editor\", \"text\": \"<python>import time; time.sleep(60)</python>\"}\n");
    volatile sig_atomic_t cancel = 0;
    stopper stop = {&cancel};
    o.replay = r;
    o.tool.timeout_s = 90;
    o.cancel = &cancel;
    time_t start = time(NULL);
    assert_int_equal(rm_run(shared.team, shared.pack, shared.data, &o, &(rm_run_hooks){.ctx = &stop, .answer = stop_at_first}, &err),
                     RMAS_E_CANCELLED);
    assert_true(time(NULL) - start < 30);
    rm_replay_close(r);
    rm_sandbox_free(sandbox);
}

/* A call behind which the model goes on itself: the kept cache must hold what a fresh computation would. The row's text is
 * compared with batch sizes 1 and 4, where its neighbours are at other places. */
static void test_retry_and_replay(void **state) {
    (void)state;
    rm_replay *r = replay_of("{\"index\": 0, \"role\": \"editor\", \"text\": \"nothing\"}\n{\"index\": 0, \"role\": \"editor\", \"kind\": \"retry\", "
                             "\"text\": \"12}\"}\n");
    rm_run_options o = usual();
    answers a, b;
    o.replay = r;
    o.ans = true;
    go_on(shared.data, &o, &a);
    assert_string_equal(a.text[0][0], "nothing\nAnswer: \\boxed{12}");
    o.batch_size = 1;
    go_on(shared.data, &o, &b);
    assert_same_answers(&a, &b);
    answers_free(&a);
    answers_free(&b);
    rm_replay_close(r);
}

/* ---- results ------------------------------------------------------------------------------------------------------------- */

typedef struct {
    rm_results *results;
    int n, stop_after;
    volatile sig_atomic_t cancel;
} grading;

static rmas_status grade(void *ctx, const rm_answer *a, rmas_error *err) {
    grading *g = ctx;
    rm_verdict v;
    RM_TRY(rm_results_add(g->results, a, &v, err));
    rm_verdict_free(&v);
    if (++g->n == g->stop_after) g->cancel = 1;
    return RMAS_OK;
}

static bool known(void *ctx, int index) { return rm_results_has(((grading *)ctx)->results, index); }

static rmas_status graded_run(const char *name, bool resume, int stop_after, uint64_t seed, int *n, rmas_error *err) {
    rm_run_options o = usual();
    grading g = {.stop_after = stop_after};
    char *path = in_folder(name);
    o.cancel = &g.cancel;
    o.ans = true;
    o.seed = seed;
    o.batch_size = 3;
    rm_results_options ro = {
        .data = shared.data, .sys = shared.sys, .run = &o, .dataset = "gsm8k", .method = "latent", .path = path, .resume = resume};
    rmas_status st = rm_results_open(&g.results, &ro, err);
    if (st == RMAS_OK) st = rm_run(shared.team, shared.pack, shared.data, &o, &(rm_run_hooks){.ctx = &g, .answer = grade, .skip = known}, err);
    if (st == RMAS_OK) st = rm_results_finish(g.results, err);
    *n = g.n;
    rm_results_close(g.results);
    rm_free(path);
    return st;
}

static char *read_whole(const char *name, size_t *n) {
    rmas_error err = {0};
    char *path = in_folder(name), *text;
    must(rm_file_read(&text, n, path, 1 << 20, &err), &err);
    rm_free(path);
    return text;
}

static void test_resume_gives_the_same_file(void **state) {
    (void)state;
    rmas_error err = {0};
    size_t n_whole, n_part;
    int n;
    must(graded_run("whole.jsonl", false, 0, 5, &n, &err), &err);
    assert_int_equal(n, N_QUESTION);
    char *whole = read_whole("whole.jsonl", &n_whole);
    assert_int_equal(graded_run("part.jsonl", false, 2, 5, &n, &err), RMAS_E_CANCELLED);
    assert_true(n >= 2 && n < N_QUESTION);
    int before = n;
    assert_int_equal(graded_run("part.jsonl", false, 0, 5, &n, &err), RMAS_E_ARG); /* not overwritten */
    char *part = read_whole("part.jsonl", &n_part);
    part[n_part - 9] = 0; /* the machine went down in the middle of a line */
    write_file("part.jsonl", part);
    rm_free(part);
    assert_int_equal(graded_run("part.jsonl", true, 0, 6, &n, &err), RMAS_E_ARG); /* other settings */
    assert_non_null(strstr(err.msg, "other settings"));
    must(graded_run("part.jsonl", true, 0, 5, &n, &err), &err);
    assert_int_equal(n, N_QUESTION - before + 1);
    part = read_whole("part.jsonl", &n_part);
    assert_int_equal(n_part, n_whole);
    assert_memory_equal(part, whole, n_whole);
    rm_free(part);
    must(graded_run("part.jsonl", true, 0, 5, &n, &err), &err); /* nothing is left to do */
    assert_int_equal(n, 0);
    part = read_whole("part.jsonl", &n_part);
    assert_memory_equal(part, whole, n_whole);
    rm_free(part);
    rm_free(whole);
}

/* Results without a file are graded and counted all the same. */
static void test_results_without_file(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_run_options o = usual();
    rm_results *r;
    rm_verdict v = {0};
    char text[] = "\\boxed{3}", *texts[] = {text};
    size_t n_text[] = {9};
    int n_token[] = {3};
    bool retried[] = {false};
    rm_answer a = {.index = 1, .item = &shared.data->v[1], .n_rollout = 1, .text = texts, .n_text = n_text, .n_token = n_token, .retried = retried};
    rm_results_options ro = {.data = shared.data, .sys = shared.sys, .run = &o, .dataset = "gsm8k", .method = "latent"};
    must(rm_results_open(&r, &ro, &err), &err);
    must(rm_results_add(r, &a, &v, &err), &err);
    assert_true(v.graded && v.correct && v.strict);
    assert_int_equal(rm_results_score(r).correct, 1);
    rm_verdict_free(&v);
    rm_results_close(r);
}

/* Copies of a model count as one model, down to the last byte. */
static void test_same_model(void **state) {
    (void)state;
    rmas_error err = {0};
    bool same;
    char *a = in_folder("a"), *b = in_folder("b"), *copy = in_folder("copy"), command[400], *last_file = in_folder("copy/model.safetensors");
    snprintf(command, sizeof command, "cp -r '%s' '%s' && ln -s a '%s/link'", a, copy, folder);
    assert_int_equal(system(command), 0);
    char *link = in_folder("link");
    must(rm_same_model(a, copy, &same, &err), &err);
    assert_true(same);
    must(rm_same_model(a, link, &same, &err), &err);
    assert_true(same);
    must(rm_same_model(a, b, &same, &err), &err);
    assert_false(same);
    must(rm_same_model(a, last_file, &same, &err), &err);
    assert_false(same);
    FILE *f = fopen(last_file, "r+b"); /* the last byte */
    assert_non_null(f);
    fseek(f, -1, SEEK_END);
    int last = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(last ^ 1, f);
    fclose(f);
    must(rm_same_model(a, copy, &same, &err), &err);
    assert_false(same);
    rm_free(a);
    rm_free(b);
    rm_free(copy);
    rm_free(link);
    rm_free(last_file);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------- */

static void test_prompts_are_checked_first(void **state) {
    (void)state;
    static const char wrong[] = "rmas-prompts 1\n=== system\nx\n=== review/author\n{{question}}\n=== review/author/feedback\n{{slot:editor}}\n"
                                "=== review/ca\n{{slot:author}}\n=== review/cb\nno slot\n=== review/editor\n{{slot:ca}}{{slot:cb}}\n=== retry\nx\n";
    rmas_error err = {0};
    rm_pack *pack;
    rm_run_options o = usual();
    must(rm_pack_parse(&pack, wrong, sizeof wrong - 1, "wrong", &err), &err);
    assert_int_not_equal(rm_run_check_prompts(shared.sys, pack, shared.data, &o, &err), RMAS_OK);
    assert_non_null(strstr(err.msg, "review/cb"));
    rm_pack_close(pack);
    o.max_new_tokens = 0;
    assert_int_equal(rm_run(shared.team, shared.pack, shared.data, &o, &(rm_run_hooks){0}, &err), RMAS_E_ARG);
}

/* Any allocation of a run may fail: an error comes back, and nothing is lost (the sanitizers look). */
static void test_out_of_memory(void **state) {
    (void)state;
    rm_run_options o = usual();
    o.max_new_tokens = 3;
    o.latent_steps = 2;
    o.ans = true;
    rmas_error err = {0};
    int failed = 0;
    for (long n = 1; n < 4000; n += 1 + n / 12) {
        answers a = {0};
        rm_mem_fail_after(n);
        rmas_status st = rm_run(shared.team, shared.pack, shared.data, &o, &(rm_run_hooks){.ctx = &a}, &err);
        rm_mem_fail_after(0);
        if (st == RMAS_OK) break;
        failed++;
        assert_int_equal(st, RMAS_E_NOMEM);
    }
    assert_true(failed > 20);
}

static int keep_answer(void *ctx, int question, const char *text, int n_token) {
    (void)n_token;
    assert_int_equal(question, 0);
    strcat(strcat(ctx, text), "|");
    return 0;
}

/* The public interface: what is at most 0 is off, and the manifest's thinking is the templates'. */
static void test_public_run(void **state) {
    (void)state;
    rmas_error err = {0};
    rmas_engine *e;
    rmas_system *s;
    rmas_run_params p;
    const char *const question[] = {"How many?", NULL};
    char off[2048] = "", other[2048] = "", *pack = in_folder("own.prompts");
    rm_strbuf b = {0};
    rm_strbuf_printf(&b, "{\"prompts\": \"own.prompts\", \"defaults\": {\"enable_thinking\": 1, \"max_new_tokens\": 40}, %s", graph_text + 1);
    must(rm_file_write(pack, pack_text, sizeof pack_text - 1, &err), &err);
    write_file("thinks.json", rm_str(&b));
    rm_strbuf_free(&b);
    rm_free(pack);
    must(rmas_engine_new(&e, 1, NULL, &err), &err);
    char *path = in_folder("thinks.json");
    must(rmas_system_open(&s, e, path, RMAS_EXACT, &err), &err);
    rmas_run_params_init(&p);
    p.n_latent = 2;
    p.sampling.temperature = 30;
    p.sampling.seed = 3;
    must(rmas_system_run(s, question, 1, &p, keep_answer, off, &err), &err);
    p.sampling.top_k = p.sampling.min_p = -1;
    must(rmas_system_run(s, question, 1, &p, keep_answer, other, &err), &err);
    assert_string_equal(other, off);
    assert_null(strstr(off, "after 0 calls"));
    assert_int_equal(rmas_system_run(s, question, 2, &p, keep_answer, other, &err), RMAS_E_ARG);
    rmas_system_close(s);
    rmas_engine_free(e);
    rm_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_does_not_matter),
        cmocka_unit_test(test_alone_as_among_others),
        cmocka_unit_test(test_latents_matter),
        cmocka_unit_test(test_message_controls),
        cmocka_unit_test(test_rollouts),
        cmocka_unit_test(test_text_mode),
        cmocka_unit_test(test_recording_changes_nothing),
        cmocka_unit_test(test_tool_loops),
        cmocka_unit_test(test_tools_hold_up_nobody),
        cmocka_unit_test(test_retry_and_replay),
        cmocka_unit_test(test_resume_gives_the_same_file),
        cmocka_unit_test(test_results_without_file),
        cmocka_unit_test(test_same_model),
        cmocka_unit_test(test_prompts_are_checked_first),
        cmocka_unit_test(test_public_run),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
