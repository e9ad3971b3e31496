#include "history.h"

#include "batch.h"
#include "record.h"

#include <inttypes.h>
#include <search.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) {
    return strcmp(((const past *)a)->name, ((const past *)b)->name);
}

past *history_find(const history *history, const char *name) {
    past *key = batch_memory(NULL, sizeof *key + strlen(name) + 1);
    strcpy(key->name, name);
    past *const *found = tfind(key, &history->tree, by_name);
    free(key);
    return found ? *found : NULL;
}

past *history_add(history *history, const char *name) {
    past *found = history_find(history, name);
    if (found)
        return found;
    past *new = batch_memory(NULL, sizeof *new + strlen(name) + 1);
    *new = (past){.next = history->first};
    strcpy(new->name, name);
    if (!tsearch(new, &history->tree, by_name))
        batch_out_of_memory();
    return history->first = new;
}

/* Other parameters: what this journal calls done is to be done again. */
static void undo(history *history) {
    for (past *past = history->first; past; past = past->next)
        if (past->journal == history->journals && past->state == PAST_DONE)
            past->state = PAST_BEGUN;
}

static void take_run(history *history, const record *record, past_run *last) {
    past_run run = {0};
    if (sscanf(record->rest, "1 %15s %u/%u %" SCNu64 " %" SCNu64 " %ld %64s", run.operation, &run.shard, &run.shards,
               &run.files, &run.bytes, &run.process, run.host) != 7)
        return;
    if (last->parameters && strcmp(last->parameters, record->name) != 0)
        undo(history);
    past_run_free(last);
    *last = run;
    last->parameters = batch_text("%s", record->name);
}

/* It ended without an output. One that is there was there before, or comes from others; what was not even begun had one
 * that is not ours. `perhaps`: it may have been made all the same. */
static void not_made(past *past, bool perhaps) {
    past->ours = past->state == PAST_BEGUN && (past->before || (perhaps && past->ours));
}

static void take(history *history, const record *record, past_run *last) {
    if (strcmp(record->kind, "run") == 0) {
        take_run(history, record, last);
        return;
    }
    past *past = history_add(history, record->name);
    past->journal = history->journals;
    if (strcmp(record->kind, "begin") == 0) {
        past->state = PAST_BEGUN;
        past->before = past->ours;
        past->ours = true;
    } else if (strcmp(record->kind, "done") == 0 &&
               sscanf(record->rest, "%" SCNu64 " %" SCNd64 " %" SCNu64 " %" SCNd64, &past->bytes, &past->modified,
                      &past->output, &past->made) == 4) {
        past->state = PAST_DONE;
        past->ours = past->before = true;
    } else if (strcmp(record->kind, "failed") == 0) {
        /* A call may fail when its output has its name already: where that cannot be made durable. */
        not_made(past, strncmp(record->rest, "KVOT_E_IO ", 10) == 0);
        past->state = PAST_FAILED;
    } else if (strcmp(record->kind, "left") == 0) {
        not_made(past, false);
        past->state = PAST_LEFT;
    }
}

uint64_t history_read(history *history, FILE *from, const char *parameters, past_run *last) {
    char *line = NULL;
    size_t room = 0;
    uint64_t at = 0, end = 0;
    record record;
    *last = (past_run){0};
    history->journals++;
    for (ssize_t n; (n = getline(&line, &room, from)) > 0;) {
        at += (uint64_t)n;
        if (!record_read(line, (size_t)n, &record))
            continue;
        end = at;
        take(history, &record, last);
    }
    free(line);
    if (parameters && last->parameters && strcmp(parameters, last->parameters) != 0)
        undo(history);
    return end;
}

static void nothing(void *node) {
    (void)node;
}

void history_free(history *history) {
    tdestroy(history->tree, nothing);
    for (past *past = history->first, *next; past; past = next) {
        next = past->next;
        free(past);
    }
    *history = (struct history){0};
}

void past_run_free(past_run *run) {
    free(run->parameters);
    run->parameters = NULL;
}
