/* Opening and closing, what all loaders share, and the small questions. */
#include "tok/tok.h"

#include <string.h>

#include "tok/internal.h"
#include "util/file.h"
#include "util/mem.h"
#include "weights/weights.h"

bool rm_ids_push(rm_ids *v, int32_t id) {
    if (v->n == v->cap) {
        int cap = v->cap ? v->cap > INT32_MAX / 2 ? INT32_MAX : v->cap * 2 : 64;
        int32_t *p = v->n < cap ? rm_realloc_array(v->id, (size_t)cap, sizeof *p) : NULL;
        if (!p) return false;
        v->id = p;
        v->cap = cap;
    }
    v->id[v->n++] = id;
    return true;
}

void rm_ids_free(rm_ids *v) {
    rm_free(v->id);
    *v = (rm_ids){0};
}

rm_step *rm_steps_add(rm_steps *s, rm_step_kind kind) {
    if (s->n == RM_MAX_STEPS) return NULL;
    rm_step *x = &s->step[s->n++];
    *x = (rm_step){.kind = kind};
    return x;
}

void rm_steps_free(rm_steps *s) {
    for (int i = 0; i < s->n; i++) {
        rm_pattern_free(s->step[i].pattern);
        rm_free(s->step[i].text);
    }
    s->n = 0;
}

rm_added_token *rm_tok_add_token(rm_tok *t, const char *s, size_t n, int32_t id) {
    if (t->n_added == t->cap_added) {
        int cap = t->cap_added * 2 + 32;
        rm_added_token *p = cap > 0 ? rm_realloc_array(t->added, (size_t)cap, sizeof *p) : NULL;
        if (!p) return NULL;
        t->added = p;
        t->cap_added = cap;
    }
    uint32_t off = rm_vocab_pool(&t->vocab, s, n);
    if (off == RM_NO_TEXT || n > INT32_MAX) return NULL;
    rm_added_token *x = &t->added[t->n_added++];
    *x = (rm_added_token){.id = id, .off = off, .len = (uint32_t)n};
    return x;
}

/* ---- the standard pipelines ----------------------------------------------------------------------------------------------- */

static rmas_status too_many(const rm_tok *t, rmas_error *err) {
    return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for the tokenizer's steps", t->name);
}

rmas_status rm_tok_byte_level(rm_tok *t, const char *regex, bool digits, bool nfc, rmas_error *err) {
    rm_steps_free(&t->norm);
    rm_steps_free(&t->pre);
    rm_steps_free(&t->dec);
    rm_step *x;
    if (nfc && !rm_steps_add(&t->norm, RM_STEP_FORM)) return too_many(t, err);
    if (digits) {
        if (!(x = rm_steps_add(&t->pre, RM_STEP_DIGITS))) return too_many(t, err);
        x->flag = true;
    }
    if (!(x = rm_steps_add(&t->pre, RM_STEP_SPLIT))) return too_many(t, err);
    x->how = RM_SPLIT_ISOLATED;
    RM_TRY(rm_pattern_regex(&x->pattern, regex, strlen(regex), t->name, err));
    if (!rm_steps_add(&t->pre, RM_STEP_BYTES) || !rm_steps_add(&t->dec, RM_STEP_BYTES)) return too_many(t, err);
    t->has_decoder = true;
    return RMAS_OK;
}

rmas_status rm_tok_spm_decoder(rm_tok *t, bool strip, rmas_error *err) {
    static const char blank[] = "\xE2\x96\x81";
    rm_steps_free(&t->dec);
    t->has_decoder = true;
    rm_step *x = rm_steps_add(&t->dec, RM_STEP_REPLACE);
    if (!x || !(x->text = rm_strdup(" "))) return too_many(t, err);
    x->n = 1;
    RM_TRY(rm_pattern_literal(&x->pattern, blank, 3, t->name, err));
    if (!rm_steps_add(&t->dec, RM_STEP_BYTE_FALLBACK) || !rm_steps_add(&t->dec, RM_STEP_FUSE)) return too_many(t, err);
    if (!strip) return RMAS_OK;
    x = rm_steps_add(&t->dec, RM_STEP_STRIP);
    if (!x || !(x->text = rm_strdup(" "))) return too_many(t, err);
    x->n = 1;
    x->left = 1;
    return RMAS_OK;
}

/* ---- sealing: tables that follow from what was read ------------------------------------------------------------------------ */

