/* Verifying: every checksum, everything decoded, and, against an original, every byte of it accounted for. */
#include "verify.h"

#include "../codecs/measure.h"
#include "../file/wanted.h"
#include "../run/run.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct verify_slot {
    codec_buffers buffers; /* `other` holds the original's rows */
    uint8_t *repeat;
    size_t repeat_bytes;
} verify_slot;

typedef struct verify_context {
    const reader *reader;
    const wanted *wanted;
    const input *original; /* or NULL */
    run_progress *progress;
} verify_context;

static kvot_status differs(const verify_context *verify, const char *what, kvot_error *error) {
    return fail(error, KVOT_E_DIFFERENT, "%s does not restore to %s: %s", verify->reader->in.name,
                verify->original->name, what);
}

static kvot_status differs_in(const verify_context *verify, const cache_chunk *chunk, const format_plane *plane,
                              const char *what, kvot_error *error) {
    static const char *const kinds[] = {"K", "V", "state"};
    char where[160];
    snprintf(where, sizeof where, "section %u, layer %u, %s: the chunk of %u rows from position %d on %s",
             plane->rowset, plane->layer, kinds[plane->kind], chunk->rows, chunk->first_position, what);
    return differs(verify, where, error);
}

static kvot_status verify_block(const verify_context *verify, codec_buffers *b, uint32_t block, kvot_error *error) {
    const cache *cache = &verify->reader->cache;
    kvot_status status = cache_gather_verbatim(cache, block, verify->original, b->other, error);
    if (status == KVOT_OK && memcmp(b->rows, b->other, cache_verbatim_bytes(cache, block)) != 0)
        status = differs(verify, "bytes outside tensors differ", error);
    return status;
}

/* Rows that the original holds more than once must be the same everywhere. `b->other` is what was read at first. */
static kvot_status verify_repeats(const verify_context *verify, verify_slot *slot, const wanted_stream *of,
                                  kvot_error *error) {
    const cache *cache = &verify->reader->cache;
    size_t row_bytes = cache->tables.planes[of->plane].row_bytes;
    kvot_status status = make_room(&slot->repeat, &slot->repeat_bytes, of->chunk->rows * row_bytes, error);
    for (uint32_t i = 0; i < of->chunk->n_pieces && status == KVOT_OK; i++) {
        cache_piece piece = cache->pieces[of->chunk->first_piece + i];
        status = cache_read_cells(cache, of->plane, piece.view, piece.cell, piece.rows, verify->original, slot->repeat,
                                  error);
        if (status == KVOT_OK &&
            memcmp(slot->repeat, slot->buffers.other + piece.row * row_bytes, piece.rows * row_bytes) != 0)
            status = differs(verify, "a row that is stored once is not the same everywhere", error);
    }
    return status;
}

/* The loss that was measured when the stream was made must be the loss that is there. Rows that came from a restore of
 * the file lose nothing any more: an append keeps their streams. */
static bool as_lossy_as_said(const format_stream *stream, const measure *lost) {
    return lost->identical || (lost->squared_error == stream->squared_error &&
                               lost->squared_sum == stream->squared_sum && lost->max_error == stream->max_error);
}

static kvot_status verify_chunk(const verify_context *verify, verify_slot *slot, const wanted_stream *of, size_t bytes,
                                kvot_error *error) {
    const cache *cache = &verify->reader->cache;
    const format_plane *plane = &cache->tables.planes[of->plane];
    codec_buffers *b = &slot->buffers;
    kvot_status status = cache_gather(cache, of->plane, of->chunk, verify->original, b->other, error);
    if (status == KVOT_OK && plane->codec == FORMAT_LOSSLESS && memcmp(b->rows, b->other, bytes) != 0)
        status = differs_in(verify, of->chunk, plane, "is stored without loss and differs", error);
    if (status == KVOT_OK && plane->codec != FORMAT_LOSSLESS) {
        measure lost = measure_rows(plane->type, b->other, b->rows, of->chunk->rows, plane->row_bytes);
        if (!as_lossy_as_said(&cache->tables.streams[of->stream], &lost))
            status = differs_in(verify, of->chunk, plane, "loses more or less than its file says", error);
    }
    return status == KVOT_OK ? verify_repeats(verify, slot, of, error) : status;
}

