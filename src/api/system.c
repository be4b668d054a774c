/* Systems of rmas.h: a manifest, its files, its agents, its prompts; a run is questions of one's own through the run loop. */
#include <jansson.h>

#include "api/handles.h"
#include "system/run.h"
#include "util/mem.h"

struct rmas_system {
    rm_system *sys;
    rm_files files;
    rm_team *team;
    rm_pack *pack;
};

rmas_status rmas_system_open(rmas_system **out, rmas_engine *e, const char *path, rmas_precision p, rmas_error *err) {
    *out = NULL;
    rmas_system *s = RM_NEW(rmas_system);
    if (!s) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", path);
    rmas_status st = rm_system_open(&s->sys, path, err);
    if (st == RMAS_OK) st = rm_pack_open(&s->pack, s->sys->prompts, err);
    if (st == RMAS_OK) st = rm_system_locate(&s->files, s->sys, &(rm_resolve_options){.task = RM_LINKS_MATH, .links = true}, err);
    rm_team_options o = {.precision = rm_api_precision(p), .links = true, .chat = {.date = rm_date_today()}};
    if (st == RMAS_OK) o.chat.enable_thinking = json_integer_value(json_object_get(s->sys->defaults, "enable_thinking")) != 0;
    if (st == RMAS_OK) st = rm_team_open(&s->team, e->exec, s->sys, &s->files, &o, err);
    if (st != RMAS_OK) {
        rmas_system_close(s);
        return st;
    }
    *out = s;
    return RMAS_OK;
}

void rmas_system_close(rmas_system *s) {
    if (!s) return;
    rm_team_close(s->team);
    rm_pack_close(s->pack);
    rm_files_free(&s->files);
    rm_system_free(s->sys);
    rm_free(s);
}

void rmas_run_params_init(rmas_run_params *p) {
    *p = (rmas_run_params){.n_round = -1, .n_latent = -1, .max_new_tokens = -1, .batch_size = -1, .sampling = {.top_p = 1, .seed = 42}};
}

/* What the caller chose, else what the manifest says, else `otherwise`. */
static int setting(const rmas_system *s, int chosen, int least, const char *flag, int otherwise) {
    if (chosen >= least) return chosen;
    const json_t *v = json_object_get(s->sys->defaults, flag);
    return json_is_integer(v) ? (int)json_integer_value(v) : otherwise;
}

typedef struct {
    rmas_answer_fn fn;
    void *ctx;
} forward;

static rmas_status forward_answer(void *ctx, const rm_answer *a, rmas_error *err) {
    const forward *f = ctx;
    if (f->fn && f->fn(f->ctx, a->index, a->text[0], a->n_token[0])) return rm_fail(err, RMAS_E_CANCELLED, "ended by the caller");
    return RMAS_OK;
}

rmas_status rmas_system_run(rmas_system *s, const char *const *question, int n, const rmas_run_params *p, rmas_answer_fn fn, void *ctx,
                            rmas_error *err) {
    if (n < 0 || !p) return rm_fail(err, RMAS_E_ARG, "rmas_system_run: a number of questions and parameters are needed");
    for (int i = 0; i < n; i++)
        if (!question[i]) return rm_fail(err, RMAS_E_ARG, "rmas_system_run: question %d is NULL", i);
    if (n == 0) return RMAS_OK;
    rm_run_options o = {
        .n_round = setting(s, p->n_round, 1, "num_recursive_rounds", 3),
        .latent_steps = setting(s, p->n_latent, 0, "latent_length", 32),
        .batch_size = setting(s, p->batch_size, 1, "batch_size", 8),
        .max_new_tokens = setting(s, p->max_new_tokens, 1, "max_new_tokens", 1024),
        .temperature = p->sampling.temperature,
        .top_p = p->sampling.top_p,
        .top_k = p->sampling.top_k > 0 ? p->sampling.top_k : 0, /* off: -1 would be the model's own */
        .min_p = p->sampling.min_p > 0 ? p->sampling.min_p : 0,
        .seed = p->sampling.seed,
        .n_rollout = 1,
        .max_tool_rounds = 5, /* no tool is allowed: calls are told so, as in a run that allows none */
    };
    rm_dataset *data;
    rm_dataset_options dopt = RM_DATASET_OPTIONS_DEFAULT;
    RM_TRY(rm_dataset_questions(&data, "gsm8k", question, (size_t)n, NULL, &dopt, err));
    forward f = {fn, ctx};
    rmas_status st = rm_run_check_prompts(s->sys, s->pack, data, &o, err);
    if (st == RMAS_OK) st = rm_run(s->team, s->pack, data, &o, &(rm_run_hooks){.ctx = &f, .answer = forward_answer}, err);
    rm_dataset_close(data);
    return st;
}
