/* AVX-512 (F, BW, DQ, VL): 16 numbers in one register. */
#include "x86.h"

typedef __m512 v16;

#define INLINE static inline __attribute__((always_inline))

INLINE v16 v_set(float x) {
    return _mm512_set1_ps(x);
}
INLINE v16 v_load(const void *from, int n) {
    return n == 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(0xff, from);
}
INLINE void v_store(void *to, v16 x, int n) {
    if (n == 16)
        _mm512_storeu_ps(to, x);
    else
        _mm512_mask_storeu_ps(to, 0xff, x);
}
INLINE v16 v_add(v16 x, v16 y) {
    return _mm512_add_ps(x, y);
}
INLINE v16 v_sub(v16 x, v16 y) {
    return _mm512_sub_ps(x, y);
}
INLINE v16 v_mul(v16 x, v16 y) {
    return _mm512_mul_ps(x, y);
}
INLINE v16 v_div(v16 x, v16 y) {
    return _mm512_div_ps(x, y);
}
INLINE v16 v_min(v16 x, v16 y) {
    return _mm512_min_ps(x, y);
}
INLINE v16 v_max(v16 x, v16 y) {
    return _mm512_max_ps(x, y);
}
INLINE v16 v_abs(v16 x) {
    return _mm512_abs_ps(x);
}
INLINE v16 v_if_less(v16 a, v16 b, v16 x, v16 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
INLINE v16 v_max_bits(v16 x, v16 y) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(x), _mm512_castps_si512(y)));
}
INLINE bool v_any_from(v16 x, uint32_t bits) {
    return _mm512_cmpge_epu32_mask(_mm512_castps_si512(x), _mm512_set1_epi32((int)bits)) != 0;
}
INLINE float v_least(v16 x) {
    return _mm512_reduce_min_ps(x);
}
INLINE float v_greatest(v16 x) {
    return _mm512_reduce_max_ps(x);
}
INLINE float v_sum(v16 x) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE v16 v_from_f16(const void *from, int n) {
    return _mm512_cvtph_ps(n == 16 ? _mm256_loadu_si256(from) : _mm256_zextsi128_si256(_mm_loadu_si128(from)));
}
INLINE v16 v_from_bf16(const void *from, int n) {
    __m256i halves = n == 16 ? _mm256_loadu_si256(from) : _mm256_zextsi128_si256(_mm_loadu_si128(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
INLINE void store_halves(void *to, __m256i halves, int n) {
    if (n == 16)
        _mm256_storeu_si256(to, halves);
    else
        _mm_storeu_si128(to, _mm256_castsi256_si128(halves));
}
INLINE void v_to_f16(void *to, v16 x, int n) {
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-65504)), _mm512_set1_ps(65504));
    store_halves(to, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
}
INLINE void v_to_bf16(void *to, v16 x, int n) {
    __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    store_halves(to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)), n);
}

