/* rmas train inner|outer|check: trains the links of a system. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "tensor/exec.h"
#include "train/inner.h"
#include "train/outer.h"
#include "util/mem.h"
#include "util/strbuf.h"

typedef struct {
    /* what is trained */
    const char *system, *style, *design, *role, *mas_role, *task, *prompts, *date, *load_dir;
    rm_opt_list overrides;
    int n_own; /* of the last overrides: texts of our own */
    /* words of the options */
    const char *split, *inner_fallback, *dataset_name, *init, *recipe, *latents, *feedback, *schedule, *dtype, *link_dtype, *isa, *type;
    int64_t thinking, question_first, shuffle, threads, final_only, rounds, checkpointing;
    double lr, memory_gib;
    /* which of them were given */
    bool has_init, has_latents, has_feedback, has_final, has_rounds, has_batch, has_length, has_latent_length, has_truncate, has_message_grad;
    rm_edge_type edge_type[RM_TRAIN_EDGES]; /* those given */
    rm_train_options o;
} settings;

static void print_progress(void *ctx, const char *line, bool transient) {
    bool *open = ctx; /* a transient line stands without its end */
    bool terminal = isatty(STDERR_FILENO);
    if (transient && !terminal) return;
    if (*open) fprintf(stderr, "\r\033[K");
    fprintf(stderr, transient ? "%s" : "%s\n", line);
    *open = transient;
}

static const char *one_of(const char *s, const char *a, const char *b) { return !strcmp(s, a) ? a : !strcmp(s, b) ? b : NULL; }

static rmas_status link_dtype_of(const char *s, rm_dtype *out, rmas_error *err) {
    static const struct {
        const char *name;
        rm_dtype dtype;
    } names[] = {{"bfloat16", RM_BF16}, {"bf16", RM_BF16}, {"float32", RM_F32}, {"f32", RM_F32},
                 {"float16", RM_F16},   {"f16", RM_F16},   {"auto", RM_F32}};
    for (size_t i = 0; i < RM_COUNT(names); i++)
        if (!strcmp(s, names[i].name)) {
            *out = names[i].dtype;
            return RMAS_OK;
        }
    return rm_fail(err, RMAS_E_ARG, "--link_dtype %s: expected float32, bfloat16 or float16", s);
}

static rmas_status precision_of(const char *s, rm_precision *out, rmas_error *err) {
    static const char *const exact[] = {"f32", "float32"}, *const native[] = {"native", "auto", "bfloat16", "float16"};
    for (size_t i = 0; i < RM_COUNT(exact); i++)
        if (!strcmp(s, exact[i])) return *out = RM_EXACT, RMAS_OK;
    for (size_t i = 0; i < RM_COUNT(native); i++)
        if (!strcmp(s, native[i])) return *out = RM_NATIVE, RMAS_OK;
    return rm_fail(err, RMAS_E_ARG, "--dtype %s: expected f32 (exact) or native (as a run computes)", s);
}

