/* How fast the kernels are. */
#ifndef CHECK_BENCH_H
#define CHECK_BENCH_H

#include <stdbool.h>
#include <stdint.h>

/* What to measure: NULL or 0 for all. */
typedef struct bench_options {
    const char *level, *kernel, *type;
    uint32_t bits, group, threads;
    bool json;
} bench_options;

/* The exit code. */
int bench_run(const bench_options *options);

#endif
