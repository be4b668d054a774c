/* Owns the strings of a vocabulary and the hash tables over them. Tables are filled in blocks, with the slots of a block
 * fetched ahead, because a vocabulary is much larger than the caches and opening must not take longer than reading. */
#include "tok/vocab.h"

#include <string.h>

#include "util/mem.h"
#include "util/rng.h"

struct rm_vocab_entry {
    uint32_t off, len;
    int32_t id;
};

enum { BLOCK = 32, MAX_PROBE = 1024 /* at two thirds full, chance does not come near it */ };

uint64_t rm_text_hash(const char *s, size_t n) {
    uint64_t h = n * 0x9E3779B97F4A7C15u, x;
    for (; n > 8; s += 8, n -= 8) {
        memcpy(&x, s, 8);
        h = (h ^ x) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, s, 4);
        memcpy(&b, s + n - 4, 4);
        x = (uint64_t)a << 32 | b;
    } else if (n) {
        x = (uint64_t)(unsigned char)s[0] << 16 | (uint64_t)(unsigned char)s[n / 2] << 8 | (unsigned char)s[n - 1];
    } else {
        x = 0;
    }
    return rm_mix64(h ^ x);
}

/* memcmp without the call: tokens are short. */
static inline bool same(const char *a, const char *b, size_t n) {
    for (; n >= 8; a += 8, b += 8, n -= 8) {
        uint64_t x, y;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        if (x != y) return false;
    }
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

bool rm_id_table_init(rm_id_table *t, size_t n) {
    size_t slots = 16;
    while (slots / 3 * 2 < n) slots *= 2;
    t->slot = rm_calloc(slots, sizeof *t->slot);
    t->mask = slots - 1;
    return t->slot != NULL;
}

void rm_id_table_free(rm_id_table *t) {
    rm_free(t->slot);
    *t = (rm_id_table){0};
}

int32_t rm_id_table_find(const rm_id_table *t, const rm_vocab *v, const char *s, size_t n, uint64_t hash) {
    if (!t->slot) return -1;
    for (size_t i = hash & t->mask;; i = (i + 1) & t->mask) {
        uint64_t x = t->slot[i];
        if (!x) return -1;
        if ((x ^ hash) >> 32) continue;
        int32_t id = (int32_t)(uint32_t)x - 1;
        if (v->place[id].len == n && same(v->pool + v->place[id].off, s, n)) return id;
    }
}

int rm_id_table_add(rm_id_table *t, const rm_vocab *v, int32_t id, uint64_t hash, int32_t *old) {
    size_t i = hash & t->mask;
    for (int probe = 0; probe < MAX_PROBE; probe++, i = (i + 1) & t->mask) {
        uint64_t x = t->slot[i];
        if (!x) {
            t->slot[i] = (hash >> 32 << 32) | (uint32_t)(id + 1);
            return 0;
        }
        if ((x ^ hash) >> 32) continue;
        *old = (int32_t)(uint32_t)x - 1;
        if (v->place[*old].len == v->place[id].len && memcmp(v->pool + v->place[*old].off, v->pool + v->place[id].off, v->place[id].len) == 0)
            return 1;
    }
    return -1;
}

bool rm_vocab_reserve(rm_vocab *v, size_t n_byte, size_t n_token) {
    if (n_byte > v->cap_pool) {
        char *p = rm_realloc_array(v->pool, n_byte, 1);
        if (!p) return false;
        v->pool = p;
        v->cap_pool = n_byte;
    }
    if (n_token > (size_t)v->cap_entry && n_token < INT32_MAX) {
        struct rm_vocab_entry *e = rm_realloc_array(v->entry, n_token, sizeof *e);
        if (!e) return false;
        v->entry = e;
        v->cap_entry = (int)n_token;
    }
    return true;
}

uint32_t rm_vocab_pool(rm_vocab *v, const char *s, size_t n) {
    if (n > v->cap_pool - v->n_pool || !v->pool) { /* even an empty string gets a place */
        if (n > UINT32_MAX / 2 || v->n_pool > UINT32_MAX / 2) return RM_NO_TEXT;
        if (!rm_vocab_reserve(v, (v->cap_pool + n) * 2 + 256, 0)) return RM_NO_TEXT;
    }
    uint32_t off = (uint32_t)v->n_pool;
    if (n) memcpy(v->pool + v->n_pool, s, n);
    v->n_pool += n;
    return off;
}

bool rm_vocab_add(rm_vocab *v, uint32_t off, size_t n, int32_t id) {
    if (v->n_entry == v->cap_entry && !rm_vocab_reserve(v, 0, (size_t)v->cap_entry * 2 + 256)) return false;
    if (v->n_entry == v->cap_entry) return false;
    v->entry[v->n_entry++] = (struct rm_vocab_entry){off, (uint32_t)n, id};
    return true;
}

static bool grow_ids(rm_vocab *v, int n_id) {
    if (n_id <= v->n_id) return true;
    rm_place *p = rm_realloc_array(v->place, (size_t)n_id, sizeof *p);
    if (!p) return false;
    v->place = p;
    for (int i = v->n_id; i < n_id; i++) p[i] = (rm_place){RM_NO_TEXT, 0};
    v->n_id = n_id;
    return true;
}

bool rm_vocab_set(rm_vocab *v, int32_t id, uint32_t off, uint32_t len) {
    if (!grow_ids(v, id + 1)) return false;
    v->place[id] = (rm_place){off, len};
    return true;
}

/* Entries [first, first + n) into the table of strings. */
static rmas_status add_block(rm_vocab *v, int first, int n, const char *name, rmas_error *err) {
    uint64_t hash[BLOCK];
    for (int k = 0; k < n; k++) {
        const struct rm_vocab_entry *e = &v->entry[first + k];
        hash[k] = rm_text_hash(v->pool + e->off, e->len);
        rm_id_table_prefetch_slot(&v->ids, hash[k]);
        if (e->len > v->max_len) v->max_len = e->len;
    }
    for (int k = 0; k < n; k++) {
        const struct rm_vocab_entry *e = &v->entry[first + k];
        int32_t old = 0;
        int how = rm_id_table_add(&v->ids, v, e->id, hash[k], &old);
        int shown = e->len > 60 ? 60 : (int)e->len;
        if (how > 0)
            return rm_fail(err, RMAS_E_FORMAT, "%s: the vocabulary gives '%.*s' two ids, %d and %d", name, shown, v->pool + e->off, old, e->id);
        if (how < 0) return rm_fail(err, RMAS_E_FORMAT, "%s: the vocabulary is built to make look-ups slow; not read", name);
    }
    return RMAS_OK;
}

rmas_status rm_vocab_finish(rm_vocab *v, const char *name, rmas_error *err) {
    int max = -1;
    for (int i = 0; i < v->n_entry; i++)
        if (v->entry[i].id > max) max = v->entry[i].id;
    if (max / 16 > v->n_entry + 4096) /* tables are by id: their size must be justified by the number of tokens */
        return rm_fail(err, RMAS_E_FORMAT, "%s: id %d in a vocabulary of %d tokens", name, max, v->n_entry);
    if (!grow_ids(v, max + 1) || !rm_id_table_init(&v->ids, (size_t)v->n_entry)) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    for (int i = 0; i < v->n_entry; i++) {
        const struct rm_vocab_entry *e = &v->entry[i];
        if (v->place[e->id].off != RM_NO_TEXT) {
            int n_a = v->place[e->id].len > 60 ? 60 : (int)v->place[e->id].len, n_b = e->len > 60 ? 60 : (int)e->len;
            return rm_fail(err, RMAS_E_FORMAT, "%s: the vocabulary gives id %d to '%.*s' and to '%.*s'", name, e->id, n_a,
                           v->pool + v->place[e->id].off, n_b, v->pool + e->off);
        }
        v->place[e->id] = (rm_place){e->off, e->len};
    }
    for (int i = 0; i < v->n_entry; i += BLOCK) RM_TRY(add_block(v, i, v->n_entry - i < BLOCK ? v->n_entry - i : BLOCK, name, err));
    rm_free(v->entry);
    v->entry = NULL;
    v->n_entry = v->cap_entry = 0;
    return RMAS_OK;
}

int32_t rm_vocab_find(const rm_vocab *v, const char *s, size_t n) {
    if (n > v->max_len) return -1;
    return rm_id_table_find(&v->ids, v, s, n, rm_text_hash(s, n));
}

void rm_vocab_free(rm_vocab *v) {
    rm_free(v->pool);
    rm_free(v->place);
    rm_free(v->entry);
    rm_id_table_free(&v->ids);
    *v = (rm_vocab){0};
}
