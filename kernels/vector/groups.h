/* Groups and codes, as quantize and dequantize go through them. */
#ifndef KVOT_VECTOR_GROUPS_H
#define KVOT_VECTOR_GROUPS_H

#include "common.h"

/* Where the codes of a row begin, from channel `c` on; `high` is never used if codes have no high part. */
typedef struct code_row {
    uint8_t *codes, *high;
} code_row;

INLINE code_row codes_at(const kernel_codes *codes, size_t row, size_t c, uint32_t bits) {
    return (code_row){codes->codes + row * codes->row_code_bytes + c * low_bits(bits) / 8,
                      bits == 3 ? codes->high + row * codes->row_high_bytes + c / 8 : NULL};
}

/* Whether heads, and groups of values, begin at whole bytes, and rows follow each other without a gap. */
static bool takes(const kernel_chunk *chunk, const kernel_codes *codes) {
    size_t channels = (size_t)chunk->heads * chunk->head_dim;
    return chunk->head_dim % 8 == 0 && (chunk->keys || chunk->group % 8 == 0) &&
           codes->row_code_bytes == channels * low_bits(chunk->bits) / 8 &&
           (chunk->bits != 3 || codes->row_high_bytes == channels / 8);
}

/* Some groups of V, whose numbers follow each other: of whole heads, or, of heads that have many, a part of one. A
 * chunk's V is one long row of heads here: neither elements nor codes have gaps. */
typedef struct value_groups {
    size_t head, heads;
    size_t part, end; /* groups of each head */
} value_groups;

INLINE size_t groups_of_head(const kernel_chunk *chunk) {
    return (chunk->head_dim + chunk->group - 1) / chunk->group;
}

INLINE value_groups first_groups(const kernel_chunk *chunk) { /* before the first */
    return (value_groups){.end = groups_of_head(chunk)};
}

INLINE bool more_groups(const kernel_chunk *chunk, value_groups *some) {
    size_t all = (size_t)chunk->rows * chunk->heads, groups = groups_of_head(chunk);
    some->part = some->end;
    if (some->end == groups) {
        some->part = 0;
        some->head += some->heads;
    }
    some->end = some->part + least_of(N_GROUPS, groups - some->part);
    some->heads = groups > N_GROUPS ? 1 : least_of(N_GROUPS / groups, all - some->head);
    return some->head < all;
}

/* Runs what follows for each group: `i` counts them, `head` is its head, `offset` and `channels` say which elements.
 * `length` is the channels of every group, a constant, or 0 if they differ. */
#define FOR_GROUPS(some, length)                                                                                       \
    for (size_t i = 0, head = (some).head; head < (some).head + (some).heads; head++)                                  \
        for (size_t g_ = (some).part, offset, channels;                                                                \
             g_ < (some).end &&                                                                                        \
             (offset = head * chunk->head_dim + g_ * chunk->group,                                                     \
             channels = (length) ? (length) : least_of(chunk->group, chunk->head_dim - g_ * chunk->group), true);      \
             g_++, i++)

#endif
