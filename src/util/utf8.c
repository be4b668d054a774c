#include "util/utf8.h"

int rm_utf8_decode_lossy(const char *str, size_t n, unsigned *cp) {
    const unsigned char *s = (const unsigned char *)str;
    *cp = 0xFFFD;
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    int len = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : s[0] >= 0xE0 && s[0] <= 0xEF ? 3 : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4 : 0;
    if (!len) return 1;
    unsigned lo = 0x80, hi = 0xBF; /* bounds of the second byte: no overlong forms, no surrogates, nothing above U+10FFFF */
    if (s[0] == 0xE0) lo = 0xA0;
    if (s[0] == 0xED) hi = 0x9F;
    if (s[0] == 0xF0) lo = 0x90;
    if (s[0] == 0xF4) hi = 0x8F;
    unsigned v = s[0] & (0x7Fu >> len);
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n || s[i] < lo || s[i] > hi) return i;
        v = v << 6 | (s[i] & 0x3Fu);
        lo = 0x80;
        hi = 0xBF;
    }
    *cp = v;
    return len;
}

int rm_utf8_decode(const char *s, size_t n, unsigned *cp) {
    int len = rm_utf8_decode_lossy(s, n, cp);
    if (*cp == 0xFFFD && !(len == 3 && (unsigned char)s[0] == 0xEF && (unsigned char)s[1] == 0xBF && (unsigned char)s[2] == 0xBD)) return 0;
    return len;
}

int rm_utf8_encode(unsigned cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool rm_utf8_valid(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = rm_utf8_decode(s + i, n - i, &cp);
        if (!len) return false;
        i += (size_t)len;
    }
    return true;
}

size_t rm_utf8_length(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        unsigned cp;
        i += (size_t)rm_utf8_decode_lossy(s + i, n - i, &cp);
    }
    return count;
}
