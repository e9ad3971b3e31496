#include "sink.h"

#include "../run/threads.h"
#include "direct.h"
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WRITES = 8, /* at once */
    WRITE_BYTES = 1 << 20,
    /* Of a call with a pool, so little is put together and written by sink_finish: one of the pool's threads may append
     * it (pool.h), and shall not wait for a disk. Streams get no longer by being encoded, but for a few bytes and what
     * aligns them; that, and the index, is allowed for. */
    SMALL_BYTES = THREADS_SMALL,
    MORE_BYTES = 64 << 10,
    MORE_SHARE = 8,
    /* Given to the file at once: a write that makes it longer would have to wait for others. */
    RESERVE_BYTES = 64 << 20,
};

typedef struct sink_buffer {
    bool under_way;
    uint64_t offset;
    size_t put; /* bytes written */
    uint8_t *bytes;
} sink_buffer;

struct sink {
    output *out;
    uint64_t offset; /* of the buffer that is being filled */
    uint64_t reserved;
    sink_buffer buffers[WRITES], *filling;
    unsigned n_buffers;
    size_t buffer_bytes, filled;
    uint8_t *memory;
    uint64_t taken; /* of the pool's memory */
    int direct;     /* descriptor, -1 if there is none */
    ring *ring;
    bool no_ring, lost; /* lost: nobody can say what the kernel still does */
    unsigned under_way;
    kvot_status status;
    kvot_error error; /* of the first write that failed */
};

static memory_share *share_of(const sink *sink) {
    return threads_share(sink->out->run->pool);
}

static size_t memory_bytes(const sink *sink) {
    return sink->n_buffers * sink->buffer_bytes;
}

kvot_status sink_open(output *out, uint64_t offset, uint64_t expected, bool threads, sink **result, kvot_error *error) {
    sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return fail_memory(error);
    sink->direct = -1;
    sink->out = out;
    bool small = out->run->pool && !threads && expected <= SMALL_BYTES;
    uint64_t room = small ? expected + expected / MORE_SHARE + MORE_BYTES : expected;
    uint64_t n = room / WRITE_BYTES < WRITES ? room / WRITE_BYTES + 1 : WRITES;
    kvot_status status = memory_take(share_of(sink), WRITE_BYTES, n * WRITE_BYTES, &sink->taken, error);
    if (status != KVOT_OK) {
        free(sink);
        return status;
    }
    n = sink->taken / WRITE_BYTES;
    sink->buffer_bytes = small ? n * WRITE_BYTES : WRITE_BYTES;
    sink->n_buffers = small ? 1 : (unsigned)n;
    sink->memory = kept_take(threads_kept(sink->out->run->pool), memory_bytes(sink));
    if (!sink->memory) {
        sink_close(sink);
        return fail_memory(error);
    }
    for (unsigned i = 0; i < sink->n_buffers; i++)
        sink->buffers[i].bytes = sink->memory + i * sink->buffer_bytes;
    sink->filling = sink->buffers;
    sink->offset = sink->reserved = offset;
    sink->no_ring = threads || small || expected < WRITE_BYTES; /* one buffer: nothing could be made meanwhile */
    *result = sink;
    return KVOT_OK;
}

static void open_ring(sink *sink) {
    sink->no_ring = true;
    if (!output_is_file(sink->out))
        return;
    sink->direct = direct_open(sink->out->fd, O_WRONLY);
    if (sink->direct >= 0)
        sink->ring = ring_open(sink->direct, sink->n_buffers);
    if (sink->ring)
        ring_register(sink->ring, sink->memory, memory_bytes(sink));
    sink->no_ring = !sink->ring;
}

/* Keeps the first failure. */
static void record(sink *sink, const sink_buffer *b, int number) {
    if (sink->status != KVOT_OK)
        return;
    errno = number;
    sink->status = fail_errno_at(&sink->error, sink->out->name, "write", b->offset + b->put);
}

static kvot_status failure(const sink *sink, kvot_error *error) {
    if (sink->status != KVOT_OK && error)
        *error = sink->error;
    return sink->status;
}

static bool begin_write(sink *sink, sink_buffer *b) {
    /* What was written of a block that was not written whole is written again: offsets must be aligned. */
    size_t skip = direct_down(b->put);
    int number =
        ring_write(sink->ring, b->bytes + skip, WRITE_BYTES - skip, b->offset + skip, (uint64_t)(b - sink->buffers));
    if (number != 0)
        record(sink, b, number);
    return number == 0;
}

