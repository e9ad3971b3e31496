/* Which rows of a chunk are outlier tokens. */
#ifndef KVOT_OUTLIERS_H
#define KVOT_OUTLIERS_H

#include <stdbool.h>
#include <stdint.h>

enum { OUTLIERS_MAX_ROWS = 256 };

/* What the rule looks at, [rows][heads] each: |K| and |V| are sums of absolute values, K^2 sums of squares. `values` is
 * NULL where V is not known; it then counts as 1. */
typedef struct outliers_view {
    uint32_t rows, heads; /* at most OUTLIERS_MAX_ROWS rows */
    bool start;           /* the chunk holds position 0 */
    const float *keys, *key_squares, *values;
} outliers_view;

/* Sets `exact` [rows][heads] by the default rule, head by head, from this chunk alone:
 *   at the start of the sequence, the two rows with the smallest |K|;
 *   elsewhere, of the rows with |K| * |V| < 0.2 of the chunk's median and K^2 >= 0.36 of its median, the two with the
 *   smallest |K| * |V|, if there are any.
 * The first are the attention sinks at the start, the paper's criterion. The second are sinks further on: tokens that
 * are listened to (their keys are not small) and say next to nothing (their values are). A bare threshold on |K| takes
 * delimiters that are no sinks, and an exact row beside quantized ones shifts the softmax. Measured:
 * tests/quality/README.md. The median of n is the (n - 1) / 2-th smallest; of equal rows the first is taken. */
void outliers_choose(const outliers_view *view, uint8_t *exact);

#endif
