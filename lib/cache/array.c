#include "array.h"

#include <string.h>

static size_t element_bytes(const kvot_array *array) {
    return array->type == KVOT_BYTES ? 1 : array->type == KVOT_F32 ? sizeof(float) : sizeof(uint16_t);
}

unsigned array_type(const kvot_array *array) {
    static const unsigned types[] = {
        [KVOT_F32] = FORMAT_F32, [KVOT_F16] = FORMAT_F16, [KVOT_BF16] = FORMAT_BF16, [KVOT_BYTES] = FORMAT_OPAQUE};
    return types[array->type];
}

uint64_t array_row_bytes(const kvot_array *array) {
    return (uint64_t)array->heads * array->head_dim * element_bytes(array);
}

kvot_status array_check_shape(const kvot_array *array, const char *what, kvot_error *error) {
    if ((unsigned)array->type > KVOT_BYTES)
        return fail(error, KVOT_E_ARGUMENT, "%s: there is no such element type", what);
    if (array->heads == 0 || array->head_dim == 0)
        return fail(error, KVOT_E_ARGUMENT, "%s: no heads or channels", what);
    if ((uint64_t)array->heads * array->head_dim > FORMAT_CHUNK_BYTES / element_bytes(array))
        return fail(error, KVOT_E_ARGUMENT, "%s: a token has more than %d bytes", what, FORMAT_CHUNK_BYTES);
    return KVOT_OK;
}

kvot_status array_check(const kvot_array *array, const char *what, kvot_error *error) {
    kvot_status status = array_check_shape(array, what, error);
    if (status != KVOT_OK)
        return status;
    if (!array->data || array->tokens == 0)
        return fail(error, KVOT_E_ARGUMENT, "%s: no data or tokens", what);
    if ((uintptr_t)array->data % element_bytes(array) != 0)
        return fail(error, KVOT_E_ARGUMENT, "%s: the address is not aligned to an element", what);
    return KVOT_OK;
}

static uint8_t *row_of(const kvot_array *array, uint64_t token, uint32_t head) {
    int64_t at = (int64_t)token * array->token_stride + (int64_t)head * array->head_stride;
    return (uint8_t *)array->data + at * (int64_t)element_bytes(array);
}

lane_rows array_on_device(const kvot_array *array, uint64_t first) {
    return (lane_rows){.device = (uintptr_t)row_of(array, first, 0),
                       .token_stride = array->token_stride,
                       .head_stride = array->head_stride,
                       .channel_stride = array->channel_stride};
}

/* Moves `n` elements, at a stride on one side and side by side on the other. `bytes` is a constant where it is called.
 */
static inline void move_strided(uint8_t *strided, int64_t stride, uint8_t *packed, size_t n, size_t bytes, bool out) {
    for (size_t i = 0; i < n; i++, strided += stride * (int64_t)bytes, packed += bytes)
        memcpy(out ? packed : strided, out ? strided : packed, bytes);
}

static void move_head(const kvot_array *array, uint8_t *head, uint8_t *packed, bool out) {
    size_t bytes = element_bytes(array);
    if (array->channel_stride == 1)
        memcpy(out ? packed : head, out ? head : packed, array->head_dim * bytes);
    else if (bytes == 1)
        move_strided(head, array->channel_stride, packed, array->head_dim, 1, out);
    else if (bytes == sizeof(uint16_t))
        move_strided(head, array->channel_stride, packed, array->head_dim, sizeof(uint16_t), out);
    else
        move_strided(head, array->channel_stride, packed, array->head_dim, sizeof(float), out);
}

void array_read(const kvot_array *array, uint64_t first, uint32_t n, void *rows) {
    uint8_t *to = rows;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t h = 0; h < array->heads; h++, to += array->head_dim * element_bytes(array))
            move_head(array, row_of(array, first + r, h), to, true);
}

/* Converts one head's channels, part by part, to where the array has them. */
static void convert_head(const kvot_array *array, uint8_t *head, unsigned type, const uint8_t *from) {
    enum { PART = 256 };
    float part[PART];
    size_t bytes = element_bytes(array), from_bytes = format_type_of(type)->block_bytes;
    kvot_array piece = *array;
    for (uint32_t c = 0; c < array->head_dim; c += PART) {
        piece.head_dim = array->head_dim - c < PART ? array->head_dim - c : PART;
        kernel_convert(codec_kernel_type(type), from + c * from_bytes, codec_kernel_type(array_type(array)), part,
                       piece.head_dim);
        move_head(&piece, head + (int64_t)c * array->channel_stride * (int64_t)bytes, (uint8_t *)part, false);
    }
}

void array_write(const kvot_array *array, uint64_t first, uint32_t n, unsigned type, const void *rows) {
    uint8_t *from = (uint8_t *)rows;
    size_t head_bytes = (size_t)array->head_dim * format_type_of(type)->block_bytes;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t h = 0; h < array->heads; h++, from += head_bytes)
            if (type == array_type(array))
                move_head(array, row_of(array, first + r, h), from, false);
            else
                convert_head(array, row_of(array, first + r, h), type, from);
}

void *array_rows_in_place(const kvot_array *array, uint64_t first) {
    bool packed = array->channel_stride == 1 && (array->heads == 1 || array->head_stride == array->head_dim) &&
                  array->token_stride == (int64_t)array->heads * array->head_dim;
    return packed ? row_of(array, first, 0) : NULL;
}
