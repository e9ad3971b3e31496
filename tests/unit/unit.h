/* Unit tests: one suite a file, each with its tests in a NULL-terminated table. */
#ifndef KVOT_UNIT_H
#define KVOT_UNIT_H

#include <CUnit/Basic.h>

typedef struct unit_test {
    const char *name;
    void (*run)(void);
} unit_test;

extern const unit_test array_tests[], cache_tests[], codec_tests[], engine_tests[], fetch_tests[], format_tests[],
    kernel_tests[], loading_tests[], loading_order_tests[], map_tests[], match_tests[], memory_tests[], pool_tests[],
    recompress_tests[], stream_writer_tests[];

/* Pseudo-random numbers that are the same everywhere. */
unsigned unit_random(void);

/* The path of a temporary file of this process. Good until a few more were asked for. */
const char *unit_path(const char *name);

/* Reads up to `most` bytes of that file; returns how many. */
size_t unit_read_file(const char *name, void *to, size_t most);

void unit_write_file(const char *name, const void *from, size_t n);

#endif
