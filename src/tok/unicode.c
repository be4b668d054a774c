/* Classes and normal forms come from utf8proc. The reference's classes are those of Unicode 16; what an older utf8proc does
 * not know yet (it says "not assigned") is listed here, so that the classes do not depend on the distribution. Its normal forms
 * are those of Unicode 9; what is newer is listed, too. */
#include "tok/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "util/mem.h"
#include "util/utf8.h"

#define L RM_CH_L
#define N RM_CH_N
#define S RM_CH_S
const uint8_t rm_ascii_class[128] = {
    [9] = S,   [10] = S,  [11] = S,  [12] = S,  [13] = S,  [' '] = S, ['0'] = N, ['1'] = N, ['2'] = N, ['3'] = N, ['4'] = N, ['5'] = N,
    ['6'] = N, ['7'] = N, ['8'] = N, ['9'] = N, ['A'] = L, ['B'] = L, ['C'] = L, ['D'] = L, ['E'] = L, ['F'] = L, ['G'] = L, ['H'] = L,
    ['I'] = L, ['J'] = L, ['K'] = L, ['L'] = L, ['M'] = L, ['N'] = L, ['O'] = L, ['P'] = L, ['Q'] = L, ['R'] = L, ['S'] = L, ['T'] = L,
    ['U'] = L, ['V'] = L, ['W'] = L, ['X'] = L, ['Y'] = L, ['Z'] = L, ['a'] = L, ['b'] = L, ['c'] = L, ['d'] = L, ['e'] = L, ['f'] = L,
    ['g'] = L, ['h'] = L, ['i'] = L, ['j'] = L, ['k'] = L, ['l'] = L, ['m'] = L, ['n'] = L, ['o'] = L, ['p'] = L, ['q'] = L, ['r'] = L,
    ['s'] = L, ['t'] = L, ['u'] = L, ['v'] = L, ['w'] = L, ['x'] = L, ['y'] = L, ['z'] = L,
};
#undef L
#undef N
#undef S

/* Letters, numbers and marks of Unicode 15.1 and 16. */
static const struct {
    uint32_t first, last;
    uint8_t class;
} later[] = {
    {0x00897, 0x00897, RM_CH_M}, {0x01C89, 0x01C8A, RM_CH_L}, {0x0A7CB, 0x0A7CD, RM_CH_L}, {0x0A7DA, 0x0A7DC, RM_CH_L}, {0x105C0, 0x105F3, RM_CH_L},
    {0x10D40, 0x10D49, RM_CH_N}, {0x10D4A, 0x10D65, RM_CH_L}, {0x10D69, 0x10D6D, RM_CH_M}, {0x10D6F, 0x10D85, RM_CH_L}, {0x10EC2, 0x10EC4, RM_CH_L},
    {0x10EFC, 0x10EFC, RM_CH_M}, {0x11380, 0x11389, RM_CH_L}, {0x1138B, 0x1138B, RM_CH_L}, {0x1138E, 0x1138E, RM_CH_L}, {0x11390, 0x113B5, RM_CH_L},
    {0x113B7, 0x113B7, RM_CH_L}, {0x113B8, 0x113C0, RM_CH_M}, {0x113C2, 0x113C2, RM_CH_M}, {0x113C5, 0x113C5, RM_CH_M}, {0x113C7, 0x113CA, RM_CH_M},
    {0x113CC, 0x113D0, RM_CH_M}, {0x113D1, 0x113D1, RM_CH_L}, {0x113D2, 0x113D2, RM_CH_M}, {0x113D3, 0x113D3, RM_CH_L}, {0x113E1, 0x113E2, RM_CH_M},
    {0x116D0, 0x116E3, RM_CH_N}, {0x11BC0, 0x11BE0, RM_CH_L}, {0x11BF0, 0x11BF9, RM_CH_N}, {0x11F5A, 0x11F5A, RM_CH_M}, {0x13460, 0x143FA, RM_CH_L},
    {0x16100, 0x1611D, RM_CH_L}, {0x1611E, 0x1612F, RM_CH_M}, {0x16130, 0x16139, RM_CH_N}, {0x16D40, 0x16D6C, RM_CH_L}, {0x16D70, 0x16D79, RM_CH_N},
    {0x18CFF, 0x18CFF, RM_CH_L}, {0x1CCF0, 0x1CCF9, RM_CH_N}, {0x1E5D0, 0x1E5ED, RM_CH_L}, {0x1E5EE, 0x1E5EF, RM_CH_M}, {0x1E5F0, 0x1E5F0, RM_CH_L},
    {0x1E5F1, 0x1E5FA, RM_CH_N}, {0x2EBF0, 0x2EE5D, RM_CH_L},
};

