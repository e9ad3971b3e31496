/* What compressing files and arrays to a new file, and appending to one, have in common. */
#ifndef KVOT_COMPRESS_H
#define KVOT_COMPRESS_H

#include "../cache/base.h"
#include "../cache/plan.h"
#include "../cache/source.h"
#include "../file/writer.h"

extern const kvot_compress_options compress_defaults;

kvot_status compress_check_options(const kvot_compress_options *options, kvot_error *error);

/* Reads the plan of an engine's file. `model_path` may be NULL. */
kvot_status compress_read_plan(const input *in, const char *model_path, const kvot_run *run, plan *plan,
                               kvot_error *error);

/* Says how each plane is to be stored. */
void compress_set_codecs(plan *plan, const kvot_compress_options *options);

/* The plan of arrays: first what is known before there are tokens, K and V of each layer one after the other; then
 * their tokens, and `n_ids` token ids. `shapes` are checked, but for data, tokens and strides. */
kvot_status compress_plan_arrays(plan *plan, const kvot_array *shapes, size_t n_layers, const kvot_about *about,
                                 kvot_error *error);
kvot_status compress_plan_tokens(plan *plan, uint32_t position, uint32_t tokens, size_t n_ids, kvot_error *error);

/* Token ids as an input, which nobody closes: the verbatim bytes of arrays. */
input compress_ids(const int32_t *ids, size_t n);

/* Finds `n` rows of an array, from `first` on, for plane `i` of the encoder's unit: where the device has them, else in
 * host memory. */
kvot_status compress_take_array(const run_place *place, unit_encoder *encoder, uint32_t i, const kvot_array *array,
                                uint32_t first, uint32_t n, kvot_error *error);

/* rows_to_cache, with memory for it. */
kvot_status compress_rows(plan *plan, const input *in, const kvot_run *run, cache *cache, kvot_error *error);

/* Compresses what `plan` describes, which it frees, to an output that is open and is to be committed. */
kvot_status compress_to(plan *plan, const source *source, output *out, const kvot_compress_options *options,
                        const kvot_run *run, kvot_sizes *sizes, kvot_error *error);

/* The same to a new file. `mode`: its permissions. `sizes` may be NULL. */
kvot_status compress_plan(plan *plan, const source *source, unsigned mode, const char *output_path,
                          const kvot_compress_options *options, const kvot_run *run, kvot_sizes *sizes,
                          kvot_error *error);

typedef struct compress_context {
    const cache *cache; /* its streams and index are filled in */
    const source *source;
    const kvot_compress_options *options;
    const base *base; /* whose streams are kept, or NULL */
    bool nothing_new; /* the cache is that of `base`: no index was written */
    writer *writer;
    const kvot_run *run;
    uint64_t kept_chunks, new_chunks; /* of planes: counted */
    /* Filled in by compress_cache */
    const struct fixed_outliers *fixed; /* NULL: the chunk's own rule */
    run_progress *progress;
} compress_context;

/* Encodes and writes the cache's first `n_jobs` jobs, the others' streams being there; then the index and the footer.
 */
kvot_status compress_write(compress_context *compress, uint64_t n_jobs, kvot_error *error);

/* Encodes and writes what is not kept, then the index and the footer. */
kvot_status compress_cache(compress_context *compress, kvot_error *error);

#endif
