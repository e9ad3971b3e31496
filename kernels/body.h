/* The shared body of the vector levels. A level (avx2.c, avx512.c, neon.c) defines the operations on 16 numbers that
 * are named below, includes this, and puts the functions into its table. Bytes are those of scalar.c: each operation
 * rounds as its scalar twin does, and where the order of a reduction matters it is written down (kernels.h).
 *
 *   v16                          16 single precision numbers
 *   v_set(x)  v_load(p, n)  v_store(p, x, n)                n is 16 or 8: a half leaves out lanes 8 to 15, read as 0
 *   v_add v_sub v_mul v_div v_min v_max (x, y)  v_abs(x)
 *   v_if_less(a, b, x, y)        a < b ? x : y
 *   v_max_bits(x, y)             the larger, lane by lane, of positive numbers, infinities and NaNs as integers
 *   v_sum(x)                     lanes added pairwise: j and j + 8, then + 4, + 2, + 1
 *   v_least(x) v_greatest(x) v_greatest_bits(x)             over all lanes
 *   v_from_f16(p, n) v_from_bf16(p, n) v_to_f16(p, x, n) v_to_bf16(p, x, n)
 *   v_unpack(bits, codes, high, n)                          codes as numbers
 *   v_pack(bits, x, codes, high, n)                         whole numbers from 0 to 2^bits - 1 as codes
 *   loss16                       16 lanes each of errors, squares, worst, in double precision (kernels.h, compare)
 *   v_loss(loss, x, y)           adds one of each
 *
 * Codes of 8 channels fill whole bytes, so vectors work on runs of 8 and 16 channels of one head. Odd shapes (a head
 * that is no multiple of 8 channels) are left to scalar.c: no engine has them. */
#include "levels.h"
#include "numbers.h"

#include <math.h>

enum {
    LANES = 16,
    BLOCK = 1024,  /* channels whose ranges are at hand: these arrays stay in the first-level cache */
    SWEEP = 4,     /* rows that are looked at together for a range */
    N_GROUPS = 64, /* groups of values whose ranges are worked out together */
};

/* Calls `f(..., type, bits)` with constants, so that each combination becomes code of its own. */
#define WITH_BITS(f, bits, ...)                                                                                        \
    ((bits) == 2   ? f(__VA_ARGS__, 2)                                                                                 \
     : (bits) == 3 ? f(__VA_ARGS__, 3)                                                                                 \
     : (bits) == 4 ? f(__VA_ARGS__, 4)                                                                                 \
                   : f(__VA_ARGS__, 8))
#define WITH_TYPE_AND_BITS(f, type, bits, ...)                                                                         \
    ((type) == KERNEL_F16    ? WITH_BITS(f, bits, __VA_ARGS__, KERNEL_F16)                                             \
     : (type) == KERNEL_BF16 ? WITH_BITS(f, bits, __VA_ARGS__, KERNEL_BF16)                                            \
                             : WITH_BITS(f, bits, __VA_ARGS__, KERNEL_F32))

INLINE size_t size_of(kernel_type type) {
    return type == KERNEL_F32 ? 4 : 2;
}

INLINE v16 load(kernel_type type, const void *elements, int n) {
    return type == KERNEL_F16    ? v_from_f16(elements, n)
           : type == KERNEL_BF16 ? v_from_bf16(elements, n)
                                 : v_load(elements, n);
}

INLINE void store(kernel_type type, void *elements, v16 x, int n) {
    if (type == KERNEL_F16)
        v_to_f16(elements, x, n);
    else if (type == KERNEL_BF16)
        v_to_bf16(elements, x, n);
    else
        v_store(elements, x, n);
}

/* Bits of a code outside the high part. */
INLINE uint32_t low_bits(uint32_t bits) {
    return bits == 3 ? 2 : bits;
}

INLINE uint32_t least_of(size_t a, size_t b) {
    return (uint32_t)(a < b ? a : b);
}

/* ---- magnitudes ---- */

INLINE void add_magnitudes(const uint8_t *elements, v16 *sum, v16 *square, v16 *largest, bool squares, int n,
                           kernel_type type) {
    v16 x = v_abs(load(type, elements, n));
    *largest = v_max_bits(*largest, x);
    *sum = v_add(*sum, x);
    if (squares)
        *square = v_add(*square, v_mul(x, x));
}

