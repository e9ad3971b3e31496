#include "strided.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LAYERS = 2,
    TOKENS = 600,
    HEADS = 2,
    HEAD_DIM = 24,
    ROW = HEADS * HEAD_DIM,
    N = TOKENS * ROW,
    ROOM = STRIDED_MOST * N
};
enum { IDS = 701 };

static uint16_t rows[2 * LAYERS][N], room[2 * LAYERS][ROOM], raw[2 * LAYERS][N];
static int32_t ids[IDS];

static kvot_array array_of(uint16_t *memory, int layout, uint32_t tokens) {
    return strided_array(layout, memory, KVOT_F16, tokens, HEADS, HEAD_DIM);
}

/* Element `i` of [tokens][heads][channels]. */
static uint16_t *element(const kvot_array *array, size_t i) {
    return strided_element(array, i / ROW, i % ROW / HEAD_DIM, i % HEAD_DIM);
}

static void fill(void) {
    for (int p = 0; p < 2 * LAYERS; p++)
        for (int i = 0; i < N; i++)
            rows[p][i] = (uint16_t)(0x3000 + unit_random() % 0xc00 + (i % 7 == 0 ? 0x8000 : 0));
}

static void compress(const char *name, int layout, const kvot_compress_options *options, unsigned threads) {
    kvot_array arrays[2 * LAYERS];
    for (int p = 0; p < 2 * LAYERS; p++) {
        arrays[p] = array_of(room[p], layout, TOKENS);
        for (size_t i = 0; i < N; i++)
            *element(&arrays[p], i) = rows[p][i];
    }
    kvot_run run = {.threads = threads, .overwrite = true};
    for (int i = 0; i < IDS; i++)
        ids[i] = 3 * i;
    kvot_about about = {.position = 100,
                        .tokens = ids,
                        .n_tokens = IDS,
                        .architecture = "some model, with 31 characters.",
                        .model_digest = {1, 2, 3},
                        .rope_base = 1e4f,
                        .rope_dims = HEAD_DIM / 2};
    kvot_error error = {0};
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, LAYERS, NULL, &about, unit_path(name), options, &run, NULL, &error), KVOT_OK);
}

/* However the arrays lie in memory, and however many threads there are, the file is the same. */
static void files_do_not_depend_on_strides(void) {
    static uint8_t first[1 << 20], other[1 << 20];
    fill();
    compress("first", 0, NULL, 1);
    size_t n = unit_read_file("first", first, sizeof first);
    CU_ASSERT_TRUE(n > 0 && n < sizeof first);
    for (int layout = 1; layout < STRIDED_LAYOUTS; layout++) {
        compress("other", layout, NULL, 3);
        CU_ASSERT_EQUAL(unit_read_file("other", other, sizeof other), n);
        CU_ASSERT_EQUAL(memcmp(first, other, n), 0);
    }
    unlink(unit_path("first"));
    unlink(unit_path("other"));
}

/* Restores tokens `first` to `first + n` into `layout` and compares with `raw`, what kvot_restore gave. */
static void restore_part(kvot_file *file, size_t plane, uint64_t first, uint32_t n, int layout) {
    kvot_array to = array_of(room[plane], layout, n);
    memset(room[plane], 0x11, sizeof room[plane]);
    CU_ASSERT_EQUAL_FATAL(kvot_load(file, &(kvot_part){plane, first, to}, 1, NULL, NULL, NULL), KVOT_OK);
    size_t wrong = 0, touched = 0;
    for (size_t i = 0; i < (size_t)n * ROW; i++)
        wrong += *element(&to, i) != raw[plane][first * ROW + i];
    for (size_t i = 0; i < ROOM; i++)
        touched += room[plane][i] != 0x1111;
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_TRUE(touched <= (size_t)n * ROW); /* nothing in the gaps */
}

