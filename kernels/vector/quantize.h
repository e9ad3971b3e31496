/* Rows to codes: kernels.h, quantize. */
#ifndef KVOT_VECTOR_QUANTIZE_H
#define KVOT_VECTOR_QUANTIZE_H

#include "extents.h"

/* Ranges of up to 16 groups that span [low, high]: scales and minima as they are stored go to group `at` and on; what
 * codes are made with, the minimum and 1 / scale, takes the place of low and high. As store_range in scalar.c. */
INLINE void store_ranges(const kernel_chunk *chunk, const kernel_codes *out, size_t at, float *low, float *high,
                         size_t n, kernel_type type) {
    uint8_t minima[LANES * sizeof(float)], scales[LANES * sizeof(float)];
    v16 zero = v_set(0), least = v_load(low, LANES), greatest = v_load(high, LANES);
    v16 span = v_if_less(greatest, least, zero, v_sub(greatest, least));
    v16 minimum = v_if_less(greatest, least, zero, v_add(least, v_mul(span, v_set((1.0f - chunk->share) * 0.5f))));
    v16 scale = v_div(v_mul(span, v_set(chunk->share)), v_set((float)((1u << chunk->bits) - 1u)));
    store(type, minima, minimum, LANES);
    minimum = v_add(load(type, minima, LANES), zero); /* makes -0 into 0 */
    store(type, minima, minimum, LANES);
    store(type, scales, scale, LANES);
    scale = load(type, scales, LANES);
    v16 usable = v_set(0x1p-126f); /* below, 1 / scale could overflow */
    v_store(low, minimum, LANES);
    v_store(high, v_if_less(scale, usable, zero, v_div(v_set(1), scale)), LANES);
    store(type, scales, v_if_less(scale, usable, zero, scale), LANES);
    memcpy((uint8_t *)out->minima + at * size_of(type), minima, n * size_of(type));
    memcpy((uint8_t *)out->scales + at * size_of(type), scales, n * size_of(type));
}

INLINE void store_all_ranges(const kernel_chunk *chunk, const kernel_codes *out, size_t at, float *low, float *high,
                             size_t n, kernel_type type) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store_ranges(chunk, out, at + i, low + i, high + i, LANES, type);
    if (i < n)
        store_ranges(chunk, out, at + i, low + i, high + i, n - i, type);
}

INLINE void clear_codes(code_row row, size_t n, uint32_t bits) {
    memset(row.codes, 0, n * low_bits(bits) / 8);
    if (bits == 3)
        memset(row.high, 0, n / 8);
}

/* Codes of n elements from channel c on; minimum and inverse for each of them, or, for `values`, one for all. */
INLINE void quantize_run(const uint8_t *elements, const float *minimum, const float *inverse, code_row row, bool values,
                         kernel_type type, uint32_t bits, size_t c, int n) {
    v16 codes[2];
    for (int i = 0; i * LANES < n; i++) {
        size_t at = c + (size_t)i * LANES;
        int lanes = n < LANES ? n : LANES;
        v16 x = load(type, elements + at * size_of(type), lanes);
        x = v_sub(x, values ? v_set(*minimum) : v_load(minimum + at, lanes));
        x = v_mul(x, values ? v_set(*inverse) : v_load(inverse + at, lanes));
        /* Of halves that are at most 16 above a minimum that was rounded, by scales of at least 2^-24. */
        codes[i] = type == KERNEL_F16 ? x : v_min(x, v_set((float)((1u << bits) - 1u)));
    }
    uint8_t *to = row.codes + c * low_bits(bits) / 8, *high = bits == 3 ? row.high + c / 8 : NULL;
    if (n == RUN)
        v_pack32(bits, codes[0], codes[1], to, high);
    else
        v_pack(bits, codes[0], to, high, n);
}

