#include "numbers.h"
#include "unit.h"

#include "../../kernels/kernels.h"
#include "../../kernels/numbers.h"

#include <math.h>
#include <stdlib.h>

static void halves_come_back(void) {
    for (uint32_t half = 0; half < 0x10000; half++) {
        float value = f16_to_f32((uint16_t)half);
        if ((half & 0x7c00) == 0x7c00)
            continue; /* infinity and NaN: only decoded */
        CU_ASSERT_EQUAL_FATAL(f32_to_f16(value), half);
    }
    CU_ASSERT_TRUE(isinf(f16_to_f32(0x7c00)) && isnan(f16_to_f32(0x7e00)));
}

static void halves_round_to_even_and_saturate(void) {
    CU_ASSERT_EQUAL(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);            /* half way, to even */
    CU_ASSERT_EQUAL(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);        /* half way, to even */
    CU_ASSERT_EQUAL(f32_to_f16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01); /* above */
    CU_ASSERT_EQUAL(f32_to_f16(0x1p-25f), 0);                        /* half of the least denormal, to even */
    CU_ASSERT_EQUAL(f32_to_f16(0x1.8p-25f), 1);
    CU_ASSERT_EQUAL(f32_to_f16(1e30f), 0x7bff);
    CU_ASSERT_EQUAL(f32_to_f16(-INFINITY), 0xfbff);
    CU_ASSERT_EQUAL(f32_to_bf16(float_of(0x3f808000u)), 0x3f80);
    CU_ASSERT_EQUAL(f32_to_bf16(float_of(0x3f818000u)), 0x3f82);
}

enum { ALL_HALVES = 0x10000 };

static bool is_nearest(half_kind kind, uint16_t half, double value) {
    return isnan(value) ? half_is_nan(kind, half) : half == half_nearest(kind, value);
}

/* Every half to single precision, to the other kind, and back. */
static void halves_convert(kernel_type type, half_kind kind, kernel_type other, half_kind other_kind) {
    static uint16_t halves[ALL_HALVES], others[ALL_HALVES], back[ALL_HALVES];
    static float floats[ALL_HALVES];
    size_t wrong = 0;
    for (size_t i = 0; i < ALL_HALVES; i++)
        halves[i] = (uint16_t)i;
    kernel_convert(type, halves, KERNEL_F32, floats, ALL_HALVES);
    kernel_convert(type, halves, other, others, ALL_HALVES);
    kernel_convert(KERNEL_F32, floats, type, back, ALL_HALVES);
    for (size_t i = 0; i < ALL_HALVES; i++) {
        double value = half_value(kind, halves[i]);
        wrong += isnan(value) ? !isnan(floats[i]) : bits_of(floats[i]) != bits_of((float)value);
        wrong += !is_nearest(other_kind, others[i], value);
        wrong += isnan(value) ? !half_is_nan(kind, back[i]) : back[i] != halves[i];
    }
    CU_ASSERT_EQUAL(wrong, 0);
    kernel_convert(type, halves, type, back, ALL_HALVES);
    CU_ASSERT_EQUAL(memcmp(back, halves, sizeof halves), 0);
}

/* Each kind of rounding that bits below a half's last may ask for: none, to the nearest from both sides, to the even
 * one; with every sign, exponent and fraction of a half above them. */
