/* Ids to text: the texts of the tokens go through the decoders one after the other, as a list of pieces. */
#include <string.h>

#include "tok/internal.h"
#include "util/mem.h"
#include "util/utf8.h"

typedef struct {
    rm_strbuf text;
    size_t *end; /* of each piece in text */
    size_t n, cap;
    bool failed;
} pieces;

static void end_piece(pieces *p) {
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        size_t *e = rm_realloc_array(p->end, cap, sizeof *e);
        if (!e) {
            p->failed = true;
            return;
        }
        p->end = e;
        p->cap = cap;
    }
    p->end[p->n++] = p->text.n;
}

static void clear(pieces *p) {
    rm_strbuf_clear(&p->text);
    p->n = 0;
}

static void free_pieces(pieces *p) {
    rm_strbuf_free(&p->text);
    rm_free(p->end);
}

static rm_text piece_at(const pieces *p, size_t i) {
    size_t from = i ? p->end[i - 1] : 0;
    return (rm_text){rm_str(&p->text) + from, p->end[i] - from};
}

static void add_lossy(rm_strbuf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = rm_utf8_decode_lossy(s + i, n - i, &cp);
        rm_strbuf_utf8(out, cp);
        i += (size_t)len;
    }
}

/* ---- decoders --------------------------------------------------------------------------------------------------------------- */

