#include "data.h"
#include "../../kernels/levels.h"
#include "../../kernels/numbers.h"
#include "random.h"

#include <math.h>

const char *const data_kind_names[DATA_KINDS] = {
    "realistic", "spikes",  "constant", "zero", "signed zeros", "denormal",
    "any",       "largest", "narrow",   "ties", "least scale",  "mixed",
};

size_t data_element_bytes(kernel_type type) {
    return type == KERNEL_F32 ? 4 : 2;
}

/* An element of the type with these bits, of which f32 has 32 and the others the low 16. */
static float element_of(kernel_type type, uint32_t bits) {
    return type == KERNEL_F32   ? float_of(bits)
           : type == KERNEL_F16 ? f16_to_f32((uint16_t)bits)
                                : bf16_to_f32((uint16_t)bits);
}

float data_any_finite(kernel_type type) {
    float value;
    do
        value = element_of(type, random_bits());
    while (!isfinite(value));
    return value;
}

/* Drawn one by one, here and below: the order inside an expression is the compiler's. */
static float noise(void) {
    float first = random_unit(), second = random_unit();
    return first + second - 1.0f;
}

static float realistic(uint64_t group, uint64_t token) {
    float offset = group % 4 == 0 ? (float)(group >> 32) * 0x1p-28f - 8.0f : 0.0f;
    return (offset + noise()) * (token % 32 == 0 ? 0.02f : 1.0f);
}

/* Bits of the largest value that may be quantized. */
static uint32_t largest(kernel_type type) {
    return type == KERNEL_F32 ? KERNEL_TOO_LARGE - 1 : type == KERNEL_F16 ? 0x7bff : (KERNEL_TOO_LARGE >> 16) - 1;
}

static float narrow(kernel_type type, uint64_t group) {
    uint32_t base = (uint32_t)(group >> 32) % largest(type), width = 1u << group % 8;
    uint32_t sign = type == KERNEL_F32 ? 0x80000000u : 0x8000u;
    uint32_t bits = base + random_below(width);
    return element_of(type, (bits < largest(type) ? bits : largest(type)) | (group & 0x100 ? sign : 0));
}

static float tie(const kernel_chunk *chunk, uint64_t group) {
    uint32_t halves = 2 * ((1u << chunk->bits) - 1);
    uint32_t half = random_below(4) ? random_below(halves + 1) : random_below(2) * halves;
    /* bf16 has no bits for an offset beside those for the code */
    float base = chunk->type == KERNEL_BF16 ? 0 : (float)(group >> 32 & 63) - 32.0f;
    return (base + 0.5f * (float)half) * ldexpf(1, (int)(group % 9) - 4);
}

static float value_of(const kernel_chunk *chunk, data_kind kind, uint64_t group, uint64_t token) {
    kernel_type type = chunk->type;
    uint32_t sign = type == KERNEL_F32 ? 0x80000000u : 0x8000u;
    switch (kind) {
    case DATA_SPIKES: {
        float scale = random_below(100) ? 1.0f : 1000.0f;
        return realistic(group, token) * scale;
    }
    case DATA_CONSTANT:
        return group % 4 ? (float)(group >> 40) * 0x1p-20f - 8.0f : noise();
    case DATA_ZERO:
        return 0.0f;
    case DATA_SIGNED_ZEROS:
        return random_below(2) ? 0.0f : -0.0f;
    case DATA_DENORMAL: {
        uint32_t mantissa = type == KERNEL_F32 ? 0x7fffff : type == KERNEL_F16 ? 0x3ff : 0x7f;
        return element_of(type, random_bits() & (mantissa | sign));
    }
    case DATA_ANY:
        return data_any_finite(type);
    case DATA_LARGEST: {
        uint32_t bits = largest(type) - random_below(4);
        /* groups all positive, all negative, and of both signs */
        return element_of(type, bits | (group % 3 == 0 ? 0 : group % 3 == 1 ? sign : random_bits() & sign));
    }
    case DATA_NARROW:
        return narrow(type, group);
    case DATA_TIES:
        return tie(chunk, group);
    case DATA_LEAST_SCALE:
        return noise() * (float)((1u << chunk->bits) - 1) * (type == KERNEL_F16 ? 0x1p-24f : 0x1p-126f);
    default:
        return realistic(group, token);
    }
}

void data_fill(const kernel_chunk *chunk, data_kind kind, void *rows) {
    uint32_t channels = chunk->heads * chunk->head_dim;
    uint32_t largest_bits = largest(chunk->type);
    float limit = element_of(chunk->type, largest_bits);
    uint64_t seed = (uint64_t)random_bits() << 32;
    size_t i = 0;
    for (uint32_t r = 0; r < chunk->rows; r++) {
        for (uint32_t h = 0; h < chunk->heads; h++) {
            for (uint32_t d = 0; d < chunk->head_dim; d++, i++) {
                uint64_t number = chunk->keys ? (uint64_t)(r / chunk->group) * channels + h * chunk->head_dim + d
                                              : (uint64_t)i - d % chunk->group;
                uint64_t group = random_mix(seed + number), token = random_mix(~seed + r);
                data_kind of = kind == DATA_MIXED ? (data_kind)((group >> 16) % DATA_MIXED) : kind;
                float value = value_of(chunk, of, group, token);
                /* neither as it was drawn nor by rounding may it be too large */
                store_element(chunk->type, rows, i, fabsf(value) < limit ? value : copysignf(limit, value));
            }
        }
    }
}

void data_spoil(kernel_type type, void *elements, size_t n) {
    static const uint32_t f32[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff, 0x7e800000, 0xff7fffff};
    static const uint16_t f16[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff, 0x7d55, 0x7f55};
    static const uint16_t bf16[] = {0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff, 0x7e80, 0xff7f};
    uint32_t often = random_below(2) ? (uint32_t)n : 4;
    for (size_t i = 0; i < n; i++) {
        if (random_below(often) != 0)
            continue;
        uint32_t which = random_below(7);
        if (type == KERNEL_F32)
            memcpy((uint8_t *)elements + i * 4, &f32[which], 4);
        else
            ((uint16_t *)elements)[i] = type == KERNEL_F16 ? f16[which] : bf16[which];
    }
}
