#include "source.h"

kvot_status source_on_device(const source *source, codec_context *context, uint32_t plane, const cache_chunk *chunk,
                             lane_rows *at, kvot_error *error) {
    *at = array_on_device(&source->arrays[plane], chunk->first_row);
    return codec_need_lane(context, source->place.device, source->place.stream, error);
}

kvot_status source_rows(const source *source, const cache *cache, codec_context *context, uint32_t plane,
                        const cache_chunk *chunk, void *rows, kvot_error *error) {
    if (!source->arrays)
        return cache_gather(cache, plane, chunk, source->in, rows, error);
    if (!source->place.on_device) {
        array_read(&source->arrays[plane], chunk->first_row, chunk->rows, rows);
        return KVOT_OK;
    }
    lane_rows from;
    kvot_status status = source_on_device(source, context, plane, chunk, &from, error);
    return status == KVOT_OK ? codec_read_rows(context, &cache->tables.planes[plane], &from, chunk->rows, rows, error)
                             : status;
}
