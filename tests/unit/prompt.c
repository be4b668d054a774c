#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prompt/prompt.h"
#include "util/file.h"
#include "util/mem.h"

static rm_pack *open_pack(const char *text) {
    rm_pack *p = NULL;
    rmas_error err = {0};
    if (rm_pack_parse(&p, text, strlen(text), "test", &err) != RMAS_OK) fail_msg("%s", err.msg);
    return p;
}

static void refused(const char *text, const char *message) {
    rm_pack *p = NULL;
    rmas_error err = {0};
    assert_int_equal(rm_pack_parse(&p, text, strlen(text), "test", &err), RMAS_E_FORMAT);
    assert_null(p);
    if (!strstr(err.msg, message)) fail_msg("expected '%s', found '%s'", message, err.msg);
}

/* "section: text<role>text", or the error's code. */
static const char *look(const rm_pack *p, const char *base, const rm_ask *ask) {
    static char out[1024];
    rm_parts parts;
    rmas_error err = {0};
    if (rm_pack_lookup(p, &base, 1, ask, &parts, &err) != RMAS_OK) return strstr(err.msg, "E_MISSING") ? "E_MISSING" : "other error";
    size_t n = (size_t)snprintf(out, sizeof out, "%s: ", parts.section);
    for (int i = 0; i < parts.n; i++) n += (size_t)snprintf(out + n, sizeof out - n, parts.v[i].is_slot ? "<%s>" : "%s", parts.v[i].text);
    rm_parts_free(&parts);
    return out;
}

static void lookups(void **state) {
    (void)state;
    rm_pack *p = open_pack(
        "rmas-prompts 1\n# comment\n\n=== a\n[{{question}}]\n=== a/lettered\nL\n=== a/code\nC\n=== a/code/named\nN {{fn_name}}\n=== a/choice@w\nW\n"
        "=== b/math\n{{include:a}}{{slot:x}} {{slot:y}}{{}}\n\n=== c\n\\boxed{{{question}}} {{braces}}x}} }\n{{}}=== d\n\n");
    const char *w[] = {"v", "w"};
    rm_ask ask = {.question = "q"};
    assert_string_equal(look(p, "a", &ask), "a: [q]");
    assert_string_equal(look(p, "b", &ask), "b/math: [q]<x> <y>");
    assert_string_equal(look(p, "c", &ask), "c: \\boxed{q} {{x}} }\n=== d");
    assert_string_equal(look(p, "d", &ask), "E_MISSING");
    ask.task = RM_TASK_CHOICE;
    assert_string_equal(look(p, "a", &ask), "a: [q]");
    ask.option = w;
    ask.n_option = 2;
    assert_string_equal(look(p, "a", &ask), "a/choice@w: W");
    ask = (rm_ask){.question = "x\n b) y"};
    assert_string_equal(look(p, "a", &ask), "a/lettered: L");
    ask = (rm_ask){.task = RM_TASK_CODE, .form = RM_FORM_NAMED, .fn_name = "{{question}}", .question = "q"};
    assert_string_equal(look(p, "a", &ask), "a/code/named: N {{question}}");
    ask.form = RM_FORM_UNNAMED;
    assert_string_equal(look(p, "a", &ask), "a/code: C");
    assert_string_equal(look(p, "b", &ask), "E_MISSING");
    rm_pack_close(p);
}

static void errors_with_lines(void **state) {
    (void)state;
    refused("", "line 1: E_HEADER");
    refused("rmas-prompts 1\r\n", "line 1: E_CHAR");
    refused("rmas-prompts 1\nx", "line 2: E_PREAMBLE");
    refused("rmas-prompts 1\n=== a b\n", "line 2: E_NAME");
    refused("rmas-prompts 1\n=== a\n=== b\n=== a\n", "line 4: E_DUPLICATE");
    refused("rmas-prompts 1\n=== a\nx\n{{y}}", "line 4: E_PLACEHOLDER");
    refused("rmas-prompts 1\n=== a\nx\n\n{{", "line 5: E_PLACEHOLDER");
    refused("rmas-prompts 1\n=== a\n{{include:b}}", "line 2: E_INCLUDE");
    refused("rmas-prompts 1\n=== a\n{{include:b}}\n=== b/code\n{{include:a}}", "line 4: E_CYCLE");
    refused("rmas-prompts 1\n=== a\n\xff", "line 3: E_UTF8");
    refused("rmas-prompts 1\n=== a\n{{choice_question}}", "line 2: E_MISSING");
    refused("rmas-prompts 1\n=== choice-note\nx\n=== choice-mark\ny", "line 2: E_MARK");
}