INLINE void magnitudes_of(const kernel_chunk *chunk, const uint8_t *rows, float *sums, float *squares,
                          kernel_type type) {
    size_t n = (size_t)chunk->rows * chunk->heads, head_bytes = chunk->head_dim * size_of(type);
    for (size_t i = 0; i < n; i++, rows += head_bytes) {
        v16 sum = v_set(0), square = v_set(0), largest = v_set(0);
        uint32_t c = 0;
        for (; c + LANES <= chunk->head_dim; c += LANES)
            add_magnitudes(rows + c * size_of(type), &sum, &square, &largest, squares != NULL, LANES, type);
        if (c < chunk->head_dim)
            add_magnitudes(rows + c * size_of(type), &sum, &square, &largest, squares != NULL, LANES / 2, type);
        bool exact = v_greatest_bits(largest) >= KERNEL_TOO_LARGE;
        sums[i] = exact ? INFINITY : v_sum(sum);
        if (squares)
            squares[i] = exact ? INFINITY : v_sum(square);
    }
}

static void magnitudes(const kernel_chunk *chunk, const void *rows, float *sums, float *squares) {
    if (chunk->head_dim % 8 != 0)
        kernels_scalar.magnitudes(chunk, rows, sums, squares);
    else if (chunk->type == KERNEL_F16)
        squares ? magnitudes_of(chunk, rows, sums, squares, KERNEL_F16)
                : magnitudes_of(chunk, rows, sums, NULL, KERNEL_F16);
    else if (chunk->type == KERNEL_BF16)
        squares ? magnitudes_of(chunk, rows, sums, squares, KERNEL_BF16)
                : magnitudes_of(chunk, rows, sums, NULL, KERNEL_BF16);
    else
        squares ? magnitudes_of(chunk, rows, sums, squares, KERNEL_F32)
                : magnitudes_of(chunk, rows, sums, NULL, KERNEL_F32);
}

/* ---- choose ---- */

/* The (n - 1) / 2-th smallest of `values`, which are not negative: such numbers are ordered as their bits are. Its bits
 * are found from the highest down: a bit is 0 if enough values are below the number that has it. `values` is padded
 * to a whole number of vectors with what is above all others. */
static float median(const uint32_t *values, uint32_t n) {
    uint32_t found = 0, rank = (n - 1) / 2;
    for (uint32_t bit = 1u << 30; bit > 0; bit >>= 1) {
        uint32_t below = 0, with = found | bit;
        for (uint32_t i = 0; i < n; i++)
            below += values[i] < with;
        if (below <= rank)
            found = with;
    }
    return float_of(found);
}

static void choose(const kernel_sizes *sizes, uint8_t *exact) {
    uint32_t products[KERNEL_MAX_ROWS], squares[KERNEL_MAX_ROWS];
    const uint32_t infinite = bits_of(INFINITY), heads = sizes->heads, n = sizes->rows;
    memset(exact, 0, (size_t)n * heads);
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t r = 0; r < n; r++) {
            size_t i = (size_t)r * heads + h;
            float product = sizes->keys[i] * (sizes->values && !sizes->start ? sizes->values[i] : 1.0f);
            products[r] = product < INFINITY ? bits_of(product) : infinite; /* infinity times 0 is NaN */
            squares[r] = bits_of(sizes->key_squares[i]);
        }
        if (!sizes->start) {
            uint32_t below = bits_of(KERNEL_PRODUCT_SHARE * median(products, n));
            uint32_t from = bits_of(KERNEL_SQUARE_SHARE * median(squares, n));
            for (uint32_t r = 0; r < n; r++)
                products[r] = products[r] < below && squares[r] >= from ? products[r] : infinite;
        }
        for (int taken = 0; taken < KERNEL_MOST_CHOSEN; taken++) {
            uint32_t least = infinite;
            for (uint32_t r = 0; r < n; r++)
                least = products[r] < least ? products[r] : least;
            for (uint32_t r = 0; r < n && least < infinite; r++) {
                if (products[r] != least)
                    continue;
                exact[(size_t)r * heads + h] = 1;
                products[r] = infinite;
                break;
            }
        }
    }
}

/* ---- quantize ---- */

/* Ranges of up to 16 groups that span [low, high]: scales and minima as they are stored go to group `at` and on; what
 * codes are made with, the minimum and 1 / scale, takes the place of low and high. As store_range in scalar.c. */
