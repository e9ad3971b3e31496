/* llama.cpp's files, their parts: header, tokens, the memory blob in whichever dialect fits, checkpoints. Facts:
 * llama_context::state_save_file and state_seq_save_file of llama.cpp; the checkpoints behind a slot file as
 * llama-server writes them (PR #26004). */
#include "llama.h"

#include <stdlib.h>

#define BUFFER_MAGIC 0xaf143cd8u /* before a state in memory, such as a checkpoint's */

static kvot_status damaged(const input *in, uint64_t at, const char *what, kvot_error *error) {
    return fail(error, KVOT_E_DAMAGED, "%s: damaged or cut: %s at byte %llu", in->name, what, (unsigned long long)at);
}

/* Finds the token ids: a plain list, or since 2026-08 a blob of words, -1 | 1 | n | n token ids | more. */
static kvot_status find_tokens(const input *in, llama_file *file, kvot_error *error) {
    int32_t head[3] = {0};
    file->tokens_at = file->words_at;
    file->n_tokens = file->n_words;
    if (file->n_words < 3)
        return KVOT_OK;
    kvot_status status = input_read(in, file->words_at, head, sizeof head, error);
    if (status == KVOT_OK && head[0] == -1) {
        bool known = head[1] == 1 && head[2] >= 0 && (uint32_t)head[2] <= file->n_words - 3;
        file->tokens_at = file->words_at + sizeof head;
        file->n_tokens = known ? (uint32_t)head[2] : 0;
    }
    return status;
}

/* Outputs that session files held before 2026-02-23: u32 n, i32[n] | u64 n, f32[n] | u64 n, f32[n]. */
static bool skip_outputs(cursor *cursor) {
    uint32_t n_outputs;
    uint64_t n;
    return cursor_u32(cursor, &n_outputs) && cursor_skip_items(cursor, n_outputs, 4) && cursor_u64(cursor, &n) &&
           cursor_skip_items(cursor, n, 4) && cursor_u64(cursor, &n) && cursor_skip_items(cursor, n, 4);
}

/* Parses the main memory blob in every dialect that the version may have. */
static kvot_status read_memory(const input *in, cursor *cursor, llama_file *file, kvot_error *error) {
    bool old = file->version <= (file->is_session ? 9u : 2u);
    uint64_t furthest = 0;
    file->outputs_at = cursor->at;
    for (int outputs = 0; outputs < (file->is_session && old ? 2 : 1); outputs++) {
        cursor->at = file->outputs_at;
        if (outputs && !skip_outputs(cursor))
            break;
        for (int streams = 1; streams >= (old ? 0 : 1); streams--) {
            uint64_t reached;
            file->dialect = (llama_dialect){streams, file->version >= (file->is_session ? 11u : 4u)};
            kvot_status status = llama_parse_memory(in, cursor->at, in->bytes, !file->is_session, file->dialect,
                                                    &file->memory, &reached, error);
            furthest = reached > furthest ? reached : furthest;
            if (status != KVOT_E_DAMAGED)
                return status;
        }
    }
    return damaged(in, furthest, "nothing that llama.cpp writes fits", error);
}

static kvot_status read_architecture(const input *in, cursor *cursor, llama_file *file, kvot_error *error) {
    uint32_t n;
    char *name = file->architecture;
    if (!cursor_u32(cursor, &n) || n > 255)
        return damaged(in, cursor->at, "the architecture's name", error);
    uint32_t kept = n < sizeof file->architecture ? n : (uint32_t)sizeof file->architecture - 1;
    if (!cursor_take(cursor, name, kept) || !cursor_skip(cursor, n - kept) ||
        !format_is_text(name, sizeof file->architecture))
        return damaged(in, cursor->at, "the architecture's name", error);
    return KVOT_OK;
}

