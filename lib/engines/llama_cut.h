/* Cutting a llama.cpp file: what stays (llama_choose.c), and the file made of it (llama_cut.c). */
#ifndef KVOT_LLAMA_CUT_H
#define KVOT_LLAMA_CUT_H

#include "llama.h"

typedef struct cutter {
    cut *cut;
    const input *in;
    kvot_error *error;
    llama_file file;
    uint64_t checkpoints; /* where the appendix's first one is */
    uint32_t n_checkpoints;
    cursor cursor;

    uint64_t tokens;           /* that stay; UINT64_MAX: all */
    uint64_t n_tokens;         /* that there are: with cells */
    cut_cells **cells;         /* of each block of the main memory, those that stay */
    uint64_t checkpoint_head;  /* where a checkpoint's blob begins, from which is known what they hold; or 0 */
    uint32_t n_partial;        /* how many sections that is: the last ones of the main memory */
    bool drafts;               /* some checkpoint also holds the state of a draft model, or what is not known */
    llama_checkpoint state_of; /* whose state stands in for those sections; `at` is 0: they are the main memory's */
    llama_blocks state;
    cut_cells **state_cells; /* of each of its blocks, those that stay */

    uint64_t state_bytes; /* of those sections in the shorter file */
} cutter;

/* Fills in the last part of a cutter. KVOT_E_ARGUMENT where the engine could not go on. */
kvot_status llama_choose(cutter *c);

/* Finds the cells of each of `blocks` that stay, to `cells`; they belong to c->cut. `*lacking` is the first section
 * that has not all that the engine needs to go on after c->tokens, or UINT32_MAX, and `*why` why. */
kvot_status llama_choose_cells(cutter *c, const llama_blocks *blocks, cut_cells ***cells, uint32_t *lacking,
                               const char **why);

#endif
