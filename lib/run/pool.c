#include "pool.h"

#include <fenv.h>
#include <stddef.h>
#include <stdlib.h>

/* A job's memory, and what came of it. */
typedef struct pool_slot {
    bool ready;
    kvot_status status;
    kvot_error error;
    struct pool_slot *next_free;
    _Alignas(max_align_t) unsigned char memory[];
} pool_slot;

enum {
    THREAD_BYTES = 256 << 10, /* worth a thread of its own */
    /* Jobs in flight. Two more than threads are enough if a job takes longer than it takes to wake a thread; there may
     * be more of smaller jobs. */
    MORE_SLOTS = 2,
    SMALL_JOB = 64 << 10,
    SLOTS_FOR_SMALL = 16,
    /* Bytes of all jobs: to hand over each would take longer than they take. While others keep all threads busy,
     * nothing is lost by having one do more. */
    SMALL_CALL = 1 << 20,
    SMALL_CALL_OF_MANY = THREADS_SMALL,
};

typedef struct pool {
    const pool_jobs *jobs;
    /* Of job n, from when it is begun until it is collected, is slots[n % n_slots]. */
    pool_slot **slots;
    size_t n_slots;
    pool_slot *free; /* the one that was used last first: its memory is still in the cache */
    uint64_t next;   /* job to start */
    uint64_t collected;
    uint64_t n_ready; /* jobs done, but not collected */
    bool small;       /* one thread does all jobs and collects them */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    threads_offer offer;
} pool;

static pool_slot *new_slot(const pool *pool) {
    return calloc(1, sizeof(pool_slot) + pool->jobs->slot_bytes);
}

/* Room for the next job, NULL if there is none before a result is collected. */
static pool_slot *take_slot(pool *pool) {
    if (pool->next - pool->collected == pool->n_slots)
        return NULL;
    pool_slot *slot = pool->free;
    if (slot)
        pool->free = slot->next_free;
    return slot ? slot : new_slot(pool); /* without memory for one more, those that there are have to do */
}

static void give_slot_back(pool *pool, pool_slot *slot) {
    slot->ready = false;
    slot->next_free = pool->free;
    pool->free = slot;
}

/* Does jobs while there is room for what comes of them. */
static bool work(void *context) {
    pool *pool = context;
    const pool_jobs *jobs = pool->jobs;
    pool_slot *slot;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stop && pool->next < jobs->count && (slot = take_slot(pool)) != NULL) {
        uint64_t job = pool->next++;
        pool->slots[job % pool->n_slots] = slot;
        pthread_mutex_unlock(&pool->lock);
        slot->status = jobs->work(jobs->context, job, slot->memory, &slot->error);
        pthread_mutex_lock(&pool->lock);
        slot->ready = true;
        if (2 * ++pool->n_ready >= pool->n_slots)
            pthread_cond_signal(&pool->ready); /* not for each, since threads take their time to wake up */
    }
    pthread_cond_signal(&pool->ready);
    bool later = !pool->stop && pool->next < jobs->count;
    pthread_mutex_unlock(&pool->lock);
    return later;
}

/* Does all jobs of a small call. */
static bool work_alone(void *context) {
    pool *pool = context;
    const pool_jobs *jobs = pool->jobs;
    pool_slot *slot = pool->free;
    for (uint64_t job = 0; job < jobs->count && slot->status == KVOT_OK; job++) {
        slot->status = jobs->work(jobs->context, job, slot->memory, &slot->error);
        if (slot->status == KVOT_OK)
            slot->status = jobs->done(jobs->context, job, slot->memory, &slot->error);
    }
    return false;
}

/* The slot of a job that is done. The lock is held. */
static pool_slot *await(pool *pool, uint64_t job) {
    pool_slot **slot = &pool->slots[job % pool->n_slots];
    while (pool->next <= job || !(*slot)->ready)
        pthread_cond_wait(&pool->ready, &pool->lock);
    return *slot;
}

