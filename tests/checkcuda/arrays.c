/* Arrays in device memory through the public calls: the file that arrays of the host give, and their rows back. What
 * is asked of the library is queued behind copies of the test that nobody has waited for. */
#include "folder.h"
#include "place.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, PLANES = 2 * LAYERS };
static atomic_uint files_made, parts_restored;

/* Chunks end where a position is a multiple of 256. */
typedef struct shape {
    uint32_t position, tokens;
    uint32_t heads, head_dim, value_heads, value_dim;
} shape;

static const shape shapes[] = {
    {200, 330, 2, 40, 2, 40}, /* 56, 256 and 18 tokens */
    {0, 300, 2, 64, 1, 24},
    {511, 260, 1, 128, 1, 128}, /* 1, 256 and 3 */
    {0, 70, 3, 33, 3, 16},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* One caller of the library. */
typedef struct caller {
    device *device;
    cu_stream stream;
    folder folder;
    kvot_type type;
    shape shape;
    kvot_compress_options options;
    unsigned threads;
    sample rows[PLANES];
    char what[128];
} caller;

static void check_call(const caller *with, const char *call, kvot_status status, const kvot_error *error) {
    if (status != KVOT_OK)
        wrong("%s: %s: %s: %s", with->what, call, kvot_status_name(status), error->text);
}

static kernel_chunk chunk_of(const caller *with, int plane) {
    bool values = plane % 2;
    const shape *shape = &with->shape;
    return (kernel_chunk){.type = (kernel_type)with->type,
                          .rows = shape->tokens,
                          .heads = values ? shape->value_heads : shape->heads,
                          .head_dim = values ? shape->value_dim : shape->head_dim,
                          .group = with->options.group,
                          .bits = with->options.bits,
                          .keys = !values,
                          .share = 1.0f};
}

/* An array of the host, [tokens][heads][head_dim]. */
static kvot_array host_array(const kernel_chunk *chunk, void *rows, uint32_t tokens) {
    return (kvot_array){rows,
                        (kvot_type)chunk->type,
                        tokens,
                        chunk->heads,
                        chunk->head_dim,
                        chunk->heads * chunk->head_dim,
                        chunk->head_dim,
                        1};
}

static void compress_host(const caller *with, const char *device, const char *output) {
    kvot_array arrays[PLANES];
    for (int p = 0; p < PLANES; p++) {
        kernel_chunk chunk = chunk_of(with, p);
        arrays[p] = host_array(&chunk, with->rows[p].rows, with->shape.tokens);
    }
    kvot_run run = {.overwrite = true, .device = device};
    kvot_error error;
    check_call(with, device,
               kvot_compress_arrays(arrays, LAYERS, NULL, &(kvot_about){.position = with->shape.position}, output,
                                    &with->options, &run, NULL, &error),
               &error);
}

/* Rows `first` to `first + n - 1`. */
static kvot_array part_of(const kvot_array *array, uint32_t first, uint32_t n) {
    kvot_array part = *array;
    int64_t element_bytes = array->type == KVOT_F32 ? 4 : 2;
    part.data = (uint8_t *)array->data + first * array->token_stride * element_bytes;
    part.tokens = n;
    return part;
}

/* Hands the arrays over chunk by chunk, in the order in which kvot_compress_arrays writes them. */
static kvot_status stream_arrays(const caller *with, const kvot_array *arrays, const kvot_memory *memory,
                                 const kvot_about *about, const kvot_run *run, const char *output, kvot_error *error) {
    kvot_writer *writer;
    kvot_status status = kvot_writer_open(output, arrays, LAYERS, about, &with->options, run, &writer, error);
    if (status != KVOT_OK)
        return status;
    for (size_t layer = 0; layer < LAYERS; layer++) {
        for (uint32_t first = 0, n; first < with->shape.tokens && status == KVOT_OK; first += n) {
            n = 256 - (about->position + first) % 256;
            n = n < with->shape.tokens - first ? n : with->shape.tokens - first;
            kvot_array keys = part_of(&arrays[2 * layer], first, n), values = part_of(&arrays[2 * layer + 1], first, n);
            status = kvot_writer_put(writer, layer, first, &keys, &values, memory, error);
        }
    }
    if (status == KVOT_OK)
        return kvot_writer_finish(writer, with->shape.tokens, NULL, 0, NULL, error);
    kvot_writer_abort(writer);
    return status;
}

static void compress_device(const caller *with, layout layout, bool streamed, const char *output) {
    kvot_array arrays[PLANES];
    place places[PLANES];
    for (int p = 0; p < PLANES; p++) {
        kernel_chunk chunk = chunk_of(with, p);
        places[p] = place_make(with->device, with->stream, &chunk, with->shape.tokens, layout);
        arrays[p] = places[p].array;
    }
    for (int p = 0; p < PLANES; p++)
        place_fill(&places[p], with->rows[p].rows);
    files_made++;
    kvot_run run = {.overwrite = true, .threads = with->threads};
    kvot_memory memory = {with->device, with->stream};
    kvot_error error;
    kvot_about about = {.position = with->shape.position};
    if (streamed)
        check_call(with, "kvot_writer", stream_arrays(with, arrays, &memory, &about, &run, output, &error), &error);
    else
        check_call(with, "kvot_compress_arrays",
                   kvot_compress_arrays(arrays, LAYERS, &memory, &about, output, &with->options, &run, NULL, &error),
                   &error);
    for (int p = 0; p < PLANES; p++) {
        if (!place_holds(&places[p], with->rows[p].rows))
            wrong("%s: layout %d: plane %d was written to", with->what, layout, p);
        place_free(&places[p]);
    }
}

/* Restores tokens `first` to `first + n`, as what `chunk` says, into the device. */
static void restore_device(const caller *with, kvot_file *file, int plane, const kernel_chunk *chunk, uint32_t first,
                           uint32_t n, layout layout) {
    uint8_t *rows = malloc(n * lane_row_bytes(chunk));
    kvot_array host = host_array(chunk, rows, n);
    kvot_run run = {.threads = with->threads};
    kvot_memory memory = {with->device, with->stream};
    kvot_error error;
    parts_restored++;
    check_call(with, "kvot_load, host", kvot_load(file, &(kvot_part){plane, first, host}, 1, NULL, &run, &error),
               &error);
    place place = place_make(with->device, with->stream, chunk, n, layout);
    place_fill(&place, NULL);
    check_call(with, "kvot_load", kvot_load(file, &(kvot_part){plane, first, place.array}, 1, &memory, &run, &error),
               &error);
    if (!place_holds(&place, rows))
        wrong("%s: plane %d, %u tokens from %u on, layout %d: not the rows of an array of the host", with->what, plane,
              n, first, layout);
    place_free(&place);
    free(rows);
}

/* Whole planes in every layout; parts of chunks, whole chunks and single tokens, each in one of them. */
static void restore_all(const caller *with, const char *path, uint32_t number) {
    kvot_file *file;
    kvot_error error;
    if (kvot_open(path, &file, &error) != KVOT_OK) {
        wrong("%s: %s", with->what, error.text);
        return;
    }
    uint32_t all = with->shape.tokens, edge = 256 - with->shape.position % 256;
    edge = edge < all ? edge : all;
    const uint32_t parts[][2] = {{0, 1}, {all - 1, 1}, {edge - 1, 2}, {0, edge}, {edge, all - edge}, {1, all - 2}};
    for (layout layout = 0; layout < LAYOUTS; layout++) {
        int plane = (int)(number + layout) % PLANES;
        kernel_chunk chunk = chunk_of(with, plane);
        restore_device(with, file, plane, &chunk, 0, all, layout);
    }
    for (uint32_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int plane = (int)(number + i) % PLANES;
        kernel_chunk chunk = chunk_of(with, plane);
        if (parts[i][1] > 0 && parts[i][0] + parts[i][1] <= all)
            restore_device(with, file, plane, &chunk, parts[i][0], parts[i][1], (number + i) % LAYOUTS);
    }
    if (with->shape.heads == 1) { /* a file of one head may not know how many there are: any number will do */
        kernel_chunk chunk = chunk_of(with, 0);
        chunk.heads = 4;
        chunk.head_dim /= 4;
        restore_device(with, file, 0, &chunk, 0, all, number % LAYOUTS);
    }
    kvot_close(file);
}

static void check_setting(caller *with, uint32_t number) {
    file_path host = folder_file(&with->folder, "host.kvot"), other = folder_file(&with->folder, "other.kvot");
    const kvot_compress_options *options = &with->options;
    snprintf(with->what, sizeof with->what, "type %d, codec %d, %u bits, group %u, %d outliers, %u tokens", with->type,
             options->codec, options->bits, options->group, options->outliers, with->shape.tokens);
    for (int p = 0; p < PLANES; p++)
        with->rows[p] = sample_make(chunk_of(with, p), 1, false, number * PLANES + (uint32_t)p);
    compress_host(with, "cpu", host.text);
    for (layout layout = 0; layout < LAYOUTS; layout++) {
        compress_device(with, layout, false, other.text);
        if (!files_equal(host.text, other.text))
            wrong("%s: layout %d: not the file of arrays of the host", with->what, layout);
    }
    if (options->codec == KVOT_LOSSLESS || options->outliers == KVOT_OUTLIERS_AUTO) {
        compress_device(with, number % LAYOUTS, true, other.text);
        if (!files_equal(host.text, other.text))
            wrong("%s: chunk by chunk: not the file of arrays of the host", with->what);
    }
    restore_all(with, host.text, number);
    if (number % 8 == 0) { /* rows of the host, worked on by the device */
        compress_host(with, "cuda:0", other.text);
        if (!files_equal(host.text, other.text))
            wrong("%s: not the file that the CPU makes", with->what);
    }
    for (int p = 0; p < PLANES; p++)
        sample_free(&with->rows[p]);
}

/* Every type and width, and lossless, with the outlier rule and with a number of outliers, in turn. */
static void check_settings(caller *with, uint32_t start, uint32_t step) {
    static const unsigned bits[] = {2, 3, 4, 8}, groups[] = {32, 64, 128};
    enum { SETTINGS = 3 * 4 * 3 }; /* types, bits, rules or none */
    for (uint32_t i = start; i < SETTINGS; i += step) {
        uint32_t type = i / 3 % 3, width = i / 9, rule = (i + type + width) % 3;
        with->type = (kvot_type)type;
        with->options = (kvot_compress_options){.codec = rule == 2 ? KVOT_LOSSLESS : KVOT_OTT,
                                                .bits = bits[width],
                                                .group = groups[(i + width) % 3],
                                                .outliers = rule == 0 ? KVOT_OUTLIERS_AUTO : (int)width};
        with->shape = shapes[(i + i / 4) % SHAPES];
        with->threads = width % 3 + 1;
        check_setting(with, i);
    }
}

/* With a folder and a stream of its own: one that waits for the default stream, one that does not, or the default one.
 */
typedef struct job {
    device *device;
    bool own_stream;
    unsigned flags;
    uint32_t start, step;
} job;

static void *work(void *argument) {
    const job *job = argument;
    caller with = {.device = job->device, .folder = folder_make()};
    CHECK(device_enter(job->device, NULL) == KVOT_OK);
    if (job->own_stream)
        CHECK(job->device->driver->StreamCreate(&with.stream, job->flags) == CU_SUCCESS);
    device_leave(job->device, KVOT_OK, NULL);
    check_settings(&with, job->start, job->step);
    CHECK(device_enter(job->device, NULL) == KVOT_OK);
    if (job->own_stream)
        CHECK(job->device->driver->StreamDestroy(with.stream) == CU_SUCCESS);
    device_leave(job->device, KVOT_OK, NULL);
    folder_remove(&with.folder);
    return NULL;
}

void check_arrays(device *device) {
    job jobs[] = {{device, true, CU_STREAM_NON_BLOCKING, 0, 3}, {device, true, 0, 1, 3}, {device, false, 0, 2, 3}};
    enum { JOBS = sizeof jobs / sizeof *jobs };
    pthread_t threads[JOBS];
    for (int i = 0; i < JOBS; i++)
        pthread_create(&threads[i], NULL, work, &jobs[i]);
    for (int i = 0; i < JOBS; i++)
        pthread_join(threads[i], NULL);
    work(&(job){device, true, CU_STREAM_NON_BLOCKING, 4, 11});
    printf("%u files made, %u parts of planes restored\n", files_made, parts_restored);
}
