/* Loading: parts of planes into the caller's memory, layer by layer. */
#include "../cache/array.h"
#include "../run/run.h"
#include "inspect.h"
#include "loading_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct kvot_loading {
    const reader *reader;
    loading_part *parts;
    size_t n_parts, left; /* left: parts that are not there yet */
    loading_list list;
    run_place place;
    kvot_memory memory;
    kvot_run run;
    run_progress progress;
    kvot_ready told;
    void *user;
    fetch *fetch;
    pthread_mutex_t lock;
    pthread_cond_t news;
};

/* A chunk's share of a part. */
typedef struct share {
    const cache_chunk *chunk;
    uint64_t row;  /* of the array */
    uint32_t skip; /* rows of the chunk before it */
    uint32_t rows;
} share;

static share share_of(const kvot_part *part, const cache_chunk *chunk) {
    uint64_t start = chunk->first_row > part->first ? chunk->first_row : part->first;
    uint64_t end = part->first + part->to.tokens, chunk_end = (uint64_t)chunk->first_row + chunk->rows;
    return (share){.chunk = chunk,
                   .row = start - part->first,
                   .skip = (uint32_t)(start - chunk->first_row),
                   .rows = (uint32_t)((end < chunk_end ? end : chunk_end) - start)};
}

/* Decodes a whole chunk to where the array has it on the device. KVOT_E_MEMORY if the device has none left. */
static kvot_status decode_on_device(const kvot_loading *loading, codec_buffers *b, const loading_part *part,
                                    share share, uint32_t stream, const uint8_t *stored, kvot_error *error) {
    lane_rows rows = array_on_device(&part->part.to, share.row);
    return reader_decode_on_lane(loading->reader, &b->codec, stream, part->plane, share.rows, stored, &rows, error);
}

/* Copies rows that were decoded in host memory to an array on the device. */
static kvot_status copy_to_device(const kvot_loading *loading, codec_buffers *b, const loading_part *part, share share,
                                  const uint8_t *rows, kvot_error *error) {
    const kvot_array *to = &part->part.to;
    size_t elements = (size_t)share.rows * to->heads * to->head_dim;
    kernel_type type = codec_kernel_type(array_type(to)), from = codec_kernel_type(part->plane->type);
    kvot_status status = codec_need_lane(&b->codec, loading->place.device, loading->place.stream, error);
    if (status == KVOT_OK && type != from) {
        status = make_room(&b->other, &b->other_bytes, elements * sizeof(float), error);
        if (status == KVOT_OK)
            kernel_convert(from, rows, type, b->other, elements);
        rows = b->other;
    }
    if (status != KVOT_OK)
        return status;
    kernel_chunk about = {.type = type, .rows = share.rows, .heads = to->heads, .head_dim = to->head_dim};
    lane_plane at = {about, array_on_device(to, share.row)};
    return lane_write_rows(b->codec.lane, &at, share.rows, rows, error);
}

static kvot_status load(const kvot_loading *loading, codec_buffers *b, const loading_part *part, share share,
                        uint32_t stream, const uint8_t *stored, kvot_error *error) {
    const format_plane *plane = part->plane;
    const codec *codec = codec_of(plane->codec);
    const kvot_array *to = &part->part.to;
    bool bytes = to->type == KVOT_BYTES, same_type = bytes || array_type(to) == plane->type;
    bool whole = share.rows == share.chunk->rows;
    kvot_status status = codec_open_lane(&b->codec, loading->place.device, loading->place.stream, error);
    if (status != KVOT_OK)
        return status;
    /* The kernels see heads as the file does: an array of other heads is filled by way of the host. */
    if (loading->place.on_device && b->codec.lane && codec->decode_on_lane && whole && same_type &&
        plane->heads == to->heads &&
        (status = decode_on_device(loading, b, part, share, stream, stored, error)) != KVOT_E_MEMORY)
        return status;
    uint8_t *rows = NULL;
    if (!loading->place.on_device && whole && same_type)
        rows = array_rows_in_place(to, share.row);
    /* Bytes may lie anywhere, but kernels take elements where they are aligned. */
    if (codec->lossy && (uintptr_t)rows % format_type_of(plane->type)->block_bytes != 0)
        rows = NULL;
    bool in_place = rows != NULL;
    if (!in_place)
        status = codec_rows_room(&b->codec, 0, &b->rows, &b->rows_bytes, (size_t)share.chunk->rows * plane->row_bytes,
                                 &rows, error);
    if (status == KVOT_OK)
        status =
            reader_decode(loading->reader, &b->codec, stream, plane, share.chunk->rows, false, stored, rows, error);
    if (status != KVOT_OK || in_place)
        return status;
    rows += (size_t)share.skip * plane->row_bytes;
    if (loading->place.on_device)
        return copy_to_device(loading, b, part, share, rows, error);
    array_write(to, share.row, share.rows, bytes ? array_type(to) : plane->type, rows);
    return KVOT_OK;
}