/* Settings that depend on others, with the defaults of the recipe where nothing was given. */
static rmas_status complete(settings *s, const char *loop, rm_crew_options *t, rmas_error *err) {
    rm_train_options *o = &s->o;
    bool inner = !strcmp(loop, "inner"), probing = o->probe != NULL;
    if (!o->data) o->data = s->dataset_name;
    if (!o->data) return rm_fail(err, RMAS_E_ARG, "--data FILE is needed: rows as .jsonl or .json (docs/TRAINING.md says which columns)");
    const char *recipe = s->recipe ? s->recipe : probing ? "reference" : "rmas";
    if (!one_of(recipe, "rmas", "reference")) return rm_fail(err, RMAS_E_ARG, "--recipe %s: expected rmas or reference", recipe);
    bool reference = recipe[1] == 'e';
    const char *init = s->has_init ? s->init : s->load_dir ? "checkpoint" : reference || !inner ? "random" : "aligned";
    if (!strcmp(init, "checkpoint"))
        o->init = RM_INIT_CHECKPOINT;
    else if (!strcmp(init, "random"))
        o->init = RM_INIT_RANDOM;
    else if (!strcmp(init, "aligned"))
        o->init = RM_INIT_ALIGNED;
    else
        return rm_fail(err, RMAS_E_ARG, "--init %s: expected checkpoint, random or aligned", init);
    const char *latents = s->has_latents ? s->latents : reference ? "gold" : "rollout", *feedback = s->has_feedback ? s->feedback : latents;
    if (!one_of(latents, "gold", "rollout")) return rm_fail(err, RMAS_E_ARG, "--latents %s: expected gold or rollout", latents);
    if (!one_of(feedback, "gold", "rollout")) return rm_fail(err, RMAS_E_ARG, "--feedback %s: expected gold or rollout", feedback);
    o->rollout = latents[0] == 'r';
    o->rollout_feedback = feedback[0] == 'r';
    o->final_only = s->has_final ? s->final_only != 0 : reference;
    if (s->rounds < 1 || s->rounds > RM_TRAIN_MAX_ROUNDS)
        return rm_fail(err, RMAS_E_ARG, "--num_recursive_rounds %lld: expected 1 to %d", (long long)s->rounds, RM_TRAIN_MAX_ROUNDS);
    o->rounds = (int)s->rounds;
    o->lr = s->lr;
    o->memory_limit = s->memory_gib * 1024 * 1024 * 1024;
    o->shuffle = s->shuffle != 0;
    if (!s->has_truncate) o->truncate = reference ? 0 : 4;
    if (!s->has_message_grad) o->max_message_grad = reference ? 0 : 1;
    if (!strcmp(loop, "check")) { /* differences need a smooth loss, and the whole gradient */
        if (!s->has_latent_length) o->latent_length = 4;
        if (!s->has_truncate) o->truncate = 0;
        if (!s->has_message_grad) o->max_message_grad = 0;
    }
    if (!s->has_length) o->max_length = inner ? 2048 : 4096;
    if (!rm_schedule_parse(s->schedule, &o->schedule))
        return rm_fail(err, RMAS_E_ARG, "--lr_scheduler_type %s: expected cosine or constant", s->schedule);
    RM_TRY(link_dtype_of(s->link_dtype, &o->save_dtype, err));
    o->type = s->type && strcmp(s->type, "auto") != 0 ? s->type : NULL;
    if (o->type && !rm_link_type_known(o->type, NULL)) return rm_fail(err, RMAS_E_ARG, "unknown link type '%s'", o->type);
    if (s->inner_fallback && !rm_link_type_known(s->inner_fallback, NULL))
        return rm_fail(err, RMAS_E_ARG, "unknown link type '%s'", s->inner_fallback);
    t->inner_type = s->inner_fallback;
    if (s->split && strcmp(s->split, "train"))
        print_progress(&(bool){false}, "note: --dataset_split: a local file has no splits, all its rows are taken", false);
    if (o->batch_size < 1 || o->grad_accum < 1 || o->max_length < 2 || o->max_length > INT32_MAX || o->latent_length > 1 << 20 ||
        o->max_latent > INT32_MAX || o->truncate < 0 || o->warmup < 0 || o->held_out < 0)
        return rm_fail(err, RMAS_E_ARG,
                       "--batch_size, --grad_accum_steps, --max_length, --truncate, --warmup_steps and --held_out must be whole positive numbers");
    if (!(o->lr >= 0 && o->weight_decay >= 0))
        return rm_fail(err, RMAS_E_ARG, "--%s %g: it must not be negative", !(o->lr >= 0) ? inner ? "adapter_lr" : "outer_lr" : "weight_decay",
                       !(o->lr >= 0) ? o->lr : o->weight_decay);
    if (!(o->save_minutes >= 0)) return rm_fail(err, RMAS_E_ARG, "--save_minutes %g: it must not be negative", o->save_minutes);
    if (!(o->max_message_grad >= 0)) return rm_fail(err, RMAS_E_ARG, "--max_message_grad %g: it must not be negative", o->max_message_grad);
    /* the team */
    t->system = s->system ? s->system : s->style ? s->style : s->design;
    if (!t->system) return rm_fail(err, RMAS_E_ARG, "which system? --style NAME (a published one) or --system FOLDER");
    if (!rm_task_parse(s->task, &t->task)) return rm_fail(err, RMAS_E_ARG, "--mas_task %s: expected math, code or choice", s->task);
    t->date = rm_date_today();
    if (s->date && !rm_date_parse(s->date, &t->date)) return rm_fail(err, RMAS_E_ARG, "--date %s: expected YYYY-MM-DD", s->date);
    t->override = s->overrides.v;
    t->n_override = s->overrides.n;
    t->prompts = s->prompts;
    t->load_dir = s->load_dir;
    t->enable_thinking = s->thinking != 0;
    t->seed = (uint64_t)o->seed;
    static const char *const question_first[] = {"question-first"};
    t->option = question_first;
    t->n_option = s->question_first ? 1 : 0;
    RM_TRY(precision_of(s->dtype, &t->precision, err));
    if (!inner) return RMAS_OK;
    o->role = s->role ? s->role : s->mas_role;
    if (!o->role) return rm_fail(err, RMAS_E_ARG, "--role ROLE is needed: whose inner link is trained ('none': data without a role)");
    if (strcmp(o->role, "none") != 0) {
        t->only = o->role;
        return RMAS_OK;
    }
    o->role = NULL;
    static char first[64];
    const char *eq = t->n_override ? strchr(t->override[0], '=') : NULL;
    if (!eq) return rm_fail(err, RMAS_E_ARG, "--role none: say whose model with --ckpt_override ROLE=FOLDER");
    snprintf(first, sizeof first, "%.*s", (int)(eq - t->override[0]), t->override[0]);
    t->only = first;
    return RMAS_OK;
}

