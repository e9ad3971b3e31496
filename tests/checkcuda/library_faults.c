/* Public calls where every call to the driver in turn is made to fail, on one thread, so that calls always have the
 * same numbers. After a failure nothing is left, neither in the driver nor of the output. */
#include "folder.h"
#include "place.h"
#include "shim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the calls work on and what they should give. */
static folder folder_of_test;
static file_path source, output, stored, restored, stored_arrays, stored_arrays_fixed;

/* K and V of one layer in device memory, and rows of K as they are restored. Chunks of 6, 256 and 8 tokens. */
enum { POSITION = 250, TOKENS = 270, PART = 100, OUTLIERS = 3 };
static place places[2];
static size_t row_bytes;
static kvot_file *file_of_arrays;
static uint8_t *expected_rows;

static const kvot_run on_cuda = {.threads = 1, .device = "cuda:0"}, on_cpu = {.device = "cpu"};
static const kvot_about about = {.position = POSITION};

static kvot_status compress(kvot_error *error) {
    return kvot_compress(source.text, output.text, NULL, &on_cuda, NULL, error);
}

static kvot_status restore(kvot_error *error) {
    return kvot_restore(stored.text, output.text, NULL, &on_cuda, NULL, error);
}

static kvot_status compress_arrays_with(int outliers, kvot_error *error) {
    kvot_compress_options options = kvot_compress_defaults();
    options.outliers = outliers;
    return kvot_compress_arrays((kvot_array[]){places[0].array, places[1].array}, 1,
                                &(kvot_memory){places[0].device, NULL}, &about, output.text, &options, &on_cuda, NULL,
                                error);
}

static kvot_status compress_arrays(kvot_error *error) {
    return compress_arrays_with(KVOT_OUTLIERS_AUTO, error);
}

/* Hands chunks over from a thread of its own, as an engine may. */
typedef struct engine_thread {
    kvot_writer *writer;
    kvot_status status;
    kvot_error *error;
} engine_thread;

static void *put_chunks(void *argument) {
    engine_thread *with = argument;
    kvot_memory memory = {places[0].device, NULL};
    with->status = kvot_writer_put(with->writer, 0, 0, &places[0].array, &places[1].array, &memory, with->error);
    return NULL;
}

static kvot_status write_chunks(kvot_error *error) {
    kvot_array shapes[] = {places[0].array, places[1].array};
    engine_thread with = {.error = error};
    pthread_t thread;
    kvot_status status = kvot_writer_open(output.text, shapes, 1, &about, NULL, &on_cpu, &with.writer, error);
    if (status != KVOT_OK)
        return status;
    CHECK(pthread_create(&thread, NULL, put_chunks, &with) == 0);
    pthread_join(thread, NULL);
    if (with.status == KVOT_OK)
        return kvot_writer_finish(with.writer, TOKENS, NULL, 0, NULL, error);
    kvot_writer_abort(with.writer);
    return with.status;
}

static kvot_status compress_arrays_fixed(kvot_error *error) {
    return compress_arrays_with(OUTLIERS, error);
}

/* In two calls that meet inside a chunk. */
static kvot_status restore_array(kvot_error *error) {
    kvot_memory memory = {places[0].device, NULL};
    kvot_array to = places[0].array;
    to.tokens = PART;
    kvot_status status = kvot_load(file_of_arrays, &(kvot_part){0, 0, to}, 1, &memory, &on_cuda, error);
    to.data = (uint8_t *)to.data + PART * row_bytes;
    to.tokens = TOKENS - PART;
    return status == KVOT_OK ? kvot_load(file_of_arrays, &(kvot_part){0, PART, to}, 1, &memory, &on_cuda, error)
                             : status;
}

typedef struct operation {
    const char *name;
    kvot_status (*run)(kvot_error *error);
    const file_path *expected; /* what `output` should be; NULL: rows are restored to places[0] */
    bool in_device_memory;     /* the CPU cannot do it without the driver */
} operation;

