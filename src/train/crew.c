#include "train/crew.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "hub/hub.h"
#include "system/memory.h"
#include "system/resolve.h"
#include "system/team.h"
#include "util/file.h"
#include "util/mem.h"

static rmas_status no_memory(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

/* ---- where things are ------------------------------------------------------------------------------------------------------ */

static const char *override_of(const rm_crew *t, const char *key) {
    size_t n = strlen(key);
    for (int i = t->n_override - 1; i >= 0; i--)
        if (!strncmp(t->override[i], key, n) && t->override[i][n] == '=') return t->override[i] + n + 1;
    return NULL;
}

static rmas_status take_overrides(rm_crew *t, const rm_crew_options *o, rmas_error *err) {
    t->override = rm_calloc((size_t)o->n_override + 1, sizeof *t->override);
    if (!t->override) return no_memory(err);
    for (int i = 0; i < o->n_override; i++) {
        const char *eq = strchr(o->override[i], '='), *what = "";
        if (!eq || eq == o->override[i] || !eq[1]) return rm_fail(err, RMAS_E_ARG, "--ckpt_override %s: expected KEY=PATH", o->override[i]);
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)(eq - o->override[i]), o->override[i]);
        char *slash = strstr(key, "/inner");
        if (slash) *slash = 0, what = "/inner";
        int number = 0, role = rm_train_role_find(&t->style, key);
        if (role < 0 && sscanf(key, "agent%d", &number) == 1 && number >= 1 && number <= t->style.n_role) role = number - 1;
        if (strcmp(key, "outer") != 0 && role < 0)
            return rm_fail(err, RMAS_E_ARG, "--ckpt_override %s: %s has no role '%s'", o->override[i], t->system->name, key);
        rm_strbuf b = {0};
        rm_strbuf_printf(&b, "%s%s%s", role < 0 ? "outer" : t->style.role[role].name, what, eq);
        if (!(t->override[t->n_override++] = rm_strbuf_take(&b))) return no_memory(err);
    }
    return RMAS_OK;
}

/* A path of the manifest: relative to its folder. */
static char *in_system(const rm_system *s, const char *path) { return s->dir ? rm_path_join(s->dir, path) : rm_strdup(path); }

/* The folder of the outer links: a path, or a repository in the cache. */
static rmas_status outer_folder(char **out, const rm_system *s, const char *override, rmas_error *err) {
    const char *given = override ? override : s->outer;
    *out = override ? rm_strdup(override) : in_system(s, given);
    if (!*out) return no_memory(err);
    if (rm_path_exists(*out)) return RMAS_OK;
    rm_free(*out);
    *out = NULL;
    if (rm_hub_is_repo(given)) return rm_hub_snapshot(out, given, err);
    return rm_fail(err, RMAS_E_IO, "%s: no such folder (outer links of %s)", given, s->name);
}

static rmas_status read_object(json_t **out, const char *path, rmas_error *err) {
    char *text;
    size_t n;
    *out = NULL;
    RM_TRY(rm_file_read(&text, &n, path, 1 << 20, err));
    json_error_t je;
    *out = json_loadb(text, n, 0, &je);
    rm_free(text);
    if (json_is_object(*out)) return RMAS_OK;
    json_decref(*out);
    *out = NULL;
    return rm_fail(err, RMAS_E_FORMAT, "%s: expected a JSON object", path);
}

static char *beside(const char *dir, const char *name) {
    char *p = rm_path_join(dir, name);
    if (p && rm_path_exists(p)) return p;
    rm_free(p);
    return NULL;
}

