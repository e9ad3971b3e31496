/* One file: the call of the library, and what has to be in order before and behind it. */
#ifndef KVOT_BATCH_CONVERT_H
#define KVOT_BATCH_CONVERT_H

#include "batch.h"

typedef struct converted {
    bool already, vanished, special; /* left alone, and why. Else it is done */
    uint64_t bytes_in, bytes_out;
    struct stat source; /* before work on it began */
    int64_t made;       /* when the output was, in ns since 1970 */
} converted;

/* Converts a file, in place verifies it. KVOT_E_UNKNOWN from compressing means that it is no cache. */
kvot_status convert(const batch_job *job, const batch_file *file, const kvot_run *run, converted *result,
                    kvot_error *error);

/* In place, behind the record that it is done: removes the source. */
kvot_status convert_remove(const batch_job *job, const batch_file *file, const converted *result, kvot_error *error);

#endif
