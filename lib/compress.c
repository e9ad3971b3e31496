/* Compressing: an engine's plan, chunks gathered, a codec, streams laid down. */
#include "engines/engine.h"
#include "file/reader.h"
#include "file/writer.h"
#include "measure.h"
#include "model.h"
#include "outliers.h"
#include "rows.h"

#include <stdlib.h>
#include <string.h>

/* One plane's rows of a chunk, or a verbatim block, and the stream that is made of it. */
typedef struct encoded {
    uint8_t *rows, *bytes;
    uint8_t *sums; /* floats, [rows][heads]: magnitudes, then squares of K */
    size_t rows_room, room, sums_room;
    format_stream about; /* all but the offset */
    measure measure;
} encoded;

typedef struct compress_slot {
    run_buffers buffers;
    encoded *encoded;
    uint32_t n_encoded;
    uint8_t *exact, *plane_exact; /* exact rows of the chunk at hand: those of K, and of one plane */
    size_t exact_bytes, plane_exact_bytes;
} compress_slot;

typedef struct compress_context {
    const cache *cache;
    const input *in;
    const fixed_outliers *fixed; /* NULL: the chunk's own rule */
    writer *writer;
    measure *measures; /* of each plane */
    run_progress *progress;
} compress_context;

kvot_compress_options kvot_compress_defaults(void) {
    return (kvot_compress_options){.codec = KVOT_OTT, .bits = 4, .group = 64, .outliers = KVOT_OUTLIERS_AUTO};
}

static_assert((int)KERNEL_MAX_ROWS >= (int)FORMAT_CHUNK_ROWS, "the outlier rule takes whole chunks");

static kvot_status check_options(const kvot_compress_options *options, kvot_error *error) {
    if (options->codec != KVOT_LOSSLESS && options->codec != KVOT_OTT)
        return fail(error, KVOT_E_ARGUMENT, "there is no such codec");
    if (options->codec == KVOT_LOSSLESS)
        return KVOT_OK;
    if (options->bits != 2 && options->bits != 3 && options->bits != 4 && options->bits != 8)
        return fail(error, KVOT_E_ARGUMENT, "bits must be 2, 3, 4 or 8");
    if (options->group != 32 && options->group != 64 && options->group != 128)
        return fail(error, KVOT_E_ARGUMENT, "group must be 32, 64 or 128");
    if (options->outliers < KVOT_OUTLIERS_AUTO || options->outliers > KVOT_OUTLIERS_MAX)
        return fail(error, KVOT_E_ARGUMENT, "outliers must be auto or 0 to %d", KVOT_OUTLIERS_MAX);
    return KVOT_OK;
}

static void set_codecs(plan *plan, const kvot_compress_options *options) {
    for (uint32_t p = 0; p < plan->n_planes; p++) {
        format_plane *plane = &plan->planes[p];
        if (options->codec == KVOT_LOSSLESS || plane->kind == FORMAT_STATE || !codec_can_quantize(plane->type))
            continue;
        plane->codec = FORMAT_OTT;
        plane->bits = (uint8_t)options->bits;
        plane->group = (uint16_t)options->group;
        if (options->outliers >= 0) {
            plane->outlier_rule = FORMAT_OUTLIERS_FIXED;
            plane->outliers = (uint32_t)options->outliers;
        }
    }
}

