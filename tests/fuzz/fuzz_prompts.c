/* Prompt packs: parsing and every kind of look-up. */
#include "fuzz.h"
#include "prompt/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    rm_pack *p;
    rmas_error err;
    if (rm_pack_parse(&p, (const char *)data, n, "input", &err) != RMAS_OK) return 0;
    static const char *const style[] = {"sequential", "x"}, *const role[] = {"planner", "solver", "a"}, *const option[] = {"choice-2"};
    for (int i = (int)(n % 7); i < 48; i += 7) { /* all would take seven times as long */
        rm_ask ask = {.task = (rm_task)(i % 3),
                      .form = (rm_form)(i / 3 % 3),
                      .fn_name = "f",
                      .question = "A. x\nB. y {q}",
                      .option = option,
                      .n_option = i & 1};
        rm_parts parts = {0};
        rm_strbuf out = {0};
        rm_pack_user(p, style[i & 1], role[i % 3], i & 2, i & 4, &ask, &parts, &err);
        rm_parts_free(&parts);
        rm_pack_system(p, style[i & 1], role[i % 3], i & 4, &ask, &out, &err);
        rm_pack_retry(p, style[i & 1], &ask, &out, &err);
        rm_strbuf_free(&out);
    }
    for (int i = 0; i < rm_pack_n_section(p); i++) {
        const char *base[] = {rm_pack_section(p, i)};
        rm_parts parts = {0};
        rm_ask ask = {.question = "q"};
        rm_pack_lookup(p, base, 1, &ask, &parts, &err);
        rm_parts_free(&parts);
    }
    rm_pack_close(p);
    return 0;
}
