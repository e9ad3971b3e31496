/* What the public calls have in common: running a cache's jobs with progress. */
#ifndef KVOT_RUN_H
#define KVOT_RUN_H

#include "cache.h"
#include "codecs/codec.h"
#include "pool.h"

/* Bytes of the source that a job stands for. */
uint64_t run_job_bytes(const cache *cache, cache_job job);

/* What the public calls say about a cache whose .kvot file has `stored_bytes`. */
kvot_sizes run_sizes(const cache *cache, uint64_t stored_bytes);

/* Counts progress and asks whether to go on. */
typedef struct run_progress {
    const kvot_run *run;
    uint64_t done, total, told;
} run_progress;

/* All jobs once, and those that are not verbatim `passes` times. */
run_progress run_progress_start(const kvot_run *run, const cache *cache, unsigned passes);
kvot_status run_progress_add(run_progress *progress, uint64_t bytes, kvot_error *error);

/* What a worker needs to decode: one lies at the start of every slot. Zeroed to begin with. */
typedef struct run_buffers {
    codec_context codec;
    uint8_t *rows, *other, *stream;
    size_t rows_bytes, other_bytes, stream_bytes;
} run_buffers;

void run_buffers_free(run_buffers *buffers);

#endif
