/* llama.cpp: session files, sequence files and llama-server's slot files, as a plan. */
#include "llama.h"
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWSETS = 1024 };

/* A row set of the plan, and who used it last. */
typedef struct made_rowset {
    uint32_t rowset;
    uint32_t first_plane, n_planes;
    uint32_t memory, section;
} made_rowset;

/* A tensor that becomes a plane. */
typedef struct placed_plane {
    format_plane plane;
    uint32_t tensor;  /* among those of its block */
    uint32_t ordinal; /* among the planes of its block, by layer */
} placed_plane;

typedef struct session {
    const input *in;
    plan *plan;
    kvot_error *error;
    uint32_t n_memories; /* memory blobs so far: the main one, then those of checkpoints */
    made_rowset made[MAX_ROWSETS];
    uint32_t n_made;
} session;

static bool probe(const uint8_t *start, size_t n) {
    uint32_t magic = 0;
    memcpy(&magic, start, n < sizeof magic ? n : sizeof magic);
    return magic == LLAMA_SESSION_MAGIC || magic == LLAMA_SEQUENCE_MAGIC;
}

static int by_tensor(const void *left, const void *right) {
    const placed_plane *a = left, *b = right;
    return a->tensor < b->tensor ? -1 : a->tensor > b->tensor;
}

static int by_layer(const void *left, const void *right) {
    const placed_plane *a = left, *b = right;
    if (a->plane.layer != b->plane.layer)
        return a->plane.layer < b->plane.layer ? -1 : 1;
    return by_tensor(left, right);
}

/* The tensors of a block that become planes, by layer. Those without bytes, or with rows too long for a chunk, stay
 * verbatim. */
static uint32_t planes_of(const llama_block *block, const llama_tensor *tensors, placed_plane *planes) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < block->n_tensors; i++) {
        const llama_tensor *tensor = &tensors[i];
        if (tensor->row_bytes == 0 || tensor->row_bytes > FORMAT_MAX_ROW_BYTES)
            continue;
        planes[n++] = (placed_plane){.plane = {.layer = llama_layer(block, tensor),
                                               .kind = tensor->kind,
                                               .type = tensor->type,
                                               .layout = tensor->layout,
                                               .row_bytes = (uint32_t)tensor->row_bytes,
                                               .heads = 1},
                                     .tensor = i};
    }
    qsort(planes, n, sizeof *planes, by_layer);
    for (uint32_t i = 0; i < n; i++)
        planes[i].ordinal = i;
    return n;
}

static bool same_shape(const session *session, const made_rowset *made, const placed_plane *planes, uint32_t n) {
    if (made->n_planes != n)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const format_plane *a = &session->plan->planes[made->first_plane + i], *b = &planes[i].plane;
        if (a->layer != b->layer || a->kind != b->kind || a->type != b->type || a->layout != b->layout ||
            a->row_bytes != b->row_bytes)
            return false;
    }
    return true;
}

/* The row set of a block: that of the same section's earlier streams; for a checkpoint, that of the last cache with the
 * same shape that this memory did not use yet (it holds the last sections of the main cache); else a new one. NULL
 * where there are too many. */
static made_rowset *rowset_of(session *session, const llama_block *block, const placed_plane *planes, uint32_t n) {
    uint32_t memory = session->n_memories;
    for (uint32_t i = session->n_made; i-- > 0;) {
        made_rowset *made = &session->made[i];
        bool same_section = made->memory == memory && made->section == block->section;
        if ((same_section || (memory > 0 && made->memory != memory)) && same_shape(session, made, planes, n))
            return made;
    }
    if (session->n_made == MAX_ROWSETS)
        return NULL;
    made_rowset *made = &session->made[session->n_made];
    *made = (made_rowset){.first_plane = session->plan->n_planes, .n_planes = n};
    kvot_status status = plan_add_rowset(session->plan, &made->rowset, session->error);
    for (uint32_t i = 0; i < n && status == KVOT_OK; i++) {
        format_plane plane = planes[i].plane;
        plane.rowset = made->rowset;
        status = plan_add_plane(session->plan, &plane, session->error);
    }
    if (status != KVOT_OK)
        return NULL;
    session->n_made++;
    return made;
}

static kvot_status read_cells(session *session, const llama_block *block, plan_cell *cells) {
    cursor *cursor = malloc(sizeof *cursor);
    if (!cursor)
        return fail_memory(session->error);
    cursor_start(cursor, session->in, block->cells_at, session->in->bytes);
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < block->n_cells && status == KVOT_OK; i++) {
        llama_cell cell;
        if (llama_read_cell(cursor, block->ext_bytes, &cell))
            cells[i] = (plan_cell){cell.position, cell.n_sequences > 0 ? (int32_t)cell.sequences[0] : -1};
        else
            status = cursor_failure(cursor,
                                    fail(session->error, KVOT_E_DAMAGED, "%s: damaged or cut: a cell at byte %llu",
                                         session->in->name, (unsigned long long)cursor->at),
                                    session->error);
    }
    free(cursor);
    return status;
}

