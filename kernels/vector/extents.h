/* The least and the greatest element of each group. */
#ifndef KVOT_VECTOR_EXTENTS_H
#define KVOT_VECTOR_EXTENTS_H

#include "groups.h"

/* Least and greatest elements of groups: single precision, or, for types of 16 bits, ordered integers (o32), which
 * takes half the work. */
typedef union extents {
    float numbers[BLOCK];
    int16_t ordered[BLOCK];
} extents;

enum { SWEEP = 8 }; /* rows that are looked at together */

/* The extent of nothing: infinity and minus infinity. */
INLINE void extents_clear(extents *low, extents *high, kernel_type type) {
    for (size_t i = 0; i < BLOCK; i++) {
        if (type == KERNEL_F32) {
            low->numbers[i] = INFINITY;
            high->numbers[i] = -INFINITY;
        } else {
            int16_t infinite = type == KERNEL_F16 ? 0x7c00 : 0x7f80;
            low->ordered[i] = infinite;
            high->ordered[i] = (int16_t)~infinite;
        }
    }
}

/* Widens the extents of channels from `at` on by SWEEP rows. */
INLINE void widen(const uint8_t *const *rows, extents *low, extents *high, size_t at, kernel_type type, size_t c,
                  int n) {
    if (type == KERNEL_F32) {
        float *least = low->numbers + at + c, *greatest = high->numbers + at + c;
        for (int i = 0; i < n; i += LANES) {
            int lanes = n < LANES ? n : LANES;
            v16 from = v_load(least + i, lanes), to = v_load(greatest + i, lanes);
            for (int r = 0; r < SWEEP; r++) {
                v16 x = v_load(rows[r] + (c + (size_t)i) * sizeof(float), lanes);
                from = v_min(x, from);
                to = v_max(x, to);
            }
            v_store(least + i, from, lanes);
            v_store(greatest + i, to, lanes);
        }
        return;
    }
    int16_t *least = low->ordered + at + c, *greatest = high->ordered + at + c;
    o32 from = o_read(least, n), to = o_read(greatest, n);
    for (int r = 0; r < SWEEP; r++) {
        o32 x = o_load(rows[r] + c * sizeof(uint16_t), n);
        from = o_min(x, from);
        to = o_max(x, to);
    }
    o_write(least, from, n);
    o_write(greatest, to, n);
}

/* Widens the extents of `n` channels from `at` on, all of one head, which are channels from `c` on of rows `first` to
 * `last`. `exact` is that head's. */
INLINE void extents_of_head(const kernel_chunk *chunk, const uint8_t *rows, const uint8_t *exact, uint32_t first,
                            uint32_t last, size_t c, size_t n, extents *low, extents *high, size_t at,
                            kernel_type type) {
    size_t row_bytes = (size_t)chunk->heads * chunk->head_dim * size_of(type);
    for (uint32_t r = first; r < last;) {
        const uint8_t *kept[SWEEP];
        int taken = 0;
        for (; taken < SWEEP && r < last; r++)
            if (!exact[(size_t)r * chunk->heads])
                kept[taken++] = rows + r * row_bytes + c * size_of(type);
        if (taken == 0)
            return;
        for (; taken < SWEEP; taken++) /* a row that is taken again changes nothing */
            kept[taken] = kept[taken - 1];
        IN_RUNS(n, widen, kept, low, high, at, type);
    }
}

typedef struct extent {
    v16 least, greatest; /* f32 */
    o32 from, to;        /* types of 16 bits */
} extent;

INLINE void widen_group(extent *of, const uint8_t *elements, kernel_type type, size_t c, int n) {
    if (type != KERNEL_F32) {
        o32 x = o_load(elements + c * sizeof(uint16_t), n);
        of->from = c == 0 ? x : o_min(x, of->from);
        of->to = c == 0 ? x : o_max(x, of->to);
        return;
    }
    for (int i = 0; i < n; i += LANES) {
        const uint8_t *numbers = elements + (c + (size_t)i) * sizeof(float);
        uint8_t twice[LANES * sizeof(float)];
        if (n < LANES) { /* what is read as 0 must not count */
            memcpy(twice, numbers, sizeof twice / 2);
            memcpy(twice + sizeof twice / 2, numbers, sizeof twice / 2);
            numbers = twice;
        }
        v16 x = v_load(numbers, LANES);
        of->least = v_min(x, of->least);
        of->greatest = v_max(x, of->greatest);
    }
}

/* The extent of one group of `n` elements that lie side by side. */
INLINE void extents_of_group(const uint8_t *elements, size_t n, extents *low, extents *high, size_t at,
                             kernel_type type) {
    extent of;
    of.least = v_set(INFINITY);
    of.greatest = v_set(-INFINITY);
    of.from = of.to = o_load(elements, 8);
    IN_RUNS(n, widen_group, &of, elements, type);
    if (type == KERNEL_F32) {
        low->numbers[at] = v_least(of.least);
        high->numbers[at] = v_greatest(of.greatest);
    } else {
        low->ordered[at] = o_least(of.from);
        high->ordered[at] = o_greatest(of.to);
    }
}

/* The extent of a group that is exact: any will do. */
INLINE void extents_of_none(extents *low, extents *high, size_t at, kernel_type type) {
    if (type == KERNEL_F32)
        low->numbers[at] = high->numbers[at] = 0;
    else
        low->ordered[at] = high->ordered[at] = 0;
}

/* Extents to single precision. */
INLINE void to_numbers(const extents *from, float *numbers, kernel_type type, size_t c, int n) {
    for (int i = 0; i < n; i += LANES) {
        size_t at = c + (size_t)i;
        int lanes = n < LANES ? n : LANES;
        int16_t elements[LANES];
        if (type == KERNEL_F32) {
            v_store(numbers + at, v_load(from->numbers + at, lanes), lanes);
        } else { /* turning over is its own inverse */
            o_write(elements, o_load(from->ordered + at, lanes), lanes);
            v_store(numbers + at, load(type, elements, lanes), lanes);
        }
    }
}

#endif
