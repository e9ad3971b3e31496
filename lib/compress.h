/* What compressing to a new file and appending to one have in common. */
#ifndef KVOT_COMPRESS_H
#define KVOT_COMPRESS_H

#include "append.h"
#include "file/writer.h"
#include "plan.h"
#include "source.h"

/* Reads the plan of an engine's file. `model_path` may be NULL. */
kvot_status compress_read_plan(const input *in, const char *model_path, const kvot_run *run, plan *plan,
                               kvot_error *error);

/* Says how each plane is to be stored. */
void compress_set_codecs(plan *plan, const kvot_compress_options *options);

typedef struct compress_context {
    const cache *cache; /* its streams and index are filled in */
    const source *source;
    const kvot_compress_options *options;
    const append_base *base; /* whose streams are kept, or NULL */
    writer *writer;
    const kvot_run *run;
    uint64_t kept_chunks, new_chunks; /* of planes: counted */
    /* compress_cache's own */
    const struct fixed_outliers *fixed; /* NULL: the chunk's own rule */
    run_progress *progress;
} compress_context;

/* Encodes and writes what is not kept, then the index and the footer. */
kvot_status compress_cache(compress_context *compress, kvot_error *error);

#endif
