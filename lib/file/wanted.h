/* Which streams of a .kvot file are wanted, in the order in which they are wanted. */
#ifndef KVOT_WANTED_H
#define KVOT_WANTED_H

#include "../io/fetch.h"
#include "reader.h"

/* A verbatim block, or a chunk of a plane. */
typedef struct wanted_stream {
    uint32_t stream;
    uint32_t plane;           /* FORMAT_VERBATIM: `stream` is a block */
    const cache_chunk *chunk; /* of the plane */
} wanted_stream;

typedef struct wanted {
    wanted_stream *streams;
    fetch_range *ranges; /* where they are in the file */
    uint64_t count;
} wanted;

/* None yet, with room for `n`. To be given to wanted_free, also on failure. */
kvot_status wanted_open(wanted *wanted, uint64_t n, kvot_error *error);
void wanted_free(wanted *wanted);

/* Adds one; there must be room. */
void wanted_chunk(wanted *wanted, const cache *cache, uint32_t plane, const cache_chunk *chunk);

/* All of a cache, in the order of its jobs. To be given to wanted_free, also on failure. */
kvot_status wanted_all(wanted *wanted, const cache *cache, kvot_error *error);

/* Rows that the stream decodes to, their plane, and bytes of the source that it stands for. */
uint32_t wanted_rows(const cache *cache, const wanted_stream *of);
const format_plane *wanted_plane(const cache *cache, const wanted_stream *of);
size_t wanted_bytes(const cache *cache, const wanted_stream *of);

/* What codec_buffers take at the most for decoding any of the streams, `copies` being how many there are of the rows.
 */
uint64_t wanted_need(const wanted *wanted, const cache *cache, unsigned copies);

#endif
