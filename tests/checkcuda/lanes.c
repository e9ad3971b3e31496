/* Units through lanes: rows in, codes out, and back; in host memory and on the device. */
#include "check.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plane's rows on the device in some layout, or in host memory. */
typedef struct placed {
    lane_plane plane;
    cu_pointer memory;
    size_t bytes, base;
} placed;

static bool host_to_device(device *device, cu_pointer to, const void *from, size_t bytes) {
    const driver *driver = device->driver;
    return CHECK(driver->MemcpyHtoDAsync(to, from, bytes, NULL) == CU_SUCCESS) &&
           CHECK(driver->StreamSynchronize(NULL) == CU_SUCCESS);
}

/* The strides of a sample's rows in a layout. */
static cuda_plane strides_of(const sample *s, layout layout, size_t *elements, size_t *base) {
    cuda_plane of = {.rows = s->chunk.rows, .heads = s->chunk.heads, .head_dim = s->chunk.head_dim};
    *elements = layout_strides(layout, &s->chunk, &of, base);
    return of;
}

/* Puts rows on the device; `rows` is NULL to leave it filled with zeros. */
static placed place_on_device(device *device, const sample *s, layout layout, const void *rows) {
    size_t elements;
    placed placed = {.plane.chunk = s->chunk};
    cuda_plane of = strides_of(s, layout, &elements, &placed.base);
    placed.bytes = elements * s->element_bytes;
    uint8_t *host = calloc(placed.bytes, 1);
    if (rows)
        layout_put(&of, placed.base, s->element_bytes, rows, host);
    CHECK(device_enter(device, NULL) == KVOT_OK);
    CHECK(device->driver->MemAlloc(&placed.memory, placed.bytes) == CU_SUCCESS);
    host_to_device(device, placed.memory, host, placed.bytes);
    device_leave(device, KVOT_OK, NULL);
    free(host);
    placed.plane.rows = (lane_rows){.device = placed.memory + placed.base * s->element_bytes,
                                    .token_stride = of.token_stride,
                                    .head_stride = of.head_stride,
                                    .channel_stride = of.channel_stride};
    return placed;
}

static void take_away(device *device, placed *placed) {
    CHECK(device_enter(device, NULL) == KVOT_OK);
    CHECK(device->driver->MemFree(placed->memory) == CU_SUCCESS);
    device_leave(device, KVOT_OK, NULL);
}

/* `on_device`: the rows are there only. */
static void check_encoded(const sample *s, const lane_encoded *encoded, bool on_device) {
    size_t n = 0, head_bytes = s->chunk.head_dim * s->element_bytes, at = 0;
    for (size_t i = 0; i < (size_t)s->chunk.rows * s->chunk.heads; i++)
        n += s->exact[i];
    CHECK(memcmp(encoded->exact, s->exact, (size_t)s->chunk.rows * s->chunk.heads) == 0);
    CHECK(memcmp(encoded->codes.scales, s->codes.scales, s->ranges * s->element_bytes) == 0);
    CHECK(memcmp(encoded->codes.minima, s->codes.minima, s->ranges * s->element_bytes) == 0);
    CHECK(memcmp(encoded->codes.codes, s->codes.codes, s->code_bytes) == 0);
    CHECK(memcmp(encoded->codes.high, s->codes.high, s->high_bytes) == 0);
    CHECK(encoded->codes.row_code_bytes == s->codes.row_code_bytes);
    CHECK(encoded->codes.row_high_bytes == s->codes.row_high_bytes);
    CHECK((encoded->losses != NULL) == on_device);
    if (encoded->losses)
        CHECK(memcmp(encoded->losses, s->losses, s->chunk.rows * sizeof *s->losses) == 0);
    if (!CHECK(encoded->n_exact == n) || n == 0)
        return;
    CHECK((encoded->values != NULL) == on_device);
    for (uint32_t start = 0, end = s->first; start < s->chunk.rows; start = end, end += KERNEL_MAX_ROWS) {
        for (uint32_t h = 0; h < s->chunk.heads; h++) {
            for (uint32_t r = start; r < end && r < s->chunk.rows; r++) {
                size_t row = (size_t)r * s->chunk.heads + h;
                if (!s->exact[row])
                    continue;
                CHECK(encoded->list[at].row == r && encoded->list[at].head == h);
                if (on_device)
                    CHECK(memcmp((const uint8_t *)encoded->values + at * head_bytes, s->rows + row * head_bytes,
                                 head_bytes) == 0);
                at++;
            }
        }
    }
}

