#include "shard.h"

#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a file costs besides its bytes, counted as bytes: opening, syncing, renaming. */
enum { FILE_COST = 1 << 20 };

static int by_key(const void *a, const void *b) {
    return strcmp((*(batch_file *const *)a)->key, (*(batch_file *const *)b)->key);
}

/* Largest first, each to the shard with the least. */
static void balance(batch_file **files, size_t n, unsigned shards) {
    uint64_t *loads = batch_memory(NULL, shards * sizeof *loads);
    memset(loads, 0, shards * sizeof *loads);
    qsort(files, n, sizeof *files, batch_by_size);
    for (size_t i = 0; i < n; i++) {
        unsigned least = 0;
        for (unsigned shard = 1; shard < shards; shard++)
            least = loads[shard] < loads[least] ? shard : least;
        files[i]->shard = least + 1;
        loads[least] += files[i]->bytes + FILE_COST;
    }
    free(loads);
}

/* The plan has its name when it is whole and durable, and never changes. False on failure, errno set: EEXIST if another
 * shard was first. */
static bool write_plan(const batch_job *job, batch_file *const *files, size_t n, const char *path) {
    char *temporary = batch_text("%s.XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool good = to != NULL;
    for (size_t i = 0; i < n && good; i++) {
        char *line = record_line("file", files[i]->key, "%u", files[i]->shard);
        good = fputs(line, to) >= 0;
        free(line);
    }
    good = good && fflush(to) == 0 && fchmod(fd, 0644) == 0 && fdatasync(fd) == 0 && link(temporary, path) == 0 &&
           batch_sync_directory(job->directory);
    int why = errno;
    if (to)
        fclose(to);
    else if (fd >= 0)
        close(fd);
    if (fd >= 0)
        unlink(temporary);
    free(temporary);
    errno = why;
    return good;
}

/* `files` are sorted by key. */
static bool read_plan(batch_file **files, size_t n, unsigned shards, FILE *from, const char *path) {
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    record record;
    for (ssize_t bytes; good && (bytes = getline(&line, &room, from)) > 0;) {
        unsigned shard = 0;
        good = record_read(line, (size_t)bytes, &record) && strcmp(record.kind, "file") == 0 &&
               sscanf(record.rest, "%u", &shard) == 1 && shard >= 1 && shard <= shards;
        batch_file *key = good ? &(batch_file){.key = record.name} : NULL;
        batch_file **found = good && n > 0 ? bsearch(&key, files, n, sizeof *files, by_key) : NULL;
        if (found)
            (*found)->shard = shard;
    }
    free(line);
    if (ferror(from))
        batch_fail("%s: cannot read it: %s", path, strerror(errno));
    else if (!good)
        batch_fail("%s: is damaged; remove it while no shard runs", path);
    return good && !ferror(from);
}

static bool assign_by_plan(const batch_job *job, batch_file **files, size_t n) {
    char *path = batch_text("%s/%s-of-%u.plan", job->directory, batch_operation_name(job->operation), job->shards);
    FILE *from = fopen(path, "re");
    bool good = true, written = false;
    if (!from && errno == ENOENT) {
        balance(files, n, job->shards);
        written = write_plan(job, files, n, path);
        if (!written && errno == EEXIST)
            from = fopen(path, "re");
    }
    if (from) {
        qsort(files, n, sizeof *files, by_key);
        for (size_t i = 0; i < n; i++)
            files[i]->shard = 1 + (unsigned)(record_hash(files[i]->key, strlen(files[i]->key)) % job->shards);
        good = read_plan(files, n, job->shards, from, path);
        fclose(from);
    } else if (!written) {
        batch_fail("%s: cannot write it: %s", path, strerror(errno));
        good = false;
    }
    free(path);
    return good;
}

bool shard_assign(const batch_job *job, batch_file *files, size_t n) {
    bool good = true;
    batch_file **sorted = batch_memory(NULL, (n + 1) * sizeof *sorted);
    for (size_t i = 0; i < n; i++) {
        sorted[i] = &files[i];
        files[i].shard = 1;
    }
    if (job->shards > 1 && job->directory)
        good = assign_by_plan(job, sorted, n);
    else if (job->shards > 1)
        balance(sorted, n, job->shards);
    free(sorted);
    return good;
}
