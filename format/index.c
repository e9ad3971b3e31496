/* The index: where its tables lie, and whether they agree with each other. */
#include "format.h"

#include <math.h>
#include <string.h>

/* Longest source a file may describe: far above any disk, low enough that sums of 64-bit numbers cannot wrap. */
#define MAX_BYTES (UINT64_C(1) << 56)

static uint64_t round_up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

uint64_t format_index_bytes(const format_index *index, uint64_t limit) {
    /* Counts are 32 bits and records at most 64 bytes, so this sum stays far below 2^64. */
    uint64_t bytes = sizeof(format_index);
    bytes += (uint64_t)index->n_rowsets * sizeof(format_rowset);
    bytes += (uint64_t)index->n_position_runs * sizeof(format_run);
    bytes += round_up((uint64_t)index->n_chunks * sizeof(uint32_t), 8);
    bytes += (uint64_t)index->n_views * sizeof(format_view);
    bytes += (uint64_t)index->n_view_runs * sizeof(format_run);
    bytes += (uint64_t)index->n_planes * sizeof(format_plane);
    bytes += (uint64_t)index->n_segments * sizeof(format_segment);
    bytes += (uint64_t)index->n_streams * sizeof(format_stream);
    return bytes <= limit ? bytes : 0;
}

const char *format_index_tables(const void *memory, uint64_t bytes, format_tables *tables) {
    const format_index *index = memory;
    if (bytes < sizeof *index || format_index_bytes(index, bytes) != bytes)
        return "the index is longer or shorter than its tables";
    const uint8_t *at = (const uint8_t *)memory + sizeof *index;
    tables->index = index;
    tables->rowsets = (const void *)at;
    at += (size_t)index->n_rowsets * sizeof(format_rowset);
    tables->position_runs = (const void *)at;
    at += (size_t)index->n_position_runs * sizeof(format_run);
    tables->chunk_rows = (const void *)at;
    at += round_up((uint64_t)index->n_chunks * sizeof(uint32_t), 8);
    tables->views = (const void *)at;
    at += (size_t)index->n_views * sizeof(format_view);
    tables->view_runs = (const void *)at;
    at += (size_t)index->n_view_runs * sizeof(format_run);
    tables->planes = (const void *)at;
    at += (size_t)index->n_planes * sizeof(format_plane);
    tables->segments = (const void *)at;
    at += (size_t)index->n_segments * sizeof(format_segment);
    tables->streams = (const void *)at;
    return NULL;
}

static const char *check_rowsets(const format_tables *t) {
    uint64_t runs = 0, chunks = 0, planes = 0;
    for (uint32_t i = 0; i < t->index->n_rowsets; i++) {
        const format_rowset *set = &t->rowsets[i];
        if (set->n_rows == 0 || set->n_planes == 0)
            return "a row set is empty";
        if (set->n_position_runs > t->index->n_position_runs - runs || set->n_chunks > t->index->n_chunks - chunks)
            return "a row set has more runs or chunks than there are";
        uint64_t rows = 0;
        for (uint32_t r = 0; r < set->n_position_runs; r++) {
            const format_run *run = &t->position_runs[runs + r];
            if (run->count == 0 || run->first > INT32_MAX || run->count > (uint32_t)INT32_MAX + 1u - run->first)
                return "a run of positions is out of bounds";
            rows += run->count;
        }
        if (rows != set->n_rows)
            return "the positions of a row set are not as many as its rows";
        rows = 0;
        for (uint32_t c = 0; c < set->n_chunks; c++) {
            uint32_t n = t->chunk_rows[chunks + c];
            if (n == 0 || n > FORMAT_CHUNK_ROWS)
                return "a chunk has no rows or too many";
            rows += n;
        }
        if (rows != set->n_rows)
            return "the chunks of a row set do not add up to its rows";
        runs += set->n_position_runs;
        chunks += set->n_chunks;
        planes += set->n_planes;
    }
    if (runs != t->index->n_position_runs || chunks != t->index->n_chunks || planes != t->index->n_planes)
        return "runs, chunks or planes are left over";
    if (t->index->n_chunks % 2 != 0 && t->chunk_rows[t->index->n_chunks] != 0)
        return "padding is not zero";
    return NULL;
}

