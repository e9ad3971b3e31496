/* V: group ranges over channels, codes. */
#include "measure.cuh"

/* A thread takes a piece of 8 channels in each of 8 rows; a group's pieces are neighbouring lanes of a warp, which find
 * its range by shuffles. A head's last group may be shorter: the lanes that it lacks stay idle. With MEASURE no row is
 * exact, and magnitudes come out as well; blank_values then does what is left.
 *
 * Bytes moved for each element, with elements of e bytes: e in; bits / 8 and 2 e / group out; 1 / head_dim (exact
 * flags) in or 4 / head_dim (magnitudes) out. f16, 4 bits, groups of 64, heads of 128: 2.6. A warp reads 512
 * neighbouring bytes (1024 of f32) and writes 64 to 256 of codes: whole sectors. Shared memory only for magnitudes. 128
 * bytes a thread (f32: 256) are under way at once, by 4 blocks on a multiprocessor (f32: 2).
 *
 * About 17 instructions an element, of the 22 that an H100 issues in the time that 2.6 bytes take: 0.75 of peak
 * bandwidth. With magnitudes about 24: the limit is instructions, 0.6 of peak. */
template <int TYPE, int BITS, bool MEASURE> __device__ void quantize_values_packed(const cuda_plane &p) {
    uint32_t lanes = p.group / CUDA_PIECE;
    uint32_t head_groups = (p.head_dim + p.group - 1) / p.group, head_pieces = head_groups * lanes;
    uint32_t row_pieces = p.heads * head_pieces;
    uint64_t before = (uint64_t)blockIdx.x * CUDA_THREADS;
    uint32_t at = (uint32_t)(before % row_pieces) + threadIdx.x;
    uint64_t first = (before / row_pieces + at / row_pieces) * CUDA_THREAD_ROWS;
    at %= row_pieces;
    uint32_t head = at / head_pieces, group = at % head_pieces / lanes, c = at % head_pieces * CUDA_PIECE;
    uint32_t rows = first < p.rows ? (uint32_t)min(p.rows - first, (uint64_t)CUDA_THREAD_ROWS) : 0;
    bool inside = c < p.head_dim;
    const element_of<TYPE> *from = (const element_of<TYPE> *)p.elements + head * p.head_stride + c;

    piece<TYPE> pieces[CUDA_THREAD_ROWS];
    uint32_t quantized = inside ? (1u << rows) - 1 : 0; /* a bit for each row */
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
        if (inside && i < rows)
            pieces[i].load(from + (int64_t)(first + i) * p.token_stride);
        else if (MEASURE)
            pieces[i].clear();
        if (!MEASURE && inside && i < rows && ((const uint8_t *)p.exact)[(first + i) * p.heads + head] != 0)
            quantized &= ~(1u << i);
    }
    if constexpr (MEASURE) {
        __shared__ measure_stage<TYPE> stages[CUDA_THREADS / 32];
        measure_pieces<TYPE, false>(p, pieces, stages[threadIdx.x / 32], head_pieces, (uint32_t)first, rows, head);
    }
    float low[CUDA_THREAD_ROWS], high[CUDA_THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
        low[i] = __uint_as_float(INFINITE);
        high[i] = -low[i];
        if (quantized >> i & 1u) {
#pragma unroll
            for (int k = 0; k < CUDA_PIECE; k++) {
                low[i] = fminf(low[i], pieces[i].get(k));
                high[i] = fmaxf(high[i], pieces[i].get(k));
            }
        }
        for (uint32_t width = lanes / 2; width > 0; width /= 2) {
            low[i] = fminf(low[i], __shfl_xor_sync(0xffffffffu, low[i], width));
            high[i] = fmaxf(high[i], __shfl_xor_sync(0xffffffffu, high[i], width));
        }
    }
    /* A division and what goes with it for each row, shared out over the group's lanes: each finds the ranges of rows
     * `own` and `own` + `lanes`. */
    uint32_t own = at % lanes, leader = threadIdx.x % 32 - own;
    range ranges[2];
