/* In which order a loading reads. */
#ifndef KVOT_LOADING_LIST_H
#define KVOT_LOADING_LIST_H

#include "../cache/cache.h"
#include "../io/fetch.h"

#include <stdatomic.h>

typedef struct loading_part {
    kvot_part part;
    const format_plane *plane;
    /* Filled in by loading_list_open */
    uint32_t first_chunk, end_chunk; /* that hold its rows */
    uint32_t next;                   /* part of the same layer, or LOADING_NO_PART */
    _Atomic uint32_t left;           /* chunks that are not there yet */
    bool ready;
} loading_part;

#define LOADING_NO_PART UINT32_MAX

/* A chunk of a part. */
typedef struct loading_chunk {
    uint32_t part, chunk;
} loading_chunk;

/* Chunks in the order in which they are read, and where they are in the file. Small, as nothing is read before it is
 * there: most of the time that it takes is the kernel's, for its pages. */
typedef struct loading_list {
    loading_chunk *chunks;
    fetch_range *ranges;
    size_t count, first_layer; /* chunks: all, and those of the layer that is read first */
} loading_list;

/* Lists the chunks of `n` parts: layer by layer, as their first parts come, and in a layer as the file has them, K and
 * V of a chunk side by side. To be given to loading_list_free, also on failure. */
kvot_status loading_list_open(loading_list *list, loading_part *parts, size_t n, const cache *cache, kvot_error *error);
void loading_list_free(loading_list *list);

#endif