INLINE void store_ranges(const kernel_chunk *chunk, const kernel_codes *out, size_t at, float *low, float *high,
                         size_t n, kernel_type type) {
    uint8_t minima[LANES * sizeof(float)], scales[LANES * sizeof(float)];
    v16 zero = v_set(0), least = v_load(low, LANES), greatest = v_load(high, LANES);
    v16 span = v_if_less(greatest, least, zero, v_sub(greatest, least));
    v16 minimum = v_if_less(greatest, least, zero, v_add(least, v_mul(span, v_set((1.0f - chunk->share) * 0.5f))));
    v16 scale = v_div(v_mul(span, v_set(chunk->share)), v_set((float)((1u << chunk->bits) - 1u)));
    store(type, minima, minimum, LANES);
    minimum = v_add(load(type, minima, LANES), zero); /* makes -0 into 0 */
    store(type, minima, minimum, LANES);
    store(type, scales, scale, LANES);
    scale = load(type, scales, LANES);
    v16 usable = v_set(0x1p-126f); /* below, 1 / scale could overflow */
    v_store(low, minimum, LANES);
    v_store(high, v_if_less(scale, usable, zero, v_div(v_set(1), scale)), LANES);
    store(type, scales, v_if_less(scale, usable, zero, scale), LANES);
    memcpy((uint8_t *)out->minima + at * size_of(type), minima, n * size_of(type));
    memcpy((uint8_t *)out->scales + at * size_of(type), scales, n * size_of(type));
}

INLINE void store_all_ranges(const kernel_chunk *chunk, const kernel_codes *out, size_t at, float *low, float *high,
                             size_t n, kernel_type type) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store_ranges(chunk, out, at + i, low + i, high + i, LANES, type);
    if (i < n)
        store_ranges(chunk, out, at + i, low + i, high + i, n - i, type);
}

/* Where the codes of a row begin, from channel `c` on; `high` is never used if codes have no high part. */
typedef struct code_row {
    uint8_t *codes, *high;
} code_row;

INLINE code_row codes_at(const kernel_codes *codes, size_t row, size_t c, uint32_t bits) {
    return (code_row){codes->codes + row * codes->row_code_bytes + c * low_bits(bits) / 8,
                      bits == 3 ? codes->high + row * codes->row_high_bytes + c / 8 : NULL};
}

INLINE void clear_codes(code_row row, size_t n, uint32_t bits) {
    memset(row.codes, 0, n * low_bits(bits) / 8);
    if (bits == 3)
        memset(row.high, 0, n / 8);
}

INLINE void quantize_step(const uint8_t *elements, v16 minimum, v16 inverse, code_row row, size_t c, int n,
                          kernel_type type, uint32_t bits) {
    v16 code = v_mul(v_sub(load(type, elements + c * size_of(type), n), minimum), inverse);
    code = v_min(v_max(code, v_set(0)), v_set((float)((1u << bits) - 1u)));
    v_pack(bits, code, row.codes + c * low_bits(bits) / 8, bits == 3 ? row.high + c / 8 : NULL, n);
}

INLINE void widen(const uint8_t *const *rows, float *low, float *high, size_t c, int n, kernel_type type) {
    v16 least = v_load(low + c, n), greatest = v_load(high + c, n);
    for (int i = 0; i < SWEEP; i++) {
        v16 x = load(type, rows[i] + c * size_of(type), n);
        least = v_min(x, least);
        greatest = v_max(x, greatest);
    }
    v_store(low + c, least, n);
    v_store(high + c, greatest, n);
}

/* Ranges of channels [from, end), all of one head, over rows [first, last). */
INLINE void widen_head(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact, uint32_t first,
                       uint32_t last, size_t from, size_t end, float *low, float *high, kernel_type type) {
    size_t row_bytes = (size_t)chunk->heads * chunk->head_dim * size_of(type);
    for (uint32_t r = first; r < last;) {
        /* Rows that are not exact; the last is taken again to fill the sweep, which changes nothing. */
        const uint8_t *kept[SWEEP];
        int n = 0;
        for (; n < SWEEP && r < last; r++)
            if (!exact[(size_t)r * chunk->heads])
                kept[n++] = rows + r * row_bytes + from * size_of(type);
        if (n == 0)
            break;
        for (; n < SWEEP; n++)
            kept[n] = kept[n - 1];
        size_t c = 0;
        for (; c + LANES <= end - from; c += LANES)
            widen(kept, low, high, c, LANES, type);
        if (c < end - from)
            widen(kept, low, high, c, LANES / 2, type);
    }
}