/* The reference's flags for models and inner links, as overrides. */
static const char *const reference_agents[] = {"agent1", "agent2", "agent3", "agent4", "expert", "learner", "reflector", "toolcaller"};

static rmas_status add_paths(settings *s, const char *paths[][2], rmas_error *err) {
    for (size_t i = 0; i < RM_COUNT(reference_agents); i++)
        for (int what = 0; what < 2; what++) {
            if (!paths[i][what]) continue;
            rm_strbuf b = {0};
            rm_strbuf_printf(&b, "%s%s=%s", reference_agents[i], what ? "/inner" : "", paths[i][what]);
            const char **v = rm_realloc_array(s->overrides.v, (size_t)s->overrides.n + 1, sizeof *v);
            if (v) s->overrides.v = v;
            char *text = rm_strbuf_take(&b);
            if (!v || !text) {
                rm_free(text);
                return rm_fail(err, RMAS_E_NOMEM, "out of memory");
            }
            s->overrides.v[s->overrides.n++] = text;
            s->n_own++;
        }
    return RMAS_OK;
}

/* The published links, for the reference's --outer_XX_type. */
static const char *const reference_links[] = {"outer_12", "outer_23", "outer_31", "outer_1s", "outer_2s", "outer_3s", "outer_s1",
                                              "outer_s2", "outer_s3", "outer_el", "outer_le", "outer_rt", "outer_tr"};

