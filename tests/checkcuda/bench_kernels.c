/* Kernels on K and V of one layer that lie in device memory. Each runs by turns with a copy of a tensor from device
 * memory to device memory. Bytes are those of elements, codes, scales and minima, read or written, each counted once
 * however often a kernel touches it; the copy's are read and written. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

/* Kernels that are measured together, in the order in which they run. */
typedef struct launches {
    const cuda_plane *keys, *values; /* either may be NULL */
    const cuda_sizes *sizes;
    cuda_launch (*first)(const cuda_plane *plane), (*then)(const cuda_plane *plane);
} launches;

typedef struct copy {
    cu_pointer to, from;
    size_t bytes;
} copy;

static void launch(const bench *bench, cuda_launch launch, const void *argument) {
    kvot_error error;
    if (lane_launch(bench->lane, launch, argument, &error) != KVOT_OK) {
        fprintf(stderr, "bench_cuda: %s\n", error.text);
        exit(1);
    }
}

static void step_launches(const bench *bench, const void *context) {
    const launches *of = context;
    const cuda_plane *planes[] = {of->keys, of->values};
    for (int i = 0; i < 2 && of->first; i++)
        if (planes[i])
            launch(bench, of->first(planes[i]), planes[i]);
    if (of->sizes)
        launch(bench, cuda_choose(of->sizes), of->sizes);
    for (int i = 0; i < 2 && of->then; i++)
        if (planes[i])
            launch(bench, of->then(planes[i]), planes[i]);
}

static void step_copy(const bench *bench, const void *context) {
    const copy *copy = context;
    bench_check(bench, bench->MemcpyDtoDAsync(copy->to, copy->from, copy->bytes, bench->lane->stream),
                "cuMemcpyDtoDAsync");
}

/* K and V, and what is made of them. */
typedef struct tensors {
    cu_pointer rows[2], other, codes[2]; /* codes: room for those of any setting */
    cu_pointer flags[2], sums[2], squares;
    uint32_t tokens;
} tensors;

static void report(const bench *bench, const tensors *m, const char *kernel, const char *bits, double bytes,
                   const launches *launches) {
    copy copy = {m->other, m->rows[0], bench->bytes};
    double seconds[2];
    bench_time(bench, (bench_step *const[]){step_launches, step_copy}, (const void *const[]){launches, &copy}, 2,
               seconds);
    double rate = bytes / seconds[0], copy_rate = 2 * (double)copy.bytes / seconds[1];
    printf("| %s | %s | %.1f | %.1f | %.2f |\n", kernel, bits, bytes / (1 << 20), rate * 1e-9, rate / copy_rate);
    fflush(stdout);
}

/* Fills the tensors, with tokens or with channels side by side. */
static void fill(const bench *bench, const tensors *m, bool channel_major) {
    static uint16_t rows[BENCH_ROWS][BENCH_CHANNELS];
    uint16_t *host = malloc(bench->bytes);
    if (!host)
        exit(1);
    for (int p = 0; p < 2; p++) {
        bench_rows(p == LANE_K, rows);
        for (size_t i = 0; i < (size_t)m->tokens * BENCH_CHANNELS; i++) {
            size_t token = channel_major ? i % m->tokens : i / BENCH_CHANNELS;
            host[i] = rows[token % BENCH_ROWS][channel_major ? i / m->tokens : i % BENCH_CHANNELS];
        }
        BENCH(bench, MemcpyHtoDAsync, m->rows[p], host, bench->bytes, bench->lane->stream);
        BENCH(bench, StreamSynchronize, bench->lane->stream);
    }
    free(host);
}

static cuda_plane plane_of(const tensors *m, int p, uint32_t bits, bool channel_major) {
    cuda_plane plane = {.elements = m->rows[p],
                        .token_stride = channel_major ? 1 : BENCH_CHANNELS,
                        .head_stride = (int64_t)BENCH_HEAD_DIM * (channel_major ? m->tokens : 1),
                        .channel_stride = channel_major ? m->tokens : 1,
                        .exact = m->flags[p],
                        .sums = m->sums[p],
                        .squares = p == LANE_K ? m->squares : 0,
                        .losses = m->other,
                        .rows = m->tokens,
                        .first = KERNEL_MAX_ROWS,
                        .chunk_rows = KERNEL_MAX_ROWS,
                        .heads = BENCH_HEADS,
                        .head_dim = BENCH_HEAD_DIM,
                        .group = 64,
                        .share = 1.0f,
                        .type = KERNEL_F16,
                        .bits = bits,
                        .keys = p == LANE_K};
    plane.scales = m->codes[p];
    plane.minima = plane.scales + cuda_ranges(&plane) * sizeof(uint16_t);
    plane.codes = plane.minima + cuda_ranges(&plane) * sizeof(uint16_t);
    return plane;
}

