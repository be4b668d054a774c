/* tokenizer.json: one pass of the pull parser over the file (33 MB for Gemma); the small components in it are handed to
 * components.c. */
#include <string.h>

#include "tok/components.h"
#include "util/json.h"
#include "util/mem.h"

typedef struct {
    rm_tok *t;
    rm_json j;
    rmas_error *err;
    size_t merges_at; /* where the value of "merges" begins if it came before the vocabulary */
    bool have_vocab, have_merges, have_model;
    char *unk; /* unk_token */
    size_t n_unk;
} reader;

static rmas_status broken(reader *r) { return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s at byte %zu", r->t->name, r->j.error, r->j.pos); }
static rmas_status no_memory(reader *r) { return rm_fail(r->err, RMAS_E_NOMEM, "%s: out of memory for the tokenizer", r->t->name); }
static rmas_status expected(reader *r, const char *where, const char *what) {
    return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: %s was expected at byte %zu", r->t->name, where, what, r->j.pos);
}

static rmas_status next(reader *r, rm_json_event *e) {
    *e = rm_json_next(&r->j);
    return *e == RM_JSON_ERROR ? broken(r) : RMAS_OK;
}

static rmas_status skip(reader *r, rm_json_event e) { return rm_json_skip(&r->j, e) ? RMAS_OK : broken(r); }

/* The source text of the value behind the key that was just read; reads over it. */
static rmas_status slice(reader *r, const char **s, size_t *n) {
    size_t at = r->j.pos;
    RM_TRY(skip(r, RM_JSON_KEY));
    while (r->j.text[at] != ':') at++; /* only white space can stand before it */
    at++;
    *s = r->j.text + at;
    *n = r->j.pos - at;
    return RMAS_OK;
}

/* ---- vocabulary and merges -------------------------------------------------------------------------------------------------- */

static rmas_status read_vocab(reader *r) {
    rm_json_event e;
    rm_vocab *v = &r->t->vocab;
    if (r->have_vocab) return rm_fail(r->err, RMAS_E_FORMAT, "%s: two vocabularies", r->t->name);
    RM_TRY(next(r, &e));
    if (e != RM_JSON_OBJECT)
        return rm_fail(r->err, RMAS_E_UNSUPPORTED, "%s: unsupported model: its vocabulary is not an object of token: id", r->t->name);
    for (;;) {
        RM_TRY(next(r, &e));
        if (e == RM_JSON_OBJECT_END) break;
        size_t n = r->j.len;
        uint32_t off = rm_vocab_pool(v, r->j.str, n);
        int64_t id;
        if (off == RM_NO_TEXT) return no_memory(r);
        RM_TRY(next(r, &e));
        if (e != RM_JSON_NUMBER || !rm_json_int(&r->j, &id) || id < 0 || id >= INT32_MAX) return expected(r, "vocabulary", "an id");
        if (!rm_vocab_add(v, off, n, (int32_t)id)) return no_memory(r);
    }
    r->have_vocab = true;
    return rm_vocab_finish(v, r->t->name, r->err);
}

static rmas_status read_merge(reader *r, rm_merge_reader *m, rm_json_event e) {
    if (e == RM_JSON_STRING) return rm_merges_joined(m, r->j.str, r->j.len, r->err);
    if (e != RM_JSON_ARRAY) return expected(r, "merges", "\"a b\" or [\"a\", \"b\"]");
    RM_TRY(next(r, &e));
    if (e != RM_JSON_STRING) return expected(r, "merges", "a string");
    RM_TRY(rm_merges_left(m, r->j.str, r->j.len, r->err));
    RM_TRY(next(r, &e));
    if (e != RM_JSON_STRING) return expected(r, "merges", "a second string");
    RM_TRY(rm_merges_right(m, r->j.str, r->j.len, r->err));
    RM_TRY(next(r, &e));
    return e == RM_JSON_ARRAY_END ? RMAS_OK : expected(r, "merges", "the end of the pair");
}

static rmas_status read_merges(reader *r) {
    rm_merge_reader m = {.vocab = &r->t->vocab, .name = r->t->name};
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e != RM_JSON_ARRAY) return expected(r, "merges", "an array");
    rmas_status s = RMAS_OK;
    while (s == RMAS_OK && (s = next(r, &e)) == RMAS_OK && e != RM_JSON_ARRAY_END) s = read_merge(r, &m, e);
    if (s == RMAS_OK) s = rm_merges_finish(&m, &r->t->bpe.merges, r->err);
    rm_merges_free(&m);
    return s;
}

