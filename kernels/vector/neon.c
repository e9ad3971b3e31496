/* NEON of AArch64: 16 numbers in four registers. */
#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct v16 {
    float32x4_t part[4]; /* lanes 0 to 3, 4 to 7 ... */
} v16;

#define INLINE static inline __attribute__((always_inline))

/* f on all parts; inside, `i` is the part. */
#define EACH(f)                                                                                                        \
    v16 result;                                                                                                        \
    for (int i = 0; i < 4; i++)                                                                                        \
        result.part[i] = (f);                                                                                          \
    return result

INLINE v16 v_set(float x) {
    EACH(vdupq_n_f32(x));
}
INLINE v16 v_load(const void *from, int n) {
    EACH(i * 4 < n ? vld1q_f32((const float *)from + i * 4) : vdupq_n_f32(0));
}
INLINE void v_store(void *to, v16 x, int n) {
    for (int i = 0; i * 4 < n; i++)
        vst1q_f32((float *)to + i * 4, x.part[i]);
}
INLINE v16 v_add(v16 x, v16 y) {
    EACH(vaddq_f32(x.part[i], y.part[i]));
}
INLINE v16 v_sub(v16 x, v16 y) {
    EACH(vsubq_f32(x.part[i], y.part[i]));
}
INLINE v16 v_mul(v16 x, v16 y) {
    EACH(vmulq_f32(x.part[i], y.part[i]));
}
INLINE v16 v_div(v16 x, v16 y) {
    EACH(vdivq_f32(x.part[i], y.part[i]));
}
INLINE v16 v_min(v16 x, v16 y) {
    EACH(vminq_f32(x.part[i], y.part[i]));
}
INLINE v16 v_max(v16 x, v16 y) {
    EACH(vmaxq_f32(x.part[i], y.part[i]));
}
INLINE v16 v_abs(v16 x) {
    EACH(vabsq_f32(x.part[i]));
}
INLINE v16 v_if_less(v16 a, v16 b, v16 x, v16 y) {
    EACH(vbslq_f32(vcltq_f32(a.part[i], b.part[i]), x.part[i], y.part[i]));
}
INLINE float32x4_t max_bits4(float32x4_t x, float32x4_t y) {
    return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
INLINE v16 v_max_bits(v16 x, v16 y) {
    EACH(max_bits4(x.part[i], y.part[i]));
}
INLINE bool v_any_from(v16 x, uint32_t bits) {
    float32x4_t four = max_bits4(max_bits4(x.part[0], x.part[1]), max_bits4(x.part[2], x.part[3]));
    return vmaxvq_u32(vreinterpretq_u32_f32(four)) >= bits;
}
INLINE float v_least(v16 x) {
    return vminvq_f32(vminq_f32(vminq_f32(x.part[0], x.part[1]), vminq_f32(x.part[2], x.part[3])));
}
INLINE float v_greatest(v16 x) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.part[0], x.part[1]), vmaxq_f32(x.part[2], x.part[3])));
}
INLINE float v_sum(v16 x) {
    float32x4_t four = vaddq_f32(vaddq_f32(x.part[0], x.part[2]), vaddq_f32(x.part[1], x.part[3]));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

INLINE float32x4_t from_f16(const uint16_t *halves) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
}
INLINE v16 v_from_f16(const void *from, int n) {
    EACH(i * 4 < n ? from_f16((const uint16_t *)from + i * 4) : vdupq_n_f32(0));
}
INLINE float32x4_t from_bf16(const uint16_t *halves) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(halves), 16));
}
INLINE v16 v_from_bf16(const void *from, int n) {
    EACH(i * 4 < n ? from_bf16((const uint16_t *)from + i * 4) : vdupq_n_f32(0));
}
INLINE void v_to_f16(void *to, v16 x, int n) {
    for (int i = 0; i * 4 < n; i++) {
        float32x4_t finite = vminq_f32(vmaxq_f32(x.part[i], vdupq_n_f32(-65504)), vdupq_n_f32(65504));
        vst1_u16((uint16_t *)to + i * 4, vreinterpret_u16_f16(vcvt_f16_f32(finite)));
    }
}
INLINE void v_to_bf16(void *to, v16 x, int n) {
    for (int i = 0; i * 4 < n; i++) {
        uint32x4_t bits = vreinterpretq_u32_f32(x.part[i]), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        bits = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        vst1_u16((uint16_t *)to + i * 4, vshrn_n_u32(bits, 16));
    }
}

