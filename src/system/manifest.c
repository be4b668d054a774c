/* Reading system.json (docs/SYSTEMS.md). Strict: an unknown key is an error, since it is most often a misspelt one. */
#include <string.h>

#include "system/system.h"
#include "util/file.h"
#include "util/mem.h"

enum { MAX_MANIFEST = 1 << 20 };

typedef struct {
    const char *path; /* for messages */
    rm_system *s;
    rmas_error *err;
} reader;

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

static rmas_status check_keys(const reader *r, const json_t *o, const char *where, const char *const *key, int n_key) {
    const char *k;
    json_t *v;
    json_object_foreach((json_t *)o, k, v) {
        int i = 0;
        while (i < n_key && strcmp(key[i], k)) i++;
        if (i < n_key) continue;
        char known[256] = "";
        for (i = 0; i < n_key; i++) {
            if (strlen(known) + strlen(key[i]) + 3 > sizeof known) break;
            strcat(strcat(known, i ? ", " : ""), key[i]);
        }
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: unknown key '%s'; known are %s", r->path, where, k, known);
    }
    return RMAS_OK;
}

/* An optional string: *out is NULL if the key is absent. */
static rmas_status get_string(const reader *r, const json_t *o, const char *where, const char *key, char **out) {
    const json_t *v = json_object_get(o, key);
    if (!v) return RMAS_OK;
    const char *text = json_string_value(v);
    if (!text || !*text || strlen(text) != json_string_length(v))
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: '%s' must be a text that is not empty", r->path, where, key);
    rm_free(*out);
    *out = rm_strdup(text);
    return *out ? RMAS_OK : nomem(r->err);
}

static rmas_status get_bool(const reader *r, const json_t *o, const char *where, const char *key, bool *out) {
    const json_t *v = json_object_get(o, key);
    if (!v) return RMAS_OK;
    if (!json_is_boolean(v)) return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: '%s' must be true or false", r->path, where, key);
    *out = json_is_true(v);
    return RMAS_OK;
}

/* A link: a file, or {"math": file, "code": file}. */
static rmas_status read_link(const reader *r, const json_t *v, const char *where, char *file[RM_N_LINK_TASK]) {
    static const char *const task[] = {"math", "code"};
    for (int t = 0; t < RM_N_LINK_TASK; t++) {
        const json_t *one = json_is_object(v) ? json_object_get(v, task[t]) : v;
        const char *text = json_string_value(one);
        if (!text || !*text)
            return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: a link must be a file name, or an object with one for \"math\" and one for \"code\"",
                           r->path, where);
        rm_free(file[t]);
        file[t] = rm_strdup(text);
        if (!file[t]) return nomem(r->err);
    }
    return json_is_object(v) ? check_keys(r, v, where, task, RM_N_LINK_TASK) : RMAS_OK;
}

static rmas_status read_agent(const reader *r, const char *role, const json_t *o, rm_agent_spec *a) {
    static const char *const keys[] = {"model", "inner_link", "hint", "tools"};
    char where[128];
    snprintf(where, sizeof where, "agents.%.100s", role);
    if (!json_is_object(o)) return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s must be an object", r->path, where);
    RM_TRY(check_keys(r, o, where, keys, RM_COUNT(keys)));
    RM_TRY(get_string(r, o, where, "model", &a->model));
    RM_TRY(get_string(r, o, where, "hint", &a->hint));
    RM_TRY(get_bool(r, o, where, "tools", &a->tools));
    const json_t *inner = json_object_get(o, "inner_link");
    if (inner) RM_TRY(read_link(r, inner, where, a->inner));
    return RMAS_OK;
}

static rmas_status read_agents(const reader *r, const json_t *agents) {
    rm_system *s = r->s;
    const char *role;
    json_t *o;
    if (!json_is_object(agents) || !json_object_size(agents))
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: 'agents' must be an object with one entry per role", r->path);
    if (s->style) { /* the roles are the style's */
        json_object_foreach((json_t *)agents, role, o) {
            int a = rm_system_agent(s, role);
            if (a < 0) return rm_fail(r->err, RMAS_E_FORMAT, "%s: agents.%.100s: style %s has no such role", r->path, role, s->style);
            RM_TRY(read_agent(r, role, o, &s->agent[a]));
        }
        return RMAS_OK;
    }
    if (json_object_size(agents) > RM_SYSTEM_MAX_AGENT)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: more than %d agents", r->path, RM_SYSTEM_MAX_AGENT);
    s->agent = rm_calloc(json_object_size(agents), sizeof *s->agent);
    if (!s->agent) return nomem(r->err);
    json_object_foreach((json_t *)agents, role, o) {
        rm_agent_spec *a = &s->agent[s->n_agent++];
        a->role = rm_strdup(role);
        if (!a->role) return nomem(r->err);
        RM_TRY(read_agent(r, role, o, a));
        if (!a->model) return rm_fail(r->err, RMAS_E_FORMAT, "%s: agents.%.100s: 'model' is missing", r->path, role);
    }
    return RMAS_OK;
}

