/* Regular expressions with Python's meaning on top of PCRE2: \s \d \w \b are Unicode classes as in Python's re, \Z is the very
 * end, and a caseless i matches the Turkish ones too. Internal to eval. */
#ifndef RM_EVAL_REGEX_H
#define RM_EVAL_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "eval/unicode.h"
#include "util/error.h"

enum { RM_RE_I = 1, RM_RE_M = 2, RM_RE_S = 4 }; /* re.IGNORECASE, re.MULTILINE, re.DOTALL */
enum { RM_RE_GROUPS = 6 };

typedef struct rm_re rm_re;
rmas_status rm_re_new(rm_re **out, const char *pattern, int flags, rmas_error *err);
void rm_re_free(rm_re *re);

typedef struct {
    size_t start[RM_RE_GROUPS], end[RM_RE_GROUPS]; /* SIZE_MAX: the group took no part */
} rm_match;

/* The text must be valid UTF-8. A pattern that runs into the engine's limits does not match. */
bool rm_re_search(const rm_re *re, rm_sv text, size_t from, rm_match *m); /* re.search */
bool rm_re_match(const rm_re *re, rm_sv text, size_t from, rm_match *m); /* re.match: at `from` */
bool rm_re_full(const rm_re *re, rm_sv text); /* re.fullmatch */
rm_sv rm_group(rm_sv text, const rm_match *m, int k);

/* re.sub; `with` may hold \1. Appends to out. */
void rm_re_sub(const rm_re *re, rm_sv text, const char *with, rm_strbuf *out);

#endif