unsigned rm_char_class_wide(unsigned cp) {
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return RM_CH_L;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return RM_CH_N;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return RM_CH_M;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return RM_CH_S;
    case UTF8PROC_CATEGORY_CC: return cp == 0x85 ? RM_CH_S : 0;
    case UTF8PROC_CATEGORY_CN:
        for (size_t i = 0; i < RM_COUNT(later) && cp >= later[i].first; i++)
            if (cp <= later[i].last) return later[i].class;
        return 0;
    default: return 0;
    }
}

bool rm_char_is_word(unsigned cp) {
    if (rm_char_class(cp) & (RM_CH_L | RM_CH_M)) return true;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    if (c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC) return true;
    return cp == 0x200C || cp == 0x200D || (cp >= 0x24B6 && cp <= 0x24E9) /* circled letters are alphabetic */ || (cp >= 0x1F130 && cp <= 0x1F149) ||
           (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

/* ---- normal forms ------------------------------------------------------------------------------------------------------- */

/* Common blocks in which every character is its own NFC and combines with nothing before it. */
static bool is_inert(unsigned cp) {
    return cp < 0x300 || (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0xAC00 && cp <= 0xD7A3) || (cp >= 0x3041 && cp <= 0x3096) ||
           (cp >= 0x30A1 && cp <= 0x30FA) || (cp >= 0xFF00 && cp <= 0xFFEF) || (cp >= 0x400 && cp <= 0x482) || (cp >= 0x388 && cp <= 0x3FF) ||
           (cp >= 0x2010 && cp <= 0x2027) || (cp >= 0x2190 && cp <= 0x2328) || (cp >= 0x2500 && cp <= 0x27BF) || (cp >= 0x1F300 && cp <= 0x1FAFF) ||
           (cp >= 0x621 && cp <= 0x64A) || (cp >= 0x5D0 && cp <= 0x5EA) || cp == 0x3000 || cp == 0x3001 || cp == 0x3002;
}

bool rm_nfc_is_inert(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0xCC) { /* below U+0300 */
            i++;
            continue;
        }
        int len;
        if (!is_inert(rm_char_at(s + i, &len))) return false;
        i += (size_t)len;
    }
    return true;
}

/* Stable sort of a run of marks by combining class. (utf8proc's own way is quadratic in the run.) */
static bool order_marks(utf8proc_int32_t *c, size_t n) {
    if (n > 32) {
        utf8proc_int32_t *tmp = rm_array(n, sizeof *tmp);
        size_t start[257] = {0};
        if (!tmp) return false;
        for (size_t i = 0; i < n; i++) start[utf8proc_get_property(c[i])->combining_class + 1]++;
        for (size_t k = 1; k < 257; k++) start[k] += start[k - 1];
        for (size_t i = 0; i < n; i++) tmp[start[utf8proc_get_property(c[i])->combining_class]++] = c[i];
        memcpy(c, tmp, n * sizeof *tmp);
        rm_free(tmp);
        return true;
    }
    for (size_t i = 1; i < n; i++) {
        utf8proc_int32_t x = c[i];
        int k = utf8proc_get_property(x)->combining_class;
        size_t j = i;
        for (; j && utf8proc_get_property(c[j - 1])->combining_class > k; j--) c[j] = c[j - 1];
        c[j] = x;
    }
    return true;
}

/* Decomposed, ordered code points; count, or -1 when out of memory. */
static ptrdiff_t decompose(utf8proc_int32_t **out, const char *s, size_t n, int options) {
    size_t cap = n + 64, k = 0; /* a character gives at most 18 code points, and most give no more than they have bytes */
    utf8proc_int32_t *c = rm_array(cap, sizeof *c);
    for (size_t i = 0; c && i < n;) {
        int len, bound;
        unsigned cp = rm_char_at(s + i, &len);
        if (cap - k < 32) {
            utf8proc_int32_t *p = cap < SIZE_MAX / 4 ? rm_realloc_array(c, cap * 2, sizeof *c) : NULL;
            if (!p) break;
            c = p;
            cap *= 2;
        }
        utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)cp, c + k, (utf8proc_ssize_t)(cap - k), options, &bound);
        if (got < 0 || (size_t)got > cap - k) break; /* cannot be: 32 are free */
        k += (size_t)got;
        i += (size_t)len;
        if (i == n) {
            for (size_t a = 0; a < k;) {
                size_t b = a;
                while (b < k && utf8proc_get_property(c[b])->combining_class) b++;
                if (b - a > 1 && !order_marks(c + a, b - a)) goto fail;
                a = b + 1;
            }
            *out = c;
            return (ptrdiff_t)k;
        }
    }
fail:
    rm_free(c);
    return -1;
}

/* The reference's normal forms are those of Unicode 9: what is newer neither decomposes nor moves among marks there, and nothing
 * is composed over it. Ranges of characters that were not assigned in Unicode 9, with all for which this makes a difference. */
