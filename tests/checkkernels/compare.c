/* compare. */
#include "../../kernels/numbers.h"
#include "check.h"
#include "data.h"
#include "random.h"

#include <stddef.h>

typedef struct arguments {
    kernel_type type;
    size_t n;
    const void *original, *other;
} arguments;

static void call_compare(const kernel_table *table, const void *context, void *const *outputs) {
    const arguments *with = context;
    table->compare(with->type, with->original, with->other, with->n, outputs[0]);
}

static void run(const arguments *with) {
    static_assert(sizeof(kernel_loss) == 3 * sizeof(double), "no gaps, so bytes can be compared");
    check_kernel("compare", &(check_output){"loss", sizeof(kernel_loss), sizeof(double)}, 1, call_compare, with);
}

static const char *const type_names[] = {"f32", "f16", "bf16"};

static void check_arrays(kernel_type type, uint32_t n, data_kind kind, uint32_t differences, bool spoilt) {
    static const char *const difference_names[] = {"none", "small", "all"};
    check_describe("%s, %u elements, data: %s, differences: %s%s", type_names[type], n, data_kind_names[kind],
                   difference_names[differences], spoilt ? ", NaN and infinities" : "");
    size_t element = data_element_bytes(type);
    kernel_chunk chunk = {.type = type, .rows = 1, .heads = 1, .head_dim = n, .group = 32, .bits = 4, .share = 1};
    check_new_case();
    void *original = check_input("original", n * element, element), *other = check_input("other", n * element, element);
    data_fill(&chunk, kind, original);
    if (spoilt && n > 0)
        data_spoil(type, original, n);
    if (differences == 2)
        data_fill(&chunk, kind, other);
    else if (n > 0)
        memcpy(other, original, n * element);
    for (uint32_t i = 0; differences == 1 && i < n; i++)
        store_element(type, other, i, load_element(type, other, i) * (1 + 0.01f * random_unit()));
    /* beside what is there already: infinity against a number, NaN against another NaN */
    if (spoilt && n > 0 && random_below(2))
        data_spoil(type, other, n);
    run(&(arguments){type, n, original, other});
}

/* Every half, against 0 and against itself with one more bit: a signalling NaN is not the quiet one. Alone, and often
 * enough for every path. */
static void check_each_half(kernel_type type, uint32_t n) {
    uint16_t quiet = type == KERNEL_F16 ? 0x200 : 0x40;
    check_new_case();
    uint16_t *half = check_input("half", n * sizeof *half, sizeof *half);
    uint16_t *near = check_input("near", n * sizeof *near, sizeof *near);
    uint16_t *zero = check_input("zero", n * sizeof *zero, sizeof *zero);
    memset(zero, 0, n * sizeof *zero);
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        for (uint32_t i = 0; i < n; i++) {
            half[i] = (uint16_t)bits;
            near[i] = (uint16_t)(bits ^ quiet);
        }
        check_describe("%s, %u elements, all 0x%04x, then 0", type_names[type], n, bits);
        run(&(arguments){type, n, half, zero});
        check_describe("%s, %u elements, all 0, then 0x%04x", type_names[type], n, bits);
        run(&(arguments){type, n, zero, half});
        check_describe("%s, %u elements, all 0x%04x, then 0x%04x", type_names[type], n, bits, bits ^ quiet);
        run(&(arguments){type, n, half, near});
    }
}

void check_compare(void) {
    static const uint32_t large[] = {127, 128, 129, 255, 256, 257, 1000, 4095, 4096, 4097, 65535, 100003};
    for (int type = KERNEL_F32; type <= KERNEL_BF16; type++) {
        for (uint32_t i = 0; i < 71 + sizeof large / sizeof *large; i++) {
            for (int kind = 0; kind < DATA_KINDS; kind++) {
                uint32_t differences = random_below(3);
                check_arrays((kernel_type)type, i < 71 ? i : large[i - 71], (data_kind)kind, differences,
                             random_below(2));
            }
        }
        for (uint32_t n = 1; n <= 64 && type != KERNEL_F32; n += 63)
            check_each_half((kernel_type)type, n);
    }
}
