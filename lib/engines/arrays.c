/* No engine: K and V that were in memory. There is no file of theirs to be read; what they restore to is theirs alone
 * to cut. */
#include "engine.h"

/* Token ids from the start of the sequence may come first; all planes have the same tokens. */
static kvot_status arrays_cut(cut *cut, kvot_error *error) {
    const kvot_restore_options *options = cut->options;
    const char *name = cut->reader->in.name;
    const format_tables *tables = &cut->reader->cache.tables;
    uint32_t layers = 0, n_cells = tables->index->n_views > 0 ? tables->views[0].n_cells : 0;
    if (options->tokens > n_cells)
        return fail(error, KVOT_E_ARGUMENT, "%s: holds %u tokens", name, n_cells);
    cut_cells *cells = cut_new_cells(cut, n_cells, error);
    kvot_status status =
        cells ? cut_keep(cells, 0, options->tokens ? (uint32_t)options->tokens : n_cells, error) : KVOT_E_MEMORY;
    for (uint32_t p = 0; p < tables->index->n_planes; p++)
        layers = tables->planes[p].layer >= layers ? tables->planes[p].layer + 1 : layers;
    if (options->end_layer > layers)
        return fail(error, KVOT_E_ARGUMENT, "%s: holds %u layers", name, layers);
    uint64_t ids = tables->index->n_tokens, end = cut->reader->cache.chunks[0].first_position + options->tokens;
    ids = options->tokens && end < ids ? end : ids;
    for (uint32_t i = 0; i < tables->index->n_segments && status == KVOT_OK; i++) {
        const format_segment *segment = &tables->segments[i];
        if (segment->plane == FORMAT_VERBATIM) {
            status = cut_copy(cut, cut->segment_at[i], cut->segment_at[i] + ids * sizeof(int32_t), error);
            continue;
        }
        const format_plane *plane = &tables->planes[segment->plane];
        if (cut_keeps_layer(cut, plane->layer))
            status = cut_rows(cut, cut->segment_at[i], plane, cells, error);
    }
    return status;
}

const engine engine_arrays = {.name = ENGINE_ARRAYS, .cut = arrays_cut};
