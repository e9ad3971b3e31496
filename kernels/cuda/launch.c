/* Names of the kernels, and how each is launched. */
#include "launch.h"

#include <stdio.h>

static uint32_t ceil_div(uint64_t n, uint32_t by) {
    return (uint32_t)((n + by - 1) / by);
}

static uint32_t min_of(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static const char *const families[CUDA_FAMILIES] = {
    [CUDA_MAGNITUDES_PACKED] = "magnitudes_packed",
    [CUDA_MAGNITUDES_CHANNELS] = "magnitudes_channels",
    [CUDA_MAGNITUDES_TOKENS] = "magnitudes_tokens",
    [CUDA_QUANTIZE_KEYS_PACKED] = "quantize_keys_packed",
    [CUDA_QUANTIZE_KEYS_STRIDED] = "quantize_keys_strided",
    [CUDA_QUANTIZE_VALUES_PACKED] = "quantize_values_packed",
    [CUDA_QUANTIZE_VALUES_STRIDED] = "quantize_values_strided",
    [CUDA_MEASURE_KEYS] = "measure_keys",
    [CUDA_SETTLE_KEYS] = "settle_keys",
    [CUDA_MEASURE_VALUES] = "measure_values",
    [CUDA_SETTLE_VALUES] = "settle_values",
    [CUDA_DEQUANTIZE_KEYS_PACKED] = "dequantize_keys_packed",
    [CUDA_DEQUANTIZE_VALUES_PACKED] = "dequantize_values_packed",
    [CUDA_DEQUANTIZE_STRIDED] = "dequantize_strided",
    [CUDA_COMPARE_PACKED] = "compare_packed",
    [CUDA_COMPARE_STRIDED] = "compare_strided",
    [CUDA_CHOOSE] = "choose",
    [CUDA_GATHER] = "gather",
    [CUDA_SCATTER] = "scatter",
};

static const unsigned bit_widths[] = {2, 3, 4, 8};
enum { BIT_WIDTHS = sizeof bit_widths / sizeof *bit_widths };

bool cuda_kernel_name(uint32_t kernel, char name[64]) {
    static const char *const types[] = {[KERNEL_F32] = "f32", [KERNEL_F16] = "f16", [KERNEL_BF16] = "bf16"};
    uint32_t family = kernel / CUDA_VARIANTS, type = kernel % CUDA_VARIANTS / BIT_WIDTHS, bits = kernel % BIT_WIDTHS;
    if (family >= CUDA_FAMILIES)
        return false;
    if (family >= CUDA_QUANTIZE_KEYS_PACKED && family <= CUDA_COMPARE_STRIDED) {
        snprintf(name, 64, "kvot_%s_%s_%u", families[family], types[type], bit_widths[bits]);
        return true;
    }
    if (family == CUDA_CHOOSE)
        snprintf(name, 64, "kvot_%s", families[family]);
    else
        snprintf(name, 64, "kvot_%s_%s", families[family], types[type]);
    return bits == 0 && (family != CUDA_CHOOSE || type == 0) && (family < CUDA_GATHER || type != KERNEL_BF16);
}

static uint32_t kernel_of(cuda_family family, const cuda_plane *plane, bool by_bits) {
    uint32_t bits = 0;
    while (by_bits && bits + 1 < BIT_WIDTHS && bit_widths[bits] != plane->bits)
        bits++;
    return family * CUDA_VARIANTS + plane->type * BIT_WIDTHS + bits;
}

static uint64_t distance(int64_t stride) {
    return stride < 0 ? -(uint64_t)stride : (uint64_t)stride;
}

/* True if every piece of channels is aligned and lies inside a head. */
static bool is_packed(const cuda_plane *plane) {
    uint64_t lanes = 16 / (plane->type == KERNEL_F32 ? sizeof(float) : sizeof(uint16_t));
    return plane->channel_stride == 1 && plane->head_dim % CUDA_PIECE == 0 && plane->elements % 16 == 0 &&
           distance(plane->token_stride) % lanes == 0 && distance(plane->head_stride) % lanes == 0;
}

static uint32_t last_rows(const cuda_plane *plane) {
    return (plane->rows - plane->first) % plane->chunk_rows;
}

uint32_t cuda_row_blocks(const cuda_plane *plane, uint32_t size) {
    uint32_t full = (plane->rows - plane->first) / plane->chunk_rows;
    return ceil_div(plane->first, size) + full * ceil_div(plane->chunk_rows, size) + ceil_div(last_rows(plane), size);
}

size_t cuda_ranges(const cuda_plane *plane) {
    return plane->keys ? (size_t)cuda_row_blocks(plane, plane->group) * plane->heads * plane->head_dim
                       : (size_t)plane->rows * plane->heads * ceil_div(plane->head_dim, plane->group);
}

size_t cuda_row_code_bytes(const cuda_plane *plane) {
    return ((size_t)plane->heads * plane->head_dim * (plane->bits == 3 ? 2 : plane->bits) + 7) / 8;
}

size_t cuda_row_high_bytes(const cuda_plane *plane) {
    return plane->bits == 3 ? ((size_t)plane->heads * plane->head_dim + 7) / 8 : 0;
}

cuda_launch cuda_magnitudes(const cuda_plane *plane) {
    bool packed = is_packed(plane), tokens = distance(plane->token_stride) < distance(plane->channel_stride);
    cuda_family family = packed ? CUDA_MAGNITUDES_PACKED : tokens ? CUDA_MAGNITUDES_TOKENS : CUDA_MAGNITUDES_CHANNELS;
    uint32_t share = packed ? (plane->type == KERNEL_F32 ? 4 : 2) : tokens ? 1 : 16; /* threads for a row of a head */
    return (cuda_launch){.kernel = kernel_of(family, plane, false),
                         .blocks = ceil_div((uint64_t)plane->rows * plane->heads * share, CUDA_THREADS),
                         .threads = CUDA_THREADS};
}

cuda_launch cuda_choose(const cuda_sizes *sizes) {
    uint32_t chunks = 1 + ceil_div(sizes->rows - sizes->first, sizes->chunk_rows);
    return (cuda_launch){.kernel = CUDA_CHOOSE * CUDA_VARIANTS,
                         .blocks = ceil_div((uint64_t)chunks * sizes->heads, CUDA_THREADS / 32),
                         .threads = CUDA_THREADS};
}

/* Shared memory of a tile of strided values: the most that one of a plane's tiles takes. */
static uint32_t value_tile_bytes(const cuda_plane *plane) {
    uint32_t head_dim = plane->head_dim, group = min_of(plane->group, head_dim), tile = CUDA_VALUE_CHANNELS;
    uint32_t head_groups = ceil_div(head_dim, plane->group), heads = (tile - 2 + head_dim) / head_dim + 1;
    uint32_t groups = head_dim < tile ? heads * head_groups : tile / plane->group + 3;
    uint32_t width = min_of(tile + 2 * (group - 1), plane->heads * head_dim);
    uint32_t bytes = plane->type == KERNEL_F32 ? 4 : 2,
             rows = plane->type == KERNEL_F32 ? CUDA_VALUE_ROWS / 2 : CUDA_VALUE_ROWS;
    return width * 8 + rows * groups * 8 + (groups + 1) * 4 + rows * (width + 4) * bytes;
}

static cuda_launch quantize_keys(const cuda_plane *plane) {
    uint32_t channels = plane->heads * plane->head_dim, groups = cuda_row_blocks(plane, plane->group);
    uint32_t warps = plane->group / CUDA_THREAD_ROWS;
    if (is_packed(plane))
        return (cuda_launch){.kernel = kernel_of(CUDA_QUANTIZE_KEYS_PACKED, plane, true),
                             .blocks = groups * ceil_div(channels, 32 * CUDA_PIECE),
                             .threads = 32 * warps,
                             .shared_bytes = warps * CUDA_KEY_SLOTS * 8};
    return (cuda_launch){.kernel = kernel_of(CUDA_QUANTIZE_KEYS_STRIDED, plane, true),
                         .blocks = groups * ceil_div(channels, CUDA_KEY_CHANNELS),
                         .threads = CUDA_THREADS};
}

static cuda_launch quantize_values(const cuda_plane *plane) {
    uint32_t rows = plane->type == KERNEL_F32 ? CUDA_VALUE_ROWS / 2 : CUDA_VALUE_ROWS;
    uint64_t pieces = (uint64_t)plane->heads * ceil_div(plane->head_dim, plane->group) * (plane->group / CUDA_PIECE);
    if (is_packed(plane))
        return (cuda_launch){.kernel = kernel_of(CUDA_QUANTIZE_VALUES_PACKED, plane, true),
                             .blocks = ceil_div(ceil_div(plane->rows, CUDA_THREAD_ROWS) * pieces, CUDA_THREADS),
                             .threads = CUDA_THREADS};
    return (cuda_launch){.kernel = kernel_of(CUDA_QUANTIZE_VALUES_STRIDED, plane, true),
                         .blocks = ceil_div(plane->rows, rows) *
                                   ceil_div((uint64_t)plane->heads * plane->head_dim, CUDA_VALUE_CHANNELS),
                         .threads = CUDA_THREADS,
                         .shared_bytes = value_tile_bytes(plane)};
}

cuda_launch cuda_quantize(const cuda_plane *plane) {
    return plane->keys ? quantize_keys(plane) : quantize_values(plane);
}

/* True if the lanes that hold a row of a head are a power of two, and in one warp: then rows can be measured where they
 * are quantized. */
static bool can_measure(const cuda_plane *plane) {
    uint32_t lanes = plane->keys ? plane->head_dim / CUDA_PIECE
                                 : ceil_div(plane->head_dim, plane->group) * (plane->group / CUDA_PIECE);
    return is_packed(plane) && lanes >= 2 && lanes <= 32 && 32 % lanes == 0;
}

cuda_launch cuda_measure(const cuda_plane *plane) {
    if (!can_measure(plane))
        return cuda_magnitudes(plane);
    cuda_launch launch = cuda_quantize(plane);
    launch.kernel = kernel_of(plane->keys ? CUDA_MEASURE_KEYS : CUDA_MEASURE_VALUES, plane, true);
    return launch;
}

cuda_launch cuda_settle(const cuda_plane *plane) {
    cuda_launch launch = cuda_quantize(plane);
    if (!can_measure(plane))
        return launch;
    launch.kernel = kernel_of(plane->keys ? CUDA_SETTLE_KEYS : CUDA_SETTLE_VALUES, plane, true);
    if (!plane->keys)
        launch.blocks = ceil_div((uint64_t)plane->rows * plane->heads, CUDA_THREADS);
    return launch;
}

cuda_launch cuda_dequantize(const cuda_plane *plane) {
    uint64_t channels = (uint64_t)plane->heads * plane->head_dim;
    if (is_packed(plane)) {
        cuda_family family = plane->keys ? CUDA_DEQUANTIZE_KEYS_PACKED : CUDA_DEQUANTIZE_VALUES_PACKED;
        uint64_t pieces = cuda_row_blocks(plane, CUDA_THREAD_ROWS) * (channels / CUDA_PIECE);
        return (cuda_launch){.kernel = kernel_of(family, plane, true),
                             .blocks = ceil_div(pieces, CUDA_THREADS),
                             .threads = CUDA_THREADS};
    }
    return (cuda_launch){.kernel = kernel_of(CUDA_DEQUANTIZE_STRIDED, plane, true),
                         .blocks = cuda_row_blocks(plane, CUDA_TILE) * ceil_div(channels, CUDA_TILE),
                         .threads = CUDA_THREADS};
}

cuda_launch cuda_compare(const cuda_plane *plane) {
    bool packed = is_packed(plane);
    uint32_t rows = packed ? CUDA_COMPARE_ROWS_PACKED : CUDA_COMPARE_ROWS;
    return (cuda_launch){.kernel = kernel_of(packed ? CUDA_COMPARE_PACKED : CUDA_COMPARE_STRIDED, plane, true),
                         .blocks = cuda_row_blocks(plane, rows),
                         .threads = 16 * rows};
}

static cuda_launch move_exact(cuda_family family, const cuda_exact *exact) {
    kernel_type type = exact->type == KERNEL_F32 ? KERNEL_F32 : KERNEL_F16;
    return (cuda_launch){.kernel = family * CUDA_VARIANTS + type * BIT_WIDTHS,
                         .blocks = ceil_div(exact->n, CUDA_THREADS / 32),
                         .threads = CUDA_THREADS};
}

cuda_launch cuda_gather(const cuda_exact *exact) {
    return move_exact(CUDA_GATHER, exact);
}

cuda_launch cuda_scatter(const cuda_exact *exact) {
    return move_exact(CUDA_SCATTER, exact);
}
