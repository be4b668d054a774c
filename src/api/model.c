/* Engine, model and link of rmas.h. */
#include <string.h>

#include "api/handles.h"
#include "util/file.h"
#include "util/mem.h"

void rmas_mem_free(void *p) { rm_free(p); }

/* ---- engine ----------------------------------------------------------------------------------------------------------- */

rmas_status rmas_engine_new(rmas_engine **out, int n_thread, const char *isa, rmas_error *err) {
    *out = NULL;
    rmas_engine *e = RM_NEW(rmas_engine);
    if (!e) return rm_fail(err, RMAS_E_NOMEM, "out of memory for an engine");
    rmas_status s = rm_exec_new(&e->exec, n_thread, isa, err);
    if (s != RMAS_OK) {
        rm_free(e);
        return s;
    }
    *out = e;
    return RMAS_OK;
}

void rmas_engine_free(rmas_engine *e) {
    if (!e) return;
    rm_exec_free(e->exec);
    rm_free(e);
}

const char *rmas_engine_isa(const rmas_engine *e) { return rm_exec_isa(e->exec); }
int rmas_engine_n_thread(const rmas_engine *e) { return rm_pool_size(e->exec->pool); }

/* ---- model ------------------------------------------------------------------------------------------------------------ */

/* A folder of weights alone computes, too; then text is refused. */
static bool has_tokenizer(const char *path) {
    if (!rm_path_is_dir(path)) return true;
    char *file = rm_path_join(path, "tokenizer.json");
    bool there = file && rm_path_exists(file);
    rm_free(file);
    return there;
}

static rmas_status need_tokenizer(const rmas_model *m, rmas_error *err) {
    return m->tok ? RMAS_OK : rm_fail(err, RMAS_E_UNSUPPORTED, "%s: there is no tokenizer.json", m->path);
}

rmas_status rmas_model_open(rmas_model **out, rmas_engine *e, const char *path, rmas_precision p, rmas_error *err) {
    *out = NULL;
    if (!e || !path) return rm_fail(err, RMAS_E_ARG, "rmas_model_open: engine and path must not be NULL");
    rmas_model *m = RM_NEW(rmas_model);
    if (!m) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    rmas_status s = RMAS_OK;
    if (!(m->path = rm_strdup(path))) s = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    if (s == RMAS_OK) s = rm_model_open(&m->model, e->exec, path, rm_api_precision(p), err);
    if (s == RMAS_OK && has_tokenizer(path)) s = rm_tok_open(&m->tok, path, err);
    if (s == RMAS_OK && m->tok && rm_tok_chat_template(m->tok))
        s = rm_chat_new(&m->chat, m->tok, &(rm_chat_options){.date = rm_date_today()}, path, err);
    if (s != RMAS_OK) {
        rmas_model_close(m);
        return s;
    }
    *out = m;
    return RMAS_OK;
}

void rmas_model_close(rmas_model *m) {
    if (!m) return;
    rm_chat_free(m->chat);
    rm_tok_close(m->tok);
    rm_model_close(m->model);
    rm_free(m->path);
    rm_free(m);
}

void rmas_model_get_info(const rmas_model *m, rmas_model_info *out) {
    const rm_config *c = rm_model_config(m->model);
    *out = (rmas_model_info){c->model_type,           c->n_layer, c->d_model, c->n_vocab, c->n_ctx_train, m->tok ? rm_tok_eos(m->tok) : -1,
                             rm_model_bytes(m->model)};
}

rmas_status rmas_model_tokenize(const rmas_model *m, const char *text, size_t len, int add_special, int32_t *out, int cap, int *n, rmas_error *err) {
    *n = 0;
    RM_TRY(need_tokenizer(m, err));
    rm_ids ids = {0};
    rmas_status s = rm_tok_encode(m->tok, text, len, add_special != 0, &ids, err);
    if (s == RMAS_OK) {
        *n = ids.n;
        for (int i = 0; i < ids.n && i < cap; i++) out[i] = ids.id[i];
    }
    rm_ids_free(&ids);
    return s;
}

/* The buffer's text to the caller. */
static rmas_status give(char **out, rm_strbuf *b, rmas_status s, rmas_error *err) {
    if (s == RMAS_OK && !(*out = rm_strbuf_take(b))) s = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_strbuf_free(b);
    return s;
}

rmas_status rmas_model_detokenize(const rmas_model *m, const int32_t *token, int n, char **out, rmas_error *err) {
    *out = NULL;
    RM_TRY(need_tokenizer(m, err));
    rm_strbuf b = {0};
    return give(out, &b, rm_tok_decode(m->tok, token, n, true, true, &b, err), err);
}

rmas_status rmas_model_render_chat(const rmas_model *m, const char *system, const char *user, char **out, rmas_error *err) {
    *out = NULL;
    if (!m->chat) return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: the model has no chat template", m->path);
    rm_strbuf b = {0};
    return give(out, &b, rm_chat_render(m->chat, system, user, strlen(user), &b, err), err);
}

/* ---- link ------------------------------------------------------------------------------------------------------------- */

static rmas_status wrap(rmas_link **out, rmas_status s, rm_link *link, rmas_error *err) {
    *out = NULL;
    if (s != RMAS_OK) return s;
    rmas_link *l = RM_NEW(rmas_link);
    if (!l) {
        rm_link_close(link);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for a link");
    }
    l->link = link;
    *out = l;
    return RMAS_OK;
}

rmas_status rmas_link_open(rmas_link **out, rmas_engine *e, const char *path, rmas_precision p, rmas_error *err) {
    rm_link *link = NULL;
    rmas_status s = rm_link_open(&link, e->exec, path, NULL, rm_api_precision(p), err);
    return wrap(out, s, link, err);
}

rmas_status rmas_link_new(rmas_link **out, rmas_engine *e, int d_src, int d_dst, int inner, uint64_t seed, rmas_error *err) {
    rm_link *link = NULL;
    if (inner && d_src != d_dst) {
        *out = NULL;
        return rm_fail(err, RMAS_E_ARG, "an inner link has one width, not %d and %d", d_src, d_dst);
    }
    rmas_status s = rm_link_new(&link, e->exec, inner ? "ln_res_adapter" : "outer_ln_res_adapter", d_src, d_dst, seed, err);
    return wrap(out, s, link, err);
}

rmas_status rmas_link_save(const rmas_link *l, const char *path, rmas_error *err) { return rm_link_save(l->link, path, err); }

void rmas_link_close(rmas_link *l) {
    if (!l) return;
    rm_link_close(l->link);
    rm_free(l);
}

int rmas_link_d_src(const rmas_link *l) { return rm_link_d_in(l->link); }
int rmas_link_d_dst(const rmas_link *l) { return rm_link_d_out(l->link); }

rmas_status rmas_link_apply(const rmas_link *l, const float *x, int n, float *y, rmas_error *err) { return rm_link_apply(l->link, x, n, y, err); }
