/* What a tokenizer is made of; shared by the files of this module only. The loaders (json.c, config.c, gguf.c) fill it,
 * encode.c and decode.c read it. */
#ifndef RM_TOK_INTERNAL_H
#define RM_TOK_INTERNAL_H

#include "tok/added.h"
#include "tok/bpe.h"
#include "tok/pattern.h"
#include "tok/tok.h"
#include "tok/unicode.h"
#include "tok/vocab.h"

typedef enum {
    /* normalizers */
    RM_STEP_FORM, /* form */
    RM_STEP_PREPEND, /* text, unless the piece is empty */
    RM_STEP_REPLACE, /* pattern by text; a decoder, too */
    /* pre-tokenizers */
    RM_STEP_SPLIT, /* at pattern */
    RM_STEP_DIGITS, /* at numbers; flag: each by itself */
    RM_STEP_METASPACE, /* space -> text, prefixed by text as `prefix` says, then (flag) split in front of text; a decoder, too */
    RM_STEP_BYTES, /* flag: begin with a space; the rest happens in the merging. A decoder, too */
    /* decoders */
    RM_STEP_BYTE_FALLBACK,
    RM_STEP_FUSE,
    RM_STEP_STRIP, /* up to `left` and `right` characters `text` of each piece */
} rm_step_kind;

typedef enum { RM_SPLIT_REMOVED, RM_SPLIT_ISOLATED, RM_SPLIT_WITH_PREVIOUS, RM_SPLIT_WITH_NEXT, RM_SPLIT_CONTIGUOUS } rm_split_how;
typedef enum { RM_PREFIX_NEVER, RM_PREFIX_FIRST, RM_PREFIX_ALWAYS } rm_prefix_how;

typedef struct {
    rm_step_kind kind;
    rm_normal_form form;
    rm_pattern *pattern; /* owned */
    char *text; /* owned, may hold NULs: n bytes */
    size_t n;
    rm_split_how how;
    rm_prefix_how prefix;
    bool invert, flag;
    int left, right;
} rm_step;

enum { RM_MAX_STEPS = 16 };
typedef struct {
    rm_step step[RM_MAX_STEPS];
    int n;
} rm_steps;
void rm_steps_free(rm_steps *s);
rm_step *rm_steps_add(rm_steps *s, rm_step_kind kind); /* zeroed, at the end; NULL when there are too many */

enum { RM_ID_ADDED = 1, RM_ID_SPECIAL = 2, RM_ID_BYTE = 4 };

struct rm_tok {
    char *name; /* the file, for messages */
    rm_vocab vocab;
    rm_bpe bpe;
    rm_added_token *added;
    int n_added, cap_added;
    rm_finder raw, normal; /* added tokens in the raw and in the normalised text: values are indices of `added` */
    uint8_t *flags; /* by id: RM_ID_* */
    rm_steps norm, pre, dec;
    bool has_decoder; /* without one, token texts are joined by spaces */
    rm_ids before, after; /* what the post-processor adds */
    bool cleanup;
    int32_t bos, eos, pad;
    char *bos_text, *eos_text, *chat_template, *describe;
};

/* Loading, in this order: an empty tokenizer; a loader fills vocab, bpe, steps, added (with their ids); rm_tok_seal makes the rest. */
rm_tok *rm_tok_make(const char *name); /* NULL: out of memory */
rm_added_token *rm_tok_add_token(rm_tok *t, const char *s, size_t n, int32_t id); /* NULL: out of memory */
rmas_status rm_tok_seal(rm_tok *t, rmas_error *err);
rmas_status rm_tok_read_json(rm_tok *t, const char *text, size_t n, rmas_error *err); /* tokenizer.json */
rmas_status rm_tok_read_config(rm_tok *t, const char *text, size_t n, rmas_error *err); /* tokenizer_config.json */
rmas_status rm_tok_read_folder(rm_tok *t, const char *folder, rmas_error *err); /* all that stands beside tokenizer.json */
rmas_status rm_tok_read_gguf(rm_tok *t, const rm_gguf *g, rmas_error *err);
/* The standard steps of known pipelines, for GGUF files and for classes that rebuild them. */
rmas_status rm_tok_byte_level(rm_tok *t, const char *regex, bool digits, bool nfc, rmas_error *err);
rmas_status rm_tok_spm_decoder(rm_tok *t, bool strip, rmas_error *err);

/* Normalises one piece: the result is s itself or in *a or *b. False with err filled. */
rmas_status rm_tok_normalize(const rm_tok *t, rm_pattern_work *w, const char **s, size_t *n, rm_strbuf *a, rm_strbuf *b, rmas_error *err);
/* Appends s with every match of the pattern replaced. */
rmas_status rm_step_replace(const rm_step *x, rm_pattern_work *w, const char *s, size_t n, rm_strbuf *out, rmas_error *err);

#endif
