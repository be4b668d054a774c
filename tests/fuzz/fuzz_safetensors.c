/* safetensors files. */
#include "fuzz.h"
#include "util/mem.h"
#include "weights/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    rm_weights *w = RM_NEW(rm_weights);
    const rm_map m = {data, n};
    rmas_error err;
    if (!w || !n) {
        rm_free(w);
        return 0;
    }
    w->kind = RM_FILE_SAFETENSORS;
    if (rm_safetensors_read(w, "input", &m, &err) == RMAS_OK && rm_reader_index(w, "input", &err) == RMAS_OK) fuzz_touch(w);
    rm_weights_close(w);
    return 0;
}