/* The inner link in a role folder: innerlink_config.json, adapter(TASK).pt, adapter.pt. */
static rmas_status find_inner(rm_crew *t, rm_crew_agent *a, const rm_agent_spec *spec, rmas_error *err) {
    static const char *const task_word[] = {"math", "code"};
    if (spec->inner[t->link_task]) {
        a->inner_path = in_system(t->system, spec->inner[t->link_task]);
        if (!a->inner_path) return no_memory(err);
        if (!rm_path_exists(a->inner_path)) { /* to be trained yet */
            rm_free(a->inner_path);
            a->inner_path = NULL;
        }
        return RMAS_OK;
    }
    if (!rm_path_is_dir(a->path)) return RMAS_OK;
    char *table = t->system->by_task ? beside(a->path, "innerlink_config.json") : NULL;
    if (table) {
        json_t *root;
        rmas_status st = read_object(&root, table, err);
        rm_free(table);
        if (st != RMAS_OK) return st;
        json_t *entry = json_object_get(json_object_get(root, "tasks"), task_word[t->link_task]);
        const char *name = json_string_value(json_object_get(entry, "adapter.pt"));
        if (entry) a->inner_path = beside(a->path, name ? name : "adapter.pt");
        json_decref(root);
    }
    if (!a->inner_path && t->system->by_task) {
        char name[32];
        snprintf(name, sizeof name, "adapter(%s).pt", task_word[t->link_task]);
        a->inner_path = beside(a->path, name);
    }
    if (!a->inner_path) a->inner_path = beside(a->path, "adapter.pt");
    if (!a->inner_path) a->inner_path = beside(a->path, "adapter.safetensors");
    char *config = beside(a->path, "adapter_config.json");
    if (!config) return RMAS_OK;
    json_t *root;
    rmas_status st = read_object(&root, config, err);
    rm_free(config);
    if (st != RMAS_OK) return st;
    const char *type = json_string_value(json_object_get(root, "adapter_type"));
    if (type && !(a->inner_type = rm_strdup(type))) st = no_memory(err);
    json_decref(root);
    return st;
}

/* The files of the outer links: the manifest of the system, or outerlink_config.json of a folder. */
static rmas_status find_outer(rm_crew *t, const rm_crew_options *o, rmas_error *err) {
    static const char *const task_word[] = {"math", "code"};
    const rm_system *s = t->system;
    for (int e = 0; e < t->style.n_edge; e++) {
        if (!s->edge[e].file[t->link_task]) continue;
        char *p = in_system(s, s->edge[e].file[t->link_task]);
        if (!p) return no_memory(err);
        if (rm_path_exists(p))
            t->link[e].path = p;
        else
            rm_free(p);
    }
    const char *given = o->load_dir ? o->load_dir : override_of(t, "outer");
    if (!given && !s->outer) return RMAS_OK; /* links that are still to be trained */
    RM_TRY(outer_folder(&t->outer_dir, s, given, err));
    char *path = beside(t->outer_dir, "outerlink_config.json");
    if (!path) return given ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: no outerlink_config.json", t->outer_dir);
    json_t *root;
    rmas_status st = read_object(&root, path, err);
    json_t *tasks = st == RMAS_OK ? json_object_get(root, "tasks") : NULL;
    json_t *list = json_object_get(tasks ? json_object_get(tasks, task_word[t->link_task]) : root, "adapters");
    if (st == RMAS_OK && !json_is_array(list))
        st = rm_fail(err, RMAS_E_FORMAT, "%s: no list of adapters%s%s", path, tasks ? " for the task " : "", tasks ? task_word[t->link_task] : "");
    for (size_t i = 0; st == RMAS_OK && i < json_array_size(list); i++) {
        json_t *item = json_array_get(list, i);
        const char *key = json_string_value(json_object_get(item, "legacy_key")), *file = json_string_value(json_object_get(item, "filename"));
        const char *type = json_string_value(json_object_get(item, "adapter_type"));
        for (int e = 0; key && file && e < t->style.n_edge; e++) {
            if (strcmp(key, t->style.edge[e].key) != 0) continue;
            rm_free(t->link[e].path);
            rm_free(t->link[e].type);
            t->link[e].path = rm_path_join(t->outer_dir, file);
            t->link[e].type = type ? rm_strdup(type) : NULL;
            if (!t->link[e].path || (type && !t->link[e].type)) st = no_memory(err);
        }
    }
    json_decref(root);
    rm_free(path);
    return st;
}

