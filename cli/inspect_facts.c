#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inspect.h"
#include "kern/kern.h"
#include "link/link.h"
#include "model/family.h"
#include "session/session.h"
#include "system/resolve.h"
#include "system/system.h"
#include "tensor/pack.h"
#include "tok/tok.h"
#include "util/file.h"
#include "util/mem.h"
#include "weights/weights.h"

enum { PASS_ROWS = 512 }; /* of session/batch.c */

static rmas_status nomem(rmas_error *err) { return rm_fail(err, RMAS_E_NOMEM, "out of memory"); }

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static void add_tensors(json_t *o, const rm_weights *w, bool list) {
    json_int_t n_bytes[RM_DTYPE_COUNT] = {0}, parameters = 0, bytes = 0;
    json_t *all = list ? json_array() : NULL, *stored = json_object();
    for (int i = 0; i < rm_weights_count(w); i++) {
        const rm_tensor *t = rm_weights_at(w, i);
        parameters += rm_tensor_count(t);
        bytes += (json_int_t)t->n_bytes;
        n_bytes[t->dtype] += (json_int_t)t->n_bytes;
        if (!list) continue;
        json_t *shape = json_array();
        for (int k = 0; k < t->n_dim; k++) json_array_append_new(shape, json_integer(t->dim[k]));
        json_t *name = json_string(t->name); /* NULL if it is not UTF-8, which GGUF allows */
        json_array_append_new(all,
                              json_pack("{ss so so}", "dtype", rm_dtype_get(t->dtype)->name, "shape", shape, "name", name ? name : json_string("?")));
    }
    for (int k = 0; k < RM_DTYPE_COUNT; k++)
        if (n_bytes[k]) json_object_set_new(stored, rm_dtype_get((rm_dtype)k)->name, json_integer(n_bytes[k]));
    json_object_set_new(o, "tensor_count", json_integer(rm_weights_count(w)));
    json_object_set_new(o, "parameters", json_integer(parameters));
    json_object_set_new(o, "bytes", json_integer(bytes));
    json_object_set_new(o, "stored", stored);
    if (all) json_object_set_new(o, "tensors", all);
}

static const char *format_name(const rm_weights *w) {
    switch (rm_weights_kind(w)) {
    case RM_FILE_GGUF: return "GGUF";
    case RM_FILE_PT: return "PyTorch";
    default: return "safetensors";
    }
}

/* What a link is; false if the file is none. Links are small, so this one is opened. */
static bool add_link(json_t *o, const char *path, const char *type, rmas_error *err) {
    rm_exec *e;
    rm_link *l = NULL;
    if (rm_exec_new(&e, 1, NULL, err) != RMAS_OK) return false;
    if (rm_link_open(&l, e, path, type, RM_EXACT, err) == RMAS_OK) {
        json_object_set_new(o, "type", json_string(rm_link_type(l)));
        json_object_set_new(o, "d_in", json_integer(rm_link_d_in(l)));
        json_object_set_new(o, "d_out", json_integer(rm_link_d_out(l)));
        json_object_set_new(o, "dtype", json_string(rm_dtype_get(rm_link_dtype(l))->name));
        json_object_set_new(o, "parameters", json_integer((json_int_t)rm_link_n_value(l)));
    }
    bool ok = l;
    rm_link_close(l);
    rm_exec_free(e);
    return ok;
}

/* ---- models --------------------------------------------------------------------------------------------------------- */

static void add_config(json_t *o, const rm_config *c) {
    static const char *const kind[RM_LAYER_KINDS] = {"full_attention", "sliding_attention", "linear_attention"};
    const struct {
        const char *key;
        int v;
    } n[] = {{"hidden_size", c->d_model}, {"intermediate_size", c->d_ff}, {"layers", c->n_layer},     {"heads", c->n_head},
             {"kv_heads", c->n_kv},       {"head_dim", c->d_head},        {"vocab_size", c->n_vocab}, {"max_position_embeddings", c->n_ctx_train}};
    json_object_set_new(o, "model_type", json_string(c->model_type));
    for (size_t i = 0; i < RM_COUNT(n); i++) json_object_set_new(o, n[i].key, json_integer(n[i].v));
    json_t *runs = json_array();
    for (int i = 0, k; i < c->n_layer; i = k) {
        for (k = i; k < c->n_layer && c->layer[k] == c->layer[i];) k++;
        json_array_append_new(runs, json_pack("[si]", kind[c->layer[i]], k - i));
    }
    json_object_set_new(o, "layer_types", runs);
    json_object_set_new(o, "sliding_window", c->window ? json_integer(c->window) : json_null());
    json_object_set_new(o, "tie_word_embeddings", json_boolean(c->tied));
}

