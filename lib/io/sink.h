/* Bytes appended to an output, written while the caller makes the next ones: a mebibyte at a time, several at once,
 * with O_DIRECT on io_uring. Where the kernel refuses that, and for what is no file, they are written as they come.
 * With a pool, a few MiB are put together and written at the end, as far as there is memory for them. */
#ifndef KVOT_SINK_H
#define KVOT_SINK_H

#include "io.h"

typedef struct sink sink;

/* The first byte goes to `offset`, a multiple of 4096, which is where `out`, opened for appending, is written to next.
 * `out` stays the caller's; nothing else is written to it until sink_finish. `threads`: several threads append, one at
 * a time. The kernel cancels what a thread has under way when it ends, and interrupts one that waits for something
 * else; so all is then written as it comes. `expected`: about how many bytes will come. On success `*sink` is to be
 * given to sink_close. */
kvot_status sink_open(output *out, uint64_t offset, uint64_t expected, bool threads, sink **sink, kvot_error *error);

/* A failure may be that of bytes appended earlier. */
kvot_status sink_append(sink *sink, const void *bytes, size_t n, kvot_error *error);

/* Waits until all is written; durable it is not yet. */
kvot_status sink_finish(sink *sink, kvot_error *error);

/* NULL is allowed. Waits for what is under way. */
void sink_close(sink *sink);

#endif
