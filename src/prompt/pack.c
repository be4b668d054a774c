/* Reading a prompt pack: lines, headings, placeholders. The order of the checks is part of the format. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pack.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/utf8.h"

extern const char rm_default_pack[]; /* made from prompts/default.prompts by the build */
extern const size_t rm_default_pack_size;

rmas_status rm_pack_fail(const rm_pack *p, rmas_error *err, const char *code, int line, const char *fmt, ...) {
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (line) return rm_fail(err, RMAS_E_FORMAT, "%s: line %d: %s: %s", p->name, line, code, what);
    return rm_fail(err, RMAS_E_FORMAT, "%s: %s: %s", p->name, code, what);
}

static rmas_status no_memory(const rm_pack *p, rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name); }

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static size_t word_length(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && ((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '_' || s[i] == '-')) i++;
    return i;
}

/* Length of the path that s begins with, 0 if it does not begin with one. */
static size_t path_length(const char *s, size_t n) {
    size_t end = word_length(s, n);
    for (size_t more; end && end < n && s[end] == '/' && (more = word_length(s + end + 1, n - end - 1)) > 0;) end += 1 + more;
    return end;
}

static uint64_t hash(const char *s, size_t n) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static size_t name_slot(const rm_pack *p, const char *s, size_t n) {
    size_t i = hash(s, n) & (p->n_slot - 1);
    for (; p->by_name[i] >= 0; i = (i + 1) & (p->n_slot - 1)) {
        const rm_pack_section_ *t = &p->section[p->by_name[i]];
        if (t->n_name == n && !memcmp(t->name, s, n)) break;
    }
    return i;
}

static size_t path_slot(const rm_pack *p, const char *s, size_t n) {
    size_t i = hash(s, n) & (p->n_slot - 1);
    for (; p->by_path[i] >= 0; i = (i + 1) & (p->n_slot - 1)) {
        const rm_pack_section_ *t = &p->section[p->by_path[i]];
        if (t->n_path == n && !memcmp(t->name, s, n)) break;
    }
    return i;
}

int rm_pack_find_name(const rm_pack *p, const char *name, size_t n) { return p->by_name[name_slot(p, name, n)]; }
int rm_pack_find_path(const rm_pack *p, const char *path, size_t n) { return p->by_path[path_slot(p, path, n)]; }

/* ---- placeholders --------------------------------------------------------------------------------------------------- */

static bool is(const char *s, size_t n, const char *what) { return n == strlen(what) && !memcmp(s, what, n); }

static bool add_part(rm_pack *p, rm_pack_part_kind kind, const char *s, size_t n) {
    if (p->n_part == p->cap_part) {
        int cap = p->cap_part ? 2 * p->cap_part : 256;
        rm_pack_part *v = rm_realloc_array(p->part, (size_t)cap, sizeof *v);
        if (!v) return false;
        p->part = v;
        p->cap_part = cap;
    }
    p->part[p->n_part++] = (rm_pack_part){kind, s, n};
    p->section[p->n_section - 1].n_part++;
    return true;
}

static bool has_named(const rm_pack_section_ *t) {
    for (size_t i = 0; i < t->n_path;) {
        size_t n = word_length(t->name + i, t->n_path - i);
        if (is(t->name + i, n, "named")) return true;
        i += n + 1;
    }
    return false;
}

/* One placeholder of the last section; s..n is what stands between the braces. */
static rmas_status placeholder(rm_pack *p, const char *s, size_t n, int line, rmas_error *err) {
    static const struct {
        const char *name;
        rm_pack_part_kind kind;
        const char *only; /* the one path where it may stand */
    } values[] = {
        {"question", PART_QUESTION, NULL},       {"choice_question", PART_CHOICE_QUESTION, NULL},         {"fn_name", PART_FN_NAME, NULL},
        {"tests", PART_TESTS, "question/tests"}, {"starter_code", PART_STARTER, "question/starter_code"}, {"query", PART_QUERY, "tool/search_off"}};
    const rm_pack_section_ *t = &p->section[p->n_section - 1];
    const int shown = (int)(n > 60 ? 60 : n);
    if (n == 0) return RMAS_OK;
    if (is(s, n, "braces")) return add_part(p, PART_TEXT, "{{", 2) ? RMAS_OK : no_memory(p, err);
    if (is(t->name, t->n_name, "choice-note") || is(t->name, t->n_name, "choice-mark"))
        return rm_pack_fail(p, err, "E_PLACEHOLDER", line, "section %s takes no placeholder, found {{%.*s}}", t->name, shown, s);
    if (n > 5 && !memcmp(s, "slot:", 5) && word_length(s + 5, n - 5) == n - 5)
        return add_part(p, PART_SLOT, s + 5, n - 5) ? RMAS_OK : no_memory(p, err);
    if (n > 8 && !memcmp(s, "include:", 8) && path_length(s + 8, n - 8) == n - 8)
        return add_part(p, PART_INCLUDE, s + 8, n - 8) ? RMAS_OK : no_memory(p, err);
    for (size_t i = 0; i < RM_COUNT(values); i++) {
        if (!is(s, n, values[i].name)) continue;
        if (values[i].only && !is(t->name, t->n_path, values[i].only))
            return rm_pack_fail(p, err, "E_PLACEHOLDER", line, "{{%.*s}} is only for section %s", shown, s, values[i].only);
        if (values[i].kind == PART_FN_NAME && !has_named(t))
            return rm_pack_fail(p, err, "E_PLACEHOLDER", line, "{{fn_name}} is only for sections with a part 'named' in their name");
        return add_part(p, values[i].kind, NULL, 0) ? RMAS_OK : no_memory(p, err);
    }
    return rm_pack_fail(p, err, "E_PLACEHOLDER", line, "unknown placeholder {{%.*s}} in section %s", shown, s, t->name);
}

