/* The shim's calls of liburing. Setting up, submitting and waiting count like other calls. So does each transfer that
 * is submitted; one that is to fail, or to be short, is changed before the kernel sees it, because its completion may
 * be taken from shared memory without any call. */
#include <errno.h>
#include <liburing.h>
#include <stdio.h>

#include "shim.h"

/* The file that is registered with a ring: transfers name it by number. */
static struct {
    const struct io_uring *ring;
    int fd;
} registered[64];

static const char *file_of(const struct io_uring *ring, const struct io_uring_sqe *entry, char path[PATH_MAX]) {
    int fd = entry->fd;
    for (size_t i = 0; entry->flags & IOSQE_FIXED_FILE && i < sizeof registered / sizeof *registered; i++)
        if (registered[i].ring == ring)
            fd = registered[i].fd;
    return path_of(fd, path);
}

/* Turns a transfer into nothing with a result of its own. Kernels before 6.10 cannot: there, it fails as a transfer of
 * no file does, with EBADF. */
static void fail_transfer(struct io_uring_sqe *entry, int error) {
    enum { INJECT_RESULT = 1 };
    static int injects = -1;
    if (injects < 0) {
        struct io_uring ring;
        struct io_uring_cqe *done;
        injects = 0;
        if (REAL(io_uring_queue_init)(1, &ring, 0) == 0) {
            struct io_uring_sqe *probe = io_uring_get_sqe(&ring);
            io_uring_prep_nop(probe);
            probe->rw_flags = INJECT_RESULT;
            probe->len = 7;
            injects = REAL(io_uring_submit)(&ring) == 1 && REAL(__io_uring_get_cqe)(&ring, &done, 0, 1, NULL) == 0 &&
                      done->res == 7;
            io_uring_queue_exit(&ring);
        }
    }
    entry->flags &= (unsigned char)~IOSQE_FIXED_FILE;
    entry->fd = -1;
    if (!injects)
        return;
    entry->opcode = IORING_OP_NOP;
    entry->off = entry->addr = 0;
    entry->rw_flags = INJECT_RESULT;
    entry->len = (unsigned)-error;
    entry->buf_index = 0;
}

/* Looks at all that is about to be submitted. True: the program is to die behind the call. */
static bool look(struct io_uring *ring) {
    enum { BLOCK = 4096 }; /* O_DIRECT takes no part of one */
    bool dies = false;
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        struct io_uring_sqe *entry = &ring->sq.sqes[i & *ring->sq.kring_mask];
        bool reads = entry->opcode == IORING_OP_READ || entry->opcode == IORING_OP_READ_FIXED;
        bool writes = entry->opcode == IORING_OP_WRITE || entry->opcode == IORING_OP_WRITE_FIXED;
        if (!reads && !writes && entry->opcode != IORING_OP_FSYNC)
            continue;
        char path[PATH_MAX];
        enum fault fault = arrive(reads    ? "uring-read"
                                  : writes ? "uring-write"
                                           : "uring-fsync",
                                  file_of(ring, entry, path));
        if (fault == FAIL)
            fail_transfer(entry, fault_errno);
        if ((fault == SHORT || fault == KILL_HALF) && entry->len > BLOCK)
            entry->len = entry->len / 2 / BLOCK * BLOCK + (entry->len < 2 * BLOCK ? BLOCK : 0);
        dies |= fault >= KILL_HALF;
    }
    return dies;
}

#define CALL(call, expression)                                                                                         \
    do {                                                                                                               \
        enum fault fault_ = arrive(call, "io_uring");                                                                  \
        if (fault_ == FAIL)                                                                                            \
            return -fault_errno;                                                                                       \
        bool dies_ = fault_ >= KILL_HALF;                                                                              \
        int result_ = expression;                                                                                      \
        if (dies_)                                                                                                     \
            die();                                                                                                     \
        return result_;                                                                                                \
    } while (0)

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *params) {
    CALL("uring-init", REAL(io_uring_queue_init_params)(entries, ring, params));
}

int io_uring_register_buffers(struct io_uring *ring, const struct iovec *vectors, unsigned n) {
    CALL("uring-buffers", REAL(io_uring_register_buffers)(ring, vectors, n));
}

int io_uring_register_files(struct io_uring *ring, const int *files, unsigned n) {
    for (size_t i = 0; i < sizeof registered / sizeof *registered; i++)
        if (!registered[i].ring || registered[i].ring == ring) {
            registered[i].ring = ring;
            registered[i].fd = files[0];
            break;
        }
    CALL("uring-files", REAL(io_uring_register_files)(ring, files, n));
}

int io_uring_submit(struct io_uring *ring) {
    CALL("uring-submit", (dies_ |= look(ring), REAL(io_uring_submit)(ring)));
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned n) {
    CALL("uring-submit", (dies_ |= look(ring), REAL(io_uring_submit_and_wait)(ring, n)));
}

int __io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **done, unsigned submit, unsigned wait,
                       sigset_t *mask) {
    CALL("uring-wait", REAL(__io_uring_get_cqe)(ring, done, submit, wait, mask));
}
