#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

int rm_cli_jsonl(rm_jsonl_fn fn, void *ctx) {
    char *line = NULL;
    size_t cap = 0;
    int status = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        if (line[n - 1] == '\n') n--;
        rmas_error err = {0};
        json_error_t je;
        json_t *in = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &je), *out = NULL;
        if (!json_is_object(in))
            rm_fail(&err, RMAS_E_FORMAT, "not a JSON object: %s", in ? "another kind of value" : je.text);
        else
            out = fn(ctx, in, &err);
        json_decref(in);
        if (!out) {
            status = 1;
            out = json_pack("{s:s}", "error", err.msg);
        }
        char *text = out ? json_dumps(out, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
        json_decref(out);
        puts(text ? text : "{\"error\": \"out of memory\"}");
        free(text);
        fflush(stdout);
    }
    free(line);
    if (ferror(stdin) || ferror(stdout)) {
        fprintf(stderr, "rmas: cannot read or write the lines\n");
        return 1;
    }
    return status;
}
