/* From an engine's plan to a cache: which rows there are, and in which chunks.
 *
 * Cells of a row set with the same position and, in every plane, the same bits are one row, stored once. The rows are
 * put in order: first by track, then by position, then as they come in the source. A track is one sequence's rows: the
 * cells of a view that belong to the same sequence, together with those of later views that repeat some of them. So
 * groups never mix sequences, and a checkpoint's rows lie between those of the cache they continue.
 */
#ifndef KVOT_ROWS_H
#define KVOT_ROWS_H

#include "cache.h"
#include "plan.h"

/* Rows of a chunk at the most, where these planes share the rows. */
uint32_t rows_of_chunk(const format_plane *planes, uint32_t n_planes);

/* Fills `cache`, which is to be given to cache_free. `in` is the source that `plan` describes. */
kvot_status rows_to_cache(const plan *plan, const input *in, cache *cache, kvot_error *error);

#endif
