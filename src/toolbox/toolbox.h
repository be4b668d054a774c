/* What a model may call: Python in a sandbox, and search. Nothing here runs unless the caller asks for it by name.
 * The tool call syntax, its limits and its texts are those of the reference's deliberation style (docs/TOOLS.md). */
#ifndef RM_TOOLBOX_TOOLBOX_H
#define RM_TOOLBOX_TOOLBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"
#include "util/strbuf.h"

/* ---- sandbox ---------------------------------------------------------------------------------------------------------
 * A program runs in its own user, mount, pid, network and ipc namespaces (bubblewrap) with a read-only /usr, a private /tmp,
 * no capabilities, a system call filter, and limits. If that cannot be had on this machine, making the sandbox fails with the
 * reason; `unsafe` runs programs bare (own session, limits, private working folder) and is for containers that isolate already. */

typedef struct {
    double timeout_s; /* wall clock; everything is killed then */
    double cpu_s; /* 0: a little more than timeout_s */
    size_t memory; /* bytes of address space per process; 0: 2 GiB */
    size_t output; /* bytes of standard output and error together; 0: 8 MiB. More ends the program */
    size_t file; /* bytes per file and of the private /tmp; 0: 64 MiB */
    int processes; /* 0: 64 */
} rm_sandbox_limits;

typedef struct {
    bool unsafe;
    const char *python; /* interpreter; NULL: environment RMAS_PYTHON, else /usr/bin/python3 */
    rm_sandbox_limits limits; /* defaults for zero members of a job's */
} rm_sandbox_options;

typedef struct rm_sandbox rm_sandbox; /* read-only after making; may be used from several threads at once */
rmas_status rm_sandbox_new(rm_sandbox **out, const rm_sandbox_options *opt, rmas_error *err); /* tries a program; RMAS_E_TOOL with the reason */
void rm_sandbox_free(rm_sandbox *sb);
bool rm_sandbox_is_unsafe(const rm_sandbox *sb);
const char *rm_sandbox_python(const rm_sandbox *sb);

typedef struct {
    const char *name; /* in the working folder; no slashes */
    const char *data;
    size_t n;
} rm_sandbox_file;

typedef struct {
    const char *const *arg; /* arguments of the interpreter, without its own name */
    int n_arg;
    const rm_sandbox_file *file;
    int n_file;
    const char *in; /* standard input; NULL: /dev/null */
    size_t n_in;
    bool side; /* descriptor 3 is open for writing and comes back in rm_sandbox_result.side */
    const atomic_bool *stop; /* may be NULL; when it becomes true (in another thread), the program is ended as if its time were up */
    rm_sandbox_limits limits;
} rm_sandbox_job;

typedef enum { RM_ENDED_EXIT, RM_ENDED_SIGNAL, RM_ENDED_TIMEOUT, RM_ENDED_OUTPUT } rm_ended;
typedef struct {
    rm_ended how;
    int code; /* exit status or signal number */
    rm_strbuf out, err, side; /* what came before the end, NUL-terminated */
    double seconds;
} rm_sandbox_result;
void rm_sandbox_result_free(rm_sandbox_result *r);
/* RMAS_OK whatever the program did; an error means that it could not be started. */
rmas_status rm_sandbox_run(const rm_sandbox *sb, const rm_sandbox_job *job, rm_sandbox_result *out, rmas_error *err);

/* ---- the Python tool ------------------------------------------------------------------------------------------------- */

typedef struct {
    double timeout_s; /* <= 0: 10 */
    bool echo_last_expr; /* print the value of a last expression statement */
    size_t result_max_chars; /* 0: 6000 */
} rm_tool_options;

/* The result text as it stands between the result tags (cut to result_max_chars). Appends to out. stop: as in rm_sandbox_job. */
rmas_status rm_python_run(const rm_sandbox *sb, const char *code, size_t n, const rm_tool_options *opt, const atomic_bool *stop, rm_strbuf *out,
                          rmas_error *err);

/* ---- search ---------------------------------------------------------------------------------------------------------- */

typedef struct rm_search rm_search;
/* provider: "off" or NULL; "file:DIR" (words in the text files of a folder); "tavily" (key from the environment variable
 * TAVILY_API_KEY; without a key it is off). */
rmas_status rm_search_new(rm_search **out, const char *provider, rmas_error *err);
void rm_search_free(rm_search *s);
bool rm_search_is_on(const rm_search *s); /* false: the caller gives the "search is off" text of its prompt pack */
/* Result text, not yet cut. Failures of the network become text too ("[search error] ..."), as in the reference. When *stop
 * (may be NULL) becomes true, the network is not waited for. */
rmas_status rm_search_run(const rm_search *s, const char *query, size_t n, const atomic_bool *stop, rm_strbuf *out, rmas_error *err);

/* Applied to every tool's result: "</result>" becomes "< /result>", then at most max_chars code points (0: 6000) + a note. */
void rm_tool_result_cut(const char *text, size_t n, size_t max_chars, rm_strbuf *out);

/* ---- calls in a text ------------------------------------------------------------------------------------------------- */

typedef enum { RM_CALL_NONE, RM_CALL_COMPLETE, RM_CALL_UNCLOSED } rm_call_state;
typedef struct {
    bool search; /* else python */
    size_t start, end; /* bytes of the whole element in the text */
    size_t content, n_content; /* of what is between the tags, white space at both ends removed */
} rm_tool_call;
/* Looks at text[from..n): the first complete element; else whether an opened one is not closed. Linear time. */
rm_call_state rm_tool_find(const char *text, size_t n, size_t from, rm_tool_call *out);
bool rm_tool_closes(const char *text, size_t n); /* holds a closing tag */

#endif
