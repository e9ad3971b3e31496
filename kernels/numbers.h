/* Element types to single precision and back, bit for bit as IEEE 754 has them. */
#ifndef KVOT_NUMBERS_H
#define KVOT_NUMBERS_H

#include "kernels.h"

#include <assert.h>
#include <float.h>
#include <string.h>

static_assert(FLT_EVAL_METHOD == 0, "single precision must be rounded to single precision at every step");

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) /* infinity, NaN */
        return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    /* Exponent and mantissa moved into place are off by 2^112; the product also makes denormals normal. Exact. */
    float scaled = float_of(magnitude << 13) * float_of(0x77800000u);
    return float_of(sign | bits_of(scaled));
}

/* Round to nearest even. Values beyond the largest finite half become that half: a restored cache has no infinity that
 * the original did not have. */
static inline uint16_t f32_to_f16(float value) {
    uint32_t sign = bits_of(value) >> 16 & 0x8000u;
    float magnitude = float_of(bits_of(value) & 0x7fffffffu);
    if (!(magnitude < 65504.0f))
        return (uint16_t)(sign | 0x7bffu);
    if (magnitude < 0x1p-14f) /* denormal half: adding 2^-1 * ulp weight rounds at the 24th binary place */
        return (uint16_t)(sign | (bits_of(magnitude + 0.5f) - 0x3f000000u));
    uint32_t bits = bits_of(magnitude);
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

static inline float bf16_to_f32(uint16_t value) {
    return float_of((uint32_t)value << 16);
}

static inline uint16_t f32_to_bf16(float value) {
    uint32_t bits = bits_of(value);
    bits += 0x7fffu + (bits >> 16 & 1u);
    return (uint16_t)(bits >> 16);
}

static inline float load_element(kernel_type type, const void *elements, size_t i) {
    switch (type) {
    case KERNEL_F16:
        return f16_to_f32(((const uint16_t *)elements)[i]);
    case KERNEL_BF16:
        return bf16_to_f32(((const uint16_t *)elements)[i]);
    default:
        return ((const float *)elements)[i];
    }
}

static inline void store_element(kernel_type type, void *elements, size_t i, float value) {
    switch (type) {
    case KERNEL_F16:
        ((uint16_t *)elements)[i] = f32_to_f16(value);
        break;
    case KERNEL_BF16:
        ((uint16_t *)elements)[i] = f32_to_bf16(value);
        break;
    default:
        ((float *)elements)[i] = value;
    }
}

#endif
