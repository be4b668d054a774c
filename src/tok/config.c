/* What stands beside tokenizer.json: tokenizer_config.json (special tokens, clean-up, template, class), chat_template.jinja,
 * and config.json (model_type). The class can change the pipeline: transformers 5.3.0 rebuilds it for some. */
#include <string.h>

#include "tok/internal.h"
#include "util/file.h"
#include "util/json.h"
#include "util/mem.h"

enum { N_NAMED = 7, MAX_TEMPLATE = 16 << 20 };
static const char *const named[N_NAMED] = {"bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"};

/* An entry of added_tokens_decoder. */
typedef struct {
    size_t at, n; /* content, in `texts` */
    bool single_word, lstrip, rstrip, normalized, special;
} entry;

typedef struct {
    rm_tok *t;
    rmas_error *err;
    rm_json j;
    const char *path;
    char *token[N_NAMED]; /* NULL: not given */
    bool known[N_NAMED]; /* given, perhaps as null */
    bool has_entries; /* there is an added_tokens_decoder */
    bool rebuilt; /* by a class that knows nothing of the flags in tokenizer.json if there is one */
    entry *entry;
    size_t n_entry, cap_entry;
    rm_strbuf texts;
    bool has_extra; /* there are extra_special_tokens: additional_special_tokens do not count */
    rm_strbuf extra, additional, own; /* special tokens without a role, each with a NUL behind it */
    char *class, *model_type, *template;
    bool has_prefix_space, prefix_space, legacy;
} config;

static rmas_status no_memory(const config *c) { return rm_fail(c->err, RMAS_E_NOMEM, "%s: out of memory", c->path); }

static rmas_status next(config *c, rm_json_event *e) {
    *e = rm_json_next(&c->j);
    return *e == RM_JSON_ERROR ? rm_fail(c->err, RMAS_E_FORMAT, "%s: %s at byte %zu", c->path, c->j.error, c->j.pos) : RMAS_OK;
}

static rmas_status skip(config *c, rm_json_event e) {
    if (rm_json_skip(&c->j, e)) return RMAS_OK;
    return rm_fail(c->err, RMAS_E_FORMAT, "%s: %s at byte %zu", c->path, c->j.error, c->j.pos);
}

/* A string value, copied; another kind of value is skipped and gives NULL. */
static rmas_status read_string(config *c, char **out) {
    rm_json_event e;
    RM_TRY(next(c, &e));
    rm_free(*out);
    *out = NULL;
    if (e != RM_JSON_STRING) return skip(c, e);
    *out = rm_strndup(c->j.str, c->j.len);
    return *out ? RMAS_OK : no_memory(c);
}

/* A token: a string, or an object with its content; already read: e. */
static rmas_status read_token(config *c, rm_json_event e, char **out) {
    rm_free(*out);
    *out = NULL;
    if (e == RM_JSON_STRING) {
        *out = rm_strndup(c->j.str, c->j.len);
        return *out ? RMAS_OK : no_memory(c);
    }
    if (e != RM_JSON_OBJECT) return skip(c, e);
    for (;;) {
        RM_TRY(next(c, &e));
        if (e == RM_JSON_OBJECT_END) return RMAS_OK;
        if (rm_json_is(&c->j, "content"))
            RM_TRY(read_string(c, out));
        else
            RM_TRY(skip(c, RM_JSON_KEY));
    }
}

/* A list of tokens, or an object of them by name. */
static rmas_status read_tokens(config *c, rm_strbuf *out) {
    rm_json_event e;
    RM_TRY(next(c, &e));
    if (e != RM_JSON_ARRAY && e != RM_JSON_OBJECT) return skip(c, e);
    if (out == &c->extra) c->has_extra = true;
    for (;;) {
        RM_TRY(next(c, &e));
        if (e == RM_JSON_KEY) RM_TRY(next(c, &e));
        if (e == RM_JSON_ARRAY_END || e == RM_JSON_OBJECT_END) return out->failed ? no_memory(c) : RMAS_OK;
        char *token = NULL;
        rmas_status s = read_token(c, e, &token);
        if (token) rm_strbuf_add(out, token, strlen(token) + 1);
        rm_free(token);
        RM_TRY(s);
    }
}

