#include "rows.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct row_cell {
    uint64_t hash; /* of the cell's bits in all planes, where its position occurs twice */
    uint32_t view, cell;
    int32_t position;
    uint32_t strand;
    uint32_t owner; /* the cell whose row this is: itself unless it repeats an earlier one */
    uint32_t track;
    uint32_t row;
} row_cell;

/* Cells of one view and one sequence. */
typedef struct strand {
    uint32_t view;
    int32_t sequence;
    uint32_t track; /* number of the strand that began it */
} strand;

/* The cells of one row set, in the order of views and cells, and what is found out about them. */
typedef struct rows {
    const cache *cache;
    const input *in;
    uint32_t rowset;
    uint32_t first_plane, end_plane;
    row_cell *cells;
    uint32_t n_cells;
    strand *strands;
    uint32_t n_strands;
    uint32_t *order;  /* indices of cells */
    uint32_t block;   /* cells that are read at once, and rows of a chunk at the most */
    uint32_t largest; /* bytes of a row */
    uint8_t *buffer;  /* for two blocks, where rows have to be compared */
} rows;

/* Tables that grow while row sets are made, until their sizes are known. */
typedef struct row_tables {
    format_rowset *rowsets;
    format_run *position_runs, *view_runs;
    uint32_t *chunk_rows;
    format_view *views;
    uint64_t n_position_runs, n_view_runs, n_chunks;
} row_tables;

static int compare(uint64_t a, uint64_t b) {
    return (a > b) - (a < b);
}

static int by_position_and_hash(const void *left, const void *right, void *context) {
    uint32_t i = *(const uint32_t *)left, k = *(const uint32_t *)right;
    const row_cell *a = (const row_cell *)context + i, *b = (const row_cell *)context + k;
    if (a->position != b->position)
        return a->position < b->position ? -1 : 1;
    return a->hash != b->hash ? compare(a->hash, b->hash) : compare(i, k);
}

static int by_track_and_position(const void *left, const void *right, void *context) {
    uint32_t i = *(const uint32_t *)left, k = *(const uint32_t *)right;
    const row_cell *a = (const row_cell *)context + i, *b = (const row_cell *)context + k;
    if (a->track != b->track)
        return compare(a->track, b->track);
    if (a->position != b->position)
        return a->position < b->position ? -1 : 1;
    return a->strand != b->strand ? compare(a->strand, b->strand) : compare(i, k);
}

