/* Restoring: streams, a codec, chunks scattered to where the engine had them. */
#include "restore.h"

#include "cut.h"

typedef struct restore_context {
    const reader *reader;
    const cache *target; /* of the file that is written: the reader's, or a part of it */
    output *out;
    run_progress *progress;
    device *device; /* or NULL */
} restore_context;

/* Reads and decodes stream number `stream`, `n` rows of `plane`. */
static kvot_status decode(const restore_context *restore, run_buffers *b, uint32_t stream, const format_plane *plane,
                          uint32_t n, uint8_t **rows, kvot_error *error) {
    kvot_status status =
        codec_rows_room(&b->codec, 0, &b->rows, &b->rows_bytes, (size_t)n * plane->row_bytes, rows, error);
    if (status != KVOT_OK)
        return status;
    return reader_decode(restore->reader, &b->codec, stream, plane, n, false, &b->stream, &b->stream_bytes, *rows,
                         error);
}

static kvot_status work(void *context, uint64_t number, void *memory, kvot_error *error) {
    const restore_context *restore = context;
    const cache *cache = restore->target;
    run_buffers *b = memory;
    cache_job job = cache_locate(cache, number);
    bool cut = cache != &restore->reader->cache; /* its verbatim bytes are there already */
    uint8_t *rows;
    if (cut && job.verbatim)
        return KVOT_OK;
    kvot_status status = codec_open_lane(&b->codec, restore->device, NULL, error);
    if (status != KVOT_OK)
        return status;
    if (job.verbatim) {
        status = decode(restore, b, job.block, &codec_verbatim, cache_verbatim_bytes(cache, job.block), &rows, error);
        return status == KVOT_OK ? cache_scatter_verbatim(cache, job.block, restore->out, rows, error) : status;
    }
    for (uint32_t p = job.unit->first_plane; p < job.unit->first_plane + job.unit->n_planes && status == KVOT_OK; p++) {
        if (!cache_occurs(cache, p, job.chunk))
            continue;
        status = decode(restore, b, cache_stream(cache, p, job.chunk), &cache->tables.planes[p], job.chunk->rows, &rows,
                        error);
        if (status == KVOT_OK)
            status = cache_scatter(cache, p, job.chunk, restore->out, rows, error);
    }
    return status;
}

static kvot_status done(void *context, uint64_t number, void *memory, kvot_error *error) {
    (void)memory;
    restore_context *restore = context;
    const cache *cache = &restore->reader->cache;
    return run_progress_add(restore->progress, run_job_bytes(cache, cache_locate(cache, number)), error);
}

static void drop(void *memory) {
    run_buffers_free(memory);
}

static kvot_status restore_to(const reader *reader, const cache *target, output *out, const kvot_run *run,
                              device *device, kvot_error *error) {
    run_progress progress = run_progress_start(run, &reader->cache, 1);
    restore_context context = {reader, target, out, &progress, device};
    pool_jobs jobs = {.count = reader->cache.n_jobs,
                      .threads = run_threads(run, device),
                      .slot_bytes = sizeof(run_buffers),
                      .context = &context,
                      .work = work,
                      .done = done,
                      .drop = drop};
    return pool_run(&jobs, error);
}

/* Header, index, footer, verbatim blocks, and what is needed of planes. */
static uint64_t bytes_read(const reader *reader, const cache *target) {
    const format_tables *tables = &reader->cache.tables;
    uint64_t bytes = sizeof(format_header) + format_index_bytes(tables->index, UINT64_MAX) + sizeof(format_footer);
    for (uint32_t block = 0; block < tables->index->n_verbatim; block++)
        bytes += tables->streams[block].stored_bytes;
    for (uint32_t p = 0; p < tables->index->n_planes; p++) {
        uint32_t rowset = tables->planes[p].rowset;
        for (uint32_t c = target->first_chunk[rowset]; c < target->first_chunk[rowset + 1]; c++)
            if (cache_occurs(target, p, &target->chunks[c]))
                bytes += tables->streams[cache_stream(target, p, &target->chunks[c])].stored_bytes;
    }
    return bytes;
}

/* Restores what `options` ask for, all if there are none, to an output that is open. */
static kvot_status restore_part(const reader *reader, const kvot_restore_options *options, output *out,
                                const kvot_run *run, device *device, kvot_sizes *sizes, kvot_error *error) {
    bool all = !options || (options->tokens == 0 && options->first_layer == 0 && options->end_layer == 0);
    const cache *target = &reader->cache;
    cut cut = {0};
    kvot_status status = all ? KVOT_OK : cut_open(&cut, reader, options, out, run, error);
    target = all ? target : &cut.cache;
    if (status == KVOT_OK)
        status = restore_to(reader, target, out, run, device, error);
    if (status == KVOT_OK && sizes) {
        *sizes = run_sizes(&reader->cache, reader->in.bytes);
        sizes->bytes_read = bytes_read(reader, target);
        sizes->bytes_written = all ? sizes->original_bytes : cut.bytes;
    }
    if (!all)
        cut_close(&cut);
    return status;
}

kvot_status kvot_restore(const char *input_path, const char *output_path, const kvot_restore_options *options,
                         const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    run = run ? run : &run_plain;
    reader reader;
    output out;
    device *device = NULL;
    kvot_status status = run_device(run, &device, error);
    if (status != KVOT_OK)
        return status;
    if ((status = reader_open_path(&reader, input_path, run, error)) != KVOT_OK) {
        device_close(device);
        return status;
    }
    if ((status = output_open(&out, output_path, reader.in.mode, run, true, error)) == KVOT_OK) {
        status = restore_part(&reader, options, &out, run, device, sizes, error);
        if (status == KVOT_OK)
            status = output_commit(&out, error);
        output_close(&out);
    }
    reader_close(&reader);
    device_close(device);
    return status;
}

kvot_status restore_open(input *in, const char *path, const kvot_run *run, kvot_error *error) {
    kvot_status status = input_open(in, path, run, error);
    if (status != KVOT_OK || !reader_probe(in))
        return status;
    reader reader;
    output out;
    if ((status = reader_open(&reader, in, error)) != KVOT_OK)
        return status;
    if ((status = output_open_unnamed(&out, reader.in.name, run, error)) == KVOT_OK) {
        status = restore_to(&reader, &reader.cache, &out, run, NULL, error);
        if (status == KVOT_OK)
            status = output_to_input(&out, in, reader.cache.tables.index->source_bytes, error);
        output_close(&out);
    }
    reader_close(&reader);
    return status;
}
