#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct option_help {
    char letter; /* long options without a short form have a capital that getopt never sees */
    const char *name;
    const char *value; /* NULL: takes none */
    const char *help;
    bool short_form;
} option_help;

static const option_help table[] = {
    {'o', "output", "OUT", "write there; - is standard output", true},
    {'i', "in-place", NULL, "write beside each file, and then remove it, or replace it", false},
    {'f', "force", NULL, "replace a file that exists", true},
    {'P', "append", "OUT.kvot", "add what is new in IN to the .kvot file of an earlier state of it", false},
    {'C', "codec", "CODEC", "ott (outlier tokens exact, the rest quantized; default) or lossless", false},
    {'B', "bits", "N", "ott: bits a value, 2, 3, 4 or 8 (default 4)", false},
    {'G', "group", "N", "ott: values that share a scale, 32, 64 or 128 (default 64)", false},
    {'O', "outliers", "auto|N",
     "ott: exact rows; auto chooses inside each chunk (default), N keeps that many of each layer and head", false},
    {'M', "model", "FILE.gguf", "the model that made the cache: its KV heads and identity", false},
    {'N', "tokens", "N", "the first N tokens only, for a prompt that begins with them", false},
    {'L', "layers", "A:B", "layers A to B - 1 of each section only, to look at them", false},
    {'A', "against", "ORIGINAL", "also prove that a restore gives this file", false},
    {'E', "list", "FILE", "more paths, one a line; - is standard input", false},
    {'0', "null", NULL, "in --list, a zero byte ends each path", true},
    {'W', "follow-links", NULL, "follow symbolic links (default: they are left alone)", false},
    {'S', "shard", "I/N", "only part I of N, for N runs side by side", false},
    {'J', "journal", "DIR", "where the journal lies (default: in the output directory or the tree)", false},
    {'Y', "memory", "SIZE", "memory to use, as in 500M or 4G (default: a quarter of the machine's)", false},
    {'R', "original", "RAW", "the engine's file that FILE.kvot was made of (default: it is restored first)", false},
    {'F', "prefill", "TOK/S", "how fast the model reads a prompt: says from which length on restoring is quicker",
     false},
    {'D', "device", "DEVICE", "what quantizes and decodes: cpu, cuda:N, or auto (the default: cpu for files)", false},
    {'T', "threads", "N", "threads (default: one for each processor)", true},
    {'j', "json", NULL, "print the result as JSON on standard output", false},
    {'q', "quiet", NULL, "print errors only", true},
    {'h', "help", NULL, "print this", true},
};
/* What means something else in kvot batch. */
static const option_help batch_table[] = {
    {'o', "output", "DIR", "write to this directory, each file at the place that it has in its tree", true},
    {'f', "force", NULL, "replace files that exist; do again what was done with other parameters", true},
    {'A', "against", "DIR", "also prove that restores give the files in this directory", false},
};
enum { N_OPTIONS = sizeof table / sizeof *table, SHARDS_MAX = 100000 };

static bool takes(const cli_command *command, const option_help *option) {
    return option->letter == 'h' || strchr(command->options, option->letter) != NULL;
}

/* What help says about the option that is table[i]. */
static const option_help *help_of(const cli_command *command, int i) {
    bool batch = strncmp(command->name, "batch ", 6) == 0;
    for (size_t b = 0; batch && b < sizeof batch_table / sizeof *batch_table; b++)
        if (batch_table[b].letter == table[i].letter)
            return &batch_table[b];
    return &table[i];
}

void cli_help(const cli_command *command) {
    printf("Usage: kvot %s %s\n\n%s\nOptions:\n", command->name, command->synopsis, command->help);
    for (int i = 0; i < N_OPTIONS; i++) {
        const option_help *option = help_of(command, i);
        if (!takes(command, option))
            continue;
        char left[40];
        int n = option->short_form ? snprintf(left, sizeof left, "-%c, --%s", option->letter, option->name)
                                   : snprintf(left, sizeof left, "    --%s", option->name);
        if (option->value)
            snprintf(left + n, sizeof left - (size_t)n, " %s", option->value);
        printf("  %-24s %s\n", left, option->help);
    }
}