INLINE int quantize_keys(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact, const kernel_codes *out,
                         kernel_type type, uint32_t bits) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    float low[BLOCK], high[BLOCK];
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = first + least_of(chunk->group, chunk->rows - first);
        for (size_t block = 0; block < channels; block += BLOCK) {
            size_t block_end = block + least_of(BLOCK, channels - block);
            for (size_t i = 0; i < BLOCK; i++) {
                low[i] = INFINITY;
                high[i] = -INFINITY;
            }
            for (size_t c = block, h = c / chunk->head_dim, end; c < block_end; c = end, h++) {
                end = least_of(block_end, (h + 1) * chunk->head_dim);
                widen_head(chunk, rows, exact + h, first, last, c, end, low + (c - block), high + (c - block), type);
            }
            store_all_ranges(chunk, out, g * channels + block, low, high, block_end - block, type);
            for (uint32_t r = first; r < last; r++) {
                for (size_t c = block, h = c / chunk->head_dim, end; c < block_end; c = end, h++) {
                    end = least_of(block_end, (h + 1) * chunk->head_dim);
                    code_row row = codes_at(out, r, c, bits);
                    if (exact[(size_t)r * chunk->heads + h]) {
                        clear_codes(row, end - c, bits);
                        continue;
                    }
                    const uint8_t *elements = rows + (r * channels + c) * size_of(type);
                    const float *minimum = low + (c - block), *inverse = high + (c - block);
                    size_t i = 0;
                    for (; i + LANES <= end - c; i += LANES)
                        quantize_step(elements, v_load(minimum + i, LANES), v_load(inverse + i, LANES), row, i, LANES,
                                      type, bits);
                    if (i < end - c)
                        quantize_step(elements, v_load(minimum + i, LANES / 2), v_load(inverse + i, LANES / 2), row, i,
                                      LANES / 2, type, bits);
                }
            }
        }
    }
    return 0;
}

/* One group of a row's V: head `h`, channels `c` to `c + n` of the row. */
typedef struct value_group {
    uint32_t row, head, inside; /* `inside` the head: the channel at which it begins */
} value_group;

INLINE value_group next_group(const kernel_chunk *chunk, value_group at) {
    at.inside += chunk->group;
    if (at.inside >= chunk->head_dim) {
        at.inside = 0;
        at.head++;
    }
    if (at.head == chunk->heads) {
        at.head = 0;
        at.row++;
    }
    return at;
}

INLINE void widen_half(const uint8_t *elements, v16 *least, v16 *greatest, kernel_type type) {
    float x[LANES]; /* the half twice: what is read as 0 must not count */
    v16 half = load(type, elements, LANES / 2);
    v_store(x, half, LANES / 2);
    v_store(x + LANES / 2, half, LANES / 2);
    v16 both = v_load(x, LANES);
    *least = v_min(both, *least);
    *greatest = v_max(both, *greatest);
}

INLINE void range_of(const uint8_t *elements, uint32_t n, float *low, float *high, kernel_type type) {
    v16 least = v_set(INFINITY), greatest = v_set(-INFINITY);
    uint32_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        v16 x = load(type, elements + c * size_of(type), LANES);
        least = v_min(x, least);
        greatest = v_max(x, greatest);
    }
    if (c < n)
        widen_half(elements + c * size_of(type), &least, &greatest, type);
    *low = v_least(least);
    *high = v_greatest(greatest);
}

