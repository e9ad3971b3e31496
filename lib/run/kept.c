#include "kept.h"

#include "pages.h"

#include <string.h>

void kept_open(kept *kept, uint64_t limit) {
    *kept = (struct kept){.limit = limit};
    pthread_mutex_init(&kept->lock, NULL);
}

/* Takes a region from the list. The lock is held. */
static struct kept_region take(kept *kept, unsigned i) {
    struct kept_region region = kept->regions[i];
    kept->n--;
    kept->bytes -= region.bytes;
    memmove(&kept->regions[i], &kept->regions[i + 1], (kept->n - i) * sizeof *kept->regions);
    return region;
}

void kept_close(kept *kept) {
    while (kept->n > 0) {
        struct kept_region region = take(kept, kept->n - 1);
        pages_free(region.memory, region.bytes);
    }
    pthread_mutex_destroy(&kept->lock);
}

uint8_t *kept_take(kept *kept, size_t bytes) {
    uint8_t *memory = NULL;
    if (kept) {
        pthread_mutex_lock(&kept->lock);
        for (unsigned i = kept->n; i-- > 0 && !memory;)
            if (kept->regions[i].bytes == bytes)
                memory = take(kept, i).memory;
        pthread_mutex_unlock(&kept->lock);
    }
    return memory ? memory : pages_take(bytes);
}

void kept_give(kept *kept, uint8_t *memory, size_t bytes) {
    if (!kept || !memory || bytes > kept->limit) {
        pages_free(memory, bytes);
        return;
    }
    pthread_mutex_lock(&kept->lock);
    while (kept->n == KEPT_REGIONS || kept->bytes + bytes > kept->limit) { /* the one that was not used for longest */
        struct kept_region oldest = take(kept, 0);
        pages_free(oldest.memory, oldest.bytes);
    }
    kept->regions[kept->n++] = (struct kept_region){memory, bytes};
    kept->bytes += bytes;
    pthread_mutex_unlock(&kept->lock);
}
