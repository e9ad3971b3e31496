/* What the parts of `kvot batch` share. A run lists files, drops those of other shards, looks up in the journal what is
 * done, and lets a few threads make a call of the library for each of the others. */
#ifndef KVOT_BATCH_H
#define KVOT_BATCH_H

#include "../cli.h"

#include <sys/stat.h>

#define BATCH_DIRECTORY ".kvot-batch" /* in the directory that --journal says: journals, plans and a lock */

#define BATCH_MISSING "no file or directory has this name, and none matches it"

/* What a file costs besides its bytes, counted as bytes: opening, syncing, renaming. */
enum { BATCH_FILE_COST = 1 << 20 };

typedef enum batch_operation { BATCH_COMPRESS, BATCH_RESTORE, BATCH_VERIFY, BATCH_RECOMPRESS } batch_operation;

/* "compress" and the like. */
const char *batch_operation_name(batch_operation operation);

/* What a run is about: fixed from its start. */
typedef struct batch_job {
    const cli_options *options;
    batch_operation operation;
    unsigned shard, shards; /* 1 of 1 if --shard was not given */
    bool one_tree;          /* a single PATH, a directory */
    char *directory;        /* of the journal, BATCH_DIRECTORY included; NULL: none is kept */
    char *parameters;       /* as the journal has them */
} batch_job;

typedef struct batch_file {
    char *path; /* where it is */
    /* Where it is below its tree, or how it was named, without "/", "." and "..": so is a mirrored output called, but
     * for .kvot. */
    char *name;
    const char *key;   /* path or name: what journal and plan call it */
    char *place;       /* the same for two ways to name one output */
    uint64_t bytes;    /* as listed */
    int64_t modified;  /* ... in ns since 1970 */
    size_t number;     /* in the order of finding */
    unsigned shard;    /* that it belongs to */
    bool missing;      /* was named, and is not there. In place it may have been done before */
    bool ours;         /* the journal says that its output, if there is one, comes from this operation */
    bool only_removal; /* in place: it is done, but for the removal of what it was made from */
} batch_file;

/* That this process may use. */
unsigned batch_processors(void);

/* Where the output goes. To be freed; NULL for verify. */
char *batch_output(const batch_job *job, const batch_file *file);

/* For qsort of pointers to files: largest first. */
int batch_by_size(const void *a, const void *b);

int64_t batch_modified(const struct stat *about);

/* Whether `n` bytes at `name` end in .kvot with something before it that is a file's name. */
bool batch_is_kvot(const char *name);

/* The last part of a path. */
const char *batch_base(const char *path);

/* realloc and asprintf that end the program where memory is out: like any other crash of a batch, it can go on. */
void *batch_memory(void *old, size_t bytes);
char *batch_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void batch_out_of_memory(void);

/* Prints "kvot: what went wrong" and returns the exit code for it. */
int batch_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes a directory and those above it, all durable. `like`, which may be NULL, is a path whose directories, from the
 * last one up to `depth` of them, have the permissions that new ones get. False on failure, errno set. Any thread. */
bool batch_make_directory(const char *path, const char *like, unsigned depth);

/* Makes the names in a directory durable, where the file system can. */
bool batch_sync_directory(const char *path);

#endif
