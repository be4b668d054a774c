/* Characters and strings as Python sees them: the reference is a Python program, and its scorers must be matched to the
 * character. Internal to eval. Texts here are valid UTF-8 without NUL (rm_sv_clean). */
#ifndef RM_EVAL_UNICODE_H
#define RM_EVAL_UNICODE_H

#include <stdbool.h>
#include <stddef.h>

#include "util/strbuf.h"

typedef struct { /* a piece of a text; not NUL-terminated */
    const char *s;
    size_t n;
} rm_sv;
#define RM_SV(literal) ((rm_sv){literal, sizeof(literal) - 1})
rm_sv rm_sv_of(const char *s); /* NULL: empty */
rm_sv rm_sv_buf(const rm_strbuf *b);
rm_sv rm_sv_from(rm_sv v, size_t at);
rm_sv rm_sv_cut(rm_sv v, size_t from, size_t to);
bool rm_sv_eq(rm_sv a, rm_sv b);
bool rm_sv_is(rm_sv a, const char *b);
bool rm_sv_starts(rm_sv a, const char *b);
bool rm_sv_ends(rm_sv a, const char *b);
size_t rm_sv_find(rm_sv v, rm_sv what, size_t from); /* SIZE_MAX: not there. Linear */
char *rm_sv_dup(rm_sv v); /* rm_free */

bool rm_uni_space(unsigned cp); /* str.isspace, \s */
bool rm_uni_digit(unsigned cp); /* general category Nd: \d */
int rm_uni_digit_value(unsigned cp); /* of a digit */
bool rm_uni_alpha(unsigned cp); /* str.isalpha */
bool rm_uni_word(unsigned cp); /* \w */

unsigned rm_sv_cp(rm_sv v, size_t at, size_t *len); /* code point at a byte offset */
unsigned rm_sv_cp_before(rm_sv v, size_t at, size_t *len); /* the one that ends there; at > 0 */
rm_sv rm_sv_strip(rm_sv v);
rm_sv rm_sv_lstrip(rm_sv v);
rm_sv rm_sv_rstrip(rm_sv v);
rm_sv rm_sv_strip_chars(rm_sv v, const char *ascii); /* str.strip("...") */
rm_sv rm_sv_rstrip_chars(rm_sv v, const char *ascii);
size_t rm_sv_length(rm_sv v); /* code points */
rm_sv rm_sv_first(rm_sv v, size_t n_cp); /* the first n code points */

/* These append to out. */
void rm_sv_clean(rm_strbuf *out, const char *s, size_t n); /* invalid bytes and NUL -> U+FFFD */
void rm_sv_lower(rm_strbuf *out, rm_sv v); /* str.lower */
void rm_sv_casefold(rm_strbuf *out, rm_sv v); /* unicodedata.normalize("NFKC", v).casefold() */
void rm_sv_replace(rm_strbuf *out, rm_sv v, const char *what, const char *with); /* str.replace */
void rm_sv_drop_space(rm_strbuf *out, rm_sv v);
void rm_sv_collapse(rm_strbuf *out, rm_sv v); /* runs of white space -> one space; not stripped */

/* Python's str.splitlines: the next line of v from *at, without its end. False when there is none. */
bool rm_sv_next_line(rm_sv v, size_t *at, rm_sv *line);

#endif
