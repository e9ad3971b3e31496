/* kvot: prefix KV caches, made small and given back.
 *
 * All of the library's public interface. Every path may be "-", which is standard input or standard output; an input
 * that cannot seek is first copied to an unnamed temporary file in $TMPDIR (or /tmp). An output appears under its name
 * only once it is complete; a call that fails leaves nothing behind, but for what it had written to standard output.
 *
 * Threads: calls may run at the same time on different files. A kvot_file may be read by one thread at a time.
 * Errors: a call returns KVOT_OK or a status, and, if `error` is not NULL, fills it with one line of detail.
 * Lengths are in bytes unless a name says otherwise; positions and counts of tokens are plain numbers.
 */
#ifndef KVOT_H
#define KVOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVOT_VERSION "0.1.0"

#ifndef KVOT_API
#define KVOT_API
#endif

/* Numbers are pinned: a released number never changes its meaning. */
typedef enum kvot_status {
    KVOT_OK = 0,
    KVOT_E_ARGUMENT = 1,    /* an option has a value it cannot have */
    KVOT_E_MEMORY = 2,      /* out of memory */
    KVOT_E_IO = 3,          /* reading or writing failed */
    KVOT_E_EXISTS = 4,      /* the output exists and overwriting was not asked for */
    KVOT_E_UNKNOWN = 5,     /* not a file this library knows */
    KVOT_E_DAMAGED = 6,     /* a file it knows, but cut or changed */
    KVOT_E_UNSUPPORTED = 7, /* a file it knows, with something in it that this version cannot read */
    KVOT_E_MODEL = 8,       /* the model file does not belong to this cache */
    KVOT_E_DIFFERENT = 9,   /* verify: the restored file is not the original */
    KVOT_E_CANCELLED = 10,  /* the progress function asked to stop */
    KVOT_E_DEVICE = 11      /* the device asked for is not there, or failed */
} kvot_status;

typedef struct kvot_error {
    kvot_status status;
    char text[512]; /* file, offset and what was expected, one line */
} kvot_error;

/* "KVOT_E_IO" and the like; "unknown status" for other numbers. Static. */
KVOT_API const char *kvot_status_name(kvot_status status);

/* KVOT_VERSION of the library that runs. Static. */
KVOT_API const char *kvot_version(void);

typedef enum kvot_codec { KVOT_LOSSLESS = 0, KVOT_OTT = 1 } kvot_codec;

/* Called from the thread that made the call, now and then. `bytes_in_all` is 0 while an input of unknown length is
 * being copied. Return true to stop: the call then cleans up and returns KVOT_E_CANCELLED. */
typedef bool (*kvot_progress)(void *user, uint64_t bytes_done, uint64_t bytes_in_all);

/* How to run. Zeroed is a fine default. The result never depends on it. */
typedef struct kvot_run {
    unsigned threads; /* 0: one for each processor. With a device, also the chunks that are under way at once, at least
                         4 by default */
    bool overwrite;   /* replace an output that exists */
    kvot_progress progress;
    void *user;
    const char *device; /* what quantizes and decodes: "cpu", "cuda:N", or "auto" (also NULL): the CPU, for now. Where
                           CUDA device N is not there or fails: KVOT_E_DEVICE */
} kvot_run;

#define KVOT_OUTLIERS_AUTO (-1)
#define KVOT_OUTLIERS_MAX  256

typedef struct kvot_compress_options {
    kvot_codec codec;
    unsigned bits;          /* ott: 2, 3, 4 or 8 bits a code */
    unsigned group;         /* ott: 32, 64 or 128 values share a scale and a minimum */
    int outliers;           /* ott: exact rows of each layer and KV head. KVOT_OUTLIERS_AUTO: chosen inside each chunk;
                               0 to KVOT_OUTLIERS_MAX: that many over the whole plane, as in the OTT paper; 0 is KIVI */
    const char *model_path; /* GGUF of the model that made the cache, or NULL: a row is then one head */
} kvot_compress_options;

/* ott, 4 bits, groups of 64, outliers chosen inside each chunk, no model. */
KVOT_API kvot_compress_options kvot_compress_defaults(void);

typedef struct kvot_sizes {
    uint64_t original_bytes;  /* of the engine's file */
    uint64_t stored_bytes;    /* of the .kvot file */
    uint64_t quantized_bytes; /* original bytes of planes that are not kept without loss, each row counted once */
    uint64_t bytes_read;      /* kvot_restore: of the .kvot file, header, index and the streams needed; else 0 */
    uint64_t bytes_written;   /* kvot_restore: of the file that it wrote; else 0 */
} kvot_sizes;