/* ---- model ------------------------------------------------------------------------------------------------------------------ */

static rmas_status read_flag(reader *r, const char *key, bool *out) {
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e != RM_JSON_TRUE && e != RM_JSON_FALSE && e != RM_JSON_NULL) return expected(r, key, "true or false");
    *out = e == RM_JSON_TRUE;
    return RMAS_OK;
}

static rmas_status read_affix(reader *r, const char *key) {
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e == RM_JSON_NULL || (e == RM_JSON_STRING && r->j.len == 0)) return RMAS_OK;
    return rm_fail(r->err, RMAS_E_UNSUPPORTED, "%s: unsupported model: it has a %s", r->t->name, key);
}

static rmas_status read_unk(reader *r) {
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e == RM_JSON_NULL) return RMAS_OK;
    if (e != RM_JSON_STRING) return expected(r, "unk_token", "a string");
    rm_free(r->unk);
    r->n_unk = r->j.len;
    r->unk = rm_strndup(r->j.str, r->j.len);
    return r->unk ? RMAS_OK : no_memory(r);
}

static rmas_status model_key(reader *r) {
    rm_bpe *b = &r->t->bpe;
    rm_json *j = &r->j;
    rm_json_event e;
    if (rm_json_is(j, "vocab")) return read_vocab(r);
    if (rm_json_is(j, "merges")) {
        if (r->have_merges) return rm_fail(r->err, RMAS_E_FORMAT, "%s: two lists of merges", r->t->name);
        r->have_merges = true;
        if (r->have_vocab) return read_merges(r);
        const char *s;
        size_t n;
        RM_TRY(slice(r, &s, &n));
        r->merges_at = (size_t)(s - r->j.text);
        return RMAS_OK;
    }
    if (rm_json_is(j, "type")) {
        RM_TRY(next(r, &e));
        if (e != RM_JSON_STRING) return expected(r, "model", "its type");
        if (rm_json_is(j, "BPE")) return RMAS_OK;
        return rm_fail(r->err, RMAS_E_UNSUPPORTED, "%s: unsupported model type '%.*s': only BPE is read", r->t->name,
                       (int)(j->len < 60 ? j->len : 60), j->str);
    }
    if (rm_json_is(j, "dropout")) {
        double p = 0;
        RM_TRY(next(r, &e));
        if (e == RM_JSON_NULL || (e == RM_JSON_NUMBER && rm_json_double(j, &p) && p == 0)) return RMAS_OK;
        return rm_fail(r->err, RMAS_E_UNSUPPORTED, "%s: unsupported model: it has dropout", r->t->name);
    }
    if (rm_json_is(j, "unk_token")) return read_unk(r);
    if (rm_json_is(j, "continuing_subword_prefix")) return read_affix(r, "continuing_subword_prefix");
    if (rm_json_is(j, "end_of_word_suffix")) return read_affix(r, "end_of_word_suffix");
    if (rm_json_is(j, "fuse_unk")) return read_flag(r, "fuse_unk", &b->fuse_unk);
    if (rm_json_is(j, "byte_fallback")) return read_flag(r, "byte_fallback", &b->byte_fallback);
    if (rm_json_is(j, "ignore_merges")) return read_flag(r, "ignore_merges", &b->ignore_merges);
    return skip(r, RM_JSON_KEY);
}

