/* rmas prompts: look up, show and check prompt packs. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "prompt/prompt.h"
#include "util/mem.h"

/* ---- JSON lines ----------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *in, const char *key) { return json_string_value(json_object_get(in, key)); }

/* The request's context. *option belongs to the caller (rm_free). */
static rmas_status read_ask(const json_t *in, rm_ask *ask, const char ***option, rmas_error *err) {
    const json_t *words = json_object_get(in, "options");
    const char *task = text_of(in, "task"), *form = text_of(in, "form");
    *ask = (rm_ask){.question = text_of(in, "question"), .fn_name = text_of(in, "fn_name")};
    *option = NULL;
    if (task && !rm_task_parse(task, &ask->task)) return rm_fail(err, RMAS_E_ARG, "task '%s': expected math, choice or code", task);
    if (form && !rm_form_parse(form, &ask->form)) return rm_fail(err, RMAS_E_ARG, "form '%s': expected program, named or unnamed", form);
    const char **v = rm_array(json_array_size(words) + 1, sizeof *v);
    if (!v) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    *option = v;
    ask->option = v;
    for (size_t i = 0; i < json_array_size(words); i++) {
        if (!(v[ask->n_option++] = json_string_value(json_array_get(words, i)))) return rm_fail(err, RMAS_E_ARG, "options must be a list of words");
    }
    return RMAS_OK;
}

static json_t *parts_json(const rm_parts *p) {
    json_t *list = json_array();
    for (int i = 0; i < p->n; i++) json_array_append_new(list, json_pack("{s:s%}", p->v[i].is_slot ? "slot" : "text", p->v[i].text, p->v[i].n));
    return list;
}

static json_t *lookup_bases(const rm_pack *pack, const json_t *bases, const rm_ask *ask, rmas_error *err) {
    const char *v[16];
    int n = 0;
    rm_parts parts;
    for (size_t i = 0; i < json_array_size(bases) && n < (int)RM_COUNT(v); i++)
        if (!(v[n++] = json_string_value(json_array_get(bases, i)))) n = 0;
    if (!n) return rm_fail(err, RMAS_E_ARG, "bases must be a list of names"), NULL;
    if (rm_pack_lookup(pack, v, n, ask, &parts, err) != RMAS_OK) return NULL;
    json_t *out = json_pack("{s:s, s:o}", "section", parts.section, "parts", parts_json(&parts));
    rm_parts_free(&parts);
    return out;
}

static json_t *lookup_prompts(const rm_pack *pack, const json_t *in, const rm_ask *ask, rmas_error *err) {
    const char *style = text_of(in, "style"), *role = text_of(in, "role");
    const bool feedback = json_is_true(json_object_get(in, "feedback")), text_mode = json_is_true(json_object_get(in, "text_mode"));
    rm_strbuf system = {0}, retry = {0};
    rm_parts user = {0};
    json_t *out = NULL;
    if (!style || !role)
        rm_fail(err, RMAS_E_ARG, "style and role are needed, or bases, or a question alone");
    else if (rm_pack_user(pack, style, role, feedback, text_mode, ask, &user, err) == RMAS_OK &&
             rm_pack_system(pack, style, role, text_mode, ask, &system, err) == RMAS_OK && rm_pack_retry(pack, style, ask, &retry, err) == RMAS_OK)
        out = json_pack("{s:s, s:o, s:s}", "system", rm_str(&system), "user", parts_json(&user), "retry", rm_str(&retry));
    rm_strbuf_free(&system);
    rm_strbuf_free(&retry);
    rm_parts_free(&user);
    return out;
}

static json_t *lookup_rules(const rm_pack *pack, const char *question, rmas_error *err) {
    rm_strbuf marked = {0};
    json_t *out = NULL;
    if (rm_pack_question_choice(pack, question, &marked, err) == RMAS_OK)
        out = json_pack("{s:b, s:s}", "lettered", rm_question_lettered(question, strlen(question)), "choice_question", rm_str(&marked));
    rm_strbuf_free(&marked);
    return out;
}

static json_t *lookup(void *ctx, json_t *in, rmas_error *err) {
    const rm_pack *pack = ctx;
    const json_t *question = json_object_get(in, "question");
    rm_ask ask;
    const char **option;
    json_t *out = NULL;
    if (json_is_string(question) && strlen(json_string_value(question)) != json_string_length(question))
        return rm_fail(err, RMAS_E_ARG, "a question with a NUL character"), NULL;
    if (read_ask(in, &ask, &option, err) != RMAS_OK)
        out = NULL;
    else if (json_object_get(in, "bases"))
        out = lookup_bases(pack, json_object_get(in, "bases"), &ask, err);
    else if (json_object_get(in, "style") || !ask.question)
        out = lookup_prompts(pack, in, &ask, err);
    else
        out = lookup_rules(pack, ask.question, err);
    rm_free(option);
    if (!out && !err->msg[0]) rm_fail(err, RMAS_E_NOMEM, "out of memory");
    return out;
}

/* ---- for people ----------------------------------------------------------------------------------------------------- */