static rmas_status read_edge(const reader *r, const json_t *o, size_t i, rm_edge_spec *e) {
    static const char *const keys[] = {"from", "to", "key", "link", "feedback"};
    char where[32], *from = NULL, *to = NULL;
    snprintf(where, sizeof where, "edges[%zu]", i);
    if (!json_is_object(o)) return rm_fail(r->err, RMAS_E_FORMAT, "%s: %s must be an object", r->path, where);
    RM_TRY(check_keys(r, o, where, keys, RM_COUNT(keys)));
    rmas_status st = get_string(r, o, where, "from", &from);
    if (st == RMAS_OK) st = get_string(r, o, where, "to", &to);
    if (st == RMAS_OK) st = get_string(r, o, where, "key", &e->key);
    if (st == RMAS_OK) st = get_bool(r, o, where, "feedback", &e->feedback);
    if (st == RMAS_OK && json_object_get(o, "link")) st = read_link(r, json_object_get(o, "link"), where, e->file);
    if (st == RMAS_OK) {
        e->from = from ? rm_system_agent(r->s, from) : -1;
        e->to = to ? rm_system_agent(r->s, to) : -1;
        if (e->from < 0 || e->to < 0)
            st = rm_fail(r->err, RMAS_E_FORMAT, "%s: %s: '%s' must be one of the roles in 'agents'%s%.100s", r->path, where,
                         e->from < 0 ? "from" : "to", (e->from < 0 ? from : to) ? ", not " : "",
                         (e->from < 0 ? from : to) ? (e->from < 0 ? from : to) : "");
    }
    if (st == RMAS_OK && !e->key) {
        size_t n = strlen(from) + strlen(to) + 2;
        e->key = rm_alloc(n);
        if (e->key)
            snprintf(e->key, n, "%s_%s", from, to);
        else
            st = nomem(r->err);
    }
    rm_free(from);
    rm_free(to);
    return st;
}

static rmas_status read_graph(const reader *r, const json_t *o) {
    rm_system *s = r->s;
    const json_t *edges = json_object_get(o, "edges"), *v;
    size_t i;
    char *answer = NULL;
    s->text_special = true;
    RM_TRY(get_string(r, o, "system", "family", &s->family));
    if (!s->family)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: either 'style' or 'family' (the first word of the prompts' names) must be given", r->path);
    RM_TRY(get_bool(r, o, "system", "text_special_tokens", &s->text_special));
    if (edges && !json_is_array(edges)) return rm_fail(r->err, RMAS_E_FORMAT, "%s: 'edges' must be a list", r->path);
    size_t n = edges ? json_array_size(edges) : 0;
    if (n > RM_SYSTEM_MAX_EDGE) return rm_fail(r->err, RMAS_E_FORMAT, "%s: more than %d edges", r->path, RM_SYSTEM_MAX_EDGE);
    s->edge = rm_calloc(n, sizeof *s->edge);
    if (!s->edge) return nomem(r->err);
    json_array_foreach((json_t *)edges, i, v) RM_TRY(read_edge(r, v, i, &s->edge[s->n_edge++]));
    RM_TRY(get_string(r, o, "system", "answer", &answer));
    s->answer = answer ? rm_system_agent(s, answer) : s->n_agent - 1;
    rm_free(answer);
    return s->answer >= 0 ? RMAS_OK : rm_fail(r->err, RMAS_E_FORMAT, "%s: 'answer' must be one of the roles in 'agents'", r->path);
}

/* "outer_links": a folder in the release layout, or an object from keys of edges to files. */
static rmas_status read_outer_links(const reader *r, const json_t *v) {
    rm_system *s = r->s;
    const char *key;
    json_t *link;
    if (json_is_string(v)) {
        s->outer = rm_strdup(json_string_value(v));
        return s->outer ? RMAS_OK : nomem(r->err);
    }
    if (!json_is_object(v)) return rm_fail(r->err, RMAS_E_FORMAT, "%s: 'outer_links' must be a folder, or an object from edges to files", r->path);
    json_object_foreach((json_t *)v, key, link) {
        int e = 0;
        while (e < s->n_edge && strcmp(s->edge[e].key, key)) e++;
        if (e == s->n_edge) return rm_fail(r->err, RMAS_E_FORMAT, "%s: outer_links.%.100s: there is no such edge", r->path, key);
        char where[128];
        snprintf(where, sizeof where, "outer_links.%.100s", key);
        RM_TRY(read_link(r, link, where, s->edge[e].file));
    }
    return RMAS_OK;
}

static rmas_status read_manifest(const reader *r, const json_t *o, const char *dir) {
    static const char *const with_style[] = {"rmas_system", "name",    "description", "style",   "agents",
                                             "outer_links", "prompts", "init_seed",   "defaults"};
    static const char *const own_graph[] = {"rmas_system", "name",   "description", "family",    "agents",   "edges",
                                            "outer_links", "answer", "prompts",     "init_seed", "defaults", "text_special_tokens"};
    rm_system *s = r->s;
    bool has_style = json_object_get(o, "style") != NULL;
    if (json_integer_value(json_object_get(o, "rmas_system")) != 1)
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: \"rmas_system\": 1 is missing (the version of the format)", r->path);
    RM_TRY(has_style ? check_keys(r, o, "system", with_style, RM_COUNT(with_style)) : check_keys(r, o, "system", own_graph, RM_COUNT(own_graph)));
    RM_TRY(get_string(r, o, "system", "name", &s->name));
    RM_TRY(get_string(r, o, "system", "description", &s->description));
    RM_TRY(get_string(r, o, "system", "prompts", &s->prompts));
    if (s->prompts) { /* beside the manifest */
        char *pack = rm_path_join(dir, s->prompts);
        if (!pack) return nomem(r->err);
        rm_free(s->prompts);
        s->prompts = pack;
    }
    if (!s->name) {
        s->name = rm_strdup(r->path);
        if (!s->name) return nomem(r->err);
    }
    rm_free(s->dir);
    s->dir = rm_strdup(dir);
    if (!s->dir) return nomem(r->err);
    RM_TRY(read_agents(r, json_object_get(o, "agents")));
    if (!has_style) RM_TRY(read_graph(r, o));
    if (json_object_get(o, "outer_links")) RM_TRY(read_outer_links(r, json_object_get(o, "outer_links")));
    const json_t *seed = json_object_get(o, "init_seed");
    if (seed) {
        if (!json_is_integer(seed) || json_integer_value(seed) < 0)
            return rm_fail(r->err, RMAS_E_FORMAT, "%s: 'init_seed' must be a whole number from 0", r->path);
        s->has_init_seed = true;
        s->init_seed = (uint64_t)json_integer_value(seed);
    }
    s->defaults = json_object_get(o, "defaults");
    if (s->defaults && !json_is_object(s->defaults)) {
        s->defaults = NULL;
        return rm_fail(r->err, RMAS_E_FORMAT, "%s: 'defaults' must be an object of flags without dashes", r->path);
    }
    json_incref(s->defaults);
    return rm_system_check(s, r->err);
}