INLINE v16 v_unpack(uint32_t bits, const uint8_t *codes, const uint8_t *high, int n) {
    __m512i wide;
    if (bits == 8) {
        wide = _mm512_cvtepu8_epi32(n == 16 ? _mm_loadu_si128((const __m128i *)codes)
                                            : _mm_loadl_epi64((const __m128i *)codes));
    } else if (bits == 4) { /* the first 8 codes are in one word, the others in the next */
        __m512i words = _mm512_castsi128_si512(_mm_cvtsi64_si128((long long)load_packed(bits, codes, n)));
        words = _mm512_permutexvar_epi32(_mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0), words);
        const __m512i shifts = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
        wide = _mm512_and_si512(_mm512_srlv_epi32(words, shifts), _mm512_set1_epi32(15));
    } else {
        __m512i words = _mm512_set1_epi32((int)load_packed(bits, codes, n));
        const __m512i shifts = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        wide = _mm512_and_si512(_mm512_srlv_epi32(words, shifts), _mm512_set1_epi32(3));
        if (bits == 3) {
            uint16_t top = 0;
            memcpy(&top, high, (size_t)n / 8);
            wide = _mm512_mask_or_epi32(wide, top, wide, _mm512_set1_epi32(4));
        }
    }
    return _mm512_cvtepi32_ps(wide);
}
/* 32 codes, a byte each; what is below 0 becomes 0. */
INLINE __m256i to_bytes(v16 x, v16 y) {
    __m512i words = _mm512_packs_epi32(_mm512_cvtps_epi32(x), _mm512_cvtps_epi32(y));
    __m512i bytes = _mm512_packus_epi16(words, words); /* each 128 bits: 4 codes of x, 4 of y, and the same again */
    const __m512i order = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 13, 9, 5, 1, 12, 8, 4, 0);
    return _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, bytes));
}
INLINE void v_pack(uint32_t bits, v16 x, uint8_t *codes, uint8_t *high, int n) {
    store_packed(bits, _mm256_castsi256_si128(to_bytes(x, x)), codes, high, n);
}
INLINE void v_pack32(uint32_t bits, v16 x, v16 y, uint8_t *codes, uint8_t *high) {
    store_packed32(bits, to_bytes(x, y), codes, high);
}

typedef __m512i o32;

/* Its own inverse. */
INLINE o32 turn(o32 x) {
    return _mm512_xor_si512(x, _mm512_and_si512(_mm512_srai_epi16(x, 15), _mm512_set1_epi16(0x7fff)));
}
INLINE o32 o_read(const void *from, int n) {
    return n == 32   ? _mm512_loadu_si512(from)
           : n == 16 ? _mm512_broadcast_i64x4(_mm256_loadu_si256(from))
                     : _mm512_broadcast_i32x4(_mm_loadu_si128(from));
}
INLINE o32 o_load(const void *from, int n) {
    return turn(o_read(from, n));
}
INLINE void o_write(void *to, o32 x, int n) {
    if (n == 32)
        _mm512_storeu_si512(to, x);
    else
        store_halves(to, _mm512_castsi512_si256(x), n);
}
INLINE o32 o_min(o32 x, o32 y) {
    return _mm512_min_epi16(x, y);
}
INLINE o32 o_max(o32 x, o32 y) {
    return _mm512_max_epi16(x, y);
}
INLINE int16_t o_least(o32 x) {
    __m256i y = _mm256_min_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return least_turned(_mm_min_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)), 0x8000);
}
INLINE int16_t o_greatest(o32 x) {
    __m256i y = _mm256_max_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return least_turned(_mm_max_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)), 0x7fff);
}

typedef struct loss16 {
    __m512d errors[2], squares[2], worst[2];
} loss16;

INLINE loss16 v_loss(loss16 loss, v16 x, v16 y) {
    for (int i = 0; i < 2; i++) {
        __m512d a = _mm512_cvtps_pd(i ? _mm512_extractf32x8_ps(x, 1) : _mm512_castps512_ps256(x));
        __m512d b = _mm512_cvtps_pd(i ? _mm512_extractf32x8_ps(y, 1) : _mm512_castps512_ps256(y));
        __m512d error = _mm512_sub_pd(a, b);
        loss.errors[i] = _mm512_add_pd(loss.errors[i], _mm512_mul_pd(error, error));
        loss.squares[i] = _mm512_add_pd(loss.squares[i], _mm512_mul_pd(a, a));
        loss.worst[i] = _mm512_max_pd(loss.worst[i], _mm512_abs_pd(error));
    }
    return loss;
}

INLINE void v_loss_lanes(loss16 loss, double lanes[3][16]) {
    for (int i = 0; i < 2; i++) {
        _mm512_storeu_pd(&lanes[0][i * 8], loss.errors[i]);
        _mm512_storeu_pd(&lanes[1][i * 8], loss.squares[i]);
        _mm512_storeu_pd(&lanes[2][i * 8], loss.worst[i]);
    }
}

#include "body.h"

const kernel_table kernels_avx512 = {"avx512", magnitudes, choose, quantize, dequantize, compare};
