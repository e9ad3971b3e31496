#include "numbers.h"
#include "strided.h"
#include "unit.h"

#include "../../lib/file/reader.h"
#include "../../lib/run/run.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What kvot_load puts where. Chunks end at positions 256, 512, ...: rows 156, 412, 668, 924. */
enum {
    POSITION = 100,
    LAYERS = 2,
    PLANES = 2 * LAYERS,
    TOKENS = 1000,
    HEADS = 2,
    HEAD_DIM = 16,
    ROW = HEADS * HEAD_DIM
};
enum { N = TOKENS * ROW, UNTOUCHED = 0x11 };

static float source[PLANES][N], raw[PLANES][N]; /* room for the largest element: raw is what kvot_restore gave */
static uint8_t room[STRIDED_MOST * N * sizeof(float)];

static half_kind kind_of(kvot_type type) {
    return type == KVOT_F16 ? HALF_F16 : HALF_BF16;
}

static double value_of(kvot_type type, const void *element) {
    float single;
    uint16_t half;
    if (type != KVOT_F32)
        return half_value(kind_of(type), (memcpy(&half, element, sizeof half), half));
    memcpy(&single, element, sizeof single);
    return (double)single;
}

/* Whether an element is what kvot.h says becomes of `value`. */
static bool is_converted(kvot_type type, const void *element, double value) {
    float single = (float)value; /* exact: it was one, or a half */
    uint16_t half;
    if (isnan(value))
        return isnan(value_of(type, element));
    if (type == KVOT_F32)
        return memcmp(element, &single, sizeof single) == 0;
    memcpy(&half, element, sizeof half);
    return half == half_nearest(kind_of(type), value);
}

/* Numbers from -8 to 8, and one in 200 of any bits: infinities, NaN, denormals, numbers beyond every f16. */
static void fill(kvot_type type) {
    size_t bytes = strided_element_bytes(type);
    for (int p = 0; p < PLANES; p++)
        for (size_t i = 0; i < N; i++) {
            float value = (float)(unit_random() % 16000) / 1000 - 8;
            uint32_t bits = unit_random() << 8 ^ unit_random();
            uint16_t half = half_nearest(kind_of(type), (double)value);
            bool any = unit_random() % 200 == 0;
            memcpy((uint8_t *)source[p] + i * bytes,
                   any                ? (void *)&bits
                   : type == KVOT_F32 ? (void *)&value
                                      : &half,
                   bytes);
        }
}

static kvot_file *open_compressed(kvot_type type, kvot_codec codec) {
    kvot_compress_options options = kvot_compress_defaults();
    kvot_about about = {.position = POSITION};
    kvot_run run = {.overwrite = true};
    kvot_array arrays[PLANES];
    kvot_file *file;
    options.codec = codec;
    for (int p = 0; p < PLANES; p++)
        arrays[p] = strided_array(0, source[p], type, TOKENS, HEADS, HEAD_DIM);
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, LAYERS, NULL, &about, unit_path("load.kvot"), &options, &run, NULL, NULL),
        KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(kvot_restore(unit_path("load.kvot"), unit_path("raw"), NULL, &run, NULL, NULL), KVOT_OK);
    size_t bytes = N * strided_element_bytes(type);
    uint8_t *restored = malloc(PLANES * bytes + 1);
    CU_ASSERT_EQUAL_FATAL(unit_read_file("raw", restored, PLANES * bytes + 1), PLANES * bytes);
    for (int p = 0; p < PLANES; p++) {
        memcpy(raw[p], restored + p * bytes, bytes);
        CU_ASSERT_EQUAL(memcmp(raw[p], source[p], bytes) == 0, codec == KVOT_LOSSLESS);
    }
    free(restored);
    unlink(unit_path("raw"));
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("load.kvot"), &file, NULL), KVOT_OK);
    return file;
}

/* Loads rows `first` to `first + n - 1` of a plane of `type` as `wanted`: every element is there, and nothing else has
 * been touched. */
static void load_rows(kvot_file *file, size_t plane, kvot_type type, uint32_t first, uint32_t n, kvot_type wanted,
                      int layout) {
    size_t bytes = strided_element_bytes(wanted), raw_bytes = strided_element_bytes(type), wrong = 0;
    uint32_t dim = wanted == KVOT_BYTES ? HEAD_DIM * (uint32_t)raw_bytes : HEAD_DIM;
    bool as_is = wanted == type || wanted == KVOT_BYTES;
    kvot_array to = strided_array(layout, room, wanted, n, HEADS, dim);
    memset(room, UNTOUCHED, sizeof room);
    CU_ASSERT_EQUAL_FATAL(kvot_load(file, &(kvot_part){plane, first, to}, 1, NULL, NULL, NULL), KVOT_OK);
    const uint8_t *expected = (const uint8_t *)raw[plane] + (size_t)first * ROW * raw_bytes;
    for (uint32_t token = 0; token < n; token++)
        for (uint32_t head = 0; head < HEADS; head++)
            for (uint32_t channel = 0; channel < dim; channel++) {
                void *element = strided_element(&to, token, head, channel);
                if (as_is)
                    wrong += memcmp(element, expected, bytes) != 0;
                else
                    wrong += !is_converted(wanted, element, value_of(type, expected));
                expected += as_is ? bytes : raw_bytes;
                memset(element, UNTOUCHED, bytes);
            }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_TRUE(room[0] == UNTOUCHED && memcmp(room, room + 1, sizeof room - 1) == 0);
}

