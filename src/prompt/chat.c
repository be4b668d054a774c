/* A model's chat template with its variables. */
#include <string.h>

#include "prompt.h"
#include "util/file.h"
#include "util/mem.h"

struct rm_chat {
    rm_tmpl *tmpl;
    json_t *vars; /* everything but the messages */
    rm_date date;
};

rmas_status rm_chat_parse(rm_chat **out, const char *source, const char *bos, const char *eos, const rm_chat_options *opt, const char *name,
                          rmas_error *err) {
    *out = NULL;
    rm_chat *c = RM_NEW(rm_chat);
    if (!c) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    c->date = opt->date;
    /* tools and documents are there and none, as transformers passes them */
    c->vars = json_pack("{s:b, s:b, s:n, s:n}", "add_generation_prompt", 1, "enable_thinking", opt->enable_thinking, "tools", "documents");
    bool ok = c->vars != NULL;
    if (ok && bos && *bos) ok = json_object_set_new(c->vars, "bos_token", json_string(bos)) == 0;
    if (ok && eos && *eos) ok = json_object_set_new(c->vars, "eos_token", json_string(eos)) == 0;
    if (ok && opt->date_string) ok = json_object_set_new(c->vars, "date_string", json_string(opt->date_string)) == 0;
    rmas_status st = ok ? rm_tmpl_new(&c->tmpl, source, strlen(source), name, err) : rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    if (st != RMAS_OK)
        rm_chat_free(c);
    else
        *out = c;
    return st;
}

void rm_chat_free(rm_chat *c) {
    if (!c) return;
    rm_tmpl_free(c->tmpl);
    json_decref(c->vars);
    rm_free(c);
}

static rmas_status render(const rm_chat *c, const char *system, const char *user, size_t n_user, rm_strbuf *out, rmas_error *err) {
    json_t *messages = system && *system
                           ? json_pack("[{s:s, s:s}, {s:s, s:s%}]", "role", "system", "content", system, "role", "user", "content", user, n_user)
                           : json_pack("[{s:s, s:s%}]", "role", "user", "content", user, n_user);
    if (!messages) return rm_fail(err, RMAS_E_ARG, "the prompt is not valid UTF-8 text, or there is no memory for it");
    json_t *vars = json_copy(c->vars); /* shallow: c is shared between threads, and only counted references are touched in it */
    if (!vars || json_object_set_new(vars, "messages", messages)) {
        json_decref(vars);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    rmas_status st = rm_tmpl_render(c->tmpl, vars, c->date, out, err);
    json_decref(vars);
    return st;
}

rmas_status rm_chat_render(const rm_chat *c, const char *system, const char *user, size_t n_user, rm_strbuf *out, rmas_error *err) {
    rmas_error first = {0};
    rmas_status st = render(c, system, user, n_user, out, &first);
    if (st != RMAS_OK && system && *system && strstr(first.msg, "Conversation roles must alternate")) {
        rm_strbuf both = {0};
        rm_strbuf_puts(&both, system);
        rm_strbuf_puts(&both, "\n\n");
        rm_strbuf_add(&both, user, n_user);
        st = both.failed ? rm_fail(&first, RMAS_E_NOMEM, "out of memory") : render(c, NULL, rm_str(&both), both.n, out, &first);
        rm_strbuf_free(&both);
    }
    if (st != RMAS_OK && err) *err = first;
    return st;
}

static rmas_status render_fn(void *ctx, const char *system, const char *user, rm_strbuf *out, rmas_error *err) {
    return rm_chat_render(ctx, system, user, strlen(user), out, err);
}

rmas_status rm_prompt_chat(const rm_chat *c, const char *system, const rm_parts *user, rm_pieces *out, rmas_error *err) {
    return rm_prompt_split(user, system, render_fn, (void *)c, out, err);
}
