/* The small parts of tokenizer.json: each function reads the source text of one value (null: nothing) into t. */
#ifndef RM_TOK_COMPONENTS_H
#define RM_TOK_COMPONENTS_H

#include "tok/internal.h"

rmas_status rm_tok_normalizer(rm_tok *t, const char *s, size_t n, rmas_error *err);
rmas_status rm_tok_pre_tokenizer(rm_tok *t, const char *s, size_t n, rmas_error *err);
rmas_status rm_tok_post_processor(rm_tok *t, const char *s, size_t n, rmas_error *err);
rmas_status rm_tok_decoder(rm_tok *t, const char *s, size_t n, rmas_error *err);

#endif
