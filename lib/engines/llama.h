/* llama.cpp's state files, inside: header, tokens, memory blobs as lists of blocks, checkpoints. What a file holds is
 * found here; llama.c makes a plan of it, llama_cut.c a shorter file. */
#ifndef KVOT_LLAMA_H
#define KVOT_LLAMA_H

#include "../../format/format.h"
#include "../file/cut.h"
#include "../io/cursor.h"

#define LLAMA_SESSION_MAGIC  0x6767736eu /* "ggsn" */
#define LLAMA_SEQUENCE_MAGIC 0x67677371u /* "ggsq" */
#define LLAMA_APPENDIX_MAGIC 0x504b4353u /* "SCKP" */

enum {
    LLAMA_MAX_SEQUENCES = 256, /* LLAMA_MAX_SEQ, and so the most streams */
    LLAMA_MAX_SECTIONS = 32,
    LLAMA_CHECKPOINT_BLOBS = 3,
    LLAMA_BUFFER_HEAD = 8, /* magic and sequence, before a state in memory */
};

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
    uint64_t cells_end; /* then come u32 v_trans or s_trans, u32 n_layer, and up to `end` the tensors */
    uint64_t end;
    uint32_t ext_bytes; /* between a cell's n_seq_id and its sequence ids */
    uint32_t first_tensor, n_tensors;
} llama_block;

typedef struct llama_blocks {
    llama_block *blocks;
    uint64_t n_blocks;
    llama_tensor *tensors;
    uint64_t n_tensors;
    uint64_t section_at[LLAMA_MAX_SECTIONS + 1]; /* of each section, also those without cells, and the blob's end */
    uint32_t n_sections;
    bool dsv4; /* a DSV4 cache: some of its sections belong to no cell */
} llama_blocks;

/* One way in which files of the same version may differ. */
typedef struct llama_dialect {
    bool streams;   /* an attention section begins with its number of streams (since 2025-07-16) */
    bool rotations; /* n_rot_k and n_rot_v follow the number of layers (session 11, sequence 4) */
} llama_dialect;

typedef struct llama_cell {
    int32_t position;
    uint32_t n_sequences;
    uint32_t sequences[LLAMA_MAX_SEQUENCES];
} llama_cell;

/* A session or sequence file. */
typedef struct llama_file {
    bool is_session;
    uint32_t version;
    uint64_t words_at; /* the token list: ids, or a blob that holds them */
    uint32_t n_words;
    uint64_t tokens_at; /* ids */
    uint32_t n_tokens;
    char architecture[sizeof((format_index *)0)->architecture];
    uint64_t outputs_at; /* what an old session file holds before its memory; the end of the header elsewhere */
    llama_dialect dialect;
    llama_blocks memory; /* the main memory blob; behind it lies the end of the file or an appendix */
} llama_file;

/* `file` is to be given to llama_file_free, also on failure. */
kvot_status llama_file_read(const input *in, llama_file *file, kvot_error *error);
void llama_file_free(llama_file *file);

/* The end of the main memory blob. */
uint64_t llama_memory_end(const llama_file *file);

/* The checkpoint appendix: "SCKP" | u32 1 | u32 count | checkpoints. `*count` is how many; `*at` where the first one
 * is, or 0 if there is no appendix or one of another version. */
kvot_status llama_appendix_read(const input *in, const llama_file *file, uint64_t *at, uint32_t *count,
                                kvot_error *error);

/* i64 n_tokens, i32 pos_min, i32 pos_max, three times u64 size, bytes. */
typedef struct llama_checkpoint {
    uint64_t at, end;
    int64_t n_tokens;
    int32_t first_position, last_position;
    uint64_t blob_at[LLAMA_CHECKPOINT_BLOBS], blob_end[LLAMA_CHECKPOINT_BLOBS];
} llama_checkpoint;

kvot_status llama_checkpoint_read(const input *in, uint64_t at, llama_checkpoint *checkpoint, kvot_error *error);

/* The blocks of a checkpoint's blob, a state in memory. What does not parse has none. `blocks` is empty before, and to
 * be given to llama_blocks_free, also on failure. */
kvot_status llama_blob_read(const input *in, llama_dialect dialect, uint64_t at, uint64_t end, llama_blocks *blocks,
                            kvot_error *error);

/* Whether a block is recurrent state, not K and V. */
bool llama_is_recurrent(const llama_blocks *blocks, const llama_block *block);

/* Which layer of its section a tensor belongs to. */
uint32_t llama_layer(const llama_block *block, const llama_tensor *tensor);

/* Parses the memory blob between `at` and `end`: sections one after the other, up to `end` or, where `appendix` is
 * allowed, up to a checkpoint appendix. Nothing in a file says which sections it has or whether cells carry extra
 * numbers, so this tries all that is known and takes what ends in the right place. Fills `blocks`, which is
 * empty. KVOT_E_DAMAGED if nothing fits; `*furthest` then is how far any try came. */
kvot_status llama_parse_memory(const input *in, uint64_t at, uint64_t end, bool appendix, llama_dialect dialect,
                               llama_blocks *blocks, uint64_t *furthest, kvot_error *error);

/* Reads one cell; false at the end or where it cannot be a cell. */
bool llama_read_cell(cursor *cursor, uint32_t ext_bytes, llama_cell *cell);

void llama_blocks_free(llama_blocks *blocks);

/* A shorter file, as engine.h says. */
kvot_status llama_cut(cut *cut, kvot_error *error);

#endif
