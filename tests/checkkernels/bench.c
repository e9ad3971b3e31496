/* Kernels run chunk after chunk through a tensor that no cache holds, K in its first half and V in the second, as a
 * cache of one layer would lie in memory. After each pass memcpy copies the tensor, so that both see the same machine.
 * A level too slow to go through all of it in a moment goes on in the next pass where it stopped. */
#include "bench.h"
#include "../../lib/bench/median.h"
#include "data.h"
#include "random.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = KERNEL_MAX_ROWS, HEADS = 8, HEAD_DIM = 128, ELEMENTS = ROWS * HEADS * HEAD_DIM, SIZES = ROWS * HEADS };
enum { DISTINCT = 8 /* pairs of chunks that differ; then they repeat */, REPEATS = 5, MOST_THREADS = 256 };
#define PASS_SECONDS 0.1

static const char *const type_names[] = {"f32", "f16", "bf16"};

typedef struct memory {
    kernel_chunk chunk; /* of K; V differs in `keys` alone */
    size_t bytes;       /* of the tensor */
    size_t pairs, chunk_bytes;
    uint8_t *tensor, *other; /* pairs chunks of K, pairs chunks of V */
    uint8_t *codes;          /* for each of these, code_bytes */
    size_t code_bytes, codes_capacity;
    float key_sums[DISTINCT][SIZES], key_squares[DISTINCT][SIZES], value_sums[DISTINCT][SIZES];
} memory;

static kernel_chunk chunk_of(const memory *m, bool keys) {
    kernel_chunk chunk = m->chunk;
    chunk.keys = keys;
    return chunk;
}

static uint8_t *rows_of(const memory *m, uint8_t *tensor, size_t pair, bool keys) {
    return tensor + (keys ? pair : m->pairs + pair) * m->chunk_bytes;
}

static size_t range_bytes(const memory *m) {
    return ELEMENTS / m->chunk.group * data_element_bytes(m->chunk.type);
}

static size_t low_bytes(const memory *m) {
    return ELEMENTS / 8 * (m->chunk.bits == 3 ? 2 : m->chunk.bits);
}

static kernel_codes codes_of(const memory *m, size_t pair, bool keys) {
    uint8_t *at = m->codes + (keys ? pair : m->pairs + pair) * m->code_bytes;
    kernel_codes codes = {.scales = at, .minima = at + range_bytes(m), .codes = at + 2 * range_bytes(m)};
    codes.high = codes.codes + low_bytes(m);
    codes.row_code_bytes = low_bytes(m) / ROWS;
    codes.row_high_bytes = m->chunk.bits == 3 ? HEADS * HEAD_DIM / 8 : 0;
    return codes;
}

/* One pair of chunks, K and V. */
typedef void step(memory *m, const kernel_table *table, size_t pair);

static void step_magnitudes(memory *m, const kernel_table *table, size_t pair) {
    float sums[SIZES], squares[SIZES];
    kernel_chunk k = chunk_of(m, true), v = chunk_of(m, false);
    table->magnitudes(&k, rows_of(m, m->tensor, pair, true), sums, squares);
    table->magnitudes(&v, rows_of(m, m->tensor, pair, false), sums, NULL);
}

static void step_choose(memory *m, const kernel_table *table, size_t pair) {
    uint8_t exact[SIZES];
    size_t i = pair % DISTINCT;
    kernel_sizes sizes = {ROWS, HEADS, false, m->key_sums[i], m->key_squares[i], m->value_sums[i]};
    table->choose(&sizes, exact);
}

static void step_compare(memory *m, const kernel_table *table, size_t pair) {
    kernel_loss loss;
    for (int keys = 0; keys < 2; keys++)
        table->compare(m->chunk.type, rows_of(m, m->tensor, pair, keys), rows_of(m, m->other, pair, keys), ELEMENTS,
                       &loss);
}

/* With outlier search. */
static void step_quantize(memory *m, const kernel_table *table, size_t pair) {
    float key_sums[SIZES], key_squares[SIZES], value_sums[SIZES];
    uint8_t exact[SIZES];
    kernel_chunk k = chunk_of(m, true), v = chunk_of(m, false);
    const uint8_t *keys = rows_of(m, m->tensor, pair, true), *values = rows_of(m, m->tensor, pair, false);
    table->magnitudes(&k, keys, key_sums, key_squares);
    table->magnitudes(&v, values, value_sums, NULL);
    table->choose(&(kernel_sizes){ROWS, HEADS, false, key_sums, key_squares, value_sums}, exact);
    kernel_codes key_codes = codes_of(m, pair, true), value_codes = codes_of(m, pair, false);
    table->quantize(&k, keys, exact, &key_codes);
    table->quantize(&v, values, exact, &value_codes);
}

