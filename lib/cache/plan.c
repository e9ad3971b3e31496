#include "plan.h"

#include <stdlib.h>
#include <string.h>

void plan_free(plan *plan) {
    free(plan->cells);
    free(plan->views);
    free(plan->planes);
    free(plan->segments);
    memset(plan, 0, sizeof *plan);
}

kvot_status plan_add_rowset(plan *plan, uint32_t *rowset, kvot_error *error) {
    if (plan->n_rowsets == UINT32_MAX)
        return fail_memory(error);
    *rowset = plan->n_rowsets++;
    return KVOT_OK;
}

kvot_status plan_add_plane(plan *plan, const format_plane *plane, kvot_error *error) {
    kvot_status status = grow(&plan->planes, plan->n_planes, (uint64_t)plan->n_planes + 1, sizeof *plane, error);
    if (status == KVOT_OK)
        plan->planes[plan->n_planes++] = *plane;
    return status;
}

kvot_status plan_add_view(plan *plan, uint32_t rowset, uint32_t n_cells, plan_cell **cells, kvot_error *error) {
    kvot_status status = grow(&plan->views, plan->n_views, (uint64_t)plan->n_views + 1, sizeof *plan->views, error);
    if (status == KVOT_OK)
        status = grow(&plan->cells, plan->n_cells, plan->n_cells + n_cells, sizeof *plan->cells, error);
    if (status != KVOT_OK)
        return status;
    plan->views[plan->n_views++] = (plan_view){rowset, n_cells, plan->n_cells};
    *cells = plan->cells + plan->n_cells;
    plan->n_cells += n_cells;
    return KVOT_OK;
}

static kvot_status add_segment(plan *plan, format_segment segment, kvot_error *error) {
    kvot_status status = grow(&plan->segments, plan->n_segments, (uint64_t)plan->n_segments + 1, sizeof segment, error);
    if (status == KVOT_OK)
        plan->segments[plan->n_segments++] = segment;
    plan->bytes += segment.bytes;
    return status;
}

kvot_status plan_add_verbatim(plan *plan, uint64_t bytes, kvot_error *error) {
    if (bytes == 0)
        return KVOT_OK;
    if (plan->n_segments > 0 && plan->segments[plan->n_segments - 1].plane == FORMAT_VERBATIM) {
        plan->segments[plan->n_segments - 1].bytes += bytes;
        plan->bytes += bytes;
        return KVOT_OK;
    }
    return add_segment(plan, (format_segment){FORMAT_VERBATIM, 0, bytes}, error);
}

kvot_status plan_add_tensor(plan *plan, uint32_t plane, uint32_t view, kvot_error *error) {
    uint64_t bytes = (uint64_t)plan->planes[plane].row_bytes * plan->views[view].n_cells;
    return add_segment(plan, (format_segment){plane, view, bytes}, error);
}

bool plan_same_planes(const format_plane *a, const format_plane *b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (a[i].layer != b[i].layer || a[i].kind != b[i].kind || a[i].type != b[i].type ||
            a[i].layout != b[i].layout || a[i].row_bytes != b[i].row_bytes)
            return false;
    return true;
}
