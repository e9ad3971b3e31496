#include "model.h"

#include "../run/run.h"
#include "gguf.h"

#include <stdlib.h>
#include <string.h>

/* Fills in the identity, RoPE and KV heads that the model's file tells. */
static kvot_status apply(plan *plan, const input *in, const gguf *model, const char *path, kvot_error *error) {
    format_index *about = &plan->about;
    if (about->architecture[0] && strcmp(about->architecture, model->architecture) != 0)
        return fail(error, KVOT_E_MODEL, "%s: made by a model of architecture %s, but %s is %s", in->name,
                    about->architecture, path, model->architecture);
    memcpy(about->architecture, model->architecture, sizeof about->architecture);
    memcpy(about->model_digest, model->digest, sizeof about->model_digest);
    about->rope_base = model->rope_base;
    about->rope_dims = model->rope_dims;
    bool any = false, fits = false;
    for (uint32_t p = 0; p < plan->n_planes; p++) {
        format_plane *plane = &plan->planes[p];
        if (plane->kind == FORMAT_STATE)
            continue;
        const format_type_info *type = format_type_of(plane->type);
        uint32_t elems = plane->row_bytes / type->block_bytes * type->block_elems;
        uint32_t heads = gguf_heads(model, plane->kind == FORMAT_K, elems);
        any = true;
        fits |= heads > 0;
        plane->heads = heads > 0 ? heads : 1;
        format_plane *keys = plane->kind == FORMAT_V && p > 0 ? plane - 1 : plane;
        if (keys->layer == plane->layer && keys->rowset == plane->rowset && keys->heads != plane->heads)
            keys->heads = plane->heads = 1; /* K and V of a token are outliers together */
    }
    if (any && !fits)
        return fail(error, KVOT_E_MODEL, "%s: no layer of %s has K or V of this size", in->name, path);
    return KVOT_OK;
}

static kvot_status read_model(const char *path, const kvot_run *run, gguf *model, kvot_error *error) {
    input file;
    kvot_status status = input_open(&file, path, run, error);
    if (status == KVOT_OK) {
        status = gguf_read(&file, model, error);
        input_close(&file);
    }
    return status;
}

kvot_status model_apply(plan *plan, const input *in, const char *path, const kvot_run *run, kvot_error *error) {
    gguf *model = malloc(sizeof *model);
    if (!model)
        return fail_memory(error);
    kvot_status status = read_model(path, run, model, error);
    if (status == KVOT_OK)
        status = apply(plan, in, model, path, error);
    free(model);
    return status;
}

bool model_is_known(const format_index *about) {
    static const uint8_t unknown[sizeof about->model_digest];
    return memcmp(about->model_digest, unknown, sizeof unknown) != 0;
}

void model_keep(format_index *about, const format_index *old) {
    if (old->architecture[0])
        memcpy(about->architecture, old->architecture, sizeof about->architecture);
    memcpy(about->model_digest, old->model_digest, sizeof about->model_digest);
    about->rope_base = old->rope_base;
    about->rope_dims = old->rope_dims;
}

kvot_status kvot_model_digest(const char *path, uint8_t digest[16], kvot_error *error) {
    gguf *model = malloc(sizeof *model);
    if (!model)
        return fail_memory(error);
    kvot_status status = read_model(path, &run_plain, model, error);
    if (status == KVOT_OK)
        memcpy(digest, model->digest, sizeof model->digest);
    free(model);
    return status;
}
