/* Codes to elements. Exact rows are put in place afterwards by whoever launched this. */
#ifndef KVOT_DEQUANTIZE_CUH
#define KVOT_DEQUANTIZE_CUH

#include "device.cuh"

template <int TYPE> __device__ float load_number(uint64_t elements, size_t at) {
    return to_float<TYPE>(((const element_of<TYPE> *)elements)[at]);
}

__device__ inline float value_of(uint32_t code, float scale, float minimum) {
    return (float)code * scale + minimum;
}

/* One number for all elements of a piece. */
struct same_number {
    float number;
    __device__ float get(int) const {
        return number;
    }
};

/* A piece of codes to elements; scales and minima have a number for each. */
template <int TYPE, int BITS, typename NUMBERS>
__device__ piece<TYPE> decode_piece(packed_codes codes, const NUMBERS &scales, const NUMBERS &minima) {
    piece<TYPE> out;
#pragma unroll
    for (int k = 0; k < CUDA_PIECE; k += 2)
        out.set(k, value_of(get_code<BITS>(codes, k), scales.get(k), minima.get(k)),
                value_of(get_code<BITS>(codes, k + 1), scales.get(k + 1), minima.get(k + 1)));
    return out;
}

/* A thread takes a piece of 8 channels in each of 8 rows of a chunk, which lie in one group of keys: their scales and
 * minima are loaded once for the 8 rows. Values have one scale for the piece, in each row.
 *
 * Bytes moved for each element, with elements of e bytes: bits / 8 and 2 e / group in, e out. f16, 4 bits, groups of
 * 64: 2.56. A warp reads 64 to 256 neighbouring bytes of codes and writes 512 (f32: 1024): whole sectors. Scales and
 * minima of keys are fetched by each of the up to 16 warps that share a group, but from the first or second cache:
 * these are neighbours in time. No shared memory. About 10 instructions an element, of the 22 that an H100 issues in
 * the time that 2.56 bytes take; all loads of a thread are under way at once, by 4 blocks on a multiprocessor. 0.85 of
 * peak bandwidth. */
template <int TYPE, int BITS, bool KEYS> __device__ void dequantize_packed(const cuda_plane &p) {
    uint32_t row_pieces = p.heads * (p.head_dim / CUDA_PIECE), channels = p.heads * p.head_dim;
    uint64_t before = (uint64_t)blockIdx.x * CUDA_THREADS;
    uint32_t at = (uint32_t)(before % row_pieces) + threadIdx.x;
    uint32_t number = (uint32_t)(before / row_pieces) + at / row_pieces;
    uint32_t channel = at % row_pieces * CUDA_PIECE, head = channel / p.head_dim, c = channel % p.head_dim;
    row_block block = locate(p, number, CUDA_THREAD_ROWS);
    if (block.rows == 0)
        return;
    element_of<TYPE> *to = (element_of<TYPE> *)p.elements + block.first * p.token_stride + head * p.head_stride + c;
    packed_codes codes[CUDA_THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++)
        if (i < block.rows)
            codes[i] = load_codes<BITS>(p, block.first + i, channel);
    if constexpr (KEYS) {
        size_t first = (size_t)(block.groups + block.in_chunk / p.group) * channels + channel;
        piece<TYPE> scales, minima;
        scales.load((const element_of<TYPE> *)p.scales + first);
        minima.load((const element_of<TYPE> *)p.minima + first);
#pragma unroll
        for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
            if (i >= block.rows)
                break;
            decode_piece<TYPE, BITS>(codes[i], scales, minima).store(to + i * p.token_stride);
        }
    } else {
        uint32_t head_groups = (p.head_dim + p.group - 1) / p.group;
        size_t first = ((size_t)block.first * p.heads + head) * head_groups + c / p.group;
        same_number scales[CUDA_THREAD_ROWS], minima[CUDA_THREAD_ROWS];
#pragma unroll
        for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
            if (i >= block.rows)
                break;
            scales[i].number = load_number<TYPE>(p.scales, first + (size_t)i * p.heads * head_groups);
            minima[i].number = load_number<TYPE>(p.minima, first + (size_t)i * p.heads * head_groups);
        }
