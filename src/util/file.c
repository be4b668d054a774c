#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/mem.h"

static rmas_status open_regular(int *fd, size_t *n, const char *path, rmas_error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return rm_fail(err, RMAS_E_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(*fd);
        return rm_fail(err, RMAS_E_IO, "%s: not a regular file", path);
    }
    *n = (size_t)st.st_size;
    return RMAS_OK;
}

rmas_status rm_map_open(rm_map *out, const char *path, rmas_error *err) {
    *out = (rm_map){0};
    int fd;
    size_t n;
    RM_TRY(open_regular(&fd, &n, path, err));
    if (n) {
        void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            rmas_status s = rm_fail(err, errno == ENOMEM ? RMAS_E_NOMEM : RMAS_E_IO, "%s: cannot map %zu bytes: %s", path, n, strerror(errno));
            close(fd);
            return s;
        }
        *out = (rm_map){p, n};
    }
    close(fd);
    return RMAS_OK;
}

void rm_map_close(rm_map *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->n);
    *m = (rm_map){0};
}

rmas_status rm_file_read(char **out, size_t *n, const char *path, size_t max, rmas_error *err) {
    *out = NULL;
    *n = 0;
    int fd;
    size_t size;
    RM_TRY(open_regular(&fd, &size, path, err));
    if (size > max) {
        close(fd);
        return rm_fail(err, RMAS_E_FORMAT, "%s: %zu bytes, at most %zu are read", path, size, max);
    }
    char *p = rm_alloc(size + 1);
    if (!p) {
        close(fd);
        return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory for %zu bytes", path, size);
    }
    size_t got = 0;
    while (got < size) {
        ssize_t r = read(fd, p + got, size - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            rm_free(p);
            close(fd);
            return rm_fail(err, RMAS_E_IO, "%s: cannot read: %s", path, r < 0 ? strerror(errno) : "the file became shorter");
        }
        got += (size_t)r;
    }
    close(fd);
    p[size] = 0;
    *out = p;
    *n = size;
    return RMAS_OK;
}

rmas_status rm_writer_open(rm_file_writer *w, const char *path, rmas_error *err) {
    *w = (rm_file_writer){.fd = -1};
    struct stat st; /* a link stays, and what it points to is replaced */
    char *target = lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;
    size_t n = strlen(target ? target : path) + 32;
    w->path = rm_strdup(target ? target : path);
    w->tmp = rm_alloc(n);
    free(target);
    if (!w->path || !w->tmp) {
        rm_writer_abort(w);
        return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    }
    snprintf(w->tmp, n, "%s.tmp.%ld", w->path, (long)getpid());
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        rmas_status s = rm_fail(err, RMAS_E_IO, "%s: cannot create: %s", w->tmp, strerror(errno));
        rm_free(w->tmp);
        w->tmp = NULL;
        rm_writer_abort(w);
        return s;
    }
    return RMAS_OK;
}

rmas_status rm_writer_add(rm_file_writer *w, const void *data, size_t n, rmas_error *err) {
    const char *p = data;
    while (n) {
        ssize_t r = write(w->fd, p, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return rm_fail(err, RMAS_E_IO, "%s: cannot write: %s", w->path, strerror(errno));
        p += r;
        n -= (size_t)r;
    }
    return RMAS_OK;
}

rmas_status rm_writer_commit(rm_file_writer *w, rmas_error *err) {
    rmas_status s = RMAS_OK;
    if (fsync(w->fd) != 0 && errno != EINVAL && errno != EROFS) s = rm_fail(err, RMAS_E_IO, "%s: cannot write: %s", w->path, strerror(errno));
    int closed = close(w->fd);
    w->fd = -1;
    if (s == RMAS_OK && closed != 0) s = rm_fail(err, RMAS_E_IO, "%s: cannot write: %s", w->path, strerror(errno));
    if (s == RMAS_OK) {
        if (rename(w->tmp, w->path) != 0)
            s = rm_fail(err, RMAS_E_IO, "%s: cannot rename %s: %s", w->path, w->tmp, strerror(errno));
        else {
            rm_free(w->tmp);
            w->tmp = NULL;
        }
    }
    rm_writer_abort(w);
    return s;
}

void rm_writer_abort(rm_file_writer *w) {
    if (w->fd >= 0) close(w->fd);
    if (w->tmp) unlink(w->tmp);
    rm_free(w->tmp);
    rm_free(w->path);
    *w = (rm_file_writer){.fd = -1};
}

rmas_status rm_file_write(const char *path, const void *data, size_t n, rmas_error *err) {
    rm_file_writer w;
    RM_TRY(rm_writer_open(&w, path, err));
    rmas_status s = rm_writer_add(&w, data, n, err);
    if (s == RMAS_OK) return rm_writer_commit(&w, err);
    rm_writer_abort(&w);
    return s;
}

bool rm_path_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool rm_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *rm_path_join(const char *dir, const char *name) {
    if (name[0] == '/' || !dir[0]) return rm_strdup(name);
    size_t a = strlen(dir), b = strlen(name);
    char *p = rm_alloc(a + b + 2);
    if (!p) return NULL;
    memcpy(p, dir, a);
    if (dir[a - 1] != '/') p[a++] = '/';
    memcpy(p + a, name, b + 1);
    return p;
}

rmas_status rm_mkdirs(const char *path, rmas_error *err) {
    char *p = rm_strdup(path);
    if (!p) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    for (char *q = p + 1;; q++) {
        char c = *q;
        if (c != '/' && c) continue;
        *q = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            rmas_status s = rm_fail(err, RMAS_E_IO, "%s: cannot make the folder: %s", p, strerror(errno));
            rm_free(p);
            return s;
        }
        if (!c) break;
        *q = c;
    }
    bool ok = rm_path_is_dir(path);
    rm_free(p);
    return ok ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: not a folder", path);
}

static rmas_status busy(const char *path, const char *what, rmas_error *err) {
    return rm_fail(err, RMAS_E_IO, "%s: another run is writing into this %s", path, what);
}

rmas_status rm_dir_lock(int *fd, const char *path, rmas_error *err) {
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return rm_fail(err, RMAS_E_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return RMAS_OK;
    const bool taken = errno == EWOULDBLOCK;
    close(*fd);
    *fd = -1;
    return taken ? busy(path, "folder", err) : RMAS_OK;
}

rmas_status rm_append_lock(int *fd, const char *path, rmas_error *err) {
    const int to = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644), before = *fd;
    if (to < 0) return rm_fail(err, RMAS_E_IO, "%s: cannot open for writing: %s", path, strerror(errno));
    *fd = to;
    const bool taken = flock(to, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (before >= 0) close(before);
    struct stat opened, there; /* another run may have replaced the file meanwhile */
    if (taken || fstat(to, &opened) != 0 || stat(path, &there) != 0 || opened.st_dev != there.st_dev || opened.st_ino != there.st_ino)
        return busy(path, "file", err);
    return RMAS_OK;
}
