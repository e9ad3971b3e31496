#include "cache.h"

#include <stdlib.h>
#include <string.h>

void cache_free(cache *cache) {
    free(cache->owned);
    free(cache->first_chunk);
    free(cache->first_view);
    free(cache->first_stream);
    free(cache->first_place);
    free(cache->places);
    free(cache->chunks);
    free(cache->pieces);
    free(cache->units);
    free(cache->verbatim);
    memset(cache, 0, sizeof *cache);
}

/* Where the views of each row set begin, and where each plane's cells are in the source. */
static void link_views(cache *cache) {
    const format_tables *t = &cache->tables;
    uint32_t view = 0;
    for (uint32_t s = 0; s < t->index->n_rowsets; s++) {
        cache->first_view[s] = view;
        while (view < t->index->n_views && t->views[view].rowset == s)
            view++;
    }
    cache->first_view[t->index->n_rowsets] = view;
    uint64_t place = 0;
    for (uint32_t p = 0; p < t->index->n_planes; p++) {
        cache->first_place[p] = place;
        place += cache->first_view[t->planes[p].rowset + 1] - cache->first_view[t->planes[p].rowset];
    }
}

static void link_chunks(cache *cache) {
    const format_tables *t = &cache->tables;
    const format_run *run = t->position_runs;
    for (uint32_t s = 0, c = 0; s < t->index->n_rowsets; s++) {
        cache->first_chunk[s] = c;
        uint32_t row = 0, passed = 0; /* rows before `run` */
        for (uint32_t i = 0; i < t->rowsets[s].n_chunks; i++, c++) {
            while (row - passed >= run->count)
                passed += run++->count;
            cache->chunks[c] = (cache_chunk){.rowset = s,
                                             .ordinal = i,
                                             .first_row = row,
                                             .rows = t->chunk_rows[c],
                                             .first_position = (int32_t)(run->first + (row - passed))};
            row += t->chunk_rows[c];
        }
        run++; /* the row set's last */
    }
    cache->first_chunk[t->index->n_rowsets] = t->index->n_chunks;
}

static void link_planes(cache *cache) {
    const format_tables *t = &cache->tables;
    uint32_t stream = t->index->n_verbatim;
    for (uint32_t p = 0; p < t->index->n_planes; p++) {
        uint32_t s = t->planes[p].rowset;
        cache->first_stream[p] = stream;
        stream += t->rowsets[s].n_chunks;
        bool same = p > 0 && t->planes[p - 1].rowset == s && t->planes[p - 1].layer == t->planes[p].layer;
        if (same) {
            cache->units[cache->n_units - 1].n_planes++;
            continue;
        }
        cache->units[cache->n_units++] =
            (cache_unit){.rowset = s, .first_plane = p, .n_planes = 1, .first_job = cache->n_jobs};
        cache->n_jobs += t->rowsets[s].n_chunks;
    }
}

static bool link_segments(cache *cache) {
    const format_tables *t = &cache->tables;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < t->index->n_segments; i++) {
        const format_segment *segment = &t->segments[i];
        if (segment->plane == FORMAT_VERBATIM) {
            cache->verbatim[cache->n_verbatim++] = (cache_verbatim){cache->verbatim_bytes, offset, segment->bytes};
            cache->verbatim_bytes += segment->bytes;
        } else {
            uint64_t place = cache->first_place[segment->plane] + segment->view -
                             cache->first_view[t->planes[segment->plane].rowset];
            if (cache->places[place] != CACHE_NO_PLACE)
                return false;
            cache->places[place] = offset;
        }
        offset += segment->bytes;
    }
    return true;
}

/* The last of elements `low` to `high`, each `stride` bytes, that does not begin behind `at`; `first` is where the
 * first of all begins. The first of these does not. */
