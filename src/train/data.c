#include "train/data.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "prompt/prompt.h"
#include "util/file.h"
#include "util/mem.h"

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static rmas_status read_lines(rm_rows *r, const char *text, size_t n, rmas_error *err) {
    size_t line = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        const char *s = text + at;
        size_t m = len;
        at += len + 1;
        line++;
        rm_text_strip(&s, &m, true, true);
        if (m == 0) continue;
        json_error_t je;
        json_t *row = json_loadb(s, m, JSON_REJECT_DUPLICATES, &je);
        if (!row) return rm_fail(err, RMAS_E_FORMAT, "%s: line %zu: %s", r->path, line, je.text);
        if (!json_is_object(row)) {
            json_decref(row);
            return rm_fail(err, RMAS_E_FORMAT, "%s: line %zu: a row must be a JSON object", r->path, line);
        }
        if (json_array_append_new(r->all, row)) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", r->path);
    }
    return RMAS_OK;
}

static rmas_status read_array(rm_rows *r, const char *text, size_t n, const char *field, rmas_error *err) {
    json_error_t je;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (!root) return rm_fail(err, RMAS_E_FORMAT, "%s: line %d: %s", r->path, je.line, je.text);
    json_t *a = json_is_object(root) ? json_object_get(root, field ? field : "data") : field ? NULL : root;
    rmas_status st = RMAS_OK;
    if (!json_is_array(a)) {
        st = rm_fail(err, RMAS_E_FORMAT, "%s: expected an array of rows under \"%s\"%s", r->path, field ? field : "data",
                     field ? "" : " or at the top");
    } else {
        for (size_t i = 0; i < json_array_size(a) && st == RMAS_OK; i++)
            if (!json_is_object(json_array_get(a, i))) st = rm_fail(err, RMAS_E_FORMAT, "%s: row %zu is not a JSON object", r->path, i);
        json_decref(r->all);
        r->all = json_incref(a);
    }
    json_decref(root);
    return st;
}

rmas_status rm_rows_open(rm_rows *out, const char *path, const char *field, rmas_error *err) {
    *out = (rm_rows){.path = rm_strdup(path), .all = json_array()};
    rmas_status st = out->path && out->all ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    char *text = NULL;
    size_t n = 0;
    bool lines = ends_with(path, ".jsonl");
    if (st == RMAS_OK && !lines && !ends_with(path, ".json")) st = rm_fail(err, RMAS_E_ARG, "%s: training data must be a .jsonl or .json file", path);
    if (st == RMAS_OK) st = rm_file_read(&text, &n, path, (size_t)1 << 31, err);
    if (st == RMAS_OK) st = lines ? read_lines(out, text, n, err) : read_array(out, text, n, field, err);
    rm_free(text);
    if (st == RMAS_OK && (out->n = json_array_size(out->all)) == 0) st = rm_fail(err, RMAS_E_FORMAT, "%s: no rows", path);
    if (st != RMAS_OK) rm_rows_close(out);
    return st;
}

void rm_rows_close(rm_rows *r) {
    rm_free(r->path);
    json_decref(r->all);
    *r = (rm_rows){0};
}

rmas_status rm_rows_text(const rm_rows *r, size_t row, const char *column, bool strip, rm_strbuf *out, bool *present, rmas_error *err) {
    rm_strbuf_clear(out);
    json_t *v = json_object_get(json_array_get(r->all, row), column);
    if (present) *present = v != NULL;
    if (!v || json_is_null(v)) return RMAS_OK;
    if (json_is_string(v)) {
        const char *s = json_string_value(v);
        size_t n = json_string_length(v);
        if (strip) rm_text_strip(&s, &n, true, true);
        rm_strbuf_add(out, s, n);
    } else if (json_is_integer(v)) {
        rm_strbuf_printf(out, "%lld", (long long)json_integer_value(v));
    } else if (json_is_real(v)) {
        rm_strbuf_double(out, json_real_value(v));
    } else if (json_is_boolean(v)) {
        rm_strbuf_puts(out, json_is_true(v) ? "True" : "False");
    } else {
        return rm_fail(err, RMAS_E_FORMAT, "%s: row %zu, column '%s': expected text, found a JSON %s", r->path, row, column,
                       json_is_array(v) ? "array" : "object");
    }
    return out->failed ? rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", r->path) : RMAS_OK;
}

rmas_status rm_rows_first(const rm_rows *r, size_t row, const char *const *columns, bool first_present, rm_strbuf *out, rmas_error *err) {
    for (; *columns; columns++) {
        bool present;
        RM_TRY(rm_rows_text(r, row, *columns, true, out, &present, err));
        if (first_present ? present : out->n > 0) return RMAS_OK;
    }
    rm_strbuf_clear(out);
    return RMAS_OK;
}

bool rm_rows_has_any(const rm_rows *r, const char *const *columns) {
    for (; *columns; columns++)
        for (size_t i = 0; i < r->n; i++)
            if (json_object_get(json_array_get(r->all, i), *columns)) return true;
    return false;
}
