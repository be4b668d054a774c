/* tokenizer.json as GGUF tokenizer metadata. */
#include <stdio.h>
#include <string.h>

#include "convert/internal.h"
#include "util/file.h"
#include "util/mem.h"

enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

typedef struct {
    rm_conversion *c;
    json_t *root, *config, *vocab, *merges; /* tokenizer.json, tokenizer_config.json, model.vocab, model.merges */
    bool spm; /* SentencePiece style with byte fallback */
    int n;
    rm_span *token;
    int32_t *type;
    float *score;
    char **owned; /* [n] texts that were made here */
} vocab;

static rm_span span_of(const json_t *s) { return (rm_span){json_string_value(s), json_string_length(s)}; }
static bool begins(rm_span s, const char *t) { return s.n >= strlen(t) && !memcmp(s.s, t, strlen(t)); }
static bool ends(rm_span s, const char *t) { return s.n >= strlen(t) && !memcmp(s.s + s.n - strlen(t), t, strlen(t)); }

static rmas_status bad(const vocab *v, const char *what) { return rm_fail(v->c->err, RMAS_E_UNSUPPORTED, "%s/tokenizer.json: %s", v->c->path, what); }

/* Control tokens by their look, as llama.cpp expects them. */
static bool looks_special(rm_span s) {
    return (begins(s, "<|") && ends(s, "|>")) || (begins(s, "<\xEF\xBD\x9C") && ends(s, "\xEF\xBD\x9C>")) || (begins(s, "<unused") && ends(s, ">")) ||
           (s.n == 6 && !memcmp(s.s, "<mask>", 6)) || (s.n == 5 && !memcmp(s.s, "<pad>", 5));
}

static bool is_byte_token(rm_span s) { return s.n == 6 && begins(s, "<0x") && s.s[5] == '>'; }

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static rmas_status place(vocab *v, int64_t id, rm_span text, int type, float score) {
    if (id < 0 || id >= v->n)
        return rm_fail(v->c->err, RMAS_E_FORMAT, "%s/tokenizer.json: id %lld of '%.*s' is outside the %d rows of the embedding", v->c->path,
                       (long long)id, text.n < 40 ? (int)text.n : 40, text.s, v->n);
    v->token[id] = text;
    v->type[id] = type;
    v->score[id] = score;
    return RMAS_OK;
}

/* User-defined tokens are matched in raw text, which has spaces where the vocabulary has U+2581. */
static rmas_status with_spaces(vocab *v, int64_t id, rm_span *s) {
    if (id < 0 || id >= v->n || v->owned[id]) return RMAS_OK;
    char *p = rm_alloc(s->n + 1), *q = p;
    if (!p) return rm_convert_nomem(v->c);
    for (size_t i = 0; i < s->n; i++) {
        if (s->n - i >= 3 && !memcmp(s->s + i, "\xE2\x96\x81", 3)) {
            *q++ = ' ';
            i += 2;
        } else
            *q++ = s->s[i];
    }
    *s = (rm_span){p, (size_t)(q - p)};
    v->owned[id] = p;
    return RMAS_OK;
}

static rmas_status place_all(vocab *v) {
    const char *word;
    json_t *id;
    for (int i = 0; i < v->n; i++) { /* rows without a token */
        char name[32];
        snprintf(name, sizeof name, "[PAD%d]", i);
        v->owned[i] = rm_strdup(name);
        if (!v->owned[i]) return rm_convert_nomem(v->c);
        RM_TRY(place(v, i, (rm_span){v->owned[i], strlen(name)}, UNUSED, -10000));
    }
    json_object_foreach(v->vocab, word, id) {
        rm_span s = {word, strlen(word)};
        RM_TRY(place(v, json_is_integer(id) ? json_integer_value(id) : -1, s, v->spm && is_byte_token(s) ? BYTE : NORMAL, 0));
    }
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(v->root, "added_tokens"), i, a) {
        json_t *content = json_object_get(a, "content");
        int64_t at = json_integer_value(json_object_get(a, "id"));
        if (!json_is_string(content) || !json_is_integer(json_object_get(a, "id"))) return bad(v, "an added token without content or id");
        rm_span s = span_of(content);
        bool control = json_is_true(json_object_get(a, "special")) || looks_special(s);
        if (at >= 0 && at < v->n) {
            rm_free(v->owned[at]);
            v->owned[at] = NULL;
        }
        if (!control) RM_TRY(with_spaces(v, at, &s));
        RM_TRY(place(v, at, s, control ? CONTROL : USER_DEFINED, -1000));
    }
    return RMAS_OK;
}

/* ---- merges --------------------------------------------------------------------------------------------------------- */