/* Compresses the engine's file `input` to the .kvot file `output`. `options`, `run`, `sizes`, `error` may be NULL.
 * The same input and options give the same bytes. Memory does not grow with the file's cells, apart from tables of
 * some 100 bytes a cell. */
KVOT_API kvot_status kvot_compress(const char *input, const char *output, const kvot_compress_options *options,
                                   const kvot_run *run, kvot_sizes *sizes, kvot_error *error);

/* Which part to restore. Zeroed: all of it. */
typedef struct kvot_restore_options {
    uint64_t tokens;                 /* the first so many: cells with positions below that, of every sequence; 0: all */
    unsigned first_layer, end_layer; /* of each section, the layers from the first to before the end, by their ordinals
                                        (kvot_plane); end_layer 0: all */
} kvot_restore_options;

/* Writes the engine's file again from a .kvot file, or, with `options`, that of a part. Of the .kvot file only the
 * chunks are read that have a row of it.
 *
 * A file of the first tokens is what the engine would have written after them. KVOT_E_ARGUMENT: there are not as many
 * tokens (or layers), or the engine could not go on: a sliding window has dropped some of the tokens, or recurrent
 * state has gone past them, and no checkpoint in the file has what is missing; several tokens share a position, or the
 * token list has images; a DSV4 cache. Checkpoints that were taken by then stay; where the file shows what checkpoints
 * of its model hold, there is one for all of the tokens, as llama-server goes on from a sliding window by a checkpoint
 * alone.
 *
 * A file of some layers is for looking at them: kvot reads it, but no engine does. A section with fewer layers has
 * those that it has, maybe none. `options`, `run`, `sizes`, `error` may be NULL. */
KVOT_API kvot_status kvot_restore(const char *input, const char *output, const kvot_restore_options *options,
                                  const kvot_run *run, kvot_sizes *sizes, kvot_error *error);

/* Checks every checksum of a .kvot file and decodes all of it. With `original`, also proves that a restore gives that
 * file: bit for bit in all that is stored without loss, and with exactly the loss the file records elsewhere. */
KVOT_API kvot_status kvot_verify(const char *input, const char *original, const kvot_run *run, kvot_error *error);

typedef enum kvot_kind { KVOT_K = 0, KVOT_V = 1, KVOT_STATE = 2 } kvot_kind;

/* One layer's K, V or recurrent state. */
typedef struct kvot_plane {
    unsigned section; /* planes with the same cells: an iSWA model has one for global and one for window layers */
    unsigned layer;   /* ordinal inside the section */
    kvot_kind kind;
    const char *type; /* element type: "f16", "q8_0" ... Static */
    bool channel_major;
    uint64_t rows; /* distinct tokens (cells) */
    uint64_t row_bytes;
    unsigned heads; /* KV heads of a row, 1 if unknown */
    kvot_codec codec;
    unsigned bits, group;                                /* ott, else 0 */
    int outliers;                                        /* ott: as in kvot_compress_options */
    uint64_t stored_bytes;                               /* 0 in an engine's file */
    double rms_error, relative_rms_error, max_abs_error; /* against the original; relative to its root mean square */
} kvot_plane;

typedef struct kvot_info {
    bool compressed;          /* a .kvot file; else an engine's own */
    const char *source;       /* engine: "llama"; "arrays" if it was none */
    const char *variant;      /* for people: "slot file, version 4, checkpoints" */
    const char *architecture; /* "" if unknown */
    const char *writer;       /* program that wrote the .kvot file; "" for an engine's file */
    uint8_t model_digest[16]; /* zero: unknown */
    float rope_base;          /* 0: unknown */
    unsigned rope_dims;
    uint64_t tokens; /* token ids the file holds */
    uint64_t layers; /* over all sections */
    uint64_t original_bytes, stored_bytes;
    uint64_t verbatim_bytes; /* original bytes outside planes */
    uint64_t repeated_bytes; /* original bytes of rows that occurred before and are stored once */
    kvot_codec codec;        /* KVOT_OTT if any plane uses it */
    size_t n_planes;
    const kvot_plane *planes;
} kvot_info;

typedef struct kvot_file kvot_file;

/* Opens a .kvot file or an engine's file and checks its structure, not its contents. On success `*file` is to be given
 * to kvot_close. */
KVOT_API kvot_status kvot_open(const char *path, kvot_file **file, kvot_error *error);

/* What is in it. Lives as long as the file is open. */
KVOT_API const kvot_info *kvot_file_info(const kvot_file *file);

