/* Tokenizers: byte-level BPE and SentencePiece-style BPE with byte fallback, from tokenizer.json or GGUF metadata.
 * Read-only after opening; any number of threads may use one. Linear (n log n) time on any input. */
#ifndef RM_TOK_TOK_H
#define RM_TOK_TOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/strbuf.h"
#include "weights/gguf.h"

typedef struct rm_tok rm_tok;

typedef struct {
    int32_t *id; /* owned; rm_ids_free */
    int n, cap;
} rm_ids;
bool rm_ids_push(rm_ids *v, int32_t id); /* false when out of memory */
void rm_ids_free(rm_ids *v);

/* path: a model folder (tokenizer.json, with tokenizer_config.json and chat_template.jinja beside it if present), a
 * tokenizer.json alone, or a .gguf file. */
rmas_status rm_tok_open(rm_tok **out, const char *path, rmas_error *err);
/* The same from metadata that is open already. name: for messages. Nothing of g is kept. */
rmas_status rm_tok_from_gguf(rm_tok **out, const rm_gguf *g, const char *name, rmas_error *err);
void rm_tok_close(rm_tok *t);

/* Appends the ids of text[0..n) (UTF-8; invalid bytes are an error). add_special: what the post-processor adds (BOS). */
rmas_status rm_tok_encode(const rm_tok *t, const char *text, size_t n, bool add_special, rm_ids *out, rmas_error *err);
/* Appends the text of the ids, valid UTF-8 (broken sequences give U+FFFD). cleanup: obey clean_up_tokenization_spaces. */
rmas_status rm_tok_decode(const rm_tok *t, const int32_t *id, int n, bool skip_special, bool cleanup, rm_strbuf *out, rmas_error *err);
/* The raw bytes that one token adds inside a text (for streaming; may be part of a character). */
void rm_tok_piece(const rm_tok *t, int32_t id, rm_strbuf *out);

int rm_tok_n_vocab(const rm_tok *t);
int32_t rm_tok_bos(const rm_tok *t); /* ids of the tokenizer's special tokens (tokenizer_config.json or GGUF), -1: none */
int32_t rm_tok_eos(const rm_tok *t);
int32_t rm_tok_pad(const rm_tok *t);
const char *rm_tok_bos_text(const rm_tok *t); /* "" if none: for chat templates */
const char *rm_tok_eos_text(const rm_tok *t);
bool rm_tok_is_special(const rm_tok *t, int32_t id);
const char *rm_tok_chat_template(const rm_tok *t); /* source text, NULL if there is none */
const char *rm_tok_describe(const rm_tok *t); /* one line for people: "byte-level BPE, 151643 + 26 tokens" */

#endif
