#include "run_setup.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "system/memory.h"
#include "tensor/profile.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/strbuf.h"

/* ---- where settings come from -------------------------------------------------------------------------------------------- */

static bool is(const char *a, const char *b) { return a && !strcasecmp(a, b); }

/* Settings that stand in a manifest; a flag on the command line wins. */
static rmas_status manifest_settings(rm_run_flags *f, const rm_system *s, rmas_error *err) {
    struct {
        const char *name;
        bool *given;
        int64_t *i;
        double *d;
    } known[] = {{"num_recursive_rounds", &f->g_rounds, &f->rounds, NULL},
                 {"latent_length", &f->g_latent, &f->latent, NULL},
                 {"batch_size", &f->g_batch, &f->batch, NULL},
                 {"max_new_tokens", &f->g_max_new, &f->max_new_tokens, NULL},
                 {"temperature", &f->g_temperature, NULL, &f->temperature},
                 {"top_p", &f->g_top_p, NULL, &f->top_p},
                 {"top_k", &f->g_top_k, &f->top_k, NULL},
                 {"ans", &f->g_ans, &f->ans, NULL},
                 {"enable_thinking", &f->g_thinking, &f->thinking, NULL},
                 {"choice_old_prompt", &f->g_choice_old, &f->choice_old, NULL}};
    const char *key;
    json_t *v;
    json_object_foreach(s->defaults, key, v) {
        size_t k = 0;
        while (k < RM_COUNT(known) && strcmp(known[k].name, key)) k++;
        if (k == RM_COUNT(known))
            return rm_fail(err, RMAS_E_FORMAT, "%s/system.json: defaults.%.60s: not a setting that a system can have", s->dir, key);
        if (known[k].i ? !json_is_integer(v) : !json_is_number(v))
            return rm_fail(err, RMAS_E_FORMAT, "%s/system.json: defaults.%s must be a %s", s->dir, key, known[k].i ? "whole number" : "number");
        if (*known[k].given) continue;
        *known[k].given = true;
        if (known[k].i)
            *known[k].i = json_integer_value(v);
        else
            *known[k].d = json_number_value(v);
    }
    return RMAS_OK;
}

/* Recommended settings of a published style: for flags that are not on the command line. */
static rmas_status recommended_settings(rm_run_flags *f, const rm_system *s, const char *dataset, rm_show *show, rmas_error *err) {
    rm_style_settings t;
    if (is(f->settings, "none") || !s->style || s->dir) return RMAS_OK;
    int version = is(f->settings, "1") || is(f->settings, "v1") ? 1 : is(f->settings, "2") || is(f->settings, "v2") ? 2 : 0;
    if (!version) return rm_fail(err, RMAS_E_ARG, "--settings %s: there are 1 (first release), 2 (June 2026) and none", f->settings);
    if (!rm_style_recommended(s->style, dataset, version, &t)) return RMAS_OK;
    bool used = false;
#define USE(given, field, value, there)                                                                                                              \
    if (!(given) && (there)) f->field = (value), used = true
    USE(f->g_rounds, rounds, t.rounds, t.rounds > 0);
    USE(f->g_latent, latent, t.latent_length, t.latent_length > 0);
    USE(f->g_batch, batch, t.batch_size, t.batch_size > 0);
    USE(f->g_temperature, temperature, t.temperature, t.temperature >= 0);
    USE(f->g_rollouts, rollouts, t.rollouts, t.rollouts > 0);
#undef USE
    if (used && !f->quiet)
        rm_show_note(show,
                     "settings recommended for %s on %s (%s): %d latent steps, %d rounds, batch %d, temperature %g, %d answer%s; flags given win",
                     s->style, dataset, version == 1 ? "first release" : "June 2026", (int)f->latent, (int)f->rounds, (int)f->batch, f->temperature,
                     (int)f->rollouts, f->rollouts == 1 ? "" : "s");
    return RMAS_OK;
}

static rmas_status precision_of(const rm_run_flags *f, rm_show *show, rm_precision *p, rmas_error *err) {
    if (is(f->dtype, "f32") || is(f->dtype, "float32"))
        *p = RM_EXACT;
    else if (is(f->dtype, "native") || is(f->dtype, "auto"))
        *p = RM_NATIVE;
    else if (is(f->dtype, "bfloat16") || is(f->dtype, "float16")) {
        *p = RM_NATIVE;
        rm_show_note(show, "note: --dtype %s: models are computed as they are stored (native); nothing is converted", f->dtype);
    } else
        return rm_fail(err, RMAS_E_ARG, "--dtype %s: there are f32 and native", f->dtype);
    return RMAS_OK;
}

