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
    bool less = bytes < share->held;
    share->of->held += bytes - share->held;
    share->held = bytes;
    if (less)
        pthread_cond_broadcast(&share->of->given);
}

/* Whether a share that waits may go on: if there is no older one that waits, and so much is free. If all that hold
 * anything wait, nobody would ever give anything back, and the oldest goes on all the same: they hold tables and write
 * buffers, and the estimates see to it that this is rare. */
static bool may_go_on(const memory_share *share) {
    const memory *of = share->of;
    bool works = false;
    for (const memory_share *other = of->shares; other; other = other->next)
        works |= other->wants == 0 && other->held > 0;
    for (const memory_share *older = of->shares; older != share; older = older->next)
        if (older->wants > 0)
            return false;
    return of->held - share->held + share->wants <= of->limit || !works;
}

/* Waits until a share holds `bytes`. What it holds, but has not taken, others may have meanwhile. */
static void wait_for_more(memory_share *share, uint64_t bytes) {
    share->wants = bytes;
    hold(share, share->taken);
    while (!may_go_on(share))
        pthread_cond_wait(&share->of->given, &share->of->lock);
    share->wants = 0;
    hold(share, bytes);
    pthread_cond_broadcast(&share->of->given); /* the next in turn */
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
    wait_for_more(share, estimate < of->limit ? estimate : of->limit);
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

kvot_status memory_take(memory_share *share, uint64_t least, uint64_t wish, uint64_t *got, kvot_error *error) {
    memory *of = share ? share->of : NULL;
    *got = wish;
    if (!of)
        return KVOT_OK;
    pthread_mutex_lock(&of->lock);
    if (least > of->limit || share->taken > of->limit - least) {
        uint64_t needed = share->taken + least, limit = of->limit;
        pthread_mutex_unlock(&of->lock);
        return fail(error, KVOT_E_MEMORY, "%s: takes %.1f MB of memory by itself, and all calls may take %.1f MB",
                    share->name, (double)needed / 1e6, (double)limit / 1e6);
    }
    if (share->taken + least > share->held)
        wait_for_more(share, share->taken + least);
    uint64_t free = of->held < of->limit && !anyone_waits(of) ? of->limit - of->held : 0;
    uint64_t most = share->held - share->taken + free;
    *got = wish < most ? wish : most;
    share->taken += *got;
    if (share->taken > share->held)
        hold(share, share->taken);
    pthread_mutex_unlock(&of->lock);
    return KVOT_OK;
}

void memory_give(memory_share *share, uint64_t bytes) {
    if (!share || !share->of)
        return;
    pthread_mutex_lock(&share->of->lock);
    share->taken -= bytes;
    hold(share, share->held - bytes);
    pthread_mutex_unlock(&share->of->lock);
}

void memory_trim(memory_share *share) {
    if (!share || !share->of)
        return;
    pthread_mutex_lock(&share->of->lock);
    hold(share, share->taken);
    pthread_mutex_unlock(&share->of->lock);
}
