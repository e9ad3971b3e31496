/* The shared body of the vector levels. A level (avx2.c, avx512.c, neon.c) defines the operations on 16 numbers that
 * are named below, includes this, and puts the functions into its table. Bytes are those of scalar.c: each operation
 * rounds as its scalar twin does, and where the order of a reduction matters it is written down (kernels.h).
 *
 *   v16                          16 single precision numbers
 *   v_set(x)  v_load(p, n)  v_store(p, x, n)                n is 16 or 8: a half leaves out lanes 8 to 15, read as 0
 *   v_add v_sub v_mul v_div v_min v_max (x, y)  v_abs(x)
 *   v_if_less(a, b, x, y)        a < b ? x : y
 *   v_max_bits(x, y)             the larger, lane by lane, of positive numbers, infinities and NaNs as integers
 *   v_any_from(x, bits)          whether one of them, as an integer, is at least `bits`
 *   v_sum(x)                     lanes added pairwise: j and j + 8, then + 4, + 2, + 1
 *   v_least(x)  v_greatest(x)    over all lanes
 *   v_from_f16(p, n) v_from_bf16(p, n) v_to_f16(p, x, n) v_to_bf16(p, x, n)
 *   v_unpack(bits, codes, high, n)                          codes as numbers
 *   v_pack(bits, x, codes, high, n)  v_pack32(bits, x, y, codes, high)
 *                                the nearest codes to numbers below 2^31
 *   o32                          32 elements of 16 bits (f16 or bf16) as integers that are ordered as the elements are:
 *                                all bits but the sign are turned over in negative ones
 *   o_load(p, n)                 n is 32, 16 or 8; less is repeated to fill all 32
 *   o_min o_max (x, y)  o_least(x)  o_greatest(x)           the last two over all lanes
 *   o_read(p, n)  o_write(p, x, n)                          ordered integers in memory
 *   loss16                       16 lanes each of errors, squares, worst, in double precision (kernels.h, compare)
 *   v_loss(loss, x, y)           with one of each added
 *   v_loss_lanes(loss, lanes)    as numbers
 *
 * Codes of 8 channels fill whole bytes, so vectors work on runs of 32, 16 and 8 channels of one head. Odd shapes (a
 * head that is no multiple of 8 channels) are left to scalar.c: no engine has them. */
#include "levels.h"
#include "numbers.h"

#include <math.h>

enum {
    LANES = 16,
    RUN = 2 * LANES,
    BLOCK = 1024,  /* channels whose ranges are at hand: these arrays stay in the first-level cache */
    SWEEP = 8,     /* rows that are looked at together for a range */
    N_GROUPS = 64, /* groups of values whose ranges are worked out together */
};

/* Calls f(..., c, n) for runs of n channels from channel c on, until `length` channels are done. */
#define IN_RUNS(length, f, ...)                                                                                        \
    do {                                                                                                               \
        size_t c_ = 0, length_ = (length);                                                                             \
        for (; c_ + RUN <= length_; c_ += RUN)                                                                         \
            f(__VA_ARGS__, c_, RUN);                                                                                   \
        if (c_ + LANES <= length_) {                                                                                   \
            f(__VA_ARGS__, c_, LANES);                                                                                 \
            c_ += LANES;                                                                                               \
        }                                                                                                              \
        if (c_ < length_)                                                                                              \
            f(__VA_ARGS__, c_, LANES / 2);                                                                             \
    } while (0)

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

typedef struct magnitude {
    v16 sum, square, largest;
} magnitude;

INLINE void add_magnitudes(magnitude *of, const uint8_t *elements, bool squares, kernel_type type, size_t c, int n) {
    for (int i = 0; i < n; i += LANES) {
        v16 x = v_abs(load(type, elements + (c + (size_t)i) * size_of(type), n < LANES ? n : LANES));
        if (type != KERNEL_F16)
            of->largest = v_max_bits(of->largest, x);
        of->sum = v_add(of->sum, x);
        if (squares)
            of->square = v_add(of->square, v_mul(x, x));
    }
}

