/* magnitudes, quantize and dequantize. */
#include "../../kernels/numbers.h"
#include "check.h"
#include "data.h"
#include "random.h"

#include <stdlib.h>

typedef enum exact_kind { EXACT_NONE, EXACT_FEW, EXACT_HALF, EXACT_BLOCK, EXACT_ALL, EXACT_KINDS } exact_kind;

static const char *const exact_kind_names[EXACT_KINDS] = {"none", "few", "half", "block", "all"};
static const char *const type_names[] = {"f32", "f16", "bf16"};

static const uint32_t all_bits[] = {2, 3, 4, 8};
static const uint32_t all_groups[] = {32, 64, 128, 1, 5, 48};
static const uint32_t all_dims[] = {1, 2, 7, 8, 16, 24, 40, 64, 72, 80, 96, 100, 112, 128, 192, 256, 576, 1536};
static const uint32_t all_heads[] = {1, 2, 3, 8};
static const uint32_t all_rows[] = {1, 2, 15, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256};
static const float all_shares[] = {1.0f, 0.98f, 0.75f};

#define COUNT(list) ((uint32_t)(sizeof list / sizeof *list))
#define PICK(list)  list[random_below(COUNT(list))]

/* What a call needs beside its outputs. */
typedef struct arguments {
    kernel_chunk chunk;
    const void *rows;
    const uint8_t *exact;
    kernel_codes codes; /* only the lengths, where these are outputs */
} arguments;

static void call_magnitudes(const kernel_table *table, const void *context, void *const *outputs) {
    const arguments *with = context;
    table->magnitudes(&with->chunk, with->rows, outputs[0], outputs[1]);
}

static void call_sums(const kernel_table *table, const void *context, void *const *outputs) {
    const arguments *with = context;
    table->magnitudes(&with->chunk, with->rows, outputs[0], NULL);
}

static void call_quantize(const kernel_table *table, const void *context, void *const *outputs) {
    const arguments *with = context;
    kernel_codes codes = with->codes;
    codes.scales = outputs[0];
    codes.minima = outputs[1];
    codes.codes = outputs[2];
    codes.high = with->chunk.bits == 3 ? outputs[3] : NULL;
    table->quantize(&with->chunk, with->rows, with->exact, &codes);
}

static void call_dequantize(const kernel_table *table, const void *context, void *const *outputs) {
    const arguments *with = context;
    table->dequantize(&with->chunk, &with->codes, outputs[0]);
}

static void mark_exact(const kernel_chunk *chunk, exact_kind kind, uint8_t *exact) {
    size_t n = (size_t)chunk->rows * chunk->heads;
    for (size_t i = 0; i < n; i++)
        exact[i] = kind == EXACT_ALL || (kind == EXACT_HALF && random_below(2));
    for (uint32_t h = 0; h < chunk->heads; h++) {
        for (int i = 0; kind == EXACT_FEW && i < 2; i++)
            exact[(size_t)random_below(chunk->rows) * chunk->heads + h] = 1;
        /* long enough for whole groups of keys without a row */
        uint32_t first = random_below(chunk->rows), last = first + random_below(chunk->rows - first) + 1;
        for (uint32_t r = first; kind == EXACT_BLOCK && r < last; r++)
            exact[(size_t)r * chunk->heads + h] = 1;
    }
}

static void check_magnitudes(const arguments *with) {
    size_t bytes = (size_t)with->chunk.rows * with->chunk.heads * sizeof(float);
    const check_output outputs[] = {{"sums", bytes, sizeof(float)}, {"squares", bytes, sizeof(float)}};
    check_kernel("magnitudes", outputs, 2, call_magnitudes, with);
    if (random_below(4) == 0)
        check_kernel("magnitudes (no squares)", outputs, 1, call_sums, with);
}

static size_t ranges_of(const kernel_chunk *chunk) {
    size_t head_groups = (chunk->head_dim + chunk->group - 1) / chunk->group;
    return chunk->keys ? (size_t)((chunk->rows + chunk->group - 1) / chunk->group) * chunk->heads * chunk->head_dim
                       : (size_t)chunk->rows * chunk->heads * head_groups;
}

/* Decodes what is in the outputs of quantize, or if `random`, numbers of any size and codes with spare bits set. */
static void check_dequantize(arguments with, bool random, const check_output *parts, int n_parts) {
    check_new_case();
    void *input[CHECK_OUTPUTS] = {NULL};
    for (int p = 0; p < n_parts; p++) {
        input[p] = check_input(parts[p].name, parts[p].bytes, parts[p].element);
        if (!random && parts[p].bytes > 0)
            memcpy(input[p], check_expected(p), parts[p].bytes);
        for (size_t i = 0; random && i < parts[p].bytes / parts[p].element; i++) {
            if (p < 2) /* about 1 in half of the groups, so that products and sums are not all out of range */
                store_element(with.chunk.type, input[p], i,
                              random_below(2) ? data_any_finite(with.chunk.type) : random_unit() * 4 - 2);
            else
                ((uint8_t *)input[p])[i] = (uint8_t)random_bits();
        }
    }
    with.codes.scales = input[0];
    with.codes.minima = input[1];
    with.codes.codes = input[2];
    with.codes.high = input[3];
    size_t element = data_element_bytes(with.chunk.type);
    const check_output output = {"rows", (size_t)with.chunk.rows * with.chunk.heads * with.chunk.head_dim * element,
                                 element};
    check_kernel(random ? "dequantize (random codes)" : "dequantize", &output, 1, call_dequantize, &with);
}

