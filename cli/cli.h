/* What the commands share: options, exit codes, progress, output for people and for programs. */
#ifndef KVOT_CLI_H
#define KVOT_CLI_H

#include "kvot.h"

#include <jansson.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_BAD_FILE = 3, EXIT_DEVICE = 4 };

enum { ANY_FILES = -1 };

/* Every option that any command has; a command names the ones it takes. */
typedef struct cli_options {
    kvot_compress_options compress;
    kvot_restore_options restore;
    kvot_run run;
    const char *output;
    const char *append;
    const char *against, *original;
    double prefill; /* tokens a second; 0: not given */
    bool json, quiet;
    bool codec_given;
    const char *ott_option; /* name of the last option that is for ott only, or NULL */
    bool in_place, follow_links, null;
    const char *list, *journal;
    unsigned shard, shards; /* 0: not given */
    uint64_t memory;        /* bytes; 0: not given */
    char **files;
    int n_files;
} cli_options;

typedef struct cli_command {
    const char *name; /* one word or two */
    const char *synopsis;
    const char *summary; /* one line, for the list of commands */
    const char *help;    /* more than that, ends in a newline */
    const char *options; /* letters of options.c that it takes */
    int files;           /* how many it wants; ANY_FILES: that is its own affair */
    int (*run)(const cli_options *options);
} cli_command;

extern const cli_command command_compress, command_restore, command_inspect, command_verify, command_diff,
    command_bench, command_batch_compress, command_batch_restore, command_batch_verify, command_batch_recompress,
    command_batch_status;

/* Parses a command's arguments. Returns false after a message, or after help was asked for; `*exit_code` then says how
 * to end. */
bool cli_parse(const cli_command *command, int argc, char **argv, cli_options *options, int *exit_code);
void cli_help(const cli_command *command);

/* Prints "kvot: what went wrong" and returns the exit code for it. */
int cli_fail(const kvot_error *error);

/* The same without a status. Control characters become '?'. */
void cli_print_error(const char *text);
int cli_usage(const cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Progress on a terminal, and SIGINT and SIGTERM, which end the call so that it can clean up. Give the result to a
 * kvot_run; cli_progress_end wipes the line. */
void cli_progress_start(const cli_options *options, kvot_run *run, const char *verb);
void cli_progress_end(void);

/* What cli_progress_start does about signals, and whether one came. */
void cli_catch_signals(void);
bool cli_interrupted(void);

/* Seconds since some moment that does not change. */
double cli_now(void);

/* "47.2 MB" in one of a few static buffers. */
const char *cli_bytes(uint64_t bytes);

/* `path` with `with` in place of its last part `suffix`; NULL if it does not end in that, or has nothing before it, or
 * memory is out. To be freed. */
char *cli_replace_suffix(const char *path, const char *suffix, const char *with);

/* "standard input" or "standard output" for "-". */
const char *cli_name(const char *path, const char *standard);

/* A file's name; bytes that JSON cannot hold become '?'. */
json_t *cli_text(const char *text);

/* "K", "V" or "state". */
const char *cli_kind(kvot_kind kind);

/* A number, or null where it is not finite. */
json_t *cli_real(double value);

/* Prints and frees. */
int cli_print_json(json_t *value);

#endif
