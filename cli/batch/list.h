/* Which files a run is about: PATHs and lists, trees walked, what is left alone counted. */
#ifndef KVOT_BATCH_LIST_H
#define KVOT_BATCH_LIST_H

#include "batch.h"
#include "report.h"

typedef struct batch_list {
    const batch_job *job;
    report *report;
    struct stat output; /* of -o's directory, which is left out if it lies in a tree */
    batch_file *files;  /* each once */
    size_t count, room;
    size_t twins; /* files that failed, as others have the same output; of this shard */
} batch_list;

/* Finds the files of all shards. False after a message where a list cannot be read. */
bool list_find(batch_list *list, const batch_job *job, report *report);
void list_free(batch_list *list);

#endif