INLINE int quantize_keys(const kernel_chunk *about, const uint8_t *rows, const uint8_t *exact, const kernel_codes *out,
                         kernel_type type, uint32_t bits) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to codes cannot change it */
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    extents least, greatest;
    float low[BLOCK] = {0}, high[BLOCK] = {0};
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = first + least_of(chunk->group, chunk->rows - first);
        for (size_t block = 0; block < channels; block += BLOCK) {
            size_t block_end = block + least_of(BLOCK, channels - block);
            extents_clear(&least, &greatest, type);
            for (size_t c = block, h = c / chunk->head_dim, end; c < block_end; c = end, h++) {
                end = least_of(block_end, (h + 1) * chunk->head_dim);
                extents_of_head(chunk, rows, exact + h, first, last, c, end - c, &least, &greatest, c - block, type);
            }
            IN_RUNS(block_end - block, to_numbers, &least, low, type);
            IN_RUNS(block_end - block, to_numbers, &greatest, high, type);
            store_all_ranges(chunk, out, g * channels + block, low, high, block_end - block, type);
            for (uint32_t r = first; r < last; r++) {
                for (size_t c = block, h = c / chunk->head_dim, end; c < block_end; c = end, h++) {
                    end = least_of(block_end, (h + 1) * chunk->head_dim);
                    code_row row = codes_at(out, r, c, bits);
                    if (exact[(size_t)r * chunk->heads + h])
                        clear_codes(row, end - c, bits);
                    else
                        IN_RUNS(end - c, quantize_run, rows + (r * channels + c) * size_of(type), low + (c - block),
                                high + (c - block), row, false, type, bits);
                }
            }
        }
    }
    return 0;
}

/* Calls f(..., length) with the channels of every group as a constant, which is worth a quarter of the time. */
#define WITH_LENGTH(f, chunk, ...)                                                                                     \
    ((chunk)->head_dim % (chunk)->group != 0 ? f(__VA_ARGS__, 0)                                                       \
     : (chunk)->group == 32                  ? f(__VA_ARGS__, 32)                                                      \
     : (chunk)->group == 64                  ? f(__VA_ARGS__, 64)                                                      \
     : (chunk)->group == 128                 ? f(__VA_ARGS__, 128)                                                     \
                                             : f(__VA_ARGS__, 0))

INLINE int quantize_values(const kernel_chunk *about, const uint8_t *rows, const uint8_t *exact,
                           const kernel_codes *out, kernel_type type, uint32_t bits, uint32_t length) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to codes cannot change it */
    extents least, greatest;
    float low[N_GROUPS], high[N_GROUPS];
    extents_clear(&least, &greatest, type);
    size_t done = 0, n = 0;
    for (value_groups some = first_groups(chunk); more_groups(chunk, &some); done += n) {
        n = some.heads * (some.end - some.part);
        FOR_GROUPS(some, length) {
            if (exact[head])
                extents_of_none(&least, &greatest, i, type);
            else
                extents_of_group(rows + offset * size_of(type), channels, &least, &greatest, i, type);
        }
        IN_RUNS(N_GROUPS, to_numbers, &least, low, type);
        IN_RUNS(N_GROUPS, to_numbers, &greatest, high, type);
        store_all_ranges(chunk, out, done, low, high, n, type);
        FOR_GROUPS(some, length) {
            code_row row = codes_at(out, 0, offset, bits);
            if (exact[head])
                clear_codes(row, channels, bits);
            else
                IN_RUNS(channels, quantize_run, rows + offset * size_of(type), &low[i], &high[i], row, true, type,
                        bits);
        }
    }
    return 0;
}

INLINE int quantize_values_of(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact,
                              const kernel_codes *out, kernel_type type, uint32_t bits) {
    return WITH_LENGTH(quantize_values, chunk, chunk, rows, exact, out, type, bits);
}

static void quantize(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out) {
    if (!takes(chunk, out)) {
        kernels_scalar.quantize(chunk, rows, exact, out);
        return;
    }
    if (chunk->keys)
        WITH_TYPE_AND_BITS(quantize_keys, chunk->type, chunk->bits, chunk, rows, exact, out);
    else
        WITH_TYPE_AND_BITS(quantize_values_of, chunk->type, chunk->bits, chunk, rows, exact, out);
}

#endif
