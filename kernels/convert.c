#include "numbers.h"

/* As f32_to_f16 and f32_to_bf16, but infinities and NaNs stay what they are. */
static inline uint16_t half_of(float value) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
    uint16_t special = (uint16_t)((bits >> 16 & 0x8000u) | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u));
    return magnitude >= 0x7f800000u ? special : f32_to_f16(value);
}

static inline uint16_t brain_of(float value) {
    uint32_t bits = bits_of(value);
    return (bits & 0x7fffffffu) > 0x7f800000u ? (uint16_t)(bits >> 16 | 0x40u) : f32_to_bf16(value);
}

/* One loop for each pair of types, so that compilers make vectors of them. */
#define CONVERT(from, to)                                                                                              \
    do {                                                                                                               \
        for (size_t i = 0; i < n; i++)                                                                                 \
            y[i] = to(from(x[i]));                                                                                     \
    } while (0)
#define SAME(value) (value)

static void to_f32(kernel_type type, const uint16_t *x, float *y, size_t n) {
    if (type == KERNEL_F16)
        CONVERT(f16_to_f32, SAME);
    else
        CONVERT(bf16_to_f32, SAME);
}

static void from_f32(kernel_type type, const float *x, uint16_t *y, size_t n) {
    if (type == KERNEL_F16)
        CONVERT(SAME, half_of);
    else
        CONVERT(SAME, brain_of);
}

static void between_halves(kernel_type to, const uint16_t *x, uint16_t *y, size_t n) {
    if (to == KERNEL_F16)
        CONVERT(bf16_to_f32, half_of);
    else
        CONVERT(f16_to_f32, brain_of);
}

void kernel_convert(kernel_type from, const void *in, kernel_type to, void *out, size_t n) {
    if (from == to)
        memcpy(out, in, n * (from == KERNEL_F32 ? sizeof(float) : sizeof(uint16_t)));
    else if (to == KERNEL_F32)
        to_f32(from, in, out, n);
    else if (from == KERNEL_F32)
        from_f32(to, in, out, n);
    else
        between_halves(to, in, out, n);
}
