/* Which rows are outlier tokens. */
#ifndef KVOT_OUTLIERS_H
#define KVOT_OUTLIERS_H

#include "kernels.h"

/* The default rule, which looks at one chunk only: sets `exact` [rows][heads] from `magnitudes` [rows][heads] of K.
 * `first_position` is that of the chunk's first row. Rows of infinite magnitude are always exact. */
void outliers_choose(const float *magnitudes, uint32_t rows, uint32_t heads, int32_t first_position, uint8_t *exact);

#endif