/* Writes a whole buffer as it is, where O_DIRECT is refused only now, or goes no further and does not say why. */
static void write_again(sink *sink, sink_buffer *b) {
    kvot_error error;
    kvot_status status = output_put(sink->out, b->offset, b->bytes, WRITE_BYTES, &error);
    if (status == KVOT_OK || sink->status != KVOT_OK)
        return;
    sink->status = status;
    sink->error = error;
}

/* Waits for a write to end. */
static void settle(sink *sink) {
    ring_result result;
    if (!ring_wait(sink->ring) || !ring_poll(sink->ring, &result)) {
        record(sink, sink->filling, errno);
        sink->under_way = 0;
        sink->lost = true;
        return;
    }
    sink_buffer *b = &sink->buffers[result.tag];
    size_t before = b->put;
    if (result.result > 0)
        b->put = direct_down(b->put) + (size_t)result.result;
    bool again = result.result == -EINTR || result.result == -EAGAIN || (b->put > before && b->put < WRITE_BYTES);
    if (again && begin_write(sink, b))
        return;
    sink->under_way--;
    b->under_way = false;
    if (again || b->put == WRITE_BYTES)
        return;
    if (result.result >= 0 || result.result == -EINVAL || result.result == -EOPNOTSUPP)
        write_again(sink, b);
    else
        record(sink, b, -result.result);
}

/* Makes the file long enough for `end`, if the file system can without writing. Where it cannot, or is nearly full,
 * writes do it. */
static void reserve(sink *sink, uint64_t end) {
    if (end <= sink->reserved)
        return;
    if (fallocate(sink->out->fd, 0, (off_t)sink->reserved, RESERVE_BYTES) == 0)
        sink->reserved += RESERVE_BYTES;
    else
        sink->reserved = UINT64_MAX; /* do not ask again */
}

/* Sends a full buffer on its way and finds an empty one. */
static kvot_status flush(sink *sink, kvot_error *error) {
    sink_buffer *b = sink->filling;
    if (!sink->ring && !sink->no_ring)
        open_ring(sink);
    sink->filled = 0;
    if (sink->no_ring) {
        sink->offset += sink->buffer_bytes;
        return output_append(sink->out, b->bytes, sink->buffer_bytes, error);
    }
    reserve(sink, sink->offset + WRITE_BYTES);
    b->offset = sink->offset;
    b->put = 0;
    b->under_way = sink->status == KVOT_OK && begin_write(sink, b);
    sink->under_way += b->under_way;
    sink->offset += WRITE_BYTES;
    if (sink->under_way == sink->n_buffers)
        settle(sink);
    for (unsigned i = 0; i < sink->n_buffers; i++)
        if (!sink->buffers[i].under_way)
            sink->filling = &sink->buffers[i];
    return failure(sink, error);
}

kvot_status sink_append(sink *sink, const void *bytes, size_t n, kvot_error *error) {
    const uint8_t *from = bytes;
    kvot_status status = KVOT_OK;
    while (n > 0 && status == KVOT_OK) {
        size_t room = sink->buffer_bytes - sink->filled, part = room < n ? room : n;
        memcpy(sink->filling->bytes + sink->filled, from, part);
        sink->filled += part;
        from += part;
        n -= part;
        if (sink->filled == sink->buffer_bytes)
            status = flush(sink, error);
    }
    return status;
}

kvot_status sink_finish(sink *sink, kvot_error *error) {
    while (sink->under_way > 0)
        settle(sink);
    if (sink->status != KVOT_OK)
        return failure(sink, error);
    /* The last bytes fill no block. */
    if (!sink->ring)
        return output_append(sink->out, sink->filling->bytes, sink->filled, error);
    uint64_t end = sink->offset + sink->filled;
    kvot_status status = output_put(sink->out, sink->offset, sink->filling->bytes, sink->filled, error);
    if (status == KVOT_OK && !end_file(sink->out->fd, end))
        status = fail_errno_at(error, sink->out->name, "end it", end);
    return status;
}

void sink_close(sink *sink) {
    if (!sink)
        return;
    while (sink->under_way > 0)
        settle(sink);
    ring_close(sink->ring);
    if (sink->direct >= 0)
        close(sink->direct);
    if (!sink->lost)
        kept_give(threads_kept(sink->out->run->pool), sink->memory, memory_bytes(sink));
    memory_give(share_of(sink), sink->taken);
    free(sink);
}
