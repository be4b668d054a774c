#define _GNU_SOURCE
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tok/tok.h"
#include "weights/weights.h"

const char *fuzz_file(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, n, 0) != (ssize_t)n) abort();
    return path;
}

void fuzz_touch(const rm_weights *w) {
    float v[4096];
    for (int i = 0; i < rm_weights_count(w); i++) {
        const rm_tensor *t = rm_weights_at(w, i);
        if (rm_weights_find(w, t->name) != t) abort();
        if (rm_tensor_count(t) <= 4096)
            rm_dequant(t->dtype, t->data, v, (size_t)rm_tensor_count(t));
        else
            v[0] = (float)((const char *)t->data)[0] + (float)((const char *)t->data)[t->n_bytes - 1];
    }
}

void fuzz_round_trip(const rm_tok *t, const char *text, size_t n) {
    rm_ids ids = {0};
    rm_strbuf out = {0};
    rmas_error err;
    if (rm_tok_encode(t, text, n, true, &ids, &err) == RMAS_OK) {
        for (int i = 0; i < ids.n; i++)
            if (ids.id[i] < 0) abort();
        rm_tok_decode(t, ids.id, ids.n, false, true, &out, &err);
        for (int i = 0; i < ids.n && i < 100; i++) rm_tok_piece(t, ids.id[i], &out);
    }
    rm_strbuf_free(&out);
    rm_ids_free(&ids);
}