static rmas_status add_finders(rm_tok *t, rmas_error *err) {
    rm_pattern_work w = {0};
    rm_strbuf a = {0}, b = {0};
    rmas_status st = RMAS_OK;
    for (int i = 0; i < t->n_added && st == RMAS_OK; i++) {
        rm_added_token *x = &t->added[i];
        const char *s = t->vocab.pool + x->off;
        size_t n = x->len;
        if (x->normalized) {
            st = rm_tok_normalize(t, &w, &s, &n, &a, &b, err);
            x->normal_len = (uint32_t)n;
        }
        if (st == RMAS_OK && n == 0)
            st = rm_fail(err, RMAS_E_UNSUPPORTED, "%s: unsupported added token with id %d: the normalizer leaves nothing of it", t->name, x->id);
        if (st == RMAS_OK && !rm_finder_add(x->normalized ? &t->normal : &t->raw, s, n, i))
            st = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for the added tokens", t->name);
    }
    rm_pattern_work_free(&w);
    rm_strbuf_free(&a);
    rm_strbuf_free(&b);
    if (st == RMAS_OK && !(rm_finder_finish(&t->raw) && rm_finder_finish(&t->normal)))
        st = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for the added tokens", t->name);
    return st;
}

/* Tokens of single bytes: the characters of the byte-level alphabet, or <0xHH>. */
static void find_bytes(rm_tok *t) {
    for (unsigned i = 0; i < 256; i++) {
        rm_strbuf b = {0};
        if (t->bpe.byte_level)
            rm_strbuf_utf8(&b, rm_byte_to_char((unsigned char)i));
        else
            rm_strbuf_printf(&b, "<0x%02X>", i);
        if (b.s && t->bpe.byte_id[i] < 0) t->bpe.byte_id[i] = rm_vocab_find(&t->vocab, b.s, b.n);
        rm_strbuf_free(&b);
    }
}

static bool describe(rm_tok *t) {
    rm_strbuf b = {0};
    int n_token = 0;
    for (int i = 0; i < t->vocab.n_id; i++) n_token += t->vocab.place[i].off != RM_NO_TEXT && !(t->flags[i] & RM_ID_ADDED);
    const char *kind = t->bpe.byte_level      ? "byte-level BPE"
                       : t->bpe.score_rank    ? "BPE by scores with byte fallback"
                       : t->bpe.byte_fallback ? "BPE with byte fallback"
                                              : "BPE";
    rm_strbuf_printf(&b, "%s, %d + %d tokens", kind, n_token, t->n_added);
    if (t->describe) rm_strbuf_printf(&b, "; %s", t->describe); /* a remark of the loader */
    rm_free(t->describe);
    t->describe = rm_strbuf_take(&b);
    return t->describe != NULL;
}