/* What the tensors of a run take: quantised matrices are repacked and their pages given back, others are used where they are mapped; an
 * embedding that is only looked up stays in the file. packing: the most that opening holds, a matrix in both forms (the LM head comes first). */
typedef struct {
    json_int_t mapped, packed, packing;
    int widest; /* inputs */
} weight_sizes;

static weight_sizes weight_bytes(const rm_weights *w, bool tied) {
    weight_sizes s = {0};
    for (int i = 0; i < rm_weights_count(w); i++) {
        const rm_tensor *t = rm_weights_at(w, i);
        bool embed = strstr(t->name, "token_embd.") || strstr(t->name, "embed_tokens."),
             head = strstr(t->name, "lm_head.") || !strcmp(t->name, "output.weight");
        rm_form form;
        if (t->n_dim == 2 && !(embed && !tied) && t->dim[1] > s.widest && t->dim[1] <= INT32_MAX) s.widest = (int)t->dim[1];
        if ((embed && !tied) || (head && tied)) continue;
        if (t->n_dim != 2 || !rm_pack_form(t->dtype, &form)) {
            s.mapped += (json_int_t)t->n_bytes;
            continue;
        }
        size_t group = rm_form_group_bytes(&rm_forms[form], (size_t)t->dim[1] / RM_QBLOCK);
        json_int_t bytes = (json_int_t)(group * (size_t)((t->dim[0] + RM_GROUP - 1) / RM_GROUP));
        s.packed += bytes;
        if (embed || head) s.packing = bytes + (json_int_t)t->n_bytes;
    }
    return s;
}

/* Bytes of attention caches of one sequence: in blocks, and sliding layers let go what no query sees any more. */
static json_int_t cache_bytes(const rm_config *c, json_int_t context, json_int_t element) {
    json_int_t n = 0;
    for (int i = 0; i < c->n_layer; i++) {
        json_int_t seen = context;
        if (c->layer[i] == RM_LAYER_LINEAR) continue;
        if (c->layer[i] == RM_LAYER_SLIDING && seen > c->window + PASS_ROWS) seen = c->window + PASS_ROWS;
        n += (seen + RM_KV_BLOCK - 1) / RM_KV_BLOCK * RM_KV_BLOCK * 2 * rm_config_kv_dim(c) * element;
    }
    return n;
}

/* program: what the program, the tokenizer and the tables of the file take. */
static json_t *memory(const rm_config *c, const rm_weights *w, const rm_inspect_options *o, json_int_t program) {
    int n_linear = 0;
    for (int i = 0; i < c->n_layer; i++) n_linear += c->layer[i] == RM_LAYER_LINEAR;
    const rm_delta_plan *d = &c->delta;
    const rm_tensor *embed = rm_weights_find(w, "token_embd.weight");
    for (int i = 0; !embed && i < rm_weights_count(w); i++)
        if (strstr(rm_weights_at(w, i)->name, "embed_tokens.weight")) embed = rm_weights_at(w, i);
    json_int_t element = embed && embed->dtype != RM_F32 ? 2 : 4, context = o->context ? o->context : c->n_ctx_train < 4096 ? c->n_ctx_train : 4096;
    json_int_t per_token = (json_int_t)(c->n_layer - n_linear) * 2 * rm_config_kv_dim(c) * element;
    json_int_t state =
        d->n_value ? (json_int_t)n_linear * 4 * ((json_int_t)d->n_value * d->d_key * d->d_value + (json_int_t)(d->n_tap - 1) * rm_delta_conv_dim(d))
                   : 0;
    json_int_t rows = o->batch * context < PASS_ROWS ? o->batch * context : PASS_ROWS, cache = o->batch * (cache_bytes(c, context, element) + state);
    weight_sizes s = weight_bytes(w, c->tied);
    json_int_t workspace = (json_int_t)rm_batch_bytes(c, (int)rows, (int)o->batch) + rows * s.widest * 2; /* activations in 8 bits or bf16 */
    json_int_t total = program + s.mapped + s.packed + cache + workspace, opening = program + s.packing;
    return json_pack("{sI sI sI sI sI sI sI sI sI sI}", "program", program, "weights_mapped", s.mapped, "weights_packed", s.packed, "cache_per_token",
                     per_token, "state_per_sequence", state, "cache", cache, "workspace", workspace, "context", context, "batch",
                     (json_int_t)o->batch, "peak", total > opening ? total : opening);
}

/* Memory that this process has now; 0 where the system does not tell. */
static json_int_t resident(void) {
    long long size, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lld %lld", &size, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return (json_int_t)pages * sysconf(_SC_PAGESIZE);
}