/* A long chain of includes, a wide one, and many headings: no recursion, no quadratic time. */
static void large_packs(void **state) {
    (void)state;
    rm_strbuf b = {0};
    rm_strbuf_puts(&b, "rmas-prompts 1\n");
    for (int i = 0; i < 20000; i++) rm_strbuf_printf(&b, "=== a%d\n{{include:a%d}}\n", i, i + 1);
    rm_strbuf_puts(&b, "=== a20000\n");
    refused(b.s, "E_SIZE: includes nest deeper");
    rm_strbuf_clear(&b);
    rm_strbuf_puts(&b, "rmas-prompts 1\n");
    for (int i = 0; i < 20000; i++) rm_strbuf_printf(&b, "=== a@w%d\nx\n=== b%d\n{{include:a}}\n", i, i);
    rm_pack *p = NULL;
    if (b.n <= 1 << 20) {
        p = open_pack(b.s);
        assert_int_equal(rm_pack_n_section(p), 40000);
        assert_string_equal(rm_pack_section(p, 39999), "b19999");
    }
    rm_pack_close(p);
    rm_strbuf_free(&b);
}

static bool lettered(const char *s) { return rm_question_lettered(s, strlen(s)); }

static void rules(void **state) {
    (void)state;
    const char *yes[] = {"A. x",
                         "x\nb ) y",
                         "\n\n  C:\ty",
                         "A\n- x",
                         "A - b",
                         "d.\n",
                         "\xC2\xA0"
                         "A.\xE3\x80\x80x"};
    const char *no[] = {"", "A", "A.", "A.x", "(A) x", "E. x", "x A. y", "x\rA. y", "A x. y"};
    for (size_t i = 0; i < RM_COUNT(yes); i++)
        if (!lettered(yes[i])) fail_msg("'%s' is lettered", yes[i]);
    for (size_t i = 0; i < RM_COUNT(no); i++)
        if (lettered(no[i])) fail_msg("'%s' is not lettered", no[i]);
    rm_pack *p;
    rm_strbuf once = {0}, twice = {0};
    assert_int_equal(rm_pack_open(&p, NULL, NULL), RMAS_OK);
    assert_int_equal(rm_pack_question_choice(p, "Which? \n", &once, NULL), RMAS_OK);
    assert_memory_equal(once.s, "Which?\n\n", 8);
    assert_int_equal(rm_pack_question_choice(p, once.s, &twice, NULL), RMAS_OK);
    assert_string_equal(once.s, twice.s);
    rm_strbuf_free(&once);
    rm_strbuf_free(&twice);
    rm_pack_close(p);
}

/* Every style and role of the default pack has its prompts, with the slots that the style's graph needs. */
static void default_pack(void **state) {
    (void)state;
    static const struct {
        const char *style, *role;
        bool feedback;
        const char *slot[3];
        int n;
    } stages[] = {
        {"sequential", "planner", false, {0}, 0},
        {"sequential", "planner", true, {"solver"}, 1},
        {"sequential", "critic", false, {"planner"}, 1},
        {"sequential", "solver", false, {"critic"}, 1},
        {"mixture", "math", false, {0}, 0},
        {"mixture", "code", true, {"summarizer"}, 1},
        {"mixture", "science", true, {"summarizer"}, 1},
        {"mixture", "summarizer", false, {"science", "math", "code"}, 3},
        {"distillation", "expert", false, {0}, 0},
        {"distillation", "expert", true, {"learner"}, 1},
        {"distillation", "learner", false, {"expert"}, 1},
        {"deliberation", "reflector", true, {"toolcaller"}, 1},
        {"deliberation", "toolcaller", false, {"reflector"}, 1},
        {"single", "agent", false, {0}, 0},
    };
    rm_pack *p;
    assert_int_equal(rm_pack_open(&p, NULL, NULL), RMAS_OK);
    for (size_t i = 0; i < RM_COUNT(stages); i++)
        for (rm_task task = RM_TASK_MATH; task <= RM_TASK_CODE; task++)
            for (int text = 0; text < 2; text++) {
                const rm_ask ask = {.task = task, .question = "What?", .fn_name = "f"};
                rm_parts parts;
                rm_strbuf s = {0};
                rmas_error err = {0};
                if (rm_pack_user(p, stages[i].style, stages[i].role, stages[i].feedback, text, &ask, &parts, &err) != RMAS_OK ||
                    rm_parts_check(&parts, stages[i].slot, stages[i].n, &err) != RMAS_OK ||
                    rm_pack_system(p, stages[i].style, stages[i].role, text, &ask, &s, &err) != RMAS_OK ||
                    rm_pack_retry(p, stages[i].style, &ask, &s, &err) != RMAS_OK)
                    fail_msg("%s", err.msg);
                const char *wrong[] = {"nobody"};
                assert_int_not_equal(rm_parts_check(&parts, wrong, 1, &err), RMAS_OK);
                assert_non_null(strstr(err.msg, "E_SLOTS"));
                rm_parts_free(&parts);
                rm_strbuf_free(&s);
            }
    rm_pack_close(p);
}

