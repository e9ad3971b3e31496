/* llama.cpp: session files, sequence files and llama-server's slot files. Facts: llama_context::state_save_file and
 * state_seq_save_file of llama.cpp; the checkpoints behind a slot file as llama-server writes them (PR #26004). */
#include "llama.h"
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSION_MAGIC  0x6767736eu /* "ggsn" */
#define SEQUENCE_MAGIC 0x67677371u /* "ggsq" */
#define BUFFER_MAGIC   0xaf143cd8u /* before a state in memory, such as a checkpoint's */

enum { MAX_ROWSETS = 1024, CHECKPOINT_BLOBS = 3 };

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
    llama_dialect dialect;
    uint32_t n_memories; /* memory blobs so far: the main one, then those of checkpoints */
    made_rowset made[MAX_ROWSETS];
    uint32_t n_made;
} session;

static bool probe(const uint8_t *start, size_t n) {
    uint32_t magic = 0;
    memcpy(&magic, start, n < sizeof magic ? n : sizeof magic);
    return magic == SESSION_MAGIC || magic == SEQUENCE_MAGIC;
}

static kvot_status damaged(const input *in, uint64_t at, const char *what, kvot_error *error) {
    return fail(error, KVOT_E_DAMAGED, "%s: damaged or cut: %s at byte %llu", in->name, what, (unsigned long long)at);
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
    /* Recurrent layers have two tensors: first come R of all layers, then S of all layers, so tensor i and tensor
     * i + n / 2 are one layer's. Where a layer lacks one (the number is odd), each tensor counts as a layer. */
    uint32_t layers = block->n_tensors % 2 == 0 ? block->n_tensors / 2 : block->n_tensors;
    for (uint32_t i = 0; i < block->n_tensors; i++) {
        const llama_tensor *tensor = &tensors[i];
        if (tensor->row_bytes == 0 || tensor->row_bytes > FORMAT_MAX_ROW_BYTES)
            continue;
        uint32_t layer = tensor->kind == FORMAT_STATE ? tensor->layer % layers : tensor->layer;
        planes[n++] = (placed_plane){.plane = {.layer = layer,
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
    for (uint32_t i = 0; i < block->n_cells && status == KVOT_OK; i++)
        if (!llama_read_cell(cursor, block->ext_bytes, &cells[i].position, &cells[i].sequence))
            status = cursor_failure(cursor, damaged(session->in, cursor->at, "a cell", session->error), session->error);
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

/* A checkpoint's blob: a state in memory. What does not parse stays verbatim. */
static kvot_status read_blob(session *session, uint64_t at, uint64_t end) {
    uint32_t head[2]; /* magic, sequence */
    uint64_t stopped, furthest;
    if (end - at < sizeof head)
        return KVOT_OK;
    kvot_status status = input_read(session->in, at, head, sizeof head, session->error);
    if (status != KVOT_OK || head[0] != BUFFER_MAGIC)
        return status;
    llama_blocks blocks = {0};
    status = llama_parse_memory(session->in, at + sizeof head, end, false, session->dialect, &blocks, &stopped,
                                &furthest, session->error);
    if (status == KVOT_OK)
        status = add_memory(session, &blocks);
    else if (status == KVOT_E_DAMAGED)
        status = KVOT_OK;
    llama_blocks_free(&blocks);
    return status;
}

/* "SCKP" | u32 1 | u32 count | per checkpoint: i64 n_tokens, i32 pos_min, i32 pos_max, three times u64 size, bytes.
 * Whatever follows, or an appendix of another version, is verbatim. */
static kvot_status read_appendix(session *session, uint64_t at, bool *known, uint32_t *count) {
    const input *in = session->in;
    uint32_t head[3];
    kvot_status status = input_read(in, at, head, sizeof head, session->error);
    if (status != KVOT_OK || head[1] != 1)
        return status;
    *known = true;
    at += sizeof head;
    *count = head[2];
    for (uint32_t i = 0; i < head[2]; i++) {
        at += 16;
        for (int blob = 0; blob < CHECKPOINT_BLOBS; blob++) {
            uint64_t bytes;
            if ((status = input_read(in, at, &bytes, sizeof bytes, session->error)) != KVOT_OK)
                return status;
            at += sizeof bytes;
            if (bytes > in->bytes - at)
                return damaged(in, at, "a checkpoint that is longer than the file", session->error);
            if ((status = read_blob(session, at, at + bytes)) != KVOT_OK)
                return status;
            at += bytes;
        }
    }
    return KVOT_OK;
}

/* Outputs that session files held before 2026-02-23: u32 n, i32[n] | u64 n, f32[n] | u64 n, f32[n]. */
static bool skip_outputs(cursor *cursor) {
    uint32_t n_outputs;
    uint64_t n;
    return cursor_u32(cursor, &n_outputs) && cursor_skip_items(cursor, n_outputs, 4) && cursor_u64(cursor, &n) &&
           cursor_skip_items(cursor, n, 4) && cursor_u64(cursor, &n) && cursor_skip_items(cursor, n, 4);
}

/* Finds the token ids: a plain list, or since 2026-08 a blob of words, -1 | 1 | n | n token ids | more. */
static kvot_status find_tokens(session *session, uint64_t at, uint32_t n_words) {
    int32_t head[3] = {0};
    format_index *about = &session->plan->about;
    about->tokens_offset = at;
    about->n_tokens = n_words;
    if (n_words < 3)
        return KVOT_OK;
    kvot_status status = input_read(session->in, at, head, sizeof head, session->error);
    if (status == KVOT_OK && head[0] == -1) {
        bool known = head[1] == 1 && head[2] >= 0 && (uint32_t)head[2] <= n_words - 3;
        about->tokens_offset = at + sizeof head;
        about->n_tokens = known ? (uint32_t)head[2] : 0;
    }
    return status;
}

/* Parses the main memory blob in every dialect that the version may have. */
static kvot_status read_memory(session *session, cursor *cursor, bool is_session, uint32_t version, uint64_t *stopped) {
    bool old = version <= (is_session ? 9u : 2u);
    uint64_t start = cursor->at, furthest = 0;
    llama_blocks blocks = {0};
    kvot_status status = KVOT_E_DAMAGED;
    for (int outputs = 0; outputs < (is_session && old ? 2 : 1); outputs++) {
        cursor->at = start;
        if (outputs && !skip_outputs(cursor))
            break;
        for (int streams = 1; streams >= (old ? 0 : 1); streams--) {
            uint64_t reached;
            session->dialect = (llama_dialect){streams, version >= (is_session ? 11u : 4u)};
            status = llama_parse_memory(session->in, cursor->at, session->in->bytes, !is_session, session->dialect,
                                        &blocks, stopped, &reached, session->error);
            furthest = reached > furthest ? reached : furthest;
            if (status != KVOT_E_DAMAGED)
                goto out;
        }
    }
    status = damaged(session->in, furthest, "nothing that llama.cpp writes fits", session->error);
out:
    if (status == KVOT_OK)
        status = add_memory(session, &blocks);
    llama_blocks_free(&blocks);
    return status;
}

static kvot_status read_file(session *session, cursor *cursor) {
    const input *in = session->in;
    format_index *about = &session->plan->about;
    uint32_t head[3]; /* magic, version, number of tokens */
    if (!cursor_take(cursor, head, sizeof head))
        return damaged(in, cursor->at, "the header", session->error);
    bool is_session = head[0] == SESSION_MAGIC;
    uint32_t oldest = is_session ? 8 : 1, newest = is_session ? 11 : 4, version = head[1];
    if (version < oldest || version > newest)
        return fail(session->error, KVOT_E_UNSUPPORTED, "%s: a llama.cpp %s file of version %u; known are %u to %u",
                    in->name, is_session ? "session" : "sequence", version, oldest, newest);
    uint64_t tokens_at = cursor->at;
    if (!cursor_skip_items(cursor, head[2], sizeof(int32_t)))
        return damaged(in, cursor->at, "more tokens than the file has bytes for", session->error);
    kvot_status status = find_tokens(session, tokens_at, head[2]);
    if (status != KVOT_OK)
        return status;
    if (is_session) {
        uint32_t n;
        char name[sizeof about->architecture] = {0};
        if (!cursor_u32(cursor, &n) || n > 255)
            return damaged(in, cursor->at, "the architecture's name", session->error);
        uint32_t kept = n < sizeof name ? n : (uint32_t)sizeof name - 1;
        if (!cursor_take(cursor, name, kept) || !cursor_skip(cursor, n - kept) || !format_is_text(name, sizeof name))
            return damaged(in, cursor->at, "the architecture's name", session->error);
        memcpy(about->architecture, name, sizeof name);
    }
    uint64_t stopped = 0;
    uint32_t checkpoints = 0;
    status = read_memory(session, cursor, is_session, version, &stopped);
    bool appendix = stopped < in->bytes, known = false;
    if (status == KVOT_OK && appendix)
        status = read_appendix(session, stopped, &known, &checkpoints);
    if (status == KVOT_OK)
        status = plan_add_verbatim(session->plan, in->bytes - session->plan->bytes, session->error);
    int n = snprintf(about->variant, sizeof about->variant, "%s file, version %u", is_session ? "session" : "sequence",
                     version);
    if (appendix && !known)
        snprintf(about->variant + n, sizeof about->variant - (size_t)n, ", an unknown appendix");
    else if (appendix)
        snprintf(about->variant + n, sizeof about->variant - (size_t)n, ", %u checkpoints", checkpoints);
    return status;
}

static kvot_status read_plan(const input *in, plan *plan, kvot_error *error) {
    session *session = calloc(1, sizeof *session);
    cursor *cursor = malloc(sizeof *cursor);
    kvot_status status = session && cursor ? KVOT_OK : fail_memory(error);
    if (status == KVOT_OK) {
        session->in = in;
        session->plan = plan;
        session->error = error;
        cursor_start(cursor, in, 0, in->bytes);
        status = read_file(session, cursor);
        if (status == KVOT_E_DAMAGED)
            status = cursor_failure(cursor, status, error);
    }
    free(cursor);
    free(session);
    return status;
}

const engine engine_llama = {"llama", probe, read_plan};