static const char *find2(const char *s, const char *end, char c) {
    while ((s = s < end ? memchr(s, c, (size_t)(end - s)) : NULL) && !(s + 1 < end && s[1] == c)) s++;
    return s;
}

/* The body of the last section, from its first line on. */
static rmas_status body(rm_pack *p, const char *s, const char *end, rmas_error *err) {
    int line = p->section[p->n_section - 1].line + 1;
    while (end > s && end[-1] == '\n') end--;
    for (const char *open; (open = find2(s, end, '{'));) {
        while (open + 2 < end && open[2] == '{') open++; /* of a longer run of { the last two open the placeholder */
        const char *close = find2(open + 2, end, '}');
        for (const char *c = s; c < open; c++) line += *c == '\n';
        if (!close) return rm_pack_fail(p, err, "E_PLACEHOLDER", line, "'{{' without '}}' in section %s", p->section[p->n_section - 1].name);
        if (open > s && !add_part(p, PART_TEXT, s, (size_t)(open - s))) return no_memory(p, err);
        RM_TRY(placeholder(p, open + 2, (size_t)(close - open) - 2, line, err));
        for (const char *c = open; c < close; c++) line += *c == '\n';
        s = close + 2;
    }
    return s >= end || add_part(p, PART_TEXT, s, (size_t)(end - s)) ? RMAS_OK : no_memory(p, err);
}

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

static rmas_status check_characters(const rm_pack *p, rmas_error *err) {
    int line = 1;
    unsigned cp;
    for (size_t i = 0; i < p->n_text;) {
        int len = rm_utf8_decode(p->text + i, p->n_text - i, &cp);
        if (!len) return rm_pack_fail(p, err, "E_UTF8", line, "not valid UTF-8");
        line += p->text[i] == '\n';
        i += (size_t)len;
    }
    line = 1;
    for (size_t i = 0; i < p->n_text; i++) {
        const char c = p->text[i];
        if (c == 0) return rm_pack_fail(p, err, "E_CHAR", line, "NUL character");
        /* a NUL later in this line would be reported first, but for the same line and with the same code */
        if (c == '\r' && (i + 1 == p->n_text || p->text[i + 1] == '\n'))
            return rm_pack_fail(p, err, "E_CHAR", line, "CR at the end of the line: save the file with LF line ends");
        line += c == '\n';
    }
    return RMAS_OK;
}

static rmas_status heading(rm_pack *p, const char *s, size_t n, int line, rmas_error *err) {
    size_t path = path_length(s, n), word = path && path < n && s[path] == '@' ? word_length(s + path + 1, n - path - 1) : 0;
    if (!path || (path < n && (!word || path + 1 + word != n)))
        return rm_pack_fail(p, err, "E_NAME", line, "bad section name '%.*s'", (int)(n > 60 ? 60 : n), s);
    size_t slot = name_slot(p, s, n), at = path_slot(p, s, path);
    if (p->by_name[slot] >= 0)
        return rm_pack_fail(p, err, "E_DUPLICATE", line, "section %.*s stands in line %d already", (int)(n > 60 ? 60 : n), s,
                            p->section[p->by_name[slot]].line);
    if (p->n_section == p->cap_section) {
        int cap = p->cap_section ? 2 * p->cap_section : 64;
        rm_pack_section_ *v = rm_realloc_array(p->section, (size_t)cap, sizeof *v);
        if (!v) return no_memory(p, err);
        p->section = v;
        p->cap_section = cap;
    }
    char *name = rm_strndup(s, n);
    if (!name) return no_memory(p, err);
    p->section[p->n_section] =
        (rm_pack_section_){.name = name, .n_name = n, .n_path = path, .line = line, .first = p->n_part, .next = p->by_path[at]};
    p->by_path[at] = p->by_name[slot] = p->n_section++; /* the list of a path runs backwards; turned round at the end */
    return RMAS_OK;
}

