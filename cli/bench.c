#include "cli.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a user wants to know: is it worth it for my prompts? Restoring `n` tokens takes as long as the first chunk of
 * all layers, and then in proportion. */
typedef struct worth {
    double restored;   /* tokens a second, cold */
    double prefill;    /* tokens a second, from the user; 0: not given */
    double break_even; /* tokens of a prompt from which on restoring is quicker; infinite: never */
} worth;

static worth find_worth(const kvot_bench_result *result, double prefill) {
    worth worth = {.restored = (double)result->tokens / result->cold.restore, .prefill = prefill};
    double start = result->start, covered = (double)result->start_tokens;
    double more = (double)result->tokens - covered;
    double slope = more > 0 && result->cold.restore > start ? (result->cold.restore - start) / more : 0;
    if (prefill <= 0)
        return worth;
    if (start * prefill <= covered)
        worth.break_even = ceil(start * prefill);
    else
        worth.break_even = slope * prefill < 1 ? ceil((start - covered * slope) / (1 / prefill - slope)) : INFINITY;
    return worth;
}

static json_t *stages_json(const kvot_stages *stages) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:i, s:s}", "seconds", stages->seconds, "waiting",
                     stages->waiting, "copying", stages->copying, "working", stages->working, "disk_idle",
                     stages->disk_idle, "disk_starved", stages->disk_starved, "direct_bytes",
                     (json_int_t)stages->direct_bytes, "copied_bytes", (json_int_t)stages->copied_bytes, "threads",
                     (int)stages->threads, "reader", stages->direct_bytes > 0 ? "io_uring" : "pread");
}

static json_t *pass_json(const kvot_bench_pass *pass) {
    return json_pack("{s:{s:f, s:o, s:f, s:f, s:f}, s:f, s:f, s:f, s:f, s:o}", "seconds", "buffered", pass->buffered,
                     "direct", pass->direct > 0 ? json_real(pass->direct) : json_null(), "zstd", pass->zstd, "restore",
                     pass->restore, "first_layer", pass->first_layer, "disk_limit_seconds", pass->disk_limit,
                     "decode_limit_seconds", pass->decode_limit, "limit_seconds", pass->limit, "share_of_limit",
                     pass->share, "stages", stages_json(&pass->stages));
}

static int print_json(const cli_options *options, const kvot_bench_result *result) {
    worth worth = find_worth(result, options->prefill);
    json_t *root = json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:o, s:o}", "file", cli_text(options->files[0]),
        "original_bytes", (json_int_t)result->original_bytes, "stored_bytes", (json_int_t)result->stored_bytes,
        "zstd_bytes", (json_int_t)result->zstd_bytes, "decoded_bytes", (json_int_t)result->decoded_bytes, "tokens",
        (json_int_t)result->tokens, "layers", (json_int_t)result->layers, "start_seconds", result->start,
        "start_tokens", (json_int_t)result->start_tokens, "tokens_per_second", worth.restored, "cold",
        pass_json(&result->cold), "warm", pass_json(&result->warm));
    if (root && worth.prefill > 0) {
        json_object_set_new(root, "prefill_tokens_per_second", json_real(worth.prefill));
        json_object_set_new(root, "break_even_tokens", cli_real(worth.break_even));
    }
    return cli_print_json(root);
}

static void print_row(const char *what, double cold, double warm, double bytes) {
    if (cold > 0)
        printf("%-44s %8.3f s %10s/s %8.3f s %10s/s\n", what, cold, cli_bytes((uint64_t)(bytes / cold)), warm,
               cli_bytes((uint64_t)(bytes / warm)));
    else
        printf("%-44s %10s\n", what, "refused");
}

static void print_stages(const char *name, const kvot_bench_pass *pass) {
    const kvot_stages *stages = &pass->stages;
    double threads = stages->threads;
    printf(
        "%s: %.4f s, %.2f times the limit\n"
        "  limit %.4f s: the larger of reading, %.4f s, and decoding on all cores, %.4f s\n"
        "  %u threads, of which each waited for reads %.4f s, copied from the page cache %.4f s, decoded %.4f s\n"
        "  %s read with O_DIRECT, %s otherwise; the disk had nothing to do for %.4f s, no buffer to fill for %.4f s\n",
        name, stages->seconds, pass->share, pass->limit, pass->disk_limit, pass->decode_limit, stages->threads,
        stages->waiting / threads, stages->copying / threads, stages->working / threads,
        cli_bytes(stages->direct_bytes), cli_bytes(stages->copied_bytes), stages->disk_idle, stages->disk_starved);
}

static void print(const cli_options *options, const kvot_bench_result *result) {
    const kvot_bench_pass *cold = &result->cold, *warm = &result->warm;
    double original = (double)result->original_bytes;
    worth worth = find_worth(result, options->prefill);
    printf("%s: %llu tokens, %llu layers, %s of the engine's in %s; zstd -3: %s\n\n", options->files[0],
           (unsigned long long)result->tokens, (unsigned long long)result->layers, cli_bytes(result->original_bytes),
           cli_bytes(result->stored_bytes), cli_bytes(result->zstd_bytes));
    printf("%-44s %10s %12s %10s %12s\n", "bytes of the engine's file", "cold", "", "warm", "");
    print_row("original, read", cold->buffered, warm->buffered, original);
    print_row("original, O_DIRECT and io_uring", cold->direct, warm->direct, original);
    print_row("original, zstd -d", cold->zstd, warm->zstd, original);
    print_row("kvot, restored into memory", cold->restore, warm->restore, original);
    printf("%-44s %8.4f s %12s %8.4f s\n\n", "kvot, first layer there", cold->first_layer, "", warm->first_layer);
    print_stages("cold", cold);
    print_stages("warm", warm);
    if (cold->direct > 0)
        printf("\ncold, kvot is %.2f times as fast as reading the original with O_DIRECT",
               cold->direct / cold->restore);
    printf("\n%.0f tokens a second restored; the first %llu tokens take %.4f s\n", worth.restored,
           (unsigned long long)result->start_tokens, result->start);
    if (worth.prefill > 0 && isfinite(worth.break_even))
        printf(
            "at %.0f tokens a second of prefill, restoring is quicker from %.0f tokens on, and %.1f times as quick for "
            "all of this\n",
            worth.prefill, worth.break_even, worth.restored / worth.prefill);
    else if (worth.prefill > 0)
        printf("at %.0f tokens a second of prefill, computing is quicker for any length\n", worth.prefill);
}

static int run(const cli_options *options) {
    kvot_run how;
    kvot_bench_result result;
    kvot_error error;
    cli_progress_start(options, &how, "bench");
    if (kvot_bench(options->files[0], options->original, &how, &result, &error) != KVOT_OK)
        return cli_fail(&error);
    cli_progress_end();
    if (options->json)
        return print_json(options, &result);
    print(options, &result);
    return EXIT_DONE;
}

const cli_command command_bench = {
    .name = "bench",
    .synopsis = "[OPTIONS] FILE.kvot",
    .summary = "measure how fast a file comes back",
    .help =
        "Measures in one run, cold (dropped from the page cache) and warm, medians of five rounds: reading the "
        "engine's\n"
        "file with read, with O_DIRECT and io_uring, and as zstd -3 has it, and restoring FILE.kvot into memory. The\n"
        "limit of a restore is the larger of reading its bytes at the disk's O_DIRECT speed and decoding on all "
        "cores.\n"
        "Takes memory for the cache and FILE.kvot, and disk space beside FILE.kvot for what is not given.\n"
        "-q leaves only the progress out.\n",
    .options = "RFDTjq",
    .files = 1,
    .run = run,
};
