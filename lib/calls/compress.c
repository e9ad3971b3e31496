/* Compressing: an engine's plan, chunks gathered, a codec, streams laid down. */
#include "compress.h"

#include "../cache/outliers.h"
#include "../cache/rows.h"
#include "../engines/engine.h"
#include "../engines/model.h"
#include "../file/reader.h"

const kvot_compress_options compress_defaults = {
    .codec = KVOT_OTT, .bits = 4, .group = 64, .outliers = KVOT_OUTLIERS_AUTO};

kvot_compress_options kvot_compress_defaults(void) {
    return compress_defaults;
}

kvot_status compress_check_options(const kvot_compress_options *options, kvot_error *error) {
    const codec *codec = codec_of(options->codec);
    if (!codec)
        return fail(error, KVOT_E_ARGUMENT, "there is no such codec");
    return codec->check ? codec->check(options, error) : KVOT_OK;
}

void compress_set_codecs(plan *plan, const kvot_compress_options *options) {
    const codec *codec = codec_of(options->codec);
    for (uint32_t p = 0; codec->set && p < plan->n_planes; p++)
        codec->set(options, &plan->planes[p]);
}

static kvot_status encode_verbatim(const compress_context *compress, unit_encoder *encoder, uint32_t block,
                                   kvot_error *error) {
    uint32_t n = cache_verbatim_bytes(compress->cache, block);
    kvot_status status = unit_streams(encoder, 1, error);
    if (status == KVOT_OK)
        status = unit_rows(encoder, 0, n, error);
    if (status == KVOT_OK)
        status = cache_gather_verbatim(compress->cache, block, compress->source->in, encoder->streams[0].rows, error);
    return status == KVOT_OK ? unit_encode_lossless(encoder, &codec_verbatim, n, error) : status;
}

/* Finds the rows of plane `i` of a unit. */
static kvot_status find_rows(const compress_context *compress, unit_encoder *encoder, cache_job job, uint32_t i,
                             kvot_error *error) {
    const source *source = compress->source;
    uint32_t p = job.unit->first_plane + i, n = job.chunk->rows;
    if (source->arrays)
        return compress_take_array(&source->place, encoder, i, &source->arrays[p], job.chunk->first_row, n, error);
    kvot_status status = unit_rows(encoder, i, (size_t)n * compress->cache->tables.planes[p].row_bytes, error);
    return status == KVOT_OK ? cache_gather(compress->cache, p, job.chunk, source->in, encoder->streams[i].rows, error)
                             : status;
}

static kvot_status encode_unit(const compress_context *compress, unit_encoder *encoder, cache_job job,
                               kvot_error *error) {
    const format_plane *planes = compress->cache->tables.planes + job.unit->first_plane;
    uint32_t n = job.chunk->rows, key = unit_key_plane(planes, job.unit->n_planes);
    kvot_status status = unit_streams(encoder, job.unit->n_planes, error);
    for (uint32_t i = 0; i < job.unit->n_planes && status == KVOT_OK; i++)
        status = find_rows(compress, encoder, job, i, error);
    if (status == KVOT_OK && compress->base && base_keeps(compress->base, compress->cache, job, encoder)) {
        encoder->kept = true;
        return KVOT_OK;
    }
    bool fixed = compress->fixed && key != UINT32_MAX;
    if (status == KVOT_OK && fixed && (status = unit_exact(encoder, (size_t)n * planes[key].heads, error)) == KVOT_OK)
        fixed_outliers_of(compress->fixed, compress->cache, job, encoder->exact);
    if (status != KVOT_OK)
        return status;
    return unit_encode(encoder, planes, job.unit->n_planes, n, job.chunk->first_position == 0, fixed, error);
}

static kvot_status work(void *context, uint64_t number, void *memory, kvot_error *error) {
    const compress_context *compress = context;
    unit_encoder *encoder = memory;
    cache_job job = cache_locate(compress->cache, number);
    encoder->kept = false;
    kvot_status status =
        codec_open_lane(&encoder->codec, compress->source->place.device, compress->source->place.stream, error);
    if (status != KVOT_OK)
        return status;
    return job.verbatim ? encode_verbatim(compress, encoder, job.block, error)
                        : encode_unit(compress, encoder, job, error);
}

