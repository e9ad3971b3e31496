/* Restoring: streams, a codec, chunks scattered to where the engine had them. */
#include "restore.h"

#include "file/reader.h"

typedef struct restore_context {
    const reader *reader;
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
    const cache *cache = &restore->reader->cache;
    run_buffers *b = memory;
    cache_job job = cache_locate(cache, number);
    uint8_t *rows;
    kvot_status status = codec_open_lane(&b->codec, restore->device, NULL, error);
    if (status != KVOT_OK)
        return status;
    if (job.verbatim) {
        status = decode(restore, b, job.block, &codec_verbatim, cache_verbatim_bytes(cache, job.block), &rows, error);
        return status == KVOT_OK ? cache_scatter_verbatim(cache, job.block, restore->out, rows, error) : status;
    }
    for (uint32_t p = job.unit->first_plane; p < job.unit->first_plane + job.unit->n_planes && status == KVOT_OK; p++) {
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

static kvot_status restore_to(const reader *reader, output *out, const kvot_run *run, device *device,
                              kvot_error *error) {
    run_progress progress = run_progress_start(run, &reader->cache, 1);
    restore_context context = {reader, out, &progress, device};
    pool_jobs jobs = {.count = reader->cache.n_jobs,
                      .threads = run_threads(run, device),
                      .slot_bytes = sizeof(run_buffers),
                      .context = &context,
                      .work = work,
                      .done = done,
                      .drop = drop};
    return pool_run(&jobs, error);
}

kvot_status kvot_restore(const char *input_path, const char *output_path, const kvot_run *run, kvot_sizes *sizes,
                         kvot_error *error) {
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
        status = restore_to(&reader, &out, run, device, error);
        if (status == KVOT_OK)
            status = output_commit(&out, error);
        output_close(&out);
    }
    if (sizes)
        *sizes = run_sizes(&reader.cache, reader.in.bytes);
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
        status = restore_to(&reader, &out, run, NULL, error);
        if (status == KVOT_OK)
            status = output_to_input(&out, in, reader.cache.tables.index->source_bytes, error);
        output_close(&out);
    }
    reader_close(&reader);
    return status;
}
