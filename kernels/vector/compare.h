/* How far one array is from another: kernels.h, compare. */
#ifndef KVOT_VECTOR_COMPARE_H
#define KVOT_VECTOR_COMPARE_H

#include "common.h"

/* Up to 16 elements, some of which may not be finite. Sets `*different` if one of those differs. */
static loss16 compare_some(loss16 loss, const uint8_t *original, const uint8_t *other, size_t n, kernel_type type,
                           bool *different) {
    float x[LANES] = {0}, y[LANES] = {0}; /* 0 adds nothing */
    for (size_t i = 0; i < n; i++) {
        float a = load_element(type, original, i), b = load_element(type, other, i);
        bool finite = isfinite(a) && isfinite(b);
        *different |= !finite && bits_of(a) != bits_of(b);
        x[i] = finite ? a : 0;
        y[i] = finite ? b : 0;
    }
    return v_loss(loss, v_load(x, LANES), v_load(y, LANES));
}

/* `sums` goes by value, so that it can stay in registers. */
INLINE int compare_all(const uint8_t *original, const uint8_t *other, size_t n, kernel_loss *loss, kernel_type type) {
    loss16 sums = {0};
    bool different = false;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const uint8_t *a = original + i * size_of(type), *b = other + i * size_of(type);
        v16 x = load(type, a, LANES), y = load(type, b, LANES);
        if (!v_any_from(v_max_bits(v_abs(x), v_abs(y)), 0x7f800000u))
            sums = v_loss(sums, x, y);
        else
            sums = compare_some(sums, a, b, LANES, type, &different);
    }
    if (i < n)
        sums = compare_some(sums, original + i * size_of(type), other + i * size_of(type), n - i, type, &different);
    double lanes[3][LANES];
    v_loss_lanes(sums, lanes);
    double worst = different ? INFINITY : 0;
    for (int j = 0; j < LANES; j++)
        worst = lanes[2][j] > worst ? lanes[2][j] : worst;
    *loss = (kernel_loss){kernel_add_lanes(lanes[0]), kernel_add_lanes(lanes[1]), worst};
    return 0;
}

static void compare(kernel_type type, const void *original, const void *other, size_t n, kernel_loss *loss) {
    WITH_TYPE(compare_all, type, original, other, n, loss);
}

#endif
