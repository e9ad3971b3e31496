#include "wanted.h"

#include "codecs/codec.h"
#include "plan.h"

#include <stdlib.h>

void wanted_free(wanted *wanted) {
    free(wanted->streams);
    free(wanted->ranges);
    *wanted = (struct wanted){0};
}

static kvot_status add(wanted *wanted, wanted_stream stream, kvot_error *error) {
    kvot_status status = grow(&wanted->streams, wanted->count, wanted->count + 1, sizeof stream, error);
    if (status == KVOT_OK)
        wanted->streams[wanted->count++] = stream;
    return status;
}

kvot_status wanted_block(wanted *wanted, uint32_t block, kvot_error *error) {
    return add(wanted, (wanted_stream){.stream = block, .plane = FORMAT_VERBATIM}, error);
}

kvot_status wanted_chunk(wanted *wanted, const cache *cache, uint32_t plane, const cache_chunk *chunk,
                         kvot_error *error) {
    return add(wanted, (wanted_stream){cache_stream(cache, plane, chunk), plane, chunk}, error);
}

kvot_status wanted_all(wanted *wanted, const cache *cache, kvot_error *error) {
    kvot_status status = KVOT_OK;
    for (uint64_t number = 0; number < cache->n_jobs && status == KVOT_OK; number++) {
        cache_job job = cache_locate(cache, number);
        if (job.verbatim)
            status = wanted_block(wanted, job.block, error);
        for (uint32_t i = 0; !job.verbatim && i < job.unit->n_planes && status == KVOT_OK; i++)
            status = wanted_chunk(wanted, cache, job.unit->first_plane + i, job.chunk, error);
    }
    return status;
}

kvot_status wanted_ranges(wanted *wanted, const cache *cache, kvot_error *error) {
    wanted->ranges = malloc((wanted->count + 1) * sizeof *wanted->ranges);
    if (!wanted->ranges)
        return fail_memory(error);
    for (uint64_t i = 0; i < wanted->count; i++) {
        const format_stream *about = &cache->tables.streams[wanted->streams[i].stream];
        wanted->ranges[i] = (fetch_range){about->offset, about->stored_bytes};
    }
    return KVOT_OK;
}

const format_plane *wanted_plane(const cache *cache, const wanted_stream *of) {
    return of->plane == FORMAT_VERBATIM ? &codec_verbatim : &cache->tables.planes[of->plane];
}

uint32_t wanted_rows(const cache *cache, const wanted_stream *of) {
    return of->plane == FORMAT_VERBATIM ? cache_verbatim_bytes(cache, of->stream) : of->chunk->rows;
}

size_t wanted_bytes(const cache *cache, const wanted_stream *of) {
    return (size_t)wanted_rows(cache, of) * wanted_plane(cache, of)->row_bytes;
}

uint64_t wanted_need(const wanted *wanted, const cache *cache, unsigned copies) {
    uint64_t most = 0;
    for (uint64_t i = 0; i < wanted->count; i++) {
        const wanted_stream *of = &wanted->streams[i];
        uint64_t need = copies * (uint64_t)wanted_bytes(cache, of) +
                        codec_context_bytes(wanted_plane(cache, of), wanted_rows(cache, of));
        most = need > most ? need : most;
    }
    return most;
}