/* A string, or a list of {name, template}, of which "default" counts. */
static rmas_status read_template(config *c) {
    rm_json_event e;
    RM_TRY(next(c, &e));
    if (e != RM_JSON_ARRAY) return read_token(c, e, &c->template);
    for (;;) {
        char *name = NULL, *text = NULL;
        RM_TRY(next(c, &e));
        if (e == RM_JSON_ARRAY_END) return RMAS_OK;
        rmas_status s = e == RM_JSON_OBJECT ? RMAS_OK : skip(c, e);
        while (e == RM_JSON_OBJECT && s == RMAS_OK) {
            rm_json_event k;
            if ((s = next(c, &k)) != RMAS_OK || k == RM_JSON_OBJECT_END) break;
            s = rm_json_is(&c->j, "name") ? read_string(c, &name) : rm_json_is(&c->j, "template") ? read_string(c, &text) : skip(c, RM_JSON_KEY);
        }
        if (s == RMAS_OK && name && text && strcmp(name, "default") == 0) {
            rm_free(c->template);
            c->template = text;
            text = NULL;
        }
        rm_free(name);
        rm_free(text);
        RM_TRY(s);
    }
}

static rmas_status read_bool(config *c, bool *out, bool *given) {
    rm_json_event e;
    RM_TRY(next(c, &e));
    if (e != RM_JSON_TRUE && e != RM_JSON_FALSE) return skip(c, e);
    *out = e == RM_JSON_TRUE;
    if (given) *given = true;
    return RMAS_OK;
}

/* One entry of added_tokens_decoder, behind its opening brace. */
static rmas_status read_entry(config *c) {
    entry x = {.at = c->texts.n};
    bool has_text = false, has_normalized = false;
    for (;;) {
        rm_json_event e;
        RM_TRY(next(c, &e));
        if (e == RM_JSON_OBJECT_END) break;
        if (rm_json_is(&c->j, "content")) {
            char *text = NULL;
            RM_TRY(read_string(c, &text));
            has_text = text != NULL;
            c->texts.n = x.at;
            if (text) rm_strbuf_puts(&c->texts, text);
            rm_free(text);
        } else if (rm_json_is(&c->j, "single_word"))
            RM_TRY(read_bool(c, &x.single_word, NULL));
        else if (rm_json_is(&c->j, "lstrip"))
            RM_TRY(read_bool(c, &x.lstrip, NULL));
        else if (rm_json_is(&c->j, "rstrip"))
            RM_TRY(read_bool(c, &x.rstrip, NULL));
        else if (rm_json_is(&c->j, "normalized"))
            RM_TRY(read_bool(c, &x.normalized, &has_normalized));
        else if (rm_json_is(&c->j, "special"))
            RM_TRY(read_bool(c, &x.special, NULL));
        else
            RM_TRY(skip(c, RM_JSON_KEY));
    }
    if (c->texts.failed) return no_memory(c);
    x.n = c->texts.n - x.at;
    if (!has_normalized) x.normalized = !x.special;
    if (!has_text || x.n == 0) return RMAS_OK;
    if (c->n_entry == c->cap_entry) {
        size_t cap = c->cap_entry * 2 + 32;
        entry *p = rm_realloc_array(c->entry, cap, sizeof *p);
        if (!p) return no_memory(c);
        c->entry = p;
        c->cap_entry = cap;
    }
    c->entry[c->n_entry++] = x;
    return RMAS_OK;
}

static rmas_status read_entries(config *c) {
    rm_json_event e;
    RM_TRY(next(c, &e));
    if (e != RM_JSON_OBJECT) return skip(c, e);
    c->has_entries = true;
    for (;;) {
        RM_TRY(next(c, &e));
        if (e == RM_JSON_OBJECT_END) return RMAS_OK;
        RM_TRY(next(c, &e));
        RM_TRY(e == RM_JSON_OBJECT ? read_entry(c) : skip(c, e));
    }
}

typedef rmas_status (*key_fn)(config *c);

