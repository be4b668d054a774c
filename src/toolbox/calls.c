/* Tool calls in a text, and what is done to every result. The rules, as a pattern with dot matching line breaks and without
 * case: complete <(python|search)>\s*(.*?)\s*</\1>, unclosed <(python|search)>(?!.*</\1>); first match from the cursor. */
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "toolbox/toolbox.h"
#include "util/utf8.h"

static const struct { const char *open, *close; } tags[2] = {{"<python>", "</python>"}, {"<search>", "</search>"}};

static size_t find(const char *s, size_t n, size_t from, const char *tag) {
    size_t len = strlen(tag);
    for (size_t i = from; n >= len && i <= n - len; i++) {
        const char *lt = memchr(s + i, '<', n - len - i + 1);
        if (!lt) break;
        i = (size_t)(lt - s);
        if (strncasecmp(lt, tag, len) == 0) return i;
    }
    return SIZE_MAX;
}

static bool is_space(unsigned c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static void strip(const char *s, size_t *from, size_t *to) {
    unsigned c;
    while (*from < *to) {
        int len = rm_utf8_decode_lossy(s + *from, *to - *from, &c);
        if (!is_space(c)) break;
        *from += (size_t)len;
    }
    while (*to > *from) {
        size_t k = *to - 1;
        while (k > *from && *to - k < 4 && ((unsigned char)s[k] & 0xC0) == 0x80) k--;
        rm_utf8_decode_lossy(s + k, *to - k, &c);
        if (!is_space(c)) break;
        *to = k;
    }
}

rm_call_state rm_tool_find(const char *text, size_t n, size_t from, rm_tool_call *out) {
    size_t open[2], close[2];
    bool unclosed = false;
    for (int k = 0; k < 2; k++) {
        open[k] = find(text, n, from, tags[k].open);
        close[k] = open[k] == SIZE_MAX ? SIZE_MAX : find(text, n, open[k] + strlen(tags[k].open), tags[k].close);
        if (close[k] == SIZE_MAX) {
            unclosed |= open[k] != SIZE_MAX;
            open[k] = SIZE_MAX; /* no later tag of this kind is closed either */
        }
    }
    if (open[0] == SIZE_MAX && open[1] == SIZE_MAX) return unclosed ? RM_CALL_UNCLOSED : RM_CALL_NONE;
    int k = open[1] < open[0];
    size_t a = open[k] + strlen(tags[k].open), b = close[k];
    strip(text, &a, &b);
    *out = (rm_tool_call){.search = k == 1, .start = open[k], .end = close[k] + strlen(tags[k].close), .content = a, .n_content = b - a};
    return RM_CALL_COMPLETE;
}

bool rm_tool_closes(const char *text, size_t n) { return find(text, n, 0, tags[0].close) != SIZE_MAX || find(text, n, 0, tags[1].close) != SIZE_MAX; }

void rm_tool_result_cut(const char *text, size_t n, size_t max_chars, rm_strbuf *out) {
    static const char tag[] = "</result>";
    rm_strbuf b = {0};
    if (!max_chars) max_chars = 6000;
    for (size_t i = 0; i < n;) {
        if (n - i >= sizeof tag - 1 && memcmp(text + i, tag, sizeof tag - 1) == 0) {
            rm_strbuf_puts(&b, "< /result>");
            i += sizeof tag - 1;
        } else {
            rm_strbuf_putc(&b, text[i++]);
        }
    }
    size_t at = 0, count = 0, total = rm_utf8_length(rm_str(&b), b.n);
    unsigned c;
    for (; count < max_chars && at < b.n; count++) at += (size_t)rm_utf8_decode_lossy(b.s + at, b.n - at, &c);
    rm_strbuf_add(out, rm_str(&b), at);
    if (count < total) rm_strbuf_printf(out, "\n... [truncated %zu chars]", total - count);
    out->failed |= b.failed;
    rm_strbuf_free(&b);
}
