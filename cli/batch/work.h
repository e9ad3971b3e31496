/* The work of a run: threads that each make the calls for one file after the other. */
#ifndef KVOT_BATCH_WORK_H
#define KVOT_BATCH_WORK_H

#include "journal.h"
#include "report.h"

typedef struct work {
    const batch_job *job;
    journal *journal; /* NULL: none */
    report *report;
    kvot_pool *pool;
    batch_file **files; /* to do, in this order */
    size_t count;
} work;

/* Does all of it, unless a signal, the journal or the device stops it. Returns whether all was done. */
bool work_run(work *work);

#endif
