/* The sandbox: which namespaces, folders and limits a program gets. The process itself is watched by process.c. */
#define _GNU_SOURCE /* nftw flags */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "toolbox/process.h"
#include "util/file.h"
#include "util/mem.h"

#define WORK "/tmp/work"

struct rm_sandbox {
    bool unsafe, drop_uid, prlimit;
    char *bwrap, *python;
    char *prefix[2]; /* folders of an interpreter outside /usr; NULL where there is none */
    rm_sandbox_limits limits;
};

static atomic_uint run_count; /* only keeps the uids of simultaneous runs apart */

void rm_sandbox_result_free(rm_sandbox_result *r) {
    rm_strbuf_free(&r->out);
    rm_strbuf_free(&r->err);
    rm_strbuf_free(&r->side);
}

bool rm_sandbox_is_unsafe(const rm_sandbox *sb) { return sb->unsafe; }
const char *rm_sandbox_python(const rm_sandbox *sb) { return sb->python; }

void rm_sandbox_free(rm_sandbox *sb) {
    if (!sb) return;
    rm_free(sb->bwrap);
    rm_free(sb->python);
    rm_free(sb->prefix[0]);
    rm_free(sb->prefix[1]);
    rm_free(sb);
}

static void fill(rm_sandbox_limits *l, const rm_sandbox_limits *from) {
    if (!(l->timeout_s > 0)) l->timeout_s = from->timeout_s;
    if (!(l->cpu_s > 0)) l->cpu_s = from->cpu_s > 0 ? from->cpu_s : ceil(l->timeout_s) + 2;
    if (!l->memory) l->memory = from->memory;
    if (!l->output) l->output = from->output;
    if (!l->file) l->file = from->file;
    if (!l->processes) l->processes = from->processes;
}

/* ---- the command line of bubblewrap ------------------------------------------------------------------------------------ */

typedef struct {
    char **v;
    size_t n, cap;
    bool failed;
} words;

static void word(words *w, const char *s) {
    if (w->n + 1 >= w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 128;
        char **v = rm_realloc_array(w->v, cap, sizeof *v);
        if (!v) {
            w->failed = true;
            return;
        }
        w->v = v;
        w->cap = cap;
    }
    if (!(w->v[w->n] = rm_strdup(s))) {
        w->failed = true;
        return;
    }
    w->v[++w->n] = NULL;
}

static void many(words *w, const char *line) { /* words separated by single spaces */
    char buf[512];
    snprintf(buf, sizeof buf, "%s", line);
    char *save = NULL;
    for (char *t = strtok_r(buf, " ", &save); t; t = strtok_r(NULL, " ", &save)) word(w, t);
}

static void number(words *w, uint64_t v) {
    char buf[24];
    snprintf(buf, sizeof buf, "%llu", (unsigned long long)v);
    word(w, buf);
}

static void pair(words *w, const char *option, const char *a, const char *b) {
    word(w, option);
    word(w, a);
    word(w, b);
}

static void free_words(words *w) {
    for (size_t i = 0; i < w->n; i++) rm_free(w->v[i]);
    rm_free(w->v);
}

