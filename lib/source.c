#include "source.h"

kvot_status source_rows(const source *source, const cache *cache, codec_context *context, uint32_t plane,
                        const cache_chunk *chunk, void *rows, lane_rows *at, kvot_error *error) {
    *at = (lane_rows){.host = rows};
    if (source->in)
        return cache_gather(cache, plane, chunk, source->in, rows, error);
    const kvot_array *array = &source->arrays[plane];
    if (!source->on_device) {
        array_read(array, chunk->first_row, chunk->rows, rows);
        return KVOT_OK;
    }
    *at = array_on_device(array, chunk->first_row);
    kvot_status status = codec_need_lane(context, source->device, source->stream, error);
    if (status != KVOT_OK)
        return status;
    kernel_chunk about = {
        .type = (kernel_type)array->type, .rows = chunk->rows, .heads = array->heads, .head_dim = array->head_dim};
    return lane_read_rows(context->lane, &(lane_plane){about, *at}, chunk->rows, rows, error);
}