static kvot_status work(void *context, size_t range, const uint8_t *stored, void *memory, kvot_error *error) {
    const verify_context *verify = context;
    const cache *cache = &verify->reader->cache;
    const wanted_stream *of = &verify->wanted->streams[range];
    verify_slot *slot = memory;
    codec_buffers *b = &slot->buffers;
    size_t bytes = wanted_bytes(cache, of);
    kvot_status status = make_room(&b->rows, &b->rows_bytes, bytes, error);
    if (status == KVOT_OK)
        status = reader_decode(verify->reader, &b->codec, of->stream, wanted_plane(cache, of), wanted_rows(cache, of),
                               true, stored, b->rows, error);
    if (status == KVOT_OK && verify->original)
        status = make_room(&b->other, &b->other_bytes, bytes, error);
    if (status == KVOT_OK && verify->original)
        status = of->plane == FORMAT_VERBATIM ? verify_block(verify, b, of->stream, error)
                                              : verify_chunk(verify, slot, of, bytes, error);
    run_progress_count(verify->progress, bytes);
    return status;
}

static void drop(void *memory) {
    verify_slot *slot = memory;
    codec_buffers_free(&slot->buffers);
    free(slot->repeat);
}

static kvot_status verify_all(const reader *reader, const input *original, const kvot_run *run, kvot_error *error) {
    verify_context context = {.reader = reader, .original = original}, *verify = &context;
    const cache *cache = &verify->reader->cache;
    if (verify->original && verify->original->bytes != cache->tables.index->source_bytes)
        return differs(verify, "it has another length", error);
    run_progress progress = run_progress_start(run, cache_bytes(cache));
    wanted wanted;
    verify->progress = &progress;
    verify->wanted = &wanted;
    kvot_status status = wanted_all(&wanted, cache, error);
    fetch_jobs jobs = {.in = &verify->reader->in,
                       .ranges = wanted.ranges,
                       .count = wanted.count,
                       .pool = run->pool,
                       .threads = run->threads,
                       .slot_bytes = sizeof(verify_slot),
                       .more_bytes = wanted_need(&wanted, cache, original ? 3 : 1),
                       .context = verify,
                       .work = work,
                       .told = run_told,
                       .told_context = verify->progress,
                       .drop = drop};
    if (status == KVOT_OK)
        status = fetch_run(&jobs, NULL, error);
    wanted_free(&wanted);
    return status;
}

kvot_status verify_output(const output *out, uint64_t bytes, const input *original, const kvot_run *run,
                          kvot_error *error) {
    reader reader;
    input in = {.fd = fcntl(out->fd, F_DUPFD_CLOEXEC, 0), .bytes = bytes, .name = strdup(out->name)};
    kvot_status status = KVOT_OK;
    if (in.fd < 0 || !in.name) {
        status = fail_errno(error, out->name, "read what was written");
        input_close(&in);
        return status;
    }
    if ((status = reader_open(&reader, &in, error)) == KVOT_OK) {
        status = reader_take(&reader, run, error);
        if (status == KVOT_OK)
            status = verify_all(&reader, original, run, error);
        reader_close(&reader);
    }
    return status;
}

kvot_status kvot_verify(const char *input_path, const char *original_path, const kvot_run *run,
                        uint64_t *leftover_bytes, kvot_error *error) {
    run_call call;
    run = run_call_open(&call, run, input_path);
    reader reader;
    input original;
    kvot_status status = run_level(error);
    if (status == KVOT_OK)
        status = reader_open_path(&reader, input_path, run, error);
    if (status != KVOT_OK) {
        run_call_close(&call);
        return status;
    }
    if (leftover_bytes)
        *leftover_bytes = reader.leftover;
    if (!original_path || (status = input_open(&original, original_path, run, error)) == KVOT_OK) {
        status = verify_all(&reader, original_path ? &original : NULL, run, error);
        if (original_path)
            input_close(&original);
    }
    reader_close(&reader);
    run_call_close(&call);
    return status;
}
