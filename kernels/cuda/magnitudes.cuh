/* Magnitudes of rows: 16 interleaved sums, added pairwise.
 *
 * V channels are loaded at once by a thread, which holds as many of the 16 sums; 16 / V threads share a row of a head.
 * Packed: V is 16 bytes. Neighbouring threads read neighbouring 16 bytes, so every 32-byte sector that is fetched is
 * used whole, at once. Channels: V is 1; 16 threads read 16 neighbouring elements. Tokens: one thread adds up a whole
 * row, and its neighbours' rows lie beside it in memory.
 *
 * Bytes moved for each element: its size, and 8 / head_dim for the results. About 5 instructions an element (convert,
 * two additions, a multiplication, a maximum), of the 17 that an H100 issues in the time that 2 bytes take: packed
 * should reach 0.9 of peak bandwidth, and so should tokens with 2-byte elements if a warp's 32 tokens are aligned to 64
 * bytes. */
#include "device.cuh"

template <int TYPE, int V> struct lanes { float value[V]; };

template <int TYPE, int V> __device__ lanes<TYPE, V> load_lanes(const cuda_plane &p, int64_t at, uint32_t left) {
    const element_of<TYPE> *from = (const element_of<TYPE> *)p.elements + at;
    lanes<TYPE, V> lanes;
    if constexpr (V == 16 / sizeof *from) {
        uint4 four = left > 0 ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
        uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < V; k++) {
            if constexpr (TYPE == KERNEL_F32)
                lanes.value[k] = __uint_as_float(words[k]);
            else
                lanes.value[k] = to_float<TYPE>((uint16_t)(words[k / 2] >> 16 * (k % 2)));
        }
    } else {
#pragma unroll
        for (int k = 0; k < V; k++)
            lanes.value[k] = (uint32_t)k < left ? to_float<TYPE>(from[k * p.channel_stride]) : 0.0f;
    }
    return lanes;
}

/* Adds up the 16 sums. The row's first thread gets the result. */
template <int V> __device__ float add_lanes(float (&sum)[V]) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        const int width = 8 >> step;
        if (width >= V) {
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] += __shfl_xor_sync(0xffffffffu, sum[k], width / V);
        } else {
#pragma unroll
            for (int k = 0; k < V; k++)
                if (k < width)
                    sum[k] += sum[(k + width) % V];
        }
    }
    return sum[0];
}

template <int TYPE, int V, bool TOKENS> __device__ void magnitudes(const cuda_plane &p) {
    constexpr uint32_t SHARE = 16 / V; /* threads for a row of a head */
    uint64_t i = ((uint64_t)blockIdx.x * CUDA_THREADS + threadIdx.x) / SHARE, n = (uint64_t)p.rows * p.heads;
    uint32_t begin = threadIdx.x % SHARE * V;
    bool there = i < n; /* threads without a row take part in the shuffles */
    uint64_t row = TOKENS ? i % p.rows : i / p.heads, head = TOKENS ? i / p.rows : i % p.heads;
    int64_t base = (int64_t)row * p.token_stride + (int64_t)head * p.head_stride;
    float sum[V] = {}, square[V] = {};
    uint32_t largest = 0;
    /* Adding 0 for what is beyond the head changes no sum. */
#pragma unroll 4
    for (uint32_t c = begin; there && c < p.head_dim; c += 16) {
        lanes<TYPE, V> next = load_lanes<TYPE, V>(p, base + c * p.channel_stride, p.head_dim - c);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float value = fabsf(next.value[k]);
            largest = max(largest, __float_as_uint(value));
            sum[k] += value;
            square[k] += value * value;
        }
    }
#pragma unroll
    for (uint32_t width = SHARE / 2; width > 0; width /= 2)
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, width));
    float total = add_lanes<V>(sum), squares = add_lanes<V>(square);
    if (!there || begin != 0)
        return;
    bool infinite = largest >= KERNEL_TOO_LARGE;
    uint64_t at = row * p.heads + head;
    ((float *)p.sums)[at] = infinite ? __uint_as_float(0x7f800000u) : total;
    if (p.squares)
        ((float *)p.squares)[at] = infinite ? __uint_as_float(0x7f800000u) : squares;
}