INLINE v16 v_unpack(uint32_t bits, const uint8_t *codes, const uint8_t *high, int n) {
    static const int32_t ramp[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint32_t width = bits == 3 ? 2 : bits;
    uint32_t words[4] = {0}; /* of 32 bits: 4, 8 or 16 codes each */
    memcpy(words, codes, (size_t)n * width / 8);
    uint16_t top = 0;
    if (bits == 3)
        memcpy(&top, high, (size_t)n / 8);
    v16 result;
    for (int i = 0; i < 4; i++) {
        uint32_t first = (uint32_t)i * 4 * width; /* bit at which this part begins */
        uint32x4_t word = vdupq_n_u32(words[first / 32] >> first % 32);
        int32x4_t down = vmulq_n_s32(vld1q_s32(ramp), -(int32_t)width);
        uint32x4_t code = vandq_u32(vshlq_u32(word, down), vdupq_n_u32((1u << width) - 1));
        if (bits == 3) {
            uint32x4_t up = vshlq_u32(vdupq_n_u32((uint32_t)top << 2), vnegq_s32(vld1q_s32(ramp + i * 4)));
            code = vorrq_u32(code, vandq_u32(up, vdupq_n_u32(4)));
        }
        result.part[i] = vcvtq_f32_u32(code);
    }
    return result;
}

INLINE void v_pack(uint32_t bits, v16 x, uint8_t *codes, uint8_t *high, int n) {
    uint16x4_t part[4];
    for (int i = 0; i < 4; i++)
        part[i] = vqmovn_u32(vcvtnq_u32_f32(x.part[i]));
    uint8x16_t bytes =
        vcombine_u8(vqmovn_u16(vcombine_u16(part[0], part[1])), vqmovn_u16(vcombine_u16(part[2], part[3])));
    bytes = vminq_u8(bytes, vdupq_n_u8((uint8_t)((1u << bits) - 1u)));
    if (bits == 3) {
        static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
        uint8x16_t set = vandq_u8(vtstq_u8(bytes, vdupq_n_u8(4)), vld1q_u8(weights));
        uint8_t top[2] = {vaddv_u8(vget_low_u8(set)), vaddv_u8(vget_high_u8(set))};
        memcpy(high, top, (size_t)n / 8);
        bytes = vandq_u8(bytes, vdupq_n_u8(3));
    }
    uint32_t width = bits == 3 ? 2 : bits;
    for (uint32_t together = width; together < 8; together *= 2) { /* neighbours into the lower of the two */
        uint8x16_t even = vuzp1q_u8(bytes, bytes), odd = vuzp2q_u8(bytes, bytes);
        bytes = vorrq_u8(even, together == 2 ? vshlq_n_u8(odd, 2) : vshlq_n_u8(odd, 4));
    }
    uint8_t packed[16];
    vst1q_u8(packed, bytes);
    memcpy(codes, packed, (size_t)n * width / 8);
}

INLINE void v_pack32(uint32_t bits, v16 x, v16 y, uint8_t *codes, uint8_t *high) {
    v_pack(bits, x, codes, high, 16);
    v_pack(bits, y, codes + 2 * (bits == 3 ? 2 : bits), bits == 3 ? high + 2 : NULL, 16);
}

typedef struct o32 {
    int16x8_t part[4];
} o32;

#define EACH_O(f)                                                                                                      \
    o32 result;                                                                                                        \
    for (int i = 0; i < 4; i++)                                                                                        \
        result.part[i] = (f);                                                                                          \
    return result

INLINE int16x8_t turn(int16x8_t x) { /* its own inverse */
    return veorq_s16(x, vandq_s16(vshrq_n_s16(x, 15), vdupq_n_s16(0x7fff)));
}
INLINE o32 o_read(const void *from, int n) {
    EACH_O(vld1q_s16((const int16_t *)from + i * 8 % n));
}
INLINE o32 o_load(const void *from, int n) {
    EACH_O(turn(vld1q_s16((const int16_t *)from + i * 8 % n)));
}
INLINE void o_write(void *to, o32 x, int n) {
    for (int i = 0; i * 8 < n; i++)
        vst1q_s16((int16_t *)to + i * 8, x.part[i]);
}
INLINE o32 o_min(o32 x, o32 y) {
    EACH_O(vminq_s16(x.part[i], y.part[i]));
}
INLINE o32 o_max(o32 x, o32 y) {
    EACH_O(vmaxq_s16(x.part[i], y.part[i]));
}
INLINE int16_t o_least(o32 x) {
    return (vminvq_s16(vminq_s16(vminq_s16(x.part[0], x.part[1]), vminq_s16(x.part[2], x.part[3]))));
}
INLINE int16_t o_greatest(o32 x) {
    return (vmaxvq_s16(vmaxq_s16(vmaxq_s16(x.part[0], x.part[1]), vmaxq_s16(x.part[2], x.part[3]))));
}

typedef struct loss16 {
    float64x2_t errors[8], squares[8], worst[8];
} loss16;

INLINE loss16 v_loss(loss16 loss, v16 x, v16 y) {
    for (int i = 0; i < 8; i++) {
        float32x4_t from = x.part[i / 2], to = y.part[i / 2];
        float64x2_t a = vcvt_f64_f32(i % 2 ? vget_high_f32(from) : vget_low_f32(from));
        float64x2_t b = vcvt_f64_f32(i % 2 ? vget_high_f32(to) : vget_low_f32(to));
        float64x2_t error = vsubq_f64(a, b);
        loss.errors[i] = vaddq_f64(loss.errors[i], vmulq_f64(error, error));
        loss.squares[i] = vaddq_f64(loss.squares[i], vmulq_f64(a, a));
        loss.worst[i] = vmaxq_f64(loss.worst[i], vabsq_f64(error));
    }
    return loss;
}

INLINE void v_loss_lanes(loss16 loss, double lanes[3][16]) {
    for (int i = 0; i < 8; i++) {
        vst1q_f64(&lanes[0][i * 2], loss.errors[i]);
        vst1q_f64(&lanes[1][i * 2], loss.squares[i]);
        vst1q_f64(&lanes[2][i * 2], loss.worst[i]);
    }
}

#include "body.h"

const kernel_table kernels_neon = {"neon", magnitudes, choose, quantize, dequantize, compare};
