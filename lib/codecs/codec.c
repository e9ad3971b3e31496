#include "codec.h"

#include <stdlib.h>
#include <zstd.h>

extern const codec codec_lossless, codec_ott;

const format_plane codec_verbatim = {.type = FORMAT_OPAQUE, .kind = FORMAT_STATE, .row_bytes = 1, .heads = 1};

const codec *codec_of(unsigned format_codec) {
    static const codec *const codecs[FORMAT_CODECS] = {[FORMAT_LOSSLESS] = &codec_lossless, [FORMAT_OTT] = &codec_ott};
    return codecs[format_codec];
}

void codec_context_free(codec_context *context) {
    ZSTD_freeCCtx(context->compressor);
    ZSTD_freeDCtx(context->decompressor);
    free(context->scratch);
    *context = (codec_context){0};
}

kvot_status make_room(uint8_t **buffer, size_t *bytes, size_t needed, kvot_error *error) {
    if (needed <= *bytes && *buffer)
        return KVOT_OK;
    free(*buffer);
    *bytes = 0;
    *buffer = aligned_alloc(64, (needed + 64) / 64 * 64);
    if (!*buffer)
        return fail_memory(error);
    *bytes = needed;
    return KVOT_OK;
}

bool codec_can_quantize(unsigned type) {
    return type == FORMAT_F32 || type == FORMAT_F16 || type == FORMAT_BF16;
}

kernel_type codec_kernel_type(unsigned type) {
    return type == FORMAT_F32 ? KERNEL_F32 : type == FORMAT_F16 ? KERNEL_F16 : KERNEL_BF16;
}

kernel_chunk codec_chunk(const format_plane *plane, uint32_t rows) {
    uint32_t elems = plane->row_bytes / format_type_of(plane->type)->block_bytes;
    return (kernel_chunk){.type = codec_kernel_type(plane->type),
                          .rows = rows,
                          .heads = plane->heads,
                          .head_dim = elems / plane->heads,
                          .group = plane->group,
                          .bits = plane->bits,
                          .keys = plane->kind == FORMAT_K,
                          .share = 1.0f};
}
