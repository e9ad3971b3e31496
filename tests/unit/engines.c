#include "unit.h"

#include "../../lib/engines/engine.h"
#include "../../lib/engines/gguf.h"

#include <stdlib.h>
#include <string.h>

/* A file that is written as it is read. */
typedef struct bytes {
    uint8_t data[4096];
    size_t n;
} bytes;

static void put(bytes *to, const void *from, size_t n) {
    memcpy(to->data + to->n, from, n);
    to->n += n;
}

static void put_u32(bytes *to, uint32_t value) {
    put(to, &value, sizeof value);
}

static void put_u64(bytes *to, uint64_t value) {
    put(to, &value, sizeof value);
}

static input input_of(const bytes *from) {
    return (input){.fd = -1, .memory = from->data, .bytes = from->n, .name = "test"};
}

enum { CELLS = 3, ROW = 8 }; /* rows of four f16 */

/* What may differ between files of the same content. */
typedef struct shape {
    uint32_t magic, version;
    bool no_streams, old_outputs, transposed, no_sequence;
    uint32_t ext_bytes;
    uint32_t layers, value_layers;
} shape;

static void put_attention(bytes *to, const shape *shape) {
    static const uint8_t rows[CELLS * ROW] = {1, 2, 3};
    if (!shape->no_streams)
        put_u32(to, 1);
    put_u32(to, CELLS);
    for (uint32_t i = 0; i < CELLS; i++) {
        put_u32(to, 10 + i);
        put_u32(to, shape->no_sequence ? 0 : 1);
        put(to, rows, shape->ext_bytes);
        if (!shape->no_sequence)
            put_u32(to, 0);
    }
    put_u32(to, shape->transposed);
    put_u32(to, shape->layers);
    if (shape->version == (shape->magic == 0x6767736e ? 11u : 4u)) {
        put_u32(to, 64);
        put_u32(to, 0);
    }
    for (uint32_t i = 0; i < shape->layers; i++) {
        put_u32(to, 1);
        put_u64(to, ROW);
        put(to, rows, sizeof rows);
    }
    for (uint32_t i = 0; i < shape->value_layers; i++) {
        put_u32(to, 1);
        if (shape->transposed) {
            put_u32(to, 2);
            put_u32(to, ROW / 2);
        } else
            put_u64(to, ROW);
        put(to, rows, sizeof rows);
    }
}

static void put_recurrent(bytes *to) {
    static const float state[4] = {1, 2, 3, 4};
    put_u32(to, 1); /* cell */
    put_u32(to, 12);
    put_u32(to, 0);
    put_u32(to, 0); /* s_trans */
    put_u32(to, 5); /* layers of the model, of which two have R and S */
    for (int i = 0; i < 4; i++) {
        put_u32(to, 0);
        put_u64(to, sizeof state);
        put(to, state, sizeof state);
    }
}

static void put_head(bytes *to, const shape *shape) {
    put_u32(to, shape->magic);
    put_u32(to, shape->version);
    put_u32(to, 2); /* tokens */
    put_u32(to, 7);
    put_u32(to, 8);
    if (shape->magic != 0x6767736e)
        return;
    put_u32(to, 5);
    put(to, "llama", 5);
    if (shape->old_outputs) {
        put_u32(to, 1);
        put_u32(to, 0);
        put_u64(to, 2);
        put_u64(to, 0);
        put_u64(to, 0);
    }
}

static kvot_status read_bytes(const bytes *file, plan *plan) {
    input in = input_of(file);
    return engine_read(&in, plan, NULL);
}

