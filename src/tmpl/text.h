/* Text by code points, as Python's str has it. All strings are valid UTF-8. */
#ifndef RM_TMPL_TEXT_H
#define RM_TMPL_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "util/strbuf.h"

bool rm_cp_space(unsigned cp); /* str.isspace, and \s of regular expressions */
bool rm_cp_printable(unsigned cp); /* str.isprintable */
bool rm_cp_upper(unsigned cp);
bool rm_cp_lower(unsigned cp);
bool rm_cp_alpha(unsigned cp);
bool rm_cp_digit(unsigned cp);

/* Bytes of the character at s[0..n), n > 0, and the character. */
int rm_text_next(const char *s, size_t n, unsigned *cp);
/* Bytes of the last character of s[0..n), n > 0, and the character. */
int rm_text_last(const char *s, size_t n, unsigned *cp);
size_t rm_text_count(const char *s, size_t n); /* characters */
size_t rm_text_offset(const char *s, size_t n, size_t chars); /* byte where character number `chars` begins; n if there are fewer */

/* Narrows *s, *n. chars NULL: white space, else the characters to remove. */
void rm_text_trim(const char **s, size_t *n, const char *chars, size_t n_chars, bool left, bool right);
/* First (or last) place of what in s; -1: none. An empty what is found at the start (end). */
ptrdiff_t rm_text_find(const char *s, size_t n, const char *what, size_t n_what);
ptrdiff_t rm_text_rfind(const char *s, size_t n, const char *what, size_t n_what);

typedef enum { RM_CASE_UPPER, RM_CASE_LOWER, RM_CASE_CAPITALIZE, RM_CASE_TITLE, RM_CASE_SWAP } rm_case;
void rm_text_case(const char *s, size_t n, rm_case how, rm_strbuf *out);

#endif
