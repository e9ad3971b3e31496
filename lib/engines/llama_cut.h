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

    uint64_t tokens;      /* that stay; UINT64_MAX: all */
    uint64_t n_tokens;    /* that there are: with cells */
    cut_cells **cells;    /* of each block of the main memory, those that stay */
    uint64_t stand_in;    /* the checkpoint whose state stands in for the last sections of the main memory, or 0 */
    uint32_t n_standing;  /* how many sections that are */
    bool *whole_sections; /* whether all of a section is there that the engine needs to go on after `tokens` */
    const char *why_not;  /* the other sections are not whole */
} cutter;

/* Fills in the last part of a cutter. KVOT_E_ARGUMENT where the engine could not go on. */
kvot_status llama_choose(cutter *c);

/* Whether a checkpoint stays in the appendix: it was taken by then, and is not the main memory's own state now. */
bool llama_checkpoint_stays(const cutter *c, const llama_checkpoint *checkpoint);

#endif
