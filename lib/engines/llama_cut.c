/* A part of a llama.cpp file, as a file that llama.cpp takes: the tokens up to a position, some of the layers. */
#include "llama_cut.h"

#include <stdlib.h>

static kvot_status put_u32(cutter *c, uint32_t value) {
    return cut_put(c->cut, &value, sizeof value, c->error);
}

/* Header and token list, in the form that it has. */
static kvot_status put_tokens(cutter *c) {
    const llama_file *file = &c->file;
    /* A list may have one token more than there are cells. */
    bool cut = c->n_tokens > c->tokens || file->n_tokens > c->tokens;
    bool blob = file->tokens_at != file->words_at;
    uint32_t n = file->n_tokens > c->tokens ? (uint32_t)c->tokens : file->n_tokens;
    uint32_t blob_head[3] = {UINT32_MAX, 1, n}, n_media = 0;
    if (cut && blob) {
        bool plain = file->n_words == file->n_tokens + 4;
        kvot_status status =
            plain ? input_read(c->in, file->tokens_at + 4ull * file->n_tokens, &n_media, sizeof n_media, c->error)
                  : KVOT_OK;
        if (status != KVOT_OK)
            return status;
        if (!plain || n_media != 0)
            return fail(c->error, KVOT_E_ARGUMENT, "%s: its token list has images or the like, and cannot be cut",
                        c->cut->reader->in.name);
    }
    uint32_t n_words = !cut ? file->n_words : blob ? n + 4 : n;
    uint32_t head[3] = {file->is_session ? LLAMA_SESSION_MAGIC : LLAMA_SEQUENCE_MAGIC, file->version, n_words};
    kvot_status status = cut_put(c->cut, head, sizeof head, c->error);
    if (status == KVOT_OK && !cut)
        return cut_copy(c->cut, file->words_at, file->words_at + 4ull * file->n_words, c->error);
    if (status == KVOT_OK && blob)
        status = cut_put(c->cut, blob_head, sizeof blob_head, c->error);
    if (status == KVOT_OK)
        status = cut_copy(c->cut, file->tokens_at, file->tokens_at + 4ull * n, c->error);
    return status == KVOT_OK && blob ? put_u32(c, 0) : status;
}

/* All between the token list and the memory blob. */
static kvot_status put_middle(cutter *c) {
    const llama_file *file = &c->file;
    uint64_t memory_at = file->memory.section_at[0];
    static const uint8_t no_outputs[4 + 8 + 8]; /* what there was followed from the last token */
    kvot_status status = cut_copy(c->cut, file->words_at + 4ull * file->n_words, file->outputs_at, c->error);
    if (status != KVOT_OK || file->outputs_at == memory_at)
        return status;
    return c->n_tokens > c->tokens ? cut_put(c->cut, no_outputs, sizeof no_outputs, c->error)
                                   : cut_copy(c->cut, file->outputs_at, memory_at, c->error);
}

/* The cells of a block that stay, as they are. */
static kvot_status put_cells(cutter *c, const llama_block *block, const cut_cells *cells) {
    kvot_status status = KVOT_OK;
    uint32_t i = 0;
    cursor_start(&c->cursor, c->in, block->cells_at, block->cells_end);
    for (uint32_t r = 0; r < cells->n_runs && status == KVOT_OK; r++) {
        const cut_run *run = &cells->runs[r];
        uint64_t from = c->cursor.at;
        for (; i < run->first + run->count; i++) {
            llama_cell cell;
            from = i == run->first ? c->cursor.at : from;
            if (!llama_read_cell(&c->cursor, block->ext_bytes, &cell))
                return cursor_failure(&c->cursor, fail(c->error, KVOT_E_DAMAGED, "%s: damaged: a cell", c->in->name),
                                      c->error);
        }
        status = cut_copy(c->cut, from, c->cursor.at, c->error);
    }
    return status;
}

