#include "cut.h"

#include <stdlib.h>
#include <string.h>

enum {
    BUFFER_BYTES = 1 << 16,
    MAX_RUNS = 1 << 20, /* of one view; real caches have few */
};

static kvot_status disagrees(const cut *cut, uint64_t at, kvot_error *error) {
    return fail(error, KVOT_E_DAMAGED, "%s: damaged: the index and what is at byte %llu of the engine's file disagree",
                cut->reader->in.name, (unsigned long long)at);
}

bool cut_keeps_layer(const cut *cut, uint32_t layer) {
    const kvot_restore_options *options = cut->options;
    return options->end_layer == 0 || (layer >= options->first_layer && layer < options->end_layer);
}

cut_cells *cut_new_cells(cut *cut, uint32_t n_cells, kvot_error *error) {
    cut_cells *cells = calloc(1, sizeof *cells);
    if (!cells) {
        fail_memory(error);
        return NULL;
    }
    *cells = (cut_cells){.n_cells = n_cells, .next = cut->all_cells};
    return cut->all_cells = cells;
}

kvot_status cut_keep(cut_cells *cells, uint32_t first, uint32_t count, kvot_error *error) {
    cut_run *last = cells->n_runs > 0 ? &cells->runs[cells->n_runs - 1] : NULL;
    if (last && last->first + last->count == first) {
        last->count += count;
    } else {
        if (cells->n_runs == MAX_RUNS)
            return fail(error, KVOT_E_UNSUPPORTED, "the cells to be kept are scattered too much");
        kvot_status status = grow(&cells->runs, cells->n_runs, (uint64_t)cells->n_runs + 1, sizeof *cells->runs, error);
        if (status != KVOT_OK)
            return status;
        cells->runs[cells->n_runs++] = (cut_run){first, count, cells->kept};
    }
    cells->kept += count;
    return KVOT_OK;
}

static kvot_status flush(cut *cut, kvot_error *error) {
    size_t n = cut->buffered;
    cut->buffered = 0;
    return output_put(cut->out, cut->bytes - n, cut->buffer, n, error);
}

kvot_status cut_put(cut *cut, const void *bytes, size_t n, kvot_error *error) {
    kvot_status status = KVOT_OK;
    for (size_t put = 0; put < n && status == KVOT_OK;) {
        size_t room = BUFFER_BYTES - cut->buffered, part = n - put < room ? n - put : room;
        memcpy(cut->buffer + cut->buffered, (const uint8_t *)bytes + put, part);
        cut->buffered += part;
        cut->bytes += part;
        put += part;
        if (cut->buffered == BUFFER_BYTES)
            status = flush(cut, error);
    }
    return status;
}

/* Whether bytes of the whole file are outside planes. */
static bool is_verbatim(const cache *cache, uint64_t from, uint64_t to) {
    uint32_t low = 0, high = cache->n_verbatim; /* the first run that ends behind `from` */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cache->verbatim[middle].source_offset + cache->verbatim[middle].bytes <= from)
            low = middle + 1;
        else
            high = middle;
    }
    for (; from < to && low < cache->n_verbatim && cache->verbatim[low].source_offset <= from; low++)
        from = cache->verbatim[low].source_offset + cache->verbatim[low].bytes;
    return from >= to;
}

kvot_status cut_copy(cut *cut, uint64_t from, uint64_t to, kvot_error *error) {
    uint8_t bytes[4096];
    if (!is_verbatim(&cut->reader->cache, from, to))
        return disagrees(cut, from, error);
    kvot_status status = KVOT_OK;
    while (from < to && status == KVOT_OK) {
        size_t n = to - from < sizeof bytes ? (size_t)(to - from) : sizeof bytes;
        status = input_read(&cut->in, from, bytes, n, error);
        if (status == KVOT_OK)
            status = cut_put(cut, bytes, n, error);
        from += n;
    }
    return status;
}