/* /bin, /lib ... are links into /usr on merged systems and folders elsewhere. */
static void system_folders(words *w) {
    static const char *const names[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
    static const char *const files[] = {"/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"};
    pair(w, "--ro-bind", "/usr", "/usr");
    for (size_t i = 0; i < RM_COUNT(names); i++) {
        char to[PATH_MAX];
        ssize_t n = readlink(names[i], to, sizeof to - 1);
        if (n > 0) {
            to[n] = 0;
            pair(w, "--symlink", to, names[i]);
        } else if (rm_path_is_dir(names[i])) {
            pair(w, "--ro-bind", names[i], names[i]);
        }
    }
    for (size_t i = 0; i < RM_COUNT(files); i++) pair(w, "--ro-bind-try", files[i], files[i]);
}

static void environment(words *w, const char *option, const char *home) {
    const char *const env[][2] = {{"PATH", "/usr/local/bin:/usr/bin:/bin"},
                                  {"HOME", home},
                                  {"TMPDIR", home},
                                  {"LANG", "C.UTF-8"},
                                  {"PYTHONDONTWRITEBYTECODE", "1"},
                                  {"PYTHONNOUSERSITE", "1"},
                                  {"PYTHONHASHSEED", "0"},
                                  {"OPENBLAS_NUM_THREADS", "1"},
                                  {"OMP_NUM_THREADS", "1"},
                                  {"MKL_NUM_THREADS", "1"}};
    for (size_t i = 0; i < RM_COUNT(env); i++) {
        if (option) {
            pair(w, option, env[i][0], env[i][1]);
        } else {
            char buf[PATH_MAX + 64];
            snprintf(buf, sizeof buf, "%s=%s", env[i][0], env[i][1]);
            word(w, buf);
        }
    }
}

/* first_fd: number of the first file's descriptor in the child; bubblewrap's report and the filter follow the files. */
static void bwrap_line(words *w, const rm_sandbox *sb, const rm_sandbox_job *job, const rm_sandbox_limits *l, int first_fd, bool filter) {
    word(w, sb->bwrap);
    many(w, "--unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --disable-userns --die-with-parent "
            "--new-session --cap-drop ALL --uid 65534 --gid 65534 --hostname sandbox --clearenv");
    environment(w, "--setenv", "/tmp");
    system_folders(w);
    for (int i = 0; i < 2; i++) {
        if (sb->prefix[i]) pair(w, "--ro-bind", sb->prefix[i], sb->prefix[i]);
    }
    many(w, "--proc /proc --dev /dev --size 16777216 --tmpfs /dev/shm --remount-ro /dev --size");
    number(w, l->file);
    many(w, "--tmpfs /tmp --dir " WORK);
    for (int i = 0; i < job->n_file; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, WORK "/%s", job->file[i].name);
        word(w, "--file");
        number(w, (uint64_t)(first_fd + i));
        word(w, path);
    }
    many(w, "--chdir " WORK " --remount-ro /");
    word(w, "--json-status-fd");
    number(w, (uint64_t)(first_fd + job->n_file));
    if (filter) {
        word(w, "--seccomp");
        number(w, (uint64_t)(first_fd + job->n_file + 1));
    }
    word(w, "--");
    if (sb->prlimit) {
        char nproc[40];
        snprintf(nproc, sizeof nproc, "--nproc=%d:%d", l->processes, l->processes);
        word(w, "/usr/bin/prlimit");
        word(w, nproc);
        word(w, "--");
    }
    word(w, sb->python);
    for (int i = 0; i < job->n_arg; i++) word(w, job->arg[i]);
}

static void close_all(int *fd, int n) {
    for (int i = 0; i < n; i++) {
        if (fd[i] >= 0) close(fd[i]);
    }
}

