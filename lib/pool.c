#include "pool.h"

#include <fenv.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

typedef enum slot_state { FREE, BUSY, READY } slot_state;

typedef struct pool_slot {
    slot_state state;
    kvot_status status;
    kvot_error error;
    void *memory;
} pool_slot;

/* Job n always goes to slot n % n_slots. */
typedef struct pool {
    const pool_jobs *jobs;
    pool_slot *slots;
    size_t n_slots;
    uint64_t next; /* job to start */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t slot_freed, slot_ready;
} pool;

static void *worker(void *argument) {
    pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stop && pool->next < pool->jobs->count) {
        pool_slot *slot = &pool->slots[pool->next % pool->n_slots];
        if (slot->state != FREE) {
            pthread_cond_wait(&pool->slot_freed, &pool->lock);
            continue;
        }
        uint64_t job = pool->next++;
        slot->state = BUSY;
        pthread_mutex_unlock(&pool->lock);
        slot->status = pool->jobs->work(pool->jobs->context, job, slot->memory, &slot->error);
        pthread_mutex_lock(&pool->lock);
        slot->state = READY;
        pthread_cond_signal(&pool->slot_ready);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static kvot_status collect(pool *pool, kvot_error *error) {
    kvot_status status = KVOT_OK;
    for (uint64_t job = 0; job < pool->jobs->count && status == KVOT_OK; job++) {
        pool_slot *slot = &pool->slots[job % pool->n_slots];
        pthread_mutex_lock(&pool->lock);
        while (slot->state != READY)
            pthread_cond_wait(&pool->slot_ready, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        if (slot->status != KVOT_OK) {
            if (error)
                *error = slot->error;
            return slot->status;
        }
        status = pool->jobs->done(pool->jobs->context, job, slot->memory, error);
        pthread_mutex_lock(&pool->lock);
        slot->state = FREE;
        pthread_cond_broadcast(&pool->slot_freed);
        pthread_mutex_unlock(&pool->lock);
    }
    return status;
}

unsigned pool_start(pthread_t *threads, unsigned wanted, void *(*thread)(void *), void *argument) {
    /* Signals belong to the program's own threads, not to ours. */
    sigset_t all, before;
    fenv_t arithmetic;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    fegetenv(&arithmetic);
    fesetenv(FE_DFL_ENV);
    unsigned started = 0;
    while (started < wanted && pthread_create(&threads[started], NULL, thread, argument) == 0)
        started++;
    fesetenv(&arithmetic);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

unsigned pool_processors(void) {
    cpu_set_t processors;
    return sched_getaffinity(0, sizeof processors, &processors) == 0 ? (unsigned)CPU_COUNT(&processors) : 1;
}

static unsigned thread_count(const pool_jobs *jobs) {
    unsigned threads = jobs->threads ? jobs->threads : pool_processors();
    return jobs->count < threads ? (unsigned)jobs->count : threads;
}

static kvot_status run_all(const pool_jobs *jobs, kvot_error *error) {
    unsigned wanted = thread_count(jobs), started = 0;
    pool pool = {.jobs = jobs, .n_slots = (size_t)wanted + 2};
    pthread_t *threads = calloc(wanted, sizeof *threads);
    pool.slots = calloc(pool.n_slots, sizeof *pool.slots);
    kvot_status status = threads && pool.slots ? KVOT_OK : fail_memory(error);
    for (size_t i = 0; i < pool.n_slots && status == KVOT_OK; i++) {
        pool.slots[i].memory = calloc(1, jobs->slot_bytes);
        if (!pool.slots[i].memory)
            status = fail_memory(error);
    }
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.slot_freed, NULL);
    pthread_cond_init(&pool.slot_ready, NULL);
    if (status == KVOT_OK) {
        started = pool_start(threads, wanted, worker, &pool);
        status = started > 0 ? collect(&pool, error) : fail(error, KVOT_E_MEMORY, "cannot start a thread");
    }
    pthread_mutex_lock(&pool.lock);
    pool.stop = true;
    pthread_cond_broadcast(&pool.slot_freed);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; pool.slots && i < pool.n_slots; i++) {
        if (pool.slots[i].memory && jobs->drop)
            jobs->drop(pool.slots[i].memory);
        free(pool.slots[i].memory);
    }
    pthread_cond_destroy(&pool.slot_ready);
    pthread_cond_destroy(&pool.slot_freed);
    pthread_mutex_destroy(&pool.lock);
    free(pool.slots);
    free(threads);
    return status;
}

kvot_status pool_run(const pool_jobs *jobs, kvot_error *error) {
    if (jobs->count == 0)
        return KVOT_OK;
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    kvot_status status = run_all(jobs, error);
    fesetenv(&before);
    return status;
}