#pragma unroll
    for (int turn = 0; turn < 2; turn++) {
        uint32_t row = own + turn * lanes;
        float row_low = 0.0f, row_high = 0.0f;
#pragma unroll
        for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
            row_low = row == i ? low[i] : row_low;
            row_high = row == i ? high[i] : row_high;
        }
        ranges[turn] = range{0.0f, 0.0f};
        if (turn * lanes < CUDA_THREAD_ROWS)
            ranges[turn] = range_of<TYPE, BITS>(p, row_low, row_high,
                                                ((first + row) * p.heads + head) * head_groups + group, row < rows);
    }
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
        range of = i < lanes ? ranges[0] : ranges[1];
        of.minimum = __shfl_sync(0xffffffffu, of.minimum, leader + i % lanes);
        of.inverse = __shfl_sync(0xffffffffu, of.inverse, leader + i % lanes);
        if (!inside || i >= rows)
            continue;
        packed_codes codes = {0, 0};
        if (quantized >> i & 1u) {
#pragma unroll
            for (int k = 0; k < CUDA_PIECE; k++)
                put_code<BITS>(codes, k, code_of<BITS>(of, pieces[i].get(k)));
        }
        store_codes<BITS>(p, first + i, head * p.head_dim + c, codes);
    }
}

/* After values were measured and quantized in one: makes exact rows what they are if they take no part. A thread for
 * each row of a head; few have anything to do, so this costs reading the flags. */
template <int TYPE, int BITS> __device__ void blank_values(const cuda_plane &p) {
    uint64_t i = (uint64_t)blockIdx.x * CUDA_THREADS + threadIdx.x;
    if (i >= (uint64_t)p.rows * p.heads || ((const uint8_t *)p.exact)[i] == 0)
        return;
    uint32_t head_groups = (p.head_dim + p.group - 1) / p.group, head = (uint32_t)(i % p.heads);
    for (uint32_t g = 0; g < head_groups; g++) {
        ((element_of<TYPE> *)p.scales)[i * head_groups + g] = from_float<TYPE>(0.0f);
        ((element_of<TYPE> *)p.minima)[i * head_groups + g] = from_float<TYPE>(0.0f);
    }
    for (uint32_t c = 0; c < p.head_dim; c += CUDA_PIECE)
        store_codes<BITS>(p, i / p.heads, head * p.head_dim + c, packed_codes{0, 0});
}

/* Any strides and head sizes. One block: 32 rows (f32: 16) and 128 channels, with what their first and last group have
 * beyond them, staged in shared memory. A group belongs to the block that has its first channel; where groups do not
 * end with a block's channels, two blocks read them.
 *
 * Channel-major rows are read 64 neighbouring bytes at a time. Codes are written byte by byte. 0.4 of peak bandwidth.
 */
template <int TYPE> struct value_tile {
    static constexpr uint32_t ROWS = TYPE == KERNEL_F32 ? CUDA_VALUE_ROWS / 2 : CUDA_VALUE_ROWS;
    uint32_t first_channel, last_channel; /* whose codes this block writes; last is one beyond */
    uint32_t begin, end;                  /* channels that it reads */
    uint32_t head_groups;

    __device__ value_tile(const cuda_plane &p, uint32_t number) {
        uint32_t channels = p.heads * p.head_dim;
        head_groups = (p.head_dim + p.group - 1) / p.group;
        first_channel = number * CUDA_VALUE_CHANNELS;
        last_channel = min(first_channel + CUDA_VALUE_CHANNELS, channels);
        begin = first_channel - first_channel % p.head_dim % p.group;
        uint32_t last = last_channel - 1, in_head = last % p.head_dim;
        end = last - in_head + min(p.head_dim, in_head - in_head % p.group + p.group);
    }
    /* The number of a channel's group in its row. */
    __device__ uint32_t group_of(const cuda_plane &p, uint32_t channel) const {
        return channel / p.head_dim * head_groups + channel % p.head_dim / p.group;
    }
};

