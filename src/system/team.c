/* Opening the agents of a system, each model once, and checking that everything fits together. */
#include "system/team.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "util/file.h"
#include "util/mem.h"
#include "util/rng.h"

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

uint64_t rm_link_seed(uint64_t seed, const char *what, const char *name) {
    uint64_t h = rm_mix64(seed + 0x9E3779B97F4A7C15u);
    for (const char *s = what; *s; s++) h = rm_mix64(h ^ (unsigned char)*s);
    for (const char *s = name; *s; s++) h = rm_mix64(h ^ (unsigned char)*s);
    return h;
}

static rmas_status check_kind(const rm_link *l, bool want_inner, const char *path, rmas_error *err) {
    bool inner = false;
    if (rm_link_type_known(rm_link_type(l), &inner) && inner == want_inner) return RMAS_OK;
    return rm_fail(err, RMAS_E_FORMAT, "%s: a link of type %s, expected an %s link", path, rm_link_type(l), want_inner ? "inner" : "outer");
}

static rmas_status open_inner(rm_team *t, int i, const rm_files *f, rm_precision p, rmas_error *err) {
    rm_agent *a = &t->agent[i];
    const char *path = f->agent[i].inner;
    if (!path)
        return rm_link_new(&a->inner, t->exec, "ln_res_adapter", a->d_model, a->d_model, rm_link_seed(t->sys->init_seed, "inner ", a->role), err);
    RM_TRY(rm_link_open(&a->inner, t->exec, path, f->agent[i].inner_type, p, err));
    RM_TRY(check_kind(a->inner, true, path, err));
    if (rm_link_d_in(a->inner) != a->d_model)
        return rm_fail(err, RMAS_E_SHAPE, "%s: inner link of %s is %d wide, its model %s is %d wide", path, a->role, rm_link_d_in(a->inner), a->path,
                       a->d_model);
    return RMAS_OK;
}

static rmas_status open_outer(rm_team *t, int i, const rm_files *f, rm_precision p, rmas_error *err) {
    const rm_edge_spec *e = &t->sys->edge[i];
    const rm_agent *from = &t->agent[e->from], *to = &t->agent[e->to];
    const char *path = f->edge[i].file;
    rm_link **l = &t->outer[i];
    if (!path)
        return rm_link_new(l, t->exec, "outer_ln_res_adapter", from->d_model, to->d_model, rm_link_seed(t->sys->init_seed, "outer ", e->key), err);
    RM_TRY(rm_link_open(l, t->exec, path, f->edge[i].type, p, err));
    RM_TRY(check_kind(*l, false, path, err));
    if (rm_link_d_in(*l) != from->d_model || rm_link_d_out(*l) != to->d_model)
        return rm_fail(err, RMAS_E_SHAPE, "%s: link %s goes from width %d to %d, but %s is %d and %s is %d wide", path, e->key, rm_link_d_in(*l),
                       rm_link_d_out(*l), from->role, from->d_model, to->role, to->d_model);
    return RMAS_OK;
}

static rmas_status open_model(rm_team *t, int i, rm_precision p, rmas_error *err) {
    rm_agent *a = &t->agent[i];
    for (int k = 0; k < i && a->shared_with < 0; k++) {
        bool same = false;
        if (t->agent[k].shared_with < 0) RM_TRY(rm_same_model(a->path, t->agent[k].path, &same, err));
        if (same) a->shared_with = k;
    }
    if (a->shared_with >= 0) {
        a->model = t->agent[a->shared_with].model;
        a->batch = t->agent[a->shared_with].batch;
    } else {
        rm_model *m;
        RM_TRY(rm_model_open(&m, t->exec, a->path, p, err));
        a->model = m;
        RM_TRY(rm_batch_new(&a->batch, m, err));
    }
    a->d_model = rm_model_config(a->model)->d_model;
    a->n_vocab = rm_model_config(a->model)->n_vocab;
    return RMAS_OK;
}

static rmas_status open_agent(rm_team *t, int i, const rm_files *f, const rm_team_options *o, rmas_error *err) {
    rm_agent *a = &t->agent[i];
    a->role = t->sys->agent[i].role;
    a->path = f->agent[i].model;
    for (int k = 0; k < i && !a->same_path; k++) {
        if (strcmp(a->path, t->agent[k].path)) continue;
        a->same_path = true;
        a->tok = t->agent[k].tok;
        a->chat = t->agent[k].chat;
    }
    if (!a->same_path) RM_TRY(rm_tok_open(&a->tok, a->path, err));
    a->eos = rm_tok_eos(a->tok);
    a->pad = rm_tok_pad(a->tok) >= 0 ? rm_tok_pad(a->tok) : a->eos;
    if (a->pad < 0) return rm_fail(err, RMAS_E_FORMAT, "%s: the tokenizer of %s names neither an end token nor a padding token", a->path, a->role);
    if (!a->same_path) RM_TRY(rm_chat_new(&a->chat, a->tok, &o->chat, a->path, err));
    RM_TRY(rm_generation_config_read(&a->gen, a->path, err));
    RM_TRY(open_model(t, i, o->precision, err));
    return o->links && t->sys->n_edge ? open_inner(t, i, f, o->precision, err) : RMAS_OK;
}