static bool merge_parts(const json_t *m, rm_span *a, rm_span *b) {
    if (json_is_array(m) && json_array_size(m) == 2 && json_is_string(json_array_get(m, 0)) && json_is_string(json_array_get(m, 1))) {
        *a = span_of(json_array_get(m, 0));
        *b = span_of(json_array_get(m, 1));
        return true;
    }
    if (!json_is_string(m)) return false;
    rm_span s = span_of(m);
    const char *space = s.n ? memchr(s.s, ' ', s.n) : NULL;
    if (!space) return false;
    *a = (rm_span){s.s, (size_t)(space - s.s)};
    *b = (rm_span){space + 1, s.n - a->n - 1};
    return true;
}

/* Byte-level: the list "a b" itself. SentencePiece: a token's score is minus the rank of the first merge that makes it. */
static rmas_status put_merges(vocab *v) {
    size_t n = json_array_size(v->merges);
    rm_span *list = rm_array(n, sizeof *list);
    rm_strbuf text = {0};
    size_t *start = rm_array(n + 1, sizeof *start);
    rmas_status s = list && start ? RMAS_OK : rm_convert_nomem(v->c);
    for (size_t i = 0; i < n && s == RMAS_OK; i++) {
        rm_span a, b;
        if (!merge_parts(json_array_get(v->merges, i), &a, &b)) {
            s = bad(v, "a merge that is not a pair");
            break;
        }
        start[i] = text.n;
        rm_strbuf_add(&text, a.s, a.n);
        if (!v->spm) rm_strbuf_putc(&text, ' ');
        rm_strbuf_add(&text, b.s, b.n);
        if (text.failed) s = rm_convert_nomem(v->c);
        if (s != RMAS_OK || !v->spm) continue;
        json_t *id = json_object_get(v->vocab, text.s + start[i]);
        int64_t at = json_is_integer(id) ? json_integer_value(id) : -1;
        if (at >= 0 && at < v->n && v->score[at] == 0) v->score[at] = -(float)(i + 1);
    }
    if (s == RMAS_OK && !v->spm) {
        start[n] = text.n;
        for (size_t i = 0; i < n; i++) list[i] = (rm_span){text.s + start[i], start[i + 1] - start[i]};
        rm_gguf_put_strs(&v->c->meta, "tokenizer.ggml.merges", list, n);
    }
    rm_strbuf_free(&text);
    rm_free(start);
    rm_free(list);
    return s;
}

/* ---- kinds ---------------------------------------------------------------------------------------------------------- */

/* First component of this type in a normalizer, pre-tokenizer or post-processor, or inside its sequence. */
static json_t *component(json_t *o, const char *type, const char *list) {
    const char *t = json_string_value(json_object_get(o, "type"));
    if (t && !strcmp(t, type)) return o;
    size_t i;
    json_t *x;
    json_array_foreach(json_object_get(o, list), i, x) {
        t = json_string_value(json_object_get(x, "type"));
        if (t && !strcmp(t, type)) return x;
    }
    return NULL;
}

/* llama.cpp's name for the way text is split: told by what the regular expression says about numbers and marks. */
static const char *split_name(const vocab *v) {
    json_t *pre = json_object_get(v->root, "pre_tokenizer"), *split = component(pre, "Split", "pretokenizers");
    if (!split) return component(pre, "Digits", "pretokenizers") ? "smollm" : "gpt-2";
    const char *r = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    if (!r) return NULL;
    if (strstr(r, "\\p{N}{1,3}")) return "llama-bpe";
    if (strstr(r, "\\p{M}")) return "qwen35";
    if (!strstr(r, "\\p{N}|")) return NULL;
    return json_object_get(v->vocab, "<\xEF\xBD\x9C"
                                     "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>")
               ? "deepseek-r1-qwen"
               : "qwen2";
}

/* The id of the token that the post-processor puts at the start or the end of a text; -1: none. */
static int64_t added_at(const vocab *v, bool at_end) {
    json_t *t = component(json_object_get(v->root, "post_processor"), "TemplateProcessing", "processors"), *single = json_object_get(t, "single");
    size_t n = json_array_size(single);
    json_t *name = json_object_get(json_object_get(json_array_get(single, at_end && n ? n - 1 : 0), "SpecialToken"), "id");
    if (!json_is_string(name)) return -1;
    json_t *ids = json_object_get(json_object_get(json_object_get(t, "special_tokens"), json_string_value(name)), "ids");
    return json_array_size(ids) == 1 && json_is_integer(json_array_get(ids, 0)) ? json_integer_value(json_array_get(ids, 0)) : -1;
}

/* A name from tokenizer_config.json (a string, or an object with content) as an id; -1 if there is none. */
static int64_t id_of(const vocab *v, const char *name) {
    json_t *t = json_object_get(v->config, name);
    if (json_is_object(t)) t = json_object_get(t, "content");
    if (!json_is_string(t)) return -1;
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(v->root, "added_tokens"), i, a) {
        json_t *content = json_object_get(a, "content");
        if (json_is_string(content) && json_equal(content, t)) return json_integer_value(json_object_get(a, "id"));
    }
    json_t *id = json_object_get(v->vocab, json_string_value(t));
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

