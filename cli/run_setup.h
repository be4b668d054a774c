/* What `rmas run` and `rmas data make` share: flags of a run, where their defaults come from, and putting the parts together. */
#ifndef RM_RUN_SETUP_H
#define RM_RUN_SETUP_H

#include "cli.h"
#include "run_show.h"
#include "system/system.h"

typedef struct {
    const char *style, *system, *dataset, *dataset_path, *split, *questions, *prompts, *date, *dtype, *outer_dtype, *isa, *device, *trust, *settings;
    const char *method, *messages, *tool_loop, *allow_tools, *search, *record, *replay, *result_jsonl, *profile_json;
    rm_opt_list question, override;
    int64_t num_samples, first, seed, sample_seed, rounds, batch, latent, top_k, max_new_tokens, max_answer, ans, ans_max, rollouts, thinking,
        pre_question, choice_old, threads;
    int64_t max_tool_rounds, result_max_chars, prompt_tests, no_option_shuffle;
    double temperature, top_p, min_p, python_timeout, program_timeout;
    bool shuffle, echo, unsafe, resume, quiet, show_text, do_sample, private_tests, profile;
    bool g_rounds, g_rollouts, g_batch, g_latent, g_temperature, g_top_p, g_top_k, g_max_new, g_choice_old, g_ans, g_thinking, g_dataset; /* given */
} rm_run_flags;

extern const rm_run_flags rm_run_defaults;

/* Rows of option tables; f is the rm_run_flags. */
#define INT(name, field, given, arg, help)                                                                                                           \
    { name, RM_OPT_INT, &f->field, given, arg, help }
#define NUM(name, field, given, arg, help)                                                                                                           \
    { name, RM_OPT_FLOAT, &f->field, given, arg, help }
#define STR(name, field, arg, help)                                                                                                                  \
    { name, RM_OPT_STRING, &f->field, NULL, arg, help }
#define FLAG(name, field, help)                                                                                                                      \
    { name, RM_OPT_FLAG, &f->field, NULL, NULL, help }

/* Options of a command: its own, ended by a name NULL, and those of every run. As rm_opt_parse. */
int rm_run_parse(int argc, char **argv, rm_run_flags *f, const rm_opt *own, const char *usage, int *n_word);

typedef struct {
    rm_system *sys, *named; /* named: the system as given, when sys is one agent of it */
    rm_pack *pack;
    rm_dataset *data;
    rm_files files;
    rm_exec *exec;
    rm_team *team;
    rm_sandbox *sandbox;
    rm_search *search;
    rm_replay *replay;
    rm_results *results;
    rm_strbuf more; /* settings for the fingerprint of a results file */
    char option[2][32];
    const char *option_word[2];
} rm_run_parts;

/* System, prompts and questions of the flags; then settings, tools and the loaded team. o and p need no other order. */
rmas_status rm_run_open_questions(rm_run_flags *f, rm_run_parts *p, rm_run_options *o, rmas_error *err);
rmas_status rm_run_open_team(rm_run_flags *f, rm_run_parts *p, rm_show *show, rm_run_options *o, rmas_error *err);
/* Everything about a results file but its name. */
rm_results_options rm_run_results_options(const rm_run_flags *f, rm_run_parts *p, const rm_run_options *o);
void rm_run_close(rm_run_parts *p);

#endif
