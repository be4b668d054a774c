/* Inside the data sets: rows of a file as JSON objects, and what becomes of one. */
#ifndef RM_EVAL_ITEMS_H
#define RM_EVAL_ITEMS_H

#include <jansson.h>

#include "eval/dataset.h"
#include "eval/grade.h"

typedef struct {
    json_t *row; /* an object */
    size_t line; /* where it is in the file, from 1: a line of JSONL and text, an element of a JSON array, a row of CSV */
} rm_row;

typedef struct {
    const char *path, *unit; /* unit: "line", "element", "row" */
    rm_row *v;
    size_t n, cap;
} rm_rows;

rmas_status rm_rows_read(rm_rows *rows, const char *path, rmas_error *err);
rmas_status rm_rows_read_questions(rm_rows *rows, const char *path, rmas_error *err); /* also plain text and arrays of strings */
rmas_status rm_rows_add_text(rm_rows *rows, const char *question, size_t line, rmas_error *err);
void rm_rows_free(rm_rows *rows);

rmas_status rm_item_build(rm_item *it, const char *dataset, const rm_rows *rows, size_t i, bool own, const rm_grader *g,
                          const rm_dataset_options *opt, rmas_error *err);

/* Text of packed private tests (rm_free), NULL if it is none. */
char *rm_unpack_tests(const char *packed);

void rm_md5(const void *data, size_t n, unsigned char out[16]);

#endif