static const operation operations[] = {
    {"kvot_compress", compress, &stored, false},
    {"kvot_restore", restore, &restored, false},
    {"kvot_compress_arrays", compress_arrays, &stored_arrays, true},
    {"kvot_compress_arrays, fixed", compress_arrays_fixed, &stored_arrays_fixed, true},
    {"kvot_writer", write_chunks, &stored_arrays, true},
    {"kvot_load", restore_array, NULL, true}};

static const char *error_name(cu_result result) {
    const char *name = "?";
    shim_real()->GetErrorName(result, &name);
    return name;
}

/* Whether the call could do without what failed. Memory that ran out while there was a device is made up for: with
 * smaller pieces, or on the CPU; but rows in device memory need their context, a lane, and room for one of them. */
static bool may_succeed(fault fault, shim_failed failed) {
    return shim_ignored(failed) || (fault.with == CU_OUT_OF_MEMORY && failed.phase == SHIM_WORKING);
}

static bool may_fail(const operation *operation, fault fault, shim_failed failed, kvot_status status) {
    if (shim_ignored(failed) && !fault.later_too)
        return false;
    if (fault.with != CU_OUT_OF_MEMORY || failed.phase == SHIM_OPENING)
        return status == KVOT_E_DEVICE; /* also if a device has no memory to be opened: it is not there */
    static const char *const needed[] = {"CtxPushCurrent", "CtxPopCurrent", "EventCreate"};
    bool is_needed = fault.later_too;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        is_needed |= strcmp(failed.name, needed[i]) == 0;
    return operation->in_device_memory && is_needed && status == KVOT_E_MEMORY;
}

static unsigned succeeded, told;

/* Runs it with that fault; false if there are not that many calls. */
static bool check_fault(const operation *operation, fault fault) {
    kvot_error error = {0};
    char what[128], call[64];
    int files = folder_count(&folder_of_test);
    if (!operation->expected)
        place_fill(&places[0], NULL);
    shim_start(fault);
    kvot_status status = operation->run(&error);
    shim_failed failed = shim_end();
    snprintf(what, sizeof what, "%s: %s %llu%s: cu%s: %s", operation->name, fault.name ? fault.name : "call",
             (unsigned long long)fault.number, fault.later_too ? " and later ones" : "", failed.name ? failed.name : "",
             error_name(fault.with));
    shim_check_held(what);
    if (status == KVOT_OK) {
        if (failed.name && !may_succeed(fault, failed))
            wrong("%s: nobody noticed", what);
        if (operation->expected ? !files_equal(output.text, operation->expected->text)
                                : !place_holds(&places[0], expected_rows))
            wrong("%s: other bytes", what);
        if (operation->expected)
            unlink(output.text);
        succeeded += failed.name != NULL;
    } else if (CHECK(failed.name)) {
        snprintf(call, sizeof call, "cu%s:", failed.name);
        /* If later calls fail too, one that is ignored is followed by one that is told. */
        bool named = strstr(error.text, call) || (fault.later_too && shim_ignored(failed));
        if (!may_fail(operation, fault, failed, status) || !named || !strstr(error.text, error_name(fault.with)))
            wrong("%s: %s, \"%s\"", what, kvot_status_name(status), error.text);
        told++;
    }
    if (folder_count(&folder_of_test) != files)
        wrong("%s: a file is left", what);
    return failed.name != NULL;
}

/* Each call of its own, and with all that come later. */
static void check_operation(const operation *operation) {
    static const fault faults[] = {{.with = CU_UNKNOWN},
                                   {.with = CU_LAUNCH_FAILED, .later_too = true},
                                   {.with = CU_OUT_OF_MEMORY},
                                   {.with = CU_OUT_OF_MEMORY, .later_too = true, .name = "EventCreate"},
                                   {.with = CU_OUT_OF_MEMORY, .later_too = true, .name = "MemAlloc"},
                                   {.with = CU_OUT_OF_MEMORY, .later_too = true, .name = "MemHostAlloc"}};
    uint64_t calls = 0;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        fault fault = faults[i];
        for (fault.number = 1; check_fault(operation, fault); fault.number++)
            calls += i == 0;
    }
    printf("%s: each of %llu calls failed\n", operation->name, (unsigned long long)calls);
}

