/* rmas: the program. One file per command; the table below is all that main knows of them. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
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

/* A full disk behind standard output is an error too. */
static int said_all(const char *command, int status) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "rmas %s: cannot write to standard output: %s\n", command, errno ? strerror(errno) : "an error before");
    return status ? status : 1;
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of write, with a message */
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
        if (!strcmp(argv[1], commands[i].name)) return said_all(argv[1], commands[i].run(argc - 1, argv + 1));
    fprintf(stderr, "rmas: unknown command '%s'; 'rmas --help' lists the commands\n", argv[1]);
    return 1;
}