/* The layers of a block that stay, with the rows of its cells that stay. */
static kvot_status put_tensors(cutter *c, const llama_blocks *blocks, const llama_block *block, cut_cells *cells) {
    const llama_tensor *tensors = blocks->tensors + block->first_tensor;
    uint64_t at = block->cells_end + 8;
    uint32_t n_layers = 0;
    kvot_status status = input_read(c->in, at - 4, &n_layers, sizeof n_layers, c->error);
    if (status == KVOT_OK)
        status = cut_copy(c->cut, block->cells_end, at - 4, c->error);
    if (c->cut->options->end_layer > 0 && !llama_is_recurrent(blocks, block)) {
        n_layers = 0; /* of recurrent blocks it also counts layers that have no state */
        for (uint32_t t = 0; t < block->n_tensors; t++)
            n_layers += tensors[t].kind == FORMAT_K && cut_keeps_layer(c->cut, llama_layer(block, &tensors[t]));
    }
    if (status == KVOT_OK)
        status = put_u32(c, n_layers);
    for (uint32_t t = 0; t < block->n_tensors && status == KVOT_OK; t++) {
        const llama_tensor *tensor = &tensors[t];
        uint64_t head = tensor->offset - (tensor->type == FORMAT_OPAQUE ? 8 : 12);
        format_plane like = {.row_bytes = (uint32_t)tensor->row_bytes, .type = tensor->type, .layout = tensor->layout};
        bool keep = cut_keeps_layer(c->cut, llama_layer(block, tensor));
        status = cut_copy(c->cut, at, keep ? tensor->offset : head, c->error);
        if (keep && tensor->row_bytes > 0 && status == KVOT_OK)
            status = cut_rows(c->cut, tensor->offset, &like, cells, c->error);
        at = tensor->offset + tensor->row_bytes * block->n_cells;
    }
    return status == KVOT_OK ? cut_copy(c->cut, at, block->end, c->error) : status;
}

/* The bytes from `at` to `end`, with the blocks that lie there. `chosen` are the cells of each block that stay; NULL:
 * all. */
static kvot_status put_blocks(cutter *c, const llama_blocks *blocks, cut_cells **chosen, uint64_t at, uint64_t end) {
    kvot_status status = KVOT_OK;
    for (uint64_t i = 0; i < blocks->n_blocks && status == KVOT_OK; i++) {
        const llama_block *block = &blocks->blocks[i];
        if (block->cells_at < at || block->end > end)
            continue;
        cut_cells *cells = chosen ? chosen[i] : cut_new_cells(c->cut, block->n_cells, c->error);
        status = cells ? KVOT_OK : KVOT_E_MEMORY;
        if (!chosen && status == KVOT_OK)
            status = cut_keep(cells, 0, block->n_cells, c->error);
        if (status == KVOT_OK)
            status = cut_copy(c->cut, at, block->cells_at - 4, c->error);
        if (status == KVOT_OK)
            status = put_u32(c, cells->kept);
        if (status == KVOT_OK)
            status = put_cells(c, block, cells);
        if (status == KVOT_OK && cells->kept > 0)
            status = put_tensors(c, blocks, block, cells);
        at = block->end;
    }
    return status == KVOT_OK ? cut_copy(c->cut, at, end, c->error) : status;
}

/* The last sections, which checkpoints hold too, as they are after the tokens that stay. */
static kvot_status put_state(cutter *c, bool again) {
    const llama_blocks *memory = &c->file.memory, *blocks = c->state_of.at > 0 ? &c->state : memory;
    uint32_t first = c->state_of.at > 0 ? 0 : memory->n_sections - c->n_partial, lacking;
    cut_cells **cells = c->state_of.at > 0 ? c->state_cells : c->cells;
    const char *why;
    kvot_status status = again ? llama_choose_cells(c, blocks, &cells, &lacking, &why) : KVOT_OK;
    if (status == KVOT_OK)
        status = put_blocks(c, blocks, cells, blocks->section_at[first], blocks->section_at[blocks->n_sections]);
    if (again)
        free(cells);
    return status;
}

static kvot_status put_memory(cutter *c) {
    const llama_blocks *memory = &c->file.memory;
    uint64_t state_at = memory->section_at[memory->n_sections - c->n_partial];
    kvot_status status = put_blocks(c, memory, c->cells, memory->section_at[0], state_at);
    if (status != KVOT_OK)
        return status;
    uint64_t before = c->cut->bytes;
    status = put_state(c, false);
    c->state_bytes = c->cut->bytes - before;
    return status;
}

/* A blob of a checkpoint that stays, whole. */
static kvot_status put_blob(cutter *c, const llama_checkpoint *checkpoint, int number) {
    uint64_t at = checkpoint->blob_at[number], end = checkpoint->blob_end[number];
    llama_blocks blocks = {0};
    kvot_status status = llama_blob_read(c->in, c->file.dialect, at, end, &blocks, c->error);
    if (status == KVOT_OK)
        status = put_blocks(c, &blocks, NULL, at, end);
    llama_blocks_free(&blocks);
    return status;
}

