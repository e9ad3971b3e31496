#include "outliers.h"

#include "../codecs/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint32_t outliers_key_plane(const cache *cache, const cache_unit *unit) {
    uint32_t key = unit_key_plane(&cache->tables.planes[unit->first_plane], unit->n_planes);
    return key == UINT32_MAX ? UINT32_MAX : unit->first_plane + key;
}

typedef struct find_context {
    fixed_outliers *fixed;
    const cache *cache;
    const source *source;
    run_progress *progress;
} find_context;

static cache_job job_of(const find_context *find, uint64_t job) {
    return cache_locate(find->cache, find->cache->tables.index->n_verbatim + job);
}

/* Where the rows are: on the device, without copying them, or on the CPU. */
static kvot_status measure_magnitudes(const find_context *find, codec_buffers *buffers, const cache_chunk *rows,
                                      uint32_t p, kvot_error *error) {
    const format_plane *plane = &find->cache->tables.planes[p];
    kernel_chunk chunk = codec_chunk(plane, rows->rows);
    float *magnitudes = (float *)buffers->other;
    if (find->source->place.on_device) {
        lane_plane at = {.chunk = chunk};
        kvot_status status = source_on_device(find->source, &buffers->codec, p, rows, &at.rows, error);
        if (status == KVOT_OK)
            status = lane_magnitudes(buffers->codec.lane, &at, rows->rows, magnitudes, error);
        if (status != KVOT_E_MEMORY)
            return status;
    }
    kvot_status status = make_room(&buffers->rows, &buffers->rows_bytes, (size_t)rows->rows * plane->row_bytes, error);
    if (status == KVOT_OK)
        status = source_rows(find->source, find->cache, &buffers->codec, p, rows, buffers->rows, error);
    if (status == KVOT_OK)
        kernels()->magnitudes(&chunk, buffers->rows, magnitudes, NULL);
    return status;
}

static kvot_status work(void *context, uint64_t number, void *memory, kvot_error *error) {
    const find_context *find = context;
    codec_buffers *buffers = memory; /* `other` holds the magnitudes */
    cache_job job = job_of(find, number);
    uint32_t p = outliers_key_plane(find->cache, job.unit);
    if (p == UINT32_MAX)
        return KVOT_OK;
    const format_plane *plane = &find->cache->tables.planes[p];
    kvot_status status = make_room(&buffers->other, &buffers->other_bytes,
                                   (size_t)job.chunk->rows * plane->heads * sizeof(float), error);
    return status == KVOT_OK ? measure_magnitudes(find, buffers, job.chunk, p, error) : status;
}

/* Keeps the smallest; of equal ones, the first row. */
static void keep(kept_row *kept, uint32_t number, kept_row row) {
    if (number == 0 || isinf(row.magnitude) ||
        (kept[number - 1].row != UINT32_MAX && kept[number - 1].magnitude <= row.magnitude))
        return;
    uint32_t i = number - 1;
    for (; i > 0 && (kept[i - 1].row == UINT32_MAX || kept[i - 1].magnitude > row.magnitude); i--)
        kept[i] = kept[i - 1];
    kept[i] = row;
}

static kvot_status done(void *context, uint64_t number, void *memory, kvot_error *error) {
    const find_context *find = context;
    const float *magnitudes = (const float *)((codec_buffers *)memory)->other;
    cache_job job = job_of(find, number);
    uint32_t p = outliers_key_plane(find->cache, job.unit);
    if (p != UINT32_MAX) {
        uint32_t heads = find->cache->tables.planes[p].heads;
        kept_row *kept = find->fixed->kept + find->fixed->first[job.unit - find->cache->units];
        for (uint32_t r = 0; r < job.chunk->rows; r++)
            for (uint32_t h = 0; h < heads; h++)
                keep(kept + (size_t)h * find->fixed->number, find->fixed->number,
                     (kept_row){magnitudes[(size_t)r * heads + h], job.chunk->first_row + r});
    }
    return run_progress_add(find->progress, cache_job_bytes(find->cache, job), error);
}

kvot_status fixed_outliers_find(fixed_outliers *fixed, uint32_t number, const cache *cache, const source *source,
                                run_progress *progress, kvot_error *error) {
    *fixed = (fixed_outliers){.number = number, .first = calloc((size_t)cache->n_units + 1, sizeof *fixed->first)};
    size_t n = 0;
    for (uint32_t u = 0; fixed->first && u < cache->n_units; u++) {
        uint32_t p = outliers_key_plane(cache, &cache->units[u]);
        fixed->first[u] = n;
        n += p == UINT32_MAX ? 0 : (size_t)cache->tables.planes[p].heads * number;
    }
    fixed->kept = malloc((n + 1) * sizeof *fixed->kept);
    if (!fixed->first || !fixed->kept)
        return fail_memory(error);
    for (size_t i = 0; i < n; i++)
        fixed->kept[i] = (kept_row){INFINITY, UINT32_MAX};
    if (number == 0)
        return KVOT_OK;
    uint64_t most = 0; /* a chunk's rows and magnitudes */
    for (uint32_t p = 0; p < cache->tables.index->n_planes; p++) {
        const format_plane *plane = &cache->tables.planes[p];
        uint64_t need = FORMAT_CHUNK_ROWS * (plane->row_bytes + sizeof(float) * (uint64_t)plane->heads);
        most = need > most ? need : most;
    }
    most = most < FORMAT_CHUNK_BYTES * 2ull ? most : FORMAT_CHUNK_BYTES * 2ull;
    find_context context = {fixed, cache, source, progress};
    pool_jobs jobs = {.count = cache->n_jobs - cache->tables.index->n_verbatim,
                      .pool = progress->run->pool,
                      .threads = run_threads(progress->run, source->place.device),
                      .slot_bytes = sizeof(codec_buffers),
                      .more_bytes = most,
                      .context = &context,
                      .work = work,
                      .done = done,
                      .drop = codec_buffers_free};
    return pool_run(&jobs, error);
}

void fixed_outliers_free(fixed_outliers *fixed) {
    free(fixed->kept);
    free(fixed->first);
    *fixed = (fixed_outliers){0};
}

void fixed_outliers_of(const fixed_outliers *fixed, const cache *cache, cache_job job, uint8_t *exact) {
    uint32_t heads = cache->tables.planes[outliers_key_plane(cache, job.unit)].heads;
    const cache_chunk *chunk = job.chunk;
    memset(exact, 0, (size_t)chunk->rows * heads);
    const kept_row *kept = fixed->kept + fixed->first[job.unit - cache->units];
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < fixed->number; i++, kept++)
            if (kept->row - chunk->first_row < chunk->rows)
                exact[(size_t)(kept->row - chunk->first_row) * heads + h] = 1;
    }
}
