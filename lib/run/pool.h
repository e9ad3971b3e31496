/* Numbered jobs, done by threads, whose results are handed over in order. */
#ifndef KVOT_POOL_H
#define KVOT_POOL_H

#include "threads.h"

typedef struct pool_jobs {
    uint64_t count;
    kvot_pool *pool;  /* NULL: threads of the call's own */
    unsigned threads; /* at the most; 0: all of the pool, or one for each processor */
    uint64_t bytes; /* that all jobs together work on; 0: unknown. For a few, more threads are only in each other's way
                     */
    size_t slot_bytes;   /* zeroed memory of a job in flight */
    uint64_t more_bytes; /* that hang on a slot at the most */
    void *context;
    /* On a worker: does job number `job` in `slot`. */
    kvot_status (*work)(void *context, uint64_t job, void *slot, kvot_error *error);
    /* In the order of the jobs: takes what is in `slot`, which is then used again as it is. On the calling thread, or,
     * if there is a pool and `bytes` is THREADS_SMALL at most, on the one worker that then does all jobs: what comes of
     * so little must be taken without waiting for a disk, where there is memory for it. */
    kvot_status (*done)(void *context, uint64_t job, void *slot, kvot_error *error);
    /* On the calling thread, now and then, or for so little at the end alone, but not after a failure: its own stops
     * all. May be NULL. */
    kvot_status (*told)(void *told_context, kvot_error *error);
    void *told_context;
    /* On the calling thread, at the end: frees what hangs on a slot. May be NULL. */
    void (*drop)(void *slot);
} pool_jobs;

/* Runs all jobs, in the default floating-point environment. The first failure, in the order of the jobs, is the one
 * that is returned. Takes memory of the pool for as many slots as there is some for, one at least. */
kvot_status pool_run(const pool_jobs *jobs, kvot_error *error);

#endif
