#include "codec.h"

#include <stdlib.h>
#include <zstd.h>

extern const codec codec_lossless, codec_ott;

const format_plane codec_verbatim = {.type = FORMAT_OPAQUE, .kind = FORMAT_STATE, .row_bytes = 1, .heads = 1};

const codec *codec_of(unsigned format_codec) {
    static const codec *const codecs[FORMAT_CODECS] = {[FORMAT_LOSSLESS] = &codec_lossless, [FORMAT_OTT] = &codec_ott};
    return format_codec < FORMAT_CODECS ? codecs[format_codec] : NULL;
}

bool codec_fixes_outliers(const kvot_compress_options *options) {
    return codec_of(options->codec)->lossy && options->outliers != KVOT_OUTLIERS_AUTO;
}

void codec_context_free(codec_context *context) {
    ZSTD_freeCCtx(context->compressor);
    ZSTD_freeDCtx(context->decompressor);
    free(context->scratch);
    lane_close(context->lane);
    *context = (codec_context){0};
}

void codec_buffers_free(void *memory) {
    codec_buffers *buffers = memory;
    codec_context_free(&buffers->codec);
    free(buffers->rows);
    free(buffers->other);
}

uint64_t codec_context_bytes(const format_plane *plane, uint32_t n) {
    enum { ZSTD_BYTES = 2 << 20 }; /* of a compressor, at the level that is used; a decompressor has less */
    return plane->codec == FORMAT_LOSSLESS ? ZSTD_BYTES + (uint64_t)n * plane->row_bytes : 0;
}

uint64_t codec_stream_bytes(const format_plane *plane, uint32_t n) {
    uint64_t exact = (uint64_t)n * (plane->row_bytes + 2ull * plane->heads); /* if all of it is exact */
    return codec_of(plane->codec)->bound(plane, n, NULL) + (plane->codec == FORMAT_LOSSLESS ? 0 : exact);
}

kvot_status codec_need_lane(codec_context *context, device *device, void *const *stream, kvot_error *error) {
    return context->lane ? KVOT_OK : lane_open(device, stream, &context->lane, error);
}

kvot_status codec_open_lane(codec_context *context, device *device, void *const *stream, kvot_error *error) {
    kvot_status status = device ? codec_need_lane(context, device, stream, error) : KVOT_OK;
    return status == KVOT_E_MEMORY ? KVOT_OK : status;
}

kvot_status codec_rows_room(codec_context *context, uint32_t i, uint8_t **own, size_t *own_bytes, size_t bytes,
                            uint8_t **rows, kvot_error *error) {
    kvot_status status = KVOT_E_MEMORY;
    if (context->lane && i < LANE_PLANES)
        status = lane_buffer(context->lane, (int)i, bytes, (void **)rows, error);
    if (status == KVOT_E_MEMORY) {
        status = make_room(own, own_bytes, bytes, error);
        *rows = *own;
    }
    return status;
}

kvot_status codec_read_rows(codec_context *context, const format_plane *plane, const lane_rows *from, uint32_t n,
                            void *rows, kvot_error *error) {
    return lane_read_rows(context->lane, &(lane_plane){codec_chunk(plane, n), *from}, n, rows, error);
}

bool codec_can_quantize(unsigned type) {
    return type == FORMAT_F32 || type == FORMAT_F16 || type == FORMAT_BF16;
}

kernel_type codec_kernel_type(unsigned type) {
    return type == FORMAT_F32 ? KERNEL_F32 : type == FORMAT_F16 ? KERNEL_F16 : KERNEL_BF16;
}
