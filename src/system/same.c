/* Are two models the same, so that agents can share one copy? Only what is certain counts: the same file on disk, the same blob of
 * the hub's cache (its name is the hash of its content), or equal bytes from the first to the last. Comparing bytes costs no more
 * than loading the second copy would, and is done only where all sizes are equal. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/team.h"
#include "util/file.h"
#include "util/mem.h"

typedef struct {
    char **name;
    int n;
} names;

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool is_model_file(const char *name) {
    size_t n = strlen(name);
    return !strcmp(name, "config.json") || (n > 12 && !strcmp(name + n - 12, ".safetensors")) || (n > 11 && !strcmp(name + n - 11, ".index.json"));
}

static void free_names(names *x) {
    for (int i = 0; i < x->n; i++) rm_free(x->name[i]);
    rm_free(x->name);
}

/* The files of a folder that make up its model, in order. */
static rmas_status list(names *out, const char *dir, rmas_error *err) {
    *out = (names){0};
    DIR *d = opendir(dir);
    rmas_status st = RMAS_OK;
    for (struct dirent *e; d && st == RMAS_OK && (e = readdir(d));) {
        if (!is_model_file(e->d_name)) continue;
        char **more = rm_realloc_array(out->name, (size_t)out->n + 1, sizeof *more);
        if (more) out->name = more;
        if (more && (more[out->n] = rm_strdup(e->d_name)))
            out->n++;
        else
            st = nomem(err);
    }
    if (d) closedir(d);
    if (out->n) qsort(out->name, (size_t)out->n, sizeof *out->name, by_name);
    return st;
}

/* The blob's name if the path leads into a hub cache, else NULL; free(). */
static char *blob(const char *path) {
    char *real = realpath(path, NULL), *base = real ? strrchr(real, '/') : NULL;
    if (base && strlen(base + 1) == 64 && strspn(base + 1, "0123456789abcdef") == 64) {
        memmove(real, base + 1, 65);
        return real;
    }
    free(real);
    return NULL;
}

/* Bytes read: fewer than n at the end of the file, -1 if it cannot be read. */
static ssize_t read_full(int fd, char *to, size_t n) {
    size_t at = 0;
    ssize_t k = 0;
    while (at < n && (k = read(fd, to + at, n - at)) > 0) at += (size_t)k;
    return k < 0 ? -1 : (ssize_t)at;
}

static rmas_status equal_bytes(const char *a, const char *b, bool *equal, rmas_error *err) {
    enum { BLOCK = 1 << 20 };
    char *buf = rm_alloc(2 * BLOCK);
    if (!buf) return nomem(err);
    int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);
    *equal = fa >= 0 && fb >= 0; /* what cannot be read is reported when it is opened */
    for (ssize_t n = BLOCK; *equal && n == BLOCK;) {
        n = read_full(fa, buf, BLOCK);
        *equal = n >= 0 && read_full(fb, buf + BLOCK, BLOCK) == n && !memcmp(buf, buf + BLOCK, (size_t)n);
    }
    if (fa >= 0) close(fa);
    if (fb >= 0) close(fb);
    rm_free(buf);
    return RMAS_OK;
}

/* quick: only what needs no reading; *same is then "perhaps" for files of equal size. */
static rmas_status same_file(const char *a, const char *b, bool quick, bool *same, rmas_error *err) {
    struct stat sa, sb;
    *same = stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_size == sb.st_size;
    if (!*same || (sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino)) return RMAS_OK;
    char *ba = blob(a), *bb = blob(b);
    bool known = ba && bb;
    if (known) *same = !strcmp(ba, bb);
    free(ba);
    free(bb);
    return known || quick ? RMAS_OK : equal_bytes(a, b, same, err);
}

static rmas_status same_files(const char *a, const names *x, const char *b, const names *y, bool *same, rmas_error *err) {
    rmas_status st = RMAS_OK;
    *same = x->n == y->n && x->n > 0;
    for (int i = 0; *same && i < x->n; i++) *same = !strcmp(x->name[i], y->name[i]);
    for (int pass = 0; pass < 2; pass++) /* all sizes first, then contents */
        for (int i = 0; st == RMAS_OK && *same && i < x->n; i++) {
            char *p = rm_path_join(a, x->name[i]), *q = rm_path_join(b, y->name[i]);
            st = p && q ? same_file(p, q, pass == 0, same, err) : nomem(err);
            rm_free(p);
            rm_free(q);
        }
    return st;
}

rmas_status rm_same_model(const char *a, const char *b, bool *same, rmas_error *err) {
    bool dir = rm_path_is_dir(a);
    *same = !strcmp(a, b);
    if (*same || dir != rm_path_is_dir(b)) return RMAS_OK;
    if (!dir && (strstr(a, "-00001-of-") || strstr(b, "-00001-of-"))) return RMAS_OK; /* of split files the first parts tell nothing */
    if (!dir) return same_file(a, b, false, same, err);
    names x, y = {0};
    rmas_status st = list(&x, a, err);
    if (st == RMAS_OK) st = list(&y, b, err);
    if (st == RMAS_OK) st = same_files(a, &x, b, &y, same, err);
    free_names(&x);
    free_names(&y);
    return st;
}
