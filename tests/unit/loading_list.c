#include "unit.h"

#include "../../lib/calls/loading_list.h"

#include <stdlib.h>
#include <string.h>

/* In which order chunks are read, on made-up caches: two row sets, one with few layers, the other with one of very many
 * planes. */
enum { CHUNKS = 9, LAYERS = 5, FEW = 2 * LAYERS, MANY = 200000, PLANES = FEW + MANY, PARTS = 200 };
enum { ROWS = CHUNKS * FORMAT_CHUNK_ROWS }; /* of the first; the second has one chunk of a row */

static format_index about = {.n_planes = PLANES, .n_chunks = CHUNKS + 1};
static format_plane planes[PLANES];
static format_stream streams[FEW * CHUNKS + MANY];
static uint32_t first_stream[PLANES], first_chunk[] = {0, CHUNKS, CHUNKS + 1};
static cache_chunk chunks[CHUNKS + 1];
static cache_unit units[LAYERS + 1];
static loading_part parts[PARTS > MANY ? PARTS : MANY];

static cache make_cache(void) {
    for (uint32_t p = 0, stream = 0; p < PLANES; p++) {
        planes[p] = (format_plane){.rowset = p >= FEW, .layer = p < FEW ? p / 2 : 0};
        first_stream[p] = stream;
        stream += p < FEW ? CHUNKS : 1;
    }
    for (uint32_t s = 0; s < sizeof streams / sizeof *streams; s++)
        streams[s] = (format_stream){.offset = 100 * s, .stored_bytes = s};
    for (uint32_t c = 0; c < CHUNKS; c++)
        chunks[c] = (cache_chunk){.ordinal = c, .first_row = c * FORMAT_CHUNK_ROWS, .rows = FORMAT_CHUNK_ROWS};
    chunks[CHUNKS] = (cache_chunk){.rowset = 1, .rows = 1};
    for (uint32_t u = 0; u < LAYERS; u++)
        units[u] = (cache_unit){.first_plane = 2 * u, .n_planes = 2};
    units[LAYERS] = (cache_unit){.rowset = 1, .first_plane = FEW, .n_planes = MANY};
    return (cache){.tables = {.index = &about, .planes = planes, .streams = streams},
                   .first_chunk = first_chunk,
                   .first_stream = first_stream,
                   .chunks = chunks,
                   .units = units,
                   .n_units = LAYERS + 1};
}

static void set_part(uint32_t p, uint32_t plane, uint32_t first, uint32_t tokens) {
    parts[p] =
        (loading_part){.part = {.plane = plane, .first = first, .to = {.tokens = tokens}}, .plane = &planes[plane]};
}

/* The first part of the same layer. */
static uint32_t rank_of(uint32_t part) {
    uint32_t rank = 0;
    while (parts[rank].plane->rowset != parts[part].plane->rowset ||
           parts[rank].plane->layer != parts[part].plane->layer)
        rank++;
    return rank;
}

/* By layers as their first parts come, then by chunks, then by parts. */
static bool in_order(const loading_chunk *a, const loading_chunk *b) {
    uint32_t rank_a = rank_of(a->part), rank_b = rank_of(b->part);
    if (rank_a != rank_b)
        return rank_a < rank_b;
    return a->chunk != b->chunk ? a->chunk < b->chunk : a->part < b->part;
}

/* Whether each part has just the chunks that hold its rows. */
static bool is_complete(const loading_list *list, uint32_t n) {
    size_t count = 0;
    for (uint32_t p = 0; p < n; p++) {
        uint32_t first = (uint32_t)parts[p].part.first, last = first + (uint32_t)parts[p].part.to.tokens - 1;
        uint32_t before = parts[p].plane->rowset ? CHUNKS : 0;
        if (parts[p].first_chunk != before + first / FORMAT_CHUNK_ROWS ||
            parts[p].end_chunk != before + last / FORMAT_CHUNK_ROWS + 1 ||
            parts[p].left != parts[p].end_chunk - parts[p].first_chunk)
            return false;
        count += parts[p].left;
    }
    for (size_t i = 0; i < list->count; i++) {
        loading_chunk at = list->chunks[i];
        uint32_t stream = first_stream[parts[at.part].part.plane] + chunks[at.chunk].ordinal;
        if (at.chunk < parts[at.part].first_chunk || at.chunk >= parts[at.part].end_chunk ||
            list->ranges[i].offset != 100 * stream || list->ranges[i].bytes != stream)
            return false;
    }
    return list->count == count; /* in_order sees to it that none is there twice */
}

static void test_order(void) {
    cache cache = make_cache();
    for (int round = 0; round < 50; round++) {
        uint32_t n = 1 + unit_random() % PARTS, wrong = 0;
        for (uint32_t p = 0; p < n; p++) {
            uint32_t first = unit_random() % ROWS;
            if (unit_random() % 8 == 0)
                set_part(p, FEW + unit_random() % MANY, 0, 1);
            else
                set_part(p, unit_random() % FEW, first, 1 + unit_random() % (ROWS - first));
        }
        loading_list list;
        CU_ASSERT_EQUAL_FATAL(loading_list_open(&list, parts, n, &cache, NULL), KVOT_OK);
        CU_ASSERT_TRUE(is_complete(&list, n));
        for (size_t i = 1; i < list.count; i++)
            wrong += !in_order(&list.chunks[i - 1], &list.chunks[i]);
        for (size_t i = 0; i < list.count; i++)
            wrong += (i < list.first_layer) != (rank_of(list.chunks[i].part) == 0);
        CU_ASSERT_EQUAL(wrong, 0);
        loading_list_free(&list);
    }
}

/* Whoever walks from plane to plane does not live to see the end of it. */
static void test_many_planes(void) {
    cache cache = make_cache();
    for (uint32_t p = 0; p < MANY; p++)
        set_part(p, PLANES - 1 - p, 0, 1);
    loading_list list;
    CU_ASSERT_EQUAL_FATAL(loading_list_open(&list, parts, MANY, &cache, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(list.count, MANY);
    CU_ASSERT_TRUE(is_complete(&list, MANY));
    uint32_t wrong = 0;
    for (uint32_t p = 0; p < MANY; p++)
        wrong += list.chunks[p].part != p;
    CU_ASSERT_EQUAL(wrong, 0);
    loading_list_free(&list);
}

const unit_test loading_list_tests[] = {
    {"order", test_order}, {"very many planes in a layer", test_many_planes}, {NULL, NULL}};