/* What the engine said of its arrays is in the file. */
static void check_about(kvot_file *file) {
    const kvot_info *info = kvot_file_info(file);
    CU_ASSERT_STRING_EQUAL(info->architecture, "some model, with 31 characters.");
    CU_ASSERT_EQUAL(memcmp(info->model_digest, (uint8_t[16]){1, 2, 3}, 16), 0);
    CU_ASSERT_EQUAL(info->rope_base, 1e4f);
    CU_ASSERT_EQUAL(info->rope_dims, HEAD_DIM / 2);
    CU_ASSERT_EQUAL(info->tokens, IDS);
    int32_t found[IDS] = {0};
    CU_ASSERT_EQUAL(kvot_file_tokens(file, 1, IDS - 1, found + 1, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(memcmp(found, ids, sizeof ids), 0);
}

/* A file of the first tokens and of some layers has these of `raw`, behind the ids of tokens up to there (the first one
 * is at position 100); of the .kvot file less is read. */
static void restore_cut(uint64_t tokens, unsigned first_layer, unsigned end_layer, uint64_t *bytes_read) {
    static uint8_t cut[sizeof ids + sizeof raw + 1];
    kvot_restore_options options = {.tokens = tokens, .first_layer = first_layer, .end_layer = end_layer};
    kvot_sizes sizes;
    CU_ASSERT_EQUAL_FATAL(kvot_restore(unit_path("some.kvot"), unit_path("cut"), &options, NULL, &sizes, NULL),
                          KVOT_OK);
    size_t plane = (size_t)(tokens ? tokens : TOKENS) * ROW * sizeof **raw;
    size_t list = tokens && 100 + tokens < IDS ? (100 + tokens) * sizeof *ids : sizeof ids;
    size_t n = 2 * ((end_layer ? end_layer : LAYERS) - first_layer);
    CU_ASSERT_EQUAL_FATAL(unit_read_file("cut", cut, sizeof cut), list + n * plane);
    CU_ASSERT_EQUAL(sizes.bytes_written, list + n * plane);
    CU_ASSERT_EQUAL(memcmp(cut, ids, list), 0);
    for (size_t p = 0; p < n; p++)
        CU_ASSERT_EQUAL(memcmp(cut + list + p * plane, raw[2 * first_layer + p], plane), 0);
    *bytes_read = sizes.bytes_read;
    unlink(unit_path("cut"));
}

static void refuse_cut(uint64_t tokens, unsigned first_layer, unsigned end_layer) {
    kvot_restore_options options = {.tokens = tokens, .first_layer = first_layer, .end_layer = end_layer};
    CU_ASSERT_EQUAL(kvot_restore(unit_path("some.kvot"), unit_path("cut"), &options, NULL, NULL, NULL),
                    KVOT_E_ARGUMENT);
    CU_ASSERT_NOT_EQUAL(access(unit_path("cut"), F_OK), 0);
}

static void restore_cuts(void) {
    uint64_t all, one_chunk, some_rows, layer, both;
    restore_cut(0, 0, 0, &all);
    restore_cut(TOKENS, 0, LAYERS, &both);
    CU_ASSERT_EQUAL(both, all);
    restore_cut(1, 0, 0, &one_chunk); /* the first chunk ends behind row 155 */
    restore_cut(156, 0, 0, &some_rows);
    CU_ASSERT_EQUAL(one_chunk, some_rows);
    restore_cut(157, 0, 0, &some_rows);
    CU_ASSERT_TRUE(one_chunk < some_rows && some_rows < all);
    restore_cut(0, 1, 2, &layer);
    restore_cut(157, 1, 2, &both);
    CU_ASSERT_TRUE(layer < all && both < layer && both < some_rows);
    refuse_cut(TOKENS + 1, 0, 0);
    refuse_cut(UINT64_MAX, 0, 0);
    refuse_cut(0, 0, LAYERS + 1);
    refuse_cut(0, 1, 1);
    refuse_cut(0, 1, 0);
}

static void restored_parts_are_those_of_the_file(bool lossless) {
    kvot_compress_options options = kvot_compress_defaults();
    options.codec = lossless ? KVOT_LOSSLESS : KVOT_OTT;
    fill();
    compress("some.kvot", 2, &options, 0);
    CU_ASSERT_EQUAL_FATAL(
        kvot_restore(unit_path("some.kvot"), unit_path("raw"), NULL, &(kvot_run){.overwrite = true}, NULL, NULL),
        KVOT_OK);
    static uint8_t file_bytes[sizeof ids + sizeof raw + 1];
    CU_ASSERT_EQUAL(unit_read_file("raw", file_bytes, sizeof file_bytes), sizeof ids + sizeof raw);
    CU_ASSERT_EQUAL(memcmp(file_bytes, ids, sizeof ids), 0);
    memcpy(raw, file_bytes + sizeof ids, sizeof raw);
    CU_ASSERT_EQUAL(memcmp(raw, rows, sizeof raw) == 0, lossless);
    restore_cuts();
    static uint8_t in_memory[sizeof file_bytes];
    memset(in_memory, 0x11, sizeof in_memory);
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("some.kvot"), &file, NULL), KVOT_OK);
    CU_ASSERT_STRING_EQUAL(kvot_file_info(file)->source, "arrays");
    CU_ASSERT_EQUAL(kvot_file_info(file)->n_planes, 2 * LAYERS);
    check_about(file);
    uint64_t bytes = sizeof ids + sizeof raw;
    CU_ASSERT_EQUAL(kvot_restore_memory(file, in_memory, bytes - 1, NULL, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(kvot_restore_memory(file, in_memory, bytes, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(memcmp(in_memory, file_bytes, bytes), 0);
    CU_ASSERT_EQUAL(in_memory[bytes], 0x11);
    /* Chunks end at positions 256 and 512, rows 156 and 412. */
    static const uint32_t parts[][2] = {{0, TOKENS}, {0, 1}, {156, 256}, {155, 2}, {1, 598}, {599, 1}};
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        for (int layout = 0; layout < STRIDED_LAYOUTS; layout++)
            restore_part(file, part % 4, parts[part][0], parts[part][1], layout);
    kvot_close(file);
    unlink(unit_path("some.kvot"));
    unlink(unit_path("raw"));
}

static void quantized_parts_are_those_of_the_file(void) {
    restored_parts_are_those_of_the_file(false);
}

static void lossless_parts_are_those_of_the_file(void) {
    restored_parts_are_those_of_the_file(true);
}

static kvot_status diff(const char *first, const char *second, kvot_diff_result **result) {
    *result = NULL;
    return kvot_diff(unit_path(first), unit_path(second), NULL, result, NULL);
}

/* A file like that of `compress` without loss, with other token ids, at another position, or with fewer tokens. */
static void compress_other(const char *name, int32_t id, uint32_t position, uint32_t tokens) {
    kvot_array arrays[2 * LAYERS];
    for (int p = 0; p < 2 * LAYERS; p++)
        arrays[p] = array_of(rows[p], 0, tokens);
    kvot_compress_options options = {.codec = KVOT_LOSSLESS};
    kvot_run run = {.overwrite = true};
    int32_t other_ids[IDS] = {id};
    kvot_about about = {.position = position, .tokens = other_ids, .n_tokens = IDS};
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, LAYERS, NULL, &about, unit_path(name), &options, &run, NULL, NULL), KVOT_OK);
}

static void files_of_arrays_are_compared(void) {
    kvot_compress_options options = {.codec = KVOT_LOSSLESS};
    kvot_diff_result *result;
    kvot_file *file;
    fill();
    compress("first", 0, &options, 1);
    compress("other", 0, NULL, 1);
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("other"), &file, NULL), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(diff("first", "other", &result), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(result->n_planes, 2 * LAYERS);
    CU_ASSERT_FALSE(result->all.identical);
    for (size_t p = 0; p < result->n_planes; p++) {
        const kvot_diff_plane *of = &result->planes[p];
        const kvot_plane *plane = &kvot_file_info(file)->planes[p]; /* what was measured when it was made */
        CU_ASSERT_TRUE(of->layer == p / 2 && of->kind == (p % 2 ? KVOT_V : KVOT_K));
        CU_ASSERT_FALSE(of->difference.identical);
        CU_ASSERT_EQUAL(of->difference.max_abs_error, plane->max_abs_error);
        CU_ASSERT_DOUBLE_EQUAL(of->difference.rms_error, plane->rms_error, 1e-9);
    }
    kvot_diff_free(result);
    kvot_close(file);
    CU_ASSERT_EQUAL_FATAL(diff("first", "first", &result), KVOT_OK);
    CU_ASSERT_TRUE(result->all.identical && result->planes[0].difference.identical);
    kvot_diff_free(result);
    compress_other("other", 1, 100, TOKENS);
    CU_ASSERT_EQUAL_FATAL(diff("first", "other", &result), KVOT_OK);
    CU_ASSERT_FALSE(result->all.identical);
    for (size_t p = 0; p < result->n_planes; p++)
        CU_ASSERT_TRUE(result->planes[p].difference.identical);
    kvot_diff_free(result);
    compress_other("other", 1, 101, TOKENS);
    CU_ASSERT_EQUAL(diff("first", "other", &result), KVOT_E_DIFFERENT);
    compress_other("other", 1, 100, TOKENS - 1);
    CU_ASSERT_EQUAL(diff("first", "other", &result), KVOT_E_DIFFERENT);
    CU_ASSERT_EQUAL(kvot_diff(unit_path("first"), UNIT_DATA "/llama-v3-seq.bin", NULL, &result, NULL),
                    KVOT_E_DIFFERENT);
    unlink(unit_path("first"));
    unlink(unit_path("other"));
}

static void wrong_arrays_are_refused(void) {
    kvot_run run = {.overwrite = true};
    kvot_array arrays[2] = {array_of(room[0], 0, TOKENS), array_of(room[1], 0, TOKENS)}, good = arrays[0];
    const kvot_status wrong = KVOT_E_ARGUMENT;
    const char *out = unit_path("wrong.kvot");
#define TRY(n, first)                                                                                                  \
    kvot_compress_arrays(arrays, n, NULL, &(kvot_about){.position = first}, out, NULL, &run, NULL, NULL)
    CU_ASSERT_EQUAL(TRY(0, 0), wrong);
    CU_ASSERT_EQUAL(TRY(1, 1u << 31), wrong);
    CU_ASSERT_EQUAL(TRY(1, INT32_MAX - TOKENS + 1), wrong);
#define TRY_ABOUT(...) kvot_compress_arrays(arrays, 1, NULL, &(kvot_about){__VA_ARGS__}, out, NULL, &run, NULL, NULL)
    CU_ASSERT_EQUAL(TRY_ABOUT(.architecture = "some model, with 32 characters.."), wrong);
    CU_ASSERT_EQUAL(TRY_ABOUT(.architecture = "a\nb"), wrong);
    CU_ASSERT_EQUAL(TRY_ABOUT(.n_tokens = 1), wrong);
    CU_ASSERT_EQUAL(TRY_ABOUT(.tokens = ids, .n_tokens = (size_t)1 << 32), wrong);
    arrays[1].tokens--;
    CU_ASSERT_EQUAL(TRY(1, 0), wrong);
    arrays[1] = good;
    arrays[1].data = NULL;
    CU_ASSERT_EQUAL(TRY(1, 0), wrong);
    arrays[1].data = (char *)good.data + 1;
    CU_ASSERT_EQUAL(TRY(1, 0), wrong);
    arrays[1] = good;
    arrays[1].heads = 1u << 31;
    CU_ASSERT_EQUAL(TRY(1, 0), wrong);
    arrays[1] = good;
    arrays[1].type = (kvot_type)3;
    CU_ASSERT_EQUAL(TRY(1, 0), wrong);
    CU_ASSERT_NOT_EQUAL(access(out, F_OK), 0);
    arrays[1] = good;
    CU_ASSERT_EQUAL_FATAL(TRY(1, 0), KVOT_OK);
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(kvot_open(out, &file, NULL), KVOT_OK);
    kvot_array to = good;
    CU_ASSERT_EQUAL(kvot_load(file, &(kvot_part){2, 0, to}, 1, NULL, NULL, NULL), wrong);
    CU_ASSERT_EQUAL(kvot_load(file, &(kvot_part){0, 1, to}, 1, NULL, NULL, NULL), wrong);
    CU_ASSERT_EQUAL(kvot_load(file, &(kvot_part){0, UINT64_MAX, to}, 1, NULL, NULL, NULL), wrong);
    to.head_dim++;
    CU_ASSERT_EQUAL(kvot_load(file, &(kvot_part){0, 0, to}, 1, NULL, NULL, NULL), wrong);
    kvot_close(file);
    unlink(out);
}

/* Programs that run models often have denormals flushed to zero in their threads. */
static void files_do_not_depend_on_flushed_denormals(void) {
#ifdef __x86_64__
    static uint8_t first[1 << 20], other[1 << 20];
    fill();
    for (int p = 0; p < 2 * LAYERS; p++)
        for (int i = 0; i < N; i++)
            rows[p][i] &= 0x83ff; /* denormal halves */
    compress("first", 0, NULL, 2);
    size_t n = unit_read_file("first", first, sizeof first);
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
    compress("other", 0, NULL, 2);
    CU_ASSERT_EQUAL(__builtin_ia32_stmxcsr() & 0x8040, 0x8040); /* the caller's are left alone */
    __builtin_ia32_ldmxcsr(before);
    CU_ASSERT_EQUAL(unit_read_file("other", other, sizeof other), n);
    CU_ASSERT_EQUAL(memcmp(first, other, n), 0);
    unlink(unit_path("first"));
    unlink(unit_path("other"));
#endif
}

const unit_test array_tests[] = {{"files do not depend on strides", files_do_not_depend_on_strides},
                                 {"quantized parts are those of the file", quantized_parts_are_those_of_the_file},
                                 {"lossless parts are those of the file", lossless_parts_are_those_of_the_file},
                                 {"files of arrays are compared", files_of_arrays_are_compared},
                                 {"files do not depend on flushed denormals", files_do_not_depend_on_flushed_denormals},
                                 {"wrong arrays are refused", wrong_arrays_are_refused},
                                 {NULL, NULL}};