/* Encodes `n` rows, decodes them again and measures what was lost. */
static kvot_status encode(compress_slot *slot, encoded *of, const format_plane *plane, uint32_t n, const uint8_t *exact,
                          kvot_error *error) {
    const codec *codec = codec_of(plane->codec);
    run_buffers *buffers = &slot->buffers;
    size_t bytes = (size_t)n * plane->row_bytes, stored = 0;
    kvot_status status = make_room(&of->bytes, &of->room, codec->bound(plane, n, exact), error);
    if (status == KVOT_OK)
        status = codec->encode(&buffers->codec, plane, of->rows, n, exact, of->bytes, &stored, error);
    if (status != KVOT_OK)
        return status;
    const uint8_t *decoded = of->rows;
    of->measure = measure_none();
    if (plane->codec == FORMAT_OTT) {
        status = make_room(&buffers->other, &buffers->other_bytes, bytes, error);
        if (status == KVOT_OK)
            status = codec->decode(&buffers->codec, plane, of->bytes, stored, n, buffers->other, error);
        if (status != KVOT_OK)
            return status;
        decoded = buffers->other;
        of->measure = measure_rows(plane->type, of->rows, decoded, n, plane->row_bytes);
    }
    of->about = (format_stream){.checksum = format_checksum(of->bytes, stored),
                                .decoded_checksum = format_checksum(decoded, bytes),
                                .stored_bytes = (uint32_t)stored,
                                .decoded_bytes = (uint32_t)bytes,
                                .type = codec->stream_type};
    return KVOT_OK;
}

static kvot_status encode_verbatim(const compress_context *compress, compress_slot *slot, uint32_t block,
                                   kvot_error *error) {
    encoded *of = &slot->encoded[0];
    uint32_t n = cache_verbatim_bytes(compress->cache, block);
    kvot_status status = make_room(&of->rows, &of->rows_room, n, error);
    if (status == KVOT_OK)
        status = cache_gather_verbatim(compress->cache, block, compress->in, of->rows, error);
    return status == KVOT_OK ? encode(slot, of, &codec_verbatim, n, NULL, error) : status;
}

/* Measures how large the rows of a quantized plane are, for choosing outlier tokens. */
static kvot_status measure_magnitudes(const format_plane *plane, encoded *of, uint32_t rows, kvot_error *error) {
    size_t n = (size_t)rows * plane->heads;
    kvot_status status = make_room(&of->sums, &of->sums_room, 2 * n * sizeof(float), error);
    if (status != KVOT_OK)
        return status;
    kernel_chunk chunk = codec_chunk(plane, rows);
    kernels()->magnitudes(&chunk, of->rows, (float *)of->sums, plane->kind == FORMAT_K ? (float *)of->sums + n : NULL);
    return KVOT_OK;
}

/* Sets slot->exact, [rows][heads], to the outlier tokens of a unit's chunk: of its K plane. */
static kvot_status choose(const compress_context *compress, compress_slot *slot, cache_job job, uint32_t key_plane,
                          kvot_error *error) {
    const format_plane *keys = &compress->cache->tables.planes[key_plane], *values = keys + 1;
    const encoded *of = &slot->encoded[key_plane - job.unit->first_plane];
    size_t n = (size_t)job.chunk->rows * keys->heads;
    kvot_status status = make_room(&slot->exact, &slot->exact_bytes, n, error);
    if (status != KVOT_OK)
        return status;
    if (compress->fixed) {
        fixed_outliers_of(compress->fixed, compress->cache, job, slot->exact);
    } else {
        bool with_values = key_plane + 1 < job.unit->first_plane + job.unit->n_planes && values->codec == FORMAT_OTT &&
                           values->heads == keys->heads;
        kernel_sizes sizes = {.rows = job.chunk->rows,
                              .heads = keys->heads,
                              .start = job.chunk->first_position == 0,
                              .keys = (const float *)of->sums,
                              .key_squares = (const float *)of->sums + n,
                              .values = with_values ? (const float *)of[1].sums : NULL};
        kernels()->choose(&sizes, slot->exact);
    }
    outliers_add_infinite((const float *)of->sums, n, slot->exact);
    return KVOT_OK;
}

/* Sets slot->plane_exact for one plane: the outlier tokens of K, if it has as many heads, and what cannot be quantized.
 */