static void every_attention_variant_is_read(void) {
    static const shape shapes[] = {
        {.magic = 0x67677371, .version = 1, .layers = 2, .value_layers = 2, .no_streams = true, .no_sequence = true},
        {.magic = 0x67677371, .version = 2, .layers = 2, .value_layers = 2, .no_streams = true},
        {.magic = 0x67677371, .version = 2, .layers = 2, .value_layers = 2, .ext_bytes = 8},
        {.magic = 0x67677371, .version = 3, .layers = 2, .value_layers = 0},
        {.magic = 0x67677371, .version = 3, .layers = 2, .value_layers = 1, .transposed = true},
        {.magic = 0x67677371, .version = 4, .layers = 2, .value_layers = 2, .ext_bytes = 12, .transposed = true},
        {.magic = 0x6767736e, .version = 8, .layers = 2, .value_layers = 2, .no_streams = true, .old_outputs = true},
        {.magic = 0x6767736e, .version = 9, .layers = 2, .value_layers = 2, .old_outputs = true},
        {.magic = 0x6767736e, .version = 9, .layers = 2, .value_layers = 2},
        {.magic = 0x6767736e, .version = 10, .layers = 2, .value_layers = 2},
        {.magic = 0x6767736e, .version = 11, .layers = 2, .value_layers = 2, .transposed = true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bytes file = {.n = 0};
        plan plan;
        put_head(&file, &shapes[i]);
        put_attention(&file, &shapes[i]);
        CU_ASSERT_EQUAL(read_bytes(&file, &plan), KVOT_OK);
        CU_ASSERT_EQUAL(plan.n_planes, shapes[i].layers + shapes[i].value_layers);
        CU_ASSERT_EQUAL(plan.about.n_tokens, 2);
        CU_ASSERT_EQUAL(plan.n_views, 1);
        if (plan.n_cells == CELLS) {
            CU_ASSERT_EQUAL(plan.cells[2].position, 12);
            CU_ASSERT_EQUAL(plan.cells[2].sequence, shapes[i].no_sequence ? -1 : 0);
        }
        if (plan.n_planes == 4)
            CU_ASSERT_EQUAL(plan.planes[3].layout, shapes[i].transposed);
        plan_free(&plan);
        for (size_t cut = 1; cut < 100; cut++) {
            bytes shorter = file;
            shorter.n -= cut;
            if (shorter.n <= 20 + 9 * (shapes[i].magic == 0x6767736e))
                break;
            kvot_status status = read_bytes(&shorter, &plan);
            CU_ASSERT_TRUE(status == KVOT_E_DAMAGED || plan.bytes == shorter.n);
            plan_free(&plan);
        }
    }
}

static void sections_follow_each_other(void) {
    shape shape = {.magic = 0x67677371, .version = 3, .layers = 2, .value_layers = 2};
    bytes file = {.n = 0};
    plan plan;
    put_head(&file, &shape);
    put_attention(&file, &shape); /* global layers, window layers, recurrent layers */
    shape.layers = shape.value_layers = 1;
    put_attention(&file, &shape);
    put_recurrent(&file);
    CU_ASSERT_EQUAL(read_bytes(&file, &plan), KVOT_OK);
    CU_ASSERT_EQUAL(plan.n_rowsets, 3);
    CU_ASSERT_EQUAL(plan.n_planes, 4 + 2 + 4);
    CU_ASSERT_EQUAL(plan.planes[6].kind, FORMAT_STATE);
    plan_free(&plan);
}

/* A checkpoint's window section shares the row set of the main cache's. */
static void checkpoints_share_row_sets(void) {
    shape shape = {.magic = 0x67677371, .version = 4, .layers = 2, .value_layers = 2};
    bytes file = {.n = 0}, blob = {.n = 0};
    plan plan;
    put_head(&file, &shape);
    put_attention(&file, &shape);
    put_attention(&file, &shape);
    put_u32(&blob, 0xaf143cd8);
    put_u32(&blob, 0);
    put_attention(&blob, &shape);
    put(&file, "SCKP", 4);
    put_u32(&file, 1);
    put_u32(&file, 1);
    put_u64(&file, 3);
    put_u64(&file, 0);
    put_u64(&file, blob.n);
    put(&file, blob.data, blob.n);
    put_u64(&file, 0);
    put_u64(&file, 4); /* a third blob of a kind that is not known */
    put_u32(&file, 99);
    put(&file, "unknown bytes behind it", 23);
    CU_ASSERT_EQUAL(read_bytes(&file, &plan), KVOT_OK);
    CU_ASSERT_EQUAL(plan.n_rowsets, 2);
    CU_ASSERT_EQUAL(plan.n_views, 3);
    CU_ASSERT_EQUAL(plan.n_views == 3 && plan.views[2].rowset, 1);
    CU_ASSERT_EQUAL(plan.bytes, file.n);
    CU_ASSERT_STRING_EQUAL(plan.about.variant, "sequence file, version 4, 1 checkpoints");
    plan_free(&plan);
}

/* Many streams in many sections are refused before they fill a stack, which has 2 MiB in some threads. */
static void nesting_is_bounded(void) {
    enum { SECTIONS = 30, STREAMS = 200, STREAM_BYTES = 4 + 12 + 8 };
    static uint8_t data[20 + SECTIONS * (4 + STREAMS * STREAM_BYTES)];
    uint32_t *to = (uint32_t *)data;
    *to++ = 0x67677371;
    *to++ = 3;
    *to++ = 0;
    for (int s = 0; s < SECTIONS; s++) {
        *to++ = STREAMS;
        for (int i = 0; i < STREAMS; i++) {
            static const uint32_t stream[] = {1, 0, 1, 0, 0, 0}; /* one cell, no layers */
            memcpy(to, stream, sizeof stream);
            to += sizeof stream / sizeof *stream;
        }
    }
    input in = {.fd = -1, .memory = data, .bytes = (uint64_t)((uint8_t *)to - data), .name = "test"};
    plan plan;
    CU_ASSERT_EQUAL(engine_read(&in, &plan, NULL), KVOT_E_DAMAGED);
    plan_free(&plan);
}

static void token_blobs_are_read(void) {
    bytes file = {.n = 0};
    plan plan;
    put_u32(&file, 0x67677371);
    put_u32(&file, 4);
    put_u32(&file, 6); /* words: -1, 1, n, two tokens, no media */
    static const int32_t words[] = {-1, 1, 2, 70, 80, 0};
    put(&file, words, sizeof words);
    CU_ASSERT_EQUAL(read_bytes(&file, &plan), KVOT_OK);
    CU_ASSERT_EQUAL(plan.about.n_tokens, 2);
    CU_ASSERT_EQUAL(plan.about.tokens_offset, 24);
    plan_free(&plan);
}

static void strangers_are_named(void) {
    static const struct {
        const char *start;
        size_t n;
        kvot_status status;
        const char *word;
    } files[] = {{"PK\x03\x04pickle", 10, KVOT_E_UNKNOWN, "pickle"},
                 {"\x80\x04\x95", 3, KVOT_E_UNKNOWN, "pickle"},
                 {"GGUF\x03", 5, KVOT_E_UNKNOWN, "--model"},
                 {"", 0, KVOT_E_UNKNOWN, "empty"},
                 {"hello", 5, KVOT_E_UNKNOWN, "not a cache"},
                 {"qsgg\x05\0\0\0\0\0\0\0", 12, KVOT_E_UNSUPPORTED, "version 5"},
                 {"qsgg\x03\0\0\0\x05\0\0\0", 12, KVOT_E_DAMAGED, "tokens"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        bytes file = {.n = 0};
        plan plan;
        kvot_error error = {0};
        put(&file, files[i].start, files[i].n);
        input in = input_of(&file);
        CU_ASSERT_EQUAL(engine_read(&in, &plan, &error), files[i].status);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.text, files[i].word));
        plan_free(&plan);
    }
}