static kvot_status add_block(session *session, const llama_block *block, const llama_tensor *tensors,
                             placed_plane *planes) {
    uint32_t n = planes_of(block, tensors, planes);
    if (n == 0)
        return KVOT_OK;
    made_rowset *made = rowset_of(session, block, planes, n);
    if (!made) /* out of memory, or so many row sets that this block stays verbatim */
        return session->n_made == MAX_ROWSETS ? KVOT_OK : KVOT_E_MEMORY;
    made->memory = session->n_memories;
    made->section = block->section;
    uint32_t view = session->plan->n_views;
    plan_cell *cells;
    kvot_status status = plan_add_view(session->plan, made->rowset, block->n_cells, &cells, session->error);
    if (status == KVOT_OK)
        status = read_cells(session, block, cells);
    qsort(planes, n, sizeof *planes, by_tensor);
    for (uint32_t i = 0; i < n && status == KVOT_OK; i++) {
        status =
            plan_add_verbatim(session->plan, tensors[planes[i].tensor].offset - session->plan->bytes, session->error);
        if (status == KVOT_OK)
            status = plan_add_tensor(session->plan, made->first_plane + planes[i].ordinal, view, session->error);
    }
    return status;
}

/* Adds a memory blob that was parsed. */
static kvot_status add_memory(session *session, const llama_blocks *blocks) {
    uint32_t most = 1;
    for (uint64_t i = 0; i < blocks->n_blocks; i++)
        most = blocks->blocks[i].n_tensors > most ? blocks->blocks[i].n_tensors : most;
    placed_plane *planes = malloc(most * sizeof *planes);
    kvot_status status = planes ? KVOT_OK : fail_memory(session->error);
    for (uint64_t i = 0; i < blocks->n_blocks && status == KVOT_OK; i++)
        if (blocks->blocks[i].n_tensors > 0)
            status = add_block(session, &blocks->blocks[i], blocks->tensors + blocks->blocks[i].first_tensor, planes);
    session->n_memories++;
    free(planes);
    return status;
}

/* The appendix's checkpoints. Whatever follows, or an appendix of another version, is verbatim. */
static kvot_status add_checkpoints(session *session, const llama_file *file, uint64_t at, uint32_t count) {
    kvot_status status = KVOT_OK;
    for (uint32_t i = 0; i < count && status == KVOT_OK; i++) {
        llama_checkpoint checkpoint;
        status = llama_checkpoint_read(session->in, at, &checkpoint, session->error);
        for (int blob = 0; blob < LLAMA_CHECKPOINT_BLOBS && status == KVOT_OK; blob++) {
            llama_blocks blocks = {0};
            status = llama_blob_read(session->in, file->dialect, checkpoint.blob_at[blob], checkpoint.blob_end[blob],
                                     &blocks, session->error);
            if (status == KVOT_OK && blocks.n_sections > 0)
                status = add_memory(session, &blocks);
            llama_blocks_free(&blocks);
        }
        at = checkpoint.end;
    }
    return status;
}

static kvot_status read_session(session *session, llama_file *file) {
    const input *in = session->in;
    format_index *about = &session->plan->about;
    uint64_t at;
    uint32_t checkpoints;
    kvot_status status = llama_file_read(in, file, session->error);
    if (status != KVOT_OK)
        return status;
    about->tokens_offset = file->tokens_at;
    about->n_tokens = file->n_tokens;
    memcpy(about->architecture, file->architecture, sizeof about->architecture);
    int n = snprintf(about->variant, sizeof about->variant, "%s file, version %u",
                     file->is_session ? "session" : "sequence", file->version);
    status = add_memory(session, &file->memory);
    if (status == KVOT_OK)
        status = llama_appendix_read(in, file, &at, &checkpoints, session->error);
    if (status == KVOT_OK && at > 0) {
        snprintf(about->variant + n, sizeof about->variant - (size_t)n, ", %u checkpoints", checkpoints);
        status = add_checkpoints(session, file, at, checkpoints);
    } else if (status == KVOT_OK && llama_memory_end(file) < in->bytes)
        snprintf(about->variant + n, sizeof about->variant - (size_t)n, ", an unknown appendix");
    return status == KVOT_OK ? plan_add_verbatim(session->plan, in->bytes - session->plan->bytes, session->error)
                             : status;
}

static kvot_status read_plan(const input *in, plan *plan, kvot_error *error) {
    session *session = calloc(1, sizeof *session);
    llama_file file = {0};
    if (!session)
        return fail_memory(error);
    session->in = in;
    session->plan = plan;
    session->error = error;
    kvot_status status = read_session(session, &file);
    llama_file_free(&file);
    free(session);
    return status;
}

const engine engine_llama = {"llama", probe, read_plan, llama_cut};
