#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tmpl/tmpl.h"
#include "util/mem.h"

static const rm_date day = {2024, 7, 26};

/* Renders with variables given as JSON; "ERROR: message" if that fails. The caller frees (rm_free). */
static char *render(const char *source, size_t n, const json_t *vars) {
    rm_tmpl *t = NULL;
    rm_strbuf out = {0};
    rmas_error err = {0};
    rmas_status st = rm_tmpl_new(&t, source, n, "test", &err);
    if (st == RMAS_OK) st = rm_tmpl_render(t, vars, day, &out, &err);
    if (st != RMAS_OK) {
        assert_int_equal(st, err.code);
        rm_strbuf_clear(&out);
        rm_strbuf_printf(&out, "ERROR: %s", err.msg);
    }
    rm_tmpl_free(t);
    char *text = rm_strbuf_take(&out);
    return text ? text : rm_strdup("");
}

static void expect(const char *source, const char *vars, const char *want) {
    json_t *v = json_loads(vars, 0, NULL);
    assert_non_null(v);
    char *got = render(source, strlen(source), v);
    if (strcmp(got, want) != 0) fail_msg("%s\n got: %s\nwant: %s", source, got, want);
    rm_free(got);
    json_decref(v);
}

/* The message begins so: "test line N: ...". */
static void expect_error(const char *source, const char *want) {
    json_t *v = json_object();
    char *got = render(source, strlen(source), v);
    if (!strstr(got, want) || strncmp(got, "ERROR: ", 7) != 0) fail_msg("%s\n got: %s\nwant: %s", source, got, want);
    rm_free(got);
    json_decref(v);
}

/* Snippets of every kind against what Jinja2 gives (ref/make_template_fixtures.py). */
static void as_jinja(void **state) {
    (void)state;
    FILE *f = fopen(RMAS_FIXTURES "/templates/cases.jsonl", "r");
    char *line = NULL;
    size_t cap = 0;
    json_t *vars = NULL;
    int n = 0, bad = 0;
    assert_non_null(f);
    while (getline(&line, &cap, f) > 0) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        if (!vars) {
            vars = json_incref(json_object_get(row, "vars"));
            assert_non_null(vars);
        } else {
            const json_t *source = json_object_get(row, "template");
            const char *want = json_string_value(json_object_get(row, "text"));
            char *got = render(json_string_value(source), json_string_length(source), vars);
            if (want ? strcmp(got, want) != 0 : strncmp(got, "ERROR: ", 7) != 0) {
                fprintf(stderr, "%s\n got: %s\nwant: %s\n", json_string_value(source), got,
                        want ? want : json_string_value(json_object_get(row, "error")));
                bad++;
            }
            rm_free(got);
            n++;
        }
        json_decref(row);
    }
    fclose(f);
    free(line);
    json_decref(vars);
    assert_true(n > 140);
    assert_int_equal(bad, 0);
}

static void messages_with_lines(void **state) {
    (void)state;
    expect_error("a\nb\n{{ 1 + }}", "test line 3: expected an expression, found }}");
    expect_error("\n{% include 'x' %}", "test line 2: tag 'include' is not supported here");
    expect_error("\n\n{{ x|urlize }}", "test line 3: filter 'urlize' is not supported here");
    expect_error("{{ x is odder }}", "test line 1: test 'odder' is not supported here");
    expect_error("{% if a %}\n{% for b in c %}\n{% endfor %}", "endif");
    expect_error("{{ 'abc }}", "without its closing quote");
    expect_error("{% raw %} {{", "without {% endraw %}");
    expect_error("{# x", "comment");
    expect_error("{{ (1 }}", "unexpected '}'");
    expect_error("{% break %}", "outside of a loop");
    expect_error("x\n{{ a.b }}", "test line 2: 'a' is undefined");
    expect_error("{{ {}.b.c }}", "'dict object' has no attribute 'b'");
    expect_error("\n{{ raise_exception('Conversation roles must alternate') }}", "Conversation roles must alternate");
    expect_error("\xC0\x80", "not valid UTF-8");
    expect_error("{{ 99999999999999999999 }}", "64 bits");
    expect_error("{{ 9223372036854775807 + 1 }}", "64 bits");
    expect_error("{{ -9223372036854775807 - 2 }}", "64 bits");
    expect_error("{{ 10 ** 30 }}", "64 bits");
    expect_error("{{ '\\UFFFFFFFF' }}", "bad escape");
    expect_error("{{ '\\U00110000' }}", "bad escape");
}

