/* What the kernels share: element types, ranges, codes, and where blocks of rows lie. Bit for bit what numbers.h and
 * scalar.c do. */
#ifndef KVOT_DEVICE_CUH
#define KVOT_DEVICE_CUH

#include "../levels.h"
#include "launch.h"

constexpr uint32_t INFINITE = 0x7f800000u; /* bits */

template <int TYPE> struct storage { using element = uint16_t; };
template <> struct storage<KERNEL_F32> { using element = float; };
template <int TYPE> using element_of = typename storage<TYPE>::element;

template <int TYPE> __device__ float to_float(element_of<TYPE> element) {
    if constexpr (TYPE == KERNEL_F32) {
        return element;
    } else if constexpr (TYPE == KERNEL_BF16) {
        return __uint_as_float((uint32_t)element << 16);
    } else {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(element));
        return value;
    }
}

template <int TYPE> __device__ uint32_t bits_of(element_of<TYPE> element) {
    if constexpr (TYPE == KERNEL_F32)
        return __float_as_uint(element);
    else
        return element;
}

/* What is beyond the largest finite half becomes that half. */
__device__ inline float to_half_range(float value) {
    return fminf(fmaxf(value, -65504.0f), 65504.0f);
}

template <int TYPE> __device__ element_of<TYPE> from_float(float value) {
    if constexpr (TYPE == KERNEL_F32) {
        return value;
    } else if constexpr (TYPE == KERNEL_BF16) {
        uint32_t bits = __float_as_uint(value);
        return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    } else {
        uint16_t half;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(to_half_range(value)));
        return half;
    }
}

/* Eight neighbouring channels, in registers. */
template <int TYPE> struct piece {
    static constexpr int WORDS = TYPE == KERNEL_F32 ? 8 : 4;
    uint32_t words[WORDS];

    __device__ void clear() {
        for (int i = 0; i < WORDS; i++)
            words[i] = 0;
    }
    __device__ void fill(element_of<TYPE> element) {
        for (int i = 0; i < WORDS; i++)
            words[i] = bits_of<TYPE>(element) * (WORDS == 8 ? 1u : 0x10001u);
    }
    __device__ void load(const void *from) {
        for (int i = 0; i < WORDS / 4; i++) {
            uint4 four = ((const uint4 *)from)[i];
            words[4 * i] = four.x;
            words[4 * i + 1] = four.y;
            words[4 * i + 2] = four.z;
            words[4 * i + 3] = four.w;
        }
    }
    /* Makes the compiler convert elements again instead of keeping them as f32, which takes twice the registers. */
    __device__ void forget() {
        for (int i = 0; i < WORDS; i++)
            asm volatile("" : "+r"(words[i]));
    }
    __device__ void store(void *to) const {
        for (int i = 0; i < WORDS / 4; i++)
            ((uint4 *)to)[i] = make_uint4(words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]);
    }
    __device__ float get(int k) const {
        if constexpr (TYPE == KERNEL_F32) {
            return __uint_as_float(words[k]);
        } else if constexpr (TYPE == KERNEL_BF16) {
            return __uint_as_float(k % 2 == 0 ? words[k / 2] << 16 : words[k / 2] & 0xffff0000u);
        } else { /* taking a word apart costs nothing this way */
            uint16_t low, high;
            asm("mov.b32 {%0, %1}, %2;" : "=h"(low), "=h"(high) : "r"(words[k / 2]));
            return to_float<TYPE>(k % 2 == 0 ? low : high);
        }
    }
    /* Sets elements k and k + 1; k is even. */
    __device__ void set(int k, float value, float next) {
        if constexpr (TYPE == KERNEL_F32) {
            words[k] = __float_as_uint(value);
            words[k + 1] = __float_as_uint(next);
        } else if constexpr (TYPE == KERNEL_BF16) {
            words[k / 2] = from_float<TYPE>(value) | (uint32_t)from_float<TYPE>(next) << 16;
        } else {
            asm("cvt.rn.f16x2.f32 %0, %1, %2;"
                : "=r"(words[k / 2])
                : "f"(to_half_range(next)), "f"(to_half_range(value)));
        }
    }
};

/* What codes are made with: scalar.c, store_range. */
struct range {
    float minimum, inverse;
};