static uint32_t find_last(const uint32_t *first, size_t stride, uint32_t low, uint32_t high, uint32_t at) {
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (*(const uint32_t *)((const uint8_t *)first + middle * stride) <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

uint32_t cache_find_chunk(const cache *cache, uint32_t rowset, uint32_t row) {
    return find_last(&cache->chunks->first_row, sizeof *cache->chunks, cache->first_chunk[rowset],
                     cache->first_chunk[rowset + 1] - 1, row);
}

uint32_t cache_find_unit(const cache *cache, uint32_t plane) {
    return find_last(&cache->units->first_plane, sizeof *cache->units, 0, cache->n_units - 1, plane);
}

typedef bool piece_visitor(cache *cache, uint32_t chunk, cache_piece piece);

/* Cuts the runs of all views at the chunks' edges. Stops and returns false when the visitor does. */
static bool visit_pieces(cache *cache, piece_visitor *visit) {
    const format_run *run = cache->tables.view_runs;
    for (uint32_t v = 0; v < cache->tables.index->n_views; v++) {
        const format_view *view = &cache->tables.views[v];
        uint32_t cell = 0;
        for (uint32_t r = 0; r < view->n_runs; r++, run++) {
            for (uint32_t row = run->first, end = run->first + run->count; row < end;) {
                uint32_t c = cache_find_chunk(cache, view->rowset, row);
                const cache_chunk *chunk = &cache->chunks[c];
                uint32_t rows = chunk->first_row + chunk->rows < end ? chunk->first_row + chunk->rows - row : end - row;
                if (!visit(cache, c, (cache_piece){row - chunk->first_row, rows, v, cell}))
                    return false;
                row += rows;
                cell += rows;
            }
        }
    }
    return true;
}

static bool count_piece(cache *cache, uint32_t chunk, cache_piece piece) {
    (void)piece;
    cache->chunks[chunk].n_pieces++;
    return ++cache->n_pieces <= cache->most_pieces;
}

static bool put_piece(cache *cache, uint32_t chunk, cache_piece piece) {
    cache->pieces[cache->chunks[chunk].first_piece + cache->chunks[chunk].n_pieces++] = piece;
    return true;
}

static int order_pieces(const void *left, const void *right) {
    const cache_piece *a = left, *b = right;
    if (a->row != b->row)
        return a->row < b->row ? -1 : 1;
    if (a->view != b->view)
        return a->view < b->view ? -1 : 1;
    return a->cell < b->cell ? -1 : a->cell > b->cell;
}

static kvot_status link_pieces(cache *cache, const char *name, kvot_error *error) {
    /* A small index can ask for views times chunks pieces. Real caches need far fewer than their index has bytes. */
    uint32_t n_chunks = cache->tables.index->n_chunks;
    cache->most_pieces = (1u << 20) + format_index_bytes(cache->tables.index, UINT32_MAX / 2);
    if (!visit_pieces(cache, count_piece))
        return fail(error, KVOT_E_UNSUPPORTED, "%s: rows are repeated too often", name);
    cache->pieces = malloc((cache->n_pieces + 1) * sizeof *cache->pieces);
    if (!cache->pieces)
        return fail_memory(error);
    uint32_t first = 0;
    for (uint32_t c = 0; c < n_chunks; c++) {
        cache->chunks[c].first_piece = first;
        first += cache->chunks[c].n_pieces;
        cache->chunks[c].n_pieces = 0;
    }
    visit_pieces(cache, put_piece);
    for (uint32_t c = 0; c < n_chunks; c++)
        qsort(cache->pieces + cache->chunks[c].first_piece, cache->chunks[c].n_pieces, sizeof *cache->pieces,
              order_pieces);
    return KVOT_OK;
}

/* Every row must occur in a view, or it could not have been read and cannot be written. */
static bool rows_covered(const cache *cache) {
    for (uint32_t c = 0; c < cache->tables.index->n_chunks; c++) {
        const cache_chunk *chunk = &cache->chunks[c];
        uint32_t covered = 0;
        for (uint32_t i = 0; i < chunk->n_pieces; i++) {
            const cache_piece *piece = &cache->pieces[chunk->first_piece + i];
            if (piece->row > covered)
                return false;
            if (piece->row + piece->rows > covered)
                covered = piece->row + piece->rows;
        }
        if (covered != chunk->rows)
            return false;
    }
    return true;
}

kvot_status cache_link_source(cache *cache, const char *name, kvot_error *error) {
    const format_tables *t = &cache->tables;
    uint64_t places = 0;
    for (uint32_t v = 0; v < t->index->n_views; v++)
        places += t->rowsets[t->views[v].rowset].n_planes;
    cache->first_view = calloc((size_t)t->index->n_rowsets + 1, sizeof *cache->first_view);
    cache->first_place = calloc((size_t)t->index->n_planes + 1, sizeof *cache->first_place);
    cache->places = malloc((places + 1) * sizeof *cache->places);
    cache->verbatim = calloc((size_t)t->index->n_segments + 1, sizeof *cache->verbatim);
    if (!cache->first_view || !cache->first_place || !cache->places || !cache->verbatim)
        return fail_memory(error);
    memset(cache->places, 0xff, places * sizeof *cache->places);
    link_views(cache);
    return link_segments(cache) ? KVOT_OK : fail(error, KVOT_E_DAMAGED, "%s: a plane occurs twice in a view", name);
}

kvot_status cache_link_rows(cache *cache, const char *name, kvot_error *error) {
    const format_tables *t = &cache->tables;
    cache->first_chunk = calloc((size_t)t->index->n_rowsets + 1, sizeof *cache->first_chunk);
    cache->first_stream = calloc((size_t)t->index->n_planes + 1, sizeof *cache->first_stream);
    cache->chunks = calloc((size_t)t->index->n_chunks + 1, sizeof *cache->chunks);
    cache->units = calloc((size_t)t->index->n_planes + 1, sizeof *cache->units);
    if (!cache->first_chunk || !cache->first_stream || !cache->chunks || !cache->units)
        return fail_memory(error);
    cache->n_jobs = t->index->n_verbatim;
    link_chunks(cache);
    link_planes(cache);
    kvot_status status = link_pieces(cache, name, error);
    if (status != KVOT_OK)
        return status;
    return rows_covered(cache) ? KVOT_OK : fail(error, KVOT_E_DAMAGED, "%s: a row belongs to no cell", name);
}

cache_job cache_locate(const cache *cache, uint64_t job) {
    uint32_t n_verbatim = cache->tables.index->n_verbatim;
    if (job < n_verbatim)
        return (cache_job){.verbatim = true, .block = (uint32_t)job};
    uint32_t low = 0, high = cache->n_units - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (cache->units[middle].first_job <= job)
            low = middle;
        else
            high = middle - 1;
    }
    const cache_unit *unit = &cache->units[low];
    uint32_t chunk = cache->first_chunk[unit->rowset] + (uint32_t)(job - unit->first_job);
    return (cache_job){.unit = unit, .chunk = &cache->chunks[chunk]};
}

uint32_t cache_stream(const cache *cache, uint32_t plane, const cache_chunk *chunk) {
    return cache->first_stream[plane] + chunk->ordinal;
}

uint32_t cache_verbatim_bytes(const cache *cache, uint32_t block) {
    uint64_t left = cache->verbatim_bytes - (uint64_t)block * FORMAT_VERBATIM_STEP;
    return left < FORMAT_VERBATIM_STEP ? (uint32_t)left : FORMAT_VERBATIM_STEP;
}

static uint64_t place_of(const cache *cache, uint32_t plane, uint32_t view) {
    uint32_t rowset = cache->tables.planes[plane].rowset;
    return cache->places[cache->first_place[plane] + view - cache->first_view[rowset]];
}

bool cache_occurs(const cache *cache, uint32_t plane, const cache_chunk *chunk) {
    for (uint32_t i = 0; i < chunk->n_pieces; i++)
        if (place_of(cache, plane, cache->pieces[chunk->first_piece + i].view) != CACHE_NO_PLACE)
            return true;
    return false;
}

/* Copies one channel of `n` rows out of or into token-major rows. */
static void copy_channel(uint8_t *rows, size_t row_bytes, uint8_t *channel, size_t elem, uint32_t n, bool out) {
    for (uint32_t i = 0; i < n; i++) {
        if (out)
            memcpy(channel + i * elem, rows + i * row_bytes, elem);
        else
            memcpy(rows + i * row_bytes, channel + i * elem, elem);
    }
}

kvot_status cache_read_cells(const cache *cache, uint32_t plane, uint32_t view, uint32_t cell, uint32_t n,
                             const input *in, void *rows, kvot_error *error) {
    const format_plane *about = &cache->tables.planes[plane];
    uint64_t place = place_of(cache, plane, view);
    if (about->layout == FORMAT_TOKEN_MAJOR)
        return input_read(in, place + (uint64_t)cell * about->row_bytes, rows, (size_t)n * about->row_bytes, error);
    size_t elem = format_type_of(about->type)->block_bytes;
    uint32_t n_cells = cache->tables.views[view].n_cells;
    uint8_t channel[FORMAT_CHUNK_ROWS * sizeof(float)];
    kvot_status status = KVOT_OK;
    for (uint32_t c = 0; c < about->row_bytes / elem && status == KVOT_OK; c++) {
        status = input_read(in, place + ((uint64_t)c * n_cells + cell) * elem, channel, n * elem, error);
        copy_channel((uint8_t *)rows + c * elem, about->row_bytes, channel, elem, n, false);
    }
    return status;
}

static kvot_status write_cells(const cache *cache, uint32_t plane, uint32_t view, uint32_t cell, uint32_t n,
                               output *out, const void *rows, kvot_error *error) {
    const format_plane *about = &cache->tables.planes[plane];
    uint64_t place = place_of(cache, plane, view);
    if (about->layout == FORMAT_TOKEN_MAJOR)
        return output_put(out, place + (uint64_t)cell * about->row_bytes, rows, (size_t)n * about->row_bytes, error);
    size_t elem = format_type_of(about->type)->block_bytes;
    uint32_t n_cells = cache->tables.views[view].n_cells;
    uint8_t channel[FORMAT_CHUNK_ROWS * sizeof(float)];
    kvot_status status = KVOT_OK;
    for (uint32_t c = 0; c < about->row_bytes / elem && status == KVOT_OK; c++) {
        copy_channel((uint8_t *)rows + c * elem, about->row_bytes, channel, elem, n, true);
        status = output_put(out, place + ((uint64_t)c * n_cells + cell) * elem, channel, n * elem, error);
    }
    return status;
}

kvot_status cache_gather(const cache *cache, uint32_t plane, const cache_chunk *chunk, const input *in, void *rows,
                         kvot_error *error) {
    size_t row_bytes = cache->tables.planes[plane].row_bytes;
    uint32_t filled = 0;
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < chunk->n_pieces && status == KVOT_OK; i++) {
        cache_piece piece = cache->pieces[chunk->first_piece + i];
        if (piece.row + piece.rows <= filled)
            continue;
        uint32_t skip = filled - piece.row; /* these came from another view already */
        status = cache_read_cells(cache, plane, piece.view, piece.cell + skip, piece.rows - skip, in,
                                  (uint8_t *)rows + filled * row_bytes, error);
        filled = piece.row + piece.rows;
    }
    return status;
}

