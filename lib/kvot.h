/* kvot: prefix KV caches, made small and given back.
 *
 * All of the library's public interface. Every path may be "-", which is standard input or standard output; an input
 * that cannot seek is first copied to an unnamed temporary file in $TMPDIR (or /tmp). An output appears under its name
 * only once it is complete and durable, in place of what had the name, which readers that have it open keep; a call
 * that fails leaves nothing behind, but for what it had written to standard output. A process that is killed may leave
 * a temporary file, ".NAME.kvot-" and six letters, beside the output; the next call with an output of that name removes
 * it (not on network file systems and FUSE, where nobody can know that its writer is gone). Calls that share a
 * kvot_pool remove all such files of a directory, of any output, when the first of them writes there, and look no more.
 *
 * Threads: calls may run at the same time on different files. A kvot_file may be used by one thread at a time, but for
 * calls that say otherwise and loadings that were started; a kvot_map by any number; and any number may hand chunks to
 * a kvot_writer.
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
    KVOT_E_DIFFERENT = 9,   /* two files do not belong together: verify, append, diff, bench */
    KVOT_E_CANCELLED = 10,  /* the progress function, or kvot_loading_cancel, asked to stop */
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

typedef struct kvot_pool kvot_pool;

/* Threads, and memory, that calls share: for a program that loads one prefix after another, as they and the buffers of
 * reads are there from the second load on; and for one that works on many files, each by a call from a thread of its
 * own, with this pool in its kvot_run. These callers plan, write and wait; what takes time is done by the pool's
 * `threads` threads (0: one for each processor), for the call that began first as far as it can use them, then for the
 * next.
 *
 * `memory`: what kvot_compress, kvot_append, kvot_restore, kvot_verify and kvot_recompress take together stays below so
 * many bytes, threads included, whatever the files (0: no bound; KVOT_E_ARGUMENT if not even the threads fit). Calls
 * take fewer buffers where there is little left, and wait until others have given back what they need, the oldest
 * first; KVOT_E_MEMORY if a call needs more all by itself. The other calls use the threads, but are not counted.
 *
 * On success `*pool` is to be given to kvot_pool_close. Any number of threads may use a pool. */
KVOT_API kvot_status kvot_pool_open(unsigned threads, uint64_t memory, kvot_pool **pool, kvot_error *error);

/* NULL is allowed. No call may be using it. */
KVOT_API void kvot_pool_close(kvot_pool *pool);

/* How to run. Zeroed is a fine default. The result never depends on it. */
typedef struct kvot_run {
    unsigned threads; /* 0: one for each processor. With a device, also the chunks that are under way at once, at least
                         4 by default */
    bool overwrite;   /* replace an output that exists */
    kvot_progress progress;
    void *user;
    const char *device; /* what quantizes and decodes: "cpu", "cuda:N", or "auto" (also NULL): the CPU, for now. Where
                           CUDA device N is not there or fails: KVOT_E_DEVICE */
    kvot_pool *pool;    /* threads, and memory, that several calls share. `threads` is then how many of its threads may
                           work on the call at once (0: any). NULL: threads of the call's own */
} kvot_run;

/* What reading a .kvot file took, in seconds. `waiting`, `copying` and `working` are added up over threads. */
typedef struct kvot_stages {
    double seconds;        /* from start to end */
    double waiting;        /* for a read to arrive */
    double copying;        /* from the page cache, or reading where io_uring is not to be had */
    double working;        /* checking, decoding, and putting rows where they belong */
    double disk_idle;      /* nothing was being read from the disk, though something was still to be read */
    double disk_starved;   /* no buffer was free to read ahead into, while a thread waited for a read */
    uint64_t direct_bytes; /* read with O_DIRECT on io_uring */
    uint64_t copied_bytes; /* from the page cache, or without io_uring */
    unsigned threads;
} kvot_stages;

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

