/* bench_cuda [MEBIBYTES]: how fast device cuda:0 is, beside copies in the same run, as tables in Markdown. A tensor has
 * so many mebibytes, 256 without an argument: more than the device's caches hold. Exit code 77 where there is no
 * device.
 */
#include "bench.h"
#include "../checkkernels/data.h"
#include "../checkkernels/random.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t random_state = 1;

static void need(bool what, const char *text) {
    if (!what) {
        fprintf(stderr, "bench_cuda: %s\n", text);
        exit(1);
    }
}

void bench_check(const bench *bench, cu_result result, const char *call) {
    kvot_error error;
    need(driver_check(bench->driver, result, call, &error) == KVOT_OK, error.text);
}

cu_pointer bench_room(const bench *bench, size_t bytes) {
    cu_pointer memory;
    BENCH(bench, MemAlloc, &memory, bytes);
    BENCH(bench, MemsetD8Async, memory, 0, bytes, bench->lane->stream);
    return memory;
}

void bench_time(const bench *bench, bench_step *const *steps, const void *const *contexts, int n, double *seconds) {
    enum { MOST = 4 };
    cu_stream stream = bench->lane->stream;
    cu_event events[BENCH_REPEATS * MOST + 1] = {NULL};
    need(n <= MOST, "too many steps");
    for (int i = 0; i <= BENCH_REPEATS * n; i++)
        BENCH(bench, EventCreate, &events[i], 0);
    for (int i = 0; i < n; i++) /* the first time, code is loaded */
        steps[i](bench, contexts[i]);
    BENCH(bench, EventRecord, events[0], stream);
    for (int i = 0; i < BENCH_REPEATS * n; i++) {
        steps[i % n](bench, contexts[i % n]);
        BENCH(bench, EventRecord, events[i + 1], stream);
    }
    BENCH(bench, StreamSynchronize, stream);
    for (int step = 0; step < n; step++) {
        double times[BENCH_REPEATS];
        for (int i = 0; i < BENCH_REPEATS; i++) {
            float milliseconds;
            int at = i * n + step;
            bench_check(bench, bench->EventElapsedTime(&milliseconds, events[at], events[at + 1]),
                        "cuEventElapsedTime");
            times[i] = milliseconds * 1e-3;
        }
        seconds[step] = bench_median(times, BENCH_REPEATS);
    }
    for (int i = 0; i <= BENCH_REPEATS * n; i++)
        BENCH(bench, EventDestroy, events[i]);
}

void bench_rows(bool keys, uint16_t rows[BENCH_ROWS][BENCH_CHANNELS]) {
    kernel_chunk chunk = {KERNEL_F16, KERNEL_MAX_ROWS, BENCH_HEADS, BENCH_HEAD_DIM, 64, 4, keys, 1.0f};
    for (int row = 0; row < BENCH_ROWS; row += KERNEL_MAX_ROWS)
        data_fill(&chunk, DATA_REALISTIC, rows[row]);
}

static void find(void *library, const char *symbol, void *function) {
    void *address = dlsym(library, symbol);
    need(address, symbol);
    *(void **)function = address;
}

static void open_device(bench *bench) {
    kvot_error error;
    if (device_open(0, &bench->device, &error) != KVOT_OK) {
        printf("skipped: %s\n", error.text);
        exit(77);
    }
    bench->driver = bench->device->driver;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    need(library, "no libcuda.so.1");
    find(library, "cuDriverGetVersion", &bench->DriverGetVersion);
    find(library, "cuEventElapsedTime", &bench->EventElapsedTime);
    find(library, "cuMemcpyDtoDAsync_v2", &bench->MemcpyDtoDAsync);
    need(lane_open(bench->device, NULL, &bench->lane, &error) == KVOT_OK, error.text);
    need(device_enter(bench->device, &error) == KVOT_OK, error.text);
}

int main(int argc, char **argv) {
    bench bench = {.bytes = (size_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 256) << 20};
    int version = 0;
    need(argc <= 2 && bench.bytes > 0, "usage: bench_cuda [MEBIBYTES]");
    open_device(&bench);
    bench_check(&bench, bench.DriverGetVersion(&version), "cuDriverGetVersion");
    const char *name = device_name(bench.device);
    printf("%s, driver for CUDA %d.%d, tensors of %zu MiB, f16, %d heads of %d, groups of 64.\n", name, version / 1000,
           version % 1000 / 10, bench.bytes >> 20, BENCH_HEADS, BENCH_HEAD_DIM);
    if (strstr(name, "softcuda"))
        printf("**No GPU: kernels were interpreted on the CPU. These figures mean nothing.**\n");
    bench_kernels(&bench);
    bench_files(&bench);
    device_leave(bench.device, KVOT_OK, NULL);
    lane_close(bench.lane);
    device_close(bench.device);
    return 0;
}