/* An inner link that the command line names: a file, or a folder with adapter.pt. */
static rmas_status inner_elsewhere(rm_crew *t, rm_crew_agent *a, const char *role, rmas_error *err) {
    char key[96];
    snprintf(key, sizeof key, "%s/inner", role);
    const char *given = override_of(t, key);
    if (!given) return RMAS_OK;
    rm_free(a->inner_path);
    a->inner_path = rm_path_is_dir(given) ? beside(given, "adapter.pt") : rm_strdup(given);
    if (!a->inner_path) a->inner_path = beside(given, "adapter.safetensors");
    return a->inner_path ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: no adapter.pt in it (inner link of %s)", given, role);
}

static rmas_status open_agents(rm_crew *t, const rm_crew_options *o, rmas_error *err) {
    for (int r = 0; r < t->style.n_role; r++) {
        rm_crew_agent *a = &t->agent[r];
        const rm_agent_spec *spec = &t->system->agent[t->style.role[r].agent];
        a->same_as = r;
        if (t->only >= 0 && r != t->only) continue;
        RM_TRY(rm_system_model(&a->path, t->system, t->style.role[r].agent, (const char *const *)t->override, t->n_override, err));
        RM_TRY(find_inner(t, a, spec, err));
        RM_TRY(inner_elsewhere(t, a, spec->role, err));
        if (t->only >= 0 && o->load_dir) {
            rm_free(a->inner_path);
            a->inner_path = beside(o->load_dir, "adapter.pt");
            if (!a->inner_path) a->inner_path = beside(o->load_dir, "adapter.safetensors");
            if (!a->inner_path) return rm_fail(err, RMAS_E_IO, "--load_dir %s: no adapter.pt in it", o->load_dir);
        }
        for (int q = 0; q < r; q++)
            if (t->agent[q].path && !strcmp(t->agent[q].path, a->path)) {
                a->same_as = q;
                break;
            }
        if (a->same_as != r) {
            a->chat = t->agent[a->same_as].chat; /* borrowed */
            continue;
        }
        RM_TRY(rm_tok_open(&a->tok, a->path, err));
        RM_TRY(rm_train_chat_init(&a->chat, a->tok, a->path, o->enable_thinking, o->date, err));
    }
    return RMAS_OK;
}

rmas_status rm_crew_open(rm_crew **out, rm_exec *e, const rm_crew_options *o, rmas_error *err) {
    *out = NULL;
    rm_crew *t = RM_NEW(rm_crew);
    if (!t) return no_memory(err);
    t->exec = e;
    t->precision = o->precision;
    t->seed = o->seed;
    t->inner_type = o->inner_type;
    t->only = -1;
    t->link_task = o->task == RM_TASK_CODE ? RM_LINKS_CODE : RM_LINKS_MATH;
    rmas_status st = rm_system_find(&t->system, rm_train_style_name(o->system), err);
    if (st == RMAS_OK) st = rm_train_style_make(&t->style, t->system, err);
    if (st == RMAS_OK && o->only && (t->only = rm_train_role_find(&t->style, o->only)) < 0)
        st = rm_fail(err, RMAS_E_ARG, "%s has no role '%s'", t->system->name, o->only);
    if (st == RMAS_OK) st = take_overrides(t, o, err);
    char *pack = NULL;
    if (st == RMAS_OK && !o->prompts && t->system->prompts && !(pack = in_system(t->system, t->system->prompts))) st = no_memory(err);
    if (st == RMAS_OK) st = rm_pack_open(&t->pack, o->prompts ? o->prompts : pack, err);
    rm_free(pack);
    if (st == RMAS_OK) st = open_agents(t, o, err);
    if (st == RMAS_OK && t->only < 0) st = find_outer(t, o, err);
    if (st != RMAS_OK) {
        rm_crew_close(t);
        return st;
    }
    t->prompts = (rm_train_prompts){.pack = t->pack, .style = &t->style, .task = o->task, .option = o->option, .n_option = o->n_option};
    *out = t;
    return RMAS_OK;
}