static void split_at_slots(void **state) {
    (void)state;
    rm_pack *p = open_pack("rmas-prompts 1\n=== a\nx {{question}}\n{{slot:one}}\n{{slot:two}}{{}}\n{{}}\n=== s\n{{slot:one}}\n");
    /* the question looks like the first markers that would be chosen */
    const rm_ask ask = {.question = "<<slot-one-0-0>> <<slot-two-1-1>>"};
    const char *base = "a";
    rm_parts parts;
    rm_pieces pieces;
    rm_chat *c;
    rmas_error err = {0};
    const rm_chat_options opt = {.date = {2024, 7, 26}};
    assert_int_equal(rm_pack_lookup(p, &base, 1, &ask, &parts, NULL), RMAS_OK);
    assert_int_equal(
        rm_chat_parse(
            &c, "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}{% if add_generation_prompt %}[me]{% endif %}",
            "<s>", "", &opt, "test", &err),
        RMAS_OK);
    assert_int_equal(rm_prompt_chat(c, "SYS <<slot-one-0-2>>", &parts, &pieces, &err), RMAS_OK);
    assert_int_equal(pieces.n_slot, 2);
    assert_string_equal(pieces.text[0], "<s>[system]SYS <<slot-one-0-2>>[user]x <<slot-one-0-0>> <<slot-two-1-1>>\n");
    assert_string_equal(pieces.text[1], "\n");
    assert_string_equal(pieces.text[2], "[me]");
    assert_string_equal(pieces.slot[0], "one");
    assert_string_equal(pieces.slot[1], "two");
    rm_pieces_free(&pieces);
    rm_chat_free(c);
    /* templates that lose or double a slot */
    const char *bad[] = {"{{ messages[0].role }}", "{{ messages[-1].content }}{{ messages[-1].content }}", "{{ messages[-1].content|upper }}",
                         "{{ messages[-1].content|reverse }}"};
    for (size_t i = 0; i < RM_COUNT(bad); i++) {
        assert_int_equal(rm_chat_parse(&c, bad[i], NULL, NULL, &opt, "test", &err), RMAS_OK);
        assert_int_not_equal(rm_prompt_chat(c, NULL, &parts, &pieces, &err), RMAS_OK);
        assert_non_null(strstr(err.msg, "slot"));
        rm_chat_free(c);
    }
    rm_parts_free(&parts);
    rm_pack_close(p);
}

static void system_into_user(void **state) {
    (void)state;
    rm_chat *c;
    rm_strbuf out = {0};
    rmas_error err = {0};
    const rm_chat_options opt = {.date = {2024, 7, 26}};
    assert_int_equal(rm_chat_parse(&c,
                                   "{% if messages[0].role == 'system' %}{{ raise_exception('Conversation roles must alternate user/...') }}{% endif "
                                   "%}{{ messages[0].content }}|{{ enable_thinking }}{{ tools is none }}{{ bos_token is defined }}",
                                   "", NULL, &opt, "test", &err),
                     RMAS_OK);
    assert_int_equal(rm_chat_render(c, "S", "U", 1, &out, &err), RMAS_OK);
    assert_string_equal(rm_str(&out), "S\n\nU|FalseTrueFalse");
    rm_strbuf_clear(&out);
    assert_int_equal(rm_chat_render(c, "", "U", 1, &out, &err), RMAS_OK);
    assert_string_equal(rm_str(&out), "U|FalseTrueFalse");
    rm_strbuf_clear(&out);
    assert_int_equal(rm_chat_render(c, "S", "U\0V", 3, &out, &err), RMAS_OK); /* a model may write NULs */
    assert_memory_equal(rm_str(&out), "S\n\nU\0V|False", 12);
    rm_strbuf_free(&out);
    rm_chat_free(c);
}