static kvot_status work(void *context, size_t range, const uint8_t *stored, void *memory, kvot_error *error) {
    kvot_loading *loading = context;
    const cache *cache = &loading->reader->cache;
    size_t number = loading->list.chunks[range].part;
    loading_part *part = &loading->parts[number];
    share share = share_of(&part->part, &cache->chunks[loading->list.chunks[range].chunk]);
    uint32_t stream = cache_stream(cache, (uint32_t)part->part.plane, share.chunk);
    kvot_status status = load(loading, memory, part, share, stream, stored, error);
    if (status != KVOT_OK)
        return status;
    run_progress_count(&loading->progress, (uint64_t)share.rows * part->plane->row_bytes);
    if (atomic_fetch_sub(&part->left, 1) > 1)
        return KVOT_OK;
    pthread_mutex_lock(&loading->lock);
    part->ready = true;
    loading->left--;
    pthread_cond_broadcast(&loading->news);
    pthread_mutex_unlock(&loading->lock);
    if (loading->told)
        loading->told(loading->user, number);
    return KVOT_OK;
}

/* If something has failed, those who wait for a part need to know. */
static void ended(void *context) {
    kvot_loading *loading = context;
    pthread_mutex_lock(&loading->lock);
    pthread_cond_broadcast(&loading->news);
    pthread_mutex_unlock(&loading->lock);
}

static kvot_status check(const kvot_file *file, const kvot_part *part, kvot_error *error) {
    const reader *reader = &file->reader;
    const format_tables *tables = &reader->cache.tables;
    const kvot_array *to = &part->to;
    if (!file->info.compressed)
        return fail(error, KVOT_E_ARGUMENT, "%s: is not a .kvot file", reader->in.name);
    if (part->plane >= tables->index->n_planes)
        return fail(error, KVOT_E_ARGUMENT, "%s: has no plane %zu", reader->in.name, part->plane);
    kvot_status status = array_check(to, "array", error);
    if (status != KVOT_OK)
        return status;
    const format_plane *plane = &tables->planes[part->plane];
    bool bytes = to->type == KVOT_BYTES;
    if (!bytes && !codec_can_quantize(plane->type))
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu is of type %s, which is loaded as bytes only",
                    reader->in.name, part->plane, format_type_of(plane->type)->name);
    size_t elem = bytes ? 1 : format_type_of(plane->type)->block_bytes;
    uint32_t heads = bytes ? 1 : plane->heads;
    if ((uint64_t)to->heads * to->head_dim * elem != plane->row_bytes || (heads > 1 && heads != to->heads))
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu has another shape than the array", reader->in.name,
                    part->plane);
    uint64_t rows = tables->rowsets[plane->rowset].n_rows;
    if (part->first > rows || to->tokens > rows - part->first)
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu has %llu tokens", reader->in.name, part->plane,
                    (unsigned long long)rows);
    return KVOT_OK;
}

static void loading_free(kvot_loading *loading) {
    run_place_close(&loading->place);
    loading_list_free(&loading->list);
    pthread_cond_destroy(&loading->news);
    pthread_mutex_destroy(&loading->lock);
    free(loading->parts);
    free(loading);
}

