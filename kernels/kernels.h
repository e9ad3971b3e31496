/* Arithmetic on arrays: outlier tokens, group ranges, codes. No files, threads or formats here.
 *
 * The scalar functions define the result; any other level must return the same bytes. All arithmetic is IEEE single
 * precision, round to nearest even, without contraction. Formulas: format/SPEC.md, "ott streams".
 *
 * A chunk is an array [rows][heads][head_dim] of one element type, rows contiguous, aligned to its element. `exact` is
 * [rows][heads]: 1 where that row of that head is an outlier token, whose values take no part in a range and whose
 * codes are 0. No function fails; all may be called from any thread, in the default floating-point
 * environment.
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

/* What choose looks at: the magnitudes of a chunk's K and V, [rows][heads] each. `values` is NULL where V is not known;
 * it then counts as 1. */
typedef struct kernel_sizes {
    uint32_t rows, heads; /* at most KERNEL_MAX_ROWS rows */
    bool start;           /* the chunk holds position 0 */
    const float *keys, *key_squares, *values;
} kernel_sizes;

enum { KERNEL_MAX_ROWS = 256 };

/* How far one array is from another. Elements that are not finite take no part in the sums; where such an element
 * differs, `max_error` is infinity. */
typedef struct kernel_loss {
    double squared_error, squared_sum, max_error;
} kernel_loss;

typedef struct kernel_table {
    const char *name;
    /* How large each row of each head is: `sums` of |x|, and `squares` of x * x if that is not NULL, [rows][heads].
     * Each is added up in 16 interleaved partial sums, which are then added pairwise (j and j + 8, then + 4, + 2, + 1).
     * Both are infinite where an element is not finite or |x| >= 2^126: such a row must be kept exact. Source: OTT's
     * criterion, smallest |K|. */
    void (*magnitudes)(const kernel_chunk *chunk, const void *rows, float *sums, float *squares);
    /* Sets `exact` [rows][heads] by the default rule, head by head, from this chunk alone:
     *   at the start of the sequence, the two rows with the smallest |K|;
     *   elsewhere, of the rows with |K| * |V| < 0.2 of the chunk's median and K^2 >= 0.36 of its median, the two with
     *   the smallest |K| * |V|, if there are any.
     * The first are the attention sinks at the start, the paper's criterion. The second are sinks further on: tokens
     * that are listened to (their keys are not small) and say next to nothing (their values are). A bare threshold on
     * |K| takes delimiters that are no sinks, and an exact row beside quantized ones shifts the softmax. Measured:
     * tests/quality/README.md. The median of n is the (n - 1) / 2-th smallest; of equal rows the first is taken. */
    void (*choose)(const kernel_sizes *sizes, uint8_t *exact);
    /* Quantizes a chunk. Rows that are not exact must be finite and below 2^126. Source: KIVI's asymmetric quantizer.
     */
    void (*quantize)(const kernel_chunk *chunk, const void *rows, const uint8_t *exact, const kernel_codes *out);
    /* Fills [rows][heads][head_dim]; rows that are exact get values that the caller replaces. Scales and minima must be
     * finite. */
    void (*dequantize)(const kernel_chunk *chunk, const kernel_codes *in, void *rows);
    /* Compares `n` elements with what became of them, in double precision: element i goes to partial sum i mod 16; the
     * partial sums are then added pairwise as in magnitudes. */
    void (*compare)(kernel_type type, const void *original, const void *other, size_t n, kernel_loss *loss);
} kernel_table;

typedef enum kernel_level { KERNEL_SCALAR, KERNEL_NEON, KERNEL_AVX2, KERNEL_AVX512, KERNEL_LEVELS } kernel_level;

/* The table of one level, NULL if this build or this processor does not have it. */
const kernel_table *kernels_at(kernel_level level);

/* The table that the library uses: the highest level there is, or the one that the environment variable KVOT_CPU names
 * (scalar, neon, avx2, avx512). NULL if there is no such level. The same for the life of the process. */
const kernel_table *kernels(void);

/* Converts `n` elements of one type to another, round to nearest even. Numbers beyond the largest finite one of f16
 * become that one; infinities and NaNs stay such. The same on every processor; in and out do not overlap. */
void kernel_convert(kernel_type from, const void *in, kernel_type to, void *out, size_t n);

#endif