static int by_view_and_sequence(const void *left, const void *right) {
    const strand *a = left, *b = right;
    if (a->view != b->view)
        return compare(a->view, b->view);
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

static void sort_cells(rows *rows, uint32_t n, int (*by)(const void *, const void *, void *)) {
    qsort_r(rows->order, n, sizeof *rows->order, by, rows->cells);
}

/* Finds the strand that each cell lies in. `sequences` has one entry a cell. */
static kvot_status find_strands(rows *rows, const int32_t *sequences, kvot_error *error) {
    rows->strands = malloc(rows->n_cells * sizeof *rows->strands);
    if (!rows->strands)
        return fail_memory(error);
    for (uint32_t i = 0; i < rows->n_cells; i++)
        rows->strands[i] = (strand){.view = rows->cells[i].view, .sequence = sequences[i]};
    qsort(rows->strands, rows->n_cells, sizeof *rows->strands, by_view_and_sequence);
    for (uint32_t i = 0; i < rows->n_cells; i++)
        if (i == 0 || by_view_and_sequence(&rows->strands[i], &rows->strands[rows->n_strands - 1]) != 0)
            rows->strands[rows->n_strands++] = rows->strands[i];
    for (uint32_t i = 0; i < rows->n_cells; i++) {
        strand key = {.view = rows->cells[i].view, .sequence = sequences[i]};
        strand *found = bsearch(&key, rows->strands, rows->n_strands, sizeof key, by_view_and_sequence);
        rows->cells[i].strand = (uint32_t)(found - rows->strands);
    }
    return KVOT_OK;
}

static kvot_status read_block(const rows *rows, uint32_t plane, uint32_t first, uint32_t n, uint8_t *to,
                              kvot_error *error) {
    const row_cell *cell = &rows->cells[first];
    return cache_read_cells(rows->cache, plane, cell->view, cell->cell, n, rows->in, to, error);
}

/* Whether cell `i` goes into a block that begins with cell `first`. */
typedef bool belongs(const rows *rows, uint32_t first, uint32_t i);

/* Number of cells from `first` on that belong together and can be read at once. */
static uint32_t block_of(const rows *rows, uint32_t first, belongs *wanted) {
    uint32_t n = 0;
    while (n < rows->block && first + n < rows->n_cells && rows->cells[first + n].view == rows->cells[first].view &&
           wanted(rows, first, first + n))
        n++;
    return n;
}

static bool is_marked(const rows *rows, uint32_t first, uint32_t i) {
    (void)first;
    return rows->cells[i].row != 0;
}

static kvot_status hash_marked(rows *rows, uint32_t plane, kvot_error *error) {
    size_t row_bytes = rows->cache->tables.planes[plane].row_bytes;
    for (uint32_t i = 0, n; i < rows->n_cells; i += n) {
        if ((n = block_of(rows, i, is_marked)) == 0) {
            n = 1;
            continue;
        }
        kvot_status status = read_block(rows, plane, i, n, rows->buffer, error);
        if (status != KVOT_OK)
            return status;
        for (uint32_t k = 0; k < n; k++)
            rows->cells[i + k].hash =
                XXH3_64bits_withSeed(rows->buffer + k * row_bytes, row_bytes, rows->cells[i + k].hash);
    }
    return KVOT_OK;
}

/* Repeats whose owners lie side by side too. */
static bool repeats_along(const rows *rows, uint32_t first, uint32_t i) {
    uint32_t owner = rows->cells[i].owner;
    return owner != i && owner - rows->cells[first].owner == i - first &&
           rows->cells[owner].view == rows->cells[rows->cells[first].owner].view;
}

/* Compares repeats with their owners bit by bit; where they differ, the hash was wrong and there is no repeat. */
static kvot_status confirm_repeats(rows *rows, uint32_t plane, kvot_error *error) {
    size_t row_bytes = rows->cache->tables.planes[plane].row_bytes;
    uint8_t *second = rows->buffer + rows->block * row_bytes;
    for (uint32_t i = 0, n; i < rows->n_cells; i += n) {
        if ((n = block_of(rows, i, repeats_along)) == 0) {
            n = 1;
            continue;
        }
        kvot_status status = read_block(rows, plane, i, n, rows->buffer, error);
        if (status == KVOT_OK)
            status = read_block(rows, plane, rows->cells[i].owner, n, second, error);
        if (status != KVOT_OK)
            return status;
        for (uint32_t k = 0; k < n; k++)
            if (memcmp(rows->buffer + k * row_bytes, second + k * row_bytes, row_bytes) != 0)
                rows->cells[i + k].owner = i + k;
    }
    return KVOT_OK;
}

/* Sets each cell's owner: the first cell, in the order of views, with the same position and bits. */
static kvot_status find_owners(rows *rows, kvot_error *error) {
    bool several = false;
    for (uint32_t i = 0; i < rows->n_cells; i++)
        rows->cells[i].owner = rows->order[i] = i;
    sort_cells(rows, rows->n_cells, by_position_and_hash);
    for (uint32_t i = 1; i < rows->n_cells; i++) {
        row_cell *before = &rows->cells[rows->order[i - 1]], *cell = &rows->cells[rows->order[i]];
        if (before->position == cell->position)
            before->row = cell->row = 1, several = true; /* a mark, for hash_marked */
    }
    kvot_status status = KVOT_OK;
    if (several && !(rows->buffer = malloc(2 * (size_t)rows->block * rows->largest)))
        status = fail_memory(error);
    for (uint32_t p = rows->first_plane; p < rows->end_plane && several && status == KVOT_OK; p++)
        status = hash_marked(rows, p, error);
    sort_cells(rows, rows->n_cells, by_position_and_hash);
    for (uint32_t i = 1; i < rows->n_cells; i++) {
        row_cell *before = &rows->cells[rows->order[i - 1]], *cell = &rows->cells[rows->order[i]];
        if (before->position == cell->position && before->hash == cell->hash)
            cell->owner = before->owner;
    }
    for (uint32_t p = rows->first_plane; p < rows->end_plane && several && status == KVOT_OK; p++)
        status = confirm_repeats(rows, p, error);
    return status;
}

/* Sets each owner's track. A strand that repeats a row of an earlier strand goes on with that one's track, except where
 * the track has another row at the same position already: such rows make a track of their own. */
static uint32_t find_tracks(rows *rows) {
    for (uint32_t s = 0; s < rows->n_strands; s++)
        rows->strands[s].track = s;
    /* Views come in order, so an earlier strand's track is settled, but for strands of the same view. */
    for (uint32_t i = 0; i < rows->n_cells; i++) {
        strand *own = &rows->strands[rows->cells[i].strand];
        const strand *other = &rows->strands[rows->cells[rows->cells[i].owner].strand];
        if (other < own && own->track == (uint32_t)(own - rows->strands))
            own->track = other->track;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < rows->n_cells; i++) {
        rows->cells[i].track = rows->strands[rows->cells[i].strand].track;
        if (rows->cells[i].owner == i)
            rows->order[n++] = i;
    }
    sort_cells(rows, n, by_track_and_position);
    const row_cell *first = NULL; /* at this track and position */
    for (uint32_t i = 0; i < n; i++) {
        row_cell *cell = &rows->cells[rows->order[i]];
        uint32_t home = rows->strands[cell->strand].track;
        if (!first || rows->strands[first->strand].track != home || first->position != cell->position)
            first = cell;
        else if (first->strand != cell->strand)
            cell->track = cell->strand;
    }
    sort_cells(rows, n, by_track_and_position);
    return n;
}

static kvot_status add_run(format_run **runs, uint64_t *n, uint64_t first, uint32_t number, kvot_error *error) {
    format_run *last = *n > first ? &(*runs)[*n - 1] : NULL;
    if (last && last->first + last->count == number) {
        last->count++;
        return KVOT_OK;
    }
    kvot_status status = grow(runs, *n, *n + 1, sizeof **runs, error);
    if (status == KVOT_OK)
        (*runs)[(*n)++] = (format_run){number, 1};
    return status;
}

/* Numbers the rows in their order and cuts them into chunks: at multiples of the chunk length in position. */
static kvot_status number_rows(rows *rows, uint32_t n_rows, row_tables *out, kvot_error *error) {
    uint64_t first_run = out->n_position_runs, first_chunk = out->n_chunks;
    const row_cell *before = NULL;
    kvot_status status = KVOT_OK;
    for (uint32_t r = 0; r < n_rows && status == KVOT_OK; r++) {
        row_cell *cell = &rows->cells[rows->order[r]];
        cell->row = r;
        status = add_run(&out->position_runs, &out->n_position_runs, first_run, (uint32_t)cell->position, error);
        bool cut = !before || before->track != cell->track ||
                   before->position / (int32_t)rows->block != cell->position / (int32_t)rows->block ||
                   out->chunk_rows[out->n_chunks - 1] == rows->block;
        if (cut && status == KVOT_OK) {
            status = grow(&out->chunk_rows, out->n_chunks, out->n_chunks + 1, sizeof *out->chunk_rows, error);
            if (status == KVOT_OK)
                out->chunk_rows[out->n_chunks++] = 0;
        }
        if (status == KVOT_OK)
            out->chunk_rows[out->n_chunks - 1]++;
        before = cell;
    }
    out->rowsets[rows->rowset] = (format_rowset){.n_rows = n_rows,
                                                 .n_position_runs = (uint32_t)(out->n_position_runs - first_run),
                                                 .n_chunks = (uint32_t)(out->n_chunks - first_chunk),
                                                 .n_planes = rows->end_plane - rows->first_plane};
    return status;
}

static kvot_status map_views(const rows *rows, row_tables *out, kvot_error *error) {
    kvot_status status = KVOT_OK;
    uint64_t first_run = 0;
    for (uint32_t i = 0; i < rows->n_cells && status == KVOT_OK; i++) {
        const row_cell *cell = &rows->cells[i];
        if (cell->cell == 0)
            first_run = out->n_view_runs;
        status = add_run(&out->view_runs, &out->n_view_runs, first_run, rows->cells[cell->owner].row, error);
        out->views[cell->view].n_runs = (uint32_t)(out->n_view_runs - first_run);
    }
    return status;
}

static uint32_t largest_row(const format_plane *planes, uint32_t n_planes) {
    uint32_t largest = 1;
    for (uint32_t p = 0; p < n_planes; p++)
        if (planes[p].row_bytes > largest)
            largest = planes[p].row_bytes;
    return largest;
}

uint32_t rows_of_chunk(const format_plane *planes, uint32_t n_planes) {
    uint32_t rows = FORMAT_CHUNK_ROWS;
    while ((uint64_t)rows * largest_row(planes, n_planes) > FORMAT_CHUNK_BYTES)
        rows /= 2;
    return rows;
}

/* Works one row set out. `view_at` gives the plan's number of each view. */
static kvot_status make_rowset(rows *rows, const plan *plan, const uint32_t *view_at, row_tables *out,
                               kvot_error *error) {
    const cache *cache = rows->cache;
    uint64_t n = 0;
    for (uint32_t v = cache->first_view[rows->rowset]; v < cache->first_view[rows->rowset + 1]; v++)
        n += out->views[v].n_cells;
    if (n > INT32_MAX)
        return fail(error, KVOT_E_UNSUPPORTED, "%s: more than %d cells of one kind", rows->in->name, INT32_MAX);
    const format_plane *planes = cache->tables.planes + rows->first_plane;
    uint32_t n_planes = rows->end_plane - rows->first_plane;
    rows->block = rows_of_chunk(planes, n_planes);
    rows->largest = largest_row(planes, n_planes);
    rows->cells = calloc(n, sizeof *rows->cells);
    rows->order = malloc(n * sizeof *rows->order);
    int32_t *sequences = malloc(n * sizeof *sequences);
    kvot_status status = KVOT_OK;
    if (!rows->cells || !rows->order || !sequences)
        status = fail_memory(error);
    for (uint32_t v = cache->first_view[rows->rowset]; v < cache->first_view[rows->rowset + 1] && status == KVOT_OK;
         v++) {
        const plan_view *view = &plan->views[view_at[v]];
        for (uint32_t c = 0; c < view->n_cells; c++) {
            const plan_cell *cell = &plan->cells[view->first_cell + c];
            sequences[rows->n_cells] = cell->sequence;
            rows->cells[rows->n_cells++] = (row_cell){.view = v, .cell = c, .position = cell->position};
        }
    }
    if (status == KVOT_OK)
        status = find_strands(rows, sequences, error);
    free(sequences);
    if (status == KVOT_OK)
        status = find_owners(rows, error);
    if (status == KVOT_OK)
        status = number_rows(rows, find_tracks(rows), out, error);
    if (status == KVOT_OK)
        status = map_views(rows, out, error);
    free(rows->cells);
    free(rows->order);
    free(rows->strands);
    free(rows->buffer);
    return status;
}

/* Puts the views in the order of their row sets. `first` has a zeroed entry for each row set, and one more. */
static void order_views(const plan *plan, uint32_t *first, uint32_t *view_at, uint32_t *view_of, format_view *views) {
    for (uint32_t v = 0; v < plan->n_views; v++)
        first[plan->views[v].rowset + 1]++;
    for (uint32_t s = 0; s < plan->n_rowsets; s++)
        first[s + 1] += first[s];
    for (uint32_t v = 0; v < plan->n_views; v++) {
        uint32_t at = first[plan->views[v].rowset]++;
        view_at[at] = v;
        view_of[v] = at;
        views[at] = (format_view){.rowset = plan->views[v].rowset, .n_cells = plan->views[v].n_cells};
    }
}

/* Copies all tables into one block of memory, laid out as the index of a .kvot file. */
static kvot_status pack(cache *cache, const plan *plan, const format_segment *segments, const row_tables *tables,
                        kvot_error *error) {
    format_index index = plan->about;
    uint64_t verbatim = 0, streams = 0;
    for (uint32_t i = 0; i < plan->n_segments; i++)
        verbatim += segments[i].plane == FORMAT_VERBATIM ? segments[i].bytes : 0;
    uint64_t blocks = (verbatim + FORMAT_VERBATIM_STEP - 1) / FORMAT_VERBATIM_STEP;
    for (uint32_t s = 0; s < plan->n_rowsets; s++)
        streams += (uint64_t)tables->rowsets[s].n_chunks * tables->rowsets[s].n_planes;
    if (tables->n_position_runs > UINT32_MAX || tables->n_view_runs > UINT32_MAX || blocks + streams > UINT32_MAX)
        return fail(error, KVOT_E_UNSUPPORTED, "the cache has more chunks or runs than a .kvot file can hold");
    index.source_bytes = plan->bytes;
    index.n_rowsets = plan->n_rowsets;
    index.n_position_runs = (uint32_t)tables->n_position_runs;
    index.n_chunks = (uint32_t)tables->n_chunks;
    index.n_views = plan->n_views;
    index.n_view_runs = (uint32_t)tables->n_view_runs;
    index.n_planes = plan->n_planes;
    index.n_segments = plan->n_segments;
    index.n_verbatim = (uint32_t)blocks;
    index.n_streams = (uint32_t)(blocks + streams);
    uint64_t bytes = format_index_bytes(&index, UINT64_MAX);
    cache->owned = calloc(1, bytes);
    if (!cache->owned)
        return fail_memory(error);
    memcpy(cache->owned, &index, sizeof index);
    format_index_tables(cache->owned, bytes, &cache->tables);
#define COPY(to, from, n) ((n) ? memcpy((void *)cache->tables.to, from, (size_t)(n) * sizeof *cache->tables.to) : NULL)
    COPY(rowsets, tables->rowsets, plan->n_rowsets);
    COPY(position_runs, tables->position_runs, tables->n_position_runs);
    COPY(chunk_rows, tables->chunk_rows, tables->n_chunks);
    COPY(views, tables->views, plan->n_views);
    COPY(view_runs, tables->view_runs, tables->n_view_runs);
    COPY(planes, plan->planes, plan->n_planes);
    COPY(segments, segments, plan->n_segments);
#undef COPY
    return KVOT_OK;
}

kvot_status rows_to_cache(const plan *plan, const input *in, cache *result, kvot_error *error) {
    row_tables tables = {0};
    uint32_t *first = calloc((size_t)plan->n_rowsets + 1, sizeof *first);
    uint32_t *view_at = calloc((size_t)plan->n_views + 1, sizeof *view_at);
    uint32_t *view_of = calloc((size_t)plan->n_views + 1, sizeof *view_of);
    format_segment *segments = calloc((size_t)plan->n_segments + 1, sizeof *segments);
    tables.rowsets = calloc((size_t)plan->n_rowsets + 1, sizeof *tables.rowsets);
    tables.views = calloc((size_t)plan->n_views + 1, sizeof *tables.views);
    memset(result, 0, sizeof *result);
    cache source = {0};
    kvot_status status = KVOT_OK;
    if (!first || !view_at || !view_of || !segments || !tables.rowsets || !tables.views) {
        status = fail_memory(error);
        goto out;
    }
    order_views(plan, first, view_at, view_of, tables.views);
    for (uint32_t i = 0; i < plan->n_segments; i++) {
        segments[i] = plan->segments[i];
        if (segments[i].plane != FORMAT_VERBATIM)
            segments[i].view = view_of[segments[i].view];
    }
    for (uint32_t p = 0; p < plan->n_planes; p++)
        tables.rowsets[plan->planes[p].rowset].n_planes++;

    /* Just enough of a cache to read cells by. */
    format_index about = {.n_rowsets = plan->n_rowsets,
                          .n_views = plan->n_views,
                          .n_planes = plan->n_planes,
                          .n_segments = plan->n_segments};
    source.tables = (format_tables){.index = &about,
                                    .rowsets = tables.rowsets,
                                    .views = tables.views,
                                    .planes = plan->planes,
                                    .segments = segments};
    status = cache_link_source(&source, in->name, error);
    for (uint32_t s = 0, plane = 0; s < plan->n_rowsets && status == KVOT_OK; s++) {
        uint32_t end = plane + tables.rowsets[s].n_planes;
        rows rows = {.cache = &source, .in = in, .rowset = s, .first_plane = plane, .end_plane = end};
        status = make_rowset(&rows, plan, view_at, &tables, error);
        plane = end;
    }
    if (status == KVOT_OK)
        status = pack(result, plan, segments, &tables, error);
    if (status == KVOT_OK)
        status = cache_link_source(result, in->name, error);
    if (status == KVOT_OK)
        status = cache_link_rows(result, in->name, error);
out:
    cache_free(&source);
    if (status != KVOT_OK)
        cache_free(result);
    free(first);
    free(view_at);
    free(view_of);
    free(segments);
    free(tables.rowsets);
    free(tables.views);
    free(tables.position_runs);
    free(tables.view_runs);
    free(tables.chunk_rows);
    return status;
}
