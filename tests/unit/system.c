/* Systems as data: manifests, graphs, plans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "system/system.h"
#include "util/file.h"
#include "util/mem.h"
#include "util/strbuf.h"

/* "planner1L critic1L solver2T*": role, round, kind, * for the answer, ~ for a shadow, + for a feedback prompt */
static char *plan_text(const rm_system *s, int rounds, bool text, bool latent, bool all) {
    rm_plan p;
    rmas_error err = {0};
    rm_plan_options o = {rounds, text, latent, all};
    if (rm_plan_new(&p, s, &o, &err) != RMAS_OK) fail_msg("%s", err.msg);
    rm_strbuf b = {0};
    for (int i = 0; i < p.n_stage; i++) {
        const rm_stage *st = &p.stage[i];
        rm_strbuf_printf(&b, "%s%s%d%c%s%s%s", i ? " " : "", s->agent[st->agent].role, st->round, st->kind == RM_STAGE_TEXT ? 'T' : 'L',
                         st->feedback ? "+" : "", st->final ? "*" : "", st->shadow ? "~" : "");
    }
    rm_plan_free(&p);
    return rm_strbuf_take(&b);
}

static void expect_plan(const rm_system *s, int rounds, bool text, bool latent, bool all, const char *want) {
    char *got = plan_text(s, rounds, text, latent, all);
    assert_string_equal(got, want);
    rm_free(got);
}

static void test_styles(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_system *s;
    for (int i = 0; rm_style_name(i); i++) {
        assert_int_equal(rm_system_style(&s, rm_style_name(i), &err), RMAS_OK);
        assert_int_equal(rm_system_check(s, &err), RMAS_OK);
        rm_system_free(s);
    }
    assert_int_equal(rm_system_style(&s, "sequential", &err), RMAS_E_ARG);
    assert_int_equal(rm_system_style(&s, "sequential_light", &err), RMAS_OK);
    expect_plan(s, 1, false, true, false, "planner1L critic1L solver1T*");
    expect_plan(s, 2, false, true, false, "planner1L critic1L solver1L planner2L+ critic2L solver2T*");
    expect_plan(s, 3, false, false, false, "solver3T*");
    expect_plan(s, 2, true, false, false, "planner1T critic1T solver1T planner2T+ critic2T solver2T*");
    rm_system_free(s);
    assert_int_equal(rm_system_style(&s, "mixture", &err), RMAS_OK);
    expect_plan(s, 2, false, true, false, "math1L code1L science1L summarizer1L math2L+ code2L+ science2L+ summarizer2T*");
    expect_plan(s, 2, false, true, true, "math1L code1L science1L summarizer1T~ summarizer1L math2L+ code2L+ science2L+ summarizer2T*");
    expect_plan(s, 2, false, false, true, "summarizer1T~ summarizer2T*");
    rm_system *one;
    assert_int_equal(rm_system_single(&one, s, "single", false, &err), RMAS_OK);
    expect_plan(one, 1, true, false, false, "agent1T*");
    assert_string_equal(one->agent[0].repo, "RecursiveMAS/Mixture-Summarizer-Qwen3.5-2B");
    rm_system_free(one);
    rm_system_free(s);
}

static void test_recommended(void **state) {
    (void)state;
    rm_style_settings t;
    assert_true(rm_style_recommended("sequential_light", "math500", 1, &t));
    assert_int_equal(t.batch_size, 32);
    assert_int_equal(t.latent_length, 48);
    assert_true(rm_style_recommended("mixture", "livecodebench", 2, &t));
    assert_true(t.temperature == 0.2 && t.rounds == 2);
    assert_true(rm_style_recommended("mixture", "mbppplus", 2, &t));
    assert_true(t.temperature == 0.2 && t.latent_length == 32);
    assert_false(rm_style_recommended("mixture", "gsm8k", 2, &t));
    assert_true(rm_style_recommended("mixture", "aime26", 2, &t));
    assert_true(t.latent_length == 32 && t.rounds == 2 && t.batch_size == 15 && t.rollouts == 10 && t.temperature < 0);
    assert_int_equal(rm_style_max_new_tokens("sequential_light", "math500"), 1000);
    assert_int_equal(rm_style_max_new_tokens(NULL, "medqa"), 4000);
}

/* Writes a manifest to a temporary file and opens it. */
static rmas_status open_text(rm_system **s, const char *text, rmas_error *err) {
    char path[] = "/tmp/rmas-system-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    rmas_status st = rm_system_open(s, path, err);
    unlink(path);
    return st;
}

static void test_own_graph(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_system *s;
    const char *text =
        "{\"rmas_system\": 1, \"family\": \"review\", \"agents\": {\"author\": {\"model\": \"a.gguf\"}, \"ca\": {\"model\": \"a.gguf\"},"
        "\"cb\": {\"model\": \"b.gguf\", \"inner_link\": {\"math\": \"m.pt\", \"code\": \"c.pt\"}}, \"editor\": {\"model\": \"a.gguf\"}},"
        "\"edges\": [{\"from\": \"ca\", \"to\": \"editor\"}, {\"from\": \"cb\", \"to\": \"editor\"}, {\"from\": \"author\", \"to\": \"ca\"},"
        "{\"from\": \"author\", \"to\": \"cb\", \"link\": \"l.pt\"}, {\"from\": \"editor\", \"to\": \"author\", \"feedback\": true}],"
        "\"init_seed\": 7, \"defaults\": {\"latent_length\": 4}}";
    if (open_text(&s, text, &err) != RMAS_OK) fail_msg("%s", err.msg);
    assert_int_equal(s->answer, 3);
    assert_string_equal(s->edge[0].key, "ca_editor");
    assert_string_equal(s->agent[2].inner[RM_LINKS_CODE], "c.pt");
    assert_string_equal(s->edge[3].file[RM_LINKS_MATH], "l.pt");
    assert_true(s->has_init_seed && s->init_seed == 7);
    expect_plan(s, 2, false, true, false, "author1L ca1L cb1L editor1L author2L+ ca2L cb2L editor2T*");
    int edge[8];
    rm_stage st = {.round = 1, .agent = 0};
    assert_int_equal(rm_stage_incoming(s, &st, edge), 0);
    st.round = 2;
    assert_int_equal(rm_stage_incoming(s, &st, edge), 1);
    assert_int_equal(edge[0], 4);
    rm_system_free(s);
}