INLINE void magnitudes_of(const kernel_chunk *chunk, const uint8_t *rows, float *sums, float *squares,
                          kernel_type type) {
    size_t n = (size_t)chunk->rows * chunk->heads;
    for (size_t i = 0; i < n; i++, rows += chunk->head_dim * size_of(type)) {
        magnitude of = {v_set(0), v_set(0), v_set(0)};
        IN_RUNS(chunk->head_dim, add_magnitudes, &of, rows, squares != NULL, type);
        float sum = v_sum(of.sum);
        /* A sum of halves is finite if they are. */
        bool exact = type == KERNEL_F16 ? !(sum < INFINITY) : v_any_from(of.largest, KERNEL_TOO_LARGE);
        sums[i] = exact ? INFINITY : sum;
        if (squares)
            squares[i] = exact ? INFINITY : v_sum(of.square);
    }
}

INLINE void magnitudes_or_squares(const kernel_chunk *chunk, const void *rows, float *sums, float *squares,
                                  kernel_type type) {
    if (squares)
        magnitudes_of(chunk, rows, sums, squares, type);
    else
        magnitudes_of(chunk, rows, sums, NULL, type);
}

static void magnitudes(const kernel_chunk *chunk, const void *rows, float *sums, float *squares) {
    if (chunk->head_dim % 8 != 0)
        kernels_scalar.magnitudes(chunk, rows, sums, squares);
    else if (chunk->type == KERNEL_F16)
        magnitudes_or_squares(chunk, rows, sums, squares, KERNEL_F16);
    else if (chunk->type == KERNEL_BF16)
        magnitudes_or_squares(chunk, rows, sums, squares, KERNEL_BF16);
    else
        magnitudes_or_squares(chunk, rows, sums, squares, KERNEL_F32);
}

/* ---- choose ---- */

/* `values` of a chunk's rows, none negative, none NaN; behind them infinity. */
enum { N_VALUES = KERNEL_MAX_ROWS };

/* The least of those that are at least `from`; infinity if there is none. */
static float least_from(const float *values, float from) {
    v16 limit = v_set(from), infinite = v_set(INFINITY), least = infinite;
    for (int i = 0; i < N_VALUES; i += LANES) {
        v16 x = v_load(values + i, LANES);
        least = v_min(least, v_if_less(x, limit, infinite, x));
    }
    return v_least(least);
}

static uint32_t count_below(const float *values, float limit) {
    v16 from = v_set(limit), count = v_set(0);
    for (int i = 0; i < N_VALUES; i += LANES)
        count = v_add(count, v_if_less(v_load(values + i, LANES), from, v_set(1), v_set(0)));
    return (uint32_t)v_sum(count);
}

/* The (n - 1) / 2-th smallest. It is in [low, high), bits of numbers, which are ordered as the numbers are; this is cut
 * until nothing else is in there. Most values are of one order of magnitude, so the first cut is at 4 times the least.
 */
static float median(const float *values, uint32_t n) {
    uint32_t rank = (n - 1) / 2, low = bits_of(least_from(values, 0)), below_low = 0;
    uint32_t high = bits_of(INFINITY) + 1, below_high = n;
    const uint32_t times_4 = 2u << 23;
    while (below_high - below_low > 1 && high - low > 1) {
        uint32_t middle = below_high == n && high - low > times_4 ? low + times_4 : low + (high - low) / 2;
        uint32_t below = count_below(values, float_of(middle));
        if (below <= rank) {
            low = middle;
            below_low = below;
        } else {
            high = middle;
            below_high = below;
        }
    }
    return least_from(values, float_of(low));
}

/* Marks the row with the least of `values`, of equal ones the first, and takes it out; infinity is not taken. */
static void take_least(float *values, uint32_t heads, uint8_t *exact) {
    float least = least_from(values, 0);
    size_t r = 0;
    if (!(least < INFINITY))
        return;
    while (values[r] != least)
        r++;
    exact[r * heads] = 1;
    values[r] = INFINITY;
}

