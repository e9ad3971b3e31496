/* What quantizing lost, row by row: codes to elements again, in registers, beside the originals. Exact rows come back
 * as they were.
 *
 * The order of the 16 sums of a row goes across its heads, so a block takes whole rows, 128 channels at a time. It puts
 * originals and decoded elements into shared memory, from which 16 threads a row add up one sum each. Packed: 8 rows, a
 * thread loads and decodes one piece, and has the next one under way while it adds up. Strided: 16 rows, staged along
 * whichever axis is dense in memory.
 *
 * Bytes moved for each element of e bytes: e, bits / 8 and 2 e / group in, and 24 / channels out. f16, 4 bits, groups
 * of 64: 2.56. Decoding into memory and comparing from there would move 6.6. A warp of the packed kernel reads 2 rows'
 * 256 neighbouring bytes of elements (f32: 512) and 64 of codes: whole sectors. Tiles of packed rows have no bank
 * conflicts: two rows of 16 elements lie in different banks; strided 2 ways at most.
 *
 * About 40 instructions an element (62 of PTX), 7 of them in double precision, conversions included. In the time that
 * 2.56 bytes take, an H100 issues 22, and 11 in double precision: 0.4 of peak bandwidth, strided 0.3. Processors with
 * two units for double precision on a multiprocessor (sm_86, sm_89, sm_120): 0.1 to 0.3, which is still faster than the
 * link that rows would otherwise cross. One chunk of 256 rows is 32 blocks (strided: 16), which do not fill a large
 * device; other lanes' work does. */
#ifndef KVOT_COMPARE_CUH
#define KVOT_COMPARE_CUH

#include "dequantize.cuh"

constexpr unsigned long long INFINITE_DOUBLE = 0x7ff0000000000000u; /* bits */

/* One of the 16 sums of a row. */
struct compared {
    double squared_error = 0.0, squared_sum = 0.0;
    unsigned long long max_error = 0; /* bits: of numbers that are not negative, they have the order of the numbers */

    /* Zeros in place of what is not finite change nothing; a branch would keep elements from overlapping. */
    template <int TYPE> __device__ void add(element_of<TYPE> original, element_of<TYPE> other) {
        float x = to_float<TYPE>(original), y = to_float<TYPE>(other);
        bool finite = max(__float_as_uint(fabsf(x)), __float_as_uint(fabsf(y))) < INFINITE;
        bool same = bits_of<TYPE>(original) == bits_of<TYPE>(other);
        x = finite ? x : 0.0f;
        y = finite ? y : 0.0f;
        double error = fabs((double)x - (double)y);
        squared_error += error * error;
        squared_sum += (double)x * (double)x;
        max_error = max(max_error, (unsigned long long)__double_as_longlong(error));
        if (!finite && !same)
            max_error = INFINITE_DOUBLE;
    }

    /* Adds up those of 16 neighbouring threads. */
    __device__ void add_lanes() {
#pragma unroll
        for (int width = 8; width > 0; width /= 2) {
            squared_error += __shfl_xor_sync(0xffffffffu, squared_error, width);
            squared_sum += __shfl_xor_sync(0xffffffffu, squared_sum, width);
            max_error = max(max_error, __shfl_xor_sync(0xffffffffu, max_error, width));
        }
    }

    __device__ void store(const cuda_plane &p, uint32_t row) const {
        ((kernel_loss *)p.losses)[row] = kernel_loss{squared_error, squared_sum, __longlong_as_double(max_error)};
    }
};

/* A piece of the originals and what is needed to decode it. */
template <int TYPE, int BITS> struct comparison {
    piece<TYPE> original, scales, minima;
    packed_codes codes;
    bool exact;

    __device__ void load(const cuda_plane &p, const row_block &block, uint32_t row, uint32_t channel) {
        uint32_t channels = p.heads * p.head_dim, head = channel / p.head_dim, c = channel % p.head_dim;
        original.load((const element_of<TYPE> *)p.elements + row * p.token_stride + head * p.head_stride + c);
        codes = load_codes<BITS>(p, row, channel);
        exact = ((const uint8_t *)p.exact)[(size_t)row * p.heads + head];
        if (p.keys) {
            size_t at = (size_t)(block.groups + block.in_chunk / p.group) * channels + channel;
            scales.load((const element_of<TYPE> *)p.scales + at);
            minima.load((const element_of<TYPE> *)p.minima + at);
        } else {
            size_t at = ((size_t)row * p.heads + head) * ((p.head_dim + p.group - 1) / p.group) + c / p.group;
            scales.fill(((const element_of<TYPE> *)p.scales)[at]);
            minima.fill(((const element_of<TYPE> *)p.minima)[at]);
        }
    }
    __device__ piece<TYPE> decode() const {
        return exact ? original : decode_piece<TYPE, BITS>(codes, scales, minima);
    }
};

