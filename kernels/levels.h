/* What the levels share: their tables, and the constants of the method. */
#ifndef KVOT_LEVELS_H
#define KVOT_LEVELS_H

#include "kernels.h"

/* Bits of 2^126. Below it, max - min of two values cannot overflow. */
#define KERNEL_TOO_LARGE 0x7e800000u

/* The outlier rule: kernels.h, choose. */
#define KERNEL_MOST_CHOSEN   2
#define KERNEL_PRODUCT_SHARE 0.2f
#define KERNEL_SQUARE_SHARE  0.36f

enum { LANES = 16 }; /* partial sums of magnitudes and of compare */

/* Adds up partial sums pairwise: j and j + 8, then + 4, + 2, + 1. They are lost. */
static inline double kernel_add_lanes(double *lanes) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            lanes[j] += lanes[j + width];
    return lanes[0];
}

/* Each exists only in builds for its processors. */
extern const kernel_table kernels_scalar, kernels_neon, kernels_avx2, kernels_avx512;

#endif
