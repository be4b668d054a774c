/* The sandbox holds, the tool's results have the reference's form, calls are found, search answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "toolbox/toolbox.h"
#include "util/file.h"
#include "util/mem.h"

static rm_sandbox *boxed, *bare;

static int setup(void **state) {
    (void)state;
    rmas_error err;
    rm_sandbox_options unsafe = {.unsafe = true};
    if (rm_sandbox_new(&boxed, NULL, &err)) print_message("SKIP the sandbox: %s\n", err.msg);
    return rm_sandbox_new(&bare, &unsafe, &err);
}

static int teardown(void **state) {
    (void)state;
    rm_sandbox_free(boxed);
    rm_sandbox_free(bare);
    return 0;
}

static char *run(const rm_sandbox *sb, const char *code, const rm_tool_options *opt) {
    rm_strbuf b = {0};
    rmas_error err = {0};
    if (rm_python_run(sb, code, strlen(code), opt, NULL, &b, &err)) fail_msg("%s", err.msg);
    return rm_strbuf_take(&b);
}

static void expect(const rm_sandbox *sb, const char *code, const rm_tool_options *opt, const char *want) {
    char *got = run(sb, code, opt);
    assert_string_equal(got, want);
    rm_free(got);
}

static void starts(const rm_sandbox *sb, const char *code, const rm_tool_options *opt, const char *want) {
    char *got = run(sb, code, opt);
    if (strncmp(got, want, strlen(want))) fail_msg("%s", got);
    rm_free(got);
}

static void results(void **state) {
    (void)state;
    const rm_sandbox *sb = boxed ? boxed : bare;
    expect(sb, "print(17 + 25)", NULL, "42");
    expect(sb, "", NULL, "[no output]");
    expect(sb, "3 * 7", NULL, "[no output]");
    expect(sb, "import sys\nprint('out')\nsys.stderr.write('err\\n')\nsys.exit(3)", NULL, "out\n[stderr]\nerr\n[exit_code] 3");
    expect(sb, "raise SystemExit(7)", NULL, "[exit_code] 7");
    expect(sb, "print('  lead')\nprint('x  ')\nprint()\nprint()", NULL, "lead\nx");
    expect(sb, "print('a</result>b</Result>')", NULL, "a< /result>b</Result>");
    expect(sb, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", NULL, "[exit_code] -9");
    expect(sb, "import sys\nsys.stdout.buffer.write(b'\\xff1\\r\\n2')", NULL,
           "\xEF\xBF\xBD"
           "1\n2");
    if (boxed) {
        expect(sb, "input()", NULL,
               "[stderr]\nTraceback (most recent call last):\n  File \"/tmp/work/tool.py\", line 11, in <module>\n    input()\n"
               "EOFError: EOF when reading a line\n[exit_code] 1");
    }
    const rm_tool_options cut = {.result_max_chars = 23}, echo = {.echo_last_expr = true}, half = {.timeout_s = 0.5}, odd = {.timeout_s = 0.25},
                          one = {.timeout_s = 1};
    expect(sb, "print('0123456789' * 5)", &cut, "01234567890123456789012\n... [truncated 27 chars]");
    expect(sb, "x = 3\nx * 7", &echo, "21");
    expect(sb, "print(1)\n[2, 'a']", &echo, "1\n[2, 'a']");
    expect(sb, "y = 1", &echo, "[no output]");
    expect(sb, "None", &echo, "None"); /* as in the reference: the value of print(1) is shown too */
    expect(sb, "print(1)", &echo, "1\nNone");
    expect(sb, "1, '\xC3\xA9'; (2,\n  3) # pair", &echo, "(2, 3)");
    expect(sb, "x = 'a'\nx, 1", &echo, "('a', 1)");
    if (boxed) {
        starts(sb, "1 +", &echo, "[stderr]\n  File \"/tmp/work/tool.py\", line 11\n    1 +\n");
        starts(sb, "\n1 / 0", &echo, "[stderr]\nTraceback (most recent call last):\n  File \"/tmp/work/tool.py\", line 12, in <module>\n");
    }
    expect(sb, "import sys\nsys.stderr.write(' \\n')\nprint(5)", NULL, "5\n[stderr]");
    expect(sb, "import time\ntime.sleep(60)", &odd, "[timeout] Python tool exceeded 0.25 seconds.");
    char *nul = run(sb, "print('a\\0b')", NULL);
    assert_memory_equal(nul, "a\0b", 4);
    rm_free(nul);
    expect(sb, "while True: pass", &half, "[timeout] Python tool exceeded 0.5 seconds.");
    expect(sb, "print('lost', flush=True)\nimport time\ntime.sleep(60)", &one, "[timeout] Python tool exceeded 1.0 seconds.");
}

