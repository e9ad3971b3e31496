#include "unit.h"

#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)KERNEL_MAX_ROWS >= (int)FORMAT_CHUNK_ROWS, "the outlier rule takes whole chunks");

void unit_encoder_free(unit_encoder *encoder) {
    codec_context_free(&encoder->codec);
    for (uint32_t i = 0; i < encoder->n_streams; i++) {
        free(encoder->streams[i].own_rows);
        free(encoder->streams[i].sums);
        free(encoder->streams[i].bytes);
    }
    free(encoder->streams);
    free(encoder->exact);
    free(encoder->plane_exact);
    free(encoder->decoded);
}

uint64_t unit_bytes(const format_plane *planes, uint32_t n_planes, uint32_t n) {
    uint64_t all = 0, largest = 0;
    for (uint32_t i = 0; i < n_planes; i++) {
        uint64_t rows = (uint64_t)n * planes[i].row_bytes, context = codec_context_bytes(&planes[i], n);
        uint64_t here = planes[i].codec == FORMAT_OTT ? rows + 2ull * n * planes[i].heads : context;
        all += sizeof(unit_stream) + rows + codec_stream_bytes(&planes[i], n) + 8ull * n * planes[i].heads;
        largest = here > largest ? here : largest;
    }
    return all + largest;
}

kvot_status unit_streams(unit_encoder *encoder, uint32_t n, kvot_error *error) {
    if (n <= encoder->n_streams)
        return KVOT_OK;
    unit_stream *more = realloc(encoder->streams, n * sizeof *more);
    if (!more)
        return fail_memory(error);
    memset(more + encoder->n_streams, 0, (n - encoder->n_streams) * sizeof *more);
    encoder->streams = more;
    encoder->n_streams = n;
    return KVOT_OK;
}

kvot_status unit_rows(unit_encoder *encoder, uint32_t i, size_t bytes, kvot_error *error) {
    unit_stream *of = &encoder->streams[i];
    kvot_status status = codec_rows_room(&encoder->codec, i, &of->own_rows, &of->rows_room, bytes, &of->rows, error);
    of->at = (lane_rows){.host = of->rows};
    return status;
}

kvot_status unit_exact(unit_encoder *encoder, size_t n, kvot_error *error) {
    return make_room(&encoder->exact, &encoder->exact_room, n, error);
}

uint32_t unit_key_plane(const format_plane *planes, uint32_t n_planes) {
    for (uint32_t i = 0; i < n_planes; i++)
        if (planes[i].kind == FORMAT_K && planes[i].codec == FORMAT_OTT)
            return i;
    return UINT32_MAX;
}

/* What a stream is, once it is encoded: decodes it again and measures what was lost, unless `losses` says it. */
static kvot_status finish(unit_encoder *encoder, unit_stream *of, const format_plane *plane, uint32_t n,
                          const kernel_loss *losses, size_t stored, kvot_error *error) {
    const codec *codec = codec_of(plane->codec);
    size_t bytes = (size_t)n * plane->row_bytes;
    const uint8_t *decoded = of->rows;
    measure lost = measure_none();
    if (plane->codec == FORMAT_OTT) {
        kvot_status status = make_room(&encoder->decoded, &encoder->decoded_room, bytes, error);
        codec_context here = {0}; /* without a lane: what a device made is checked by the CPU */
        if (status == KVOT_OK)
            status = codec->decode(&here, plane, of->bytes, stored, n, encoder->decoded, error);
        if (status != KVOT_OK)
            return status;
        decoded = encoder->decoded;
        lost = losses ? measure_losses(losses, n, plane->row_bytes / format_type_of(plane->type)->block_bytes)
                      : measure_rows(plane->type, of->rows, decoded, n, plane->row_bytes);
    }
    of->about = (format_stream){.checksum = format_checksum(of->bytes, stored),
                                .decoded_checksum = format_checksum(decoded, bytes),
                                .stored_bytes = (uint32_t)stored,
                                .decoded_bytes = (uint32_t)bytes,
                                .type = codec->stream_type,
                                .squared_error = lost.squared_error,
                                .squared_sum = lost.squared_sum,
                                .max_error = lost.max_error};
    return KVOT_OK;
}

