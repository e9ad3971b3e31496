/* Where the rows of a cache that is to be compressed come from: an engine's file, or arrays in memory. */
#ifndef KVOT_SOURCE_H
#define KVOT_SOURCE_H

#include "../run/run.h"
#include "array.h"
#include "cache.h"

typedef struct source {
    const input *in;          /* the file; of arrays, the token ids, which are all that their source has verbatim */
    const kvot_array *arrays; /* one for each plane; NULL: the rows are in the file */
    run_place place;          /* what works on it */
} source;

/* Where the context's lane, which is opened if need be, finds the rows of a chunk of a plane: of arrays on a device. */
kvot_status source_on_device(const source *source, codec_context *context, uint32_t plane, const cache_chunk *chunk,
                             lane_rows *at, kvot_error *error);

/* Reads the rows of a chunk of a plane to host memory; by the context's lane, as above, if they are on a device. */
kvot_status source_rows(const source *source, const cache *cache, codec_context *context, uint32_t plane,
                        const cache_chunk *chunk, void *rows, kvot_error *error);

#endif
