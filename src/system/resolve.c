/* Finding the parts of a system: overrides, manifest paths, the models folder, the Hugging Face cache, the release layout. */
#include "system/resolve.h"

#include <stdlib.h>
#include <string.h>

#include "hub/hub.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/strbuf.h"

#define INNER "/inner" /* ROLE/inner overrides the inner link alone */
enum { MAX_JSON = 4 << 20, INNER_LENGTH = sizeof INNER - 1 };

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

static rmas_status load_json(json_t **out, const char *path, rmas_error *err) {
    char *text;
    size_t n;
    json_error_t je;
    *out = NULL;
    RM_TRY(rm_file_read(&text, &n, path, MAX_JSON, err));
    *out = json_loadb(text, n, 0, &je);
    rm_free(text);
    if (!*out) return rm_fail(err, RMAS_E_FORMAT, "%s: line %d: %s", path, je.line, je.text);
    if (json_is_object(*out)) return RMAS_OK;
    json_decref(*out);
    *out = NULL;
    return rm_fail(err, RMAS_E_FORMAT, "%s: not a JSON object", path);
}

/* ---- what is missing ------------------------------------------------------------------------------------------------- */

typedef struct {
    const rm_system *s;
    const rm_resolve_options *o;
    rm_strbuf missing; /* "planner (RecursiveMAS/...); ..." */
    int n_missing;
    bool looked; /* a model of a manifest is missing: the message says where was looked */
} finder;

static void miss(finder *f, const char *what, const char *where) {
    rm_strbuf_printf(&f->missing, "%s%s%s%s%s", f->n_missing++ ? "; " : "", what, where ? " (" : "", where ? where : "", where ? ")" : "");
}

/* The path given for KEY, or for KEY/inner (end: "" or INNER). */
static const char *override_end(const finder *f, const char *key, const char *end) {
    size_t n = strlen(key), k = strlen(end);
    const char *found = NULL;
    for (int i = 0; i < f->o->n_override; i++) {
        const char *text = f->o->override[i];
        if (!strncmp(text, key, n) && !strncmp(text + n, end, k) && text[n + k] == '=') found = text + n + k + 1;
    }
    return found;
}

static const char *override_of(const finder *f, const char *key) { return override_end(f, key, ""); }

static rmas_status check_overrides(const finder *f, rmas_error *err) {
    for (int i = 0; i < f->o->n_override; i++) {
        const char *text = f->o->override[i], *eq = strchr(text, '=');
        if (!eq || eq == text || !eq[1]) return rm_fail(err, RMAS_E_ARG, "--ckpt_override %s: must have the form KEY=PATH", text);
        size_t n = (size_t)(eq - text);
        bool known = !strncmp(text, "outer=", 6) && f->s->n_edge > 0;
        if (n > INNER_LENGTH && !strncmp(eq - INNER_LENGTH, INNER, INNER_LENGTH)) n -= INNER_LENGTH;
        for (int a = 0; a < f->s->n_agent; a++) known |= strlen(f->s->agent[a].role) == n && !strncmp(f->s->agent[a].role, text, n);
        if (known) continue;
        rm_strbuf b = {0};
        for (int a = 0; a < f->s->n_agent; a++) rm_strbuf_printf(&b, "%s%s", a ? ", " : "", f->s->agent[a].role);
        rmas_status st = rm_fail(err, RMAS_E_ARG, "--ckpt_override %s: %s has %s%s", text, f->s->name, rm_str(&b),
                                 f->s->n_edge ? ", outer, and /inner behind a role for its inner link" : "");
        rm_strbuf_free(&b);
        return st;
    }
    return RMAS_OK;
}

/* ---- models ---------------------------------------------------------------------------------------------------------- */

/* Sets *out to dir/name if that exists. */
static rmas_status try_path(char **out, const char *dir, const char *name, rmas_error *err) {
    char *p = rm_path_join(dir, name);
    if (!p) return nomem(err);
    if (rm_path_exists(p))
        *out = p;
    else
        rm_free(p);
    return RMAS_OK;
}

static rmas_status find_in_hub(char **out, const char *repo, rmas_error *err) {
    *out = NULL;
    if (!rm_hub_is_repo(repo)) return RMAS_OK;
    rmas_status st = rm_hub_snapshot(out, repo, err);
    return st == RMAS_E_IO ? RMAS_OK : st; /* not in the cache: the caller goes on looking, or says that it is missing */
}

