/* What of a llama.cpp file stays when it is cut. Cells whose position is below the number of tokens, in every section.
 * What a sliding window dropped and what a recurrent state was before its last token is not in the file; but where a
 * checkpoint was taken after just as many tokens, its state stands in for those sections of the main memory, which are
 * the last ones. */
#include "../plan.h"
#include "llama_cut.h"

#include <stdio.h>
#include <stdlib.h>

enum { NO_SEQUENCE = LLAMA_MAX_SEQUENCES, MAX_POSITION_RUNS = 1 << 20 };

/* Positions side by side that one sequence has cells for. */
typedef struct position_run {
    uint32_t sequence;
    uint32_t first, end;
} position_run;

static int by_sequence(const void *left, const void *right) {
    const position_run *a = left, *b = right;
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence ? -1 : 1;
    return (a->first > b->first) - (a->first < b->first);
}

/* Notes a cell's position for each of its sequences. `open` is the last run of each, plus 1. */
static kvot_status add_positions(const llama_cell *cell, position_run **runs, uint64_t *n_runs, uint32_t *open,
                                 kvot_error *error) {
    uint32_t none = NO_SEQUENCE, position = (uint32_t)cell->position;
    const uint32_t *sequences = cell->n_sequences > 0 ? cell->sequences : &none;
    for (uint32_t i = 0; i == 0 || i < cell->n_sequences; i++) {
        uint32_t last = open[sequences[i]];
        if (last > 0 && (*runs)[last - 1].end == position) {
            (*runs)[last - 1].end++;
            continue;
        }
        kvot_status status = grow(runs, *n_runs, *n_runs + 1, sizeof **runs, error);
        if (status != KVOT_OK)
            return status;
        if (*n_runs == MAX_POSITION_RUNS)
            return fail(error, KVOT_E_UNSUPPORTED, "the cells' positions are scattered too much");
        (*runs)[(*n_runs)++] = (position_run){sequences[i], position, position + 1};
        open[sequences[i]] = (uint32_t)*n_runs;
    }
    return KVOT_OK;
}

/* What is wrong with a block of which only positions below `tokens` stay, or NULL. Sequences that end by then stay as
 * they are. */
static const char *judge(position_run *runs, uint64_t n_runs, bool recurrent, uint64_t tokens) {
    qsort(runs, n_runs, sizeof *runs, by_sequence);
    for (uint64_t i = 0, end; i < n_runs; i = end) {
        uint64_t length = 0, covered = 0;
        const char *wrong = NULL;
        for (end = i; end < n_runs && runs[end].sequence == runs[i].sequence; end++) {
            uint64_t first = runs[end].first < tokens ? runs[end].first : tokens;
            if (!wrong && first != covered)
                wrong = first < covered ? "several tokens share a position" : "a sliding window dropped some of them";
            covered = runs[end].end < tokens ? runs[end].end : tokens;
            length = runs[end].end > length ? runs[end].end : length;
        }
        if (length > tokens && recurrent)
            return "a recurrent state is only known after the last token";
        if (length > tokens && wrong)
            return wrong;
    }
    return NULL;
}

/* Finds the cells of a block that stay. */
static kvot_status choose_cells(cutter *c, const llama_blocks *blocks, uint64_t number) {
    const llama_block *block = &blocks->blocks[number];
    cut_cells *cells = c->cells[number] = cut_new_cells(c->cut, block->n_cells, c->error);
    position_run *runs = NULL;
    uint64_t n_runs = 0;
    uint32_t open[LLAMA_MAX_SEQUENCES + 1] = {0};
    kvot_status status = cells ? KVOT_OK : KVOT_E_MEMORY;
    cursor_start(&c->cursor, c->in, block->cells_at, block->cells_end);
    for (uint32_t i = 0; i < block->n_cells && status == KVOT_OK; i++) {
        llama_cell cell;
        if (llama_read_cell(&c->cursor, block->ext_bytes, &cell))
            status = add_positions(&cell, &runs, &n_runs, open, c->error);
        else /* the parser read it before */
            status = fail(c->error, KVOT_E_DAMAGED, "%s: damaged: a cell", c->in->name);
        if (status == KVOT_OK && (uint64_t)cell.position < c->tokens)
            status = cut_keep(cells, i, 1, c->error);
        if ((uint64_t)cell.position + 1 > c->n_tokens)
            c->n_tokens = (uint64_t)cell.position + 1;
    }
    const char *wrong = status == KVOT_OK ? judge(runs, n_runs, llama_is_recurrent(blocks, block), c->tokens) : NULL;
    if (wrong) {
        c->why_not = wrong;
        c->whole_sections[block->section] = false;
    }
    free(runs);
    return status;
}

/* The sections of a checkpoint's state, if it was taken after as many tokens as are asked for and they can take the
 * place of the main memory's last ones. */
