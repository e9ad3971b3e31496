#include "work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Calls that are under way at once. Their threads wait for the pool, for the disk, or for each other's memory. */
static unsigned callers(const work *work) {
    enum { MORE = 6, MOST = 128 }; /* each has up to seven files open, of the 1024 that a process may have */
    unsigned threads = work->job->options->run.threads;
    unsigned wanted = 2 * (threads ? threads : batch_processors()) + MORE;
    wanted = wanted < MOST ? wanted : MOST;
    return work->count < wanted ? (unsigned)work->count : wanted;
}

enum { AHEAD = 256 }; /* files that may begin with one sync of the journal */

typedef struct shared {
    const work *work;
    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t over;  /* a thread ended */
    size_t next, begun;   /* files */
    unsigned running;
    _Atomic bool stop;
} shared;

/* One thread, and how far it is with its file. */
typedef struct caller {
    shared *shared;
    pthread_t thread;
    const batch_file *file;
    uint64_t earlier, last; /* bytes of finished calls for this file, and what the present one said */
    _Atomic uint64_t bytes;
} caller;

static bool must_stop(const shared *shared) {
    return shared->stop || cli_interrupted();
}

/* In place there are two calls for a file, each of all its bytes. */
static bool progress(void *user, uint64_t done, uint64_t all) {
    caller *caller = user;
    const cli_options *options = caller->shared->work->job->options;
    unsigned calls = options->in_place && caller->shared->work->job->operation != BATCH_RECOMPRESS ? 2 : 1;
    uint64_t bytes = all > 0 ? (uint64_t)((double)caller->file->bytes * (double)done / (double)all) / calls : 0;
    if (bytes < caller->last)
        caller->earlier = caller->file->bytes / calls;
    caller->last = bytes;
    caller->bytes = caller->earlier + bytes;
    return must_stop(caller->shared);
}

/* With the lock: records that the next files may begin whose outputs are not there, or come from this operation. */
static void begin(shared *shared) {
    const work *work = shared->work;
    const batch_file *files[AHEAD];
    size_t n = 0;
    for (; shared->begun < work->count && shared->begun < shared->next + AHEAD; shared->begun++) {
        const batch_file *file = work->files[shared->begun];
        char *output = batch_output(work->job, file);
        struct stat about;
        if (output && (file->ours || (lstat(output, &about) < 0 && errno == ENOENT)))
            files[n++] = file;
        free(output);
    }
    journal_begin(work->journal, files, n);
}

static const batch_file *take(shared *shared) {
    const batch_file *file = NULL;
    pthread_mutex_lock(&shared->lock);
    if (shared->next < shared->work->count && !must_stop(shared)) {
        if (shared->next == shared->begun)
            begin(shared);
        file = shared->work->files[shared->next++];
    }
    pthread_mutex_unlock(&shared->lock);
    return journal_error(shared->work->journal) == 0 ? file : NULL;
}

static void left(const work *work, const batch_file *file, report_count count, const char *why) {
    report_add(work->report, count);
    journal_left(work->journal, file, why);
}

static void done(const work *work, const batch_file *file, const converted *result) {
    kvot_error error;
    journal_done(work->journal, file, result);
    if (journal_error(work->journal) == 0 && convert_remove(work->job, file, result, &error) != KVOT_OK)
        report_failed(work->report, file->path, &error);
    else
        report_add(work->report, REPORT_DONE);
}

static void do_file(caller *caller) {
    shared *shared = caller->shared;
    const work *work = shared->work;
    const batch_file *file = caller->file;
    kvot_run run = work->job->options->run;
    run.threads = 0;
    run.pool = work->pool;
    run.overwrite |= file->ours || (work->job->options->in_place && work->job->operation == BATCH_RECOMPRESS);
    run.progress = progress;
    run.user = caller;
    converted result;
    kvot_error error;
    kvot_status status = convert(work->job, file, &run, &result, &error);
    if (status == KVOT_E_CANCELLED)
        return;
    if (status == KVOT_E_UNKNOWN && work->job->operation == BATCH_COMPRESS)
        left(work, file, REPORT_UNKNOWN, "unknown");
    else if (status != KVOT_OK) {
        report_failed(work->report, file->path, &error);
        if (status == KVOT_E_DEVICE)
            shared->stop = true;
        else
            journal_failed(work->journal, file, &error);
    } else if (result.vanished)
        left(work, file, REPORT_VANISHED, "vanished");
    else if (result.special)
        left(work, file, REPORT_SPECIAL, "special");
    else if (result.already)
        left(work, file, REPORT_ALREADY, "already");
    else
        done(work, file, &result);
    caller->bytes = 0;
    report_finished(work->report, file->bytes, status == KVOT_OK ? result.bytes_in : 0,
                    status == KVOT_OK ? result.bytes_out : 0);
}

static void *run_caller(void *argument) {
    caller *caller = argument;
    shared *shared = caller->shared;
    while ((caller->file = take(shared))) {
        caller->earlier = caller->last = 0;
        do_file(caller);
        caller->bytes = 0;
    }
    pthread_mutex_lock(&shared->lock);
    shared->running--;
    pthread_cond_signal(&shared->over);
    pthread_mutex_unlock(&shared->lock);
    return NULL;
}

/* Tells progress and makes the journal durable about once a second, until all threads have ended. */
static void watch(shared *shared, caller *callers, unsigned n) {
    const work *work = shared->work;
    double synced = cli_now();
    pthread_mutex_lock(&shared->lock);
    while (shared->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&shared->over, &shared->lock, &until);
        pthread_mutex_unlock(&shared->lock);
        uint64_t bytes = 0;
        for (unsigned i = 0; i < n; i++)
            bytes += callers[i].bytes;
        report_progress(work->report, bytes);
        if (cli_now() - synced >= 1) {
            journal_sync(work->journal);
            synced = cli_now();
        }
        if (journal_error(work->journal) != 0)
            shared->stop = true;
        pthread_mutex_lock(&shared->lock);
    }
    pthread_mutex_unlock(&shared->lock);
}

bool work_run(work *work) {
    shared shared = {.work = work, .lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};
    unsigned n = callers(work), started = 0;
    caller *threads = batch_memory(NULL, (n + 1) * sizeof *threads);
    pthread_mutex_lock(&shared.lock);
    for (; started < n; started++) {
        threads[started] = (caller){.shared = &shared};
        if (pthread_create(&threads[started].thread, NULL, run_caller, &threads[started]) != 0)
            break;
    }
    shared.running = started;
    pthread_mutex_unlock(&shared.lock);
    watch(&shared, threads, started);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i].thread, NULL);
    free(threads);
    if (started == 0 && n > 0)
        batch_fail("cannot start a thread");
    journal_sync(work->journal);
    int why = journal_error(work->journal);
    if (why != 0)
        batch_fail("%s: cannot write: %s", work->journal->path, strerror(why));
    return why == 0 && !must_stop(&shared) && (started > 0 || n == 0);
}