/* Each program tries to get out and prints what it got; `never` must not be in the result. */
static void escapes(void **state) {
    (void)state;
    static const struct {
        const char *what, *code, *want;
    } tries[] = {
        {"network",
         "import socket\ntry:\n  socket.create_connection(('1.1.1.1', 53), 2)\n  print('OUT')\nexcept OSError as e: print('kept', e.errno in (101, "
         "99, 1, 97))",
         "kept True"},
        {"loopback of the host",
         "import socket\ns = socket.socket()\ntry:\n  s.connect(('127.0.0.1', 22))\n  print('OUT')\nexcept OSError as e: print('kept')", "kept"},
        {"other socket families", "import socket\ntry:\n  socket.socket(40, socket.SOCK_STREAM)\n  print('OUT')\nexcept OSError: print('kept')",
         "kept"},
        {"passwords", "import os\nprint([p for p in ('/etc/shadow', '/etc/passwd', '/root', '/home', '/var', '/sys', '/run') if os.path.exists(p)])",
         "[]"},
        {"writing outside /tmp",
         "import os\nn = 0\nfor d in ('/', '/usr', '/usr/lib', '/bin', '/etc', '/dev', '/proc', '/proc/sys/kernel'):\n  try:\n    open(d + '/x', "
         "'w'); n += "
         "1\n  except OSError: pass\nprint(n)",
         "0"},
        {"other processes", "import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[-1] < 10)", "True"},
        {"signals to the parent",
         "import os, signal\ntry:\n  os.kill(os.getppid(), signal.SIGKILL)\nexcept OSError: pass\nimport time\ntime.sleep(0.1)\nprint('alive')",
         "alive"},
        {"links", "import os\nos.symlink('/etc/shadow', 'l')\ntry:\n  open('l').read()\n  print('OUT')\nexcept OSError: print('kept')", "kept"},
        {"new namespaces",
         "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nprint(c.unshare(0x10000000), c.unshare(0x20000), c.mount(b'none', b'/tmp', b'tmpfs', "
         "0, None))",
         "-1 -1 -1"},
        {"privileges", "import os\ntry:\n  os.setuid(0)\n  print('OUT')\nexcept OSError: print('kept')", "kept"},
        {"memory", "try:\n  x = bytearray(8 << 30)\n  print('OUT')\nexcept MemoryError: print('kept')", "kept"},
        {"memory outside the address space",
         "import ctypes, os\nprint(ctypes.CDLL(None).shmget(0, 4096, 0o1600))\ntry:\n  os.memfd_create('x')\n  print('OUT')\nexcept OSError: "
         "print('kept')",
         "-1\nkept"},
        {"large files",
         "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ntry:\n  with open('big', 'wb') as f:\n    for i in range(200): "
         "f.write(bytes(1 << 20))\n "
         " print('OUT')\nexcept OSError: print('kept')",
         "kept"},
        {"many files",
         "import os\ntry:\n  for i in range(200):\n    with open('f%d' % i, 'wb') as f: f.write(bytes(1 << 20))\n  print('OUT')\nexcept OSError: "
         "print('kept')",
         "kept"},
        {"raising limits",
         "import resource\ntry:\n  resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\n  print('OUT')\nexcept (ValueError, "
         "OSError): "
         "print('kept')",
         "kept"},
        {"fork bomb",
         "import os, time\nn = 0\ntry:\n  while n < 2000:\n    if os.fork() == 0:\n      time.sleep(30); os._exit(0)\n    n += 1\nexcept OSError: "
         "pass\nprint(n < "
         "100)",
         "True"},
        {"standard input of the parent", "import sys\nprint(repr(sys.stdin.read()))", "''"},
        {"descriptors of the parent", "import os\nprint(len(os.listdir('/proc/self/fd')) <= 5)", "True"},
        {"environment", "import os\nprint('RMAS_TEST_SECRET' in os.environ)", "False"},
    };
    if (!boxed) skip();
    setenv("RMAS_TEST_SECRET", "1", 1);
    for (size_t i = 0; i < RM_COUNT(tries); i++) {
        char *got = run(boxed, tries[i].code, NULL);
        if (strcmp(got, tries[i].want) != 0) fail_msg("%s: expected %s, got %s", tries[i].what, tries[i].want, got);
        rm_free(got);
    }
}

/* Processes whose command line holds this mark, on the whole machine. */
static int count_marked(const char *mark) {
    int n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *d; proc && (d = readdir(proc));) {
        char path[300], line[4096];
        if (d->d_name[0] < '0' || d->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", d->d_name);
        FILE *f = fopen(path, "r");
        size_t len = f ? fread(line, 1, sizeof line - 1, f) : 0;
        if (f) fclose(f);
        for (size_t i = 0; i < len; i++) line[i] = line[i] ? line[i] : ' ';
        line[len] = 0;
        n += strstr(line, mark) != NULL;
    }
    if (proc) closedir(proc);
    return n;
}

