/* What the public calls have in common: running a cache's jobs with progress. */
#ifndef KVOT_RUN_H
#define KVOT_RUN_H

#include "../device/cuda.h"
#include "pool.h"

/* KVOT_E_DEVICE if the level of kernels that KVOT_CPU asks for is not there. */
kvot_status run_level(kvot_error *error);

/* run_level, and opens the device that `run` asks for; NULL for the CPU. */
kvot_status run_device(const kvot_run *run, device **device, kvot_error *error);

/* What works on a source or on arrays: the device that the arrays are on, on the caller's stream, else the device that
 * `run` asks for, NULL for the CPU. */
typedef struct run_place {
    device *device;
    void *const *stream;
    bool on_device; /* the arrays are there */
} run_place;

/* `memory` is NULL for files. KVOT_E_ARGUMENT if work cannot be queued there. To be given to run_place_close, also on
 * failure; a device of the caller's stays open. */
kvot_status run_place_open(const kvot_memory *memory, const kvot_run *run, run_place *place, kvot_error *error);
void run_place_close(run_place *place);

/* A run for callers that gave none. */
extern const kvot_run run_plain;

/* How many threads, as pool_jobs wants it. With a device there are at least as many as stages of its pipeline: reading,
 * copying and decoding a chunk each need one. */
unsigned run_threads(const kvot_run *run, const device *device);

/* A call that shares a pool, and its share of the memory. */
typedef struct run_call {
    kvot_run run;
    kvot_pool pool;
} run_call;

/* Begins a call for the file at `path`: waits until there is some memory for it. `run` may be NULL. Returns the run
 * that everything in the call is to go by. */
const kvot_run *run_call_open(run_call *call, const kvot_run *run, const char *path);
void run_call_close(run_call *call);

/* Counts progress and asks whether to go on. */
typedef struct run_progress {
    const kvot_run *run;
    _Atomic uint64_t done;
    uint64_t total, told;
} run_progress;

/* `total`: bytes that are to be counted. */
run_progress run_progress_start(const kvot_run *run, uint64_t total);

/* Bytes that are done: any thread. */
void run_progress_count(run_progress *progress, uint64_t bytes);

/* Tells run->progress, on the caller's thread: KVOT_E_CANCELLED if it asks to stop. */
kvot_status run_progress_tell(run_progress *progress, kvot_error *error);

/* The same as fetch_jobs wants it. */
kvot_status run_told(void *progress, kvot_error *error);

/* Both, on the caller's thread. */
kvot_status run_progress_add(run_progress *progress, uint64_t bytes, kvot_error *error);

#endif
