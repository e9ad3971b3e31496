/* Public calls: files in memory (/dev/shm), and arrays in device memory. They run by turns with copies of a tensor
 * between pinned and device memory, the most that the link gives. Bytes are those of the engine's file. */
#include "bench.h"
#include "folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { LAYERS = 4, PLANES = 2 * LAYERS, ROW_BYTES = BENCH_CHANNELS * sizeof(uint16_t), REPEATS = 5 };

typedef struct files {
    const bench *bench;
    folder folder;
    file_path source, stored, arrays, output;
    uint32_t tokens;
    kvot_array on_device[PLANES];
    const char *device; /* of the call at hand */
} files;

static void must(kvot_status status, const kvot_error *error) {
    if (status != KVOT_OK) {
        fprintf(stderr, "bench_cuda: %s\n", error->text);
        exit(1);
    }
}

static void written(bool good) {
    if (!good) {
        perror("bench_cuda: the file to compress");
        exit(1);
    }
}

static void put(FILE *file, const void *from, size_t bytes) {
    written(fwrite(from, 1, bytes, file) == bytes);
}

/* A sequence file of llama.cpp, version 3: K of all layers, then V. */
static void write_source(const files *f) {
    static uint16_t rows[BENCH_ROWS][BENCH_CHANNELS];
    enum { MAGIC = 0x67677371, VERSION = 3, GGML_TYPE_F16 = 1 };
    FILE *file = fopen(f->source.text, "wb");
    uint32_t tokens = f->tokens;
    written(file != NULL);
    put(file, (uint32_t[]){MAGIC, VERSION, tokens}, 12);
    for (uint32_t i = 0; i < tokens; i++)
        put(file, &i, sizeof i);
    put(file, (uint32_t[]){1, tokens}, 8); /* streams, cells */
    for (uint32_t i = 0; i < tokens; i++)
        put(file, (uint32_t[]){i, 1, 0}, 12); /* position, one sequence */
    put(file, (uint32_t[]){0, LAYERS}, 8);    /* V is not transposed */
    for (int p = 0; p < PLANES; p++) {
        bench_rows(p < LAYERS, rows);
        put(file, (uint32_t[]){GGML_TYPE_F16, ROW_BYTES, 0}, 12); /* the row's bytes are a 64-bit number */
        for (uint32_t i = 0; i < tokens; i++)
            put(file, rows[i % BENCH_ROWS], ROW_BYTES);
    }
    written(fclose(file) == 0);
}

static kvot_run run_of(const files *f) {
    return (kvot_run){.overwrite = true, .device = f->device};
}

static void compress(const files *f) {
    kvot_run run = run_of(f);
    kvot_error error;
    must(kvot_compress(f->source.text, f->stored.text, NULL, &run, NULL, &error), &error);
}

static void restore(const files *f) {
    kvot_run run = run_of(f);
    kvot_error error;
    must(kvot_restore(f->stored.text, f->output.text, NULL, &run, NULL, &error), &error);
}

static void compress_arrays(const files *f) {
    kvot_run run = run_of(f);
    kvot_error error;
    must(kvot_compress_arrays(f->on_device, LAYERS, &(kvot_memory){f->bench->device, f->bench->lane->stream}, NULL,
                              f->arrays.text, NULL, &run, NULL, &error),
         &error);
}

static void restore_arrays(const files *f) {
    kvot_run run = run_of(f);
    kvot_error error;
    kvot_file *file;
    must(kvot_open(f->arrays.text, &file, &error), &error);
    for (int p = 0; p < PLANES; p++)
        must(kvot_load(file, &(kvot_part){(size_t)p, 0, f->on_device[p]}, 1,
                       &(kvot_memory){f->bench->device, f->bench->lane->stream}, &run, &error),
             &error);
    kvot_close(file);
}

/* The rows of the source, in device memory. */
static void fill_tensors(const files *f) {
    static uint16_t rows[BENCH_ROWS][BENCH_CHANNELS];
    for (int p = 0; p < PLANES; p++) {
        bench_rows(p % 2 == 0, rows);
        for (uint32_t first = 0; first < f->tokens; first += BENCH_ROWS) {
            uint32_t n = f->tokens - first < BENCH_ROWS ? f->tokens - first : BENCH_ROWS;
            BENCH(f->bench, MemcpyHtoDAsync, (uintptr_t)f->on_device[p].data + (size_t)first * ROW_BYTES, rows,
                  (size_t)n * ROW_BYTES, f->bench->lane->stream);
        }
        BENCH(f->bench, StreamSynchronize, f->bench->lane->stream);
    }
}

