#include "unit.h"

#include "../../format/format.h"

#include <math.h>
#include <string.h>

/* The smallest index with a plane: one row set of 300 rows in two chunks, one view, K and V of 8 f16 elements. */
typedef struct small_index {
    format_index index;
    format_rowset rowset;
    format_run position_run;
    uint32_t chunk_rows[2];
    format_view view;
    format_run view_run;
    format_plane planes[2];
    format_segment segments[3];
    format_stream streams[5];
} small_index;

enum { INDEX_OFFSET = 1 << 20 };

static small_index good(void) {
    small_index s = {
        .index = {.source_bytes = 100 + 2 * 300 * 16,
                  .n_rowsets = 1,
                  .n_position_runs = 1,
                  .n_chunks = 2,
                  .n_views = 1,
                  .n_view_runs = 1,
                  .n_planes = 2,
                  .n_segments = 3,
                  .n_streams = 5,
                  .n_verbatim = 1},
        .rowset = {.n_rows = 300, .n_position_runs = 1, .n_chunks = 2, .n_planes = 2},
        .position_run = {0, 300},
        .chunk_rows = {256, 44},
        .view = {.rowset = 0, .n_cells = 300, .n_runs = 1},
        .view_run = {0, 300},
        .segments = {{FORMAT_VERBATIM, 0, 100}, {0, 0, 300 * 16}, {1, 0, 300 * 16}},
    };
    for (int p = 0; p < 2; p++)
        s.planes[p] = (format_plane){.kind = (uint8_t)p,
                                     .type = FORMAT_F16,
                                     .codec = FORMAT_OTT,
                                     .bits = 4,
                                     .group = 64,
                                     .row_bytes = 16,
                                     .heads = 2};
    for (int i = 0; i < 5; i++)
        s.streams[i] = (format_stream){.offset = 64 + 4096u * (unsigned)i,
                                       .stored_bytes = 10,
                                       .decoded_bytes = i == 0  ? 100
                                                        : i % 2 ? 256 * 16
                                                                : 44 * 16,
                                       .type = i == 0 ? FORMAT_STREAM_LOSSLESS : FORMAT_STREAM_OTT,
                                       .squared_error = i == 0 ? 0 : 0.5,
                                       .squared_sum = i == 0 ? 0 : 1e300};
    return s;
}

static const char *check(const small_index *s) {
    format_tables tables;
    const char *wrong = format_index_tables(s, sizeof *s, &tables);
    return wrong ? wrong : format_check_index(&tables, INDEX_OFFSET);
}

static void a_good_index_passes(void) {
    small_index s = good();
    CU_ASSERT_PTR_NULL(check(&s));
}

/* One test for each malformed field: the change, and a word of the message it must give. */
#define REFUSED(change, word)                                                                                          \
    do {                                                                                                               \
        small_index s = good();                                                                                        \
        change;                                                                                                        \
        const char *wrong = check(&s);                                                                                 \
        CU_ASSERT_PTR_NOT_NULL(wrong);                                                                                 \
        CU_ASSERT_PTR_NOT_NULL(wrong ? strstr(wrong, word) : NULL);                                                    \
    } while (0)

static void malformed_tables_are_refused(void) {
    REFUSED(s.index.n_planes = 3, "longer or shorter");
    REFUSED(s.index.n_streams = UINT32_MAX, "longer or shorter");
    REFUSED(s.index.reserved[7] = 1, "reserved");
    REFUSED(memset(s.index.engine, 'x', sizeof s.index.engine), "not a text");
    REFUSED(s.index.variant[3] = 1, "not a text");
    REFUSED(s.index.architecture[31] = 'x', "not a text");
    REFUSED(s.rowset.n_rows = 0, "empty");
    REFUSED(s.rowset.n_rows = 301, "not as many");
    REFUSED(s.rowset.n_chunks = 3, "more runs or chunks");
    REFUSED(s.position_run.first = UINT32_MAX, "positions");
    REFUSED(s.position_run.count = 0, "positions");
    REFUSED(s.chunk_rows[0] = 257, "too many");
    REFUSED(s.chunk_rows[1] = 43, "do not add up");
    REFUSED(s.view.rowset = 1, "row set");
    REFUSED(s.view.n_cells = 299, "not as many");
    REFUSED(s.view_run.first = 1, "row that is not there");
    REFUSED(s.view_run.count = UINT32_MAX, "row that is not there");
}

static void malformed_planes_and_streams_are_refused(void) {
    REFUSED(s.planes[0].type = FORMAT_TYPES, "not known");
    REFUSED(s.planes[0].reserved = 1, "not known");
    REFUSED(s.planes[0].type = FORMAT_Q8_0, "impossible length");
    REFUSED(s.planes[0].row_bytes = 0, "impossible length");
    REFUSED(s.planes[0].heads = 3, "heads");
    REFUSED(s.planes[0].bits = 5, "bits");
    REFUSED(s.planes[0].group = 16, "group");
    REFUSED(s.planes[1].kind = FORMAT_STATE, "not for");
    REFUSED(s.planes[0].layer = 1, "order of their layers");
    REFUSED(s.segments[1].plane = 2, "not there");
    REFUSED(s.segments[2].bytes--, "longer or shorter");
    REFUSED(s.segments[0].view = 1, "verbatim");
    REFUSED(s.index.source_bytes++, "add up to the source");
    REFUSED(s.index.n_tokens = UINT32_MAX, "tokens");
    REFUSED(s.streams[1].offset = 65, "outside");
    REFUSED(s.streams[1].offset = INDEX_OFFSET, "outside");
    REFUSED(s.streams[1].stored_bytes = 0, "outside");
    REFUSED(s.streams[1].decoded_bytes--, "type or length");
    REFUSED(s.streams[1].type = FORMAT_STREAM_LOSSLESS, "type or length");
    REFUSED(s.streams[0].squared_sum = 1, "loss"); /* lossless */
    REFUSED(s.streams[1].squared_error = -1, "loss");
    REFUSED(s.streams[1].max_error = NAN, "loss");
    REFUSED(s.streams[1].squared_sum = INFINITY, "loss");
}

