/* Measuring: a restore into memory, beside reading the original. */
#include "../calls/restore.h"
#include "../run/threads.h"
#include "decoded.h"
#include "median.h"
#include "raw.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5 };

typedef struct bench {
    input original, zstd;
    kvot_file *file;
    decoded decoded; /* the same, read */
    kvot_pool *pool; /* as a program has that loads one prefix after another; NULL if the caller has one */
    kvot_run run;
    kvot_progress progress; /* the caller's; `run` has step_progress instead */
    void *user;
    uint64_t rounds; /* that are done, cold and warm */
} bench;

/* One bar for all of it, in bytes of the engine's file. */
static bool tell_rounds(const bench *bench) {
    uint64_t bytes = bench->original.bytes;
    return bench->progress && bench->progress(bench->user, bench->rounds * bytes, 2 * ROUNDS * bytes);
}

/* Progress of a step: of that only the answer counts. */
static bool step_progress(void *user, uint64_t bytes_done, uint64_t bytes_in_all) {
    (void)bytes_done;
    (void)bytes_in_all;
    return tell_rounds(user);
}

static const input *stored(const bench *bench) {
    return &bench->file->reader.in;
}

static void describe(const bench *bench, kvot_bench_result *result) {
    const kvot_info *info = kvot_file_info(bench->file);
    for (size_t p = 0; p < info->n_planes; p++) {
        const kvot_plane *plane = &info->planes[p];
        result->decoded_bytes += plane->rows * plane->row_bytes;
        result->tokens = plane->rows > result->tokens ? plane->rows : result->tokens;
    }
}

/* When the first layer's planes were there. */
typedef struct first_layer {
    size_t parts, left; /* its planes are the first parts */
    double start, seconds;
} first_layer;

static void ready(void *user, size_t part) {
    first_layer *first = user;
    if (part < first->parts && __atomic_sub_fetch(&first->left, 1, __ATOMIC_RELAXED) == 0)
        first->seconds = clock_now() - first->start;
}

typedef struct restored {
    double seconds, first_layer;
    kvot_stages stages;
} restored;

static kvot_status restore(const bench *bench, kvot_file *file, restored *restored, kvot_error *error) {
    const kvot_info *info = kvot_file_info(file);
    kvot_loading *loading;
    size_t parts = file->reader.cache.units[0].n_planes;
    first_layer first = {.parts = parts, .left = parts, .start = clock_now()};
    kvot_status status = kvot_loading_start(file, bench->decoded.parts, info->n_planes, NULL, &bench->run, ready,
                                            &first, &loading, error);
    if (status == KVOT_OK)
        status = kvot_loading_finish(loading, &restored->stages, error);
    restored->seconds = clock_now() - first.start;
    restored->first_layer = first.seconds;
    return status;
}

/* Opens the file once more, by its descriptor: it may be standard input, or another one may have the name by now. */
static kvot_status open_again(const bench *bench, kvot_file **file, kvot_error *error) {
    const input *in = stored(bench);
    input again = {.fd = fcntl(in->fd, F_DUPFD_CLOEXEC, 0), .bytes = in->bytes, .name = strdup(in->name)};
    if (again.fd >= 0 && again.name)
        return file_open(&again, file, error);
    kvot_status status = again.fd < 0 ? fail_errno(error, in->name, "open") : fail_memory(error);
    input_close(&again);
    return status;
}

/* The first chunk of every layer, from an open on. */
static kvot_status measure_start(bench *bench, kvot_bench_result *result, kvot_error *error) {
    kvot_file *file;
    raw_drop(stored(bench));
    double start = clock_now();
    kvot_status status = open_again(bench, &file, error);
    if (status != KVOT_OK)
        return status;
    const cache *cache = &file->reader.cache;
    size_t n = kvot_file_info(file)->n_planes;
    kvot_part *parts = malloc((n + 1) * sizeof *parts);
    if (!parts)
        status = fail_memory(error);
    for (size_t p = 0; p < n && status == KVOT_OK; p++) {
        parts[p] = bench->decoded.parts[p];
        parts[p].to.tokens = cache->chunks[cache->first_chunk[cache->tables.planes[p].rowset]].rows;
        result->start_tokens = parts[p].to.tokens > result->start_tokens ? parts[p].to.tokens : result->start_tokens;
    }
    if (status == KVOT_OK)
        status = kvot_load(file, parts, n, NULL, &bench->run, error);
    result->start = clock_now() - start;
    free(parts);
    kvot_close(file);
    return status;
}

