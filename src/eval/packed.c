/* LiveCodeBench's private tests: base64 of zlib of a pickle that holds one text (JSON). The pickle is not run: only the few
 * opcodes that such a pickle consists of are read, anything else is refused. */
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "eval/items.h"
#include "util/mem.h"
#include "util/strbuf.h"
#include "util/utf8.h"

enum { MAX_UNPACKED = 512 << 20 };

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool base64(const char *s, size_t n, rm_strbuf *out) {
    uint32_t bits = 0;
    int n_bit = 0;
    while (n && (s[n - 1] == '=' || s[n - 1] == '\n' || s[n - 1] == '\r')) n--;
    for (size_t i = 0; i < n; i++) {
        int v = base64_value(s[i]);
        if (v < 0) {
            if (s[i] == '\n' || s[i] == '\r') continue;
            return false;
        }
        bits = bits << 6 | (uint32_t)v;
        n_bit += 6;
        if (n_bit >= 8) {
            n_bit -= 8;
            rm_strbuf_putc(out, (char)(bits >> n_bit & 0xFF));
        }
    }
    return n > 0;
}

static bool inflated(const rm_strbuf *in, rm_strbuf *out) {
    z_stream z = {0};
    char buf[65536];
    if (in->n > UINT32_MAX || inflateInit(&z) != Z_OK) return false;
    z.next_in = (Bytef *)in->s;
    z.avail_in = (uInt)in->n;
    int rc = Z_OK;
    while (rc == Z_OK && out->n <= MAX_UNPACKED) {
        z.next_out = (Bytef *)buf;
        z.avail_out = sizeof buf;
        rc = inflate(&z, Z_NO_FLUSH);
        if (rc == Z_OK || rc == Z_STREAM_END) rm_strbuf_add(out, buf, sizeof buf - z.avail_out);
    }
    inflateEnd(&z);
    return rc == Z_STREAM_END && !out->failed;
}

static uint64_t little_endian(const unsigned char *p, int n) {
    uint64_t v = 0;
    for (int i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

/* The one text of a pickle; points into it. */
static bool pickled_text(const rm_strbuf *b, const char **text, size_t *n) {
    const unsigned char *p = (const unsigned char *)b->s;
    size_t at = 0;
    bool found = false;
    while (at < b->n) {
        int width = 0;
        switch (p[at++]) {
        case 0x80: at += 1; break; /* PROTO */
        case 0x95: at += 8; break; /* FRAME */
        case 0x94: break; /* MEMOIZE */
        case 'q': at += 1; break; /* BINPUT */
        case 'r': at += 4; break; /* LONG_BINPUT */
        case '.': return found && at == b->n; /* STOP */
        case 0x8C: width = 1; break; /* SHORT_BINUNICODE */
        case 'X': width = 4; break; /* BINUNICODE */
        case 0x8D: width = 8; break; /* BINUNICODE8 */
        default: return false;
        }
        if (!width) continue;
        if (found || b->n - at < (size_t)width) return false;
        uint64_t size = little_endian(p + at, width);
        at += (size_t)width;
        if (size > b->n - at) return false;
        *text = b->s + at;
        *n = (size_t)size;
        at += (size_t)size;
        found = true;
    }
    return false;
}

char *rm_unpack_tests(const char *packed) {
    rm_strbuf raw = {0}, plain = {0};
    const char *text = NULL;
    size_t n = 0;
    char *out = NULL;
    if (base64(packed, strlen(packed), &raw) && !raw.failed && inflated(&raw, &plain) && pickled_text(&plain, &text, &n) && rm_utf8_valid(text, n) &&
        !memchr(text, 0, n))
        out = rm_strndup(text, n);
    rm_strbuf_free(&raw);
    rm_strbuf_free(&plain);
    return out;
}