static void load_all_ways(kvot_type type, kvot_codec codec) {
    static const uint32_t parts[][2] = {{0, TOKENS}, {0, 1}, {156, 256}, {155, 2}, {1, 998}, {999, 1}, {300, 200}};
    enum { PARTS = sizeof parts / sizeof *parts };
    fill(type);
    kvot_file *file = open_compressed(type, codec);
    for (int wanted = KVOT_F32; wanted <= KVOT_BYTES; wanted++)
        for (int layout = 0; layout < STRIDED_LAYOUTS; layout++)
            for (size_t p = 0; p < PARTS; p++)
                load_rows(file, (p + (size_t)layout) % PLANES, type, parts[p][0], parts[p][1], (kvot_type)wanted,
                          layout);
    uint32_t row = (uint32_t)(ROW * strided_element_bytes(type)); /* as bytes, at an address that fits no element */
    kvot_part bytes = {1, 0, strided_array(0, room + 1, KVOT_BYTES, TOKENS, 1, row)};
    CU_ASSERT_EQUAL(kvot_load(file, &bytes, 1, NULL, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(memcmp(room + 1, raw[1], (size_t)TOKENS * row), 0);
    kvot_close(file);
    unlink(unit_path("load.kvot"));
}

static void f32_is_loaded_all_ways(void) {
    load_all_ways(KVOT_F32, KVOT_LOSSLESS);
    load_all_ways(KVOT_F32, KVOT_OTT);
}

static void f16_is_loaded_all_ways(void) {
    load_all_ways(KVOT_F16, KVOT_LOSSLESS);
    load_all_ways(KVOT_F16, KVOT_OTT);
}

static void bf16_is_loaded_all_ways(void) {
    load_all_ways(KVOT_BF16, KVOT_LOSSLESS);
    load_all_ways(KVOT_BF16, KVOT_OTT);
}

/* Longer heads than are converted at a time. */
static void long_heads_are_converted(void) {
    enum { ROWS = 30, LONG = 600 };
    kvot_compress_options options = kvot_compress_defaults();
    kvot_array arrays[2], to;
    kvot_file *file;
    options.codec = KVOT_LOSSLESS;
    fill(KVOT_F16);
    for (int p = 0; p < 2; p++)
        arrays[p] = strided_array(0, source[p], KVOT_F16, ROWS, 1, LONG);
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, 1, NULL, NULL, unit_path("long.kvot"), &options, NULL, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("long.kvot"), &file, NULL), KVOT_OK);
    for (int layout = 0; layout < STRIDED_LAYOUTS; layout++) {
        size_t wrong = 0;
        to = strided_array(layout, room, KVOT_F32, ROWS, 1, LONG);
        CU_ASSERT_EQUAL(kvot_load(file, &(kvot_part){1, 0, to}, 1, NULL, NULL, NULL), KVOT_OK);
        for (uint32_t i = 0; i < ROWS * LONG; i++)
            wrong += !is_converted(KVOT_F32, strided_element(&to, i / LONG, 0, i % LONG),
                                   value_of(KVOT_F16, (uint16_t *)source[1] + i));
        CU_ASSERT_EQUAL(wrong, 0);
    }
    kvot_close(file);
    unlink(unit_path("long.kvot"));
}

/* How many cells of an engine's file are not the rows that were loaded. */
static size_t other_cells(const format_tables *tables, const uint8_t *engines, uint8_t *const *planes) {
    size_t wrong = 0;
    for (const format_segment *s = tables->segments; s < tables->segments + tables->index->n_segments;
         engines += s++->bytes) {
        if (s->plane == FORMAT_VERBATIM)
            continue;
        const format_plane *plane = &tables->planes[s->plane];
        const format_run *run = tables->view_runs;
        for (uint32_t v = 0; v < s->view; v++)
            run += tables->views[v].n_runs;
        uint32_t n = tables->views[s->view].n_cells, cell = 0;
        uint32_t element =
            plane->layout == FORMAT_CHANNEL_MAJOR ? format_type_of(plane->type)->block_bytes : plane->row_bytes;
        for (const format_run *end = run + tables->views[s->view].n_runs; run < end; run++)
            for (uint32_t row = run->first; row < run->first + run->count; row++, cell++)
                for (uint32_t at = 0; at < plane->row_bytes; at += element)
                    wrong += memcmp(engines + (uint64_t)at * n + (uint64_t)cell * element,
                                    planes[s->plane] + (uint64_t)row * plane->row_bytes + at, element) != 0;
    }
    return wrong;
}

