/* Chat templates: parsing, and rendering with a fixed conversation. */
#include "fuzz.h"
#include "tmpl/tmpl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static json_t *vars;
    rm_tmpl *t;
    rmas_error err;
    if (!vars)
        vars = json_pack("{s:[{s:s,s:s},{s:s,s:s}],s:b,s:s,s:s,s:i,s:n}", "messages", "role", "system", "content", " S ", "role", "user", "content",
                         "U\n", "add_generation_prompt", 1, "bos_token", "<s>", "eos_token", "</s>", "k", 3, "tools");
    if (rm_tmpl_new(&t, (const char *)data, n, "input", &err) != RMAS_OK) return 0;
    rm_strbuf out = {0};
    rm_tmpl_render(t, vars, (rm_date){2025, 2, 28}, &out, &err);
    rm_strbuf_free(&out);
    rm_tmpl_free(t);
    return 0;
}
