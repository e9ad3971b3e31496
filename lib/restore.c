/* Restoring: streams read ahead, a codec, chunks scattered to where the engine had them. */
#include "restore.h"

#include "inspect.h"
#include "run.h"
#include "wanted.h"

typedef struct restore_context {
    const reader *reader;
    const wanted *wanted;
    output *out;
    run_progress *progress;
    device *device; /* or NULL */
} restore_context;

static kvot_status work(void *context, size_t range, const uint8_t *stored, void *memory, kvot_error *error) {
    const restore_context *restore = context;
    const cache *cache = &restore->reader->cache;
    const wanted_stream *of = &restore->wanted->streams[range];
    size_t bytes = wanted_bytes(cache, of);
    run_buffers *b = memory;
    uint8_t *rows;
    kvot_status status = codec_open_lane(&b->codec, restore->device, NULL, error);
    if (status == KVOT_OK)
        status = codec_rows_room(&b->codec, 0, &b->rows, &b->rows_bytes, bytes, &rows, error);
    if (status == KVOT_OK)
        status = reader_decode(restore->reader, &b->codec, of->stream, wanted_plane(cache, of), wanted_rows(cache, of),
                               false, stored, rows, error);
    if (status != KVOT_OK)
        return status;
    if (of->plane == FORMAT_VERBATIM)
        status = cache_scatter_verbatim(cache, of->stream, restore->out, rows, error);
    else
        status = cache_scatter(cache, of->plane, of->chunk, restore->out, rows, error);
    run_progress_count(restore->progress, bytes);
    return status;
}

static kvot_status told(void *context, kvot_error *error) {
    const restore_context *restore = context;
    return run_progress_tell(restore->progress, error);
}

static void drop(void *memory) {
    run_buffers_free(memory);
}

static kvot_status restore_to(const reader *reader, output *out, const kvot_run *run, device *device,
                              kvot_error *error) {
    run_progress progress = run_progress_start(run, &reader->cache, 1);
    wanted wanted = {0};
    kvot_status status = wanted_all(&wanted, &reader->cache, error);
    if (status == KVOT_OK)
        status = wanted_ranges(&wanted, &reader->cache, error);
    if (status == KVOT_OK) {
        restore_context context = {reader, &wanted, out, &progress, device};
        fetch_jobs jobs = {.in = &reader->in,
                           .ranges = wanted.ranges,
                           .count = wanted.count,
                           .threads = run_threads(run, device),
                           .slot_bytes = sizeof(run_buffers),
                           .context = &context,
                           .work = work,
                           .told = told,
                           .drop = drop};
        status = fetch_run(&jobs, NULL, error);
    }
    wanted_free(&wanted);
    return status;
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

kvot_status kvot_restore_memory(kvot_file *file, void *to, uint64_t bytes, const kvot_run *run, kvot_error *error) {
    run = run ? run : &run_plain;
    const reader *reader = &file->reader;
    device *device = NULL;
    if (!file->info.compressed)
        return fail(error, KVOT_E_ARGUMENT, "%s: is not a .kvot file", reader->in.name);
    if (bytes < file->info.original_bytes)
        return fail(error, KVOT_E_ARGUMENT, "%s: restores to %llu bytes", reader->in.name,
                    (unsigned long long)file->info.original_bytes);
    kvot_status status = run_device(run, &device, error);
    if (status != KVOT_OK)
        return status;
    output out = output_to_memory(to);
    status = restore_to(reader, &out, run, device, error);
    device_close(device);
    return status;
}

kvot_status restore_open(input *in, const char *path, const char *directory, const kvot_run *run, kvot_error *error) {
    bool compressed = false;
    kvot_status status = input_open(in, path, run, error);
    if (status == KVOT_OK && (status = reader_probe(in, &compressed, error)) != KVOT_OK)
        input_close(in);
    if (!compressed)
        return status;
    reader reader;
    output out;
    if ((status = reader_open(&reader, in, error)) != KVOT_OK)
        return status;
    if ((status = output_open_unnamed(&out, directory, reader.in.name, run, error)) == KVOT_OK) {
        status = restore_to(&reader, &out, run, NULL, error);
        if (status == KVOT_OK)
            status = output_to_input(&out, in, reader.cache.tables.index->source_bytes, error);
        output_close(&out);
    }
    reader_close(&reader);
    return status;
}
