/* Unit tests: one suite a file, each with its tests in a NULL-terminated table. */
#ifndef KVOT_UNIT_H
#define KVOT_UNIT_H

#include <CUnit/Basic.h>

typedef struct unit_test {
    const char *name;
    void (*run)(void);
} unit_test;

extern const unit_test array_tests[], cache_tests[], codec_tests[], engine_tests[], fetch_tests[], format_tests[],
    kernel_tests[], pool_tests[];

/* Pseudo-random numbers that are the same everywhere. */
unsigned unit_random(void);

#endif
