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
        output = named = cli_replace_suffix(input, "", ".kvot");
    if (!output)
        return cli_fail(&(kvot_error){KVOT_E_MEMORY, "out of memory"});
    if (options->ott_option && options->compress.codec == KVOT_LOSSLESS)
        return cli_usage(&command_compress, "%s is for --codec ott", options->ott_option);
    if (options->json && strcmp(output, "-") == 0)
        return cli_usage(&command_compress, "--json and the result cannot both go to standard output");
    kvot_run how;
    kvot_sizes sizes;
    kvot_error error;
    cli_progress_start(options, &how, "compress");
    double start = cli_now();
    if (kvot_compress(input, output, &options->compress, &how, &sizes, &error) != KVOT_OK) {
        free(named);
        return cli_fail(&error);
    }
    cli_progress_end();
    double seconds = cli_now() - start, ratio = (double)sizes.original_bytes / (double)sizes.stored_bytes;
    int exit_code = EXIT_DONE;
    if (options->json)
        exit_code = cli_print_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:f, s:f}", "input", cli_text(input), "output",
                                             cli_text(output), "original_bytes", (json_int_t)sizes.original_bytes,
                                             "stored_bytes", (json_int_t)sizes.stored_bytes, "quantized_bytes",
                                             (json_int_t)sizes.quantized_bytes, "ratio", ratio, "seconds", seconds));
    else if (!options->quiet)
        fprintf(stderr, "%s: %s -> %s, %.2f times smaller, %.2f s%s\n", cli_name(output, "standard output"),
                cli_bytes(sizes.original_bytes), cli_bytes(sizes.stored_bytes), ratio, seconds,
                options->compress.codec == KVOT_OTT && sizes.quantized_bytes == 0
                    ? "\nnothing in it is of type f32, f16 or bf16: all was kept without loss"
                    : "");
    free(named);
    return exit_code;
}

const cli_command command_compress = {
    .name = "compress",
    .synopsis = "[OPTIONS] IN",
    .summary = "make an engine's cache file small",
    .help = "Compresses the KV cache file IN to IN.kvot. IN is a session, sequence or slot file of llama.cpp.\n"
            "K and V of type f32, f16 and bf16 are quantized; all else is kept without loss.\n",
    .options = "ofCBGOMDTjq",
    .files = 1,
    .run = run,
};