static void dates(void **state) {
    (void)state;
    rm_date d;
    assert_true(rm_date_parse("2024-02-29", &d) && d.year == 2024 && d.month == 2 && d.day == 29);
    const char *bad[] = {"",          "2023-02-29", "2024-13-01", "2024-00-10", "2024-1-1",  "2024-01-32",
                         "24-01-01x", "2024/01/01", "-024-01-01", "2024-01-1 ", "0000-01-01"};
    for (size_t i = 0; i < RM_COUNT(bad); i++) assert_false(rm_date_parse(bad[i], &d));
    expect("{{ strftime_now('%a %d %b %Y, %A %-d %B, day %j') }}", "{}", "Fri 26 Jul 2024, Friday 26 July, day 208");
    expect_error("{{ strftime_now('%Q') }}", "'%Q' is not supported");
}

static char *repeat(const char *before, const char *what, int n, const char *after) {
    rm_strbuf b = {0};
    rm_strbuf_puts(&b, before);
    for (int i = 0; i < n; i++) rm_strbuf_puts(&b, what);
    rm_strbuf_puts(&b, after);
    return rm_strbuf_take(&b);
}

/* Templates that want to run for ever, to fill the memory or the stack: each must end soon with an error that says so. */
static void hostile(void **state) {
    (void)state;
    static const char *const loops[] = {
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s|list }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(2000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000)|replace('', 'b' * 1000000) }}",
        "{{ ('b' * 1000000).join(('a' * 1000000)|list) }}",
        "{{ 'a'.ljust(10000000000) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ '%2000000000s' % 1 }}",
        "{{ '{:2000000000}'.format(1) }}",
        "{{ ('x\n' * 1000000)|indent('y' * 1000000) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{% for i in range(100000) %}{{ range(1000)|list|join('', 1.2345678901234567e-300) }}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(1000) %}{{ [1.2345678901234567e-300]|tojson }}{% endfor %}{% endfor %}",
        "{% set x %}{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}{% endset %}",
        "{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}",
        "{% for i in range(100000) %}{{ range(100000)|sort|unique|list }}{% endfor %}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set a = ('a' * 1000000)|list %}{{ a|map('upper')|map('lower')|map('upper')|select('in', a)|list|length }}",
        "{% set ns = namespace(n=0) %}{% for i in range(100000) %}{% for c in 'a' * 1000 %}{% set ns.n = ns.n + 1 %}{% endfor %}{% endfor %}",
    };
    json_t *none = json_object();
    for (size_t i = 0; i < RM_COUNT(loops); i++) {
        clock_t start = clock();
        char *got = render(loops[i], strlen(loops[i]), none);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (strncmp(got, "ERROR: ", 7) != 0) fail_msg("%s gave %.60s", loops[i], got);
        if (seconds > 60) fail_msg("%s took %.1f s", loops[i], seconds); /* some 3 s without sanitizers */
        rm_free(got);
    }
    json_decref(none);
}

