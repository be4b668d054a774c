/* Text to ids: added tokens are cut out; every piece between them is normalised, split into words and merged. Nothing here
 * looks at a character more than a constant number of times. */
#include <string.h>

#include "tok/internal.h"
#include "util/mem.h"
#include "util/utf8.h"

typedef struct {
    const rm_tok *t;
    rm_ids *out;
    rmas_error *err;
    rm_bpe_work bpe;
    rm_pattern_work pattern;
    rm_hits raw, normal;
    rm_strbuf a, b; /* normalised text */
    rm_strbuf made[RM_MAX_STEPS]; /* text that a pre-tokenizer changed */
} encoder;

static rmas_status no_memory(const encoder *e) { return rm_fail(e->err, RMAS_E_NOMEM, "%s: out of memory while encoding", e->t->name); }

/* ---- normalising ---------------------------------------------------------------------------------------------------------- */

rmas_status rm_step_replace(const rm_step *x, rm_pattern_work *w, const char *s, size_t n, rm_strbuf *out, rmas_error *err) {
    rm_match_walk walk = {0};
    size_t start = out->n;
    for (size_t done = 0;;) {
        size_t a, b;
        RM_TRY(rm_pattern_walk(x->pattern, w, &walk, s, n, &a, &b, err));
        if (out->n - start > 32 * n + 65536)
            return rm_fail(err, RMAS_E_UNSUPPORTED, "a replacement in the tokenizer makes the text more than 32 times longer");
        if (a > n) {
            rm_strbuf_add(out, s + done, n - done);
            return RMAS_OK;
        }
        rm_strbuf_add(out, s + done, a - done);
        rm_strbuf_add(out, x->text, x->n);
        done = b;
    }
}

rmas_status rm_tok_normalize(const rm_tok *t, rm_pattern_work *w, const char **s, size_t *n, rm_strbuf *a, rm_strbuf *b, rmas_error *err) {
    for (int i = 0; i < t->norm.n; i++) {
        const rm_step *x = &t->norm.step[i];
        if (*n == 0 && x->kind != RM_STEP_REPLACE) continue;
        if (x->kind == RM_STEP_FORM && x->form == RM_NFC && rm_nfc_is_inert(*s, *n)) continue;
        rm_strbuf_clear(a);
        if (x->kind == RM_STEP_FORM) {
            rm_normalize(a, *s, *n, x->form);
        } else if (x->kind == RM_STEP_PREPEND) {
            rm_strbuf_add(a, x->text, x->n);
            rm_strbuf_add(a, *s, *n);
        } else {
            RM_TRY(rm_step_replace(x, w, *s, *n, a, err));
        }
        if (a->failed) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory while normalising", t->name);
        *s = rm_str(a);
        *n = a->n;
        rm_strbuf *swap = a;
        a = b;
        b = swap;
    }
    return RMAS_OK;
}

/* ---- splitting into words ------------------------------------------------------------------------------------------------- */

static rmas_status words(encoder *e, int step, const char *s, size_t n, bool first);

/* Collects matches and gaps in order and hands on what the behaviour makes of them. The last item waits, because the next
 * one may join it. */
typedef struct {
    encoder *e;
    int step;
    const char *s;
    bool first;
    rm_split_how how;
    bool waiting, is_match;
    size_t from, to;
} splitter;

static rmas_status hand_on(splitter *p, size_t from, size_t to) {
    return from < to ? words(p->e, p->step + 1, p->s + from, to - from, p->first && from == 0) : RMAS_OK;
}

static rmas_status item(splitter *p, size_t from, size_t to, bool is_match) {
    if (p->how == RM_SPLIT_REMOVED) return is_match ? RMAS_OK : hand_on(p, from, to);
    if (p->how == RM_SPLIT_ISOLATED) return hand_on(p, from, to);
    bool join = p->waiting && (p->how == RM_SPLIT_CONTIGUOUS      ? is_match == p->is_match
                               : p->how == RM_SPLIT_WITH_PREVIOUS ? is_match && !p->is_match
                                                                  : !is_match && p->is_match);
    if (join) {
        p->to = to;
        if (p->how != RM_SPLIT_CONTIGUOUS) p->is_match = is_match;
        return RMAS_OK;
    }
    size_t a = p->from, b = p->to;
    bool was = p->waiting;
    p->waiting = true;
    p->from = from;
    p->to = to;
    p->is_match = is_match;
    return was ? hand_on(p, a, b) : RMAS_OK;
}