static int by_value(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The two views that the shorter file may have for one of the whole file's. */
static void views_of(const cut *cut, uint32_t view, uint32_t copies[2]) {
    const cache *from = &cut->reader->cache;
    uint32_t rowset = from->tables.views[view].rowset;
    copies[0] = view + from->first_view[rowset];
    copies[1] = view + from->first_view[rowset + 1];
}

kvot_status cut_rows(cut *cut, uint64_t at, const format_plane *like, cut_cells *cells, kvot_error *error) {
    const cache *from = &cut->reader->cache;
    const format_tables *tables = &from->tables;
    const uint64_t *found = bsearch(&at, cut->segment_at, tables->index->n_segments, sizeof *cut->segment_at, by_value);
    const format_segment *segment = found ? &tables->segments[found - cut->segment_at] : NULL;
    if (!segment || segment->plane == FORMAT_VERBATIM)
        return disagrees(cut, at, error);
    const format_plane *plane = &tables->planes[segment->plane];
    uint32_t views[2];
    views_of(cut, segment->view, views);
    uint32_t view = views[cut->cells[views[0]] && cut->cells[views[0]] != cells];
    uint64_t *place = &cut->cache.places[cut->first_place[segment->plane] + view - cut->first_view[plane->rowset]];
    if (plane->row_bytes != like->row_bytes || plane->type != like->type || plane->layout != like->layout ||
        tables->views[segment->view].n_cells != cells->n_cells || (cut->cells[view] && cut->cells[view] != cells) ||
        *place != CACHE_NO_PLACE)
        return disagrees(cut, at, error);
    kvot_status status = flush(cut, error);
    *place = cut->bytes;
    cut->cells[view] = cells;
    cut->views[view].n_cells = cells->kept;
    cut->bytes += (uint64_t)cells->kept * plane->row_bytes;
    return status;
}

/* The whole file's verbatim bytes, at their places in a file of its length. */
static kvot_status spool_verbatim(cut *cut, const kvot_run *run, kvot_error *error) {
    const reader *reader = cut->reader;
    const format_index *index = reader->cache.tables.index;
    output spool;
    if (index->source_bytes == 0)
        return disagrees(cut, 0, error);
    kvot_status status = output_open_unnamed(&spool, NULL, reader->in.name, run, error);
    if (status != KVOT_OK)
        return status;
    codec_context codec = {0};
    uint8_t *stream = NULL, *bytes = malloc(FORMAT_VERBATIM_STEP);
    size_t stream_bytes = 0;
    status = bytes ? output_put(&spool, index->source_bytes - 1, "", 1, error) : fail_memory(error);
    for (uint32_t block = 0; block < index->n_verbatim && status == KVOT_OK; block++) {
        status = reader_read(reader, block, &stream, &stream_bytes, error);
        if (status == KVOT_OK)
            status = reader_decode(reader, &codec, block, &codec_verbatim, cache_verbatim_bytes(&reader->cache, block),
                                   false, stream, bytes, error);
        if (status == KVOT_OK)
            status = cache_scatter_verbatim(&reader->cache, block, &spool, bytes, error);
    }
    if (status == KVOT_OK)
        status = output_to_input(&spool, &cut->in, index->source_bytes, error);
    output_close(&spool);
    codec_context_free(&codec);
    free(stream);
    free(bytes);
    return status;
}

/* The part of a piece that stays, in pieces of `view`. Puts them to `to`, if that is not NULL, and returns how many
 * there are. */
static uint32_t cut_piece(const cut *cut, const cache_piece *piece, uint32_t view, cache_piece *to) {
    const cut_cells *cells = cut->cells[view];
    if (!cells)
        return 0;
    uint32_t low = 0, high = cells->n_runs, end = piece->cell + piece->rows;
    while (low < high) { /* the first run that ends behind its first cell */
        uint32_t middle = low + (high - low) / 2;
        if (cells->runs[middle].first + cells->runs[middle].count <= piece->cell)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t n = 0;
    for (; low < cells->n_runs && cells->runs[low].first < end; low++, n++) {
        cut_run run = cells->runs[low];
        uint32_t first = run.first > piece->cell ? run.first : piece->cell;
        uint32_t last = run.first + run.count < end ? run.first + run.count : end;
        if (to)
            to[n] = (cache_piece){.row = piece->row + (first - piece->cell),
                                  .rows = last - first,
                                  .view = view,
                                  .cell = run.before + (first - run.first)};
    }
    return n;
}

/* The pieces of a chunk that stay, likewise. */
static uint64_t cut_chunk(const cut *cut, const cache_chunk *chunk, cache_piece *to) {
    const cache *from = &cut->reader->cache;
    uint64_t n = 0;
    for (uint32_t i = 0; i < chunk->n_pieces; i++) {
        const cache_piece *piece = &from->pieces[chunk->first_piece + i];
        uint32_t views[2];
        views_of(cut, piece->view, views);
        for (int copy = 0; copy < 2; copy++)
            n += cut_piece(cut, piece, views[copy], to ? to + n : NULL);
    }
    return n;
}

static kvot_status cut_pieces(cut *cut, kvot_error *error) {
    const cache *from = &cut->reader->cache;
    uint32_t n_chunks = from->tables.index->n_chunks, end = 0;
    uint64_t n = 0;
    for (uint32_t c = 0; c < n_chunks; c++)
        n += cut_chunk(cut, &from->chunks[c], NULL);
    if (n > UINT32_MAX || !(cut->cache.pieces = malloc((n + 1) * sizeof *cut->cache.pieces)))
        return fail_memory(error);
    for (uint32_t c = 0; c < n_chunks; c++) {
        cut->cache.chunks[c].first_piece = end;
        cut->cache.chunks[c].n_pieces = (uint32_t)cut_chunk(cut, &from->chunks[c], cut->cache.pieces + end);
        end += cut->cache.chunks[c].n_pieces;
    }
    cut->cache.n_pieces = n;
    return KVOT_OK;
}

/* The shorter file's cache: as yet with nothing in it. */
static kvot_status start(cut *cut, kvot_error *error) {
    const cache *from = &cut->reader->cache;
    const format_tables *tables = &from->tables;
    const format_index *index = tables->index;
    uint64_t places = 0, at = 0;
    for (uint32_t v = 0; v < index->n_views; v++)
        places += 2ull * tables->rowsets[tables->views[v].rowset].n_planes;
    cut->cache = *from;
    cut->cache.pieces = NULL;
    cut->cache.places = malloc((places + 1) * sizeof *cut->cache.places);
    cut->cache.chunks = malloc(((size_t)index->n_chunks + 1) * sizeof *cut->cache.chunks);
    cut->cache.first_view = cut->first_view = malloc(((size_t)index->n_rowsets + 1) * sizeof *cut->first_view);
    cut->cache.first_place = cut->first_place = malloc(((size_t)index->n_planes + 1) * sizeof *cut->first_place);
    cut->cache.tables.views = cut->views = malloc((2 * (size_t)index->n_views + 1) * sizeof *cut->views);
    cut->cells = calloc(2 * (size_t)index->n_views + 1, sizeof *cut->cells);
    cut->segment_at = malloc(((size_t)index->n_segments + 1) * sizeof *cut->segment_at);
    cut->buffer = malloc(BUFFER_BYTES);
    if (!cut->cache.places || !cut->cache.chunks || !cut->first_view || !cut->first_place || !cut->views ||
        !cut->cells || !cut->segment_at || !cut->buffer)
        return fail_memory(error);
    for (uint64_t i = 0; i < places; i++)
        cut->cache.places[i] = CACHE_NO_PLACE;
    memcpy(cut->cache.chunks, from->chunks, index->n_chunks * sizeof *from->chunks);
    for (uint32_t s = 0; s <= index->n_rowsets; s++)
        cut->first_view[s] = 2 * from->first_view[s];
    for (uint32_t p = 0; p < index->n_planes; p++)
        cut->first_place[p] = 2 * from->first_place[p];
    for (uint32_t v = 0; v < index->n_views; v++) {
        uint32_t views[2];
        views_of(cut, v, views);
        cut->views[views[0]] = cut->views[views[1]] = tables->views[v];
    }
    for (uint32_t i = 0; i < index->n_segments; i++) {
        cut->segment_at[i] = at;
        at += tables->segments[i].bytes;
    }
    return KVOT_OK;
}

kvot_status cut_open(cut *cut, const reader *reader, const kvot_restore_options *options, output *out,
                     const kvot_run *run, kvot_error *error) {
    *cut = (struct cut){.options = options, .reader = reader, .in = {.fd = -1}, .out = out};
    if (options->first_layer > 0 && options->first_layer >= options->end_layer)
        return fail(error, KVOT_E_ARGUMENT, "layers %u to %u are none", options->first_layer, options->end_layer);
    kvot_status status = start(cut, error);
    return status == KVOT_OK ? spool_verbatim(cut, run, error) : status;
}

kvot_status cut_finish(cut *cut, kvot_error *error) {
    kvot_status status = flush(cut, error);
    return status == KVOT_OK ? cut_pieces(cut, error) : status;
}

void cut_close(cut *cut) {
    while (cut->all_cells) {
        cut_cells *cells = cut->all_cells;
        cut->all_cells = cells->next;
        free(cells->runs);
        free(cells);
    }
    /* The rest of the cache is the reader's. */
    free(cut->cache.places);
    free(cut->cache.pieces);
    free(cut->cache.chunks);
    free(cut->first_view);
    free(cut->first_place);
    free(cut->views);
    free(cut->cells);
    free(cut->segment_at);
    free(cut->buffer);
    input_close(&cut->in);
}
