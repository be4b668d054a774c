#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <locale.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/json.h"
#include "util/number.h"
#include "util/pool.h"
#include "util/strbuf.h"
#include "util/utf8.h"

/* The events of a document as one letter each; '!' for an error. */
static const char *events(const char *text) {
    static char out[256];
    rm_json j;
    size_t n = 0;
    rm_json_init(&j, text, strlen(text));
    for (;;) {
        rm_json_event e = rm_json_next(&j);
        if (e == RM_JSON_ERROR || e == RM_JSON_END) {
            if (e == RM_JSON_ERROR) out[n++] = '!';
            break;
        }
        out[n++] = "?{}[]ksntf0"[e];
    }
    out[n] = 0;
    rm_json_free(&j);
    return out;
}

static void json_documents(void **state) {
    (void)state;
    assert_string_equal(events("{\"a\": [1, -2.5e3, \"x\\u00e9\"], \"b\": {}, \"c\": null} "), "{k[nns]k{}k0}");
    assert_string_equal(events("[true, false]"), "[tf]");
    assert_string_equal(events("7"), "n");
    const char *bad[] = {"",  "{",           "[1,]",    "{\"a\" 1}", "{\"a\":1,}",   "[1] 2", "01",   "1.",
                         "-", "\"\\ud800\"", "\"\\x\"", "\"\n\"",    "\"\xC0\x80\"", "nul",   "[1 2]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_true(strchr(events(bad[i]), '!') != NULL);
    char deep[1000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    rm_json j;
    rm_json_init(&j, deep, strlen(deep));
    rm_json_event e;
    while ((e = rm_json_next(&j)) == RM_JSON_ARRAY) {}
    assert_int_equal(e, RM_JSON_ERROR);
    assert_int_equal(j.depth, RM_JSON_MAX_DEPTH);
    rm_json_free(&j);
}

static void json_numbers(void **state) {
    (void)state;
    rm_json j = {.str = "-9223372036854775808", .len = 20};
    int64_t v;
    assert_true(rm_json_int(&j, &v));
    assert_true(v == INT64_MIN);
    j = (rm_json){.str = "9223372036854775808", .len = 19};
    assert_false(rm_json_int(&j, &v));
    j = (rm_json){.str = "1.5", .len = 3};
    assert_false(rm_json_int(&j, &v));
    double d;
    assert_true(rm_json_double(&j, &d));
    assert_true(d == 1.5);
}

static void utf8(void **state) {
    (void)state;
    unsigned cp;
    assert_int_equal(rm_utf8_decode("\xF0\x9F\x98\x80", 4, &cp), 4);
    assert_int_equal(cp, 0x1F600);
    assert_int_equal(rm_utf8_decode("\xED\xA0\x80", 3, &cp), 0);
    assert_int_equal(rm_utf8_decode_lossy("\xF0\x9F\x98", 3, &cp), 3);
    assert_int_equal(cp, 0xFFFD);
    assert_int_equal(rm_utf8_decode("\xEF\xBF\xBD", 3, &cp), 3);
}

static void count(void *ctx, int chunk, int thread) {
    (void)thread;
    atomic_fetch_add((atomic_int *)ctx + chunk, 1);
}

static void pool_runs_every_chunk_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        rm_pool *p;
        assert_int_equal(rm_pool_new(&p, threads, NULL), RMAS_OK);
        static atomic_int hits[100];
        memset(hits, 0, sizeof hits);
        for (int round = 0; round < 200; round++) rm_pool_run(p, 100, count, hits);
        for (int i = 0; i < 100; i++) assert_int_equal(hits[i], 200);
        rm_pool_free(p);
    }
}

/* A program that embeds this one may write its numbers with a comma. The locale is made for the test. */
static void numbers_in_another_locale(void **state) {
    (void)state;
    char folder[] = "/tmp/rmas-locale-XXXXXX", command[128];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>/dev/null", folder);
    const bool made = system(command) == 0;
    setenv("LOCPATH", folder, 1);
    const bool comma = made && setlocale(LC_ALL, "de_DE.UTF-8") && *localeconv()->decimal_point == ',';
    if (comma) {
        double v = 0;
        rm_json j;
        rm_strbuf b = {0};
        char text[32];
        rm_json_init(&j, "0.625", 5);
        assert_int_equal(rm_json_next(&j), RM_JSON_NUMBER);
        assert_true(rm_json_double(&j, &v) && v == 0.625);
        rm_json_free(&j);
        rm_strbuf_double(&b, 0.625);
        assert_string_equal(rm_str(&b), "0.625");
        rm_strbuf_free(&b);
        rm_number_print(text, sizeof text, 'g', 3, 1234.5);
        assert_string_equal(text, "1.23e+03");
        assert_true(strtod("0.625", NULL) == 0); /* the program's own numbers are as they were */
    }
    setlocale(LC_ALL, "C");
    unsetenv("LOCPATH");
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    if (!comma) skip(); /* no sources of locales here */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_documents),
        cmocka_unit_test(json_numbers),
        cmocka_unit_test(utf8),
        cmocka_unit_test(numbers_in_another_locale),
        cmocka_unit_test(pool_runs_every_chunk_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
