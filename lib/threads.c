#include "threads.h"

#include <fenv.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

struct kvot_pool {
    pthread_mutex_t lock;
    pthread_cond_t offered;
    threads_offer *offers; /* the oldest first */
    bool closing;
    temporary_swept swept;
    unsigned n_threads;
    pthread_t threads[];
};

unsigned threads_processors(void) {
    cpu_set_t processors;
    return sched_getaffinity(0, sizeof processors, &processors) == 0 ? (unsigned)CPU_COUNT(&processors) : 1;
}

unsigned threads_of(const kvot_pool *pool, unsigned wanted) {
    if (!pool)
        return wanted ? wanted : threads_processors();
    return wanted && wanted < pool->n_threads ? wanted : pool->n_threads;
}

temporary_swept *threads_swept(kvot_pool *pool) {
    return pool ? &pool->swept : NULL;
}

/* The oldest offer that one more thread can be of use to: what was begun first is done first. */
static threads_offer *find_offer(const kvot_pool *pool) {
    for (threads_offer *offer = pool->offers; offer; offer = offer->next)
        if (!offer->over && !offer->idle && offer->joined < offer->most)
            return offer;
    return NULL;
}

/* Works on an offer. The pool's lock is held, but for meanwhile. */
static void join(kvot_pool *pool, threads_offer *offer) {
    uint64_t wakes = offer->wakes;
    offer->joined++;
    if (offer->joined > offer->most_joined)
        offer->most_joined = offer->joined;
    pthread_mutex_unlock(&pool->lock);
    bool later = offer->work(offer->context);
    pthread_mutex_lock(&pool->lock);
    offer->joined--;
    offer->over |= !later;
    offer->idle |= offer->wakes == wakes; /* else there may be something again already */
    if (offer->joined == 0 && offer->over)
        pthread_cond_signal(&offer->left);
}

static void *thread(void *argument) {
    kvot_pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (!pool->closing) {
        threads_offer *offer = find_offer(pool);
        if (offer)
            join(pool, offer);
        else
            pthread_cond_wait(&pool->offered, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Starts the threads, without signals, which belong to the program's own, and in the default floating-point
 * environment: results must not depend on how the caller has set up its arithmetic, and programs that run models often
 * have denormals flushed to zero. */
static void start_threads(kvot_pool *pool, unsigned wanted) {
    sigset_t all, before;
    fenv_t arithmetic;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    fegetenv(&arithmetic);
    fesetenv(FE_DFL_ENV);
    while (pool->n_threads < wanted && pthread_create(&pool->threads[pool->n_threads], NULL, thread, pool) == 0)
        pool->n_threads++;
    fesetenv(&arithmetic);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

kvot_status kvot_pool_open(unsigned threads, uint64_t memory, kvot_pool **result, kvot_error *error) {
    unsigned wanted = threads_of(NULL, threads);
    kvot_pool *pool = calloc(1, sizeof *pool + wanted * sizeof *pool->threads);
    (void)memory;
    if (!pool)
        return fail_memory(error);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->offered, NULL);
    temporary_swept_open(&pool->swept);
    start_threads(pool, wanted);
    if (pool->n_threads == 0) {
        kvot_pool_close(pool);
        return fail(error, KVOT_E_MEMORY, "cannot start a thread");
    }
    *result = pool;
    return KVOT_OK;
}

void kvot_pool_close(kvot_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->offered);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    temporary_swept_close(&pool->swept);
    pthread_cond_destroy(&pool->offered);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

kvot_status threads_start(threads_offer *offer, kvot_pool *pool, kvot_error *error) {
    offer->own = !pool;
    kvot_status status = pool ? KVOT_OK : kvot_pool_open(offer->most, 0, &pool, error);
    if (status != KVOT_OK)
        return status;
    offer->pool = pool;
    pthread_cond_init(&offer->left, NULL);
    pthread_mutex_lock(&pool->lock);
    threads_offer **last = &pool->offers;
    while (*last)
        last = &(*last)->next;
    *last = offer;
    pthread_cond_broadcast(&pool->offered);
    pthread_mutex_unlock(&pool->lock);
    return KVOT_OK;
}

void threads_wake(threads_offer *offer) {
    pthread_mutex_lock(&offer->pool->lock);
    offer->wakes++;
    offer->idle = false;
    pthread_cond_signal(&offer->pool->offered);
    pthread_mutex_unlock(&offer->pool->lock);
}

unsigned threads_end(threads_offer *offer) {
    kvot_pool *pool = offer->pool;
    pthread_mutex_lock(&pool->lock);
    offer->over = true;
    threads_offer **at = &pool->offers;
    while (*at != offer)
        at = &(*at)->next;
    *at = offer->next;
    while (offer->joined > 0)
        pthread_cond_wait(&offer->left, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_destroy(&offer->left);
    if (offer->own)
        kvot_pool_close(pool);
    return offer->most_joined;
}
