/* kvot batch status: adds up the journals of a directory. */
#include "batch.h"
#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tally {
    uint64_t files, done, failed, left_alone, bytes_in, bytes_out;
} tally;

typedef struct shard {
    char operation[16];
    unsigned shard, shards;
    bool running;
    tally tally;
    history history;
} shard;

static int by_operation(const void *a, const void *b) {
    const shard *first = a, *second = b;
    int order = strcmp(first->operation, second->operation);
    if (order)
        return order;
    if (first->shards != second->shards)
        return first->shards < second->shards ? -1 : 1;
    return (first->shard > second->shard) - (first->shard < second->shard);
}

static void count(tally *tally, const past *past) {
    tally->done += past->state == PAST_DONE;
    tally->failed += past->state == PAST_FAILED;
    tally->left_alone += past->state == PAST_LEFT;
    if (past->state == PAST_DONE) {
        tally->bytes_in += past->bytes;
        tally->bytes_out += past->output;
    }
}

static bool read_shard(const char *directory, const char *name, shard *shard) {
    char *path = batch_text("%s/%s", directory, name);
    FILE *from = fopen(path, "re");
    past_run last;
    bool good = from != NULL;
    if (good) {
        shard->running = journal_is_running(fileno(from));
        history_read(&shard->history, from, NULL, &last);
        good = !ferror(from);
        shard->tally.files = last.files;
        past_run_free(&last);
        fclose(from);
    }
    if (!good)
        batch_fail("%s: cannot read it: %s", path, strerror(errno));
    for (const past *past = shard->history.first; past; past = past->next)
        count(&shard->tally, past);
    free(path);
    return good;
}

/* Adds up shards[0] to shards[n - 1], of one operation. Runs with different numbers of shards had the same files: each
 * file counts once, by the best that any journal says. */
static tally add_up(const shard *shards, size_t n) {
    static const int ranks[] = {[PAST_BEGUN] = 0, [PAST_LEFT] = 1, [PAST_FAILED] = 2, [PAST_DONE] = 3};
    tally all = {0};
    history merged = {0};
    for (size_t i = 0, files = 0; i < n; i++) {
        files = (i > 0 && shards[i - 1].shards == shards[i].shards ? files : 0) + shards[i].tally.files;
        all.files = files > all.files ? files : all.files;
        for (const past *past = shards[i].history.first; past; past = past->next) {
            struct past *to = history_add(&merged, past->name);
            if (ranks[past->state] < ranks[to->state])
                continue;
            to->state = past->state;
            to->bytes = past->bytes;
            to->output = past->output;
        }
    }
    for (const past *past = merged.first; past; past = past->next)
        count(&all, past);
    history_free(&merged);
    uint64_t over = all.done + all.failed + all.left_alone;
    all.files = over > all.files ? over : all.files;
    return all;
}

static uint64_t left(const tally *tally) {
    uint64_t over = tally->done + tally->failed + tally->left_alone;
    return tally->files > over ? tally->files - over : 0;
}

static json_t *operation_json(const shard *shards, size_t n, const tally *all) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const tally *tally = &shards[i].tally;
        char name[32];
        snprintf(name, sizeof name, "%u/%u", shards[i].shard, shards[i].shards);
        json_array_append_new(list, json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "shard", name, "running",
                                              shards[i].running, "files", (json_int_t)tally->files, "done",
                                              (json_int_t)tally->done, "failed", (json_int_t)tally->failed, "bytes_in",
                                              (json_int_t)tally->bytes_in, "bytes_out", (json_int_t)tally->bytes_out));
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "operation", shards->operation, "files",
                     (json_int_t)all->files, "done", (json_int_t)all->done, "failed", (json_int_t)all->failed, "left",
                     (json_int_t)left(all), "bytes_in", (json_int_t)all->bytes_in, "bytes_out",
                     (json_int_t)all->bytes_out, "ratio", cli_real((double)all->bytes_in / (double)all->bytes_out),
                     "shards", list);
}

static void print_tally(const char *name, const tally *tally, const char *end) {
    printf("%-16s %9llu files, %9llu done, %6llu failed, %9llu left; %s", name, (unsigned long long)tally->files,
           (unsigned long long)tally->done, (unsigned long long)tally->failed, (unsigned long long)left(tally),
           cli_bytes(tally->bytes_in));
    if (tally->bytes_out > 0)
        printf(" -> %s, ratio %.2f", cli_bytes(tally->bytes_out), (double)tally->bytes_in / (double)tally->bytes_out);
    printf("%s\n", end);
}

static void print_operation(const shard *shards, size_t n, const tally *all) {
    print_tally(shards->operation, all, n == 1 && shards->running ? ", running" : "");
    for (size_t i = 0; i < n && n > 1; i++) {
        char name[32];
        snprintf(name, sizeof name, "  %u/%u", shards[i].shard, shards[i].shards);
        print_tally(name, &shards[i].tally, shards[i].running ? ", running" : "");
    }
}

/* Reads all journals. Their number, or -1 after a message. */
static ssize_t read_shards(const char *directory, shard **shards) {
    DIR *entries = opendir(directory);
    ssize_t n = 0;
    if (!entries && errno != ENOENT && errno != ENOTDIR)
        return batch_fail("%s: cannot read it: %s", directory, strerror(errno)), -1;
    for (struct dirent *entry; entries && n >= 0 && (entry = readdir(entries));) {
        shard shard = {0};
        if (!journal_parse_name(entry->d_name, shard.operation, &shard.shard, &shard.shards))
            continue;
        *shards = batch_memory(*shards, ((size_t)n + 1) * sizeof shard);
        (*shards)[n] = shard;
        n = read_shard(directory, entry->d_name, &(*shards)[n]) ? n + 1 : -1;
    }
    if (entries)
        closedir(entries);
    if (n == 0)
        return batch_fail("%s: there is no journal", directory), -1;
    return n;
}

static int status(const cli_options *options) {
    char *directory = batch_text("%s/" BATCH_DIRECTORY, options->files[0]);
    shard *shards = NULL;
    int lock = access(directory, F_OK) == 0 ? journal_lock_directory(directory) : -1; /* -1 also if it is read-only */
    ssize_t n = read_shards(directory, &shards);
    if (lock >= 0)
        close(lock);
    json_t *operations = json_array();
    if (n > 0)
        qsort(shards, (size_t)n, sizeof *shards, by_operation);
    for (ssize_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && strcmp(shards[end].operation, shards[i].operation) == 0; end++)
            ;
        tally all = add_up(shards + i, (size_t)(end - i));
        if (options->json)
            json_array_append_new(operations, operation_json(shards + i, (size_t)(end - i), &all));
        else
            print_operation(shards + i, (size_t)(end - i), &all);
    }
    int exit_code = n > 0 ? EXIT_DONE : EXIT_FAILED;
    if (n > 0 && options->json)
        exit_code =
            cli_print_json(json_pack("{s:o, s:O}", "directory", cli_text(options->files[0]), "operations", operations));
    json_decref(operations);
    for (ssize_t i = 0; i < n; i++)
        history_free(&shards[i].history);
    free(shards);
    free(directory);
    return exit_code;
}

const cli_command command_batch_status = {
    .name = "batch status",
    .synopsis = "[OPTIONS] DIR",
    .summary = "how far the runs are whose journals are in DIR",
    .help = "Adds up what the journals in DIR say: of all shards of each operation, finished, running or stopped.\n",
    .options = "j",
    .files = 1,
    .run = status,
};
