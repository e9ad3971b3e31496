/* An older state of a cache, and which of its streams still hold. */
#ifndef KVOT_BASE_H
#define KVOT_BASE_H

#include "../codecs/unit.h"
#include "cache.h"

/* The older state, seen from a newer one. */
typedef struct base {
    const cache *old;
    uint32_t *planes; /* of each plane of the new cache: the old one, or BASE_NONE */
    uint32_t *chunks; /* of each chunk of the new cache: the old one with the same positions, or BASE_NONE */
} base;

#define BASE_NONE UINT32_MAX

/* Fills in base->chunks, which is to be freed. Each old chunk is taken once at the most. `rowsets`: the old row set of
 * each new one. */
kvot_status base_match_chunks(base *base, const cache *cache, const uint32_t *rowsets, kvot_error *error);

/* Whether the old streams of a job's planes are of the rows that `encoder` was given: then nothing is to be encoded.
 * They are if the rows are those that the streams were made from, or those that they decode to. */
bool base_keeps(const base *base, const cache *cache, cache_job job, const unit_encoder *encoder);

/* Whether the new cache, whose streams are encoded or kept by now, is what the old one is, so that its index would say
 * nothing new. */
bool base_is_same(const base *base, const cache *cache);

/* The old stream of a plane's chunk that is kept. */
const format_stream *base_stream(const base *base, uint32_t plane, const cache *cache, const cache_chunk *chunk);

#endif
