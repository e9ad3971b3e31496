#include "journal.h"

#include "record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* A run holds the lock of its own journal from start to end. While it looks whose else are held, and takes its own, it
 * holds the lock of the file "lock", so that two runs that start together see each other. */

static int fail(const char *path, const char *what) {
    return batch_fail("%s: cannot %s: %s", path, what, strerror(errno));
}

int journal_lock_directory(const char *directory) {
    char *path = batch_text("%s/lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), result = -1;
    if (fd < 0 && (errno == EACCES || errno == EROFS))
        fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    while (fd >= 0 && (result = flock(fd, LOCK_EX)) < 0 && errno == EINTR && !cli_interrupted())
        ;
    if (fd >= 0 && result < 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

bool journal_is_running(int fd) {
    if (flock(fd, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK;
    flock(fd, LOCK_UN);
    return false;
}

bool journal_parse_name(const char *name, char operation[16], unsigned *shard, unsigned *shards) {
    int end = 0;
    return sscanf(name, "%15[a-z]-%u-of-%u.journal%n", operation, shard, shards, &end) == 3 && end > 0 && !name[end];
}

static int refuse_running(const char *path, const past_run *run) {
    return batch_fail("%s: another run has it: %s, shard %u/%u, process %ld on %s", path, run->operation, run->shard,
                      run->shards, run->process, run->host);
}

/* Whether the journal that was read last speaks of outputs that may be there. */
static bool has_outputs(const history *history) {
    for (const past *past = history->first; past; past = past->next)
        if (past->journal == history->journals && past->ours)
            return true;
    return false;
}

/* Looks at a journal that is there: whether its run lives and is in the way, and what it says. `*end` is where its last
 * whole record ends. */
static int look_at(const batch_job *job, const char *path, const char *name, history *past_work, uint64_t *end) {
    char operation[16];
    unsigned shard, shards;
    if (!journal_parse_name(name, operation, &shard, &shards))
        return EXIT_DONE;
    FILE *from = fopen(path, "re");
    if (!from)
        return fail(path, "read");
    history unrelated = {0};
    past_run last;
    bool related = strcmp(operation, batch_operation_name(job->operation)) == 0;
    bool beside = related && shards == job->shards && shard != job->shard, running = journal_is_running(fileno(from));
    *end = history_read(related ? past_work : &unrelated, from, job->parameters, &last);
    bool same = !last.parameters || strcmp(last.parameters, job->parameters) == 0;
    int exit_code = EXIT_DONE;
    if (ferror(from))
        exit_code = fail(path, "read");
    else if (running && !(beside && same))
        exit_code = refuse_running(path, &last);
    else if (related && !same && !job->options->run.overwrite && has_outputs(past_work))
        exit_code = batch_fail("%s: was begun with \"%s\", not with \"%s\"; -f does all of it again", path,
                               last.parameters, job->parameters);
    history_free(&unrelated);
    past_run_free(&last);
    fclose(from);
    return exit_code;
}

static int look_at_others(const batch_job *job, const char *own, history *past_work) {
    uint64_t end;
    DIR *entries = opendir(job->directory);
    if (!entries)
        return fail(job->directory, "read");
    int exit_code = EXIT_DONE;
    for (struct dirent *entry; exit_code == EXIT_DONE && (entry = readdir(entries));) {
        char *path = batch_text("%s/%s", job->directory, entry->d_name);
        if (strcmp(path, own) != 0)
            exit_code = look_at(job, path, entry->d_name, past_work, &end);
        free(path);
    }
    closedir(entries);
    return exit_code;
}

/* With the directory locked. The own journal comes last: what it says of a file counts more than another's word. */
static int open_locked(journal *journal, const batch_job *job, history *history) {
    int exit_code = look_at_others(job, journal->path, history);
    uint64_t end = 0;
    if (exit_code == EXIT_DONE && access(journal->path, F_OK) == 0)
        exit_code = look_at(job, journal->path, batch_base(journal->path), history, &end);
    journal->number = end > 0 ? history->journals : 0;
    if (exit_code != EXIT_DONE)
        return exit_code;
    journal->fd = open(journal->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (journal->fd < 0)
        return fail(journal->path, "write");
    if (flock(journal->fd, LOCK_EX | LOCK_NB) < 0)
        return fail(journal->path, "lock it (--journal says where it lies)");
    /* A crash may have left half a record at the end. */
    if (ftruncate(journal->fd, (off_t)end) < 0)
        return fail(journal->path, "write");
    journal_run(journal, job, 0, 0); /* for others to see whose it is, before it is known how many files there are */
    return EXIT_DONE;
}

int journal_open(journal *journal, const batch_job *job, history *history) {
    *journal = (struct journal){.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (!batch_make_directory(job->directory, NULL, 0))
        return fail(job->directory, "make it");
    int lock = journal_lock_directory(job->directory);
    if (lock < 0)
        return fail(job->directory, "lock its file \"lock\" (--journal says where the journal lies)");
    journal->path = batch_text("%s/%s-%u-of-%u.journal", job->directory, batch_operation_name(job->operation),
                               job->shard, job->shards);
    int exit_code = open_locked(journal, job, history);
    close(lock);
    if (exit_code != EXIT_DONE)
        journal_close(journal);
    return exit_code;
}

/* A journal that was cut short at its end by a full disk takes no more. */
static void append(journal *journal, char *text, size_t n) {
    pthread_mutex_lock(&journal->lock);
    if (journal->failed == 0) {
        ssize_t put;
        while ((put = write(journal->fd, text, n)) < 0 && errno == EINTR)
            ;
        if (put != (ssize_t)n)
            journal->failed = put < 0 ? errno : ENOSPC;
        journal->unsynced = true;
    }
    pthread_mutex_unlock(&journal->lock);
    free(text);
}

static void append_line(journal *journal, char *line) {
    append(journal, line, strlen(line));
}

void journal_run(journal *journal, const batch_job *job, uint64_t files, uint64_t bytes) {
    char host[65] = "";
    if (!journal)
        return;
    if (gethostname(host, sizeof host - 1) < 0 || !*host)
        strcpy(host, "unknown");
    append_line(journal, record_line("run", job->parameters, "1 %s %u/%u %" PRIu64 " %" PRIu64 " %ld %s",
                                     batch_operation_name(job->operation), job->shard, job->shards, files, bytes,
                                     (long)getpid(), host));
    journal_sync(journal);
}

void journal_begin(journal *journal, const batch_file *const *files, size_t n) {
    char *text = NULL;
    size_t bytes = 0;
    if (!journal || n == 0)
        return;
    FILE *to = open_memstream(&text, &bytes);
    if (!to)
        batch_out_of_memory();
    for (size_t i = 0; i < n; i++) {
        char *line = record_line("begin", files[i]->key, "%" PRIu64 " %" PRId64, files[i]->bytes, files[i]->modified);
        fputs(line, to);
        free(line);
    }
    if (fclose(to) != 0)
        batch_out_of_memory();
    append(journal, text, bytes);
    journal_sync(journal);
}

void journal_done(journal *journal, const batch_file *file, const converted *result) {
    if (journal)
        append_line(journal,
                    record_line("done", file->key, "%" PRIu64 " %" PRId64 " %" PRIu64 " %" PRId64, result->bytes_in,
                                batch_modified(&result->source), result->bytes_out, result->made));
}

void journal_failed(journal *journal, const batch_file *file, const kvot_error *error) {
    if (journal)
        append_line(journal, record_line("failed", file->key, "%s %s", kvot_status_name(error->status), error->text));
}

void journal_left(journal *journal, const batch_file *file, const char *why) {
    if (journal)
        append_line(journal, record_line("left", file->key, "%s", why));
}

void journal_sync(journal *journal) {
    if (!journal)
        return;
    pthread_mutex_lock(&journal->lock);
    bool unsynced = journal->unsynced;
    journal->unsynced = false;
    pthread_mutex_unlock(&journal->lock);
    if (!unsynced)
        return;
    int result;
    while ((result = fdatasync(journal->fd)) < 0 && errno == EINTR)
        ;
    if (result == 0)
        return;
    pthread_mutex_lock(&journal->lock);
    journal->failed = errno;
    pthread_mutex_unlock(&journal->lock);
}

int journal_error(journal *journal) {
    if (!journal)
        return 0;
    pthread_mutex_lock(&journal->lock);
    int failed = journal->failed;
    pthread_mutex_unlock(&journal->lock);
    return failed;
}

void journal_close(journal *journal) {
    if (journal->fd >= 0)
        close(journal->fd);
    free(journal->path);
    *journal = (struct journal){.fd = -1};
}
