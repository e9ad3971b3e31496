#include "run.h"

#include <ctype.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

kvot_status run_level(kvot_error *error) {
    return kernels() ? KVOT_OK
                     : fail(error, KVOT_E_DEVICE, "KVOT_CPU=%s: this processor or this build has no such level",
                            getenv("KVOT_CPU"));
}

kvot_status kvot_device_open(const char *name, kvot_device **device, kvot_error *error) {
    char *end = NULL;
    *device = NULL;
    bool cuda = strncmp(name, "cuda:", 5) == 0 && isdigit((unsigned char)name[5]);
    unsigned long ordinal = cuda ? strtoul(name + 5, &end, 10) : 0;
    if (!cuda || ordinal > INT_MAX || *end != 0)
        return fail(error, KVOT_E_ARGUMENT, "'%s' is no device: cuda:N is", name);
    kvot_error detail;
    if (device_open((unsigned)ordinal, device, &detail) != KVOT_OK)
        return fail(error, KVOT_E_DEVICE, "%s: %s", name, detail.text);
    return KVOT_OK;
}

const char *kvot_device_name(const kvot_device *device) {
    return device_name(device);
}

void kvot_device_close(kvot_device *device) {
    device_close(device);
}

kvot_status run_device(const kvot_run *run, device **device, kvot_error *error) {
    *device = NULL;
    kvot_status status = run_level(error);
    const char *name = run->device ? run->device : "auto";
    if (status != KVOT_OK || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0)
        return status;
    return kvot_device_open(name, device, error);
}

const kvot_run run_plain;

kvot_status run_place_open(const kvot_memory *memory, const kvot_run *run, run_place *place, kvot_error *error) {
    void *const per_thread = (void *)(uintptr_t)2; /* CU_STREAM_PER_THREAD */
    *place = (run_place){0};
    if (!memory || !memory->device)
        return run_device(run, &place->device, error);
    *place = (run_place){memory->device, &memory->stream, true};
    if (memory->stream == per_thread)
        return fail(error, KVOT_E_ARGUMENT, "the per-thread default stream cannot be used from other threads");
    return run_level(error);
}

void run_place_close(run_place *place) {
    if (!place->on_device)
        device_close(place->device);
}

/* What a call for a file of that size is likely to need at least: tables, a chunk's worth of one thread, and some
 * buffers. */
static uint64_t estimate(uint64_t bytes) {
    enum { TABLES = 256, SMALL = 256 << 10, CHUNK = 4, LARGE = 8 << 20 };
    return SMALL + bytes / TABLES + (bytes < LARGE / CHUNK ? CHUNK * bytes : LARGE);
}

const kvot_run *run_call_open(run_call *call, const kvot_run *run, const char *path) {
    struct stat about;
    *call = (run_call){.run = run ? *run : run_plain};
    if (!call->run.pool)
        return &call->run;
    bool known = strcmp(path, "-") != 0 && stat(path, &about) == 0;
    call->pool.crew = call->run.pool->crew;
    memory_begin(&call->pool.share, threads_memory(&call->pool), path, estimate(known ? (uint64_t)about.st_size : 0));
    call->run.pool = &call->pool;
    return &call->run;
}

void run_call_close(run_call *call) {
    memory_end(&call->pool.share);
}

unsigned run_threads(const kvot_run *run, const device *device) {
    enum { STAGES = 4 };
    return run->threads == 0 && device && threads_processors() < STAGES ? STAGES : run->threads;
}

run_progress run_progress_start(const kvot_run *run, uint64_t total) {
    return (run_progress){.run = run, .total = total};
}

void run_progress_count(run_progress *progress, uint64_t bytes) {
    atomic_fetch_add_explicit(&progress->done, bytes, memory_order_relaxed);
}

kvot_status run_progress_tell(run_progress *progress, kvot_error *error) {
    enum { REPORTS = 200 };
    uint64_t done = atomic_load_explicit(&progress->done, memory_order_relaxed);
    if (!progress->run->progress)
        return KVOT_OK;
    if (done < progress->total && done - progress->told < progress->total / REPORTS)
        return KVOT_OK;
    progress->told = done;
    if (progress->run->progress(progress->run->user, done, progress->total))
        return fail(error, KVOT_E_CANCELLED, "stopped");
    return KVOT_OK;
}

kvot_status run_told(void *progress, kvot_error *error) {
    return run_progress_tell(progress, error);
}

kvot_status run_progress_add(run_progress *progress, uint64_t bytes, kvot_error *error) {
    run_progress_count(progress, bytes);
    return run_progress_tell(progress, error);
}