/* A model as a manifest names it; *out stays NULL if it is nowhere. */
static rmas_status find_model(char **out, const rm_system *s, const char *name, rmas_error *err) {
    const char *env = getenv("RMAS_MODELS"), *home = getenv("HOME");
    *out = NULL;
    RM_TRY(try_path(out, s->dir ? s->dir : ".", name, err));
    if (!*out && env && *env) RM_TRY(try_path(out, env, name, err));
    if (!*out && home && *home) {
        char *dir = rm_path_join(home, ".cache/rmas/models");
        if (!dir) return nomem(err);
        rmas_status st = try_path(out, dir, name, err);
        rm_free(dir);
        RM_TRY(st);
    }
    return *out ? RMAS_OK : find_in_hub(out, name, err);
}

static bool holds(const char *folder, const char *name) {
    char *p = rm_path_join(folder, name);
    bool there = p && rm_path_exists(p);
    rm_free(p);
    return there;
}

/* What `rmas train inner` writes. */
static bool is_link_alone(const char *path) { return rm_path_is_dir(path) && !holds(path, "config.json") && holds(path, "adapter.pt"); }

static rmas_status locate_model(finder *f, int i, char **out, rmas_error *err) {
    const rm_agent_spec *a = &f->s->agent[i];
    const char *override = override_of(f, a->role);
    if (override) {
        RM_TRY(try_path(out, ".", override, err));
        if (!*out) {
            rm_strbuf b = {0};
            rm_strbuf_printf(&b, "%s does not exist%s%s", override, a->repo ? "; published as " : "", a->repo ? a->repo : "");
            miss(f, a->role, rm_str(&b));
            rm_strbuf_free(&b);
        } else if (is_link_alone(*out)) {
            rm_strbuf b = {0};
            rm_strbuf_printf(&b, "%s holds an inner link, not a model; %s%s=%s takes the link", override, a->role, INNER, override);
            miss(f, a->role, rm_str(&b));
            rm_strbuf_free(&b);
        }
    } else if (a->model) {
        RM_TRY(find_model(out, f->s, a->model, err));
        if (!*out) {
            rm_strbuf b = {0};
            rm_strbuf_printf(&b, "%s%s%s", a->model, a->hint ? "; " : "", a->hint ? a->hint : "");
            f->looked = true;
            miss(f, a->role, rm_str(&b));
            rm_strbuf_free(&b);
        }
    } else if (a->repo) {
        RM_TRY(find_in_hub(out, a->repo, err));
        if (!*out) miss(f, a->role, a->repo);
    } else {
        miss(f, a->role, "no model named");
    }
    return RMAS_OK;
}

rmas_status rm_system_model(char **out, const rm_system *s, int agent, const char *const *override, int n_override, rmas_error *err) {
    finder f = {.s = s, .o = &(rm_resolve_options){.override = override, .n_override = n_override}};
    *out = NULL;
    rmas_status st = locate_model(&f, agent, out, err);
    if (st == RMAS_OK && f.n_missing)
        st = rm_fail(err, RMAS_E_IO, "%s: the model of %s is missing: %s", s->name, s->agent[agent].role, rm_str(&f.missing));
    if (st != RMAS_OK) {
        rm_free(*out);
        *out = NULL;
    }
    rm_strbuf_free(&f.missing);
    return st;
}

/* ---- inner links ----------------------------------------------------------------------------------------------------- */

static const char *const task_name[RM_N_LINK_TASK] = {"math", "code"};

/* The release rules: innerlink_config.json, adapter(task).pt, adapter.pt. *out is a name that need not exist. */
static rmas_status inner_name(const char *folder, bool by_task, rm_link_task task, char **out, rmas_error *err) {
    char *config = rm_path_join(folder, "innerlink_config.json"), special[32], *file = NULL;
    const char *name = NULL;
    json_t *o = NULL;
    rmas_status st = config ? RMAS_OK : nomem(err);
    if (st == RMAS_OK && by_task && rm_path_exists(config)) {
        st = load_json(&o, config, err);
        json_t *entry = json_object_get(json_object_get(o, "tasks"), task_name[task]);
        if (entry) {
            const json_t *value = json_object_get(entry, "adapter.pt");
            name = value ? json_string_value(value) : "adapter.pt";
            if (!name || !*name) st = rm_fail(err, RMAS_E_FORMAT, "%s: tasks.%s: 'adapter.pt' must be a file name", config, task_name[task]);
        }
    }
    if (st == RMAS_OK && by_task && !name) {
        snprintf(special, sizeof special, "adapter(%s).pt", task_name[task]);
        st = try_path(&file, folder, special, err);
    }
    if (st == RMAS_OK && !file) {
        file = rm_path_join(folder, name ? name : "adapter.pt");
        if (!file) st = nomem(err);
    }
    json_decref(o);
    rm_free(config);
    *out = file;
    return st;
}

