/* tokenizer.json and the vocabulary of GGUF files; other input is text for a small tokenizer. */
#include <stdlib.h>

#include "fuzz.h"
#include "tok/tok.h"
#include "util/mem.h"
#include "weights/reader.h"

static void use(const rm_tok *t, const char *text, size_t n) {
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char text[] = "Hello  world, it's 12345 <s> \xC3\xA9\xF0\x9F\x98\x80\n\n\tx = y;";
    static rm_tok *small;
    rm_tok *t = NULL;
    rmas_error err;
    if (n && data[0] == '{') {
        if (rm_tok_open(&t, fuzz_file(data, n), &err) == RMAS_OK) use(t, text, sizeof text - 1);
        rm_tok_close(t);
        return 0;
    }
    if (n >= 4 && data[0] == 'G' && data[1] == 'G') {
        rm_weights *w = RM_NEW(rm_weights);
        const rm_map m = {data, n};
        if (w && rm_gguf_read(w, "input", &m, &err) == RMAS_OK && rm_tok_from_gguf(&t, w->gguf, "input", &err) == RMAS_OK) {
            use(t, text, sizeof text - 1);
            rm_tok_close(t);
        }
        rm_weights_close(w);
        return 0;
    }
    if (!small && rm_tok_open(&small, RMAS_FUZZ_SEEDS "/tokenizer/bytelevel.json", &err) != RMAS_OK) abort();
    use(small, (const char *)data, n);
    return 0;
}
