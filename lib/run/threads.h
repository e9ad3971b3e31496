/* Threads: of one call, or of a pool that several calls share. A call offers them work; as many as can be of use join.
 */
#ifndef KVOT_THREADS_H
#define KVOT_THREADS_H

#include "kept.h"
#include "memory.h"
#include "swept.h"

typedef struct threads_crew threads_crew;

/* A pool as a call sees it: the threads, and its share of the memory. What kvot_pool_open gives has none: each call
 * that is bound makes a copy with a share of its own (run_call). */
struct kvot_pool {
    threads_crew *crew;
    memory_share share;
};

typedef struct threads_offer {
    /* On a thread of the pool, in the default floating-point environment: works until nothing is left to be done, for
     * good (returns false), or just now (true): it is called again after threads_wake. It may sleep for a while, but
     * not for what another thread of the pool has to do first. */
    bool (*work)(void *context);
    void *context;
    unsigned most; /* threads at once */

    threads_crew *crew;
    bool own; /* the threads are this offer's alone */
    struct threads_offer *next;
    unsigned joined, most_joined; /* threads: now, and at any time */
    uint64_t wakes;
    bool idle, over; /* no thread joins: until it is woken, or for good */
    pthread_cond_t left;
} threads_offer;

/* How many processors this process may use. */
unsigned threads_processors(void);

/* How many threads work for a call that asks for `wanted` (0: as many as there are) of a pool; NULL: of its own. */
unsigned threads_of(const kvot_pool *pool, unsigned wanted);

/* The directories that calls have swept; NULL without a pool. */
swept *threads_swept(kvot_pool *pool);

/* Memory for transfers that calls have left; NULL without a pool. */
kept *threads_kept(kvot_pool *pool);

enum { THREADS_SMALL = 4 << 20 }; /* bytes of a small file, at most */

/* Memory for a file of `bytes` bytes, to be given to threads_small_free; NULL if there is no pool, if it is no small
 * file, or if too much memory is taken. */
uint8_t *threads_small(kvot_pool *pool, uint64_t bytes);
void threads_small_free(kvot_pool *pool, uint8_t *memory, uint64_t bytes);

/* Whether calls that are under way could use every thread of the pool just now. */
bool threads_busy(const kvot_pool *pool);

/* The bound of what calls take together; and the call's share of it, NULL without a pool. */
memory *threads_memory(kvot_pool *pool);
memory_share *threads_share(kvot_pool *pool);

/* Offers work to the threads of `pool`; NULL: to as many that are started for it. `work`, `context` and `most` are
 * filled in. On success to be given to threads_end. */
kvot_status threads_start(threads_offer *offer, kvot_pool *pool, kvot_error *error);

/* There is something to do again, for one thread. */
void threads_wake(threads_offer *offer);

/* Waits until the work is over, and ends it. */
void threads_finish(threads_offer *offer);

/* Withdraws the offer and waits for those that have joined. Returns how many worked at the same time. */
unsigned threads_end(threads_offer *offer);

#endif
