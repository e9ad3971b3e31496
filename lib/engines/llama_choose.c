/* What of a llama.cpp file stays when it is cut. Cells whose position is below the number of tokens, in every section.
 * What a sliding window dropped and what a recurrent state was before its last token is not in the main memory. But a
 * checkpoint may have it: then its state, which is that of the last sections of the main memory, stands in for these.
 */
#include "../cache/plan.h"
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

/* Finds the cells of a block that stay, and what is wrong with it, if anything. */
static kvot_status choose_block(cutter *c, const llama_blocks *blocks, const llama_block *block, cut_cells **chosen,
                                const char **why) {
    cut_cells *cells = *chosen = cut_new_cells(c->cut, block->n_cells, c->error);
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
            status = cursor_failure(&c->cursor, fail(c->error, KVOT_E_DAMAGED, "%s: damaged: a cell", c->in->name),
                                    c->error);
        if (status == KVOT_OK && (uint64_t)cell.position < c->tokens)
            status = cut_keep(cells, i, 1, c->error);
        if (status == KVOT_OK && (uint64_t)cell.position + 1 > c->n_tokens)
            c->n_tokens = (uint64_t)cell.position + 1;
    }
    *why = status == KVOT_OK ? judge(runs, n_runs, llama_is_recurrent(blocks, block), c->tokens) : NULL;
    free(runs);
    return status;
}

kvot_status llama_choose_cells(cutter *c, const llama_blocks *blocks, cut_cells ***cells, uint32_t *lacking,
                               const char **why) {
    *lacking = UINT32_MAX;
    *cells = calloc(blocks->n_blocks + 1, sizeof **cells);
    kvot_status status = *cells ? KVOT_OK : fail_memory(c->error);
    for (uint64_t i = 0; i < blocks->n_blocks && status == KVOT_OK; i++) {
        const llama_block *block = &blocks->blocks[i];
        const char *wrong = NULL;
        status = choose_block(c, blocks, block, &(*cells)[i], &wrong);
        if (wrong && block->section < *lacking) {
            *lacking = block->section;
            *why = wrong;
        }
    }
    return status;
}

/* Whether a checkpoint's state has the tensors of the last sections of the main memory. */
static bool is_like_memory(const cutter *c, const llama_blocks *state) {
    const llama_blocks *memory = &c->file.memory;
    if (state->n_sections == 0 || state->n_sections > memory->n_sections)
        return false;
    uint32_t first = memory->n_sections - state->n_sections;
    for (uint64_t i = 0; i < memory->n_blocks; i++) {
        const llama_block *block = &memory->blocks[i], *other = NULL;
        if (block->section < first)
            continue;
        for (uint64_t k = 0; k < state->n_blocks && !other; k++)
            if (state->blocks[k].section == block->section - first)
                other = &state->blocks[k];
        if (!other || other->n_tensors != block->n_tensors ||
            llama_is_recurrent(state, other) != llama_is_recurrent(memory, block))
            return false;
        for (uint32_t t = 0; t < block->n_tensors; t++)
            if (state->tensors[other->first_tensor + t].row_bytes != memory->tensors[block->first_tensor + t].row_bytes)
                return false;
    }
    return true;
}

/* Takes a checkpoint's state to stand in, if it has what the main memory lacks from section `lacking` on. */
static kvot_status try_checkpoint(cutter *c, const llama_checkpoint *checkpoint, uint32_t lacking) {
    llama_blocks state = {0};
    cut_cells **cells = NULL;
    const char *why;
    uint32_t state_lacks = UINT32_MAX;
    kvot_status status =
        llama_blob_read(c->in, c->file.dialect, checkpoint->blob_at[0], checkpoint->blob_end[0], &state, c->error);
    bool like = status == KVOT_OK && is_like_memory(c, &state);
    if (like && c->checkpoint_head == 0) {
        c->checkpoint_head = checkpoint->blob_at[0];
        c->n_partial = state.n_sections;
    }
    bool late_enough = checkpoint->n_tokens > 0 && (uint64_t)checkpoint->n_tokens >= c->tokens &&
                       (int64_t)checkpoint->last_position == checkpoint->n_tokens - 1;
    bool wanted = like && state.n_sections == c->n_partial && c->state_of.at == 0 && late_enough &&
                  lacking != UINT32_MAX && lacking >= c->file.memory.n_sections - state.n_sections;
    if (wanted)
        status = llama_choose_cells(c, &state, &cells, &state_lacks, &why);
    if (wanted && status == KVOT_OK && state_lacks == UINT32_MAX) {
        c->state_of = *checkpoint;
        c->state = state;
        c->state_cells = cells;
        return KVOT_OK;
    }
    free(cells);
    llama_blocks_free(&state);
    return status;
}

/* Learns from the checkpoints what they hold, and looks for one that has what the main memory lacks. */
static kvot_status look_at_checkpoints(cutter *c, uint32_t lacking, const char *why) {
    char others[200] = "";
    size_t n = 0;
    llama_checkpoint checkpoint = {.end = c->checkpoints};
    for (uint32_t i = 0; i < c->n_checkpoints; i++) {
        kvot_status status = llama_checkpoint_read(c->in, checkpoint.end, &checkpoint, c->error);
        if (status == KVOT_OK)
            status = try_checkpoint(c, &checkpoint, lacking);
        if (status != KVOT_OK)
            return status;
        for (int blob = 1; blob < LLAMA_CHECKPOINT_BLOBS; blob++)
            c->drafts = c->drafts || checkpoint.blob_end[blob] > checkpoint.blob_at[blob];
        if (n < sizeof others - 40)
            n += (size_t)snprintf(others + n, sizeof others - n, "%s%lld", n > 0 ? ", " : "",
                                  (long long)checkpoint.n_tokens);
    }
    if (lacking == UINT32_MAX || c->state_of.at > 0)
        return KVOT_OK;
    return fail(c->error, KVOT_E_ARGUMENT,
                "%s: the engine could not go on from the first %llu tokens: %s. It could from %s%s%llu",
                c->cut->reader->in.name, (unsigned long long)c->tokens, why, others, n > 0 ? " or " : "all ",
                (unsigned long long)c->n_tokens);
}

kvot_status llama_choose(cutter *c) {
    const llama_blocks *memory = &c->file.memory;
    const kvot_restore_options *options = c->cut->options;
    const char *name = c->cut->reader->in.name, *why = NULL;
    uint32_t layers = 0, lacking;
    if (memory->dsv4)
        return fail(c->error, KVOT_E_ARGUMENT, "%s: DSV4 caches can only be restored as a whole", name);
    kvot_status status = llama_choose_cells(c, memory, &c->cells, &lacking, &why);
    if (status != KVOT_OK)
        return status;
    if (options->tokens > c->n_tokens)
        return fail(c->error, KVOT_E_ARGUMENT, "%s: holds K and V of %llu tokens", name,
                    (unsigned long long)c->n_tokens);
    for (uint64_t i = 0; i < memory->n_blocks; i++) {
        for (uint32_t t = 0; t < memory->blocks[i].n_tensors; t++) {
            uint32_t layer = llama_layer(&memory->blocks[i], &memory->tensors[memory->blocks[i].first_tensor + t]);
            layers = layer >= layers ? layer + 1 : layers;
        }
    }
    if (options->end_layer > layers)
        return fail(c->error, KVOT_E_ARGUMENT, "%s: no section has more than %u layers", name, layers);
    return look_at_checkpoints(c, lacking, why);
}