typedef struct kvot_append_result {
    kvot_sizes sizes;       /* of the file as it is now */
    uint64_t written_bytes; /* by which it grew: 0 if `input` holds nothing new */
    uint64_t kept_chunks;   /* of one layer's K, V or state: streams that were there already */
    uint64_t new_chunks;    /* encoded and written */
} kvot_append_result;

/* Makes the .kvot file `output` hold the engine's file `input`, a longer state of the same conversation, in place:
 * what has not changed stays where it is and is neither read nor written; the rest, a new index among it, is written
 * behind it. Bits, groups, outliers and KV heads are those of the file. `input` must be of the same engine and have the
 * same layers, and its tokens must begin with the file's: else KVOT_E_DIFFERENT. A file whose outliers were chosen over
 * all tokens (any fixed number but 0) cannot be appended to: KVOT_E_ARGUMENT. `model_path` (may be NULL) is compared
 * with the file's identity: KVOT_E_MODEL if it is another, or if the file has none.
 *
 * Tokens alone are not trusted. Chunks with the same positions are kept only if `input` has the rows that they were
 * made from (the checksum of the rows in planes without loss, in others the sum of their squares) or that they decode
 * to, as after a restore; else they are encoded again. So all of `input` is read, at the speed of a checksum, and a
 * restore gives `input` as it would from a file that kvot_compress made, but for rows that were restored before:
 * those stay as they are. If the file holds all that `input` does, it is left as it is.
 *
 * Who has the file open meanwhile is not disturbed. A call that fails or is stopped leaves it as it was. If the process
 * or the machine dies, the file still holds its old state, whole, or the new one: readers pass over what is left behind
 * it, and the next call cuts that off. Two calls for one file at the same time: the second gets KVOT_E_IO. */
KVOT_API kvot_status kvot_append(const char *input, const char *output, const char *model_path, const kvot_run *run,
                                 kvot_append_result *result, kvot_error *error);