static char *dir_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? rm_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : rm_strdup(".");
}

/* A model where a system belongs is an easy mistake: a folder without system.json, or a weight file. */
static rmas_status check_kind(const char *path, const char *file, rmas_error *err) {
    bool folder = rm_path_is_dir(path), model = false;
    rm_map m;
    if (!folder && rm_map_open(&m, path, NULL) == RMAS_OK) {
        model = m.n >= 4 && !memcmp(m.data, "GGUF", 4);
        rm_map_close(&m);
    }
    if (folder && !rm_path_exists(file))
        return rm_fail(
            err, RMAS_E_IO,
            "%s: no system.json in this folder; a system is a folder with one (docs/SYSTEMS.md), a model alone answers with 'rmas generate'", path);
    if (model) return rm_fail(err, RMAS_E_FORMAT, "%s: a model, not a system; a model alone answers with 'rmas generate'", path);
    return RMAS_OK;
}

rmas_status rm_system_open(rm_system **out, const char *path, rmas_error *err) {
    char *file = rm_path_is_dir(path) ? rm_path_join(path, "system.json") : rm_strdup(path), *dir = file ? dir_of(file) : NULL, *text = NULL;
    size_t n = 0;
    json_error_t je;
    json_t *o = NULL, *style;
    rm_system *s = NULL;
    rmas_status st = file && dir ? check_kind(path, file, err) : nomem(err);
    if (st == RMAS_OK) st = rm_file_read(&text, &n, file, MAX_MANIFEST, err);
    if (st == RMAS_OK) {
        o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
        if (!json_is_object(o)) st = rm_fail(err, RMAS_E_FORMAT, "%s: line %d: %s", file, o ? 1 : je.line, o ? "not a JSON object" : je.text);
    }
    if (st == RMAS_OK && (style = json_object_get(o, "style")) != NULL) {
        st = json_is_string(style) ? rm_system_style(&s, json_string_value(style), err) : rm_fail(err, RMAS_E_FORMAT, "'style' must be a text");
        if (st != RMAS_OK) rm_fail_prefix(err, st, "%s", file);
        if (s) {
            rm_free(s->name);
            s->name = NULL;
        }
    } else if (st == RMAS_OK) {
        s = RM_NEW(rm_system);
        if (!s) st = nomem(err);
    }
    if (st == RMAS_OK) {
        reader r = {file, s, err};
        st = read_manifest(&r, o, dir);
    }
    json_decref(o);
    rm_free(text);
    rm_free(file);
    rm_free(dir);
    if (st != RMAS_OK) {
        rm_system_free(s);
        s = NULL;
    }
    *out = s;
    return st;
}

rmas_status rm_system_find(rm_system **out, const char *name, rmas_error *err) {
    for (int i = 0; rm_style_name(i); i++)
        if (!strcmp(rm_style_name(i), name)) return rm_system_style(out, name, err);
    *out = NULL;
    if (rm_path_exists(name)) return rm_system_open(out, name, err);
    return rm_fail(
        err, RMAS_E_ARG,
        "'%s' is neither a style (sequential_light, sequential_scaled, mixture, distillation, deliberation) nor a folder with a system.json", name);
}