/* Sources that are deep or long. They may be refused or work, but not crash or take long. */
static void deep_sources(void **state) {
    (void)state;
    const int n = 20000;
    struct {
        const char *before, *what, *after, *want; /* want: how the result begins; NULL: whatever */
    } cases[] = {
        {"{{ ", "(", "1 }}", "ERROR: "},
        {"{{ ", "[", "1 }}", "ERROR: "},
        {"{{ ", "{'a':", "1 }}", "ERROR: "},
        {"{{ ", "-", "1 }}", "ERROR: "},
        {"{{ ", "not ", "1 }}", NULL},
        {"{{ ", "1 if 1 else ", "1 }}", "ERROR: "},
        {"{{ 1", " + 1", " }}", NULL},
        {"{{ 'a'", " ~ 'a'", " }}", "aaaa"},
        {"{{ 'a' ", "'a' ", " }}", "aaaa"},
        {"{{ 1", "|string", " }}", NULL},
        {"{{ a", ".a", " }}", NULL},
        {"{{ a", "[0]", " }}", NULL},
        {"{{ a", "()", " }}", NULL},
        {"", "{% if 1 %}", "", "ERROR: "},
        {"", "{% for a in b %}", "", "ERROR: "},
        {"", "{% macro a() %}", "", "ERROR: "},
        {"", "{% set x %}", "", "ERROR: "},
        {"{% if 0 %}", "{% elif 0 %}", "{% endif %}", ""},
        {"", "{{ 1 }}", "", "1111"},
        {"", "{% raw %}", "", "ERROR: "},
        {"", "{#", "", "ERROR: "},
        {"", "{%                ", "", "ERROR: "},
        {"{{ [", "1, ", "] }}", "[1, 1"},
        {"{% set ", "a, ", " = 1 %}", "ERROR: "},
        {"{% filter upper", "|lower", " %}A{% endfilter %}", NULL},
        {"{{ '", "\\u00e9", "' }}", "\xC3\xA9"},
    };
    json_t *none = json_object();
    for (size_t i = 0; i < RM_COUNT(cases); i++) {
        char *source = repeat(cases[i].before, cases[i].what, n, cases[i].after), *got = render(source, strlen(source), none);
        if (cases[i].want && strncmp(got, cases[i].want, strlen(cases[i].want)) != 0) fail_msg("%s...: %.80s", cases[i].what, got);
        rm_free(source);
        rm_free(got);
    }
    json_decref(none);
}

/* Deep variables, and out of memory at every allocation. */
static void variables(void **state) {
    (void)state;
    json_t *deep = json_array(), *vars = json_object();
    for (int i = 0; i < 1500; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    json_object_set_new(vars, "x", deep);
    char *got = render("{{ x|tojson }}", 14, vars);
    assert_memory_equal(got, "ERROR: ", 7);
    rm_free(got);
    json_decref(vars);
    expect("{{ x }} {{ y.a }} {{ z }}", "{\"x\": [1, 2.0, \"a\", null, true], \"y\": {\"a\": {}}, \"z\": \"\\u00e9\"}",
           "[1, 2.0, 'a', None, True] {} \xC3\xA9");
    static const char source[] = "{% macro m(a, b=[1, 2]) %}{{ a ~ b|join(',') }}{% endmacro %}{% for i in l %}{{ m(i)|upper }}{{ loop.index }}{% "
                                 "endfor %}{{ d|tojson(indent=2) }}";
    vars = json_loads("{\"l\": [\"a\", \"b\"], \"d\": {\"k\": [1, {\"x\": 2.5}]}}", 0, NULL);
    char *want = render(source, strlen(source), vars);
    assert_memory_equal(want, "A1,21B1,22{", 11);
    for (long n = 1; n < 200; n++) {
        rm_tmpl *t = NULL;
        rm_strbuf out = {0};
        rm_mem_fail_after(n);
        rmas_status st = rm_tmpl_new(&t, source, strlen(source), "test", NULL);
        if (st == RMAS_OK) st = rm_tmpl_render(t, vars, day, &out, NULL);
        rm_mem_fail_after(0);
        assert_true(st == RMAS_E_NOMEM || st == RMAS_OK);
        if (st == RMAS_OK) assert_string_equal(rm_str(&out), want);
        rm_tmpl_free(t);
        rm_strbuf_free(&out);
    }
    rm_free(want);
    json_decref(vars);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_jinja), cmocka_unit_test(messages_with_lines), cmocka_unit_test(dates),
        cmocka_unit_test(hostile),  cmocka_unit_test(deep_sources),        cmocka_unit_test(variables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
