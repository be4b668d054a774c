/* Facts about files, models and systems as JSON, for rmas inspect. Nothing is loaded: files are mapped and their tables read. */
#ifndef RM_CLI_INSPECT_H
#define RM_CLI_INSPECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

typedef struct {
    int64_t context, batch; /* of the run whose memory is estimated; context 0: what the model was trained for, at most 4096 */
    bool tensors; /* list them all */
} rm_inspect_options;

/* path: a weight file, a model (folder or .gguf), a folder with system.json, or the name of a style. */
rmas_status rm_inspect(json_t **out, const char *path, const rm_inspect_options *o, rmas_error *err);
void rm_inspect_print(const json_t *facts);

#endif
