/* rmas generate MODEL "prompt": one model answers, as its tokens come. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "prompt/prompt.h"
#include "sample/sample.h"
#include "session/session.h"
#include "system/resolve.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/utf8.h"

enum { MAX_PROMPT = 64 << 20, CHUNK = 256 /* prompt tokens between two looks at Ctrl-C */ };

typedef struct {
    const char *file, *system, *isa, *dtype, *date;
    int64_t max_new, top_k, seed, threads;
    double temperature, top_p, min_p;
    bool raw, thinking, ignore_eos, special, quiet;
} options;

typedef struct {
    const options *o;
    rm_exec *exec;
    rm_model *model;
    rm_tok *tok;
    rm_generation_config gen;
    rm_batch *batch;
    rm_seq *seq;
    rm_ids ids; /* the prompt */
    rm_strbuf held; /* bytes of a character that is not complete */
    const volatile sig_atomic_t *interrupted;
    int n_out; /* tokens generated */
    double t_prompt, t_out; /* seconds */
} state;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the prompt ----------------------------------------------------------------------------------------------------- */

static rmas_status read_stdin(rm_strbuf *out, rmas_error *err) {
    char buf[4096];
    for (size_t n; (n = fread(buf, 1, sizeof buf, stdin)) > 0;) {
        rm_strbuf_add(out, buf, n);
        if (out->n > MAX_PROMPT) return rm_fail(err, RMAS_E_ARG, "standard input: more than %d MiB", MAX_PROMPT >> 20);
    }
    return out->failed ? rm_fail(err, RMAS_E_NOMEM, "out of memory") : RMAS_OK;
}

/* What the user asks: the word on the command line, a file, or standard input. */
static rmas_status read_prompt(const options *o, const char *word, rm_strbuf *out, rmas_error *err) {
    if (word && o->file) return rm_fail(err, RMAS_E_ARG, "a prompt and --file: one of them");
    if (word) {
        rm_strbuf_puts(out, word);
    } else if (o->file && strcmp(o->file, "-") != 0) {
        char *text;
        size_t n;
        RM_TRY(rm_file_read(&text, &n, o->file, MAX_PROMPT, err));
        rm_strbuf_add(out, text, n);
        rm_free(text);
    } else {
        if (!o->file && isatty(STDIN_FILENO)) fputs("Type the prompt, then Ctrl-D:\n", stderr);
        RM_TRY(read_stdin(out, err));
    }
    if (out->failed) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (memchr(rm_str(out), 0, out->n) || !rm_utf8_valid(rm_str(out), out->n)) return rm_fail(err, RMAS_E_ARG, "the prompt is not UTF-8 text");
    return RMAS_OK;
}

static rmas_status encode(state *s, const char *model, const char *word, rmas_error *err) {
    const options *o = s->o;
    rm_strbuf user = {0}, chat = {0};
    rm_chat *c = NULL;
    rm_chat_options co = {.enable_thinking = o->thinking, .date = rm_date_today()};
    rmas_status st =
        !o->date || rm_date_parse(o->date, &co.date) ? RMAS_OK : rm_fail(err, RMAS_E_ARG, "--date %s: not of the form YYYY-MM-DD", o->date);
    if (st == RMAS_OK) st = read_prompt(o, word, &user, err);
    if (st == RMAS_OK && o->raw) st = rm_tok_encode(s->tok, rm_str(&user), user.n, true, &s->ids, err);
    if (st == RMAS_OK && !o->raw) {
        if (!rm_tok_chat_template(s->tok))
            st = rm_fail(err, RMAS_E_UNSUPPORTED, "%s: has no chat template; --raw continues the text as it is", model);
        if (st == RMAS_OK) st = rm_chat_new(&c, s->tok, &co, model, err);
        if (st == RMAS_OK) st = rm_chat_render(c, o->system, rm_str(&user), user.n, &chat, err);
        if (st == RMAS_OK) st = rm_tok_encode(s->tok, rm_str(&chat), chat.n, false, &s->ids, err);
    }
    if (st == RMAS_OK && !s->ids.n) st = rm_fail(err, RMAS_E_ARG, "the prompt is empty");
    rm_chat_free(c);
    rm_strbuf_free(&user);
    rm_strbuf_free(&chat);
    return st;
}