static void honest_lines(const rm_run_flags *f, rm_show *show) {
    if (f->device && strncasecmp(f->device, "cpu", 3)) rm_show_note(show, "note: --device %s: rmas computes on the CPU", f->device);
    if (f->trust && strcmp(f->trust, "0")) rm_show_note(show, "note: --trust_remote_code: no code that comes with a model is ever run");
    if (f->outer_dtype && !is(f->outer_dtype, "auto") && !is(f->outer_dtype, "float32"))
        rm_show_note(show, "note: --outer_dtype %s: links follow --dtype, messages between agents are float32", f->outer_dtype);
}

/* ---- questions ------------------------------------------------------------------------------------------------------------- */

static rmas_status text_tests(void *pack, const char *q, const char *tests, rm_strbuf *out, rmas_error *err) {
    return rm_pack_question_tests(pack, q, tests, out, err);
}
static rmas_status text_starter(void *pack, const char *q, const char *starter, rm_strbuf *out, rmas_error *err) {
    return rm_pack_question_starter(pack, q, starter, out, err);
}
static rmas_status text_choice(void *pack, const char *q, rm_strbuf *out, rmas_error *err) { return rm_pack_question_choice(pack, q, out, err); }

/* RMAS_DATA/NAME.jsonl and the like. */
static char *find_dataset(const char *name) {
    static const char *const endings[] = {".jsonl", ".json", "_test.jsonl", ".csv"};
    const char *dir = getenv("RMAS_DATA");
    for (size_t i = 0; dir && i < RM_COUNT(endings); i++) {
        char file[256];
        snprintf(file, sizeof file, "%.200s%s", name, endings[i]);
        char *path = rm_path_join(dir, file);
        if (path && rm_path_exists(path)) return path;
        rm_free(path);
    }
    return NULL;
}

static rmas_status open_questions(rm_run_flags *f, rm_pack *pack, rm_dataset **out, rmas_error *err) {
    rm_dataset_options o = RM_DATASET_OPTIONS_DEFAULT;
    o.seed = f->seed;
    o.shuffle = f->shuffle;
    o.no_option_shuffle = f->no_option_shuffle != 0;
    o.private_tests = f->private_tests;
    o.first = f->first;
    o.num_samples = f->num_samples;
    o.prompt_tests = (int)f->prompt_tests;
    o.texts = (rm_dataset_texts){pack, text_tests, text_starter, text_choice};
    if (f->question.n || f->questions) return rm_dataset_questions(out, f->dataset, f->question.v, (size_t)f->question.n, f->questions, &o, err);
    if (!f->dataset) return rm_fail(err, RMAS_E_ARG, "no questions: give --dataset NAME, -q TEXT or --questions FILE");
    const char *name = f->dataset;
    char *found = NULL;
    if (f->dataset_path && !rm_dataset_canonical(name))
        return rm_fail(
            err, RMAS_E_ARG,
            "--dataset %s: not a data set that rmas knows (math500, gsm8k, medqa, gpqa, mbppplus, aime25, aime26, livecodebench, bamboogle, "
            "hotpotqa); for questions of your own: --questions %s",
            name, f->dataset_path);
    if (!f->dataset_path && rm_path_exists(name) && !rm_path_is_dir(name)) { /* as in the reference: a .json file is medqa's */
        f->dataset_path = name;
        f->dataset = name = "medqa";
    }
    if (!f->dataset_path) {
        found = find_dataset(rm_dataset_canonical(name) ? rm_dataset_canonical(name) : name);
        if (!found)
            return rm_fail(err, RMAS_E_IO, "%s: %s; give its file with --dataset_path, or put NAME.jsonl into the folder that RMAS_DATA names", name,
                           rm_dataset_canonical(name) ? "no file of this data set here" : "not a data set that rmas knows");
    }
    rmas_status st = rm_dataset_open(out, name, found ? found : f->dataset_path, &o, err);
    rm_free(found);
    return st;
}

/* ---- the parts of a run ---------------------------------------------------------------------------------------------------- */

