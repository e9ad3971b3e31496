#include "unit.h"

#include "../../lib/kvot.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Chunks end at positions 256, 512 and 768: rows 250, 506 and 600. */
enum { POSITION = 6, TOKENS = 600, HEADS = 3, HEAD_DIM = 40, ROW = HEADS * HEAD_DIM, CHUNKS = 3 };

static float arrays_data[2][TOKENS * ROW], restored[TOKENS * ROW];

static void compress(const kvot_compress_options *options) {
    kvot_array arrays[2];
    for (int p = 0; p < 2; p++) {
        arrays[p] = (kvot_array){arrays_data[p], KVOT_F32, TOKENS, HEADS, HEAD_DIM, ROW, HEAD_DIM, 1};
        for (int i = 0; i < TOKENS * ROW; i++)
            arrays_data[p][i] = (float)(int)(unit_random() % 2001) / 1000 - 1;
    }
    kvot_about about = {.position = POSITION};
    kvot_run run = {.overwrite = true};
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, 1, NULL, &about, unit_path("map.kvot"), options, &run, NULL, NULL), KVOT_OK);
}

static kvot_file *open_map(bool checksums, kvot_map **map) {
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("map.kvot"), &file, NULL), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(kvot_map_open(file, checksums, map, NULL), KVOT_OK);
    return file;
}

static void close_map(kvot_file *file, kvot_map *map) {
    kvot_map_close(map);
    kvot_close(file);
}

static uint32_t bits_at(const uint8_t *from, uint32_t first, uint32_t n) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < n; i++)
        value |= (uint32_t)(from[(first + i) / 8] >> ((first + i) % 8) & 1) << i;
    return value;
}

/* An element, as kvot.h says. */
static float element(const kvot_chunk *chunk, uint32_t row, uint32_t head, uint32_t channel) {
    const uint16_t *exact = chunk->exact_rows;
    const float *values = chunk->exact, *scales = chunk->scales, *minima = chunk->minima;
    for (uint32_t h = 0; h <= head; h++)
        for (uint32_t i = 0; i < chunk->exact_counts[h]; i++, exact++, values += chunk->head_dim)
            if (h == head && *exact == row)
                return values[channel];
    uint32_t width = chunk->heads * chunk->head_dim, c = head * chunk->head_dim + channel;
    uint32_t low = chunk->bits == 3 ? 2 : chunk->bits;
    uint32_t code = bits_at(chunk->codes + row * chunk->row_code_bytes, c * low, low);
    if (chunk->high)
        code |= bits_at(chunk->high + row * chunk->row_high_bytes, c, 1) << 2;
    uint32_t range = chunk->kind == KVOT_K
                         ? row / chunk->group * width + c
                         : (row * chunk->heads + head) * ((chunk->head_dim + chunk->group - 1) / chunk->group) +
                               channel / chunk->group;
    CU_ASSERT_TRUE_FATAL(range < chunk->n_ranges);
    return (float)code * scales[range] + minima[range];
}

static void check_chunk(const kvot_chunk *chunk) {
    size_t wrong = 0;
    for (uint32_t r = 0; r < chunk->rows; r++)
        for (uint32_t i = 0; i < ROW; i++)
            wrong += element(chunk, r, i / HEAD_DIM, i % HEAD_DIM) != restored[(chunk->first_row + r) * ROW + i];
    CU_ASSERT_EQUAL(wrong, 0);
}

/* What a map shows is what a restore gives, for all bits and groups. */
static void maps_show_what_is_restored(void) {
    static const unsigned bits[] = {2, 3, 4, 8}, groups[] = {32, 64, 128};
    for (int i = 0; i < 12; i++) {
        kvot_compress_options options = kvot_compress_defaults();
        options.bits = bits[i % 4];
        options.group = groups[i / 4];
        compress(&options);
        kvot_map *map;
        kvot_file *file = open_map(i % 2, &map);
        for (size_t p = 0; p < 2; p++) {
            kvot_array to = {restored, KVOT_F32, TOKENS, HEADS, HEAD_DIM, ROW, HEAD_DIM, 1};
            CU_ASSERT_EQUAL_FATAL(kvot_load(file, &(kvot_part){p, 0, to}, 1, NULL, NULL, NULL), KVOT_OK);
            CU_ASSERT_EQUAL(kvot_map_chunks(map, p), CHUNKS);
            uint64_t rows = 0;
            for (size_t c = 0; c < CHUNKS; c++) {
                kvot_chunk chunk;
                CU_ASSERT_EQUAL_FATAL(kvot_map_chunk(map, p, c, &chunk, NULL), KVOT_OK);
                CU_ASSERT_EQUAL(chunk.first_row, rows);
                CU_ASSERT_EQUAL(chunk.kind, p == 0 ? KVOT_K : KVOT_V);
                check_chunk(&chunk);
                rows += chunk.rows;
            }
            CU_ASSERT_EQUAL(rows, TOKENS);
        }
        close_map(file, map);
    }
    unlink(unit_path("map.kvot"));
}

