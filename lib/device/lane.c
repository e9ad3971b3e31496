/* A lane's stream and buffers. */
#include "lane.h"

#include <stdlib.h>
#include <string.h>

static kvot_status set_up(lane *lane, void *const *stream, kvot_error *error) {
    const driver *driver = lane->device->driver;
    kvot_status status = device_enter(lane->device, error);
    if (status != KVOT_OK)
        return status;
    if (stream)
        lane->stream = *stream;
    else
        status = DRIVER(driver, error, StreamCreate, &lane->stream, CU_STREAM_NON_BLOCKING);
    lane->own_stream = !stream && status == KVOT_OK;
    if (status == KVOT_OK)
        status = DRIVER(driver, error, EventCreate, &lane->done, CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING);
    return device_leave(lane->device, status, error);
}

kvot_status lane_open(device *device, void *const *stream, lane **opened, kvot_error *error) {
    *opened = NULL;
    lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return fail_memory(error);
    lane->device = device;
    for (int p = 0; p < LANE_PLANES; p++)
        lane->pinned[p].rows.pinned = lane->pinned[p].block.pinned = lane->pinned[p].exact.pinned = true;
    kvot_status status = set_up(lane, stream, error);
    if (status != KVOT_OK) {
        lane_close(lane);
        return status;
    }
    *opened = lane;
    return KVOT_OK;
}

static void release(const driver *driver, memory *memory) {
    if (memory->address && memory->pinned)
        driver->MemFreeHost(host_of(memory));
    else if (memory->address)
        driver->MemFree(memory->address);
    memory->address = 0;
    memory->bytes = 0;
}

void lane_close(lane *lane) {
    if (!lane)
        return;
    const driver *driver = lane->device->driver;
    bool entered = device_enter(lane->device, NULL) == KVOT_OK;
    for (int p = 0; p < LANE_PLANES; p++) {
        lane_memory *both[] = {&lane->on_device[p], &lane->pinned[p]};
        for (int i = 0; i < 2; i++) {
            release(driver, &both[i]->rows);
            release(driver, &both[i]->block);
            release(driver, &both[i]->exact);
        }
    }
    release(driver, &lane->sizes);
    if (lane->done)
        driver->EventDestroy(lane->done);
    if (lane->own_stream)
        driver->StreamDestroy(lane->stream);
    if (entered)
        device_leave(lane->device, KVOT_OK, NULL);
    free(lane);
}

kvot_status lane_room(lane *lane, memory *memory, size_t bytes, kvot_error *error) {
    if (bytes <= memory->bytes)
        return KVOT_OK;
    const driver *driver = lane->device->driver;
    release(driver, memory);
    kvot_status status;
    if (memory->pinned) {
        void *address = NULL;
        status = DRIVER(driver, error, MemHostAlloc, &address, bytes, 0);
        memory->address = (uintptr_t)address;
    } else {
        status = DRIVER(driver, error, MemAlloc, &memory->address, bytes);
    }
    if (status == KVOT_OK)
        memory->bytes = bytes;
    else
        memory->address = 0;
    return status;
}

static kvot_status give(lane *lane, memory *memory, size_t bytes, void **address, kvot_error *error) {
    kvot_status status = device_enter(lane->device, error);
    if (status != KVOT_OK)
        return status;
    status = device_leave(lane->device, lane_room(lane, memory, bytes, error), error);
    *address = host_of(memory);
    return status;
}

kvot_status lane_buffer(lane *lane, int plane, size_t bytes, void **rows, kvot_error *error) {
    return give(lane, &lane->pinned[plane].rows, bytes, rows, error);
}

kvot_status lane_block(lane *lane, size_t bytes, void **block, kvot_error *error) {
    return give(lane, &lane->pinned[LANE_K].block, bytes, block, error);
}

kvot_status lane_upload(lane *lane, const memory *to, const void *from, size_t bytes, kvot_error *error) {
    return bytes == 0 ? KVOT_OK
                      : DRIVER(lane->device->driver, error, MemcpyHtoDAsync, to->address, from, bytes, lane->stream);
}

kvot_status lane_download(lane *lane, void *to, const memory *from, size_t bytes, kvot_error *error) {
    return bytes == 0 ? KVOT_OK
                      : DRIVER(lane->device->driver, error, MemcpyDtoHAsync, to, from->address, bytes, lane->stream);
}

kvot_status lane_wait(lane *lane, kvot_status status, kvot_error *error) {
    const driver *driver = lane->device->driver;
    if (status == KVOT_OK)
        status = DRIVER(driver, error, EventRecord, lane->done, lane->stream);
    if (status == KVOT_OK)
        status = DRIVER(driver, error, EventSynchronize, lane->done);
    if (status != KVOT_OK)
        driver->StreamSynchronize(lane->stream);
    return status;
}

cuda_plane lane_cuda_plane(const lane_chunks *chunks, const lane_plane *plane, uint64_t rows) {
    const kernel_chunk *chunk = &plane->chunk;
    bool host = plane->rows.host;
    return (cuda_plane){.elements = host ? rows : plane->rows.device,
                        .token_stride = host ? (int64_t)chunk->heads * chunk->head_dim : plane->rows.token_stride,
                        .head_stride = host ? chunk->head_dim : plane->rows.head_stride,
                        .channel_stride = host ? 1 : plane->rows.channel_stride,
                        .rows = chunks->rows,
                        .first = chunks->first,
                        .chunk_rows = KERNEL_MAX_ROWS,
                        .heads = chunk->heads,
                        .head_dim = chunk->head_dim,
                        .group = chunk->group,
                        .share = chunk->share,
                        .type = chunk->type,
                        .bits = chunk->bits,
                        .keys = chunk->keys};
}

cuda_exact lane_cuda_exact(const cuda_plane *plane, uint64_t list, uint64_t values, size_t n) {
    return (cuda_exact){.elements = plane->elements,
                        .token_stride = plane->token_stride,
                        .head_stride = plane->head_stride,
                        .channel_stride = plane->channel_stride,
                        .list = list,
                        .values = values,
                        .n = n,
                        .head_dim = plane->head_dim,
                        .type = plane->type};
}

size_t lane_element_bytes(const kernel_chunk *chunk) {
    return chunk->type == KERNEL_F32 ? sizeof(float) : sizeof(uint16_t);
}

size_t lane_row_bytes(const kernel_chunk *chunk) {
    return (size_t)chunk->heads * chunk->head_dim * lane_element_bytes(chunk);
}