/* Bubblewrap reports an exit status only if the program itself was started: its own failures are not the program's. */
static bool was_started(int report) {
    char text[1024];
    ssize_t n = pread(report, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return strstr(text, "\"exit-code\"") != NULL;
}

static rmas_status run_boxed(const rm_sandbox *sb, const rm_sandbox_job *job, const rm_sandbox_limits *l, int in, rm_sandbox_result *out,
                             rmas_error *err) {
    int fd[64], n = 0;
    words w = {0};
    for (; n < job->n_file; n++) {
        fd[n] = rm_memory_file(job->file[n].data, job->file[n].n);
        if (fd[n] < 0) {
            close_all(fd, n);
            return rm_fail(err, RMAS_E_IO, "cannot make a file in memory: %s", strerror(errno));
        }
    }
    int report = rm_memory_file("", 0), filter = rm_seccomp_file();
    if (report < 0) {
        close_all(fd, n);
        if (filter >= 0) close(filter);
        return rm_fail(err, RMAS_E_IO, "cannot make a file in memory: %s", strerror(errno));
    }
    fd[n++] = report;
    if (filter >= 0) fd[n++] = filter;
    bwrap_line(&w, sb, job, l, RM_PROCESS_FIRST_FD, filter >= 0);
    char *env[] = {NULL};
    rm_process p = {.argv = w.v, .envp = env, .cwd = "/", .fd = fd, .n_fd = n, .in = in, .side = job->side, .stop = job->stop, .limits = *l};
    if (sb->drop_uid) {
        p.uid = 0x70000000u + ((unsigned)getpid() & 0xFFFF) * 256 + atomic_fetch_add(&run_count, 1) % 256;
        p.limit_processes = true;
    }
    rmas_status st = w.failed ? rm_fail(err, RMAS_E_NOMEM, "out of memory") : rm_process_run(&p, out, err);
    if (!st && out->how == RM_ENDED_EXIT && !was_started(report)) {
        const char *why = rm_str(&out->err);
        st = rm_fail(err, RMAS_E_TOOL, "the sandbox could not be started: %.*s", (int)strcspn(why, "\n"), why);
        rm_sandbox_result_free(out);
    }
    close_all(fd, n);
    free_words(&w);
    if (!st && out->how == RM_ENDED_EXIT && out->code > 128 && out->code < 128 + 32) { /* bubblewrap's way to tell a signal */
        out->how = RM_ENDED_SIGNAL;
        out->code -= 128;
    }
    return st;
}

/* ---- without a sandbox --------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f) {
    (void)st, (void)type, (void)f;
    remove(path);
    return 0;
}

static rmas_status run_bare(const rm_sandbox *sb, const rm_sandbox_job *job, const rm_sandbox_limits *l, int in, rm_sandbox_result *out,
                            rmas_error *err) {
    const char *tmp = getenv("TMPDIR");
    char dir[PATH_MAX];
    words w = {0}, env = {0};
    snprintf(dir, sizeof dir, "%s/rmas-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) return rm_fail(err, RMAS_E_IO, "%s: cannot make a folder: %s", dir, strerror(errno));
    rmas_status st = RMAS_OK;
    for (int i = 0; !st && i < job->n_file; i++) {
        char *path = rm_path_join(dir, job->file[i].name);
        st = path ? rm_file_write(path, job->file[i].data, job->file[i].n, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
        rm_free(path);
    }
    word(&w, sb->python);
    for (int i = 0; i < job->n_arg; i++) word(&w, job->arg[i]);
    environment(&env, NULL, dir);
    if (!st && (w.failed || env.failed)) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    rm_process p = {.argv = w.v, .envp = env.v, .cwd = dir, .in = in, .side = job->side, .stop = job->stop, .limits = *l};
    if (!st) st = rm_process_run(&p, out, err);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free_words(&w);
    free_words(&env);
    return st;
}

rmas_status rm_sandbox_run(const rm_sandbox *sb, const rm_sandbox_job *job, rm_sandbox_result *out, rmas_error *err) {
    *out = (rm_sandbox_result){0};
    if (job->n_file > 60) return rm_fail(err, RMAS_E_ARG, "at most 60 files can be given to a program");
    for (int i = 0; i < job->n_file; i++) {
        if (strchr(job->file[i].name, '/') || !*job->file[i].name || strlen(job->file[i].name) > 200)
            return rm_fail(err, RMAS_E_ARG, "'%s' is no plain file name", job->file[i].name);
    }
    rm_sandbox_limits l = job->limits;
    fill(&l, &sb->limits);
    int in = job->in ? rm_memory_file(job->in, job->n_in) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0) return rm_fail(err, RMAS_E_IO, "cannot make the standard input: %s", strerror(errno));
    rmas_status st = sb->unsafe ? run_bare(sb, job, &l, in, out, err) : run_boxed(sb, job, &l, in, out, err);
    close(in);
    return st;
}

/* ---- making one ------------------------------------------------------------------------------------------------------------ */

static char *find_bwrap(void) {
    static const char *const places[] = {"/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"};
    for (size_t i = 0; i < RM_COUNT(places); i++) {
        if (access(places[i], X_OK) == 0) return rm_strdup(places[i]);
    }
    return NULL;
}

/* /opt/py/bin/python3 -> /opt/py; NULL for an interpreter under /usr, which is there anyway. */
static char *prefix_of(const char *python) {
    if (strncmp(python, "/usr/", 5) == 0 || strncmp(python, "/bin/", 5) == 0) return NULL;
    char *dir = rm_strdup(python);
    for (int i = 0; dir && i < 2; i++) {
        char *slash = strrchr(dir, '/');
        if (slash) *slash = 0;
    }
    if (dir && !*dir) {
        rm_free(dir);
        dir = NULL;
    }
    return dir;
}

static rmas_status find_python(rm_sandbox *sb, const char *name, rmas_error *err) {
    char real[PATH_MAX];
    if (!name) name = getenv("RMAS_PYTHON");
    if (!name || !*name) name = "/usr/bin/python3";
    if (name[0] != '/') return rm_fail(err, RMAS_E_ARG, "Python interpreter '%s': give its full path", name);
    if (access(name, X_OK) != 0 || !realpath(name, real))
        return rm_fail(err, RMAS_E_TOOL, "no Python interpreter at %s (%s): install python3 or set RMAS_PYTHON", name, strerror(errno));
    sb->python = rm_strdup(name);
    sb->prefix[0] = prefix_of(name);
    sb->prefix[1] = prefix_of(real);
    return sb->python ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
}

/* Runs a small program: does it start, is it alone, may it start a process? */
static rmas_status probe(const rm_sandbox *sb, rmas_error *err) {
    static const char *const arg[] = {"-I", "-S", "-c", "print(6 * 7)"};
    rm_sandbox_job job = {.arg = arg, .n_arg = (int)RM_COUNT(arg), .limits.timeout_s = 60};
    rm_sandbox_result r;
    rmas_status st = rm_sandbox_run(sb, &job, &r, err);
    if (st == RMAS_E_TOOL)
        return rm_fail_prefix(err, st, "no sandbox on this machine (programs of models are not run without one, unless that is asked for as unsafe)");
    RM_TRY(st);
    bool ok = r.how == RM_ENDED_EXIT && r.code == 0 && strcmp(rm_str(&r.out), "42\n") == 0;
    if (!ok) {
        const char *why = rm_str(&r.err);
        st = rm_fail(err, RMAS_E_TOOL,
                     "no sandbox on this machine: %.*s%s (programs of models are not run without one, unless that is asked for as unsafe)",
                     (int)strcspn(why, "\n"), why, *why ? "" : "the trial program failed");
    }
    rm_sandbox_result_free(&r);
    return st;
}

rmas_status rm_sandbox_new(rm_sandbox **out, const rm_sandbox_options *opt, rmas_error *err) {
    static const rm_sandbox_limits defaults = {
        .timeout_s = 10, .memory = (size_t)2 << 30, .output = (size_t)8 << 20, .file = (size_t)64 << 20, .processes = 64};
    rm_sandbox *sb = RM_NEW(rm_sandbox);
    *out = NULL;
    if (!sb) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (opt) sb->limits = opt->limits;
    double cpu = sb->limits.cpu_s;
    fill(&sb->limits, &defaults);
    sb->limits.cpu_s = cpu; /* 0: follows each job's time */
    sb->unsafe = opt && opt->unsafe;
    rmas_status st = find_python(sb, opt ? opt->python : NULL, err);
    if (!st && !sb->unsafe) {
        sb->bwrap = find_bwrap();
        sb->prlimit = access("/usr/bin/prlimit", X_OK) == 0;
        sb->drop_uid = geteuid() == 0;
        if (!sb->bwrap) st = rm_fail(err, RMAS_E_TOOL, "no sandbox on this machine: bubblewrap (bwrap) is not installed");
    }
    if (!st) st = probe(sb, err);
    if (st) {
        rm_sandbox_free(sb);
        return st;
    }
    *out = sb;
    return RMAS_OK;
}
