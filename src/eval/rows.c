/* Reads the files of data sets into rows: .json, .jsonl, .csv, and plain text for questions of one's own. */
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "eval/items.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/utf8.h"

enum { MAX_FILE = 1 << 30 };

static bool has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), k = strlen(suffix);
    return n >= k && strcasecmp(path + n - k, suffix) == 0;
}

/* Takes the reference. */
static rmas_status add(rm_rows *rows, json_t *row, size_t line, rmas_error *err) {
    if (row && rows->n == rows->cap) {
        size_t cap = rows->cap ? 2 * rows->cap : 64;
        rm_row *v = rm_realloc_array(rows->v, cap, sizeof *v);
        if (v) {
            rows->v = v;
            rows->cap = cap;
        }
    }
    if (!row || rows->n == rows->cap) {
        json_decref(row);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    rows->v[rows->n++] = (rm_row){row, line};
    return RMAS_OK;
}

void rm_rows_free(rm_rows *rows) {
    for (size_t i = 0; i < rows->n; i++) json_decref(rows->v[i].row);
    rm_free(rows->v);
    *rows = (rm_rows){0};
}

rmas_status rm_rows_add_text(rm_rows *rows, const char *question, size_t line, rmas_error *err) {
    if (!rows->unit) rows->unit = "question";
    if (!rm_utf8_valid(question, strlen(question)))
        return rm_fail(err, RMAS_E_FORMAT, "%s: %s %zu: not valid UTF-8", rows->path, rows->unit, line + 1);
    return add(rows, json_pack("{s:s}", "question", question), line + 1, err);
}

static const char *kind_of(const json_t *v) {
    static const char *const names[] = {"an object", "an array", "a string", "an integer", "a number", "true", "false", "null"};
    return names[json_typeof(v)];
}

/* An element or line: an object, or (own questions) a string. */
static rmas_status add_value(rm_rows *rows, json_t *v, size_t line, bool own, rmas_error *err) {
    if (own && json_is_string(v)) return rm_rows_add_text(rows, json_string_value(v), line - 1, err);
    if (!json_is_object(v))
        return rm_fail(err, RMAS_E_FORMAT, "%s: %s %zu: expected an object%s, found %s", rows->path, rows->unit, line, own ? " or a string" : "",
                       kind_of(v));
    return add(rows, json_incref(v), line, err);
}

static rmas_status read_json(rm_rows *rows, const char *text, size_t n, bool own, rmas_error *err) {
    json_error_t je;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je), *list = root;
    if (!root) return rm_fail(err, RMAS_E_FORMAT, "%s: line %d, column %d: %s", rows->path, je.line, je.column, je.text);
    rmas_status st = RMAS_OK;
    rows->unit = "element";
    if (json_is_object(root)) { /* {"data": [...]}: the one array in it */
        const char *key;
        json_t *v;
        int arrays = 0;
        json_object_foreach(root, key, v) {
            if (json_is_array(v)) {
                list = v;
                arrays++;
            }
        }
        if (arrays != 1 || json_object_get(root, "question")) list = NULL;
        if (!list) st = add_value(rows, root, 1, own, err);
    } else if (!json_is_array(root)) {
        st = rm_fail(err, RMAS_E_FORMAT, "%s: expected an array of objects, found %s", rows->path, kind_of(root));
        list = NULL;
    }
    for (size_t i = 0; !st && list && i < json_array_size(list); i++) st = add_value(rows, json_array_get(list, i), i + 1, own, err);
    json_decref(root);
    return st;
}

