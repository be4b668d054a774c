#include "session/seq.h"

#include <stdatomic.h>
#include <string.h>

#include "util/mem.h"

enum { HEAD = 64 }; /* before the data of a block: its count of references */

static atomic_int *refs(char *tile) { return (atomic_int *)(void *)(tile - HEAD); }

static char *block_new(size_t n) {
    char *p = rm_aligned(HEAD + n);
    if (!p) return NULL;
    atomic_init(refs(p + HEAD), 1);
    return p + HEAD;
}

static void block_drop(char *tile) {
    if (tile && atomic_fetch_sub_explicit(refs(tile), 1, memory_order_acq_rel) == 1) rm_free(tile - HEAD);
}

int rm_model_count_layers(const rm_model *m, rm_layer_kind kind) {
    int n = 0;
    for (int i = 0; i < m->cfg.n_layer; i++) n += m->cfg.layer[i] == kind;
    return n;
}

size_t rm_seq_conv_floats(const rm_model *m) {
    return (size_t)rm_delta_conv_dim(&m->cfg.delta) * (size_t)(m->cfg.delta.n_tap ? m->cfg.delta.n_tap - 1 : 0);
}

size_t rm_seq_state_floats(const rm_model *m) {
    const rm_delta_plan *d = &m->cfg.delta;
    return (size_t)d->n_value * (size_t)d->d_key * (size_t)d->d_value;
}

size_t rm_seq_bytes_per_token(const rm_model *m) {
    return rm_kv_layer_bytes(m) / RM_KV_BLOCK * (size_t)(m->cfg.n_layer - rm_model_count_layers(m, RM_LAYER_LINEAR));
}

size_t rm_seq_bytes_fixed(const rm_model *m) {
    return (rm_seq_conv_floats(m) + rm_seq_state_floats(m)) * sizeof(float) * (size_t)rm_model_count_layers(m, RM_LAYER_LINEAR);
}

rmas_status rm_seq_new(rm_seq **out, const rm_model *m, rmas_error *err) {
    *out = NULL;
    rm_seq *s = RM_NEW(rm_seq);
    if (!s) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a sequence");
    s->m = m;
    for (int k = 0; k < 2; k++) s->cache[k].block_bytes = rm_kv_layer_bytes(m) * (size_t)rm_model_count_layers(m, (rm_layer_kind)k);
    s->n_linear = rm_model_count_layers(m, RM_LAYER_LINEAR);
    if (s->n_linear) {
        s->conv = rm_calloc((size_t)s->n_linear * rm_seq_conv_floats(m) + 1, sizeof *s->conv);
        s->state = rm_calloc((size_t)s->n_linear * rm_seq_state_floats(m), sizeof *s->state);
        if (!s->conv || !s->state) {
            rm_seq_free(s);
            return rm_fail(err, RMAS_E_NOMEM, "out of memory for the recurrent state of a sequence (%zu bytes)", rm_seq_bytes_fixed(m));
        }
    }
    *out = s;
    return RMAS_OK;
}

void rm_seq_free(rm_seq *s) {
    if (!s) return;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < s->cache[k].n; i++) block_drop(s->cache[k].tile[i]);
        block_drop(s->cache[k].spare);
        rm_free(s->cache[k].tile);
    }
    rm_free(s->conv);
    rm_free(s->state);
    rm_free(s);
}

int rm_seq_len(const rm_seq *s) { return s->len; }

static bool cache_clone(rm_cache *to, const rm_cache *from) {
    to->tile = rm_array((size_t)from->n + 1, sizeof *to->tile);
    if (!to->tile) return false;
    to->n = from->n, to->cap = from->n + 1;
    for (int i = 0; i < from->n; i++) {
        to->tile[i] = from->tile[i];
        if (to->tile[i]) atomic_fetch_add_explicit(refs(to->tile[i]), 1, memory_order_relaxed);
    }
    return true;
}

rmas_status rm_seq_clone(rm_seq **out, const rm_seq *s, rmas_error *err) {
    *out = NULL;
    if (s->broken) return rm_fail(err, RMAS_E_ARG, "a sequence whose last call failed cannot be cloned");
    rm_seq *c;
    RM_TRY(rm_seq_new(&c, s->m, err));
    c->len = s->len;
    if (!cache_clone(&c->cache[0], &s->cache[0]) || !cache_clone(&c->cache[1], &s->cache[1])) {
        rm_seq_free(c);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for a sequence");
    }
    if (s->n_linear) {
        memcpy(c->conv, s->conv, (size_t)s->n_linear * rm_seq_conv_floats(s->m) * sizeof *s->conv);
        memcpy(c->state, s->state, (size_t)s->n_linear * rm_seq_state_floats(s->m) * sizeof *s->state);
    }
    *out = c;
    return RMAS_OK;
}

/* The block that position len falls into may be half full and shared: a copy of our own then. */
static rmas_status own_last(rm_cache *c, int len, rmas_error *err) {
    int b = len / RM_KV_BLOCK;
    if (len % RM_KV_BLOCK == 0 || !c->tile[b] || atomic_load_explicit(refs(c->tile[b]), memory_order_acquire) == 1) return RMAS_OK;
    char *copy = block_new(c->block_bytes);
    if (!copy) return rm_fail(err, RMAS_E_NOMEM, "out of memory for an attention cache block (%zu bytes)", c->block_bytes);
    memcpy(copy, c->tile[b], c->block_bytes);
    block_drop(c->tile[b]);
    c->tile[b] = copy;
    return RMAS_OK;
}

static rmas_status cache_reserve(rm_cache *c, int len, int n, rmas_error *err) {
    int want = (int)(((int64_t)len + n + RM_KV_BLOCK - 1) / RM_KV_BLOCK);
    RM_TRY(own_last(c, len, err));
    if (want > c->cap) {
        int cap = want > 2 * c->cap ? want + 8 : 2 * c->cap;
        char **t = rm_realloc_array(c->tile, (size_t)cap, sizeof *t);
        if (!t) return rm_fail(err, RMAS_E_NOMEM, "out of memory for an attention cache");
        c->tile = t, c->cap = cap;
    }
    for (; c->n < want; c->n++) {
        char *b = c->spare;
        c->spare = NULL;
        if (!b) b = block_new(c->block_bytes);
        if (!b) return rm_fail(err, RMAS_E_NOMEM, "out of memory for an attention cache block (%zu bytes)", c->block_bytes);
        c->tile[c->n] = b;
    }
    return RMAS_OK;
}

rmas_status rm_seq_reserve(rm_seq *s, int n, rmas_error *err) {
    if (n > INT32_MAX / 2 - s->len) return rm_fail(err, RMAS_E_FULL, "a sequence of %d positions cannot take %d more", s->len, n);
    for (int k = 0; k < 2; k++)
        if (s->cache[k].block_bytes) RM_TRY(cache_reserve(&s->cache[k], s->len, n, err));
    return RMAS_OK;
}

void rm_seq_advance(rm_seq *s, int n) {
    s->len += n;
    rm_cache *c = &s->cache[RM_LAYER_SLIDING];
    int first = s->len - s->m->cfg.window + 1; /* the oldest position that the next query sees */
    for (int i = first / RM_KV_BLOCK - 1; first > 0 && !s->record && i >= 0 && i < c->n && c->tile[i]; i--) {
        if (!c->spare && atomic_load_explicit(refs(c->tile[i]), memory_order_acquire) == 1)
            c->spare = c->tile[i];
        else
            block_drop(c->tile[i]);
        c->tile[i] = NULL;
    }
}
