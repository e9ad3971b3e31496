#include "writer.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 1 << 18 };

static kvot_status flush(writer *writer, kvot_error *error) {
    kvot_status status = output_append(writer->out, writer->buffer, writer->buffered, error);
    writer->buffered = 0;
    return status;
}

static kvot_status append(writer *writer, const void *bytes, size_t n, kvot_error *error) {
    writer->offset += n;
    while (n > 0) {
        size_t part = BUFFER_BYTES - writer->buffered < n ? BUFFER_BYTES - writer->buffered : n;
        memcpy(writer->buffer + writer->buffered, bytes, part);
        writer->buffered += part;
        bytes = (const uint8_t *)bytes + part;
        n -= part;
        if (writer->buffered == BUFFER_BYTES) {
            kvot_status status = flush(writer, error);
            if (status != KVOT_OK)
                return status;
        }
    }
    return KVOT_OK;
}

static kvot_status pad(writer *writer, uint64_t alignment, kvot_error *error) {
    static const uint8_t zeros[FORMAT_EXTENT_ALIGN];
    return append(writer, zeros, (alignment - writer->offset % alignment) % alignment, error);
}

kvot_status writer_open(writer *writer, output *out, kvot_error *error) {
    *writer = (struct writer){.out = out, .buffer = malloc(BUFFER_BYTES)};
    if (!writer->buffer)
        return fail_memory(error);
    format_header header;
    format_seal_header(&header, "kvot " KVOT_VERSION);
    return append(writer, &header, sizeof header, error);
}

uint64_t writer_append_offset(uint64_t bytes) {
    return (bytes + FORMAT_EXTENT_ALIGN - 1) / FORMAT_EXTENT_ALIGN * FORMAT_EXTENT_ALIGN;
}

kvot_status writer_open_behind(writer *writer, output *out, uint64_t bytes, kvot_error *error) {
    uint64_t offset = writer_append_offset(bytes);
    *writer = (struct writer){
        .out = out, .offset = offset, .extent = offset, .appending = true, .buffer = malloc(BUFFER_BYTES)};
    return writer->buffer ? KVOT_OK : fail_memory(error);
}

kvot_status writer_stream(writer *writer, const void *stream, size_t bytes, uint64_t *offset, kvot_error *error) {
    bool extent = writer->offset - writer->extent >= FORMAT_EXTENT_BYTES;
    kvot_status status = pad(writer, extent ? FORMAT_EXTENT_ALIGN : FORMAT_STREAM_ALIGN, error);
    if (extent)
        writer->extent = writer->offset;
    *offset = writer->offset;
    return status == KVOT_OK ? append(writer, stream, bytes, error) : status;
}

kvot_status writer_finish(writer *writer, const void *index, uint64_t bytes, kvot_error *error) {
    kvot_status status = pad(writer, FORMAT_STREAM_ALIGN, error);
    format_footer footer;
    format_seal_footer(&footer, index, writer->offset, bytes);
    if (status == KVOT_OK)
        status = append(writer, index, bytes, error);
    if (status == KVOT_OK && writer->appending && (status = flush(writer, error)) == KVOT_OK)
        status = output_sync(writer->out, error);
    if (status == KVOT_OK)
        status = append(writer, &footer, sizeof footer, error);
    return status == KVOT_OK ? flush(writer, error) : status;
}

void writer_close(writer *writer) {
    free(writer->buffer);
    writer->buffer = NULL;
}
