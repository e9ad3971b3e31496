#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char *const codecs[] = {"lossless", "ott"};

static void hex(const uint8_t digest[16], char text[33]) {
    for (int i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static bool has_model(const kvot_info *info) {
    static const uint8_t unknown[16];
    return memcmp(info->model_digest, unknown, sizeof unknown) != 0;
}

static json_t *plane_json(const kvot_info *info, const kvot_plane *plane) {
    json_t *object = json_pack("{s:i, s:i, s:s, s:s, s:b, s:I, s:I, s:i}", "section", (int)plane->section, "layer",
                               (int)plane->layer, "kind", cli_kind(plane->kind), "type", plane->type, "channel_major",
                               plane->channel_major, "rows", (json_int_t)plane->rows, "row_bytes",
                               (json_int_t)plane->row_bytes, "heads", (int)plane->heads);
    if (!info->compressed)
        return object;
    json_object_set_new(object, "codec", json_string(codecs[plane->codec]));
    if (plane->codec == KVOT_OTT) {
        json_object_set_new(object, "bits", json_integer(plane->bits));
        json_object_set_new(object, "group", json_integer(plane->group));
        json_object_set_new(object, "outliers",
                            plane->outliers == KVOT_OUTLIERS_AUTO ? json_string("auto")
                                                                  : json_integer(plane->outliers));
    }
    json_object_set_new(object, "stored_bytes", json_integer((json_int_t)plane->stored_bytes));
    json_object_set_new(object, "max_abs_error", cli_real(plane->max_abs_error));
    json_object_set_new(object, "rms_error", cli_real(plane->rms_error));
    json_object_set_new(object, "relative_rms_error", cli_real(plane->relative_rms_error));
    return object;
}

static int print_json(const kvot_file *file) {
    const kvot_info *info = kvot_file_info(file);
    char digest[33];
    hex(info->model_digest, digest);
    json_t *planes = json_array();
    for (size_t p = 0; p < info->n_planes; p++)
        json_array_append_new(planes, plane_json(info, &info->planes[p]));
    json_t *root = json_pack("{s:s, s:s, s:s?, s:s?, s:s?}", "source", info->source, "variant", info->variant,
                             "architecture", *info->architecture ? info->architecture : NULL, "model",
                             has_model(info) ? digest : NULL, "writer", *info->writer ? info->writer : NULL);
    if (info->rope_base > 0) {
        json_object_set_new(root, "rope_base", cli_real(info->rope_base));
        json_object_set_new(root, "rope_dims", json_integer(info->rope_dims));
    }
    json_object_set_new(root, "tokens", json_integer((json_int_t)info->tokens));
    json_object_set_new(root, "layers", json_integer((json_int_t)info->layers));
    json_object_set_new(root, "codec", json_string(info->compressed ? codecs[info->codec] : "none"));
    json_object_set_new(root, "original_bytes", json_integer((json_int_t)info->original_bytes));
    json_object_set_new(root, "stored_bytes", json_integer((json_int_t)info->stored_bytes));
    json_object_set_new(root, "verbatim_bytes", json_integer((json_int_t)info->verbatim_bytes));
    json_object_set_new(root, "repeated_bytes", json_integer((json_int_t)info->repeated_bytes));
    json_object_set_new(root, "unused_bytes", json_integer((json_int_t)info->unused_bytes));
    json_object_set_new(root, "leftover_bytes", json_integer((json_int_t)info->leftover_bytes));
    json_object_set_new(root, "reader", json_string(kvot_file_direct(file) ? "io_uring" : "pread"));
    json_object_set_new(root, "planes", planes);
    return cli_print_json(root);
}

static void print(const cli_options *options, const kvot_file *file) {
    const kvot_info *info = kvot_file_info(file);
    char digest[33];
    hex(info->model_digest, digest);
    printf("source        %s, %s\n", info->source, info->variant);
    if (*info->architecture)
        printf("architecture  %s\n", info->architecture);
    if (has_model(info))
        printf("model         %s\n", digest);
    if (info->rope_base > 0)
        printf("RoPE          base %g, %u channels of a head\n", (double)info->rope_base, info->rope_dims);
    printf("tokens        %llu\nlayers        %llu\n", (unsigned long long)info->tokens,
           (unsigned long long)info->layers);
    printf("original      %s, of which %s are not in tensors\n", cli_bytes(info->original_bytes),
           cli_bytes(info->verbatim_bytes));
    if (info->compressed)
        printf("stored        %s, %.2f times smaller, written by %s\nrepeated rows %s, stored once\n",
               cli_bytes(info->stored_bytes), (double)info->original_bytes / (double)info->stored_bytes, info->writer,
               cli_bytes(info->repeated_bytes));
    if (info->compressed)
        printf("unused        %s: padding, and what appends have replaced\n", cli_bytes(info->unused_bytes));
    if (info->leftover_bytes > 0)
        printf("left over     %llu bytes behind the end of the cache are left from an interrupted append\n",
               (unsigned long long)info->leftover_bytes);
    if (info->compressed)
        printf("reader        %s\n", kvot_file_direct(file) ? "io_uring, with O_DIRECT" : "pread");
    if (options->quiet || info->n_planes == 0)
        return;
    printf("\n%-8s %-6s %-6s %-7s %9s %9s %6s", "section", "layer", "kind", "type", "rows", "row bytes", "heads");
    puts(info->compressed ? "  codec        stored   relative rms" : "");
    for (size_t p = 0; p < info->n_planes; p++) {
        const kvot_plane *plane = &info->planes[p];
        printf("%-8u %-6u %-6s %-7s %9llu %9llu %6u", plane->section, plane->layer, cli_kind(plane->kind), plane->type,
               (unsigned long long)plane->rows, (unsigned long long)plane->row_bytes, plane->heads);
        if (info->compressed && plane->codec == KVOT_OTT)
            printf("  ott %u/%-3u %10s   %.5f", plane->bits, plane->group, cli_bytes(plane->stored_bytes),
                   plane->relative_rms_error);
        else if (info->compressed)
            printf("  lossless  %10s", cli_bytes(plane->stored_bytes));
        puts("");
    }
}

static int run(const cli_options *options) {
    kvot_error error;
    kvot_file *file;
    if (kvot_open(options->files[0], &file, &error) != KVOT_OK)
        return cli_fail(&error);
    int exit_code = EXIT_DONE;
    if (options->json)
        exit_code = print_json(file);
    else
        print(options, file);
    kvot_close(file);
    return exit_code;
}

const cli_command command_inspect = {
    .name = "inspect",
    .synopsis = "[OPTIONS] FILE",
    .summary = "say what is in a cache file",
    .help =
        "Describes a .kvot file, or an engine's file, from its structure alone: who wrote it, tokens, layers, sizes\n"
        "and, in a .kvot file, the error that was measured for each plane, and whether io_uring or pread would read "
        "it.\n"
        "-q leaves the planes out.\n",
    .options = "jq",
    .files = 1,
    .run = run,
};