/* The range of a group that spans [low, high]; `store` writes scale and minimum to place `at`. */
template <int TYPE, int BITS>
__device__ range range_of(const cuda_plane &p, float low, float high, size_t at, bool store) {
    bool empty = low > high;
    float span = empty ? 0.0f : high - low;
    float margin = (1.0f - p.share) * 0.5f;
    element_of<TYPE> stored = from_float<TYPE>(span * p.share / (float)((1 << BITS) - 1));
    element_of<TYPE> least = from_float<TYPE>(empty ? 0.0f : low + span * margin);
    float scale = to_float<TYPE>(stored), minimum = to_float<TYPE>(least) + 0.0f; /* makes -0 into 0 */
    bool usable = !(scale < 0x1p-126f);                                           /* else 1 / scale could overflow */
    if (store) {
        ((element_of<TYPE> *)p.scales)[at] = usable ? stored : from_float<TYPE>(0.0f);
        ((element_of<TYPE> *)p.minima)[at] = from_float<TYPE>(minimum);
    }
    return range{minimum, usable ? 1.0f / scale : 0.0f};
}

/* Rounding and clamping change places here: the conversion takes what is below 0 to 0, and what is too large to the
 * largest integer. */
template <int BITS> __device__ uint32_t code_of(range range, float value) {
    return min(__float2uint_rn((value - range.minimum) * range.inverse), (1u << BITS) - 1u);
}

/* How codes lie in a row: LOW bits each, and for 3 bits the third one apart. A piece's codes are LOW bytes, and one. */
template <int BITS> struct packing { static constexpr int LOW = BITS == 3 ? 2 : BITS; };

struct packed_codes {
    uint64_t low;
    uint32_t high;
};

template <int BITS> __device__ void put_code(packed_codes &codes, int k, uint32_t code) {
    constexpr int LOW = packing<BITS>::LOW;
    uint32_t low = BITS == 3 ? code & 3u : code;
    if constexpr (LOW == 8)
        codes.low += (uint64_t)low << LOW * k;
    else
        codes.low = (uint32_t)codes.low + (low << LOW * k); /* shift and add are one instruction */
    if constexpr (BITS == 3)
        codes.high += code >> 2 << k;
}

template <int BITS> __device__ uint32_t get_code(packed_codes codes, int k) {
    constexpr int LOW = packing<BITS>::LOW;
    uint32_t code = (uint32_t)(codes.low >> LOW * k) & ((1u << LOW) - 1u);
    if constexpr (BITS == 3)
        code |= (codes.high >> k & 1u) << 2;
    return code;
}

__device__ inline size_t low_row_bytes(uint32_t channels, int low) {
    return ((size_t)channels * low + 7) / 8;
}

/* Address of a piece's codes. `channel` is a multiple of 8. */
template <int BITS> __device__ uint8_t *codes_at(const cuda_plane &p, size_t row, uint32_t channel) {
    constexpr int LOW = packing<BITS>::LOW;
    return (uint8_t *)p.codes + row * low_row_bytes(p.heads * p.head_dim, LOW) + channel / 8 * LOW;
}

template <int BITS> __device__ uint8_t *high_at(const cuda_plane &p, size_t row, uint32_t channel) {
    return (uint8_t *)p.high + row * low_row_bytes(p.heads * p.head_dim, 1) + channel / 8;
}

/* Whole pieces, aligned to their length. */
template <int BITS> __device__ void store_codes(const cuda_plane &p, size_t row, uint32_t channel, packed_codes codes) {
    uint8_t *to = codes_at<BITS>(p, row, channel);
    if constexpr (packing<BITS>::LOW == 2)
        *(uint16_t *)to = (uint16_t)codes.low;
    else if constexpr (packing<BITS>::LOW == 4)
        *(uint32_t *)to = (uint32_t)codes.low;
    else
        *(uint64_t *)to = codes.low;
    if constexpr (BITS == 3)
        *high_at<BITS>(p, row, channel) = (uint8_t)codes.high;
}

template <int BITS> __device__ packed_codes load_codes(const cuda_plane &p, size_t row, uint32_t channel) {
    const uint8_t *from = codes_at<BITS>(p, row, channel);
    packed_codes codes = {0, 0};
    if constexpr (packing<BITS>::LOW == 2)
        codes.low = *(const uint16_t *)from;
    else if constexpr (packing<BITS>::LOW == 4)
        codes.low = *(const uint32_t *)from;
    else
        codes.low = *(const uint64_t *)from;
    if constexpr (BITS == 3)
        codes.high = *high_at<BITS>(p, row, channel);
    return codes;
}