kvot_status cache_scatter(const cache *cache, uint32_t plane, const cache_chunk *chunk, output *out, const void *rows,
                          kvot_error *error) {
    size_t row_bytes = cache->tables.planes[plane].row_bytes;
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < chunk->n_pieces && status == KVOT_OK; i++) {
        cache_piece piece = cache->pieces[chunk->first_piece + i];
        if (place_of(cache, plane, piece.view) == CACHE_NO_PLACE)
            continue;
        status = write_cells(cache, plane, piece.view, piece.cell, piece.rows, out,
                             (const uint8_t *)rows + piece.row * row_bytes, error);
    }
    return status;
}

/* The run of verbatim bytes that holds `offset`. */
static const cache_verbatim *find_verbatim(const cache *cache, uint64_t offset) {
    uint32_t low = 0, high = cache->n_verbatim - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (cache->verbatim[middle].verbatim_offset <= offset)
            low = middle;
        else
            high = middle - 1;
    }
    return &cache->verbatim[low];
}

/* Reads (`in`) or writes (`out`) a verbatim block, run by run. */
static kvot_status move_verbatim(const cache *cache, uint32_t block, const input *in, output *out, uint8_t *bytes,
                                 kvot_error *error) {
    uint64_t at = (uint64_t)block * FORMAT_VERBATIM_STEP, end = at + cache_verbatim_bytes(cache, block);
    kvot_status status = KVOT_OK;
    for (const cache_verbatim *run = find_verbatim(cache, at); at < end && status == KVOT_OK; run++) {
        uint64_t skip = at - run->verbatim_offset;
        uint64_t n = run->bytes - skip < end - at ? run->bytes - skip : end - at;
        if (in)
            status = input_read(in, run->source_offset + skip, bytes, n, error);
        else
            status = output_put(out, run->source_offset + skip, bytes, n, error);
        bytes += n;
        at += n;
    }
    return status;
}