static void choose(const kernel_sizes *sizes, uint8_t *exact) {
    float products[N_VALUES], squares[N_VALUES];
    const uint32_t heads = sizes->heads, n = sizes->rows;
    memset(exact, 0, (size_t)n * heads);
    for (uint32_t r = n; r < N_VALUES; r++)
        products[r] = squares[r] = INFINITY;
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t r = 0; r < n; r++) {
            size_t i = (size_t)r * heads + h;
            float product = sizes->keys[i] * (sizes->values && !sizes->start ? sizes->values[i] : 1.0f);
            products[r] = product < INFINITY ? product : INFINITY; /* infinity times 0 is NaN */
            squares[r] = sizes->key_squares[i];
        }
        if (!sizes->start) {
            /* Most often nothing is far below the median: then it need not be found. */
            float near = 0.99f / KERNEL_PRODUCT_SHARE * least_from(products, 0);
            if (count_below(products, near) > (n - 1) / 2) /* the median is below: its share is below the least */
                continue;
            v16 below = v_set(KERNEL_PRODUCT_SHARE * median(products, n)), infinite = v_set(INFINITY);
            v16 from = v_set(KERNEL_SQUARE_SHARE * median(squares, n));
            for (uint32_t r = 0; r < N_VALUES; r += LANES) {
                v16 product = v_load(products + r, LANES), square = v_load(squares + r, LANES);
                product = v_if_less(product, below, product, infinite);
                v_store(products + r, v_if_less(square, from, infinite, product), LANES);
            }
        }
        for (int taken = 0; taken < KERNEL_MOST_CHOSEN; taken++)
            take_least(products, heads, exact + h);
    }
}

/* ---- quantize ---- */

INLINE void load_ranges(const void *from, size_t at, size_t n, float *to, kernel_type type) {
    const uint8_t *elements = (const uint8_t *)from + at * size_of(type);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(to + i, load(type, elements + i * size_of(type), LANES), LANES);
    for (; i < n; i++)
        to[i] = load_element(type, elements, i);
}

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

/* Codes of n elements from channel c on; minimum and inverse for each of them, or, for `values`, one for all. */
INLINE void quantize_run(const uint8_t *elements, const float *minimum, const float *inverse, code_row row, bool values,
                         kernel_type type, uint32_t bits, size_t c, int n) {
    v16 codes[2];
    for (int i = 0; i * LANES < n; i++) {
        size_t at = c + (size_t)i * LANES;
        int lanes = n < LANES ? n : LANES;
        v16 x = load(type, elements + at * size_of(type), lanes);
        x = v_sub(x, values ? v_set(*minimum) : v_load(minimum + at, lanes));
        x = v_mul(x, values ? v_set(*inverse) : v_load(inverse + at, lanes));
        /* Of halves that are at most 16 above a minimum that was rounded, by scales of at least 2^-24. */
        codes[i] = type == KERNEL_F16 ? x : v_min(x, v_set((float)((1u << bits) - 1u)));
    }
    uint8_t *to = row.codes + c * low_bits(bits) / 8, *high = bits == 3 ? row.high + c / 8 : NULL;
    if (n == RUN)
        v_pack32(bits, codes[0], codes[1], to, high);
    else
        v_pack(bits, codes[0], to, high, n);
}

/* The extent of groups: single precision, or, for types of 16 bits, ordered integers (o32), which takes half the work.
 */
INLINE void widen(const uint8_t *const *rows, void *low, void *high, kernel_type type, size_t c, int n) {
    if (type == KERNEL_F32) {
        float *least = (float *)low + c, *greatest = (float *)high + c;
        for (int i = 0; i < n; i += LANES) {
            int lanes = n < LANES ? n : LANES;
            v16 from = v_load(least + i, lanes), to = v_load(greatest + i, lanes);
            for (int r = 0; r < SWEEP; r++) {
                v16 x = v_load(rows[r] + (c + (size_t)i) * sizeof(float), lanes);
                from = v_min(x, from);
                to = v_max(x, to);
            }
            v_store(least + i, from, lanes);
            v_store(greatest + i, to, lanes);
        }
        return;
    }
    int16_t *least = (int16_t *)low + c, *greatest = (int16_t *)high + c;
    o32 from = o_read(least, n), to = o_read(greatest, n);
    for (int r = 0; r < SWEEP; r++) {
        o32 x = o_load(rows[r] + c * 2, n);
        from = o_min(x, from);
        to = o_max(x, to);
    }
    o_write(least, from, n);
    o_write(greatest, to, n);
}