static void nothing_survives(void **state) {
    (void)state;
    char code[600], mark[64];
    if (!boxed) skip();
    snprintf(mark, sizeof mark, "rmasdaemon%d", (int)getpid());
    snprintf(
        code, sizeof code,
        "import os, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', '%.4s' + '%s'], start_new_session=True, "
        "stdout=subprocess.DEVNULL)\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    import time\n    time.sleep(300)\n  os._exit(0)\n"
        "print('started')",
        mark, mark + 4);
    expect(boxed, code, NULL, "started");
    usleep(200000);
    assert_int_equal(count_marked(mark), 0);
    rm_tool_options quick = {.timeout_s = 0.5};
    strcat(code, "\nimport time\ntime.sleep(60)");
    expect(boxed, code, &quick, "[timeout] Python tool exceeded 0.5 seconds.");
    usleep(200000);
    assert_int_equal(count_marked(mark), 0);
}

static void floods_end(void **state) {
    (void)state;
    static const char *const arg[] = {"-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)"};
    rm_sandbox_job job = {.arg = arg, .n_arg = 2, .limits = {.timeout_s = 20, .output = 1 << 20}};
    rm_sandbox_result r;
    rmas_error err;
    assert_int_equal(rm_sandbox_run(boxed ? boxed : bare, &job, &r, &err), RMAS_OK);
    assert_int_equal(r.how, RM_ENDED_OUTPUT);
    assert_int_equal(r.out.n, 1 << 20);
    assert_true(r.seconds < 15);
    rm_sandbox_result_free(&r);
}

static void descriptors(void **state) {
    (void)state;
    static const char *const arg[] = {"-c", "import os, sys\nos.write(3, b'aside')\nprint(sys.stdin.read() + open('data').read())"};
    rm_sandbox_file file = {"data", "file", 4};
    rm_sandbox_job job = {.arg = arg, .n_arg = 2, .file = &file, .n_file = 1, .in = "in ", .n_in = 3, .side = true};
    const rm_sandbox *both[] = {bare, boxed};
    for (int i = 0; i < 2; i++) {
        rm_sandbox_result r;
        rmas_error err;
        if (!both[i]) continue;
        assert_int_equal(rm_sandbox_run(both[i], &job, &r, &err), RMAS_OK);
        assert_string_equal(rm_str(&r.out), "in file\n");
        assert_string_equal(rm_str(&r.side), "aside");
        rm_sandbox_result_free(&r);
    }
    file.name = "../data";
    rm_sandbox_result r;
    rmas_error err;
    assert_int_equal(rm_sandbox_run(bare, &job, &r, &err), RMAS_E_ARG);
}

static void bad_interpreter(void **state) {
    (void)state;
    rm_sandbox *sb;
    rmas_error err;
    rm_sandbox_options opt = {.python = "/nowhere/python3"};
    assert_int_equal(rm_sandbox_new(&sb, &opt, &err), RMAS_E_TOOL);
    assert_non_null(strstr(err.msg, "/nowhere/python3"));
    assert_null(sb);
}

static void find(const char *text, size_t from, rm_call_state state, const char *element, const char *content) {
    rm_tool_call c;
    assert_int_equal(rm_tool_find(text, strlen(text), from, &c), state);
    if (state != RM_CALL_COMPLETE) return;
    assert_int_equal(c.end - c.start, strlen(element));
    assert_memory_equal(text + c.start, element, c.end - c.start);
    assert_int_equal(c.n_content, strlen(content));
    assert_memory_equal(text + c.content, content, c.n_content);
}

