/* Where a model's chat template and the texts of its special tokens are. */
#include <jansson.h>
#include <string.h>

#include "prompt.h"
#include "util/file.h"
#include "util/mem.h"

enum { MAX_FILE = 16 << 20 };

rmas_status rm_chat_new(rm_chat **out, const rm_tok *tok, const rm_chat_options *opt, const char *name, rmas_error *err) {
    const char *source = rm_tok_chat_template(tok);
    *out = NULL;
    if (!source)
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: there is no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)",
                       name);
    return rm_chat_parse(out, source, rm_tok_bos_text(tok), rm_tok_eos_text(tok), opt, name, err);
}

/* "chat_template" of tokenizer_config.json: a text, or a list of {name, template}, of which "default" counts. */
static const char *config_template(const json_t *config) {
    const json_t *t = json_object_get(config, "chat_template");
    size_t i;
    json_t *e;
    json_array_foreach(t, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        if (name && !strcmp(name, "default")) t = json_object_get(e, "template");
    }
    return json_string_value(t);
}

/* The tokens with a role in one file. */
static void add_tokens(json_t *tokens, const json_t *config) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < RM_COUNT(names); i++) {
        json_t *t = json_object_get(config, names[i]);
        if (json_is_object(t)) t = json_object_get(t, "content");
        if (json_is_string(t)) json_object_set(tokens, names[i], t);
        if (json_is_null(t)) json_object_del(tokens, names[i]);
    }
}

/* The object in a file, if there is such a file. */
static rmas_status read_object(json_t **out, const char *file, rmas_error *err) {
    char *text;
    size_t n;
    *out = NULL;
    if (!rm_path_exists(file)) return RMAS_OK;
    RM_TRY(rm_file_read(&text, &n, file, MAX_FILE, err));
    json_error_t je;
    rmas_status st = RMAS_OK;
    *out = json_loadb(text, n, JSON_DECODE_INT_AS_REAL, &je); /* model_max_length may be 10^30 */
    if (!json_is_object(*out)) st = rm_fail(err, RMAS_E_FORMAT, "%s: line %d: %s", file, je.line, *out ? "not an object" : je.text);
    rm_free(text);
    return st;
}

static rmas_status folder(const char *path, char **source, json_t *tokens, rmas_error *err) {
    char *jinja = rm_path_join(path, "chat_template.jinja"), *file = rm_path_join(path, "tokenizer_config.json");
    char *old = rm_path_join(path, "special_tokens_map.json");
    size_t n;
    json_t *config = NULL, *map = NULL;
    rmas_status st = jinja && file && old ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK && rm_path_exists(jinja)) st = rm_file_read(source, &n, jinja, MAX_FILE, err);
    if (st == RMAS_OK) st = read_object(&config, file, err);
    if (st == RMAS_OK && !json_is_object(json_object_get(config, "added_tokens_decoder")))
        st = read_object(&map, old, err); /* has the last word in older folders */
    add_tokens(tokens, config);
    add_tokens(tokens, map);
    if (st == RMAS_OK && !*source && config_template(config) && !(*source = rm_strdup(config_template(config))))
        st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    json_decref(config);
    json_decref(map);
    rm_free(jinja);
    rm_free(file);
    rm_free(old);
    return st;
}

static rmas_status tokenizer(const char *path, char **source, json_t *tokens, rmas_error *err) {
    rm_tok *t;
    RM_TRY(rm_tok_open(&t, path, err));
    if (*rm_tok_bos_text(t)) json_object_set_new(tokens, "bos_token", json_string(rm_tok_bos_text(t)));
    if (*rm_tok_eos_text(t)) json_object_set_new(tokens, "eos_token", json_string(rm_tok_eos_text(t)));
    const char *s = rm_tok_chat_template(t);
    rmas_status st = !s || (*source = rm_strdup(s)) ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_tok_close(t);
    return st;
}

rmas_status rm_chat_source(char **source, json_t **tokens, const char *path, rmas_error *err) {
    *source = NULL;
    if (!(*tokens = json_object())) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rmas_status st = rm_path_is_dir(path) ? folder(path, source, *tokens, err) : tokenizer(path, source, *tokens, err);
    if (st == RMAS_OK && !*source)
        st = rm_fail(err, RMAS_E_UNSUPPORTED, "%s: there is no chat template here (chat_template.jinja, or chat_template in tokenizer_config.json)",
                     path);
    if (st == RMAS_OK) return st;
    rm_free(*source);
    json_decref(*tokens);
    *source = NULL;
    *tokens = NULL;
    return st;
}