static kvot_status encode(unit_encoder *encoder, unit_stream *of, const format_plane *plane, uint32_t n,
                          const uint8_t *exact, kvot_error *error) {
    const codec *codec = codec_of(plane->codec);
    size_t stored = 0;
    kvot_status status = make_room(&of->bytes, &of->room, codec->bound(plane, n, exact), error);
    if (status == KVOT_OK)
        status = codec->encode(&encoder->codec, plane, of->rows, n, exact, of->bytes, &stored, error);
    return status == KVOT_OK ? finish(encoder, of, plane, n, NULL, stored, error) : status;
}

kvot_status unit_encode_lossless(unit_encoder *encoder, const format_plane *plane, uint32_t n, kvot_error *error) {
    return encode(encoder, &encoder->streams[0], plane, n, NULL, error);
}

/* Rows that cannot be quantized: their magnitude is infinite. */
static void add_infinite(const float *magnitudes, size_t n, uint8_t *exact) {
    for (size_t i = 0; i < n; i++)
        exact[i] |= isinf(magnitudes[i]);
}

/* Measures how large the rows of a quantized plane are, for choosing outlier tokens. */
static kvot_status measure_magnitudes(const format_plane *plane, unit_stream *of, uint32_t n, kvot_error *error) {
    size_t sums = (size_t)n * plane->heads;
    kvot_status status = make_room(&of->sums, &of->sums_room, 2 * sums * sizeof(float), error);
    if (status != KVOT_OK)
        return status;
    kernel_chunk chunk = codec_chunk(plane, n);
    kernels()->magnitudes(&chunk, of->rows, (float *)of->sums,
                          plane->kind == FORMAT_K ? (float *)of->sums + sums : NULL);
    return KVOT_OK;
}

/* Whether V takes part in choosing the outlier tokens of K, and shares them. */
static bool values_take_part(const format_plane *planes, uint32_t n_planes, uint32_t key) {
    return key + 1 < n_planes && planes[key + 1].codec == FORMAT_OTT && planes[key + 1].heads == planes[key].heads;
}

/* Sets encoder->exact to the outlier tokens of the chunk and what of K cannot be quantized. */
static kvot_status choose(unit_encoder *encoder, const format_plane *planes, uint32_t n_planes, uint32_t n, bool start,
                          bool fixed, uint32_t key, kvot_error *error) {
    const unit_stream *of = &encoder->streams[key];
    size_t all = (size_t)n * planes[key].heads;
    if (!fixed) {
        kvot_status status = unit_exact(encoder, all, error);
        if (status != KVOT_OK)
            return status;
        bool with_values = values_take_part(planes, n_planes, key);
        kernel_sizes sizes = {.rows = n,
                              .heads = planes[key].heads,
                              .start = start,
                              .keys = (const float *)of->sums,
                              .key_squares = (const float *)of->sums + all,
                              .values = with_values ? (const float *)of[1].sums : NULL};
        kernels()->choose(&sizes, encoder->exact);
    }
    add_infinite((const float *)of->sums, all, encoder->exact);
    return KVOT_OK;
}

/* Sets encoder->plane_exact for one plane: the outlier tokens of K, if it has as many heads, and what cannot be
 * quantized. */
static kvot_status exact_rows(unit_encoder *encoder, const format_plane *planes, uint32_t n, uint32_t p, uint32_t key,
                              kvot_error *error) {
    size_t all = (size_t)n * planes[p].heads;
    kvot_status status = make_room(&encoder->plane_exact, &encoder->plane_exact_room, all, error);
    if (status != KVOT_OK)
        return status;
    if (key != UINT32_MAX && planes[key].heads == planes[p].heads)
        memcpy(encoder->plane_exact, encoder->exact, all);
    else
        memset(encoder->plane_exact, 0, all);
    add_infinite((const float *)encoder->streams[p].sums, all, encoder->plane_exact);
    return KVOT_OK;
}

