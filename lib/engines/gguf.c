/* Facts: the GGUF document of ggml, versions 2 and 3. */
#include "gguf.h"

#include "../../format/format.h"
#include "../io/cursor.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { MAX_NAME = 128, MAX_DEPTH = 2 };

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, VALUE_TYPES };

static uint32_t value_bytes(uint32_t type) {
    static const uint8_t bytes[VALUE_TYPES] = {[U8] = 1,  [I8] = 1,   [U16] = 2, [I16] = 2, [U32] = 4, [I32] = 4,
                                               [F32] = 4, [BOOL] = 1, [U64] = 8, [I64] = 8, [F64] = 8};
    return type < VALUE_TYPES ? bytes[type] : 0;
}

/* Takes a string, of which what fits is kept. */
static bool take_string(cursor *cursor, char *to, size_t room) {
    uint64_t n;
    memset(to, 0, room);
    if (!cursor_u64(cursor, &n) || n > cursor->end - cursor->at)
        return false;
    size_t kept = n < room ? (size_t)n : room - 1;
    return cursor_take(cursor, to, kept) && cursor_skip(cursor, n - kept);
}

static bool skip_value(cursor *cursor, uint32_t type, int depth);

static bool skip_array(cursor *cursor, int depth) {
    uint32_t type;
    uint64_t n;
    if (depth == 0 || !cursor_u32(cursor, &type) || !cursor_u64(cursor, &n))
        return false;
    if (value_bytes(type) > 0)
        return cursor_skip_items(cursor, n, value_bytes(type));
    for (uint64_t i = 0; i < n; i++)
        if (!skip_value(cursor, type, depth - 1))
            return false;
    return true;
}

static bool skip_value(cursor *cursor, uint32_t type, int depth) {
    char none[1];
    if (type == STRING)
        return take_string(cursor, none, sizeof none);
    if (type == ARRAY)
        return skip_array(cursor, depth);
    return value_bytes(type) > 0 && cursor_skip(cursor, value_bytes(type));
}

/* Takes a whole number of any width. Negative ones become 0. */
static bool take_number(cursor *cursor, uint32_t type, uint32_t *value) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } raw = {0};
    if (type == F32 || type == F64 || type == STRING || type == ARRAY || value_bytes(type) == 0)
        return false;
    if (!cursor_take(cursor, &raw, value_bytes(type)))
        return false;
    int64_t wide = type == U8 || type == BOOL ? raw.u8
                   : type == I8               ? raw.i8
                   : type == U16              ? raw.u16
                   : type == I16              ? raw.i16
                   : type == U32              ? raw.u32
                   : type == I32              ? raw.i32
                                              : raw.i64;
    *value = wide < 0 ? 0 : wide > UINT32_MAX ? UINT32_MAX : (uint32_t)wide;
    return true;
}

static bool take_kv_heads(cursor *cursor, uint32_t type, gguf *model) {
    uint64_t n = 1;
    if (type == ARRAY && (!cursor_u32(cursor, &type) || !cursor_u64(cursor, &n) || n > GGUF_MAX_LAYERS))
        return false;
    for (uint64_t i = 0; i < n; i++)
        if (!take_number(cursor, type, &model->kv_heads[i]))
            return false;
    model->n_kv_heads = (uint32_t)n;
    return true;
}

static bool take_dim(cursor *cursor, uint32_t type, uint32_t *dims) {
    uint32_t dim, i = 0;
    if (!take_number(cursor, type, &dim))
        return false;
    while (i < GGUF_MAX_DIMS && dims[i] != 0)
        i++;
    if (i < GGUF_MAX_DIMS)
        dims[i] = dim;
    return true;
}

/* Takes the value of a key that matters, skips all others. Scalars that are arrays here (one number a layer) are
 * skipped too. */
static bool take_value(cursor *cursor, const char *key, uint32_t type, gguf *model) {
    if (strcmp(key, "general.architecture") == 0 && type == STRING)
        return take_string(cursor, model->architecture, sizeof model->architecture) &&
               format_is_text(model->architecture, sizeof model->architecture);
    const char *dot = strchr(key, '.');
    const char *name = dot ? dot + 1 : key;
    if (strcmp(name, "attention.head_count_kv") == 0)
        return take_kv_heads(cursor, type, model);
    if (type == ARRAY || type == STRING)
        return skip_value(cursor, type, MAX_DEPTH);
    if (strcmp(name, "embedding_length") == 0)
        return take_number(cursor, type, &model->n_embedding);
    if (strcmp(name, "attention.head_count") == 0)
        return take_number(cursor, type, &model->n_heads);
    if (strcmp(name, "attention.key_length") == 0 || strcmp(name, "attention.key_length_swa") == 0)
        return take_dim(cursor, type, model->key_dims);
    if (strcmp(name, "attention.value_length") == 0 || strcmp(name, "attention.value_length_swa") == 0)
        return take_dim(cursor, type, model->value_dims);
    if (strcmp(name, "rope.dimension_count") == 0)
        return take_number(cursor, type, &model->rope_dims);
    if (strcmp(name, "rope.freq_base") == 0 && type == F32)
        return cursor_take(cursor, &model->rope_base, sizeof model->rope_base);
    return skip_value(cursor, type, MAX_DEPTH);
}