static const char *check_views(const format_tables *t) {
    uint64_t runs = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < t->index->n_views; i++) {
        const format_view *view = &t->views[i];
        if (view->rowset >= t->index->n_rowsets || view->reserved != 0)
            return "a view names a row set that is not there";
        if (view->rowset < last || view->rowset > last + (i > 0))
            return "views are not in the order of their row sets";
        last = view->rowset;
        if (view->n_runs > t->index->n_view_runs - runs)
            return "a view has more runs than there are";
        uint64_t cells = 0;
        for (uint32_t r = 0; r < view->n_runs; r++) {
            const format_run *run = &t->view_runs[runs + r];
            uint32_t rows = t->rowsets[view->rowset].n_rows;
            if (run->count == 0 || run->first >= rows || run->count > rows - run->first)
                return "a view names a row that is not there";
            cells += run->count;
        }
        if (cells != view->n_cells || cells == 0)
            return "the runs of a view are not as many as its cells";
        runs += view->n_runs;
    }
    if (runs != t->index->n_view_runs || (t->index->n_rowsets > 0 && last != t->index->n_rowsets - 1) ||
        (t->index->n_rowsets > 0) != (t->index->n_views > 0))
        return "runs or row sets are left over";
    return NULL;
}

static const char *check_plane(const format_plane *plane) {
    const format_type_info *type = format_type_of(plane->type);
    if (!type || plane->kind >= FORMAT_KINDS || plane->layout >= FORMAT_LAYOUTS || plane->codec >= FORMAT_CODECS ||
        plane->reserved != 0)
        return "a plane has a kind, type, layout or codec that is not known";
    if (plane->row_bytes == 0 || plane->row_bytes > FORMAT_MAX_ROW_BYTES || plane->row_bytes % type->block_bytes != 0)
        return "a plane's rows have an impossible length";
    if (plane->layout == FORMAT_CHANNEL_MAJOR && type->block_elems != 1)
        return "a channel-major plane has blocks";
    uint32_t elems = plane->row_bytes / type->block_bytes * type->block_elems;
    if (plane->heads == 0 || elems % plane->heads != 0)
        return "a plane's row does not divide into its heads";
    if (plane->codec == FORMAT_LOSSLESS)
        return plane->bits != 0 || plane->group != 0 || plane->outlier_rule != 0 || plane->outliers != 0
                   ? "a lossless plane has bits, groups or outliers"
                   : NULL;
    if (plane->type < FORMAT_F32 || plane->type > FORMAT_BF16 || plane->kind > FORMAT_V)
        return "ott was used on a plane it is not for";
    if (plane->bits != 2 && plane->bits != 3 && plane->bits != 4 && plane->bits != 8)
        return "ott with an impossible number of bits";
    if (plane->group != 32 && plane->group != 64 && plane->group != 128)
        return "ott with an impossible group length";
    if (plane->outlier_rule > FORMAT_OUTLIERS_FIXED || (plane->outlier_rule == 0 && plane->outliers != 0))
        return "ott with an impossible outlier rule";
    return NULL;
}

static const char *check_planes(const format_tables *t) {
    uint32_t p = 0;
    for (uint32_t s = 0; s < t->index->n_rowsets; s++) {
        for (uint32_t i = 0; i < t->rowsets[s].n_planes; i++, p++) {
            const char *wrong = check_plane(&t->planes[p]);
            if (wrong)
                return wrong;
            if (t->planes[p].rowset != s)
                return "planes are not in the order of their row sets";
            if (i > 0 && t->planes[p].layer < t->planes[p - 1].layer)
                return "planes are not in the order of their layers";
        }
    }
    return NULL;
}

static const char *check_segments(const format_tables *t, uint64_t *verbatim) {
    uint64_t bytes = 0, planes = 0, expected = 0;
    *verbatim = 0;
    for (uint32_t v = 0; v < t->index->n_views; v++)
        expected += t->rowsets[t->views[v].rowset].n_planes;
    for (uint32_t i = 0; i < t->index->n_segments; i++) {
        const format_segment *segment = &t->segments[i];
        if (segment->bytes == 0 || segment->bytes > MAX_BYTES || bytes > MAX_BYTES)
            return "a segment is empty or too long";
        bytes += segment->bytes;
        if (segment->plane == FORMAT_VERBATIM) {
            if (segment->view != 0)
                return "verbatim bytes have a view";
            *verbatim += segment->bytes;
            continue;
        }
        if (segment->plane >= t->index->n_planes || segment->view >= t->index->n_views ||
            t->views[segment->view].rowset != t->planes[segment->plane].rowset)
            return "a segment names a plane or view that is not there";
        if (segment->bytes != (uint64_t)t->views[segment->view].n_cells * t->planes[segment->plane].row_bytes)
            return "a segment is longer or shorter than its cells";
        planes++;
    }
    /* Whoever builds the table of places from this checks that no pair comes twice; then the count shows it is full. */
    if (planes != expected)
        return "a plane is missing in a view";
    if (bytes != t->index->source_bytes)
        return "the segments do not add up to the source";
    if (t->index->n_tokens > 0 &&
        (t->index->tokens_offset > bytes || t->index->n_tokens > (bytes - t->index->tokens_offset) / 4))
        return "the tokens lie outside the source";
    return NULL;
}

