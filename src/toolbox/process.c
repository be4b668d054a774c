#define _GNU_SOURCE /* memfd_create, pipe2, setresuid */
#include "toolbox/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util/mem.h"

enum { MAX_FD = 64 };

int rm_memory_file(const void *data, size_t n) {
    int fd = memfd_create("rmas", MFD_CLOEXEC);
    if (fd < 0) return -1;
    for (size_t at = 0; at < n;) {
        ssize_t k = write(fd, (const char *)data + at, n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            close(fd);
            return -1;
        }
        at += (size_t)k;
    }
    if (lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- in the child: only calls that are safe after fork ----------------------------------------------------------------- */

static void limit(int what, rlim_t n) {
    struct rlimit r = {n, n};
    setrlimit((__rlimit_resource_t)what, &r);
}

static void set_limits(const rm_process *p) {
    const rm_sandbox_limits *l = &p->limits;
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_AS, l->memory);
    limit(RLIMIT_FSIZE, l->file);
    limit(RLIMIT_CPU, (rlim_t)l->cpu_s + 1);
    limit(RLIMIT_NOFILE, 256);
    if (p->limit_processes) limit(RLIMIT_NPROC, (rlim_t)l->processes + 8); /* with those of bubblewrap itself */
}

/* Moves the descriptors into place: copies above all the places first, so that none is overwritten before it is moved. */
static bool place_fds(const int *from, int n) {
    int copy[RM_PROCESS_FIRST_FD + MAX_FD];
    for (int i = 0; i < n; i++) {
        copy[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD, n);
        if (from[i] >= 0 && copy[i] < 0) return false;
    }
    for (int i = 0; i < n; i++) {
        if (copy[i] < 0)
            close(i);
        else if (dup2(copy[i], i) < 0)
            return false;
    }
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)n, ~0u, 0u) == 0) return true;
#endif
    for (int i = n; i < 65536; i++) close(i);
    return true;
}

_Noreturn static void child(const rm_process *p, const int *fds, int n_fd) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
    setsid();
    if (!place_fds(fds, n_fd)) _exit(126);
    if (chdir(p->cwd) != 0) _exit(126);
    set_limits(p);
    if (p->uid && (setgroups(0, NULL) != 0 || setresgid(p->uid, p->uid, p->uid) != 0 || setresuid(p->uid, p->uid, p->uid) != 0)) _exit(126);
    execve(p->argv[0], p->argv, p->envp);
    static const char what[] = "cannot execute ";
    if (write(2, what, sizeof what - 1) < 0 || write(2, p->argv[0], strlen(p->argv[0])) < 0) _exit(126);
    _exit(127);
}

/* ---- in the parent ---------------------------------------------------------------------------------------------------- */

typedef struct {
    int fd;
    rm_strbuf *to;
} channel;

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Reads what is there. False at the end of the pipe. */
static bool drain(channel *c, size_t room) {
    char buf[65536];
    ssize_t n = read(c->fd, buf, sizeof buf);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    if (n == 0) return false;
    rm_strbuf_add(c->to, buf, (size_t)n < room ? (size_t)n : room);
    return true;
}

typedef struct {
    pid_t pid;
    int pidfd;
    bool ended;
    int status;
} watched;

static void try_wait(watched *w) {
    if (!w->ended && waitpid(w->pid, &w->status, WNOHANG) == w->pid) w->ended = true;
}

/* Ends the child and all that it started: bubblewrap's namespace dies with it; without one, its session is killed. */
static void kill_all(watched *w) {
    kill(-w->pid, SIGKILL);
    kill(w->pid, SIGKILL);
    while (!w->ended) {
        if (waitpid(w->pid, &w->status, 0) == w->pid || errno != EINTR) w->ended = true;
    }
}

static size_t room_left(const rm_sandbox_result *out, size_t limit_bytes) {
    size_t used = out->out.n + out->err.n;
    return used < limit_bytes ? limit_bytes - used : 0;
}

