#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    const unit_test *tests;
} suites[] = {{"format", format_tests},
              {"kernels", kernel_tests},
              {"codecs", codec_tests},
              {"engines", engine_tests},
              {"cache", cache_tests},
              {"pool", pool_tests},
              {"recompress", recompress_tests},
              {"memory", memory_tests},
              {"fetch", fetch_tests},
              {"arrays", array_tests},
              {"loading", loading_tests},
              {"loading_order", loading_order_tests},
              {"match", match_tests},
              {"map", map_tests},
              {"stream_writer", stream_writer_tests}};

unsigned unit_random(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

const char *unit_path(const char *name) {
    static char paths[4][64];
    static int next;
    char *text = paths[next++ % 4];
    snprintf(text, sizeof paths[0], "/tmp/kvot-unit-%d-%s", (int)getpid(), name);
    return text;
}

size_t unit_read_file(const char *name, void *to, size_t most) {
    FILE *file = fopen(unit_path(name), "rb");
    size_t n = file ? fread(to, 1, most, file) : 0;
    if (file)
        fclose(file);
    return n;
}

void unit_write_file(const char *name, const void *from, size_t n) {
    FILE *file = fopen(unit_path(name), "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(from, 1, n, file), n);
    fclose(file);
}

/* unit [SUITE]: runs all suites, or one. */
int main(int argc, char **argv) {
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        if (argc > 1 && strcmp(argv[1], suites[i].name) != 0)
            continue;
        CU_pSuite suite = CU_add_suite(suites[i].name, NULL, NULL);
        for (const unit_test *test = suites[i].tests; test->name; test++)
            CU_add_test(suite, test->name, test->run);
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned run = CU_get_number_of_tests_run(), failed = CU_get_number_of_tests_failed();
    CU_cleanup_registry();
    return run == 0 || failed > 0;
}
