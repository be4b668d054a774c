/* rmas template MODEL: renders chats. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "prompt/prompt.h"
#include "util/mem.h"

typedef struct {
    rm_tmpl *tmpl;
    json_t *tokens;
    rm_date date;
} state;

/* One chat: messages and whatever variables there are. */
static json_t *render(void *ctx, json_t *in, rmas_error *err) {
    state *s = ctx;
    rm_strbuf out = {0};
    json_t *result = NULL;
    if (!json_is_array(json_object_get(in, "messages"))) {
        rm_fail(err, RMAS_E_ARG, "\"messages\" is missing: a list of {\"role\", \"content\"}");
        return NULL;
    }
    json_object_update_missing(in, s->tokens);
    if (rm_tmpl_render(s->tmpl, in, s->date, &out, err) == RMAS_OK) {
        result = json_object();
        json_t *text = json_stringn(rm_str(&out), out.n);
        if (!result || !text || json_object_set_new(result, "text", text)) {
            json_decref(result);
            result = NULL;
            rm_fail(err, RMAS_E_NOMEM, "out of memory");
        }
    }
    rm_strbuf_free(&out);
    return result;
}

/* For people: one user message, perhaps with a system message. */
static int render_one(state *s, const char *system, const char *user, bool thinking) {
    rmas_error err = {0};
    json_t *in =
        json_pack("{s:[{s:s, s:s}], s:b, s:b}", "messages", "role", "user", "content", user, "add_generation_prompt", 1, "enable_thinking", thinking);
    if (!in) {
        rm_fail(&err, RMAS_E_ARG, "the message is not valid UTF-8");
        return rm_cli_fail("template", &err);
    }
    if (system) json_array_insert_new(json_object_get(in, "messages"), 0, json_pack("{s:s, s:s}", "role", "system", "content", system));
    json_t *out = render(s, in, &err);
    if (out) {
        const json_t *text = json_object_get(out, "text");
        fwrite(json_string_value(text), 1, json_string_length(text), stdout);
        if (!json_string_length(text) || json_string_value(text)[json_string_length(text) - 1] != '\n') putchar('\n');
    }
    json_decref(in);
    json_decref(out);
    return out ? 0 : rm_cli_fail("template", &err);
}

int cmd_template(int argc, char **argv) {
    static const char usage[] = "rmas template MODEL [\"message\"] [--system TEXT] [--date YYYY-MM-DD]\n"
                                "       rmas template MODEL --jsonl [--date YYYY-MM-DD]    {\"messages\", variables...} -> {\"text\"}";
    bool jsonl = false, thinking = false, source_only = false;
    const char *date = NULL, *system = NULL;
    const rm_opt opts[] = {
        {"jsonl", RM_OPT_FLAG, &jsonl, NULL, NULL, "chats as JSON lines on stdin, texts on stdout"},
        {"date", RM_OPT_STRING, &date, NULL, "YYYY-MM-DD", "what the template's clock shows (default: today)"},
        {"system", RM_OPT_STRING, &system, NULL, "TEXT", "a system message before the message"},
        {"thinking", RM_OPT_FLAG, &thinking, NULL, NULL, "enable_thinking is true for the message"},
        {"source", RM_OPT_FLAG, &source_only, NULL, NULL, "print the template itself"},
        {0},
    };
    int n_word;
    int rc = rm_opt_parse(argc, argv, opts, usage, &n_word);
    if (rc) return rc == 2 ? 0 : 1;
    rmas_error err = {0};
    state s = {.date = rm_date_today()};
    char *source = NULL;
    if (n_word < 1 || n_word > 2 || (jsonl && n_word != 1)) {
        fprintf(stderr, "usage: %s\n", usage);
        return 1;
    }
    if (date && !rm_date_parse(date, &s.date)) {
        rm_fail(&err, RMAS_E_ARG, "--date %s: not a date of the form YYYY-MM-DD", date);
        return rm_cli_fail("template", &err);
    }
    if (rm_chat_source(&source, &s.tokens, argv[1], &err) != RMAS_OK) return rm_cli_fail("template", &err);
    if (source_only) {
        fputs(source, stdout);
        rc = 0;
    } else if (rm_tmpl_new(&s.tmpl, source, strlen(source), argv[1], &err) != RMAS_OK) {
        rc = rm_cli_fail("template", &err);
    } else {
        rc = jsonl ? rm_cli_jsonl(render, &s) : render_one(&s, system, n_word == 2 ? argv[2] : "Hello!", thinking);
    }
    rm_tmpl_free(s.tmpl);
    json_decref(s.tokens);
    rm_free(source);
    return rc;
}
