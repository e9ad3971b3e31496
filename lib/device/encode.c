/* Rows of K and V to codes: magnitudes, exact rows, groups, and what is needed of it back in host memory. */
#include "lane.h"

#include <string.h>

/* One plane on its way. */
typedef struct work {
    const lane_plane *plane; /* NULL: not there */
    cuda_plane of;
    size_t bytes, exact_bytes; /* of its arrays; [rows][heads] of flags come first */
    bool on_device;            /* its rows are there, and nowhere else */
} work;

typedef struct encoding {
    lane *lane;
    const lane_chunks *chunks;
    work planes[LANE_PLANES];
} encoding;

/* Lays out the arrays of a plane, and finds room for them and for its rows. */
static kvot_status set_up(encoding *encoding, int p, const lane_plane *plane, kvot_error *error) {
    lane *lane = encoding->lane;
    work *work = &encoding->planes[p];
    size_t row_bytes = lane_row_bytes(&plane->chunk) * encoding->chunks->rows;
    memory *rows = &lane->on_device[p].rows, *block = &lane->on_device[p].block;
    work->on_device = !plane->rows.host;
    kvot_status status = work->on_device ? KVOT_OK : lane_room(lane, rows, row_bytes, error);
    cuda_plane of = lane_cuda_plane(encoding->chunks, plane, rows->address);
    size_t ranges = align_part(cuda_ranges(&of) * lane_element_bytes(&plane->chunk));
    work->plane = plane;
    work->exact_bytes = (size_t)of.rows * of.heads;
    of.exact = 0;
    of.scales = align_part(work->exact_bytes);
    of.minima = of.scales + ranges;
    of.codes = of.minima + ranges;
    of.high = align_part(of.codes + of.rows * cuda_row_code_bytes(&of));
    of.losses = align_part(of.high + of.rows * cuda_row_high_bytes(&of));
    work->bytes = of.losses + (work->on_device ? of.rows * sizeof(kernel_loss) : 0);
    if (status == KVOT_OK)
        status = lane_room(lane, block, work->bytes, error);
    if (status == KVOT_OK)
        status = lane_room(lane, &lane->pinned[p].block, work->bytes, error);
    work->of = of;
    return status;
}

/* Turns offsets into addresses. */
static void place(encoding *encoding) {
    lane *lane = encoding->lane;
    uint64_t sizes = lane->sizes.address;
    for (int p = 0; p < LANE_PLANES; p++) {
        work *work = &encoding->planes[p];
        cuda_plane *of = &work->of;
        uint64_t block = lane->on_device[p].block.address;
        if (!work->plane)
            continue;
        of->exact += block;
        of->scales += block;
        of->minima += block;
        of->codes += block;
        of->high += block;
        of->losses += block;
        of->sums = sizes;
        sizes += align_part(work->exact_bytes * sizeof(float));
        of->squares = p == LANE_K ? sizes : 0;
        if (p == LANE_K)
            sizes += align_part(work->exact_bytes * sizeof(float));
    }
}

static kvot_status make_buffers(encoding *encoding, const lane_plane *const planes[LANE_PLANES], kvot_error *error) {
    size_t sizes = 0;
    for (int p = 0; p < LANE_PLANES; p++) {
        kvot_status status = planes[p] ? set_up(encoding, p, planes[p], error) : KVOT_OK;
        if (status != KVOT_OK)
            return status;
        sizes += (p == LANE_K ? 2 : 1) * align_part(encoding->planes[p].exact_bytes * sizeof(float));
    }
    kvot_status status = lane_room(encoding->lane, &encoding->lane->sizes, sizes, error);
    if (status == KVOT_OK)
        place(encoding);
    return status;
}

static kvot_status start_exact(encoding *encoding, int p, const uint8_t *given, kvot_error *error) {
    lane *lane = encoding->lane;
    size_t bytes = encoding->planes[p].exact_bytes;
    if (!given)
        return DRIVER(lane->device->driver, error, MemsetD8Async, lane->on_device[p].block.address, 0, bytes,
                      lane->stream);
    void *pinned = memcpy(host_of(&lane->pinned[p].block), given, bytes);
    return lane_upload(lane, &lane->on_device[p].block, pinned, bytes, error);
}

/* Sets the exact rows of one plane, and of V with those of K if `both`. */
static kvot_status choose(encoding *encoding, int p, const uint8_t *given, bool rule, bool both, kvot_error *error) {
    const cuda_plane *of = &encoding->planes[p].of, *values = &encoding->planes[LANE_V].of;
    cuda_sizes sizes = {.keys = of->sums,
                        .key_squares = of->squares,
                        .values = both ? values->sums : 0,
                        .exact = of->exact,
                        .value_exact = both ? values->exact : 0,
                        .rows = of->rows,
                        .first = of->first,
                        .chunk_rows = of->chunk_rows,
                        .heads = of->heads,
                        .start = encoding->chunks->start,
                        .rule = rule};
    kvot_status status = rule ? KVOT_OK : start_exact(encoding, p, given, error);
    return status == KVOT_OK ? lane_launch(encoding->lane, cuda_choose(&sizes), &sizes, error) : status;
}

