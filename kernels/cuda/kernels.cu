/* The module: every kernel by name, one for each element type and number of bits. */
#include "choose.cuh"
#include "compare.cuh"
#include "dequantize.cuh"
#include "exact.cuh"
#include "magnitudes.cuh"
#include "quantize_keys.cuh"
#include "quantize_values.cuh"

#define KERNEL(name, threads, blocks, body)                                                                            \
    extern "C" __global__ void __launch_bounds__(threads, blocks) kvot_##name(const __grid_constant__ cuda_plane p) {  \
        body(p);                                                                                                       \
    }

/* Packed keys have 128, 256 or 512 threads in a block. With 64 registers (f32: 128) four blocks of 256 find room on a
 * multiprocessor (f32: two). More registers would spare a few spilled words, but more warps are worth more. */
#define KEYS(name, type, bits, pass)                                                                                   \
    extern "C" __global__ void __maxnreg__((type) == KERNEL_F32 ? 128 : 64)                                            \
        kvot_##name(const __grid_constant__ cuda_plane p) {                                                            \
        quantize_keys_packed<type, bits, pass>(p);                                                                     \
    }

#define FOR_BITS(name, type, bits)                                                                                     \
    KEYS(quantize_keys_packed_##name##_##bits, type, bits, ONE_PASS)                                                   \
    KEYS(measure_keys_##name##_##bits, type, bits, FIRST_PASS)                                                         \
    KEYS(settle_keys_##name##_##bits, type, bits, SECOND_PASS)                                                         \
    KERNEL(measure_values_##name##_##bits, CUDA_THREADS, (type) == KERNEL_F32 ? 2 : 4,                                 \
           (quantize_values_packed<type, bits, true>))                                                                 \
    KERNEL(settle_values_##name##_##bits, CUDA_THREADS, 4, (blank_values<type, bits>))                                 \
    KERNEL(quantize_keys_strided_##name##_##bits, CUDA_THREADS, 2, (quantize_keys_strided<type, bits>))                \
    KERNEL(quantize_values_packed_##name##_##bits, CUDA_THREADS, (type) == KERNEL_F32 ? 2 : 4,                         \
           (quantize_values_packed<type, bits, false>))                                                                \
    KERNEL(quantize_values_strided_##name##_##bits, CUDA_THREADS, 2, (quantize_values_strided<type, bits>))            \
    KERNEL(dequantize_keys_packed_##name##_##bits, CUDA_THREADS, 4, (dequantize_packed<type, bits, true>))             \
    KERNEL(dequantize_values_packed_##name##_##bits, CUDA_THREADS, 4, (dequantize_packed<type, bits, false>))          \
    KERNEL(dequantize_strided_##name##_##bits, CUDA_THREADS, 4, (dequantize_strided<type, bits>))                      \
    KERNEL(compare_packed_##name##_##bits, 16 * CUDA_COMPARE_ROWS_PACKED, (type) == KERNEL_F32 ? 6 : 8,                \
           (compare_packed<type, bits>))                                                                               \
    KERNEL(compare_strided_##name##_##bits, CUDA_THREADS, 4, (compare_strided<type, bits>))

#define FOR_TYPE(name, type)                                                                                           \
    KERNEL(magnitudes_packed_##name, CUDA_THREADS, 4, (magnitudes<type, 16 / sizeof(element_of<type>), false>))        \
    KERNEL(magnitudes_channels_##name, CUDA_THREADS, 4, (magnitudes<type, 1, false>))                                  \
    KERNEL(magnitudes_tokens_##name, CUDA_THREADS, 2, (magnitudes<type, 16, true>))                                    \
    FOR_BITS(name, type, 2)                                                                                            \
    FOR_BITS(name, type, 3)                                                                                            \
    FOR_BITS(name, type, 4)                                                                                            \
    FOR_BITS(name, type, 8)

FOR_TYPE(f32, KERNEL_F32)
FOR_TYPE(f16, KERNEL_F16)
FOR_TYPE(bf16, KERNEL_BF16)

extern "C" __global__ void __launch_bounds__(CUDA_THREADS) kvot_choose(const __grid_constant__ cuda_sizes p) {
    choose(p);
}

#define MOVE_EXACT(name, word, out)                                                                                    \
    extern "C" __global__ void __launch_bounds__(CUDA_THREADS) kvot_##name(const __grid_constant__ cuda_exact p) {     \
        move_exact<word, out>(p);                                                                                      \
    }
MOVE_EXACT(gather_f32, uint32_t, true)
MOVE_EXACT(gather_f16, uint16_t, true)
MOVE_EXACT(scatter_f32, uint32_t, false)
MOVE_EXACT(scatter_f16, uint16_t, false)
