/* The system call filter: what no program of a model needs and what has opened kernels before is answered with "not permitted". */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "toolbox/process.h"
#include "util/mem.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef ARCH
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define REFUSE(e) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (e))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define DENY(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##nr, 0, 1), REFUSE(EPERM)

int rm_seccomp_file(void) {
    static const struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        REFUSE(EPERM),
        LOAD(nr),
#if defined(__x86_64__)
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1),
        REFUSE(ENOSYS), /* the x32 numbers */
#endif
        /* kernel memory, modules, other processes, keys, devices, time, mounts and namespaces */
        DENY(ptrace),
        DENY(process_vm_readv),
        DENY(process_vm_writev),
        DENY(bpf),
        DENY(perf_event_open),
        DENY(userfaultfd),
        DENY(keyctl),
        DENY(add_key),
        DENY(request_key),
        DENY(kexec_load),
        DENY(init_module),
        DENY(finit_module),
        DENY(delete_module),
        DENY(reboot),
        DENY(swapon),
        DENY(swapoff),
        DENY(mount),
        DENY(umount2),
        DENY(pivot_root),
        DENY(chroot),
        DENY(unshare),
        DENY(setns),
        DENY(open_by_handle_at),
        DENY(name_to_handle_at),
        DENY(io_uring_setup),
        DENY(io_uring_enter),
        DENY(io_uring_register),
        DENY(syslog),
        DENY(acct),
        DENY(quotactl),
        DENY(settimeofday),
        DENY(clock_settime),
        DENY(adjtimex),
        DENY(sethostname),
        DENY(setdomainname),
        DENY(vhangup),
        DENY(lookup_dcookie),
        DENY(fanotify_init),
        DENY(mbind),
        DENY(migrate_pages),
        DENY(move_pages),
        DENY(move_mount),
        DENY(open_tree),
        DENY(fsopen),
        DENY(fsmount),
        /* memory that no limit of the address space counts */
        DENY(memfd_create),
        DENY(shmget),
        /* clone3 hides its flags in memory: libraries fall back to clone */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        REFUSE(ENOSYS),
        /* clone: no new namespaces (CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET) */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x7E020000u, 0, 1),
        REFUSE(EPERM),
        LOAD(nr),
        /* sockets: only those of the empty network namespace (others, vsock for instance, reach beyond it) */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 6),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0),
        REFUSE(EAFNOSUPPORT),
        ALLOW,
        /* ioctl: no typing into a terminal */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x5412, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x541C, 0, 1),
        REFUSE(EPERM),
        ALLOW
    };
    return rm_memory_file(filter, sizeof filter);
}
#else
int rm_seccomp_file(void) { return -1; }
#endif