/* Whether a lane takes these planes: K, V, or both, quantized. */
static bool lane_takes(const format_plane *planes, uint32_t n_planes) {
    for (uint32_t i = 0; i < n_planes; i++)
        if (planes[i].codec != FORMAT_OTT)
            return false;
    return n_planes == 1 || (n_planes == 2 && planes[0].kind == FORMAT_K && planes[1].kind == FORMAT_V);
}

static kvot_status encode_on_lane(unit_encoder *encoder, const format_plane *planes, uint32_t n_planes, uint32_t n,
                                  bool start, bool fixed, kvot_error *error) {
    lane_chunks chunks = {.rows = n, .first = n, .start = start};
    lane_plane at[LANE_PLANES];
    const lane_plane *given[LANE_PLANES] = {NULL};
    for (uint32_t i = 0; i < n_planes; i++) {
        int p = planes[i].kind == FORMAT_K ? LANE_K : LANE_V;
        at[p] = (lane_plane){.chunk = codec_chunk(&planes[i], n), .rows = encoder->streams[i].at};
        given[p] = &at[p];
    }
    lane_encoded encoded[LANE_PLANES];
    kvot_status status = lane_encode(encoder->codec.lane, &chunks, given[LANE_K], given[LANE_V],
                                     fixed ? encoder->exact : NULL, encoded, error);
    for (uint32_t i = 0; i < n_planes && status == KVOT_OK; i++) {
        const lane_encoded *from = &encoded[planes[i].kind == FORMAT_K ? LANE_K : LANE_V];
        unit_stream *of = &encoder->streams[i];
        size_t stored = 0;
        status = make_room(&of->bytes, &of->room, codec_of(FORMAT_OTT)->bound(&planes[i], n, from->exact), error);
        if (status == KVOT_OK) {
            codec_ott_stream(&planes[i], from, of->rows, n, of->bytes, &stored);
            status = finish(encoder, of, &planes[i], n, from->losses, stored, error);
        }
    }
    return status;
}

/* Reads what rows are on the device only. */
static kvot_status fetch_rows(unit_encoder *encoder, const format_plane *planes, uint32_t n_planes, uint32_t n,
                              kvot_error *error) {
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < n_planes && status == KVOT_OK; i++) {
        unit_stream *of = &encoder->streams[i];
        lane_rows from = of->at;
        if (from.host)
            continue;
        status = unit_rows(encoder, i, (size_t)n * planes[i].row_bytes, error);
        if (status == KVOT_OK)
            status = codec_read_rows(&encoder->codec, &planes[i], &from, n, of->rows, error);
    }
    return status;
}

kvot_status unit_encode(unit_encoder *encoder, const format_plane *planes, uint32_t n_planes, uint32_t n, bool start,
                        bool fixed, kvot_error *error) {
    kvot_status status = KVOT_E_MEMORY;
    if (encoder->codec.lane && lane_takes(planes, n_planes))
        status = encode_on_lane(encoder, planes, n_planes, n, start, fixed, error);
    if (status != KVOT_E_MEMORY)
        return status;
    /* On the CPU; also where a device has no memory left for this chunk. */
    uint32_t key = unit_key_plane(planes, n_planes);
    status = fetch_rows(encoder, planes, n_planes, n, error);
    for (uint32_t i = 0; i < n_planes && status == KVOT_OK; i++)
        if (planes[i].codec == FORMAT_OTT)
            status = measure_magnitudes(&planes[i], &encoder->streams[i], n, error);
    if (status == KVOT_OK && key != UINT32_MAX)
        status = choose(encoder, planes, n_planes, n, start, fixed, key, error);
    for (uint32_t i = 0; i < n_planes && status == KVOT_OK; i++) {
        if (planes[i].codec == FORMAT_OTT)
            status = exact_rows(encoder, planes, n, i, key, error);
        if (status == KVOT_OK)
            status = encode(encoder, &encoder->streams[i], &planes[i], n, encoder->plane_exact, error);
    }
    return status;
}
