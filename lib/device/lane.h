/* Inside of devices and lanes. */
#ifndef KVOT_LANE_H
#define KVOT_LANE_H

#include "cuda.h"
#include "driver.h"

#include <stdatomic.h>

struct kvot_device {
    const driver *driver;
    cu_device number;
    cu_context context;
    cu_module module;
    _Atomic(cu_function) functions[CUDA_KERNELS]; /* found when they are first used */
    char name[128];
};

typedef struct memory {
    uint64_t address; /* of the device or, if pinned, of the host; 0 if there is none */
    size_t bytes;
    bool pinned;
} memory;

/* Buffers of a lane for one plane: its rows; flags, scales, minima and codes in one block; the list of exact rows and
 * their values. In device memory and in pinned memory. */
typedef struct lane_memory {
    memory rows, block, exact;
} lane_memory;

struct lane {
    device *device;
    cu_stream stream;
    bool own_stream;
    cu_event done;
    lane_memory on_device[LANE_PLANES], pinned[LANE_PLANES];
    memory sizes; /* magnitudes, on the device */
};

/* Makes the device's context the thread's, and gives the thread its own back. */
kvot_status device_enter(const device *device, kvot_error *error);
kvot_status device_leave(const device *device, kvot_status status, kvot_error *error);

kvot_status lane_launch(lane *lane, cuda_launch launch, const void *argument, kvot_error *error);

/* Makes a buffer hold `bytes` bytes; what it held may be lost. */
kvot_status lane_room(lane *lane, memory *memory, size_t bytes, kvot_error *error);

kvot_status lane_upload(lane *lane, const memory *to, const void *from, size_t bytes, kvot_error *error);
kvot_status lane_download(lane *lane, void *to, const memory *from, size_t bytes, kvot_error *error);

/* Waits for all that was started. After a failure it only makes sure that nothing is under way. */
kvot_status lane_wait(lane *lane, kvot_status status, kvot_error *error);

/* Fills in a plane as kernels see it, all but its arrays. */
cuda_plane lane_cuda_plane(const lane_chunks *chunks, const lane_plane *plane, uint64_t rows);

/* Moves `n` rows of a plane, those of the list, to or from an array of their values. Addresses of the device. */
cuda_exact lane_cuda_exact(const cuda_plane *plane, uint64_t list, uint64_t values, size_t n);

size_t lane_element_bytes(const kernel_chunk *chunk);
size_t lane_row_bytes(const kernel_chunk *chunk);

static inline void *host_of(const memory *memory) {
    return (void *)(uintptr_t)memory->address;
}

static inline size_t align_part(size_t offset) {
    return (offset + 15) / 16 * 16;
}

#endif