static void check_chunk(const kernel_chunk *chunk, data_kind data, exact_kind exactness) {
    size_t element = data_element_bytes(chunk->type), channels = (size_t)chunk->heads * chunk->head_dim;
    size_t row_bytes = channels * element;
    arguments with = {.chunk = *chunk};
    /* Rows of codes may be longer than the codes. */
    size_t spare = random_below(4) ? 0 : random_below(70);
    with.codes.row_code_bytes = (channels * (chunk->bits == 3 ? 2 : chunk->bits) + 7) / 8 + spare;
    with.codes.row_high_bytes = chunk->bits == 3 ? (channels + 7) / 8 + spare : 0;
    check_describe("%s %s bits %u group %u share %g rows %u heads %u head_dim %u data: %s, exact: %s, spare bytes %zu",
                   type_names[chunk->type], chunk->keys ? "K" : "V", chunk->bits, chunk->group, chunk->share,
                   chunk->rows, chunk->heads, chunk->head_dim, data_kind_names[data], exact_kind_names[exactness],
                   spare);

    check_new_case();
    uint8_t *rows = check_input("rows", chunk->rows * row_bytes, element);
    uint8_t *exact = check_input("exact", (size_t)chunk->rows * chunk->heads, 1);
    with.rows = rows;
    with.exact = exact;
    data_fill(chunk, data, rows);
    mark_exact(chunk, exactness, exact);
    bool spoil = random_below(2);
    for (size_t i = 0; spoil && i < (size_t)chunk->rows * chunk->heads; i++)
        if (exact[i])
            data_spoil(chunk->type, rows + i * chunk->head_dim * element, chunk->head_dim);
    check_magnitudes(&with);

    size_t ranges = ranges_of(chunk) * element;
    const check_output parts[] = {{"scales", ranges, element},
                                  {"minima", ranges, element},
                                  {"codes", chunk->rows * with.codes.row_code_bytes, 1},
                                  {"high", chunk->rows * with.codes.row_high_bytes, 1}};
    int n_parts = chunk->bits == 3 ? 4 : 3;
    check_kernel("quantize", parts, n_parts, call_quantize, &with);
    check_dequantize(with, false, parts, n_parts);
    check_dequantize(with, true, parts, n_parts);
}

/* A chunk of at most `most` elements (but with one row and head, as long as it may be). */
static void check_sized(kernel_chunk chunk, uint32_t most, data_kind data, exact_kind exactness) {
    while (chunk.heads > 1 && chunk.heads * chunk.head_dim > most)
        chunk.heads--;
    while (chunk.rows > 1 && chunk.rows * chunk.heads * chunk.head_dim > most)
        chunk.rows -= (chunk.rows + 3) / 4;
    check_chunk(&chunk, data, exactness);
}

/* For each type, bits, group, and K and V: every number of every other list at least once, each list begun at a random
 * place so that others meet; then chunks drawn from the lists. */
static void check_settings(kernel_chunk chunk) {
    uint32_t rows = random_below(COUNT(all_rows)), kind = random_below(DATA_KINDS), other = random_below(60);
    for (uint32_t i = 0; i < COUNT(all_dims); i++) {
        chunk.head_dim = all_dims[i];
        chunk.rows = all_rows[(rows + i) % COUNT(all_rows)];
        chunk.heads = all_heads[(other + i) % COUNT(all_heads)];
        chunk.share = all_shares[(other + i) % COUNT(all_shares)];
        check_sized(chunk, random_below(8) ? 1 << 15 : 1 << 18, (data_kind)((kind + i) % DATA_KINDS),
                    (exact_kind)((other + i) % EXACT_KINDS));
    }
    for (int i = 0; i < 150; i++) {
        chunk.head_dim = random_below(4) ? PICK(all_dims) : 1 + random_below(300);
        chunk.rows = random_below(4) ? PICK(all_rows) : 1 + random_below(KERNEL_MAX_ROWS);
        chunk.heads = PICK(all_heads);
        chunk.share = PICK(all_shares);
        uint32_t most = random_below(4) ? 1 << 11 : 1 << 14;
        data_kind data = (data_kind)random_below(DATA_KINDS);
        check_sized(chunk, most, data, (exact_kind)random_below(EXACT_KINDS));
    }
}

void check_chunks(void) {
    for (int type = KERNEL_F32; type <= KERNEL_BF16; type++)
        for (uint32_t b = 0; b < COUNT(all_bits); b++)
            for (uint32_t g = 0; g < COUNT(all_groups); g++)
                for (int keys = 0; keys < 2; keys++)
                    check_settings((kernel_chunk){
                        .type = (kernel_type)type, .bits = all_bits[b], .group = all_groups[g], .keys = keys});
}

/* Every half there is, alone in its row and in whole rows of 16. */
void check_all_halves(void) {
    static const kernel_type types[] = {KERNEL_F16, KERNEL_BF16};
    for (int t = 0; t < 2; t++) {
        for (uint32_t head_dim = 1; head_dim <= 16; head_dim += 15) {
            check_describe("every %s, head_dim %u", type_names[types[t]], head_dim);
            check_new_case();
            uint16_t *rows = check_input("rows", (size_t)0x10000 * head_dim * sizeof *rows, sizeof *rows);
            for (uint32_t i = 0; i < 0x10000 * head_dim; i++)
                rows[i] = (uint16_t)(i / head_dim);
            check_magnitudes(&(arguments){
                .chunk = {.type = types[t], .rows = 256, .heads = 256, .head_dim = head_dim, .group = 32, .bits = 4},
                .rows = rows});
        }
    }
}