/* Types of single links: "KEY=TYPE" of any system, and the reference's flags. */
static rmas_status add_types(settings *s, const rm_opt_list *any, const char *const *published, rmas_error *err) {
    static char key[RM_TRAIN_EDGES][64];
    int n = 0;
    if (any->n + (int)RM_COUNT(reference_links) > RM_TRAIN_EDGES) return rm_fail(err, RMAS_E_ARG, "--link_type: at most %d links", RM_TRAIN_EDGES);
    for (size_t i = 0; i < RM_COUNT(reference_links); i++)
        if (published[i]) s->edge_type[n++] = (rm_edge_type){reference_links[i], published[i]};
    for (int i = 0; i < any->n; i++, n++) {
        const char *eq = strchr(any->v[i], '=');
        if (!eq || eq == any->v[i]) return rm_fail(err, RMAS_E_ARG, "--link_type %s: must have the form KEY=TYPE", any->v[i]);
        snprintf(key[n], sizeof key[n], "%.*s", (int)(eq - any->v[i]), any->v[i]);
        s->edge_type[n] = (rm_edge_type){key[n], eq + 1};
    }
    for (int i = 0; i < n; i++)
        if (!rm_link_type_known(s->edge_type[i].type, NULL)) return rm_fail(err, RMAS_E_ARG, "unknown link type '%s'", s->edge_type[i].type);
    s->o.edge_type = s->edge_type;
    s->o.n_edge_type = n;
    return RMAS_OK;
}

/* The settings are read: opens the team and trains. word: one that is no option, or NULL. */
static int train(const char *loop, settings *s, const char *paths[][2], const char *name, const char *word) {
    bool inner = !strcmp(loop, "inner");
    rmas_error err = {0};
    rm_crew_options t = {0};
    rm_exec *e = NULL;
    rm_crew *team = NULL;
    rmas_status st = word ? rm_fail(&err, RMAS_E_ARG, "'%s' is no option", word) : add_paths(s, paths, &err);
    if (st == RMAS_OK) st = complete(s, loop, &t, &err);
    if (st == RMAS_OK && (s->threads < 0 || s->threads > 4096))
        st = rm_fail(&err, RMAS_E_ARG, "--threads: %lld is not between 0 and 4096", (long long)s->threads);
    if (st == RMAS_OK) st = rm_exec_new(&e, (int)s->threads, s->isa, &err);
    if (st == RMAS_OK) st = rm_crew_open(&team, e, &t, &err);
    if (st == RMAS_OK && !inner && !s->has_batch) s->o.batch_size = team->style.outer_batch;
    if (strcmp(loop, "check") != 0) s->o.cancel = rm_cli_catch_interrupts();
    if (st == RMAS_OK)
        st = inner                    ? rm_train_inner(team, &s->o, &err)
             : !strcmp(loop, "check") ? rm_train_check(team, &s->o, &err)
                                      : rm_train_outer(team, &s->o, &err);
    rm_crew_close(team);
    rm_exec_free(e);
    if (*(bool *)s->o.progress_ctx) fprintf(stderr, "\n");
    if (st == RMAS_OK) return 0;
    rm_cli_fail(name, &err);
    return st == RMAS_E_CANCELLED ? 128 + *s->o.cancel : 1;
}