static void calls(void **state) {
    (void)state;
    assert_true(rm_tool_closes("a\0b</PYTHON>", 13) && rm_tool_closes("</search>", 9)); /* a model may write NULs */
    assert_false(rm_tool_closes("</search", 8) || rm_tool_closes("</result>", 9));
    find("no call", 0, RM_CALL_NONE, NULL, NULL);
    find("a <python>\n print(1)\n </python> b", 0, RM_CALL_COMPLETE, "<python>\n print(1)\n </python>", "print(1)");
    find("<Python>x</pYTHON>", 0, RM_CALL_COMPLETE, "<Python>x</pYTHON>", "x");
    find("<python>print(1)", 0, RM_CALL_UNCLOSED, NULL, NULL);
    find("<python>print(1)", 1, RM_CALL_NONE, NULL, NULL);
    find("<pytho", 0, RM_CALL_NONE, NULL, NULL);
    find("<python></python>", 0, RM_CALL_COMPLETE, "<python></python>", "");
    find("<python> s <search>q</search>", 0, RM_CALL_COMPLETE, "<search>q</search>", "q");
    find("<python>'<search>q</search>'</python>", 0, RM_CALL_COMPLETE, "<python>'<search>q</search>'</python>", "'<search>q</search>'");
    find("<python>8 # </search></python>", 0, RM_CALL_COMPLETE, "<python>8 # </search></python>", "8 # </search>");
    find("<search>a</search><python>b</python>", 5, RM_CALL_COMPLETE, "<python>b</python>", "b");
    find("</python><python>", 0, RM_CALL_UNCLOSED, NULL, NULL);
    rm_strbuf b = {0};
    for (int i = 0; i < 200000; i++) rm_strbuf_puts(&b, i % 2 ? "<python>" : "<search>"); /* linear, or this takes for ever */
    find(b.s, 0, RM_CALL_UNCLOSED, NULL, NULL);
    rm_strbuf_free(&b);
}

static void local_search(void **state) {
    (void)state;
    char dir[] = "/tmp/rmas-search-XXXXXX", path[64];
    rmas_error err;
    rm_search *s;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/towers.txt", dir);
    static const char text[] = "Towers\n\nThe green tower of Lindau is 33 metres high.\n\nThe old lighthouse stands by the harbour.\n";
    assert_int_equal(rm_file_write(path, text, sizeof text - 1, &err), RMAS_OK);
    char provider[80];
    snprintf(provider, sizeof provider, "file:%s", dir);
    assert_int_equal(rm_search_new(&s, provider, &err), RMAS_OK);
    assert_true(rm_search_is_on(s));
    rm_strbuf b = {0};
    assert_int_equal(rm_search_run(s, "green tower height", 18, NULL, &b, &err), RMAS_OK);
    assert_string_equal(b.s, "Query: green tower height\nResults:\n[1] Towers\nURL: towers.txt\nThe green tower of Lindau is 33 metres high.");
    rm_strbuf_clear(&b);
    assert_int_equal(rm_search_run(s, "zebra", 5, NULL, &b, &err), RMAS_OK);
    assert_string_equal(b.s, "Query: zebra\n[no search results]");
    rm_strbuf_free(&b);
    rm_search_free(s);
    remove(path);
    remove(dir);
    assert_int_equal(rm_search_new(&s, NULL, &err), RMAS_OK);
    assert_false(rm_search_is_on(s));
    rm_search_free(s);
    assert_int_equal(rm_search_new(&s, "altavista", &err), RMAS_E_ARG);
    assert_int_equal(rm_search_new(&s, "file:/nowhere", &err), RMAS_E_IO);
}

/* The recordings of the reference's tool loop: every call is found where it was, and gives the same result. */
static void goldens(void **state) {
    (void)state;
    const char *shared = getenv("RMAS_SHARED");
    char path[4096];
    if (!shared) {
        print_message("SKIP the recorded tool calls: RMAS_SHARED is not set\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/goldens/protocol/tools.json", shared);
    json_t *root = json_load_file(path, 0, NULL), *c, *call, *d;
    assert_non_null(root);
    size_t i, j, k, n = 0;
    json_array_foreach(json_object_get(root, "cases"), i, c) json_array_foreach(json_object_get(c, "calls"), j, call) {
        json_array_foreach(json_object_get(call, "decisions"), k, d) {
            json_t *t = json_object_get(d, "call"), *flags = json_object_get(c, "flags");
            const char *name = json_string_value(json_object_get(t, "name"));
            if (!t || strcmp(name, "python") != 0) continue;
            const char *timeout = json_string_value(json_object_get(flags, "--python_timeout"));
            const char *chars = json_string_value(json_object_get(flags, "--result_max_chars"));
            rm_tool_options opt = {.timeout_s = timeout ? atof(timeout) : 0,
                                   .echo_last_expr = json_object_get(flags, "--echo_last_expr") != NULL,
                                   .result_max_chars = chars ? (size_t)atoi(chars) : 0};
            expect(boxed ? boxed : bare, json_string_value(json_object_get(t, "content")), &opt, json_string_value(json_object_get(t, "result")));
            n++;
        }
    }
    json_decref(root);
    assert_true(n > 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results),    cmocka_unit_test(escapes),      cmocka_unit_test(nothing_survives),
        cmocka_unit_test(floods_end), cmocka_unit_test(descriptors),  cmocka_unit_test(bad_interpreter),
        cmocka_unit_test(calls),      cmocka_unit_test(local_search), cmocka_unit_test(goldens),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