static void header_and_footer(void) {
    format_header header;
    format_footer footer;
    format_seal_header(&header, "a writer with a name that is far too long for its field");
    CU_ASSERT_PTR_NULL(format_check_header(&header));
    CU_ASSERT_EQUAL(header.writer[23], 0);
    format_seal_footer(&footer, "index", 128, 5);
    CU_ASSERT_PTR_NULL(format_check_footer(&footer, 128 + 5 + 64));
    CU_ASSERT_PTR_NOT_NULL(format_check_footer(&footer, 128 + 5 + 65));
    for (size_t i = 0; i < 64; i++) {
        ((uint8_t *)&header)[i] ^= 4;
        ((uint8_t *)&footer)[i] ^= 4;
        CU_ASSERT_PTR_NOT_NULL(format_check_header(&header));
        CU_ASSERT_PTR_NOT_NULL(format_check_footer(&footer, 128 + 5 + 64));
        ((uint8_t *)&header)[i] ^= 4;
        ((uint8_t *)&footer)[i] ^= 4;
    }
}

/* Two states of a file, one behind the other, and bytes that an append left. */
static void the_last_footer_is_found(void) {
    enum { BYTES = 4096, FIRST = 256, SECOND = 1024 };
    _Alignas(8) static uint8_t file[BYTES];
    memset(file, 0xaa, sizeof file);
    format_footer *first = (format_footer *)(file + FIRST + 224), *second = (format_footer *)(file + SECOND + 224);
    format_seal_footer(first, file + FIRST, FIRST, 224);
    format_seal_footer(second, file + SECOND, SECOND, 224);
    const uint8_t *end = (const uint8_t *)(second + 1);
    for (size_t n = 0; n <= BYTES; n++) {
        const format_footer *found = format_find_footer(file, n, 0);
        CU_ASSERT_PTR_EQUAL(found, file + n >= end ? second : file + n >= (const uint8_t *)(first + 1) ? first : NULL);
    }
    CU_ASSERT_PTR_NULL(format_find_footer(file, sizeof file, 8)); /* elsewhere in a file it means another length */
    CU_ASSERT_PTR_EQUAL(format_find_footer(file + 512, BYTES - 512, 512), second);
    for (size_t i = 0; i < sizeof *second; i++) {
        ((uint8_t *)second)[i] ^= 1;
        CU_ASSERT_PTR_EQUAL(format_find_footer(file, sizeof file, 0), first);
        ((uint8_t *)second)[i] ^= 1;
    }
    memmove(file + SECOND + 4, file + SECOND, sizeof *second + 224); /* not where a footer may begin */
    CU_ASSERT_PTR_EQUAL(format_find_footer(file, sizeof file, 0), first);
}

static void ott_layouts_are_aligned_and_read_back(void) {
    static const uint8_t bits[] = {2, 3, 4, 8};
    for (int b = 0; b < 4; b++) {
        for (int keys = 0; keys < 2; keys++) {
            format_plane plane = {.kind = keys ? FORMAT_K : FORMAT_V,
                                  .type = FORMAT_F16,
                                  .codec = FORMAT_OTT,
                                  .bits = bits[b],
                                  .group = 32,
                                  .row_bytes = 3 * 40 * 2,
                                  .heads = 3};
            format_ott ott, read;
            CU_ASSERT_TRUE(format_ott_layout(&ott, &plane, 70, 2));
            CU_ASSERT_EQUAL(ott.ranges, keys ? 3 * 120 : 70 * 3 * 2);
            CU_ASSERT_EQUAL((ott.exact | ott.scales | ott.minima | ott.codes | ott.high) % FORMAT_PART_ALIGN, 0);
            CU_ASSERT_TRUE(ott.bytes < 70 * 240);
            _Alignas(16) uint8_t stream[70 * 240] = {0};
            uint16_t *counts = (uint16_t *)stream, *rows = (uint16_t *)(stream + ott.rows_at);
            counts[1] = 2;
            rows[0] = 3;
            rows[1] = 69;
            CU_ASSERT_PTR_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes));
            CU_ASSERT_EQUAL(read.bytes, ott.bytes);
            CU_ASSERT_PTR_NOT_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes - 1));
            uint16_t *last = (uint16_t *)(stream + (bits[b] % 2 ? ott.scales : ott.minima)) + ott.ranges - 1;
            *last = 0xfc00; /* minus infinity */
            CU_ASSERT_PTR_NOT_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes));
            *last = 0xfbff;
            CU_ASSERT_PTR_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes));
            rows[1] = 70;
            CU_ASSERT_PTR_NOT_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes));
            rows[1] = 3;
            CU_ASSERT_PTR_NOT_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes));
            counts[0] = 71;
            CU_ASSERT_PTR_NOT_NULL(format_ott_read(&read, &plane, 70, stream, ott.bytes));
        }
    }
}

const unit_test format_tests[] = {
    {"a good index passes", a_good_index_passes},
    {"malformed tables are refused", malformed_tables_are_refused},
    {"malformed planes and streams are refused", malformed_planes_and_streams_are_refused},
    {"header and footer", header_and_footer},
    {"the last footer is found", the_last_footer_is_found},
    {"ott layouts are aligned and read back", ott_layouts_are_aligned_and_read_back},
    {NULL, NULL}};
