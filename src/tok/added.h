/* Added tokens: cut out of the text before anything else happens to it, leftmost and longest first. */
#ifndef RM_TOK_ADDED_H
#define RM_TOK_ADDED_H

#include <stdbool.h>

#include "tok/vocab.h"

typedef struct {
    int32_t id;
    uint32_t off, len; /* content, in the pool of the vocabulary */
    uint32_t normal_len; /* if normalized: of the content as the normalizer leaves it */
    bool single_word, lstrip, rstrip, normalized, special;
} rm_added_token;

/* Finds the longest of many strings at every place of a text, in linear time: an Aho-Corasick automaton over the reversed
 * strings runs over the text from its end, so what ends at a place there is what begins at it here. */
typedef struct {
    struct rm_state *state; /* state 0 is the root; NULL: nothing to find */
    int n_state, cap_state;
    int32_t first[256]; /* the root's transitions */
} rm_finder;

bool rm_finder_add(rm_finder *f, const char *s, size_t n, int32_t value); /* n > 0; the first of equal strings counts. False: out of memory */
bool rm_finder_finish(rm_finder *f); /* after the last add */
void rm_finder_free(rm_finder *f);

typedef struct {
    size_t at;
    int32_t value;
} rm_hit;
typedef struct {
    rm_hit *hit; /* the longest string at every place where there is one, last place first */
    size_t n, cap;
} rm_hits;
bool rm_finder_scan(const rm_finder *f, const char *s, size_t n, rm_hits *out); /* false: out of memory */

#endif