/* Returns what the tokenizer, and the tables of the file that it comes from, take. */
static json_int_t add_tokenizer(json_t *o, const char *path, const rm_gguf *g) {
    json_int_t before = resident(), after;
    rm_tok *t;
    rmas_error err = {0};
    rmas_status s = g ? rm_tok_from_gguf(&t, g, path, &err) : rm_tok_open(&t, path, &err);
    json_object_set_new(o, "tokenizer", json_string(s == RMAS_OK ? rm_tok_describe(t) : "none that can be read"));
    json_object_set_new(o, "chat_template", json_boolean(s == RMAS_OK && rm_tok_chat_template(t)));
    after = resident();
    if (s == RMAS_OK) rm_tok_close(t);
    return after > before ? after - before : 0;
}

/* Fills o for a model; w may be NULL (a folder without weights). */
static rmas_status add_model(json_t *o, const char *path, const rm_weights *w, const rm_inspect_options *opt, rmas_error *err) {
    rm_config c = {0};
    const rm_family *f;
    const rm_gguf *g = w ? rm_weights_gguf(w) : NULL;
    RM_TRY(g ? rm_config_from_gguf(&c, &f, g, path, err) : rm_config_read(&c, path, err));
    if (g) { /* the number of rows and the head are told by the tensors */
        const rm_tensor *e = rm_weights_find(w, "token_embd.weight");
        if (e && e->n_dim == 2 && e->dim[0] <= INT32_MAX) c.n_vocab = (int)e->dim[0];
        c.tied = !rm_weights_find(w, "output.weight");
    }
    json_object_set_new(o, "kind", json_string("model"));
    add_config(o, &c);
    if (w) {
        json_object_set_new(o, "format", json_string(format_name(w)));
        add_tensors(o, w, opt->tensors);
    }
    json_int_t before = resident(), tokenizer = add_tokenizer(o, path, g);
    if (w) json_object_set_new(o, "memory", memory(&c, w, opt, before + tokenizer));
    rm_config_free(&c);
    return RMAS_OK;
}

static bool has_file(const char *dir, const char *name) {
    char *p = rm_path_join(dir, name);
    bool yes = p && rm_path_exists(p);
    rm_free(p);
    return yes;
}

/* A GGUF file may hold something else than a model, for instance only tensors. */
static bool is_model(const rm_gguf *g) {
    rm_span arch;
    char key[128];
    if (!g || !rm_gguf_str(g, "general.architecture", &arch) || arch.n > 100) return false;
    snprintf(key, sizeof key, "%.*s.block_count", (int)arch.n, arch.s);
    return rm_gguf_has(g, key);
}

static rmas_status inspect_path(json_t **out, const char *path, const rm_inspect_options *opt, rmas_error *err) {
    json_t *o = json_pack("{ss}", "path", path);
    rm_weights *w = NULL;
    bool dir = rm_path_is_dir(path), config = dir && has_file(path, "config.json");
    *out = o;
    if (!o) return rm_path_exists(path) ? rm_fail(err, RMAS_E_ARG, "the path is not valid UTF-8") : nomem(err);
    bool weights = !config || has_file(path, "model.safetensors") || has_file(path, "model.safetensors.index.json");
    rmas_status s = weights ? rm_weights_open(&w, path, err) : RMAS_OK;
    if (s == RMAS_OK && (config || is_model(rm_weights_gguf(w))))
        s = add_model(o, path, w, opt, err);
    else if (s == RMAS_OK) {
        rmas_error none;
        bool link = !dir && rm_weights_kind(w) != RM_FILE_GGUF && add_link(o, path, NULL, &none);
        json_object_set_new(o, "kind", json_string(link ? "link" : "tensors"));
        json_object_set_new(o, "format", json_string(format_name(w)));
        add_tensors(o, w, opt->tensors);
    }
    rm_weights_close(w);
    return s;
}

/* ---- systems -------------------------------------------------------------------------------------------------------- */

static json_t *link_facts(const char *file, const char *type) {
    rmas_error err = {0};
    json_t *o = json_object();
    if (!file) return o;
    json_object_set_new(o, "file", json_string(file));
    if (!add_link(o, file, type, &err)) json_object_set_new(o, "missing", json_string(err.msg));
    return o;
}

/* Models stay, sequences live for a stage: of the caches the largest counts. The program itself counts once: each further one adds little more
 * than its tokenizer, which `program` of the models overstates by the same. */
typedef struct {
    json_int_t program, models, cache;
} system_sizes;

static void add_memory(system_sizes *s, const json_t *m) {
    json_int_t program = json_integer_value(json_object_get(m, "program")), cache = json_integer_value(json_object_get(m, "cache"));
    if (program > s->program) s->program = program;
    if (cache > s->cache) s->cache = cache;
    static const char *const part[] = {"weights_mapped", "weights_packed", "workspace"};
    for (size_t i = 0; i < RM_COUNT(part); i++) s->models += json_integer_value(json_object_get(m, part[i]));
}