/* The adapter type that adapter_config.json beside a link states. */
static rmas_status type_beside(const char *link, char **out, rmas_error *err) {
    char *dir = rm_strdup(link), *slash = dir ? strrchr(dir, '/') : NULL, *path = NULL;
    json_t *o = NULL;
    *out = NULL;
    if (slash) *slash = 0;
    path = dir ? rm_path_join(slash ? dir : ".", "adapter_config.json") : NULL;
    rmas_status st = path ? RMAS_OK : nomem(err);
    if (st == RMAS_OK && rm_path_exists(path)) st = load_json(&o, path, err);
    const json_t *type = json_object_get(o, "adapter_type");
    if (st == RMAS_OK && type) {
        if (!json_is_string(type))
            st = rm_fail(err, RMAS_E_FORMAT, "%s: 'adapter_type' must be a text", path);
        else if (!(*out = rm_strdup(json_string_value(type))))
            st = nomem(err);
    }
    json_decref(o);
    rm_free(path);
    rm_free(dir);
    return st;
}

static rmas_status locate_inner(finder *f, int i, rm_files *out, rmas_error *err) {
    const rm_agent_spec *a = &f->s->agent[i];
    const char *given = a->inner[f->o->task], *model = out->agent[i].model;
    const char *override = override_end(f, a->role, INNER);
    char *file = NULL;
    if (override) {
        given = override;
        file = !rm_path_is_dir(override) ? rm_strdup(override)
                                         : rm_path_join(override, holds(override, "adapter.pt") ? "adapter.pt" : "adapter.safetensors");
        if (!file) return nomem(err);
    } else if (given) {
        file = rm_path_join(f->s->dir ? f->s->dir : ".", given);
        if (!file) return nomem(err);
    } else if (model && rm_path_is_dir(model)) {
        RM_TRY(inner_name(model, f->s->by_task, f->o->task, &file, err));
    } else if (model && override_of(f, a->role)) { /* a .gguf file put in the place of a release folder: links lie beside it */
        char *dir = rm_strdup(model), *slash = dir ? strrchr(dir, '/') : NULL;
        if (!dir) return nomem(err);
        if (slash) *slash = 0;
        rmas_status st = inner_name(slash ? dir : ".", f->s->by_task, f->o->task, &file, err);
        rm_free(dir);
        RM_TRY(st);
    }
    if (file && rm_path_exists(file)) {
        out->agent[i].inner = file;
        return type_beside(file, &out->agent[i].inner_type, err);
    }
    if (f->s->has_init_seed && !given) {
        rm_free(file);
        out->n_seeded++;
        return RMAS_OK;
    }
    if (model) { /* without a model there is one complaint already */
        rm_strbuf b = {0};
        rm_strbuf_printf(&b, "inner link of %s", a->role);
        miss(f, rm_str(&b), file ? file : "no file named, and no init_seed to make one from");
        rm_strbuf_free(&b);
    }
    rm_free(file);
    return RMAS_OK;
}

/* ---- outer links ----------------------------------------------------------------------------------------------------- */

static rmas_status outer_folder(finder *f, char **out, rmas_error *err) {
    const rm_system *s = f->s;
    const char *override = override_of(f, "outer");
    *out = NULL;
    if (override) {
        RM_TRY(try_path(out, ".", override, err));
        if (!*out) miss(f, "outer", override);
    } else if (s->outer) {
        RM_TRY(try_path(out, s->dir ? s->dir : ".", s->outer, err));
        if (!*out) miss(f, "outer", s->outer);
    } else if (s->outer_repo && !s->dir) {
        RM_TRY(find_in_hub(out, s->outer_repo, err));
        if (!*out) miss(f, "outer", s->outer_repo);
    }
    return RMAS_OK;
}