static rmas_status read_model(reader *r) {
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e != RM_JSON_OBJECT || r->have_model) return expected(r, "model", "one object");
    r->have_model = true;
    for (;;) {
        RM_TRY(next(r, &e));
        if (e == RM_JSON_OBJECT_END) break;
        RM_TRY(model_key(r));
    }
    if (!r->have_vocab || !r->have_merges)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: the model has no %s", r->t->name, r->have_vocab ? "merges" : "vocab");
    if (!r->merges_at) return RMAS_OK;
    rm_json saved = r->j; /* the merges came first: now that there is a vocabulary, read them */
    rm_json_init(&r->j, saved.text + r->merges_at, saved.n - r->merges_at);
    rmas_status s = read_merges(r);
    rm_json_free(&r->j);
    r->j = saved;
    return s;
}

/* ---- added tokens ----------------------------------------------------------------------------------------------------------- */

static rmas_status read_added_token(reader *r) {
    rm_added_token x = {.id = -1};
    bool have_content = false, have_normalized = false;
    uint32_t off = 0;
    size_t n = 0;
    for (;;) {
        rm_json_event e;
        int64_t id;
        RM_TRY(next(r, &e));
        if (e == RM_JSON_OBJECT_END) break;
        if (rm_json_is(&r->j, "id")) {
            RM_TRY(next(r, &e));
            if (e != RM_JSON_NUMBER || !rm_json_int(&r->j, &id) || id < 0 || id >= INT32_MAX) return expected(r, "added_tokens", "an id");
            x.id = (int32_t)id;
        } else if (rm_json_is(&r->j, "content")) {
            RM_TRY(next(r, &e));
            if (e != RM_JSON_STRING) return expected(r, "added_tokens", "a string");
            off = rm_vocab_pool(&r->t->vocab, r->j.str, n = r->j.len);
            if (off == RM_NO_TEXT || n > INT32_MAX) return no_memory(r);
            have_content = true;
        } else if (rm_json_is(&r->j, "single_word"))
            RM_TRY(read_flag(r, "single_word", &x.single_word));
        else if (rm_json_is(&r->j, "lstrip"))
            RM_TRY(read_flag(r, "lstrip", &x.lstrip));
        else if (rm_json_is(&r->j, "rstrip"))
            RM_TRY(read_flag(r, "rstrip", &x.rstrip));
        else if (rm_json_is(&r->j, "normalized"))
            RM_TRY((have_normalized = true, read_flag(r, "normalized", &x.normalized)));
        else if (rm_json_is(&r->j, "special"))
            RM_TRY(read_flag(r, "special", &x.special));
        else
            RM_TRY(skip(r, RM_JSON_KEY));
    }
    if (x.id < 0 || !have_content)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: added_tokens: entry %d has no %s", r->t->name, r->t->n_added, x.id < 0 ? "id" : "content");
    if (!have_normalized) x.normalized = !x.special;
    if (n == 0) return RMAS_OK; /* ignored by the reference, too */
    rm_added_token *y = rm_tok_add_token(r->t, "", 0, x.id);
    if (!y) return no_memory(r);
    *y = x;
    y->off = off;
    y->len = (uint32_t)n;
    return RMAS_OK;
}

static rmas_status read_added(reader *r) {
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e == RM_JSON_NULL) return RMAS_OK;
    if (e != RM_JSON_ARRAY) return expected(r, "added_tokens", "an array");
    for (;;) {
        RM_TRY(next(r, &e));
        if (e == RM_JSON_ARRAY_END) return RMAS_OK;
        if (e != RM_JSON_OBJECT) return expected(r, "added_tokens", "an object");
        RM_TRY(read_added_token(r));
    }
}

/* Ids of added tokens: one that the vocabulary has keeps its id there, whatever the list says (as in the reference); any other
 * must have an id of its own. Of entries with equal text the first one counts. */
