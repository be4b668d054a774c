/* Text into ids and back, with one small tokenizer of each kind. The first byte chooses. */
#include <stdlib.h>

#include "fuzz.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const file[] = {RMAS_FUZZ_FOLDER "/bytelevel.json", RMAS_FUZZ_FOLDER "/spm.json"};
    static rm_tok *tok[2];
    rmas_error err;
    if (!n) return 0;
    int k = data[0] & 1;
    if (!tok[k] && rm_tok_open(&tok[k], file[k], &err) != RMAS_OK) abort();
    fuzz_round_trip(tok[k], (const char *)data + 1, n - 1);
    return 0;
}
