/* Appending: which streams of an older state of a cache still hold. */
#ifndef KVOT_APPEND_H
#define KVOT_APPEND_H

#include "../cache/cache.h"
#include "../codecs/unit.h"

/* The older state, seen from a newer one. */
typedef struct append_base {
    const cache *old;
    uint32_t *planes; /* of each plane of the new cache: the old one, or APPEND_NONE */
    uint32_t *chunks; /* of each chunk of the new cache: the old one with the same positions, or APPEND_NONE */
} append_base;

#define APPEND_NONE UINT32_MAX

/* Whether the old streams of a job's planes are of the rows that `encoder` was given: then nothing is to be encoded.
 * They are if the rows are those that the streams were made from, or those that they decode to. */
bool append_keeps(const append_base *base, const cache *cache, cache_job job, const unit_encoder *encoder);

/* Whether the new cache, whose streams are encoded or kept by now, is what the old one is, so that its index would say
 * nothing new. */
bool append_is_same(const append_base *base, const cache *cache);

/* The old stream of a plane's chunk that is kept. */
const format_stream *append_stream(const append_base *base, uint32_t plane, const cache *cache,
                                   const cache_chunk *chunk);

#endif
