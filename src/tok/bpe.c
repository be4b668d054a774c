/* The merging itself. Short words are scanned; long ones (a whole document where nothing splits the text) go through a heap
 * over a linked list, so that the time is n log n whatever the text. Order: lowest rank first, ties leftmost. */
#include "tok/bpe.h"

#include <string.h>

#include "tok/unicode.h"
#include "util/mem.h"
#include "util/utf8.h"

typedef struct rm_sym {
    int32_t id; /* -1: no token (only while merging by scores) */
    uint32_t at, end; /* bytes of the word, for merging by scores */
    int32_t prev, next; /* -1: none */
    uint32_t rank; /* of the merge with `next`; RM_NO_RANK: none, or the symbol is gone */
    int32_t into;
} rm_sym;

enum { SHORT = 24 };

static const rm_merge *find_merge(const rm_merge_table *t, int32_t left, int32_t right) {
    if (!t->slot) return NULL;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = rm_pair_hash(pair) & t->mask;; i = (i + 1) & t->mask) {
        if (t->slot[i].pair == pair) return &t->slot[i];
        if (t->slot[i].pair == UINT64_MAX) return NULL;
    }
}

uint32_t rm_bpe_score_rank(float score) {
    if (!(score == score)) return RM_NO_RANK - 1;
    score += 0.0f; /* -0 is 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX : 0x80000000u; /* ascending with the score */
    uint32_t rank = ~bits;
    return rank < RM_NO_RANK ? rank : RM_NO_RANK - 1;
}

/* ---- symbols ------------------------------------------------------------------------------------------------------------ */

static bool reserve_symbols(rm_bpe_work *w, size_t n) {
    if (n <= w->cap_sym) return true;
    size_t cap = w->cap_sym * 2 > n ? w->cap_sym * 2 : n;
    rm_sym *p = rm_realloc_array(w->sym, cap, sizeof *p);
    if (!p) return false;
    w->sym = p;
    w->cap_sym = cap;
    return true;
}

/* All bytes of a character as <0xHH> tokens, if there are such tokens for all. */
static bool all_bytes(const rm_bpe *b, const char *s, int n) {
    for (int i = 0; i < n; i++)
        if (b->byte_id[(unsigned char)s[i]] < 0) return false;
    return true;
}

/* The first symbols of a word, into w->sym (room for n); how many. An unknown character waits for the next known one (not
 * for a byte token: ref tokenizers bpe/model.rs merge_word), so that a run of them can become one symbol. */
static size_t first_symbols(const rm_bpe *b, rm_bpe_work *w, const char *s, size_t n) {
    size_t k = 0;
    bool waiting = false;
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = b->byte_level ? 1 : rm_utf8_decode_lossy(s + i, n - i, &cp);
        int32_t id = b->byte_level ? b->byte_id[(unsigned char)s[i]] : rm_vocab_find(b->vocab, s + i, (size_t)len);
        if (id >= 0 || b->score_rank) {
            if (waiting) w->sym[k++].id = b->unk;
            waiting = false;
            w->sym[k++] = (rm_sym){.id = id, .at = (uint32_t)i, .end = (uint32_t)i + (uint32_t)len};
        } else if (b->byte_fallback && !b->byte_level && all_bytes(b, s + i, len)) {
            for (int j = 0; j < len; j++) w->sym[k++].id = b->byte_id[(unsigned char)s[i + (size_t)j]];
        } else if (b->unk >= 0) {
            if (waiting && !b->fuse_unk) w->sym[k++].id = b->unk;
            waiting = true;
        }
        i += (size_t)len;
    }
    if (waiting) w->sym[k++].id = b->unk;
    return k;
}

/* ---- short words -------------------------------------------------------------------------------------------------------- */

