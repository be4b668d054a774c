/* tokenizer.json, alone or with a NUL and a tokenizer_config.json behind it, and the vocabulary of GGUF files; each with one text. */
#include <string.h>

#include "fuzz.h"
#include "tok/internal.h"
#include "util/mem.h"
#include "weights/reader.h"

static const char text[] = "Hello  world, it's 12345 <s> \xC3\xA9\xF0\x9F\x98\x80\n\n\tx = y;";

static void open_json(const char *s, size_t n) {
    const char *nul = memchr(s, 0, n);
    size_t n_json = nul ? (size_t)(nul - s) : n;
    rmas_error err;
    rm_tok *t = rm_tok_make("input");
    if (t && rm_tok_read_json(t, s, n_json, &err) == RMAS_OK && (!nul || rm_tok_read_config(t, nul + 1, n - n_json - 1, &err) == RMAS_OK) &&
        rm_tok_seal(t, &err) == RMAS_OK)
        fuzz_round_trip(t, text, sizeof text - 1);
    rm_tok_close(t);
}

static void open_gguf(const uint8_t *data, size_t n) {
    rm_weights *w = RM_NEW(rm_weights);
    const rm_map m = {data, n};
    rmas_error err;
    rm_tok *t;
    if (w && rm_gguf_read(w, "input", &m, &err) == RMAS_OK && rm_tok_from_gguf(&t, w->gguf, "input", &err) == RMAS_OK) {
        fuzz_round_trip(t, text, sizeof text - 1);
        rm_tok_close(t);
    }
    rm_weights_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n && data[0] == '{') open_json((const char *)data, n);
    if (n >= 4 && data[0] == 'G' && data[1] == 'G') open_gguf(data, n);
    return 0;
}
