/* Which rows of a cache are outlier tokens: chosen inside each chunk, or a fixed number over the whole plane. */
#ifndef KVOT_LIB_OUTLIERS_H
#define KVOT_LIB_OUTLIERS_H

#include "../run/run.h"
#include "source.h"

typedef struct kept_row {
    float magnitude;
    uint32_t row;
} kept_row;

/* The rows with the smallest |K| of every layer and KV head. Empty (number 0) is fine: KIVI. */
typedef struct fixed_outliers {
    uint32_t number;
    kept_row *kept; /* of each unit and head, `number` of them, smallest first; row UINT32_MAX: none */
    size_t *first;  /* of each unit, in `kept` */
} fixed_outliers;

/* The unit's K plane if it is quantized, else UINT32_MAX. */
uint32_t outliers_key_plane(const cache *cache, const cache_unit *unit);

/* Reads all K planes that are to be quantized. The result does not depend on the number of threads. */
kvot_status fixed_outliers_find(fixed_outliers *fixed, uint32_t number, const cache *cache, const source *source,
                                run_progress *progress, kvot_error *error);
void fixed_outliers_free(fixed_outliers *fixed);

/* Sets `exact` [rows][heads] for a chunk of a K plane to the rows that were chosen over the whole plane. */
void fixed_outliers_of(const fixed_outliers *fixed, const cache *cache, cache_job job, uint8_t *exact);

#endif
