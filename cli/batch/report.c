#include "report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILURES_MAX = 1000 }; /* that are told one by one; the journal has all */

static const char *const names[REPORT_COUNTS] = {"done",  "done_before", "already",  "unknown",
                                                 "links", "special",     "vanished", "failed"};

void report_open(report *report, const batch_job *job) {
    *report = (struct report){.lock = PTHREAD_MUTEX_INITIALIZER, .job = job, .start = cli_now()};
    report->failures = json_array();
    report->terminal = !job->options->quiet && isatty(STDERR_FILENO);
    report->told = report->start;
}

void report_begin(report *report, uint64_t files, uint64_t bytes, uint64_t before, uint64_t missing) {
    report->files = files;
    report->bytes = bytes;
    report->finished = before + missing;
    report->counts[REPORT_DONE_BEFORE] = before;
    report->start = report->told = cli_now();
}

static void wipe(report *report) {
    if (report->shown)
        fputs("\r\x1b[K", stderr);
    report->shown = false;
}

void report_add(report *report, report_count count) {
    pthread_mutex_lock(&report->lock);
    report->counts[count]++;
    pthread_mutex_unlock(&report->lock);
}

void report_failed(report *report, const char *path, const kvot_error *error) {
    pthread_mutex_lock(&report->lock);
    uint64_t before = report->counts[REPORT_FAILED]++;
    report->device_failed |= error->status == KVOT_E_DEVICE;
    if (before < FAILURES_MAX) {
        json_array_append_new(report->failures,
                              json_pack("{s:o, s:s, s:o}", "file", cli_text(path), "status",
                                        kvot_status_name(error->status), "reason", cli_text(error->text)));
        wipe(report);
        char *line = strncmp(error->text, path, strlen(path)) == 0 ? batch_text("%s", error->text)
                                                                   : batch_text("%s: %s", path, error->text);
        cli_print_error(line);
        free(line);
    } else if (before == FAILURES_MAX) {
        wipe(report);
        fputs("kvot: more files failed, which are not told one by one\n", stderr);
    }
    pthread_mutex_unlock(&report->lock);
}

void report_failed_file(report *report, const char *path, kvot_status status, const char *format, ...) {
    kvot_error error = {.status = status};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.text, sizeof error.text, format, arguments);
    va_end(arguments);
    report_failed(report, path, &error);
}

void report_finished(report *report, uint64_t listed, uint64_t in, uint64_t out) {
    pthread_mutex_lock(&report->lock);
    report->finished++;
    report->finished_bytes += listed;
    report->bytes_in += in;
    report->bytes_out += out;
    pthread_mutex_unlock(&report->lock);
}

/* "1:02:03" */
static void print_time(double seconds) {
    unsigned long whole = seconds < 360000 ? (unsigned long)seconds : 359999;
    if (whole >= 3600)
        fprintf(stderr, "%lu:%02lu:%02lu left", whole / 3600, whole / 60 % 60, whole % 60);
    else
        fprintf(stderr, "%lu:%02lu left", whole / 60, whole % 60);
}

void report_progress(report *report, uint64_t more) {
    double now = cli_now(), seconds = now - report->start;
    if (report->job->options->quiet || now - report->told < (report->terminal ? 0.2 : 30))
        return;
    pthread_mutex_lock(&report->lock);
    uint64_t done = report->finished_bytes + more;
    double rate = (double)done / seconds;
    fprintf(stderr, "%s%s: %llu of %llu files, %s of %s, %s/s", report->terminal ? "\r" : "",
            batch_operation_name(report->job->operation), (unsigned long long)report->finished,
            (unsigned long long)report->files, cli_bytes(done), cli_bytes(report->bytes), cli_bytes((uint64_t)rate));
    if (report->bytes_out > 0)
        fprintf(stderr, ", ratio %.2f", (double)report->bytes_in / (double)report->bytes_out);
    if (report->counts[REPORT_FAILED] > 0)
        fprintf(stderr, ", %llu failed", (unsigned long long)report->counts[REPORT_FAILED]);
    fputs(", ", stderr);
    if (done > 0)
        print_time(report->bytes > done ? (double)(report->bytes - done) / rate : 0);
    fputs(report->terminal ? "\x1b[K" : "\n", stderr);
    report->shown = report->terminal;
    report->told = now;
    pthread_mutex_unlock(&report->lock);
}

static json_t *summary(report *report, double seconds) {
    const batch_job *job = report->job;
    char shard[32];
    snprintf(shard, sizeof shard, "%u/%u", job->shard, job->shards);
    json_t *root =
        json_pack("{s:s, s:o, s:o, s:I}", "operation", batch_operation_name(job->operation), "shard",
                  job->options->shards ? json_string(shard) : json_null(), "journal",
                  job->directory ? cli_text(job->directory) : json_null(), "files", (json_int_t)report->files);
    for (int i = 0; i < REPORT_COUNTS; i++)
        json_object_set_new(root, names[i], json_integer((json_int_t)report->counts[i]));
    json_object_set_new(root, "bytes_in", json_integer((json_int_t)report->bytes_in));
    json_object_set_new(root, "bytes_out", json_integer((json_int_t)report->bytes_out));
    json_object_set_new(root, "ratio", cli_real((double)report->bytes_in / (double)report->bytes_out));
    json_object_set_new(root, "seconds", json_real(seconds));
    json_object_set(root, "failures", report->failures);
    return root;
}

static void print_summary(const report *report, double seconds) {
    static const char *const texts[REPORT_COUNTS] = {
        "done",     "done before", "already so", "of no known kind", "symbolic links", "neither file nor directory",
        "vanished", "failed"};
    fprintf(stderr, "%s: ", batch_operation_name(report->job->operation));
    for (int i = 0; i < REPORT_COUNTS; i++)
        if (i == REPORT_DONE || report->counts[i] > 0)
            fprintf(stderr, "%s%llu %s", i == REPORT_DONE ? "" : ", ", (unsigned long long)report->counts[i], texts[i]);
    fprintf(stderr, "; %s", cli_bytes(report->bytes_in));
    if (report->bytes_out > 0)
        fprintf(stderr, " -> %s, ratio %.2f", cli_bytes(report->bytes_out),
                (double)report->bytes_in / (double)report->bytes_out);
    fprintf(stderr, ", %.1f s\n", seconds);
}

int report_end(report *report, bool stopped) {
    const batch_job *job = report->job;
    double seconds = cli_now() - report->start;
    wipe(report);
    int exit_code = report->device_failed                          ? EXIT_DEVICE
                    : stopped || report->counts[REPORT_FAILED] > 0 ? EXIT_FAILED
                                                                   : EXIT_DONE;
    if (!job->options->quiet)
        print_summary(report, seconds);
    if (cli_interrupted())
        fputs(job->directory ? "kvot: stopped; the same command goes on from here\n" : "kvot: stopped\n", stderr);
    if (job->options->json && cli_print_json(summary(report, seconds)) != EXIT_DONE)
        exit_code = EXIT_FAILED;
    json_decref(report->failures);
    return exit_code;
}
