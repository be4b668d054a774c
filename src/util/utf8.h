/* UTF-8: strict decoding (no surrogates, no overlong forms). */
#ifndef RM_UTIL_UTF8_H
#define RM_UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Decodes one code point from s[0..n), n > 0. Returns its length in bytes and sets *cp; 0 if the bytes are not valid UTF-8. */
int rm_utf8_decode(const char *s, size_t n, unsigned *cp);
/* As above, but an invalid sequence gives U+FFFD and the length of its maximal subpart (>= 1), as Python's "replace" does. */
int rm_utf8_decode_lossy(const char *s, size_t n, unsigned *cp);
/* Writes 1-4 bytes, returns how many. */
int rm_utf8_encode(unsigned cp, char out[4]);
bool rm_utf8_valid(const char *s, size_t n);
size_t rm_utf8_length(const char *s, size_t n); /* code points; every invalid subpart counts as one */

#endif
