/* rmas.h - the public interface of the rmas library.
 *
 * A recursive multi-agent system is a few frozen language models (agents) that pass hidden states, not text, to one another
 * through small trained modules (links), round after round, until the last agent answers in text.
 *
 *   engine   threads + the kernel table chosen for this CPU       (usually one per process)
 *   model    weights + tokenizer + chat template, read-only       (shared by sessions)
 *   session  n_seq live sequences on one model: KV cache / state
 *   link     inner (d -> d) or outer (d_src -> d_dst) weights
 *   system   agents + links + the graph that joins them
 *
 * What is not in this file is not API.
 *
 * Errors     a function that can fail returns rmas_status and takes `rmas_error *err` last (may be NULL). On failure every
 *            out parameter is NULL or 0. The library never exits, and never prints.
 * Ownership  _open/_close: backed by files. _new/_free: memory only. close and free take NULL. Pointers returned as const belong
 *            to the handle and die with it; char * returned through an out parameter belongs to the caller: rmas_mem_free.
 *            A handle must outlive what was made from it: engine > model, link > session; engine > system.
 * Threads    everything made from one engine is used by one thread at a time; the engine uses its own threads inside a call.
 *            Several engines are independent. No hidden global state.
 * Numbers    what a sequence computes does not depend on other sequences, on how its positions are cut into calls, or on the
 *            number of threads: bitwise. */
#ifndef RMAS_H
#define RMAS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RMAS_VERSION "0.1.0"

/* ---- status ------------------------------------------------------------- */

#define RMAS_STATUS_MAP(X)                                                                                                                           \
    X(OK, 0, "ok")                                                                                                                                   \
    X(E_ARG, -1, "invalid argument")                                                                                                                 \
    X(E_NOMEM, -2, "out of memory")                                                                                                                  \
    X(E_IO, -3, "file or socket error")                                                                                                              \
    X(E_FORMAT, -4, "malformed or truncated file")                                                                                                   \
    X(E_UNSUPPORTED, -5, "valid, but not supported here")                                                                                            \
    X(E_SHAPE, -6, "tensor shape does not fit the model")                                                                                            \
    X(E_FULL, -7, "context or batch capacity exceeded")                                                                                              \
    X(E_CANCELLED, -8, "cancelled by the caller")                                                                                                    \
    X(E_TOOL, -9, "a tool failed or was refused")

typedef enum {
#define X(name, value, text) RMAS_##name = value,
    RMAS_STATUS_MAP(X)
#undef X
} rmas_status;

/* Filled by the function that fails; the caller owns it. msg is one line: which file and field, what was expected, what was found. */
typedef struct {
    rmas_status code;
    char msg[504];
} rmas_error;

const char *rmas_version(void);
const char *rmas_status_name(rmas_status s); /* "E_SHAPE" */
void rmas_mem_free(void *p);

typedef struct rmas_engine rmas_engine;
typedef struct rmas_model rmas_model;
typedef struct rmas_session rmas_session;
typedef struct rmas_link rmas_link;
typedef struct rmas_system rmas_system;

/* ---- engine ------------------------------------------------------------- */

/* n_thread <= 0: all processors. isa: NULL for the best that this CPU has, else "portable", "avx2", "avx-vnni", "avx512", "avx512-intel", "amx", "neon"
 * or "neon-dot". */
rmas_status rmas_engine_new(rmas_engine **out, int n_thread, const char *isa, rmas_error *err);
void rmas_engine_free(rmas_engine *e);
const char *rmas_engine_isa(const rmas_engine *e);
int rmas_engine_n_thread(const rmas_engine *e);

/* EXACT: all arithmetic in float32 on the dequantised weights. NATIVE: bf16 products for bf16 weights, 8-bit activations for
 * quantised ones. */
typedef enum { RMAS_EXACT, RMAS_NATIVE } rmas_precision;

/* ---- model -------------------------------------------------------------- */

typedef struct {
    const char *arch; /* "qwen3", "gemma3_text" ... */
    int n_layer, d_model, n_vocab, n_ctx_train;
    int32_t eos; /* -1: none */
    size_t n_bytes; /* weights in memory, mapped or packed */
} rmas_model_info;

/* path: a folder as on the Hugging Face hub, or a .gguf file. A folder without tokenizer.json computes; functions that need text refuse. */
rmas_status rmas_model_open(rmas_model **out, rmas_engine *e, const char *path, rmas_precision p, rmas_error *err);
void rmas_model_close(rmas_model *m);
void rmas_model_get_info(const rmas_model *m, rmas_model_info *out);