static kvot_status read_file(const input *in, cursor *cursor, llama_file *file, kvot_error *error) {
    uint32_t head[3]; /* magic, version, number of words */
    if (!cursor_take(cursor, head, sizeof head))
        return damaged(in, cursor->at, "the header", error);
    file->is_session = head[0] == LLAMA_SESSION_MAGIC;
    file->version = head[1];
    uint32_t oldest = file->is_session ? 8 : 1, newest = file->is_session ? 11 : 4;
    if (file->version < oldest || file->version > newest)
        return fail(error, KVOT_E_UNSUPPORTED, "%s: a llama.cpp %s file of version %u; known are %u to %u", in->name,
                    file->is_session ? "session" : "sequence", file->version, oldest, newest);
    file->words_at = cursor->at;
    file->n_words = head[2];
    if (!cursor_skip_items(cursor, file->n_words, sizeof(int32_t)))
        return damaged(in, cursor->at, "more tokens than the file has bytes for", error);
    kvot_status status = find_tokens(in, file, error);
    if (status == KVOT_OK && file->is_session)
        status = read_architecture(in, cursor, file, error);
    return status == KVOT_OK ? read_memory(in, cursor, file, error) : status;
}

kvot_status llama_file_read(const input *in, llama_file *file, kvot_error *error) {
    *file = (llama_file){0};
    cursor *cursor = malloc(sizeof *cursor);
    if (!cursor)
        return fail_memory(error);
    cursor_start(cursor, in, 0, in->bytes);
    kvot_status status = read_file(in, cursor, file, error);
    if (status == KVOT_E_DAMAGED)
        status = cursor_failure(cursor, status, error);
    free(cursor);
    return status;
}

void llama_file_free(llama_file *file) {
    llama_blocks_free(&file->memory);
}

uint64_t llama_memory_end(const llama_file *file) {
    return file->memory.section_at[file->memory.n_sections];
}

kvot_status llama_appendix_read(const input *in, const llama_file *file, uint64_t *at, uint32_t *count,
                                kvot_error *error) {
    uint32_t head[3];
    uint64_t end = llama_memory_end(file);
    *at = 0;
    *count = 0;
    if (end == in->bytes)
        return KVOT_OK;
    kvot_status status = input_read(in, end, head, sizeof head, error);
    if (status == KVOT_OK && head[1] == 1) {
        *at = end + sizeof head;
        *count = head[2];
    }
    return status;
}

kvot_status llama_checkpoint_read(const input *in, uint64_t at, llama_checkpoint *checkpoint, kvot_error *error) {
    struct {
        int64_t n_tokens;
        int32_t first_position, last_position;
    } head;
    static_assert(sizeof head == 16, "as in the file");
    kvot_status status = input_read(in, at, &head, sizeof head, error);
    checkpoint->at = at;
    checkpoint->n_tokens = head.n_tokens;
    checkpoint->first_position = head.first_position;
    checkpoint->last_position = head.last_position;
    at += sizeof head;
    for (int blob = 0; blob < LLAMA_CHECKPOINT_BLOBS && status == KVOT_OK; blob++) {
        uint64_t bytes;
        if ((status = input_read(in, at, &bytes, sizeof bytes, error)) != KVOT_OK)
            return status;
        at += sizeof bytes;
        if (bytes > in->bytes - at)
            return damaged(in, at, "a checkpoint that is longer than the file", error);
        checkpoint->blob_at[blob] = at;
        checkpoint->blob_end[blob] = at += bytes;
    }
    checkpoint->end = at;
    return status;
}

kvot_status llama_blob_read(const input *in, llama_dialect dialect, uint64_t at, uint64_t end, llama_blocks *blocks,
                            kvot_error *error) {
    uint32_t head[LLAMA_BUFFER_HEAD / sizeof(uint32_t)];
    uint64_t furthest;
    if (end - at < sizeof head)
        return KVOT_OK;
    kvot_status status = input_read(in, at, head, sizeof head, error);
    if (status != KVOT_OK || head[0] != BUFFER_MAGIC)
        return status;
    status = llama_parse_memory(in, at + sizeof head, end, false, dialect, blocks, &furthest, error);
    return status == KVOT_E_DAMAGED ? KVOT_OK : status;
}
