#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(const cli_options *options) {
    const char *input = options->files[0], *output = options->output;
    char *named = NULL;
    if (!output && strcmp(input, "-") == 0)
        output = "-";
    if (!output)
        output = named = cli_replace_suffix(input, ".kvot", "");
    if (!output)
        return cli_usage(&command_restore, "%s does not end in .kvot: say with -o where to write", input);
    if (options->json && strcmp(output, "-") == 0)
        return cli_usage(&command_restore, "--json and the result cannot both go to standard output");
    kvot_run how;
    kvot_sizes sizes;
    kvot_error error;
    cli_progress_start(options, &how, "restore");
    double start = cli_now();
    if (kvot_restore(input, output, &options->restore, &how, &sizes, &error) != KVOT_OK) {
        free(named);
        return cli_fail(&error);
    }
    cli_progress_end();
    double seconds = cli_now() - start;
    bool part = options->restore.tokens > 0 || options->restore.end_layer > 0;
    int exit_code = EXIT_DONE;
    if (options->json)
        exit_code = cli_print_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:f}", "input", cli_text(input), "output",
                                             cli_text(output), "original_bytes", (json_int_t)sizes.original_bytes,
                                             "stored_bytes", (json_int_t)sizes.stored_bytes, "bytes_read",
                                             (json_int_t)sizes.bytes_read, "bytes_written",
                                             (json_int_t)sizes.bytes_written, "seconds", seconds));
    else if (!options->quiet)
        fprintf(stderr, "%s: %s%s%s -> %s, %.2f s\n", cli_name(output, "standard output"),
                part ? cli_bytes(sizes.bytes_read) : "", part ? " of " : "", cli_bytes(sizes.stored_bytes),
                cli_bytes(sizes.bytes_written), seconds);
    free(named);
    return exit_code;
}

const cli_command command_restore = {
    .name = "restore",
    .synopsis = "[OPTIONS] IN.kvot",
    .summary = "give the engine its file back",
    .help = "Writes the engine's cache file again, to IN or to what -o says. What was compressed without loss comes\n"
            "back bit for bit; quantized K and V come back in the same places.\n\n"
            "With --tokens N it is the file of the first N tokens, for a prompt that begins with them; only what that\n"
            "needs of IN.kvot is read. Models with a sliding window or recurrent state can go on only from where\n"
            "the state is known: while nothing has left the window, and where the server took a checkpoint.\n"
            "With --layers A:B the other layers are left out, counted from 0 in each section as inspect prints them.\n"
            "That is for looking at a few layers of a large cache: kvot reads such a file, but no engine does.\n",
    .options = "ofNLDTjq",
    .files = 1,
    .run = run,
};
