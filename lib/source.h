/* Where the rows of a cache that is to be compressed come from: an engine's file, or arrays in memory. */
#ifndef KVOT_SOURCE_H
#define KVOT_SOURCE_H

#include "array.h"
#include "cache.h"

typedef struct source {
    const input *in;          /* the file */
    const kvot_array *arrays; /* or these, one for each plane */
    bool on_device;           /* the arrays are on `device` */
    device *device;           /* that works, or NULL */
    void *const *stream;      /* of the caller, or NULL */
} source;

/* Reads the rows of a chunk of a plane; `at` says where a lane finds them: there, or on the device still. Opens the
 * context's lane if they are on a device. */
kvot_status source_rows(const source *source, const cache *cache, codec_context *context, uint32_t plane,
                        const cache_chunk *chunk, void *rows, lane_rows *at, kvot_error *error);

#endif