/* Copies token ids `first` to `first + n - 1` to `ids`. */
KVOT_API kvot_status kvot_file_tokens(kvot_file *file, uint64_t first, size_t n, int32_t *ids, kvot_error *error);

/* NULL is allowed. */
KVOT_API void kvot_close(kvot_file *file);

/* ---- arrays in memory, of the host or of a CUDA device ---- */

typedef struct kvot_device kvot_device;

/* Opens CUDA device "cuda:N", for any number of threads. KVOT_E_DEVICE if it is not there, KVOT_E_ARGUMENT for another
 * name. On success `*device` is to be given to kvot_device_close, when no call uses it any more. */
KVOT_API kvot_status kvot_device_open(const char *name, kvot_device **device, kvot_error *error);

/* As the driver names it. Lives as long as the device is open. */
KVOT_API const char *kvot_device_name(const kvot_device *device);

/* NULL is allowed. */
KVOT_API void kvot_device_close(kvot_device *device);

typedef enum kvot_type { KVOT_F32 = 0, KVOT_F16 = 1, KVOT_BF16 = 2 } kvot_type;

/* One layer's K or V as an engine has it in memory: element (token, head, channel) is the one at
 * token * token_stride + head * head_stride + channel * channel_stride from `data`, strides in elements. So any order
 * of dimensions will do, also with gaps. `data` is aligned to its element. */
typedef struct kvot_array {
    void *data; /* a pointer of the host, or a CUdeviceptr */
    kvot_type type;
    uint32_t tokens, heads, head_dim;
    int64_t token_stride, head_stride, channel_stride;
} kvot_array;

/* Where arrays are. NULL, or a NULL device, is the host. On a device, work is queued on `stream`, a CUstream of that
 * device's primary context (NULL: its default stream), behind what the caller has queued there; it is done when the
 * call returns. CU_STREAM_PER_THREAD is refused: it would be another stream in each of the library's threads. */
typedef struct kvot_memory {
    kvot_device *device;
    void *stream;
} kvot_memory;

/* Compresses K and V of `n_layers` layers: arrays[2 * layer] and arrays[2 * layer + 1], all of as many tokens, the
 * first of which has position `position`. The .kvot file has the same streams as one that came from an engine's file
 * with these rows. kvot_restore makes a file of it that holds the arrays, one after the other, as
 * [tokens][heads][head_dim]. `options->model_path` is not looked at. `run->device` counts for arrays of the host. Of
 * arrays on a device, only what is stored is copied to the host, and 24 bytes a row; rows are, chunk by chunk, where
 * they are stored without loss, or where the device has no memory left to work on them. */
KVOT_API kvot_status kvot_compress_arrays(const kvot_array *arrays, size_t n_layers, const kvot_memory *memory,
                                          uint32_t position, const char *output, const kvot_compress_options *options,
                                          const kvot_run *run, kvot_sizes *sizes, kvot_error *error);

/* Fills `to` with rows `first` to `first + to->tokens - 1` of plane `plane`, its number in kvot_info, of an open .kvot
 * file. Type, heads times head_dim, and, if the file knows them, heads must be the plane's: KVOT_E_ARGUMENT. After a
 * failure the array's elements are undefined. */
KVOT_API kvot_status kvot_restore_array(kvot_file *file, size_t plane, uint64_t first, const kvot_array *to,
                                        const kvot_memory *memory, const kvot_run *run, kvot_error *error);

typedef struct kvot_difference {
    bool identical;                                      /* bit for bit */
    double max_abs_error, rms_error, relative_rms_error; /* relative to the root mean square of the first file */
} kvot_difference;

typedef struct kvot_diff_plane {
    unsigned section, layer;
    kvot_kind kind;
    kvot_difference difference;
} kvot_diff_plane;

typedef struct kvot_diff_result {
    kvot_difference all; /* `identical` also says whether the bytes outside planes are the same */
    size_t n_planes;
    kvot_diff_plane *planes;
} kvot_diff_result;

/* Compares two files, each an engine's or a .kvot. They must have the same structure, else KVOT_E_DIFFERENT. On success
 * `*result` is to be given to kvot_diff_free. Element types that are not f32, f16 or bf16 count as different or not, by
 * their bits, with errors of 0. */
KVOT_API kvot_status kvot_diff(const char *first, const char *second, const kvot_run *run, kvot_diff_result **result,
                               kvot_error *error);

/* NULL is allowed. */
KVOT_API void kvot_diff_free(kvot_diff_result *result);

#ifdef __cplusplus
}
#endif

#endif
