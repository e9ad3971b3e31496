/* What the parts of bench_cuda share: the device, copies to compare with, and the table. */
#ifndef KVOT_CHECK_CUDA_BENCH_H
#define KVOT_CHECK_CUDA_BENCH_H

#include "../../lib/bench/median.h"
#include "../../lib/device/lane.h"

enum { BENCH_HEADS = 8, BENCH_HEAD_DIM = 128, BENCH_CHANNELS = BENCH_HEADS * BENCH_HEAD_DIM, BENCH_REPEATS = 7 };

typedef struct bench {
    device *device;
    const driver *driver;
    lane *lane;
    size_t bytes; /* of a tensor */
    /* Calls that the library has no use for. */
    cu_result (*DriverGetVersion)(int *version);
    cu_result (*EventElapsedTime)(float *milliseconds, cu_event start, cu_event end);
    cu_result (*MemcpyDtoDAsync)(cu_pointer to, cu_pointer from, size_t bytes, cu_stream stream);
} bench;

/* Ends the program if the call failed. */
void bench_check(const bench *bench, cu_result result, const char *call);
#define BENCH(bench, name, ...) bench_check(bench, (bench)->driver->name(__VA_ARGS__), "cu" #name)

cu_pointer bench_room(const bench *bench, size_t bytes);

/* Starts work on the lane's stream. */
typedef void bench_step(const bench *bench, const void *context);

/* Seconds that the device takes for it: the median of several, each after the one before without a pause. */
void bench_time(const bench *bench, bench_step *const *steps, const void *const *contexts, int n, double *seconds);

/* Elements that look like a cache: token r is row r % BENCH_ROWS. */
enum { BENCH_ROWS = 8 * KERNEL_MAX_ROWS };
void bench_rows(bool keys, uint16_t rows[BENCH_ROWS][BENCH_CHANNELS]);

void bench_kernels(const bench *bench);
void bench_files(const bench *bench);

#endif
