/* A plane's codes to its rows. */
#include "lane.h"

#include <string.h>

static kvot_status make_buffers(lane *lane, const lane_plane *plane, const lane_codes *codes, size_t row_bytes,
                                kvot_error *error) {
    lane_memory *on_device = &lane->on_device[LANE_K], *pinned = &lane->pinned[LANE_K];
    kvot_status status = lane_room(lane, &on_device->block, codes->bytes, error);
    if (status == KVOT_OK)
        status = lane_room(lane, &on_device->exact, codes->n_exact * sizeof(cuda_row), error);
    if (status == KVOT_OK)
        status = lane_room(lane, &pinned->exact, codes->n_exact * sizeof(cuda_row), error);
    if (status == KVOT_OK && plane->rows.host)
        status = lane_room(lane, &on_device->rows, row_bytes, error);
    return status;
}

/* Exact rows, into their places. */
static kvot_status put_exact(lane *lane, const cuda_plane *of, const lane_codes *codes, kvot_error *error) {
    if (codes->n_exact == 0)
        return KVOT_OK;
    memory *list = &lane->on_device[LANE_K].exact;
    void *pinned = host_of(&lane->pinned[LANE_K].exact);
    memcpy(pinned, codes->list, codes->n_exact * sizeof *codes->list);
    kvot_status status = lane_upload(lane, list, pinned, codes->n_exact * sizeof *codes->list, error);
    if (status != KVOT_OK)
        return status;
    cuda_exact exact =
        lane_cuda_exact(of, list->address, lane->on_device[LANE_K].block.address + codes->exact, codes->n_exact);
    return lane_launch(lane, cuda_scatter(&exact), &exact, error);
}

static kvot_status decode(lane *lane, const lane_chunks *chunks, const lane_plane *plane, const lane_codes *codes,
                          kvot_error *error) {
    size_t row_bytes = lane_row_bytes(&plane->chunk) * chunks->rows;
    kvot_status status = make_buffers(lane, plane, codes, row_bytes, error);
    if (status != KVOT_OK)
        return status;
    lane_memory *on_device = &lane->on_device[LANE_K];
    status = lane_upload(lane, &on_device->block, codes->block, codes->bytes, error);
    cuda_plane of = lane_cuda_plane(chunks, plane, on_device->rows.address);
    of.scales = on_device->block.address + codes->scales;
    of.minima = on_device->block.address + codes->minima;
    of.codes = on_device->block.address + codes->codes;
    of.high = on_device->block.address + codes->high;
    if (status == KVOT_OK)
        status = lane_launch(lane, cuda_dequantize(&of), &of, error);
    if (status == KVOT_OK)
        status = put_exact(lane, &of, codes, error);
    if (status == KVOT_OK && plane->rows.host)
        status = lane_download(lane, plane->rows.host, &on_device->rows, row_bytes, error);
    return lane_wait(lane, status, error);
}

kvot_status lane_decode(lane *lane, const lane_chunks *chunks, const lane_plane *plane, const lane_codes *codes,
                        kvot_error *error) {
    kvot_status status = device_enter(lane->device, error);
    if (status != KVOT_OK)
        return status;
    return device_leave(lane->device, decode(lane, chunks, plane, codes, error), error);
}