INLINE int quantize_values(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact,
                           const kernel_codes *out, kernel_type type, uint32_t bits) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    size_t groups = (size_t)chunk->rows * chunk->heads * ((chunk->head_dim + chunk->group - 1) / chunk->group);
    float low[N_GROUPS] = {0}, high[N_GROUPS] = {0};
    value_group at = {0};
    for (size_t first = 0; first < groups; first += N_GROUPS) {
        uint32_t n = least_of(N_GROUPS, groups - first);
        value_group start = at;
        for (uint32_t i = 0; i < n; i++, at = next_group(chunk, at)) {
            const uint8_t *elements =
                rows + (at.row * channels + at.head * chunk->head_dim + at.inside) * size_of(type);
            low[i] = INFINITY;
            high[i] = -INFINITY;
            if (!exact[(size_t)at.row * chunk->heads + at.head])
                range_of(elements, least_of(chunk->group, chunk->head_dim - at.inside), &low[i], &high[i], type);
        }
        store_all_ranges(chunk, out, first, low, high, n, type);
        at = start;
        for (uint32_t i = 0; i < n; i++, at = next_group(chunk, at)) {
            uint32_t length = least_of(chunk->group, chunk->head_dim - at.inside), c = 0;
            size_t channel = (size_t)at.head * chunk->head_dim + at.inside;
            code_row row = codes_at(out, at.row, channel, bits);
            if (exact[(size_t)at.row * chunk->heads + at.head]) {
                clear_codes(row, length, bits);
                continue;
            }
            const uint8_t *elements = rows + (at.row * channels + channel) * size_of(type);
            v16 minimum = v_set(low[i]), inverse = v_set(high[i]);
            for (; c + LANES <= length; c += LANES)
                quantize_step(elements, minimum, inverse, row, c, LANES, type, bits);
            if (c < length)
                quantize_step(elements, minimum, inverse, row, c, LANES / 2, type, bits);
        }
    }
    return 0;
}

/* Groups of values have to begin at whole bytes too. */
static bool takes(const kernel_chunk *chunk) {
    return chunk->head_dim % 8 == 0 && (chunk->keys || chunk->group % 8 == 0);
}

/* Rows may be longer than their codes. */
static void clear_spare(const kernel_chunk *chunk, const kernel_codes *out) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    size_t codes = channels * low_bits(chunk->bits) / 8, high = channels / 8;
    for (uint32_t r = 0; r < chunk->rows && codes < out->row_code_bytes; r++)
        memset(out->codes + r * out->row_code_bytes + codes, 0, out->row_code_bytes - codes);
    for (uint32_t r = 0; r < chunk->rows && chunk->bits == 3 && high < out->row_high_bytes; r++)
        memset(out->high + r * out->row_high_bytes + high, 0, out->row_high_bytes - high);
}

static void quantize(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out) {
    if (!takes(chunk)) {
        kernels_scalar.quantize(chunk, rows, exact, out);
        return;
    }
    clear_spare(chunk, out);
    if (chunk->keys)
        WITH_TYPE_AND_BITS(quantize_keys, chunk->type, chunk->bits, chunk, rows, exact, out);
    else
        WITH_TYPE_AND_BITS(quantize_values, chunk->type, chunk->bits, chunk, rows, exact, out);
}

/* ---- dequantize ---- */

INLINE void dequantize_step(uint8_t *elements, v16 scale, v16 minimum, code_row row, size_t c, int n, kernel_type type,
                            uint32_t bits) {
    v16 code = v_unpack(bits, row.codes + c * low_bits(bits) / 8, bits == 3 ? row.high + c / 8 : NULL, n);
    store(type, elements + c * size_of(type), v_add(v_mul(code, scale), minimum), n);
}

INLINE void load_ranges(const void *from, size_t at, size_t n, float *to, kernel_type type) {
    const uint8_t *elements = (const uint8_t *)from + at * size_of(type);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(to + i, load(type, elements + i * size_of(type), LANES), LANES);
    for (; i < n; i++)
        to[i] = load_element(type, elements, i);
}

INLINE int dequantize_keys(const kernel_chunk *chunk, const kernel_codes *in, uint8_t *rows, kernel_type type,
                           uint32_t bits) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    float scales[BLOCK], minima[BLOCK];
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = first + least_of(chunk->group, chunk->rows - first);
        for (size_t block = 0; block < channels; block += BLOCK) {
            size_t n = least_of(BLOCK, channels - block);
            load_ranges(in->scales, g * channels + block, n, scales, type);
            load_ranges(in->minima, g * channels + block, n, minima, type);
            for (uint32_t r = first; r < last; r++) {
                code_row row = codes_at(in, r, block, bits);
                uint8_t *elements = rows + (r * channels + block) * size_of(type);
                size_t c = 0;
                for (; c + LANES <= n; c += LANES)
                    dequantize_step(elements, v_load(scales + c, LANES), v_load(minima + c, LANES), row, c, LANES, type,
                                    bits);
                if (c < n)
                    dequantize_step(elements, v_load(scales + c, LANES / 2), v_load(minima + c, LANES / 2), row, c,
                                    LANES / 2, type, bits);
            }
        }
    }
    return 0;
}

