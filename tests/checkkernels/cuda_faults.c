/* Every call to the driver in turn is made to fail: the status and the text say so, and nothing is left behind. */
#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CU_UNKNOWN = 999 };

static driver real;
static uint64_t calls, fail_at; /* 0: none fails */
static cu_result fail_with;
static const char *failed; /* the call that failed */
static bool closing, failed_closing;

/* What is to be given back, by the calls that take it and give it. */
static const struct {
    const char *take, *give;
} pairs[] = {{"DevicePrimaryCtxRetain", "DevicePrimaryCtxRelease"},
             {"CtxPushCurrent", "CtxPopCurrent"},
             {"ModuleLoadData", "ModuleUnload"},
             {"StreamCreate", "StreamDestroy"},
             {"EventCreate", "EventDestroy"},
             {"MemAlloc", "MemFree"},
             {"MemHostAlloc", "MemFreeHost"}};
enum { PAIRS = sizeof pairs / sizeof *pairs };
static int held[PAIRS];

/* True if this call is to fail. A call that gives something back does so nevertheless, and then reports a failure, as
 * the driver does for what went wrong earlier. */
static bool fails(const char *name) {
    if (++calls != fail_at)
        return false;
    failed = name;
    failed_closing = closing;
    return true;
}

static bool gives(const char *name) {
    for (int i = 0; i < PAIRS; i++)
        if (strcmp(name, pairs[i].give) == 0)
            return true;
    return false;
}

static cu_result note(const char *name, cu_result result) {
    for (int i = 0; i < PAIRS && result == CU_SUCCESS; i++)
        held[i] += (strcmp(name, pairs[i].take) == 0) - (strcmp(name, pairs[i].give) == 0);
    return result;
}