static void put_special(vocab *v) {
    static const char *const name[][3] = {{"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id"},
                                          {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id"},
                                          {"unk_token", NULL, "tokenizer.ggml.unknown_token_id"},
                                          {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id"}};
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        int64_t id = i == 0 && added_at(v, false) >= 0 ? added_at(v, false) : id_of(v, name[i][0]);
        json_t *known = name[i][1] ? json_object_get(v->c->text, name[i][1]) : NULL;
        if (id < 0 && json_is_integer(known)) id = json_integer_value(known);
        if (id >= 0 && id < v->n) rm_gguf_put_u32(&v->c->meta, name[i][2], (uint32_t)id);
    }
    rm_gguf_put_bool(&v->c->meta, "tokenizer.ggml.add_bos_token", added_at(v, false) >= 0);
    rm_gguf_put_bool(&v->c->meta, "tokenizer.ggml.add_eos_token", added_at(v, true) >= 0);
}

static rmas_status put_template(vocab *v) {
    char *path = rm_path_join(v->c->path, "chat_template.jinja"), *text = NULL;
    size_t n;
    rmas_status s = RMAS_OK;
    if (!path) return rm_convert_nomem(v->c);
    if (rm_path_exists(path)) {
        s = rm_file_read(&text, &n, path, 1 << 24, v->c->err);
        if (s == RMAS_OK) rm_gguf_put_str(&v->c->meta, "tokenizer.chat_template", text, n);
    } else {
        json_t *t = json_object_get(v->config, "chat_template"), *x;
        size_t i;
        if (json_is_array(t)) json_array_foreach(t, i, x) {
                const char *name = json_string_value(json_object_get(x, "name"));
                if (name && !strcmp(name, "default")) {
                    t = json_object_get(x, "template");
                    break;
                }
            }
        if (json_is_string(t)) rm_gguf_put_str(&v->c->meta, "tokenizer.chat_template", json_string_value(t), json_string_length(t));
    }
    rm_free(text);
    rm_free(path);
    return s;
}

static bool adds_space(const vocab *v) {
    json_t *prepend = component(json_object_get(v->root, "normalizer"), "Prepend", "normalizers");
    json_t *meta = component(json_object_get(v->root, "pre_tokenizer"), "Metaspace", "pretokenizers");
    const char *scheme = json_string_value(json_object_get(meta, "prepend_scheme"));
    return prepend || (meta && !(scheme && !strcmp(scheme, "never")));
}

static rmas_status put_vocab(vocab *v) {
    rm_gguf_meta *m = &v->c->meta;
    json_t *model = json_object_get(v->root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    v->vocab = json_object_get(model, "vocab");
    v->merges = json_object_get(model, "merges");
    if (!type || strcmp(type, "BPE") != 0 || !json_is_object(v->vocab) || !json_is_array(v->merges))
        return bad(v, "only BPE tokenizers can be written to GGUF");
    v->spm = json_is_true(json_object_get(model, "byte_fallback"));
    const char *split = v->spm ? "default" : split_name(v);
    if (!split) return bad(v, "the way it splits text has no name in GGUF");
    size_t n = (size_t)v->n;
    v->token = rm_array(n, sizeof *v->token);
    v->type = rm_array(n, sizeof *v->type);
    v->score = rm_array(n, sizeof *v->score);
    v->owned = rm_calloc(n, sizeof *v->owned);
    if (!v->token || !v->type || !v->score || !v->owned) return rm_convert_nomem(v->c);
    RM_TRY(place_all(v));
    rm_gguf_put_str(m, "tokenizer.ggml.model", v->spm ? "llama" : "gpt2", v->spm ? 5 : 4);
    rm_gguf_put_str(m, "tokenizer.ggml.pre", split, strlen(split));
    RM_TRY(put_merges(v));
    rm_gguf_put_strs(m, "tokenizer.ggml.tokens", v->token, n);
    rm_gguf_put_i32s(m, "tokenizer.ggml.token_type", v->type, n);
    if (v->spm) {
        rm_gguf_put_f32s(m, "tokenizer.ggml.scores", v->score, n);
        rm_gguf_put_bool(m, "tokenizer.ggml.add_space_prefix", adds_space(v));
    }
    put_special(v);
    return put_template(v);
}

rmas_status rm_convert_vocab(rm_conversion *c) {
    vocab v = {.c = c, .n = c->cfg.n_vocab};
    v.root = rm_convert_json(c, "tokenizer.json");
    v.config = rm_convert_json(c, "tokenizer_config.json");
    rmas_status s =
        v.root ? put_vocab(&v) : rm_fail(c->err, RMAS_E_IO, "%s/tokenizer.json: missing or not readable; a GGUF file needs the tokenizer", c->path);
    for (int i = 0; v.owned && i < v.n; i++) rm_free(v.owned[i]);
    rm_free(v.owned);
    rm_free(v.token);
    rm_free(v.type);
    rm_free(v.score);
    json_decref(v.root);
    json_decref(v.config);
    return s;
}