/* Waits for the end of the child and of its pipes. */
static rm_ended watch(const rm_process *p, watched *w, channel ch[3], rm_sandbox_result *out, double start) {
    double grace = 0; /* until when the pipes may stay open after the end */
    for (;;) {
        struct pollfd pf[4];
        int n = 0, open_pipes = 0;
        for (int i = 0; i < 3; i++) {
            if (ch[i].fd >= 0) open_pipes++;
            pf[n++] = (struct pollfd){.fd = ch[i].fd, .events = POLLIN};
        }
        pf[n++] = (struct pollfd){.fd = w->ended ? -1 : w->pidfd, .events = POLLIN};
        double t = now(), left = (w->ended ? grace : start + p->limits.timeout_s) - t;
        if (w->ended && (open_pipes == 0 || left <= 0)) return RM_ENDED_EXIT;
        if (left <= 0) return RM_ENDED_TIMEOUT;
        int ms = left > 3600 ? 3600000 : (int)(left * 1000) + 1;
        if (!w->ended && w->pidfd < 0 && ms > 10) ms = 10;
        if (p->stop && ms > 50) ms = 50;
        if (p->stop && atomic_load(p->stop)) return RM_ENDED_TIMEOUT;
        if (poll(pf, (nfds_t)n, ms) < 0 && errno != EINTR) return RM_ENDED_TIMEOUT;
        for (int i = 0; i < 3; i++) {
            if (ch[i].fd < 0 || !(pf[i].revents & (POLLIN | POLLHUP | POLLERR))) continue;
            size_t room = i < 2 ? room_left(out, p->limits.output) : p->limits.output - ch[i].to->n;
            if (!drain(&ch[i], room)) close_fd(&ch[i].fd);
            if ((i < 2 ? room_left(out, p->limits.output) : p->limits.output - ch[i].to->n) == 0) return RM_ENDED_OUTPUT;
        }
        if (!w->ended && (w->pidfd < 0 || pf[3].revents)) {
            try_wait(w);
            if (w->ended) {
                kill(-w->pid, SIGKILL); /* what it left behind in its session (without a namespace) */
                grace = now() + 0.5;
            }
        }
    }
}

rmas_status rm_process_run(const rm_process *p, rm_sandbox_result *out, rmas_error *err) {
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, fds[RM_PROCESS_FIRST_FD + MAX_FD];
    int n_fd = RM_PROCESS_FIRST_FD + p->n_fd;
    *out = (rm_sandbox_result){0};
    if (p->n_fd > MAX_FD) return rm_fail(err, RMAS_E_ARG, "at most 60 files can be given to a program");
    for (int i = 0; i < 3; i++) {
        if (i == 2 && !p->side) continue;
        if (pipe2(pipes[i], O_CLOEXEC) != 0) {
            rmas_status st = rm_fail(err, RMAS_E_IO, "pipe: %s", strerror(errno));
            for (int k = 0; k < 3; k++) close_fd(&pipes[k][0]), close_fd(&pipes[k][1]);
            return st;
        }
    }
    fds[0] = p->in;
    fds[1] = pipes[0][1];
    fds[2] = pipes[1][1];
    fds[3] = pipes[2][1];
    for (int i = 0; i < p->n_fd; i++) fds[RM_PROCESS_FIRST_FD + i] = p->fd[i];
    double start = now();
    watched w = {.pid = fork(), .pidfd = -1};
    if (w.pid == 0) child(p, fds, n_fd);
    int why = errno;
    for (int k = 0; k < 3; k++) close_fd(&pipes[k][1]);
    rmas_status st = RMAS_OK;
    if (w.pid < 0) {
        st = rm_fail(err, RMAS_E_IO, "fork: %s", strerror(why));
    } else {
#ifdef SYS_pidfd_open
        w.pidfd = (int)syscall(SYS_pidfd_open, w.pid, 0);
#endif
        channel ch[3] = {{pipes[0][0], &out->out}, {pipes[1][0], &out->err}, {pipes[2][0], &out->side}};
        out->how = watch(p, &w, ch, out, start);
        if (!w.ended) kill_all(&w);
        for (int k = 0; k < 3; k++) pipes[k][0] = ch[k].fd;
        close_fd(&w.pidfd);
        if (out->how == RM_ENDED_EXIT) {
            out->code = WIFEXITED(w.status) ? WEXITSTATUS(w.status) : WTERMSIG(w.status);
            if (WIFSIGNALED(w.status)) out->how = RM_ENDED_SIGNAL;
        }
    }
    out->seconds = now() - start;
    for (int k = 0; k < 3; k++) close_fd(&pipes[k][0]);
    if (!st && (out->out.failed || out->err.failed || out->side.failed)) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st) rm_sandbox_result_free(out);
    return st;
}