/* The list of links of this run in outerlink_config.json (borrowed from o). */
static rmas_status manifest_items(const finder *f, const json_t *o, const char *path, const json_t **items, rmas_error *err) {
    const json_t *tasks = json_object_get(o, "tasks"), *from = o;
    if (tasks) {
        if (!f->s->by_task)
            return rm_fail(err, RMAS_E_FORMAT, "%s: the links are listed by task, but those of %s do not depend on the task", path, f->s->name);
        from = json_object_get(tasks, task_name[f->o->task]);
        if (!from) return rm_fail(err, RMAS_E_FORMAT, "%s: no links for the task '%s'", path, task_name[f->o->task]);
    }
    *items = json_object_get(from, "adapters");
    if (!json_is_array(*items) || !json_array_size(*items)) return rm_fail(err, RMAS_E_FORMAT, "%s: 'adapters' lists no links", path);
    return RMAS_OK;
}

/* Type of a link: its item's adapter_type, else KEY_type in outer_adapter_config.json (types may be NULL). */
static const char *stated_type(const json_t *item, const json_t *types, const char *key) {
    const char *type = json_string_value(json_object_get(item, "adapter_type"));
    if (type || !types) return type;
    char name[128];
    snprintf(name, sizeof name, "%.100s_type", key);
    return json_string_value(json_object_get(types, name));
}

static rmas_status edge_from_items(finder *f, int e, const char *folder, const json_t *items, const json_t *types, rm_files *out, rmas_error *err) {
    const char *key = f->s->edge[e].key;
    json_t *item;
    size_t i;
    json_array_foreach((json_t *)items, i, item) {
        const char *k = json_string_value(json_object_get(item, "legacy_key")), *name = json_string_value(json_object_get(item, "filename"));
        if (!k || strcmp(k, key)) continue;
        if (!name || !*name) return rm_fail(err, RMAS_E_FORMAT, "%s/outerlink_config.json: %s: 'filename' is missing", folder, key);
        const char *type = stated_type(item, types, key);
        rm_free(out->edge[e].file);
        rm_free(out->edge[e].type);
        out->edge[e].file = rm_path_join(folder, name);
        out->edge[e].type = type ? rm_strdup(type) : NULL;
        if (!out->edge[e].file || (type && !out->edge[e].type)) return nomem(err);
    }
    if (!out->edge[e].file) return rm_fail(err, RMAS_E_FORMAT, "%s/outerlink_config.json: no link %s", folder, key);
    return RMAS_OK;
}

static rmas_status locate_from_folder(finder *f, const char *folder, rm_files *out, rmas_error *err) {
    char *path = rm_path_join(folder, "outerlink_config.json"), *types_path = rm_path_join(folder, "outer_adapter_config.json");
    json_t *o = NULL, *types = NULL;
    const json_t *items = NULL;
    rmas_status st = path && types_path ? load_json(&o, path, err) : nomem(err);
    if (st == RMAS_OK && rm_path_exists(types_path)) st = load_json(&types, types_path, err);
    if (st == RMAS_OK) st = manifest_items(f, o, path, &items, err);
    for (int e = 0; st == RMAS_OK && e < f->s->n_edge; e++)
        if (!f->s->edge[e].file[f->o->task]) st = edge_from_items(f, e, folder, items, types, out, err);
    json_decref(o);
    json_decref(types);
    rm_free(path);
    rm_free(types_path);
    return st;
}

static rmas_status locate_outer(finder *f, rm_files *out, rmas_error *err) {
    const rm_system *s = f->s;
    char *folder = NULL;
    bool all_given = true;
    for (int e = 0; e < s->n_edge; e++) {
        const char *file = s->edge[e].file[f->o->task];
        if (!file) {
            all_given = false;
            continue;
        }
        out->edge[e].file = rm_path_join(s->dir ? s->dir : ".", file);
        if (!out->edge[e].file) return nomem(err);
    }
    if (!all_given || override_of(f, "outer")) {
        int before = f->n_missing;
        RM_TRY(outer_folder(f, &folder, err));
        rmas_status st = folder ? locate_from_folder(f, folder, out, err) : RMAS_OK;
        rm_free(folder);
        RM_TRY(st);
        if (f->n_missing > before) return RMAS_OK;
    }
    for (int e = 0; e < s->n_edge; e++) {
        const char *file = out->edge[e].file;
        if (file && rm_path_exists(file)) continue;
        if (!file && s->has_init_seed) {
            out->n_seeded++;
            continue;
        }
        rm_strbuf b = {0};
        rm_strbuf_printf(&b, "link %s", s->edge[e].key);
        miss(f, rm_str(&b), file ? file : "no file named, and no init_seed to make one from");
        rm_strbuf_free(&b);
    }
    return RMAS_OK;
}

