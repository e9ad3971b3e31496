/* llama.cpp's memory blob. Facts: engine sources of llama.cpp, llama_kv_cache::state_write,
 * llama_memory_recurrent::state_write, llama_kv_cache_dsv4::state_write; sections follow each other without a mark:
 * attention (one for each cache of the model), recurrent, and the parts of a DSV4 cache. */
#include "llama.h"

#include "../cache/plan.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_LAYERS = 4096,
    MAX_BLOCKS = 1024, /* each is a few frames on the stack, which may be small */
    MAX_TRIES = 20000,
};

#define DSV4_MAGIC 0x34565344u

typedef struct parser {
    cursor cursor;
    llama_dialect dialect;
    bool appendix;
    llama_blocks *out;
    unsigned tries;
    uint64_t cells, most_cells; /* read so far, over all tries, and at the most */
    bool dsv4;                  /* its mark came before */
    llama_cell cell;            /* here, as frames of the stack are many */
    kvot_error *error;
    kvot_status status; /* out of memory */
} parser;

static int type_of_ggml(uint32_t ggml) {
    switch (ggml) {
    case 0:
        return FORMAT_F32;
    case 1:
        return FORMAT_F16;
    case 2:
        return FORMAT_Q4_0;
    case 3:
        return FORMAT_Q4_1;
    case 6:
        return FORMAT_Q5_0;
    case 7:
        return FORMAT_Q5_1;
    case 8:
        return FORMAT_Q8_0;
    case 20:
        return FORMAT_IQ4_NL;
    case 30:
        return FORMAT_BF16;
    default:
        return -1;
    }
}

bool llama_read_cell(cursor *cursor, uint32_t ext_bytes, llama_cell *cell) {
    if (!cursor_take(cursor, &cell->position, sizeof cell->position) || cell->position < 0 ||
        !cursor_u32(cursor, &cell->n_sequences) || cell->n_sequences > LLAMA_MAX_SEQUENCES ||
        !cursor_skip(cursor, ext_bytes))
        return false;
    for (uint32_t i = 0; i < cell->n_sequences; i++)
        if (!cursor_u32(cursor, &cell->sequences[i]) || cell->sequences[i] >= LLAMA_MAX_SEQUENCES)
            return false;
    return true;
}

static bool skip_cells(parser *parser, uint32_t n, uint32_t ext_bytes) {
    for (uint32_t i = 0; i < n; i++)
        if (!llama_read_cell(&parser->cursor, ext_bytes, &parser->cell) || ++parser->cells > parser->most_cells)
            return false;
    return true;
}

static bool add_tensor(parser *parser, llama_tensor tensor) {
    llama_blocks *out = parser->out;
    parser->status = grow(&out->tensors, out->n_tensors, out->n_tensors + 1, sizeof tensor, parser->error);
    if (parser->status != KVOT_OK)
        return false;
    out->tensors[out->n_tensors++] = tensor;
    return true;
}

static bool add_block(parser *parser, llama_block block) {
    llama_blocks *out = parser->out;
    parser->status = grow(&out->blocks, out->n_blocks, out->n_blocks + 1, sizeof block, parser->error);
    if (parser->status != KVOT_OK)
        return false;
    out->blocks[out->n_blocks++] = block;
    return true;
}

/* i32 type | u64 row_size | rows. */
static bool take_rows(parser *parser, uint32_t n_cells, uint32_t layer, uint8_t kind) {
    cursor *cursor = &parser->cursor;
    uint32_t ggml;
    uint64_t row_bytes;
    if (!cursor_u32(cursor, &ggml) || type_of_ggml(ggml) < 0 || !cursor_u64(cursor, &row_bytes) ||
        row_bytes % format_type_of((unsigned)type_of_ggml(ggml))->block_bytes != 0)
        return false;
    llama_tensor tensor = {cursor->at, row_bytes, layer, kind, (uint8_t)type_of_ggml(ggml), FORMAT_TOKEN_MAJOR};
    return cursor_skip_items(cursor, n_cells, row_bytes) && add_tensor(parser, tensor);
}

