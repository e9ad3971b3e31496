/* Magnitudes out of the registers of a kernel that quantizes, so that rows are read once. */
#ifndef KVOT_MEASURE_CUH
#define KVOT_MEASURE_CUH

#include "device.cuh"

/* Two rows of a warp's pieces. */
template <int TYPE> struct measure_stage {
    static constexpr uint32_t ROW = 32 * CUDA_PIECE + 16; /* elements */
    alignas(16) element_of<TYPE> elements[2 * ROW];
};

/* One of the 16 sums of a row. */
template <int TYPE, bool SQUARES> struct measured {
    float sum = 0.0f, square = 0.0f;
    uint32_t largest = 0;

    /* Every 16th element; `elements` is a multiple of 16 * STEPS. */
    template <int STEPS> __device__ void add(const element_of<TYPE> *from, uint32_t elements) {
        for (uint32_t c = 0; c < elements; c += 16 * STEPS) {
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                float value = to_float<TYPE>(from[c + 16 * step]);
                sum += fabsf(value);
                if constexpr (SQUARES)
                    square += value * value;
                if constexpr (TYPE != KERNEL_F16) /* halves that are finite are small, and so are their sums */
                    largest = max(largest, __float_as_uint(fabsf(value)));
            }
        }
    }
};

/* For a warp whose lanes hold pieces of 8 rows, those of a head in `head_lanes` neighbouring lanes (a power of two, at
 * least 2; lanes beyond the head hold zeros). `first`, `rows` and `head` say which rows a lane's are, and how many of
 * them are there.
 *
 * Two rows at a time go through shared memory, as elements: half a warp adds up one row of a head, a lane one of the 16
 * sums, whose order cannot be had otherwise. The second row is shifted by half of what a warp reads at once, so that
 * the halves meet different banks. About 10 instructions an element with squares, 7 without. */
template <int TYPE, bool SQUARES>
__device__ void measure_pieces(const cuda_plane &p, const piece<TYPE> (&pieces)[CUDA_THREAD_ROWS],
                               measure_stage<TYPE> &stage, uint32_t head_lanes, uint32_t first, uint32_t rows,
                               uint32_t head) {
    constexpr uint32_t ALL = 0xffffffffu;
    uint32_t lane = threadIdx.x % 32, half = lane / 16, j = lane % 16;
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i += 2) {
        __syncwarp();
        pieces[i].store(stage.elements + lane * CUDA_PIECE);
        pieces[i + 1].store(stage.elements + stage.ROW + lane * CUDA_PIECE);
        __syncwarp();
        for (uint32_t begin = 0; begin < 32; begin += head_lanes) { /* the lanes of a head */
            const element_of<TYPE> *from = stage.elements + half * stage.ROW + begin * CUDA_PIECE + j;
            measured<TYPE, SQUARES> all;
            uint32_t elements = head_lanes * CUDA_PIECE;
            if (elements < 64)
                all.template add<1>(from, elements);
            else
                all.template add<4>(from, elements);
#pragma unroll
            for (int width = 8; width > 0; width /= 2) {
                all.sum += __shfl_xor_sync(ALL, all.sum, width);
                if constexpr (SQUARES)
                    all.square += __shfl_xor_sync(ALL, all.square, width);
                if constexpr (TYPE != KERNEL_F16)
                    all.largest = max(all.largest, __shfl_xor_sync(ALL, all.largest, width));
            }
            bool infinite =
                TYPE == KERNEL_F16 ? !(all.sum < __uint_as_float(INFINITE)) : all.largest >= KERNEL_TOO_LARGE;
            uint32_t row = i + half, of_first = __shfl_sync(ALL, first, begin), of_head = __shfl_sync(ALL, head, begin);
            if (row < __shfl_sync(ALL, rows, begin) && j == 0) {
                size_t at = (size_t)(of_first + row) * p.heads + of_head;
                ((float *)p.sums)[at] = infinite ? __uint_as_float(INFINITE) : all.sum;
                if (SQUARES && p.squares)
                    ((float *)p.squares)[at] = infinite ? __uint_as_float(INFINITE) : all.square;
            }
        }
    }
    __syncwarp();
}

#endif
