/* rmas: the program. One file per command; the table below is all that main knows of them. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

#include "rmas.h"

static const rm_command commands[] = {
#define X(name, summary) {#name, cmd_##name, summary},
    RM_COMMANDS(X)
#undef X
};

static void usage(FILE *f) {
    fprintf(f, "rmas %s: recursive multi-agent systems\n\nusage: rmas COMMAND [ARGUMENTS]\n\n", rmas_version());
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) fprintf(f, "  %-11s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\n'rmas COMMAND --help' says more.\n");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return 1;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("rmas %s\n", rmas_version());
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "rmas: unknown command '%s'; 'rmas --help' lists the commands\n", argv[1]);
    return 1;
}
