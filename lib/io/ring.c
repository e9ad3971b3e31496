#include "ring.h"

#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

struct ring {
    struct io_uring uring;
    int fd;
    bool file_registered, memory_registered;
    int broken; /* error number of a submission that failed */
};

/* Some filters allow io_uring_setup and refuse io_uring_enter: better known before anything depends on it. */
static bool enters(struct io_uring *uring) {
    struct io_uring_cqe *done;
    io_uring_prep_nop(io_uring_get_sqe(uring));
    if (io_uring_submit(uring) != 1 || io_uring_wait_cqe(uring, &done) != 0)
        return false;
    io_uring_cqe_seen(uring, done);
    return true;
}

ring *ring_open(int fd, unsigned depth) {
    ring *ring = calloc(1, sizeof *ring);
    struct io_uring_params params = {0};
    if (!ring || io_uring_queue_init_params(depth, &ring->uring, &params) != 0) {
        free(ring);
        return NULL;
    }
    if (!enters(&ring->uring)) {
        ring_close(ring);
        return NULL;
    }
    ring->fd = fd;
    ring->file_registered = io_uring_register_files(&ring->uring, &fd, 1) == 0;
    return ring;
}

void ring_register(ring *ring, uint8_t *memory, size_t bytes) {
    struct iovec all = {memory, bytes};
    ring->memory_registered = io_uring_register_buffers(&ring->uring, &all, 1) == 0;
}

void ring_close(ring *ring) {
    if (!ring)
        return;
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

static int queue(ring *ring, unsigned fixed, unsigned plain, const void *memory, size_t n, uint64_t offset,
                 uint64_t tag) {
    struct io_uring_sqe *entry = ring->broken ? NULL : io_uring_get_sqe(&ring->uring);
    if (!entry)
        return ring->broken ? ring->broken : EBUSY;
    unsigned opcode = ring->memory_registered ? fixed : plain;
    io_uring_prep_rw((int)opcode, entry, ring->file_registered ? 0 : ring->fd, memory, (unsigned)n, offset);
    io_uring_sqe_set_data64(entry, tag);
    if (ring->file_registered)
        io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
    int sent, tries = 1000;
    do
        sent = io_uring_submit(&ring->uring);
    while ((sent == -EINTR || sent == -EAGAIN || sent == -EBUSY) && --tries > 0); /* short of memory, for the moment */
    if (sent < 0)
        ring->broken = -sent;
    return ring->broken;
}

int ring_read(ring *ring, uint8_t *to, size_t n, uint64_t offset, uint64_t tag) {
    return queue(ring, IORING_OP_READ_FIXED, IORING_OP_READ, to, n, offset, tag);
}

int ring_write(ring *ring, const uint8_t *from, size_t n, uint64_t offset, uint64_t tag) {
    return queue(ring, IORING_OP_WRITE_FIXED, IORING_OP_WRITE, from, n, offset, tag);
}

bool ring_wait(ring *ring) {
    struct io_uring_cqe *done;
    int wrong;
    do
        wrong = io_uring_wait_cqe(&ring->uring, &done);
    while (wrong == -EINTR || wrong == -EAGAIN);
    errno = -wrong;
    return wrong == 0;
}

bool ring_poll(ring *ring, ring_result *result) {
    struct io_uring_cqe *done;
    if (io_uring_peek_cqe(&ring->uring, &done) != 0)
        return false;
    *result = (ring_result){io_uring_cqe_get_data64(done), done->res};
    io_uring_cqe_seen(&ring->uring, done);
    return true;
}

bool ring_would_read(int fd) {
    static _Alignas(DIRECT_ALIGN) uint8_t page[DIRECT_ALIGN]; /* nobody looks at it */
    struct statfs about;
    if (fstatfs(fd, &about) == 0 && (about.f_type == TMPFS_MAGIC || about.f_type == RAMFS_MAGIC))
        return false;
    int direct = direct_open(fd, O_RDONLY);
    ring *ring = direct >= 0 ? ring_open(direct, 1) : NULL;
    ring_result result;
    bool read = ring && ring_read(ring, page, sizeof page, 0, 0) == 0 && ring_wait(ring) && ring_poll(ring, &result);
    ring_close(ring);
    if (direct >= 0)
        close(direct);
    /* Some file systems refuse O_DIRECT only now. */
    return read && result.result != -EINVAL && result.result != -EOPNOTSUPP;
}