static bool is_loss(double value) {
    return isfinite(value) && value >= 0;
}

static const char *check_stream(const format_stream *stream, uint64_t decoded, uint32_t type, uint64_t end) {
    if (stream->decoded_bytes != decoded || stream->type != type || stream->reserved != 0)
        return "a stream does not have the type or length that its plane asks for";
    bool none = stream->squared_error == 0 && stream->squared_sum == 0 && stream->max_error == 0;
    bool possible = is_loss(stream->squared_error) && is_loss(stream->squared_sum) && is_loss(stream->max_error);
    if (type == FORMAT_STREAM_LOSSLESS ? !none : !possible)
        return "a stream has an impossible loss";
    if (stream->offset < sizeof(format_header) || stream->offset % FORMAT_STREAM_ALIGN != 0 || stream->offset > end ||
        stream->stored_bytes > end - stream->offset || stream->stored_bytes == 0)
        return "a stream lies outside the file";
    return NULL;
}

/* Of a plane's streams, by its codec. */
static const uint8_t stream_types[FORMAT_CODECS] = {
    [FORMAT_LOSSLESS] = FORMAT_STREAM_LOSSLESS, [FORMAT_OTT] = FORMAT_STREAM_OTT};

static const char *check_streams(const format_tables *t, uint64_t verbatim, uint64_t end) {
    if (t->index->n_verbatim != (verbatim + FORMAT_VERBATIM_STEP - 1) / FORMAT_VERBATIM_STEP ||
        t->index->n_verbatim > t->index->n_streams)
        return "the verbatim blocks are too many or too few";
    /* Streams that share bytes would let a small file ask for any amount of work. */
    uint64_t stored = 0;
    for (uint32_t i = 0; i < t->index->n_streams; i++)
        stored += t->streams[i].stored_bytes;
    if (stored > end)
        return "the streams overlap";
    uint64_t s = 0;
    const char *wrong;
    for (; s < t->index->n_verbatim; s++) {
        uint64_t left = verbatim - s * FORMAT_VERBATIM_STEP;
        uint64_t decoded = left < FORMAT_VERBATIM_STEP ? left : FORMAT_VERBATIM_STEP;
        if ((wrong = check_stream(&t->streams[s], decoded, FORMAT_STREAM_LOSSLESS, end)))
            return wrong;
    }
    uint32_t first_chunk = 0, p = 0;
    for (uint32_t set = 0; set < t->index->n_rowsets; set++) {
        for (uint32_t i = 0; i < t->rowsets[set].n_planes; i++, p++) {
            const format_plane *plane = &t->planes[p];
            for (uint32_t c = 0; c < t->rowsets[set].n_chunks; c++, s++) {
                if (s >= t->index->n_streams)
                    return "streams are missing";
                uint64_t decoded = (uint64_t)t->chunk_rows[first_chunk + c] * plane->row_bytes;
                if (decoded > FORMAT_CHUNK_BYTES)
                    return "a chunk is too large";
                if ((wrong = check_stream(&t->streams[s], decoded, stream_types[plane->codec], end)))
                    return wrong;
            }
        }
        first_chunk += t->rowsets[set].n_chunks;
    }
    return s != t->index->n_streams ? "streams are left over" : NULL;
}

const char *format_check_index(const format_tables *t, uint64_t index_offset) {
    const format_index *index = t->index;
    for (size_t i = 0; i < sizeof index->reserved / sizeof *index->reserved; i++)
        if (index->reserved[i] != 0)
            return "reserved bits of the index are set";
    if (!format_is_text(index->engine, sizeof index->engine) ||
        !format_is_text(index->variant, sizeof index->variant) ||
        !format_is_text(index->architecture, sizeof index->architecture))
        return "a name in the index is not a text";
    uint64_t verbatim = 0;
    const char *wrong;
    if ((wrong = check_rowsets(t)) || (wrong = check_views(t)) || (wrong = check_planes(t)) ||
        (wrong = check_segments(t, &verbatim)) || (wrong = check_streams(t, verbatim, index_offset)))
        return wrong;
    return NULL;
}