static int run_loop(const char *loop, int argc, char **argv) {
    bool inner = !strcmp(loop, "inner"), line_open = false;
    settings s = {.task = "math",
                  .schedule = "cosine",
                  .dtype = !strcmp(loop, "check") ? "f32" : "native", /* rounding makes the loss too rough for differences */
                  .link_dtype = "float32",
                  .init = "",
                  .latents = "",
                  .feedback = "",
                  .shuffle = 1,
                  .rounds = 3,
                  .final_only = 1,
                  .checkpointing = 1,
                  .lr = 5e-4};
    rm_train_options *o = &s.o;
    *o = (rm_train_options){.num_samples = -1,
                            .seed = 42,
                            .batch_size = 2,
                            .max_steps = 20000,
                            .epochs = 1,
                            .grad_accum = 1,
                            .warmup = 10,
                            .max_grad_norm = 1,
                            .cos_weight = 1,
                            .non_last_weight = 0.1,
                            .max_latent = 80,
                            .latent_length = 32,
                            .log_every = 10,
                            .eval_every = 100,
                            .save_minutes = 10,
                            .progress = print_progress,
                            .progress_ctx = &line_open};
    const char *paths[RM_COUNT(reference_agents)][2] = {{0}}, *published_types[RM_COUNT(reference_links)] = {0};
    rm_opt_list link_types = {0};
    const rm_opt opts[] = {
        {"system", RM_OPT_STRING, &s.system, NULL, "FOLDER", "system of agents (system.json)"},
        {"style", RM_OPT_STRING, &s.style, NULL, "NAME", "published style: sequential_light, mixture, ..."},
        {"mas_design", RM_OPT_STRING, &s.design, NULL, "NAME", "the same by its design: sequential, hie, distill, deliberation"},
        {"ckpt_override", RM_OPT_LIST, &s.overrides, NULL, "KEY=PATH", "folder of a role, or 'outer', or an inner link for ROLE/inner; repeatable"},
#define AGENT_PATHS(name, i, help)                                                                                                                   \
    {name "_model_name_or_path", RM_OPT_STRING, &paths[i][0], NULL, "PATH", help "model"},                                                           \
        {name "_inner_aligner_path", RM_OPT_STRING, &paths[i][1], NULL, "PATH", help "inner link"}
        AGENT_PATHS("agent1", 0, "reference: the first role's "),
        AGENT_PATHS("agent2", 1, "the second role's "),
        AGENT_PATHS("agent3", 2, "the third role's "),
        AGENT_PATHS("agent4", 3, "the fourth role's "),
        AGENT_PATHS("expert", 4, "the expert's "),
        AGENT_PATHS("learner", 5, "the learner's "),
        AGENT_PATHS("reflector", 6, "the reflector's "),
        AGENT_PATHS("toolcaller", 7, "the toolcaller's "),
        {"role", RM_OPT_STRING, &s.role, NULL, "ROLE", "inner loop: whose link is trained; none: data without a role"},
        {"mas_role", RM_OPT_STRING, &s.mas_role, NULL, "ROLE", "the same (also refiner, hie_math_expert, ...)"},
        {"mas_task", RM_OPT_STRING, &s.task, NULL, "TASK", "math, code or choice"},
        {"data", RM_OPT_STRING, &o->data, NULL, "FILE", "rows: .jsonl or .json"},
        {"dataset_name", RM_OPT_STRING, &s.dataset_name, NULL, "FILE", "the same"},
        {"dataset_split", RM_OPT_STRING, &s.split, NULL, "NAME", "accepted: a local file has no splits"},
        {"dataset_json_field", RM_OPT_STRING, &o->field, NULL, "KEY", "key of the rows in a .json file"},
        {"num_samples", RM_OPT_INT, &o->num_samples, NULL, "N", "rows from the beginning of the file; -1: all"},
        {"held_out", RM_OPT_INT, &o->held_out, NULL, "N", "rows kept out of training, for the held-out loss"},
        {"shuffle", RM_OPT_INT, &s.shuffle, NULL, "0|1", "new order in every epoch"},
        {"recipe", RM_OPT_STRING, &s.recipe, NULL, "NAME", "rmas: rollouts, all rounds (inner loop: aligned start); reference: as published"},
        {"init", RM_OPT_STRING, &s.init, &s.has_init, "HOW", "start of the links: checkpoint, random, aligned"},
        {"latents", RM_OPT_STRING, &s.latents, &s.has_latents, "HOW", "messages: gold (states of gold texts) or rollout (as inference)"},
        {"feedback", RM_OPT_STRING, &s.feedback, &s.has_feedback, "HOW", "messages of the last agent, if not as --latents"},
        {"latent_length", RM_OPT_INT, &o->latent_length, &s.has_latent_length, "M", "steps of a rollout"},
        {"truncate", RM_OPT_INT, &o->truncate, &s.has_truncate, "K", "cut gradients of rollouts every K steps; 0: never (rmas 4, reference 0)"},
        {"max_message_grad", RM_OPT_FLOAT, &o->max_message_grad, &s.has_message_grad, "X",
         "limit of a message's gradient, norm times the message's norm; 0: none (rmas 1, reference 0)"},
        {"max_latent_tokens", RM_OPT_INT, &o->max_latent, NULL, "N", "rows of a message of gold states"},
        {"num_recursive_rounds", RM_OPT_INT, &s.rounds, &s.has_rounds, "R", "rounds"},
        {"supervise_final_only", RM_OPT_INT, &s.final_only, &s.has_final, "0|1", "loss of the last round only"},
        {"non_last_loss_weight", RM_OPT_FLOAT, &o->non_last_weight, NULL, "W", "weight of the mean loss of the other rounds"},
        {"max_length", RM_OPT_INT, &o->max_length, &s.has_length, "N", "tokens of a sample (inner 2048, outer 4096)"},
        {"batch_size", RM_OPT_INT, &o->batch_size, &s.has_batch, "N", "rows of a batch"},
        {"grad_accum_steps", RM_OPT_INT, &o->grad_accum, NULL, "N", "batches of a step"},
        {"max_steps", RM_OPT_INT, &o->max_steps, NULL, "N", "optimiser steps; -1: --num_train_epochs counts"},
        {"num_train_epochs", RM_OPT_INT, &o->epochs, NULL, "N", "epochs, with --max_steps -1"},
        {inner ? "adapter_lr" : "outer_lr", RM_OPT_FLOAT, &s.lr, NULL, "RATE", "learning rate"},
        {"lr_scheduler_type", RM_OPT_STRING, &s.schedule, NULL, "NAME", "cosine (to zero) or constant, after the warm-up"},
        {"warmup_steps", RM_OPT_INT, &o->warmup, NULL, "N", "steps of rising rate"},
        {"weight_decay", RM_OPT_FLOAT, &o->weight_decay, NULL, "W", "AdamW's decay"},
        {"max_grad_norm", RM_OPT_FLOAT, &o->max_grad_norm, NULL, "X", "clipping by global norm; 0: off"},
        {"adapter_cos_weight", RM_OPT_FLOAT, &o->cos_weight, NULL, "W", "inner loop: weight of the cosine loss"},
        {"adapter_mse_weight", RM_OPT_FLOAT, &o->mse_weight, NULL, "W", "inner loop: weight of the squared error"},
        {inner ? "adapter_type" : "outer_adapter_type", RM_OPT_STRING, &s.type, NULL, "TYPE", "type of new links"},
        {"link_type", RM_OPT_LIST, &link_types, NULL, "KEY=TYPE", "outer loop: type of one new link; repeatable"},
#define LINK_TYPE(i, name) {name "_type", RM_OPT_STRING, &published_types[i], NULL, "TYPE", "reference: the same for " name}
        LINK_TYPE(0, "outer_12"),
        LINK_TYPE(1, "outer_23"),
        LINK_TYPE(2, "outer_31"),
        LINK_TYPE(3, "outer_1s"),
        LINK_TYPE(4, "outer_2s"),
        LINK_TYPE(5, "outer_3s"),
        LINK_TYPE(6, "outer_s1"),
        LINK_TYPE(7, "outer_s2"),
        LINK_TYPE(8, "outer_s3"),
        LINK_TYPE(9, "outer_el"),
        LINK_TYPE(10, "outer_le"),
        LINK_TYPE(11, "outer_rt"),
        LINK_TYPE(12, "outer_tr"),
        {"inner_adapter_type_fallback", RM_OPT_STRING, &s.inner_fallback, NULL, "TYPE", "of frozen inner links whose files leave their type open"},
        {"gradient_checkpointing", RM_OPT_INT, &s.checkpointing, NULL, "0|1", "accepted; models are always run again in the backward pass"},
        {"prompts", RM_OPT_STRING, &s.prompts, NULL, "FILE", "prompt pack"},
        {"date", RM_OPT_STRING, &s.date, NULL, "DATE", "what templates see as today"},
        {"enable_thinking", RM_OPT_INT, &s.thinking, NULL, "0|1", "for templates that know it"},
        {"solver_pre_question", RM_OPT_INT, &s.question_first, NULL, "0|1", "sequential: the question before the plan"},
        {"save_dir", RM_OPT_STRING, &o->save_dir, NULL, "DIR", "trained links, log, state"},
        {"save_steps", RM_OPT_INT, &o->save_steps, NULL, "N", "checkpoint and state every N steps; 0: at the end only"},
        {"load_dir", RM_OPT_STRING, &s.load_dir, NULL, "DIR", "begin with the links of an earlier run"},
        {"in_place", RM_OPT_FLAG, &o->in_place, NULL, NULL, "write the links into the system's own files too"},
        {"resume", RM_OPT_FLAG, &o->resume, NULL, NULL, "go on with the run in --save_dir"},
        {"save_minutes", RM_OPT_FLOAT, &o->save_minutes, NULL, "X", "state for --resume at least so often, too; 0: no"},
        {"log_every", RM_OPT_INT, &o->log_every, NULL, "N", "steps between lines on the terminal"},
        {"eval_every", RM_OPT_INT, &o->eval_every, NULL, "N", "steps between held-out losses"},
        {"patience", RM_OPT_INT, &o->patience, NULL, "N", "end after N held-out losses without gain; 0: never"},
        {inner ? "adapter_dtype" : "outer_dtype", RM_OPT_STRING, &s.link_dtype, NULL, "NAME", "links on disk: float32, bfloat16, float16"},
        {"dtype", RM_OPT_STRING, &s.dtype, NULL, "NAME", "frozen models: native or f32"},
        {"seed", RM_OPT_INT, &o->seed, NULL, "N", "of initial links and orders"},
        {"probe", RM_OPT_STRING, &o->probe, NULL, "DIR", "write everything read and computed to DIR, no checkpoint"},
        {"memory_limit", RM_OPT_FLOAT, &s.memory_gib, NULL, "GIB", "refuse runs that need more; 0: what is free"},
        {"threads", RM_OPT_INT, &s.threads, NULL, "N", "threads; 0: all processors"},
        {"isa", RM_OPT_STRING, &s.isa, NULL, "NAME", "instruction set"},
        {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts,
                                 inner ? "rmas train inner --style NAME --role ROLE --data FILE --save_dir DIR"
                                       : "rmas train outer --style NAME --data FILE --save_dir DIR",
                                 &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    rmas_status st = add_types(&s, &link_types, published_types, &err);
    int status = st == RMAS_OK ? train(loop, &s, paths, argv[0], n_word ? argv[1] : NULL) : rm_cli_fail(argv[0], &err);
    rm_free(link_types.v);
    while (s.n_own > 0) rm_free((char *)(uintptr_t)s.overrides.v[s.overrides.n - s.n_own--]);
    rm_free(s.overrides.v);
    return status;
}

static void usage(FILE *f) {
    fprintf(f, "usage: rmas train inner|outer|check [OPTIONS]\n\n"
               "  inner  the inner link of one role: states learn to stand for the next token\n"
               "  outer  all links between the agents of a system\n"
               "  check  gradients of the outer loop against differences of the loss\n\n"
               "'rmas train NAME --help' lists the options.\n");
}

int cmd_train(int argc, char **argv) {
    static const struct { const char *word, *title; } loops[] = {{"inner", "train inner"}, {"outer", "train outer"}, {"check", "train check"}};
    if (argc < 2) {
        fprintf(stderr, "rmas train: inner, outer or check? 'rmas train --help' says more\n");
        return 1;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < RM_COUNT(loops); i++) {
        if (strcmp(argv[1], loops[i].word) != 0) continue;
        argv[1] = (char *)(uintptr_t)loops[i].title;
        return run_loop(loops[i].word, argc - 1, argv + 1);
    }
    fprintf(stderr, "rmas train: unknown loop '%s'; 'rmas train --help' lists them\n", argv[1]);
    return 1;
}
