/* Limits, failures and output of a rendering. */
#include "tmpl/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"

static bool fail(rm_run *r, rmas_status code, const char *fmt, va_list ap) {
    char what[400];
    if (r->st != RMAS_OK) return false; /* the first failure is the one to tell */
    vsnprintf(what, sizeof what, fmt, ap);
    r->st = rm_fail(r->err, code, "%s line %d: %s", r->name, r->line, what);
    return false;
}

bool rm_tmpl_fail(rm_run *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fail(r, RMAS_E_ARG, fmt, ap);
    va_end(ap);
    return false;
}

bool rm_tmpl_fail_code(rm_run *r, rmas_status code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fail(r, code, fmt, ap);
    va_end(ap);
    return false;
}

bool rm_tmpl_undefined(rm_run *r, const rm_val *v) {
    int n = (int)(v->n > 80 ? 80 : v->n);
    if (!v->flag) return rm_tmpl_fail(r, "'%.*s' is undefined", n, v->s);
    rm_val of = {.kind = v->flag};
    return rm_tmpl_fail(r, "'%s%s' has no attribute '%.*s'", of.kind == V_NONE ? "None" : rm_val_type(&of), of.kind == V_NONE ? "" : " object", n,
                        v->s);
}

bool rm_tmpl_charge(rm_run *r, size_t steps) {
    if (steps > RM_TMPL_MAX_STEPS || (r->steps += (long)steps) > RM_TMPL_MAX_STEPS)
        return rm_tmpl_fail_code(r, RMAS_E_FULL, "the template takes more than %d steps: it loops without end or is hostile", RM_TMPL_MAX_STEPS);
    return true;
}

bool rm_tmpl_enter(rm_run *r) {
    if (r->depth >= RM_MAX_DEPTH) return rm_tmpl_fail_code(r, RMAS_E_FULL, "nested deeper than %d levels", RM_MAX_DEPTH);
    r->depth++;
    return true;
}

void *rm_tmpl_get(rm_run *r, size_t n) {
    void *p = rm_tmpl_arena_get(&r->arena, n);
    if (p) return p;
    if (r->arena.full)
        rm_tmpl_fail_code(r, RMAS_E_FULL, "the template needs more than %d MiB", RM_MAX_MEMORY >> 20);
    else
        rm_tmpl_fail_code(r, RMAS_E_NOMEM, "out of memory");
    return NULL;
}

bool rm_tmpl_put(rm_run *r, const char *s, size_t n) {
    r->written += n;
    if (r->written > RM_MAX_OUTPUT) return rm_tmpl_fail_code(r, RMAS_E_FULL, "the template writes more than %d MiB", RM_MAX_OUTPUT >> 20);
    rm_strbuf_add(r->out, s, n);
    return r->out->failed ? rm_tmpl_fail_code(r, RMAS_E_NOMEM, "out of memory") : rm_tmpl_charge(r, n / 64);
}

bool rm_tmpl_text(rm_run *r, const char *s, size_t n, rm_val *out) {
    char *p = n < UINT32_MAX ? rm_tmpl_get(r, n + 1) : NULL;
    if (!p) return r->st == RMAS_OK ? rm_tmpl_fail(r, "a text of more than 4 GiB") : false;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    *out = rm_val_str(p, n);
    return rm_tmpl_charge(r, n / 64);
}

bool rm_tmpl_take(rm_run *r, rm_strbuf *b, rm_val *out) {
    bool ok = b->failed ? rm_tmpl_fail_code(r, RMAS_E_NOMEM, "out of memory") : rm_tmpl_text(r, rm_str(b), b->n, out);
    rm_strbuf_free(b);
    return ok;
}