/* Token ids of text[0..len), at most cap are written to out; *n is the count needed. add_special: with the tokenizer's BOS. */
rmas_status rmas_model_tokenize(const rmas_model *m, const char *text, size_t len, int add_special, int32_t *out, int cap, int *n, rmas_error *err);
/* The text of n ids without special tokens, NUL-terminated. */
rmas_status rmas_model_detokenize(const rmas_model *m, const int32_t *token, int n, char **out, rmas_error *err);
/* A system message (NULL: none) and a user message through the model's chat template, with the prompt for an answer. */
rmas_status rmas_model_render_chat(const rmas_model *m, const char *system, const char *user, char **out, rmas_error *err);

/* ---- session ------------------------------------------------------------ */

/* Positions appended to one sequence: tokens, or embeddings [n, d_model] where tokens is NULL or tokens[i] < 0. One position is taken for a step of
 * generation, more for a piece of a prompt: some processors compute these differently, to the last bits. */
typedef struct {
    int seq, n;
    const int32_t *tokens;
    const float *embeds;
} rmas_feed;

typedef struct {
    float temperature; /* <= 0: greedy */
    float top_p; /* >= 1: off */
    float min_p; /* <= 0: off */
    int top_k; /* <= 0: off */
    uint64_t seed;
} rmas_sampling;

rmas_status rmas_session_new(rmas_session **out, const rmas_model *m, int n_seq, rmas_error *err);
void rmas_session_free(rmas_session *s);
/* Each sequence at most once per call. After a failure the sequences of the call must be reset. */
rmas_status rmas_session_feed(rmas_session *s, const rmas_feed *feed, int n_feed, rmas_error *err);
int rmas_session_length(const rmas_session *s, int seq);
rmas_status rmas_session_reset(rmas_session *s, int seq, rmas_error *err); /* to length 0 */
rmas_status rmas_session_copy(rmas_session *s, int to, int from, rmas_error *err); /* `to` gets the past of `from`; memory is shared */
/* Of the last position, for sequences of the latest feed; else NULL. Valid until the next call on the session. */
const float *rmas_session_logits(const rmas_session *s, int seq); /* [n_vocab] */
const float *rmas_session_hidden(const rmas_session *s, int seq); /* [d_model], after the final norm */
/* Draws a token from the logits of the latest feed; the random numbers of a sequence depend on the seed, the sequence's number
 * and its length only. -1 if there are no logits. */
int32_t rmas_session_sample(rmas_session *s, int seq, const rmas_sampling *sp);
/* Latent thoughts for a sequence of the latest feed: hidden -> inner link -> next input embedding, n_step times. hidden [n_step, d_model] gets the
 * states; the last embedding is not run through the model. */
rmas_status rmas_session_latent(rmas_session *s, int seq, const rmas_link *inner, int n_step, float *hidden, rmas_error *err);

/* ---- link --------------------------------------------------------------- */

/* path: .pt or .safetensors. */
rmas_status rmas_link_open(rmas_link **out, rmas_engine *e, const char *path, rmas_precision p, rmas_error *err);
/* Untrained, from a seed: an inner link if d_src == d_dst and inner is not 0, else an outer link. */
rmas_status rmas_link_new(rmas_link **out, rmas_engine *e, int d_src, int d_dst, int inner, uint64_t seed, rmas_error *err);
rmas_status rmas_link_save(const rmas_link *l, const char *path, rmas_error *err); /* .pt or .safetensors by the name's ending */
void rmas_link_close(rmas_link *l);
int rmas_link_d_src(const rmas_link *l);
int rmas_link_d_dst(const rmas_link *l);
/* y [n, d_dst] = link(x [n, d_src]). */
rmas_status rmas_link_apply(const rmas_link *l, const float *x, int n, float *y, rmas_error *err);

/* ---- system ------------------------------------------------------------- */

typedef struct {
    int n_round, n_latent; /* <= 0 (n_latent: < 0): the system's default */
    int max_new_tokens; /* <= 0: the system's default */
    int batch_size; /* <= 0: 8; answers do not depend on it */
    rmas_sampling sampling;
} rmas_run_params;

/* Called once for each question as soon as it is answered, not in order. Non-zero ends the run (RMAS_E_CANCELLED). */
typedef int (*rmas_answer_fn)(void *ctx, int question, const char *text, int n_token);

/* path: a folder with system.json (docs/SYSTEMS.md). Loads all agents and links. */
rmas_status rmas_system_open(rmas_system **out, rmas_engine *e, const char *path, rmas_precision p, rmas_error *err);
void rmas_system_close(rmas_system *s);
void rmas_run_params_init(rmas_run_params *p); /* greedy, the system's defaults */
rmas_status rmas_system_run(rmas_system *s, const char *const *question, int n, const rmas_run_params *p, rmas_answer_fn fn, void *ctx,
                            rmas_error *err);

#ifdef __cplusplus
}
#endif
#endif /* RMAS_H */