static void bytes(const pieces *in, pieces *out) {
    rm_strbuf raw = {0};
    for (size_t i = 0; i < in->n; i++) {
        rm_text x = piece_at(in, i);
        rm_alphabet_to_bytes(&raw, x.s, x.n);
    }
    add_lossy(&out->text, rm_str(&raw), raw.n);
    end_piece(out);
    out->failed |= raw.failed;
    rm_strbuf_free(&raw);
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static int byte_of(rm_text x) { /* <0xHH> or -1 */
    if (x.n != 6 || memcmp(x.s, "<0x", 3) != 0 || x.s[5] != '>') return -1;
    int a = hex(x.s[3]), b = hex(x.s[4]);
    return a < 0 || b < 0 ? -1 : a << 4 | b;
}

/* A run of byte tokens gives its text if it is valid as a whole, else one U+FFFD for each of them. */
static void flush_bytes(rm_strbuf *run, pieces *out) {
    if (run->n == 0) return;
    if (rm_utf8_valid(run->s, run->n)) {
        rm_strbuf_add(&out->text, run->s, run->n);
        end_piece(out);
    } else {
        for (size_t i = 0; i < run->n; i++) {
            rm_strbuf_utf8(&out->text, 0xFFFD);
            end_piece(out);
        }
    }
    rm_strbuf_clear(run);
}

static void byte_fallback(const pieces *in, pieces *out) {
    rm_strbuf run = {0};
    for (size_t i = 0; i < in->n; i++) {
        rm_text x = piece_at(in, i);
        int b = byte_of(x);
        if (b >= 0) {
            rm_strbuf_putc(&run, (char)b);
            continue;
        }
        out->failed |= run.failed;
        flush_bytes(&run, out);
        rm_strbuf_add(&out->text, x.s, x.n);
        end_piece(out);
    }
    out->failed |= run.failed;
    flush_bytes(&run, out);
    rm_strbuf_free(&run);
}

static void strip(const rm_step *x, const pieces *in, pieces *out) {
    for (size_t i = 0; i < in->n; i++) {
        rm_text p = piece_at(in, i);
        for (int k = 0; k < x->left && p.n >= x->n && memcmp(p.s, x->text, x->n) == 0; k++) p.s += x->n, p.n -= x->n;
        for (int k = 0; k < x->right && p.n >= x->n && memcmp(p.s + p.n - x->n, x->text, x->n) == 0; k++) p.n -= x->n;
        rm_strbuf_add(&out->text, p.s, p.n);
        end_piece(out);
    }
}

/* The replacement character is a space again; in the first piece it is the prefix and goes. */
static void metaspace(const rm_step *x, const pieces *in, pieces *out) {
    for (size_t i = 0; i < in->n; i++) {
        rm_text p = piece_at(in, i);
        for (size_t k = 0; k < p.n;) {
            if (p.n - k >= x->n && memcmp(p.s + k, x->text, x->n) == 0) {
                if (i || x->prefix == RM_PREFIX_NEVER) rm_strbuf_putc(&out->text, ' ');
                k += x->n;
            } else {
                rm_strbuf_putc(&out->text, p.s[k++]);
            }
        }
        end_piece(out);
    }
}

static rmas_status replace(const rm_step *x, rm_pattern_work *w, const pieces *in, pieces *out, rmas_error *err) {
    for (size_t i = 0; i < in->n; i++) {
        rm_text p = piece_at(in, i);
        RM_TRY(rm_step_replace(x, w, p.s, p.n, &out->text, err));
        end_piece(out);
    }
    return RMAS_OK;
}

static rmas_status decoder(const rm_step *x, rm_pattern_work *w, const pieces *in, pieces *out, rmas_error *err) {
    switch (x->kind) {
    case RM_STEP_BYTES: bytes(in, out); break;
    case RM_STEP_BYTE_FALLBACK: byte_fallback(in, out); break;
    case RM_STEP_STRIP: strip(x, in, out); break;
    case RM_STEP_METASPACE: metaspace(x, in, out); break;
    case RM_STEP_REPLACE: return replace(x, w, in, out, err);
    default: /* RM_STEP_FUSE */ rm_strbuf_add(&out->text, rm_str(&in->text), in->text.n); end_piece(out);
    }
    return RMAS_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------------- */

/* s[0..n) without the spaces that tokenising put before punctuation. ref: transformers clean_up_tokenization, one replacement
 * after the other over the whole text. */
static void clean_up(rm_strbuf *text) {
    static const struct {
        const char *from, *to;
    } rule[] = {{" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
                {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    if (!text->s) return;
    for (size_t k = 0; k < RM_COUNT(rule); k++) {
        size_t n_from = strlen(rule[k].from), n_to = strlen(rule[k].to), o = 0;
        for (size_t i = 0; i < text->n;) {
            if (text->s[i] == ' ' && text->n - i >= n_from && memcmp(text->s + i, rule[k].from, n_from) == 0) {
                memcpy(text->s + o, rule[k].to, n_to); /* shorter than what it replaces */
                o += n_to;
                i += n_from;
            } else {
                text->s[o++] = text->s[i++];
            }
        }
        text->n = o;
        text->s[o] = 0;
    }
}

rmas_status rm_tok_decode(const rm_tok *t, const int32_t *id, int n, bool skip_special, bool cleanup, rm_strbuf *out, rmas_error *err) {
    pieces a = {0}, b = {0}, *in = &a, *to = &b;
    rm_pattern_work w = {0};
    rmas_status s = RMAS_OK;
    for (int i = 0; i < n; i++) {
        rm_text x = rm_vocab_text(&t->vocab, id[i]);
        if (!x.s || (skip_special && (t->flags[id[i]] & RM_ID_SPECIAL))) continue; /* ids without a token give nothing, as in the reference */
        if (!t->has_decoder && in->n) rm_strbuf_putc(&in->text, ' ');
        rm_strbuf_add(&in->text, x.s, x.n);
        end_piece(in);
    }
    for (int k = 0; k < t->dec.n && s == RMAS_OK; k++) {
        clear(to);
        s = decoder(&t->dec.step[k], &w, in, to, err);
        if (in->failed || in->text.failed || to->failed || to->text.failed) break;
        pieces *swap = in;
        in = to;
        to = swap;
    }
    if (s == RMAS_OK && (a.failed || a.text.failed || b.failed || b.text.failed))
        s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory while decoding", t->name);
    if (s == RMAS_OK) {
        if (cleanup && t->cleanup) clean_up(&in->text);
        rm_strbuf_add(out, rm_str(&in->text), in->text.n);
        if (out->failed) s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory while decoding", t->name);
    }
    rm_pattern_work_free(&w);
    free_pieces(&a);
    free_pieces(&b);
    return s;
}

void rm_tok_piece(const rm_tok *t, int32_t id, rm_strbuf *out) {
    rm_text x = rm_vocab_text(&t->vocab, id);
    if (!x.s) return;
    for (int k = 0; k < t->dec.n; k++) {
        const rm_step *d = &t->dec.step[k];
        if (d->kind == RM_STEP_BYTES) {
            if (t->flags[id] & RM_ID_ADDED)
                rm_strbuf_add(out, x.s, x.n);
            else
                rm_alphabet_to_bytes(out, x.s, x.n);
            return;
        }
        if (d->kind == RM_STEP_BYTE_FALLBACK && byte_of(x) >= 0) {
            rm_strbuf_putc(out, (char)byte_of(x));
            return;
        }
    }
    static const char blank[] = "\xE2\x96\x81";
    for (size_t i = 0; i < x.n;) {
        bool is_blank = t->dec.n && x.n - i >= 3 && memcmp(x.s + i, blank, 3) == 0;
        rm_strbuf_putc(out, is_blank ? ' ' : x.s[i]);
        i += is_blank ? 3 : 1;
    }
}