/* i32 type | u32 element size | u32 channels | per channel n_cells elements. */
static bool take_channels(parser *parser, uint32_t n_cells, uint32_t layer) {
    cursor *cursor = &parser->cursor;
    uint32_t ggml, elem_bytes, channels;
    if (!cursor_u32(cursor, &ggml) || type_of_ggml(ggml) < 0 || !cursor_u32(cursor, &elem_bytes) ||
        !cursor_u32(cursor, &channels))
        return false;
    const format_type_info *type = format_type_of((unsigned)type_of_ggml(ggml));
    if (type->block_elems != 1 || elem_bytes != type->block_bytes)
        return false;
    llama_tensor tensor = {cursor->at, (uint64_t)channels * elem_bytes, layer,
                           FORMAT_V,   (uint8_t)type_of_ggml(ggml),     FORMAT_CHANNEL_MAJOR};
    return cursor_skip_items(cursor, n_cells, tensor.row_bytes) && add_tensor(parser, tensor);
}

/* A recurrent layer's second row (PLE): u64 row_size | rows, of a type that is not told. */
static bool take_untyped(parser *parser, uint32_t n_cells, uint32_t layer) {
    cursor *cursor = &parser->cursor;
    uint64_t row_bytes;
    if (!cursor_u64(cursor, &row_bytes) || row_bytes == 0)
        return false;
    llama_tensor tensor = {cursor->at, row_bytes, layer, FORMAT_STATE, FORMAT_OPAQUE, FORMAT_TOKEN_MAJOR};
    return cursor_skip_items(cursor, n_cells, row_bytes) && add_tensor(parser, tensor);
}

static bool parse_sections(parser *parser, uint32_t section);

/* What was found so far, to return to when a try fails. */
typedef struct mark {
    uint64_t at, n_blocks, n_tensors;
    bool dsv4;
} mark;

static mark mark_of(const parser *parser) {
    return (mark){parser->cursor.at, parser->out->n_blocks, parser->out->n_tensors, parser->dsv4};
}

static void back_to(parser *parser, mark mark) {
    parser->cursor.at = mark.at;
    parser->out->n_blocks = mark.n_blocks;
    parser->out->n_tensors = mark.n_tensors;
    parser->dsv4 = mark.dsv4;
}

static bool failed(const parser *parser) {
    return parser->status != KVOT_OK || parser->cursor.status != KVOT_OK || parser->tries > MAX_TRIES ||
           parser->cells > parser->most_cells;
}

/* Where in the blob we are, for what is to be tried next. */
typedef struct place {
    uint32_t section;
    uint32_t n_streams, stream; /* attention */
    uint32_t ext_bytes;
} place;

typedef bool take_tensor(parser *parser, uint32_t n_cells, uint32_t ordinal);
typedef bool next_step(parser *parser, place place);

static void pop_tensor(parser *parser) {
    llama_tensor tensor = parser->out->tensors[--parser->out->n_tensors];
    parser->cursor.at = tensor.offset - (tensor.type == FORMAT_OPAQUE ? 8 : 12);
}

/* A list of tensors whose length the file does not tell: takes up to `most` of them, adds the block they belong to and
 * goes on with `next`; while that fails, with one tensor fewer. */
static bool take_some(parser *parser, llama_block block, uint32_t most, take_tensor *take, next_step *next,
                      place place) {
    uint64_t fewest = parser->out->n_tensors;
    for (uint32_t taken = 0; taken < most; taken++) {
        uint64_t at = parser->cursor.at;
        if (!take(parser, block.n_cells, taken)) {
            parser->cursor.at = at;
            break;
        }
    }
    while (!failed(parser)) {
        mark here = mark_of(parser);
        block.n_tensors = (uint32_t)(parser->out->n_tensors - block.first_tensor);
        block.end = here.at;
        parser->tries++;
        if ((block.n_cells == 0 || add_block(parser, block)) && next(parser, place))
            return true;
        back_to(parser, here);
        if (parser->out->n_tensors == fewest)
            return false;
        pop_tensor(parser);
    }
    return false;
}

static bool take_value_rows(parser *parser, uint32_t n_cells, uint32_t ordinal) {
    return take_rows(parser, n_cells, ordinal, FORMAT_V);
}

static bool next_section(parser *parser, place place) {
    return parse_sections(parser, place.section + 1);
}

