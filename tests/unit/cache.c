#include "unit.h"

#include "../../lib/cache/rows.h"

#include <stdlib.h>
#include <string.h>

enum { ROW = 4, MOST = 1000 };

/* A source with one plane of rows of four bytes, made view by view. Row contents are told by a number. */
typedef struct source {
    plan plan;
    uint8_t bytes[16 * MOST * ROW];
    uint32_t rowset;
} source;

static void start(source *source) {
    memset(source, 0, sizeof *source);
    format_plane plane = {.type = FORMAT_F32, .row_bytes = ROW, .heads = 1};
    plan_add_rowset(&source->plan, &source->rowset, NULL);
    plan_add_plane(&source->plan, &plane, NULL);
}

/* A view of `n` cells at positions `first`, `first + 1`, ...; what a row holds depends on position and `content`. */
static void add_view(source *source, int32_t first, uint32_t n, int32_t sequence, uint32_t content) {
    plan_cell *cells;
    uint32_t *rows = (uint32_t *)(source->bytes + source->plan.bytes);
    plan_add_view(&source->plan, source->rowset, n, &cells, NULL);
    for (uint32_t i = 0; i < n; i++) {
        cells[i] = (plan_cell){first + (int32_t)i, sequence};
        rows[i] = (uint32_t)(first + (int32_t)i) * 1000 + content;
    }
    plan_add_tensor(&source->plan, 0, source->plan.n_views - 1, NULL);
}

static kvot_status finish(source *source, cache *cache) {
    input in = {.fd = -1, .memory = source->bytes, .bytes = source->plan.bytes, .name = "test"};
    return rows_to_cache(&source->plan, &in, cache, NULL);
}

/* Gathers every chunk and checks that each row is the one that its position asks for. Returns the number of rows. */
static uint32_t check_rows(const source *source, const cache *cache) {
    input in = {.fd = -1, .memory = source->bytes, .bytes = source->plan.bytes, .name = "test"};
    uint32_t n = 0;
    for (uint32_t c = 0; c < cache->tables.index->n_chunks; c++) {
        uint32_t rows[FORMAT_CHUNK_ROWS];
        CU_ASSERT_EQUAL(cache_gather(cache, 0, &cache->chunks[c], &in, rows, NULL), KVOT_OK);
        CU_ASSERT_EQUAL(rows[0] / 1000, (uint32_t)cache->chunks[c].first_position);
        n += cache->chunks[c].rows;
    }
    format_tables tables;
    uint64_t bytes = format_index_bytes(cache->tables.index, UINT64_MAX);
    CU_ASSERT_PTR_NULL(format_index_tables(cache->owned, bytes, &tables));
    return n;
}

static void chunks_are_cut_at_positions(void) {
    source *source = malloc(sizeof *source);
    cache cache;
    start(source);
    add_view(source, 250, 300, 0, 1);
    CU_ASSERT_EQUAL(finish(source, &cache), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(cache.tables.index->n_chunks, 3);
    CU_ASSERT_EQUAL(cache.chunks[0].rows, 6);
    CU_ASSERT_EQUAL(cache.chunks[1].rows, 256);
    CU_ASSERT_EQUAL(cache.chunks[2].rows, 38);
    CU_ASSERT_EQUAL(check_rows(source, &cache), 300);
    cache_free(&cache);
    plan_free(&source->plan);
    free(source);
}

/* As a checkpoint repeats the main cache's rows, and begins some rows earlier. */
static void repeated_rows_are_stored_once(void) {
    source *source = malloc(sizeof *source);
    cache cache;
    start(source);
    add_view(source, 268, 512, 0, 1);
    add_view(source, 261, 512, 0, 1);
    CU_ASSERT_EQUAL(finish(source, &cache), KVOT_OK);
    CU_ASSERT_EQUAL(cache.tables.rowsets[0].n_rows, 519);
    CU_ASSERT_EQUAL(cache.tables.rowsets[0].n_position_runs, 1); /* 261 to 779: the extra rows come in between */
    CU_ASSERT_EQUAL(cache.tables.view_runs[0].first, 7);
    CU_ASSERT_EQUAL(cache.tables.view_runs[1].first, 0);
    CU_ASSERT_EQUAL(cache.chunks[0].n_pieces, 2);
    CU_ASSERT_EQUAL(check_rows(source, &cache), 519);
    cache_free(&cache);
    plan_free(&source->plan);
    free(source);
}

/* Same positions, other contents: another sequence. Its rows must not come between those of the first. */
static void sequences_do_not_mix(void) {
    source *source = malloc(sizeof *source);
    cache cache;
    start(source);
    add_view(source, 0, 100, 0, 1);
    add_view(source, 0, 100, 1, 2);
    add_view(source, 50, 60, 2, 2); /* goes on with the second */
    CU_ASSERT_EQUAL(finish(source, &cache), KVOT_OK);
    CU_ASSERT_EQUAL(cache.tables.rowsets[0].n_rows, 210);
    CU_ASSERT_EQUAL_FATAL(cache.tables.index->n_chunks, 2);
    CU_ASSERT_EQUAL(cache.chunks[0].rows, 100);
    CU_ASSERT_EQUAL(cache.chunks[1].rows, 110);
    CU_ASSERT_EQUAL(check_rows(source, &cache), 210);
    cache_free(&cache);
    plan_free(&source->plan);
    free(source);
}

/* A view that repeats rows of a track but differs from it elsewhere. */
static void conflicts_make_a_track_of_their_own(void) {
    source *source = malloc(sizeof *source);
    cache cache;
    start(source);
    add_view(source, 0, 100, 0, 1);
    add_view(source, 0, 100, 1, 1);
    ((uint32_t *)source->bytes)[100 + 30] += 5; /* one row of the second is another */
    CU_ASSERT_EQUAL(finish(source, &cache), KVOT_OK);
    CU_ASSERT_EQUAL(cache.tables.rowsets[0].n_rows, 101);
    CU_ASSERT_EQUAL(cache.tables.index->n_chunks, 2);
    CU_ASSERT_EQUAL(check_rows(source, &cache), 101);
    cache_free(&cache);
    plan_free(&source->plan);
    free(source);
}

/* Image tokens of M-RoPE models share a position. */
static void many_cells_at_one_position(void) {
    source *source = malloc(sizeof *source);
    cache cache;
    plan_cell *cells;
    start(source);
    plan_add_view(&source->plan, source->rowset, 600, &cells, NULL);
    for (uint32_t i = 0; i < 600; i++) {
        cells[i] = (plan_cell){7, 0};
        ((uint32_t *)source->bytes)[i] = 7000 + i;
    }
    plan_add_tensor(&source->plan, 0, 0, NULL);
    CU_ASSERT_EQUAL(finish(source, &cache), KVOT_OK);
    CU_ASSERT_EQUAL(cache.tables.rowsets[0].n_rows, 600);
    CU_ASSERT_EQUAL(cache.tables.index->n_chunks, 3);
    cache_free(&cache);
    plan_free(&source->plan);
    free(source);
}

const unit_test cache_tests[] = {{"chunks are cut at positions", chunks_are_cut_at_positions},
                                 {"repeated rows are stored once", repeated_rows_are_stored_once},
                                 {"sequences do not mix", sequences_do_not_mix},
                                 {"conflicts make a track of their own", conflicts_make_a_track_of_their_own},
                                 {"many cells at one position", many_cells_at_one_position},
                                 {NULL, NULL}};
