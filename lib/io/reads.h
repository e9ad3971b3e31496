/* Ranges of a file, put together to reads that suit O_DIRECT. */
#ifndef KVOT_READS_H
#define KVOT_READS_H

#include "../error.h"

typedef struct fetch_range {
    uint64_t offset; /* starts and ends inside the file */
    uint32_t bytes;
} fetch_range;

typedef struct fetch_read {
    uint64_t offset; /* a multiple of DIRECT_ALIGN, as is the end, but for that of the file */
    uint64_t end;
    size_t first, count; /* ranges */
} fetch_read;

/* In the order of the ranges, a read for one or several of them. `*reads` is to be freed; `*largest`: bytes of the
 * largest, at least 1. */
kvot_status reads_plan(const fetch_range *ranges, size_t count, uint64_t file_bytes, fetch_read **reads,
                       size_t *n_reads, uint64_t *largest, kvot_error *error);

#endif