static rmas_status split(encoder *e, int step, const rm_pattern *pattern, rm_split_how how, bool invert, const char *s, size_t n, bool first) {
    splitter p = {.e = e, .step = step, .s = s, .first = first, .how = how};
    rm_match_walk walk = {0};
    size_t done = 0;
    for (;;) {
        size_t a, b;
        RM_TRY(rm_pattern_walk(pattern, &e->pattern, &walk, s, n, &a, &b, e->err));
        if (a > n) break;
        if (a > done) RM_TRY(item(&p, done, a, invert));
        RM_TRY(item(&p, a, b, !invert));
        done = b;
    }
    if (done < n) RM_TRY(item(&p, done, n, invert));
    return p.waiting ? hand_on(&p, p.from, p.to) : RMAS_OK;
}

static rmas_status split_digits(encoder *e, int step, const rm_step *x, const char *s, size_t n, bool first) {
    splitter p = {.e = e, .step = step, .s = s, .first = first, .how = x->flag ? RM_SPLIT_ISOLATED : RM_SPLIT_CONTIGUOUS};
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        int len;
        bool number = rm_char_class(rm_char_at(s + i, &len)) & RM_CH_N;
        if (number) {
            if (i > done) RM_TRY(item(&p, done, i, false));
            RM_TRY(item(&p, i, i + (size_t)len, true));
            done = i + (size_t)len;
        }
        i += (size_t)len;
    }
    if (done < n) RM_TRY(item(&p, done, n, false));
    return p.waiting ? hand_on(&p, p.from, p.to) : RMAS_OK;
}

static rmas_status metaspace(encoder *e, int step, const rm_step *x, const char *s, size_t n, bool first) {
    rm_strbuf *b = &e->made[step];
    rm_strbuf_clear(b);
    bool there = (n >= x->n && memcmp(s, x->text, x->n) == 0) || s[0] == ' ';
    if (!there && (x->prefix == RM_PREFIX_ALWAYS || (x->prefix == RM_PREFIX_FIRST && first))) rm_strbuf_add(b, x->text, x->n);
    for (size_t i = 0, next; i < n; i = next) {
        const char *space = memchr(s + i, ' ', n - i);
        next = space ? (size_t)(space - s) + 1 : n;
        rm_strbuf_add(b, s + i, next - i - (space ? 1 : 0));
        if (space) rm_strbuf_add(b, x->text, x->n);
    }
    if (b->failed) return no_memory(e);
    return x->flag ? split(e, step, x->pattern, RM_SPLIT_WITH_NEXT, false, b->s, b->n, first) : words(e, step + 1, b->s, b->n, first);
}

/* s[0..n), not empty, behind the first `step` pre-tokenizers. first: it begins where the text begins. */
static rmas_status words(encoder *e, int step, const char *s, size_t n, bool first) {
    if (step == e->t->pre.n) return rm_bpe_word(&e->t->bpe, &e->bpe, s, n, e->out) ? RMAS_OK : no_memory(e);
    const rm_step *x = &e->t->pre.step[step];
    switch (x->kind) {
    case RM_STEP_SPLIT: return split(e, step, x->pattern, x->how, x->invert, s, n, first);
    case RM_STEP_DIGITS: return split_digits(e, step, x, s, n, first);
    case RM_STEP_METASPACE: return metaspace(e, step, x, s, n, first);
    default: break;
    }
    if (x->flag && s[0] != ' ') { /* RM_STEP_BYTES that wants a space in front */
        rm_strbuf *b = &e->made[step];
        rm_strbuf_clear(b);
        rm_strbuf_putc(b, ' ');
        rm_strbuf_add(b, s, n);
        if (b->failed) return no_memory(e);
        s = b->s;
        n = b->n;
    }
    return x->pattern ? split(e, step, x->pattern, RM_SPLIT_ISOLATED, false, s, n, first) : words(e, step + 1, s, n, first);
}

/* ---- added tokens --------------------------------------------------------------------------------------------------------- */

