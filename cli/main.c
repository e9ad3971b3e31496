#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const cli_command *const commands[] = {&command_compress,         &command_restore,       &command_inspect,
                                              &command_verify,           &command_diff,          &command_bench,
                                              &command_batch_compress,   &command_batch_restore, &command_batch_verify,
                                              &command_batch_recompress, &command_batch_status,  NULL};

/* How many arguments `command`'s name is; 0 if it is another. */
static int names(int argc, char **argv, const cli_command *command) {
    const char *second = strchr(command->name, ' ');
    size_t first = second ? (size_t)(second - command->name) : strlen(command->name);
    if (strlen(argv[1]) != first || strncmp(argv[1], command->name, first) != 0)
        return 0;
    if (!second)
        return 1;
    return argc > 2 && strcmp(argv[2], second + 1) == 0 ? 2 : 0;
}

static void list_commands(const char *start) {
    for (const cli_command *const *command = commands; *command; command++)
        if (strncmp((*command)->name, start, strlen(start)) == 0)
            printf("  %-17s %s\n", (*command)->name, (*command)->summary);
}

static int batch_help(int exit_code) {
    puts("Usage: kvot batch COMMAND [OPTIONS] PATH...\n\nCommands:");
    list_commands("batch ");
    puts("\nkvot batch COMMAND --help tells more.");
    return exit_code;
}

static void help(void) {
    puts("kvot makes the prefix KV caches that LLM engines save small, and gives them back.\n\n"
         "Usage: kvot COMMAND [OPTIONS] FILE...\n\nCommands:");
    list_commands("");
    puts("\nkvot COMMAND --help tells more. - is standard input or output.\n"
         "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not a file that is known, or a damaged one,\n"
         "4 the device asked for is not there, or failed.");
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        help();
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help();
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("kvot %s\n", kvot_version());
        return EXIT_DONE;
    }
    for (const cli_command *const *command = commands; *command; command++) {
        cli_options options;
        int exit_code, words = names(argc, argv, *command);
        if (words > 0)
            return cli_parse(*command, argc - words, argv + words, &options, &exit_code) ? (*command)->run(&options)
                                                                                         : exit_code;
    }
    bool batch = strcmp(argv[1], "batch") == 0;
    if (batch && argc < 3)
        return batch_help(EXIT_USAGE);
    if (batch && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
        return batch_help(EXIT_DONE);
    return cli_usage(NULL, "there is no command %s%s", batch ? "batch " : "", argv[batch ? 2 : 1]);
}

int main(int argc, char **argv) {
    /* A closed pipe and a file that grows too large are errors like any other. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int exit_code = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("kvot: standard output: cannot write\n", stderr);
        exit_code = exit_code == EXIT_DONE ? EXIT_FAILED : exit_code;
    }
    return exit_code;
}
