/* Owns the automaton that finds added tokens. Vocabularies have up to thousands of them, texts are arbitrary. */
#include "tok/added.h"

#include <string.h>

#include "util/mem.h"

typedef struct rm_state {
    int32_t child, sibling; /* 0: none (the root is nobody's child) */
    int32_t fail;
    int32_t value; /* of the longest string that ends here; -1: none */
    uint8_t byte;
} rm_state;

static int32_t find_child(const rm_state *st, int32_t s, unsigned char c) {
    int32_t k = st[s].child;
    while (k && st[k].byte != c) k = st[k].sibling;
    return k;
}

static int32_t new_state(rm_finder *f) {
    if (f->n_state == f->cap_state) {
        int cap = f->cap_state ? f->cap_state * 2 : 256;
        rm_state *p = cap > 0 ? rm_realloc_array(f->state, (size_t)cap, sizeof *p) : NULL;
        if (!p) return -1;
        f->state = p;
        f->cap_state = cap;
    }
    f->state[f->n_state] = (rm_state){.value = -1};
    return f->n_state++;
}

bool rm_finder_add(rm_finder *f, const char *s, size_t n, int32_t value) {
    if (!f->state && new_state(f) < 0) return false;
    int32_t at = 0;
    for (size_t i = n; i-- > 0;) {
        unsigned char c = (unsigned char)s[i];
        int32_t next = at ? find_child(f->state, at, c) : f->first[c];
        if (!next) {
            next = new_state(f);
            if (next < 0) return false;
            f->state[next].byte = c;
            f->state[next].sibling = f->state[at].child;
            f->state[at].child = next;
            if (!at) f->first[c] = next;
        }
        at = next;
    }
    if (at && f->state[at].value < 0) f->state[at].value = value;
    return true;
}

bool rm_finder_finish(rm_finder *f) {
    if (!f->state) return true;
    rm_state *st = f->state;
    int32_t *queue = rm_array((size_t)f->n_state, sizeof *queue);
    if (!queue) return false;
    int head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        int32_t s = queue[head++];
        for (int32_t k = st[s].child; k; k = st[k].sibling) {
            int32_t fail = 0;
            if (s) {
                int32_t p = st[s].fail;
                while (p && !(fail = find_child(st, p, st[k].byte))) p = st[p].fail;
                if (!p) fail = f->first[st[k].byte];
            }
            st[k].fail = fail;
            if (st[k].value < 0) st[k].value = st[fail].value;
            queue[tail++] = k;
        }
    }
    rm_free(queue);
    return true;
}

void rm_finder_free(rm_finder *f) {
    rm_free(f->state);
    f->state = NULL;
}

bool rm_finder_scan(const rm_finder *f, const char *s, size_t n, rm_hits *out) {
    out->n = 0;
    if (!f->state) return true;
    const rm_state *st = f->state;
    int32_t at = 0;
    for (size_t i = n; i-- > 0;) {
        unsigned char c = (unsigned char)s[i];
        int32_t next = 0;
        while (at && !(next = find_child(st, at, c))) at = st[at].fail;
        at = at ? next : f->first[c];
        if (!at || st[at].value < 0) continue;
        if (out->n == out->cap) {
            size_t cap = out->cap ? out->cap * 2 : 64;
            rm_hit *p = rm_realloc_array(out->hit, cap, sizeof *p);
            if (!p) return false;
            out->hit = p;
            out->cap = cap;
        }
        out->hit[out->n++] = (rm_hit){i, st[at].value};
    }
    return true;
}