static kvot_status exact_rows(const compress_context *compress, compress_slot *slot, cache_job job, uint32_t plane,
                              uint32_t key_plane, kvot_error *error) {
    const format_plane *planes = compress->cache->tables.planes;
    size_t n = (size_t)job.chunk->rows * planes[plane].heads;
    kvot_status status = make_room(&slot->plane_exact, &slot->plane_exact_bytes, n, error);
    if (status != KVOT_OK)
        return status;
    if (key_plane != UINT32_MAX && planes[key_plane].heads == planes[plane].heads)
        memcpy(slot->plane_exact, slot->exact, n);
    else
        memset(slot->plane_exact, 0, n);
    outliers_add_infinite((const float *)slot->encoded[plane - job.unit->first_plane].sums, n, slot->plane_exact);
    return KVOT_OK;
}

static kvot_status encode_unit(const compress_context *compress, compress_slot *slot, cache_job job,
                               kvot_error *error) {
    const format_plane *planes = compress->cache->tables.planes + job.unit->first_plane;
    uint32_t first = job.unit->first_plane, key_plane = outliers_key_plane(compress->cache, job.unit);
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < job.unit->n_planes && status == KVOT_OK; i++) {
        encoded *of = &slot->encoded[i];
        status = make_room(&of->rows, &of->rows_room, (size_t)job.chunk->rows * planes[i].row_bytes, error);
        if (status == KVOT_OK)
            status = cache_gather(compress->cache, first + i, job.chunk, compress->in, of->rows, error);
        if (status == KVOT_OK && planes[i].codec == FORMAT_OTT)
            status = measure_magnitudes(&planes[i], of, job.chunk->rows, error);
    }
    if (status == KVOT_OK && key_plane != UINT32_MAX)
        status = choose(compress, slot, job, key_plane, error);
    for (uint32_t i = 0; i < job.unit->n_planes && status == KVOT_OK; i++) {
        if (planes[i].codec == FORMAT_OTT)
            status = exact_rows(compress, slot, job, first + i, key_plane, error);
        if (status == KVOT_OK)
            status = encode(slot, &slot->encoded[i], &planes[i], job.chunk->rows, slot->plane_exact, error);
    }
    return status;
}

static kvot_status work(void *context, uint64_t number, void *memory, kvot_error *error) {
    const compress_context *compress = context;
    compress_slot *slot = memory;
    cache_job job = cache_locate(compress->cache, number);
    uint32_t n_streams = job.verbatim ? 1 : job.unit->n_planes;
    if (n_streams > slot->n_encoded) {
        encoded *more = realloc(slot->encoded, n_streams * sizeof *more);
        if (!more)
            return fail_memory(error);
        memset(more + slot->n_encoded, 0, (n_streams - slot->n_encoded) * sizeof *more);
        slot->encoded = more;
        slot->n_encoded = n_streams;
    }
    return job.verbatim ? encode_verbatim(compress, slot, job.block, error) : encode_unit(compress, slot, job, error);
}

static kvot_status done(void *context, uint64_t number, void *memory, kvot_error *error) {
    compress_context *compress = context;
    compress_slot *slot = memory;
    cache_job job = cache_locate(compress->cache, number);
    format_stream *streams = (format_stream *)compress->cache->tables.streams;
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < (job.verbatim ? 1 : job.unit->n_planes) && status == KVOT_OK; i++) {
        uint32_t p = job.verbatim ? 0 : job.unit->first_plane + i;
        uint32_t stream = job.verbatim ? job.block : cache_stream(compress->cache, p, job.chunk);
        encoded *encoded = &slot->encoded[i];
        streams[stream] = encoded->about;
        status = writer_stream(compress->writer, encoded->bytes, encoded->about.stored_bytes, &streams[stream].offset,
                               error);
        if (!job.verbatim)
            measure_add(&compress->measures[p], &encoded->measure);
    }
    return status == KVOT_OK ? run_progress_add(compress->progress, run_job_bytes(compress->cache, job), error)
                             : status;
}

