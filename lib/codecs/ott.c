/* The outlier-token codec: fixed-width codes, and the rows of outlier tokens exact beside them. The arithmetic is in
 * kernels/, the layout of a stream in format/. */
#include "codec.h"

#include <string.h>

/* The middle share of a group's range that codes span. With few codes it pays to let the few values at the edges go to
 * the nearest code, and have finer steps for all others. With a fixed number of outliers the ranges are the paper's
 * (and KIVI's): all of it. Measured: tests/quality/README.md. */
static float range_share(const format_plane *plane) {
    bool keys = plane->kind == FORMAT_K;
    if (plane->outlier_rule == FORMAT_OUTLIERS_FIXED || plane->bits == 8)
        return 1.0f;
    if (plane->bits == 2 && plane->group == 128)
        return keys ? 0.75f : 0.9f;
    if (plane->bits == 2)
        return !keys ? 0.95f : plane->group == 64 ? 0.8f : 0.85f;
    if (plane->bits == 3)
        return keys ? 0.95f : 1.0f;
    return keys ? 0.98f : 0.99f;
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
                          .share = range_share(plane)};
}

static uint32_t count_exact(const format_plane *plane, uint32_t n, const uint8_t *exact) {
    uint32_t count = 0;
    for (size_t i = 0; exact && i < (size_t)n * plane->heads; i++)
        count += exact[i];
    return count;
}

static kernel_codes codes_of(const format_ott *ott, uint8_t *stream) {
    return (kernel_codes){.scales = stream + ott->scales,
                          .minima = stream + ott->minima,
                          .codes = stream + ott->codes,
                          .high = stream + ott->high,
                          .row_code_bytes = ott->row_code_bytes,
                          .row_high_bytes = ott->row_high_bytes};
}

static size_t bound(const format_plane *plane, uint32_t n, const uint8_t *exact) {
    format_ott ott;
    format_ott_layout(&ott, plane, n, count_exact(plane, n, exact));
    return ott.bytes;
}

/* Lays out a stream and says in it which rows are exact. */
static void begin(const format_plane *plane, uint32_t n, const uint8_t *exact, uint8_t *stream, format_ott *ott) {
    format_ott_layout(ott, plane, n, count_exact(plane, n, exact));
    memset(stream, 0, ott->codes);
    uint16_t *counts = (void *)stream, *row = (void *)(stream + ott->rows_at);
    for (uint32_t h = 0; h < plane->heads; h++) {
        for (uint32_t r = 0; r < n; r++) {
            if (!exact[(size_t)r * plane->heads + h])
                continue;
            counts[h]++;
            *row++ = (uint16_t)r;
        }
    }
    memset(stream + ott->codes + n * ott->row_code_bytes, 0, ott->high - ott->codes - n * ott->row_code_bytes);
}

/* Copies the exact rows, which are listed in the stream, from among all rows. */
static void copy_exact(const format_plane *plane, const format_ott *ott, const void *rows, uint8_t *stream) {
    const uint16_t *counts = (const void *)stream, *row = (const void *)(stream + ott->rows_at);
    uint8_t *values = stream + ott->exact;
    size_t head_bytes = (size_t)ott->head_dim * ott->elem_bytes;
    for (uint32_t h = 0; h < plane->heads; h++)
        for (uint32_t i = 0; i < counts[h]; i++, values += head_bytes)
            memcpy(values, (const uint8_t *)rows + (size_t)*row++ * plane->row_bytes + h * head_bytes, head_bytes);
}

static kvot_status encode(codec_context *context, const format_plane *plane, const void *rows, uint32_t n,
                          const uint8_t *exact, uint8_t *stream, size_t *stream_bytes, kvot_error *error) {
    (void)context;
    (void)error;
    format_ott ott;
    begin(plane, n, exact, stream, &ott);
    copy_exact(plane, &ott, rows, stream);
    kernel_chunk chunk = codec_chunk(plane, n);
    kernel_codes codes = codes_of(&ott, stream);
    kernels()->quantize(&chunk, rows, exact, &codes);
    *stream_bytes = ott.bytes;
    return KVOT_OK;
}

void codec_ott_stream(const format_plane *plane, const lane_encoded *encoded, const void *rows, uint32_t n,
                      uint8_t *stream, size_t *stream_bytes) {
    const kernel_codes *codes = &encoded->codes;
    format_ott ott;
    begin(plane, n, encoded->exact, stream, &ott);
    if (encoded->values)
        memcpy(stream + ott.exact, encoded->values, encoded->n_exact * ott.head_dim * ott.elem_bytes);
    else
        copy_exact(plane, &ott, rows, stream);
    memcpy(stream + ott.scales, codes->scales, (size_t)ott.ranges * ott.elem_bytes);
    memcpy(stream + ott.minima, codes->minima, (size_t)ott.ranges * ott.elem_bytes);
    memcpy(stream + ott.codes, codes->codes, (size_t)n * ott.row_code_bytes);
    if (ott.row_high_bytes > 0)
        memcpy(stream + ott.high, codes->high, (size_t)n * ott.row_high_bytes);
    *stream_bytes = ott.bytes;
}

