/* Inside the weights module: the stored zip archive around a PyTorch state dict. */
#ifndef RM_WEIGHTS_PT_H
#define RM_WEIGHTS_PT_H

#include "weights/reader.h"

typedef struct {
    rm_span name;
    const uint8_t *data;
    uint64_t n;
    uint64_t begin; /* offset of the local header */
} rm_zip_member;

typedef struct {
    rm_zip_member *m; /* ordered by name */
    size_t n;
} rm_zip;

/* Checks the whole archive; members point into the map. */
rmas_status rm_zip_read(rm_zip *z, const char *path, const rm_map *m, rmas_error *err);
void rm_zip_free(rm_zip *z);
const rm_zip_member *rm_zip_find(const rm_zip *z, const char *name, size_t n);

/* Runs the pickle program and appends the tensors of its tables. root: the folder of data.pkl inside the archive. */
rmas_status rm_pickle_read(rm_weights *w, const char *path, const rm_map *m, const rm_zip *z, rm_span root, rm_span program, rmas_error *err);

#endif