/* The block that lane_decode takes, made of a sample. */
static void fill_block(const sample *s, const lane_encoded *encoded, uint8_t *block, lane_codes *codes) {
    size_t head_bytes = s->chunk.head_dim * s->element_bytes;
    memcpy(block + codes->scales, s->codes.scales, s->ranges * s->element_bytes);
    memcpy(block + codes->minima, s->codes.minima, s->ranges * s->element_bytes);
    memcpy(block + codes->codes, s->codes.codes, s->code_bytes);
    memcpy(block + codes->high, s->codes.high, s->high_bytes);
    for (size_t i = 0; i < encoded->n_exact; i++) {
        size_t row = (size_t)encoded->list[i].row * s->chunk.heads + encoded->list[i].head;
        memcpy(block + codes->exact + i * head_bytes, s->rows + row * head_bytes, head_bytes);
    }
    codes->block = block;
}

static void check_decode(lane *lane, const sample *s, const lane_encoded *encoded, layout layout, bool pinned) {
    lane_chunks chunks = {s->chunk.rows, s->first, s->start};
    size_t numbers = align_part(s->ranges * s->element_bytes), bytes = s->chunk.rows * s->row_bytes;
    lane_codes codes = {.minima = numbers, .codes = 2 * numbers, .n_exact = encoded->n_exact};
    cuda_row *list = malloc(encoded->n_exact * sizeof *list + 1);
    memcpy(list, encoded->n_exact ? encoded->list : list, encoded->n_exact * sizeof *list);
    codes.list = list;
    codes.high = align_part(codes.codes + s->code_bytes);
    codes.exact = align_part(codes.high + s->high_bytes);
    codes.bytes = codes.exact + encoded->n_exact * s->chunk.head_dim * s->element_bytes;
    void *block = NULL, *rows = NULL, *own = malloc(codes.bytes);
    kvot_error error = {0};
    fill_block(s, encoded, own, &codes);
    if (pinned) {
        CHECK(lane_block(lane, codes.bytes, &block, &error) == KVOT_OK);
        codes.block = memcpy(block, own, codes.bytes);
    }
    CHECK(lane_buffer(lane, LANE_K, bytes, &rows, &error) == KVOT_OK);
    lane_plane plane = {.chunk = s->chunk, .rows.host = rows};
    CHECK(lane_decode(lane, &chunks, &plane, &codes, &error) == KVOT_OK);
    CHECK(memcmp(rows, s->decoded, bytes) == 0);

    placed placed = place_on_device(lane->device, s, layout, NULL);
    CHECK(lane_decode(lane, &chunks, &placed.plane, &codes, &error) == KVOT_OK);
    uint8_t *expected = calloc(placed.bytes, 1), *found = malloc(placed.bytes);
    size_t elements;
    cuda_plane of = strides_of(s, layout, &elements, &placed.base);
    layout_put(&of, placed.base, s->element_bytes, s->decoded, expected);
    CHECK(device_enter(lane->device, NULL) == KVOT_OK);
    CHECK(lane->device->driver->MemcpyDtoHAsync(found, placed.memory, placed.bytes, NULL) == CU_SUCCESS);
    CHECK(lane->device->driver->StreamSynchronize(NULL) == CU_SUCCESS);
    device_leave(lane->device, KVOT_OK, NULL);
    CHECK(memcmp(found, expected, placed.bytes) == 0);
    take_away(lane->device, &placed);
    free(found);
    free(expected);
    free(own);
    free(list);
}

typedef struct unit {
    kernel_chunk chunk;
    uint32_t value_heads, value_dim;
    uint32_t first;
    bool keys, values, given;
} unit;

