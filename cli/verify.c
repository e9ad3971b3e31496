#include "cli.h"

#include <stdio.h>

static int run(const cli_options *options) {
    kvot_run how;
    kvot_error error;
    uint64_t leftover;
    const char *name = cli_name(options->files[0], "standard input");
    cli_progress_start(options, &how, "verify");
    if (kvot_verify(options->files[0], options->against, &how, &leftover, &error) != KVOT_OK)
        return cli_fail(&error);
    cli_progress_end();
    if (options->json)
        return cli_print_json(json_pack("{s:o, s:b, s:o, s:I}", "file", cli_text(options->files[0]), "good", 1,
                                        "against", options->against ? cli_text(options->against) : json_null(),
                                        "leftover_bytes", (json_int_t)leftover));
    if (!options->quiet)
        fprintf(stderr, options->against ? "%s: whole, and restores %s\n" : "%s: whole\n", name, options->against);
    if (leftover > 0) /* also with -q: what was to be appended is not there */
        fprintf(stderr, "%s: %llu bytes behind the end of the cache are left from an interrupted append\n", name,
                (unsigned long long)leftover);
    return EXIT_DONE;
}

const cli_command command_verify = {
    .name = "verify",
    .synopsis = "[OPTIONS] FILE.kvot",
    .summary = "check that a .kvot file is whole",
    .help =
        "Checks every checksum and decodes everything. With --against ORIGINAL it also proves that a restore gives\n"
        "that file: bit for bit in all that is stored without loss, and with exactly the loss that was measured\n"
        "when the file was made in the rest. Where an append was interrupted, the cache as it was before is whole:\n"
        "the exit code is 0, and a line says how many bytes behind it are left.\n",
    .options = "ATjq",
    .files = 1,
    .run = run,
};
