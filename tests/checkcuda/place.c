#include "place.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, FILL = 0xa5 };

static bool ok(const place *place, cu_result result, const char *call) {
    kvot_error error;
    return driver_check(place->device->driver, result, call, &error) == KVOT_OK || wrong("%s", error.text);
}

place place_make(device *device, cu_stream stream, const kernel_chunk *chunk, uint32_t tokens, layout layout) {
    kernel_chunk of = *chunk;
    of.rows = tokens;
    place place = {.device = device, .stream = stream, .element_bytes = lane_element_bytes(chunk)};
    place.strides = (cuda_plane){.rows = tokens, .heads = chunk->heads, .head_dim = chunk->head_dim};
    place.bytes = layout_strides(layout, &of, &place.strides, &place.base) * place.element_bytes + 2 * GUARD;
    void *pinned = NULL;
    CHECK(device_enter(device, NULL) == KVOT_OK);
    ok(&place, device->driver->MemAlloc(&place.memory, place.bytes), "cuMemAlloc");
    ok(&place, device->driver->MemHostAlloc(&pinned, place.bytes, 0), "cuMemHostAlloc");
    device_leave(device, KVOT_OK, NULL);
    place.pinned = pinned;
    place.expected = malloc(place.bytes);
    uintptr_t first = place.memory + GUARD + place.base * place.element_bytes;
    place.array = (kvot_array){(void *)first,
                               (kvot_type)chunk->type,
                               tokens,
                               chunk->heads,
                               chunk->head_dim,
                               place.strides.token_stride,
                               place.strides.head_stride,
                               place.strides.channel_stride};
    return place;
}

void place_free(place *place) {
    CHECK(device_enter(place->device, NULL) == KVOT_OK);
    ok(place, place->device->driver->StreamSynchronize(place->stream), "cuStreamSynchronize");
    ok(place, place->device->driver->MemFree(place->memory), "cuMemFree");
    ok(place, place->device->driver->MemFreeHost(place->pinned), "cuMemFreeHost");
    device_leave(place->device, KVOT_OK, NULL);
    free(place->expected);
}

static void lay_out(const place *place, const void *rows, uint8_t *memory) {
    memset(memory, FILL, place->bytes);
    if (rows)
        layout_put(&place->strides, place->base, place->element_bytes, rows, memory + GUARD);
}

void place_fill(place *place, const void *rows) {
    const driver *driver = place->device->driver;
    CHECK(device_enter(place->device, NULL) == KVOT_OK);
    /* What an earlier call queued reads the pinned memory. */
    ok(place, driver->StreamSynchronize(place->stream), "cuStreamSynchronize");
    lay_out(place, rows, place->pinned);
    ok(place, driver->MemcpyHtoDAsync(place->memory, place->pinned, place->bytes, place->stream), "cuMemcpyHtoDAsync");
    device_leave(place->device, KVOT_OK, NULL);
}

bool place_holds(place *place, const void *rows) {
    const driver *driver = place->device->driver;
    CHECK(device_enter(place->device, NULL) == KVOT_OK);
    ok(place, driver->MemcpyDtoHAsync(place->pinned, place->memory, place->bytes, place->stream), "cuMemcpyDtoHAsync");
    ok(place, driver->StreamSynchronize(place->stream), "cuStreamSynchronize");
    device_leave(place->device, KVOT_OK, NULL);
    lay_out(place, rows, place->expected);
    return memcmp(place->pinned, place->expected, place->bytes) == 0;
}
