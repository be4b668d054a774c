#include "probe.h"

static int unsupported(char **argv) {
    fprintf(stderr, "rmas %s: unsupported\n", argv[0]);
    return 1;
}

int probe_link(int argc, char **argv) { return (void)argc, unsupported(argv); }
int probe_link_grad(int argc, char **argv) { return (void)argc, unsupported(argv); }
