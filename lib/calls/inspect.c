/* What is in a file: an engine's or a .kvot. */
#include "inspect.h"

#include "../codecs/measure.h"
#include "../engines/engine.h"
#include "../io/ring.h"

#include <stdlib.h>
#include <string.h>

/* Information that both kinds of file have. */
static kvot_status describe(kvot_file *file, const format_index *about, const format_plane *planes, uint32_t n_planes,
                            kvot_error *error) {
    kvot_info *info = &file->info;
    file->planes = calloc((size_t)n_planes + 1, sizeof *file->planes);
    if (!file->planes)
        return fail_memory(error);
    info->source = about->engine;
    info->variant = about->variant;
    info->architecture = about->architecture;
    info->writer = file->reader.header.writer;
    memcpy(info->model_digest, about->model_digest, sizeof info->model_digest);
    info->rope_base = about->rope_base;
    info->rope_dims = about->rope_dims;
    info->tokens = about->n_tokens;
    info->n_planes = n_planes;
    info->planes = file->planes;
    for (uint32_t p = 0; p < n_planes; p++) {
        const format_plane *from = &planes[p];
        file->planes[p] = (kvot_plane){.section = from->rowset,
                                       .layer = from->layer,
                                       .kind = (kvot_kind)from->kind,
                                       .type = format_type_of(from->type)->name,
                                       .channel_major = from->layout == FORMAT_CHANNEL_MAJOR,
                                       .row_bytes = from->row_bytes,
                                       .heads = from->heads,
                                       .codec = (kvot_codec)from->codec,
                                       .bits = from->bits,
                                       .group = from->group,
                                       .outliers = from->outlier_rule == FORMAT_OUTLIERS_FIXED ? (int)from->outliers
                                                                                               : KVOT_OUTLIERS_AUTO};
        if (codec_of(from->codec)->lossy)
            info->codec = (kvot_codec)from->codec;
        if (p == 0 || planes[p - 1].rowset != from->rowset || planes[p - 1].layer != from->layer)
            info->layers++;
    }
    return KVOT_OK;
}

static kvot_status describe_compressed(kvot_file *file, kvot_error *error) {
    const cache *cache = &file->reader.cache;
    const format_tables *tables = &cache->tables;
    kvot_info *info = &file->info;
    kvot_status status = describe(file, tables->index, tables->planes, tables->index->n_planes, error);
    if (status != KVOT_OK)
        return status;
    info->compressed = true;
    info->original_bytes = tables->index->source_bytes;
    info->stored_bytes = file->reader.in.bytes;
    info->verbatim_bytes = cache->verbatim_bytes;
    info->repeated_bytes = info->original_bytes - info->verbatim_bytes;
    info->leftover_bytes = file->reader.leftover;
    info->unused_bytes = info->stored_bytes - sizeof(format_header) - sizeof(format_footer) -
                         format_index_bytes(tables->index, UINT64_MAX);
    for (uint32_t s = 0; s < tables->index->n_streams; s++)
        info->unused_bytes -= tables->streams[s].stored_bytes;
    for (uint32_t p = 0; p < tables->index->n_planes; p++) {
        const format_plane *from = &tables->planes[p];
        kvot_plane *plane = &file->planes[p];
        plane->rows = tables->rowsets[from->rowset].n_rows;
        info->repeated_bytes -= plane->rows * plane->row_bytes;
        measure lost = {.elements = plane->rows * (from->row_bytes / format_type_of(from->type)->block_bytes)};
        for (uint32_t c = 0; c < tables->rowsets[from->rowset].n_chunks; c++) {
            const format_stream *stream = &tables->streams[cache->first_stream[p] + c];
            plane->stored_bytes += stream->stored_bytes;
            measure_add(&lost, &(measure){stream->squared_error, stream->squared_sum, stream->max_error, 0, true});
        }
        plane->rms_error = measure_rms(&lost);
        plane->relative_rms_error = measure_relative_rms(&lost);
        plane->max_abs_error = lost.max_error;
    }
    return KVOT_OK;
}

static kvot_status describe_engine_file(kvot_file *file, kvot_error *error) {
    const plan *plan = &file->plan;
    kvot_status status = describe(file, &plan->about, plan->planes, plan->n_planes, error);
    if (status != KVOT_OK)
        return status;
    file->info.original_bytes = file->info.stored_bytes = plan->bytes;
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        const format_segment *segment = &plan->segments[i];
        if (segment->plane == FORMAT_VERBATIM)
            file->info.verbatim_bytes += segment->bytes;
        else
            file->planes[segment->plane].rows += plan->views[segment->view].n_cells;
    }
    return KVOT_OK;
}

