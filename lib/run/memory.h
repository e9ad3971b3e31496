/* What calls that share a pool may take of memory together.
 *
 * A call begins with an estimate, waiting until so much is free, the oldest call first, and takes from it, or more, as
 * its needs become known. Who has to wait for more lends what it has not taken yet to those that are before it.
 */
#ifndef KVOT_MEMORY_H
#define KVOT_MEMORY_H

#include "../error.h"

#include <pthread.h>

typedef struct memory_share memory_share;

typedef struct memory {
    uint64_t limit, held; /* by all calls */
    memory_share *shares; /* the oldest first */
    pthread_mutex_t lock;
    pthread_cond_t given;
} memory;

/* A call's share. Zeroed: of no memory that has a bound. */
struct memory_share {
    memory *of;
    const char *name; /* of the file, for messages */
    uint64_t held, taken;
    uint64_t wants; /* to hold; 0: does not wait */
    bool last;      /* and nothing more after that */
    memory_share *next;
};

void memory_open(memory *memory, uint64_t limit);
void memory_close(memory *memory);

/* Begins a share with about `estimate` bytes. To be given to memory_end; `name` must stay until then. */
void memory_begin(memory_share *share, memory *of, const char *name, uint64_t estimate);
void memory_end(memory_share *share);

/* Takes at least `least`, at most `wish` bytes, how many `*got` says: waits for the least, and takes more if it is
 * free, but not so much that little would be left for what the call takes later. KVOT_E_MEMORY if the call as a whole
 * would need more than there is. */
kvot_status memory_take(memory_share *share, uint64_t least, uint64_t wish, uint64_t *got, kvot_error *error);

/* The same where the call needs nothing more: takes whatever is free, and gives back what was held and not taken,
 * because the estimate was too high. */
kvot_status memory_take_last(memory_share *share, uint64_t least, uint64_t wish, uint64_t *got, kvot_error *error);

/* Takes `bytes`, for what can be done without, if nobody waits and no more than half of all memory is held then: what
 * calls hold while they wait must leave room for one that works. */
bool memory_take_spare(memory_share *share, uint64_t bytes);

/* Gives `bytes` that were taken back. */
void memory_give(memory_share *share, uint64_t bytes);

#endif
