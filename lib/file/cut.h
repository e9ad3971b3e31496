/* Restoring a part of a cache: its first tokens, some of its layers.
 *
 * Streams are decoded by the .kvot file's cache and scattered by a second one, which describes the file to be written:
 * the same row sets, chunks and streams, with fewer cells and places. What the shorter file looks like is for the
 * engine to say (engine.h, `cut`): it puts the file's parts one behind the other, and may read what the whole file has
 * outside its planes.
 */
#ifndef KVOT_CUT_H
#define KVOT_CUT_H

#include "reader.h"

/* Cells of a view that stay, side by side, and how many stay before them. */
typedef struct cut_run {
    uint32_t first, count, before;
} cut_run;

typedef struct cut_cells {
    cut_run *runs;
    uint32_t n_runs, kept;
    uint32_t n_cells; /* of the whole view */
    struct cut_cells *next;
} cut_cells;

typedef struct cut {
    const kvot_restore_options *options;
    const reader *reader;
    input in;       /* the whole file, with holes where planes are; none for arrays */
    cache cache;    /* of the shorter file. All but views and places is the reader's */
    uint64_t bytes; /* of the shorter file so far */

    output *out;
    uint8_t *buffer; /* verbatim bytes up to `bytes` */
    size_t buffered;
    /* A view may be put twice, as main memory and as a checkpoint. So every row set has its views twice over. */
    uint32_t *first_view;
    uint64_t *first_place;
    format_view *views;
    cut_cells **cells;    /* of each of these views; NULL: it is left out */
    cut_cells *all_cells; /* whatever cut_new_cells made */
    uint64_t *segment_at; /* where each segment of the whole file is */
} cut;

/* Begins: nothing of the whole file stays yet. Then an engine puts together what does (engine_cut), to `out` all of it
 * but for the planes, and cut_finish works out the rest of `cache`. KVOT_E_ARGUMENT if there is no such part. `cut` is
 * to be given to cut_close, also on failure. */
kvot_status cut_open(cut *cut, const reader *reader, const kvot_restore_options *options, output *out,
                     const kvot_run *run, kvot_error *error);
kvot_status cut_finish(cut *cut, kvot_error *error);
void cut_close(cut *cut);

/* ---- for engines ---- */

/* Whether a layer of a section stays. */
bool cut_keeps_layer(const cut *cut, uint32_t layer);

/* An empty list for the `n_cells` cells of a view. It belongs to `cut`. NULL when memory is out. */
cut_cells *cut_new_cells(cut *cut, uint32_t n_cells, kvot_error *error);

/* Keeps the next `count` cells from `first` on. In order. */
kvot_status cut_keep(cut_cells *cells, uint32_t first, uint32_t count, kvot_error *error);

/* The next bytes of the shorter file: these; those of the whole file from `from` to `to`, all of them outside planes;
 * the rows of the cells that stay of the plane whose rows begin at `at` in the whole file and are as `like` says. All
 * planes of a view have the same `cells`; other ones make it a second view of the same cells. */
kvot_status cut_put(cut *cut, const void *bytes, size_t n, kvot_error *error);
kvot_status cut_copy(cut *cut, uint64_t from, uint64_t to, kvot_error *error);
kvot_status cut_rows(cut *cut, uint64_t at, const format_plane *like, cut_cells *cells, kvot_error *error);

#endif
