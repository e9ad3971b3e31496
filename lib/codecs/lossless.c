/* Byte planes and zstd. The leading bytes of every block (all bytes of a number, the scales of a quantized block) are
 * split into planes of one byte each, the rest of the blocks stays together; each part is compressed for itself, or
 * stored as it is where that does not help. Layout: format/SPEC.md, "Lossless streams". */
#include "codec.h"

#include <string.h>
#include <zstd.h>

enum { ZSTD_LEVEL = 3, MAX_PARTS = 8 };

#define STORED_AS_IS 0x80000000u

typedef struct parts {
    uint32_t n, block_bytes, head_bytes;
    size_t blocks;
} parts;

static parts parts_of(const format_plane *plane, uint32_t n) {
    const format_type_info *type = format_type_of(plane->type);
    uint32_t rest = type->block_bytes > type->head_bytes;
    return (parts){type->head_bytes + rest, type->block_bytes, type->head_bytes,
                   (size_t)n * plane->row_bytes / type->block_bytes};
}

static size_t part_bytes(const parts *parts, uint32_t part) {
    return parts->blocks * (part < parts->head_bytes ? 1 : parts->block_bytes - parts->head_bytes);
}

static void take_part(const parts *parts, uint32_t part, const uint8_t *rows, uint8_t *to) {
    if (part < parts->head_bytes) {
        for (size_t i = 0; i < parts->blocks; i++)
            to[i] = rows[i * parts->block_bytes + part];
        return;
    }
    size_t n = parts->block_bytes - parts->head_bytes;
    for (size_t i = 0; i < parts->blocks; i++)
        memcpy(to + i * n, rows + i * parts->block_bytes + parts->head_bytes, n);
}

static void put_part(const parts *parts, uint32_t part, const uint8_t *from, uint8_t *rows) {
    if (part < parts->head_bytes) {
        for (size_t i = 0; i < parts->blocks; i++)
            rows[i * parts->block_bytes + part] = from[i];
        return;
    }
    size_t n = parts->block_bytes - parts->head_bytes;
    for (size_t i = 0; i < parts->blocks; i++)
        memcpy(rows + i * parts->block_bytes + parts->head_bytes, from + i * n, n);
}

static size_t bound(const format_plane *plane, uint32_t n, const uint8_t *exact) {
    (void)exact;
    return MAX_PARTS * sizeof(uint32_t) + (size_t)n * plane->row_bytes;
}

static kvot_status encode(codec_context *context, const format_plane *plane, const void *rows, uint32_t n,
                          const uint8_t *exact, uint8_t *stream, size_t *stream_bytes, kvot_error *error) {
    (void)exact;
    if (!context->compressor && !(context->compressor = ZSTD_createCCtx()))
        return fail_memory(error);
    parts parts = parts_of(plane, n);
    kvot_status status = make_room(&context->scratch, &context->scratch_bytes, (size_t)n * plane->row_bytes, error);
    if (status != KVOT_OK)
        return status;
    uint32_t lengths[MAX_PARTS];
    uint8_t *at = stream + parts.n * sizeof *lengths;
    for (uint32_t p = 0; p < parts.n; p++) {
        size_t raw = part_bytes(&parts, p);
        take_part(&parts, p, rows, context->scratch);
        /* Room for one byte less than raw: whatever does not fit is not worth compressing. */
        size_t packed = ZSTD_compressCCtx(context->compressor, at, raw - 1, context->scratch, raw, ZSTD_LEVEL);
        if (raw == 1 || ZSTD_isError(packed)) {
            memcpy(at, context->scratch, raw);
            lengths[p] = STORED_AS_IS | (uint32_t)raw;
            at += raw;
        } else {
            lengths[p] = (uint32_t)packed;
            at += packed;
        }
    }
    memcpy(stream, lengths, parts.n * sizeof *lengths);
    *stream_bytes = (size_t)(at - stream);
    return KVOT_OK;
}

static kvot_status decode(codec_context *context, const format_plane *plane, const uint8_t *stream, size_t stream_bytes,
                          uint32_t n, void *rows, kvot_error *error) {
    if (!context->decompressor && !(context->decompressor = ZSTD_createDCtx()))
        return fail_memory(error);
    parts parts = parts_of(plane, n);
    kvot_status status = make_room(&context->scratch, &context->scratch_bytes, (size_t)n * plane->row_bytes, error);
    if (status != KVOT_OK)
        return status;
    uint32_t lengths[MAX_PARTS];
    if (stream_bytes < parts.n * sizeof *lengths)
        return fail(error, KVOT_E_DAMAGED, "a lossless stream is too short");
    memcpy(lengths, stream, parts.n * sizeof *lengths);
    const uint8_t *at = stream + parts.n * sizeof *lengths;
    size_t left = stream_bytes - parts.n * sizeof *lengths;
    for (uint32_t p = 0; p < parts.n; p++) {
        size_t raw = part_bytes(&parts, p), length = lengths[p] & ~STORED_AS_IS;
        if (length > left || ((lengths[p] & STORED_AS_IS) && length != raw))
            return fail(error, KVOT_E_DAMAGED, "a part of a lossless stream has the wrong length");
        const uint8_t *from = at;
        if (!(lengths[p] & STORED_AS_IS)) {
            if (ZSTD_findFrameCompressedSize(at, length) != length ||
                ZSTD_decompressDCtx(context->decompressor, context->scratch, raw, at, length) != raw)
                return fail(error, KVOT_E_DAMAGED, "a part of a lossless stream does not decompress");
            from = context->scratch;
        }
        put_part(&parts, p, from, rows);
        at += length;
        left -= length;
    }
    return left == 0 ? KVOT_OK : fail(error, KVOT_E_DAMAGED, "a lossless stream is longer than its parts");
}

const codec codec_lossless = {
    .name = "lossless", .stream_type = FORMAT_STREAM_LOSSLESS, .bound = bound, .encode = encode, .decode = decode};
