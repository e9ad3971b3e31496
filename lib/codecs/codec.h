/* Codecs: rows of one chunk to the bytes of one stream, and back. Each is a struct in one table, by format_codec. */
#ifndef KVOT_CODEC_H
#define KVOT_CODEC_H

#include "../../format/format.h"
#include "../../kernels/kernels.h"
#include "../device/cuda.h"
#include "../error.h"
#include "../run/room.h"

/* What a thread keeps between chunks. Zeroed to begin with. */
typedef struct codec_context {
    void *compressor, *decompressor;
    uint8_t *scratch;
    size_t scratch_bytes;
    lane *lane; /* of a device that does what it can; else NULL */
} codec_context;

void codec_context_free(codec_context *context);

/* Opens a lane of `device`, if there is a device and no lane yet; `stream` as for lane_open. Where the device has no
 * memory left for one, there is none, and the CPU does the work. */
kvot_status codec_open_lane(codec_context *context, device *device, void *const *stream, kvot_error *error);

/* The same for work that the CPU cannot do: KVOT_E_MEMORY, with the driver's words. */
kvot_status codec_need_lane(codec_context *context, device *device, void *const *stream, kvot_error *error);

/* What a context takes at the most, and what a stream takes, of `n` rows of a plane. */
uint64_t codec_context_bytes(const format_plane *plane, uint32_t n);
uint64_t codec_stream_bytes(const format_plane *plane, uint32_t n);

/* Room for `bytes` bytes of rows of plane `i` of a unit: pinned memory of the lane, if there is one that has some left,
 * else `*own`, which is the caller's and grows as needed. */
kvot_status codec_rows_room(codec_context *context, uint32_t i, uint8_t **own, size_t *own_bytes, size_t bytes,
                            uint8_t **rows, kvot_error *error);

/* What a worker needs to decode: one lies at the start of every slot. Zeroed to begin with. */
typedef struct codec_buffers {
    codec_context codec;
    uint8_t *rows, *other;
    size_t rows_bytes, other_bytes;
} codec_buffers;

/* As pool_jobs and fetch_jobs want it. */
void codec_buffers_free(void *buffers);

typedef struct codec {
    const char *name;
    format_stream_type stream_type;
    bool lossy; /* rows are quantized: streams have a loss, kernels fill rows that are aligned to their elements */
    /* Whether the options are such as it takes: KVOT_E_ARGUMENT. NULL: it looks at none. */
    kvot_status (*check)(const kvot_compress_options *options, kvot_error *error);
    /* Has a plane stored with this codec, if it is one that it takes; else leaves it alone. And the other way round:
     * the options that such a plane was stored with. NULL: there is nothing to say. */
    void (*set)(const kvot_compress_options *options, format_plane *plane);
    void (*options_of)(const format_plane *plane, kvot_compress_options *options);
    /* Bytes that a stream of `n` rows takes at the most. `exact` is [n][heads], NULL for none. */
    size_t (*bound)(const format_plane *plane, uint32_t n, const uint8_t *exact);
    kvot_status (*encode)(codec_context *context, const format_plane *plane, const void *rows, uint32_t n,
                          const uint8_t *exact, uint8_t *stream, size_t *stream_bytes, kvot_error *error);
    /* Fills exactly n * plane->row_bytes bytes. A stream that does not decode is KVOT_E_DAMAGED; the caller adds
     * where it was. */
    kvot_status (*decode)(codec_context *context, const format_plane *plane, const uint8_t *stream, size_t stream_bytes,
                          uint32_t n, void *rows, kvot_error *error);
    /* The same on the context's lane, to where `rows` says. KVOT_E_MEMORY if the device has none left. NULL: not here.
     */
    kvot_status (*decode_on_lane)(codec_context *context, const format_plane *plane, const uint8_t *stream,
                                  size_t stream_bytes, uint32_t n, const lane_rows *rows, kvot_error *error);
} codec;

/* kvot_codec has the same numbers. NULL if there is no such codec. */
const codec *codec_of(unsigned format_codec);

/* Whether the outlier tokens are chosen over all tokens, so that no chunk can be made before all are there. */
bool codec_fixes_outliers(const kvot_compress_options *options);

/* Verbatim bytes are compressed as rows of one opaque byte. */
extern const format_plane codec_verbatim;

/* The chunk of a quantized plane as kernels see it. */
kernel_chunk codec_chunk(const format_plane *plane, uint32_t rows);

/* An ott stream, of what a lane made of a chunk; the exact rows are among `rows`, which is not looked at if the lane
 * gave their values. `stream` has room for codec->bound. */
void codec_ott_stream(const format_plane *plane, const lane_encoded *encoded, const void *rows, uint32_t n,
                      uint8_t *stream, size_t *stream_bytes);

/* Reads `n` rows of a plane of f32, f16 or bf16 from device memory. The context has a lane. */
kvot_status codec_read_rows(codec_context *context, const format_plane *plane, const lane_rows *from, uint32_t n,
                            void *rows, kvot_error *error);

/* The kernels' name of an element type that can be quantized. */
kernel_type codec_kernel_type(unsigned format_type);

/* True if the planes of this element type can be quantized. */
bool codec_can_quantize(unsigned format_type);

#endif