kvot_status file_open(input *in, kvot_file **result, kvot_error *error) {
    kvot_file *file = calloc(1, sizeof *file);
    if (!file) {
        input_close(in);
        return fail_memory(error);
    }
    file->reader.in.fd = -1;
    bool compressed;
    kvot_status status = reader_probe(in, &compressed, error);
    if (compressed) {
        status = reader_open(&file->reader, in, error);
        if (status == KVOT_OK)
            status = describe_compressed(file, error);
    } else {
        file->reader.in = *in;
        if (status == KVOT_OK)
            status = engine_read(&file->reader.in, &file->plan, error);
        if (status == KVOT_OK)
            status = describe_engine_file(file, error);
    }
    if (status == KVOT_OK)
        *result = file;
    else
        kvot_close(file);
    return status;
}

kvot_status kvot_open(const char *path, kvot_file **file, kvot_error *error) {
    input in;
    kvot_run run = {0};
    kvot_status status = input_open(&in, path, &run, error);
    return status == KVOT_OK ? file_open(&in, file, error) : status;
}

const kvot_info *kvot_file_info(const kvot_file *file) {
    return &file->info;
}

/* Reads bytes of the source that are stored verbatim. */
static kvot_status read_verbatim(kvot_file *file, uint64_t source_offset, void *to, uint64_t n, kvot_error *error) {
    const reader *reader = &file->reader;
    const cache *cache = &reader->cache;
    const cache_verbatim *run = NULL;
    for (uint32_t i = 0; i < cache->n_verbatim && !run; i++)
        if (source_offset >= cache->verbatim[i].source_offset &&
            source_offset - cache->verbatim[i].source_offset < cache->verbatim[i].bytes)
            run = &cache->verbatim[i];
    if (!run || n > run->bytes - (source_offset - run->source_offset))
        return fail(error, KVOT_E_DAMAGED, "%s: damaged: the tokens are not where the index says", reader->in.name);
    uint64_t at = run->verbatim_offset + (source_offset - run->source_offset);
    codec_context codec = {0};
    uint8_t *stream = NULL, *block = malloc(FORMAT_VERBATIM_STEP);
    size_t stream_bytes = 0;
    kvot_status status = block ? KVOT_OK : fail_memory(error);
    while (n > 0 && status == KVOT_OK) {
        uint32_t number = (uint32_t)(at / FORMAT_VERBATIM_STEP), skip = (uint32_t)(at % FORMAT_VERBATIM_STEP);
        uint32_t bytes = cache_verbatim_bytes(cache, number);
        status = reader_read(reader, number, &stream, &stream_bytes, error);
        if (status == KVOT_OK)
            status = reader_decode(reader, &codec, number, &codec_verbatim, bytes, false, stream, block, error);
        uint64_t part = bytes - skip < n ? bytes - skip : n;
        if (status == KVOT_OK)
            memcpy(to, block + skip, part);
        to = (uint8_t *)to + part;
        at += part;
        n -= part;
    }
    codec_context_free(&codec);
    free(stream);
    free(block);
    return status;
}

kvot_status kvot_file_tokens(kvot_file *file, uint64_t first, size_t n, int32_t *ids, kvot_error *error) {
    const format_index *about = file->info.compressed ? file->reader.cache.tables.index : &file->plan.about;
    if (first > about->n_tokens || n > about->n_tokens - first)
        return fail(error, KVOT_E_ARGUMENT, "%s: holds %u tokens", file->reader.in.name, about->n_tokens);
    if (n == 0)
        return KVOT_OK;
    uint64_t at = about->tokens_offset + first * sizeof *ids;
    if (!file->info.compressed)
        return input_read(&file->reader.in, at, ids, n * sizeof *ids, error);
    return read_verbatim(file, at, ids, n * sizeof *ids, error);
}

kvot_status kvot_file_positions(const kvot_file *file, size_t plane, uint64_t first, size_t n, int32_t *positions,
                                kvot_error *error) {
    const format_tables *tables = &file->reader.cache.tables;
    if (!file->info.compressed)
        return fail(error, KVOT_E_ARGUMENT, "%s: is not a .kvot file", file->reader.in.name);
    if (plane >= file->info.n_planes)
        return fail(error, KVOT_E_ARGUMENT, "%s: has no plane %zu", file->reader.in.name, plane);
    const format_rowset *set = &tables->rowsets[tables->planes[plane].rowset];
    if (first > set->n_rows || n > set->n_rows - first)
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu has %u rows", file->reader.in.name, plane, set->n_rows);
    const format_run *run = tables->position_runs;
    for (const format_rowset *before = tables->rowsets; before < set; before++)
        run += before->n_position_runs;
    uint64_t passed = 0; /* rows before `run` */
    for (size_t i = 0; i < n; i++) {
        while (first + i - passed >= run->count)
            passed += run++->count;
        positions[i] = (int32_t)(run->first + (first + i - passed));
    }
    return KVOT_OK;
}

bool kvot_file_direct(const kvot_file *file) {
    return file->info.compressed && ring_would_read(file->reader.in.fd);
}

void kvot_close(kvot_file *file) {
    if (!file)
        return;
    plan_free(&file->plan);
    reader_close(&file->reader);
    free(file->planes);
    free(file);
}
