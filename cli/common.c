#include "cli.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void print_text(const char *text, const char *end) {
    fputs("kvot: ", stderr);
    for (const char *c = text; *c; c++) /* a file's name may hold anything */
        fputc((unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c, stderr);
    fputs(end, stderr);
}

void cli_print_error(const char *text) {
    print_text(text, "\n");
}

int cli_fail(const kvot_error *error) {
    cli_progress_end();
    print_text(error->text, error->status == KVOT_E_EXISTS ? " (-f replaces it)\n" : "\n");
    switch (error->status) {
    case KVOT_E_ARGUMENT:
        return EXIT_USAGE;
    case KVOT_E_UNKNOWN:
    case KVOT_E_DAMAGED:
    case KVOT_E_UNSUPPORTED:
        return EXIT_BAD_FILE;
    case KVOT_E_DEVICE:
        return EXIT_DEVICE;
    default:
        return EXIT_FAILED;
    }
}

double cli_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

const char *cli_bytes(uint64_t bytes) {
    static char buffers[4][24];
    static int next;
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
    char *text = buffers[next++ % 4];
    double value = (double)bytes;
    int unit = 0;
    while (value >= 999.95 && unit < 5) {
        value /= 1000;
        unit++;
    }
    snprintf(text, sizeof buffers[0], unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

char *cli_replace_suffix(const char *path, const char *suffix, const char *with) {
    size_t n = strlen(path), cut = strlen(suffix);
    if (n < cut || (cut > 0 && n == cut) || strcmp(path + n - cut, suffix) != 0)
        return NULL;
    char *text = malloc(n - cut + strlen(with) + 1);
    if (text) {
        memcpy(text, path, n - cut);
        strcpy(text + n - cut, with);
    }
    return text;
}

const char *cli_name(const char *path, const char *standard) {
    return strcmp(path, "-") == 0 ? standard : path;
}

static _Atomic bool interrupted; /* the handler runs on any thread, and all of them ask */
static double started, shown;
static const char *showing; /* NULL: no terminal, or asked to be quiet */

static void interrupt(int signal) {
    (void)signal;
    interrupted = true;
}

static bool progress(void *user, uint64_t done, uint64_t total) {
    (void)user;
    double now = cli_now();
    if (showing && total > 0 && now - shown >= 0.1 && now - started >= 0.3) {
        enum { WIDTH = 30 };
        char bar[WIDTH + 1] = {0};
        double share = (double)done / (double)total;
        memset(bar, ' ', WIDTH);
        memset(bar, '#', (size_t)(share * WIDTH));
        fprintf(stderr, "\r%s [%s] %3.0f %%  %s/s ", showing, bar, 100 * share,
                cli_bytes((uint64_t)((double)done / (now - started))));
        shown = now;
    }
    return interrupted;
}

void cli_catch_signals(void) {
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool cli_interrupted(void) {
    return interrupted;
}

void cli_progress_start(const cli_options *options, kvot_run *run, const char *verb) {
    cli_catch_signals();
    *run = options->run;
    run->progress = progress;
    started = cli_now();
    shown = 0;
    showing = !options->quiet && isatty(STDERR_FILENO) ? verb : NULL;
}

void cli_progress_end(void) {
    if (showing && shown > 0)
        fputs("\r\x1b[K", stderr);
    showing = NULL;
}

const char *cli_kind(kvot_kind kind) {
    static const char *const names[] = {"K", "V", "state"};
    return names[kind];
}

json_t *cli_text(const char *text) {
    json_t *value = json_string(text);
    char *plain = value ? NULL : strdup(text);
    if (!plain)
        return value;
    for (char *c = plain; *c; c++)
        *c = (unsigned char)*c < 0x80 ? *c : '?';
    value = json_string(plain);
    free(plain);
    return value;
}

json_t *cli_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

int cli_print_json(json_t *value) {
    if (!value) {
        fputs("kvot: out of memory\n", stderr);
        return EXIT_FAILED;
    }
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(value);
    return EXIT_DONE; /* main looks whether standard output took it */
}