static bool merge_short(const rm_bpe *b, const rm_sym *sym, int n, rm_ids *out) {
    int32_t id[SHORT], into[SHORT];
    uint32_t rank[SHORT];
    for (int i = 0; i < n; i++) id[i] = sym[i].id;
    for (int i = 0; i + 1 < n; i++) {
        const rm_merge *m = find_merge(&b->merges, id[i], id[i + 1]);
        rank[i] = m ? m->rank : RM_NO_RANK;
        into[i] = m ? m->into : -1;
    }
    while (n > 1) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == RM_NO_RANK) break;
        id[best] = into[best];
        n--;
        for (int i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            rank[i - 1] = rank[i];
            into[i - 1] = into[i];
        }
        for (int i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const rm_merge *m = find_merge(&b->merges, id[i], id[i + 1]);
            rank[i] = m ? m->rank : RM_NO_RANK;
            into[i] = m ? m->into : -1;
        }
    }
    for (int i = 0; i < n; i++)
        if (!rm_ids_push(out, id[i])) return false;
    return true;
}

/* ---- long words --------------------------------------------------------------------------------------------------------- */

static void sift_down(uint64_t *h, size_t n, size_t i) {
    uint64_t x = h[i];
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && h[c + 1] < h[c]) c++;
        if (h[c] >= x) break;
        h[i] = h[c];
    }
    h[i] = x;
}

static bool push(rm_bpe_work *w, uint64_t x) {
    if (w->n_heap == w->cap_heap) {
        size_t cap = w->cap_heap ? w->cap_heap * 2 : 256;
        uint64_t *p = rm_realloc_array(w->heap, cap, sizeof *p);
        if (!p) return false;
        w->heap = p;
        w->cap_heap = cap;
    }
    size_t i = w->n_heap++;
    for (size_t up; i && w->heap[up = (i - 1) / 2] > x; i = up) w->heap[i] = w->heap[up];
    w->heap[i] = x;
    return true;
}

/* Looks the pair (i, next) up and notes its rank in i. */
static void rank_pair(const rm_bpe *b, rm_sym *sym, int32_t i, const char *s) {
    rm_sym *l = &sym[i];
    l->rank = RM_NO_RANK;
    if (l->next < 0) return;
    const rm_sym *r = &sym[l->next];
    if (b->score_rank) {
        l->into = rm_vocab_find(b->vocab, s + l->at, r->end - l->at);
        if (l->into >= 0) l->rank = b->score_rank[l->into];
    } else {
        const rm_merge *m = find_merge(&b->merges, l->id, r->id);
        if (m) l->rank = m->rank, l->into = m->into;
    }
}

/* A heap entry is rank << 32 | symbol; it counts if the symbol's rank is still that one. */
static bool merge_long(const rm_bpe *b, rm_bpe_work *w, size_t n, const char *s) {
    rm_sym *sym = w->sym;
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        sym[i].prev = (int32_t)i - 1;
        sym[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
        rank_pair(b, sym, (int32_t)i, s);
        if (sym[i].rank != RM_NO_RANK && !push(w, (uint64_t)sym[i].rank << 32 | i)) return false;
    }
    while (w->n_heap) {
        uint64_t top = w->heap[0];
        w->heap[0] = w->heap[--w->n_heap];
        if (w->n_heap) sift_down(w->heap, w->n_heap, 0);
        int32_t i = (int32_t)(uint32_t)top;
        rm_sym *l = &sym[i];
        if (l->rank != top >> 32) continue;
        rm_sym *r = &sym[l->next];
        l->id = l->into;
        l->end = r->end;
        l->next = r->next;
        r->rank = RM_NO_RANK;
        if (l->next >= 0) sym[l->next].prev = i;
        rank_pair(b, sym, i, s);
        if (l->rank != RM_NO_RANK && !push(w, (uint64_t)l->rank << 32 | (uint32_t)i)) return false;
        if (l->prev >= 0) {
            rm_sym *p = &sym[l->prev];
            rank_pair(b, sym, l->prev, s);
            if (p->rank != RM_NO_RANK && !push(w, (uint64_t)p->rank << 32 | (uint32_t)l->prev)) return false;
        }
    }
    return true;
}

/* A symbol of merging by scores that is no token: its bytes. */
static bool push_bytes(const rm_bpe *b, const char *s, size_t n, rm_ids *out) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_id[(unsigned char)s[i]];
        if (id < 0) id = b->unk;
        if (id >= 0 && !rm_ids_push(out, id)) return false;
    }
    return true;
}

