/* The journal of a run: one file of records for each shard of an operation, locked while a run lives. */
#ifndef KVOT_BATCH_JOURNAL_H
#define KVOT_BATCH_JOURNAL_H

#include "convert.h"
#include "history.h"

#include <pthread.h>

typedef struct journal {
    int fd;
    char *path;
    unsigned number;      /* in the history; 0: it is new */
    pthread_mutex_t lock; /* of what follows */
    int failed;           /* errno */
    bool unsynced;
} journal;

/* Opens the journal of `job`, and reads those of all shards of its operation into `history`. Refuses, with a message,
 * while another run has the directory that must not run beside this one, and where a journal has other parameters,
 * unless options->run.overwrite. Returns an exit code. */
int journal_open(journal *journal, const batch_job *job, history *history);

/* Records a run and what it is about. Later ones count. */
void journal_run(journal *journal, const batch_job *job, uint64_t files, uint64_t bytes);

/* Records that work on `n` files may begin, and makes it durable before it returns. NULL as journal is no journal, here
 * and below. */
void journal_begin(journal *journal, const batch_file *const *files, size_t n);

/* Record how that ended. Any thread. */
void journal_done(journal *journal, const batch_file *file, const converted *result);
void journal_failed(journal *journal, const batch_file *file, const kvot_error *error);
void journal_left(journal *journal, const batch_file *file, const char *why);

/* errno of the first write that failed, 0 if none has. The run must then stop. */
int journal_error(journal *journal);

/* Makes records durable, whatever other threads append meanwhile. */
void journal_sync(journal *journal);
void journal_close(journal *journal);

/* "OPERATION-I-of-N.journal"; false if `name` is no journal's. */
bool journal_parse_name(const char *name, char operation[16], unsigned *shard, unsigned *shards);

/* Keeps runs from starting until it is closed; -1 where there is no such lock and none can be made, errno set. */
int journal_lock_directory(const char *directory);

/* Whether a run has this journal. To be asked with the directory locked: the test takes the lock for a moment. */
bool journal_is_running(int fd);

#endif
