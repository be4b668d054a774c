/* rmas resolve: which files a run would use; whatever a run refuses is refused here. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "system/team.h"
#include "util/mem.h"

static rmas_status resolve(const char *name, const char *dataset, const rm_opt_list *override, rmas_error *err) {
    rm_system *s;
    rm_files f = {0};
    rm_exec *e = NULL;
    rm_team *t = NULL;
    json_t *o = NULL;
    RM_TRY(rm_system_find(&s, name, err));
    rm_resolve_options ro = {rm_link_task_of_dataset(dataset), override->v, override->n, true};
    rm_team_options to = {.precision = RM_EXACT, .links = true, .chat = {.date = rm_date_today()}};
    rmas_status st = rm_system_locate(&f, s, &ro, err);
    if (st == RMAS_OK) st = rm_exec_new(&e, 1, NULL, err);
    if (st == RMAS_OK) st = rm_team_open(&t, e, s, &f, &to, err);
    if (st == RMAS_OK) st = rm_team_describe(&o, t, &f, err);
    if (st == RMAS_OK) {
        char *text = json_dumps(o, JSON_INDENT(1) | JSON_ENSURE_ASCII);
        if (text)
            puts(text);
        else
            st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
        free(text);
        json_decref(o);
    }
    rm_team_close(t);
    rm_exec_free(e);
    rm_files_free(&f);
    rm_system_free(s);
    return st;
}

int cmd_resolve(int argc, char **argv) {
    const char *dataset = "math500";
    rm_opt_list override = {0};
    int n_word;
    const rm_opt opts[] = {
        {"dataset", RM_OPT_STRING, &dataset, NULL, "NAME", "links differ between code and other data sets"},
        {"ckpt_override", RM_OPT_LIST, &override, NULL, "KEY=PATH",
         "a role's model folder, 'outer' for the outer links, ROLE/inner for an inner link; repeatable"},
        {0},
    };
    int bad = rm_opt_parse(argc, argv, opts, "rmas resolve STYLE|SYSTEM [--dataset NAME] [--ckpt_override KEY=PATH]...", &n_word);
    rmas_error err = {0};
    int status = bad == 1;
    if (!bad && n_word != 1) {
        rm_fail(&err, RMAS_E_ARG, "one style or system folder must be named; 'rmas resolve --help' says more");
        status = rm_cli_fail(argv[0], &err);
    } else if (!bad && resolve(argv[1], dataset, &override, &err) != RMAS_OK) {
        status = rm_cli_fail(argv[0], &err);
    }
    rm_free(override.v);
    return status;
}