/* ---- text as it comes ------------------------------------------------------------------------------------------------- */

/* Do s[0..n) look like the beginning of a longer character? */
static bool incomplete(const char *s, size_t n) {
    const unsigned char c = (unsigned char)s[0];
    size_t want = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC2 ? 2 : 1;
    for (size_t i = 1; i < n && i < want; i++)
        if (((unsigned char)s[i] & 0xC0) != 0x80) return false;
    return n < want;
}

static bool is_control(unsigned cp) { return (cp < 32 && cp != '\n' && cp != '\t') || (cp >= 127 && cp < 160); }

/* Prints what is complete; at the end everything, broken characters as U+FFFD. What a model writes must not steer the terminal. */
static void flush_text(rm_strbuf *held, bool end) {
    const bool terminal = isatty(STDOUT_FILENO);
    size_t at = 0;
    while (at < held->n) {
        unsigned cp;
        const char *p = held->s + at;
        int len = rm_utf8_decode(p, held->n - at, &cp);
        if (len) {
            if (!terminal || !is_control(cp)) fwrite(p, 1, (size_t)len, stdout);
        } else {
            if (!end && incomplete(p, held->n - at)) break;
            len = rm_utf8_decode_lossy(p, held->n - at, &cp);
            fputs("\xEF\xBF\xBD", stdout);
        }
        at += (size_t)len;
    }
    if (at) {
        memmove(held->s, held->s + at, held->n - at);
        held->n -= at;
    }
    fflush(stdout);
}

/* A SentencePiece text begins with a space that is no part of it: decoding drops it, and so does this. */
static bool drops_space(const rm_tok *t, int32_t id) {
    rm_strbuf piece = {0}, text = {0};
    rm_tok_piece(t, id, &piece);
    bool drop = piece.n && piece.s[0] == ' ' && rm_tok_decode(t, &id, 1, true, false, &text, NULL) == RMAS_OK && rm_str(&text)[0] != ' ';
    rm_strbuf_free(&piece);
    rm_strbuf_free(&text);
    return drop;
}

static void show(state *s, int32_t id) {
    if (!s->o->special && rm_tok_is_special(s->tok, id)) return;
    rm_strbuf piece = {0};
    rm_tok_piece(s->tok, id, &piece);
    size_t skip = s->n_out == 0 && !s->o->raw && drops_space(s->tok, id);
    rm_strbuf_add(&s->held, rm_str(&piece) + skip, piece.n - skip);
    rm_strbuf_free(&piece);
    flush_text(&s->held, false);
}

/* ---- generation ----------------------------------------------------------------------------------------------------- */

static bool is_end(const state *s, int32_t id) {
    if (s->o->ignore_eos) return false;
    for (int i = 0; i < s->gen.n_end; i++)
        if (s->gen.end[i] == id) return true;
    return id == rm_tok_eos(s->tok);
}

static rmas_status prefill(state *s, rmas_error *err) {
    const double start = now();
    for (int at = 0; at < s->ids.n && !*s->interrupted;) {
        int n = s->ids.n - at < CHUNK ? s->ids.n - at : CHUNK;
        rm_feed f = {.seq = s->seq, .n = n, .tokens = s->ids.id + at, .want_logits = at + n == s->ids.n};
        RM_TRY(rm_batch_forward(s->batch, &f, 1, err));
        at += n;
    }
    s->t_prompt = now() - start;
    return RMAS_OK;
}

