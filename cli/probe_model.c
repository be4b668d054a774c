#include "probe.h"

static int unsupported(char **argv) {
    fprintf(stderr, "rmas %s: unsupported\n", argv[0]);
    return 1;
}

int probe_forward(int argc, char **argv) { return (void)argc, unsupported(argv); }
int probe_rollout(int argc, char **argv) { return (void)argc, unsupported(argv); }
int probe_generate(int argc, char **argv) { return (void)argc, unsupported(argv); }
int probe_config(int argc, char **argv) { return (void)argc, unsupported(argv); }
int probe_grad(int argc, char **argv) { return (void)argc, unsupported(argv); }
