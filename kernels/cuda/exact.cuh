/* Exact rows, out of a plane and back into it. */
#include "device.cuh"

/* A row of a head for each entry of a list, to or from an array [n][head_dim]. Few bytes; a warp takes one row. */
template <typename WORD, bool OUT> __device__ void move_exact(const cuda_exact &p) {
    uint64_t i = (uint64_t)blockIdx.x * (CUDA_THREADS / 32) + threadIdx.x / 32;
    if (i >= p.n)
        return;
    cuda_row row = ((const cuda_row *)p.list)[i];
    WORD *elements = (WORD *)p.elements + row.row * p.token_stride + row.head * p.head_stride;
    WORD *values = (WORD *)p.values + i * p.head_dim;
    for (uint32_t c = threadIdx.x % 32; c < p.head_dim; c += 32) {
        if constexpr (OUT)
            values[c] = elements[c * p.channel_stride];
        else
            elements[c * p.channel_stride] = values[c];
    }
}