rmas_status rm_tok_seal(rm_tok *t, rmas_error *err) {
    rm_vocab *v = &t->vocab;
    for (int i = 0; i < t->n_added; i++)
        if (!rm_vocab_set(v, t->added[i].id, t->added[i].off, t->added[i].len)) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", t->name);
    t->flags = rm_calloc((size_t)v->n_id, 1);
    if (!t->flags) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", t->name);
    for (int i = 0; i < t->n_added; i++) t->flags[t->added[i].id] |= RM_ID_ADDED | (t->added[i].special ? RM_ID_SPECIAL : 0);
    t->bpe.vocab = v;
    for (int i = 0; i < t->pre.n; i++) {
        if (t->pre.step[i].kind != RM_STEP_BYTES) continue;
        if (i + 1 < t->pre.n) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: unsupported pre-tokenizer: something follows ByteLevel", t->name);
        t->bpe.byte_level = true;
    }
    find_bytes(t);
    if (!rm_bpe_find_cuts(&t->bpe)) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", t->name);
    RM_TRY(add_finders(t, err));
    if (!t->bos_text) t->bos_text = rm_strdup("");
    if (!t->eos_text) t->eos_text = rm_strdup("");
    if (!t->bos_text || !t->eos_text || !describe(t)) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", t->name);
    return RMAS_OK;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */

rm_tok *rm_tok_make(const char *name) {
    rm_tok *t = RM_NEW(rm_tok);
    if (!t) return NULL;
    t->name = rm_strdup(name);
    if (!t->name) {
        rm_free(t);
        return NULL;
    }
    t->bos = t->eos = t->pad = t->bpe.unk = -1;
    for (int i = 0; i < 256; i++) t->bpe.byte_id[i] = -1;
    return t;
}

rmas_status rm_tok_from_gguf(rm_tok **out, const rm_gguf *g, const char *name, rmas_error *err) {
    rm_tok *t = *out = rm_tok_make(name);
    if (!t) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    rmas_status s = rm_tok_read_gguf(t, g, err);
    if (s == RMAS_OK) s = rm_tok_seal(t, err);
    if (s != RMAS_OK) {
        rm_tok_close(t);
        *out = NULL;
    }
    return s;
}

static rmas_status open_gguf(rm_tok **out, const char *path, rmas_error *err) {
    rm_weights *w;
    RM_TRY(rm_weights_open(&w, path, err));
    const rm_gguf *g = rm_weights_gguf(w);
    rmas_status s = g ? rm_tok_from_gguf(out, g, path, err) : rm_fail(err, RMAS_E_FORMAT, "%s: not a GGUF file", path);
    rm_weights_close(w);
    return s;
}

static rmas_status open_json(rm_tok **out, const char *path, const char *folder, rmas_error *err) {
    rm_map m;
    RM_TRY(rm_map_open(&m, path, err));
    rm_tok *t = *out = rm_tok_make(path);
    rmas_status s = t ? rm_tok_read_json(t, (const char *)m.data, m.n, err) : rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    rm_map_close(&m);
    if (s == RMAS_OK && folder) s = rm_tok_read_folder(t, folder, err);
    if (s == RMAS_OK) s = rm_tok_seal(t, err);
    if (s != RMAS_OK) {
        rm_tok_close(t);
        *out = NULL;
    }
    return s;
}

static bool is_gguf(const char *path) {
    rm_map m;
    if (rm_map_open(&m, path, NULL) != RMAS_OK) return false;
    bool yes = m.n >= 4 && memcmp(m.data, "GGUF", 4) == 0;
    rm_map_close(&m);
    return yes;
}

rmas_status rm_tok_open(rm_tok **out, const char *path, rmas_error *err) {
    *out = NULL;
    if (!rm_path_exists(path)) return rm_fail(err, RMAS_E_IO, "%s: no such file or folder", path);
    if (!rm_path_is_dir(path)) return is_gguf(path) ? open_gguf(out, path, err) : open_json(out, path, NULL, err);
    char *file = rm_path_join(path, "tokenizer.json"), *model = rm_path_join(path, "tokenizer.model");
    rmas_status s;
    if (!file || !model)
        s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    else if (!rm_path_exists(file) && rm_path_exists(model))
        s = rm_fail(err, RMAS_E_UNSUPPORTED, "%s: unsupported: only tokenizer.model, no tokenizer.json (save the tokenizer again with transformers)",
                    path);
    else if (!rm_path_exists(file))
        s = rm_fail(err, RMAS_E_IO, "%s: no tokenizer.json in this folder", path);
    else
        s = open_json(out, file, path, err);
    rm_free(file);
    rm_free(model);
    return s;
}

void rm_tok_close(rm_tok *t) {
    if (!t) return;
    rm_bpe_free(&t->bpe);
    rm_vocab_free(&t->vocab);
    rm_steps_free(&t->norm);
    rm_steps_free(&t->pre);
    rm_steps_free(&t->dec);
    rm_finder_free(&t->raw);
    rm_finder_free(&t->normal);
    rm_ids_free(&t->before);
    rm_ids_free(&t->after);
    rm_free(t->added);
    rm_free(t->flags);
    rm_free(t->bos_text);
    rm_free(t->eos_text);
    rm_free(t->chat_template);
    rm_free(t->describe);
    rm_free(t->name);
    rm_free(t);
}

/* ---- questions -------------------------------------------------------------------------------------------------------------- */

int rm_tok_n_vocab(const rm_tok *t) { return t->vocab.n_id; }
int32_t rm_tok_bos(const rm_tok *t) { return t->bos; }
int32_t rm_tok_eos(const rm_tok *t) { return t->eos; }
int32_t rm_tok_pad(const rm_tok *t) { return t->pad; }
const char *rm_tok_bos_text(const rm_tok *t) { return t->bos_text; }
const char *rm_tok_eos_text(const rm_tok *t) { return t->eos_text; }
bool rm_tok_is_special(const rm_tok *t, int32_t id) { return id >= 0 && id < t->vocab.n_id && (t->flags[id] & RM_ID_SPECIAL); }
const char *rm_tok_chat_template(const rm_tok *t) { return t->chat_template; }
const char *rm_tok_describe(const rm_tok *t) { return t->describe; }
