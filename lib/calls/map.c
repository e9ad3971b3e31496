/* Quantized chunks where they lie in the file, mapped into memory. */
#include "inspect.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct kvot_map {
    const reader *reader;
    const uint8_t *bytes; /* of the whole file */
    size_t n_bytes;
    bool checksums;
    _Atomic bool *good; /* of each stream: it has been checked */
};

kvot_status kvot_map_open(const kvot_file *file, bool checksums, kvot_map **result, kvot_error *error) {
    const reader *reader = &file->reader;
    if (!file->info.compressed)
        return fail(error, KVOT_E_ARGUMENT, "%s: is not a .kvot file", reader->in.name);
    kvot_map *map = malloc(sizeof *map);
    _Atomic bool *good = calloc((size_t)reader->cache.tables.index->n_streams + 1, sizeof *good);
    void *bytes = MAP_FAILED;
    kvot_status status = map && good ? KVOT_OK : fail_memory(error);
    if (status == KVOT_OK) {
        bytes = mmap(NULL, reader->in.bytes, PROT_READ, MAP_SHARED, reader->in.fd, 0);
        if (bytes == MAP_FAILED)
            status = fail(error, errno == ENOMEM ? KVOT_E_MEMORY : KVOT_E_UNSUPPORTED, "%s: cannot be mapped: %s",
                          reader->in.name, strerror(errno));
    }
    if (status != KVOT_OK) {
        free(map);
        free(good);
        return status;
    }
    *map =
        (kvot_map){.reader = reader, .bytes = bytes, .n_bytes = reader->in.bytes, .checksums = checksums, .good = good};
    *result = map;
    return KVOT_OK;
}

void kvot_map_close(kvot_map *map) {
    if (!map)
        return;
    munmap((void *)map->bytes, map->n_bytes);
    free(map->good);
    free(map);
}

size_t kvot_map_chunks(const kvot_map *map, size_t plane) {
    const format_tables *tables = &map->reader->cache.tables;
    return plane < tables->index->n_planes ? tables->rowsets[tables->planes[plane].rowset].n_chunks : 0;
}

/* Finds the parts of a stream, and checks it the first time. Threads that come here at once check it each. */
static kvot_status find_parts(const kvot_map *map, uint32_t stream, const format_plane *plane, uint32_t rows,
                              format_ott *parts, kvot_error *error) {
    const format_stream *about = &map->reader->cache.tables.streams[stream];
    const uint8_t *bytes = map->bytes + about->offset;
    const char *wrong = NULL;
    if (atomic_load_explicit(&map->good[stream], memory_order_relaxed)) {
        const uint16_t *counts = (const void *)bytes;
        uint32_t exact = 0;
        for (uint32_t h = 0; h < plane->heads; h++)
            exact += counts[h];
        format_ott_layout(parts, plane, rows, exact);
        return KVOT_OK;
    }
    if (map->checksums && format_checksum(bytes, about->stored_bytes) != about->checksum)
        wrong = "its checksum is wrong";
    else
        wrong = format_ott_read(parts, plane, rows, bytes, about->stored_bytes);
    if (wrong)
        return fail(error, KVOT_E_DAMAGED, "%s: damaged: %s (stream at byte %llu)", map->reader->in.name, wrong,
                    (unsigned long long)about->offset);
    atomic_store_explicit(&map->good[stream], true, memory_order_relaxed);
    return KVOT_OK;
}

static kvot_type public_type(unsigned type) {
    return type == FORMAT_F32 ? KVOT_F32 : type == FORMAT_F16 ? KVOT_F16 : KVOT_BF16;
}

kvot_status kvot_map_chunk(const kvot_map *map, size_t plane, size_t chunk, kvot_chunk *to, kvot_error *error) {
    const cache *cache = &map->reader->cache;
    if (chunk >= kvot_map_chunks(map, plane))
        return fail(error, KVOT_E_ARGUMENT, "%s: has no chunk %zu of plane %zu", map->reader->in.name, chunk, plane);
    const format_plane *about = &cache->tables.planes[plane];
    if (about->codec != FORMAT_OTT)
        return fail(error, KVOT_E_ARGUMENT, "%s: plane %zu is not stored as it is used", map->reader->in.name, plane);
    const cache_chunk *rows = &cache->chunks[cache->first_chunk[about->rowset] + chunk];
    uint32_t stream = cache_stream(cache, (uint32_t)plane, rows);
    format_ott parts;
    kvot_status status = find_parts(map, stream, about, rows->rows, &parts, error);
    if (status != KVOT_OK)
        return status;
    const uint8_t *bytes = map->bytes + cache->tables.streams[stream].offset;
    *to = (kvot_chunk){.first_row = rows->first_row,
                       .rows = rows->rows,
                       .kind = (kvot_kind)about->kind,
                       .type = public_type(about->type),
                       .heads = about->heads,
                       .head_dim = parts.head_dim,
                       .bits = about->bits,
                       .group = about->group,
                       .exact_counts = (const void *)bytes,
                       .exact_rows = (const void *)(bytes + parts.rows_at),
                       .exact = bytes + parts.exact,
                       .scales = bytes + parts.scales,
                       .minima = bytes + parts.minima,
                       .n_ranges = parts.ranges,
                       .codes = bytes + parts.codes,
                       .row_code_bytes = parts.row_code_bytes,
                       .high = about->bits == 3 ? bytes + parts.high : NULL,
                       .row_high_bytes = parts.row_high_bytes};
    return KVOT_OK;
}
