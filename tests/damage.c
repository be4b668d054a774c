/* Damages files and folders in every way that a broken download or a hostile author might, and opens them: each file cut at
 * every STEP-th byte, and the first bytes changed one by one. Must be refused with one line that names the file, or be opened and
 * computed with; the sanitizers look on.
 *
 *   damage [--step N] FILE|FOLDER...     .safetensors .gguf .pt .json files, and model folders (each of their files in turn)
 *
 * A cut file may only open if nothing but padding or white space is missing: at most 64 bytes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/family.h"
#include "session/session.h"
#include "system/system.h"
#include "tok/tok.h"
#include "util/file.h"
#include "util/mem.h"

enum { MAX_FLIPS = 4096, PADDING = 64, MAX_FILES = 64, NAME = 256, PATH = 4096 };

static rm_exec *exec;
static long n_open, n_refused, n_bad;
static bool with_tok; /* what is being damaged has a tokenizer */

static bool ends_with(const char *s, const char *end) {
    size_t a = strlen(s), b = strlen(end);
    return a >= b && strcmp(s + a - b, end) == 0;
}

/* Two positions with a model that opened. */
static rmas_status compute(const rm_model *m, rmas_error *err) {
    const int32_t token[] = {0, 1};
    rm_seq *s = NULL;
    rm_batch *b = NULL;
    const rm_feed feed = {.n = 2, .tokens = token, .want_logits = true};
    rmas_status st = rm_seq_new(&s, m, err);
    if (st == RMAS_OK) st = rm_batch_new(&b, m, err);
    if (st == RMAS_OK) {
        rm_feed f = feed;
        f.seq = s;
        st = rm_batch_forward(b, &f, 1, err);
    }
    rm_batch_free(b);
    rm_seq_free(s);
    return st;
}

static rmas_status open_model(const char *path, rmas_error *err) {
    rm_model *m = NULL;
    rm_tok *t = NULL;
    rmas_status s = rm_model_open(&m, exec, path, RM_EXACT, err);
    if (s == RMAS_OK && rm_model_config(m)->n_vocab > 1) s = compute(m, err);
    rm_model_close(m);
    if (s == RMAS_OK && with_tok) s = rm_tok_open(&t, path, err);
    rm_tok_close(t);
    return s;
}

static rmas_status open_any(const char *path, const char *folder, rmas_error *err) {
    rm_weights *w = NULL;
    rm_tok *t = NULL;
    rm_config c;
    rmas_status s;
    if (folder) return open_model(folder, err);
    if (ends_with(path, "tokenizer.json")) {
        s = rm_tok_open(&t, path, err);
        rm_tok_close(t);
    } else if (ends_with(path, ".json")) {
        s = rm_config_read(&c, path, err);
        if (s == RMAS_OK) rm_config_free(&c);
    } else {
        s = rm_weights_open(&w, path, err);
        bool model = w && rm_weights_gguf(w) && rm_gguf_has(rm_weights_gguf(w), "general.architecture");
        rm_weights_close(w);
        if (s == RMAS_OK && model) s = open_model(path, err);
    }
    return s;
}

static void look(const char *path, const char *folder, const char *what, long at, bool may_open) {
    rmas_error err = {0};
    if (open_any(path, folder, &err) == RMAS_OK) {
        n_open++;
        if (may_open) return;
        n_bad++;
        printf("FAIL %s %s %ld: was opened\n", path, what, at);
        return;
    }
    n_refused++;
    if (err.msg[0] && !strchr(err.msg, '\n') && strlen(err.msg) < sizeof err.msg) return;
    n_bad++;
    printf("FAIL %s %s %ld: not one line: '%s'\n", path, what, at, err.msg);
}