static void wrong_chunks_are_refused(void) {
    kvot_compress_options options = kvot_compress_defaults();
    kvot_map *map;
    kvot_chunk chunk;
    compress(NULL);
    kvot_file *file = open_map(true, &map);
    CU_ASSERT_EQUAL(kvot_map_chunk(map, 0, CHUNKS, &chunk, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(kvot_map_chunk(map, 2, 0, &chunk, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(kvot_map_chunks(map, 2), 0);
    close_map(file, map);
    options.codec = KVOT_LOSSLESS;
    compress(&options);
    file = open_map(true, &map);
    CU_ASSERT_EQUAL(kvot_map_chunk(map, 0, 0, &chunk, NULL), KVOT_E_ARGUMENT);
    close_map(file, map);
    unlink(unit_path("map.kvot"));
}

/* Changes a byte of chunk 1 of K: a code, which only the checksum tells, or a count. */
static void damage(bool count, kvot_status with_checksums, kvot_status without) {
    static uint8_t bytes[1 << 20];
    kvot_map *map;
    kvot_chunk chunk;
    compress(NULL);
    kvot_file *file = open_map(true, &map);
    CU_ASSERT_EQUAL_FATAL(kvot_map_chunk(map, 0, 1, &chunk, NULL), KVOT_OK);
    size_t n = unit_read_file("map.kvot", bytes, sizeof bytes);
    uint8_t *codes = memmem(bytes, n, chunk.codes, 4096);
    CU_ASSERT_PTR_NOT_NULL_FATAL(codes);
    if (count)
        codes[(const uint8_t *)chunk.exact_counts - chunk.codes + 1] ^= 0x80;
    else
        codes[0] ^= 1;
    close_map(file, map);
    unit_write_file("map.kvot", bytes, n);
    for (int checksums = 0; checksums < 2; checksums++) {
        file = open_map(checksums, &map);
        for (int again = 0; again < 2; again++)
            CU_ASSERT_EQUAL(kvot_map_chunk(map, 0, 1, &chunk, NULL), checksums ? with_checksums : without);
        CU_ASSERT_EQUAL(kvot_map_chunk(map, 0, 0, &chunk, NULL), KVOT_OK);
        close_map(file, map);
    }
    unlink(unit_path("map.kvot"));
}

static void damage_is_found(void) {
    damage(false, KVOT_E_DAMAGED, KVOT_OK);
    damage(true, KVOT_E_DAMAGED, KVOT_E_DAMAGED);
}

static void maps_outlive_replaced_files(void) {
    kvot_map *map;
    kvot_chunk chunk;
    compress(NULL);
    kvot_file *file = open_map(true, &map);
    kvot_array to = {restored, KVOT_F32, TOKENS, HEADS, HEAD_DIM, ROW, HEAD_DIM, 1};
    CU_ASSERT_EQUAL_FATAL(kvot_load(file, &(kvot_part){0, 0, to}, 1, NULL, NULL, NULL), KVOT_OK);
    compress(NULL); /* other numbers, the same name */
    for (size_t c = 0; c < CHUNKS; c++) {
        CU_ASSERT_EQUAL_FATAL(kvot_map_chunk(map, 0, c, &chunk, NULL), KVOT_OK);
        check_chunk(&chunk);
    }
    close_map(file, map);
    unlink(unit_path("map.kvot"));
}

static void positions_are_told(void) {
    compress(NULL);
    kvot_file *file;
    int32_t positions[TOKENS];
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("map.kvot"), &file, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_file_positions(file, 1, 200, 400, positions, NULL), KVOT_OK);
    int wrong = 0;
    for (int i = 0; i < 400; i++)
        wrong += positions[i] != POSITION + 200 + i;
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(kvot_file_positions(file, 1, 200, 401, positions, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(kvot_file_positions(file, 2, 0, 1, positions, NULL), KVOT_E_ARGUMENT);
    kvot_close(file);
    unlink(unit_path("map.kvot"));
}

const unit_test map_tests[] = {{"maps show what is restored", maps_show_what_is_restored},
                               {"wrong chunks are refused", wrong_chunks_are_refused},
                               {"damage is found", damage_is_found},
                               {"maps outlive replaced files", maps_outlive_replaced_files},
                               {"positions are told", positions_are_told},
                               {NULL, NULL}};
