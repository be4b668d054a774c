/* Normalizers, pre-tokenizers, post-processors and decoders of tokenizer.json. Types that are not known here are refused by
 * name: a tokenizer that is read wrongly is worse than one that is not read. */
#include "tok/components.h"

#include <jansson.h>
#include <string.h>

#include "util/mem.h"

typedef struct {
    rm_tok *t;
    const char *what; /* "normalizer", ... for messages */
    rm_steps *steps;
    rmas_error *err;
} context;

typedef rmas_status (*read_fn)(context *c, const json_t *x, const char *type);

static rmas_status no_memory(const context *c) { return rm_fail(c->err, RMAS_E_NOMEM, "%s: out of memory for the %s", c->t->name, c->what); }
static rmas_status unsupported(const context *c, const char *type, const char *why) {
    return rm_fail(c->err, RMAS_E_UNSUPPORTED, "%s: unsupported %s '%.60s'%s%s", c->t->name, c->what, type, why ? ": " : "", why ? why : "");
}
static rmas_status malformed(const context *c, const char *type, const char *what) {
    return rm_fail(c->err, RMAS_E_FORMAT, "%s: %s '%.60s': %s was expected", c->t->name, c->what, type, what);
}

static bool flag(const json_t *x, const char *key, bool otherwise) {
    const json_t *v = json_object_get(x, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* One component, or null; those that hold a list of others under `list` are gone through. */
static rmas_status read_one(context *c, const json_t *x, read_fn fn, const char *list) {
    if (json_is_null(x)) return RMAS_OK;
    const char *type = json_string_value(json_object_get(x, "type"));
    if (!type) return malformed(c, "?", "an object with a type");
    if (strcmp(type, "Sequence") != 0) return fn(c, x, type);
    const json_t *v = json_object_get(x, list);
    if (!json_is_array(v)) return malformed(c, type, "a list of parts");
    for (size_t i = 0; i < json_array_size(v); i++) RM_TRY(read_one(c, json_array_get(v, i), fn, list));
    return RMAS_OK;
}

static rmas_status read_text(rm_tok *t, const char *what, rm_steps *steps, const char *s, size_t n, read_fn fn, const char *list, rmas_error *err) {
    context c = {t, what, steps, err};
    json_error_t je;
    if (steps) rm_steps_free(steps);
    json_t *x = json_loadb(s, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!x) return rm_fail(err, RMAS_E_FORMAT, "%s: %s: %s", t->name, what, je.text);
    rmas_status st = read_one(&c, x, fn, list);
    json_decref(x);
    return st;
}

static rmas_status add(context *c, rm_step_kind kind, const char *type, rm_step **out) {
    *out = rm_steps_add(c->steps, kind);
    return *out ? RMAS_OK : unsupported(c, type, "too many parts");
}

static rmas_status read_string(context *c, const json_t *x, const char *type, const char *key, rm_step *out) {
    const json_t *v = json_object_get(x, key);
    if (!json_is_string(v)) return malformed(c, type, key);
    out->n = json_string_length(v);
    out->text = rm_strndup(json_string_value(v), out->n);
    return out->text ? RMAS_OK : no_memory(c);
}

/* One character, in UTF-8. */
static rmas_status read_char(context *c, const json_t *x, const char *type, const char *key, rm_step *out) {
    RM_TRY(read_string(c, x, type, key, out));
    int len = 0;
    if (out->n) rm_char_at(out->text, &len);
    return (size_t)len == out->n && len ? RMAS_OK : malformed(c, type, "one character");
}

static rmas_status read_pattern(context *c, const json_t *x, const char *type, rm_step *out) {
    const json_t *p = json_object_get(x, "pattern"), *v = json_object_get(p, "String");
    if (json_is_string(v)) return rm_pattern_literal(&out->pattern, json_string_value(v), json_string_length(v), c->t->name, c->err);
    v = json_object_get(p, "Regex");
    if (json_is_string(v)) return rm_pattern_regex(&out->pattern, json_string_value(v), json_string_length(v), c->t->name, c->err);
    return malformed(c, type, "a pattern (String or Regex)");
}

/* ---- normalizers -------------------------------------------------------------------------------------------------------------- */

static rmas_status normalizer(context *c, const json_t *x, const char *type) {
    static const char *form[] = {[RM_NFC] = "NFC", [RM_NFD] = "NFD", [RM_NFKC] = "NFKC", [RM_NFKD] = "NFKD"};
    rm_step *s;
    for (size_t i = 0; i < RM_COUNT(form); i++) {
        if (strcmp(type, form[i]) != 0) continue;
        RM_TRY(add(c, RM_STEP_FORM, type, &s));
        s->form = (rm_normal_form)i;
        return RMAS_OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        RM_TRY(add(c, RM_STEP_PREPEND, type, &s));
        RM_TRY(read_string(c, x, type, "prepend", s));
        return s->n <= 64 ? RMAS_OK : unsupported(c, type, "its text is too long");
    }
    if (strcmp(type, "Replace") == 0) {
        RM_TRY(add(c, RM_STEP_REPLACE, type, &s));
        RM_TRY(read_string(c, x, type, "content", s));
        return read_pattern(c, x, type, s);
    }
    return unsupported(c, type, NULL);
}

rmas_status rm_tok_normalizer(rm_tok *t, const char *s, size_t n, rmas_error *err) {
    return read_text(t, "normalizer", &t->norm, s, n, normalizer, "normalizers", err);
}

/* ---- pre-tokenizers ------------------------------------------------------------------------------------------------------------ */

static rmas_status read_split(context *c, const json_t *x, const char *type, rm_step *s) {
    static const char *how[] = {[RM_SPLIT_REMOVED] = "Removed",
                                [RM_SPLIT_ISOLATED] = "Isolated",
                                [RM_SPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
                                [RM_SPLIT_WITH_NEXT] = "MergedWithNext",
                                [RM_SPLIT_CONTIGUOUS] = "Contiguous"};
    const char *v = json_string_value(json_object_get(x, "behavior"));
    s->invert = flag(x, "invert", false);
    RM_TRY(read_pattern(c, x, type, s));
    for (size_t i = 0; v && i < RM_COUNT(how); i++) {
        if (strcmp(v, how[i]) != 0) continue;
        s->how = (rm_split_how)i;
        return RMAS_OK;
    }
    return malformed(c, type, "a behavior");
}

static rmas_status read_metaspace(context *c, const json_t *x, const char *type, rm_step *s) {
    RM_TRY(read_char(c, x, type, "replacement", s));
    const char *v = json_string_value(json_object_get(x, "prepend_scheme"));
    if (!v)
        s->prefix = flag(x, "add_prefix_space", true) ? RM_PREFIX_ALWAYS : RM_PREFIX_NEVER;
    else if (strcmp(v, "always") == 0)
        s->prefix = RM_PREFIX_ALWAYS;
    else if (strcmp(v, "first") == 0)
        s->prefix = RM_PREFIX_FIRST;
    else if (strcmp(v, "never") != 0)
        return malformed(c, type, "prepend_scheme always, first or never");
    s->flag = flag(x, "split", true);
    return rm_pattern_literal(&s->pattern, s->text, s->n, c->t->name, c->err);
}

static rmas_status pre_tokenizer(context *c, const json_t *x, const char *type) {
    rm_step *s;
    if (strcmp(type, "Split") == 0) {
        RM_TRY(add(c, RM_STEP_SPLIT, type, &s));
        return read_split(c, x, type, s);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        RM_TRY(add(c, RM_STEP_BYTES, type, &s));
        s->flag = flag(x, "add_prefix_space", true);
        if (!flag(x, "use_regex", true)) return RMAS_OK;
        return rm_pattern_regex(&s->pattern, rm_regex_gpt2, strlen(rm_regex_gpt2), c->t->name, c->err);
    }
    if (strcmp(type, "Digits") == 0) {
        RM_TRY(add(c, RM_STEP_DIGITS, type, &s));
        s->flag = flag(x, "individual_digits", false);
        return RMAS_OK;
    }
    if (strcmp(type, "Metaspace") == 0) {
        RM_TRY(add(c, RM_STEP_METASPACE, type, &s));
        return read_metaspace(c, x, type, s);
    }
    return unsupported(c, type, NULL);
}

rmas_status rm_tok_pre_tokenizer(rm_tok *t, const char *s, size_t n, rmas_error *err) {
    return read_text(t, "pre-tokenizer", &t->pre, s, n, pre_tokenizer, "pretokenizers", err);
}

/* ---- decoders -------------------------------------------------------------------------------------------------------------------- */

static rmas_status decoder(context *c, const json_t *x, const char *type) {
    rm_step *s;
    c->t->has_decoder = true;
    if (strcmp(type, "ByteLevel") == 0) return add(c, RM_STEP_BYTES, type, &s);
    if (strcmp(type, "ByteFallback") == 0) return add(c, RM_STEP_BYTE_FALLBACK, type, &s);
    if (strcmp(type, "Fuse") == 0) return add(c, RM_STEP_FUSE, type, &s);
    if (strcmp(type, "Replace") == 0) {
        RM_TRY(add(c, RM_STEP_REPLACE, type, &s));
        RM_TRY(read_string(c, x, type, "content", s));
        return read_pattern(c, x, type, s);
    }
    if (strcmp(type, "Strip") == 0) {
        RM_TRY(add(c, RM_STEP_STRIP, type, &s));
        json_int_t left = json_integer_value(json_object_get(x, "start")), right = json_integer_value(json_object_get(x, "stop"));
        s->left = left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
        s->right = right < 0 ? 0 : right > 1000000 ? 1000000 : (int)right;
        return read_char(c, x, type, "content", s);
    }
    if (strcmp(type, "Metaspace") == 0) {
        RM_TRY(add(c, RM_STEP_METASPACE, type, &s));
        return read_metaspace(c, x, type, s);
    }
    return unsupported(c, type, NULL);
}

rmas_status rm_tok_decoder(rm_tok *t, const char *s, size_t n, rmas_error *err) {
    t->has_decoder = false;
    return read_text(t, "decoder", &t->dec, s, n, decoder, "decoders", err);
}

/* ---- post-processors ------------------------------------------------------------------------------------------------------------- */

/* Puts the ids of a template's special token at the end of v. */
static rmas_status push_special(context *c, const json_t *x, const char *type, const char *name, rm_ids *v) {
    const json_t *ids = json_object_get(json_object_get(json_object_get(x, "special_tokens"), name), "ids");
    if (!json_is_array(ids)) return malformed(c, type, "the ids of every special token");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= INT32_MAX) return malformed(c, type, "an id");
        if (!rm_ids_push(v, (int32_t)json_integer_value(id))) return no_memory(c);
    }
    return RMAS_OK;
}

static rmas_status read_template(context *c, const json_t *x, const char *type, rm_ids *before, rm_ids *after) {
    const json_t *single = json_object_get(x, "single");
    bool seen = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *part = json_array_get(single, i);
        const char *token = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
        if (token) {
            RM_TRY(push_special(c, x, type, token, seen ? after : before));
        } else {
            const char *id = json_string_value(json_object_get(json_object_get(part, "Sequence"), "id"));
            if (!id || strcmp(id, "A") != 0 || seen) return unsupported(c, type, "its template has other parts than special tokens around one text");
            seen = true;
        }
    }
    return seen ? RMAS_OK : malformed(c, type, "a template with the text in it");
}

static bool append(rm_ids *v, const rm_ids *w) {
    for (int i = 0; i < w->n; i++)
        if (!rm_ids_push(v, w->id[i])) return false;
    return true;
}

static rmas_status post_processor(context *c, const json_t *x, const char *type) {
    if (strcmp(type, "ByteLevel") == 0) return RMAS_OK; /* moves offsets only */
    if (strcmp(type, "TemplateProcessing") != 0) return unsupported(c, type, NULL);
    rm_ids before = {0}, after = {0};
    rm_tok *t = c->t;
    rmas_status s = read_template(c, x, type, &before, &after);
    if (s == RMAS_OK) { /* around what an earlier one adds */
        if (!append(&before, &t->before) || !append(&t->after, &after)) s = no_memory(c);
        rm_ids old = t->before;
        t->before = before;
        before = old;
    }
    rm_ids_free(&before);
    rm_ids_free(&after);
    return s;
}

rmas_status rm_tok_post_processor(rm_tok *t, const char *s, size_t n, rmas_error *err) {
    t->before.n = t->after.n = 0;
    return read_text(t, "post-processor", NULL, s, n, post_processor, "processors", err);
}
