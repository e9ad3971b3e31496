/* Restoring rows of one plane into the caller's memory, chunk by chunk. */
#include "array.h"
#include "inspect.h"
#include "run.h"

typedef struct array_context {
    const reader *reader;
    uint32_t plane;
    uint64_t first; /* row of the plane that is row 0 of the array */
    const kvot_array *to;
    uint32_t first_chunk; /* of those that hold the rows */
    run_place place;
    run_progress *progress;
} array_context;

/* A chunk's part of what is asked for. */
typedef struct part {
    const cache_chunk *chunk;
    uint64_t row;  /* of the array */
    uint32_t skip; /* rows of the chunk before it */
    uint32_t rows;
} part;

static part part_of(const array_context *with, uint64_t job) {
    const cache_chunk *chunk = &with->reader->cache.chunks[with->first_chunk + job];
    uint64_t start = chunk->first_row > with->first ? chunk->first_row : with->first;
    uint64_t end = with->first + with->to->tokens, chunk_end = (uint64_t)chunk->first_row + chunk->rows;
    return (part){.chunk = chunk,
                  .row = start - with->first,
                  .skip = (uint32_t)(start - chunk->first_row),
                  .rows = (uint32_t)((end < chunk_end ? end : chunk_end) - start)};
}

/* Decodes a whole chunk to where the array has it on the device. KVOT_E_MEMORY if the device has none left. */
static kvot_status decode_in_place(const array_context *with, run_buffers *b, part part, kvot_error *error) {
    const cache *cache = &with->reader->cache;
    lane_rows rows = array_on_device(with->to, part.row);
    return reader_decode_on_lane(with->reader, &b->codec, cache_stream(cache, with->plane, part.chunk),
                                 &cache->tables.planes[with->plane], part.rows, &b->stream, &b->stream_bytes, &rows,
                                 error);
}

static kvot_status work(void *context, uint64_t job, void *memory, kvot_error *error) {
    const array_context *with = context;
    const cache *cache = &with->reader->cache;
    const format_plane *plane = &cache->tables.planes[with->plane];
    run_buffers *b = memory;
    part part = part_of(with, job);
    kvot_status status = codec_open_lane(&b->codec, with->place.device, with->place.stream, error);
    if (status != KVOT_OK)
        return status;
    /* The kernels see heads as the file does: an array of other heads is filled by way of the host. */
    if (with->place.on_device && b->codec.lane && plane->codec == FORMAT_OTT && part.rows == part.chunk->rows &&
        plane->heads == with->to->heads && (status = decode_in_place(with, b, part, error)) != KVOT_E_MEMORY)
        return status;
    uint8_t *rows;
    status = codec_rows_room(&b->codec, 0, &b->rows, &b->rows_bytes, (size_t)part.chunk->rows * plane->row_bytes, &rows,
                             error);
    if (status == KVOT_OK)
        status = reader_decode(with->reader, &b->codec, cache_stream(cache, with->plane, part.chunk), plane,
                               part.chunk->rows, false, &b->stream, &b->stream_bytes, rows, error);
    if (status != KVOT_OK)
        return status;
    rows += (size_t)part.skip * plane->row_bytes;
    if (!with->place.on_device) {
        array_write(with->to, part.row, part.rows, rows);
        return KVOT_OK;
    }
    status = codec_need_lane(&b->codec, with->place.device, with->place.stream, error);
    if (status != KVOT_OK)
        return status;
    kernel_chunk about = {.type = codec_kernel_type(plane->type),
                          .rows = part.rows,
                          .heads = with->to->heads,
                          .head_dim = with->to->head_dim};
    lane_plane at = {about, array_on_device(with->to, part.row)};
    return lane_write_rows(b->codec.lane, &at, part.rows, rows, error);
}

static kvot_status done(void *context, uint64_t job, void *memory, kvot_error *error) {
    (void)memory;
    array_context *with = context;
    uint64_t rows = part_of(with, job).rows;
    return run_progress_add(with->progress, rows * with->reader->cache.tables.planes[with->plane].row_bytes, error);
}

static void drop(void *memory) {
    run_buffers_free(memory);
}

static kvot_status check(const kvot_file *file, size_t number, uint64_t first, const kvot_array *to,
                         kvot_error *error) {
    const reader *reader = &file->reader;
    if (!file->info.compressed)
        return fail(error, KVOT_E_ARGUMENT, "%s: is not a .kvot file", reader->in.name);
    const format_tables *tables = &reader->cache.tables;
    if (number >= tables->index->n_planes)
        return fail(error, KVOT_E_ARGUMENT, "%s: has no plane %zu", reader->in.name, number);
    kvot_status status = array_check(to, "array", error);
    const format_plane *plane = &tables->planes[number];
    if (status != KVOT_OK)
        return status;
    if (array_type(to) != plane->type || array_row_bytes(to) != plane->row_bytes ||
        (plane->heads > 1 && plane->heads != to->heads))
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu has another type or shape than the array", reader->in.name,
                    number);
    uint64_t rows = tables->rowsets[plane->rowset].n_rows;
    if (first > rows || to->tokens > rows - first)
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu has %llu tokens", reader->in.name, number,
                    (unsigned long long)rows);
    return KVOT_OK;
}

kvot_status kvot_restore_array(kvot_file *file, size_t plane, uint64_t first, const kvot_array *to,
                               const kvot_memory *memory, const kvot_run *run, kvot_error *error) {
    run = run ? run : &run_plain;
    run_place place = {0};
    kvot_status status = check(file, plane, first, to, error);
    if (status == KVOT_OK)
        status = run_place_open(memory, run, &place, error);
    if (status != KVOT_OK) {
        run_place_close(&place);
        return status;
    }
    const cache *cache = &file->reader.cache;
    run_progress progress = {.run = run, .total = to->tokens * array_row_bytes(to)};
    array_context with = {.reader = &file->reader,
                          .plane = (uint32_t)plane,
                          .first = first,
                          .to = to,
                          .place = place,
                          .progress = &progress};
    uint32_t rowset = cache->tables.planes[plane].rowset;
    with.first_chunk = cache_find_chunk(cache, rowset, (uint32_t)first);
    uint32_t last_chunk = cache_find_chunk(cache, rowset, (uint32_t)(first + to->tokens - 1));
    pool_jobs jobs = {.count = last_chunk - with.first_chunk + 1,
                      .threads = run_threads(run, place.device),
                      .slot_bytes = sizeof(run_buffers),
                      .context = &with,
                      .work = work,
                      .done = done,
                      .drop = drop};
    status = pool_run(&jobs, error);
    run_place_close(&place);
    return status;
}
