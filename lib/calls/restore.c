/* Restoring: streams read ahead, a codec, chunks scattered to where the engine had them. */
#include "restore.h"

#include "../engines/engine.h"
#include "../file/cut.h"
#include "../file/wanted.h"
#include "../run/run.h"
#include "inspect.h"

typedef struct restore_context {
    const reader *reader;
    const cache *target; /* of the file that is written: the reader's, or a part of it */
    const wanted *wanted;
    output *out;
    run_progress *progress;
    device *device; /* or NULL */
} restore_context;

static kvot_status work(void *context, size_t range, const uint8_t *stored, void *memory, kvot_error *error) {
    const restore_context *restore = context;
    const cache *cache = restore->target;
    const wanted_stream *of = &restore->wanted->streams[range];
    size_t bytes = wanted_bytes(cache, of);
    codec_buffers *b = memory;
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

/* All streams of a cache; of a part, whose verbatim bytes are there already, those with rows that it has. */
static kvot_status list_streams(wanted *wanted, const cache *target, bool whole, kvot_error *error) {
    if (whole)
        return wanted_all(wanted, target, error);
    kvot_status status = wanted_open(wanted, target->tables.index->n_streams, error);
    for (uint64_t number = target->tables.index->n_verbatim; number < target->n_jobs && status == KVOT_OK; number++) {
        cache_job job = cache_locate(target, number);
        for (uint32_t i = 0; i < job.unit->n_planes; i++)
            if (cache_occurs(target, job.unit->first_plane + i, job.chunk))
                wanted_chunk(wanted, target, job.unit->first_plane + i, job.chunk);
    }
    return status;
}

/* Restores `target`, the reader's cache or a part of it. `*bytes_read`: of the streams that it took. */
static kvot_status restore_to(const reader *reader, const cache *target, output *out, const kvot_run *run,
                              device *device, uint64_t *bytes_read, kvot_error *error) {
    wanted wanted;
    run_progress progress = {.run = run};
    kvot_status status = list_streams(&wanted, target, target == &reader->cache, error);
    if (status == KVOT_OK) {
        for (uint64_t i = 0; i < wanted.count; i++) {
            progress.total += wanted_bytes(target, &wanted.streams[i]);
            *bytes_read += wanted.ranges[i].bytes;
        }
        restore_context context = {reader, target, &wanted, out, &progress, device};
        fetch_jobs jobs = {.in = &reader->in,
                           .ranges = wanted.ranges,
                           .count = wanted.count,
                           .pool = run->pool,
                           .threads = run_threads(run, device),
                           .slot_bytes = sizeof(codec_buffers),
                           .more_bytes = wanted_need(&wanted, target, 1),
                           .context = &context,
                           .work = work,
                           .told = run_told,
                           .told_context = &progress,
                           .drop = codec_buffers_free};
        status = fetch_run(&jobs, NULL, error);
    }
    wanted_free(&wanted);
    return status;
}

/* Works out the part that `options` ask for, and writes all of it but for the planes. */
static kvot_status cut_part(cut *cut, const reader *reader, const kvot_restore_options *options, output *out,
                            const kvot_run *run, kvot_error *error) {
    kvot_status status = cut_open(cut, reader, options, out, run, error);
    if (status == KVOT_OK)
        status = engine_cut(cut, error);
    return status == KVOT_OK ? cut_finish(cut, error) : status;
}

/* Restores what `options` ask for, all if there are none, to an output that is open. */
static kvot_status restore_part(const reader *reader, const kvot_restore_options *options, output *out,
                                const kvot_run *run, device *device, kvot_sizes *sizes, kvot_error *error) {
    const format_tables *tables = &reader->cache.tables;
    uint64_t read = sizeof(format_header) + format_index_bytes(tables->index, UINT64_MAX) + sizeof(format_footer);
    bool whole = !options || (options->tokens == 0 && options->first_layer == 0 && options->end_layer == 0);
    cut cut = {.in.fd = -1};
    if (whole)
        output_hold(out, tables->index->source_bytes);
    kvot_status status = whole ? KVOT_OK : cut_part(&cut, reader, options, out, run, error);
    for (uint32_t block = 0; !whole && block < tables->index->n_verbatim; block++)
        read += tables->streams[block].stored_bytes;
    if (status == KVOT_OK)
        status = restore_to(reader, whole ? &reader->cache : &cut.cache, out, run, device, &read, error);
    if (status == KVOT_OK && sizes) {
        *sizes = cache_sizes(&reader->cache, reader->in.bytes);
        sizes->bytes_read = read;
        sizes->bytes_written = whole ? sizes->original_bytes : cut.bytes;
    }
    if (!whole)
        cut_close(&cut);
    return status;
}

kvot_status kvot_restore(const char *input_path, const char *output_path, const kvot_restore_options *options,
                         const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    run_call call;
    run = run_call_open(&call, run, input_path);
    reader reader;
    output out;
    device *device = NULL;
    kvot_status status = run_device(run, &device, error);
    if (status == KVOT_OK)
        status = reader_open_path(&reader, input_path, run, error);
    if (status != KVOT_OK) {
        device_close(device);
        run_call_close(&call);
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
    run_call_close(&call);
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
    status = restore_part(reader, NULL, &out, run, device, NULL, error);
    device_close(device);
    return status;
}

kvot_status restore_unnamed(const reader *reader, input *in, const char *directory, const kvot_run *run,
                            kvot_error *error) {
    output out;
    kvot_status status = output_open_unnamed(&out, directory, reader->in.name, run, error);
    if (status != KVOT_OK)
        return status;
    status = restore_part(reader, NULL, &out, run, NULL, NULL, error);
    if (status == KVOT_OK)
        status = output_to_input(&out, in, reader->cache.tables.index->source_bytes, error);
    output_close(&out);
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
    if ((status = reader_open(&reader, in, error)) != KVOT_OK)
        return status;
    status = restore_unnamed(&reader, in, directory, run, error);
    reader_close(&reader);
    return status;
}