static rmas_status settle_added(reader *r) {
    rm_tok *t = r->t;
    rm_vocab *v = &t->vocab;
    rm_id_table seen;
    if (t->n_added == 0) return RMAS_OK;
    int max = v->n_id;
    for (int i = 0; i < t->n_added; i++)
        if (t->added[i].id > max) max = t->added[i].id;
    if (max / 16 > v->n_id + t->n_added + 4096)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: added_tokens: id %d with a vocabulary of %d tokens", t->name, max, v->n_id);
    if (!rm_id_table_init(&seen, (size_t)t->n_added)) return no_memory(r);
    rmas_status s = RMAS_OK;
    int n = 0;
    for (int i = 0; i < t->n_added && s == RMAS_OK; i++) {
        rm_added_token x = t->added[i];
        const char *text = v->pool + x.off;
        int shown = x.len < 60 ? (int)x.len : 60;
        uint64_t hash = rm_text_hash(text, x.len);
        int32_t known = rm_vocab_find(v, text, x.len), old = rm_id_table_find(&seen, v, text, x.len, hash);
        if (known >= 0) x.id = known;
        if (old >= 0) continue;
        rm_text taken = rm_vocab_text(v, x.id);
        if (known < 0 && taken.s)
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: added token '%.*s' has id %d, which belongs to '%.*s'", t->name, shown, text, x.id,
                        (int)(taken.n < 60 ? taken.n : 60), taken.s);
        else if (!rm_vocab_set(v, x.id, x.off, x.len))
            s = no_memory(r);
        else if (rm_id_table_add(&seen, v, x.id, hash, &old) < 0)
            s = rm_fail(r->err, RMAS_E_FORMAT, "%s: the added tokens are built to make look-ups slow; not read", t->name);
        t->added[n++] = x;
    }
    t->n_added = n;
    rm_id_table_free(&seen);
    return s;
}

/* ---- the file ----------------------------------------------------------------------------------------------------------------- */

static rmas_status top_key(reader *r) {
    typedef rmas_status (*component_fn)(rm_tok *, const char *, size_t, rmas_error *);
    static const struct {
        const char *key;
        component_fn read;
    } component[] = {{"normalizer", rm_tok_normalizer},
                     {"pre_tokenizer", rm_tok_pre_tokenizer},
                     {"post_processor", rm_tok_post_processor},
                     {"decoder", rm_tok_decoder}};
    if (rm_json_is(&r->j, "added_tokens")) return read_added(r);
    if (rm_json_is(&r->j, "model")) return read_model(r);
    for (size_t i = 0; i < RM_COUNT(component); i++) {
        if (!rm_json_is(&r->j, component[i].key)) continue;
        const char *s;
        size_t n;
        RM_TRY(slice(r, &s, &n));
        return component[i].read(r->t, s, n, r->err);
    }
    return skip(r, RM_JSON_KEY);
}

static rmas_status read_file(reader *r) {
    rm_json_event e;
    RM_TRY(next(r, &e));
    if (e != RM_JSON_OBJECT) return expected(r, "tokenizer.json", "an object");
    for (;;) {
        RM_TRY(next(r, &e));
        if (e == RM_JSON_OBJECT_END) break;
        RM_TRY(top_key(r));
    }
    RM_TRY(next(r, &e)); /* nothing but white space may follow */
    if (!r->have_model) return rm_fail(r->err, RMAS_E_FORMAT, "%s: no model in this file: not a tokenizer.json", r->t->name);
    RM_TRY(settle_added(r));
    if (r->unk) r->t->bpe.unk = rm_vocab_find(&r->t->vocab, r->unk, r->n_unk);
    return RMAS_OK;
}

rmas_status rm_tok_read_json(rm_tok *t, const char *text, size_t n, rmas_error *err) {
    reader r = {.t = t, .err = err};
    rm_json_init(&r.j, text, n);
    rmas_status s = n > INT32_MAX ? rm_fail(err, RMAS_E_FORMAT, "%s: too large for a tokenizer.json", t->name) : read_file(&r);
    rm_json_free(&r.j);
    rm_free(r.unk);
    return s;
}
