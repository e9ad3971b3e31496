/* The outlier rule. A warp takes one head of one chunk; each lane holds 8 of its at most 256 rows.
 *
 * A median is found bit by bit: numbers that are not negative are ordered as their bits are, so 31 counts of the rows
 * below a bound fix the one that (n - 1) / 2 rows are smaller than. Two instructions for each element of K.
 *
 * Bytes moved for each element of K and V: 14 / head_dim, in 4-byte accesses `heads` apart; warps of a block take
 * neighbouring heads, so that the caches put them together. Bound by the latency of its 62 counts, some 5 microseconds
 * a wave: the share of bandwidth means nothing here, but a launch should have thousands of heads and chunks, or run
 * beside other lanes' kernels. */
#include "device.cuh"

constexpr int LANE_ROWS = KERNEL_MAX_ROWS / 32;

/* The `rank`-th smallest of all lanes' numbers. */
__device__ inline float smallest_by_rank(const uint32_t (&bits)[LANE_ROWS], uint32_t rank) {
    uint32_t result = 0;
    for (uint32_t bit = 1u << 30; bit > 0; bit >>= 1) {
        uint32_t below = 0;
#pragma unroll
        for (int i = 0; i < LANE_ROWS; i++)
            below += bits[i] < (result | bit);
        if (__reduce_add_sync(0xffffffffu, below) <= rank)
            result |= bit;
    }
    return __uint_as_float(result);
}

/* Marks the least number of all lanes and makes it infinite; of equal ones the first row's. */
__device__ inline void mark_least(uint32_t (&bits)[LANE_ROWS], uint32_t &marks, uint32_t lane) {
    uint32_t least = INFINITE, row = KERNEL_MAX_ROWS;
#pragma unroll
    for (int i = 0; i < LANE_ROWS; i++) {
        if (bits[i] < least) {
            least = bits[i];
            row = i * 32 + lane;
        }
    }
#pragma unroll
    for (int width = 16; width > 0; width /= 2) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, least, width);
        uint32_t other_row = __shfl_xor_sync(0xffffffffu, row, width);
        if (other < least || (other == least && other_row < row)) {
            least = other;
            row = other_row;
        }
    }
#pragma unroll
    for (int i = 0; i < LANE_ROWS; i++) {
        if (row == i * 32 + lane) {
            marks |= 1u << i;
            bits[i] = INFINITE;
        }
    }
}

__device__ inline void choose(const cuda_sizes &p) {
    uint64_t warp = (uint64_t)blockIdx.x * (CUDA_THREADS / 32) + threadIdx.x / 32;
    uint32_t lane = threadIdx.x % 32, chunk = (uint32_t)(warp / p.heads), head = (uint32_t)(warp % p.heads);
    uint64_t start = chunk == 0 ? 0 : p.first + (uint64_t)(chunk - 1) * p.chunk_rows;
    if (start >= p.rows)
        return;
    uint32_t rows = (uint32_t)min((uint64_t)(chunk == 0 ? p.first : p.chunk_rows), p.rows - start);
    bool at_start = p.start && chunk == 0;
    const float *keys = (const float *)p.keys, *squares = (const float *)p.key_squares;
    const float *values = (const float *)p.values;
    uint8_t *exact = (uint8_t *)p.exact, *value_exact = (uint8_t *)p.value_exact;
    uint32_t size[LANE_ROWS], square[LANE_ROWS], marks = 0;
#pragma unroll
    for (int i = 0; i < LANE_ROWS; i++) {
        uint32_t row = i * 32 + lane;
        uint64_t at = (start + row) * p.heads + head;
        size[i] = square[i] = 0xffffffffu; /* rows that are not there are larger than infinity */
        if (row >= rows)
            continue;
        if (!p.rule) {
            marks |= (uint32_t)(exact[at] != 0) << i;
            continue;
        }
        float product = keys[at] * (values && !at_start ? values[at] : 1.0f);
        size[i] =
            product < __uint_as_float(INFINITE) ? __float_as_uint(product) : INFINITE; /* infinity times 0 is NaN */
        square[i] = __float_as_uint(squares[at]);
    }
    if (p.rule && !at_start) {
        float size_limit = KERNEL_PRODUCT_SHARE * smallest_by_rank(size, (rows - 1) / 2);
        float square_limit = KERNEL_SQUARE_SHARE * smallest_by_rank(square, (rows - 1) / 2);
#pragma unroll
        for (int i = 0; i < LANE_ROWS; i++)
            if (!(__uint_as_float(size[i]) < size_limit && __uint_as_float(square[i]) >= square_limit))
                size[i] = INFINITE;
    }
    for (int taken = 0; p.rule && taken < KERNEL_MOST_CHOSEN; taken++)
        mark_least(size, marks, lane);
#pragma unroll
    for (int i = 0; i < LANE_ROWS; i++) {
        uint32_t row = i * 32 + lane;
        uint64_t at = (start + row) * p.heads + head;
        if (row >= rows)
            continue;
        bool mark = marks >> i & 1u;
        mark |= keys[at] == __uint_as_float(INFINITE);
        exact[at] = mark;
        if (value_exact)
            value_exact[at] = mark | (values[at] == __uint_as_float(INFINITE));
    }
}