static void check_unit(lane *lane, const unit *unit, uint32_t seed) {
    kernel_chunk chunk = unit->chunk;
    chunk.keys = true;
    sample keys = sample_make(chunk, unit->first, seed % 2, seed);
    chunk.keys = false, chunk.heads = unit->value_heads, chunk.head_dim = unit->value_dim;
    sample values = sample_make(chunk, unit->first, seed % 2, seed + 1000);
    size_t n = (size_t)keys.chunk.rows * keys.chunk.heads;
    uint8_t *given = unit->given ? malloc(n) : NULL;
    for (size_t i = 0; given && i < n; i++)
        given[i] = random_below(9) == 0;
    sample_measure(&keys);
    sample_measure(&values);
    sample_choose(&keys, NULL, unit->values ? &values : NULL, given);
    sample_choose(&values, unit->keys ? &keys : NULL, NULL, NULL);
    sample_quantize(&keys);
    sample_quantize(&values);

    lane_chunks chunks = {keys.chunk.rows, unit->first, keys.start};
    lane_encoded encoded[LANE_PLANES];
    kvot_error error = {0};
    void *rows[LANE_PLANES];
    sample *samples[LANE_PLANES] = {&keys, &values};
    bool there[LANE_PLANES] = {unit->keys, unit->values};
    lane_plane planes[LANE_PLANES];
    placed placed[LANE_PLANES];
    layout layout = (seed / 2) % LAYOUTS;
    for (int p = 0; p < LANE_PLANES; p++) {
        size_t bytes = samples[p]->row_bytes * samples[p]->chunk.rows;
        CHECK(lane_buffer(lane, p, bytes, &rows[p], &error) == KVOT_OK);
        memcpy(rows[p], samples[p]->rows, bytes);
        planes[p] = (lane_plane){samples[p]->chunk, {.host = seed % 3 ? rows[p] : samples[p]->rows}};
        placed[p] = place_on_device(lane->device, samples[p], layout, samples[p]->rows);
    }
    CHECK(lane_encode(lane, &chunks, unit->keys ? &planes[0] : NULL, unit->values ? &planes[1] : NULL, given, encoded,
                      &error) == KVOT_OK);
    for (int p = 0; p < LANE_PLANES; p++)
        if (there[p])
            check_encoded(samples[p], &encoded[p], false);
    CHECK(lane_encode(lane, &chunks, unit->keys ? &placed[0].plane : NULL, unit->values ? &placed[1].plane : NULL,
                      given, encoded, &error) == KVOT_OK);
    for (int p = 0; p < LANE_PLANES; p++)
        if (there[p])
            check_encoded(samples[p], &encoded[p], true);
    for (int p = 0; p < LANE_PLANES; p++) {
        if (there[p])
            check_decode(lane, samples[p], &encoded[p], layout, seed % 2);
        take_away(lane->device, &placed[p]);
        sample_free(samples[p]);
    }
    free(given);
}

static const unit units[] = {
    {{KERNEL_F16, 256, 2, 64, 64, 4, false, 1.0f}, 2, 64, 256, true, true, false},
    {{KERNEL_BF16, 300, 2, 40, 32, 3, false, 0.95f}, 2, 24, 40, true, true, false},
    {{KERNEL_F32, 70, 3, 33, 128, 2, false, 0.75f}, 3, 33, 6, true, true, true},
    {{KERNEL_F16, 520, 2, 16, 64, 8, false, 1.0f}, 1, 32, 8, true, true, false},
    {{KERNEL_F16, 65, 1, 130, 32, 3, false, 1.0f}, 1, 130, 65, true, false, true},
    {{KERNEL_F32, 40, 4, 8, 32, 4, false, 0.98f}, 4, 8, 40, false, true, false},
    {{KERNEL_BF16, 1, 1, 1, 32, 2, false, 1.0f}, 1, 1, 1, true, true, false},
};
enum { UNITS = sizeof units / sizeof *units };

typedef struct worker {
    device *device;
    uint32_t seed;
} worker;

/* Units of all kinds through one lane, so that buffers are used again and grow. */
static void *work(void *argument) {
    const worker *worker = argument;
    kvot_error error;
    lane *lane;
    if (!CHECK(lane_open(worker->device, NULL, &lane, &error) == KVOT_OK))
        return NULL;
    for (uint32_t i = 0; i < 3 * UNITS; i++)
        check_unit(lane, &units[(i + worker->seed) % UNITS], worker->seed + i);
    lane_close(lane);
    return NULL;
}

void check_lanes(device *device) {
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    worker workers[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){device, 1 + 100 * i};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);

    /* On a stream of the caller's: here the default one. */
    void *stream = NULL;
    lane *lane;
    kvot_error error;
    if (!CHECK(lane_open(device, &stream, &lane, &error) == KVOT_OK))
        return;
    check_unit(lane, &units[0], 7);
    lane_close(lane);
    kvot_device *none;
    CHECK(device_open(1000, &none, &error) == KVOT_E_DEVICE && !none && strstr(error.text, "device 1000"));
}
