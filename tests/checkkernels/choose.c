/* choose. */
#include "check.h"
#include "data.h"
#include "random.h"

#include <math.h>
#include <string.h>

typedef enum sizes_kind {
    SIZES_REALISTIC, /* alike, some far below */
    SIZES_TIES,      /* small whole numbers */
    SIZES_EQUAL,
    SIZES_INFINITE, /* half of them infinite, some zero: infinity times 0 */
    SIZES_ALL_INFINITE,
    SIZES_ANY, /* of any size: products overflow and underflow */
    SIZES_TINY,
    SIZES_KINDS
} sizes_kind;

static const char *const sizes_kind_names[SIZES_KINDS] = {"realistic",    "ties", "equal", "infinite",
                                                          "all infinite", "any",  "tiny"};

static float size_of(sizes_kind kind) {
    switch (kind) {
    case SIZES_TIES:
        return (float)random_below(6);
    case SIZES_EQUAL:
        return 3.0f;
    case SIZES_INFINITE:
        return random_below(2) ? INFINITY : (float)random_below(3);
    case SIZES_ALL_INFINITE:
        return INFINITY;
    case SIZES_ANY:
        return fabsf(data_any_finite(KERNEL_F32));
    case SIZES_TINY:
        return random_unit() * 0x1p-140f;
    default: {
        float scale = random_below(10) ? 60.0f : 5.0f;
        return scale * (1 + random_unit());
    }
    }
}

static void call_choose(const kernel_table *table, const void *context, void *const *outputs) {
    table->choose(context, outputs[0]);
}

static const float *sizes_input(const char *name, size_t n, sizes_kind kind) {
    float *sizes = check_input(name, n * sizeof *sizes, sizeof *sizes);
    for (size_t i = 0; i < n; i++)
        sizes[i] = size_of(kind);
    return sizes;
}

static void check_sizes(uint32_t rows, uint32_t heads) {
    sizes_kind keys = (sizes_kind)random_below(SIZES_KINDS);
    sizes_kind values = (sizes_kind)random_below(SIZES_KINDS);
    sizes_kind squares = random_below(2) ? SIZES_REALISTIC : (sizes_kind)random_below(SIZES_KINDS);
    bool start = random_below(4) == 0, alone = random_below(4) == 0;
    check_describe("rows %u heads %u, %s, keys: %s, squares: %s, values: %s", rows, heads,
                   start ? "at the start" : "further on", sizes_kind_names[keys], sizes_kind_names[squares],
                   alone ? "none" : sizes_kind_names[values]);
    check_new_case();
    size_t n = (size_t)rows * heads;
    kernel_sizes sizes = {.rows = rows, .heads = heads, .start = start};
    sizes.keys = sizes_input("keys", n, keys);
    sizes.key_squares = sizes_input("key_squares", n, squares);
    sizes.values = alone ? NULL : sizes_input("values", n, values);
    check_kernel("choose", &(check_output){"exact", n, 1}, 1, call_choose, &sizes);
}

void check_choose(void) {
    static const uint32_t heads[] = {1, 2, 3, 4, 7, 8, 16, 17, 33};
    for (uint32_t rows = 1; rows <= KERNEL_MAX_ROWS; rows++)
        for (int i = 0; i < 24; i++)
            check_sizes(rows, heads[random_below(sizeof heads / sizeof *heads)]);
}