/* Infinity and minus infinity, as widen has them: the extent of nothing. */
INLINE void widen_none(void *low, void *high, kernel_type type) {
    for (size_t i = 0; i < BLOCK; i++) {
        if (type == KERNEL_F32) {
            ((float *)low)[i] = INFINITY;
            ((float *)high)[i] = -INFINITY;
        } else {
            int16_t infinite = type == KERNEL_F16 ? 0x7c00 : 0x7f80;
            ((int16_t *)low)[i] = infinite;
            ((int16_t *)high)[i] = (int16_t)~infinite;
        }
    }
}

/* Widens the extents of `n` channels from `from` on, all of one head, by rows [first, last). */
INLINE void widen_head(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact, uint32_t first,
                       uint32_t last, size_t from, size_t n, void *low, void *high, kernel_type type) {
    size_t row_bytes = (size_t)chunk->heads * chunk->head_dim * size_of(type);
    for (uint32_t r = first; r < last;) {
        const uint8_t *kept[SWEEP];
        int taken = 0;
        for (; taken < SWEEP && r < last; r++)
            if (!exact[(size_t)r * chunk->heads])
                kept[taken++] = rows + r * row_bytes + from * size_of(type);
        if (taken == 0)
            return;
        for (; taken < SWEEP; taken++) /* a row that is taken again changes nothing */
            kept[taken] = kept[taken - 1];
        IN_RUNS(n, widen, kept, low, high, type);
    }
}

/* Extents to single precision. Elements of 16 bits turn over in place first: that is its own inverse. */
INLINE void to_numbers(void *extents, float *numbers, kernel_type type, size_t c, int n) {
    if (type == KERNEL_F32) {
        memcpy(numbers + c, (float *)extents + c, (size_t)n * sizeof *numbers);
        return;
    }
    int16_t *elements = (int16_t *)extents + c;
    o_write(elements, o_load(elements, n), n);
    for (int i = 0; i < n; i += LANES)
        v_store(numbers + c + i, load(type, elements + i, n < LANES ? n : LANES), n < LANES ? n : LANES);
}

INLINE int quantize_keys(const kernel_chunk *about, const uint8_t *rows, const uint8_t *exact, const kernel_codes *out,
                         kernel_type type, uint32_t bits) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to codes cannot change it */
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    float low[BLOCK] = {0}, high[BLOCK] = {0};
    float least[BLOCK], greatest[BLOCK]; /* extents */
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = first + least_of(chunk->group, chunk->rows - first);
        for (size_t block = 0; block < channels; block += BLOCK) {
            size_t block_end = block + least_of(BLOCK, channels - block);
            widen_none(least, greatest, type);
            for (size_t c = block, h = c / chunk->head_dim, end; c < block_end; c = end, h++) {
                end = least_of(block_end, (h + 1) * chunk->head_dim);
                widen_head(chunk, rows, exact + h, first, last, c, end - c,
                           (uint8_t *)least + (c - block) * size_of(type),
                           (uint8_t *)greatest + (c - block) * size_of(type), type);
            }
            IN_RUNS(block_end - block, to_numbers, least, low, type);
            IN_RUNS(block_end - block, to_numbers, greatest, high, type);
            store_all_ranges(chunk, out, g * channels + block, low, high, block_end - block, type);
            for (uint32_t r = first; r < last; r++) {
                for (size_t c = block, h = c / chunk->head_dim, end; c < block_end; c = end, h++) {
                    end = least_of(block_end, (h + 1) * chunk->head_dim);
                    code_row row = codes_at(out, r, c, bits);
                    if (exact[(size_t)r * chunk->heads + h])
                        clear_codes(row, end - c, bits);
                    else
                        IN_RUNS(end - c, quantize_run, rows + (r * channels + c) * size_of(type), low + (c - block),
                                high + (c - block), row, false, type, bits);
                }
            }
        }
    }
    return 0;
}