static bool merge_piece(const rm_bpe *b, rm_bpe_work *w, const char *s, size_t n, rm_ids *out) {
    if (n > INT32_MAX - 8 || !reserve_symbols(w, n + 1)) return false;
    size_t k = first_symbols(b, w, s, n);
    if (k <= SHORT && !b->score_rank) return merge_short(b, w->sym, (int)k, out);
    if (!merge_long(b, w, k, s)) return false;
    for (int32_t i = k ? 0 : -1; i >= 0; i = w->sym[i].next) {
        const rm_sym *x = &w->sym[i];
        if (!(x->id >= 0 ? rm_ids_push(out, x->id) : push_bytes(b, s + x->at, x->end - x->at, out))) return false;
    }
    return true;
}

/* ---- words ---------------------------------------------------------------------------------------------------------------- */

static const char blank[] = "\xE2\x96\x81"; /* U+2581 */

static unsigned char_before(const char *s, size_t i) { /* i > 0, valid UTF-8 */
    int len;
    do i--;
    while (i && ((unsigned char)s[i] & 0xC0) == 0x80);
    return rm_char_at(s + i, &len);
}

/* What precedes a U+2581 may stand for another character: <0xHH> for its byte, the unknown token for anything. */
static bool stands_for_others(const rm_bpe *b, const char *s, size_t i) {
    rm_text unk = rm_vocab_text(b->vocab, b->unk);
    return (i >= 6 && memcmp(s + i - 6, "<0x", 3) == 0) || (unk.s && i >= unk.n && memcmp(s + i - unk.n, unk.s, unk.n) == 0);
}

bool rm_bpe_find_cuts(rm_bpe *b) {
    const rm_vocab *v = b->vocab;
    bool none_dropped = b->score_rank || b->unk >= 0 || b->byte_fallback; /* a dropped character would make others neighbours */
    for (int i = 0; i < 256 && !b->score_rank && b->unk < 0; i++) none_dropped &= b->byte_id[i] >= 0;
    if (b->byte_level || !none_dropped || rm_vocab_find(v, blank, 3) < 0) return true;
    b->joined = rm_calloc(RM_JOINED + 1, 1);
    if (!b->joined) return false;
    for (int32_t id = 0; id < v->n_id; id++) {
        rm_text x = rm_vocab_text(v, id);
        for (size_t i = 1; x.s && i + 3 <= x.n; i++) {
            const char *q = memchr(x.s + i, blank[0], x.n - i);
            if (!q) break;
            i = (size_t)(q - x.s);
            if (x.n - i < 3 || memcmp(q, blank, 3) != 0) continue;
            if (stands_for_others(b, x.s, i)) {
                rm_free(b->joined);
                b->joined = NULL;
                return true;
            }
            b->joined[char_before(x.s, i) & RM_JOINED] = 1;
        }
    }
    return true;
}

bool rm_bpe_word(const rm_bpe *b, rm_bpe_work *w, const char *s, size_t n, rm_ids *out) {
    if (b->ignore_merges && n <= b->vocab->max_len) {
        int32_t id;
        if (b->byte_level) {
            rm_strbuf_clear(&w->mapped);
            rm_bytes_to_alphabet(&w->mapped, s, n);
            if (w->mapped.failed) return false;
            id = rm_vocab_find(b->vocab, rm_str(&w->mapped), w->mapped.n);
        } else {
            id = rm_vocab_find(b->vocab, s, n);
        }
        if (id >= 0) return rm_ids_push(out, id);
    }
    if (!b->joined) return merge_piece(b, w, s, n, out);
    size_t from = 0;
    for (size_t i = 1; i < n; i++) {
        const char *q = memchr(s + i, blank[0], n - i);
        if (!q) break;
        i = (size_t)(q - s);
        if (n - i < 3 || memcmp(q, blank, 3) != 0 || b->joined[char_before(s, i) & RM_JOINED]) continue;
        if (!merge_piece(b, w, s + from, i - from, out)) return false;
        from = i;
    }
    return merge_piece(b, w, s + from, n - from, out);
}

void rm_bpe_work_free(rm_bpe_work *w) {
    rm_free(w->sym);
    rm_free(w->heap);
    rm_strbuf_free(&w->mapped);
    *w = (rm_bpe_work){0};
}

void rm_bpe_free(rm_bpe *b) {
    rm_free(b->merges.slot);
    rm_free(b->score_rank);
    rm_free(b->joined);
    *b = (rm_bpe){0};
}
