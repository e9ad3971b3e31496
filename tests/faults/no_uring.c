/* Runs a command to which the kernel refuses io_uring, as containers often do.
 *
 * Usage: no_uring CALLS ERROR COMMAND [ARGUMENTS]
 *
 * CALLS is some of setup, enter and register, joined by commas, or none; they fail with error number ERROR. The
 * super-user's right to lock memory is given up too, so that RLIMIT_MEMLOCK counts. Exit code 125 if there can be no
 * filter. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAP_IPC_LOCK = 14, NO_FILTER = 125 };

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        unsigned number;
    } calls[] = {{"setup", SYS_io_uring_setup}, {"enter", SYS_io_uring_enter}, {"register", SYS_io_uring_register}};
    enum { CALLS = sizeof calls / sizeof *calls };
    if (argc < 4) {
        fputs("usage: no_uring CALLS ERROR COMMAND [ARGUMENTS]\n", stderr);
        return 2;
    }
    unsigned error = (unsigned)atoi(argv[2]) & SECCOMP_RET_DATA;
    struct sock_filter code[2 * CALLS + 2];
    unsigned short n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < CALLS; i++) {
        if (!strstr(argv[1], calls[i].name))
            continue;
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0); /* who may not, has no such right */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){n, code}, 0, 0) != 0) {
        perror("no_uring");
        return NO_FILTER;
    }
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return NO_FILTER;
}
