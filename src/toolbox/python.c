/* The Python tool: a prelude, the code of the model, and the result as a text. */
#include <string.h>

#include "toolbox/toolbox.h"
#include "util/mem.h"
#include "util/utf8.h"

/* Ten lines, so that a traceback counts the model's code from line 11. */
static const char prelude[] = "# What is at hand in every tool call\n"
                              "import math\n"
                              "import itertools\n"
                              "import functools\n"
                              "import fractions\n"
                              "import statistics\n"
                              "try:\n"
                              "    import sympy as sp\n"
                              "except ImportError:\n"
                              "    sp = None\n";

/* Makes a last statement of tool.py that is an expression print its repr, then runs it. What does not parse runs as it is. */
static const char echo_main[] = "import ast, os, sys\n"
                                "data = open('tool.py', 'rb').read()\n"
                                "try:\n"
                                "    last = ast.parse(data).body[-1]\n"
                                "except (SyntaxError, ValueError):\n"
                                "    last = None\n"
                                "if isinstance(last, ast.Expr):\n"
                                "    lines = data.splitlines(keepends=True)\n"
                                "    at = sum(map(len, lines[:last.lineno - 1])) + last.col_offset\n"
                                "    end = sum(map(len, lines[:last.end_lineno - 1])) + last.end_col_offset\n"
                                "    with open('tool.py', 'wb') as f:\n"
                                "        f.write(data[:at] + b'print(repr((' + data[at:end] + b')))' + data[end:])\n"
                                "os.execv(sys.executable, [sys.executable, 'tool.py'])\n";

static bool is_space(unsigned c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static size_t stripped_end(const char *s, size_t from, size_t to) {
    unsigned c;
    while (to > from) {
        size_t k = to - 1;
        while (k > from && to - k < 4 && ((unsigned char)s[k] & 0xC0) == 0x80) k--;
        rm_utf8_decode_lossy(s + k, to - k, &c);
        if (!is_space(c)) break;
        to = k;
    }
    return to;
}

static size_t stripped_start(const char *s, size_t from, size_t to) {
    unsigned c;
    while (from < to) {
        int len = rm_utf8_decode_lossy(s + from, to - from, &c);
        if (!is_space(c)) break;
        from += (size_t)len;
    }
    return from;
}

/* Output as text: invalid bytes become U+FFFD, CR LF and CR become LF (Python's text mode). */
static void as_text(const rm_strbuf *raw, rm_strbuf *out) {
    for (size_t i = 0; i < raw->n;) {
        unsigned c;
        int len = rm_utf8_decode_lossy(raw->s + i, raw->n - i, &c);
        if (c == '\r') {
            rm_strbuf_putc(out, '\n');
            if (i + 1 < raw->n && raw->s[i + 1] == '\n') i++;
        } else {
            rm_strbuf_utf8(out, c);
        }
        i += (size_t)len;
    }
}

static void timeout_text(double seconds, rm_strbuf *out) {
    rm_strbuf_puts(out, "[timeout] Python tool exceeded ");
    rm_strbuf_double(out, seconds);
    rm_strbuf_puts(out, " seconds.");
}

/* stdout / "[stderr]" and stderr / "[exit_code] N", joined by line breaks and stripped. */
static void result_text(const rm_sandbox_result *r, rm_strbuf *out) {
    rm_strbuf so = {0}, se = {0}, all = {0};
    as_text(&r->out, &so);
    as_text(&r->err, &se);
    so.n = stripped_end(rm_str(&so), 0, so.n);
    se.n = stripped_end(rm_str(&se), 0, se.n);
    if (so.n) rm_strbuf_add(&all, so.s, so.n);
    if (r->err.n) { /* blank ones too */
        rm_strbuf_puts(&all, all.n ? "\n[stderr]\n" : "[stderr]\n");
        rm_strbuf_add(&all, rm_str(&se), se.n);
    }
    int code = r->how == RM_ENDED_SIGNAL ? -r->code : r->code;
    if (code) rm_strbuf_printf(&all, "%s[exit_code] %d", all.n ? "\n" : "", code);
    size_t from = stripped_start(rm_str(&all), 0, all.n), to = stripped_end(rm_str(&all), from, all.n);
    if (to > from)
        rm_strbuf_add(out, all.s + from, to - from);
    else
        rm_strbuf_puts(out, "[no output]");
    out->failed |= so.failed || se.failed || all.failed;
    rm_strbuf_free(&so);
    rm_strbuf_free(&se);
    rm_strbuf_free(&all);
}

rmas_status rm_python_run(const rm_sandbox *sb, const char *code, size_t n, const rm_tool_options *opt, const atomic_bool *stop, rm_strbuf *out,
                          rmas_error *err) {
    static const char *const plain[] = {"tool.py"}, *const echo[] = {"echo.py"};
    rm_strbuf script = {0};
    rm_strbuf_puts(&script, prelude);
    rm_strbuf_add(&script, code, n);
    rm_strbuf_putc(&script, '\n');
    if (script.failed) {
        rm_strbuf_free(&script);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    rm_sandbox_file files[] = {{"tool.py", script.s, script.n}, {"echo.py", echo_main, sizeof echo_main - 1}};
    bool with_echo = opt && opt->echo_last_expr;
    rm_sandbox_job job = {.arg = with_echo ? echo : plain, .n_arg = 1, .file = files, .n_file = with_echo ? 2 : 1, .stop = stop};
    job.limits.timeout_s = opt && opt->timeout_s > 0 ? opt->timeout_s : 10;
    rm_sandbox_result r;
    rmas_status st = rm_sandbox_run(sb, &job, &r, err);
    rm_strbuf_free(&script);
    RM_TRY(st);
    if (r.how == RM_ENDED_TIMEOUT) {
        timeout_text(job.limits.timeout_s, out); /* not cut, as in the reference */
    } else {
        rm_strbuf text = {0};
        if (r.how == RM_ENDED_OUTPUT) {
            r.code = 0;
            rm_strbuf_puts(&r.err, "\n[output limit reached, the program was ended]");
        }
        result_text(&r, &text);
        rm_tool_result_cut(rm_str(&text), text.n, opt ? opt->result_max_chars : 0, out);
        out->failed |= text.failed;
        rm_strbuf_free(&text);
    }
    rm_sandbox_result_free(&r);
    return out->failed ? rm_fail(err, RMAS_E_NOMEM, "out of memory") : RMAS_OK;
}
