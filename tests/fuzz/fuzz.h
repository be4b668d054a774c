/* What the fuzz targets share. Built with clang: meson setup -Dfuzz=true; tests/fuzz/run.sh runs them. */
#ifndef RM_FUZZ_H
#define RM_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The input as a file, for functions that take paths. The name is valid until the next call. */
const char *fuzz_file(const uint8_t *data, size_t n);

/* Reads one weight file from memory with the reader of its format, and touches everything it gave. */
typedef struct rm_weights rm_weights;
void fuzz_touch(const rm_weights *w);

/* Text to ids and back. */
typedef struct rm_tok rm_tok;
void fuzz_round_trip(const rm_tok *t, const char *text, size_t n);

#endif
