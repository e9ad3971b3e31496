#include "writer.h"

static kvot_status append(writer *writer, const void *bytes, size_t n, kvot_error *error) {
    writer->offset += n;
    return sink_append(writer->sink, bytes, n, error);
}

static kvot_status pad(writer *writer, uint64_t alignment, kvot_error *error) {
    static const uint8_t zeros[FORMAT_EXTENT_ALIGN];
    return append(writer, zeros, (alignment - writer->offset % alignment) % alignment, error);
}

kvot_status writer_open(writer *writer, output *out, uint64_t expected, bool threads, kvot_error *error) {
    *writer = (struct writer){.out = out};
    kvot_status status = sink_open(out, 0, expected, threads, &writer->sink, error);
    if (status != KVOT_OK)
        return status;
    format_header header;
    format_seal_header(&header, "kvot " KVOT_VERSION);
    return append(writer, &header, sizeof header, error);
}

uint64_t writer_append_offset(uint64_t bytes) {
    return (bytes + FORMAT_EXTENT_ALIGN - 1) / FORMAT_EXTENT_ALIGN * FORMAT_EXTENT_ALIGN;
}

kvot_status writer_open_behind(writer *writer, output *out, uint64_t bytes, uint64_t expected, kvot_error *error) {
    uint64_t offset = writer_append_offset(bytes);
    *writer = (struct writer){.out = out, .offset = offset, .extent = offset, .appending = true};
    return sink_open(out, offset, expected, false, &writer->sink, error);
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
    if (status == KVOT_OK && !writer->appending)
        status = append(writer, &footer, sizeof footer, error);
    if (status == KVOT_OK)
        status = sink_finish(writer->sink, error);
    if (status != KVOT_OK || !writer->appending)
        return status;
    uint64_t footer_at = writer->offset;
    writer->offset += sizeof footer;
    status = output_sync(writer->out, error);
    return status == KVOT_OK ? output_put(writer->out, footer_at, &footer, sizeof footer, error) : status;
}

void writer_close(writer *writer) {
    sink_close(writer->sink);
    writer->sink = NULL;
}
