/* Byte-pair encoding of one word: by ranked merges (tokenizer.json, GGUF "gpt2") or by token scores (GGUF "llama"). */
#ifndef RM_TOK_BPE_H
#define RM_TOK_BPE_H

#include "tok/tok.h"
#include "tok/vocab.h"

#define RM_NO_RANK UINT32_MAX

typedef struct {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: an empty slot */
    uint32_t rank;
    int32_t into;
} rm_merge;

typedef struct {
    rm_merge *slot; /* NULL: no merges */
    size_t mask;
} rm_merge_table;

typedef struct {
    const rm_vocab *vocab;
    rm_merge_table merges;
    uint32_t *score_rank; /* by id: the smaller the earlier; NULL: merge by the table. Owned */
    int32_t byte_id[256]; /* byte-level: the token of the byte's character; else of <0xHH>; -1: there is none */
    int32_t unk; /* -1: what has no token is dropped */
    uint8_t *joined; /* rm_bpe_find_cuts: by code point & RM_JOINED; NULL: words are never cut. Owned */
    bool byte_level; /* the symbols are bytes, not characters */
    bool byte_fallback, fuse_unk, ignore_merges;
} rm_bpe;

/* Working memory of one thread; zeroed at first. */
typedef struct {
    struct rm_sym *sym;
    size_t cap_sym;
    uint64_t *heap;
    size_t n_heap, cap_heap;
    rm_strbuf mapped; /* the word in the byte-level alphabet */
} rm_bpe_work;

/* Appends the ids of one word (valid UTF-8 unless byte-level). False when out of memory. */
bool rm_bpe_word(const rm_bpe *b, rm_bpe_work *w, const char *s, size_t n, rm_ids *out);
void rm_bpe_work_free(rm_bpe_work *w);
void rm_bpe_free(rm_bpe *b);

/* Where nothing splits a text into words, it can still be cut in front of a U+2581 whose predecessor stands before a U+2581 in
 * no token at all: no merge reaches over such a place. Notes which predecessors do. False when out of memory. */
enum { RM_JOINED = 0xFFF };
bool rm_bpe_find_cuts(rm_bpe *b);

/* Score -> rank: descending scores give ascending ranks, equal ones equal. */
uint32_t rm_bpe_score_rank(float score);

/* ---- reading the merges: add them in order of rank, then finish --------------------------------------------------------- */

typedef struct {
    const rm_vocab *vocab;
    const char *name; /* of the file, for messages */
    rm_strbuf text; /* of the merges that are not looked up yet */
    struct {
        uint32_t n_left, n_right;
    } pending[32];
    int n_pending;
    rm_merge *list; /* in order of rank */
    size_t n_list, cap_list;
} rm_merge_reader;

bool rm_merges_reserve(rm_merge_reader *r, size_t n);
rmas_status rm_merges_left(rm_merge_reader *r, const char *s, size_t n, rmas_error *err); /* a merge is a left part, then a right one */
rmas_status rm_merges_right(rm_merge_reader *r, const char *s, size_t n, rmas_error *err);
rmas_status rm_merges_joined(rm_merge_reader *r, const char *s, size_t n, rmas_error *err); /* "left right" */
rmas_status rm_merges_finish(rm_merge_reader *r, rm_merge_table *out, rmas_error *err);
void rm_merges_free(rm_merge_reader *r);

#endif
