/* Reading merges: from pairs of strings to a table from pairs of ids. Both steps look far-off memory up, so they work on
 * blocks and fetch ahead. */
#include <string.h>

#include "tok/bpe.h"
#include "tok/unicode.h"
#include "util/mem.h"

enum { MAX_PROBE = 1024 };

bool rm_merges_reserve(rm_merge_reader *r, size_t n) {
    if (n <= r->cap_list) return true;
    rm_merge *p = rm_realloc_array(r->list, n, sizeof *p);
    if (!p) return false;
    r->list = p;
    r->cap_list = n;
    return true;
}

static rmas_status flush(rm_merge_reader *r, rmas_error *err) {
    uint64_t hash[RM_COUNT(r->pending)][3];
    const char *s = rm_str(&r->text);
    const rm_id_table *ids = &r->vocab->ids;
    if (r->text.failed || !rm_merges_reserve(r, r->n_list + RM_COUNT(r->pending) > r->cap_list ? r->n_list * 2 + 256 : 0))
        return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for the merges", r->name);
    for (int k = 0; k < r->n_pending; k++) {
        size_t a = r->pending[k].n_left, b = r->pending[k].n_right;
        hash[k][0] = rm_text_hash(s, a);
        hash[k][1] = rm_text_hash(s + a, b);
        hash[k][2] = rm_text_hash(s, a + b);
        if (ids->slot)
            for (int j = 0; j < 3; j++) rm_id_table_prefetch_slot(ids, hash[k][j]);
        s += a + b;
    }
    for (int k = 0; ids->slot && k < r->n_pending * 3; k++) rm_id_table_prefetch_place(ids, r->vocab, hash[k / 3][k % 3]);
    for (int k = 0; ids->slot && k < r->n_pending * 3; k++) rm_id_table_prefetch_text(ids, r->vocab, hash[k / 3][k % 3]);
    s = rm_str(&r->text);
    for (int k = 0; k < r->n_pending; k++) {
        size_t a = r->pending[k].n_left, b = r->pending[k].n_right;
        int32_t left = rm_id_table_find(ids, r->vocab, s, a, hash[k][0]), right = rm_id_table_find(ids, r->vocab, s + a, b, hash[k][1]);
        int32_t into = rm_id_table_find(ids, r->vocab, s, a + b, hash[k][2]);
        if (left < 0 || right < 0 || into < 0)
            return rm_fail(err, RMAS_E_FORMAT, "%s: merge %zu ('%.*s' with '%.*s'): %s is not in the vocabulary", r->name, r->n_list,
                           (int)(a < 60 ? a : 60), s, (int)(b < 60 ? b : 60), s + a,
                           left < 0    ? "the first part"
                           : right < 0 ? "the second part"
                                       : "the result");
        uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
        r->list[r->n_list] = (rm_merge){pair, (uint32_t)r->n_list, into};
        r->n_list++;
        s += a + b;
    }
    rm_strbuf_clear(&r->text);
    r->n_pending = 0;
    return RMAS_OK;
}

rmas_status rm_merges_left(rm_merge_reader *r, const char *s, size_t n, rmas_error *err) {
    if (n > INT32_MAX || r->n_list > INT32_MAX) return rm_fail(err, RMAS_E_FORMAT, "%s: the merges are too large", r->name);
    rm_strbuf_add(&r->text, s, n);
    r->pending[r->n_pending].n_left = (uint32_t)n;
    return RMAS_OK;
}

rmas_status rm_merges_right(rm_merge_reader *r, const char *s, size_t n, rmas_error *err) {
    if (n > INT32_MAX) return rm_fail(err, RMAS_E_FORMAT, "%s: the merges are too large", r->name);
    rm_strbuf_add(&r->text, s, n);
    r->pending[r->n_pending].n_right = (uint32_t)n;
    return ++r->n_pending == (int)RM_COUNT(r->pending) ? flush(r, err) : RMAS_OK;
}

rmas_status rm_merges_joined(rm_merge_reader *r, const char *s, size_t n, rmas_error *err) {
    const char *space = memchr(s, ' ', n);
    size_t a = space ? (size_t)(space - s) : n;
    if (!space || memchr(space + 1, ' ', n - a - 1))
        return rm_fail(err, RMAS_E_FORMAT, "%s: merge %zu: '%.*s' is not two parts with one space between", r->name, r->n_list + (size_t)r->n_pending,
                       (int)(n < 60 ? n : 60), s);
    RM_TRY(rm_merges_left(r, s, a, err));
    return rm_merges_right(r, space + 1, n - a - 1, err);
}

rmas_status rm_merges_finish(rm_merge_reader *r, rm_merge_table *out, rmas_error *err) {
    RM_TRY(flush(r, err));
    size_t slots = 16;
    while (slots / 3 * 2 < r->n_list) slots *= 2;
    *out = (rm_merge_table){rm_array(slots, sizeof *out->slot), slots - 1};
    if (!out->slot) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for the merges", r->name);
    memset(out->slot, 0xFF, slots * sizeof *out->slot);
    for (size_t k = 0; k < r->n_list; k++) {
        if (k + 16 < r->n_list) __builtin_prefetch(&out->slot[rm_pair_hash(r->list[k + 16].pair) & out->mask], 1);
        const rm_merge *m = &r->list[k];
        size_t i = rm_pair_hash(m->pair) & out->mask;
        int probe = 0;
        while (out->slot[i].pair != UINT64_MAX && out->slot[i].pair != m->pair && probe < MAX_PROBE) probe++, i = (i + 1) & out->mask;
        if (probe == MAX_PROBE) return rm_fail(err, RMAS_E_FORMAT, "%s: the merges are built to make look-ups slow; not read", r->name);
        out->slot[i] = *m; /* of two equal merges the later counts, as in the reference */
    }
    return RMAS_OK;
}

void rm_merges_free(rm_merge_reader *r) {
    rm_strbuf_free(&r->text);
    rm_free(r->list);
    r->list = NULL;
}