kvot_status cache_gather_verbatim(const cache *cache, uint32_t block, const input *in, void *bytes, kvot_error *error) {
    return move_verbatim(cache, block, in, NULL, bytes, error);
}

kvot_status cache_scatter_verbatim(const cache *cache, uint32_t block, output *out, const void *bytes,
                                   kvot_error *error) {
    return move_verbatim(cache, block, NULL, out, (uint8_t *)bytes, error);
}

uint64_t cache_job_bytes(const cache *cache, cache_job job) {
    if (job.verbatim)
        return cache_verbatim_bytes(cache, job.block);
    uint64_t row_bytes = 0;
    for (uint32_t p = 0; p < job.unit->n_planes; p++)
        row_bytes += cache->tables.planes[job.unit->first_plane + p].row_bytes;
    return row_bytes * job.chunk->rows;
}

kvot_sizes cache_sizes(const cache *cache, uint64_t stored_bytes) {
    const format_tables *tables = &cache->tables;
    kvot_sizes sizes = {.original_bytes = tables->index->source_bytes, .stored_bytes = stored_bytes};
    for (uint32_t p = 0; p < tables->index->n_planes; p++)
        if (tables->planes[p].codec != FORMAT_LOSSLESS)
            sizes.quantized_bytes +=
                (uint64_t)tables->rowsets[tables->planes[p].rowset].n_rows * tables->planes[p].row_bytes;
    return sizes;
}

uint64_t cache_bytes(const cache *cache) {
    const format_tables *tables = &cache->tables;
    uint64_t bytes = cache->verbatim_bytes;
    for (uint32_t p = 0; p < tables->index->n_planes; p++)
        bytes += (uint64_t)tables->rowsets[tables->planes[p].rowset].n_rows * tables->planes[p].row_bytes;
    return bytes;
}
