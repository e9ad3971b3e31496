/* An io_uring for reads or writes of one registered file. One thread at a time may queue or poll; one other may wait,
 * and then none may poll. */
#ifndef KVOT_RING_H
#define KVOT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ring ring;

/* NULL where io_uring is not to be had: an old kernel, a container that forbids it, no memory. The descriptor stays the
 * caller's, and open. */
ring *ring_open(int fd, unsigned depth);

/* Whether what the page cache does not hold of a file would be read with O_DIRECT on a ring: reads its first bytes so.
 * Of tmpfs it holds everything. */
bool ring_would_read(int fd);

/* Registers the memory of all transfers to come, which is then pinned once and not for each of them. Only a matter of
 * speed: RLIMIT_MEMLOCK may forbid it. Not while another thread queues. */
void ring_register(ring *ring, uint8_t *memory, size_t bytes);

/* Nothing may be under way any more. NULL is allowed. */
void ring_close(ring *ring);

/* Starts a transfer; at most `depth` may be under way. Returns 0, or the error number, after which the ring takes
 * nothing more. */
int ring_read(ring *ring, uint8_t *to, size_t n, uint64_t offset, uint64_t tag);
int ring_write(ring *ring, const uint8_t *from, size_t n, uint64_t offset, uint64_t tag);

typedef struct ring_result {
    uint64_t tag;
    int32_t result; /* bytes, or the error number, negative */
} ring_result;

/* Waits until a transfer has ended that was not polled yet. False, and errno set, if waiting failed. */
bool ring_wait(ring *ring);

/* What has become of the next transfer that has ended. False if there is none. */
bool ring_poll(ring *ring, ring_result *result);

#endif
