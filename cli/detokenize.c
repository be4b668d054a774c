/* rmas detokenize: ids to text, as JSON lines or for people. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "tok/tok.h"

typedef struct {
    rm_tok *tok;
    bool skip_special;
} context;

static json_t *line(void *ctx, json_t *in, rmas_error *err) {
    const context *c = ctx;
    const json_t *list = json_object_get(in, "ids");
    rm_ids ids = {0};
    rm_strbuf text = {0};
    json_t *out = NULL;
    bool ok = json_is_array(list);
    if (!ok) rm_fail(err, RMAS_E_ARG, "\"ids\" is missing or not an array");
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        ok = json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) <= INT32_MAX;
        if (!ok)
            rm_fail(err, RMAS_E_ARG, "\"ids\": entry %zu is not an id", i);
        else if (!(ok = rm_ids_push(&ids, (int32_t)json_integer_value(id))))
            rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    if (ok && rm_tok_decode(c->tok, ids.id, ids.n, c->skip_special, true, &text, err) == RMAS_OK) {
        out = json_pack("{s:s%}", "text", rm_str(&text), text.n);
        if (!out) rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    rm_ids_free(&ids);
    rm_strbuf_free(&text);
    return out;
}

static int people(const context *c, int n, char **word) {
    rm_ids ids = {0};
    rm_strbuf text = {0};
    rmas_error err = {0};
    for (int i = 0; i < n; i++) {
        char *end;
        long id = strtol(word[i], &end, 10);
        if (!*word[i] || *end || id < 0 || id > INT32_MAX || !rm_ids_push(&ids, (int32_t)id)) {
            fprintf(stderr, "rmas detokenize: '%s' is not an id\n", word[i]);
            rm_ids_free(&ids);
            return 1;
        }
    }
    int status = 0;
    if (rm_tok_decode(c->tok, ids.id, ids.n, c->skip_special, true, &text, &err) != RMAS_OK)
        status = rm_cli_fail("detokenize", &err);
    else
        printf("%s\n", rm_str(&text));
    rm_ids_free(&ids);
    rm_strbuf_free(&text);
    return status;
}

int cmd_detokenize(int argc, char **argv) {
    context c = {0};
    bool jsonl = false;
    const rm_opt opts[] = {
        {"skip_special", RM_OPT_FLAG, &c.skip_special, NULL, NULL, "leave special tokens out"},
        {"jsonl", RM_OPT_FLAG, &jsonl, NULL, NULL, "{\"ids\"} lines on stdin, {\"text\"} lines on stdout"},
        {0},
    };
    int n;
    int rc = rm_opt_parse(argc, argv, opts, "rmas detokenize MODEL [ID]...\n\nMODEL: a folder, a tokenizer.json or a .gguf file.", &n);
    if (rc) return rc == 2 ? 0 : rc;
    if (n < 1 || (jsonl && n > 1)) {
        fprintf(stderr, "rmas detokenize: %s\n", jsonl ? "MODEL alone is expected with --jsonl" : "MODEL and ids are expected");
        return 1;
    }
    rmas_error err = {0};
    if (rm_tok_open(&c.tok, argv[1], &err) != RMAS_OK) return rm_cli_fail("detokenize", &err);
    int status = jsonl ? rm_cli_jsonl(line, &c) : people(&c, n - 1, argv + 2);
    rm_tok_close(c.tok);
    return status;
}
