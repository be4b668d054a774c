/* config.json and GGUF metadata into layer plans. */
#include "fuzz.h"
#include "model/family.h"
#include "util/mem.h"
#include "weights/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    rm_config c;
    rmas_error err;
    if (n && data[0] == '{') {
        if (rm_config_read(&c, fuzz_file(data, n), &err) == RMAS_OK) rm_config_free(&c);
        return 0;
    }
    rm_weights *w = RM_NEW(rm_weights);
    const rm_map m = {data, n};
    const rm_family *family;
    if (w && n && rm_gguf_read(w, "input", &m, &err) == RMAS_OK && rm_config_from_gguf(&c, &family, w->gguf, "input", &err) == RMAS_OK)
        rm_config_free(&c);
    rm_weights_close(w);
    return 0;
}