static kvot_status collect(pool *pool, kvot_error *error) {
    const pool_jobs *jobs = pool->jobs;
    kvot_status status = KVOT_OK;
    for (uint64_t job = 0; job < jobs->count && status == KVOT_OK; job++) {
        pthread_mutex_lock(&pool->lock);
        pool_slot *slot = await(pool, job);
        pthread_mutex_unlock(&pool->lock);
        status = slot->status;
        if (status != KVOT_OK && error)
            *error = slot->error;
        if (status == KVOT_OK)
            status = jobs->done(jobs->context, job, slot->memory, error);
        if (status == KVOT_OK && jobs->told)
            status = jobs->told(jobs->told_context, error);
        pthread_mutex_lock(&pool->lock);
        give_slot_back(pool, slot);
        pool->collected++;
        pool->n_ready--;
        bool more = pool->next < jobs->count && 2 * pool->n_ready <= pool->n_slots;
        pool->stop = status != KVOT_OK;
        pthread_mutex_unlock(&pool->lock);
        if (more)
            threads_wake(&pool->offer);
    }
    return status;
}

/* How many threads work at once, on how many jobs. */
static kvot_status plan_slots(pool *pool, unsigned *most, uint64_t *taken, kvot_error *error) {
    const pool_jobs *jobs = pool->jobs;
    uint64_t threads = threads_of(jobs->pool, jobs->threads);
    pool->small = jobs->pool && jobs->bytes > 0 && jobs->bytes <= SMALL_CALL_OF_MANY &&
                  (jobs->bytes <= SMALL_CALL || threads_busy(jobs->pool));
    threads = jobs->count < threads ? jobs->count : threads;
    if (jobs->bytes > 0 && jobs->bytes / THREAD_BYTES < threads)
        threads = jobs->bytes / THREAD_BYTES + 1;
    pool->n_slots = threads + MORE_SLOTS;
    if (jobs->bytes > 0 && jobs->bytes / jobs->count < SMALL_JOB)
        pool->n_slots += SLOTS_FOR_SMALL;
    if (pool->small)
        threads = pool->n_slots = 1;
    uint64_t slot = sizeof(pool_slot) + jobs->slot_bytes + jobs->more_bytes;
    kvot_status status = memory_take_last(threads_share(jobs->pool), slot, pool->n_slots * slot, taken, error);
    if (status != KVOT_OK)
        return status;
    pool->n_slots = (size_t)(*taken / slot);
    *most = (unsigned)(threads < pool->n_slots ? threads : pool->n_slots);
    return KVOT_OK;
}

static kvot_status run_jobs(pool *pool, unsigned most, kvot_error *error) {
    const pool_jobs *jobs = pool->jobs;
    pool->slots = malloc(pool->n_slots * sizeof *pool->slots);
    pool->free = new_slot(pool);
    if (!pool->slots || !pool->free)
        return fail_memory(error);
    pool->offer = (threads_offer){.work = pool->small ? work_alone : work, .context = pool, .most = most};
    kvot_status status = threads_start(&pool->offer, jobs->pool, error);
    if (status == KVOT_OK && pool->small) {
        threads_finish(&pool->offer);
        status = pool->free->status;
        if (status != KVOT_OK && error)
            *error = pool->free->error;
        else if (status == KVOT_OK && jobs->told)
            status = jobs->told(jobs->told_context, error);
    } else if (status == KVOT_OK) {
        status = collect(pool, error);
        threads_end(&pool->offer);
    }
    for (; pool->collected < pool->next; pool->collected++)
        give_slot_back(pool, pool->slots[pool->collected % pool->n_slots]);
    return status;
}

kvot_status pool_run(const pool_jobs *jobs, kvot_error *error) {
    if (jobs->count == 0)
        return KVOT_OK;
    pool pool = {.jobs = jobs};
    unsigned most;
    uint64_t taken;
    kvot_status status = plan_slots(&pool, &most, &taken, error);
    if (status != KVOT_OK)
        return status;
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.ready, NULL);
    status = run_jobs(&pool, most, error);
    while (pool.free) {
        pool_slot *slot = pool.free;
        pool.free = slot->next_free;
        if (jobs->drop)
            jobs->drop(slot->memory);
        free(slot);
    }
    pthread_cond_destroy(&pool.ready);
    pthread_mutex_destroy(&pool.lock);
    free(pool.slots);
    memory_give(threads_share(jobs->pool), taken);
    fesetenv(&before);
    return status;
}
