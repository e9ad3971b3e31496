/* The same arithmetic as kernels.h for CUDA devices: what the kernels take, and how they are launched. For C and CUDA.
 *
 * A launch works on one plane, whose rows are cut into chunks: chunk 0 has `first` rows, every other `chunk_rows`, the
 * last what is left. All arrays hold the whole plane, and a chunk's slice of each is what the scalar kernels write for
 * that chunk: groups of keys start again in every chunk. Row r of a plane has its codes at r * cuda_row_code_bytes.
 *
 * All addresses are device addresses. `elements` is aligned to its type; the others to 16 bytes.
 */
#ifndef KVOT_LAUNCH_H
#define KVOT_LAUNCH_H

#include "../kernels.h"

typedef struct cuda_plane {
    uint64_t elements;                                 /* of token 0, head 0, channel 0 */
    int64_t token_stride, head_stride, channel_stride; /* in elements */
    uint64_t exact;                                    /* [rows][heads] */
    uint64_t sums, squares;                            /* [rows][heads]; `squares` may be 0 */
    uint64_t scales, minima, codes, high;              /* as in kernel_codes; `high` for 3 bits only */
    uint64_t losses;                                   /* kernel_loss [rows] */
    uint32_t rows, first, chunk_rows;                  /* first <= rows */
    uint32_t heads, head_dim, group;
    float share;
    uint32_t type, bits, keys; /* as in kernel_chunk */
} cuda_plane;

/* For the kernel that chooses: the magnitudes of K and V, and the exact rows of both. Exact rows of K are the default
 * rule's if `rule` is set, else those that `exact` holds already; exact rows of V are those of K. Rows of
 * infinite magnitude are added to each. */
typedef struct cuda_sizes {
    uint64_t keys, key_squares; /* [rows][heads]; squares for the rule only */
    uint64_t values;            /* 0: counts as 1 */
    uint64_t exact;             /* of K: [rows][heads] */
    uint64_t value_exact;       /* of V, likewise; 0: V has none, or its own number of heads */
    uint32_t rows, first, chunk_rows, heads;
    uint32_t start; /* chunk 0 holds position 0 */
    uint32_t rule;
} cuda_sizes;

/* For the kernels that take exact rows out of a plane, and put them back: the i-th row of the list is at
 * `values` + i * head_dim elements. */
typedef struct cuda_row {
    uint32_t row, head;
} cuda_row;

typedef struct cuda_exact {
    uint64_t elements;
    int64_t token_stride, head_stride, channel_stride;
    uint64_t list, values;
    uint64_t n;
    uint32_t head_dim, type;
} cuda_exact;

/* What the kernels are built for. Packed: a row's channels lie side by side, in pieces of 8 that can be loaded at once;
 * strided: anything else. */
typedef enum cuda_family {
    CUDA_MAGNITUDES_PACKED,
    CUDA_MAGNITUDES_CHANNELS, /* neighbours in memory are channels */
    CUDA_MAGNITUDES_TOKENS,   /* neighbours in memory are tokens */
    CUDA_QUANTIZE_KEYS_PACKED,
    CUDA_QUANTIZE_KEYS_STRIDED,
    CUDA_QUANTIZE_VALUES_PACKED,
    CUDA_QUANTIZE_VALUES_STRIDED,
    CUDA_MEASURE_KEYS, /* packed too */
    CUDA_SETTLE_KEYS,
    CUDA_MEASURE_VALUES,
    CUDA_SETTLE_VALUES,
    CUDA_DEQUANTIZE_KEYS_PACKED,
    CUDA_DEQUANTIZE_VALUES_PACKED,
    CUDA_DEQUANTIZE_STRIDED,
    CUDA_COMPARE_PACKED,
    CUDA_COMPARE_STRIDED,
    CUDA_CHOOSE,
    CUDA_GATHER, /* by size of an element only: f32 or f16 */
    CUDA_SCATTER,
    CUDA_FAMILIES
} cuda_family;

enum {
    CUDA_VARIANTS = 12, /* types times bits */
    CUDA_KERNELS = CUDA_FAMILIES * CUDA_VARIANTS
};

/* Sizes that kernels and launches agree on. */
enum {
    CUDA_PIECE = 8,            /* channels that a thread of a packed kernel takes */
    CUDA_THREADS = 256,        /* of a block, but for packed keys: a warp for every 8 rows of a group */
    CUDA_THREAD_ROWS = 8,      /* rows that a thread of a packed kernel takes */
    CUDA_KEY_CHANNELS = 64,    /* a tile of strided keys: these channels of a group */
    CUDA_VALUE_CHANNELS = 128, /* a tile of strided values: these channels, and what is missing of their groups */
    CUDA_VALUE_ROWS = 32,      /* of that; half as many of f32 */
    CUDA_KEY_SLOTS = 8 * 36,   /* packed keys: 8 bytes of shared memory each, for every warp */
    CUDA_TILE = 64,            /* strided dequantize: rows and channels of a tile */
    CUDA_COMPARE_CHANNELS = 128,
    CUDA_COMPARE_ROWS_PACKED = 8, /* compare: rows of a block, each with 16 threads */
    CUDA_COMPARE_ROWS = CUDA_THREADS / 16
};

typedef struct cuda_launch {
    uint32_t kernel; /* number, below CUDA_KERNELS */
    uint32_t blocks, threads, shared_bytes;
} cuda_launch;

/* The kernel's name in the module; false if there is no kernel with that number. */
bool cuda_kernel_name(uint32_t kernel, char name[64]);

/* How to launch a kernel; its only argument is the struct itself. */
cuda_launch cuda_magnitudes(const cuda_plane *plane);
cuda_launch cuda_choose(const cuda_sizes *sizes);
cuda_launch cuda_quantize(const cuda_plane *plane);

/* Magnitudes and codes with one read of the rows, where that can be: cuda_measure, then cuda_choose, which says what is
 * exact, then cuda_settle. Else the same as cuda_magnitudes and cuda_quantize. Between the two, codes, scales and
 * minima mean nothing. */
cuda_launch cuda_measure(const cuda_plane *plane);
cuda_launch cuda_settle(const cuda_plane *plane);
cuda_launch cuda_dequantize(const cuda_plane *plane);

/* What the codes lose of each row of the plane, over all heads and channels: what compare says of the row and of what
 * becomes of it, decoded and with exact rows in place. */
cuda_launch cuda_compare(const cuda_plane *plane);
cuda_launch cuda_gather(const cuda_exact *exact);
cuda_launch cuda_scatter(const cuda_exact *exact);

/* Sizes of a plane's arrays. */
size_t cuda_ranges(const cuda_plane *plane); /* groups in all chunks */
size_t cuda_row_code_bytes(const cuda_plane *plane);
size_t cuda_row_high_bytes(const cuda_plane *plane);

/* How many pieces of `size` rows the chunks have if each is cut on its own. */
uint32_t cuda_row_blocks(const cuda_plane *plane, uint32_t size);

#endif
