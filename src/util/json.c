#include "util/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/number.h"
#include "util/utf8.h"

enum { WANT_VALUE, WANT_FIRST_KEY, WANT_KEY, WANT_FIRST_ITEM, AFTER_KEY, AFTER_VALUE, DONE, BROKEN };

void rm_json_init(rm_json *j, const char *text, size_t n) {
    memset(j, 0, sizeof *j);
    j->text = text;
    j->n = n;
}

void rm_json_free(rm_json *j) { rm_strbuf_free(&j->buf); }

static rm_json_event fail(rm_json *j, const char *what) {
    j->error = what;
    j->state = BROKEN;
    return RM_JSON_ERROR;
}

static void skip_space(rm_json *j) {
    while (j->pos < j->n) {
        char c = j->text[j->pos];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return;
        j->pos++;
    }
}

static int hex4(const rm_json *j, size_t at) {
    if (j->n - at < 4) return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = j->text[at + (size_t)i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return -1;
        v = v << 4 | d;
    }
    return v;
}

/* pos stands behind a backslash; appends what the escape means. */
static const char *unescape(rm_json *j) {
    if (j->pos >= j->n) return "string without end";
    char c = j->text[j->pos++];
    const char *from = "\"\\/bfnrt", *to = "\"\\/\b\f\n\r\t", *at = strchr(from, c);
    if (c && at) {
        rm_strbuf_putc(&j->buf, to[at - from]);
        return NULL;
    }
    if (c != 'u') return "unknown escape";
    int u = hex4(j, j->pos);
    if (u < 0) return "bad \\u escape";
    j->pos += 4;
    if (u >= 0xD800 && u < 0xE000) {
        int lo = -1;
        if (u < 0xDC00 && j->n - j->pos >= 6 && j->text[j->pos] == '\\' && j->text[j->pos + 1] == 'u') lo = hex4(j, j->pos + 2);
        if (lo < 0xDC00 || lo > 0xDFFF) return "lone surrogate escape";
        j->pos += 6;
        u = 0x10000 + ((u - 0xD800) << 10) + (lo - 0xDC00);
    }
    rm_strbuf_utf8(&j->buf, (unsigned)u);
    return NULL;
}

/* pos stands behind the opening quote. */
static const char *read_string(rm_json *j) {
    size_t start = j->pos;
    bool escaped = false;
    rm_strbuf_clear(&j->buf);
    for (;;) {
        if (j->pos >= j->n) return "string without end";
        unsigned char c = (unsigned char)j->text[j->pos];
        if (c == '"') break;
        if (c < 0x20) return "control character in a string";
        if (c == '\\') {
            rm_strbuf_add(&j->buf, j->text + start, j->pos - start);
            escaped = true;
            j->pos++;
            const char *e = unescape(j);
            if (e) return e;
            start = j->pos;
        } else if (c < 0x80) {
            j->pos++;
        } else {
            unsigned cp;
            int len = rm_utf8_decode(j->text + j->pos, j->n - j->pos, &cp);
            if (!len) return "not valid UTF-8";
            j->pos += (size_t)len;
        }
    }
    if (escaped) {
        rm_strbuf_add(&j->buf, j->text + start, j->pos - start);
        if (j->buf.failed) return "out of memory";
        j->str = j->buf.s;
        j->len = j->buf.n;
    } else {
        j->str = j->text + start;
        j->len = j->pos - start;
    }
    j->pos++;
    return NULL;
}

static bool digits(rm_json *j) {
    size_t start = j->pos;
    while (j->pos < j->n && j->text[j->pos] >= '0' && j->text[j->pos] <= '9') j->pos++;
    return j->pos > start;
}

static bool at(const rm_json *j, char c) { return j->pos < j->n && j->text[j->pos] == c; }

static bool read_number(rm_json *j) {
    size_t start = j->pos;
    if (at(j, '-')) j->pos++;
    if (at(j, '0'))
        j->pos++;
    else if (!digits(j))
        return false;
    if (at(j, '.')) {
        j->pos++;
        if (!digits(j)) return false;
    }
    if (at(j, 'e') || at(j, 'E')) {
        j->pos++;
        if (at(j, '+') || at(j, '-')) j->pos++;
        if (!digits(j)) return false;
    }
    j->str = j->text + start;
    j->len = j->pos - start;
    return true;
}

