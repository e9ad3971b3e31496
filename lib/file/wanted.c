#include "wanted.h"

#include "../codecs/codec.h"

#include <stdlib.h>

void wanted_free(wanted *wanted) {
    free(wanted->streams);
    free(wanted->ranges);
    *wanted = (struct wanted){0};
}

kvot_status wanted_open(wanted *wanted, uint64_t n, kvot_error *error) {
    *wanted = (struct wanted){.streams = malloc((n + 1) * sizeof *wanted->streams),
                              .ranges = malloc((n + 1) * sizeof *wanted->ranges)};
    return wanted->streams && wanted->ranges ? KVOT_OK : fail_memory(error);
}

static void add(wanted *wanted, const cache *cache, wanted_stream stream) {
    const format_stream *about = &cache->tables.streams[stream.stream];
    wanted->streams[wanted->count] = stream;
    wanted->ranges[wanted->count++] = (fetch_range){about->offset, about->stored_bytes};
}

void wanted_chunk(wanted *wanted, const cache *cache, uint32_t plane, const cache_chunk *chunk) {
    add(wanted, cache, (wanted_stream){cache_stream(cache, plane, chunk), plane, chunk});
}

kvot_status wanted_all(wanted *wanted, const cache *cache, kvot_error *error) {
    kvot_status status = wanted_open(wanted, cache->tables.index->n_streams, error);
    for (uint64_t number = 0; number < cache->n_jobs && status == KVOT_OK; number++) {
        cache_job job = cache_locate(cache, number);
        if (job.verbatim)
            add(wanted, cache, (wanted_stream){.stream = job.block, .plane = FORMAT_VERBATIM});
        for (uint32_t i = 0; !job.verbatim && i < job.unit->n_planes; i++)
            wanted_chunk(wanted, cache, job.unit->first_plane + i, job.chunk);
    }
    return status;
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
