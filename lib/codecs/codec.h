/* Codecs: rows of one chunk to the bytes of one stream, and back. Each is a struct in one table, by format_codec. */
#ifndef KVOT_CODEC_H
#define KVOT_CODEC_H

#include "../../format/format.h"
#include "../../kernels/kernels.h"
#include "../error.h"

/* What a thread keeps between chunks. Zeroed to begin with. */
typedef struct codec_context {
    void *compressor, *decompressor;
    uint8_t *scratch;
    size_t scratch_bytes;
} codec_context;

void codec_context_free(codec_context *context);

/* Makes `*buffer` hold `needed` bytes; what it held may be lost. */
kvot_status make_room(uint8_t **buffer, size_t *bytes, size_t needed, kvot_error *error);

typedef struct codec {
    format_stream_type stream_type;
    /* Bytes that a stream of `n` rows takes at the most. `exact` is [n][heads], NULL for none. */
    size_t (*bound)(const format_plane *plane, uint32_t n, const uint8_t *exact);
    kvot_status (*encode)(codec_context *context, const format_plane *plane, const void *rows, uint32_t n,
                          const uint8_t *exact, uint8_t *stream, size_t *stream_bytes, kvot_error *error);
    /* Fills exactly n * plane->row_bytes bytes. A stream that does not decode is KVOT_E_DAMAGED; the caller adds
     * where it was. */
    kvot_status (*decode)(codec_context *context, const format_plane *plane, const uint8_t *stream, size_t stream_bytes,
                          uint32_t n, void *rows, kvot_error *error);
} codec;

const codec *codec_of(unsigned format_codec);

/* Verbatim bytes are compressed as rows of one opaque byte. */
extern const format_plane codec_verbatim;

/* The chunk of `plane` as kernels see it. */
kernel_chunk codec_chunk(const format_plane *plane, uint32_t rows);

/* The kernels' name of an element type that can be quantized. */
kernel_type codec_kernel_type(unsigned format_type);

/* True if the planes of this element type can be quantized. */
bool codec_can_quantize(unsigned format_type);

#endif