static rmas_status sections(rm_pack *p, rmas_error *err) {
    static const char header[] = "rmas-prompts 1";
    const char *end = p->text + p->n_text, *from = NULL; /* from: where the open section's body begins */
    int number = 1;
    for (const char *s = p->text, *next; s <= end; s = next, number++) {
        const char *lf = memchr(s, '\n', (size_t)(end - s));
        size_t n = (size_t)((lf ? lf : end) - s);
        next = lf ? lf + 1 : end + 1;
        if (number == 1) {
            if (!is(s, n, header)) return rm_pack_fail(p, err, "E_HEADER", 1, "the first line must be '%s'", header);
        } else if (n >= 4 && !memcmp(s, "=== ", 4)) {
            if (from) RM_TRY(body(p, from, s, err));
            RM_TRY(heading(p, s + 4, n - 4, number, err));
            from = next < end ? next : end;
        } else if (!from && n && *s != '#') {
            return rm_pack_fail(p, err, "E_PREAMBLE", number, "text before the first section");
        }
    }
    return from ? body(p, from, end, err) : RMAS_OK;
}

/* Lists of sections with one path: into file order. */
static void turn_lists(rm_pack *p) {
    for (size_t i = 0; i < p->n_slot; i++) {
        int forward = -1;
        for (int k = p->by_path[i], before; k >= 0; k = before) {
            before = p->section[k].next;
            p->section[k].next = forward;
            forward = k;
        }
        p->by_path[i] = forward;
    }
}

static rmas_status parse(rm_pack *p, const char *text, size_t n, rmas_error *err) {
    size_t headings = 1;
    if (n > RM_PACK_MAX_BYTES) return rm_pack_fail(p, err, "E_SIZE", 0, "the file has %zu bytes, more than %d", n, RM_PACK_MAX_BYTES);
    if (!(p->text = rm_alloc(n + 1))) return no_memory(p, err);
    if (n) memcpy(p->text, text, n);
    p->text[n] = 0;
    p->n_text = n;
    RM_TRY(check_characters(p, err));
    for (size_t i = 0; i + 5 <= n; i++) headings += !memcmp(p->text + i, "\n=== ", 5);
    for (p->n_slot = 16; p->n_slot < 2 * headings;) p->n_slot *= 2;
    p->by_name = rm_array(p->n_slot, sizeof *p->by_name);
    p->by_path = rm_array(p->n_slot, sizeof *p->by_path);
    if (!p->by_name || !p->by_path) return no_memory(p, err);
    memset(p->by_name, 0xFF, p->n_slot * sizeof *p->by_name);
    memset(p->by_path, 0xFF, p->n_slot * sizeof *p->by_path);
    RM_TRY(sections(p, err));
    turn_lists(p);
    p->note = rm_pack_find_name(p, "choice-note", 11);
    p->mark = rm_pack_find_name(p, "choice-mark", 11);
    return rm_pack_check(p, err);
}

rmas_status rm_pack_parse(rm_pack **out, const char *text, size_t n, const char *name, rmas_error *err) {
    *out = NULL;
    rm_pack *p = RM_NEW(rm_pack);
    if (!p || !(p->name = rm_strdup(name))) {
        rm_free(p);
        return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    }
    rmas_status st = parse(p, text, n, err);
    if (st != RMAS_OK)
        rm_pack_close(p);
    else
        *out = p;
    return st;
}

rmas_status rm_pack_open(rm_pack **out, const char *path, rmas_error *err) {
    *out = NULL;
    if (!path) return rm_pack_parse(out, rm_default_pack, rm_default_pack_size, "the default prompts", err);
    char *text;
    size_t n;
    const rm_pack named = {.name = (char *)path};
    rmas_error local = {0};
    rmas_status st = rm_file_read(&text, &n, path, RM_PACK_MAX_BYTES, &local);
    if (st == RMAS_E_FORMAT || st == RMAS_E_FULL) return rm_pack_fail(&named, err, "E_SIZE", 0, "the file has more than %d bytes", RM_PACK_MAX_BYTES);
    if (st != RMAS_OK) {
        if (err) *err = local;
        return st;
    }
    st = rm_pack_parse(out, text, n, path, err);
    rm_free(text);
    return st;
}

void rm_pack_close(rm_pack *p) {
    if (!p) return;
    for (int i = 0; i < p->n_section; i++) rm_free(p->section[i].name);
    rm_free(p->section);
    rm_free(p->part);
    rm_free(p->by_name);
    rm_free(p->by_path);
    rm_free(p->text);
    rm_free(p->name);
    rm_free(p);
}

int rm_pack_n_section(const rm_pack *p) { return p->n_section; }
const char *rm_pack_section(const rm_pack *p, int i) { return p->section[i].name; }