static void singles_convert(kernel_type type, half_kind kind) {
    static const uint32_t below[] = {0, 1, 0xfff, 0x1000, 0x1001, 0x1fff};
    static float floats[ALL_HALVES];
    static uint16_t halves[ALL_HALVES];
    size_t wrong = 0;
    for (uint32_t part = 0; part < 8 * sizeof below / sizeof *below; part++) {
        for (uint32_t i = 0; i < ALL_HALVES; i++)
            floats[i] = float_of(i << 16 | part % 8 << 13 | below[part / 8]);
        kernel_convert(KERNEL_F32, floats, type, halves, ALL_HALVES);
        for (uint32_t i = 0; i < ALL_HALVES; i++)
            wrong += !is_nearest(kind, halves[i], (double)floats[i]);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void conversions_are_to_the_nearest(void) {
    halves_convert(KERNEL_F16, HALF_F16, KERNEL_BF16, HALF_BF16);
    halves_convert(KERNEL_BF16, HALF_BF16, KERNEL_F16, HALF_F16);
    singles_convert(KERNEL_F16, HALF_F16);
    singles_convert(KERNEL_BF16, HALF_BF16);
}

static void magnitude_of_known_rows(void) {
    float rows[2][20];
    for (int i = 0; i < 20; i++) {
        rows[0][i] = i % 2 ? -1.0f : 2.0f;
        rows[1][i] = 1.0f;
    }
    rows[1][7] = NAN;
    float out[2], squares[2];
    kernel_chunk chunk = {.type = KERNEL_F32, .rows = 2, .heads = 1, .head_dim = 20};
    kernels()->magnitudes(&chunk, rows, out, squares);
    CU_ASSERT_EQUAL(out[0], 30.0f);
    CU_ASSERT_EQUAL(squares[0], 50.0f);
    CU_ASSERT_TRUE(isinf(out[1]) && isinf(squares[1]));
}

static void rows_chosen(bool start, const float *keys, const float *squares, const float *values,
                        const char *expected) {
    uint8_t exact[8];
    kernels()->choose(&(kernel_sizes){8, 1, start, keys, squares, values}, exact);
    for (int r = 0; r < 8; r++)
        CU_ASSERT_EQUAL(exact[r], expected[r] == 'x');
}

static void outliers_are_chosen_inside_a_chunk(void) {
    static const float even[8] = {9, 9, 9, 9, 9, 9, 9, 9}, ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const float keys[8] = {8, 1, 9, 2, 9, 9, INFINITY, 1}, values[8] = {9, .5f, 9, 9, 1, 1, .1f, 9};
    rows_chosen(true, even, ones, ones, "xx......");    /* of equal rows the first */
    rows_chosen(true, keys, ones, values, ".x.....x");  /* the smallest |K|, V does not matter */
    rows_chosen(false, even, ones, ones, "........");   /* nothing stands out */
    rows_chosen(false, even, ones, values, "......x."); /* a short value: 0.9, of a median of 9 */
    rows_chosen(false, keys, ones, ones, ".x.....x");   /* short keys: 1 of a median of 8 */
    static const float short_keys[8] = {1, .1f, 1, 1, 1, 1, 1, 1};
    rows_chosen(false, keys, short_keys, ones, ".......x"); /* but not where K^2 is small too */
    rows_chosen(false, even, ones, NULL, "........");
}

enum { ROWS = 100, HEADS = 3, HEAD_DIM = 40, CHANNELS = HEADS * HEAD_DIM };

/* Quantizes pseudo-random f32 rows; returns the largest error in units of the group's scale. */
static double worst_error(uint32_t bits, uint32_t group, bool keys, const uint8_t *exact) {
    static float rows[ROWS][CHANNELS], back[ROWS][CHANNELS], scales[ROWS * CHANNELS], minima[ROWS * CHANNELS];
    static uint8_t codes[ROWS * CHANNELS], high[ROWS * CHANNELS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < CHANNELS; c++)
            rows[r][c] = ((float)(unit_random() % 20001) - 10000) / 1000;
    kernel_chunk chunk = {KERNEL_F32, ROWS, HEADS, HEAD_DIM, group, bits, keys, 1};
    uint32_t low = bits == 3 ? 2 : bits;
    kernel_codes out = {scales, minima, codes, high, (CHANNELS * low + 7) / 8, (CHANNELS + 7) / 8};
    kernels()->quantize(&chunk, rows, exact, &out);
    kernels()->dequantize(&chunk, &out, back);
    double worst = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < CHANNELS; c++) {
            uint32_t at = keys ? (uint32_t)r / group * CHANNELS + (uint32_t)c
                               : ((uint32_t)r * HEADS + (uint32_t)c / HEAD_DIM) * ((HEAD_DIM + group - 1) / group) +
                                     (uint32_t)c % HEAD_DIM / group;
            if (exact[r * HEADS + c / HEAD_DIM] == 0 && scales[at] > 0)
                worst = fmax(worst, fabs((double)rows[r][c] - back[r][c]) / scales[at]);
        }
    }
    return worst;
}

static void codes_are_within_half_a_step(void) {
    static uint8_t exact[ROWS * HEADS];
    static const uint32_t all_bits[] = {2, 3, 4, 8}, groups[] = {32, 64, 128};
    for (int variant = 0; variant < 2; variant++) {
        for (int i = 0; i < ROWS * HEADS; i++)
            exact[i] = variant && i % 7 == 0;
        for (int b = 0; b < 4; b++)
            for (int g = 0; g < 3; g++)
                for (int keys = 0; keys < 2; keys++)
                    CU_ASSERT_TRUE(worst_error(all_bits[b], groups[g], keys, exact) < 0.5001);
    }
}