INLINE int dequantize_values(const kernel_chunk *chunk, const kernel_codes *in, uint8_t *rows, kernel_type type,
                             uint32_t bits) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    size_t groups = (size_t)chunk->rows * chunk->heads * ((chunk->head_dim + chunk->group - 1) / chunk->group);
    float scales[N_GROUPS], minima[N_GROUPS];
    value_group at = {0};
    for (size_t first = 0; first < groups; first += N_GROUPS) {
        uint32_t n = least_of(N_GROUPS, groups - first);
        load_ranges(in->scales, first, n, scales, type);
        load_ranges(in->minima, first, n, minima, type);
        for (uint32_t i = 0; i < n; i++, at = next_group(chunk, at)) {
            uint32_t length = least_of(chunk->group, chunk->head_dim - at.inside), c = 0;
            size_t channel = (size_t)at.head * chunk->head_dim + at.inside;
            code_row row = codes_at(in, at.row, channel, bits);
            uint8_t *elements = rows + (at.row * channels + channel) * size_of(type);
            v16 scale = v_set(scales[i]), minimum = v_set(minima[i]);
            for (; c + LANES <= length; c += LANES)
                dequantize_step(elements, scale, minimum, row, c, LANES, type, bits);
            if (c < length)
                dequantize_step(elements, scale, minimum, row, c, LANES / 2, type, bits);
        }
    }
    return 0;
}

static void dequantize(const kernel_chunk *chunk, const kernel_codes *in, void *rows) {
    if (!takes(chunk))
        kernels_scalar.dequantize(chunk, in, rows);
    else if (chunk->keys)
        WITH_TYPE_AND_BITS(dequantize_keys, chunk->type, chunk->bits, chunk, in, rows);
    else
        WITH_TYPE_AND_BITS(dequantize_values, chunk->type, chunk->bits, chunk, in, rows);
}

/* ---- compare ---- */

/* Up to 16 elements, some of which may not be finite. Returns whether one of those differs. */
static bool compare_some(loss16 *loss, const uint8_t *original, const uint8_t *other, size_t n, kernel_type type) {
    float x[LANES] = {0}, y[LANES] = {0}; /* 0 adds nothing */
    bool different = false;
    for (size_t i = 0; i < n; i++) {
        float a = load_element(type, original, i), b = load_element(type, other, i);
        bool finite = isfinite(a) && isfinite(b);
        different |= !finite && bits_of(a) != bits_of(b);
        x[i] = finite ? a : 0;
        y[i] = finite ? b : 0;
    }
    v_loss(loss, v_load(x, LANES), v_load(y, LANES));
    return different;
}

INLINE int compare_all(const uint8_t *original, const uint8_t *other, size_t n, kernel_loss *loss, kernel_type type) {
    loss16 sums;
    memset(&sums, 0, sizeof sums);
    bool different = false;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const uint8_t *a = original + i * size_of(type), *b = other + i * size_of(type);
        v16 x = load(type, a, LANES), y = load(type, b, LANES);
        if (v_greatest_bits(v_max_bits(v_abs(x), v_abs(y))) < bits_of(INFINITY))
            v_loss(&sums, x, y);
        else
            different |= compare_some(&sums, a, b, LANES, type);
    }
    if (i < n)
        different |= compare_some(&sums, original + i * size_of(type), other + i * size_of(type), n - i, type);
    double lanes[3][LANES];
    static_assert(sizeof lanes == sizeof sums, "lanes in order, nothing else");
    memcpy(lanes, &sums, sizeof lanes);
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int j = 0; j < width; j++) {
            lanes[0][j] += lanes[0][j + width];
            lanes[1][j] += lanes[1][j + width];
            lanes[2][j] = fmax(lanes[2][j], lanes[2][j + width]);
        }
    }
    *loss = (kernel_loss){lanes[0][0], lanes[1][0], different ? INFINITY : lanes[2][0]};
    return 0;
}

static void compare(kernel_type type, const void *original, const void *other, size_t n, kernel_loss *loss) {
    if (type == KERNEL_F16)
        compare_all(original, other, n, loss, KERNEL_F16);
    else if (type == KERNEL_BF16)
        compare_all(original, other, n, loss, KERNEL_BF16);
    else
        compare_all(original, other, n, loss, KERNEL_F32);
}
