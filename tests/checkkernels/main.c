/* Compares every level of kernels/ with the scalar functions, bit for bit, and measures them.
 *
 *   checkkernels                 checks all levels that this build and this processor have
 *   checkkernels --level avx2    only this one
 *   checkkernels --bench         bytes a second of every kernel, and as a share of memcpy's
 *   checkkernels --bench --json  the same for programs
 *
 * --bench is narrowed by --level, --kernel, --type, --bits and --group; --threads N works on N parts at once. Bytes are
 * those of the f32, f16 or bf16 tensor, never of codes. A processor that this machine lacks: qemu-aarch64-static
 * checkkernels, where it was built for it. */
#include "bench.h"
#include "check.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void) {
    fputs("usage: checkkernels [--level LEVEL]\n"
          "       checkkernels --bench [--json] [--level LEVEL] [--kernel KERNEL] [--type f32|f16|bf16]\n"
          "                    [--bits BITS] [--group GROUP] [--threads THREADS]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"bench", no_argument, NULL, 'B'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"level", required_argument, NULL, 'l'},
                                            {"kernel", required_argument, NULL, 'k'},
                                            {"type", required_argument, NULL, 't'},
                                            {"bits", required_argument, NULL, 'b'},
                                            {"group", required_argument, NULL, 'g'},
                                            {"threads", required_argument, NULL, 'n'},
                                            {NULL, 0, NULL, 0}};
    bool bench = false, narrowed = false;
    bench_options with = {.threads = 1};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        narrowed |= option != 'B' && option != 'l';
        switch (option) {
        case 'B':
            bench = true;
            break;
        case 'j':
            with.json = true;
            break;
        case 'l':
            with.level = optarg;
            break;
        case 'k':
            with.kernel = optarg;
            break;
        case 't':
            with.type = optarg;
            break;
        case 'b':
            with.bits = (uint32_t)atoi(optarg);
            break;
        case 'g':
            with.group = (uint32_t)atoi(optarg);
            break;
        case 'n':
            with.threads = (uint32_t)atoi(optarg);
            break;
        default:
            return usage();
        }
    }
    if (optind < argc || (narrowed && !bench) || with.threads < 1)
        return usage();
    if (bench)
        return bench_run(&with);
    if (!check_start(with.level)) {
        puts("no level to compare with scalar");
        return with.level ? 1 : 77; /* skipped */
    }
    check_choose();
    check_compare();
    check_all_halves();
    check_chunks();
    return check_end();
}
