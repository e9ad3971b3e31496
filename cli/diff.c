#include "cli.h"

#include <stdio.h>

static void add_difference(json_t *object, const kvot_difference *difference) {
    json_object_set_new(object, "identical", json_boolean(difference->identical));
    json_object_set_new(object, "max_abs_error", cli_real(difference->max_abs_error));
    json_object_set_new(object, "rms_error", cli_real(difference->rms_error));
    json_object_set_new(object, "relative_rms_error", cli_real(difference->relative_rms_error));
}

static int print_json(const kvot_diff_result *result) {
    json_t *root = json_object(), *planes = json_array();
    add_difference(root, &result->all);
    for (size_t p = 0; p < result->n_planes; p++) {
        const kvot_diff_plane *plane = &result->planes[p];
        json_t *object = json_pack("{s:i, s:i, s:s}", "section", (int)plane->section, "layer", (int)plane->layer,
                                   "kind", cli_kind(plane->kind));
        add_difference(object, &plane->difference);
        json_array_append_new(planes, object);
    }
    json_object_set_new(root, "planes", planes);
    return cli_print_json(root);
}

static int print(const cli_options *options, const kvot_diff_result *result) {
    if (result->all.identical) {
        puts("identical");
        return EXIT_DONE;
    }
    printf("%-8s %-6s %-6s %14s %14s %14s\n", "section", "layer", "kind", "max error", "rms error", "relative rms");
    for (size_t p = 0; p < result->n_planes && !options->quiet; p++) {
        const kvot_diff_plane *plane = &result->planes[p];
        printf("%-8u %-6u %-6s %14.6g %14.6g %14.6g\n", plane->section, plane->layer, cli_kind(plane->kind),
               plane->difference.max_abs_error, plane->difference.rms_error, plane->difference.relative_rms_error);
    }
    printf("%-22s %14.6g %14.6g %14.6g\n", "all", result->all.max_abs_error, result->all.rms_error,
           result->all.relative_rms_error);
    return EXIT_DONE;
}

static int run(const cli_options *options) {
    kvot_run how;
    kvot_error error;
    kvot_diff_result *result = NULL;
    cli_progress_start(options, &how, "diff");
    if (kvot_diff(options->files[0], options->files[1], &how, &result, &error) != KVOT_OK)
        return cli_fail(&error);
    cli_progress_end();
    int exit_code = options->json ? print_json(result) : print(options, result);
    kvot_diff_free(result);
    return exit_code;
}

const cli_command command_diff = {
    .name = "diff",
    .synopsis = "[OPTIONS] A B",
    .summary = "say how far two caches are apart",
    .help =
        "Compares two files of the same layers, cells and types, each an engine's or a .kvot. Errors are those of B\n"
        "against A; relative ones are divided by the root mean square of A. -q prints the line for all planes only.\n"
        "The exit code is 0 also where they differ.\n",
    .options = "Tjq",
    .files = 2,
    .run = run,
};
