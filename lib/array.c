#include "array.h"

#include <string.h>

static size_t element_bytes(const kvot_array *array) {
    return array->type == KVOT_F32 ? sizeof(float) : sizeof(uint16_t);
}

unsigned array_type(const kvot_array *array) {
    static const unsigned types[] = {[KVOT_F32] = FORMAT_F32, [KVOT_F16] = FORMAT_F16, [KVOT_BF16] = FORMAT_BF16};
    return types[array->type];
}

uint64_t array_row_bytes(const kvot_array *array) {
    return (uint64_t)array->heads * array->head_dim * element_bytes(array);
}

kvot_status array_check(const kvot_array *array, const char *what, kvot_error *error) {
    if ((unsigned)array->type > KVOT_BF16)
        return fail(error, KVOT_E_ARGUMENT, "%s: there is no such element type", what);
    if (!array->data || array->tokens == 0 || array->heads == 0 || array->head_dim == 0)
        return fail(error, KVOT_E_ARGUMENT, "%s: no data, tokens, heads or channels", what);
    if ((uintptr_t)array->data % element_bytes(array) != 0)
        return fail(error, KVOT_E_ARGUMENT, "%s: the address is not aligned to an element", what);
    if ((uint64_t)array->heads * array->head_dim > FORMAT_CHUNK_BYTES / element_bytes(array))
        return fail(error, KVOT_E_ARGUMENT, "%s: a token has more than %d bytes", what, FORMAT_CHUNK_BYTES);
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

static void move_rows(const kvot_array *array, uint64_t first, uint32_t n, uint8_t *rows, bool out) {
    size_t bytes = element_bytes(array), head_bytes = array->head_dim * bytes;
    for (uint32_t r = 0; r < n; r++) {
        for (uint32_t h = 0; h < array->heads; h++, rows += head_bytes) {
            uint8_t *head = row_of(array, first + r, h);
            if (array->channel_stride == 1)
                memcpy(out ? rows : head, out ? head : rows, head_bytes);
            else if (bytes == sizeof(uint16_t))
                move_strided(head, array->channel_stride, rows, array->head_dim, sizeof(uint16_t), out);
            else
                move_strided(head, array->channel_stride, rows, array->head_dim, sizeof(float), out);
        }
    }
}

void array_read(const kvot_array *array, uint64_t first, uint32_t n, void *rows) {
    move_rows(array, first, n, rows, true);
}

void array_write(const kvot_array *array, uint64_t first, uint32_t n, const void *rows) {
    move_rows(array, first, n, (uint8_t *)rows, false);
}
