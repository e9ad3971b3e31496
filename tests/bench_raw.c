/* Reads a file as kvot bench does with O_DIRECT and io_uring; prints bytes a second. For fio.sh.
 *
 * Usage: bench_raw FILE. Exit code 77 where the kernel refuses either. */
#include "../lib/bench/raw.h"
#include "../lib/run/run.h"

#include <stdio.h>

int main(int argc, char **argv) {
    input in;
    double seconds;
    kvot_error error;
    if (argc != 2) {
        fputs("usage: bench_raw FILE\n", stderr);
        return 2;
    }
    kvot_status status = input_open(&in, argv[1], &run_plain, &error);
    if (status == KVOT_OK) {
        raw_drop(&in);
        status = raw_direct(&in, NULL, &seconds, &error);
    }
    if (status != KVOT_OK) {
        fprintf(stderr, "bench_raw: %s\n", error.text);
        return status == KVOT_E_UNSUPPORTED ? 77 : 1;
    }
    printf("%.0f\n", (double)in.bytes / seconds);
    input_close(&in);
    return 0;
}
