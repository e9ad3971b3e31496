/* How large rows are: kernels.h, magnitudes. */
#ifndef KVOT_VECTOR_MAGNITUDES_H
#define KVOT_VECTOR_MAGNITUDES_H

#include "common.h"

typedef struct magnitude {
    v16 sum, square, largest;
} magnitude;

INLINE void add_magnitudes(magnitude *of, const uint8_t *elements, bool squares, kernel_type type, size_t c, int n) {
    for (int i = 0; i < n; i += LANES) {
        v16 x = v_abs(load(type, elements + (c + (size_t)i) * size_of(type), n < LANES ? n : LANES));
        if (type != KERNEL_F16)
            of->largest = v_max_bits(of->largest, x);
        of->sum = v_add(of->sum, x);
        if (squares)
            of->square = v_add(of->square, v_mul(x, x));
    }
}

INLINE int magnitudes_of(const kernel_chunk *chunk, const uint8_t *rows, float *sums, float *squares,
                         kernel_type type) {
    size_t n = (size_t)chunk->rows * chunk->heads;
    for (size_t i = 0; i < n; i++, rows += chunk->head_dim * size_of(type)) {
        magnitude of = {v_set(0), v_set(0), v_set(0)};
        IN_RUNS(chunk->head_dim, add_magnitudes, &of, rows, squares != NULL, type);
        float sum = v_sum(of.sum);
        /* A sum of halves is finite if they are. */
        bool exact = type == KERNEL_F16 ? !(sum < INFINITY) : v_any_from(of.largest, KERNEL_TOO_LARGE);
        sums[i] = exact ? INFINITY : sum;
        if (squares)
            squares[i] = exact ? INFINITY : v_sum(of.square);
    }
    return 0;
}

static void magnitudes(const kernel_chunk *chunk, const void *rows, float *sums, float *squares) {
    if (chunk->head_dim % 8 != 0)
        kernels_scalar.magnitudes(chunk, rows, sums, squares);
    else if (squares)
        WITH_TYPE(magnitudes_of, chunk->type, chunk, rows, sums, squares);
    else
        WITH_TYPE(magnitudes_of, chunk->type, chunk, rows, sums, NULL);
}

#endif
