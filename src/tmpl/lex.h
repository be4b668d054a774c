/* Template source to tokens. Everything about white space around tags is decided here (trim_blocks and lstrip_blocks are
 * on, as in transformers). */
#ifndef RM_TMPL_LEX_H
#define RM_TMPL_LEX_H

#include <stdint.h>

#include "tmpl/arena.h"
#include "util/error.h"

typedef enum {
    T_EOF,
    T_DATA,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VAR_BEGIN,
    T_VAR_END,
    T_NAME,
    T_STRING, /* unescaped */
    T_INT,
    T_FLOAT,
    T_OP /* op: the character, or one of the two-character operators */
} rm_tok_kind;

#define RM_OP2(a, b) ((a) << 8 | (b))

typedef struct {
    uint8_t kind;
    uint16_t op;
    int line;
    uint32_t n;
    const char *s;
} rm_token;

typedef struct {
    rm_token *v; /* ends with T_EOF; rm_free */
    int n, cap;
} rm_tokens;

/* The tokens' texts live in the arena. name: for messages ("NAME line 3: ..."). */
rmas_status rm_tmpl_lex(rm_tokens *out, rm_tmpl_arena *a, const char *source, size_t n, const char *name, rmas_error *err);

#endif
