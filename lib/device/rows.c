/* Rows between host memory, contiguous, and device memory at any strides; and how large they are. */
#include "lane.h"

/* Rows `first` to `first + n`, out of the device or into it. */
static kvot_status move(lane *lane, const lane_plane *plane, uint32_t first, uint32_t n, void *host, bool out,
                        kvot_error *error) {
    const kernel_chunk *chunk = &plane->chunk;
    memory *packed = &lane->on_device[LANE_K].rows, *list = &lane->on_device[LANE_K].exact;
    memory *pinned = &lane->pinned[LANE_K].exact;
    size_t rows = (size_t)n * chunk->heads, bytes = n * lane_row_bytes(chunk);
    kvot_status status = lane_room(lane, packed, bytes, error);
    if (status == KVOT_OK)
        status = lane_room(lane, list, rows * sizeof(cuda_row), error);
    if (status == KVOT_OK)
        status = lane_room(lane, pinned, rows * sizeof(cuda_row), error);
    if (status != KVOT_OK)
        return status;
    cuda_row *numbers = host_of(pinned);
    for (size_t i = 0; i < rows; i++)
        numbers[i] = (cuda_row){first + (uint32_t)(i / chunk->heads), (uint32_t)(i % chunk->heads)};
    cuda_plane of = lane_cuda_plane(&(lane_chunks){.rows = n, .first = n}, plane, 0);
    cuda_exact all = lane_cuda_exact(&of, list->address, packed->address, rows);
    status = lane_upload(lane, list, numbers, rows * sizeof *numbers, error);
    if (status == KVOT_OK && !out)
        status = lane_upload(lane, packed, host, bytes, error);
    if (status == KVOT_OK)
        status = lane_launch(lane, out ? cuda_gather(&all) : cuda_scatter(&all), &all, error);
    if (status == KVOT_OK && out)
        status = lane_download(lane, host, packed, bytes, error);
    return lane_wait(lane, status, error);
}

static kvot_status move_all(lane *lane, const lane_plane *plane, uint32_t rows, uint8_t *host, bool out,
                            kvot_error *error) {
    kvot_status status = device_enter(lane->device, error);
    if (status != KVOT_OK)
        return status;
    uint32_t piece = rows;
    for (uint32_t first = 0; first < rows && status == KVOT_OK;) {
        uint32_t n = rows - first < piece ? rows - first : piece;
        status = move(lane, plane, first, n, host + first * lane_row_bytes(&plane->chunk), out, error);
        if (status == KVOT_OK) {
            first += n;
        } else if (status == KVOT_E_MEMORY && piece > 1) {
            piece = (piece + 1) / 2;
            status = KVOT_OK;
        }
    }
    return device_leave(lane->device, status, error);
}

static kvot_status magnitudes(lane *lane, const lane_plane *plane, uint32_t rows, float *sums, kvot_error *error) {
    size_t bytes = (size_t)rows * plane->chunk.heads * sizeof *sums;
    kvot_status status = lane_room(lane, &lane->sizes, bytes, error);
    if (status != KVOT_OK)
        return status;
    cuda_plane of = lane_cuda_plane(&(lane_chunks){.rows = rows, .first = rows}, plane, 0);
    of.sums = lane->sizes.address;
    status = lane_launch(lane, cuda_magnitudes(&of), &of, error);
    if (status == KVOT_OK)
        status = lane_download(lane, sums, &lane->sizes, bytes, error);
    return lane_wait(lane, status, error);
}

kvot_status lane_magnitudes(lane *lane, const lane_plane *plane, uint32_t rows, float *sums, kvot_error *error) {
    kvot_status status = device_enter(lane->device, error);
    return status == KVOT_OK ? device_leave(lane->device, magnitudes(lane, plane, rows, sums, error), error) : status;
}

kvot_status lane_read_rows(lane *lane, const lane_plane *plane, uint32_t rows, void *host, kvot_error *error) {
    return move_all(lane, plane, rows, host, true, error);
}

kvot_status lane_write_rows(lane *lane, const lane_plane *plane, uint32_t rows, const void *host, kvot_error *error) {
    return move_all(lane, plane, rows, (void *)host, false, error);
}