int cli_usage(const cli_command *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("kvot: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (command)
        fprintf(stderr, "\nUsage: kvot %s %s (kvot %s --help tells more)\n", command->name, command->synopsis,
                command->name);
    else
        fputs("\nkvot --help lists the commands\n", stderr);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, long low, long high, long *value) {
    char *end;
    errno = 0;
    *value = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && *value >= low && *value <= high;
}

static bool parse_rate(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == 0 && *value > 0 && *value < 1e12;
}

/* "A:B" */
static bool parse_layers(const char *text, kvot_restore_options *options) {
    char first[24];
    const char *colon = strchr(text, ':');
    long a, b;
    if (!colon || (size_t)(colon - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(colon - text));
    first[colon - text] = 0;
    if (!parse_number(first, 0, INT_MAX, &a) || !parse_number(colon + 1, 1, INT_MAX, &b) || a >= b)
        return false;
    options->first_layer = (unsigned)a;
    options->end_layer = (unsigned)b;
    return true;
}

/* "I/N" */
static bool parse_shard(const char *text, cli_options *options) {
    int end = 0;
    return strspn(text, "0123456789/") == strlen(text) &&
           sscanf(text, "%6u/%6u%n", &options->shard, &options->shards, &end) == 2 && text[end] == 0 &&
           options->shard >= 1 && options->shard <= options->shards && options->shards <= SHARDS_MAX;
}

/* "512M" */
static bool parse_size(const char *text, uint64_t *value) {
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    *value = (uint64_t)number << shift;
    return errno == 0 && *text >= '0' && *text <= '9' && (*end == 0 || (unit && end[1] == 0)) && number > 0 &&
           *value >> shift == number && *value <= INT64_MAX;
}

/* Takes one option's value. Returns what is wrong with it, or NULL. */
static const char *take(cli_options *options, char letter, const char *value) {
    long number;
    switch (letter) {
    case 'o':
        options->output = value;
        return NULL;
    case 'f':
        options->run.overwrite = true;
        return NULL;
    case 'P':
        options->append = value;
        return NULL;
    case 'C':
        if (strcmp(value, "ott") != 0 && strcmp(value, "lossless") != 0)
            return "must be ott or lossless";
        options->compress.codec = *value == 'o' ? KVOT_OTT : KVOT_LOSSLESS;
        return NULL;
    case 'B':
        if (!parse_number(value, 2, 8, &number) || (number > 4 && number < 8))
            return "must be 2, 3, 4 or 8";
        options->compress.bits = (unsigned)number;
        return NULL;
    case 'G':
        if (!parse_number(value, 32, 128, &number) || (number != 32 && number != 64 && number != 128))
            return "must be 32, 64 or 128";
        options->compress.group = (unsigned)number;
        return NULL;
    case 'O':
        if (strcmp(value, "auto") == 0)
            number = KVOT_OUTLIERS_AUTO;
        else if (!parse_number(value, 0, KVOT_OUTLIERS_MAX, &number))
            return "must be auto or a number from 0 to 256";
        options->compress.outliers = (int)number;
        return NULL;
    case 'M':
        options->compress.model_path = value;
        return NULL;
    case 'N':
        if (!parse_number(value, 1, LONG_MAX, &number))
            return "must be a number of tokens, at least 1";
        options->restore.tokens = (uint64_t)number;
        return NULL;
    case 'L':
        return parse_layers(value, &options->restore) ? NULL : "must be A:B, two numbers of layers, the first lower";
    case 'A':
        options->against = value;
        return NULL;
    case 'R':
        options->original = value;
        return NULL;
    case 'F':
        return parse_rate(value, &options->prefill) ? NULL : "must be a number of tokens a second";
    case 'D':
        if (strcmp(value, "auto") != 0 && strcmp(value, "cpu") != 0 &&
            (strncmp(value, "cuda:", 5) != 0 || !parse_number(value + 5, 0, INT_MAX, &number)))
            return "must be auto, cpu or cuda:N";
        options->run.device = value;
        return NULL;
    case 'T':
        if (!parse_number(value, 1, 1024, &number))
            return "must be a number from 1 to 1024";
        options->run.threads = (unsigned)number;
        return NULL;
    case 'i':
        options->in_place = true;
        return NULL;
    case 'E':
        options->list = value;
        return NULL;
    case '0':
        options->null = true;
        return NULL;
    case 'W':
        options->follow_links = true;
        return NULL;
    case 'S':
        return parse_shard(value, options) ? NULL : "must be I/N, from 1/N to N/N, N at most 100000";
    case 'J':
        options->journal = value;
        return NULL;
    case 'Y':
        return parse_size(value, &options->memory) ? NULL : "must be a number of bytes, or one with K, M or G";
    case 'j':
        options->json = true;
        return NULL;
    default:
        options->quiet = true;
        return NULL;
    }
}

static const char *name_of(char letter) {
    int i = 0;
    while (table[i].letter != letter)
        i++;
    return table[i].name;
}

bool cli_parse(const cli_command *command, int argc, char **argv, cli_options *options, int *exit_code) {
    struct option long_options[N_OPTIONS + 1] = {0};
    char short_options[2 * N_OPTIONS + 2] = ":", *end = short_options + 1;
    for (int i = 0, n = 0; i < N_OPTIONS; i++) {
        if (!takes(command, &table[i]))
            continue;
        long_options[n++] =
            (struct option){table[i].name, table[i].value ? required_argument : no_argument, NULL, table[i].letter};
        if (table[i].short_form)
            end = stpcpy(end, (char[]){table[i].letter, table[i].value ? ':' : 0, 0});
    }
    *options = (cli_options){.compress = kvot_compress_defaults()};
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, short_options, long_options, NULL)) != -1;) {
        if (letter == 'h') {
            cli_help(command);
            *exit_code = EXIT_DONE;
            return false;
        }
        if (letter == '?' || letter == ':') {
            char short_form[] = {'-', (char)optopt, 0};
            const char *name = strncmp(argv[optind - 1], "--", 2) == 0 ? argv[optind - 1] : short_form;
            *exit_code = cli_usage(command, letter == ':' ? "%s wants a value" : "there is no option %s", name);
            return false;
        }
        const char *wrong = take(options, (char)letter, optarg);
        if (letter == 'C')
            options->codec_given = true;
        if (letter == 'B' || letter == 'G' || letter == 'O')
            options->ott_option = letter == 'B' ? "--bits" : letter == 'G' ? "--group" : "--outliers";
        if (wrong) {
            *exit_code = cli_usage(command, "--%s '%s' %s", name_of((char)letter), optarg, wrong);
            return false;
        }
    }
    options->n_files = argc - optind;
    if (command->files != ANY_FILES && options->n_files != command->files) {
        *exit_code = cli_usage(command, "%s wants %d file%s, not %d", command->name, command->files,
                               command->files == 1 ? "" : "s", options->n_files);
        return false;
    }
    options->files = argv + optind;
    return true;
}
