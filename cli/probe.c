/* rmas probe: the table of its sub-commands. */
#include "probe.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *word;
    int (*run)(int, char **);
    const char *title, *summary;
} probes[] = {
#define X(name, word, summary) {word, probe_##name, "probe " word, summary},
    RM_PROBES(X)
#undef X
};

static void usage(FILE *f) {
    fprintf(f, "usage: rmas probe NAME [ARGUMENTS]\n\n");
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) fprintf(f, "  %-11s %s\n", probes[i].word, probes[i].summary);
    fprintf(f, "\n'rmas probe NAME --help' says more.\n");
}

int cmd_probe(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "rmas probe: which numbers? 'rmas probe --help' lists them\n");
        return 1;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        if (strcmp(argv[1], probes[i].word) != 0) continue;
        argv[1] = (char *)(uintptr_t)probes[i].title;
        return probes[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "rmas probe: unknown command '%s'; 'rmas probe --help' lists them\n", argv[1]);
    return 1;
}