/* Some groups of V, whose numbers follow each other: of whole heads, or, of heads that have many, a part of one. A
 * chunk's V is one long row of heads here: neither elements nor codes have gaps. */
typedef struct value_groups {
    size_t head, heads;
    size_t part, end; /* groups of each head */
} value_groups;

INLINE size_t groups_of_head(const kernel_chunk *chunk) {
    return (chunk->head_dim + chunk->group - 1) / chunk->group;
}

INLINE value_groups first_groups(const kernel_chunk *chunk) { /* before the first */
    return (value_groups){.end = groups_of_head(chunk)};
}

INLINE bool more_groups(const kernel_chunk *chunk, value_groups *some) {
    size_t all = (size_t)chunk->rows * chunk->heads, groups = groups_of_head(chunk);
    some->part = some->end;
    if (some->end == groups) {
        some->part = 0;
        some->head += some->heads;
    }
    some->end = some->part + least_of(N_GROUPS, groups - some->part);
    some->heads = groups > N_GROUPS ? 1 : least_of(N_GROUPS / groups, all - some->head);
    return some->head < all;
}

/* Runs what follows for each group: `i` counts them, `head` is its head, `offset` and `channels` say which elements.
 * `length` is the channels of every group, a constant, or 0 if they differ. */
#define FOR_GROUPS(some, length)                                                                                       \
    for (size_t i = 0, head = (some).head; head < (some).head + (some).heads; head++)                                  \
        for (size_t g_ = (some).part, offset, channels;                                                                \
             g_ < (some).end &&                                                                                        \
             (offset = head * chunk->head_dim + g_ * chunk->group,                                                     \
             channels = (length) ? (length) : least_of(chunk->group, chunk->head_dim - g_ * chunk->group), true);      \
             g_++, i++)

/* Calls f(..., length) with the channels of every group as a constant, which is worth a quarter of the time. */
#define WITH_LENGTH(f, chunk, ...)                                                                                     \
    ((chunk)->head_dim % (chunk)->group != 0 ? f(__VA_ARGS__, 0)                                                       \
     : (chunk)->group == 32                  ? f(__VA_ARGS__, 32)                                                      \
     : (chunk)->group == 64                  ? f(__VA_ARGS__, 64)                                                      \
     : (chunk)->group == 128                 ? f(__VA_ARGS__, 128)                                                     \
                                             : f(__VA_ARGS__, 0))

typedef struct extent {
    v16 least, greatest; /* f32 */
    o32 from, to;        /* types of 16 bits */
} extent;

INLINE void widen_group(extent *of, const uint8_t *elements, kernel_type type, size_t c, int n) {
    if (type != KERNEL_F32) {
        o32 x = o_load(elements + c * 2, n);
        of->from = c == 0 ? x : o_min(x, of->from);
        of->to = c == 0 ? x : o_max(x, of->to);
        return;
    }
    const float *numbers = (const float *)(const void *)elements + c;
    float twice[LANES]; /* of a half: what is read as 0 must not count */
    for (int i = 0; n < LANES && i < LANES; i++)
        twice[i] = numbers[i % n];
    for (int i = 0; i < n; i += LANES) {
        v16 x = v_load(n < LANES ? twice : numbers + i, LANES);
        of->least = v_min(x, of->least);
        of->greatest = v_max(x, of->greatest);
    }
}

/* The extent of a group of `n` elements, as widen has it. */
INLINE void range_of(const uint8_t *elements, uint32_t n, void *least, void *greatest, size_t i, kernel_type type) {
    extent of;
    of.least = v_set(INFINITY);
    of.greatest = v_set(-INFINITY);
    of.from = of.to = o_load(elements, 8);
    IN_RUNS(n, widen_group, &of, elements, type);
    if (type == KERNEL_F32) {
        ((float *)least)[i] = v_least(of.least);
        ((float *)greatest)[i] = v_greatest(of.greatest);
    } else {
        ((int16_t *)least)[i] = o_least(of.from);
        ((int16_t *)greatest)[i] = o_greatest(of.to);
    }
}