void rm_team_close(rm_team *t) {
    if (!t) return;
    for (int i = 0; i < t->n_agent; i++) {
        rm_agent *a = &t->agent[i];
        if (!a->same_path) rm_tok_close(a->tok);
        if (!a->same_path) rm_chat_free(a->chat);
        rm_link_close(a->inner);
        rm_free(a->gen.end);
        if (a->shared_with >= 0) continue;
        rm_batch_free(a->batch);
        rm_model_close((rm_model *)(uintptr_t)a->model);
    }
    for (int e = 0; t->outer && e < t->n_edge; e++) rm_link_close(t->outer[e]);
    rm_free(t->agent);
    rm_free(t->outer);
    rm_free(t);
}

static rmas_status open_all(rm_team *t, const rm_files *f, const rm_team_options *o, rmas_error *err) {
    for (int i = 0; i < t->n_agent; i++) t->agent[i].shared_with = -1;
    for (int i = 0; i < t->n_agent; i++) RM_TRY(open_agent(t, i, f, o, err));
    for (int e = 0; o->links && e < t->n_edge; e++) RM_TRY(open_outer(t, e, f, o->precision, err));
    return RMAS_OK;
}

rmas_status rm_team_open(rm_team **out, rm_exec *e, const rm_system *s, const rm_files *f, const rm_team_options *o, rmas_error *err) {
    rm_team *t = *out = RM_NEW(rm_team);
    if (!t) return nomem(err);
    t->sys = s;
    t->exec = e;
    t->agent = rm_calloc((size_t)s->n_agent, sizeof *t->agent);
    t->outer = rm_calloc((size_t)s->n_edge, sizeof *t->outer);
    t->n_agent = t->agent ? s->n_agent : 0;
    t->n_edge = t->outer ? s->n_edge : 0;
    rmas_status st = t->agent && t->outer ? open_all(t, f, o, err) : nomem(err);
    if (st != RMAS_OK) {
        rm_team_close(t);
        *out = NULL;
    }
    return st;
}

bool rm_agent_is_end(const rm_agent *a, int32_t id) {
    if (id == a->eos) return true;
    for (int i = 0; i < a->gen.n_end; i++)
        if (a->gen.end[i] == id) return true;
    return false;
}

/* ---- rmas resolve ----------------------------------------------------------------------------------------------------- */

static const char *dtype_name(rm_dtype t) {
    switch (t) {
    case RM_F32: return "float32";
    case RM_F16: return "float16";
    case RM_BF16: return "bfloat16";
    default: return rm_dtype_get(t)->name;
    }
}

/* model_type as config.json says it (that of the whole, not of the text part); a GGUF file has only the latter. */
static void model_type(const rm_agent *a, char *out, size_t n) {
    snprintf(out, n, "%s", rm_model_config(a->model)->model_type);
    if (!rm_path_is_dir(a->path)) return;
    char *path = rm_path_join(a->path, "config.json"), *text = NULL;
    size_t len;
    if (path && rm_file_read(&text, &len, path, 1 << 20, NULL) == RMAS_OK) {
        json_t *o = json_loadb(text, len, 0, NULL);
        const char *type = json_string_value(json_object_get(o, "model_type"));
        if (type) snprintf(out, n, "%s", type);
        json_decref(o);
    }
    rm_free(text);
    rm_free(path);
}

static json_t *id_or_null(int32_t id) { return id >= 0 ? json_integer(id) : json_null(); }

rmas_status rm_team_describe(json_t **out, const rm_team *t, const rm_files *f, rmas_error *err) {
    json_t *agents = json_object(), *outer = json_object();
    for (int i = 0; i < t->n_agent; i++) {
        const rm_agent *a = &t->agent[i];
        char type[64];
        model_type(a, type, sizeof type);
        json_t *o = json_pack("{s:s, s:s?, s:i, s:s, s:s, s:s?, s:o, s:o}", "folder", a->path, "inner_link", f->agent[i].inner, "width", a->d_model,
                              "model_type", type, "model_dtype", dtype_name(rm_model_dtype(a->model)), "link_dtype",
                              a->inner ? dtype_name(rm_link_dtype(a->inner)) : NULL, "eos", id_or_null(a->eos), "pad", id_or_null(a->pad));
        if (o && a->shared_with >= 0) json_object_set_new(o, "shares_weights_with", json_string(t->agent[a->shared_with].role));
        if (o && t->sys->has_init_seed && a->inner && !f->agent[i].inner)
            json_object_set_new(o, "init_seed", json_integer((json_int_t)t->sys->init_seed));
        json_object_set_new(agents, a->role, o);
    }
    for (int e = 0; e < t->n_edge; e++) {
        const rm_edge_spec *x = &t->sys->edge[e];
        const rm_link *l = t->outer[e];
        if (!l) continue;
        json_t *o = json_pack("{s:s?, s:s, s:s, s:i, s:i, s:s}", "file", f->edge[e].file, "from", t->agent[x->from].role, "to", t->agent[x->to].role,
                              "in_dim", rm_link_d_in(l), "out_dim", rm_link_d_out(l), "dtype", dtype_name(rm_link_dtype(l)));
        if (o && x->feedback) json_object_set_new(o, "feedback", json_true());
        if (o && !f->edge[e].file) json_object_set_new(o, "init_seed", json_integer((json_int_t)t->sys->init_seed));
        json_object_set_new(outer, x->key, o);
    }
    *out = json_pack("{s:s, s:o, s:o}", "family", t->sys->family, "agents", agents, "outer_links", outer);
    return *out ? RMAS_OK : nomem(err);
}
