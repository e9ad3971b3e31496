/* The reference: plain C that defines what every faster level must return. */
#include "kernels.h"
#include "numbers.h"

#include <math.h>

enum { LANES = 16 };

/* Bits of 2^126. Below it, max - min of two values cannot overflow. */
static const uint32_t too_large = 0x7e800000u;

static float add_lanes(float *lanes) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            lanes[j] += lanes[j + width];
    return lanes[0];
}

static void magnitudes(const kernel_chunk *chunk, const void *rows, float *sums, float *squares) {
    size_t n = (size_t)chunk->rows * chunk->heads;
    for (size_t i = 0; i < n; i++) {
        float sum[LANES] = {0}, square[LANES] = {0};
        bool exact = false;
        for (uint32_t c = 0; c < chunk->head_dim; c++) {
            uint32_t bits = bits_of(load_element(chunk->type, rows, i * chunk->head_dim + c)) & 0x7fffffffu;
            exact |= bits >= too_large;
            sum[c % LANES] += float_of(bits);
            square[c % LANES] += float_of(bits) * float_of(bits);
        }
        sums[i] = exact ? INFINITY : add_lanes(sum);
        if (squares)
            squares[i] = exact ? INFINITY : add_lanes(square);
    }
}

/* Stores scale and minimum of a group that spans [low, high] and returns what codes are made with: the numbers as they
 * were stored, and 1 / scale, 0 for a group without a usable scale (constant, or empty: low > high). */
typedef struct range {
    float minimum, inverse;
} range;

static range store_range(const kernel_chunk *chunk, const kernel_codes *out, size_t at, float low, float high) {
    float levels = (float)((1u << chunk->bits) - 1u);
    float span = low > high ? 0.0f : high - low;
    float margin = (1.0f - chunk->share) * 0.5f;
    float minimum = low > high ? 0.0f : low + span * margin;
    store_element(chunk->type, out->scales, at, span * chunk->share / levels);
    store_element(chunk->type, out->minima, at, minimum);
    float scale = load_element(chunk->type, out->scales, at);
    minimum = load_element(chunk->type, out->minima, at) + 0.0f; /* makes -0 into 0 */
    store_element(chunk->type, out->minima, at, minimum);
    if (scale < 0x1p-126f) { /* 1 / scale could overflow */
        store_element(chunk->type, out->scales, at, 0.0f);
        return (range){minimum, 0.0f};
    }
    return (range){minimum, 1.0f / scale};
}

static void put_code(const kernel_chunk *chunk, const kernel_codes *out, size_t row, size_t channel, uint32_t code) {
    uint8_t *codes = out->codes + row * out->row_code_bytes;
    uint32_t bits = chunk->bits == 3 ? 2 : chunk->bits;
    size_t at = channel * bits;
    codes[at / 8] |= (uint8_t)((code & ((1u << bits) - 1u)) << at % 8);
    if (chunk->bits == 3)
        out->high[row * out->row_high_bytes + channel / 8] |= (uint8_t)(code >> 2 << channel % 8);
}

static uint32_t get_code(const kernel_chunk *chunk, const kernel_codes *in, size_t row, size_t channel) {
    const uint8_t *codes = in->codes + row * in->row_code_bytes;
    uint32_t bits = chunk->bits == 3 ? 2 : chunk->bits;
    size_t at = channel * bits;
    uint32_t code = codes[at / 8] >> at % 8 & ((1u << bits) - 1u);
    if (chunk->bits == 3)
        code |= (in->high[row * in->row_high_bytes + channel / 8] >> channel % 8 & 1u) << 2;
    return code;
}

static uint32_t code_of(const kernel_chunk *chunk, range range, float value) {
    float code = rintf((value - range.minimum) * range.inverse), top = (float)((1u << chunk->bits) - 1u);
    return (uint32_t)(code < 0.0f ? 0.0f : code > top ? top : code);
}

static void quantize_keys(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out) {
    uint32_t channels = chunk->heads * chunk->head_dim;
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = chunk->rows - first < chunk->group ? chunk->rows : first + chunk->group;
        for (uint32_t c = 0; c < channels; c++) {
            const uint8_t *skip = exact + c / chunk->head_dim;
            float low = INFINITY, high = -INFINITY;
            for (uint32_t r = first; r < last; r++) {
                if (skip[(size_t)r * chunk->heads])
                    continue;
                float value = load_element(chunk->type, rows, (size_t)r * channels + c);
                low = value < low ? value : low;
                high = value > high ? value : high;
            }
            range range = store_range(chunk, out, (size_t)g * channels + c, low, high);
            for (uint32_t r = first; r < last; r++) {
                if (!skip[(size_t)r * chunk->heads])
                    put_code(chunk, out, r, c,
                             code_of(chunk, range, load_element(chunk->type, rows, (size_t)r * channels + c)));
            }
        }
    }
}

static void quantize_values(const kernel_chunk *chunk, const void *rows, const uint8_t *exact,
                            const kernel_codes *out) {
    uint32_t groups = (chunk->head_dim + chunk->group - 1) / chunk->group;
    size_t at = 0;
    for (uint32_t r = 0; r < chunk->rows; r++) {
        for (uint32_t h = 0; h < chunk->heads; h++) {
            bool skip = exact[(size_t)r * chunk->heads + h];
            for (uint32_t g = 0; g < groups; g++, at++) {
                uint32_t first = h * chunk->head_dim + g * chunk->group, end = (h + 1) * chunk->head_dim;
                uint32_t last = end - first < chunk->group ? end : first + chunk->group;
                size_t row = (size_t)r * chunk->heads * chunk->head_dim;
                float low = INFINITY, high = -INFINITY;
                for (uint32_t c = first; c < last && !skip; c++) {
                    float value = load_element(chunk->type, rows, row + c);
                    low = value < low ? value : low;
                    high = value > high ? value : high;
                }
                range range = store_range(chunk, out, at, low, high);
                for (uint32_t c = first; c < last && !skip; c++)
                    put_code(chunk, out, r, c, code_of(chunk, range, load_element(chunk->type, rows, row + c)));
            }
        }
    }
}

static void quantize(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out) {
    memset(out->codes, 0, chunk->rows * out->row_code_bytes);
    if (chunk->bits == 3)
        memset(out->high, 0, chunk->rows * out->row_high_bytes);
    if (chunk->keys)
        quantize_keys(chunk, rows, exact, out);
    else
        quantize_values(chunk, rows, exact, out);
}

static void dequantize(const kernel_chunk *chunk, const kernel_codes *in, void *rows) {
    uint32_t channels = chunk->heads * chunk->head_dim;
    uint32_t head_groups = (chunk->head_dim + chunk->group - 1) / chunk->group;
    for (uint32_t r = 0; r < chunk->rows; r++) {
        for (uint32_t c = 0; c < channels; c++) {
            size_t at = chunk->keys ? (size_t)(r / chunk->group) * channels + c
                                    : ((size_t)r * chunk->heads + c / chunk->head_dim) * head_groups +
                                          c % chunk->head_dim / chunk->group;
            float scale = load_element(chunk->type, in->scales, at);
            float minimum = load_element(chunk->type, in->minima, at);
            float product = (float)get_code(chunk, in, r, c) * scale;
            store_element(chunk->type, rows, (size_t)r * channels + c, product + minimum);
        }
    }
}

const kernel_table *kernels(void) {
    static const kernel_table scalar = {magnitudes, quantize, dequantize};
    return &scalar;
}

void kernel_to_f32(kernel_type type, const void *elements, size_t n, float *out) {
    for (size_t i = 0; i < n; i++)
        out[i] = load_element(type, elements, i);
}