static double coded_bytes(const bench *bench, const cuda_plane *plane) {
    return (double)(bench->bytes + 2 * cuda_ranges(plane) * sizeof(uint16_t) +
                    plane->rows * cuda_row_code_bytes(plane));
}

static void measure(const bench *bench, const tensors *m, uint32_t bits, bool channel_major) {
    char text[8], name[64];
    const char *lie = channel_major ? ", channel-major" : "";
    cuda_plane k = plane_of(m, LANE_K, bits, channel_major), v = plane_of(m, LANE_V, bits, channel_major);
    cuda_plane k_out = k, v_out = v;
    k_out.elements = v_out.elements = m->other;
    cuda_sizes sizes = {.keys = m->sums[0],
                        .key_squares = m->squares,
                        .values = m->sums[1],
                        .exact = m->flags[0],
                        .value_exact = m->flags[1],
                        .rows = m->tokens,
                        .first = KERNEL_MAX_ROWS,
                        .chunk_rows = KERNEL_MAX_ROWS,
                        .heads = BENCH_HEADS,
                        .rule = true};
    double heads = (double)m->tokens * BENCH_HEADS, coded = coded_bytes(bench, &k), tensor = (double)bench->bytes;
    snprintf(text, sizeof text, "%u", bits);
    if (bits == 4 && !channel_major) { /* these do not look at bits */
        report(bench, m, "magnitudes of K", "", tensor + heads * 8, &(launches){.keys = &k, .first = cuda_magnitudes});
        report(bench, m, "magnitudes of V", "", tensor + heads * 4,
               &(launches){.values = &v, .first = cuda_magnitudes});
        report(bench, m, "choose", "", heads * 14, &(launches){.sizes = &sizes});
    }
    snprintf(name, sizeof name, "quantize K and V with outlier search%s", lie);
    report(bench, m, name, text, 2 * coded,
           &(launches){.keys = &k, .values = &v, .sizes = &sizes, .first = cuda_measure, .then = cuda_settle});
    if (!channel_major) {
        report(bench, m, "quantize K", text, coded, &(launches){.keys = &k, .first = cuda_quantize});
        report(bench, m, "quantize V", text, coded, &(launches){.values = &v, .first = cuda_quantize});
    }
    double losses = (double)m->tokens * sizeof(kernel_loss);
    snprintf(name, sizeof name, "compare K%s", lie);
    report(bench, m, name, text, coded + losses, &(launches){.keys = &k, .first = cuda_compare});
    snprintf(name, sizeof name, "compare V%s", lie);
    report(bench, m, name, text, coded + losses, &(launches){.values = &v, .first = cuda_compare});
    snprintf(name, sizeof name, "dequantize K%s", lie);
    report(bench, m, name, text, coded, &(launches){.keys = &k_out, .first = cuda_dequantize});
    snprintf(name, sizeof name, "dequantize V%s", lie);
    report(bench, m, name, text, coded, &(launches){.values = &v_out, .first = cuda_dequantize});
}

void bench_kernels(const bench *bench) {
    tensors m = {.tokens = (uint32_t)(bench->bytes / (BENCH_CHANNELS * sizeof(uint16_t)))};
    size_t heads = (size_t)m.tokens * BENCH_HEADS;
    cu_pointer *const rooms[] = {&m.rows[0],  &m.rows[1],  &m.other,   &m.codes[0], &m.codes[1],
                                 &m.flags[0], &m.flags[1], &m.sums[0], &m.sums[1],  &m.squares};
    const size_t bytes[] = {bench->bytes, bench->bytes, bench->bytes, bench->bytes / 2, bench->bytes / 2,
                            heads,        heads,        4 * heads,    4 * heads,        4 * heads};
    enum { ROOMS = sizeof bytes / sizeof *bytes };
    for (int i = 0; i < ROOMS; i++)
        *rooms[i] = bench_room(bench, bytes[i]);
    copy copy = {m.other, m.rows[0], bench->bytes};
    double seconds;
    fill(bench, &m, false);
    printf("\n| kernel | bits | MiB read and written | GB/s | share of a copy |\n|---|---|---|---|---|\n");
    bench_time(bench, (bench_step *const[]){step_copy}, (const void *const[]){&copy}, 1, &seconds);
    printf("| copy, device to device | | %zu | %.1f | 1 |\n", bench->bytes >> 19,
           2 * (double)bench->bytes / seconds * 1e-9);
    measure(bench, &m, 4, false);
    measure(bench, &m, 2, false);
    fill(bench, &m, true);
    measure(bench, &m, 4, true);
    for (int i = 0; i < ROOMS; i++)
        BENCH(bench, MemFree, *rooms[i]);
}
