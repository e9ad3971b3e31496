/* Fuzzes the reader of .kvot files. Checksums are put right first, so that what lies behind them is reached. */
#include "../../lib/engines/engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_RESTORED = 1 << 20, MAX_DECODED = 1 << 24 };

/* Streams are the last table, so they end where the index ends. */
static void fix_streams(uint8_t *file, const format_index *index, const format_footer *footer) {
    uint64_t n = index->n_streams, room = (footer->index_bytes - sizeof *index) / sizeof(format_stream);
    uint8_t *at = file + footer->index_offset + footer->index_bytes;
    for (n = n < room ? n : room; n > 0; n--) {
        format_stream stream;
        at -= sizeof stream;
        memcpy(&stream, at, sizeof stream);
        if (stream.offset > footer->index_offset || stream.stored_bytes > footer->index_offset - stream.offset)
            continue;
        stream.checksum = format_checksum(file + stream.offset, stream.stored_bytes);
        memcpy(at, &stream, sizeof stream);
    }
}

static void fix(uint8_t *file, size_t size) {
    format_header header;
    format_footer footer;
    format_index index;
    if (size < sizeof header + sizeof footer)
        return;
    memcpy(&header, file, sizeof header);
    memcpy(header.magic, FORMAT_MAGIC, sizeof header.magic);
    header.checksum = format_checksum(&header, offsetof(format_header, checksum));
    memcpy(file, &header, sizeof header);
    uint8_t *end = file + size - sizeof footer;
    memcpy(&footer, end, sizeof footer);
    memcpy(footer.magic, FORMAT_END_MAGIC, sizeof footer.magic);
    footer.file_bytes = size;
    if (footer.index_offset <= size - sizeof footer) {
        footer.index_bytes = size - sizeof footer - footer.index_offset;
        if (footer.index_bytes >= sizeof index) {
            memcpy(&index, file + footer.index_offset, sizeof index);
            fix_streams(file, &index, &footer);
        }
        footer.index_checksum = format_checksum(file + footer.index_offset, footer.index_bytes);
    }
    footer.checksum = format_checksum(&footer, offsetof(format_footer, checksum));
    memcpy(end, &footer, sizeof footer);
}

static output memory_output(const reader *reader) {
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("restored", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) != 0)
        abort();
    return (output){.fd = fd, .name = reader->in.name, .stream = -1};
}

/* Decodes everything that `target` has a place for, as a restore does, and writes it, if there is somewhere. */
static void decode(const reader *reader, const cache *target, output *out) {
    static codec_context context; /* making one takes long */
    const cache *cache = &reader->cache;
    uint8_t *buffer = NULL, *rows = NULL;
    size_t buffer_bytes = 0, rows_bytes = 0;
    uint64_t decoded = 0;
    for (uint64_t j = 0; j < cache->n_jobs && decoded < MAX_DECODED; j++) {
        cache_job job = cache_locate(target, j);
        if (job.verbatim && target != cache)
            continue;
        for (uint32_t i = 0; i < (job.verbatim ? 1 : job.unit->n_planes); i++) {
            uint32_t p = job.verbatim ? 0 : job.unit->first_plane + i;
            uint32_t stream = job.verbatim ? job.block : cache_stream(cache, p, job.chunk);
            uint32_t n = job.verbatim ? cache_verbatim_bytes(cache, job.block) : job.chunk->rows;
            const format_plane *plane = job.verbatim ? &codec_verbatim : &cache->tables.planes[p];
            if (!job.verbatim && !cache_occurs(target, p, job.chunk))
                continue;
            decoded += (uint64_t)n * plane->row_bytes;
            if (make_room(&rows, &rows_bytes, (size_t)n * plane->row_bytes, NULL) != KVOT_OK)
                abort();
            if (reader_read(reader, stream, &buffer, &buffer_bytes, NULL) != KVOT_OK ||
                reader_decode(reader, &context, stream, plane, n, false, buffer, rows, NULL) != KVOT_OK || !out)
                continue;
            if (job.verbatim)
                cache_scatter_verbatim(target, job.block, out, rows, NULL);
            else
                cache_scatter(target, p, job.chunk, out, rows, NULL);
        }
    }
    free(buffer);
    free(rows);
}

static void restore(const reader *reader) {
    uint64_t bytes = reader->cache.tables.index->source_bytes;
    output out = memory_output(reader);
    decode(reader, &reader->cache, bytes <= MAX_RESTORED ? &out : NULL);
    if (bytes <= MAX_RESTORED && lseek(out.fd, 0, SEEK_END) > (off_t)bytes)
        abort(); /* bytes behind the source's end */
}

/* `which` says which part. */
static void restore_part(const reader *reader, uint8_t which) {
    static const kvot_run run;
    kvot_restore_options options = {.tokens = which & 63, .end_layer = which >> 6};
    cut cut;
    if (reader->cache.tables.index->source_bytes > MAX_RESTORED || which == 0)
        return;
    output out = memory_output(reader);
    if (cut_open(&cut, reader, &options, &out, &run, NULL) == KVOT_OK && engine_cut(&cut, NULL) == KVOT_OK &&
        cut_finish(&cut, NULL) == KVOT_OK) {
        decode(reader, &cut.cache, &out);
        if (lseek(out.fd, 0, SEEK_END) > (off_t)cut.bytes)
            abort();
    }
    cut_close(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *file = malloc(size + 1);
    if (!file)
        return 0;
    memcpy(file, data, size);
    fix(file, size);
    input in = {.fd = -1, .memory = file, .bytes = size, .name = strdup("fuzz")};
    reader reader;
    if (reader_open(&reader, &in, NULL) == KVOT_OK) {
        restore(&reader);
        restore_part(&reader, (uint8_t)format_checksum(file, size));
        reader_close(&reader);
    }
    free(file);
    return 0;
}