static rmas_status token_key(config *c) {
    rm_json_event e;
    for (int i = 0; i < N_NAMED; i++) {
        if (!rm_json_is(&c->j, named[i])) continue;
        RM_TRY(next(c, &e));
        c->known[i] = true;
        return read_token(c, e, &c->token[i]);
    }
    if (rm_json_is(&c->j, "extra_special_tokens")) return read_tokens(c, &c->extra);
    if (rm_json_is(&c->j, "additional_special_tokens")) return read_tokens(c, &c->additional);
    if (c->j.len < 6 || memcmp(c->j.str + c->j.len - 6, "_token", 6) != 0) return skip(c, RM_JSON_KEY);
    char *token = NULL; /* roles of the model's own: image_token and the like */
    RM_TRY(read_string(c, &token));
    if (token) rm_strbuf_add(&c->own, token, strlen(token) + 1);
    rm_free(token);
    return c->own.failed ? no_memory(c) : RMAS_OK;
}

static rmas_status config_key(config *c) {
    if (rm_json_is(&c->j, "clean_up_tokenization_spaces")) return read_bool(c, &c->t->cleanup, NULL);
    if (rm_json_is(&c->j, "added_tokens_decoder")) return read_entries(c);
    if (rm_json_is(&c->j, "chat_template")) return read_template(c);
    if (rm_json_is(&c->j, "tokenizer_class")) return read_string(c, &c->class);
    if (rm_json_is(&c->j, "legacy")) return read_bool(c, &c->legacy, NULL);
    if (rm_json_is(&c->j, "add_prefix_space")) return read_bool(c, &c->prefix_space, &c->has_prefix_space);
    return token_key(c);
}

static rmas_status model_key(config *c) { return rm_json_is(&c->j, "model_type") ? read_string(c, &c->model_type) : skip(c, RM_JSON_KEY); }

/* All keys of one object. */
static rmas_status read_object(config *c, const char *text, size_t n, key_fn fn) {
    rm_json_event e;
    rm_json_init(&c->j, text, n);
    rmas_status s = next(c, &e);
    if (s == RMAS_OK && e != RM_JSON_OBJECT) s = rm_fail(c->err, RMAS_E_FORMAT, "%s: an object was expected", c->path);
    while (s == RMAS_OK && (s = next(c, &e)) == RMAS_OK && e != RM_JSON_OBJECT_END) s = fn(c);
    if (s == RMAS_OK) s = next(c, &e); /* nothing follows */
    rm_json_free(&c->j);
    return s;
}

/* The object in folder/name, if there is such a file. */
static rmas_status read_file(config *c, const char *folder, const char *name, key_fn fn) {
    char *path = rm_path_join(folder, name);
    c->path = path ? path : name;
    if (!path) return no_memory(c);
    rm_map m;
    rmas_status s = RMAS_OK;
    if (rm_path_exists(path) && (s = rm_map_open(&m, path, c->err)) == RMAS_OK) {
        s = read_object(c, (const char *)m.data, m.n, fn);
        rm_map_close(&m);
    }
    c->path = folder;
    rm_free(path);
    return s;
}

/* chat_template.jinja wins over the template in the configuration. */
static rmas_status read_jinja(config *c, const char *folder) {
    char *path = rm_path_join(folder, "chat_template.jinja"), *text = NULL;
    size_t n;
    if (!path) return no_memory(c);
    rmas_status s = rm_path_exists(path) ? rm_file_read(&text, &n, path, MAX_TEMPLATE, c->err) : RMAS_OK;
    rm_free(path);
    if (text) {
        rm_free(c->template);
        c->template = text;
    }
    return s;
}

/* ---- what follows from it ---------------------------------------------------------------------------------------------------- */

static bool is_one_of(const char *s, const char *const *list) {
    for (; s && *list; list++)
        if (strcmp(s, *list) == 0) return true;
    return false;
}

/* The class that AutoTokenizer takes: that of its table for the model type if the configuration names the same (or none),
 * "" (the file as it is) if it names another, and the named one if the table has none. "Fast" does not count. */
