/* What journals say about files that runs have worked on. */
#ifndef KVOT_BATCH_HISTORY_H
#define KVOT_BATCH_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum past_state {
    PAST_BEGUN,  /* its output may be there */
    PAST_DONE,   /* its output was there, complete */
    PAST_FAILED, /* its output may be there, if it is ours */
    PAST_LEFT    /* it was left alone: no cache, vanished ... */
} past_state;

typedef struct past {
    struct past *next;
    past_state state;
    bool ours, before;      /* an output that is there was made by this operation; the same before it was begun */
    bool listed;            /* for who goes through the history */
    unsigned journal;       /* number of the one that said so last */
    uint64_t bytes, output; /* PAST_DONE: sizes of source and output ... */
    int64_t modified, made; /* ... and when they were modified */
    char name[];
} past;

typedef struct history {
    void *tree; /* by name */
    past *first;
    unsigned journals;
} history;

/* A run, as it says of itself. */
typedef struct past_run {
    char operation[16];
    unsigned shard, shards;
    uint64_t files, bytes;
    long process;
    char host[65];
    char *parameters; /* NULL: the journal has no run */
} past_run;

/* Adds what the journal `from`, open at its start, says. `last`, to be given to past_run_free, is its last run. What
 * was done with other parameters than its last run has, or than `parameters` if that is not NULL, does not count as
 * done. Returns where its last whole record ends. */
uint64_t history_read(history *history, FILE *from, const char *parameters, past_run *last);

/* What is known of a file; NULL if nothing is. */
past *history_find(const history *history, const char *name);

/* The same; adds a file that is not known. */
past *history_add(history *history, const char *name);
void history_free(history *history);
void past_run_free(past_run *run);

#endif
