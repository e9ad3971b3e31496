#include "unit.h"

#include "../../lib/codecs/codec.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 77 };

static void fill(uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(unit_random() % (i % 2 ? 7 : 256)); /* half of it compresses */
}

static void lossless_round_trips_every_type(void) {
    for (unsigned type = 0; type < FORMAT_TYPES; type++) {
        format_plane plane = {.type = (uint8_t)type, .heads = 1};
        plane.row_bytes = 6u * format_type_of(type)->block_bytes;
        size_t n = ROWS * (size_t)plane.row_bytes, stored;
        codec_context context = {0};
        uint8_t *rows = malloc(n), *back = calloc(1, n), *stream = malloc(codec_of(0)->bound(&plane, ROWS, NULL));
        fill(rows, n);
        CU_ASSERT_EQUAL(codec_of(0)->encode(&context, &plane, rows, ROWS, NULL, stream, &stored, NULL), KVOT_OK);
        CU_ASSERT_TRUE(stored <= codec_of(0)->bound(&plane, ROWS, NULL));
        CU_ASSERT_EQUAL(codec_of(0)->decode(&context, &plane, stream, stored, ROWS, back, NULL), KVOT_OK);
        CU_ASSERT_EQUAL(memcmp(rows, back, n), 0);
        for (size_t cut = 0; cut < stored; cut += 1 + stored / 50)
            CU_ASSERT_EQUAL(codec_of(0)->decode(&context, &plane, stream, cut, ROWS, back, NULL), KVOT_E_DAMAGED);
        codec_context_free(&context);
        free(rows);
        free(back);
        free(stream);
    }
}

static void one_byte_is_stored(void) {
    codec_context context = {0};
    uint8_t stream[64], back;
    size_t stored;
    CU_ASSERT_EQUAL(codec_of(0)->encode(&context, &codec_verbatim, "x", 1, NULL, stream, &stored, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(codec_of(0)->decode(&context, &codec_verbatim, stream, stored, 1, &back, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(back, 'x');
    codec_context_free(&context);
}

/* Exact rows come back bit for bit, whatever they hold; the others are near; the stream has the length it must have. */
static void ott_keeps_exact_rows(void) {
    for (int keys = 0; keys < 2; keys++) {
        format_plane plane = {.kind = keys ? FORMAT_K : FORMAT_V,
                              .type = FORMAT_F32,
                              .codec = FORMAT_OTT,
                              .bits = 8,
                              .group = 32,
                              .row_bytes = 2 * 48 * 4,
                              .heads = 2};
        static float rows[ROWS][96], back[ROWS][96];
        uint8_t exact[ROWS][2] = {{0}};
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < 96; c++)
                rows[r][c] = (float)(unit_random() % 1000);
        exact[0][0] = exact[76][1] = exact[33][1] = 1;
        uint32_t nan = 0x7fc12345u;
        memcpy(&rows[33][50], &nan, sizeof nan);
        codec_context context = {0};
        size_t bound = codec_of(FORMAT_OTT)->bound(&plane, ROWS, exact[0]), stored;
        uint8_t *stream = aligned_alloc(64, (bound + 63) / 64 * 64);
        CU_ASSERT_EQUAL(codec_of(FORMAT_OTT)->encode(&context, &plane, rows, ROWS, exact[0], stream, &stored, NULL),
                        KVOT_OK);
        CU_ASSERT_EQUAL(stored, bound);
        CU_ASSERT_EQUAL(codec_of(FORMAT_OTT)->decode(&context, &plane, stream, stored, ROWS, back, NULL), KVOT_OK);
        CU_ASSERT_EQUAL(memcmp(back[0], rows[0], 48 * 4), 0);
        CU_ASSERT_EQUAL(memcmp(back[33] + 48, rows[33] + 48, 48 * 4), 0);
        CU_ASSERT_EQUAL(memcmp(back[76] + 48, rows[76] + 48, 48 * 4), 0);
        for (int r = 1; r < 33; r++)
            CU_ASSERT_DOUBLE_EQUAL(rows[r][r], back[r][r], 2.0);
        CU_ASSERT_EQUAL(codec_of(FORMAT_OTT)->decode(&context, &plane, stream, stored - 1, ROWS, back, NULL),
                        KVOT_E_DAMAGED);
        codec_context_free(&context);
        free(stream);
    }
}

const unit_test codec_tests[] = {{"lossless round-trips every type", lossless_round_trips_every_type},
                                 {"one byte is stored", one_byte_is_stored},
                                 {"ott keeps exact rows", ott_keeps_exact_rows},
                                 {NULL, NULL}};
