/* rmas tokenize: text to ids, as JSON lines or for people. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "tok/tok.h"

typedef struct {
    rm_tok *tok;
    bool no_special;
} context;

static json_t *line(void *ctx, json_t *in, rmas_error *err) {
    const context *c = ctx;
    const json_t *text = json_object_get(in, "text");
    if (!json_is_string(text)) {
        rm_fail(err, RMAS_E_ARG, "\"text\" is missing or not a string");
        return NULL;
    }
    rm_ids ids = {0};
    json_t *out = NULL, *list = NULL;
    if (rm_tok_encode(c->tok, json_string_value(text), json_string_length(text), !c->no_special, &ids, err) == RMAS_OK) {
        list = json_array();
        for (int i = 0; i < ids.n; i++) json_array_append_new(list, json_integer(ids.id[i]));
        out = json_pack("{s:o}", "ids", list);
        if (!out) rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    rm_ids_free(&ids);
    return out;
}

/* One token per line: id and piece, quoted so that white space and odd bytes can be seen. */
static void print_piece(const rm_tok *t, int32_t id) {
    rm_strbuf b = {0};
    rm_tok_piece(t, id, &b);
    printf("%8d  \"", id);
    for (size_t i = 0; i < b.n; i++) {
        unsigned char c = (unsigned char)b.s[i];
        const char *at = c ? strchr("\n\t\r\"\\", c) : NULL;
        if (at)
            printf("\\%c", "ntr\"\\"[at - "\n\t\r\"\\"]);
        else if (c < 0x20 || c == 0x7F)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    printf("\"%s\n", rm_tok_is_special(t, id) ? "  (special)" : "");
    rm_strbuf_free(&b);
}

static int people(const context *c, const char *text) {
    rm_ids ids = {0};
    rmas_error err = {0};
    int status = 0;
    if (rm_tok_encode(c->tok, text, strlen(text), !c->no_special, &ids, &err) != RMAS_OK)
        status = rm_cli_fail("tokenize", &err);
    else
        for (int i = 0; i < ids.n; i++) print_piece(c->tok, ids.id[i]);
    rm_ids_free(&ids);
    return status;
}

int cmd_tokenize(int argc, char **argv) {
    context c = {0};
    bool jsonl = false;
    const rm_opt opts[] = {
        {"no_special", RM_OPT_FLAG, &c.no_special, NULL, NULL, "do not add what the model puts around a text (BOS)"},
        {"jsonl", RM_OPT_FLAG, &jsonl, NULL, NULL, "{\"text\"} lines on stdin, {\"ids\"} lines on stdout"},
        {0},
    };
    int n;
    int rc = rm_opt_parse(argc, argv, opts, "rmas tokenize MODEL [TEXT]\n\nMODEL: a folder, a tokenizer.json or a .gguf file.", &n);
    if (rc) return rc == 2 ? 0 : rc;
    if (n != (jsonl ? 1 : 2)) {
        fprintf(stderr, "rmas tokenize: %s\n", jsonl ? "MODEL alone is expected with --jsonl" : "MODEL and TEXT are expected, or MODEL and --jsonl");
        return 1;
    }
    rmas_error err = {0};
    if (rm_tok_open(&c.tok, argv[1], &err) != RMAS_OK) return rm_cli_fail("tokenize", &err);
    int status = jsonl ? rm_cli_jsonl(line, &c) : people(&c, argv[2]);
    rm_tok_close(c.tok);
    return status;
}