static rmas_status generate(state *s, rmas_error *err) {
    const options *o = s->o;
    const int n_vocab = rm_model_config(s->model)->n_vocab;
    const rm_sampling how = {.temperature = (float)o->temperature,
                             .top_p = (float)o->top_p,
                             .min_p = o->min_p >= 0      ? (float)o->min_p
                                      : s->gen.min_p > 0 ? s->gen.min_p
                                                         : 0,
                             .top_k = o->top_k >= 0       ? (int)o->top_k
                                      : s->gen.top_k >= 0 ? s->gen.top_k
                                                          : 50};
    rm_rng rng = rm_rng_make((uint64_t)o->seed, 0);
    void *scratch = rm_array((size_t)n_vocab, 8);
    if (!scratch) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rmas_status st = prefill(s, err);
    const double start = now();
    while (st == RMAS_OK && !*s->interrupted) {
        int32_t id = rm_sample(rm_batch_logits(s->batch, 0), n_vocab, &how, &rng, scratch);
        if (id < 0) st = rm_fail(err, RMAS_E_FORMAT, "the logits are not numbers: broken weights?");
        if (st != RMAS_OK) break;
        if (!is_end(s, id)) show(s, id);
        s->n_out++;
        if (is_end(s, id) || s->n_out >= o->max_new || ferror(stdout)) break;
        rm_feed f = {.seq = s->seq, .n = 1, .tokens = &id, .want_logits = true, .step = true};
        st = rm_batch_forward(s->batch, &f, 1, err);
    }
    s->t_out = now() - start;
    flush_text(&s->held, true);
    if (s->n_out || *s->interrupted) putchar('\n');
    fflush(stdout);
    rm_free(scratch);
    return st;
}

static void report(const state *s) {
    if (s->o->quiet) return;
    const double per_prompt = s->t_prompt > 0 ? s->ids.n / s->t_prompt : 0, per_out = s->t_out > 0 ? s->n_out / s->t_out : 0;
    fprintf(stderr, "%sprompt %d tokens, %.1f tokens/s; generated %d tokens, %.1f tokens/s\n", *s->interrupted ? "interrupted: " : "", s->ids.n,
            *s->interrupted && !s->n_out ? 0 : per_prompt, s->n_out, per_out);
}

static rmas_status open_all(state *s, const char *path, rmas_error *err) {
    const options *o = s->o;
    const bool exact = !strcmp(o->dtype, "f32");
    if (!exact && strcmp(o->dtype, "native") != 0) return rm_fail(err, RMAS_E_ARG, "--dtype: '%s' is neither f32 nor native", o->dtype);
    if (o->threads < 0 || o->threads > 4096) return rm_fail(err, RMAS_E_ARG, "--threads: %lld is not between 0 and 4096", (long long)o->threads);
    if (o->max_new < 1 || o->max_new > 1 << 24)
        return rm_fail(err, RMAS_E_ARG, "--max_new_tokens %lld: from 1 to %d", (long long)o->max_new, 1 << 24);
    if (o->top_k < -1 || o->top_k > INT32_MAX) return rm_fail(err, RMAS_E_ARG, "--top_k %lld: -1, 0 or more", (long long)o->top_k);
    RM_TRY(rm_cli_check_sampling(o->temperature, o->top_p, o->min_p, err));
    RM_TRY(rm_tok_open(&s->tok, path, err));
    RM_TRY(rm_generation_config_read(&s->gen, path, err));
    RM_TRY(rm_exec_new(&s->exec, (int)o->threads, o->isa, err));
    RM_TRY(rm_model_open(&s->model, s->exec, path, exact ? RM_EXACT : RM_NATIVE, err));
    RM_TRY(rm_batch_new(&s->batch, s->model, err));
    return rm_seq_new(&s->seq, s->model, err);
}

static rmas_status check_length(const state *s, rmas_error *err) {
    const rm_config *c = rm_model_config(s->model);
    for (int i = 0; i < s->ids.n; i++)
        if (s->ids.id[i] < 0 || s->ids.id[i] >= c->n_vocab)
            return rm_fail(err, RMAS_E_ARG, "token %d of the prompt is outside of the model's %d tokens: tokenizer and model do not belong together",
                           (int)s->ids.id[i], c->n_vocab);
    if (c->n_ctx_train > 0 && s->ids.n + s->o->max_new > c->n_ctx_train && !s->o->quiet)
        fprintf(stderr, "rmas generate: note: %d tokens of prompt and up to %lld more; the model was trained on texts of %d\n", s->ids.n,
                (long long)s->o->max_new, c->n_ctx_train);
    return RMAS_OK;
}

