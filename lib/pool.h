/* A pool of threads that works on numbered jobs and hands their results over in order. */
#ifndef KVOT_POOL_H
#define KVOT_POOL_H

#include "error.h"

#include <pthread.h>

typedef struct pool_jobs {
    uint64_t count;
    unsigned threads;  /* 0: one for each processor */
    size_t slot_bytes; /* zeroed memory of a job in flight; there are two more than threads */
    void *context;
    /* On a worker: does job number `job` in `slot`. */
    kvot_status (*work)(void *context, uint64_t job, void *slot, kvot_error *error);
    /* On the calling thread, in the order of the jobs: takes what is in `slot`. The slot is then used again as it is.
     */
    kvot_status (*done)(void *context, uint64_t job, void *slot, kvot_error *error);
    /* On the calling thread, at the end: frees what hangs on a slot. May be NULL. */
    void (*drop)(void *slot);
} pool_jobs;

/* How many processors this process may use. */
unsigned pool_processors(void);

/* Starts up to `wanted` threads, without signals and in the default floating-point environment: results must not depend
 * on how the caller has set up its arithmetic, and programs that run models often have denormals flushed to zero.
 * Returns how many were started. */
unsigned pool_start(pthread_t *threads, unsigned wanted, void *(*thread)(void *), void *argument);

/* Runs all jobs, in the default floating-point environment. The first failure, in the order of the jobs, is the one
 * that is returned. */
kvot_status pool_run(const pool_jobs *jobs, kvot_error *error);

#endif
