/* GGUF files. */
#include "fuzz.h"
#include "util/mem.h"
#include "weights/reader.h"

/* Every entry through every kind of look-up. */
static void look_up(const rm_gguf *g) {
    rm_span key, raw, s;
    int64_t i;
    double d;
    for (size_t k = 0; rm_gguf_entry(g, k, &key, &raw); k++) {
        char *name = rm_strndup(key.s, key.n);
        if (!name) return;
        rm_gguf_str(g, name, &s);
        rm_gguf_int(g, name, &i);
        rm_gguf_float(g, name, &d);
        int64_t n = rm_gguf_array_len(g, name);
        for (int64_t at = n < 100 ? 0 : n - 100; at <= n; at++) {
            rm_gguf_item_str(rm_gguf_array_find(g, name), at, &s);
            rm_gguf_array_int(g, name, at, &i);
            rm_gguf_item_float(rm_gguf_array_find(g, name), at, &d);
        }
        rm_free(name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    rm_weights *w = RM_NEW(rm_weights);
    const rm_map m = {data, n};
    rmas_error err;
    if (!w || !n) {
        rm_free(w);
        return 0;
    }
    w->kind = RM_FILE_GGUF;
    if (rm_gguf_read(w, "input", &m, &err) == RMAS_OK && rm_reader_index(w, "input", &err) == RMAS_OK) {
        fuzz_touch(w);
        look_up(w->gguf);
    }
    rm_weights_close(w);
    return 0;
}