/* Byte by byte; of a row's last piece only the bytes that the row has. */
template <int BITS> __device__ int piece_bytes(const cuda_plane &p, uint32_t channel) {
    constexpr int LOW = packing<BITS>::LOW;
    uint32_t left = p.heads * p.head_dim - channel;
    return left < 8 ? (int)(left * LOW + 7) / 8 : LOW;
}

template <int BITS>
__device__ void store_code_bytes(const cuda_plane &p, size_t row, uint32_t channel, packed_codes codes) {
    uint8_t *to = codes_at<BITS>(p, row, channel);
    int bytes = piece_bytes<BITS>(p, channel);
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(codes.low >> 8 * i);
    if constexpr (BITS == 3)
        *high_at<BITS>(p, row, channel) = (uint8_t)codes.high;
}

template <int BITS> __device__ packed_codes load_code_bytes(const cuda_plane &p, size_t row, uint32_t channel) {
    const uint8_t *from = codes_at<BITS>(p, row, channel);
    packed_codes codes = {0, 0};
    int bytes = piece_bytes<BITS>(p, channel);
    for (int i = 0; i < bytes; i++)
        codes.low |= (uint64_t)from[i] << 8 * i;
    if constexpr (BITS == 3)
        codes.high = *high_at<BITS>(p, row, channel);
    return codes;
}

/* Block `number` of `size` rows, when every chunk is cut into such blocks on its own: cuda_row_blocks. It has no rows
 * if there is no such block. */
struct row_block {
    uint32_t first, rows; /* of the plane */
    uint32_t in_chunk;    /* how many rows of its chunk come before it */
    uint32_t groups;      /* how many groups of rows the chunks before it have */
};

__device__ inline row_block locate(const cuda_plane &p, uint32_t number, uint32_t size) {
    uint32_t first_blocks = (p.first + size - 1) / size, start = 0, length = p.first;
    row_block block;
    block.groups = 0;
    if (number >= first_blocks) {
        uint32_t chunk_blocks = (p.chunk_rows + size - 1) / size, chunk = (number - first_blocks) / chunk_blocks;
        number -= first_blocks + chunk * chunk_blocks;
        start = p.first + chunk * p.chunk_rows;
        length = start < p.rows ? min(p.chunk_rows, p.rows - start) : 0;
        block.groups = (p.first + p.group - 1) / p.group + chunk * ((p.chunk_rows + p.group - 1) / p.group);
    }
    block.in_chunk = number * size;
    block.first = start + block.in_chunk;
    block.rows = block.in_chunk < length ? min(size, length - block.in_chunk) : 0;
    return block;
}

__device__ inline bool tokens_are_neighbours(const cuda_plane &p) {
    return llabs(p.token_stride) < llabs(p.channel_stride);
}

/* Where channel `channel` of a row lies, from the row's first element. */
__device__ inline int64_t channel_offset(const cuda_plane &p, uint32_t channel) {
    return channel / p.head_dim * p.head_stride + channel % p.head_dim * p.channel_stride;
}

/* Reads `rows` of at most `most` rows, and the `width` channels at `offsets`, into a tile of shared memory, along
 * whichever axis is dense in memory. A thread fills whole words of the tile. */
template <int TYPE>
__device__ void stage(const cuda_plane &p, const element_of<TYPE> *from, const int64_t *offsets, uint32_t rows,
                      uint32_t most, uint32_t width, element_of<TYPE> *tile, uint32_t stride) {
    constexpr uint32_t IN_WORD = 4 / sizeof(element_of<TYPE>);
    uint32_t words = (width + IN_WORD - 1) / IN_WORD;
    bool tokens = tokens_are_neighbours(p);
    for (uint32_t i = threadIdx.x; i < most * words; i += CUDA_THREADS) {
        uint32_t r = tokens ? i % most : i / words, c = (tokens ? i / most : i % words) * IN_WORD;
#pragma unroll
        for (uint32_t k = 0; k < IN_WORD; k++)
            if (r < rows && c + k < width)
                tile[r * stride + c + k] = from[r * p.token_stride + offsets[c + k]];
    }
}

#endif