static kvot_status run(encoding *encoding, const uint8_t *given, kvot_error *error) {
    lane *lane = encoding->lane;
    work *keys = &encoding->planes[LANE_K], *values = &encoding->planes[LANE_V];
    kvot_status status = KVOT_OK;
    for (int p = 0; p < LANE_PLANES && status == KVOT_OK; p++) {
        work *work = &encoding->planes[p];
        if (!work->plane)
            continue;
        if (!work->on_device)
            status = lane_upload(lane, &lane->on_device[p].rows, work->plane->rows.host,
                                 lane_row_bytes(&work->plane->chunk) * work->of.rows, error);
        if (status == KVOT_OK)
            status = lane_launch(lane, cuda_measure(&work->of), &work->of, error);
    }
    bool both = keys->plane && values->plane && keys->of.heads == values->of.heads;
    if (status == KVOT_OK && keys->plane)
        status = choose(encoding, LANE_K, given, !given, both, error);
    if (status == KVOT_OK && values->plane && !both)
        status = choose(encoding, LANE_V, NULL, false, false, error);
    for (int p = 0; p < LANE_PLANES && status == KVOT_OK; p++) {
        work *work = &encoding->planes[p];
        if (!work->plane)
            continue;
        status = lane_launch(lane, cuda_settle(&work->of), &work->of, error);
        if (status == KVOT_OK && work->on_device)
            status = lane_launch(lane, cuda_compare(&work->of), &work->of, error);
        if (status == KVOT_OK)
            status =
                lane_download(lane, host_of(&lane->pinned[p].block), &lane->on_device[p].block, work->bytes, error);
    }
    return lane_wait(lane, status, error);
}

/* Lists the exact rows in the order of ott streams: chunk by chunk, head by head, rising. */
static void list_exact(const cuda_plane *of, const uint8_t *exact, cuda_row *list) {
    for (uint32_t start = 0, end = of->first; start < of->rows; start = end, end += of->chunk_rows) {
        for (uint32_t h = 0; h < of->heads; h++)
            for (uint32_t r = start; r < end && r < of->rows; r++)
                if (exact[(size_t)r * of->heads + h])
                    *list++ = (cuda_row){r, h};
    }
}

/* Finds the exact rows of a plane that has come back; takes their values from rows that are on the device only. */
static kvot_status finish(encoding *encoding, int p, lane_encoded *encoded, kvot_error *error) {
    lane *lane = encoding->lane;
    const work *work = &encoding->planes[p];
    const cuda_plane *of = &work->of;
    memory *pinned = &lane->pinned[p].exact, *on_device = &lane->on_device[p].exact;
    uint8_t *block = host_of(&lane->pinned[p].block);
    uint64_t address = lane->on_device[p].block.address;
    *encoded = (lane_encoded){.exact = block,
                              .codes = {.scales = block + (of->scales - address),
                                        .minima = block + (of->minima - address),
                                        .codes = block + (of->codes - address),
                                        .high = block + (of->high - address),
                                        .row_code_bytes = cuda_row_code_bytes(of),
                                        .row_high_bytes = cuda_row_high_bytes(of)}};
    if (work->on_device)
        encoded->losses = (const kernel_loss *)(block + (of->losses - address));
    for (size_t i = 0; i < work->exact_bytes; i++)
        encoded->n_exact += block[i];
    if (encoded->n_exact == 0)
        return KVOT_OK;
    size_t list_bytes = align_part(encoded->n_exact * sizeof(cuda_row));
    size_t value_bytes =
        work->on_device ? encoded->n_exact * of->head_dim * lane_element_bytes(&work->plane->chunk) : 0;
    kvot_status status = lane_room(lane, pinned, list_bytes + value_bytes, error);
    if (status == KVOT_OK && work->on_device)
        status = lane_room(lane, on_device, list_bytes + value_bytes, error);
    if (status != KVOT_OK)
        return status;
    list_exact(of, block, host_of(pinned));
    encoded->list = host_of(pinned);
    if (!work->on_device)
        return KVOT_OK;
    cuda_exact exact = lane_cuda_exact(of, on_device->address, on_device->address + list_bytes, encoded->n_exact);
    encoded->values = (uint8_t *)host_of(pinned) + list_bytes;
    status = lane_upload(lane, on_device, host_of(pinned), list_bytes, error);
    if (status == KVOT_OK)
        status = lane_launch(lane, cuda_gather(&exact), &exact, error);
    if (status == KVOT_OK)
        status = lane_download(lane, host_of(pinned), on_device, list_bytes + value_bytes, error);
    return lane_wait(lane, status, error);
}

kvot_status lane_encode(lane *lane, const lane_chunks *chunks, const lane_plane *keys, const lane_plane *values,
                        const uint8_t *exact, lane_encoded encoded[LANE_PLANES], kvot_error *error) {
    encoding encoding = {.lane = lane, .chunks = chunks};
    memset(encoded, 0, LANE_PLANES * sizeof *encoded);
    kvot_status status = device_enter(lane->device, error);
    if (status != KVOT_OK)
        return status;
    status = make_buffers(&encoding, (const lane_plane *[]){keys, values}, error);
    if (status == KVOT_OK)
        status = run(&encoding, exact, error);
    for (int p = 0; p < LANE_PLANES && status == KVOT_OK; p++)
        if (encoding.planes[p].plane)
            status = finish(&encoding, p, &encoded[p], error);
    return device_leave(lane->device, status, error);
}