static const char *effective_class(config *c) {
    static const char *const qwen2[] = {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", NULL}, *const qwen35[] = {"qwen3_5", "qwen3_5_moe", NULL};
    static const char *const gemma[] = {"gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", NULL};
    static const char *const as_is[] = {"mistral", "mistral3", "mixtral", "ministral", "ministral3", NULL};
    const char *table = is_one_of(c->model_type, qwen2)    ? "Qwen2Tokenizer"
                        : is_one_of(c->model_type, qwen35) ? "Qwen3_5Tokenizer"
                        : is_one_of(c->model_type, gemma)  ? "GemmaTokenizer"
                        : is_one_of(c->model_type, as_is)  ? ""
                                                           : NULL;
    if (c->class) {
        size_t n = strlen(c->class);
        if (n > 4 && strcmp(c->class + n - 4, "Fast") == 0) c->class[n - 4] = 0;
    }
    if (table && c->class && strcmp(table, c->class) != 0) return "";
    return table ? table : c->class ? c->class : "";
}

static rmas_status remark(config *c, const char *text) {
    rm_free(c->t->describe);
    c->t->describe = rm_strdup(text);
    return c->t->describe ? RMAS_OK : no_memory(c);
}

/* LlamaTokenizer: no normalizer, a metaspace prefix, bytes for unknown characters. */
static rmas_status rebuild_llama(config *c) {
    rm_tok *t = c->t;
    bool prefix = !c->has_prefix_space || c->prefix_space;
    if (rm_vocab_find(&t->vocab, "\xC4\xA0", 2) >= 0) /* the byte-level space: the class would lose the spaces */
        return remark(c, "declared LlamaTokenizer, read as the byte-level tokenizer that it is");
    c->rebuilt = true;
    rm_steps_free(&t->norm);
    rm_steps_free(&t->pre);
    rm_step *x = rm_steps_add(&t->pre, RM_STEP_METASPACE);
    if (!x || !(x->text = rm_strdup("\xE2\x96\x81"))) return no_memory(c);
    x->n = 3;
    x->prefix = !prefix ? RM_PREFIX_NEVER : c->legacy ? RM_PREFIX_ALWAYS : RM_PREFIX_FIRST;
    t->bpe.fuse_unk = t->bpe.byte_fallback = true;
    t->bpe.ignore_merges = false;
    t->bpe.unk = -1;
    return rm_tok_spm_decoder(t, prefix, c->err);
}

static rmas_status rebuild(config *c) {
    const char *class = effective_class(c);
    const char *regex = strcmp(class, "Qwen2Tokenizer") == 0 ? rm_regex_qwen2 : strcmp(class, "Qwen3_5Tokenizer") == 0 ? rm_regex_qwen35 : NULL;
    if (regex) {
        c->rebuilt = true;
        c->t->bpe.ignore_merges = c->t->bpe.fuse_unk = c->t->bpe.byte_fallback = false;
        c->t->bpe.unk = -1;
        RM_TRY(rm_tok_byte_level(c->t, regex, false, true, c->err));
        c->t->pre.step[c->t->pre.n - 1].flag = c->has_prefix_space && c->prefix_space;
        return RMAS_OK;
    }
    if (strcmp(class, "LlamaTokenizer") == 0) return rebuild_llama(c);
    if (strcmp(class, "GemmaTokenizer") != 0) return RMAS_OK;
    c->rebuilt = true;
    if (!c->known[6]) { /* the class's own default for mask_token */
        c->token[6] = rm_strdup("<mask>");
        if (!c->token[6]) return no_memory(c);
    }
    return RMAS_OK;
}

/* Entries of added_tokens_decoder have the last word on how a token is found; one that is an ordinary token becomes an added
 * one. What tokenizer.json calls special stays so, unless the class is rebuilt. */
static rmas_status apply_entries(config *c) {
    rm_tok *t = c->t;
    int n_old = t->n_added, at = 0; /* both lists have mostly the same order: each search begins where the last one ended */
    for (size_t k = 0; k < c->n_entry; k++) {
        const entry *e = &c->entry[k];
        const char *text = rm_str(&c->texts) + e->at;
        rm_added_token *x = NULL;
        for (int i = 0; i < n_old && !x; i++, at = at + 1 < n_old ? at + 1 : 0)
            if (t->added[at].len == e->n && memcmp(t->vocab.pool + t->added[at].off, text, e->n) == 0) x = &t->added[at];
        if (!x) {
            int32_t id = rm_vocab_find(&t->vocab, text, e->n);
            if (id < 0) continue;
            if (!(x = rm_tok_add_token(t, text, e->n, id))) return no_memory(c);
            x->normalized = true;
        }
        if (c->rebuilt) {
            x->special = false;
            x->normalized = true;
        }
        x->single_word = e->single_word;
        x->lstrip = e->lstrip;
        x->rstrip = e->rstrip;
        x->normalized &= e->normalized || x->special; /* in the reference both are looked for, of special tokens only the old one */
        x->special |= e->special;
    }
    return RMAS_OK;
}

/* Tokens with a role are special whatever tokenizer.json says; one that is an ordinary token becomes an added one. One that
 * is no token at all is left out: the reference gives it an id behind the last one, for which the model has no row. */
static rmas_status make_special(config *c, const char *token, int32_t *id) {
    rm_tok *t = c->t;
    size_t n = strlen(token);
    *id = -1;
    if (n == 0) return RMAS_OK;
    for (int i = 0; i < t->n_added; i++) {
        rm_added_token *x = &t->added[i];
        if (x->len != n || memcmp(t->vocab.pool + x->off, token, n) != 0) continue;
        x->special = true;
        *id = x->id;
        return RMAS_OK;
    }
    *id = rm_vocab_find(&t->vocab, token, n);
    if (*id < 0) return RMAS_OK;
    rm_added_token *x = rm_tok_add_token(t, token, n, *id);
    if (!x) return no_memory(c);
    x->special = true;
    return RMAS_OK;
}

static rmas_status make_all_special(config *c, const rm_strbuf *texts) {
    int32_t id;
    for (size_t i = 0; i < texts->n && c->t->n_added < 1 << 20; i += strlen(texts->s + i) + 1) RM_TRY(make_special(c, texts->s + i, &id));
    return RMAS_OK;
}

static rmas_status apply(config *c) {
    rm_tok *t = c->t;
    int32_t id[N_NAMED];
    RM_TRY(rebuild(c));
    RM_TRY(apply_entries(c));
    for (int i = 0; i < N_NAMED; i++) {
        id[i] = -1;
        if (c->token[i]) RM_TRY(make_special(c, c->token[i], &id[i]));
    }
    RM_TRY(make_all_special(c, &c->own));
    RM_TRY(make_all_special(c, c->has_extra ? &c->extra : &c->additional));
    t->bos = id[0];
    t->eos = id[1];
    t->pad = id[2];
    t->bos_text = c->token[0];
    t->eos_text = c->token[1];
    c->token[0] = c->token[1] = NULL;
    t->chat_template = c->template;
    c->template = NULL;
    return RMAS_OK;
}

/* Releases c; s: how reading went. */
static rmas_status finish(config *c, rmas_status s) {
    if (s == RMAS_OK) s = apply(c);
    for (int i = 0; i < N_NAMED; i++) rm_free(c->token[i]);
    rm_strbuf_free(&c->extra);
    rm_strbuf_free(&c->additional);
    rm_strbuf_free(&c->own);
    rm_strbuf_free(&c->texts);
    rm_free(c->entry);
    rm_free(c->class);
    rm_free(c->model_type);
    rm_free(c->template);
    return s;
}

rmas_status rm_tok_read_config(rm_tok *t, const char *text, size_t n, rmas_error *err) {
    config c = {.t = t, .path = t->name, .err = err};
    return finish(&c, read_object(&c, text, n, config_key));
}

rmas_status rm_tok_read_folder(rm_tok *t, const char *folder, rmas_error *err) {
    config c = {.t = t, .path = folder, .err = err};
    rmas_status s = read_file(&c, folder, "tokenizer_config.json", config_key);
    if (s == RMAS_OK && !c.has_entries) s = read_file(&c, folder, "special_tokens_map.json", token_key); /* older folders: it has the last word */
    if (s == RMAS_OK) s = read_file(&c, folder, "config.json", model_key);
    if (s == RMAS_OK) s = read_jinja(&c, folder);
    return finish(&c, s);
}
