#include <stdio.h>

#include "cli.h"

int cmd_probe(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "rmas %s: unsupported\n", argv[0]);
    return 1;
}