/* Packed: a warp has two rows to itself, in shared memory too. */
template <int TYPE, int BITS> __device__ void compare_packed(const cuda_plane &p) {
    constexpr uint32_t ROWS = CUDA_COMPARE_ROWS_PACKED, WIDTH = CUDA_COMPARE_CHANNELS, STRIDE = WIDTH + 16;
    __shared__ alignas(16) element_of<TYPE> originals[ROWS * STRIDE], others[ROWS * STRIDE];
    uint32_t channels = p.heads * p.head_dim, r = threadIdx.x / 16, j = threadIdx.x % 16;
    row_block block = locate(p, blockIdx.x, ROWS);
    bool there = r < block.rows; /* threads without a row take part in the shuffles */
    comparison<TYPE, BITS> next;
    compared sum;
    if (there && j * CUDA_PIECE < channels)
        next.load(p, block, block.first + r, j * CUDA_PIECE);
    for (uint32_t first = 0; first < channels; first += WIDTH) {
        uint32_t channel = first + j * CUDA_PIECE;
        piece<TYPE> original, other;
        original.clear(); /* zeros change no sum */
        other.clear();
        if (there && channel < channels) {
            original = next.original;
            other = next.decode();
        }
        __syncwarp();
        original.store(originals + r * STRIDE + j * CUDA_PIECE);
        other.store(others + r * STRIDE + j * CUDA_PIECE);
        __syncwarp();
        if (there && channel + WIDTH < channels)
            next.load(p, block, block.first + r, channel + WIDTH);
#pragma unroll
        for (uint32_t c = 0; c < WIDTH; c += 16)
            sum.template add<TYPE>(originals[r * STRIDE + c + j], others[r * STRIDE + c + j]);
    }
    sum.add_lanes();
    if (there && j == 0)
        sum.store(p, block.first + r);
}

/* Any strides and head sizes. */
template <int TYPE, int BITS> __device__ void compare_strided(const cuda_plane &p) {
    constexpr uint32_t ROWS = CUDA_COMPARE_ROWS, WIDTH = CUDA_COMPARE_CHANNELS;
    constexpr uint32_t STRIDE = WIDTH + 4 / sizeof(element_of<TYPE>);
    __shared__ element_of<TYPE> originals[ROWS * STRIDE], others[ROWS * STRIDE];
    __shared__ int64_t offsets[WIDTH];
    __shared__ uint32_t columns[WIDTH], heads[WIDTH];
    uint32_t channels = p.heads * p.head_dim, t = threadIdx.x, r = t / 16, j = t % 16;
    row_block block = locate(p, blockIdx.x, ROWS);
    const element_of<TYPE> *from = (const element_of<TYPE> *)p.elements + block.first * p.token_stride;
    const uint8_t *exact = (const uint8_t *)p.exact + (size_t)(block.first + r) * p.heads;
    bool there = r < block.rows;
    compared sum;
    for (uint32_t first = 0; first < channels; first += WIDTH) {
        uint32_t width = min(WIDTH, channels - first);
        __syncthreads();
        if (t < width) {
            offsets[t] = channel_offset(p, first + t);
            columns[t] = column_of(p, first + t);
            heads[t] = (first + t) / p.head_dim;
        }
        __syncthreads();
        stage<TYPE>(p, from, offsets, block.rows, ROWS, width, originals, STRIDE);
        decode_tile<TYPE, BITS, WIDTH>(p, block, first, width, columns, others, STRIDE);
        __syncthreads();
        for (uint32_t c = j; there && c < width; c += 16) {
            element_of<TYPE> original = originals[r * STRIDE + c];
            sum.template add<TYPE>(original, exact[heads[c]] ? original : others[r * STRIDE + c]);
        }
    }
    sum.add_lanes();
    if (there && j == 0)
        sum.store(p, block.first + r);
}

#endif
