/* AVX2 and F16C: 16 numbers in two registers. */
#include "x86.h"

typedef struct v16 {
    __m256 low, high; /* lanes 0 to 7, 8 to 15 */
} v16;

#define INLINE static inline __attribute__((always_inline))

/* f on both registers. */
#define BOTH(f, x)     ((v16){f((x).low), f((x).high)})
#define BOTH2(f, x, y) ((v16){f((x).low, (y).low), f((x).high, (y).high)})

INLINE v16 v_set(float x) {
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INLINE v16 v_load(const void *from, int n) {
    const float *numbers = from;
    return (v16){_mm256_loadu_ps(numbers), n == 16 ? _mm256_loadu_ps(numbers + 8) : _mm256_setzero_ps()};
}
INLINE void v_store(void *to, v16 x, int n) {
    float *numbers = to;
    _mm256_storeu_ps(numbers, x.low);
    if (n == 16)
        _mm256_storeu_ps(numbers + 8, x.high);
}
INLINE v16 v_add(v16 x, v16 y) {
    return BOTH2(_mm256_add_ps, x, y);
}
INLINE v16 v_sub(v16 x, v16 y) {
    return BOTH2(_mm256_sub_ps, x, y);
}
INLINE v16 v_mul(v16 x, v16 y) {
    return BOTH2(_mm256_mul_ps, x, y);
}
INLINE v16 v_div(v16 x, v16 y) {
    return BOTH2(_mm256_div_ps, x, y);
}
INLINE v16 v_min(v16 x, v16 y) {
    return BOTH2(_mm256_min_ps, x, y);
}
INLINE v16 v_max(v16 x, v16 y) {
    return BOTH2(_mm256_max_ps, x, y);
}
INLINE __m256 abs8(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
INLINE v16 v_abs(v16 x) {
    return BOTH(abs8, x);
}
INLINE v16 v_if_less(v16 a, v16 b, v16 x, v16 y) {
    return (v16){_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
                 _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
INLINE __m256 max_bits8(__m256 x, __m256 y) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(x), _mm256_castps_si256(y)));
}
INLINE v16 v_max_bits(v16 x, v16 y) {
    return BOTH2(max_bits8, x, y);
}
INLINE bool v_any_from(v16 x, uint32_t bits) { /* both are positive integers */
    __m256i below = _mm256_set1_epi32((int)bits - 1), most = _mm256_castps_si256(max_bits8(x.low, x.high));
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(most, below)) != 0;
}
/* Lanes 0 to 3 with 4 to 7, then in steps of 2 and 1. */
#define REDUCE8(f, f1, x)                                                                                              \
    __m128 four = f(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));                                           \
    __m128 two = f(four, _mm_movehl_ps(four, four));                                                                   \
    return _mm_cvtss_f32(f1(two, _mm_movehdup_ps(two)))
INLINE float v_least(v16 x) {
    __m256 eight = _mm256_min_ps(x.low, x.high);
    REDUCE8(_mm_min_ps, _mm_min_ss, eight);
}
INLINE float v_greatest(v16 x) {
    __m256 eight = _mm256_max_ps(x.low, x.high);
    REDUCE8(_mm_max_ps, _mm_max_ss, eight);
}
INLINE float v_sum(v16 x) {
    __m256 eight = _mm256_add_ps(x.low, x.high);
    REDUCE8(_mm_add_ps, _mm_add_ss, eight);
}

INLINE v16 v_from_f16(const void *from, int n) {
    const __m128i *halves = from;
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(halves)),
                 n == 16 ? _mm256_cvtph_ps(_mm_loadu_si128(halves + 1)) : _mm256_setzero_ps()};
}
INLINE __m256 from_bf16(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
INLINE v16 v_from_bf16(const void *from, int n) {
    const __m128i *halves = from;
    return (v16){from_bf16(_mm_loadu_si128(halves)),
                 n == 16 ? from_bf16(_mm_loadu_si128(halves + 1)) : _mm256_setzero_ps()};
}
INLINE __m128i to_f16(__m256 x) {
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-65504)), _mm256_set1_ps(65504));
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE void v_to_f16(void *to, v16 x, int n) {
    __m128i *halves = to;
    _mm_storeu_si128(halves, to_f16(x.low));
    if (n == 16)
        _mm_storeu_si128(halves + 1, to_f16(x.high));
}
INLINE __m256i rounded_to_bf16(__m256 x) {
    __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    return _mm256_srli_epi32(bits, 16);
}
/* Packing works in the two 128-bit halves of a register apart: puts them in order. */
INLINE __m256i in_order(__m256i packed) {
    return _mm256_permute4x64_epi64(packed, 0xd8);
}
INLINE void v_to_bf16(void *to, v16 x, int n) {
    __m256i halves = in_order(_mm256_packus_epi32(rounded_to_bf16(x.low), rounded_to_bf16(x.high)));
    if (n == 16)
        _mm256_storeu_si256(to, halves);
    else
        _mm_storeu_si128(to, _mm256_castsi256_si128(halves));
}

