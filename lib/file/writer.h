/* Writes a .kvot file in one pass: header, streams, index, footer; or what is appended to one: all but the header. */
#ifndef KVOT_WRITER_H
#define KVOT_WRITER_H

#include "../../format/format.h"
#include "../io/sink.h"

typedef struct writer {
    output *out;
    sink *sink;
    uint64_t offset; /* bytes written, or on their way */
    uint64_t extent; /* where the current extent began */
    bool appending;  /* to a file that is complete */
} writer;

/* `out` must have been opened for appending, and stays the caller's. `expected`, `threads`: as for sink_open.
 * several threads write, one at a time.
 */
kvot_status writer_open(writer *writer, output *out, uint64_t expected, bool threads, kvot_error *error);

/* The same behind `bytes` bytes of a file. `out` goes on at writer_append_offset(bytes). */
kvot_status writer_open_behind(writer *writer, output *out, uint64_t bytes, uint64_t expected, kvot_error *error);
uint64_t writer_append_offset(uint64_t bytes);

/* Appends a stream, aligned as SPEC.md says, and tells where it went. */
kvot_status writer_stream(writer *writer, const void *stream, size_t bytes, uint64_t *offset, kvot_error *error);

/* Appends index and footer. Where there is a complete file before, all that the footer vouches for is durable first. */
kvot_status writer_finish(writer *writer, const void *index, uint64_t bytes, kvot_error *error);
void writer_close(writer *writer);

#endif
