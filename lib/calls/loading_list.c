#include "loading_list.h"

#include <stdlib.h>
#include <string.h>

typedef struct list_context {
    loading_list *list;
    loading_part *parts;
    uint32_t n_parts;
    const cache *cache;
    uint32_t *first, *last; /* part of each unit, or LOADING_NO_PART */
    size_t *places;         /* of chunks: list_layer */
} list_context;

/* Finds the chunks of each part, and links the parts of a layer. Returns how many chunks there are. */
static size_t find_chunks(list_context *context) {
    const cache *cache = context->cache;
    uint32_t *first = context->first, *last = context->last;
    size_t n = 0;
    memset(first, 0xff, cache->n_units * sizeof *first);
    for (uint32_t p = 0; p < context->n_parts; p++) {
        loading_part *part = &context->parts[p];
        uint32_t unit = cache_find_unit(cache, (uint32_t)part->part.plane), rowset = part->plane->rowset;
        *(first[unit] == LOADING_NO_PART ? &first[unit] : &context->parts[last[unit]].next) = p;
        last[unit] = p;
        part->next = LOADING_NO_PART;
        part->first_chunk = cache_find_chunk(cache, rowset, (uint32_t)part->part.first);
        part->end_chunk = 1 + cache_find_chunk(cache, rowset, (uint32_t)(part->part.first + part->part.to.tokens - 1));
        part->left = part->end_chunk - part->first_chunk;
        n += part->left;
    }
    return n;
}

/* Lists a part's chunks, each at the next of its places; `places` begins with chunk `low`. */
static void list_part(const list_context *context, uint32_t part, uint32_t low) {
    const cache *cache = context->cache;
    const loading_part *of = &context->parts[part];
    for (uint32_t c = of->first_chunk; c < of->end_chunk; c++) {
        size_t at = context->places[c - low]++;
        const format_stream *stream =
            &cache->tables.streams[cache_stream(cache, (uint32_t)of->part.plane, &cache->chunks[c])];
        context->list->chunks[at] = (loading_chunk){part, c};
        context->list->ranges[at] = (fetch_range){stream->offset, stream->stored_bytes};
    }
}

/* Lists the chunks of a layer, whose first part is `first`: each chunk's parts side by side. */
static void list_layer(list_context *context, uint32_t first) {
    loading_part *parts = context->parts;
    size_t *places = context->places;
    uint32_t low = UINT32_MAX, high = 0;
    for (uint32_t p = first; p != LOADING_NO_PART; p = parts[p].next) {
        low = parts[p].first_chunk < low ? parts[p].first_chunk : low;
        high = parts[p].end_chunk > high ? parts[p].end_chunk : high;
    }
    /* How many parts more than the chunk before it each chunk has; from that, where its parts begin. */
    uint32_t n_chunks = high - low;
    memset(places, 0, ((size_t)n_chunks + 1) * sizeof *places);
    for (uint32_t p = first; p != LOADING_NO_PART; p = parts[p].next) {
        places[parts[p].first_chunk - low]++;
        places[parts[p].end_chunk - low]--;
    }
    size_t n = 0; /* parts of a chunk */
    for (uint32_t c = 0; c < n_chunks; c++) {
        n += places[c];
        places[c] = context->list->count;
        context->list->count += n;
    }
    for (uint32_t p = first; p != LOADING_NO_PART; p = parts[p].next)
        list_part(context, p, low);
}

kvot_status loading_list_open(loading_list *list, loading_part *parts, size_t n, const cache *cache,
                              kvot_error *error) {
    list_context context = {.list = list,
                            .parts = parts,
                            .n_parts = (uint32_t)n,
                            .cache = cache,
                            .first = malloc(cache->n_units * sizeof *context.first),
                            .last = malloc(cache->n_units * sizeof *context.last),
                            .places = malloc(((size_t)cache->tables.index->n_chunks + 1) * sizeof *context.places)};
    *list = (loading_list){0};
    kvot_status status = context.first && context.last && context.places ? KVOT_OK : fail_memory(error);
    if (status == KVOT_OK) {
        size_t n_chunks = find_chunks(&context);
        list->chunks = malloc(n_chunks * sizeof *list->chunks);
        list->ranges = malloc(n_chunks * sizeof *list->ranges);
        status = list->chunks && list->ranges ? KVOT_OK : fail_memory(error);
    }
    for (uint32_t p = 0; p < n && status == KVOT_OK; p++)
        if (context.first[cache_find_unit(cache, (uint32_t)parts[p].part.plane)] == p) {
            list_layer(&context, p);
            if (list->first_layer == 0)
                list->first_layer = list->count;
        }
    free(context.first);
    free(context.last);
    free(context.places);
    return status;
}

void loading_list_free(loading_list *list) {
    free(list->chunks);
    free(list->ranges);
}