/* Where no call fails, rows in device memory are compressed without being copied to the host. */
static void check_downloads(const operation *operation) {
    kvot_error error;
    shim_start((fault){0});
    CHECK(operation->run(&error) == KVOT_OK);
    unlink(output.text);
    printf("%s: %llu bytes copied to the host, of %zu\n", operation->name, (unsigned long long)shim_downloaded(),
           2 * TOKENS * row_bytes);
    CHECK(shim_downloaded() < TOKENS * row_bytes);
}

static void must(kvot_status status, const kvot_error *error) {
    if (status != KVOT_OK)
        wrong("%s", error->text);
}

/* Makes everything there is to compare with, on the CPU. */
static void prepare(device *device, const char *data) {
    sample samples[2];
    kvot_error error;
    kvot_array arrays[2];
    kvot_compress_options fixed = kvot_compress_defaults();
    fixed.outliers = OUTLIERS;
    snprintf(source.text, sizeof source.text, "%s/llama-streams-v10-ses.bin", data);
    folder_of_test = folder_make();
    output = folder_file(&folder_of_test, "output");
    stored = folder_file(&folder_of_test, "stored");
    restored = folder_file(&folder_of_test, "restored");
    stored_arrays = folder_file(&folder_of_test, "arrays");
    stored_arrays_fixed = folder_file(&folder_of_test, "arrays-fixed");
    must(kvot_compress(source.text, stored.text, NULL, &on_cpu, NULL, &error), &error);
    must(kvot_restore(stored.text, restored.text, NULL, &on_cpu, NULL, &error), &error);
    for (int p = 0; p < 2; p++) {
        kernel_chunk chunk = {KERNEL_F16, TOKENS, 2, 64, 64, 4, p == 0, 1.0f};
        samples[p] = sample_make(chunk, 1, false, (uint32_t)p + 1);
        places[p] = place_make(device, NULL, &chunk, TOKENS, TOKEN_MAJOR);
        place_fill(&places[p], samples[p].rows);
        arrays[p] = places[p].array;
        arrays[p].data = samples[p].rows;
    }
    row_bytes = samples[0].row_bytes;
    must(kvot_compress_arrays(arrays, 1, NULL, &about, stored_arrays.text, NULL, &on_cpu, NULL, &error), &error);
    must(kvot_compress_arrays(arrays, 1, NULL, &about, stored_arrays_fixed.text, &fixed, &on_cpu, NULL, &error),
         &error);
    must(kvot_open(stored_arrays.text, &file_of_arrays, &error), &error);
    expected_rows = samples[0].rows;
    must(kvot_load(file_of_arrays, &(kvot_part){0, 0, arrays[0]}, 1, NULL, &on_cpu, &error), &error);
    samples[0].rows = NULL;
    for (int p = 0; p < 2; p++)
        sample_free(&samples[p]);
}

void check_library_faults(const char *data) {
    kvot_error error;
    device *device;
    if (!CHECK(device_open(0, &device, &error) == KVOT_OK))
        return;
    prepare(device, data);
    shim_install(device);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        check_operation(&operations[i]);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (operations[i].in_device_memory && operations[i].expected)
            check_downloads(&operations[i]);
    shim_remove();
    printf("%u failures made up for, %u told\n", succeeded, told);
    kvot_close(file_of_arrays);
    free(expected_rows);
    place_free(&places[0]);
    place_free(&places[1]);
    device_close(device);
    folder_remove(&folder_of_test);
}
