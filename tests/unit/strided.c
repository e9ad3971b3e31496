#include "strided.h"

kvot_array strided_array(int layout, void *memory, kvot_type type, uint32_t tokens, uint32_t heads, uint32_t head_dim) {
    int64_t n = tokens, dim = head_dim, row = heads * dim;
    /* Token, head, channel strides, and the element at which the array begins. */
    const int64_t layouts[STRIDED_LAYOUTS][4] = {
        {row, dim, 1, 0},                                   /* [tokens][heads][channels] */
        {dim, n * dim, 1, 0},                               /* [heads][tokens][channels] */
        {1, n * dim, n, 0},                                 /* [heads][channels][tokens] */
        {row, 1, heads, 0},                                 /* [tokens][channels][heads] */
        {2 * row + 3, dim, 1, 5},                           /* rows with gaps */
        {-row, dim, 1, (n - 1) * row},                      /* the last token first */
        {row, -dim, 1, row - dim},                          /* the last head first */
        {-2 * row - 1, -2 * dim, -2, n * (2 * row + 1) - 1} /* all backward, with gaps everywhere */
    };
    const int64_t *at = layouts[layout];
    uint8_t *first = (uint8_t *)memory + at[3] * (int64_t)strided_element_bytes(type);
    return (kvot_array){first, type, tokens, heads, head_dim, at[0], at[1], at[2]};
}

size_t strided_element_bytes(kvot_type type) {
    return type == KVOT_BYTES ? 1 : type == KVOT_F32 ? sizeof(float) : sizeof(uint16_t);
}

void *strided_element(const kvot_array *array, uint64_t token, uint64_t head, uint64_t channel) {
    int64_t at = (int64_t)token * array->token_stride + (int64_t)head * array->head_stride +
                 (int64_t)channel * array->channel_stride;
    return (uint8_t *)array->data + at * (int64_t)strided_element_bytes(array->type);
}
