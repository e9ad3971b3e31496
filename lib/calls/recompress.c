/* Recompressing: restored, compressed otherwise, and verified before the new file takes its name. */
#include "../engines/engine.h"
#include "../engines/model.h"
#include "compress.h"
#include "restore.h"
#include "verify.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3 }; /* restoring, compressing, verifying: each a call with progress of its own */

typedef struct steps {
    const kvot_run *run;
    uint64_t bytes;
    unsigned step;
} steps;

/* Tells the caller how far all steps are. */
static bool tell(void *user, uint64_t done, uint64_t all) {
    const steps *steps = user;
    double share = all > 0 ? (double)done / (double)all : 0;
    uint64_t bytes = (uint64_t)((double)steps->bytes * (steps->step + share) / STEPS);
    return steps->run->progress(steps->run->user, bytes < steps->bytes ? bytes : steps->bytes, steps->bytes);
}

/* What the old file says about the model, the new one says too. */
static kvot_status keep_model(plan *plan, const reader *old, const char *model_path, kvot_error *error) {
    const format_tables *tables = &old->cache.tables;
    if (plan->n_planes != tables->index->n_planes || !plan_same_planes(plan->planes, tables->planes, plan->n_planes))
        return fail(error, KVOT_E_UNSUPPORTED,
                    "%s: its layers are not those that are found in the engine's file: restore and compress it",
                    old->in.name);
    if (!model_path) {
        model_keep(&plan->about, tables->index);
        for (uint32_t p = 0; p < plan->n_planes; p++)
            plan->planes[p].heads = tables->planes[p].heads;
    } else if (model_is_known(tables->index) &&
               memcmp(tables->index->model_digest, plan->about.model_digest, sizeof plan->about.model_digest) != 0)
        return fail(error, KVOT_E_MODEL, "%s: was made by another model than %s", old->in.name, model_path);
    return KVOT_OK;
}

/* Restores `old` beside the output. */
static kvot_status restore(const reader *old, const output *out, input *in, const kvot_run *run, kvot_error *error) {
    char *path = out->path ? strdup(out->path) : NULL;
    if (out->path && !path)
        return fail_memory(error);
    kvot_status status = restore_unnamed(old, in, path ? dirname(path) : NULL, run, error);
    free(path);
    return status;
}

static kvot_status recompress(const reader *old, source *source, output *out, const kvot_compress_options *options,
                              const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    steps steps = {run, old->cache.tables.index->source_bytes, 0};
    kvot_run step = *run;
    if (run->progress) {
        step.progress = tell;
        step.user = &steps;
    }
    input in;
    plan plan = {0};
    kvot_status status = restore(old, out, &in, &step, error);
    if (status != KVOT_OK)
        return status;
    source->in = &in;
    steps.step++;
    status = compress_read_plan(&in, options->model_path, run, &plan, error);
    if (status == KVOT_OK)
        status = keep_model(&plan, old, options->model_path, error);
    if (status == KVOT_OK)
        status = compress_to(&plan, source, out, options, &step, sizes, error);
    plan_free(&plan);
    steps.step++;
    if (status == KVOT_OK)
        status = verify_output(out, sizes->stored_bytes, &in, &step, error);
    input_close(&in);
    return status;
}

static kvot_status recompress_file(const reader *old, const char *output_path, const kvot_compress_options *options,
                                   const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    source source = {0};
    output out;
    if (!engine_has_files(old->cache.tables.index->engine))
        return fail(error, KVOT_E_UNSUPPORTED, "%s: holds arrays, which are compressed only from where they were",
                    old->in.name);
    kvot_status status = run_place_open(NULL, run, &source.place, error);
    if (status == KVOT_OK && (status = output_open(&out, output_path, old->in.mode, run, true, error)) == KVOT_OK) {
        status = recompress(old, &source, &out, options, run, sizes, error);
        if (status == KVOT_OK)
            status = output_commit(&out, error);
        output_close(&out);
    }
    run_place_close(&source.place);
    return status;
}

kvot_status kvot_recompress(const char *input_path, const char *output_path, const kvot_compress_options *options,
                            const kvot_run *run, kvot_sizes *sizes, kvot_error *error) {
    options = options ? options : &compress_defaults;
    run_call call;
    run = run_call_open(&call, run, input_path);
    reader old;
    kvot_sizes made;
    kvot_status status = compress_check_options(options, error);
    if (status == KVOT_OK && (status = reader_open_path(&old, input_path, run, error)) == KVOT_OK) {
        status = recompress_file(&old, output_path, options, run, &made, error);
        if (sizes && status == KVOT_OK)
            *sizes = made;
        reader_close(&old);
    }
    run_call_close(&call);
    return status;
}