void rm_crew_close(rm_crew *t) {
    if (!t) return;
    for (int r = 0; r < RM_TRAIN_ROLES; r++) {
        rm_crew_agent *a = &t->agent[r];
        rm_link_close(a->inner);
        if (a->tok) { /* its own, not borrowed */
            rm_batch_free(a->batch);
            rm_model_close(a->model);
            rm_train_chat_free(&a->chat);
            rm_tok_close(a->tok);
        }
        rm_free(a->path);
        rm_free(a->inner_path);
        rm_free(a->inner_type);
    }
    for (int e = 0; e < RM_TRAIN_EDGES; e++) {
        rm_link_close(t->link[e].link);
        rm_free(t->link[e].path);
        rm_free(t->link[e].type);
    }
    for (int i = 0; i < t->n_override; i++) rm_free(t->override[i]);
    rm_free(t->override);
    rm_free(t->outer_dir);
    rm_pack_close(t->pack);
    rm_system_free(t->system);
    rm_free(t);
}

/* ---- loading --------------------------------------------------------------------------------------------------------------- */

rmas_status rm_crew_load_model(rm_crew *t, int role, rmas_error *err) {
    rm_crew_agent *a = &t->agent[t->agent[role].same_as];
    if (a->model) return RMAS_OK;
    RM_TRY(rm_model_open(&a->model, t->exec, a->path, t->precision, err));
    return rm_batch_new(&a->batch, a->model, err);
}

rm_model *rm_crew_model(const rm_crew *t, int role) { return t->agent[t->agent[role].same_as].model; }
rm_batch *rm_crew_batch(const rm_crew *t, int role) { return t->agent[t->agent[role].same_as].batch; }
int rm_crew_width(const rm_crew *t, int role) { return rm_model_config(rm_crew_model(t, role))->d_model; }

static rmas_status check_width(const rm_link *l, const char *path, int in, int out, rmas_error *err) {
    if (rm_link_d_in(l) == in && rm_link_d_out(l) == out) return RMAS_OK;
    return rm_fail(err, RMAS_E_SHAPE, "%s: a link from %d to %d, the models' widths are %d and %d", path, rm_link_d_in(l), rm_link_d_out(l), in, out);
}

rmas_status rm_crew_load_inner(rm_crew *t, int role, rmas_error *err) {
    rm_crew_agent *a = &t->agent[role];
    if (a->inner) return RMAS_OK;
    RM_TRY(rm_crew_load_model(t, role, err));
    int d = rm_crew_width(t, role);
    if (!a->inner_path) {
        if (t->system->has_init_seed) /* the link that a run of this system would use */
            return rm_link_new(&a->inner, t->exec, "ln_res_adapter", d, d, rm_link_seed(t->system->init_seed, "inner ", t->style.role[role].name),
                               err);
        return rm_fail(err, RMAS_E_ARG, "%s: no inner link (adapter.pt) for the %s: train it first with 'rmas train inner'", a->path,
                       t->style.role[role].name);
    }
    rmas_status st = rm_link_open(&a->inner, t->exec, a->inner_path, a->inner_type, RM_EXACT, err);
    if (st == RMAS_E_ARG && !a->inner_type && t->inner_type) st = rm_link_open(&a->inner, t->exec, a->inner_path, t->inner_type, RM_EXACT, err);
    if (st != RMAS_OK) return st;
    return check_width(a->inner, a->inner_path, d, d, err);
}

rmas_status rm_crew_trained_inner(rm_crew *t, int role, rm_train_init init, const char *type, rm_link **out, rmas_error *err) {
    rm_crew_agent *a = &t->agent[role];
    *out = NULL;
    if (init == RM_INIT_CHECKPOINT && !a->inner_path && t->system->has_init_seed) {
        RM_TRY(rm_crew_load_model(t, role, err));
        int width = rm_crew_width(t, role);
        return rm_link_new(out, t->exec, "ln_res_adapter", width, width, rm_link_seed(t->system->init_seed, "inner ", t->style.role[role].name), err);
    }
    if (init == RM_INIT_CHECKPOINT) {
        if (!a->inner_path) return rm_fail(err, RMAS_E_ARG, "%s: no inner link to start from; --init random or aligned starts without", a->path);
        RM_TRY(rm_link_open(out, t->exec, a->inner_path, type ? type : a->inner_type, RM_EXACT, err));
        rmas_status st = rm_link_thaw(*out, err);
        if (st != RMAS_OK) {
            rm_link_close(*out);
            *out = NULL;
        }
        return st;
    }
    RM_TRY(rm_crew_load_model(t, role, err));
    int d = rm_crew_width(t, role);
    return rm_link_new(out, t->exec, type ? type : "ln_res_adapter", d, d, rm_link_seed(t->seed, "inner ", t->style.role[role].name), err);
}

