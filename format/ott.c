/* Where the parts of an ott stream lie. */
#include "format.h"

#include <string.h>

static uint64_t align(uint64_t offset) {
    return (offset + FORMAT_PART_ALIGN - 1) / FORMAT_PART_ALIGN * FORMAT_PART_ALIGN;
}

bool format_ott_layout(format_ott *ott, const format_plane *plane, uint32_t rows, uint32_t outliers) {
    const format_type_info *type = format_type_of(plane->type);
    memset(ott, 0, sizeof *ott);
    ott->elem_bytes = type->block_bytes;
    uint32_t elems = plane->row_bytes / type->block_bytes;
    ott->head_dim = elems / plane->heads;
    ott->keys = plane->kind == FORMAT_K;
    if (outliers > (uint64_t)rows * plane->heads)
        return false;
    ott->ranges = ott->keys ? (rows + plane->group - 1) / plane->group * elems
                            : rows * plane->heads * ((ott->head_dim + plane->group - 1) / plane->group);
    uint32_t low_bits = plane->bits == 3 ? 2 : plane->bits;
    ott->row_code_bytes = (uint32_t)(((uint64_t)elems * low_bits + 7) / 8);
    ott->row_high_bytes = plane->bits == 3 ? (elems + 7) / 8 : 0;
    ott->rows_at = (uint64_t)plane->heads * sizeof(uint16_t);
    ott->exact = align(ott->rows_at + (uint64_t)outliers * sizeof(uint16_t));
    ott->scales = align(ott->exact + (uint64_t)outliers * ott->head_dim * ott->elem_bytes);
    ott->minima = align(ott->scales + (uint64_t)ott->ranges * ott->elem_bytes);
    ott->codes = align(ott->minima + (uint64_t)ott->ranges * ott->elem_bytes);
    ott->high = align(ott->codes + (uint64_t)rows * ott->row_code_bytes);
    ott->bytes = ott->high + (uint64_t)rows * ott->row_high_bytes;
    return true;
}

/* True if `n` elements from `at` on are finite: not all bits of the exponent are set. */
static bool all_finite(unsigned type, const void *at, uint64_t n) {
    /* Signed, and without leaving early, so that compilers make vectors of it. */
    if (type == FORMAT_F32) {
        const int32_t *bits = at, exponent = 0x7f800000;
        int32_t most = 0;
        for (uint64_t i = 0; i < n; i++)
            most = (bits[i] & exponent) > most ? bits[i] & exponent : most;
        return most < exponent;
    }
    const int16_t *bits = at, exponent = type == FORMAT_F16 ? 0x7c00 : 0x7f80;
    int16_t most = 0;
    for (uint64_t i = 0; i < n; i++) {
        int16_t value = bits[i] & exponent;
        most = value > most ? value : most;
    }
    return most < exponent;
}

const char *format_ott_read(format_ott *ott, const format_plane *plane, uint32_t rows, const void *stream,
                            uint64_t bytes) {
    const uint16_t *counts = stream;
    if (bytes < (uint64_t)plane->heads * sizeof(uint16_t))
        return "an ott stream is too short";
    uint64_t outliers = 0;
    for (uint32_t h = 0; h < plane->heads; h++) {
        if (counts[h] > rows)
            return "an ott stream has more exact rows than rows";
        outliers += counts[h];
    }
    if (!format_ott_layout(ott, plane, rows, (uint32_t)outliers) || ott->bytes != bytes)
        return "an ott stream is longer or shorter than its parts";
    const uint16_t *row = (const void *)((const uint8_t *)stream + ott->rows_at);
    for (uint32_t h = 0; h < plane->heads; h++) {
        for (uint32_t i = 0; i < counts[h]; i++, row++)
            if (*row >= rows || (i > 0 && *row <= row[-1]))
                return "the exact rows of an ott stream are not in order";
    }
    const uint8_t *parts = stream;
    if (!all_finite(plane->type, parts + ott->scales, ott->ranges) ||
        !all_finite(plane->type, parts + ott->minima, ott->ranges))
        return "a scale or a minimum of an ott stream is not finite";
    return NULL;
}
