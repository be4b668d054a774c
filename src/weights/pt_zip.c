/* The container of PyTorch files: a zip archive of stored members, read strictly and only through its central directory.
 * Everything that torch.save never writes is refused: compression, encryption, comments, overlapping or repeated members,
 * headers that disagree. CRCs are not compared, because torch.save can be told to leave them wrong. */
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "util/strbuf.h"
#include "weights/pt.h"

enum { END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20, CENTRAL_SIZE = 46, LOCAL_SIZE = 30 };

typedef struct {
    const char *path;
    const rm_map *m;
    rmas_error *err;
    uint64_t n_entry, begin, end; /* of the central directory */
} archive;

static rmas_status bad(const archive *a, const char *what) { return rm_fail(a->err, RMAS_E_FORMAT, "%s: zip archive: %s", a->path, what); }

static bool signature(const uint8_t *p, char x, char y) { return p[0] == 'P' && p[1] == 'K' && p[2] == (uint8_t)x && p[3] == (uint8_t)y; }

/* The end records give the place of the central directory; the ZIP64 ones, if there, must agree with the ordinary one. */
static rmas_status read_end(archive *a) {
    const uint8_t *d = a->m->data;
    uint64_t n = a->m->n;
    if (n < END_SIZE || !signature(d + n - END_SIZE, 5, 6)) return bad(a, "no end record at the end; is the file complete?");
    uint64_t at = n - END_SIZE;
    const uint8_t *e = d + at;
    uint16_t entries = rm_le16(e + 10);
    uint32_t size = rm_le32(e + 12), begin = rm_le32(e + 16);
    if (rm_le16(e + 4) || rm_le16(e + 6) || rm_le16(e + 8) != entries || rm_le16(e + 20)) return bad(a, "the end record is damaged or has a comment");
    a->n_entry = entries;
    uint64_t size64 = size, begin64 = begin;
    if (at >= LOCATOR_SIZE && signature(d + at - LOCATOR_SIZE, 6, 7)) {
        uint64_t locator = at - LOCATOR_SIZE, place = rm_le64(d + locator + 8);
        if (rm_le32(d + locator + 4) || rm_le32(d + locator + 16) != 1) return bad(a, "the ZIP64 locator is damaged");
        if (locator < END64_SIZE || place != locator - END64_SIZE || !signature(d + place, 6, 6))
            return bad(a, "the ZIP64 locator points to no record");
        const uint8_t *p = d + place;
        if (rm_le64(p + 4) != END64_SIZE - 12 || rm_le32(p + 16) || rm_le32(p + 20) || rm_le64(p + 24) != rm_le64(p + 32))
            return bad(a, "the ZIP64 end record is damaged");
        a->n_entry = rm_le64(p + 32);
        size64 = rm_le64(p + 40);
        begin64 = rm_le64(p + 48);
        if ((entries != 0xffff && entries != a->n_entry) || (size != 0xffffffff && size != size64) || (begin != 0xffffffff && begin != begin64))
            return bad(a, "the ZIP64 end record disagrees with the ordinary one");
        at = place;
    } else if (entries == 0xffff || size == 0xffffffff || begin == 0xffffffff)
        return bad(a, "the ZIP64 end record is missing");
    if (begin64 > at || size64 != at - begin64) return bad(a, "the central directory is not where the end record says");
    if (a->n_entry > size64 / CENTRAL_SIZE) return bad(a, "more entries than the central directory can hold");
    a->begin = begin64;
    a->end = at;
    return RMAS_OK;
}

