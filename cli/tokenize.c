#include <stdio.h>

#include "cli.h"

int cmd_tokenize(int argc, char **argv) {
    (void)argc;
    fprintf(stderr, "rmas %s: unsupported\n", argv[0]);
    return 1;
}
