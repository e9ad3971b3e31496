/* A cache as the library sees it: rows of planes, and where in the engine's file they are.
 *
 * The tables (format.h) come from an engine's file by way of plan.h and rows.h, or from the index of a .kvot file. From
 * there on both are the same: cache_link_* work out what follows from them, and chunks are gathered from the engine's
 * file or scattered to it by the same geometry.
 */
#ifndef KVOT_CACHE_H
#define KVOT_CACHE_H

#include "../../format/format.h"
#include "../io/io.h"

/* Where a plane is that a view of a cut cache (cut.h) lacks. */
#define CACHE_NO_PLACE UINT64_MAX

/* Rows of a chunk that lie side by side in a view. */
typedef struct cache_piece {
    uint32_t row; /* first, inside the chunk */
    uint32_t rows;
    uint32_t view;
    uint32_t cell; /* first, inside the view */
} cache_piece;

typedef struct cache_chunk {
    uint32_t rowset;
    uint32_t ordinal; /* inside the row set */
    uint32_t first_row;
    uint32_t rows;
    uint32_t first_piece, n_pieces; /* in the order of `row`, then of `view` */
    int32_t first_position;
} cache_chunk;

/* The planes of one layer: what is compressed together. */
typedef struct cache_unit {
    uint32_t rowset;
    uint32_t first_plane, n_planes;
    uint64_t first_job;
} cache_unit;

typedef struct cache_verbatim {
    uint64_t verbatim_offset; /* in all verbatim bytes, laid end to end */
    uint64_t source_offset;
    uint64_t bytes;
} cache_verbatim;

typedef struct cache {
    format_tables tables;
    void *owned; /* memory that the tables point into */

    /* Worked out by cache_link_source. */
    uint32_t *first_view;  /* of each row set, and one more */
    uint64_t *first_place; /* of each plane */
    uint64_t *places;      /* [plane][view of its row set]: offset in the source */
    cache_verbatim *verbatim;
    uint32_t n_verbatim;
    uint64_t verbatim_bytes;

    /* Worked out by cache_link_rows. */
    uint32_t *first_chunk;  /* of each row set, and one more */
    uint32_t *first_stream; /* of each plane */
    cache_chunk *chunks;
    cache_piece *pieces;
    uint64_t n_pieces, most_pieces;
    cache_unit *units;
    uint32_t n_units;
    uint64_t n_jobs; /* verbatim blocks, then units times chunks, in the order of the file */
} cache;

/* One job's part of a cache. */
typedef struct cache_job {
    bool verbatim;
    uint32_t block;         /* verbatim */
    const cache_unit *unit; /* else */
    const cache_chunk *chunk;
} cache_job;

/* Fill in the rest of a cache whose tables have passed format_check_index: first what the source looks like, which
 * needs no rows, chunks or runs yet, then these. `name` is the file, for messages. */
kvot_status cache_link_source(cache *cache, const char *name, kvot_error *error);
kvot_status cache_link_rows(cache *cache, const char *name, kvot_error *error);
void cache_free(cache *cache);

/* Chunk (of all chunks) that holds `row` of a row set. */
uint32_t cache_find_chunk(const cache *cache, uint32_t rowset, uint32_t row);

/* Unit that has a plane. */
uint32_t cache_find_unit(const cache *cache, uint32_t plane);

cache_job cache_locate(const cache *cache, uint64_t job);
uint32_t cache_stream(const cache *cache, uint32_t plane, const cache_chunk *chunk);
uint32_t cache_verbatim_bytes(const cache *cache, uint32_t block);

/* Reads a chunk of a plane, or a verbatim block, from the engine's file. Stored rows are token-major. */
kvot_status cache_gather(const cache *cache, uint32_t plane, const cache_chunk *chunk, const input *in, void *rows,
                         kvot_error *error);
kvot_status cache_gather_verbatim(const cache *cache, uint32_t block, const input *in, void *bytes, kvot_error *error);

/* Whether any of its rows is to be written back. Always so in a whole cache. */
bool cache_occurs(const cache *cache, uint32_t plane, const cache_chunk *chunk);

/* And writes it back, everywhere it occurs. */
kvot_status cache_scatter(const cache *cache, uint32_t plane, const cache_chunk *chunk, output *out, const void *rows,
                          kvot_error *error);
kvot_status cache_scatter_verbatim(const cache *cache, uint32_t block, output *out, const void *bytes,
                                   kvot_error *error);

/* Reads `n` cells of a view as token-major rows. */
kvot_status cache_read_cells(const cache *cache, uint32_t plane, uint32_t view, uint32_t cell, uint32_t n,
                             const input *in, void *rows, kvot_error *error);

/* Bytes of the source that a job stands for. */
uint64_t cache_job_bytes(const cache *cache, cache_job job);

/* What the public calls say about a cache whose .kvot file has `stored_bytes`. */
kvot_sizes cache_sizes(const cache *cache, uint64_t stored_bytes);

/* Bytes that all jobs together work on, before they are encoded. */
uint64_t cache_bytes(const cache *cache);

#endif