static kvot_status done(void *context, uint64_t number, void *memory, kvot_error *error) {
    compress_context *compress = context;
    unit_encoder *encoder = memory;
    cache_job job = cache_locate(compress->cache, number);
    format_stream *streams = (format_stream *)compress->cache->tables.streams;
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < (job.verbatim ? 1 : job.unit->n_planes) && status == KVOT_OK; i++) {
        uint32_t p = job.verbatim ? 0 : job.unit->first_plane + i;
        uint32_t stream = job.verbatim ? job.block : cache_stream(compress->cache, p, job.chunk);
        unit_stream *encoded = &encoder->streams[i];
        *(encoder->kept ? &compress->kept_chunks : &compress->new_chunks) += !job.verbatim;
        if (encoder->kept) {
            streams[stream] = *base_stream(compress->base, p, compress->cache, job.chunk);
            continue;
        }
        streams[stream] = encoded->about;
        status = writer_stream(compress->writer, encoded->bytes, encoded->about.stored_bytes, &streams[stream].offset,
                               error);
    }
    run_progress_count(compress->progress, cache_job_bytes(compress->cache, job));
    return status;
}

static void drop(void *memory) {
    unit_encoder_free(memory);
}

/* What an encoder takes at the most for any job. */
static uint64_t encoder_bytes(const cache *cache) {
    const format_tables *t = &cache->tables;
    uint64_t most = unit_bytes(&codec_verbatim, 1, t->index->n_verbatim > 0 ? cache_verbatim_bytes(cache, 0) : 0);
    for (uint32_t u = 0; u < cache->n_units; u++) {
        const cache_unit *unit = &cache->units[u];
        uint32_t rows = 0;
        for (uint32_t c = cache->first_chunk[unit->rowset]; c < cache->first_chunk[unit->rowset + 1]; c++)
            rows = cache->chunks[c].rows > rows ? cache->chunks[c].rows : rows;
        uint64_t need = unit_bytes(&t->planes[unit->first_plane], unit->n_planes, rows);
        most = need > most ? need : most;
    }
    return most;
}

kvot_status compress_write(compress_context *compress, uint64_t n_jobs, kvot_error *error) {
    const cache *cache = compress->cache;
    pool_jobs jobs = {.count = n_jobs,
                      .bytes = compress->progress->total,
                      .pool = compress->progress->run->pool,
                      .threads = run_threads(compress->progress->run, compress->source->place.device),
                      .slot_bytes = sizeof(unit_encoder),
                      .more_bytes = encoder_bytes(cache),
                      .context = compress,
                      .work = work,
                      .done = done,
                      .told = run_told,
                      .told_context = compress->progress,
                      .drop = drop};
    kvot_status status = pool_run(&jobs, error);
    if (status != KVOT_OK)
        return status;
    compress->nothing_new = compress->base && base_is_same(compress->base, cache);
    if (compress->nothing_new)
        return KVOT_OK;
    uint64_t bytes = format_index_bytes(cache->tables.index, UINT64_MAX);
    return writer_finish(compress->writer, cache->tables.index, bytes, error);
}

kvot_status compress_cache(compress_context *compress, kvot_error *error) {
    const kvot_compress_options *options = compress->options;
    fixed_outliers fixed = {0};
    bool fix = codec_fixes_outliers(options);
    uint64_t bytes = cache_bytes(compress->cache), planes = bytes - compress->cache->verbatim_bytes;
    run_progress progress = run_progress_start(compress->run, bytes + (fix && options->outliers > 0 ? planes : 0));
    compress->fixed = fix ? &fixed : NULL;
    compress->progress = &progress;
    kvot_status status = fix ? fixed_outliers_find(&fixed, (uint32_t)options->outliers, compress->cache,
                                                   compress->source, &progress, error)
                             : KVOT_OK;
    if (status == KVOT_OK)
        status = compress_write(compress, compress->cache->n_jobs, error);
    fixed_outliers_free(&fixed);
    return status;
}

