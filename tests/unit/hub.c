#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/hub.h"
#include "util/file.h"
#include "util/mem.h"

static char root[] = "/tmp/rmas-hub-XXXXXX";

static void put(const char *name, const char *text) {
    char path[512], *slash;
    snprintf(path, sizeof path, "%s/%s", root, name);
    slash = strrchr(path, '/');
    *slash = 0;
    assert_int_equal(rm_mkdirs(path, NULL), RMAS_OK);
    *slash = '/';
    assert_int_equal(rm_file_write(path, text, strlen(text), NULL), RMAS_OK);
}

static void expect(const char *repo, const char *folder) {
    char *out, want[512];
    rmas_error err = {0};
    rmas_status s = rm_hub_snapshot(&out, repo, &err);
    if (!folder) {
        assert_int_not_equal(s, RMAS_OK);
        assert_null(out);
        assert_non_null(strstr(err.msg, repo));
        return;
    }
    snprintf(want, sizeof want, "%s/%s", root, folder);
    if (s != RMAS_OK) fail_msg("%s", err.msg);
    assert_string_equal(out, want);
    rm_free(out);
}

static void names(void **state) {
    (void)state;
    const char *good[] = {"a/b", "RecursiveMAS/Mixture-Math", "o.x/n_1-2", "o/n@main", "o/n@refs/pr/1", "o/n@0123abc"};
    const char *bad[] = {"",       "a",      "/a",    "a/",   "a/b/c",    "../b",       "a/..",   "a/.b",
                         "a--b/c", "a/b..c", "a b/c", "a/b@", "a/b@../x", "a/b@x/../y", "a/b@/x", "a@b/c"};
    for (size_t i = 0; i < RM_COUNT(good); i++) assert_true(rm_hub_is_repo(good[i]));
    for (size_t i = 0; i < RM_COUNT(bad); i++) assert_false(rm_hub_is_repo(bad[i]));
}

static void snapshots(void **state) {
    (void)state;
    assert_non_null(mkdtemp(root));
    put("models--o--n/refs/main", "abc123\n");
    put("models--o--n/refs/refs/pr/1", "def456");
    put("models--o--n/snapshots/abc123/config.json", "{}");
    put("models--o--n/snapshots/def456/config.json", "{}");
    put("models--o--one/snapshots/777/config.json", "{}");
    put("models--o--two/snapshots/1/config.json", "{}");
    put("models--o--two/snapshots/2/config.json", "{}");
    put("models--o--evil/refs/main", "../../x");
    put("models--o--gone/refs/main", "999");
    setenv("HF_HUB_CACHE", root, 1);
    expect("o/n", "models--o--n/snapshots/abc123");
    expect("o/n@main", "models--o--n/snapshots/abc123");
    expect("o/n@refs/pr/1", "models--o--n/snapshots/def456");
    expect("o/n@def456", "models--o--n/snapshots/def456");
    expect("o/one", "models--o--one/snapshots/777");
    expect("o/n@nope", NULL);
    expect("o/two", NULL);
    expect("o/gone", NULL);
    expect("o/none", NULL);
    expect("../x", NULL);
    rmas_error err = {0};
    char *out;
    assert_int_equal(rm_hub_snapshot(&out, "o/evil", &err), RMAS_E_FORMAT);
    char home[512];
    snprintf(home, sizeof home, "%s/home", root);
    put("home/hub/models--o--h/snapshots/5/config.json", "{}");
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", home, 1);
    expect("o/h", "home/hub/models--o--h/snapshots/5");
    char rm[560];
    snprintf(rm, sizeof rm, "rm -rf '%s'", root);
    assert_int_equal(system(rm), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(snapshots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
