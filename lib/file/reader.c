#include "reader.h"

#include "../run/threads.h"

#include <stdlib.h>
#include <string.h>

static kvot_status damaged(const input *in, const char *wrong, kvot_error *error) {
    return fail(error, KVOT_E_DAMAGED, "%s: damaged: %s", in->name, wrong);
}

kvot_status reader_probe(const input *in, bool *compressed, kvot_error *error) {
    uint8_t magic[8];
    *compressed = false;
    if (in->bytes < sizeof magic)
        return KVOT_OK;
    kvot_status status = input_read(in, 0, magic, sizeof magic, error);
    *compressed = status == KVOT_OK && memcmp(magic, FORMAT_MAGIC, sizeof magic) == 0;
    return status;
}

static kvot_status read_index(reader *reader, const format_footer *footer, kvot_error *error) {
    const input *in = &reader->in;
    cache *cache = &reader->cache;
    cache->owned = malloc(footer->index_bytes);
    if (!cache->owned)
        return fail_memory(error);
    kvot_status status = input_read(in, footer->index_offset, cache->owned, footer->index_bytes, error);
    if (status != KVOT_OK)
        return status;
    if (format_checksum(cache->owned, footer->index_bytes) != footer->index_checksum)
        return damaged(in, "the index's checksum is wrong", error);
    const char *wrong = format_index_tables(cache->owned, footer->index_bytes, &cache->tables);
    if (!wrong)
        wrong = format_check_index(&cache->tables, footer->index_offset);
    if (wrong)
        return damaged(in, wrong, error);
    status = cache_link_source(cache, in->name, error);
    return status == KVOT_OK ? cache_link_rows(cache, in->name, error) : status;
}

/* Looks for the last footer of a file that does not end in one, block by block from its end. KVOT_E_DAMAGED with no
 * text if there is none. */
static kvot_status find_footer(const input *in, format_footer *footer, kvot_error *error) {
    enum { BLOCK = 1 << 20 };
    const uint64_t start = sizeof(format_header);
    uint8_t *bytes = malloc(BLOCK + sizeof *footer);
    kvot_status status = bytes ? KVOT_OK : fail_memory(error);
    const format_footer *found = NULL;
    for (uint64_t end = in->bytes; status == KVOT_OK && !found && end > start;) {
        uint64_t from = end - start > BLOCK ? (end - BLOCK) / FORMAT_FOOTER_ALIGN * FORMAT_FOOTER_ALIGN : start;
        /* Also the first bytes of the block behind, where a footer may end that begins in this one. */
        uint64_t n = in->bytes - from < BLOCK + sizeof *footer ? in->bytes - from : BLOCK + sizeof *footer;
        status = input_read(in, from, bytes, n, error);
        if (status == KVOT_OK)
            found = format_find_footer(bytes, n, from);
        end = from;
    }
    if (found)
        *footer = *found;
    else if (status == KVOT_OK)
        status = KVOT_E_DAMAGED;
    free(bytes);
    return status;
}

/* An append begins at a multiple of FORMAT_EXTENT_ALIGN, so what lies before that behind a footer is zero. */
static kvot_status check_gap(const input *in, uint64_t end, const char *wrong, kvot_error *error) {
    uint8_t gap[FORMAT_EXTENT_ALIGN];
    uint64_t n = (FORMAT_EXTENT_ALIGN - end % FORMAT_EXTENT_ALIGN) % FORMAT_EXTENT_ALIGN;
    n = in->bytes - end < n ? in->bytes - end : n;
    kvot_status status = input_read(in, end, gap, n, error);
    for (uint64_t i = 0; i < n && status == KVOT_OK; i++)
        if (gap[i] != 0)
            status = damaged(in, wrong, error);
    return status;
}

/* Reads the footer and leaves out what lies behind it. */
static kvot_status read_footer(reader *reader, format_footer *footer, kvot_error *error) {
    input *in = &reader->in;
    if (in->bytes < sizeof reader->header + sizeof *footer)
        return damaged(in, "it is too short", error);
    kvot_status status = input_read(in, in->bytes - sizeof *footer, footer, sizeof *footer, error);
    const char *wrong = status == KVOT_OK ? format_check_footer(footer, in->bytes) : NULL;
    if (status != KVOT_OK || !wrong)
        return status;
    status = find_footer(in, footer, error);
    if (status == KVOT_E_DAMAGED)
        return damaged(in, wrong, error);
    if (status == KVOT_OK)
        status = check_gap(in, footer->file_bytes, wrong, error);
    if (status == KVOT_OK) {
        reader->leftover = in->bytes - footer->file_bytes;
        in->bytes = footer->file_bytes;
    }
    return status;
}