template <int TYPE, int BITS> __device__ void quantize_values_strided(const cuda_plane &p) {
    extern __shared__ int64_t memory[];
    constexpr uint32_t ROWS = value_tile<TYPE>::ROWS;
    uint32_t tiles = (p.heads * p.head_dim + CUDA_VALUE_CHANNELS - 1) / CUDA_VALUE_CHANNELS, t = threadIdx.x;
    value_tile<TYPE> at(p, blockIdx.x % tiles);
    uint32_t width = at.end - at.begin, first_group = at.group_of(p, at.begin);
    uint32_t groups = at.group_of(p, at.end - 1) + 1 - first_group;
    uint64_t first = (uint64_t)(blockIdx.x / tiles) * ROWS;
    uint32_t rows = (uint32_t)min((uint64_t)ROWS, p.rows - first);
    uint32_t stride = TYPE == KERNEL_F32 ? width | 1 : ((width + 1) / 2 | 1) * 2; /* an odd number of words */
    int64_t *offsets = memory;                                                    /* [width] */
    range *ranges = (range *)(offsets + width);                                   /* [ROWS][groups] */
    uint32_t *starts = (uint32_t *)(ranges + ROWS * groups); /* [groups + 1]: first channel of each, from begin */
    element_of<TYPE> *tile = (element_of<TYPE> *)(starts + groups + 1); /* [ROWS][stride] */
    const element_of<TYPE> *from = (const element_of<TYPE> *)p.elements + (int64_t)first * p.token_stride;
    const uint8_t *exact = (const uint8_t *)p.exact + first * p.heads;
    for (uint32_t c = t; c < width; c += CUDA_THREADS) {
        offsets[c] = channel_offset(p, at.begin + c);
        if ((at.begin + c) % p.head_dim % p.group == 0)
            starts[at.group_of(p, at.begin + c) - first_group] = c;
    }
    if (t == 0)
        starts[groups] = width;
    __syncthreads();
    stage<TYPE>(p, from, offsets, rows, ROWS, width, tile, stride);
    __syncthreads();
    for (uint32_t i = t / 32; i < rows * groups; i += CUDA_THREADS / 32) { /* a warp for a group of a row */
        uint32_t r = i / groups, g = i % groups, head = (first_group + g) / at.head_groups;
        float low = __uint_as_float(INFINITE), high = -low;
        if (exact[r * p.heads + head] == 0) {
            for (uint32_t c = starts[g] + t % 32; c < starts[g + 1]; c += 32) {
                float value = to_float<TYPE>(tile[r * stride + c]);
                low = fminf(low, value);
                high = fmaxf(high, value);
            }
        }
#pragma unroll
        for (int lanes = 16; lanes > 0; lanes /= 2) {
            low = fminf(low, __shfl_xor_sync(0xffffffffu, low, lanes));
            high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, lanes));
        }
        if (t % 32 == 0)
            ranges[i] = range_of<TYPE, BITS>(p, low, high, (first + r) * p.heads * at.head_groups + first_group + g,
                                             at.begin + starts[g] >= at.first_channel);
    }
    __syncthreads();
    constexpr uint32_t PIECES = CUDA_VALUE_CHANNELS / CUDA_PIECE;
    for (uint32_t i = t; i < rows * PIECES; i += CUDA_THREADS) {
        uint32_t r = i / PIECES, channel = at.first_channel + i % PIECES * CUDA_PIECE;
        packed_codes codes = {0, 0};
        for (uint32_t k = 0; k < CUDA_PIECE && channel + k < at.last_channel; k++) {
            uint32_t group = at.group_of(p, channel + k);
            if (exact[r * p.heads + group / at.head_groups] == 0)
                put_code<BITS>(codes, k,
                               code_of<BITS>(ranges[r * groups + group - first_group],
                                             to_float<TYPE>(tile[r * stride + channel + k - at.begin])));
        }
        if (channel < at.last_channel)
            store_code_bytes<BITS>(p, first + r, channel, codes);
    }
}