static kvot_status prepare(kvot_loading *loading, const kvot_file *file, const kvot_part *parts, size_t n,
                           const kvot_memory *memory, const kvot_run *run, kvot_error *error) {
    kvot_status status = KVOT_OK;
    if (n == 0 || n > UINT32_MAX)
        return fail(error, KVOT_E_ARGUMENT, "there must be a part to load");
    loading->parts = calloc(n, sizeof *loading->parts);
    if (!loading->parts)
        return fail_memory(error);
    loading->n_parts = loading->left = n;
    loading->run = *run; /* the caller's may be gone before this is, as may be `memory` */
    loading->progress.run = &loading->run;
    for (size_t p = 0; p < n && status == KVOT_OK; p++) {
        if ((status = check(file, &parts[p], error)) != KVOT_OK)
            break;
        loading->parts[p].part = parts[p];
        loading->parts[p].plane = &file->reader.cache.tables.planes[parts[p].plane];
        loading->progress.total += (uint64_t)parts[p].to.tokens * loading->parts[p].plane->row_bytes;
    }
    if (memory)
        loading->memory = *memory;
    for (size_t p = 0; p < n && status == KVOT_OK; p++)
        if (loading->memory.device && parts[p].to.type == KVOT_BYTES)
            status = fail(error, KVOT_E_ARGUMENT, "bytes are not loaded to a device");
    if (status == KVOT_OK)
        status = run_place_open(&loading->memory, run, &loading->place, error);
    if (status != KVOT_OK)
        return status;
    return loading_list_open(&loading->list, loading->parts, n, &file->reader.cache, error);
}

kvot_status kvot_loading_start(kvot_file *file, const kvot_part *parts, size_t n, const kvot_memory *memory,
                               const kvot_run *run, kvot_ready ready, void *user, kvot_loading **result,
                               kvot_error *error) {
    run = run ? run : &run_plain;
    kvot_loading *loading = calloc(1, sizeof *loading);
    if (!loading)
        return fail_memory(error);
    loading->reader = &file->reader;
    loading->told = ready;
    loading->user = user;
    pthread_mutex_init(&loading->lock, NULL);
    pthread_cond_init(&loading->news, NULL);
    kvot_status status = prepare(loading, file, parts, n, memory, run, error);
    if (status == KVOT_OK) {
        fetch_jobs jobs = {.in = &file->reader.in,
                           .ranges = loading->list.ranges,
                           .count = loading->list.count,
                           .first = loading->list.first_layer,
                           .pool = run->pool,
                           .threads = run_threads(run, loading->place.device),
                           .slot_bytes = sizeof(codec_buffers),
                           .context = loading,
                           .work = work,
                           .told = run_told,
                           .told_context = &loading->progress,
                           .ended = ended,
                           .drop = codec_buffers_free};
        *result = loading; /* before `ready` is called, which may cancel */
        status = fetch_start(&jobs, &loading->fetch, error);
    }
    if (status != KVOT_OK)
        loading_free(loading);
    return status;
}

kvot_status kvot_loading_wait(kvot_loading *loading, size_t part, kvot_error *error) {
    if (part >= loading->n_parts)
        return fail(error, KVOT_E_ARGUMENT, "there is no part %zu", part);
    kvot_status status = KVOT_OK;
    pthread_mutex_lock(&loading->lock);
    while (!loading->parts[part].ready && (status = fetch_status(loading->fetch, error)) == KVOT_OK)
        pthread_cond_wait(&loading->news, &loading->lock);
    pthread_mutex_unlock(&loading->lock);
    return status;
}

void kvot_loading_cancel(kvot_loading *loading) {
    pthread_mutex_lock(&loading->lock);
    if (loading->left > 0)
        fetch_stop(loading->fetch);
    pthread_mutex_unlock(&loading->lock);
}

kvot_status kvot_loading_finish(kvot_loading *loading, kvot_stages *stages, kvot_error *error) {
    kvot_status status = fetch_finish(loading->fetch, stages, error);
    loading_free(loading);
    return status;
}

kvot_status kvot_load(kvot_file *file, const kvot_part *parts, size_t n, const kvot_memory *memory, const kvot_run *run,
                      kvot_error *error) {
    kvot_loading *loading;
    kvot_status status = kvot_loading_start(file, parts, n, memory, run, NULL, NULL, &loading, error);
    return status == KVOT_OK ? kvot_loading_finish(loading, NULL, error) : status;
}
