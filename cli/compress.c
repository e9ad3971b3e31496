#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int append(const cli_options *options) {
    const char *input = options->files[0], *output = options->append;
    if (options->output || options->run.overwrite)
        return cli_usage(&command_compress, "--append names the file itself: %s is not for it",
                         options->output ? "--output" : "--force");
    if (options->codec_given || options->ott_option)
        return cli_usage(&command_compress, "--append goes on as the file was made: %s is not for it",
                         options->codec_given ? "--codec" : options->ott_option);
    kvot_run how;
    kvot_append_result result;
    kvot_error error;
    cli_progress_start(options, &how, "append");
    double start = cli_now();
    if (kvot_append(input, output, options->compress.model_path, &how, &result, &error) != KVOT_OK)
        return cli_fail(&error);
    cli_progress_end();
    const kvot_sizes *sizes = &result.sizes;
    double seconds = cli_now() - start, ratio = (double)sizes->original_bytes / (double)sizes->stored_bytes;
    if (options->json)
        return cli_print_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:f}", "input", cli_text(input),
                                        "output", cli_text(output), "original_bytes", (json_int_t)sizes->original_bytes,
                                        "stored_bytes", (json_int_t)sizes->stored_bytes, "quantized_bytes",
                                        (json_int_t)sizes->quantized_bytes, "ratio", ratio, "written_bytes",
                                        (json_int_t)result.written_bytes, "kept_chunks", (json_int_t)result.kept_chunks,
                                        "new_chunks", (json_int_t)result.new_chunks, "seconds", seconds));
    if (!options->quiet && result.written_bytes == 0)
        fprintf(stderr, "%s: holds all of %s already, left as it is\n", output, input);
    else if (!options->quiet)
        fprintf(stderr, "%s: %s appended, %llu chunks kept, %llu new; %s -> %s, %.2f times smaller, %.2f s\n", output,
                cli_bytes(result.written_bytes), (unsigned long long)result.kept_chunks,
                (unsigned long long)result.new_chunks, cli_bytes(sizes->original_bytes), cli_bytes(sizes->stored_bytes),
                ratio, seconds);
    return EXIT_DONE;
}

static int run(const cli_options *options) {
    const char *input = options->files[0], *output = options->output;
    char *named = NULL;
    if (options->append)
        return append(options);
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
    .help =
        "Compresses the KV cache file IN to IN.kvot. IN is a session, sequence or slot file of llama.cpp.\n"
        "K and V of type f32, f16 and bf16 are quantized; all else is kept without loss.\n"
        "With --append OUT.kvot, IN is a longer state of the conversation that OUT.kvot holds: only what is new is\n"
        "compressed, as OUT.kvot was, and written behind what it holds. With nothing new, OUT.kvot is left as it is.\n",
    .options = "ofPCBGOMDTjq",
    .files = 1,
    .run = run,
};
