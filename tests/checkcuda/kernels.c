/* Every kernel alone: what it writes, and that it writes nothing else. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, FILL = 0xa5, BUFFERS = 12 };

/* A device buffer with guard bytes before and behind it. */
typedef struct guarded {
    cu_pointer whole;
    size_t bytes;
} guarded;

typedef struct bench {
    const driver *driver;
    lane *lane;
    const char *what; /* of the case at hand */
    guarded buffers[BUFFERS];
    int n;
} bench;

static bool ok(bench *bench, cu_result result) {
    kvot_error error;
    return driver_check(bench->driver, result, "a call", &error) == KVOT_OK || wrong("%s: %s", bench->what, error.text);
}

/* A buffer for `bytes` bytes that holds `contents`, or FILL if that is NULL. */
static uint64_t buffer(bench *bench, const void *contents, size_t bytes) {
    guarded *of = &bench->buffers[bench->n++];
    of->bytes = bytes;
    uint8_t *host = malloc(bytes + 2 * GUARD);
    memset(host, FILL, bytes + 2 * GUARD);
    if (contents)
        memcpy(host + GUARD, contents, bytes);
    ok(bench, bench->driver->MemAlloc(&of->whole, bytes + 2 * GUARD));
    ok(bench, bench->driver->MemcpyHtoDAsync(of->whole, host, bytes + 2 * GUARD, bench->lane->stream));
    ok(bench, bench->driver->StreamSynchronize(bench->lane->stream));
    free(host);
    return of->whole + GUARD;
}

static const guarded *buffer_at(const bench *bench, uint64_t address) {
    const guarded *of = bench->buffers;
    while (of->whole != address - GUARD)
        of++;
    return of;
}

/* Makes a buffer's contents FILL again. */
static void fill(bench *bench, uint64_t address) {
    ok(bench, bench->driver->MemsetD8Async(address, FILL, buffer_at(bench, address)->bytes, bench->lane->stream));
}

/* That the buffer at `address` holds `expected` and its guards are as they were. */
static bool holds(bench *bench, const char *kernel, const char *part, uint64_t address, const void *expected) {
    const guarded *of = buffer_at(bench, address);
    uint8_t *host = malloc(of->bytes + 2 * GUARD);
    bool same =
        ok(bench, bench->driver->MemcpyDtoHAsync(host, of->whole, of->bytes + 2 * GUARD, bench->lane->stream)) &&
        ok(bench, bench->driver->StreamSynchronize(bench->lane->stream));
    for (size_t i = 0; same && i < of->bytes + 2 * GUARD; i++) {
        bool inside = i >= GUARD && i - GUARD < of->bytes;
        uint8_t want = inside ? ((const uint8_t *)expected)[i - GUARD] : FILL;
        if (host[i] != want)
            same = wrong("%s: %s: %s: byte %zd of %zu is %02x, not %02x", bench->what, kernel, part, (ssize_t)i - GUARD,
                         of->bytes, host[i], want);
    }
    free(host);
    return same;
}

static void launch(bench *bench, cuda_launch launch, const void *argument) {
    kvot_error error;
    if (lane_launch(bench->lane, launch, argument, &error) != KVOT_OK)
        wrong("%s: %s", bench->what, error.text);
}

static void release(bench *bench) {
    for (int i = 0; i < bench->n; i++)
        bench->driver->MemFree(bench->buffers[i].whole);
    bench->n = 0;
}

/* A plane's elements in its layout, inside FILL. */
static uint8_t *laid_out(const cuda_plane *plane, size_t base, size_t bytes, size_t element_bytes, const void *rows) {
    uint8_t *memory = malloc(bytes);
    memset(memory, FILL, bytes);
    layout_put(plane, base, element_bytes, rows, memory);
    return memory;
}

static void check_codes(bench *bench, const char *kernel, const sample *s, const cuda_plane *plane) {
    holds(bench, kernel, "scales", plane->scales, s->codes.scales);
    holds(bench, kernel, "minima", plane->minima, s->codes.minima);
    holds(bench, kernel, "codes", plane->codes, s->codes.codes);
    holds(bench, kernel, "high", plane->high, s->codes.high);
}

/* A sample in some layout: its rows, to be freed, are `bytes` bytes that a buffer at `input` holds too. */
static cuda_plane place_rows(bench *bench, const sample *s, layout layout, size_t *base, size_t *bytes,
                             uint8_t **elements, uint64_t *input) {
    cuda_plane plane = lane_cuda_plane(&(lane_chunks){s->chunk.rows, s->first, s->start},
                                       &(lane_plane){.chunk = s->chunk, .rows = {.device = 1}}, 0);
    *bytes = layout_strides(layout, &s->chunk, &plane, base) * s->element_bytes;
    *elements = laid_out(&plane, *base, *bytes, s->element_bytes, s->rows);
    *input = buffer(bench, *elements, *bytes);
    plane.elements = *input + *base * s->element_bytes;
    return plane;
}

