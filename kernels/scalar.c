/* The reference: plain C that defines what every faster level must return. */
#include "levels.h"
#include "numbers.h"

#include <math.h>
#include <stdlib.h>

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
            exact |= bits >= KERNEL_TOO_LARGE;
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

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static float median(const float *values, uint32_t n) {
    float sorted[KERNEL_MAX_ROWS];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return sorted[(n - 1) / 2];
}

/* Marks the KERNEL_MOST_CHOSEN smallest of `values`; infinity is not taken. */
static void mark_smallest(const float *values, uint32_t n, uint32_t heads, uint8_t *exact) {
    for (int taken = 0; taken < KERNEL_MOST_CHOSEN; taken++) {
        uint32_t least = n;
        for (uint32_t r = 0; r < n; r++)
            if (!exact[(size_t)r * heads] && values[r] < INFINITY && (least == n || values[r] < values[least]))
                least = r;
        if (least < n)
            exact[(size_t)least * heads] = 1;
    }
}

static void choose(const kernel_sizes *sizes, uint8_t *exact) {
    float magnitudes[KERNEL_MAX_ROWS], squares[KERNEL_MAX_ROWS];
    memset(exact, 0, (size_t)sizes->rows * sizes->heads);
    for (uint32_t h = 0; h < sizes->heads; h++) {
        for (uint32_t r = 0; r < sizes->rows; r++) {
            size_t i = (size_t)r * sizes->heads + h;
            magnitudes[r] = sizes->keys[i] * (sizes->values && !sizes->start ? sizes->values[i] : 1.0f);
            if (!(magnitudes[r] < INFINITY)) /* infinity times 0 is NaN */
                magnitudes[r] = INFINITY;
            squares[r] = sizes->key_squares[i];
        }
        if (!sizes->start) {
            float product_limit = KERNEL_PRODUCT_SHARE * median(magnitudes, sizes->rows);
            float square_limit = KERNEL_SQUARE_SHARE * median(squares, sizes->rows);
            for (uint32_t r = 0; r < sizes->rows; r++)
                if (!(magnitudes[r] < product_limit && squares[r] >= square_limit))
                    magnitudes[r] = INFINITY;
        }
        mark_smallest(magnitudes, sizes->rows, sizes->heads, exact + h);
    }
}

static void compare(kernel_type type, const void *original, const void *other, size_t n, kernel_loss *loss) {
    double errors[LANES] = {0}, squares[LANES] = {0}, worst = 0;
    for (size_t i = 0; i < n; i++) {
        float x = load_element(type, original, i), y = load_element(type, other, i);
        if (!isfinite(x) || !isfinite(y)) {
            if (bits_of(x) != bits_of(y))
                worst = INFINITY;
            continue;
        }
        double error = fabs((double)x - y);
        errors[i % LANES] += error * error;
        squares[i % LANES] += (double)x * x;
        worst = error > worst ? error : worst;
    }
    *loss = (kernel_loss){kernel_add_lanes(errors), kernel_add_lanes(squares), worst};
}

const kernel_table kernels_scalar = {"scalar", magnitudes, choose, quantize, dequantize, compare};
