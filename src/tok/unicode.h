/* What the tokenizers need of Unicode: classes of characters, normal forms, and the alphabet of byte-level vocabularies. */
#ifndef RM_TOK_UNICODE_H
#define RM_TOK_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/rng.h"
#include "util/strbuf.h"

/* Classes as in regular expressions: \p{L}, \p{N}, \p{M}, \s. */
enum { RM_CH_L = 1, RM_CH_N = 2, RM_CH_M = 4, RM_CH_S = 8 };

extern const uint8_t rm_ascii_class[128];
unsigned rm_char_class_wide(unsigned cp);
static inline unsigned rm_char_class(unsigned cp) { return cp < 128 ? rm_ascii_class[cp] : rm_char_class_wide(cp); }
bool rm_char_is_word(unsigned cp); /* \w: letters, marks, decimal and letter numbers, connectors, joiners */

/* The character at s, which must be the start of one in valid UTF-8; its length goes to *len. */
static inline unsigned rm_char_at(const char *str, int *len) {
    const unsigned char *s = (const unsigned char *)str;
    if (s[0] < 0x80) return *len = 1, s[0];
    if (s[0] < 0xE0) return *len = 2, (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    if (s[0] < 0xF0) return *len = 3, (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    return *len = 4, (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

typedef enum { RM_NFC, RM_NFD, RM_NFKC, RM_NFKD } rm_normal_form;
/* True if NFC certainly leaves the text as it is (nearly all text): looked at first because it is fast. */
bool rm_nfc_is_inert(const char *s, size_t n);
/* Appends the normal form of valid UTF-8. out->failed when out of memory. Linear, also for endless runs of marks. */
void rm_normalize(rm_strbuf *out, const char *s, size_t n, rm_normal_form form);

/* The byte-level alphabet: printable bytes stand for themselves, the other 68 for U+0100 and up. */
unsigned rm_byte_to_char(unsigned char b);
int rm_char_to_byte(unsigned cp); /* -1: not in the alphabet */
void rm_bytes_to_alphabet(rm_strbuf *out, const char *s, size_t n);
/* Appends what a byte-level token stands for: its bytes, or the token itself if a character of it is not in the alphabet. */
void rm_alphabet_to_bytes(rm_strbuf *out, const char *s, size_t n);

static inline uint64_t rm_pair_hash(uint64_t pair) { return rm_mix64(pair); }

#endif