int cmd_generate(int argc, char **argv) {
    options o = {.max_new = 1024, .top_k = -1, .seed = 42, .temperature = 0.6, .top_p = 0.95, .min_p = -1, .dtype = "native"};
    const rm_opt opts[] = {
        {"system", RM_OPT_STRING, &o.system, NULL, "TEXT", "system message"},
        {"file", RM_OPT_STRING, &o.file, NULL, "FILE", "the prompt is in this file (-: standard input)"},
        {"raw", RM_OPT_FLAG, &o.raw, NULL, NULL, "no chat template: continue the text as it is"},
        {"enable_thinking", RM_OPT_FLAG, &o.thinking, NULL, NULL, "let the chat template ask for thinking"},
        {"date", RM_OPT_STRING, &o.date, NULL, "YYYY-MM-DD", "what the chat template's clock shows (default: today)"},
        {"max_new_tokens", RM_OPT_INT, &o.max_new, NULL, "N", "at most so many tokens"},
        {"temperature", RM_OPT_FLOAT, &o.temperature, NULL, "T", "0: always the likeliest token"},
        {"top_p", RM_OPT_FLOAT, &o.top_p, NULL, "P", "draw from the likeliest tokens of this mass; 1: off"},
        {"top_k", RM_OPT_INT, &o.top_k, NULL, "K", "draw from the K likeliest; 0: off; -1: as the model's files say, else 50"},
        {"min_p", RM_OPT_FLOAT, &o.min_p, NULL, "P", "drop tokens less likely than this share of the likeliest; -1: as the model says"},
        {"seed", RM_OPT_INT, &o.seed, NULL, "S", "of the random numbers"},
        {"ignore_eos", RM_OPT_FLAG, &o.ignore_eos, NULL, NULL, "go on after the end token"},
        {"special", RM_OPT_FLAG, &o.special, NULL, NULL, "print special tokens too"},
        {"threads", RM_OPT_INT, &o.threads, NULL, "N", "threads; 0: all processors"},
        {"isa", RM_OPT_STRING, &o.isa, NULL, "NAME", "instruction set: portable, avx2, avx-vnni, avx512, avx512-intel, amx, neon, neon-dot"},
        {"dtype", RM_OPT_STRING, &o.dtype, NULL, "NAME", "native: fast; f32: exact"},
        {"quiet", RM_OPT_FLAG, &o.quiet, NULL, NULL, "no line about speed"},
        {0},
    };
    int n_word,
        rc = rm_opt_parse(argc, argv, opts, "rmas generate MODEL [\"prompt\"] [options]      the prompt may come from standard input too", &n_word);
    if (rc) return rc == 2 ? 0 : 1;
    rmas_error err = {0};
    state s = {.o = &o};
    rmas_status st = n_word == 1 || n_word == 2 ? RMAS_OK : rm_fail(&err, RMAS_E_ARG, "needs a model and one prompt (in quotes)");
    if (st == RMAS_OK) st = open_all(&s, argv[1], &err);
    if (st == RMAS_OK) st = encode(&s, argv[1], n_word == 2 ? argv[2] : NULL, &err);
    if (st == RMAS_OK) st = check_length(&s, &err);
    if (st == RMAS_OK) s.interrupted = rm_cli_catch_interrupts();
    if (st == RMAS_OK) st = generate(&s, &err);
    if (st == RMAS_OK) report(&s);
    rm_seq_free(s.seq);
    rm_batch_free(s.batch);
    rm_model_close(s.model);
    rm_tok_close(s.tok);
    rm_exec_free(s.exec);
    rm_ids_free(&s.ids);
    rm_strbuf_free(&s.held);
    rm_free(s.gen.end);
    if (st != RMAS_OK) return rm_cli_fail("generate", &err);
    return *s.interrupted ? 128 + *s.interrupted : ferror(stdout) ? 1 : 0;
}
