/* rmas bench: tokens per second of a model (prefill, decoding, latent rollouts), and the ceilings of the machine. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "kern/kern.h"
#include "link/link.h"
#include "machine.h"
#include "profile.h"
#include "sample/sample.h"
#include "session/session.h"
#include "tensor/profile.h"
#include "util/mem.h"

enum { MAX_TESTS = 16, MAX_REPEAT = 100, MAX_BATCH = 1024 };

typedef struct {
    int64_t prompt, gen, steps, context, threads, repeat;
    const char *batch, *link, *isa, *dtype, *profile_json;
    bool jsonl, machine, cpu_time, profile;
} options;

typedef struct {
    const options *o;
    const char *name; /* of the model, without folders */
    rm_exec *e;
    rm_model *m;
    rm_link *link;
    rm_batch *batch;
    double bytes, ops; /* read and computed (2 per weight) by one position through layers and head */
    double layer_ops, last_ops; /* of all layers; of the last one behind its mixer, which prompts take for their last position only */
} bench;

static clockid_t clock_of(const bench *b) { return b->o->cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC; }

static double now(const bench *b) {
    struct timespec t;
    clock_gettime(clock_of(b), &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One line for people or one JSON object. seconds: sorted here. bytes, ops: per call of `calls` that took that time. */
static void report(const bench *b, const char *test, int n_batch, int64_t n, double *seconds, double bytes, double ops) {
    int r = (int)b->o->repeat;
    qsort(seconds, (size_t)r, sizeof *seconds, by_value);
    double median = r % 2 ? seconds[r / 2] : (seconds[r / 2 - 1] + seconds[r / 2]) / 2, tokens = (double)n_batch * (double)n;
    if (!b->o->jsonl) {
        printf("%-8s batch %3d x %4lld  %9.1f tok/s  (%.1f to %.1f)  %6.1f GB/s  %7.1f GFLOP/s\n", test, n_batch, (long long)n, tokens / median,
               tokens / seconds[r - 1], tokens / seconds[0], bytes / median * 1e-9, ops / median * 1e-9);
        fflush(stdout);
        return;
    }
    json_t *j = json_pack("{s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:i, s:s, s:s}", "test", test, "batch", n_batch, "n", (json_int_t)n, "tok_s",
                          tokens / median, "tok_s_min", tokens / seconds[r - 1], "tok_s_max", tokens / seconds[0], "gb_s", bytes / median * 1e-9,
                          "gflop_s", ops / median * 1e-9, "threads", rm_pool_size(b->e->pool), "isa", b->e->kern->name, "model", b->name);
    if (j) json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(j);
    printf("\n");
    fflush(stdout);
}

/* ---- a model ------------------------------------------------------------------------------------------------------------------ */

static int32_t synthetic(const bench *b, int seq, int64_t pos) {
    return (int32_t)(rm_mix64((uint64_t)seq << 32 | (uint64_t)pos) % (uint64_t)rm_model_config(b->m)->n_vocab);
}

/* New sequences with n synthetic tokens each; timed. */
static rmas_status prefill(bench *b, rm_seq **seq, int n_seq, int64_t n, double *seconds, rmas_error *err) {
    int32_t *id = rm_array((size_t)n_seq, (size_t)n * sizeof *id);
    rm_feed *feed = rm_calloc((size_t)n_seq, sizeof *feed);
    rmas_status s = id && feed ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for %d prompts", n_seq);
    for (int i = 0; i < n_seq && s == RMAS_OK; i++) {
        for (int64_t k = 0; k < n; k++) id[(size_t)i * (size_t)n + (size_t)k] = synthetic(b, i, k);
        s = rm_seq_new(&seq[i], b->m, err);
        feed[i] = (rm_feed){.seq = seq[i], .n = (int)n, .tokens = id + (size_t)i * (size_t)n, .want_logits = true};
    }
    double t = now(b);
    if (s == RMAS_OK) s = rm_batch_forward(b->batch, feed, n_seq, err);
    *seconds = now(b) - t;
    rm_free(id);
    rm_free(feed);
    return s;
}

/* n steps: greedy tokens, or hidden states through the link. */
static rmas_status steps(bench *b, rm_seq **seq, int n_seq, int64_t n, bool latent, double *seconds, rmas_error *err) {
    const rm_config *c = rm_model_config(b->m);
    size_t d = (size_t)c->d_model;
    int32_t *id = rm_array((size_t)n_seq, sizeof *id);
    rm_feed *feed = rm_calloc((size_t)n_seq, sizeof *feed);
    float *hidden = rm_array((size_t)n_seq * 2, d * sizeof *hidden);
    rmas_status s = id && feed && hidden ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for %d sequences", n_seq);
    float *embeds = hidden ? hidden + (size_t)n_seq * d : NULL;
    for (int i = 0; i < n_seq && s == RMAS_OK; i++) {
        id[i] = synthetic(b, i, -1);
        feed[i] = (rm_feed){.seq = seq[i], .n = 1, .want_logits = !latent, .step = true};
        if (latent)
            feed[i].embeds = embeds + (size_t)i * d;
        else
            feed[i].tokens = &id[i];
    }
    if (s == RMAS_OK && latent) s = rm_model_embed(b->m, id, n_seq, embeds, err);
    double t = now(b);
    for (int64_t k = 0; k < n && s == RMAS_OK; k++) {
        s = rm_batch_forward(b->batch, feed, n_seq, err);
        if (s != RMAS_OK) break;
        if (!latent) rm_time_to(b->e, RM_TIME_SAMPLE);
        for (int i = 0; i < n_seq; i++) {
            if (latent)
                memcpy(hidden + (size_t)i * d, rm_batch_hidden(b->batch, i), d * sizeof *hidden);
            else
                id[i] = rm_argmax(rm_batch_logits(b->batch, i), c->n_vocab, NULL);
        }
        if (latent) s = rm_link_apply(b->link, hidden, n_seq, embeds, err);
        for (int i = 0; i < n_seq && !latent; i++)
            if (id[i] < 0) s = rm_fail(err, RMAS_E_FORMAT, "%s: the logits are not numbers", b->name);
    }
    *seconds = now(b) - t;
    rm_free(id);
    rm_free(feed);
    rm_free(hidden);
    return s;
}

typedef enum { PREFILL, DECODE, ROLLOUT } test_kind;
static const char *const TEST_NAMES[] = {"prefill", "decode", "rollout"};

static rmas_status run_test(bench *b, test_kind kind, int n_batch, rmas_error *err) {
    double seconds[MAX_REPEAT], ignored;
    int64_t n = kind == PREFILL ? b->o->prompt : kind == DECODE ? b->o->gen : b->o->steps;
    if (n <= 0) return RMAS_OK;
    static const rm_phase phase[] = {RM_PHASE_PREFILL, RM_PHASE_DECODE, RM_PHASE_LATENT};
    char label[32];
    rmas_status s = RMAS_OK;
    snprintf(label, sizeof label, "batch %d", n_batch);
    for (int64_t r = -1; r < b->o->repeat && s == RMAS_OK; r++) { /* the first run warms up */
        rm_seq *seq[MAX_BATCH] = {0};
        double *t = r < 0 ? &ignored : &seconds[r];
        if (kind == PREFILL) {
            if (r >= 0) rm_time_stage(b->e, label, 0, phase[kind]);
            s = prefill(b, seq, n_batch, n, t, err);
        } else {
            if (b->o->context > 0) s = prefill(b, seq, n_batch, b->o->context, &ignored, err);
            for (int i = 0; i < n_batch && s == RMAS_OK && b->o->context <= 0; i++) s = rm_seq_new(&seq[i], b->m, err);
            if (r >= 0) rm_time_stage(b->e, label, 0, phase[kind]);
            if (s == RMAS_OK) s = steps(b, seq, n_batch, r < 0 && n > 4 ? 4 : n, kind == ROLLOUT, t, err);
        }
        rm_time_stage(b->e, "", 0, RM_PHASE_NONE); /* warming up, contexts */
        rm_time_to(b->e, RM_TIME_OTHER);
        for (int i = 0; i < n_batch; i++) rm_seq_free(seq[i]);
    }
    if (s != RMAS_OK) return s;
    double tokens = (double)n * n_batch, head = b->ops - b->layer_ops;
    if (kind == PREFILL)
        report(b, TEST_NAMES[kind], n_batch, n, seconds, b->bytes, tokens * (b->layer_ops - b->last_ops) + n_batch * (b->last_ops + head));
    else if (kind == DECODE)
        report(b, TEST_NAMES[kind], n_batch, n, seconds, (double)n * b->bytes, tokens * b->ops);
    else
        report(b, TEST_NAMES[kind], n_batch, n, seconds, (double)n * b->bytes * (b->layer_ops / b->ops), tokens * b->layer_ops);
    return RMAS_OK;
}

/* Does the matrix belong to layer il and stand behind its mixer? */
static bool is_behind_mixer(const char *name, int il) {
    static const char *const part[] = {"o_proj", "out_proj", "attn_output", "ssm_out", "mlp.", "ffn_"};
    char layer[16];
    snprintf(layer, sizeof layer, ".%d.", il);
    if (!strstr(name, layer)) return false;
    for (size_t i = 0; i < RM_COUNT(part); i++)
        if (strstr(name, part[i])) return true;
    return false;
}

/* What one position reads and computes: all matrices, of the embedding only if it is the head too. */
static void count_work(bench *b) {
    const rm_weights *w = rm_model_weights(b->m);
    const rm_config *c = rm_model_config(b->m);
    for (int i = 0; i < rm_weights_count(w); i++) {
        const rm_tensor *t = rm_weights_at(w, i);
        if (t->n_dim != 2) continue;
        bool embed = strstr(t->name, "embed_tokens") || strstr(t->name, "token_embd"),
             head = strstr(t->name, "lm_head") || !strcmp(t->name, "output.weight");
        if (strstr(t->name, "vision") || strstr(t->name, "visual") || strstr(t->name, "mtp") || (embed && !c->tied) || (head && c->tied)) continue;
        b->bytes += (double)t->n_bytes;
        b->ops += 2.0 * (double)rm_tensor_count(t);
        if (!embed && !head) b->layer_ops += 2.0 * (double)rm_tensor_count(t);
        if (is_behind_mixer(t->name, c->n_layer - 1)) b->last_ops += 2.0 * (double)rm_tensor_count(t);
    }
}

static rmas_status parse_batches(const char *text, int *batch, int *n, rmas_error *err) {
    for (*n = 0; *text;) {
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || v < 1 || v > MAX_BATCH || *n == MAX_TESTS || (*end && *end != ','))
            return rm_fail(err, RMAS_E_ARG, "--batch '%s': expected up to %d numbers from 1 to %d with commas", text, MAX_TESTS, MAX_BATCH);
        batch[(*n)++] = (int)v;
        text = *end ? end + 1 : end;
    }
    return RMAS_OK;
}

static rmas_status bench_model(bench *b, const char *path, rmas_error *err) {
    const options *o = b->o;
    int batch[MAX_TESTS], n_batch;
    RM_TRY(parse_batches(o->batch, batch, &n_batch, err));
    const char *slash = strrchr(path, '/');
    b->name = slash && slash[1] ? slash + 1 : path;
    rm_precision p = strcmp(o->dtype, "f32") == 0 ? RM_EXACT : RM_NATIVE;
    double t = now(b);
    if (o->profile || o->profile_json) RM_TRY(rm_profile_start(b->e, err));
    rm_time_to(b->e, RM_TIME_LOAD);
    RM_TRY(rm_model_open(&b->m, b->e, path, p, err));
    rm_time_to(b->e, RM_TIME_OTHER);
    t = now(b) - t;
    RM_TRY(rm_batch_new(&b->batch, b->m, err));
    int d = rm_model_config(b->m)->d_model;
    if (o->link)
        RM_TRY(rm_link_open(&b->link, b->e, o->link, NULL, p, err));
    else if (o->steps > 0)
        RM_TRY(rm_link_new(&b->link, b->e, "ln_res_adapter", d, d, 1, err));
    if (b->link && (rm_link_d_in(b->link) != d || rm_link_d_out(b->link) != d))
        return rm_fail(err, RMAS_E_SHAPE, "%s: a link from %d to %d does not lead from this model (%d) to itself", o->link, rm_link_d_in(b->link),
                       rm_link_d_out(b->link), d);
    count_work(b);
    if (!o->jsonl)
        printf("%s: %.0f MB, %s, %d threads, opened in %.0f ms\n", b->name, (double)rm_model_bytes(b->m) / 1e6, b->e->kern->name,
               rm_pool_size(b->e->pool), t * 1e3);
    RM_TRY(run_test(b, PREFILL, 1, err));
    for (int i = 0; i < n_batch; i++) RM_TRY(run_test(b, DECODE, batch[i], err));
    for (int i = 0; i < n_batch && b->link; i++) RM_TRY(run_test(b, ROLLOUT, batch[i], err));
    return b->e->profile ? rm_profile_report(b->e, o->profile, o->profile_json, err) : RMAS_OK;
}

static rmas_status bench_machine(bench *b, rmas_error *err) {
    double seconds[MAX_REPEAT];
    b->name = "machine";
    for (int i = 0; i < RM_N_CEILING; i++) {
        rm_ceiling_work work;
        RM_TRY(rm_machine_time(b->e, (rm_ceiling)i, (int)b->o->repeat, clock_of(b), seconds, &work, err));
        report(b, rm_ceiling_name((rm_ceiling)i), work.n_row, 1, seconds, work.bytes, work.ops);
    }
    return RMAS_OK;
}

int cmd_bench(int argc, char **argv) {
    options o = {.prompt = 256, .gen = 64, .context = 64, .repeat = 5, .batch = "1,4,16", .dtype = "native"};
    const rm_opt opts[] = {
        {"prompt", RM_OPT_INT, &o.prompt, NULL, "N", "tokens of the prefill test (256); 0: none"},
        {"gen", RM_OPT_INT, &o.gen, NULL, "N", "tokens of the decoding test (64); 0: none"},
        {"batch", RM_OPT_STRING, &o.batch, NULL, "LIST", "sequences decoded together (1,4,16)"},
        {"context", RM_OPT_INT, &o.context, NULL, "N", "tokens before decoding or rolling out (64)"},
        {"link", RM_OPT_STRING, &o.link, NULL, "FILE", "link of the rollout test; default: an untrained one"},
        {"steps", RM_OPT_INT, &o.steps, NULL, "M", "latent steps of the rollout test (0: no such test)"},
        {"threads", RM_OPT_INT, &o.threads, NULL, "N", "threads; 0: all processors"},
        {"isa", RM_OPT_STRING, &o.isa, NULL, "NAME", "instruction set: portable, avx2, avx-vnni, avx512, avx512-intel, amx, neon, neon-dot"},
        {"dtype", RM_OPT_STRING, &o.dtype, NULL, "NAME", "native (default) or f32"},
        {"repeat", RM_OPT_INT, &o.repeat, NULL, "N", "measured runs per test (5)"},
        {"cpu_time", RM_OPT_FLAG, &o.cpu_time, NULL, NULL, "with --threads 1: count processor time, for busy machines"},
        {"jsonl", RM_OPT_FLAG, &o.jsonl, NULL, NULL, "one JSON object per test"},
        {"profile", RM_OPT_FLAG, &o.profile, NULL, NULL, "where the time goes, as a table on stderr"},
        {"profile_json", RM_OPT_STRING, &o.profile_json, NULL, "FILE", "the same as JSON"},
        {"machine", RM_OPT_FLAG, &o.machine, NULL, NULL, "measure the machine: read bandwidth, products"},
        {0},
    };
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas bench MODEL [options], rmas bench --machine", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    bench b = {.o = &o};
    rmas_status s = RMAS_OK;
    if (n_word != (o.machine ? 0 : 1))
        s = rm_fail(&err, RMAS_E_ARG, o.machine ? "--machine takes no model" : "needs one model: a folder or a .gguf file");
    else if (o.repeat < 1 || o.repeat > MAX_REPEAT)
        s = rm_fail(&err, RMAS_E_ARG, "--repeat: %lld is not between 1 and %d", (long long)o.repeat, MAX_REPEAT);
    else if (o.threads < 0 || o.threads > 1024)
        s = rm_fail(&err, RMAS_E_ARG, "--threads: %lld is not between 0 and 1024", (long long)o.threads);
    else if (o.cpu_time && o.threads != 1)
        s = rm_fail(&err, RMAS_E_ARG, "--cpu-time needs --threads 1: waiting threads count too");
    else if (strcmp(o.dtype, "native") && strcmp(o.dtype, "f32"))
        s = rm_fail(&err, RMAS_E_ARG, "--dtype '%s': expected native or f32", o.dtype);
    else if (o.prompt > 1000000 || o.gen > 1000000 || o.steps > 1000000 || o.context > 1000000)
        s = rm_fail(&err, RMAS_E_ARG, "more than a million tokens");
    if (s == RMAS_OK && o.link && o.steps <= 0) o.steps = 32;
    if (s == RMAS_OK) s = rm_exec_new(&b.e, (int)o.threads, o.isa, &err);
    if (s == RMAS_OK) s = o.machine ? bench_machine(&b, &err) : bench_model(&b, argv[1], &err);
    rm_batch_free(b.batch);
    rm_link_close(b.link);
    rm_model_close(b.m);
    rm_exec_free(b.e);
    return s == RMAS_OK ? 0 : rm_cli_fail(argv[0], &err);
}
