/* What a cold restore is up against: reads a .kvot file with O_DIRECT and io_uring, as kvot bench does, decodes the
 * same file from memory on all cores, and does both at once, neither waiting for the other. Were disk and processors
 * independent, both at once would take as long as the longer one: the limit that kvot bench names.
 *
 * Usage: bench_overlap FILE.kvot. Medians of rounds, in seconds. Exit code 77 where the kernel refuses either. */
#include "../lib/bench/raw.h"
#include "../lib/inspect.h"
#include "../lib/io/direct.h"
#include "../lib/run.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 9 };

static input disk;
static kvot_file *in_memory;
static kvot_part *parts;
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
    uint8_t *stored = direct_memory(disk.bytes);
    input memory = {.fd = -1, .memory = stored, .bytes = disk.bytes, .name = strdup(path)};
    if (!stored || !memory.name)
        must(fail_memory(&error), &error);
    must(input_read(&disk, 0, stored, disk.bytes, &error), &error);
    must(file_open(&memory, &in_memory, &error), &error);
    must(kvot_pool_open(0, 0, &pool, &error), &error);
    kept_open(&buffers, 64 << 20);
}

/* Every plane, whole, to memory that has its pages. */
static void make_parts(void) {
    kvot_error error;
    const kvot_info *info = kvot_file_info(in_memory);
    parts = calloc(info->n_planes + 1, sizeof *parts);
    for (size_t p = 0; p < info->n_planes; p++) {
        const kvot_plane *plane = &info->planes[p];
        size_t bytes = plane->rows * plane->row_bytes;
        uint8_t *to = direct_memory(bytes + 1);
        if (!parts || !to)
            must(fail_memory(&error), &error);
        memset(to, 1, bytes);
        parts[p] = (kvot_part){.plane = p,
                               .to = {.data = to,
                                      .type = KVOT_BYTES,
                                      .tokens = (uint32_t)plane->rows,
                                      .heads = 1,
                                      .head_dim = (uint32_t)plane->row_bytes,
                                      .token_stride = (int64_t)plane->row_bytes,
                                      .channel_stride = 1}};
    }
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
    must(kvot_load(in_memory, parts, kvot_file_info(in_memory)->n_planes, NULL, &run, &error), &error);
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

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values) {
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

int main(int argc, char **argv) {
    double reading[ROUNDS], decoding[ROUNDS], together[ROUNDS], share[ROUNDS];
    if (argc != 2) {
        fputs("usage: bench_overlap FILE.kvot\n", stderr);
        return 2;
    }
    open_files(argv[1]);
    make_parts();
    for (int i = 0; i < ROUNDS; i++) {
        raw_drop(&disk);
        read_file(&reading[i]);
        decoding[i] = decode();
        raw_drop(&disk);
        together[i] = both();
        share[i] = together[i] / (reading[i] > decoding[i] ? reading[i] : decoding[i]);
    }
    printf("reading %.4f, decoding %.4f, both at once %.4f: %.2f times the longer\n", median(reading), median(decoding),
           median(together), median(share));
    return 0;
}
