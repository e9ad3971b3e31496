/* kvot batch compress, restore, verify, recompress. */
#include "batch.h"
#include "journal.h"
#include "list.h"
#include "report.h"
#include "shard.h"
#include "work.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_command *const commands[] = {&command_batch_compress, &command_batch_restore, &command_batch_verify,
                                              &command_batch_recompress};

/* What is wrong with the options; NULL: nothing. */
static const char *wrong_with(const cli_options *options, batch_operation operation) {
    if (options->n_files == 0 && !options->list)
        return "at least one PATH, or --list, is wanted";
    if (options->null && !options->list)
        return "--null is for --list";
    if (options->output && (!*options->output || strcmp(options->output, "-") == 0))
        return "--output wants a directory";
    if (operation != BATCH_VERIFY && !options->output == !options->in_place)
        return "either --output or --in-place is wanted";
    if (options->ott_option && options->compress.codec == KVOT_LOSSLESS)
        return "--bits, --group and --outliers are for --codec ott";
    return NULL;
}

static bool is_directory(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* How K and V are stored. NULL after a message. */
static char *codec_of(const kvot_compress_options *options) {
    char model[33] = "none", outliers[16] = "auto";
    uint8_t digest[16];
    kvot_error error;
    if (options->model_path) {
        if (kvot_model_digest(options->model_path, digest, &error) != KVOT_OK) {
            cli_fail(&error);
            return NULL;
        }
        for (int i = 0; i < 16; i++)
            sprintf(model + 2 * i, "%02x", digest[i]);
    }
    if (options->outliers >= 0)
        snprintf(outliers, sizeof outliers, "%d", options->outliers);
    if (options->codec == KVOT_LOSSLESS)
        return batch_text("codec lossless, model %s", model);
    return batch_text("codec ott, bits %u, group %u, outliers %s, model %s", options->bits, options->group, outliers,
                      model);
}

/* The absolute path of a directory. */
static char *absolute(const char *path) {
    char *real = realpath(path, NULL), *text = batch_text("%s", real ? real : path);
    free(real);
    return text;
}

/* What must be the same for a run to go on where another stopped. A journal that is not kept where the outputs are
 * could be taken for that of others with the same names: then it says where these are. NULL after a message. */
static char *parameters_of(const batch_job *job, const char *outputs) {
    const cli_options *options = job->options;
    bool stores = job->operation == BATCH_COMPRESS || job->operation == BATCH_RECOMPRESS;
    char *against = options->against ? absolute(options->against) : NULL, *place = absolute(outputs);
    char *journal = options->journal ? absolute(options->journal) : NULL;
    char *codec = stores ? codec_of(&options->compress) : batch_text("%s", batch_operation_name(job->operation));
    bool elsewhere = journal && strcmp(journal, place) != 0;
    char *parameters = codec ? batch_text("%s%s%s%s%s", codec, against ? ", against " : "", against ? against : "",
                                          elsewhere ? ", files below " : "", elsewhere ? place : "")
                             : NULL;
    free(against);
    free(place);
    free(journal);
    free(codec);
    return parameters;
}

static bool job_open(batch_job *job, const cli_options *options, batch_operation operation) {
    *job = (batch_job){.options = options, .operation = operation, .shard = 1, .shards = 1};
    if (options->shards)
        job->shard = options->shard, job->shards = options->shards;
    job->one_tree = options->n_files == 1 && !options->list && is_directory(options->files[0]);
    const char *outputs = options->output ? options->output : job->one_tree ? options->files[0] : ".";
    const char *place = options->journal ? options->journal : operation == BATCH_VERIFY ? NULL : outputs;
    if (options->output && !batch_make_directory(options->output, NULL, 0)) {
        batch_fail("%s: cannot make it: %s", options->output, strerror(errno));
        return false;
    }
    job->directory = place ? batch_text("%s/" BATCH_DIRECTORY, place) : NULL;
    job->parameters = parameters_of(job, outputs);
    return job->parameters != NULL;
}

static void job_close(batch_job *job) {
    free(job->directory);
    free(job->parameters);
}

typedef enum decision { TO_DO, DONE_BEFORE, GONE } decision;

/* What the journal says about a file. */
static decision decide(const batch_job *job, batch_file *file, const history *history) {
    past *past = history_find(history, file->key);
    struct stat about;
    if (!past)
        return file->missing ? GONE : TO_DO;
    past->listed = true;
    char *output = batch_output(job, file);
    bool there = output && stat(output, &about) == 0, done = past->state == PAST_DONE;
    bool same_size = there && (uint64_t)about.st_size == past->output;
    /* What others have made since in place of it, or of it, is theirs. */
    file->ours = past->ours && (!done || !there || (same_size && batch_modified(&about) == past->made));
    bool replaced = job->options->in_place && job->operation == BATCH_RECOMPRESS; /* the source, by the output */
    bool same = replaced ? past->output == file->bytes && past->made == file->modified
                         : past->bytes == file->bytes && past->modified == file->modified;
    done = done && (!output || same_size) && (file->missing || same);
    free(output);
    if (!done)
        return file->missing ? GONE : TO_DO;
    file->only_removal = job->options->in_place && job->operation != BATCH_RECOMPRESS && !file->missing;
    return file->only_removal ? TO_DO : DONE_BEFORE;
}

/* Files that this journal has done and that are not there any more are still files of the run. */
static void count_gone(const history *history, const journal *journal, uint64_t *files, uint64_t *bytes) {
    for (const past *past = history->first; past && journal->number > 0; past = past->next)
        if (past->journal == journal->number && past->state == PAST_DONE && !past->listed) {
            *files += 1;
            *bytes += past->bytes;
        }
}

static uint64_t memory_of(const cli_options *options) {
    return options->memory ? options->memory : (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
}

/* Sorts out what is to do, and does it. Returns whether all of it was done. */
static bool run_files(const batch_list *list, const history *history, journal *journal, report *report) {
    const batch_job *job = list->job;
    const cli_options *options = job->options;
    work work = {.job = job, .journal = journal, .report = report};
    work.files = batch_memory(NULL, (list->count + 1) * sizeof *work.files);
    uint64_t files = 0, bytes = 0, bytes_to_do = 0, before = 0, lost = 0;
    for (size_t i = 0; i < list->count; i++) {
        batch_file *file = &list->files[i];
        if (file->shard != job->shard)
            continue;
        decision decision = decide(job, file, history);
        files++;
        bytes += file->bytes;
        before += decision == DONE_BEFORE;
        lost += decision == GONE;
        if (decision == TO_DO) {
            work.files[work.count++] = file;
            bytes_to_do += file->bytes;
        } else if (decision == GONE)
            report_failed_file(report, file->path, KVOT_E_IO, BATCH_MISSING);
    }
    qsort(work.files, work.count, sizeof *work.files, batch_by_size);
    report_begin(report, files + list->twins, bytes_to_do, before, lost + list->twins);
    if (journal)
        count_gone(history, journal, &files, &bytes);
    journal_run(journal, job, files, bytes);
    /* Large buffers that a call gives back go back to the system, not to a heap of the thread that had them. What each
     * call for a small file needs anew stays. */
    mallopt(M_MMAP_THRESHOLD, 256 << 10);
    mallopt(M_TRIM_THRESHOLD, 512 << 10);
    kvot_error error;
    bool done = kvot_pool_open(options->run.threads, memory_of(options), &work.pool, &error) == KVOT_OK;
    if (!done)
        cli_fail(&error);
    done = done && work_run(&work);
    kvot_pool_close(work.pool);
    free(work.files);
    return done;
}

static int run(const cli_options *options, batch_operation operation) {
    batch_job job;
    journal journal;
    history history = {0};
    batch_list list = {0};
    report report;
    const char *wrong = wrong_with(options, operation);
    if (wrong)
        return cli_usage(commands[operation], "%s", wrong);
    cli_catch_signals();
    if (!job_open(&job, options, operation)) {
        job_close(&job);
        return EXIT_FAILED;
    }
    int exit_code = EXIT_DONE;
    if (job.directory)
        exit_code = journal_open(&journal, &job, &history);
    if (exit_code == EXIT_DONE) {
        report_open(&report, &job);
        bool done = list_find(&list, &job, &report) && !cli_interrupted() &&
                    shard_assign(&job, list.files, list.count) &&
                    run_files(&list, &history, job.directory ? &journal : NULL, &report);
        exit_code = report_end(&report, !done);
        list_free(&list);
        if (job.directory)
            journal_close(&journal);
    }
    history_free(&history);
    job_close(&job);
    return exit_code;
}

static int compress(const cli_options *options) {
    return run(options, BATCH_COMPRESS);
}

static int restore(const cli_options *options) {
    return run(options, BATCH_RESTORE);
}

static int verify(const cli_options *options) {
    return run(options, BATCH_VERIFY);
}

static int recompress(const cli_options *options) {
    return run(options, BATCH_RECOMPRESS);
}

#define PATHS "A PATH is a directory, of which the whole tree is meant, a file, or a pattern such as 'caches/*.bin'.\n"
#define JOURNAL                                                                                                        \
    "A journal records what is done: after a crash, the same command goes on where it stopped. Files that fail are\n"  \
    "told with the reason, and stop nothing.\n"

const cli_command command_batch_compress = {
    .name = "batch compress",
    .synopsis = "[OPTIONS] -o DIR|--in-place PATH...",
    .summary = "compress all caches in trees of files",
    .help =
        "Compresses each cache NAME to NAME.kvot: with -o, at the same place below DIR; with --in-place beside it,\n"
        "and NAME is removed once NAME.kvot has been verified against it and is on disk. Files that are no caches\n"
        "are counted and left alone.\n\n" PATHS JOURNAL,
    .options = "oifE0WSJYCBGOMDTjq",
    .files = ANY_FILES,
    .run = compress,
};

const cli_command command_batch_restore = {
    .name = "batch restore",
    .synopsis = "[OPTIONS] -o DIR|--in-place PATH...",
    .summary = "restore all .kvot files in trees",
    .help =
        "Writes the engine's file NAME of each NAME.kvot: with -o, at the same place below DIR; with --in-place\n"
        "beside it, and NAME.kvot is removed once NAME has been compared with it and is on disk. " PATHS "\n" JOURNAL,
    .options = "oifE0WSJYDTjq",
    .files = ANY_FILES,
    .run = restore,
};

const cli_command command_batch_verify = {
    .name = "batch verify",
    .synopsis = "[OPTIONS] PATH...",
    .summary = "check all .kvot files in trees",
    .help = "Checks each file NAME.kvot as kvot verify does, with --against DIR also against NAME at the same place\n"
            "below DIR.\n\n" PATHS
            "A journal, with which a second run goes on where the first stopped, is kept only with --journal.\n",
    .options = "fE0WSJYATjq",
    .files = ANY_FILES,
    .run = verify,
};

const cli_command command_batch_recompress = {
    .name = "batch recompress",
    .synopsis = "[OPTIONS] -o DIR|--in-place PATH...",
    .summary = "give all .kvot files in trees other parameters",
    .help = "Makes each NAME.kvot anew: restored, compressed with other options, and verified before it takes the\n"
            "name: with -o, at the same place below DIR; with --in-place, in place of the old one, unless that has\n"
            "the codec, bits, group and outliers already. What was lost stays lost, and what is lost now comes on\n"
            "top of it: if the originals are there, compress them again.\n\n" PATHS JOURNAL,
    .options = "oifE0WSJYCBGOMDTjq",
    .files = ANY_FILES,
    .run = recompress,
};
