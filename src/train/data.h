/* Rows of training data: JSON lines, or a JSON file with an array of objects. Messages name file, row and column. */
#ifndef RM_TRAIN_DATA_H
#define RM_TRAIN_DATA_H

#include <jansson.h>
#include <stdbool.h>

#include "util/error.h"
#include "util/strbuf.h"

typedef struct {
    char *path;
    json_t *all; /* array of objects */
    size_t n;
} rm_rows;

/* field: the key of the array in a .json file; NULL: "data", else the top level. At most 2 GiB. An empty file is an error. */
rmas_status rm_rows_open(rm_rows *out, const char *path, const char *field, rmas_error *err);
void rm_rows_close(rm_rows *r); /* fine on a zeroed struct */

/* The value of a column as text: null and absent columns give "", numbers and booleans what Python's str() gives. strip:
 * without white space at both ends. Replaces the content of out; present (may be NULL): does the column exist in this row? */
rmas_status rm_rows_text(const rm_rows *r, size_t row, const char *column, bool strip, rm_strbuf *out, bool *present, rmas_error *err);

/* Stripped text of a row's first candidate. columns ends with NULL. first_present: the first column that exists counts, even
 * if it is empty (inner loop); otherwise the first that is not empty (outer loop). */
rmas_status rm_rows_first(const rm_rows *r, size_t row, const char *const *columns, bool first_present, rm_strbuf *out, rmas_error *err);

/* Is one of these columns in at least one row? For the check before a run that names what is missing. */
bool rm_rows_has_any(const rm_rows *r, const char *const *columns);

#endif
