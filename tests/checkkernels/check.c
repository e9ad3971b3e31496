#include "check.h"
#include "buffer.h"
#include "random.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUTS = 6, SHOWN = 20 };

uint64_t random_state = 1;

static const char *const level_names[KERNEL_LEVELS] = {"scalar", "neon", "avx2", "avx512"};

static struct {
    const kernel_table *tables[KERNEL_LEVELS]; /* NULL: not checked */
    unsigned long compared[KERNEL_LEVELS], mismatches;
    char description[256];
    buffer inputs[INPUTS], expected[CHECK_OUTPUTS], actual[CHECK_OUTPUTS];
    int n_inputs;
    const char *running_level, *running_kernel;
} check;

/* A kernel that touches memory beside its arrays, or has an instruction that is not there, ends here. */
static void crashed(int number) {
    fprintf(stderr, "%s %s: crashed (%s)\n    %s\n", check.running_level, check.running_kernel, strsignal(number),
            check.description);
    _exit(1);
}

bool check_start(const char *only) {
    bool some = false;
    for (int level = KERNEL_SCALAR + 1; level < KERNEL_LEVELS; level++) {
        if (only && strcmp(only, level_names[level]) != 0)
            continue;
        check.tables[level] = kernels_at((kernel_level)level);
        some |= check.tables[level] != NULL;
        if (!check.tables[level])
            printf("%s: not in this build or not on this processor\n", level_names[level]);
    }
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], crashed);
    return some;
}

int check_end(void) {
    for (int level = KERNEL_SCALAR + 1; level < KERNEL_LEVELS; level++)
        if (check.tables[level])
            printf("%s: %lu comparisons with scalar\n", level_names[level], check.compared[level]);
    if (check.mismatches > 0)
        printf("%lu mismatches\n", check.mismatches);
    return check.mismatches > 0;
}

void check_describe(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(check.description, sizeof check.description, format, list);
    va_end(list);
}

void check_new_case(void) {
    check.n_inputs = 0;
}

void *check_input(const char *name, size_t bytes, size_t element) {
    return buffer_place(&check.inputs[check.n_inputs++], name, bytes, element, (uint8_t)random_bits());
}

const void *check_expected(int output) {
    return check.expected[output].at;
}

/* True if the message is to be shown: the first few of what may be thousands. */
static bool mismatch(void) {
    check.mismatches++;
    if (check.mismatches == SHOWN + 1)
        fprintf(stderr, "further mismatches are counted only\n");
    return check.mismatches <= SHOWN;
}

static void must_be_intact(const buffer *b) {
    ptrdiff_t where;
    if (!buffer_intact(b, &where) && mismatch())
        fprintf(stderr, "%s %s: changed %s %s: byte %td, of %zu\n    %s\n", check.running_level, check.running_kernel,
                where < 0 || where >= (ptrdiff_t)b->bytes ? "memory beside" : "its input", b->name, where, b->bytes,
                check.description);
}

static void print_element(const uint8_t *at, size_t element) {
    uint64_t bits = 0;
    memcpy(&bits, at, element); /* little-endian, as all of this project */
    fprintf(stderr, "0x%0*llx", (int)element * 2, (unsigned long long)bits);
}

static void must_be_equal(const buffer *expected, const buffer *actual, size_t element) {
    if (expected->bytes == 0 || memcmp(expected->at, actual->at, expected->bytes) == 0 || !mismatch())
        return;
    size_t i = 0;
    while (memcmp(expected->at + i * element, actual->at + i * element, element) == 0)
        i++;
    fprintf(stderr, "%s %s: %s[%zu] (byte %zu of %zu) is ", check.running_level, check.running_kernel, expected->name,
            i, i * element, expected->bytes);
    print_element(actual->at + i * element, element);
    fprintf(stderr, ", scalar gives ");
    print_element(expected->at + i * element, element);
    fprintf(stderr, "\n    %s\n", check.description);
}

void check_kernel(const char *kernel, const check_output *outputs, int n_outputs,
                  void (*call)(const kernel_table *table, const void *context, void *const *outputs),
                  const void *context) {
    uint8_t fill = (uint8_t)random_bits();
    check.running_kernel = kernel;
    for (int i = 0; i < check.n_inputs; i++)
        buffer_save(&check.inputs[i]);
    for (int level = KERNEL_SCALAR; level < KERNEL_LEVELS; level++) {
        const kernel_table *table = level == KERNEL_SCALAR ? kernels_at(KERNEL_SCALAR) : check.tables[level];
        if (!table)
            continue;
        check.running_level = level_names[level];
        buffer *to = level == KERNEL_SCALAR ? check.expected : check.actual;
        void *at[CHECK_OUTPUTS];
        for (int i = 0; i < n_outputs; i++)
            at[i] = buffer_place(&to[i], outputs[i].name, outputs[i].bytes, outputs[i].element,
                                 level == KERNEL_SCALAR ? fill : (uint8_t)~fill);
        call(table, context, at);
        for (int i = 0; i < check.n_inputs; i++)
            must_be_intact(&check.inputs[i]);
        for (int i = 0; i < n_outputs; i++) {
            must_be_intact(&to[i]);
            if (level != KERNEL_SCALAR)
                must_be_equal(&check.expected[i], &to[i], outputs[i].element);
        }
        check.compared[level]++;
    }
}
