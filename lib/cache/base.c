#include "base.h"

#include "../codecs/measure.h"

#include <stdlib.h>
#include <string.h>

static bool stream_is_of(const format_stream *stream, const format_plane *plane, const void *rows, uint32_t n) {
    size_t bytes = (size_t)n * plane->row_bytes;
    if (stream->decoded_checksum == format_checksum(rows, bytes))
        return true;
    return codec_of(plane->codec)->lossy &&
           stream->squared_sum == measure_rows(plane->type, rows, rows, n, plane->row_bytes).squared_sum;
}

const format_stream *base_stream(const base *base, uint32_t plane, const cache *cache, const cache_chunk *chunk) {
    const cache_chunk *old = &base->old->chunks[base->chunks[chunk - cache->chunks]];
    return &base->old->tables.streams[cache_stream(base->old, base->planes[plane], old)];
}

/* Whether they decode to the same, with the same loss. */
static bool same_stream(const format_stream *a, const format_stream *b) {
    enum { LOSS_BYTES = sizeof *a - offsetof(format_stream, squared_error) }; /* bit for bit, as it may be NaN */
    return a->decoded_checksum == b->decoded_checksum && a->decoded_bytes == b->decoded_bytes &&
           memcmp(&a->squared_error, &b->squared_error, LOSS_BYTES) == 0;
}

/* Bytes of an index before its streams. */
static size_t tables_bytes(const format_tables *tables) {
    return (size_t)((const uint8_t *)tables->streams - (const uint8_t *)tables->index);
}

bool base_is_same(const base *base, const cache *cache) {
    const format_tables *old = &base->old->tables, *now = &cache->tables;
    if (tables_bytes(old) != tables_bytes(now) || memcmp(old->index, now->index, tables_bytes(now)) != 0)
        return false;
    for (uint32_t s = 0; s < now->index->n_streams; s++)
        if (!same_stream(&old->streams[s], &now->streams[s]))
            return false;
    return true;
}

bool base_keeps(const base *base, const cache *cache, cache_job job, const unit_encoder *encoder) {
    if (base->chunks[job.chunk - cache->chunks] == BASE_NONE)
        return false;
    for (uint32_t i = 0; i < job.unit->n_planes; i++) {
        uint32_t p = job.unit->first_plane + i;
        if (!stream_is_of(base_stream(base, p, cache, job.chunk), &cache->tables.planes[p], encoder->streams[i].rows,
                          job.chunk->rows))
            return false;
    }
    return true;
}

/* ---- which chunks have the same positions ---- */

typedef struct chunk_key {
    uint32_t rowset; /* of the old cache */
    uint32_t chunk;
    uint64_t positions; /* their checksum */
} chunk_key;

static int by_key(const void *left, const void *right) {
    const chunk_key *a = left, *b = right;
    if (a->rowset != b->rowset)
        return a->rowset < b->rowset ? -1 : 1;
    if (a->positions != b->positions)
        return a->positions < b->positions ? -1 : 1;
    return a->chunk < b->chunk ? -1 : a->chunk > b->chunk;
}

/* One key for each chunk, in their order; NULL if memory is out. */
static chunk_key *make_keys(const cache *cache) {
    const format_tables *t = &cache->tables;
    chunk_key *keys = malloc(((size_t)t->index->n_chunks + 1) * sizeof *keys);
    const format_run *run = t->position_runs;
    uint32_t used = 0; /* of the run */
    for (uint32_t c = 0; keys && c < t->index->n_chunks; c++) {
        uint32_t positions[FORMAT_CHUNK_ROWS];
        for (uint32_t r = 0; r < t->chunk_rows[c]; r++) {
            positions[r] = run->first + used++;
            if (used == run->count)
                run++, used = 0;
        }
        keys[c] =
            (chunk_key){cache->chunks[c].rowset, c, format_checksum(positions, t->chunk_rows[c] * sizeof *positions)};
    }
    return keys;
}

/* The first entry from `i` on that is not taken. `next` points each one that is to a later one. */
static uint32_t first_free(uint32_t *next, uint32_t i) {
    for (; next[i] != i; i = next[i])
        next[i] = next[next[i]];
    return i;
}

kvot_status base_match_chunks(base *base, const cache *cache, const uint32_t *rowsets, kvot_error *error) {
    uint32_t n_old = base->old->tables.index->n_chunks, n = cache->tables.index->n_chunks;
    chunk_key *old = make_keys(base->old), *keys = make_keys(cache);
    uint32_t *next = malloc(((size_t)n_old + 1) * sizeof *next);
    base->chunks = malloc(((size_t)n + 1) * sizeof *base->chunks);
    kvot_status status = old && keys && next && base->chunks ? KVOT_OK : fail_memory(error);
    if (status == KVOT_OK)
        qsort(old, n_old, sizeof *old, by_key);
    for (uint32_t i = 0; status == KVOT_OK && i <= n_old; i++)
        next[i] = i;
    for (uint32_t c = 0; status == KVOT_OK && c < n; c++) {
        chunk_key wanted = {rowsets[keys[c].rowset], 0, keys[c].positions};
        uint32_t low = 0, high = n_old; /* the first that is not before `wanted` */
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (by_key(&old[middle], &wanted) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        low = first_free(next, low);
        bool same = low < n_old && old[low].rowset == wanted.rowset && old[low].positions == wanted.positions &&
                    base->old->chunks[old[low].chunk].rows == cache->chunks[c].rows;
        base->chunks[c] = same ? old[low].chunk : BASE_NONE;
        next[low] += same;
    }
    free(old);
    free(keys);
    free(next);
    return status;
}