#define WRAP(name, symbol, parameters, arguments)                                                                      \
    static cu_result faulty_##name parameters {                                                                        \
        bool fail = fails(#name);                                                                                      \
        if (fail && !gives(#name))                                                                                     \
            return fail_with;                                                                                          \
        cu_result result = note(#name, real.name arguments);                                                           \
        return fail ? fail_with : result;                                                                              \
    }
DRIVER_CALLS(WRAP)

/* Loading takes long and happens in every run: they share the module of the device that the test keeps open. */
static cu_module shared_module;

static cu_result share_module(cu_module *module, const void *image) {
    (void)image;
    *module = shared_module;
    return CU_SUCCESS;
}

static cu_result keep_module(cu_module module) {
    return CHECK(module == shared_module) ? CU_SUCCESS : CU_UNKNOWN;
}

static const sample *plane_keys, *plane_values;
static lane_plane keys, values;
static uint64_t device_rows;

static kvot_status encode_and_decode(lane *lane, kvot_error *error) {
    const sample *k = plane_keys, *v = plane_values;
    lane_chunks chunks = {k->chunk.rows, k->first, k->start};
    lane_encoded encoded[LANE_PLANES];
    size_t bytes = k->chunk.rows * k->row_bytes;
    void *rows, *block;
    keys = (lane_plane){k->chunk, {NULL, device_rows, k->chunk.heads * k->chunk.head_dim, k->chunk.head_dim, 1}};
    kvot_status status = lane_buffer(lane, LANE_V, v->chunk.rows * v->row_bytes, &rows, error);
    if (status != KVOT_OK)
        return status;
    memcpy(rows, v->rows, v->chunk.rows * v->row_bytes);
    values = (lane_plane){v->chunk, {.host = rows}};
    status = lane_encode(lane, &chunks, &keys, &values, NULL, encoded, error);
    if (status != KVOT_OK)
        return status;
    CHECK(memcmp(encoded[0].codes.codes, k->codes.codes, k->code_bytes) == 0);
    CHECK(memcmp(encoded[1].codes.codes, v->codes.codes, v->code_bytes) == 0);

    size_t numbers = align_part(k->ranges * k->element_bytes), n = encoded[0].n_exact;
    size_t value_bytes = n * k->chunk.head_dim * k->element_bytes;
    lane_codes codes = {.minima = numbers, .codes = 2 * numbers, .n_exact = n};
    codes.high = align_part(codes.codes + k->code_bytes);
    codes.exact = align_part(codes.high + k->high_bytes);
    codes.bytes = codes.exact + value_bytes;
    cuda_row *list = malloc(n * sizeof *list);
    uint8_t *exact = malloc(value_bytes);
    memcpy(list, encoded[0].list, n * sizeof *list);
    memcpy(exact, encoded[0].values, value_bytes);
    codes.list = list;
    if ((status = lane_block(lane, codes.bytes, &block, error)) == KVOT_OK &&
        (status = lane_buffer(lane, LANE_K, bytes, &rows, error)) == KVOT_OK) {
        memcpy((uint8_t *)block + codes.scales, k->codes.scales, k->ranges * k->element_bytes);
        memcpy((uint8_t *)block + codes.minima, k->codes.minima, k->ranges * k->element_bytes);
        memcpy((uint8_t *)block + codes.codes, k->codes.codes, k->code_bytes);
        memcpy((uint8_t *)block + codes.high, k->codes.high, k->high_bytes);
        memcpy((uint8_t *)block + codes.exact, exact, value_bytes);
        codes.block = block;
        keys.rows.host = rows;
        status = lane_decode(lane, &chunks, &keys, &codes, error);
        if (status == KVOT_OK)
            CHECK(memcmp(rows, k->decoded, bytes) == 0);
    }
    free(list);
    free(exact);
    return status;
}

/* The whole life of a device and a lane. After a failure in the middle the same lane is used once more. */
static kvot_status live(kvot_error *error) {
    device *device;
    lane *lane;
    kvot_status status = device_open(0, &device, error);
    if (status != KVOT_OK)
        return status;
    status = lane_open(device, NULL, &lane, error);
    if (status == KVOT_OK) {
        status = encode_and_decode(lane, error);
        if (status != KVOT_OK && failed)
            CHECK(encode_and_decode(lane, NULL) == KVOT_OK);
    }
    closing = true;
    lane_close(lane);
    device_close(device);
    closing = false;
    return status;
}

/* Runs it with call `number` failing; false if there are not that many calls. */
static bool check_call(uint64_t number, cu_result with) {
    kvot_error error = {0};
    const char *error_name = "?";
    char call[64];
    calls = 0;
    fail_at = number;
    fail_with = with;
    failed = NULL;
    memset(held, 0, sizeof held);
    kvot_status status = live(&error);
    if (!failed) {
        CHECK(status == KVOT_OK);
        return false;
    }
    real.GetErrorName(with, &error_name);
    snprintf(call, sizeof call, "cu%s:", failed);
    kvot_status expected = with == CU_OUT_OF_MEMORY ? KVOT_E_MEMORY : KVOT_E_DEVICE;
    /* What is thrown away is not worth a failure. */
    bool ignored = failed_closing || strcmp(failed, "MemFree") == 0 || strcmp(failed, "MemFreeHost") == 0;
    if (ignored ? status != KVOT_OK
                : status != expected || !strstr(error.text, call) || !strstr(error.text, error_name))
        wrong("call %llu, cu%s: status %s, text \"%s\"", (unsigned long long)number, failed, kvot_status_name(status),
              error.text);
    /* A context that cannot be made current takes all that is in it along when it is released. */
    bool lost = failed_closing && strcmp(failed, "CtxPushCurrent") == 0;
    for (int i = 0; i < PAIRS; i++)
        if (held[i] != 0 && !(lost && i > 1))
            wrong("call %llu, cu%s: %d left of cu%s", (unsigned long long)number, failed, held[i], pairs[i].take);
    return true;
}

void check_faults(void) {
    const driver *shared;
    kvot_error error;
    device *device;
    if (!CHECK(driver_load(&shared, &error) == KVOT_OK) || !CHECK(device_open(0, &device, &error) == KVOT_OK))
        return;
    kernel_chunk chunk = {KERNEL_F16, 300, 2, 40, 64, 3, true, 1.0f};
    sample k = sample_make(chunk, 44, true, 5);
    chunk.keys = false;
    sample v = sample_make(chunk, 44, true, 6);
    sample_measure(&k);
    sample_measure(&v);
    sample_choose(&k, NULL, &v, NULL);
    sample_choose(&v, &k, NULL, NULL);
    sample_quantize(&k);
    sample_quantize(&v);
    plane_keys = &k;
    plane_values = &v;
    CHECK(device_enter(device, NULL) == KVOT_OK);
    CHECK(shared->MemAlloc(&device_rows, k.chunk.rows * k.row_bytes) == CU_SUCCESS);
    CHECK(shared->MemcpyHtoDAsync(device_rows, k.rows, k.chunk.rows * k.row_bytes, NULL) == CU_SUCCESS);
    CHECK(shared->StreamSynchronize(NULL) == CU_SUCCESS);
    device_leave(device, KVOT_OK, NULL);

    const driver original = *shared;
    real = original;
    real.ModuleLoadData = share_module;
    real.ModuleUnload = keep_module;
    shared_module = device->module;
    driver *table = (driver *)shared; /* the library's own, for this test alone in its process */
#define REPLACE(name, symbol, parameters, arguments) table->name = faulty_##name;
    DRIVER_CALLS(REPLACE)
    uint64_t number = 1;
    while (check_call(number, CU_UNKNOWN)) {
        if (strcmp(failed, "MemAlloc") == 0 || strcmp(failed, "MemHostAlloc") == 0)
            check_call(number, CU_OUT_OF_MEMORY);
        number++;
    }
    printf("each of %llu calls failed once\n", (unsigned long long)number - 1);
    *table = original;

    device_enter(device, NULL);
    shared->MemFree(device_rows);
    device_leave(device, KVOT_OK, NULL);
    device_close(device);
    sample_free(&k);
    sample_free(&v);
}
