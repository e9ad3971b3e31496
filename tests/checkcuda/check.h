/* What the tests of the CUDA path share: planes to test with, and what the scalar kernels make of them. */
#ifndef KVOT_CHECK_CUDA_H
#define KVOT_CHECK_CUDA_H

#include "../../lib/device/lane.h"

/* How a plane's elements lie in memory. */
typedef enum layout {
    TOKEN_MAJOR,
    CHANNEL_MAJOR,
    HEAD_MAJOR,  /* aligned, but rows of all heads are not contiguous */
    ODD_STRIDES, /* channels side by side, rows not aligned */
    REVERSED,    /* tokens backwards */
    INTERLEAVED, /* every second element */
    LAYOUTS
} layout;

/* A plane of test data and, chunk by chunk, what the scalar kernels make of it. */
typedef struct sample {
    kernel_chunk chunk; /* rows are those of the plane */
    uint32_t first;
    bool start;
    uint8_t *rows; /* [rows][heads][head_dim] */
    float *sums, *squares;
    uint8_t *exact;
    kernel_codes codes;
    uint8_t *decoded;
    kernel_loss *losses; /* [rows] */
    size_t element_bytes, row_bytes, ranges, code_bytes, high_bytes;
} sample;

/* Fills in random rows: some heads are of one value, tiny, huge or denormal; some rows are not finite. */
sample sample_make(kernel_chunk chunk, uint32_t first, bool start, uint32_t seed);
/* Sums and squares. */
void sample_measure(sample *sample);
/* Exact rows as compress.c has them. `keys` is NULL for a plane of K. For K, `given` is NULL for the rule. */
void sample_choose(sample *sample, const struct sample *keys, const struct sample *values, const uint8_t *given);
/* Codes, then sample_decode. */
void sample_quantize(sample *sample);
/* Decoded rows with exact rows in place, and what was lost. */
void sample_decode(sample *sample);
void sample_free(sample *sample);

/* Strides of a layout; returns how many elements it takes, `*base` is where the first one is. */
size_t layout_strides(layout layout, const kernel_chunk *chunk, cuda_plane *plane, size_t *base);
/* Between [rows][heads][head_dim] and that layout. */
void layout_put(const cuda_plane *plane, size_t base, size_t element_bytes, const void *rows, void *memory);

/* A number below `n`; the same on every run, in every thread. */
uint32_t random_below(uint32_t n);

/* Counts a failure and says what it was; returns false. */
__attribute__((format(printf, 1, 2))) bool wrong(const char *format, ...);
bool check(bool what, const char *file, int line, const char *text);
#define CHECK(what) check(what, __FILE__, __LINE__, #what)

void check_kernels(device *device);
void check_lanes(device *device);
void check_arrays(device *device);
void check_faults(void);
/* `data`: the folder of llama.cpp's files. */
void check_library_faults(const char *data);

#endif
