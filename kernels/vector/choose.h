/* Which rows are outlier tokens: kernels.h, choose. */
#ifndef KVOT_VECTOR_CHOOSE_H
#define KVOT_VECTOR_CHOOSE_H

#include "common.h"

/* `values` of a chunk's rows, none negative, none NaN; behind them infinity. */
enum { N_VALUES = KERNEL_MAX_ROWS };

/* The least of those that are at least `from`; infinity if there is none. */
static float least_from(const float *values, float from) {
    v16 limit = v_set(from), infinite = v_set(INFINITY), least = infinite;
    for (int i = 0; i < N_VALUES; i += LANES) {
        v16 x = v_load(values + i, LANES);
        least = v_min(least, v_if_less(x, limit, infinite, x));
    }
    return v_least(least);
}

static uint32_t count_below(const float *values, float limit) {
    v16 from = v_set(limit), count = v_set(0);
    for (int i = 0; i < N_VALUES; i += LANES)
        count = v_add(count, v_if_less(v_load(values + i, LANES), from, v_set(1), v_set(0)));
    return (uint32_t)v_sum(count);
}

/* The (n - 1) / 2-th smallest. It is in [low, high), bits of numbers, which are ordered as the numbers are; this is cut
 * until nothing else is in there. Most values are of one order of magnitude, so the first cut is at 4 times the least.
 */
static float median(const float *values, uint32_t n) {
    uint32_t rank = (n - 1) / 2, low = bits_of(least_from(values, 0)), below_low = 0;
    uint32_t high = bits_of(INFINITY) + 1, below_high = n;
    const uint32_t times_4 = 2u << 23;
    while (below_high - below_low > 1 && high - low > 1) {
        uint32_t middle = below_high == n && high - low > times_4 ? low + times_4 : low + (high - low) / 2;
        uint32_t below = count_below(values, float_of(middle));
        if (below <= rank) {
            low = middle;
            below_low = below;
        } else {
            high = middle;
            below_high = below;
        }
    }
    return least_from(values, float_of(low));
}

/* Marks the row with the least of `values`, of equal ones the first, and takes it out; infinity is not taken. */
static void take_least(float *values, uint32_t heads, uint8_t *exact) {
    float least = least_from(values, 0);
    size_t r = 0;
    if (!(least < INFINITY))
        return;
    while (values[r] != least)
        r++;
    exact[r * heads] = 1;
    values[r] = INFINITY;
}

static void choose(const kernel_sizes *sizes, uint8_t *exact) {
    float products[N_VALUES], squares[N_VALUES];
    const uint32_t heads = sizes->heads, n = sizes->rows;
    memset(exact, 0, (size_t)n * heads);
    for (uint32_t r = n; r < N_VALUES; r++)
        products[r] = squares[r] = INFINITY;
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t r = 0; r < n; r++) {
            size_t i = (size_t)r * heads + h;
            float product = sizes->keys[i] * (sizes->values && !sizes->start ? sizes->values[i] : 1.0f);
            products[r] = product < INFINITY ? product : INFINITY; /* infinity times 0 is NaN */
            squares[r] = sizes->key_squares[i];
        }
        if (!sizes->start) {
            /* Most often nothing is far below the median: then it need not be found. */
            float near = 0.99f / KERNEL_PRODUCT_SHARE * least_from(products, 0);
            if (count_below(products, near) > (n - 1) / 2) /* the median is below: its share is below the least */
                continue;
            v16 below = v_set(KERNEL_PRODUCT_SHARE * median(products, n)), infinite = v_set(INFINITY);
            v16 from = v_set(KERNEL_SQUARE_SHARE * median(squares, n));
            for (uint32_t r = 0; r < N_VALUES; r += LANES) {
                v16 product = v_load(products + r, LANES), square = v_load(squares + r, LANES);
                product = v_if_less(product, below, product, infinite);
                v_store(products + r, v_if_less(square, from, infinite, product), LANES);
            }
        }
        for (int taken = 0; taken < KERNEL_MOST_CHOSEN; taken++)
            take_least(products, heads, exact + h);
    }
}

#endif