static void check_plane(bench *bench, sample *s, layout layout) {
    const kernel_chunk *chunk = &s->chunk;
    size_t base, heads = (size_t)chunk->rows * chunk->heads, bytes;
    uint8_t *elements;
    uint64_t input;
    cuda_plane plane = place_rows(bench, s, layout, &base, &bytes, &elements, &input);
    plane.sums = buffer(bench, NULL, heads * sizeof(float));
    plane.squares = buffer(bench, NULL, heads * sizeof(float));
    launch(bench, cuda_magnitudes(&plane), &plane);
    holds(bench, "magnitudes", "sums", plane.sums, s->sums);
    holds(bench, "magnitudes", "squares", plane.squares, s->squares);

    plane.exact = buffer(bench, s->exact, heads);
    plane.scales = buffer(bench, NULL, s->ranges * s->element_bytes);
    plane.minima = buffer(bench, NULL, s->ranges * s->element_bytes);
    plane.codes = buffer(bench, NULL, s->code_bytes);
    plane.high = buffer(bench, NULL, s->high_bytes);
    launch(bench, cuda_quantize(&plane), &plane);
    check_codes(bench, "quantize", s, &plane);

    /* Once more, in two steps that share one read of the rows. */
    fill(bench, plane.sums);
    fill(bench, plane.squares);
    fill(bench, plane.codes);
    launch(bench, cuda_measure(&plane), &plane);
    holds(bench, "measure", "sums", plane.sums, s->sums);
    if (chunk->keys)
        holds(bench, "measure", "squares", plane.squares, s->squares);
    launch(bench, cuda_settle(&plane), &plane);
    check_codes(bench, "settle", s, &plane);
    plane.losses = buffer(bench, NULL, chunk->rows * sizeof *s->losses);
    launch(bench, cuda_compare(&plane), &plane);
    holds(bench, "compare", "losses", plane.losses, s->losses);
    holds(bench, "compare", "exact", plane.exact, s->exact);
    check_codes(bench, "compare", s, &plane);
    holds(bench, "quantize", "input", input, elements);
    free(elements);

    uint64_t output = buffer(bench, NULL, bytes);
    plane.elements = output + base * s->element_bytes;
    launch(bench, cuda_dequantize(&plane), &plane);
    size_t head_bytes = chunk->head_dim * s->element_bytes, n = 0;
    cuda_row *list = malloc(heads * sizeof *list);
    uint8_t *values = malloc(heads * head_bytes);
    for (size_t i = 0; i < heads; i++) {
        if (!s->exact[i])
            continue;
        list[n] = (cuda_row){(uint32_t)(i / chunk->heads), (uint32_t)(i % chunk->heads)};
        memcpy(values + n++ * head_bytes, s->rows + i * head_bytes, head_bytes);
    }
    if (n > 0) {
        cuda_exact exact = {.token_stride = plane.token_stride,
                            .head_stride = plane.head_stride,
                            .channel_stride = plane.channel_stride,
                            .elements = input + base * s->element_bytes,
                            .list = buffer(bench, list, n * sizeof *list),
                            .values = buffer(bench, NULL, n * head_bytes),
                            .n = n,
                            .head_dim = chunk->head_dim,
                            .type = chunk->type};
        launch(bench, cuda_gather(&exact), &exact);
        holds(bench, "gather", "values", exact.values, values);
        exact.elements = plane.elements;
        launch(bench, cuda_scatter(&exact), &exact);
    }
    uint8_t *decoded = laid_out(&plane, base, bytes, s->element_bytes, s->decoded);
    holds(bench, "dequantize", "rows", output, decoded);
    free(decoded);
    free(list);
    free(values);
    release(bench);
}

/* Codes that quantize never makes: some scales are the largest of the type, so that elements come back infinite. */
static void check_infinite_losses(bench *bench, sample *s, layout layout) {
    size_t base, bytes, ranges = s->ranges * s->element_bytes;
    uint8_t *elements;
    uint64_t input;
    for (size_t i = 0; i < s->ranges; i++)
        if (random_below(40) == 0)
            memcpy((uint8_t *)s->codes.scales + i * s->element_bytes,
                   s->chunk.type == KERNEL_F32    ? (const void *)&(float){0x1.fffffep127f}
                   : s->chunk.type == KERNEL_BF16 ? (const void *)&(uint16_t){0x7f7f}
                                                  : (const void *)&(uint16_t){0x7bff},
                   s->element_bytes);
    sample_decode(s);
    cuda_plane plane = place_rows(bench, s, layout, &base, &bytes, &elements, &input);
    plane.exact = buffer(bench, s->exact, (size_t)s->chunk.rows * s->chunk.heads);
    plane.scales = buffer(bench, s->codes.scales, ranges);
    plane.minima = buffer(bench, s->codes.minima, ranges);
    plane.codes = buffer(bench, s->codes.codes, s->code_bytes);
    plane.high = buffer(bench, s->codes.high, s->high_bytes);
    plane.losses = buffer(bench, NULL, s->chunk.rows * sizeof *s->losses);
    launch(bench, cuda_compare(&plane), &plane);
    holds(bench, "compare", "infinite losses", plane.losses, s->losses);
    free(elements);
    release(bench);
}