/* An outlier in a group must change nothing for the others. */
static void exact_rows_take_no_part(void) {
    float rows[32], other[32], scale[2], minimum[2];
    uint8_t exact[32] = {[5] = 1}, codes[2][32];
    for (int i = 0; i < 32; i++)
        rows[i] = other[i] = (float)i;
    other[5] = 1e20f;
    kernel_chunk chunk = {KERNEL_F32, 32, 1, 1, 32, 8, true, 1};
    kernels()->quantize(&chunk, rows, exact, &(kernel_codes){&scale[0], &minimum[0], codes[0], NULL, 1, 0});
    kernels()->quantize(&chunk, other, exact, &(kernel_codes){&scale[1], &minimum[1], codes[1], NULL, 1, 0});
    CU_ASSERT_EQUAL(memcmp(codes[0], codes[1], 32), 0);
    CU_ASSERT_EQUAL(scale[0], scale[1]);
    CU_ASSERT_EQUAL(scale[0], 31.0f / 255);
    CU_ASSERT_EQUAL(codes[0][5], 0);
}

/* Codes span the middle share; what lies outside gets the nearest code. */
static void a_share_of_the_range_is_kept(void) {
    float rows[32], back[32], scale, minimum;
    uint8_t exact[32] = {0}, codes[32];
    for (int i = 0; i < 32; i++)
        rows[i] = (float)i;
    kernel_chunk chunk = {KERNEL_F32, 32, 1, 1, 32, 2, true, 0.75f};
    kernel_codes out = {&scale, &minimum, codes, NULL, 1, 0};
    kernels()->quantize(&chunk, rows, exact, &out);
    CU_ASSERT_EQUAL(scale, 31 * 0.75f / 3);
    CU_ASSERT_EQUAL(minimum, 31 * 0.125f);
    kernels()->dequantize(&chunk, &out, back);
    CU_ASSERT_EQUAL(back[0], minimum);
    CU_ASSERT_DOUBLE_EQUAL(back[31], 31 * 0.875f, 1e-5);
}

static void constant_and_zero_groups_are_exact(void) {
    uint16_t rows[64], back[64], scale[2], minimum[2];
    uint8_t exact[64] = {0}, codes[64];
    for (int i = 0; i < 64; i++)
        rows[i] = i < 32 ? 0x8000 : 0xc123; /* -0, and a constant */
    kernel_chunk chunk = {KERNEL_F16, 64, 1, 1, 32, 4, true, 1};
    kernel_codes out = {scale, minimum, codes, NULL, 1, 0};
    kernels()->quantize(&chunk, rows, exact, &out);
    CU_ASSERT_EQUAL(scale[0], 0);
    CU_ASSERT_EQUAL(minimum[0], 0); /* not -0 */
    kernels()->dequantize(&chunk, &out, back);
    CU_ASSERT_EQUAL(back[0], 0);
    CU_ASSERT_EQUAL(back[40], 0xc123);
}

/* The whole range of a half: code times scale may pass 65504 by rounding, the result may not become infinite. */
static void full_range_stays_finite(void) {
    uint16_t rows[32], back[32], scale, minimum;
    uint8_t exact[32] = {0}, codes[32];
    for (int i = 0; i < 32; i++)
        rows[i] = i % 2 ? 0x7bff : 0xfbff;
    for (uint32_t bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4) {
        kernel_chunk chunk = {KERNEL_F16, 32, 1, 1, 32, bits, true, 1};
        uint8_t high[32];
        kernel_codes out = {&scale, &minimum, codes, high, 1, 1};
        kernels()->quantize(&chunk, rows, exact, &out);
        kernels()->dequantize(&chunk, &out, back);
        CU_ASSERT_EQUAL(back[0], 0xfbff);
        CU_ASSERT_TRUE(f16_to_f32(back[1]) > 65000.0f && f16_to_f32(back[1]) <= 65504.0f);
    }
}

const unit_test kernel_tests[] = {{"halves come back", halves_come_back},
                                  {"halves round to even and saturate", halves_round_to_even_and_saturate},
                                  {"conversions are to the nearest", conversions_are_to_the_nearest},
                                  {"magnitude of known rows", magnitude_of_known_rows},
                                  {"outliers are chosen inside a chunk", outliers_are_chosen_inside_a_chunk},
                                  {"codes are within half a step", codes_are_within_half_a_step},
                                  {"exact rows take no part", exact_rows_take_no_part},
                                  {"a share of the range is kept", a_share_of_the_range_is_kept},
                                  {"constant and zero groups are exact", constant_and_zero_groups_are_exact},
                                  {"the full range stays finite", full_range_stays_finite},
                                  {NULL, NULL}};
