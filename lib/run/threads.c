#include "threads.h"

#include <fenv.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

enum {
    /* What a pool takes that calls do not count: a thread's stack and what the allocator keeps for it, and the like for
     * the program itself. */
    BYTES_OF_THREAD = 256 << 10,
    BYTES_OF_POOL = 4 << 20,
    /* Kept from call to call for transfers: so much, or this share of the memory. */
    KEPT_BYTES = 64 << 20,
    KEPT_SHARE = 8,
    /* A file of at most so many bytes may be held in memory whole, in one of two rooms (SMALL_ROOM, THREADS_SMALL), so
       that few sizes are kept. */
    SMALL_ROOM = 1 << 20,
};

struct threads_crew {
    pthread_mutex_t lock;
    pthread_cond_t offered;
    threads_offer *offers; /* the oldest first */
    bool closing;
    swept swept;
    memory memory;
    kept kept;
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
    return wanted && wanted < pool->crew->n_threads ? wanted : pool->crew->n_threads;
}

swept *threads_swept(kvot_pool *pool) {
    return pool ? &pool->crew->swept : NULL;
}

kept *threads_kept(kvot_pool *pool) {
    return pool ? &pool->crew->kept : NULL;
}

static size_t room_of(uint64_t bytes) {
    return bytes <= SMALL_ROOM ? SMALL_ROOM : THREADS_SMALL;
}

uint8_t *threads_small(kvot_pool *pool, uint64_t bytes) {
    size_t room = room_of(bytes);
    if (!pool || bytes > room || !memory_take_spare(&pool->share, room))
        return NULL;
    uint8_t *memory = kept_take(&pool->crew->kept, room);
    if (!memory)
        memory_give(&pool->share, room);
    return memory;
}

void threads_small_free(kvot_pool *pool, uint8_t *memory, uint64_t bytes) {
    if (!memory)
        return;
    kept_give(&pool->crew->kept, memory, room_of(bytes));
    memory_give(&pool->share, room_of(bytes));
}

bool threads_busy(const kvot_pool *pool) {
    threads_crew *crew = pool->crew;
    uint64_t wanted = 0;
    pthread_mutex_lock(&crew->lock);
    for (const threads_offer *offer = crew->offers; offer; offer = offer->next)
        wanted += offer->over || offer->idle ? 0 : offer->most;
    pthread_mutex_unlock(&crew->lock);
    return wanted >= crew->n_threads;
}

memory *threads_memory(kvot_pool *pool) {
    return &pool->crew->memory;
}

memory_share *threads_share(kvot_pool *pool) {
    return pool ? &pool->share : NULL;
}

/* The oldest offer that one more thread can be of use to: what was begun first is done first. */
static threads_offer *find_offer(const threads_crew *crew) {
    for (threads_offer *offer = crew->offers; offer; offer = offer->next)
        if (!offer->over && !offer->idle && offer->joined < offer->most)
            return offer;
    return NULL;
}

/* Works on an offer. The crew's lock is held, but for meanwhile. */
static void join(threads_crew *crew, threads_offer *offer) {
    uint64_t wakes = offer->wakes;
    offer->joined++;
    if (offer->joined > offer->most_joined)
        offer->most_joined = offer->joined;
    pthread_mutex_unlock(&crew->lock);
    bool later = offer->work(offer->context);
    pthread_mutex_lock(&crew->lock);
    offer->joined--;
    offer->over |= !later;
    offer->idle |= offer->wakes == wakes; /* else there may be something again already */
    if (offer->joined == 0 && offer->over)
        pthread_cond_signal(&offer->left);
}

