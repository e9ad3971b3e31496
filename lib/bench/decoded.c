#include "decoded.h"

#include "../run/pages.h"

#include <stdlib.h>
#include <string.h>

/* Not a mapping: what is mapped cannot be dropped from the page cache. */
static kvot_status open_copy(decoded *decoded, const input *stored, kvot_error *error) {
    decoded->stored_bytes = stored->bytes;
    decoded->stored = pages_take(stored->bytes);
    input memory = {.fd = -1, .memory = decoded->stored, .bytes = stored->bytes, .name = strdup(stored->name)};
    kvot_status status = decoded->stored && memory.name ? KVOT_OK : fail_memory(error);
    if (status == KVOT_OK)
        status = input_read(stored, 0, decoded->stored, stored->bytes, error);
    if (status == KVOT_OK)
        return file_open(&memory, &decoded->file, error);
    free(memory.name);
    return status;
}

/* Bytes that a plane takes, so that the next one is aligned to any element. */
static size_t plane_room(const kvot_plane *plane) {
    return (plane->rows * plane->row_bytes + 63) / 64 * 64;
}

static kvot_status make_parts(decoded *decoded, kvot_error *error) {
    const kvot_info *info = kvot_file_info(decoded->file);
    size_t at = 0;
    for (size_t p = 0; p < info->n_planes; p++)
        decoded->planes_bytes += plane_room(&info->planes[p]);
    decoded->parts = calloc(info->n_planes + 1, sizeof *decoded->parts);
    decoded->planes = pages_take(decoded->planes_bytes + 1);
    if (!decoded->parts || !decoded->planes)
        return fail_memory(error);
    memset(decoded->planes, 1, decoded->planes_bytes); /* an engine's cache is there already */
    for (size_t p = 0; p < info->n_planes; p++) {
        const kvot_plane *plane = &info->planes[p];
        kvot_array to = {decoded->planes + at,
                         KVOT_BYTES,
                         (uint32_t)plane->rows,
                         1,
                         (uint32_t)plane->row_bytes,
                         (int64_t)plane->row_bytes,
                         0,
                         1};
        decoded->parts[p] = (kvot_part){p, 0, to};
        at += plane_room(plane);
    }
    return KVOT_OK;
}

kvot_status decoded_open(decoded *decoded, const input *stored, kvot_error *error) {
    *decoded = (struct decoded){0};
    kvot_status status = open_copy(decoded, stored, error);
    return status == KVOT_OK ? make_parts(decoded, error) : status;
}

void decoded_close(decoded *decoded) {
    if (decoded->planes)
        pages_free(decoded->planes, decoded->planes_bytes + 1);
    free(decoded->parts);
    kvot_close(decoded->file);
    if (decoded->stored)
        pages_free(decoded->stored, decoded->stored_bytes);
}