static bool take_metadata(cursor *cursor, uint64_t n, gguf *model) {
    char key[MAX_NAME];
    uint32_t type;
    for (uint64_t i = 0; i < n; i++)
        if (!take_string(cursor, key, sizeof key) || !cursor_u32(cursor, &type) ||
            !take_value(cursor, key, type, model))
            return false;
    return true;
}

static bool skip_tensors(cursor *cursor, uint64_t n) {
    char name[1];
    uint32_t dims;
    for (uint64_t i = 0; i < n; i++)
        if (!take_string(cursor, name, sizeof name) || !cursor_u32(cursor, &dims) || dims > 8 ||
            !cursor_skip(cursor, dims * 8 + 4 + 8))
            return false;
    return true;
}

static kvot_status digest(const input *in, uint64_t n, uint8_t *to, kvot_error *error) {
    enum { BLOCK = 1 << 16 };
    XXH3_state_t *state = XXH3_createState();
    uint8_t *block = malloc(BLOCK);
    kvot_status status = state && block ? KVOT_OK : fail_memory(error);
    if (status == KVOT_OK)
        XXH3_128bits_reset(state);
    for (uint64_t at = 0; at < n && status == KVOT_OK; at += BLOCK) {
        size_t part = n - at < BLOCK ? (size_t)(n - at) : BLOCK;
        if ((status = input_read(in, at, block, part, error)) == KVOT_OK)
            XXH3_128bits_update(state, block, part);
    }
    if (status == KVOT_OK) {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        memcpy(to, canonical.digest, sizeof canonical.digest);
    }
    free(block);
    XXH3_freeState(state);
    return status;
}

kvot_status gguf_read(const input *in, gguf *model, kvot_error *error) {
    memset(model, 0, sizeof *model);
    cursor *cursor = malloc(sizeof *cursor);
    if (!cursor)
        return fail_memory(error);
    cursor_start(cursor, in, 0, in->bytes);
    char magic[4];
    uint32_t version;
    uint64_t n_tensors, n_values;
    kvot_status status = KVOT_OK;
    if (!cursor_take(cursor, magic, sizeof magic) || memcmp(magic, "GGUF", 4) != 0)
        status = fail(error, KVOT_E_UNKNOWN, "%s: not a GGUF model", in->name);
    else if (!cursor_u32(cursor, &version) || version < 2 || version > 3)
        status = fail(error, KVOT_E_UNSUPPORTED, "%s: a GGUF file of a version that is not known", in->name);
    else if (!cursor_u64(cursor, &n_tensors) || !cursor_u64(cursor, &n_values) ||
             !take_metadata(cursor, n_values, model) || !skip_tensors(cursor, n_tensors))
        status = fail(error, KVOT_E_DAMAGED, "%s: damaged or cut: its metadata ends at byte %llu", in->name,
                      (unsigned long long)cursor->at);
    status = cursor_failure(cursor, status, error);
    uint64_t end = cursor->at;
    free(cursor);
    if (status != KVOT_OK)
        return status;
    if (model->n_kv_heads == 0) {
        model->kv_heads[0] = model->n_heads;
        model->n_kv_heads = 1;
    }
    uint32_t plain = model->n_heads > 0 ? model->n_embedding / model->n_heads : 0;
    if (model->key_dims[0] == 0)
        model->key_dims[0] = plain;
    if (model->value_dims[0] == 0)
        model->value_dims[0] = plain;
    return digest(in, end, model->digest, error);
}

uint32_t gguf_heads(const gguf *model, bool keys, uint32_t elems) {
    const uint32_t *dims = keys ? model->key_dims : model->value_dims;
    for (uint32_t d = 0; d < GGUF_MAX_DIMS && dims[d] != 0; d++) {
        if (elems % dims[d] != 0)
            continue;
        for (uint32_t i = 0; i < model->n_kv_heads; i++)
            if (model->kv_heads[i] == elems / dims[d])
                return model->kv_heads[i];
    }
    return 0;
}