static uint32_t can_stand_in(const cutter *c, const llama_checkpoint *checkpoint, const llama_blocks *state) {
    const llama_blocks *memory = &c->file.memory;
    uint32_t n = state->n_sections, first = memory->n_sections - n;
    if (n == 0 || n > memory->n_sections || checkpoint->n_tokens != (int64_t)c->tokens ||
        checkpoint->last_position != checkpoint->n_tokens - 1)
        return 0;
    for (uint32_t i = 0; i < first; i++)
        if (!c->whole_sections[i])
            return 0;
    for (uint64_t i = 0; i < memory->n_blocks; i++) {
        const llama_block *block = &memory->blocks[i], *other = NULL;
        if (block->section < first)
            continue;
        for (uint64_t k = 0; k < state->n_blocks && !other; k++)
            if (state->blocks[k].section == block->section - first)
                other = &state->blocks[k];
        if (!other || other->n_tensors != block->n_tensors ||
            llama_is_recurrent(state, other) != llama_is_recurrent(memory, block))
            return 0;
        for (uint32_t t = 0; t < block->n_tensors; t++)
            if (state->tensors[other->first_tensor + t].row_bytes != memory->tensors[block->first_tensor + t].row_bytes)
                return 0;
    }
    return n;
}

/* Looks for a checkpoint for the sections that are not whole. */
static kvot_status find_stand_in(cutter *c) {
    char others[200] = "";
    size_t n = 0;
    uint64_t at = c->checkpoints;
    for (uint32_t i = 0; i < c->n_checkpoints; i++) {
        llama_checkpoint checkpoint;
        llama_blocks state = {0};
        kvot_status status = llama_checkpoint_read(c->in, at, &checkpoint, c->error);
        if (status == KVOT_OK && checkpoint.n_tokens == (int64_t)c->tokens)
            status = llama_blob_read(c->in, c->file.dialect, checkpoint.blob_at[0], checkpoint.blob_end[0], &state,
                                     c->error);
        uint32_t standing = status == KVOT_OK ? can_stand_in(c, &checkpoint, &state) : 0;
        llama_blocks_free(&state);
        if (status != KVOT_OK)
            return status;
        if (standing > 0) {
            c->stand_in = at;
            c->n_standing = standing;
            return KVOT_OK;
        }
        if (n < sizeof others - 40)
            n += (size_t)snprintf(others + n, sizeof others - n, "%s%lld", n > 0 ? ", " : "",
                                  (long long)checkpoint.n_tokens);
        at = checkpoint.end;
    }
    return fail(c->error, KVOT_E_ARGUMENT,
                "%s: the engine could not go on from the first %llu tokens: %s. It could from %s%s%llu",
                c->cut->reader->in.name, (unsigned long long)c->tokens, c->why_not, others, n > 0 ? " or " : "all ",
                (unsigned long long)c->n_tokens);
}

kvot_status llama_choose(cutter *c) {
    const llama_blocks *memory = &c->file.memory;
    const kvot_restore_options *options = c->cut->options;
    const char *name = c->cut->reader->in.name;
    kvot_status status = KVOT_OK;
    uint32_t layers = 0;
    bool whole = true;
    if (memory->dsv4)
        return fail(c->error, KVOT_E_ARGUMENT, "%s: DSV4 caches can only be restored as a whole", name);
    c->cells = calloc(memory->n_blocks + 1, sizeof *c->cells);
    c->whole_sections = malloc(((size_t)memory->n_sections + 1) * sizeof *c->whole_sections);
    if (!c->cells || !c->whole_sections)
        return fail_memory(c->error);
    for (uint32_t i = 0; i < memory->n_sections; i++)
        c->whole_sections[i] = true;
    for (uint64_t i = 0; i < memory->n_blocks && status == KVOT_OK; i++) {
        const llama_block *block = &memory->blocks[i];
        status = choose_cells(c, memory, i);
        for (uint32_t t = 0; t < block->n_tensors; t++) {
            uint32_t layer = llama_layer(block, &memory->tensors[block->first_tensor + t]);
            layers = layer >= layers ? layer + 1 : layers;
        }
    }
    if (status != KVOT_OK)
        return status;
    if (options->tokens > c->n_tokens)
        return fail(c->error, KVOT_E_ARGUMENT, "%s: holds K and V of %llu tokens", name,
                    (unsigned long long)c->n_tokens);
    if (options->end_layer > layers)
        return fail(c->error, KVOT_E_ARGUMENT, "%s: no section has more than %u layers", name, layers);
    for (uint32_t i = 0; i < memory->n_sections; i++)
        whole = whole && c->whole_sections[i];
    return whole ? KVOT_OK : find_stand_in(c);
}

bool llama_checkpoint_stays(const cutter *c, const llama_checkpoint *checkpoint) {
    return checkpoint->n_tokens >= 0 && (uint64_t)checkpoint->n_tokens <= c->tokens && checkpoint->at != c->stand_in;
}