static void drop(void *memory) {
    compress_slot *slot = memory;
    run_buffers_free(&slot->buffers);
    for (uint32_t i = 0; i < slot->n_encoded; i++) {
        free(slot->encoded[i].rows);
        free(slot->encoded[i].sums);
        free(slot->encoded[i].bytes);
    }
    free(slot->encoded);
    free(slot->exact);
    free(slot->plane_exact);
}

/* Writes the cache's streams and index. */
static kvot_status write_cache(compress_context *compress, kvot_sizes *sizes, kvot_error *error) {
    const cache *cache = compress->cache;
    pool_jobs jobs = {.count = cache->n_jobs,
                      .threads = compress->progress->run->threads,
                      .slot_bytes = sizeof(compress_slot),
                      .context = compress,
                      .work = work,
                      .done = done,
                      .drop = drop};
    kvot_status status = pool_run(&jobs, error);
    if (status != KVOT_OK)
        return status;
    format_plane *planes = (format_plane *)cache->tables.planes;
    for (uint32_t p = 0; p < cache->tables.index->n_planes; p++) {
        planes[p].squared_error = compress->measures[p].squared_error;
        planes[p].squared_sum = compress->measures[p].squared_sum;
        planes[p].max_error = compress->measures[p].max_error;
    }
    uint64_t bytes = format_index_bytes(cache->tables.index, UINT64_MAX);
    status = writer_finish(compress->writer, cache->tables.index, bytes, error);
    *sizes = run_sizes(cache, compress->writer->offset);
    return status;
}

static kvot_status compress_input(const input *in, const char *output_path, const kvot_compress_options *options,
                                  const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    plan plan = {0};
    cache cache = {0};
    fixed_outliers fixed = {0};
    writer writer = {0};
    output out = {.fd = -1, .stream = -1};
    measure *measures = NULL;
    if (reader_probe(in))
        return fail(error, KVOT_E_UNKNOWN, "%s: is a .kvot file already", in->name);
    kvot_status status = engine_read(in, &plan, error);
    if (status == KVOT_OK && options->model_path)
        status = model_apply(&plan, in, options->model_path, run, error);
    if (status != KVOT_OK)
        goto end;
    set_codecs(&plan, options);
    if ((status = rows_to_cache(&plan, in, &cache, error)) != KVOT_OK)
        goto end;
    plan_free(&plan);
    bool fix = options->codec == KVOT_OTT && options->outliers >= 0;
    run_progress progress = run_progress_start(run, &cache, fix && options->outliers > 0 ? 2 : 1);
    if ((status = output_open(&out, output_path, in->mode, run, false, error)) != KVOT_OK)
        goto end;
    if (fix &&
        (status = fixed_outliers_find(&fixed, (uint32_t)options->outliers, &cache, in, &progress, error)) != KVOT_OK)
        goto end;
    measures = calloc((size_t)cache.tables.index->n_planes + 1, sizeof *measures);
    if (!measures) {
        status = fail_memory(error);
        goto end;
    }
    compress_context compress = {&cache, in, fix ? &fixed : NULL, &writer, measures, &progress};
    if ((status = writer_open(&writer, &out, error)) == KVOT_OK &&
        (status = write_cache(&compress, sizes, error)) == KVOT_OK)
        status = output_commit(&out, error);
end:
    free(measures);
    writer_close(&writer);
    output_close(&out);
    fixed_outliers_free(&fixed);
    cache_free(&cache);
    plan_free(&plan);
    return status;
}

kvot_status kvot_compress(const char *input_path, const char *output_path, const kvot_compress_options *options,
                          const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    kvot_compress_options defaults = kvot_compress_defaults();
    kvot_run plain = {0};
    kvot_sizes unused;
    options = options ? options : &defaults;
    run = run ? run : &plain;
    sizes = sizes ? sizes : &unused;
    input in;
    kvot_status status = check_options(options, error);
    if (status == KVOT_OK)
        status = input_open(&in, input_path, run, error);
    if (status != KVOT_OK)
        return status;
    status = compress_input(&in, output_path, options, run, sizes, error);
    input_close(&in);
    return status;
}