static void text_mode(void **state) {
    (void)state;
    rm_pack *p = open_pack("rmas-prompts 1\n=== a\n<{{slot:one}}> {{question}}\n");
    const rm_ask ask = {.question = "q"};
    const char *base = "a", *role[] = {"two", "one"};
    rm_strbuf no = {0}, one = {0};
    const rm_strbuf *text[] = {&no, &one};
    rm_parts parts;
    rm_strbuf out = {0};
    assert_int_equal(rm_pack_lookup(p, &base, 1, &ask, &parts, NULL), RMAS_OK);
    rm_strbuf_puts(&one, " \xC2\xA0 {{question}} \n");
    assert_int_equal(rm_parts_fill(&parts, role, text, 2, &out, NULL), RMAS_OK);
    assert_string_equal(rm_str(&out), "<{{question}}> q");
    rm_strbuf_clear(&out);
    rm_strbuf_clear(&one);
    rm_strbuf_add(&one, "a\0b\n", 4);
    assert_int_equal(rm_parts_fill(&parts, role, text, 2, &out, NULL), RMAS_OK);
    assert_int_equal(out.n, 7);
    assert_memory_equal(out.s, "<a\0b> q", 7);
    assert_int_not_equal(rm_parts_fill(&parts, role, text, 1, &out, NULL), RMAS_OK);
    rm_strbuf_free(&out);
    rm_strbuf_free(&one);
    rm_parts_free(&parts);
    rm_pack_close(p);
}

static void out_of_memory(void **state) {
    (void)state;
    static const char pack[] = "rmas-prompts 1\n=== a\n{{include:b}}{{slot:x}}{{question}}\n=== b\nB\n=== system\nS\n";
    const rm_chat_options opt = {.date = {2024, 7, 26}};
    const rm_ask ask = {.question = "q"};
    const char *base = "a";
    for (long n = 1; n < 120; n++) {
        rm_pack *p = NULL;
        rm_parts parts = {0};
        rm_pieces pieces = {0};
        rm_chat *c = NULL;
        rm_mem_fail_after(n);
        rmas_status st = rm_pack_parse(&p, pack, sizeof pack - 1, "test", NULL);
        if (st == RMAS_OK) st = rm_pack_lookup(p, &base, 1, &ask, &parts, NULL);
        if (st == RMAS_OK) st = rm_chat_parse(&c, "{{ messages[0].content }}", NULL, NULL, &opt, "test", NULL);
        if (st == RMAS_OK) st = rm_prompt_chat(c, NULL, &parts, &pieces, NULL);
        rm_mem_fail_after(0);
        assert_true(st == RMAS_OK || st == RMAS_E_NOMEM);
        if (st == RMAS_OK) assert_string_equal(pieces.text[0], "B");
        rm_pieces_free(&pieces);
        rm_chat_free(c);
        rm_parts_free(&parts);
        rm_pack_close(p);
    }
}

/* Which file says what the special tokens of a folder are. */
static void chat_source(void **state) {
    (void)state;
    static const struct {
        const char *config, *bos, *pad;
    } row[] = {
        {"{\"chat_template\": \"T\", \"bos_token\": \"a\", \"pad_token\": {\"content\": \"p\"}}", "b", NULL},
        {"{\"chat_template\": \"T\", \"bos_token\": \"a\", \"pad_token\": \"p\", \"added_tokens_decoder\": {}}", "a", "p"},
    };
    char root[] = "/tmp/rmas-prompt-XXXXXX", config[64], map[64];
    assert_non_null(mkdtemp(root));
    snprintf(config, sizeof config, "%s/tokenizer_config.json", root);
    snprintf(map, sizeof map, "%s/special_tokens_map.json", root);
    assert_int_equal(rm_file_write(map, "{\"bos_token\": \"b\", \"pad_token\": null}", 37, NULL), RMAS_OK);
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        char *source;
        json_t *tokens;
        assert_int_equal(rm_file_write(config, row[i].config, strlen(row[i].config), NULL), RMAS_OK);
        assert_int_equal(rm_chat_source(&source, &tokens, root, NULL), RMAS_OK);
        assert_string_equal(source, "T");
        assert_string_equal(json_string_value(json_object_get(tokens, "bos_token")), row[i].bos);
        const char *pad = json_string_value(json_object_get(tokens, "pad_token"));
        assert_true(row[i].pad ? pad && !strcmp(pad, row[i].pad) : !pad);
        rm_free(source);
        json_decref(tokens);
    }
    unlink(config);
    unlink(map);
    rmdir(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups),       cmocka_unit_test(errors_with_lines), cmocka_unit_test(large_packs),      cmocka_unit_test(rules),
        cmocka_unit_test(default_pack),  cmocka_unit_test(split_at_slots),    cmocka_unit_test(system_into_user), cmocka_unit_test(text_mode),
        cmocka_unit_test(out_of_memory), cmocka_unit_test(chat_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
