/* The strings of a vocabulary: one pool, flat tables from id to string and from string to id. */
#ifndef RM_TOK_VOCAB_H
#define RM_TOK_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

typedef struct {
    const char *s; /* in the pool, not NUL-terminated */
    size_t n;
} rm_text;

typedef struct {
    uint32_t off, len; /* in the pool; off == RM_NO_TEXT: no token has this id */
} rm_place;

/* Open addressing, linear probing; a slot is (hash tag << 32 | id + 1), 0 when empty. */
typedef struct {
    uint64_t *slot;
    size_t mask; /* slots - 1; slot is NULL for an empty table */
} rm_id_table;

typedef struct {
    char *pool;
    size_t n_pool, cap_pool;
    rm_place *place; /* by id */
    int n_id; /* largest id + 1 */
    rm_id_table ids; /* tokens of the model; added tokens are in a table of their own */
    size_t max_len; /* bytes of the longest token in ids */
    struct rm_vocab_entry *entry; /* tokens read so far, until rm_vocab_finish */
    int n_entry, cap_entry;
} rm_vocab;

#define RM_NO_TEXT UINT32_MAX

/* Appends a string to the pool; its offset, or RM_NO_TEXT when out of memory (or of 32 bits). */
uint32_t rm_vocab_pool(rm_vocab *v, const char *s, size_t n);
bool rm_vocab_reserve(rm_vocab *v, size_t n_byte, size_t n_token); /* optional: sizes that are known beforehand */

/* Reading: add all tokens of the model in any order (their strings are in the pool), then finish. */
bool rm_vocab_add(rm_vocab *v, uint32_t off, size_t n, int32_t id); /* false when out of memory */
/* Makes the tables. Refuses duplicates and absurd ids. */
rmas_status rm_vocab_finish(rm_vocab *v, const char *name, rmas_error *err);
/* Gives an id above or between the known ones a string (off, len in the pool). False when out of memory. */
bool rm_vocab_set(rm_vocab *v, int32_t id, uint32_t off, uint32_t len);
void rm_vocab_free(rm_vocab *v);

static inline rm_text rm_vocab_text(const rm_vocab *v, int32_t id) {
    if (id < 0 || id >= v->n_id || v->place[id].off == RM_NO_TEXT) return (rm_text){NULL, 0};
    return (rm_text){v->pool + v->place[id].off, v->place[id].len};
}
int32_t rm_vocab_find(const rm_vocab *v, const char *s, size_t n); /* id or -1 */

/* ---- the tables themselves -------------------------------------------------------------------------------------------- */

uint64_t rm_text_hash(const char *s, size_t n);
bool rm_id_table_init(rm_id_table *t, size_t n); /* room for n entries */
void rm_id_table_free(rm_id_table *t);
int32_t rm_id_table_find(const rm_id_table *t, const rm_vocab *v, const char *s, size_t n, uint64_t hash);
/* 0 added; 1 the string is there already (*old = its id); -1 hostile: too many strings share a place */
int rm_id_table_add(rm_id_table *t, const rm_vocab *v, int32_t id, uint64_t hash, int32_t *old);
/* A look-up reads three places far apart: the slot, where the string is, the string. Who has many look-ups asks for the
 * three beforehand, each in a round of its own. t has slots. */
static inline void rm_id_table_prefetch_slot(const rm_id_table *t, uint64_t hash) { __builtin_prefetch(&t->slot[hash & t->mask]); }
static inline void rm_id_table_prefetch_place(const rm_id_table *t, const rm_vocab *v, uint64_t hash) {
    uint64_t x = t->slot[hash & t->mask];
    if (x) __builtin_prefetch(&v->place[(uint32_t)x - 1]);
}
static inline void rm_id_table_prefetch_text(const rm_id_table *t, const rm_vocab *v, uint64_t hash) {
    uint64_t x = t->slot[hash & t->mask];
    if (x) __builtin_prefetch(v->pool + v->place[(uint32_t)x - 1].off);
}

#endif