static void damage(const char *path, const char *folder, long step) {
    rmas_error err = {0};
    char *whole;
    size_t n;
    if (rm_file_read(&whole, &n, path, (size_t)1 << 30, &err) != RMAS_OK) {
        printf("FAIL %s\n", err.msg);
        n_bad++;
        return;
    }
    static const char *const read[] = {"/config.json", "tokenizer.json", "tokenizer_config.json", ".index.json", ".safetensors", ".gguf", ".pt"};
    with_tok = true;
    bool intact = open_any(path, folder, &err) == RMAS_OK, needed = false;
    with_tok = intact;
    if (!intact) intact = open_any(path, folder, &err) == RMAS_OK;
    for (size_t i = 0; intact && i < sizeof read / sizeof *read; i++) needed |= ends_with(path, read[i]);
    int fd = open(path, O_RDWR);
    size_t flips = n < MAX_FLIPS ? n : MAX_FLIPS;
    for (size_t i = 0; fd >= 0 && i < flips; i += (size_t)(step + 63) / 64) {
        char c = (char)(i % 3 == 0 ? whole[i] ^ 1 : i % 3 == 1 ? whole[i] ^ 0x80 : whole[i] == '9' ? 0 : '9');
        if (pwrite(fd, &c, 1, (off_t)i) != 1) break;
        look(path, folder, "changed at", (long)i, true);
        if (pwrite(fd, whole + i, 1, (off_t)i) != 1) break;
    }
    for (size_t i = n; fd >= 0 && i > 0;) {
        i -= i > (size_t)step ? (size_t)step : i;
        if (ftruncate(fd, (off_t)i) != 0) break;
        look(path, folder, "cut to", (long)i, !needed || n - i <= PADDING);
    }
    if (fd < 0 || pwrite(fd, whole, n, 0) != (ssize_t)n) {
        printf("FAIL %s: %s\n", path, strerror(errno));
        n_bad++;
    }
    if (fd >= 0) close(fd);
    free(whole);
}

/* All regular files of a folder are copied; returns how many, or -1. */
static int copy_files(const char *from, const char *to, char name[MAX_FILES][NAME]) {
    DIR *d = opendir(from);
    int n = 0;
    for (struct dirent *e; d && n < MAX_FILES && (e = readdir(d));) {
        char a[PATH], b[PATH], *text;
        size_t size;
        snprintf(a, sizeof a, "%s/%s", from, e->d_name);
        snprintf(b, sizeof b, "%s/%s", to, e->d_name);
        struct stat st;
        if (stat(a, &st) != 0 || !S_ISREG(st.st_mode) || rm_file_read(&text, &size, a, (size_t)1 << 30, NULL) != RMAS_OK) continue;
        FILE *f = fopen(b, "wb");
        if (f && fwrite(text, 1, size, f) == size) snprintf(name[n++], NAME, "%s", e->d_name);
        if (f) fclose(f);
        free(text);
    }
    if (d) closedir(d);
    return n;
}

static void run(const char *path, long step) {
    char work[] = "/tmp/rmas-damage-XXXXXX", copy[PATH];
    static char name[MAX_FILES][NAME];
    rmas_error err = {0};
    if (!mkdtemp(work)) abort();
    bool folder = rm_path_is_dir(path);
    char *text = NULL;
    size_t size;
    if (folder) {
        int n = copy_files(path, work, name);
        for (int i = 0; i < 2 * n; i++) { /* then all are removed */
            char *file = rm_path_join(work, name[i % n]);
            if (!file) abort();
            if (i >= n)
                unlink(file);
            else if (!strstr(name[i], "golden"))
                damage(file, work, step);
            rm_free(file);
        }
    } else if (rm_file_read(&text, &size, path, (size_t)1 << 30, &err) == RMAS_OK) {
        const char *base = strrchr(path, '/');
        snprintf(copy, sizeof copy, "%s/%s", work, base ? base + 1 : path);
        FILE *f = fopen(copy, "wb");
        if (!f || fwrite(text, 1, size, f) != size) abort();
        fclose(f);
        free(text);
        damage(copy, NULL, step);
        unlink(copy);
    } else {
        printf("FAIL %s\n", err.msg);
        n_bad++;
    }
    rmdir(work);
}

int main(int argc, char **argv) {
    rmas_error err;
    long step = 64;
    if (rm_exec_new(&exec, 1, NULL, &err) != RMAS_OK) return 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--step") == 0 && i + 1 < argc)
            step = atol(argv[++i]);
        else
            run(argv[i], step > 0 ? step : 64);
    }
    rm_exec_free(exec);
    printf("damage: %ld damaged files refused, %ld opened and used, %ld wrong\n", n_refused, n_open, n_bad);
    return n_bad != 0;
}
