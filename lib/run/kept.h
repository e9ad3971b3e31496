/* Memory for transfers that a pool keeps from one call to the next: pages that the system has to find first can take
 * longer than to read into them. */
#ifndef KVOT_KEPT_H
#define KVOT_KEPT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { KEPT_REGIONS = 64 };

typedef struct kept {
    struct kept_region {
        uint8_t *memory;
        size_t bytes;
    } regions[KEPT_REGIONS]; /* the one that was used last comes last */
    unsigned n;
    uint64_t bytes, limit;
    pthread_mutex_t lock;
} kept;

/* Keeps `limit` bytes at the most. */
void kept_open(kept *kept, uint64_t limit);
void kept_close(kept *kept);

/* As pages_take and pages_free, which they are if `kept` is NULL; but what was kept is not zeroed. Any
 * thread. */
uint8_t *kept_take(kept *kept, size_t bytes);
void kept_give(kept *kept, uint8_t *memory, size_t bytes);

#endif
