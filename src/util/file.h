/* Files: read-only mapping, whole reads with a cap, atomic writes, path helpers. */
#ifndef RM_UTIL_FILE_H
#define RM_UTIL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

typedef struct {
    const uint8_t *data; /* NULL for an empty file */
    size_t n;
} rm_map;

/* Maps a regular file read-only. The mapping stays valid until rm_map_close. */
rmas_status rm_map_open(rm_map *out, const char *path, rmas_error *err);
void rm_map_close(rm_map *m);

/* Reads a whole file of at most max bytes; *out is NUL-terminated and belongs to the caller (rm_free). */
rmas_status rm_file_read(char **out, size_t *n, const char *path, size_t max, rmas_error *err);

/* Writes to a temporary file beside `path`, fsyncs, renames: the file is whole or not there. */
rmas_status rm_file_write(const char *path, const void *data, size_t n, rmas_error *err);

/* The same for content that is written piece by piece. */
typedef struct {
    int fd;
    char *path, *tmp;
} rm_file_writer;
rmas_status rm_writer_open(rm_file_writer *w, const char *path, rmas_error *err);
rmas_status rm_writer_add(rm_file_writer *w, const void *data, size_t n, rmas_error *err);
rmas_status rm_writer_commit(rm_file_writer *w, rmas_error *err); /* fsync and rename; w is closed either way */
void rm_writer_abort(rm_file_writer *w); /* removes the temporary file; fine after commit */

bool rm_path_exists(const char *path);
bool rm_path_is_dir(const char *path);
char *rm_path_join(const char *dir, const char *name); /* caller frees; NULL when out of memory; an absolute name wins */
rmas_status rm_mkdirs(const char *path, rmas_error *err);
/* Fails if another process has the folder. *fd: close gives it back, as the end of the process does; -1 where the file system has no locks. */
rmas_status rm_dir_lock(int *fd, const char *path, rmas_error *err);
/* Opens a file for appending, new or not; fails if another process has it. What *fd (or -1) had before is given back only then, so that a
 * file that was replaced is never free. */
rmas_status rm_append_lock(int *fd, const char *path, rmas_error *err);

#endif