rmas_status rm_crew_trained_outer(rm_crew *t, int edge, rm_train_init init, const char *type, rm_link **out, rmas_error *err) {
    rm_crew_link *l = &t->link[edge];
    const rm_train_edge *e = &t->style.edge[edge];
    *out = NULL;
    bool seeded = init == RM_INIT_CHECKPOINT && !l->path && t->system->has_init_seed;
    if (init == RM_INIT_CHECKPOINT && !seeded) {
        if (!l->path) return rm_fail(err, RMAS_E_ARG, "no file of the outer link %s to start from; --init random or aligned starts without", e->key);
        RM_TRY(rm_link_open(out, t->exec, l->path, type ? type : l->type, RM_EXACT, err));
        rmas_status st = rm_link_thaw(*out, err);
        if (st != RMAS_OK) {
            rm_link_close(*out);
            *out = NULL;
        }
        return st;
    }
    RM_TRY(rm_crew_load_model(t, e->from, err));
    RM_TRY(rm_crew_load_model(t, e->to, err));
    return rm_link_new(out, t->exec, type ? type : "outer_ln_res_adapter", rm_crew_width(t, e->from), rm_crew_width(t, e->to),
                       t->seed + 1000 + (uint64_t)edge, err);
}

/* ---- places and limits ------------------------------------------------------------------------------------------------------- */

rmas_status rm_crew_inner_place(const rm_crew *t, int role, char **out, rmas_error *err) {
    const rm_agent_spec *a = &t->system->agent[t->style.role[role].agent];
    *out = NULL;
    if (a->inner[t->link_task])
        *out = in_system(t->system, a->inner[t->link_task]);
    else if (t->agent[role].inner_path && rm_path_is_dir(t->agent[role].path))
        *out = rm_strdup(t->agent[role].inner_path);
    else if (rm_path_is_dir(t->agent[role].path))
        *out = rm_path_join(t->agent[role].path, "adapter.pt");
    else
        return rm_fail(err, RMAS_E_ARG,
                       "--in_place: %s names no file for the inner link of %s: add \"inner_link\": \"%s.safetensors\" to that agent in system.json",
                       t->system->name, a->role, a->role);
    return *out ? RMAS_OK : no_memory(err);
}

rmas_status rm_crew_outer_place(const rm_crew *t, int edge, char **out, rmas_error *err) {
    const rm_edge_spec *e = &t->system->edge[edge];
    *out = NULL;
    if (e->file[t->link_task])
        *out = in_system(t->system, e->file[t->link_task]);
    else if (t->link[edge].path)
        *out = rm_strdup(t->link[edge].path);
    else
        return rm_fail(err, RMAS_E_ARG, "--in_place: %s names no file for the link %s: add it to \"outer_links\" in system.json", t->system->name,
                       e->key);
    return *out ? RMAS_OK : no_memory(err);
}

rmas_status rm_crew_memory(const rm_crew *t, size_t need, double limit, const char *advice, rmas_error *err) {
    double have = (double)rm_memory_available();
    if (limit > 0) {
        double used = 0;
        for (int r = 0; r < t->style.n_role; r++)
            if (t->agent[r].same_as == r && t->agent[r].model) used += (double)rm_model_bytes(t->agent[r].model);
        have = limit - used;
    }
    if (have == 0 || (double)need <= have) return RMAS_OK;
    return rm_fail(err, RMAS_E_NOMEM, "training may need %.1f GB beside the models, and %.1f GB are free: %s", (double)need * 1e-9,
                   have > 0 ? have * 1e-9 : 0.0, advice);
}