static void *thread(void *argument) {
    threads_crew *crew = argument;
    pthread_mutex_lock(&crew->lock);
    while (!crew->closing) {
        threads_offer *offer = find_offer(crew);
        if (offer)
            join(crew, offer);
        else
            pthread_cond_wait(&crew->offered, &crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* Starts the threads, without signals, which belong to the program's own, and in the default floating-point
 * environment: results must not depend on how the caller has set up its arithmetic, and programs that run models often
 * have denormals flushed to zero. */
static void start_threads(threads_crew *crew, unsigned wanted) {
    sigset_t all, before;
    fenv_t arithmetic;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    fegetenv(&arithmetic);
    fesetenv(FE_DFL_ENV);
    while (crew->n_threads < wanted && pthread_create(&crew->threads[crew->n_threads], NULL, thread, crew) == 0)
        crew->n_threads++;
    fesetenv(&arithmetic);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void close_crew(threads_crew *crew) {
    pthread_mutex_lock(&crew->lock);
    crew->closing = true;
    pthread_cond_broadcast(&crew->offered);
    pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->n_threads; i++)
        pthread_join(crew->threads[i], NULL);
    kept_close(&crew->kept);
    memory_close(&crew->memory);
    swept_close(&crew->swept);
    pthread_cond_destroy(&crew->offered);
    pthread_mutex_destroy(&crew->lock);
    free(crew);
}

static kvot_status open_crew(unsigned wanted, uint64_t memory, uint64_t kept, threads_crew **result,
                             kvot_error *error) {
    threads_crew *crew = calloc(1, sizeof *crew + wanted * sizeof *crew->threads);
    if (!crew)
        return fail_memory(error);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->offered, NULL);
    swept_open(&crew->swept);
    memory_open(&crew->memory, memory);
    kept_open(&crew->kept, kept);
    start_threads(crew, wanted);
    if (crew->n_threads == 0) {
        close_crew(crew);
        return fail(error, KVOT_E_MEMORY, "cannot start a thread");
    }
    *result = crew;
    return KVOT_OK;
}

kvot_status kvot_pool_open(unsigned threads, uint64_t memory, kvot_pool **result, kvot_error *error) {
    unsigned wanted = threads_of(NULL, threads);
    uint64_t own = (uint64_t)wanted * BYTES_OF_THREAD + BYTES_OF_POOL;
    if (memory > 0 && memory < 2 * own)
        return fail(error, KVOT_E_ARGUMENT, "%u threads need %.1f MB of memory at least", wanted, 2e-6 * (double)own);
    kvot_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return fail_memory(error);
    uint64_t kept = memory > 0 && memory / KEPT_SHARE < KEPT_BYTES ? memory / KEPT_SHARE : KEPT_BYTES;
    kvot_status status = open_crew(wanted, memory > 0 ? memory - own - kept : UINT64_MAX, kept, &pool->crew, error);
    if (status == KVOT_OK)
        *result = pool;
    else
        free(pool);
    return status;
}

void kvot_pool_close(kvot_pool *pool) {
    if (pool)
        close_crew(pool->crew);
    free(pool);
}

kvot_status threads_start(threads_offer *offer, kvot_pool *pool, kvot_error *error) {
    offer->own = !pool;
    kvot_status status = KVOT_OK;
    if (pool)
        offer->crew = pool->crew;
    else
        status = open_crew(offer->most, UINT64_MAX, 0, &offer->crew, error);
    if (status != KVOT_OK)
        return status;
    threads_crew *crew = offer->crew;
    pthread_cond_init(&offer->left, NULL);
    pthread_mutex_lock(&crew->lock);
    threads_offer **last = &crew->offers;
    while (*last)
        last = &(*last)->next;
    *last = offer;
    if (offer->most == 1)
        pthread_cond_signal(&crew->offered);
    else
        pthread_cond_broadcast(&crew->offered);
    pthread_mutex_unlock(&crew->lock);
    return KVOT_OK;
}

void threads_wake(threads_offer *offer) {
    pthread_mutex_lock(&offer->crew->lock);
    offer->wakes++;
    offer->idle = false;
    pthread_cond_signal(&offer->crew->offered);
    pthread_mutex_unlock(&offer->crew->lock);
}

void threads_finish(threads_offer *offer) {
    pthread_mutex_lock(&offer->crew->lock);
    while (!offer->over)
        pthread_cond_wait(&offer->left, &offer->crew->lock);
    pthread_mutex_unlock(&offer->crew->lock);
    threads_end(offer);
}

unsigned threads_end(threads_offer *offer) {
    threads_crew *crew = offer->crew;
    pthread_mutex_lock(&crew->lock);
    offer->over = true;
    threads_offer **at = &crew->offers;
    while (*at != offer)
        at = &(*at)->next;
    *at = offer->next;
    while (offer->joined > 0)
        pthread_cond_wait(&offer->left, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
    pthread_cond_destroy(&offer->left);
    if (offer->own)
        close_crew(crew);
    return offer->most_joined;
}