void rm_run_close(rm_run_parts *p) {
    rm_strbuf_free(&p->more);
    rm_results_close(p->results);
    rm_replay_close(p->replay);
    rm_search_free(p->search);
    rm_sandbox_free(p->sandbox);
    rm_team_close(p->team);
    rm_exec_free(p->exec);
    rm_files_free(&p->files);
    rm_dataset_close(p->data);
    rm_pack_close(p->pack);
    rm_system_free(p->sys);
    rm_system_free(p->named);
}

/* Which system, with the method applied: text in place of latents, or one agent alone. */
static rmas_status open_system(rm_run_flags *f, rm_run_parts *p, rm_run_options *o, rmas_error *err) {
    if (!f->style == !f->system) return rm_fail(err, RMAS_E_ARG, "give either --style NAME or --system DIR");
    RM_TRY(rm_system_find(&p->named, f->system ? f->system : f->style, err));
    o->text = is(f->method, "text") || is(f->method, "text_recursive");
    if (is(f->method, "single") || is(f->method, "single_tools"))
        return rm_system_single(&p->sys, p->named, is(f->method, "single") ? "single" : "single-tools", is(f->method, "single_tools"), err);
    if (!o->text && !is(f->method, "latent"))
        return rm_fail(err, RMAS_E_ARG, "--method %s: there are latent, text, text_recursive, single and single_tools", f->method);
    p->sys = p->named;
    p->named = NULL;
    return RMAS_OK;
}

/* What no system could mean, before it is made smaller than 64 bits. */
static rmas_status check_numbers(const rm_run_flags *f, rmas_error *err) {
    const struct {
        const char *name;
        int64_t value;
    } whole[] = {{"latent_length", f->latent},
                 {"num_recursive_rounds", f->rounds},
                 {"batch_size", f->batch},
                 {"max_new_tokens", f->max_new_tokens},
                 {"max_answer_tokens", f->max_answer},
                 {"ans_max_new_tokens", f->ans_max},
                 {"num_rollouts", f->rollouts},
                 {"top_k", f->top_k},
                 {"choice_old_prompt", f->choice_old},
                 {"max_tool_rounds", f->max_tool_rounds},
                 {"threads", f->threads}};
    for (size_t i = 0; i < RM_COUNT(whole); i++)
        if (whole[i].value > INT32_MAX || whole[i].value < INT32_MIN)
            return rm_fail(err, RMAS_E_ARG, "--%s %lld: too %s", whole[i].name, (long long)whole[i].value, whole[i].value > 0 ? "large" : "small");
    if (f->threads < 0) return rm_fail(err, RMAS_E_ARG, "--threads %lld: it must be at least 0 (all processors)", (long long)f->threads);
    if (f->choice_old < -1 || f->choice_old > 3)
        return rm_fail(err, RMAS_E_ARG, "--choice_old_prompt %lld: it must be -1 to 3", (long long)f->choice_old);
    if (f->max_tool_rounds < 0) return rm_fail(err, RMAS_E_ARG, "--max_tool_rounds %lld: it must be at least 0", (long long)f->max_tool_rounds);
    return rm_cli_check_sampling(f->temperature, f->top_p, f->min_p, err);
}