static json_t *agent_facts(const rm_system *s, const rm_files *f, int i, system_sizes *total, const rm_inspect_options *opt) {
    rmas_error err = {0};
    char *path = NULL;
    json_t *a = json_pack("{ss sb}", "role", s->agent[i].role, "answers", (int)(i == s->answer));
    if (f->agent)
        path = rm_strdup(f->agent[i].model);
    else if (rm_system_model(&path, s, i, NULL, 0, &err) != RMAS_OK) {
        json_object_set_new(a, "missing", json_string(err.msg));
        return a;
    }
    json_object_set_new(a, "path", json_string(path ? path : ""));
    int same = i;
    for (int k = 0; k < i && f->agent && path; k++)
        if (same == i && !strcmp(f->agent[k].model, path)) same = k;
    if (same < i)
        json_object_set_new(a, "shared_with", json_string(s->agent[same].role));
    else if (path) {
        json_t *m;
        rm_inspect_options brief = *opt;
        brief.tensors = false;
        if (inspect_path(&m, path, &brief, &err) == RMAS_OK) {
            add_memory(total, json_object_get(m, "memory"));
            json_object_set(a, "model", m);
        } else
            json_object_set_new(a, "missing", json_string(err.msg));
        json_decref(m);
    }
    if (f->agent) json_object_set_new(a, "inner_link", link_facts(f->agent[i].inner, f->agent[i].inner_type));
    rm_free(path);
    return a;
}

/* Between rounds every question keeps the part of each agent's prompt that will come again: about half (system/memory.c). */
static json_int_t kept_states(const json_t *agents) {
    json_int_t n = 0;
    size_t i, k;
    json_t *a, *b;
    json_array_foreach(agents, i, a) {
        const json_t *own = a, *shared = json_object_get(a, "shared_with");
        json_array_foreach(agents, k, b) if (shared && json_equal(json_object_get(b, "role"), shared)) own = b;
        n += json_integer_value(json_object_get(json_object_get(json_object_get(own, "model"), "memory"), "cache")) / 2;
    }
    return n;
}

static rmas_status inspect_system(json_t **out, const char *name, const rm_inspect_options *opt, rmas_error *err) {
    rm_system *s;
    rm_files f = {0};
    RM_TRY(rm_system_find(&s, name, err));
    rm_resolve_options ro = {.task = RM_LINKS_MATH, .links = true};
    rmas_error missing = {0};
    bool located = rm_system_locate(&f, s, &ro, &missing) == RMAS_OK;
    if (!located) rm_files_free(&f);
    if (!located) f = (rm_files){0};
    json_t *o = json_pack("{ss ss}", "kind", "system", "name", s->name ? s->name : name), *agents = json_array(), *links = json_array();
    system_sizes total = {0};
    if (s->description) json_object_set_new(o, "description", json_string(s->description));
    for (int i = 0; i < s->n_agent; i++) json_array_append_new(agents, agent_facts(s, &f, i, &total, opt));
    for (int i = 0; i < s->n_edge; i++) {
        json_t *l = f.edge ? link_facts(f.edge[i].file, f.edge[i].type) : json_object();
        if (!f.edge) json_object_set_new(l, "missing", json_string("not located"));
        json_object_set_new(l, "key", json_string(s->edge[i].key ? s->edge[i].key : ""));
        json_object_set_new(l, "from", json_string(s->agent[s->edge[i].from].role));
        json_object_set_new(l, "to", json_string(s->agent[s->edge[i].to].role));
        json_object_set_new(l, "feedback", json_boolean(s->edge[i].feedback));
        json_array_append_new(links, l);
    }
    total.cache += kept_states(agents);
    json_object_set_new(o, "agents", agents);
    json_object_set_new(o, "outer_links", links);
    if (located)
        json_object_set_new(o, "memory",
                            json_pack("{sI sI sI sI}", "program", total.program, "models", total.models, "cache", total.cache, "peak",
                                      total.program + total.models + total.cache));
    else
        json_object_set_new(o, "missing", json_string(missing.msg));
    rm_files_free(&f);
    rm_system_free(s);
    *out = o;
    return o ? RMAS_OK : nomem(err);
}

rmas_status rm_inspect(json_t **out, const char *path, const rm_inspect_options *o, rmas_error *err) {
    *out = NULL;
    bool style = false;
    for (int i = 0; rm_style_name(i); i++) style = style || !strcmp(rm_style_name(i), path);
    size_t n = strlen(path);
    bool system = style || (n >= 11 && !strcmp(path + n - 11, "system.json")) || (rm_path_is_dir(path) && has_file(path, "system.json"));
    rmas_status s = system ? inspect_system(out, path, o, err) : inspect_path(out, path, o, err);
    if (s != RMAS_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}