static void step_dequantize(memory *m, const kernel_table *table, size_t pair) {
    for (int keys = 0; keys < 2; keys++) {
        kernel_chunk chunk = chunk_of(m, keys);
        kernel_codes codes = codes_of(m, pair, keys);
        table->dequantize(&chunk, &codes, rows_of(m, m->other, pair, keys));
    }
}

/* The part of a pass that one thread does: `count` pairs from `first`, the first again after the last. Without a step
 * it is memcpy. */
typedef struct part {
    memory *m;
    step *step;
    const kernel_table *table;
    size_t first, count;
} part;

static void *run_part(void *context) {
    const part *p = context;
    memory *m = p->m;
    for (int keys = 0; !p->step && keys < 2; keys++)
        memcpy(rows_of(m, m->other, p->first, keys), rows_of(m, m->tensor, p->first, keys), p->count * m->chunk_bytes);
    for (size_t i = 0; p->step && i < p->count; i++)
        p->step(m, p->table, (p->first + i) % m->pairs);
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds for `count` pairs from `first`, cut into a part for each thread. */
static double pass(const part *all, uint32_t threads) {
    pthread_t others[MOST_THREADS];
    part parts[MOST_THREADS];
    double start = now();
    for (uint32_t t = 0; t < threads; t++) {
        size_t first = all->count * t / threads, end = all->count * (t + 1) / threads;
        parts[t] = (part){all->m, all->step, all->table, all->first + first, end - first};
        if (t > 0 && pthread_create(&others[t], NULL, run_part, &parts[t]) != 0) {
            perror("a thread");
            exit(2);
        }
    }
    run_part(&parts[0]);
    for (uint32_t t = 1; t < threads; t++)
        pthread_join(others[t], NULL);
    return now() - start;
}

static unsigned printed;

static void print(const bench_options *with, const memory *m, const char *kernel, const kernel_table *table,
                  double rate, double share) {
    const kernel_chunk *chunk = &m->chunk;
    if (with->json) {
        printf("%s{\"kernel\": \"%s\", \"level\": \"%s\", \"type\": \"%s\", ", printed ? ",\n " : "", kernel,
               table->name, type_names[chunk->type]);
        if (chunk->bits)
            printf("\"bits\": %u, \"group\": %u, ", chunk->bits, chunk->group);
        else
            printf("\"bits\": null, \"group\": null, ");
        printf("\"bytes_per_second\": %.0f, \"memcpy_share\": %.4f}", rate, share);
    } else {
        printf("%-10s %-6s %-4s ", kernel, table->name, type_names[chunk->type]);
        if (chunk->bits)
            printf("%4u %5u ", chunk->bits, chunk->group);
        else
            printf("   -     - ");
        printf("%9.3f %12.3f\n", rate * 1e-9, share);
    }
    printed++;
    fflush(stdout);
}

static bool wanted(const char *only, const char *name) {
    return !only || strcmp(only, name) == 0;
}

/* All levels in turn, then memcpy, and again. */
static void measure(const bench_options *with, memory *m, const char *kernel, step *step) {
    if (!wanted(with->kernel, kernel))
        return;
    part parts[KERNEL_LEVELS];
    double seconds[KERNEL_LEVELS][REPEATS], copies[REPEATS];
    int levels = 0;
    for (int level = 0; level < KERNEL_LEVELS; level++) {
        const kernel_table *table = kernels_at((kernel_level)level);
        if (!table || !wanted(with->level, table->name))
            continue;
        part *p = &parts[levels++];
        *p = (part){m, step, table, 0, with->threads};
        pass(p, with->threads); /* code and page tables */
        double pairs = PASS_SECONDS / (pass(p, with->threads) / (double)with->threads);
        p->count = pairs >= (double)m->pairs ? m->pairs : pairs < with->threads ? with->threads : (size_t)pairs;
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        for (int level = 0; level < levels; level++) {
            part *p = &parts[level];
            seconds[level][repeat] = pass(p, with->threads) / (double)p->count;
            p->first = (p->first + p->count) % m->pairs;
        }
        copies[repeat] = pass(&(part){m, NULL, NULL, 0, m->pairs}, with->threads) / (double)m->pairs;
    }
    double copy = bench_median(copies, REPEATS);
    for (int level = 0; level < levels; level++) {
        double pair = bench_median(seconds[level], REPEATS);
        print(with, m, kernel, parts[level].table, 2 * (double)m->chunk_bytes / pair, copy / pair);
    }
}

static void *allocate(size_t bytes) {
    void *allocated = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!allocated) {
        perror("memory for the tensors");
        exit(2);
    }
    memset(allocated, 0, bytes);
    return allocated;
}

