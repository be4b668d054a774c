/* system.json and the plans of what opens; other input is the file of a link, which is applied to two rows. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "link/link.h"
#include "system/system.h"
#include "util/mem.h"

static void manifest(const uint8_t *data, size_t n) {
    rm_system *s;
    rm_plan p;
    rmas_error err;
    if (rm_system_open(&s, fuzz_file(data, n), &err) != RMAS_OK) return;
    for (int i = 0; i < 8; i++) {
        const rm_plan_options o = {.n_round = 1 + (i & 1) * 2, .text = i & 2, .latent = !(i & 2) || i & 1, .all = i & 4};
        if (rm_plan_new(&p, s, &o, &err) != RMAS_OK) continue;
        int *edge = malloc(((size_t)s->n_edge + 1) * sizeof *edge);
        if (!edge) abort();
        for (int k = 0; k < p.n_stage; k++) rm_stage_incoming(s, &p.stage[k], edge);
        free(edge);
        rm_plan_free(&p);
    }
    rm_system_free(s);
}

static void link(const uint8_t *data, size_t n) {
    static rm_exec *e;
    static const char *const type[] = {NULL, "res_adapter", "ln_res_adapter", "outer_ln_res_adapter"};
    rm_link *l;
    rmas_error err;
    if (!e && rm_exec_new(&e, 1, NULL, &err) != RMAS_OK) abort();
    if (rm_link_open(&l, e, fuzz_file(data, n), type[n % 4], n & 4 ? RM_EXACT : RM_NATIVE, &err) != RMAS_OK) return;
    size_t d_in = (size_t)rm_link_d_in(l), d_out = (size_t)rm_link_d_out(l);
    float *x = calloc(2 * d_in, sizeof *x), *y = calloc(2 * d_out, sizeof *y);
    if (x && y && rm_link_apply(l, x, 2, y, &err) != RMAS_OK) abort();
    free(x);
    free(y);
    rm_link_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n && data[0] == '{')
        manifest(data, n);
    else
        link(data, n);
    return 0;
}