/* The extent of a row that is exact: as good as none. */
INLINE void no_range(void *least, void *greatest, size_t i, kernel_type type) {
    if (type == KERNEL_F32)
        ((float *)least)[i] = ((float *)greatest)[i] = 0;
    else
        ((int16_t *)least)[i] = ((int16_t *)greatest)[i] = 0;
}

INLINE int quantize_values(const kernel_chunk *about, const uint8_t *rows, const uint8_t *exact,
                           const kernel_codes *out, kernel_type type, uint32_t bits, uint32_t length) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to codes cannot change it */
    float low[N_GROUPS], high[N_GROUPS], least[N_GROUPS] = {0}, greatest[N_GROUPS] = {0};
    size_t done = 0, n = 0;
    for (value_groups some = first_groups(chunk); more_groups(chunk, &some); done += n) {
        n = some.heads * (some.end - some.part);
        FOR_GROUPS(some, length) {
            if (exact[head])
                no_range(least, greatest, i, type);
            else
                range_of(rows + offset * size_of(type), channels, least, greatest, i, type);
        }
        IN_RUNS(N_GROUPS, to_numbers, least, low, type);
        IN_RUNS(N_GROUPS, to_numbers, greatest, high, type);
        store_all_ranges(chunk, out, done, low, high, n, type);
        FOR_GROUPS(some, length) {
            code_row row = codes_at(out, 0, offset, bits);
            if (exact[head])
                clear_codes(row, channels, bits);
            else
                IN_RUNS(channels, quantize_run, rows + offset * size_of(type), &low[i], &high[i], row, true, type,
                        bits);
        }
    }
    return 0;
}

INLINE int quantize_values_of(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact,
                              const kernel_codes *out, kernel_type type, uint32_t bits) {
    return WITH_LENGTH(quantize_values, chunk, chunk, rows, exact, out, type, bits);
}

/* Whether heads, and groups of values, begin at whole bytes, and rows follow each other without a gap. */
static bool takes(const kernel_chunk *chunk, const kernel_codes *codes) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    return chunk->head_dim % 8 == 0 && (chunk->keys || chunk->group % 8 == 0) &&
           codes->row_code_bytes == channels * low_bits(chunk->bits) / 8 &&
           (chunk->bits != 3 || codes->row_high_bytes == channels / 8);
}

static void quantize(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out) {
    if (!takes(chunk, out)) {
        kernels_scalar.quantize(chunk, rows, exact, out);
        return;
    }
    if (chunk->keys)
        WITH_TYPE_AND_BITS(quantize_keys, chunk->type, chunk->bits, chunk, rows, exact, out);
    else
        WITH_TYPE_AND_BITS(quantize_values_of, chunk->type, chunk->bits, chunk, rows, exact, out);
}

/* ---- dequantize ---- */

/* As quantize_run. */
INLINE void dequantize_run(uint8_t *elements, const float *scale, const float *minimum, code_row row, bool values,
                           kernel_type type, uint32_t bits, size_t c, int n) {
    for (int i = 0; i < n; i += LANES) {
        size_t at = c + (size_t)i;
        int lanes = n < LANES ? n : LANES;
        v16 x = v_unpack(bits, row.codes + at * low_bits(bits) / 8, bits == 3 ? row.high + at / 8 : NULL, lanes);
        x = v_mul(x, values ? v_set(*scale) : v_load(scale + at, lanes));
        x = v_add(x, values ? v_set(*minimum) : v_load(minimum + at, lanes));
        store(type, elements + at * size_of(type), x, lanes);
    }
}