static rmas_status read_settings(rm_run_flags *f, rm_run_parts *p, rm_show *show, rm_run_options *o, rmas_error *err) {
    const char *dataset = f->dataset && rm_dataset_canonical(f->dataset) ? rm_dataset_canonical(f->dataset) : f->dataset ? f->dataset : "gsm8k";
    const rm_system *named = p->named ? p->named : p->sys;
    bool published = !named->dir && !is(f->method, "text") && !is(f->method, "text_recursive");
    RM_TRY(manifest_settings(f, named, err));
    if (published) RM_TRY(recommended_settings(f, named, dataset, show, err));
    if (is(f->method, "text") || p->named) f->rounds = 1; /* one pass */
    RM_TRY(check_numbers(f, err));
    if (f->choice_old < 0) f->choice_old = strcmp(dataset, "gpqa") ? 0 : 2;
    if (f->batch < 1 || f->batch > 65536) return rm_fail(err, RMAS_E_ARG, "--batch_size %lld: it must be 1 to 65536", (long long)f->batch);
    if (f->rounds < 1) return rm_fail(err, RMAS_E_ARG, "--num_recursive_rounds %lld: it must be at least 1", (long long)f->rounds);
    if (f->latent < 0) return rm_fail(err, RMAS_E_ARG, "--latent_length %lld: it must be at least 0", (long long)f->latent);
    o->messages = is(f->messages, "other") ? RM_MESSAGES_OTHER : is(f->messages, "zero") ? RM_MESSAGES_ZERO : RM_MESSAGES_OWN;
    if (!o->messages && !is(f->messages, "own")) return rm_fail(err, RMAS_E_ARG, "--messages %s: there are own, other and zero", f->messages);
    if (o->messages && !is(f->method, "latent")) return rm_fail(err, RMAS_E_ARG, "--messages %s: only with --method latent", f->messages);
    o->n_round = (int)f->rounds;
    o->latent_steps = p->sys->n_edge ? (int)f->latent : 0;
    o->batch_size = (int)f->batch;
    o->max_new_tokens = f->g_max_new && f->max_new_tokens != -1 ? (int)f->max_new_tokens : rm_style_max_new_tokens(named->style, dataset);
    o->max_answer_tokens = f->max_answer > 0 ? (int)f->max_answer : 0;
    o->ans = f->ans != 0;
    o->ans_max_new_tokens = (int)f->ans_max;
    o->temperature = f->temperature;
    o->top_p = f->top_p;
    o->top_k = (int)f->top_k;
    o->min_p = f->min_p;
    o->seed = (uint64_t)(f->sample_seed >= 0 ? f->sample_seed : f->seed);
    o->n_rollout = (int)f->rollouts;
    if (f->pre_question) p->option_word[o->n_option++] = "question-first";
    if (f->choice_old > 0) {
        snprintf(p->option[0], sizeof p->option[0], "choice-%d", (int)f->choice_old);
        p->option_word[o->n_option++] = p->option[0];
    }
    o->option = p->option_word;
    if (o->n_rollout > 1 && o->temperature <= 0)
        rm_show_note(show, "note: --num_rollouts %d without sampling: all answers of a question are equal", o->n_rollout);
    return RMAS_OK;
}

static rmas_status open_tools(const rm_run_flags *f, rm_run_parts *p, rm_show *show, rm_run_options *o, rmas_error *err) {
    bool agents_call = false;
    for (int a = 0; a < p->sys->n_agent; a++) agents_call |= p->sys->agent[a].tools;
    for (const char *s = f->allow_tools; s && *s; s += strcspn(s, ","), s += *s == ',') {
        size_t n = strcspn(s, ",");
        if (n == 6 && !strncmp(s, "python", n))
            o->allow_python = true;
        else if (n == 6 && !strncmp(s, "search", n))
            o->allow_search = true;
        else
            return rm_fail(err, RMAS_E_ARG, "--allow_tools %s: there are python and search", f->allow_tools);
    }
    o->reference_loop = is(f->tool_loop, "reference");
    if (!o->reference_loop && !is(f->tool_loop, "rows"))
        return rm_fail(err, RMAS_E_ARG, "--tool_loop %s: there are rows and reference", f->tool_loop);
    o->max_tool_rounds = (int)f->max_tool_rounds;
    o->tool = (rm_tool_options){f->python_timeout, f->echo, f->result_max_chars > 0 ? (size_t)f->result_max_chars : 6000};
    if (rm_dataset_needs_search(p->data->name) && !(agents_call && o->allow_search))
        rm_show_note(show, "note: %s asks for facts; the reference runs it only with a style that searches (deliberation, --allow_tools search)",
                     p->data->name);
    if (!agents_call) return RMAS_OK;
    if (o->reference_loop && o->n_rollout > 1)
        return rm_fail(err, RMAS_E_UNSUPPORTED, "--tool_loop reference with %d answers per question: give --num_rollouts 1, and run it once per seed",
                       o->n_rollout);
    if (!(f->python_timeout > 0)) return rm_fail(err, RMAS_E_ARG, "--python_timeout %g: it must be more than 0", f->python_timeout);
    if (!o->allow_python && !o->allow_search)
        rm_show_note(
            show,
            "note: this system may call tools, but none is allowed: calls get the answer that they are switched off (--allow_tools python,search)");
    if (o->allow_python) {
        rm_sandbox_options so = {.unsafe = f->unsafe};
        rmas_status st = rm_sandbox_new(&p->sandbox, &so, err);
        if (st != RMAS_OK) return rm_fail_prefix(err, st, "--allow_tools python");
        if (f->unsafe) rm_show_note(show, "WARNING: --unsafe_python: programs that models write run without a sandbox");
        o->sandbox = p->sandbox;
    }
    if (o->allow_search) {
        RM_TRY(rm_search_new(&p->search, f->search, err));
        if (!rm_search_is_on(p->search)) rm_show_note(show, "note: search is off: no provider or no key (TAVILY_API_KEY)");
        o->search = p->search;
    }
    return RMAS_OK;
}

