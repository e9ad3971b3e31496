/* What a cold restore is up against: reads a .kvot file with O_DIRECT and io_uring, as kvot bench does, decodes the
 * same file from memory on all cores, and does both at once, neither waiting for the other. Were disk and processors
 * independent, both at once would take as long as the longer one: the limit that kvot bench names.
 *
 * Usage: bench_overlap FILE.kvot. Medians of rounds, in seconds. Exit code 77 where the kernel refuses either. */
#include "../lib/bench/decoded.h"
#include "../lib/bench/median.h"
#include "../lib/bench/raw.h"
#include "../lib/run/run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 9 };

static input disk;
static decoded in_memory;
static kvot_pool *pool;
static kept buffers;

static void must(kvot_status status, const kvot_error *error) {
    if (status == KVOT_OK)
        return;
    fprintf(stderr, "bench_overlap: %s\n", error->text);
    exit(status == KVOT_E_UNSUPPORTED ? 77 : 1);
}

static void open_files(const char *path) {
    kvot_error error;
    must(input_open(&disk, path, &run_plain, &error), &error);
    must(decoded_open(&in_memory, &disk, &error), &error);
    must(kvot_pool_open(0, 0, &pool, &error), &error);
    kept_open(&buffers, 64 << 20);
}

static void *read_file(void *seconds) {
    kvot_error error;
    must(raw_direct(&disk, &buffers, seconds, &error), &error);
    return NULL;
}

static double decode(void) {
    kvot_error error;
    kvot_run run = {.pool = pool};
    double start = clock_now();
    must(kvot_load(in_memory.file, in_memory.parts, kvot_file_info(in_memory.file)->n_planes, NULL, &run, &error),
         &error);
    return clock_now() - start;
}

static double both(void) {
    pthread_t thread;
    double seconds, start = clock_now();
    if (pthread_create(&thread, NULL, read_file, &seconds) != 0)
        exit(1);
    decode();
    pthread_join(thread, NULL);
    return clock_now() - start;
}

int main(int argc, char **argv) {
    double reading[ROUNDS], decoding[ROUNDS], together[ROUNDS], share[ROUNDS];
    if (argc != 2) {
        fputs("usage: bench_overlap FILE.kvot\n", stderr);
        return 2;
    }
    open_files(argv[1]);
    for (int i = 0; i < ROUNDS; i++) {
        raw_drop(&disk);
        read_file(&reading[i]);
        decoding[i] = decode();
        raw_drop(&disk);
        together[i] = both();
        share[i] = together[i] / (reading[i] > decoding[i] ? reading[i] : decoding[i]);
    }
    printf("reading %.4f, decoding %.4f, both at once %.4f: %.2f times the longer\n", bench_median(reading, ROUNDS),
           bench_median(decoding, ROUNDS), bench_median(together, ROUNDS), bench_median(share, ROUNDS));
    return 0;
}