/* All planes in one call, as bytes, beside what kvot_restore_memory gives. */
static void check_file(const char *path) {
    reader reader;
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(reader_open_path(&reader, path, &run_plain, NULL), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(kvot_open(path, &file, NULL), KVOT_OK);
    const kvot_info *info = kvot_file_info(file);
    uint8_t *engines = malloc(info->original_bytes);
    uint8_t **planes = calloc(info->n_planes + 1, sizeof *planes);
    kvot_part *parts = calloc(info->n_planes + 1, sizeof *parts);
    CU_ASSERT_EQUAL_FATAL(kvot_restore_memory(file, engines, info->original_bytes, NULL, NULL), KVOT_OK);
    for (size_t p = 0; p < info->n_planes; p++) {
        uint64_t rows = info->planes[p].rows, row = info->planes[p].row_bytes;
        planes[p] = malloc(rows * row);
        parts[p] = (kvot_part){p, 0, strided_array(0, planes[p], KVOT_BYTES, (uint32_t)rows, 1, (uint32_t)row)};
    }
    kvot_status expected = info->n_planes > 0 ? KVOT_OK : KVOT_E_ARGUMENT;
    CU_ASSERT_EQUAL_FATAL(kvot_load(file, parts, info->n_planes, NULL, NULL, NULL), expected);
    CU_ASSERT_EQUAL(other_cells(&reader.cache.tables, engines, planes), 0);
    for (size_t p = 0; p < info->n_planes; p++)
        free(planes[p]);
    free(planes);
    free(parts);
    free(engines);
    kvot_close(file);
    reader_close(&reader);
}

static void planes_are_those_of_real_files(void) {
    glob_t files;
    CU_ASSERT_EQUAL_FATAL(glob(UNIT_DATA "/*.bin", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        kvot_run run = {.overwrite = true};
        CU_ASSERT_EQUAL_FATAL(kvot_compress(files.gl_pathv[i], unit_path("real.kvot"), NULL, &run, NULL, NULL),
                              KVOT_OK);
        check_file(unit_path("real.kvot"));
    }
    unlink(unit_path("real.kvot"));
    globfree(&files);
}

/* A sequence file of llama.cpp, version 3, with two layers of f16: 64 bytes a row. */
static void write_llama(const char *name, uint32_t cells) {
    enum { GGML_F16 = 1, ROW_BYTES = 64 };
    FILE *file = fopen(unit_path(name), "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    const uint32_t head[] = {0x67677371, 3, 0, 1, cells}, middle[] = {0, LAYERS}, tensor[] = {GGML_F16, ROW_BYTES, 0};
    fwrite(head, sizeof head, 1, file);
    for (uint32_t cell = 0; cell < cells; cell++)
        fwrite((uint32_t[]){cell, 1, 0}, sizeof(uint32_t), 3, file);
    fwrite(middle, sizeof middle, 1, file);
    for (uint32_t p = 0; p < PLANES; p++) {
        fwrite(tensor, sizeof tensor, 1, file);
        for (uint32_t i = 0; i < cells * ROW_BYTES / 2; i++) {
            uint16_t half = (uint16_t)(0x3000 + (i * 2654435761u + p * 977u) % 0xc00);
            fwrite(&half, sizeof half, 1, file);
        }
    }
    CU_ASSERT_EQUAL(fclose(file), 0);
}

/* Twice: streams of a plane then lie in three places, behind those of later layers. */
static void appended_chunks_are_found(void) {
    write_llama("grown", 700);
    CU_ASSERT_EQUAL_FATAL(kvot_compress(unit_path("grown"), unit_path("grown.kvot"), NULL, NULL, NULL, NULL), KVOT_OK);
    for (uint32_t cells = 1100; cells <= 1500; cells += 400) {
        kvot_append_result result;
        write_llama("grown", cells);
        CU_ASSERT_EQUAL_FATAL(kvot_append(unit_path("grown"), unit_path("grown.kvot"), NULL, NULL, &result, NULL),
                              KVOT_OK);
        CU_ASSERT_TRUE(result.kept_chunks >= 2 * PLANES);
        check_file(unit_path("grown.kvot"));
    }
    unlink(unit_path("grown"));
    unlink(unit_path("grown.kvot"));
}

const unit_test loading_tests[] = {{"f32 is loaded all ways", f32_is_loaded_all_ways},
                                   {"f16 is loaded all ways", f16_is_loaded_all_ways},
                                   {"bf16 is loaded all ways", bf16_is_loaded_all_ways},
                                   {"long heads are converted", long_heads_are_converted},
                                   {"planes are those of real files", planes_are_those_of_real_files},
                                   {"appended chunks are found", appended_chunks_are_found},
                                   {NULL, NULL}};
