/* CUDA devices. A device is opened once and shared by all threads; each worker has a lane: a stream, and buffers in
 * pinned and device memory that only grow. One thread uses a lane at a time. Calls on a lane return when their work is
 * done, so files pass through several lanes at once: while one lane's worker reads, another's copies are under way, and
 * another's kernels run.
 *
 * Every function may be called from any thread, whatever CUDA context that thread uses. A call that fails returns
 * KVOT_E_MEMORY if device or pinned memory ran out (fewer rows at a time may do), else KVOT_E_DEVICE; its lane can be
 * used again unless the driver says otherwise.
 */
#ifndef KVOT_DEVICE_CUDA_H
#define KVOT_DEVICE_CUDA_H

#include "../../kernels/cuda/launch.h"
#include "../error.h"

typedef struct kvot_device device;
typedef struct lane lane;

/* Opens CUDA device `ordinal`. */
kvot_status device_open(unsigned ordinal, device **device, kvot_error *error);
/* All lanes must be closed. NULL is allowed. */
void device_close(device *device);
/* As the driver names it. */
const char *device_name(const device *device);

/* A lane on `*stream`, the caller's CUstream; on a stream of its own if `stream` is NULL. */
kvot_status lane_open(device *device, void *const *stream, lane **lane, kvot_error *error);
/* NULL is allowed. */
void lane_close(lane *lane);

/* Rows of a plane. In host memory: contiguous, [rows][heads][head_dim]; copies overlap with other work if it is what
 * lane_buffer gave. Else in device memory, at any strides, in elements; what was queued for them on another stream than
 * the lane's must be done. */
typedef struct lane_rows {
    void *host; /* NULL: on the device */
    uint64_t device;
    int64_t token_stride, head_stride, channel_stride;
} lane_rows;

/* Planes of one row set, and one layer: K and V, or one of them. */
enum { LANE_K, LANE_V, LANE_PLANES };

/* Which rows: those of whole chunks one after the other. The first chunk has `first` of the `rows`, 1 to
 * KERNEL_MAX_ROWS; the others have KERNEL_MAX_ROWS, the last what is left. */
typedef struct lane_chunks {
    uint32_t rows, first;
    bool start; /* the first chunk holds position 0 */
} lane_chunks;

typedef struct lane_plane {
    kernel_chunk chunk; /* `rows` is not looked at */
    lane_rows rows;
} lane_plane;

/* What became of a plane: arrays of all chunks, as launch.h has them, in pinned memory of the lane until its next call.
 * `list` says which rows are exact, in the order of ott streams: chunk by chunk, head by head, rising. */
typedef struct lane_encoded {
    const uint8_t *exact; /* [rows][heads] */
    kernel_codes codes;
    size_t n_exact;
    const cuda_row *list;
    /* Where the plane's rows are on the device only; else NULL: */
    const void *values;        /* of exact rows, [n_exact][head_dim]; NULL if n_exact is 0 */
    const kernel_loss *losses; /* of rows, [rows]: what was lost of all heads */
} lane_encoded;

/* A pinned buffer for `bytes` bytes of rows of plane LANE_K or LANE_V; lives, with its contents, until it is asked for
 * again. */
kvot_status lane_buffer(lane *lane, int plane, size_t bytes, void **rows, kvot_error *error);

/* Quantizes K and V; either may be NULL. `exact` [rows][heads of K] is NULL for the default outlier rule, else the rows
 * of K to keep exact, beside those that cannot be quantized. V's exact rows are K's, if it has as many heads, and those
 * that cannot be quantized. */
kvot_status lane_encode(lane *lane, const lane_chunks *chunks, const lane_plane *keys, const lane_plane *values,
                        const uint8_t *exact, lane_encoded encoded[LANE_PLANES], kvot_error *error);

/* How large rows of a plane in device memory are: `sums` [rows][heads], as kernels.h has magnitudes. */
kvot_status lane_magnitudes(lane *lane, const lane_plane *plane, uint32_t rows, float *sums, kvot_error *error);

/* A plane's arrays, all inside one block of host memory, at these offsets, multiples of 16. Copies
 * overlap with other work if it is what lane_block gave. */
typedef struct lane_codes {
    const void *block;
    size_t bytes;
    size_t scales, minima, codes, high;
    size_t exact, n_exact; /* values of exact rows, [n_exact][head_dim] */
    const cuda_row *list;  /* where they belong; rows and heads must be the plane's */
} lane_codes;

/* A pinned buffer for `bytes` bytes of such a block; lives, with its contents, until it is asked for again or the lane
 * encodes. */
kvot_status lane_block(lane *lane, size_t bytes, void **block, kvot_error *error);

/* Fills the rows of `plane`, which are K's or V's as `chunk.keys` says. Scales and minima must be finite: the
 * caller has checked them. */
kvot_status lane_decode(lane *lane, const lane_chunks *chunks, const lane_plane *plane, const lane_codes *codes,
                        kvot_error *error);

/* Copies `rows` rows of a plane in device memory to host memory, [rows][heads][head_dim], and back, in pieces that the
 * device has memory for. */
kvot_status lane_read_rows(lane *lane, const lane_plane *plane, uint32_t rows, void *host, kvot_error *error);
kvot_status lane_write_rows(lane *lane, const lane_plane *plane, uint32_t rows, const void *host, kvot_error *error);

#endif
