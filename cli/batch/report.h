/* What a run tells: progress, failures as they come, and the summary. */
#ifndef KVOT_BATCH_REPORT_H
#define KVOT_BATCH_REPORT_H

#include "batch.h"

#include <pthread.h>

typedef enum report_count {
    REPORT_DONE,
    REPORT_DONE_BEFORE,
    REPORT_ALREADY,
    REPORT_UNKNOWN,
    REPORT_LINKS,
    REPORT_SPECIAL,
    REPORT_VANISHED,
    REPORT_FAILED,
    REPORT_COUNTS
} report_count;

typedef struct report {
    pthread_mutex_t lock; /* of all but what report_begin sets */
    const batch_job *job;
    uint64_t files, bytes; /* to look at */
    double start;
    uint64_t counts[REPORT_COUNTS];
    uint64_t finished;            /* files ... */
    uint64_t finished_bytes;      /* ... and their bytes, however they ended */
    uint64_t bytes_in, bytes_out; /* of the done */
    json_t *failures;             /* the first of them */
    bool device_failed;
    bool terminal, shown; /* a line is there to be wiped */
    double told;          /* when the last line was */
} report;

void report_open(report *report, const batch_job *job);

/* Work begins: on `files` files, of which `before` were done before and `missing` have failed; the others have `bytes`
 * bytes. */
void report_begin(report *report, uint64_t files, uint64_t bytes, uint64_t before, uint64_t missing);

/* Any thread. */
void report_add(report *report, report_count count);
void report_failed(report *report, const char *path, const kvot_error *error);
void report_failed_file(report *report, const char *path, kvot_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A file with `listed` bytes is over. `in` and `out` are what it adds if it was done. Any thread. */
void report_finished(report *report, uint64_t listed, uint64_t in, uint64_t out);

/* Now and then, from one thread. `more` bytes are done of files that are being worked on. */
void report_progress(report *report, uint64_t more);

/* The summary. `stopped`: by a signal or an error that was told. Returns the exit code. */
int report_end(report *report, bool stopped);

#endif
