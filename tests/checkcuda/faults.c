/* Lanes where every call to the driver in turn is made to fail: the status and the text say so, and nothing is left
 * behind. */
#include "shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        if (status != KVOT_OK)
            CHECK(encode_and_decode(lane, NULL) == KVOT_OK);
    }
    shim_closing();
    lane_close(lane);
    device_close(device);
    return status;
}

/* Runs it with call `number` failing; returns that call's name, NULL if there are not that many calls. */
static const char *check_call(uint64_t number, cu_result with) {
    kvot_error error = {0};
    const char *error_name = "?";
    char call[64], what[96];
    shim_start((fault){.number = number, .with = with});
    kvot_status status = live(&error);
    shim_failed failed = shim_end();
    if (!failed.name) {
        CHECK(status == KVOT_OK);
        return NULL;
    }
    shim_real()->GetErrorName(with, &error_name);
    snprintf(call, sizeof call, "cu%s:", failed.name);
    snprintf(what, sizeof what, "call %llu, cu%s", (unsigned long long)number, failed.name);
    kvot_status expected = with == CU_OUT_OF_MEMORY ? KVOT_E_MEMORY : KVOT_E_DEVICE;
    if (shim_ignored(failed) ? status != KVOT_OK
                             : status != expected || !strstr(error.text, call) || !strstr(error.text, error_name))
        wrong("%s: status %s, text \"%s\"", what, kvot_status_name(status), error.text);
    shim_check_held(what);
    return failed.name;
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

    shim_install(device);
    uint64_t number = 1;
    for (const char *name; (name = check_call(number, CU_UNKNOWN)); number++)
        if (strcmp(name, "MemAlloc") == 0 || strcmp(name, "MemHostAlloc") == 0)
            check_call(number, CU_OUT_OF_MEMORY);
    printf("each of %llu calls failed once\n", (unsigned long long)number - 1);
    shim_remove();

    device_enter(device, NULL);
    shared->MemFree(device_rows);
    device_leave(device, KVOT_OK, NULL);
    device_close(device);
    sample_free(&k);
    sample_free(&v);
}