static const struct {
    uint32_t first, last;
} newer[] = {
    {0x00558, 0x00558}, {0x0058B, 0x0058C}, {0x005C8, 0x005C9}, {0x007FD, 0x007FD}, {0x00897, 0x0089F}, {0x008CA, 0x008D3}, {0x009FE, 0x009FE},
    {0x00C3C, 0x00C3C}, {0x00D3B, 0x00D3C}, {0x00EBA, 0x00EBA}, {0x01715, 0x01715}, {0x01ABF, 0x01AF0}, {0x01DF6, 0x01DFA}, {0x0209D, 0x0209F},
    {0x032FF, 0x032FF}, {0x0A7F1, 0x0A7F4}, {0x0A82C, 0x0A82C}, {0x0AB69, 0x0AB69}, {0x105C9, 0x105E4}, {0x10781, 0x107BF}, {0x10D24, 0x10D27},
    {0x10D69, 0x10D6D}, {0x10EAB, 0x10EFF}, {0x10F46, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x11382, 0x113D0}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x1611E, 0x1612F}, {0x16D63, 0x16D6A}, {0x16FF0, 0x16FF1}, {0x1B123, 0x1B126}, {0x1CCD6, 0x1CCF9}, {0x1D127, 0x1D128},
    {0x1D250, 0x1D281}, {0x1D6A6, 0x1D6A6}, {0x1DF95, 0x1DFFF}, {0x1E030, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6F5}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
};

static bool is_newer(unsigned cp) {
    size_t a = 0, b = RM_COUNT(newer);
    while (a < b) {
        size_t k = (a + b) / 2;
        if (cp < newer[k].first)
            b = k;
        else if (cp > newer[k].last)
            a = k + 1;
        else
            return true;
    }
    return false;
}

/* Text without newer characters. */
static void normalize_part(rm_strbuf *out, const char *s, size_t n, rm_normal_form form) {
    if (n == 0 || (form == RM_NFC && rm_nfc_is_inert(s, n))) {
        rm_strbuf_add(out, s, n);
        return;
    }
    bool compose = form == RM_NFC || form == RM_NFKC;
    int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (form == RM_NFKC || form == RM_NFKD ? UTF8PROC_COMPAT : 0);
    utf8proc_int32_t *c;
    ptrdiff_t k = decompose(&c, s, n, options);
    if (k >= 0 && compose) k = utf8proc_normalize_utf32(c, k, (utf8proc_option_t)options);
    if (k < 0) {
        out->failed = true;
        return;
    }
    for (ptrdiff_t i = 0; i < k; i++) rm_strbuf_utf8(out, (unsigned)c[i]);
    rm_free(c);
}

void rm_normalize(rm_strbuf *out, const char *s, size_t n, rm_normal_form form) {
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        int len = 1;
        if ((unsigned char)s[i] >= 0xD5 && is_newer(rm_char_at(s + i, &len))) { /* below: older characters, and what follows them */
            normalize_part(out, s + done, i - done, form);
            rm_strbuf_add(out, s + i, (size_t)len);
            done = i + (size_t)len;
        }
        i += (size_t)len;
    }
    normalize_part(out, s + done, n - done, form);
}

/* ---- the byte-level alphabet -------------------------------------------------------------------------------------------- */

static bool stands_for_itself(unsigned b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD); }

/* The n-th byte that does not stand for itself is U+0100 + n: 0x00-0x20, 0x7F-0xA0, 0xAD. */
unsigned rm_byte_to_char(unsigned char b) {
    if (stands_for_itself(b)) return b;
    return 0x100 + (b <= 0x20 ? b : b <= 0xA0 ? b - 0x7Fu + 33 : 67u);
}

int rm_char_to_byte(unsigned cp) {
    if (cp < 0x100) return stands_for_itself(cp) ? (int)cp : -1;
    if (cp > 0x143) return -1;
    cp -= 0x100;
    return (int)(cp <= 32 ? cp : cp < 67 ? cp - 33 + 0x7F : 0xAD);
}

void rm_bytes_to_alphabet(rm_strbuf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) rm_strbuf_utf8(out, rm_byte_to_char((unsigned char)s[i]));
}

void rm_alphabet_to_bytes(rm_strbuf *out, const char *s, size_t n) {
    size_t start = out->n;
    for (size_t i = 0; i < n;) {
        unsigned cp;
        int len = rm_utf8_decode(s + i, n - i, &cp), b = len ? rm_char_to_byte(cp) : -1;
        if (b < 0) {
            out->n = start;
            rm_strbuf_add(out, s, n);
            return;
        }
        rm_strbuf_putc(out, (char)b);
        i += (size_t)len;
    }
}