INLINE v16 v_unpack(uint32_t bits, const uint8_t *codes, const uint8_t *high, int n) {
    __m256i low8, high8;
    const __m256i ramp = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    if (bits == 8) {
        low8 = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)codes));
        high8 = n == 16 ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + 8))) : low8;
    } else if (bits == 4) { /* each word has 8 codes: shift each to the bottom of its lane */
        int32_t first, second = 0;
        memcpy(&first, codes, sizeof first);
        if (n == 16)
            memcpy(&second, codes + sizeof first, sizeof second);
        const __m256i shifts = _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0), mask = _mm256_set1_epi32(15);
        low8 = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(first), shifts), mask);
        high8 = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(second), shifts), mask);
    } else {
        __m256i word = _mm256_set1_epi32((int)load_packed(bits, codes, n)), mask = _mm256_set1_epi32(3);
        low8 = _mm256_and_si256(_mm256_srlv_epi32(word, _mm256_set_epi32(14, 12, 10, 8, 6, 4, 2, 0)), mask);
        high8 = _mm256_and_si256(_mm256_srlv_epi32(word, _mm256_set_epi32(30, 28, 26, 24, 22, 20, 18, 16)), mask);
    }
    if (bits == 3) {
        uint16_t top = 0;
        memcpy(&top, high, (size_t)n / 8);
        __m256i four = _mm256_set1_epi32(4), up = _mm256_set1_epi32(top << 2);
        low8 = _mm256_or_si256(low8, _mm256_and_si256(_mm256_srlv_epi32(up, ramp), four));
        up = _mm256_set1_epi32(top >> 6);
        high8 = _mm256_or_si256(high8, _mm256_and_si256(_mm256_srlv_epi32(up, ramp), four));
    }
    return (v16){_mm256_cvtepi32_ps(low8), _mm256_cvtepi32_ps(high8)};
}
/* 16 codes as words; what is below 0 stays so. The second and third run of 4 are exchanged. */
INLINE __m256i to_words(v16 x) {
    return _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high));
}
INLINE void v_pack(uint32_t bits, v16 x, uint8_t *codes, uint8_t *high, int n) {
    __m256i words = in_order(to_words(x));
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    store_packed(bits, bytes, codes, high, n);
}
INLINE void v_pack32(uint32_t bits, v16 x, v16 y, uint8_t *codes, uint8_t *high) {
    __m256i bytes = _mm256_packus_epi16(to_words(x), to_words(y));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
    store_packed32(bits, bytes, codes, high);
}

typedef struct o32 {
    __m256i low, high;
} o32;

#define BOTH_O(f, x, y) ((o32){f((x).low, (y).low), f((x).high, (y).high)})

/* Its own inverse. */
INLINE __m256i turn(__m256i x) {
    return _mm256_xor_si256(x, _mm256_srli_epi16(_mm256_srai_epi16(x, 15), 1));
}
INLINE o32 o_read(const void *from, int n) {
    const __m256i *runs = from;
    __m256i first = n >= 16 ? _mm256_loadu_si256(runs) : _mm256_broadcastsi128_si256(_mm_loadu_si128(from));
    return (o32){first, n == 32 ? _mm256_loadu_si256(runs + 1) : first};
}
INLINE o32 o_load(const void *from, int n) {
    o32 x = o_read(from, n);
    x.low = turn(x.low);
    x.high = n == 32 ? turn(x.high) : x.low;
    return x;
}
INLINE void o_write(void *to, o32 x, int n) {
    if (n == 8)
        _mm_storeu_si128(to, _mm256_castsi256_si128(x.low));
    else
        _mm256_storeu_si256(to, x.low);
    if (n == 32)
        _mm256_storeu_si256((__m256i *)to + 1, x.high);
}
INLINE o32 o_min(o32 x, o32 y) {
    return BOTH_O(_mm256_min_epi16, x, y);
}
INLINE o32 o_max(o32 x, o32 y) {
    return BOTH_O(_mm256_max_epi16, x, y);
}
INLINE int16_t o_least(o32 x) {
    __m256i y = _mm256_min_epi16(x.low, x.high);
    return least_turned(_mm_min_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)), 0x8000);
}
INLINE int16_t o_greatest(o32 x) {
    __m256i y = _mm256_max_epi16(x.low, x.high);
    return least_turned(_mm_max_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)), 0x7fff);
}

typedef struct loss16 {
    __m256d errors[4], squares[4], worst[4];
} loss16;

INLINE loss16 v_loss(loss16 loss, v16 x, v16 y) {
    for (int i = 0; i < 4; i++) {
        __m256 from = i < 2 ? x.low : x.high, to = i < 2 ? y.low : y.high;
        __m256d a = _mm256_cvtps_pd(i % 2 ? _mm256_extractf128_ps(from, 1) : _mm256_castps256_ps128(from));
        __m256d b = _mm256_cvtps_pd(i % 2 ? _mm256_extractf128_ps(to, 1) : _mm256_castps256_ps128(to));
        __m256d error = _mm256_sub_pd(a, b);
        loss.errors[i] = _mm256_add_pd(loss.errors[i], _mm256_mul_pd(error, error));
        loss.squares[i] = _mm256_add_pd(loss.squares[i], _mm256_mul_pd(a, a));
        loss.worst[i] = _mm256_max_pd(loss.worst[i], _mm256_andnot_pd(_mm256_set1_pd(-0.0), error));
    }
    return loss;
}

INLINE void v_loss_lanes(loss16 loss, double lanes[3][16]) {
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_pd(&lanes[0][i * 4], loss.errors[i]);
        _mm256_storeu_pd(&lanes[1][i * 4], loss.squares[i]);
        _mm256_storeu_pd(&lanes[2][i * 4], loss.worst[i]);
    }
}

#include "body.h"

const kernel_table kernels_avx2 = {"avx2", magnitudes, choose, quantize, dequantize, compare};