static void fill_tensor(memory *m, kernel_type type) {
    m->chunk = (kernel_chunk){type, ROWS, HEADS, HEAD_DIM, 32, 0, true, 1.0f};
    m->chunk_bytes = ELEMENTS * data_element_bytes(type);
    m->pairs = m->bytes / 2 / m->chunk_bytes;
    for (int keys = 0; keys < 2; keys++) {
        kernel_chunk chunk = chunk_of(m, keys);
        for (size_t pair = 0; pair < DISTINCT; pair++)
            data_fill(&chunk, DATA_REALISTIC, rows_of(m, m->tensor, pair, keys));
        for (size_t pair = DISTINCT; pair < m->pairs; pair++)
            memcpy(rows_of(m, m->tensor, pair, keys), rows_of(m, m->tensor, pair - DISTINCT, keys), m->chunk_bytes);
    }
    kernel_chunk k = chunk_of(m, true), v = chunk_of(m, false);
    for (size_t i = 0; i < DISTINCT; i++) {
        kernels()->magnitudes(&k, rows_of(m, m->tensor, i, true), m->key_sums[i], m->key_squares[i]);
        kernels()->magnitudes(&v, rows_of(m, m->tensor, i, false), m->value_sums[i], NULL);
    }
}

static void fill_codes(memory *m, uint32_t bits, uint32_t group) {
    m->chunk.bits = bits;
    m->chunk.group = group;
    m->code_bytes = 2 * range_bytes(m) + low_bytes(m) + (bits == 3 ? ELEMENTS / 8 : 0);
    size_t bytes = 2 * m->pairs * m->code_bytes;
    if (bytes > m->codes_capacity) {
        free(m->codes);
        m->codes = allocate(m->codes_capacity = bytes);
    }
    for (size_t pair = 0; pair < m->pairs; pair++) {
        if (pair < DISTINCT)
            step_quantize(m, kernels(), pair);
        for (int keys = 0; pair >= DISTINCT && keys < 2; keys++)
            memcpy(codes_of(m, pair, keys).scales, codes_of(m, pair - DISTINCT, keys).scales, m->code_bytes);
    }
}

int bench_run(const bench_options *with) {
    static const uint32_t all_bits[] = {2, 3, 4, 8}, groups[] = {32, 64, 128};
    static const kernel_type types[] = {KERNEL_F16, KERNEL_BF16, KERNEL_F32};
    static memory m;
    if (with->threads > MOST_THREADS) {
        fprintf(stderr, "at most %d threads\n", MOST_THREADS);
        return 2;
    }
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    m.bytes = cache > 32 << 20 ? 4 * (size_t)cache : 128 << 20;
    m.tensor = allocate(m.bytes);
    m.other = allocate(m.bytes);
    if (with->json)
        putchar('[');
    else
        printf("tensors of %zu MiB, last-level cache %ld MiB, %u thread%s\n"
               "kernel     level  type bits group      GB/s memcpy share\n",
               m.bytes >> 20, cache >> 20, with->threads, with->threads > 1 ? "s" : "");
    for (int t = 0; t < 3; t++) {
        if (!wanted(with->type, type_names[types[t]]))
            continue;
        fill_tensor(&m, types[t]);
        measure(with, &m, "magnitudes", step_magnitudes);
        measure(with, &m, "compare", step_compare);
        if (types[t] == KERNEL_F16) /* looks at sums alone, whatever the type they are of */
            measure(with, &m, "choose", step_choose);
        for (int b = 0; b < 4; b++) {
            for (int g = 0; g < 3; g++) {
                if ((with->bits && with->bits != all_bits[b]) || (with->group && with->group != groups[g]))
                    continue;
                fill_codes(&m, all_bits[b], groups[g]);
                measure(with, &m, "quantize", step_quantize);
                measure(with, &m, "dequantize", step_dequantize);
            }
        }
    }
    if (with->json)
        puts("]");
    free(m.tensor);
    free(m.other);
    free(m.codes);
    if (printed == 0)
        fputs("there is no such kernel, level or setting\n", stderr);
    return printed == 0;
}