/* Lines end with LF only: strings may hold other line separators. */
static rmas_status read_lines(rm_rows *rows, const char *text, size_t n, bool own, bool plain, rmas_error *err) {
    rows->unit = "line";
    size_t line = 0;
    for (size_t at = 0; at < n;) {
        const char *lf = memchr(text + at, '\n', n - at);
        size_t end = lf ? (size_t)(lf - text) : n, next = end + 1;
        line++;
        while (end > at && (text[end - 1] == ' ' || text[end - 1] == '\t' || text[end - 1] == '\r')) end--;
        if (plain && memchr(text + at, 0, end - at))
            return rm_fail(err, RMAS_E_FORMAT, "%s: line %zu: a NUL character; not a text file", rows->path, line);
        if (end > at && plain) {
            char *s = rm_strndup(text + at, end - at);
            rmas_status st = s ? rm_rows_add_text(rows, s, line - 1, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
            rm_free(s);
            RM_TRY(st);
        } else if (end > at) {
            json_error_t je;
            json_t *v = json_loadb(text + at, end - at, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
            if (!v) return rm_fail(err, RMAS_E_FORMAT, "%s: line %zu, column %d: %s", rows->path, line, je.column, je.text);
            rmas_status st = add_value(rows, v, line, own, err);
            json_decref(v);
            RM_TRY(st);
        }
        at = next;
    }
    return RMAS_OK;
}

/* One field of a CSV row (RFC 4180: quotes are doubled inside quotes, line breaks may stand there). Sets *last at the row's end. */
static bool csv_field(const char *text, size_t n, size_t *at, rm_strbuf *out, bool *last) {
    rm_strbuf_clear(out);
    size_t i = *at;
    if (i < n && text[i] == '"') {
        for (i++;; i++) {
            if (i >= n) return false;
            if (text[i] != '"')
                rm_strbuf_putc(out, text[i]);
            else if (i + 1 < n && text[i + 1] == '"')
                rm_strbuf_putc(out, text[i++]);
            else
                break;
        }
        i++;
    } else {
        while (i < n && text[i] != ',' && text[i] != '\n' && text[i] != '\r') rm_strbuf_putc(out, text[i++]);
    }
    if (i < n && text[i] == '\r') i++;
    *last = i >= n || text[i] == '\n';
    if (!*last && text[i] != ',') return false;
    *at = i < n ? i + 1 : n;
    return true;
}

static rmas_status read_csv(rm_rows *rows, const char *text, size_t n, rmas_error *err) {
    rm_strbuf f = {0};
    json_t *head = json_array();
    rmas_status st = head ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rows->unit = "row";
    size_t at = 0, row = 0;
    while (!st && at < n) {
        json_t *o = json_object();
        bool last = false;
        size_t column = 0;
        for (; !st && !last; column++) {
            if (!csv_field(text, n, &at, &f, &last)) {
                st = rm_fail(err, RMAS_E_FORMAT, "%s: row %zu, column %zu: a quoted field does not end properly", rows->path, row, column + 1);
            } else if (row == 0) {
                json_array_append_new(head, json_stringn(rm_str(&f), f.n));
            } else {
                const char *key = json_string_value(json_array_get(head, column));
                if (key) json_object_set_new(o, key, json_stringn(rm_str(&f), f.n));
            }
        }
        bool blank = column == 1 && f.n == 0;
        if (!st && row > 0 && !blank && column != json_array_size(head))
            st = rm_fail(err, RMAS_E_FORMAT, "%s: row %zu has %zu fields, the heading %zu", rows->path, row, column, json_array_size(head));
        if (!st && row > 0 && !blank) st = add(rows, json_incref(o), row, err);
        json_decref(o);
        row++;
    }
    if (!st && f.failed) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    json_decref(head);
    rm_strbuf_free(&f);
    return st;
}

static rmas_status read_any(rm_rows *rows, const char *path, bool own, rmas_error *err) {
    char *all;
    size_t n;
    rows->path = path;
    RM_TRY(rm_file_read(&all, &n, path, MAX_FILE, err));
    rmas_status st;
    size_t mark = n >= 3 && memcmp(all, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0, first = 0; /* a byte order mark is no text */
    const char *text = all + mark;
    n -= mark;
    while (first < n && strchr(" \t\r\n", text[first])) first++;
    if (has_suffix(path, ".csv"))
        st = read_csv(rows, text, n, err);
    else if (has_suffix(path, ".jsonl") || has_suffix(path, ".ndjson"))
        st = read_lines(rows, text, n, own, false, err);
    else if (has_suffix(path, ".json"))
        st = read_json(rows, text, n, own, err);
    else if (own && !(first < n && text[first] == '{'))
        st = read_lines(rows, text, n, own, true, err);
    else if (first < n && text[first] == '[')
        st = read_json(rows, text, n, own, err);
    else
        st = read_lines(rows, text, n, own, false, err);
    rm_free(all);
    return st;
}

rmas_status rm_rows_read(rm_rows *rows, const char *path, rmas_error *err) { return read_any(rows, path, false, err); }
rmas_status rm_rows_read_questions(rm_rows *rows, const char *path, rmas_error *err) { return read_any(rows, path, true, err); }
