#include "unit.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const unit_test *tests;
} suites[] = {{"format", format_tests}, {"kernels", kernel_tests}, {"codecs", codec_tests}, {"engines", engine_tests},
              {"cache", cache_tests},   {"pool", pool_tests},      {"fetch", fetch_tests},  {"arrays", array_tests}};

unsigned unit_random(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
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