static void test_no_feedback_runs_once(void **state) {
    (void)state;
    rmas_error err = {0};
    rm_system *s;
    const char *text =
        "{\"rmas_system\": 1, \"family\": \"x\", \"agents\": {\"b\": {\"model\": \"m\"}, \"a\": {\"model\": \"m\"}, \"self\": {\"model\": \"m\"}},"
        "\"edges\": [{\"from\": \"a\", \"to\": \"b\"}, {\"from\": \"self\", \"to\": \"b\"}, {\"from\": \"self\", \"to\": \"self\", \"feedback\": "
        "true}],"
        "\"answer\": \"b\"}";
    if (open_text(&s, text, &err) != RMAS_OK) fail_msg("%s", err.msg);
    /* what a and b would do in rounds 1 and 2 reaches nobody */
    expect_plan(s, 3, false, true, false, "self1L self2L+ a3L self3L+ b3T*");
    rm_system_free(s);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"rmas_system\": 1, \"style\": \"sequential_light\", \"agents\": {\"solver\": {\"modle\": \"x\"}}}", "unknown key 'modle'"},
        {"{\"rmas_system\": 1, \"style\": \"sequential_light\", \"agents\": {\"refiner\": {\"model\": \"x\"}}}", "no such role"},
        {"{\"rmas_system\": 1, \"style\": \"sequential_light\", \"agents\": {\"solver\": {}}, \"edges\": []}", "unknown key 'edges'"},
        {"{\"rmas_system\": 1, \"style\": \"sequential\", \"agents\": {\"solver\": {}}}", "unknown style"},
        {"{\"rmas_system\": 2, \"style\": \"mixture\", \"agents\": {\"math\": {}}}", "\"rmas_system\": 1"},
        {"{\"rmas_system\": 1, \"rmas_system\": 1}", "duplicate"},
        {"[1]", "not a JSON object"},
        {"{\"rmas_system\": 1, \"agents\": {\"a\": {\"model\": \"m\"}}}", "'family'"},
        {"{\"rmas_system\": 1, \"family\": \"A b\", \"agents\": {\"a\": {\"model\": \"m\"}}}", "not a word"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {}}}", "'model' is missing"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {\"model\": \"m\"}, \"b\": {\"model\": \"m\"}}}", "nothing that a sends"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {\"model\": \"m\"}}, \"answer\": \"z\"}", "'answer'"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {\"model\": \"m\"}, \"b\": {\"model\": \"m\"}}, \"edges\": [{\"from\": \"a\", "
         "\"to\": \"b\"}, "
         "{\"from\": \"b\", \"to\": \"a\"}]}",
         "\"feedback\": true"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {\"model\": \"m\"}, \"b\": {\"model\": \"m\"}}, \"edges\": [{\"from\": \"a\", "
         "\"to\": \"b\"}, "
         "{\"from\": \"a\", \"to\": \"b\", \"key\": \"k\", \"feedback\": true}]}",
         "one slot per sender"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {\"model\": \"m\"}}, \"edges\": [{\"from\": \"a\"}]}", "'to'"},
        {"{\"rmas_system\": 1, \"family\": \"f\", \"agents\": {\"a\": {\"model\": \"m\"}}, \"edges\": [{\"from\": \"a\", \"to\": \"a\"}]}", "itself"},
        {"{\"rmas_system\": 1, \"style\": \"mixture\", \"agents\": {\"math\": {}}, \"outer_links\": {\"outer_12\": \"x.pt\"}}", "no such edge"},
        {"{\"rmas_system\": 1, \"style\": \"mixture\", \"agents\": {\"math\": {\"inner_link\": {\"math\": \"x.pt\"}}}}", "\"code\""},
        {"{\"rmas_system\": 1, \"style\": \"mixture\", \"agents\": {\"math\": {}}, \"init_seed\": -1}", "init_seed"},
    };
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        rmas_error err = {0};
        rm_system *s;
        if (open_text(&s, cases[i].text, &err) == RMAS_OK) fail_msg("accepted: %s", cases[i].text);
        assert_null(s);
        if (!strstr(err.msg, cases[i].says)) fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
    }
}

/* Every allocation of opening a manifest may fail, and nothing is lost or crashes. */
static void test_out_of_memory(void **state) {
    (void)state;
    const char *text = "{\"rmas_system\": 1, \"style\": \"mixture\", \"agents\": {\"math\": {\"model\": \"m\", \"inner_link\": \"i.pt\"}}, "
                       "\"outer_links\": {\"outer_1s\": \"x.pt\"}, \"defaults\": {}}";
    for (long n = 1;; n++) {
        rmas_error err = {0};
        rm_system *s;
        rm_mem_fail_after(n);
        rmas_status st = open_text(&s, text, &err);
        rm_mem_fail_after(0);
        if (st == RMAS_OK) {
            rm_system_free(s);
            assert_true(n > 10);
            return;
        }
        assert_int_equal(st, RMAS_E_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_styles),  cmocka_unit_test(test_recommended),           cmocka_unit_test(test_own_graph),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_no_feedback_runs_once), cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
