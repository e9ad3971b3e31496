/* llama.cpp's state files, inside: the memory blob as a list of blocks. */
#ifndef KVOT_LLAMA_H
#define KVOT_LLAMA_H

#include "../../format/format.h"
#include "../io/cursor.h"

/* One layer's K, V or recurrent tensor of one block. */
typedef struct llama_tensor {
    uint64_t offset;
    uint64_t row_bytes;
    uint32_t layer;
    uint8_t kind, type, layout; /* as in format.h */
} llama_tensor;

/* The cells of one stream of one section, and their tensors. */
typedef struct llama_block {
    uint32_t section; /* ordinal of the section in its memory blob */
    uint32_t n_cells;
    uint64_t cells_at;
    uint32_t ext_bytes; /* between a cell's n_seq_id and its sequence ids */
    uint32_t first_tensor, n_tensors;
} llama_block;

typedef struct llama_blocks {
    llama_block *blocks;
    uint64_t n_blocks;
    llama_tensor *tensors;
    uint64_t n_tensors;
} llama_blocks;

/* One way in which files of the same version may differ. */
typedef struct llama_dialect {
    bool streams;   /* an attention section begins with its number of streams (since 2025-07-16) */
    bool rotations; /* n_rot_k and n_rot_v follow the number of layers (session 11, sequence 4) */
} llama_dialect;

/* Parses the memory blob between `at` and `end`: sections one after the other, up to `end` or, where `appendix` is
 * allowed, up to a checkpoint appendix. Nothing in a file says which sections it has or whether cells carry extra
 * numbers, so this tries all that is known and takes what ends in the right place. On success appends to `blocks` and
 * sets `*stopped` to where the blob ends. KVOT_E_DAMAGED if nothing fits; `*furthest` then is how far any try came. */
kvot_status llama_parse_memory(const input *in, uint64_t at, uint64_t end, bool appendix, llama_dialect dialect,
                               llama_blocks *blocks, uint64_t *stopped, uint64_t *furthest, kvot_error *error);

/* Reads one cell; false at the end or where it cannot be a cell. `*sequence` is the first one's number or -1. */
bool llama_read_cell(cursor *cursor, uint32_t ext_bytes, int32_t *position, int32_t *sequence);

void llama_blocks_free(llama_blocks *blocks);

#define LLAMA_APPENDIX_MAGIC 0x504b4353u /* "SCKP" */

#endif