/* ---- all together ---------------------------------------------------------------------------------------------------- */

rm_link_task rm_link_task_of_dataset(const char *dataset) {
    return dataset && (!strcmp(dataset, "mbppplus") || !strcmp(dataset, "livecodebench")) ? RM_LINKS_CODE : RM_LINKS_MATH;
}

void rm_files_free(rm_files *f) {
    for (int i = 0; i < f->n_agent; i++) {
        rm_free(f->agent[i].model);
        rm_free(f->agent[i].inner);
        rm_free(f->agent[i].inner_type);
    }
    for (int e = 0; e < f->n_edge; e++) {
        rm_free(f->edge[e].file);
        rm_free(f->edge[e].type);
    }
    rm_free(f->agent);
    rm_free(f->edge);
    *f = (rm_files){0};
}

static rmas_status locate_all(finder *f, rm_files *out, rmas_error *err) {
    RM_TRY(check_overrides(f, err));
    for (int i = 0; i < f->s->n_agent; i++) RM_TRY(locate_model(f, i, &out->agent[i].model, err));
    if (f->o->links && f->s->n_edge) {
        for (int i = 0; i < f->s->n_agent; i++) RM_TRY(locate_inner(f, i, out, err));
        RM_TRY(locate_outer(f, out, err));
    }
    if (f->n_missing)
        return rm_fail(err, RMAS_E_IO, "%s lacks: %s%s", f->s->name, rm_str(&f->missing),
                       f->looked ? " - looked beside system.json, in RMAS_MODELS and in ~/.cache/rmas/models" : "");
    return RMAS_OK;
}

rmas_status rm_system_locate(rm_files *out, const rm_system *s, const rm_resolve_options *o, rmas_error *err) {
    *out = (rm_files){.agent = rm_calloc((size_t)s->n_agent, sizeof *out->agent), .edge = rm_calloc((size_t)s->n_edge, sizeof *out->edge)};
    finder f = {.s = s, .o = o};
    out->n_agent = out->agent ? s->n_agent : 0;
    out->n_edge = out->edge ? s->n_edge : 0;
    rmas_status st = out->agent && out->edge ? locate_all(&f, out, err) : nomem(err);
    rm_strbuf_free(&f.missing);
    if (st != RMAS_OK) rm_files_free(out);
    return st;
}

/* ---- generation_config.json ------------------------------------------------------------------------------------------ */

rmas_status rm_generation_config_read(rm_generation_config *out, const char *model, rmas_error *err) {
    *out = (rm_generation_config){.top_k = -1, .min_p = -1};
    char *path = rm_path_is_dir(model) ? rm_path_join(model, "generation_config.json") : NULL;
    json_t *o = NULL;
    rmas_status st = RMAS_OK;
    if (path && rm_path_exists(path)) st = load_json(&o, path, err);
    rm_free(path);
    RM_TRY(st);
    const json_t *v = json_object_get(o, "top_k");
    if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < INT32_MAX) out->top_k = (int)json_integer_value(v);
    v = json_object_get(o, "min_p");
    if (json_is_number(v) && json_number_value(v) >= 0) out->min_p = (float)json_number_value(v);
    v = json_object_get(o, "num_beams");
    if (json_is_integer(v) && json_integer_value(v) > 1) snprintf(out->odd, sizeof out->odd, "num_beams %d", (int)json_integer_value(v));
    v = json_object_get(o, "no_repeat_ngram_size");
    if (json_is_integer(v) && json_integer_value(v) > 0) snprintf(out->odd, sizeof out->odd, "no_repeat_ngram_size");
    v = json_object_get(o, "eos_token_id");
    size_t n = json_is_array(v) ? json_array_size(v) : json_is_integer(v) ? 1 : 0;
    out->end = n ? rm_array(n, sizeof *out->end) : NULL;
    for (size_t i = 0; out->end && i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_integer(id)) out->end[out->n_end++] = (int32_t)json_integer_value(id);
    }
    json_decref(o);
    return n && !out->end ? nomem(err) : RMAS_OK;
}
