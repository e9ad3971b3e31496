/* What the kernels of the vector levels share: see body.h. */
#ifndef KVOT_VECTOR_COMMON_H
#define KVOT_VECTOR_COMMON_H

#include "../levels.h"
#include "../numbers.h"

#include <math.h>

enum {
    RUN = 2 * LANES,
    BLOCK = 1024,  /* channels whose ranges are at hand: these arrays stay in the first-level cache */
    N_GROUPS = 64, /* groups of values whose ranges are worked out together */
};

/* Calls f(..., c, n) for runs of n channels from channel c on, until `length` channels are done. */
#define IN_RUNS(length, f, ...)                                                                                        \
    do {                                                                                                               \
        size_t c_ = 0, length_ = (length);                                                                             \
        for (; c_ + RUN <= length_; c_ += RUN)                                                                         \
            f(__VA_ARGS__, c_, RUN);                                                                                   \
        if (c_ + LANES <= length_) {                                                                                   \
            f(__VA_ARGS__, c_, LANES);                                                                                 \
            c_ += LANES;                                                                                               \
        }                                                                                                              \
        if (c_ < length_)                                                                                              \
            f(__VA_ARGS__, c_, LANES / 2);                                                                             \
    } while (0)

/* Calls f(..., type), f(..., bits) or f(..., type, bits) with constants, so that each combination becomes code of its
 * own. f returns an int that says nothing. */
#define WITH_BITS(f, bits, ...)                                                                                        \
    ((bits) == 2   ? f(__VA_ARGS__, 2)                                                                                 \
     : (bits) == 3 ? f(__VA_ARGS__, 3)                                                                                 \
     : (bits) == 4 ? f(__VA_ARGS__, 4)                                                                                 \
                   : f(__VA_ARGS__, 8))
#define WITH_TYPE(f, type, ...)                                                                                        \
    ((type) == KERNEL_F16    ? f(__VA_ARGS__, KERNEL_F16)                                                              \
     : (type) == KERNEL_BF16 ? f(__VA_ARGS__, KERNEL_BF16)                                                             \
                             : f(__VA_ARGS__, KERNEL_F32))
#define WITH_TYPE_AND_BITS(f, type, bits, ...)                                                                         \
    ((type) == KERNEL_F16    ? WITH_BITS(f, bits, __VA_ARGS__, KERNEL_F16)                                             \
     : (type) == KERNEL_BF16 ? WITH_BITS(f, bits, __VA_ARGS__, KERNEL_BF16)                                            \
                             : WITH_BITS(f, bits, __VA_ARGS__, KERNEL_F32))

INLINE size_t size_of(kernel_type type) {
    return type == KERNEL_F32 ? 4 : 2;
}

INLINE v16 load(kernel_type type, const void *elements, int n) {
    return type == KERNEL_F16    ? v_from_f16(elements, n)
           : type == KERNEL_BF16 ? v_from_bf16(elements, n)
                                 : v_load(elements, n);
}

INLINE void store(kernel_type type, void *elements, v16 x, int n) {
    if (type == KERNEL_F16)
        v_to_f16(elements, x, n);
    else if (type == KERNEL_BF16)
        v_to_bf16(elements, x, n);
    else
        v_store(elements, x, n);
}

/* Bits of a code outside the high part. */
INLINE uint32_t low_bits(uint32_t bits) {
    return bits == 3 ? 2 : bits;
}

INLINE uint32_t least_of(size_t a, size_t b) {
    return (uint32_t)(a < b ? a : b);
}

#endif