static kvot_status parts_on_lane(codec_context *context, const format_plane *plane, const format_ott *ott,
                                 const uint8_t *stream, uint32_t n, const lane_rows *rows, kvot_error *error) {
    const uint16_t *counts = (const void *)stream, *row = (const void *)(stream + ott->rows_at);
    uint32_t n_exact = 0;
    for (uint32_t h = 0; h < plane->heads; h++)
        n_exact += counts[h];
    kvot_status status = make_room(&context->scratch, &context->scratch_bytes, n_exact * sizeof(cuda_row), error);
    if (status != KVOT_OK)
        return status;
    cuda_row *list = (void *)context->scratch;
    for (uint32_t h = 0, i = 0; h < plane->heads; h++)
        for (uint32_t end = i + counts[h]; i < end; i++)
            list[i] = (cuda_row){*row++, h};
    /* Only from pinned memory can it be copied to the device while other work goes on. */
    void *block;
    status = lane_block(context->lane, ott->bytes, &block, error);
    if (status == KVOT_OK)
        memcpy(block, stream, ott->bytes);
    else if (status != KVOT_E_MEMORY)
        return status;
    lane_chunks chunks = {.rows = n, .first = n};
    lane_plane at = {.chunk = codec_chunk(plane, n), .rows = *rows};
    lane_codes codes = {.block = status == KVOT_OK ? block : stream,
                        .bytes = ott->bytes,
                        .scales = ott->scales,
                        .minima = ott->minima,
                        .codes = ott->codes,
                        .high = ott->high,
                        .exact = ott->exact,
                        .n_exact = n_exact,
                        .list = list};
    return lane_decode(context->lane, &chunks, &at, &codes, error);
}

static kvot_status decode_on_lane(codec_context *context, const format_plane *plane, const uint8_t *stream,
                                  size_t stream_bytes, uint32_t n, const lane_rows *rows, kvot_error *error) {
    format_ott ott;
    const char *wrong = format_ott_read(&ott, plane, n, stream, stream_bytes);
    if (wrong)
        return fail(error, KVOT_E_DAMAGED, "%s", wrong);
    return parts_on_lane(context, plane, &ott, stream, n, rows, error);
}

static kvot_status decode(codec_context *context, const format_plane *plane, const uint8_t *stream, size_t stream_bytes,
                          uint32_t n, void *rows, kvot_error *error) {
    format_ott ott;
    const char *wrong = format_ott_read(&ott, plane, n, stream, stream_bytes);
    if (wrong)
        return fail(error, KVOT_E_DAMAGED, "%s", wrong);
    if (context->lane) {
        kvot_status status = parts_on_lane(context, plane, &ott, stream, n, &(lane_rows){.host = rows}, error);
        if (status != KVOT_E_MEMORY)
            return status;
    }
    kernel_chunk chunk = codec_chunk(plane, n);
    kernel_codes codes = codes_of(&ott, (uint8_t *)stream);
    kernels()->dequantize(&chunk, &codes, rows);
    const uint16_t *counts = (const void *)stream, *row = (const void *)(stream + ott.rows_at);
    const uint8_t *values = stream + ott.exact;
    size_t head_bytes = (size_t)ott.head_dim * ott.elem_bytes;
    for (uint32_t h = 0; h < plane->heads; h++) {
        for (uint32_t i = 0; i < counts[h]; i++, values += head_bytes)
            memcpy((uint8_t *)rows + (size_t)*row++ * plane->row_bytes + h * head_bytes, values, head_bytes);
    }
    return KVOT_OK;
}

static kvot_status check(const kvot_compress_options *options, kvot_error *error) {
    if (options->bits != 2 && options->bits != 3 && options->bits != 4 && options->bits != 8)
        return fail(error, KVOT_E_ARGUMENT, "bits must be 2, 3, 4 or 8");
    if (options->group != 32 && options->group != 64 && options->group != 128)
        return fail(error, KVOT_E_ARGUMENT, "group must be 32, 64 or 128");
    if (options->outliers < KVOT_OUTLIERS_AUTO || options->outliers > KVOT_OUTLIERS_MAX)
        return fail(error, KVOT_E_ARGUMENT, "outliers must be auto or 0 to %d", KVOT_OUTLIERS_MAX);
    return KVOT_OK;
}

static void set(const kvot_compress_options *options, format_plane *plane) {
    if (plane->kind == FORMAT_STATE || !codec_can_quantize(plane->type))
        return;
    plane->codec = FORMAT_OTT;
    plane->bits = (uint8_t)options->bits;
    plane->group = (uint16_t)options->group;
    if (options->outliers >= 0) {
        plane->outlier_rule = FORMAT_OUTLIERS_FIXED;
        plane->outliers = (uint32_t)options->outliers;
    }
}

static void options_of(const format_plane *plane, kvot_compress_options *options) {
    options->bits = plane->bits;
    options->group = plane->group;
    options->outliers = plane->outlier_rule == FORMAT_OUTLIERS_FIXED ? (int)plane->outliers : KVOT_OUTLIERS_AUTO;
}

const codec codec_ott = {.name = "ott",
                         .stream_type = FORMAT_STREAM_OTT,
                         .lossy = true,
                         .check = check,
                         .set = set,
                         .options_of = options_of,
                         .bound = bound,
                         .encode = encode,
                         .decode = decode,
                         .decode_on_lane = decode_on_lane};