static rmas_status open_team(const rm_run_flags *f, rm_run_parts *p, rm_show *show, rm_run_options *o, rmas_error *err) {
    rm_team_options to = {.chat = {.enable_thinking = f->thinking != 0, .date = rm_date_today()}};
    RM_TRY(precision_of(f, show, &to.precision, err));
    if (f->date && !rm_date_parse(f->date, &to.chat.date)) return rm_fail(err, RMAS_E_ARG, "--date %s: YYYY-MM-DD was expected", f->date);
    to.links = !o->text && p->sys->n_edge > 0;
    rm_resolve_options ro = {rm_link_task_of_dataset(p->data->name), f->override.v, f->override.n, to.links};
    RM_TRY(rm_system_locate(&p->files, p->sys, &ro, err));
    RM_TRY(rm_exec_new(&p->exec, (int)f->threads, f->isa, err));
    if (f->profile || f->profile_json) RM_TRY(rm_profile_start(p->exec, err));
    rm_time_to(p->exec, RM_TIME_LOAD);
    RM_TRY(rm_team_open(&p->team, p->exec, p->sys, &p->files, &to, err));
    rm_time_to(p->exec, RM_TIME_OTHER);
    if (p->files.n_seeded)
        rm_show_note(show, "UNTRAINED: %d of %d links have no file and are made from seed %llu; what agents send one another means nothing yet",
                     p->files.n_seeded, p->sys->n_agent + p->sys->n_edge, (unsigned long long)p->sys->init_seed);
    for (int a = 0; a < p->team->n_agent && !f->quiet; a++) {
        const rm_agent *x = &p->team->agent[a];
        rm_show_note(show, "%s: %s, %.1f GB%s%s", x->role, rm_model_config(x->model)->model_type, (double)rm_model_bytes(x->model) * 1e-9,
                     x->shared_with >= 0 ? ", shared with " : "", x->shared_with >= 0 ? p->team->agent[x->shared_with].role : "");
    }
    return rm_memory_check(p->team, o, err);
}

rmas_status rm_run_open_questions(rm_run_flags *f, rm_run_parts *p, rm_run_options *o, rmas_error *err) {
    RM_TRY(open_system(f, p, o, err));
    RM_TRY(rm_pack_open(&p->pack, f->prompts ? f->prompts : p->sys->prompts, err));
    return open_questions(f, p->pack, &p->data, err);
}

rmas_status rm_run_open_team(rm_run_flags *f, rm_run_parts *p, rm_show *show, rm_run_options *o, rmas_error *err) {
    RM_TRY(read_settings(f, p, show, o, err));
    honest_lines(f, show);
    RM_TRY(rm_run_check_prompts(p->sys, p->pack, p->data, o, err));
    RM_TRY(open_tools(f, p, show, o, err));
    return open_team(f, p, show, o, err);
}

rm_results_options rm_run_results_options(const rm_run_flags *f, rm_run_parts *p, const rm_run_options *o) {
    rm_strbuf_clear(&p->more);
    rm_strbuf_printf(&p->more, "%s|%d|%s", f->dtype, (int)f->thinking, f->date ? f->date : "");
    for (int i = 0; i < f->override.n; i++) rm_strbuf_printf(&p->more, "|%s", f->override.v[i]);
    return (rm_results_options){.data = p->data,
                                .sys = p->sys,
                                .run = o,
                                .dataset = p->data->name,
                                .split = f->split ? f->split : rm_dataset_split(p->data->name),
                                .method = f->method,
                                .prompts = f->prompts ? f->prompts : p->sys->prompts,
                                .more = rm_str(&p->more),
                                .resume = f->resume,
                                .unsafe = f->unsafe,
                                .program_timeout_s = f->program_timeout};
}