/* One stream of an attention section: cells, K of every layer, V of those that have one. */
static bool parse_stream(parser *parser, place place) {
    cursor *cursor = &parser->cursor;
    uint32_t n_cells = 0, v_trans, n_layers, rotations;
    for (; place.stream < place.n_streams && n_cells == 0; place.stream++)
        if (!cursor_u32(cursor, &n_cells))
            return false;
    if (n_cells == 0)
        return next_section(parser, place);
    if (parser->out->n_blocks >= MAX_BLOCKS)
        return false;
    llama_block block = {.section = place.section,
                         .n_cells = n_cells,
                         .cells_at = cursor->at,
                         .ext_bytes = place.ext_bytes,
                         .first_tensor = (uint32_t)parser->out->n_tensors};
    if (!skip_cells(parser, n_cells, place.ext_bytes))
        return false;
    block.cells_end = cursor->at;
    if (!cursor_u32(cursor, &v_trans) || v_trans > 1 || !cursor_u32(cursor, &n_layers) || n_layers > MAX_LAYERS)
        return false;
    if (parser->dialect.rotations && (!cursor_u32(cursor, &rotations) || !cursor_u32(cursor, &rotations)))
        return false;
    for (uint32_t layer = 0; layer < n_layers; layer++)
        if (!take_rows(parser, n_cells, layer, FORMAT_K))
            return false;
    return take_some(parser, block, n_layers, v_trans ? take_channels : take_value_rows, parse_stream, place);
}

static bool parse_attention(parser *parser, uint32_t section, uint32_t ext_bytes) {
    uint32_t n_streams = 1;
    if (parser->dialect.streams &&
        (!cursor_u32(&parser->cursor, &n_streams) || n_streams == 0 || n_streams > LLAMA_MAX_SEQUENCES))
        return false;
    return parse_stream(parser, (place){section, n_streams, 0, ext_bytes});
}

static bool take_state(parser *parser, uint32_t n_cells, uint32_t ordinal) {
    return take_rows(parser, n_cells, ordinal, FORMAT_STATE);
}

static bool take_state_or_untyped(parser *parser, uint32_t n_cells, uint32_t ordinal) {
    mark before = mark_of(parser);
    if (take_state(parser, n_cells, ordinal))
        return true;
    back_to(parser, before);
    return take_untyped(parser, n_cells, ordinal);
}

/* Recurrent state: cells, R of the layers that have one, then S. With PLE, an untyped row may follow each R. */
static bool parse_recurrent(parser *parser, uint32_t section, bool untyped) {
    cursor *cursor = &parser->cursor;
    uint32_t n_cells, s_trans, n_layers;
    if (!cursor_u32(cursor, &n_cells))
        return false;
    llama_block block = {.section = section,
                         .n_cells = n_cells,
                         .cells_at = cursor->at,
                         .first_tensor = (uint32_t)parser->out->n_tensors};
    if (!skip_cells(parser, n_cells, 0))
        return false;
    block.cells_end = cursor->at;
    if (!cursor_u32(cursor, &s_trans) || s_trans != 0 || !cursor_u32(cursor, &n_layers) || n_layers == 0 ||
        n_layers > MAX_LAYERS)
        return false;
    return take_some(parser, block, untyped ? 3 * n_layers : 2 * n_layers, untyped ? take_state_or_untyped : take_state,
                     next_section, (place){.section = section});
}

/* i32 type | u64 channels | u64 rows | u64 row_size | for each stream the rows. */
static bool skip_dsv4_tensor(cursor *cursor, uint32_t n_streams) {
    uint32_t ggml;
    uint64_t channels, rows, row_bytes;
    return cursor_u32(cursor, &ggml) && type_of_ggml(ggml) >= 0 && cursor_u64(cursor, &channels) &&
           cursor_u64(cursor, &rows) && cursor_u64(cursor, &row_bytes) &&
           (row_bytes == 0 || rows <= UINT64_MAX / row_bytes) && cursor_skip_items(cursor, n_streams, rows * row_bytes);
}

/* Compressed K caches and compressor states of DSV4. Their rows belong to no cell: they stay verbatim. */
static bool parse_dsv4_part(parser *parser, uint32_t section) {
    cursor *cursor = &parser->cursor;
    mark start = mark_of(parser);
    for (int state = 0; state < 2 && !failed(parser); state++) {
        back_to(parser, start);
        /* K cache: version | rows | streams | layers. State: version | ratio | size | channels | streams | layers. */
        uint32_t head[6], layer, n = state ? 6 : 4;
        bool good = cursor_take(cursor, head, n * sizeof *head) && head[0] >= 1 && head[0] <= 2 &&
                    head[n - 2] <= LLAMA_MAX_SEQUENCES && head[n - 1] <= MAX_LAYERS;
        for (uint32_t i = 0; good && i < head[n - 1]; i++)
            good = cursor_u32(cursor, &layer) && skip_dsv4_tensor(cursor, head[n - 2]) &&
                   (!state || skip_dsv4_tensor(cursor, head[n - 2]));
        if (good && parse_sections(parser, section + 1))
            return true;
    }
    return false;
}