/* Replaces 32-bit fields that say "see ZIP64" by the values of extra field 1, in the order of the format. */
static bool zip64_fields(const uint8_t *extra, size_t n, uint64_t *field[], int n_field) {
    const uint8_t *value = NULL;
    size_t left = 0;
    while (n >= 4) {
        size_t len = rm_le16(extra + 2);
        if (len > n - 4) return false;
        if (rm_le16(extra) == 1) {
            if (value) return false;
            value = extra + 4;
            left = len;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    if (n) return false;
    for (int i = 0; i < n_field; i++) {
        if (*field[i] != 0xffffffff) continue;
        if (left < 8) return false;
        *field[i] = rm_le64(value);
        value += 8;
        left -= 8;
    }
    return true;
}

static bool good_name(rm_span s) {
    if (!s.n || s.s[0] == '/' || memchr(s.s, 0, s.n) || memchr(s.s, '\\', s.n)) return false;
    for (size_t i = 0, start = 0; i <= s.n; i++) {
        if (i < s.n && s.s[i] != '/') continue;
        if (i - start == 2 && !memcmp(s.s + start, "..", 2)) return false;
        start = i + 1;
    }
    return true;
}

/* The local header of a member must say the same as its central entry p. */
static rmas_status read_local(const archive *a, const uint8_t *p, uint64_t size, rm_zip_member *out) {
    if (out->begin > a->begin || a->begin - out->begin < LOCAL_SIZE) return bad(a, "a member lies outside the file");
    const uint8_t *l = a->m->data + out->begin;
    uint64_t room = a->begin - out->begin - LOCAL_SIZE, n_name = rm_le16(l + 26), n_extra = rm_le16(l + 28);
    if (!signature(l, 3, 4)) return bad(a, "a central entry points to no local header");
    if (n_name + n_extra > room || size > room - n_name - n_extra) return bad(a, "the data of a member lie outside the file");
    if (n_name != out->name.n || memcmp(l + LOCAL_SIZE, out->name.s, n_name) != 0)
        return bad(a, "a member has another name in its local header than in the central directory");
    if (rm_le16(l + 6) != rm_le16(p + 8) || rm_le16(l + 8))
        return bad(a, "a local header disagrees with the central directory about flags or method");
    uint64_t plain = rm_le32(l + 22), packed = rm_le32(l + 18), *field[] = {&plain, &packed};
    bool descriptor = rm_le16(l + 6) & 8; /* sizes follow the data and are 0 here */
    if (plain == 0xffffffff || packed == 0xffffffff) {
        if (!zip64_fields(l + LOCAL_SIZE + n_name, n_extra, field, 2)) return bad(a, "a local header has a damaged extra field");
    }
    if (!(descriptor && !plain && !packed) && (plain != size || packed != size))
        return bad(a, "a local header disagrees with the central directory about the size");
    out->data = l + LOCAL_SIZE + n_name + n_extra;
    out->n = size;
    return RMAS_OK;
}

static rmas_status read_central(archive *a, uint64_t *at, rm_zip_member *out) {
    const uint8_t *p = a->m->data + *at;
    if (a->end - *at < CENTRAL_SIZE || !signature(p, 1, 2)) return bad(a, "the central directory is damaged");
    uint64_t n_name = rm_le16(p + 28), n_extra = rm_le16(p + 30), n_comment = rm_le16(p + 32);
    if (n_name + n_extra + n_comment > a->end - *at - CENTRAL_SIZE) return bad(a, "the central directory is damaged");
    uint16_t flags = rm_le16(p + 8), method = rm_le16(p + 10);
    out->name = (rm_span){(const char *)p + CENTRAL_SIZE, (size_t)n_name};
    if (!good_name(out->name)) return bad(a, "a member name is empty, absolute or has '..' in it");
    if (flags & 0x2041) return bad(a, "a member is encrypted");
    if (method) return bad(a, "a member is compressed; torch.save stores them");
    uint64_t plain = rm_le32(p + 24), packed = rm_le32(p + 20), begin = rm_le32(p + 42), *field[] = {&plain, &packed, &begin};
    if (!zip64_fields(p + CENTRAL_SIZE + n_name, (size_t)n_extra, field, 3)) return bad(a, "an entry has a damaged extra field");
    if (plain != packed) return bad(a, "a stored member has two sizes");
    if (rm_le16(p + 34)) return bad(a, "a member lies on another disk");
    out->begin = begin;
    *at += CENTRAL_SIZE + n_name + n_extra + n_comment;
    return read_local(a, p, plain, out);
}

static int compare_begins(const void *x, const void *y) {
    const rm_zip_member *a = x, *b = y;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static int compare_names(const void *x, const void *y) {
    const rm_zip_member *a = x, *b = y;
    size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;
    int c = memcmp(a->name.s, b->name.s, n);
    return c ? c : a->name.n < b->name.n ? -1 : a->name.n > b->name.n;
}

rmas_status rm_zip_read(rm_zip *z, const char *path, const rm_map *m, rmas_error *err) {
    archive a = {.path = path, .m = m, .err = err};
    *z = (rm_zip){0};
    RM_TRY(read_end(&a));
    z->m = rm_array((size_t)a.n_entry, sizeof *z->m);
    if (!z->m) return rm_reader_nomem(path, err);
    uint64_t at = a.begin;
    for (; z->n < a.n_entry; z->n++) RM_TRY(read_central(&a, &at, &z->m[z->n]));
    if (at != a.end) return bad(&a, "the central directory is longer than its entries");
    qsort(z->m, z->n, sizeof *z->m, compare_begins);
    for (size_t i = 1; i < z->n; i++)
        if (z->m[i - 1].data + z->m[i - 1].n > m->data + z->m[i].begin) return bad(&a, "members overlap");
    qsort(z->m, z->n, sizeof *z->m, compare_names);
    for (size_t i = 1; i < z->n; i++)
        if (!compare_names(&z->m[i - 1], &z->m[i])) return bad(&a, "two members have one name");
    return RMAS_OK;
}

void rm_zip_free(rm_zip *z) {
    rm_free(z->m);
    *z = (rm_zip){0};
}

const rm_zip_member *rm_zip_find(const rm_zip *z, const char *name, size_t n) {
    rm_zip_member key = {.name = {name, n}};
    return z->n ? bsearch(&key, z->m, z->n, sizeof *z->m, compare_names) : NULL;
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static bool member_is(const rm_zip *z, rm_span root, const char *name, const rm_zip_member **out) {
    rm_strbuf b = {0};
    rm_strbuf_add(&b, root.s, root.n);
    rm_strbuf_puts(&b, name);
    *out = b.failed ? NULL : rm_zip_find(z, b.s, b.n);
    rm_strbuf_free(&b);
    return *out != NULL;
}

static rmas_status read_archive(rm_weights *w, const char *path, const rm_map *m, const rm_zip *z, rmas_error *err) {
    const rm_zip_member *program = NULL, *order;
    static const char suffix[] = "/data.pkl";
    size_t n = sizeof suffix - 1;
    for (size_t i = 0; i < z->n; i++) {
        rm_span s = z->m[i].name;
        if (s.n <= n || memcmp(s.s + s.n - n, suffix, n) != 0) continue;
        if (program) return rm_fail(err, RMAS_E_FORMAT, "%s: two data.pkl in the archive", path);
        program = &z->m[i];
    }
    if (!program) return rm_fail(err, RMAS_E_FORMAT, "%s: a zip archive without data.pkl; not written by torch.save", path);
    rm_span root = {program->name.s, program->name.n - n + 1}; /* with the slash */
    if (member_is(z, root, "byteorder", &order) && !(order->n >= 6 && !memcmp(order->data, "little", 6)))
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: written on a big-endian machine; only little-endian files are read", path);
    return rm_pickle_read(w, path, m, z, root, (rm_span){(const char *)program->data, (size_t)program->n}, err);
}

rmas_status rm_pt_read(rm_weights *w, const char *path, const rm_map *m, rmas_error *err) {
    if (m->n < 4 || memcmp(m->data, "PK\3\4", 4) != 0) {
        static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
        if (m->n >= 14 && m->data[0] == 0x80 && !memcmp(m->data + 2, magic, sizeof magic))
            return rm_fail(err, RMAS_E_UNSUPPORTED,
                           "%s: the legacy format from before PyTorch 1.6 is unsupported; load it in PyTorch and torch.save it again", path);
        return rm_fail(err, RMAS_E_FORMAT, "%s: not a zip archive as torch.save writes it%s", path,
                       m->data[0] == 0x80 ? " (a bare pickle, which is not read)" : "");
    }
    rm_zip z;
    rmas_status s = rm_zip_read(&z, path, m, err);
    if (s == RMAS_OK) s = read_archive(w, path, m, &z, err);
    rm_zip_free(&z);
    return s;
}