static void check_choose(bench *bench, sample *keys, const sample *values) {
    size_t n = (size_t)keys->chunk.rows * keys->chunk.heads;
    cuda_sizes sizes = {.keys = buffer(bench, keys->sums, n * sizeof(float)),
                        .key_squares = buffer(bench, keys->squares, n * sizeof(float)),
                        .exact = buffer(bench, NULL, n),
                        .rows = keys->chunk.rows,
                        .first = keys->first,
                        .chunk_rows = KERNEL_MAX_ROWS,
                        .heads = keys->chunk.heads,
                        .start = keys->start,
                        .rule = true};
    sample_choose(keys, NULL, NULL, NULL);
    launch(bench, cuda_choose(&sizes), &sizes);
    holds(bench, "choose", "without values", sizes.exact, keys->exact);

    sample v = *values;
    v.exact = calloc(n, 1);
    sample_choose(keys, NULL, values, NULL);
    sample_choose(&v, keys, NULL, NULL);
    sizes.values = buffer(bench, values->sums, n * sizeof(float));
    sizes.value_exact = buffer(bench, NULL, n);
    launch(bench, cuda_choose(&sizes), &sizes);
    holds(bench, "choose", "keys", sizes.exact, keys->exact);
    holds(bench, "choose", "values", sizes.value_exact, v.exact);

    uint8_t *given = malloc(n);
    for (size_t i = 0; i < n; i++)
        given[i] = random_below(5) == 0;
    sizes.rule = false;
    sizes.exact = buffer(bench, given, n);
    sample_choose(keys, NULL, values, given);
    sample_choose(&v, keys, NULL, NULL);
    launch(bench, cuda_choose(&sizes), &sizes);
    holds(bench, "choose", "given", sizes.exact, keys->exact);
    holds(bench, "choose", "values of given", sizes.value_exact, v.exact);
    free(given);
    free(v.exact);
    release(bench);
}

typedef struct shape {
    uint32_t rows, first, heads, head_dim;
} shape;

void check_kernels(device *device) {
    /* Token counts round groups and chunks, head sizes that are and are not cut into pieces of 8. */
    static const shape shapes[] = {{1, 1, 1, 128},   {300, 44, 2, 64},  {33, 33, 3, 80},   {70, 5, 2, 33},
                                   {130, 130, 1, 5}, {64, 64, 2, 264},  {263, 7, 1, 100},  {40, 40, 9, 1},
                                   {31, 3, 2, 136},  {290, 256, 1, 40}, {140, 12, 3, 128}, {45, 45, 5, 32},
                                   {33, 1, 1, 256},  {9, 9, 20, 16}};
    static const uint32_t bits[] = {2, 3, 4, 8}, groups[] = {32, 64, 128};
    static const float shares[] = {1.0f, 0.85f, 0.95f};
    enum { SHAPES = sizeof shapes / sizeof *shapes };
    char what[128];
    bench bench = {.driver = device->driver, .what = what};
    kvot_error error;
    if (lane_open(device, NULL, &bench.lane, &error) != KVOT_OK || device_enter(device, &error) != KVOT_OK) {
        wrong("%s", error.text);
        return;
    }
    uint32_t number = 0;
    for (int type = 0; type < 3; type++) {
        for (int b = 0; b < 4; b++) {
            for (int g = 0; g < 3; g++) {
                for (int s = 0; s < SHAPES; s++, number++) {
                    kernel_chunk chunk = {
                        (kernel_type)type, shapes[s].rows, shapes[s].heads,   shapes[s].head_dim, groups[g],
                        bits[b],           true,           shares[number % 3]};
                    sample keys = sample_make(chunk, shapes[s].first, number % 2, number * 2 + 1);
                    chunk.keys = false;
                    sample values = sample_make(chunk, shapes[s].first, number % 2, number * 2 + 2);
                    sample_measure(&keys);
                    sample_measure(&values);
                    snprintf(what, sizeof what, "type %d, %u bits, group %u, shape %d", type, bits[b], groups[g], s);
                    check_choose(&bench, &keys, &values);
                    sample_choose(&keys, NULL, &values, NULL);
                    sample_choose(&values, &keys, NULL, NULL);
                    sample_quantize(&keys);
                    sample_quantize(&values);
                    for (layout layout = 0; layout < LAYOUTS; layout++) {
                        snprintf(what, sizeof what, "type %d, %u bits, group %u, shape %d, layout %d", type, bits[b],
                                 groups[g], s, layout);
                        check_plane(&bench, &keys, layout);
                        check_plane(&bench, &values, layout);
                    }
                    check_infinite_losses(&bench, &keys, number % LAYOUTS);
                    check_infinite_losses(&bench, &values, number % LAYOUTS);
                    sample_free(&keys);
                    sample_free(&values);
                }
            }
        }
    }
    device_leave(device, KVOT_OK, NULL);
    lane_close(bench.lane);
}
