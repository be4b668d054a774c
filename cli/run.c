/* rmas run: a system answers questions. */
#include <stdio.h>

#include "profile.h"
#include "run_setup.h"
#include "util/mem.h"
#include "util/strbuf.h"

static int parse(int argc, char **argv, rm_run_flags *f, int *n_word) {
    const rm_opt own[] = {
        {"q", RM_OPT_LIST, &f->question, NULL, "TEXT", "a question of your own; repeatable"},
        STR("questions", questions, "FILE", "questions of your own: text (one per line), JSON or JSONL"),
        {"dataset", RM_OPT_STRING, &f->dataset, &f->g_dataset, "NAME", "math500, gsm8k, medqa, gpqa, mbppplus, livecodebench, aime25, ..."},
        STR("dataset_path", dataset_path, "FILE", "its file (JSON, JSONL, CSV); default: looked for in RMAS_DATA"),
        FLAG("private_tests", private_tests, "livecodebench: private tests too"),
        STR("method", method, "NAME", "latent, text, text_recursive (agents exchange text), single, single_tools (one agent alone)"),
        STR("messages", messages, "own|other|zero",
            "controls: latent messages of another question of the batch, or zeros, in place of a question's own"),
        INT("num_recursive_rounds", rounds, &f->g_rounds, "N", "rounds"),
        INT("latent_length", latent, &f->g_latent, "N", "latent steps of a stage"),
        FLAG("do_sample", do_sample, "accepted; sampling is on unless --temperature 0"),
        INT("num_rollouts", rollouts, &f->g_rollouts, "K", "answers per question; pass@K"),
        INT("ans", ans, &f->g_ans, "0|1", "ask again when no answer can be read from the text"),
        INT("ans_max_new_tokens", ans_max, NULL, "N", "-1: 16, 256 for code"),
        STR("settings", settings, "1|2|none", "table of recommended settings of the published systems (2: June 2026)"),
        STR("result_jsonl", result_jsonl, "FILE", "a line per question as soon as it is done"),
        STR("record", record, "DIR", "every prompt, id, state and message as data"),
        STR("replay", replay, "FILE", "what agents write, instead of sampling"),
        STR("outer_dtype", outer_dtype, "NAME", "accepted: links follow --dtype, messages are float32"),
        FLAG("profile", profile, "at the end: where the time went, beside what this machine can do"),
        STR("profile_json", profile_json, "FILE", "the same as JSON"),
        FLAG("show_text", show_text, "print whole answers"),
        {0},
    };
    return rm_run_parse(argc, argv, f, own, "rmas run (--style NAME | --system DIR) (--dataset NAME | -q TEXT | --questions FILE) [OPTION]...",
                        n_word);
}

static rmas_status run(rm_run_flags *f, rm_run_parts *p, rm_show *show, rmas_error *err) {
    rm_run_options o = {.cancel = rm_cli_catch_interrupts(), .record = f->record};
    if (f->resume && !f->result_jsonl) return rm_fail(err, RMAS_E_ARG, "--resume needs --result_jsonl FILE: that is where it goes on");
    RM_TRY(rm_run_open_questions(f, p, &o, err));
    RM_TRY(rm_run_open_team(f, p, show, &o, err));
    if (f->replay) RM_TRY(rm_replay_open(&p->replay, f->replay, p->team, o.n_round, err));
    o.replay = p->replay;
    rm_results_options ro = rm_run_results_options(f, p, &o);
    ro.path = f->result_jsonl;
    RM_TRY(rm_results_open(&p->results, &ro, err));
    show->results = p->results;
    show->full_text = f->show_text || f->question.n || f->questions;
    rm_run_hooks hooks = {show, rm_show_event, rm_show_answer, rm_show_skip};
    RM_TRY(rm_grading_open(&show->grading, rm_show_grade, show, err));
    rmas_status st = rm_run(p->team, p->pack, p->data, &o, &hooks, err);
    rmas_error later = {0};
    rmas_status graded = rm_grading_close(show->grading, &later);
    if (st == RMAS_OK && (st = graded) != RMAS_OK) *err = later;
    if (st == RMAS_OK && (st = rm_results_finish(p->results, &later)) != RMAS_OK) *err = later;
    rm_show_end(show, st == RMAS_OK, (int)p->data->n);
    if (p->exec->profile && rm_profile_report(p->exec, f->profile, f->profile_json, &later) != RMAS_OK) rm_show_note(show, "note: %s", later.msg);
    return st;
}

int cmd_run(int argc, char **argv) {
    rm_run_flags f = rm_run_defaults;
    rm_run_parts p = {0};
    rm_show show;
    rmas_error err = {0};
    int n_word, status = 0, bad = parse(argc, argv, &f, &n_word);
    if (bad) {
        rm_free(f.question.v);
        rm_free(f.override.v);
        return bad == 1;
    }
    rm_show_start(&show, NULL, f.quiet, false);
    if (n_word && !f.system && !f.style) f.system = argv[1]; /* rmas run systems/nano-sequential -q ... */
    rmas_status st =
        n_word > 1 || (n_word && f.system != argv[1]) ? rm_fail(&err, RMAS_E_ARG, "'%s' is not an option", argv[n_word]) : run(&f, &p, &show, &err);
    if (st == RMAS_E_CANCELLED) {
        fprintf(stderr, "rmas run: interrupted%s\n", f.result_jsonl ? "; the results so far are kept, --resume goes on" : "");
        status = 128 + *rm_cli_catch_interrupts();
    } else if (st != RMAS_OK) {
        status = rm_cli_fail(argv[0], &err);
    }
    rm_run_close(&p);
    rm_free(f.question.v);
    rm_free(f.override.v);
    return status;
}