INLINE int dequantize_keys(const kernel_chunk *about, const kernel_codes *in, uint8_t *rows, kernel_type type,
                           uint32_t bits) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to codes cannot change it */
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    float scales[BLOCK], minima[BLOCK];
    for (uint32_t first = 0, g = 0; first < chunk->rows; first += chunk->group, g++) {
        uint32_t last = first + least_of(chunk->group, chunk->rows - first);
        for (size_t block = 0; block < channels; block += BLOCK) {
            size_t n = least_of(BLOCK, channels - block);
            load_ranges(in->scales, g * channels + block, n, scales, type);
            load_ranges(in->minima, g * channels + block, n, minima, type);
            for (uint32_t r = first; r < last; r++)
                IN_RUNS(n, dequantize_run, rows + (r * channels + block) * size_of(type), scales, minima,
                        codes_at(in, r, block, bits), false, type, bits);
        }
    }
    return 0;
}

INLINE int dequantize_values(const kernel_chunk *about, const kernel_codes *in, uint8_t *rows, kernel_type type,
                             uint32_t bits, uint32_t length) {
    const kernel_chunk copy = *about, *chunk = &copy; /* stores to rows cannot change it */
    float scales[N_GROUPS], minima[N_GROUPS];
    size_t done = 0, n = 0;
    for (value_groups some = first_groups(chunk); more_groups(chunk, &some); done += n) {
        n = some.heads * (some.end - some.part);
        load_ranges(in->scales, done, n, scales, type);
        load_ranges(in->minima, done, n, minima, type);
        FOR_GROUPS(some, length)
        IN_RUNS(channels, dequantize_run, rows + offset * size_of(type), &scales[i], &minima[i],
                codes_at(in, 0, offset, bits), true, type, bits);
    }
    return 0;
}

INLINE int dequantize_values_of(const kernel_chunk *chunk, const kernel_codes *in, uint8_t *rows, kernel_type type,
                                uint32_t bits) {
    return WITH_LENGTH(dequantize_values, chunk, chunk, in, rows, type, bits);
}

static void dequantize(const kernel_chunk *chunk, const kernel_codes *in, void *rows) {
    if (!takes(chunk, in))
        kernels_scalar.dequantize(chunk, in, rows);
    else if (chunk->keys)
        WITH_TYPE_AND_BITS(dequantize_keys, chunk->type, chunk->bits, chunk, in, rows);
    else
        WITH_TYPE_AND_BITS(dequantize_values_of, chunk->type, chunk->bits, chunk, in, rows);
}

/* ---- compare ---- */

/* Up to 16 elements, some of which may not be finite. Sets `*different` if one of those differs. */
static loss16 compare_some(loss16 loss, const uint8_t *original, const uint8_t *other, size_t n, kernel_type type,
                           bool *different) {
    float x[LANES] = {0}, y[LANES] = {0}; /* 0 adds nothing */
    for (size_t i = 0; i < n; i++) {
        float a = load_element(type, original, i), b = load_element(type, other, i);
        bool finite = isfinite(a) && isfinite(b);
        *different |= !finite && bits_of(a) != bits_of(b);
        x[i] = finite ? a : 0;
        y[i] = finite ? b : 0;
    }
    return v_loss(loss, v_load(x, LANES), v_load(y, LANES));
}

/* `sums` goes by value, so that it can stay in registers. */
INLINE int compare_all(const uint8_t *original, const uint8_t *other, size_t n, kernel_loss *loss, kernel_type type) {
    loss16 sums = {0};
    bool different = false;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const uint8_t *a = original + i * size_of(type), *b = other + i * size_of(type);
        v16 x = load(type, a, LANES), y = load(type, b, LANES);
        if (!v_any_from(v_max_bits(v_abs(x), v_abs(y)), 0x7f800000u))
            sums = v_loss(sums, x, y);
        else
            sums = compare_some(sums, a, b, LANES, type, &different);
    }
    if (i < n)
        sums = compare_some(sums, original + i * size_of(type), other + i * size_of(type), n - i, type, &different);
    double lanes[3][LANES];
    v_loss_lanes(sums, lanes);
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int j = 0; j < width; j++) {
            lanes[0][j] += lanes[0][j + width];
            lanes[1][j] += lanes[1][j + width];
            lanes[2][j] = lanes[2][j] > lanes[2][j + width] ? lanes[2][j] : lanes[2][j + width];
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
