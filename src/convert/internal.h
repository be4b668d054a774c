#ifndef RM_CONVERT_INTERNAL_H
#define RM_CONVERT_INTERNAL_H

#include <jansson.h>

#include "convert/convert.h"
#include "model/family.h"
#include "weights/gguf_write.h"
#include "weights/weights.h"

/* One tensor of the new file. Value number j of row i is f(source[row[i]][col[j]]). */
typedef struct {
    rm_tensor t; /* name (owned), type and shape in the new file */
    const rm_tensor *src; /* NULL: the values are in `values` */
    float *values; /* owned */
    int *row, *col; /* owned; NULL: as they are */
    int64_t n_row, n_col;
    float add, scale; /* f(x) = (x + add) * scale */
    bool neg_exp; /* f(x) = -exp(x) */
} rm_job;

typedef struct {
    const char *path;
    rm_weights *w;
    rm_config cfg; /* of a Hugging Face folder */
    const rm_family *family;
    json_t *config, *text; /* config.json and its text_config (or config again) */
    rm_job *job;
    int n_job, cap_job;
    rm_gguf_meta meta;
    rm_dtype type;
    rm_convert_report *report;
    rmas_error *err;
} rm_conversion;

rmas_status rm_convert_nomem(const rm_conversion *c);
void rm_convert_note(rm_conversion *c, const char *text);
json_t *rm_convert_json(const rm_conversion *c, const char *file); /* FILE of the folder; NULL if absent or not an object */
/* A new job for src with its shape and a copy of the name; NULL when out of memory. */
rm_job *rm_convert_job(rm_conversion *c, const char *name, const rm_tensor *src);

/* Each adds its part for a Hugging Face folder. */
rmas_status rm_convert_tensors(rm_conversion *c);
rmas_status rm_convert_metadata(rm_conversion *c);
rmas_status rm_convert_vocab(rm_conversion *c);

#endif