static void put_string(bytes *to, const char *text) {
    put_u64(to, strlen(text));
    put(to, text, strlen(text));
}

static void put_number(bytes *to, const char *key, uint32_t value) {
    put_string(to, key);
    put_u32(to, 4);
    put_u32(to, value);
}

static void model_metadata_is_read(void) {
    bytes file = {.n = 0};
    put(&file, "GGUF", 4);
    put_u32(&file, 3);
    put_u64(&file, 1); /* tensors */
    put_u64(&file, 8); /* values */
    put_string(&file, "general.architecture");
    put_u32(&file, 8);
    put_string(&file, "llama");
    put_number(&file, "llama.block_count", 3);
    put_number(&file, "llama.attention.head_count", 6);
    put_number(&file, "llama.embedding_length", 384);
    put_string(&file, "llama.attention.head_count_kv");
    put_u32(&file, 9); /* array of u32: one number a layer */
    put_u32(&file, 4);
    put_u64(&file, 3);
    put_u32(&file, 2);
    put_u32(&file, 0);
    put_u32(&file, 4);
    put_string(&file, "llama.rope.freq_base");
    put_u32(&file, 6);
    float base = 10000;
    put(&file, &base, 4);
    put_string(&file, "tokens"); /* array of strings, skipped */
    put_u32(&file, 9);
    put_u32(&file, 8);
    put_u64(&file, 2);
    put_string(&file, "a");
    put_string(&file, "bb");
    put_number(&file, "llama.rope.dimension_count", 64);
    put_string(&file, "tensor");
    put_u32(&file, 1);
    put_u64(&file, 10);
    put_u32(&file, 0);
    put_u64(&file, 0);
    gguf *model = malloc(sizeof *model);
    input in = input_of(&file);
    CU_ASSERT_EQUAL(gguf_read(&in, model, NULL), KVOT_OK);
    CU_ASSERT_STRING_EQUAL(model->architecture, "llama");
    CU_ASSERT_EQUAL(model->rope_base, 10000.0f);
    CU_ASSERT_EQUAL(model->rope_dims, 64);
    CU_ASSERT_EQUAL(gguf_heads(model, true, 128), 2); /* two heads of 384 / 6 */
    CU_ASSERT_EQUAL(gguf_heads(model, false, 256), 4);
    CU_ASSERT_EQUAL(gguf_heads(model, true, 192), 0); /* no layer has three */
    CU_ASSERT_EQUAL(gguf_heads(model, true, 100), 0);
    for (size_t n = 4; n < file.n; n++) {
        in.bytes = n;
        CU_ASSERT_EQUAL(gguf_read(&in, model, NULL), n < 8 ? KVOT_E_UNSUPPORTED : KVOT_E_DAMAGED);
    }
    free(model);
}

const unit_test engine_tests[] = {{"every attention variant is read", every_attention_variant_is_read},
                                  {"sections follow each other", sections_follow_each_other},
                                  {"checkpoints share row sets", checkpoints_share_row_sets},
                                  {"nesting is bounded", nesting_is_bounded},
                                  {"token blobs are read", token_blobs_are_read},
                                  {"strangers are named", strangers_are_named},
                                  {"model metadata is read", model_metadata_is_read},
                                  {NULL, NULL}};
