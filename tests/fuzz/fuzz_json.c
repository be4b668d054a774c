/* The JSON pull parser. */
#include <stdlib.h>

#include "fuzz.h"
#include "util/json.h"
#include "util/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    rm_json j;
    rm_json_event e;
    int64_t i;
    double d;
    rm_json_init(&j, (const char *)data, n);
    while ((e = rm_json_next(&j)) != RM_JSON_END && e != RM_JSON_ERROR) {
        if (e == RM_JSON_NUMBER) {
            rm_json_int(&j, &i);
            rm_json_double(&j, &d);
        }
        if ((e == RM_JSON_STRING || e == RM_JSON_KEY) && !rm_utf8_valid(j.str, j.len)) abort();
        if (j.depth > RM_JSON_MAX_DEPTH || j.depth < 0) abort();
    }
    rm_json_free(&j);
    rm_json_init(&j, (const char *)data, n);
    e = rm_json_next(&j);
    if (e != RM_JSON_ERROR) rm_json_skip(&j, e);
    rm_json_free(&j);
    return 0;
}