static kvot_status put_checkpoint(cutter *c, const llama_checkpoint *checkpoint) {
    uint64_t from = checkpoint->at;
    kvot_status status = KVOT_OK;
    for (int blob = 0; blob < LLAMA_CHECKPOINT_BLOBS && status == KVOT_OK; blob++) {
        status = cut_copy(c->cut, from, checkpoint->blob_at[blob], c->error);
        if (status == KVOT_OK)
            status = put_blob(c, checkpoint, blob);
        from = checkpoint->blob_end[blob];
    }
    return status;
}

/* Counts the checkpoints that were taken by then, or puts them. `*last` is how many tokens the last one had. */
static kvot_status walk_checkpoints(cutter *c, bool put, uint32_t *kept, uint64_t *last) {
    llama_checkpoint checkpoint = {.end = c->checkpoints};
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < c->n_checkpoints && status == KVOT_OK; i++) {
        status = llama_checkpoint_read(c->in, checkpoint.end, &checkpoint, c->error);
        if (status != KVOT_OK || checkpoint.n_tokens < 0 || (uint64_t)checkpoint.n_tokens > c->tokens)
            continue;
        if (put)
            status = put_checkpoint(c, &checkpoint);
        ++*kept;
        *last = (uint64_t)checkpoint.n_tokens;
    }
    return status;
}

/* A checkpoint as the server would have taken it after the tokens that stay. */
static kvot_status put_new_checkpoint(cutter *c) {
    struct {
        int64_t n_tokens;
        int32_t first_position, last_position;
        uint64_t blob_bytes;
    } head = {(int64_t)c->tokens, 0, (int32_t)(c->tokens - 1), LLAMA_BUFFER_HEAD + c->state_bytes};
    static_assert(sizeof head == 24, "as in the file");
    static const uint64_t no_blob;
    kvot_status status = cut_put(c->cut, &head, sizeof head, c->error);
    if (status == KVOT_OK)
        status = cut_copy(c->cut, c->checkpoint_head, c->checkpoint_head + LLAMA_BUFFER_HEAD, c->error);
    if (status == KVOT_OK)
        status = put_state(c, true);
    for (int blob = 1; blob < LLAMA_CHECKPOINT_BLOBS && status == KVOT_OK; blob++)
        status = cut_put(c->cut, &no_blob, sizeof no_blob, c->error);
    return status;
}

/* An appendix of what checkpoints there are by then; the server writes none if it has none. It goes on from sliding
 * windows only where a checkpoint allows it, even where nothing has left the window. So there is one for all tokens
 * that stay, wherever its form is known. */
static kvot_status put_appendix(cutter *c) {
    uint32_t head[3] = {LLAMA_APPENDIX_MAGIC, 1, 0}, put = 0;
    uint64_t last = 0;
    kvot_status status = walk_checkpoints(c, false, &head[2], &last);
    bool fresh = c->tokens < c->n_tokens && last < c->tokens && c->checkpoint_head > 0 && !c->drafts;
    head[2] += fresh;
    if (status != KVOT_OK || head[2] == 0)
        return status;
    status = cut_put(c->cut, head, sizeof head, c->error);
    if (status == KVOT_OK)
        status = walk_checkpoints(c, true, &put, &last);
    return status == KVOT_OK && fresh ? put_new_checkpoint(c) : status;
}

kvot_status llama_cut(cut *cut, kvot_error *error) {
    cutter *c = calloc(1, sizeof *c);
    if (!c)
        return fail_memory(error);
    c->cut = cut;
    c->in = &cut->in;
    c->error = error;
    c->tokens = cut->options->tokens ? cut->options->tokens : UINT64_MAX;
    kvot_status status = llama_file_read(c->in, &c->file, error);
    if (status == KVOT_OK)
        status = llama_appendix_read(c->in, &c->file, &c->checkpoints, &c->n_checkpoints, error);
    if (status == KVOT_OK)
        status = llama_choose(c);
    if (status == KVOT_OK)
        status = put_tokens(c);
    if (status == KVOT_OK)
        status = put_middle(c);
    if (status == KVOT_OK)
        status = put_memory(c);
    if (status == KVOT_OK && cut->options->end_layer == 0) /* else no engine will go on from it */
        status = put_appendix(c);
    free(c->cells);
    free(c->state_cells);
    llama_blocks_free(&c->state);
    llama_file_free(&c->file);
    free(c);
    return status;
}
