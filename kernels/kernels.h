/* Arithmetic on arrays: outlier tokens, group ranges, codes. No files, threads or formats here.
 *
 * The scalar functions define the result; any other level must return the same bytes. All arithmetic is IEEE single
 * precision, round to nearest even, without contraction. Formulas: format/SPEC.md, "ott streams".
 *
 * A chunk is an array [rows][heads][head_dim] of one element type, rows contiguous, aligned to its element. `exact` is
 * [rows][heads]: 1 where that row of that head is an outlier token, whose values take no part in a range and whose
 * codes are 0. No function allocates or fails; all may be called from any thread.
 */
#ifndef KVOT_KERNELS_H
#define KVOT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kernel_type { KERNEL_F32, KERNEL_F16, KERNEL_BF16 } kernel_type;

typedef struct kernel_chunk {
    kernel_type type;
    uint32_t rows, heads, head_dim;
    uint32_t group; /* rows (keys) or channels of a head (values) that share a scale and a minimum */
    uint32_t bits;  /* 2, 3, 4 or 8 */
    bool keys;      /* K: per channel over rows; V: per row over channels */
    float share;    /* quantize: the middle share of each group's range that codes span; 1 for all of it. Values outside
                       get the nearest code */
} kernel_chunk;

/* What quantize writes and dequantize reads. `scales` and `minima` have the chunk's element type:
 * keys [ceil(rows / group)][heads][head_dim], values [rows][heads][ceil(head_dim / group)].
 * `codes` is [rows][row_code_bytes]; `high` [rows][row_high_bytes] holds the third bit of 3-bit codes, else unused. */
typedef struct kernel_codes {
    void *scales, *minima;
    uint8_t *codes, *high;
    size_t row_code_bytes, row_high_bytes;
} kernel_codes;

typedef struct kernel_table {
    /* How large each row of each head is: `sums` of |x|, and `squares` of x * x if that is not NULL, [rows][heads].
     * Each is added up in 16 interleaved partial sums, which are then added pairwise (j and j + 8, then + 4, + 2, + 1).
     * Both are infinite where an element is not finite or |x| >= 2^126: such a row must be kept exact. Source: OTT's
     * criterion, smallest |K|. */
    void (*magnitudes)(const kernel_chunk *chunk, const void *rows, float *sums, float *squares);
    /* Quantizes a chunk. Rows that are not exact must be finite and below 2^126. Source: KIVI's asymmetric quantizer.
     */
    void (*quantize)(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out);
    /* Fills [rows][heads][head_dim]; rows that are exact get values that the caller replaces. */
    void (*dequantize)(const kernel_chunk *chunk, const kernel_codes *in, void *rows);
} kernel_table;

/* The table for this processor. */
const kernel_table *kernels(void);

/* Elements as single precision numbers, `n` of them. */
void kernel_to_f32(kernel_type type, const void *elements, size_t n, float *out);

#endif