static int check(const char *file) {
    rm_pack *p;
    rmas_error err = {0};
    if (rm_pack_open(&p, file, &err) != RMAS_OK) return rm_cli_fail("prompts", &err);
    json_t *names = json_array(), *out = json_pack("{s:o}", "sections", names);
    for (int i = 0; i < rm_pack_n_section(p); i++) json_array_append_new(names, json_string(rm_pack_section(p, i)));
    rm_pack_close(p);
    char *text = out ? json_dumps(out, 0) : NULL;
    puts(text ? text : "{\"error\": \"out of memory\"}");
    json_decref(out);
    free(text);
    return text ? 0 : 1;
}

static void print_prompt(const rm_parts *p) {
    printf("---- user (section %s)\n", p->section);
    for (int i = 0; i < p->n; i++) {
        if (p->v[i].is_slot)
            printf("<<latents of %s>>", p->v[i].text);
        else
            fwrite(p->v[i].text, 1, p->v[i].n, stdout);
    }
    putchar('\n');
}

static int show(const rm_pack *pack, const char *style, const char *role, bool feedback, bool text_mode, const rm_ask *ask) {
    rmas_error err = {0};
    rm_parts user = {0};
    rm_strbuf system = {0}, retry = {0};
    bool ok = rm_pack_user(pack, style, role, feedback, text_mode, ask, &user, &err) == RMAS_OK &&
              rm_pack_system(pack, style, role, text_mode, ask, &system, &err) == RMAS_OK;
    if (ok) {
        printf("---- system\n%s\n", rm_str(&system));
        print_prompt(&user);
        if (rm_pack_retry(pack, style, ask, &retry, NULL) == RMAS_OK) printf("---- answer retry, after the answer so far\n%s\n", rm_str(&retry));
    }
    rm_strbuf_free(&system);
    rm_strbuf_free(&retry);
    rm_parts_free(&user);
    return ok ? 0 : rm_cli_fail("prompts", &err);
}

int cmd_prompts(int argc, char **argv) {
    static const char usage[] = "rmas prompts show STYLE ROLE [--task T] [--question TEXT] ...   one prompt, for people\n"
                                "       rmas prompts list [--prompts FILE]                             the sections of a pack\n"
                                "       rmas prompts --check FILE                                      is this file a pack?\n"
                                "       rmas prompts --jsonl [--prompts FILE]                          requests as JSON lines";
    bool jsonl = false, feedback = false, text_mode = false;
    const char *file = NULL, *checked = NULL, *task = "math", *form = "program", *question = "What is 2 + 2?", *fn_name = "add";
    rm_opt_list words = {0};
    const rm_opt opts[] = {
        {"prompts", RM_OPT_STRING, &file, NULL, "FILE", "the pack (default: the one inside the program)"},
        {"check", RM_OPT_STRING, &checked, NULL, "FILE", "read a pack and list its sections, or say what is wrong and where"},
        {"jsonl", RM_OPT_FLAG, &jsonl, NULL, NULL, "requests on stdin, texts on stdout"},
        {"task", RM_OPT_STRING, &task, NULL, "T", "math, choice or code"},
        {"form", RM_OPT_STRING, &form, NULL, "F", "of code: program, named or unnamed"},
        {"fn_name", RM_OPT_STRING, &fn_name, NULL, "NAME", "the function that is asked for"},
        {"question", RM_OPT_STRING, &question, NULL, "TEXT", "the question"},
        {"option", RM_OPT_LIST, &words, NULL, "WORD", "option word, may be repeated"},
        {"feedback", RM_OPT_FLAG, &feedback, NULL, NULL, "the prompt of later rounds"},
        {"text_mode", RM_OPT_FLAG, &text_mode, NULL, NULL, "the prompt of agents that exchange text"},
        {0},
    };
    int n_word, rc = rm_opt_parse(argc, argv, opts, usage, &n_word);
    if (rc) return rc == 2 ? 0 : 1;
    rmas_error err = {0};
    rm_pack *pack = NULL;
    rm_ask ask = {.question = question, .fn_name = fn_name, .option = words.v, .n_option = words.n};
    const bool list = n_word == 1 && !strcmp(argv[1], "list"), one = n_word == 3 && !strcmp(argv[1], "show");
    if (checked && !n_word)
        rc = check(checked);
    else if (n_word ? !list && !one : !jsonl) {
        fprintf(stderr, "usage: %s\n", usage);
        rc = 1;
    } else if (!rm_task_parse(task, &ask.task) || !rm_form_parse(form, &ask.form)) {
        rm_fail(&err, RMAS_E_ARG, "--task is math, choice or code; --form is program, named or unnamed");
        rc = rm_cli_fail("prompts", &err);
    } else if (rm_pack_open(&pack, file, &err) != RMAS_OK) {
        rc = rm_cli_fail("prompts", &err);
    } else if (list) {
        for (int i = 0; i < rm_pack_n_section(pack); i++) puts(rm_pack_section(pack, i));
    } else {
        rc = one ? show(pack, argv[2], argv[3], feedback, text_mode, &ask) : rm_cli_jsonl(lookup, pack);
    }
    rm_pack_close(pack);
    rm_free(words.v);
    return rc;
}
