/* What an engine module says about a source file: verbatim bytes, planes, and the cells of each view, in file order.
 *
 * A plan_rowset is what planes belong to: sections of the source with the same layers and row shapes share one, so that
 * rows that repeat can be found. A view is the cells of one stream of one section. rows.h makes a cache of a plan.
 */
#ifndef KVOT_PLAN_H
#define KVOT_PLAN_H

#include "../../format/format.h"
#include "../error.h"
#include "../run/room.h"

typedef struct plan_cell {
    int32_t position;
    int32_t sequence; /* the first one that it belongs to, or -1 */
} plan_cell;

typedef struct plan_view {
    uint32_t rowset;
    uint32_t n_cells;
    uint64_t first_cell;
} plan_view;

typedef struct plan {
    format_index about; /* names, tokens, model; counts are left alone */
    plan_cell *cells;
    uint64_t n_cells;
    plan_view *views;
    uint32_t n_views;
    format_plane *planes; /* in the order of their row sets, then of their layers, K before V */
    uint32_t n_planes, n_rowsets;
    format_segment *segments;
    uint32_t n_segments;
    uint64_t bytes; /* of all segments so far */
} plan;

void plan_free(plan *plan);

/* A new row set; its planes must be added before the next one. Returns its number in `*rowset`. */
kvot_status plan_add_rowset(plan *plan, uint32_t *rowset, kvot_error *error);
kvot_status plan_add_plane(plan *plan, const format_plane *plane, kvot_error *error);

/* A new view of `n_cells` cells. `*cells` is where they are to be filled in, until the next call. */
kvot_status plan_add_view(plan *plan, uint32_t rowset, uint32_t n_cells, plan_cell **cells, kvot_error *error);

/* The next bytes of the source. */
kvot_status plan_add_verbatim(plan *plan, uint64_t bytes, kvot_error *error);
kvot_status plan_add_tensor(plan *plan, uint32_t plane, uint32_t view, kvot_error *error);

/* Whether planes are of the same layers, kinds and shapes, however they are stored. */
bool plan_same_planes(const format_plane *a, const format_plane *b, uint32_t n);

#endif