static rm_json_event open_value(rm_json *j, char c) {
    if (j->depth == RM_JSON_MAX_DEPTH) return fail(j, "nested too deeply");
    j->stack[j->depth++] = (uint8_t)c;
    j->pos++;
    j->state = c == '{' ? WANT_FIRST_KEY : WANT_FIRST_ITEM;
    return c == '{' ? RM_JSON_OBJECT : RM_JSON_ARRAY;
}

static rm_json_event close_value(rm_json *j) {
    j->pos++;
    j->depth--;
    j->state = j->depth ? AFTER_VALUE : DONE;
    return j->stack[j->depth] == '{' ? RM_JSON_OBJECT_END : RM_JSON_ARRAY_END;
}

static rm_json_event literal(rm_json *j, const char *word, rm_json_event e) {
    size_t len = strlen(word);
    if (j->n - j->pos < len || memcmp(j->text + j->pos, word, len) != 0) return fail(j, "unknown word");
    j->pos += len;
    return e;
}

static rm_json_event read_value(rm_json *j) {
    char c = j->text[j->pos];
    if (c == '{' || c == '[') return open_value(j, c);
    j->state = j->depth ? AFTER_VALUE : DONE;
    if (c == '"') {
        j->pos++;
        const char *e = read_string(j);
        return e ? fail(j, e) : RM_JSON_STRING;
    }
    if (c == 't') return literal(j, "true", RM_JSON_TRUE);
    if (c == 'f') return literal(j, "false", RM_JSON_FALSE);
    if (c == 'n') return literal(j, "null", RM_JSON_NULL);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(j) ? RM_JSON_NUMBER : fail(j, "bad number");
    return fail(j, "a value was expected");
}

static rm_json_event read_key(rm_json *j) {
    if (!at(j, '"')) return fail(j, "a key was expected");
    j->pos++;
    const char *e = read_string(j);
    if (e) return fail(j, e);
    j->state = AFTER_KEY;
    return RM_JSON_KEY;
}

rm_json_event rm_json_next(rm_json *j) {
    if (j->state == BROKEN) return RM_JSON_ERROR;
    skip_space(j);
    if (j->state == DONE) return j->pos == j->n ? RM_JSON_END : fail(j, "something follows the document");
    if (j->pos >= j->n) return fail(j, "the document ends too early");
    char c = j->text[j->pos];
    switch (j->state) {
    case WANT_FIRST_KEY: return c == '}' ? close_value(j) : read_key(j);
    case WANT_FIRST_ITEM: return c == ']' ? close_value(j) : read_value(j);
    case AFTER_KEY:
        if (c != ':') return fail(j, "':' was expected");
        j->pos++;
        skip_space(j);
        return j->pos < j->n ? read_value(j) : fail(j, "the document ends too early");
    case AFTER_VALUE: {
        bool object = j->stack[j->depth - 1] == '{';
        if (c == (object ? '}' : ']')) return close_value(j);
        if (c != ',') return fail(j, "',' was expected");
        j->pos++;
        skip_space(j);
        if (j->pos >= j->n) return fail(j, "the document ends too early");
        return object ? read_key(j) : read_value(j);
    }
    default: return read_value(j);
    }
}

bool rm_json_skip(rm_json *j, rm_json_event e) {
    int depth = j->depth;
    if (e == RM_JSON_KEY)
        e = rm_json_next(j);
    else if (e == RM_JSON_OBJECT || e == RM_JSON_ARRAY)
        depth--;
    while (e != RM_JSON_ERROR && j->depth > depth) e = rm_json_next(j);
    return e != RM_JSON_ERROR;
}

bool rm_json_is(const rm_json *j, const char *s) { return strlen(s) == j->len && memcmp(s, j->str, j->len) == 0; }

bool rm_json_int(const rm_json *j, int64_t *out) {
    size_t i = 0;
    bool negative = j->len && j->str[0] == '-';
    if (negative) i++;
    if (i == j->len) return false;
    int64_t v = 0;
    for (; i < j->len; i++) {
        if (j->str[i] < '0' || j->str[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, j->str[i] - '0', &v)) return false;
    }
    if (!negative && v == INT64_MIN) return false;
    *out = negative ? v : -v;
    return true;
}

bool rm_json_double(const rm_json *j, double *out) {
    char tmp[128];
    if (j->len >= sizeof tmp) return false;
    memcpy(tmp, j->str, j->len);
    tmp[j->len] = 0;
    char *end;
    *out = rm_number_parse(tmp, &end);
    return end == tmp + j->len && isfinite(*out);
}
