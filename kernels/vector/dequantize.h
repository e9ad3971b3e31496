/* Codes to rows: kernels.h, dequantize. */
#ifndef KVOT_VECTOR_DEQUANTIZE_H
#define KVOT_VECTOR_DEQUANTIZE_H

#include "groups.h"

/* As quantize_run. */
INLINE void dequantize_run(uint8_t *elements, const float *scale, const float *minimum, code_row row, bool values,
                           kernel_type type, uint32_t bits, size_t c, int n) {
    for (int i = 0; i < n; i += LANES) {
        size_t at = c + (size_t)i;
        int lanes = n < LANES ? n : LANES;
        v16 x = v_unpack(bits, row.codes + at * low_bits(bits) / 8, bits == 3 ? row.high + at / 8 : NULL, lanes);
        x = v_mul(x, values ? v_set(*scale) : v_load(scale + at, lanes));
        x = v_add(x, values ? v_set(*minimum) : v_load(minimum + at, lanes));
        store(type, elements + at * size_of(type), x, lanes);
    }
}

INLINE void load_ranges(const void *from, size_t at, size_t n, float *to, kernel_type type) {
    const uint8_t *elements = (const uint8_t *)from + at * size_of(type);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(to + i, load(type, elements + i * size_of(type), LANES), LANES);
    for (; i < n; i++)
        to[i] = load_element(type, elements, i);
}

INLINE int dequantize_keys(const kernel_chunk *about, const kernel_codes *in, uint8_t *rows, kernel_type type,
                           uint32_t bits) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to codes cannot change it */
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    float scales[BLOCK], minima[BLOCK];
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = first + least_of(chunk->group, chunk->rows - first);
        for (size_t block = 0; block < channels; block += BLOCK) {
            size_t n = least_of(BLOCK, channels - block);
            load_ranges(in->scales, g * channels + block, n, scales, type);
            load_ranges(in->minima, g * channels + block, n, minima, type);
            for (uint32_t r = first; r < last; r++)
                IN_RUNS(n, dequantize_run, rows + (r * channels + block) * size_of(type), scales, minima,
                        codes_at(in, r, block, bits), false, type, bits);
        }
    }
    return 0;
}

INLINE int dequantize_values(const kernel_chunk *about, const kernel_codes *in, uint8_t *rows, kernel_type type,
                             uint32_t bits) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to rows cannot change it */
    float scales[N_GROUPS], minima[N_GROUPS];
    size_t done = 0, n = 0;
    for (value_groups some = first_groups(chunk); more_groups(chunk, &some); done += n) {
        n = some.heads * (some.end - some.part);
        load_ranges(in->scales, done, n, scales, type);
        load_ranges(in->minima, done, n, minima, type);
        FOR_GROUPS(some, 0)
        IN_RUNS(channels, dequantize_run, rows + offset * size_of(type), &scales[i], &minima[i],
                codes_at(in, 0, offset, bits), true, type, bits);
    }
    return 0;
}

static void dequantize(const kernel_chunk *chunk, const kernel_codes *in, void *rows) {
    if (!takes(chunk, in))
        kernels_scalar.dequantize(chunk, in, rows);
    else if (chunk->keys)
        WITH_TYPE_AND_BITS(dequantize_keys, chunk->type, chunk->bits, chunk, in, rows);
    else
        WITH_TYPE_AND_BITS(dequantize_values, chunk->type, chunk->bits, chunk, in, rows);
}

#endif