static double median(const kvot_bench_pass *rounds, size_t field) {
    double values[ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        memcpy(&values[r], (const char *)&rounds[r] + field, sizeof values[r]);
    return bench_median(values, ROUNDS);
}

static kvot_status prepare(const input *in, bool cold, kvot_error *error) {
    if (!cold)
        return raw_warm(in, error);
    raw_drop(in);
    return KVOT_OK;
}

/* Reads with O_DIRECT; 0 seconds where that is refused. */
static kvot_status direct(const bench *bench, const input *in, bool cold, double *seconds, kvot_error *error) {
    kvot_status status = prepare(in, cold, error);
    if (status == KVOT_OK)
        status = raw_direct(in, threads_kept(bench->run.pool), seconds, error);
    if (status != KVOT_E_UNSUPPORTED)
        return status;
    *seconds = 0;
    return KVOT_OK;
}

/* What takes long and is no limit: once for all rounds. */
static kvot_status measure_original(const bench *bench, bool cold, kvot_bench_pass *pass, kvot_error *error) {
    kvot_status status = prepare(&bench->original, cold, error);
    if (status == KVOT_OK)
        status = raw_buffered(&bench->original, &pass->buffered, error);
    if (status == KVOT_OK)
        status = prepare(&bench->zstd, cold, error);
    return status == KVOT_OK ? raw_decompress(&bench->zstd, &pass->zstd, error) : status;
}

static kvot_status measure_round(const bench *bench, bool cold, kvot_bench_pass *pass, kvot_error *error) {
    const input *original = &bench->original;
    restored from_file, from_memory;
    double before = 0, after = 0;
    kvot_status status = direct(bench, original, cold, &pass->direct, error);
    /* Disks change their speed from moment to moment: this one is measured just before and after what it limits. */
    if (status == KVOT_OK && cold)
        status = direct(bench, stored(bench), cold, &before, error);
    if (status == KVOT_OK)
        status = prepare(stored(bench), cold, error);
    if (status == KVOT_OK)
        status = restore(bench, bench->file, &from_file, error);
    if (status == KVOT_OK && cold)
        status = direct(bench, stored(bench), cold, &after, error);
    if (status == KVOT_OK)
        status = restore(bench, bench->decoded.file, &from_memory, error);
    if (status != KVOT_OK)
        return status;
    pass->restore = from_file.seconds;
    pass->first_layer = from_file.first_layer;
    pass->stages = from_file.stages;
    pass->disk_limit =
        after > 0 ? (before + after) / 2 : pass->buffered * (double)stored(bench)->bytes / (double)original->bytes;
    pass->decode_limit = from_memory.seconds;
    pass->limit = pass->disk_limit > pass->decode_limit ? pass->disk_limit : pass->decode_limit;
    pass->share = pass->restore / pass->limit;
    return KVOT_OK;
}

static kvot_status measure_pass(bench *bench, bool cold, kvot_bench_pass *pass, kvot_error *error) {
    kvot_bench_pass once = {0}, rounds[ROUNDS] = {0};
    kvot_status status = measure_original(bench, cold, &once, error);
    for (int r = 0; r < ROUNDS && status == KVOT_OK; r++) {
        rounds[r] = once;
        status = measure_round(bench, cold, &rounds[r], error);
        bench->rounds++;
        if (status == KVOT_OK && tell_rounds(bench))
            status = fail(error, KVOT_E_CANCELLED, "stopped");
    }
    for (size_t field = 0; field < offsetof(kvot_bench_pass, stages); field += sizeof(double)) {
        double value = median(rounds, field);
        memcpy((char *)pass + field, &value, sizeof value);
    }
    pass->limit = pass->disk_limit > pass->decode_limit ? pass->disk_limit : pass->decode_limit;
    for (int r = 0; r < ROUNDS; r++)
        if (rounds[r].restore == pass->restore)
            pass->stages = rounds[r].stages;
    return status;
}

static void bench_free(bench *bench) {
    decoded_close(&bench->decoded);
    kvot_close(bench->file);
    input_close(&bench->original);
    input_close(&bench->zstd);
    kvot_pool_close(bench->pool);
}

kvot_status kvot_bench(const char *path, const char *original_path, const kvot_run *run, kvot_bench_result *result,
                       kvot_error *error) {
    bench bench = {.original.fd = -1, .zstd.fd = -1, .run = run ? *run : run_plain};
    bench.progress = bench.run.progress;
    bench.user = bench.run.user;
    bench.run.progress = bench.progress ? step_progress : NULL;
    bench.run.user = &bench;
    kvot_run alone = bench.run;
    alone.pool = NULL; /* with one, small files would be in memory */
    *result = (kvot_bench_result){0};
    char *copy = strdup(path);
    kvot_status status = copy ? KVOT_OK : fail_memory(error);
    const char *directory = copy ? dirname(copy) : NULL;
    if (status == KVOT_OK && !bench.run.pool) {
        status = kvot_pool_open(bench.run.threads, 0, &bench.pool, error);
        bench.run.pool = bench.pool;
    }
    if (status == KVOT_OK)
        status = kvot_open(path, &bench.file, error);
    if (status == KVOT_OK && !bench.file->info.compressed)
        status = fail(error, KVOT_E_UNKNOWN, "%s: not a .kvot file", path);
    if (status == KVOT_OK && bench.file->info.n_planes == 0)
        status = fail(error, KVOT_E_ARGUMENT, "%s: has no cells to restore", path);
    if (status == KVOT_OK)
        status = original_path ? restore_open(&bench.original, original_path, directory, &alone, error)
                               : restore_unnamed(&bench.file->reader, &bench.original, directory, &alone, error);
    if (status == KVOT_OK && bench.original.bytes != bench.file->info.original_bytes)
        status =
            fail(error, KVOT_E_DIFFERENT, "%s is not the original of %s: it has another length", original_path, path);
    if (status == KVOT_OK)
        status = raw_compress(&bench.original, directory, &alone, &bench.zstd, error);
    if (status == KVOT_OK)
        status = decoded_open(&bench.decoded, stored(&bench), error);
    if (status == KVOT_OK)
        status = measure_start(&bench, result, error);
    if (status == KVOT_OK)
        status = measure_pass(&bench, true, &result->cold, error);
    if (status == KVOT_OK)
        status = measure_pass(&bench, false, &result->warm, error);
    if (status == KVOT_OK) {
        describe(&bench, result);
        result->original_bytes = bench.original.bytes;
        result->stored_bytes = stored(&bench)->bytes;
        result->zstd_bytes = bench.zstd.bytes;
        result->layers = kvot_file_info(bench.file)->layers;
    }
    bench_free(&bench);
    free(copy);
    return status;
}