typedef struct wire {
    void *pinned;
    cu_pointer memory;
} wire;

static void step_up(const bench *bench, const void *context) {
    const wire *of = context;
    BENCH(bench, MemcpyHtoDAsync, of->memory, of->pinned, bench->bytes, bench->lane->stream);
}

static void step_down(const bench *bench, const void *context) {
    const wire *of = context;
    BENCH(bench, MemcpyDtoHAsync, of->pinned, of->memory, bench->bytes, bench->lane->stream);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void report(files *f, const wire *of, const char *name, const char *device, void (*call)(const files *),
                   bench_step *copy) {
    double seconds[REPEATS], copies[REPEATS], bytes = (double)f->tokens * PLANES * ROW_BYTES;
    f->device = device;
    call(f); /* once before, to find its memory */
    for (int i = 0; i < REPEATS; i++) {
        bench_time(f->bench, (bench_step *const[]){copy}, (const void *const[]){of}, 1, &copies[i]);
        double start = now();
        call(f);
        seconds[i] = now() - start;
    }
    double rate = bytes / bench_median(seconds, REPEATS);
    double copy_rate = (double)f->bench->bytes / bench_median(copies, REPEATS);
    printf("| %s | %s | %.0f | %.2f | %.1f %s | %.2f |\n", name, device, bytes / (1 << 20), rate * 1e-9,
           copy_rate * 1e-9, copy == step_up ? "up" : "down", rate / copy_rate);
    fflush(stdout);
}

/* Where files lie in memory, if there is room for them: source, output and what is stored. */
static bool choose_memory(const files *f) {
    struct statvfs about;
    double needed = 3.0 * f->tokens * PLANES * ROW_BYTES;
    return statvfs("/dev/shm", &about) == 0 && (double)about.f_bavail * (double)about.f_frsize > needed &&
           setenv("TMPDIR", "/dev/shm", 1) == 0;
}

void bench_files(const bench *bench) {
    files f = {.bench = bench, .tokens = (uint32_t)(4 * bench->bytes / PLANES / ROW_BYTES)};
    size_t plane_bytes = (size_t)f.tokens * ROW_BYTES;
    wire of = {.memory = bench_room(bench, bench->bytes)};
    cu_pointer tensors = bench_room(bench, PLANES * plane_bytes);
    bool in_memory = choose_memory(&f);
    f.folder = folder_make();
    f.source = folder_file(&f.folder, "source");
    f.stored = folder_file(&f.folder, "stored");
    f.arrays = folder_file(&f.folder, "arrays");
    f.output = folder_file(&f.folder, "output");
    write_source(&f);
    BENCH(bench, MemHostAlloc, &of.pinned, bench->bytes, 0);
    memset(of.pinned, 0, bench->bytes);
    for (int p = 0; p < PLANES; p++)
        f.on_device[p] = (kvot_array){(void *)(uintptr_t)(tensors + p * plane_bytes),
                                      KVOT_F16,
                                      f.tokens,
                                      BENCH_HEADS,
                                      BENCH_HEAD_DIM,
                                      BENCH_CHANNELS,
                                      BENCH_HEAD_DIM,
                                      1};
    fill_tensors(&f);
    printf("\nFiles in %s, %ld processors. The link: copies between pinned and device memory. In the engine's file a "
           "row is "
           "one head, in arrays %d.\n\n",
           in_memory ? "/dev/shm" : "a temporary folder, so disks count", sysconf(_SC_NPROCESSORS_ONLN), BENCH_HEADS);
    printf("| call | by | MiB of cache | GB/s | link, GB/s | of copying it raw |\n|---|---|---|---|---|---|\n");
    report(&f, &of, "kvot_compress", "cpu", compress, step_up);
    report(&f, &of, "kvot_compress", "cuda:0", compress, step_up);
    report(&f, &of, "kvot_restore", "cpu", restore, step_down);
    report(&f, &of, "kvot_restore", "cuda:0", restore, step_down);
    report(&f, &of, "kvot_compress_arrays, device memory", "cuda:0", compress_arrays, step_down);
    report(&f, &of, "kvot_load, device memory", "cuda:0", restore_arrays, step_up);
    BENCH(bench, MemFree, of.memory);
    BENCH(bench, MemFree, tensors);
    BENCH(bench, MemFreeHost, of.pinned);
    folder_remove(&f.folder);
}