/* u32 magic | u32 version | u32 mode, before all other sections of a DSV4 cache. */
static bool parse_dsv4_mark(parser *parser, uint32_t section) {
    uint32_t head[3];
    if (!cursor_take(&parser->cursor, head, sizeof head) || head[0] != DSV4_MAGIC || head[1] != 1 || head[2] > 1)
        return false;
    parser->dsv4 = true;
    return parse_sections(parser, section);
}

static bool at_end(parser *parser) {
    if (parser->cursor.at == parser->cursor.end)
        return true;
    mark here = mark_of(parser);
    uint32_t magic;
    bool appendix = parser->appendix && cursor_u32(&parser->cursor, &magic) && magic == LLAMA_APPENDIX_MAGIC;
    back_to(parser, here);
    return appendix;
}

static bool parse_sections(parser *parser, uint32_t section) {
    parser->out->section_at[section] = parser->cursor.at; /* the try that fits is the last to say */
    if (at_end(parser)) {
        parser->out->n_sections = section;
        return true;
    }
    if (section >= LLAMA_MAX_SECTIONS)
        return false;
    mark start = mark_of(parser);
    if (section == 0 && !parser->dsv4 && parse_dsv4_mark(parser, section))
        return true;
    static const uint32_t ext_bytes[] = {0, 8, 12};
    for (size_t i = 0; i < 3 && !failed(parser); i++) {
        back_to(parser, start);
        parser->tries++;
        if (parse_attention(parser, section, ext_bytes[i]))
            return true;
    }
    for (int untyped = 0; untyped < 2 && !failed(parser); untyped++) {
        back_to(parser, start);
        if (parse_recurrent(parser, section, untyped))
            return true;
    }
    back_to(parser, start);
    return start.dsv4 && parse_dsv4_part(parser, section);
}

kvot_status llama_parse_memory(const input *in, uint64_t at, uint64_t end, bool appendix, llama_dialect dialect,
                               llama_blocks *blocks, uint64_t *furthest, kvot_error *error) {
    parser *parser = calloc(1, sizeof *parser);
    if (!parser)
        return fail_memory(error);
    parser->dialect = dialect;
    parser->appendix = appendix;
    parser->out = blocks;
    parser->error = error;
    parser->most_cells = 1000000 + (end - at) / 4; /* a cell has 8 bytes or more, and few tries get far */
    cursor_start(&parser->cursor, in, at, end);
    bool found = parse_sections(parser, 0);
    blocks->dsv4 = parser->dsv4;
    *furthest = parser->cursor.furthest;
    kvot_status status = cursor_failure(&parser->cursor, KVOT_OK, error);
    if (status == KVOT_OK && !found) {
        blocks->n_blocks = blocks->n_tensors = 0;
        status = parser->status != KVOT_OK
                     ? parser->status
                     : fail(error, KVOT_E_DAMAGED,
                            "%s: damaged, cut, or of a layout that is not known: nothing fits at byte %llu", in->name,
                            (unsigned long long)*furthest);
    }
    free(parser);
    return status;
}

bool llama_is_recurrent(const llama_blocks *blocks, const llama_block *block) {
    return block->n_tensors > 0 && blocks->tensors[block->first_tensor].kind == FORMAT_STATE;
}

uint32_t llama_layer(const llama_block *block, const llama_tensor *tensor) {
    /* Recurrent layers have two tensors: first come R of all layers, then S of all layers, so tensor i and tensor
     * i + n / 2 are one layer's. Where a layer lacks one (the number is odd), each tensor counts as a layer. */
    uint32_t layers = block->n_tensors % 2 == 0 ? block->n_tensors / 2 : block->n_tensors;
    return tensor->kind == FORMAT_STATE ? tensor->layer % layers : tensor->layer;
}

void llama_blocks_free(llama_blocks *blocks) {
    free(blocks->blocks);
    free(blocks->tensors);
    *blocks = (llama_blocks){0};
}