kvot_status reader_open(reader *reader, input *in, kvot_error *error) {
    memset(reader, 0, sizeof *reader);
    reader->in = *in;
    *in = (input){.fd = -1};
    in = &reader->in;
    format_footer footer;
    kvot_status status = in->bytes < sizeof reader->header
                             ? damaged(in, "it is too short", error)
                             : input_read(in, 0, &reader->header, sizeof reader->header, error);
    if (status == KVOT_OK) {
        const char *wrong = format_check_header(&reader->header);
        if (wrong && reader->header.checksum == format_checksum(&reader->header, offsetof(format_header, checksum)))
            status = fail(error, KVOT_E_UNSUPPORTED, "%s: %s", in->name, wrong);
        else if (wrong)
            status = damaged(in, wrong, error);
    }
    /* An append that fails, or that cuts off what another one left, takes nothing away but may do so just now. */
    if (status == KVOT_OK)
        do
            status = read_footer(reader, &footer, error);
        while (status == KVOT_E_IO && input_shrank(in));
    if (status == KVOT_OK)
        status = read_index(reader, &footer, error);
    if (status != KVOT_OK)
        reader_close(reader);
    return status;
}

kvot_status reader_take(const reader *reader, const kvot_run *run, kvot_error *error) {
    uint64_t taken, tables = 3 * format_index_bytes(reader->cache.tables.index, UINT64_MAX); /* and what follows */
    return memory_take(threads_share(run->pool), tables, tables, &taken, error);
}

kvot_status reader_open_path(reader *reader, const char *path, const kvot_run *run, kvot_error *error) {
    input in;
    bool compressed;
    kvot_status status = input_open(&in, path, run, error);
    if (status != KVOT_OK)
        return status;
    status = reader_probe(&in, &compressed, error);
    if (compressed) {
        status = reader_open(reader, &in, error);
        if (status == KVOT_OK && (status = reader_take(reader, run, error)) != KVOT_OK)
            reader_close(reader);
        return status;
    }
    if (status == KVOT_OK)
        status =
            fail(error, KVOT_E_UNKNOWN, "%s: %s", in.name, in.bytes == 0 ? "the file is empty" : "not a .kvot file");
    input_close(&in);
    return status;
}

void reader_close(reader *reader) {
    cache_free(&reader->cache);
    input_close(&reader->in);
}

kvot_status reader_read(const reader *reader, uint32_t stream, uint8_t **buffer, size_t *buffer_bytes,
                        kvot_error *error) {
    const format_stream *about = &reader->cache.tables.streams[stream];
    kvot_status status = make_room(buffer, buffer_bytes, about->stored_bytes, error);
    return status == KVOT_OK ? input_read(&reader->in, about->offset, *buffer, about->stored_bytes, error) : status;
}

static kvot_status check(const reader *reader, const format_stream *about, const uint8_t *stored, kvot_error *error) {
    if (format_checksum(stored, about->stored_bytes) == about->checksum)
        return KVOT_OK;
    return fail(error, KVOT_E_DAMAGED, "%s: damaged: the checksum of the stream at byte %llu is wrong", reader->in.name,
                (unsigned long long)about->offset);
}

/* Adds to what a codec says where it was. */
static kvot_status say_where(const reader *reader, const format_stream *about, kvot_status status,
                             const kvot_error *detail, kvot_error *error) {
    return status == KVOT_OK ? KVOT_OK
                             : fail(error, status, "%s: %s (stream at byte %llu)", reader->in.name, detail->text,
                                    (unsigned long long)about->offset);
}

kvot_status reader_decode(const reader *reader, codec_context *context, uint32_t stream, const format_plane *plane,
                          uint32_t n, bool check_decoded, const uint8_t *stored, void *rows, kvot_error *error) {
    const format_stream *about = &reader->cache.tables.streams[stream];
    kvot_error detail = {0};
    kvot_status status = check(reader, about, stored, error);
    if (status != KVOT_OK)
        return status;
    status = codec_of(plane->codec)->decode(context, plane, stored, about->stored_bytes, n, rows, &detail);
    if (status == KVOT_OK && check_decoded && format_checksum(rows, about->decoded_bytes) != about->decoded_checksum)
        return fail(error, KVOT_E_DAMAGED, "%s: the stream at byte %llu decodes to something else than it was made to",
                    reader->in.name, (unsigned long long)about->offset);
    return say_where(reader, about, status, &detail, error);
}

kvot_status reader_decode_on_lane(const reader *reader, codec_context *context, uint32_t stream,
                                  const format_plane *plane, uint32_t n, const uint8_t *stored, const lane_rows *rows,
                                  kvot_error *error) {
    const format_stream *about = &reader->cache.tables.streams[stream];
    kvot_error detail = {0};
    kvot_status status = check(reader, about, stored, error);
    if (status != KVOT_OK)
        return status;
    status = codec_of(plane->codec)->decode_on_lane(context, plane, stored, about->stored_bytes, n, rows, &detail);
    return say_where(reader, about, status, &detail, error);
}