#pragma unroll
        for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
            if (i >= block.rows)
                break;
            decode_piece<TYPE, BITS>(codes[i], scales[i], minima[i]).store(to + i * p.token_stride);
        }
    }
}

/* Where a channel's scale and minimum are among those of a row (values), or of a group of rows (keys). */
__device__ inline uint32_t column_of(const cuda_plane &p, uint32_t channel) {
    uint32_t head_groups = (p.head_dim + p.group - 1) / p.group;
    return p.keys ? channel : channel / p.head_dim * head_groups + channel % p.head_dim / p.group;
}

/* Decodes the rows of a block, and the `width` of at most WIDTH channels from `first_channel` on, whose columns are
 * given, into a tile of shared memory. `first_channel` is a multiple of 8. */
template <int TYPE, int BITS, uint32_t WIDTH>
__device__ void decode_tile(const cuda_plane &p, const row_block &block, uint32_t first_channel, uint32_t width,
                            const uint32_t *columns, element_of<TYPE> *tile, uint32_t stride) {
    constexpr uint32_t PIECES = WIDTH / CUDA_PIECE;
    uint32_t channels = p.heads * p.head_dim, row_columns = p.heads * ((p.head_dim + p.group - 1) / p.group);
    for (uint32_t i = threadIdx.x; i < block.rows * PIECES; i += CUDA_THREADS) {
        uint32_t r = i / PIECES, first = i % PIECES * CUDA_PIECE;
        if (first >= width)
            continue;
        size_t numbers = p.keys ? (size_t)(block.groups + (block.in_chunk + r) / p.group) * channels
                                : (size_t)(block.first + r) * row_columns;
        packed_codes codes = load_code_bytes<BITS>(p, block.first + r, first_channel + first);
        for (uint32_t k = 0; k < CUDA_PIECE && first + k < width; k++) {
            size_t at = numbers + columns[first + k];
            tile[r * stride + first + k] = from_float<TYPE>(
                value_of(get_code<BITS>(codes, k), load_number<TYPE>(p.scales, at), load_number<TYPE>(p.minima, at)));
        }
    }
}

/* Any strides and head sizes, keys and values. One block: 64 rows of a chunk and 64 channels, put together in shared
 * memory and written along whichever axis is dense in memory. A row of the tile is an odd number of words, so that rows
 * and channels of it can be read without bank conflicts.
 *
 * The same bytes as above. Channel-major rows are written 128 neighbouring bytes at a time (f32: 256), codes read byte
 * by byte, 16 to 64 neighbouring bytes: 0.5 of peak bandwidth. */
template <int TYPE, int BITS> __device__ void dequantize_strided(const cuda_plane &p) {
    constexpr uint32_t SIDE = CUDA_TILE, STRIDE = SIDE + 4 / sizeof(element_of<TYPE>);
    __shared__ element_of<TYPE> tile[SIDE * STRIDE];
    __shared__ int64_t offsets[SIDE];
    __shared__ uint32_t columns[SIDE];
    uint32_t channels = p.heads * p.head_dim, tiles = (channels + SIDE - 1) / SIDE, t = threadIdx.x;
    uint32_t first_channel = blockIdx.x % tiles * SIDE, width = min(SIDE, channels - first_channel);
    row_block block = locate(p, blockIdx.x / tiles, SIDE);
    if (t < width) {
        offsets[t] = channel_offset(p, first_channel + t);
        columns[t] = column_of(p, first_channel + t);
    }
    __syncthreads();
    decode_tile<TYPE, BITS, SIDE>(p, block, first_channel, width, columns, tile, STRIDE);
    __syncthreads();
    bool tokens = tokens_are_neighbours(p);
    element_of<TYPE> *to = (element_of<TYPE> *)p.elements + block.first * p.token_stride;
    for (uint32_t i = t; i < SIDE * SIDE; i += CUDA_THREADS) {
        uint32_t r = tokens ? i % SIDE : i / SIDE, c = tokens ? i / SIDE : i % SIDE;
        if (r < block.rows && c < width)
            to[r * p.token_stride + offsets[c]] = tile[r * STRIDE + c];
    }
}

#endif
