/* Inside the toolbox: one child process, watched until it ends, its time is up or it writes too much. */
#ifndef RM_TOOLBOX_PROCESS_H
#define RM_TOOLBOX_PROCESS_H

#include <sys/types.h>

#include "toolbox/toolbox.h"

/* What the child gets. Descriptors are the parent's numbers; they are moved to 0, 1, 2, 3 ... in this order. */
typedef struct {
    char *const *argv, *const *envp;
    const char *cwd;
    uid_t uid; /* 0: stay who we are */
    const int *fd; /* further descriptors that the child keeps, from number 4 on (3 is the side channel) */
    int n_fd;
    int in; /* descriptor of standard input */
    bool side;
    const atomic_bool *stop; /* NULL: only the limits end it */
    bool limit_processes; /* RLIMIT_NPROC as well: only right for a uid that nobody else uses */
    rm_sandbox_limits limits; /* all members set */
} rm_process;

enum { RM_PROCESS_FIRST_FD = 4 };

rmas_status rm_process_run(const rm_process *p, rm_sandbox_result *out, rmas_error *err);

/* An anonymous file with this content, read position at its start; -1 on failure. */
int rm_memory_file(const void *data, size_t n);

/* The system call filter as a descriptor that bubblewrap reads; -1: not known for this processor. */
int rm_seccomp_file(void);

#endif