static bool word_before(const char *s, size_t n) {
    if (n == 0) return false;
    size_t i = n - 1;
    while (i && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
    int len;
    return rm_char_is_word(rm_char_at(s + i, &len));
}

static bool word_after(const char *s, size_t n) {
    int len;
    return n && rm_char_is_word(rm_char_at(s, &len));
}

static size_t spaces_before(const char *s, size_t n) { /* where the white space that ends at n begins */
    while (n) {
        size_t i = n - 1;
        while (i && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
        int len;
        if (!(rm_char_class(rm_char_at(s + i, &len)) & RM_CH_S)) break;
        n = i;
    }
    return n;
}

static size_t spaces_after(const char *s, size_t n, size_t i) {
    while (i < n) {
        int len;
        if (!(rm_char_class(rm_char_at(s + i, &len)) & RM_CH_S)) break;
        i += (size_t)len;
    }
    return i;
}

typedef rmas_status (*piece_fn)(encoder *e, const char *s, size_t n, bool first);

/* Cuts s at the added tokens that `f` finds; fn gets what lies between. */
static rmas_status cut(encoder *e, const rm_finder *f, rm_hits *hits, const char *s, size_t n, bool first, piece_fn fn) {
    const rm_tok *t = e->t;
    if (!rm_finder_scan(f, s, n, hits)) return no_memory(e);
    size_t done = 0, next = 0; /* text that is done with; where the next token may begin */
    for (size_t k = hits->n; k-- > 0;) {
        const rm_added_token *x = &t->added[hits->hit[k].value];
        size_t from = hits->hit[k].at;
        if (from < next) continue;
        size_t to = from + (f == &t->normal ? x->normal_len : x->len);
        next = to;
        if (x->single_word && (word_before(s, from) || word_after(s + to, n - to))) continue;
        if (x->lstrip) {
            from = spaces_before(s, from);
            if (from < done) from = done;
        }
        if (x->rstrip) to = spaces_after(s, n, to);
        if (from > done) RM_TRY(fn(e, s + done, from - done, first && done == 0));
        if (from < to && !rm_ids_push(e->out, x->id)) return no_memory(e); /* one whose text others have swallowed counts for nothing */
        done = to;
    }
    return done < n ? fn(e, s + done, n - done, first && done == 0) : RMAS_OK;
}

static rmas_status normal_piece(encoder *e, const char *s, size_t n, bool first) { return words(e, 0, s, n, first); }

static rmas_status raw_piece(encoder *e, const char *s, size_t n, bool first) {
    RM_TRY(rm_tok_normalize(e->t, &e->pattern, &s, &n, &e->a, &e->b, e->err));
    if (n == 0) return RMAS_OK;
    if (e->t->normal.state) return cut(e, &e->t->normal, &e->normal, s, n, first, normal_piece);
    return words(e, 0, s, n, first);
}

rmas_status rm_tok_encode(const rm_tok *t, const char *text, size_t n, bool add_special, rm_ids *out, rmas_error *err) {
    if (n > INT32_MAX / 2) return rm_fail(err, RMAS_E_ARG, "a text of %zu bytes is too long to encode", n);
    if (!rm_utf8_valid(text, n)) return rm_fail(err, RMAS_E_ARG, "the text to encode is not valid UTF-8");
    encoder e = {.t = t, .out = out, .err = err};
    rmas_status s = RMAS_OK;
    for (int i = 0; add_special && i < t->before.n && s == RMAS_OK; i++)
        if (!rm_ids_push(out, t->before.id[i])) s = no_memory(&e);
    if (s == RMAS_OK) s = cut(&e, &t->raw, &e.raw, text, n, true, raw_piece);
    for (int i = 0; add_special && i < t->after.n && s == RMAS_OK; i++)
        if (!rm_ids_push(out, t->after.id[i])) s = no_memory(&e);
    rm_bpe_work_free(&e.bpe);
    rm_pattern_work_free(&e.pattern);
    rm_free(e.raw.hit);
    rm_free(e.normal.hit);
    rm_strbuf_free(&e.a);
    rm_strbuf_free(&e.b);
    for (int i = 0; i < RM_MAX_STEPS; i++) rm_strbuf_free(&e.made[i]);
    return s;
}
