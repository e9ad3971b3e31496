/* Comparing two engines' files, or two of arrays, tensor by tensor. A .kvot file is restored first. */
#include "../codecs/measure.h"
#include "../engines/engine.h"
#include "restore.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 1 << 20 };

/* What is compared: an engine's file, or arrays one after the other. */
typedef struct diff_side {
    input in;
    plan plan;
    uint32_t position; /* of the first token of arrays */
} diff_side;

typedef struct diff_context {
    const input *first, *second;
    const plan *plan;
    uint64_t *first_job; /* of each segment, and one more */
    uint64_t *offset;    /* of each segment */
    measure *measures;   /* of each plane, and one for all */
    run_progress progress;
} diff_context;

typedef struct diff_slot {
    codec_buffers buffers;
    measure measure;
} diff_slot;

static uint32_t segment_of(const diff_context *diff, uint64_t job) {
    uint32_t low = 0, high = diff->plan->n_segments - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (diff->first_job[middle] <= job)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static size_t block_bytes(const diff_context *diff, uint64_t job, uint32_t segment, uint64_t *at) {
    *at = (job - diff->first_job[segment]) * BLOCK_BYTES;
    uint64_t left = diff->plan->segments[segment].bytes - *at;
    return left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
}

static kvot_status work(void *context, uint64_t job, void *memory, kvot_error *error) {
    const diff_context *diff = context;
    diff_slot *slot = memory;
    codec_buffers *b = &slot->buffers;
    uint32_t s = segment_of(diff, job);
    uint64_t at;
    size_t n = block_bytes(diff, job, s, &at);
    kvot_status status = make_room(&b->rows, &b->rows_bytes, BLOCK_BYTES, error);
    if (status == KVOT_OK)
        status = make_room(&b->other, &b->other_bytes, BLOCK_BYTES, error);
    if (status == KVOT_OK)
        status = input_read(diff->first, diff->offset[s] + at, b->rows, n, error);
    if (status == KVOT_OK)
        status = input_read(diff->second, diff->offset[s] + at, b->other, n, error);
    if (status != KVOT_OK)
        return status;
    uint32_t plane = diff->plan->segments[s].plane;
    slot->measure = measure_rows(plane == FORMAT_VERBATIM ? FORMAT_OPAQUE : diff->plan->planes[plane].type, b->rows,
                                 b->other, 1, n);
    return KVOT_OK;
}

static kvot_status done(void *context, uint64_t job, void *memory, kvot_error *error) {
    diff_context *diff = context;
    const diff_slot *slot = memory;
    uint32_t s = segment_of(diff, job);
    uint64_t at;
    if (diff->plan->segments[s].plane != FORMAT_VERBATIM)
        measure_add(&diff->measures[diff->plan->segments[s].plane], &slot->measure);
    measure_add(&diff->measures[diff->plan->n_planes], &slot->measure);
    return run_progress_add(&diff->progress, block_bytes(diff, job, s, &at), error);
}

static void drop(void *memory) {
    codec_buffers_free(&((diff_slot *)memory)->buffers);
}

/* What arrays restore to does not say what it is; the index does. */
static kvot_status plan_of_index(diff_side *file, const format_tables *tables, kvot_error *error) {
    const format_index *index = tables->index;
    plan *plan = &file->plan;
    *plan = (struct plan){.about = *index,
                          .planes = malloc((index->n_planes + (size_t)1) * sizeof *plan->planes),
                          .segments = malloc((index->n_segments + (size_t)1) * sizeof *plan->segments),
                          .n_planes = index->n_planes,
                          .n_segments = index->n_segments,
                          .bytes = index->source_bytes};
    if (!plan->planes || !plan->segments)
        return fail_memory(error);
    memcpy(plan->planes, tables->planes, index->n_planes * sizeof *plan->planes);
    memcpy(plan->segments, tables->segments, index->n_segments * sizeof *plan->segments);
    file->position = index->n_position_runs > 0 ? tables->position_runs[0].first : 0;
    return KVOT_OK;
}

static kvot_status open_compressed(diff_side *file, input *in, const kvot_run *run, kvot_error *error) {
    reader reader;
    kvot_status status = reader_open(&reader, in, error);
    if (status != KVOT_OK)
        return status;
    const format_tables *tables = &reader.cache.tables;
    status = restore_unnamed(&reader, &file->in, NULL, run, error);
    if (status == KVOT_OK)
        status = engine_has_files(tables->index->engine) ? engine_read(&file->in, &file->plan, error)
                                                         : plan_of_index(file, tables, error);
    reader_close(&reader);
    return status;
}

/* To be given to close_side, also on failure. */
static kvot_status open_side(diff_side *file, const char *path, const kvot_run *run, kvot_error *error) {
    input in;
    bool compressed;
    kvot_status status = input_open(&in, path, run, error);
    if (status != KVOT_OK)
        return status;
    status = reader_probe(&in, &compressed, error);
    if (compressed)
        return open_compressed(file, &in, run, error);
    file->in = in;
    return status == KVOT_OK ? engine_read(&file->in, &file->plan, error) : status;
}

static void close_side(diff_side *file) {
    plan_free(&file->plan);
    input_close(&file->in);
}

static bool same_structure(const diff_side *first, const diff_side *second) {
    const plan *a = &first->plan, *b = &second->plan;
    if (strcmp(a->about.engine, b->about.engine) != 0 || first->position != second->position ||
        a->n_segments != b->n_segments || a->n_planes != b->n_planes)
        return false;
    for (uint32_t i = 0; i < a->n_segments; i++)
        if (a->segments[i].plane != b->segments[i].plane || a->segments[i].bytes != b->segments[i].bytes)
            return false;
    for (uint32_t p = 0; p < a->n_planes; p++)
        if (a->planes[p].type != b->planes[p].type || a->planes[p].kind != b->planes[p].kind ||
            a->planes[p].layout != b->planes[p].layout || a->planes[p].row_bytes != b->planes[p].row_bytes)
            return false;
    return true;
}

static kvot_difference difference_of(const measure *measure) {
    return (kvot_difference){measure->identical, measure->max_error, measure_rms(measure),
                             measure_relative_rms(measure)};
}

static kvot_status to_result(const diff_context *diff, kvot_diff_result **result, kvot_error *error) {
    uint32_t n = diff->plan->n_planes;
    kvot_diff_result *made = calloc(1, sizeof *made);
    kvot_diff_plane *planes = calloc((size_t)n + 1, sizeof *planes);
    if (!made || !planes) {
        free(made);
        free(planes);
        return fail_memory(error);
    }
    made->all = difference_of(&diff->measures[n]);
    made->n_planes = n;
    made->planes = planes;
    for (uint32_t p = 0; p < n; p++) {
        const format_plane *plane = &diff->plan->planes[p];
        planes[p] =
            (kvot_diff_plane){plane->rowset, plane->layer, (kvot_kind)plane->kind, difference_of(&diff->measures[p])};
    }
    *result = made;
    return KVOT_OK;
}

static kvot_status diff_plans(diff_context *diff, const kvot_run *run, kvot_diff_result **result, kvot_error *error) {
    const plan *plan = diff->plan;
    diff->first_job = calloc((size_t)plan->n_segments + 1, sizeof *diff->first_job);
    diff->offset = calloc((size_t)plan->n_segments + 1, sizeof *diff->offset);
    diff->measures = calloc((size_t)plan->n_planes + 1, sizeof *diff->measures);
    if (!diff->first_job || !diff->offset || !diff->measures)
        return fail_memory(error);
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        uint64_t bytes = plan->segments[i].bytes;
        diff->first_job[i + 1] = diff->first_job[i] + (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
        diff->offset[i + 1] = diff->offset[i] + bytes;
    }
    for (uint32_t p = 0; p <= plan->n_planes; p++)
        diff->measures[p] = measure_none();
    diff->progress = (run_progress){.run = run, .total = plan->bytes};
    pool_jobs jobs = {.count = diff->first_job[plan->n_segments],
                      .pool = run->pool,
                      .threads = run->threads,
                      .slot_bytes = sizeof(diff_slot),
                      .more_bytes = 2 * BLOCK_BYTES,
                      .context = diff,
                      .work = work,
                      .done = done,
                      .drop = drop};
    kvot_status status = pool_run(&jobs, error);
    return status == KVOT_OK ? to_result(diff, result, error) : status;
}

kvot_status kvot_diff(const char *first_path, const char *second_path, const kvot_run *run, kvot_diff_result **result,
                      kvot_error *error) {
    run = run ? run : &run_plain;
    diff_side first = {.in.fd = -1}, second = {.in.fd = -1};
    kvot_status status = run_level(error);
    if (status == KVOT_OK)
        status = open_side(&first, first_path, run, error);
    if (status == KVOT_OK)
        status = open_side(&second, second_path, run, error);
    if (status == KVOT_OK && !same_structure(&first, &second))
        status = fail(error, KVOT_E_DIFFERENT, "%s and %s do not have the same layers, cells and types", first.in.name,
                      second.in.name);
    if (status == KVOT_OK) {
        diff_context diff = {.first = &first.in, .second = &second.in, .plan = &first.plan};
        status = diff_plans(&diff, run, result, error);
        free(diff.first_job);
        free(diff.offset);
        free(diff.measures);
    }
    close_side(&first);
    close_side(&second);
    return status;
}

void kvot_diff_free(kvot_diff_result *result) {
    if (result)
        free(result->planes);
    free(result);
}
