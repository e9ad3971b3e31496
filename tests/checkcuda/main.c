/* check_cuda SUITE DATA: the CUDA path against the scalar kernels, bit for bit. Suites are kernels, lanes, arrays,
 * faults, library_faults, all of them, and no_device; DATA is the folder of llama.cpp's files. Exit code 77 where there
 * is nothing to run it on. */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For LeakSanitizer: what a driver keeps for itself, or for a context that could not be entered any more, is not ours.
 */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libcuda.so";
}

static atomic_uint failures;

bool wrong(const char *format, ...) {
    enum { SHOWN = 20 };
    if (failures++ < SHOWN) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
    }
    return false;
}

bool check(bool what, const char *file, int line, const char *text) {
    return what || wrong("%s:%d: %s", file, line, text);
}

/* Nothing to test on: no driver, no device, a build without nvcc. Any other failure is one, and so is this where a
 * driver was set up for the tests. */
static bool must_be_there(const kvot_error *error) {
    static const char *const nothing[] = {"no CUDA driver", "no CUDA kernels", "CUDA_ERROR_NO_DEVICE"};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing && !getenv("KVOT_CUDA_EXPECTED"); i++)
        if (strstr(error->text, nothing[i]))
            return false;
    return true;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: check_cuda SUITE DATA\n", stderr);
        return 2;
    }
    static const char *const suites[] = {"all", "no_device", "kernels", "lanes", "arrays", "faults", "library_faults"};
    const char *suite = argv[1];
    size_t known = 0;
    while (known < sizeof suites / sizeof *suites && strcmp(suite, suites[known]) != 0)
        known++;
    if (known == sizeof suites / sizeof *suites) {
        fprintf(stderr, "there is no suite %s\n", suite);
        return 2;
    }
    bool all = strcmp(suite, "all") == 0;
    device *device;
    kvot_error error;
    kvot_status status = device_open(0, &device, &error);
    if (strcmp(suite, "no_device") == 0) { /* that it is said so, with the driver's words where there is one */
        printf("%s\n", error.text);
        return status != KVOT_E_DEVICE || device ||
               (strstr(error.text, "cuInit: CUDA_ERROR_NO_DEVICE") == NULL && !strstr(error.text, "no CUDA kernels"));
    }
    if (status != KVOT_OK && !must_be_there(&error)) {
        printf("skipped: %s\n", error.text);
        return 77;
    }
    if (status != KVOT_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("device: %s\n", device_name(device));
    if (all || strcmp(suite, "kernels") == 0)
        check_kernels(device);
    if (all || strcmp(suite, "lanes") == 0)
        check_lanes(device);
    if (all || strcmp(suite, "arrays") == 0)
        check_arrays(device);
    device_close(device);
    if (all || strcmp(suite, "faults") == 0)
        check_faults();
    if (all || strcmp(suite, "library_faults") == 0)
        check_library_faults(argv[2]);
    printf("%u failures\n", failures);
    return failures > 0;
}
