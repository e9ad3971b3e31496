#include "memory.h"

void memory_open(memory *memory, uint64_t limit) {
    *memory = (struct memory){.limit = limit};
    pthread_mutex_init(&memory->lock, NULL);
    pthread_cond_init(&memory->given, NULL);
}

void memory_close(memory *memory) {
    pthread_cond_destroy(&memory->given);
    pthread_mutex_destroy(&memory->lock);
}

/* Changes what a share holds. The lock is held. */
static void hold(memory_share *share, uint64_t bytes) {
    share->of->held += bytes - share->held;
    share->held = bytes;
    pthread_cond_broadcast(&share->of->given);
}

enum { PART = 4 }; /* of all memory */

/* How much all calls may hold for one of them to have more. What will wait once more, holding tables and write buffers,
 * leaves a quarter to those that then have all that they need. */
static uint64_t room(const memory *of, bool last) {
    return last ? of->limit : of->limit - of->limit / PART;
}

/* Whether a share that waits may go on: if there is no older one that waits, and so much is free. If all that hold
 * anything wait, nobody would ever give anything back, and the oldest goes on all the same. */
static bool may_go_on(const memory_share *share) {
    const memory *of = share->of;
    bool works = false;
    for (const memory_share *other = of->shares; other; other = other->next)
        works |= other->wants == 0 && other->held > 0;
    for (const memory_share *older = of->shares; older != share; older = older->next)
        if (older->wants > 0)
            return false;
    return of->held - share->held + share->wants <= room(of, share->last) || !works;
}

/* Waits until a share holds `bytes`. What it holds, but has not taken, others may have meanwhile. */
static void wait_for_more(memory_share *share, uint64_t bytes, bool last) {
    share->wants = bytes;
    share->last = last;
    hold(share, share->taken); /* wakes the others also to see that one more waits */
    while (!may_go_on(share))
        pthread_cond_wait(&share->of->given, &share->of->lock);
    share->wants = 0;
    hold(share, bytes);
}

static bool anyone_waits(const memory *memory) {
    for (const memory_share *share = memory->shares; share; share = share->next)
        if (share->wants > 0)
            return true;
    return false;
}

void memory_begin(memory_share *share, memory *of, const char *name, uint64_t estimate) {
    *share = (memory_share){.of = of, .name = name};
    pthread_mutex_lock(&of->lock);
    memory_share **last = &of->shares;
    while (*last)
        last = &(*last)->next;
    *last = share;
    wait_for_more(share, estimate < of->limit ? estimate : of->limit, false);
    pthread_mutex_unlock(&of->lock);
}

void memory_end(memory_share *share) {
    memory *of = share->of;
    if (!of)
        return;
    pthread_mutex_lock(&of->lock);
    hold(share, 0);
    memory_share **at = &of->shares;
    while (*at != share)
        at = &(*at)->next;
    *at = share->next;
    pthread_mutex_unlock(&of->lock);
}

static kvot_status take(memory_share *share, uint64_t least, uint64_t wish, bool last, uint64_t *got,
                        kvot_error *error) {
    memory *of = share ? share->of : NULL;
    *got = wish;
    if (!of)
        return KVOT_OK;
    pthread_mutex_lock(&of->lock);
    if (least > of->limit || share->taken > of->limit - least) {
        double needed = (double)share->taken + (double)least;
        pthread_mutex_unlock(&of->lock);
        return fail(error, KVOT_E_MEMORY, "%s: takes %.1f MB of memory by itself, and all calls may take %.1f MB",
                    share->name, 1e-6 * needed, 1e-6 * (double)of->limit);
    }
    if (share->taken + least > share->held)
        wait_for_more(share, share->taken + least, last);
    uint64_t most = share->held - share->taken;
    if (of->held < room(of, last) && !anyone_waits(of))
        most += room(of, last) - of->held;
    if (!last && most > of->limit / PART) /* if less will do */
        most = of->limit / PART;
    most = most > least ? most : least;
    *got = wish < most ? wish : most;
    share->taken += *got;
    if (last || share->taken > share->held)
        hold(share, share->taken);
    pthread_mutex_unlock(&of->lock);
    return KVOT_OK;
}

kvot_status memory_take(memory_share *share, uint64_t least, uint64_t wish, uint64_t *got, kvot_error *error) {
    return take(share, least, wish, false, got, error);
}

kvot_status memory_take_last(memory_share *share, uint64_t least, uint64_t wish, uint64_t *got, kvot_error *error) {
    return take(share, least, wish, true, got, error);
}

bool memory_take_spare(memory_share *share, uint64_t bytes) {
    memory *of = share->of;
    if (!of)
        return true;
    pthread_mutex_lock(&of->lock);
    uint64_t held = share->taken + bytes > share->held ? share->taken + bytes : share->held;
    bool spare = of->held - share->held + held <= of->limit / 2 && !anyone_waits(of);
    if (spare) {
        share->taken += bytes;
        hold(share, held);
    }
    pthread_mutex_unlock(&of->lock);
    return spare;
}

void memory_give(memory_share *share, uint64_t bytes) {
    if (!share || !share->of)
        return;
    pthread_mutex_lock(&share->of->lock);
    share->taken -= bytes;
    hold(share, share->held - bytes);
    pthread_mutex_unlock(&share->of->lock);
}
