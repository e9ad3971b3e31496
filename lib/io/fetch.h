/* Reads ranges of a file ahead of the threads that work on them.
 *
 * Ranges are put together to reads of about an extent (format.h). Some of them are always under way, with O_DIRECT on
 * io_uring, in the order in which their ranges are wanted; each that has arrived is taken by the next free thread,
 * whichever it is, and between two ranges threads see to it that the next reads are sent off. What the page cache holds
 * already is copied from there, and where the kernel refuses io_uring or O_DIRECT, threads read for themselves.
 */
#ifndef KVOT_FETCH_H
#define KVOT_FETCH_H

#include "io.h"
#include "reads.h"

typedef struct fetch_jobs {
    const input *in;
    const fetch_range *ranges; /* in the order in which they are wanted */
    size_t count;
    size_t first;        /* so many are wanted before all others: if they take several reads, no other read is begun
                            before these have arrived */
    kvot_pool *pool;     /* NULL: threads of its own */
    unsigned threads;    /* at the most; 0: all of the pool, or one for each processor */
    size_t slot_bytes;   /* zeroed memory of each thread that works */
    uint64_t more_bytes; /* that hang on a slot at the most; 0 for calls that no pool bounds */
    void *context;
    /* On a worker: works on range number `range`, whose bytes are at `bytes` until it returns, aligned as `offset` is
     * up to 4096. Ranges are begun about in their order. */
    kvot_status (*work)(void *context, size_t range, const uint8_t *bytes, void *slot, kvot_error *error);
    /* On the thread that waits in fetch_finish, now and then, and at the end, but not after a failure: its own stops
     * all. May be NULL. */
    kvot_status (*told)(void *told_context, kvot_error *error);
    void *told_context;
    /* On each worker, when nothing is left for it, also after a failure. May be NULL. */
    void (*ended)(void *context);
    /* At the end: frees what hangs on a slot. May be NULL. */
    void (*drop)(void *slot);
} fetch_jobs;

typedef struct fetch fetch;

/* Offers the work to threads, and takes memory of the pool for them: for as many as there is some for, one at least.
 * `jobs` is copied; what it points to must stay. On success `*fetch`, which is set before any of them works, is to be
 * given to fetch_finish. */
kvot_status fetch_start(const fetch_jobs *jobs, fetch **fetch, kvot_error *error);

/* What has failed so far. Any thread. */
kvot_status fetch_status(fetch *fetch, kvot_error *error);

/* Asks to stop; fetch_finish then returns KVOT_E_CANCELLED. Any thread. */
void fetch_stop(fetch *fetch);

/* Waits for all ranges and frees `fetch`. Of several failures, that of the first range is returned. `stages` may be
 * NULL. */
kvot_status fetch_finish(fetch *fetch, kvot_stages *stages, kvot_error *error);

/* Both. */
kvot_status fetch_run(const fetch_jobs *jobs, kvot_stages *stages, kvot_error *error);

#endif