/* Which part to restore. Zeroed: all of it. */
typedef struct kvot_restore_options {
    uint64_t tokens;                 /* the first so many: cells with positions below that, of every sequence; of arrays
                                        the first so many that they have; 0: all */
    unsigned first_layer, end_layer; /* of each section, the layers from the first to before the end, by their ordinals
                                        (kvot_plane); both 0: all */
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
 * file: bit for bit in all that is stored without loss, and elsewhere, in each chunk, with exactly the loss the file
 * records, or with none. `*leftover_bytes`, unless that is NULL: how many bytes behind the cache are left from an
 * interrupted append. They were not looked at; the cache as it was before is whole. */
KVOT_API kvot_status kvot_verify(const char *input, const char *original, const kvot_run *run, uint64_t *leftover_bytes,
                                 kvot_error *error);

/* Makes a new .kvot file `output`, as `options` want it, of the .kvot file `input`: restores that to a file without a
 * name in the directory of `output`, compresses it, and verifies the new file against it before it takes its name.
 * `output` may be `input`, with run->overwrite. It is the file that kvot_compress makes of the restored file, but for
 * what `input` knows of the model: with no `options->model_path`, its identity and KV heads are kept; KVOT_E_MODEL if
 * it says that another model made it.
 *
 * What `input` has lost stays lost, and what is lost now comes on top of it, while the new file records only the
 * latter: compress the original again, if it is still there. KVOT_E_UNSUPPORTED for files that were made of arrays, or
 * that a library made that saw other layers in the engine's file than this one. `options`, `run`, `sizes`, `error` may
 * be NULL. */
KVOT_API kvot_status kvot_recompress(const char *input, const char *output, const kvot_compress_options *options,
                                     const kvot_run *run, kvot_sizes *sizes, kvot_error *error);

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
    uint64_t unused_bytes;   /* of stored_bytes: padding, and what appends have replaced */
    uint64_t leftover_bytes; /* behind stored_bytes in the file: left from an interrupted append, and not looked at */
    kvot_codec codec;        /* that of the planes that are not without loss; KVOT_LOSSLESS if there are none */
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

/* Copies the positions in their sequence of rows `first` to `first + n - 1` of plane `plane`, its number in kvot_info,
 * of a .kvot file. They rise, until rows of another sequence begin, or of a checkpoint that does not continue this one.
 * Any number of threads. */
KVOT_API kvot_status kvot_file_positions(const kvot_file *file, size_t plane, uint64_t first, size_t n,
                                         int32_t *positions, kvot_error *error);

/* Whether what the page cache does not hold of a .kvot file would be read with O_DIRECT on io_uring. Where one of them
 * is refused, on tmpfs, which has no other place for it, and for an engine's file, it is pread. Tries it with the
 * file's first bytes: some tenths of a millisecond. Any number of threads. */
KVOT_API bool kvot_file_direct(const kvot_file *file);

typedef struct kvot_match {
    bool model_known; /* the file says which model made it */
    uint64_t tokens;  /* leading tokens that file and list have in common; 0 if the file holds no token ids */
} kvot_match;

/* Checks an open file against a model, `model_digest` as kvot_model_digest gives it, and `n` token ids from the start
 * of a sequence. KVOT_E_MODEL if the file says that another model made it. NULL and zero stand for any model. What the
 * file holds of the tokens that match, its planes say: an engine may have kept one row less than tokens, or, of layers
 * with a sliding window, only the last rows. */
KVOT_API kvot_status kvot_file_match(kvot_file *file, const uint8_t *model_digest, const int32_t *tokens, size_t n,
                                     kvot_match *match, kvot_error *error);

/* The identity of a model: of its GGUF file's metadata and tensor list. KVOT_E_UNKNOWN if it is no GGUF file. */
KVOT_API kvot_status kvot_model_digest(const char *model_path, uint8_t digest[16], kvot_error *error);

/* Writes the engine's file again, as kvot_restore does, to `to`, memory of the caller with room for `bytes` bytes, at
 * least kvot_info's original_bytes. After a failure its contents are undefined. */
KVOT_API kvot_status kvot_restore_memory(kvot_file *file, void *to, uint64_t bytes, const kvot_run *run,
                                         kvot_error *error);

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

/* KVOT_BYTES: rows of bytes that are moved as they are, for loading planes of other types. */
typedef enum kvot_type { KVOT_F32 = 0, KVOT_F16 = 1, KVOT_BF16 = 2, KVOT_BYTES = 3 } kvot_type;

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

/* What an engine knows about its arrays, for the .kvot file to keep. Zeroed: nothing, and a sequence's first tokens. */
typedef struct kvot_about {
    uint32_t position;        /* of the first token in the arrays; the others follow */
    const int32_t *tokens;    /* token ids from the start of the sequence; may be NULL if there are none */
    size_t n_tokens;          /* may be more or fewer than the arrays have */
    const char *architecture; /* as GGUF names it, at most 31 printable characters; NULL or "": unknown */
    uint8_t model_digest[16]; /* as kvot_model_digest gives it; zero: unknown */
    float rope_base;          /* 0: unknown */
    unsigned rope_dims;       /* channels of a head that RoPE turns; 0: unknown */
} kvot_about;

/* Compresses K and V of `n_layers` layers: arrays[2 * layer] and arrays[2 * layer + 1], all of as many tokens. `about`
 * may be NULL. The .kvot file has the same streams as one that came from an engine's file with these rows. kvot_restore
 * makes a file of it that holds the token ids, then the arrays, one after the other, as [tokens][heads][head_dim].
 * `options->model_path` is not looked at. `run->device` counts for arrays of the host. Of arrays on a device, only what
 * is stored is copied to the host, and 24 bytes a row; rows are, chunk by chunk, where they are stored without loss, or
 * where the device has no memory left to work on them. */
KVOT_API kvot_status kvot_compress_arrays(const kvot_array *arrays, size_t n_layers, const kvot_memory *memory,
                                          const kvot_about *about, const char *output,
                                          const kvot_compress_options *options, const kvot_run *run, kvot_sizes *sizes,
                                          kvot_error *error);

typedef struct kvot_writer kvot_writer;

/* Begins a .kvot file whose chunks an engine hands over as it makes them. K and V of layer `l` look like shapes[2 * l]
 * and shapes[2 * l + 1], of which data, tokens and strides are not looked at; of `about`, which may be NULL, the token
 * ids are not. KVOT_E_ARGUMENT if `options` ask for a fixed number of outliers: these are chosen over all tokens. Of
 * `run`, `overwrite` counts, and `device`, for arrays of the host. On success `*writer` is to be given to
 * kvot_writer_finish or kvot_writer_abort. */
KVOT_API kvot_status kvot_writer_open(const char *output, const kvot_array *shapes, size_t n_layers,
                                      const kvot_about *about, const kvot_compress_options *options,
                                      const kvot_run *run, kvot_writer **writer, kvot_error *error);

/* Hands over K and V of tokens `first` to `first + keys->tokens - 1` (0 is the one at about->position) of a layer.
 * Every layer's tokens are handed over once, in any order, and in whole chunks: these begin at token 0 and where the
 * position is a multiple of 256, and end where the next one begins or the last token of all is. The chunks are encoded
 * by the calling thread and written when the call returns; the arrays are then the caller's again. Any number of
 * threads may call this for one writer at the same time, and each then works. Memory is taken for what has come, some
 * 500 bytes for a layer's chunk, wherever its tokens are. The device and stream in `memory`, as for
 * kvot_compress_arrays, stay in use until the writer is finished or aborted. After KVOT_E_ARGUMENT nothing has happened
 * to the chunk that is to blame, nor to those behind it; after KVOT_E_IO the writer is of no more use. */
KVOT_API kvot_status kvot_writer_put(kvot_writer *writer, size_t layer, uint32_t first, const kvot_array *keys,
                                     const kvot_array *values, const kvot_memory *memory, kvot_error *error);

/* Completes the file, which then appears under its name. Each layer has `tokens` tokens; KVOT_E_ARGUMENT, and no file,
 * if some were not handed over. `ids`: `n_ids` token ids from the start of the sequence, as in kvot_about. What the
 * file holds is what kvot_compress_arrays makes of the same arrays, with streams in the order in which they came.
 * `writer` is freed, also on failure. No other call may be using it. */
KVOT_API kvot_status kvot_writer_finish(kvot_writer *writer, uint32_t tokens, const int32_t *ids, size_t n_ids,
                                        kvot_sizes *sizes, kvot_error *error);

/* Frees the writer and leaves no file. NULL is allowed. No other call may be using it. */
KVOT_API void kvot_writer_abort(kvot_writer *writer);

/* ---- loading: a .kvot file into memory, layer by layer ---- */

/* Tokens `first` to `first + to.tokens - 1` of one plane, and where they are to go. */
typedef struct kvot_part {
    size_t plane;   /* its number in kvot_info */
    uint64_t first; /* row of the plane */
    kvot_array to;  /* heads times head_dim, and, if the file knows them, heads must be the plane's. f32, f16 and bf16
                       are converted to its type, rounded to nearest even; beyond the largest f16 to that. KVOT_BYTES
                       takes any plane: heads times head_dim is then its row_bytes; host only */
} kvot_part;

typedef struct kvot_loading kvot_loading;

/* Called once for each part, when part number `part` is there, from one of the loading's own threads. Parts come about
 * in their order, those of the same layer (K and V) side by side; but reads do not arrive strictly in order, and
 * threads overtake each other. */
typedef void (*kvot_ready)(void *user, size_t part);

/* Starts to load `n` parts of an open .kvot file and returns at once. They are read in their order, so give the layers
 * in the order in which they are needed. Only the chunks that hold them are read, with io_uring and O_DIRECT where the
 * kernel allows it, some 4 MiB or more ahead of the threads that decode. `parts` is copied; arrays, file and device
 * must stay until kvot_loading_finish. `ready` may be NULL; run->progress is called in kvot_loading_finish. Any number
 * of loadings of one file may be under way. With a device in `memory`, all is decoded there; arrays of the host may be
 * decoded by run->device. KVOT_E_ARGUMENT if a part does not fit the file. On success `*loading` is to be given to
 * kvot_loading_finish. */
KVOT_API kvot_status kvot_loading_start(kvot_file *file, const kvot_part *parts, size_t n, const kvot_memory *memory,
                                        const kvot_run *run, kvot_ready ready, void *user, kvot_loading **loading,
                                        kvot_error *error);

/* Waits until part number `part` is there; `ready` may not have been called for it yet. If it is not there after a
 * failure, or when it was cancelled, returns why. Any thread, until kvot_loading_finish is called; from `ready` only
 * for the part that it is called for. */
KVOT_API kvot_status kvot_loading_wait(kvot_loading *loading, size_t part, kvot_error *error);

/* Asks to stop: kvot_loading_finish then returns KVOT_E_CANCELLED, unless all was there. Any thread, also from `ready`.
 */
KVOT_API void kvot_loading_cancel(kvot_loading *loading);

/* Waits for all parts and frees `loading`. After a failure the arrays' elements are undefined, but for those of parts
 * that were there. Not from `ready`. `stages` may be NULL. */
KVOT_API kvot_status kvot_loading_finish(kvot_loading *loading, kvot_stages *stages, kvot_error *error);

/* kvot_loading_start and kvot_loading_finish. */
KVOT_API kvot_status kvot_load(kvot_file *file, const kvot_part *parts, size_t n, const kvot_memory *memory,
                               const kvot_run *run, kvot_error *error);

/* ---- bench: how fast a .kvot file comes back, beside what else could be done ---- */

/* Seconds: medians of five rounds, but for `buffered` and `zstd`, which are measured once. */
typedef struct kvot_bench_pass {
    double buffered;     /* the original, with read */
    double direct;       /* the original, with O_DIRECT on io_uring, 16 reads of 1 MiB at a time; 0: refused */
    double zstd;         /* the original as `zstd -3` has it, read and decompressed */
    double restore;      /* the .kvot file into memory that is there: all planes, by kvot_load */
    double first_layer;  /* ... until the first layer's planes are there */
    double disk_limit;   /* the .kvot file read as for `direct`, just before and after; warm, or where that was refused,
                            its bytes at the speed of `buffered` */
    double decode_limit; /* the same restore with the stored bytes in memory: decoding on all cores */
    double limit;        /* the larger of the two */
    double share;        /* restore / limit, the median of each round's */
    kvot_stages stages;  /* of the round with the median restore */
} kvot_bench_pass;

typedef struct kvot_bench_result {
    uint64_t original_bytes, stored_bytes, zstd_bytes;
    uint64_t decoded_bytes;     /* of all planes, each row once */
    uint64_t tokens, layers;    /* tokens of the longest plane */
    uint64_t start_tokens;      /* in the first chunk ... */
    double start;               /* ... which, of every layer, took this long, opening the file included; cold */
    kvot_bench_pass cold, warm; /* the page cache emptied of the files before each reading, and filled */
} kvot_bench_result;

/* Measures. `original` is the engine's file that `path` was made of (KVOT_E_DIFFERENT if it has another length); NULL:
 * it is first restored to a file without a name beside `path`, as is the zstd file. All restores have one kvot_pool,
 * the caller's or another. Takes memory for all decoded planes and for the .kvot file. KVOT_E_ARGUMENT for a cache
 * without cells. run->overwrite is not looked at. */
KVOT_API kvot_status kvot_bench(const char *path, const char *original, const kvot_run *run, kvot_bench_result *result,
                                kvot_error *error);

/* ---- quantized planes as they lie in the file, without unpacking ---- */

typedef struct kvot_map kvot_map;

/* One chunk of a plane stored with KVOT_OTT, as "ott streams" in format/SPEC.md has it. All pointers are into the
 * mapping, aligned to 16 bytes (exact_rows: to 2), and read-only. Element (row, head, channel) of a row that is not
 * exact is code * scale + minimum, in f32, rounded to `type`. */
typedef struct kvot_chunk {
    uint64_t first_row;           /* of the plane; kvot_file_positions says where its rows are */
    uint32_t rows;                /* 1 to 256 */
    kvot_kind kind;               /* K: a range for each channel of `group` rows; V: for `group` channels of a row */
    kvot_type type;               /* of exact rows, scales and minima */
    uint32_t heads, head_dim;     /* channels of a row: heads * head_dim */
    unsigned bits, group;         /* 2, 3, 4 or 8; 32, 64 or 128 */
    const uint16_t *exact_counts; /* [heads]: how many rows are exact */
    const uint16_t *exact_rows;   /* head by head: which rows of the chunk, rising within a head */
    const void *exact;            /* head_dim elements for each of these */
    const void *scales, *minima;  /* [n_ranges]. K: range (row / group) * heads * head_dim + channel; V: range
                                     (row * heads + head) * ceil(head_dim / group) + channel of the head / group */
    uint32_t n_ranges;
    const uint8_t *codes;    /* [rows][row_code_bytes]; channel c (of all heads) is bits c * b to c * b + b - 1, lowest
                                first; b is 2 for 3-bit codes, else `bits` */
    uint32_t row_code_bytes; /* ceil(channels * b / 8) */
    const uint8_t *high; /* [rows][row_high_bytes]: of 3-bit codes, the third bit of channel c is bit c. Else NULL */
    uint32_t row_high_bytes;
} kvot_chunk;

/* Maps an open .kvot file. A chunk's structure is checked when it is first asked for, its checksum also, unless
 * `checksums` is false. KVOT_E_UNSUPPORTED where the file system cannot map files. On success `*map` is to be given to
 * kvot_map_close before the file is closed; pointers into it are good until then. The mapping stays what it is when
 * another file takes the name, which is how this library replaces files; appending never touches what an open file has.
 * Whoever else shortens or overwrites the file pulls the ground away: the process then gets SIGBUS, or sees what was
 * written.
 * Threads: any number may use a map and what it gives at the same time, also while one reads the file. */
KVOT_API kvot_status kvot_map_open(const kvot_file *file, bool checksums, kvot_map **map, kvot_error *error);

/* How many chunks plane `plane`, its number in kvot_info, has; 0 if there is no such plane. */
KVOT_API size_t kvot_map_chunks(const kvot_map *map, size_t plane);

/* Finds chunk `chunk` of a plane. Nothing is copied. KVOT_E_ARGUMENT for planes stored without loss. */
KVOT_API kvot_status kvot_map_chunk(const kvot_map *map, size_t plane, size_t chunk, kvot_chunk *to, kvot_error *error);

/* NULL is allowed. */
KVOT_API void kvot_map_close(kvot_map *map);

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

/* Compares two files, each an engine's or a .kvot, of the same engine or both of arrays. They must have the same
 * structure, arrays also the same positions, else KVOT_E_DIFFERENT. On success `*result` is to be given to
 * kvot_diff_free. Element types that are not f32, f16 or bf16 count as different or not, by their bits, with errors of
 * 0. */
KVOT_API kvot_status kvot_diff(const char *first, const char *second, const kvot_run *run, kvot_diff_result **result,
                               kvot_error *error);

/* NULL is allowed. */
KVOT_API void kvot_diff_free(kvot_diff_result *result);

#ifdef __cplusplus
}
#endif

#endif
