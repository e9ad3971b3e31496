/* A chunk of one layer: the rows of its planes to streams, by the CPU or on a device. */
#ifndef KVOT_UNIT_H
#define KVOT_UNIT_H

#include "codec.h"

/* One plane's rows of a chunk, or a verbatim block, and the stream that is made of it. */
typedef struct unit_stream {
    uint8_t *rows; /* those to encode, if they are in host memory: of this stream, or pinned memory of the lane */
    lane_rows at;  /* where a lane finds them */
    uint8_t *bytes;
    format_stream about; /* all but the offset */
    uint8_t *own_rows;
    uint8_t *sums; /* floats, [rows][heads]: magnitudes, then squares of K */
    size_t rows_room, room, sums_room;
} unit_stream;

/* What a thread keeps between chunks. Zeroed to begin with. */
typedef struct unit_encoder {
    codec_context codec;
    unit_stream *streams;
    uint32_t n_streams;
    bool kept;      /* nothing was encoded: an older state's streams are kept */
    uint8_t *exact; /* [rows][heads] of K: its exact rows */
    uint8_t *plane_exact, *decoded;
    size_t exact_room, plane_exact_room, decoded_room;
} unit_encoder;

void unit_encoder_free(unit_encoder *encoder);

/* What an encoder takes at the most for chunks of `n` rows of these planes. */
uint64_t unit_bytes(const format_plane *planes, uint32_t n_planes, uint32_t n);

/* Makes room for the streams of `n` planes. */
kvot_status unit_streams(unit_encoder *encoder, uint32_t n, kvot_error *error);

/* Makes room in host memory for `bytes` bytes of rows of plane `i`: streams[i].rows. A caller whose rows are on the
 * device of its lane sets streams[i].at instead. */
kvot_status unit_rows(unit_encoder *encoder, uint32_t i, size_t bytes, kvot_error *error);

/* Makes room for the exact rows of K, [rows][heads]: for a caller that knows them. */
kvot_status unit_exact(unit_encoder *encoder, size_t n, kvot_error *error);

/* Encodes `n` rows of each plane of a unit, decodes them again and measures what was lost. `start`: the first row has
 * position 0. `fixed`: encoder->exact says which rows of K are outlier tokens; else the default rule does. */
kvot_status unit_encode(unit_encoder *encoder, const format_plane *planes, uint32_t n_planes, uint32_t n, bool start,
                        bool fixed, kvot_error *error);

/* Encodes `n` rows of streams[0] without loss. */
kvot_status unit_encode_lossless(unit_encoder *encoder, const format_plane *plane, uint32_t n, kvot_error *error);

/* The quantized K plane among a unit's, UINT32_MAX if there is none. */
uint32_t unit_key_plane(const format_plane *planes, uint32_t n_planes);

#endif
