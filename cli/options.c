#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "util/mem.h"

/* --batch-size and --batch_size are one option. */
static bool same_name(const char *opt, const char *arg, size_t n) {
    if (strlen(opt) != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((arg[i] == '-' ? '_' : arg[i]) != (opt[i] == '-' ? '_' : opt[i])) return false;
    return true;
}

static void print_help(const rm_opt *opts, const char *usage) {
    printf("usage: %s\n", usage);
    if (opts->name) printf("\n");
    for (; opts->name; opts++) {
        char left[64], def[64] = "";
        snprintf(left, sizeof left, "%s%s%s%s", opts->name[1] ? "--" : "-", opts->name, opts->arg ? " " : "", opts->arg ? opts->arg : "");
        if (opts->kind == RM_OPT_INT) snprintf(def, sizeof def, " (%lld)", (long long)*(int64_t *)opts->value);
        if (opts->kind == RM_OPT_FLOAT) snprintf(def, sizeof def, " (%g)", *(double *)opts->value);
        if (opts->kind == RM_OPT_STRING && *(const char **)opts->value) snprintf(def, sizeof def, " (%s)", *(const char **)opts->value);
        printf("  %-30s %s%s\n", left, opts->help, def);
    }
}

/* Flags of the reference's scripts and front ends that have no meaning here, or another name: why, and what to do. NULL: not one of
 * them, or not one for a command with these options. */
static const char *reference_flag(const rm_opt *opts, const char *name, size_t n) {
    static const struct {
        const char *name, *option /* that the command must have */, *say;
    } known[] = {{"latent_steps", "latent_length", "it is --latent_length here"},
                 {"greedy", "temperature", "it is --temperature 0 here"},
                 {"no_ans", "ans", "it is --ans 0 here"},
                 {"quiet_tools", "quiet", "it is --quiet here"},
                 {"repetition_penalty", "temperature", "there is none, as with the reference's default of 1"},
                 {"presence_penalty", "temperature", "there is none; the reference ignores it too"},
                 {"python_cwd", "python_timeout", "programs run in a folder of their own in the sandbox"},
                 {"mas_shape", "style", "the style says it (--style)"},
                 {"tavily_search_depth", "allow_tools", "it is always advanced, the reference's default"},
                 {"tavily_max_results", "allow_tools", "there are always 4, the reference's default"},
                 {"align_outer", "init", "it is --init aligned here"},
                 {"load_bridges", "init", "it is --init aligned here: the start is computed, not loaded"},
                 {"align_samples", "init", "the aligned start takes its rows from the data by itself"}};
    for (size_t i = 0; i < RM_COUNT(known); i++)
        if (same_name(known[i].name, name, n)) {
            while (opts->name && strcmp(opts->name, known[i].option)) opts++;
            return opts->name ? known[i].say : NULL;
        }
    return NULL;
}

static const char *set_value(const rm_opt *o, const char *value) {
    char *end;
    errno = 0;
    switch (o->kind) {
    case RM_OPT_INT: {
        long long v = strtoll(value, &end, 10);
        if (!*value || *end || errno) return "is not a whole number";
        *(int64_t *)o->value = v;
        return NULL;
    }
    case RM_OPT_FLOAT: {
        double v = strtod(value, &end);
        if (!*value || *end || errno || !isfinite(v)) return "is not a number";
        *(double *)o->value = v;
        return NULL;
    }
    case RM_OPT_STRING: *(const char **)o->value = value; return NULL;
    case RM_OPT_LIST: {
        rm_opt_list *l = o->value;
        const char **v = rm_realloc_array(l->v, (size_t)l->n + 1, sizeof *v);
        if (!v) return "does not fit into memory";
        v[l->n++] = value;
        l->v = v;
        return NULL;
    }
    default: return NULL;
    }
}

int rm_opt_parse(int argc, char **argv, const rm_opt *opts, const char *usage, int *n_word) {
    const char *cmd = argv[0];
    int words = 0;
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (only_words || a[0] != '-' || !a[1]) {
            argv[1 + words++] = a;
            continue;
        }
        if (!strcmp(a, "--")) {
            only_words = true;
            continue;
        }
        if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            print_help(opts, usage);
            return 2;
        }
        const char *name = a + (a[1] == '-' ? 2 : 1), *eq = strchr(name, '=');
        size_t n = eq ? (size_t)(eq - name) : strlen(name);
        const rm_opt *o = opts;
        while (o->name && !same_name(o->name, name, n)) o++;
        if (!o->name) {
            const char *say = reference_flag(opts, name, n);
            if (say)
                fprintf(stderr, "rmas %s: %s: %s\n", cmd, a, say);
            else
                fprintf(stderr, "rmas %s: unknown option '%s'; 'rmas %s --help' lists the options\n", cmd, a, cmd);
            return 1;
        }
        if (o->given) *o->given = true;
        if (o->kind == RM_OPT_FLAG) {
            if (eq) {
                fprintf(stderr, "rmas %s: --%s takes no value\n", cmd, o->name);
                return 1;
            }
            *(bool *)o->value = true;
            continue;
        }
        bool alone = o->arg && !strcmp(o->arg, "0|1") && !eq && (i + 1 == argc || (argv[i + 1][0] == '-' && argv[i + 1][1] == '-'));
        const char *value = alone ? "1" : eq ? eq + 1 : ++i < argc ? argv[i] : NULL; /* --ans alone is --ans 1, as in the reference */
        if (!value) {
            fprintf(stderr, "rmas %s: %s needs a value (%s)\n", cmd, a, o->arg ? o->arg : "VALUE");
            return 1;
        }
        const char *bad = set_value(o, value);
        if (bad) {
            fprintf(stderr, "rmas %s: %s: '%s' %s\n", cmd, a, value, bad);
            return 1;
        }
    }
    *n_word = words;
    return 0;
}

rmas_status rm_cli_check_sampling(double temperature, double top_p, double min_p, rmas_error *err) {
    if (temperature < 0) return rm_fail(err, RMAS_E_ARG, "--temperature %g: it must be at least 0 (greedy)", temperature);
    if (top_p < 0) return rm_fail(err, RMAS_E_ARG, "--top_p %g: it must be from 0 to 1 (off)", top_p);
    if (min_p > 1) return rm_fail(err, RMAS_E_ARG, "--min_p %g: it must be at most 1; -1: as the model says", min_p);
    return RMAS_OK;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig) {
    if (interrupted) _exit(128 + sig); /* twice: at once */
    interrupted = sig;
}

const volatile sig_atomic_t *rm_cli_catch_interrupts(void) {
    struct sigaction act = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    return &interrupted;
}

int rm_cli_fail(const char *command, const rmas_error *err) {
    fprintf(stderr, "rmas %s: %s\n", command, err->msg);
    return 1;
}
