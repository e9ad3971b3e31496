/* What the AVX levels share: codes to bytes and back. */
#ifndef KVOT_X86_H
#define KVOT_X86_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Stores 16 codes (or the first 8), a byte each, with `bits` bits each, lowest first. Bytes above the largest code
 * count as that. */
static inline __attribute__((always_inline)) void store_packed(uint32_t bits, __m128i bytes, uint8_t *codes,
                                                               uint8_t *high, int n) {
    bytes = _mm_min_epu8(bytes, _mm_set1_epi8((char)((1 << bits) - 1)));
    __m128i packed = bytes;
    if (bits == 3) {
        int top = _mm_movemask_epi8(_mm_slli_epi16(bytes, 5));
        memcpy(high, &top, (size_t)n / 8);
        packed = _mm_and_si128(bytes, _mm_set1_epi8(3));
    }
    if (bits == 4) { /* two neighbours in 16 bits, then in a byte */
        packed = _mm_maddubs_epi16(packed, _mm_set1_epi16(0x1001));
        packed = _mm_packus_epi16(packed, packed);
    } else if (bits < 4) { /* four neighbours in 32 bits */
        packed = _mm_maddubs_epi16(packed, _mm_set1_epi16(0x0401));
        packed = _mm_madd_epi16(packed, _mm_set1_epi32(0x00100001));
        packed = _mm_shuffle_epi8(packed, _mm_set1_epi32(0x0c080400));
    }
    if (bits == 8 && n == 16) {
        _mm_storeu_si128((__m128i *)codes, packed);
    } else {
        uint64_t low = (uint64_t)_mm_cvtsi128_si64(packed);
        memcpy(codes, &low, (size_t)n * (bits == 3 ? 2 : bits) / 8);
    }
}

/* Stores 32 codes. */
static inline __attribute__((always_inline)) void store_packed32(uint32_t bits, __m256i bytes, uint8_t *codes,
                                                                 uint8_t *high) {
    if (bits == 8) {
        _mm256_storeu_si256((__m256i *)codes, bytes);
        return;
    }
    bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8((char)((1 << bits) - 1)));
    __m256i packed = bytes;
    if (bits == 3) {
        int top = _mm256_movemask_epi8(_mm256_slli_epi16(bytes, 5));
        memcpy(high, &top, sizeof top);
        packed = _mm256_and_si256(bytes, _mm256_set1_epi8(3));
    }
    if (bits == 4) {
        packed = _mm256_maddubs_epi16(packed, _mm256_set1_epi16(0x1001));
        packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(packed, packed), 0x08);
        _mm_storeu_si128((__m128i *)codes, _mm256_castsi256_si128(packed));
    } else {
        packed = _mm256_maddubs_epi16(packed, _mm256_set1_epi16(0x0401));
        packed = _mm256_madd_epi16(packed, _mm256_set1_epi32(0x00100001));
        packed = _mm256_shuffle_epi8(packed, _mm256_set1_epi32(0x0c080400));
        packed = _mm256_permutevar8x32_epi32(packed, _mm256_set_epi32(0, 0, 0, 0, 0, 0, 4, 0));
        _mm_storel_epi64((__m128i *)codes, _mm256_castsi256_si128(packed));
    }
}

/* The bytes of 16 codes (or 8) of at most 4 bits, without the high part of 3 bits. */
static inline __attribute__((always_inline)) uint64_t load_packed(uint32_t bits, const uint8_t *codes, int n) {
    uint64_t packed = 0;
    memcpy(&packed, codes, (size_t)n * (bits == 3 ? 2 : bits) / 8);
    return packed;
}

/* The least of 8 integers that are ordered with a sign (`turned` 0x8000), or the greatest (0x7fff). */
static inline __attribute__((always_inline)) int16_t least_turned(__m128i ordered, int turned) {
    __m128i turn = _mm_set1_epi16((short)turned); /* to be ordered without a sign, and upside down for the greatest */
    __m128i least = _mm_xor_si128(_mm_minpos_epu16(_mm_xor_si128(ordered, turn)), turn);
    return (int16_t)_mm_extract_epi16(least, 0);
}

#endif