kvot_status compress_rows(plan *plan, const input *in, const kvot_run *run, cache *cache, kvot_error *error) {
    enum { CELL_BYTES = 100 }; /* what rows_to_cache takes for a cell, the plan's own included */
    memory_share *share = threads_share(run->pool);
    uint64_t buffer = 2 * (uint64_t)rows_of_chunk(plan->planes, plan->n_planes), largest = 0, taken, kept;
    for (uint32_t p = 0; p < plan->n_planes; p++)
        largest = plan->planes[p].row_bytes > largest ? plan->planes[p].row_bytes : largest;
    uint64_t needed = plan->n_cells * CELL_BYTES + buffer * largest;
    kvot_status status = memory_take(share, needed, needed, &taken, error);
    if (status != KVOT_OK)
        return status;
    status = rows_to_cache(plan, in, cache, error);
    memory_give(share, taken);
    if (status == KVOT_OK) { /* the tables, and what cache_link_rows works out */
        uint64_t tables = 3 * format_index_bytes(cache->tables.index, UINT64_MAX);
        status = memory_take(share, tables, tables, &kept, error);
        if (status != KVOT_OK)
            cache_free(cache);
    }
    return status;
}

kvot_status compress_to(plan *plan, const source *source, output *out, const kvot_compress_options *options,
                        const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    cache cache;
    writer writer = {0};
    compress_set_codecs(plan, options);
    kvot_status status = compress_rows(plan, source->in, run, &cache, error);
    plan_free(plan);
    if (status != KVOT_OK)
        return status;
    compress_context compress = {.cache = &cache, .source = source, .options = options, .writer = &writer, .run = run};
    if ((status = writer_open(&writer, out, cache_bytes(&cache), false, error)) == KVOT_OK &&
        (status = compress_cache(&compress, error)) == KVOT_OK)
        *sizes = cache_sizes(&cache, writer.offset);
    writer_close(&writer);
    cache_free(&cache);
    return status;
}

kvot_status compress_plan(plan *plan, const source *source, unsigned mode, const char *output_path,
                          const kvot_compress_options *options, const kvot_run *run, kvot_sizes *sizes,
                          kvot_error *error) {
    output out;
    kvot_sizes made;
    kvot_status status = output_open(&out, output_path, mode, run, false, error);
    if (status != KVOT_OK)
        return status;
    status = compress_to(plan, source, &out, options, run, &made, error);
    if (status == KVOT_OK)
        status = output_commit(&out, error);
    if (sizes && status == KVOT_OK)
        *sizes = made;
    output_close(&out);
    return status;
}

kvot_status compress_read_plan(const input *in, const char *model_path, const kvot_run *run, plan *plan,
                               kvot_error *error) {
    bool compressed;
    kvot_status status = reader_probe(in, &compressed, error);
    if (compressed)
        return fail(error, KVOT_E_UNKNOWN, "%s: is a .kvot file already", in->name);
    if (status == KVOT_OK)
        status = engine_read(in, plan, error);
    return status == KVOT_OK && model_path ? model_apply(plan, in, model_path, run, error) : status;
}

static kvot_status compress_input(const source *source, const char *output_path, const kvot_compress_options *options,
                                  const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    const input *in = source->in;
    plan plan = {0};
    kvot_status status = compress_read_plan(in, options->model_path, run, &plan, error);
    if (status == KVOT_OK)
        status = compress_plan(&plan, source, in->mode, output_path, options, run, sizes, error);
    plan_free(&plan);
    return status;
}

kvot_status kvot_compress(const char *input_path, const char *output_path, const kvot_compress_options *options,
                          const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    options = options ? options : &compress_defaults;
    run_call call;
    run = run_call_open(&call, run, input_path);
    input in;
    source source = {.in = &in};
    kvot_status status = compress_check_options(options, error);
    if (status == KVOT_OK)
        status = run_place_open(NULL, run, &source.place, error);
    if (status == KVOT_OK && (status = input_open(&in, input_path, run, error)) == KVOT_OK) {
        status = compress_input(&source, output_path, options, run, sizes, error);
        input_close(&in);
    }
    run_place_close(&source.place);
    run_call_close(&call);
    return status;
}
