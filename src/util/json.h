/* A pull parser for JSON (RFC 8259): one pass over a buffer, no tree, no recursion, depth capped. For large or hostile
 * files (safetensors headers, tokenizer.json); for small results and configs use jansson.
 *
 *   rm_json j;
 *   rm_json_init(&j, text, n);
 *   for (rm_json_event e = rm_json_next(&j); e != RM_JSON_END; e = rm_json_next(&j)) {
 *       if (e == RM_JSON_ERROR) return rm_fail(err, RMAS_E_FORMAT, "%s: %s at byte %zu", path, j.error, j.pos);
 *       ...
 *   }
 *
 * Duplicate keys are not noticed here: readers that must refuse them keep a set. Strict UTF-8; lone surrogate escapes are errors. */
#ifndef RM_UTIL_JSON_H
#define RM_UTIL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/strbuf.h"

typedef enum {
    RM_JSON_ERROR = -1,
    RM_JSON_END, /* the document is complete and only white space follows */
    RM_JSON_OBJECT,
    RM_JSON_OBJECT_END,
    RM_JSON_ARRAY,
    RM_JSON_ARRAY_END,
    RM_JSON_KEY, /* text in j->str / j->len */
    RM_JSON_STRING, /* text in j->str / j->len */
    RM_JSON_NUMBER, /* source text in j->str / j->len: rm_json_int, rm_json_double */
    RM_JSON_TRUE,
    RM_JSON_FALSE,
    RM_JSON_NULL
} rm_json_event;

enum { RM_JSON_MAX_DEPTH = 128 };

typedef struct {
    const char *text;
    size_t n, pos;
    int depth; /* open objects and arrays */
    const char *str; /* unescaped, not NUL-terminated, valid until the next call */
    size_t len;
    const char *error;
    rm_strbuf buf; /* holds unescaped strings */
    uint8_t state;
    uint8_t stack[RM_JSON_MAX_DEPTH]; /* '{' or '[' */
} rm_json;

void rm_json_init(rm_json *j, const char *text, size_t n);
void rm_json_free(rm_json *j); /* releases buf; call when done, also after errors */
rm_json_event rm_json_next(rm_json *j);
/* After OBJECT or ARRAY: reads on to its end. After KEY: skips the value. After a scalar: nothing. False on error. */
bool rm_json_skip(rm_json *j, rm_json_event e);
bool rm_json_is(const rm_json *j, const char *s); /* str equals s */
bool rm_json_int(const rm_json *j, int64_t *out); /* false if not an integer that fits */
bool rm_json_double(const rm_json *j, double *out); /* false unless finite */

#endif
