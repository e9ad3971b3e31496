/* Compressing arrays in the caller's memory. */
#include "compress.h"

#include "../engines/engine.h"

#include <stdio.h>
#include <string.h>

/* Room for the name of array `i`, for messages. */
typedef char array_name[40];

static const char *name_of(array_name name, size_t i) {
    snprintf(name, sizeof(array_name), "layer %zu, %c", i / 2, "KV"[i % 2]);
    return name;
}

/* What the caller knows of the model and the tokens. */
static kvot_status describe(plan *plan, const kvot_about *about, kvot_error *error) {
    format_index *to = &plan->about;
    if (about->architecture)
        memcpy(to->architecture, about->architecture, strnlen(about->architecture, sizeof to->architecture));
    if (!format_is_text(to->architecture, sizeof to->architecture))
        return fail(error, KVOT_E_ARGUMENT, "the architecture must be up to %zu printable characters",
                    sizeof to->architecture - 1);
    if (about->n_tokens > 0 && !about->tokens)
        return fail(error, KVOT_E_ARGUMENT, "there are no token ids, but they are counted");
    memcpy(to->model_digest, about->model_digest, sizeof to->model_digest);
    to->rope_base = about->rope_base;
    to->rope_dims = about->rope_dims;
    return KVOT_OK;
}

kvot_status compress_plan_arrays(plan *plan, const kvot_array *shapes, size_t n_layers, const kvot_about *about,
                                 kvot_error *error) {
    uint32_t rowset;
    if (n_layers == 0 || n_layers > UINT16_MAX)
        return fail(error, KVOT_E_ARGUMENT, "there must be 1 to %d layers", UINT16_MAX);
    strcpy(plan->about.engine, ENGINE_ARRAYS);
    snprintf(plan->about.variant, sizeof plan->about.variant, "%zu layer%s", n_layers, n_layers == 1 ? "" : "s");
    kvot_status status = describe(plan, about, error);
    if (status == KVOT_OK)
        status = plan_add_rowset(plan, &rowset, error);
    for (size_t i = 0; i < 2 * n_layers && status == KVOT_OK; i++) {
        array_name name;
        if ((status = array_check_shape(&shapes[i], name_of(name, i), error)) != KVOT_OK)
            break;
        if (shapes[i].type == KVOT_BYTES)
            return fail(error, KVOT_E_ARGUMENT, "%s: bytes cannot be compressed as K or V", name);
        format_plane plane = {.rowset = rowset,
                              .layer = (uint32_t)(i / 2),
                              .kind = i % 2 ? FORMAT_V : FORMAT_K,
                              .type = (uint8_t)array_type(&shapes[i]),
                              .row_bytes = (uint32_t)array_row_bytes(&shapes[i]),
                              .heads = shapes[i].heads};
        status = plan_add_plane(plan, &plane, error);
    }
    return status;
}

kvot_status compress_plan_tokens(plan *plan, uint32_t position, uint32_t tokens, size_t n_ids, kvot_error *error) {
    plan_cell *cells;
    if (position > INT32_MAX || tokens > INT32_MAX - position || n_ids > UINT32_MAX)
        return fail(error, KVOT_E_ARGUMENT, "there are too many tokens");
    plan->about.n_tokens = (uint32_t)n_ids;
    kvot_status status = plan_add_verbatim(plan, n_ids * sizeof(int32_t), error);
    if (status == KVOT_OK)
        status = plan_add_view(plan, 0, tokens, &cells, error);
    for (uint32_t t = 0; t < tokens && status == KVOT_OK; t++)
        cells[t] = (plan_cell){.position = (int32_t)(position + t)};
    for (uint32_t p = 0; p < plan->n_planes && status == KVOT_OK; p++)
        status = plan_add_tensor(plan, p, 0, error);
    return status;
}

input compress_ids(const int32_t *ids, size_t n) {
    return (input){.fd = -1, .memory = (const uint8_t *)ids, .bytes = n * sizeof *ids, .name = ENGINE_ARRAYS};
}

kvot_status compress_take_array(const run_place *place, unit_encoder *encoder, uint32_t i, const kvot_array *array,
                                uint32_t first, uint32_t n, kvot_error *error) {
    unit_stream *of = &encoder->streams[i];
    if (place->on_device) {
        of->at = array_on_device(array, first);
        return codec_need_lane(&encoder->codec, place->device, place->stream, error);
    }
    kvot_status status = unit_rows(encoder, i, n * array_row_bytes(array), error);
    if (status == KVOT_OK)
        array_read(array, first, n, of->rows);
    return status;
}

static kvot_status check_arrays(const kvot_array *arrays, size_t n_layers, kvot_error *error) {
    kvot_status status = KVOT_OK;
    for (size_t i = 0; i < 2 * n_layers && status == KVOT_OK; i++) {
        array_name name;
        status = array_check(&arrays[i], name_of(name, i), error);
        if (status == KVOT_OK && arrays[i].tokens != arrays[0].tokens)
            status = fail(error, KVOT_E_ARGUMENT, "%s: not as many tokens as others", name);
    }
    return status;
}

kvot_status kvot_compress_arrays(const kvot_array *arrays, size_t n_layers, const kvot_memory *memory,
                                 const kvot_about *about, const char *output, const kvot_compress_options *options,
                                 const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    static const kvot_about nothing;
    options = options ? options : &compress_defaults;
    run = run ? run : &run_plain;
    about = about ? about : &nothing;
    plan plan = {0};
    input ids = compress_ids(about->tokens, about->n_tokens);
    source source = {.in = &ids, .arrays = arrays};
    kvot_status status = compress_check_options(options, error);
    if (status == KVOT_OK)
        status = run_place_open(memory, run, &source.place, error);
    if (status == KVOT_OK)
        status = compress_plan_arrays(&plan, arrays, n_layers, about, error);
    if (status == KVOT_OK)
        status = check_arrays(arrays, n_layers, error);
    if (status == KVOT_OK)
        status = compress_plan_tokens(&plan, about->position, arrays[0].tokens, about->n_tokens, error);
    if (status == KVOT_OK)
        status = compress_plan(&plan, &source, 0, output, options, run, sizes, error);
    plan_free(&plan);
    run_place_close(&source.place);
    return status;
}
