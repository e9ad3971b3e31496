/* Appending: a longer state of a conversation, written behind the one that a .kvot file holds. */
#include "../cache/rows.h"
#include "../engines/model.h"
#include "../io/in_place.h"
#include "compress.h"
#include "inspect.h"

#include <stdlib.h>
#include <string.h>

typedef struct append_context {
    const char *input_path, *model_path;
    const kvot_run *run;
    kvot_file *old;
    in_place target;
    source source;
    plan plan;
} append_context;

/* ---- is it the same conversation? ---- */

static kvot_status differs(const append_context *append, const char *what, kvot_error *error) {
    return fail(error, KVOT_E_DIFFERENT, "%s is not a longer state of what is in %s: %s", append->source.in->name,
                append->target.out.name, what);
}

/* A verbatim block's worth at a time, as each call decodes a block. */
static kvot_status compare_tokens(const append_context *append, kvot_error *error) {
    enum { STEP = FORMAT_VERBATIM_STEP / sizeof(int32_t) };
    const format_index *about = &append->plan.about;
    uint64_t n = append->old->info.tokens;
    if (n > about->n_tokens)
        return differs(append, "it has fewer tokens", error);
    int32_t *ids = malloc(2 * STEP * sizeof *ids);
    kvot_status status = ids ? KVOT_OK : fail_memory(error);
    for (uint64_t first = 0; first < n && status == KVOT_OK; first += STEP) {
        size_t part = n - first < STEP ? (size_t)(n - first) : STEP;
        status = kvot_file_tokens(append->old, first, part, ids, error);
        if (status == KVOT_OK)
            status = input_read(append->source.in, about->tokens_offset + first * sizeof *ids, ids + STEP,
                                part * sizeof *ids, error);
        if (status == KVOT_OK && memcmp(ids, ids + STEP, part * sizeof *ids) != 0)
            status = differs(append, "its tokens do not begin with those", error);
    }
    free(ids);
    return status;
}

/* What is known of the model must agree, and what the old file knows stays known. */
static kvot_status compare_model(append_context *append, kvot_error *error) {
    const format_index *old = append->old->reader.cache.tables.index;
    format_index *about = &append->plan.about;
    const char *name = append->target.out.name;
    if (append->model_path && !model_is_known(old))
        return fail(error, KVOT_E_MODEL, "%s: does not say which model made it, so %s cannot be compared", name,
                    append->model_path);
    if (append->model_path && memcmp(old->model_digest, about->model_digest, sizeof old->model_digest) != 0)
        return fail(error, KVOT_E_MODEL, "%s: was made by another model than %s", name, append->model_path);
    if (old->architecture[0] && about->architecture[0] && strcmp(old->architecture, about->architecture) != 0)
        return fail(error, KVOT_E_MODEL, "%s: made by a model of architecture %s, but %s by %s", name,
                    old->architecture, append->source.in->name, about->architecture);
    model_keep(about, old);
    return KVOT_OK;
}

/* How the old file was made, as far as that concerns planes that it has not. */
static kvot_compress_options options_of(const cache *old) {
    kvot_compress_options options = {.codec = KVOT_LOSSLESS};
    for (uint32_t p = 0; p < old->tables.index->n_planes; p++) {
        const format_plane *plane = &old->tables.planes[p];
        if (!codec_of(plane->codec)->lossy)
            continue;
        options.codec = (kvot_codec)plane->codec;
        codec_of(plane->codec)->options_of(plane, &options);
    }
    return options;
}

/* Finds the old row set of each new one, by its planes, and has them stored as the old ones are. Row sets come in the
 * order of the engine's file; one that had no rows yet was not there. */
static kvot_status match_planes(append_context *append, base *base, uint32_t *rowsets, kvot_error *error) {
    const format_tables *old = &base->old->tables;
    plan *plan = &append->plan;
    uint32_t matched = 0, old_plane = 0;
    for (uint32_t p = 0, n; p < plan->n_planes; p += n) {
        uint32_t s = plan->planes[p].rowset;
        for (n = 1; p + n < plan->n_planes && plan->planes[p + n].rowset == s; n++)
            ;
        bool same = matched < old->index->n_rowsets && old->rowsets[matched].n_planes == n &&
                    plan_same_planes(&old->planes[old_plane], &plan->planes[p], n);
        rowsets[s] = same ? matched : BASE_NONE;
        for (uint32_t i = 0; i < n; i++) {
            base->planes[p + i] = same ? old_plane + i : BASE_NONE;
            if (same) {
                plan->planes[p + i] = old->planes[old_plane + i];
                plan->planes[p + i].rowset = s;
            }
        }
        matched += same;
        old_plane += same ? n : 0;
    }
    return matched == old->index->n_rowsets ? KVOT_OK : differs(append, "it has other layers", error);
}

static kvot_status match(append_context *append, base *base, uint32_t *rowsets, kvot_error *error) {
    const format_tables *old = &base->old->tables;
    if (strcmp(old->index->engine, append->plan.about.engine) != 0)
        return differs(append, "it is another engine's", error);
    for (uint32_t p = 0; p < old->index->n_planes; p++)
        if (old->planes[p].outliers > 0)
            return fail(error, KVOT_E_ARGUMENT,
                        "%s: its outliers were chosen over all tokens, so that more tokens would change all of it: "
                        "such a file cannot be appended to",
                        append->target.out.name);
    kvot_status status = compare_model(append, error);
    if (status == KVOT_OK)
        status = compare_tokens(append, error);
    return status == KVOT_OK ? match_planes(append, base, rowsets, error) : status;
}

/* ---- the call ---- */

static kvot_status write(append_context *append, const base *base, const cache *cache,
                         const kvot_compress_options *options, kvot_append_result *result, kvot_error *error) {
    uint64_t bytes = append->old->info.stored_bytes;
    writer writer = {0};
    compress_context compress = {.cache = cache,
                                 .source = &append->source,
                                 .options = options,
                                 .base = base,
                                 .writer = &writer,
                                 .run = append->run};
    kvot_status status = in_place_start(&append->target, bytes, writer_append_offset(bytes), error);
    if (status == KVOT_OK)
        status = writer_open_behind(&writer, &append->target.out, bytes, cache_bytes(cache), error);
    if (status == KVOT_OK)
        status = compress_cache(&compress, error);
    /* Verbatim blocks that may have been written are not committed, and cut off again when the file is closed. */
    uint64_t end = compress.nothing_new ? bytes : writer.offset;
    if (status == KVOT_OK && !compress.nothing_new)
        status = in_place_commit(&append->target, error);
    if (status == KVOT_OK)
        *result = (kvot_append_result){.sizes = cache_sizes(cache, end),
                                       .written_bytes = end - bytes,
                                       .kept_chunks = compress.kept_chunks,
                                       .new_chunks = compress.new_chunks};
    writer_close(&writer);
    return status;
}

static kvot_status append_plan(append_context *append, kvot_append_result *result, kvot_error *error) {
    cache cache = {0};
    plan *plan = &append->plan;
    base base = {.old = &append->old->reader.cache};
    kvot_compress_options options = options_of(base.old);
    uint32_t *rowsets = calloc((size_t)plan->n_rowsets + 1, sizeof *rowsets);
    base.planes = calloc((size_t)plan->n_planes + 1, sizeof *base.planes);
    compress_set_codecs(plan, &options);
    kvot_status status = rowsets && base.planes ? match(append, &base, rowsets, error) : fail_memory(error);
    if (status == KVOT_OK)
        status = compress_rows(plan, append->source.in, append->run, &cache, error);
    if (status == KVOT_OK)
        status = base_match_chunks(&base, &cache, rowsets, error);
    if (status == KVOT_OK)
        status = write(append, &base, &cache, &options, result, error);
    cache_free(&cache);
    free(rowsets);
    free(base.planes);
    free(base.chunks);
    return status;
}

static kvot_status append_input(append_context *append, kvot_append_result *result, kvot_error *error) {
    input in;
    kvot_status status = input_open(&in, append->input_path, append->run, error);
    if (status != KVOT_OK)
        return status;
    append->source.in = &in;
    status = compress_read_plan(&in, append->model_path, append->run, &append->plan, error);
    if (status == KVOT_OK)
        status = append_plan(append, result, error);
    plan_free(&append->plan);
    input_close(&in);
    return status;
}

kvot_status kvot_append(const char *input_path, const char *output_path, const char *model_path, const kvot_run *run,
                        kvot_append_result *result, kvot_error *error) {
    run_call call;
    append_context append = {.input_path = input_path, .model_path = model_path};
    append.run = run_call_open(&call, run, input_path);
    kvot_append_result ignored;
    kvot_status status = in_place_open(&append.target, output_path, append.run, error);
    if (status == KVOT_OK)
        status = kvot_open(output_path, &append.old, error);
    if (status == KVOT_OK)
        status = in_place_is(&append.target, &append.old->reader.in, error);
    if (status == KVOT_OK && !append.old->info.compressed)
        status = fail(error, KVOT_E_UNKNOWN, "%s: not a .kvot file", output_path);
    if (status == KVOT_OK)
        status = run_place_open(NULL, append.run, &append.source.place, error);
    if (status == KVOT_OK)
        status = append_input(&append, result ? result : &ignored, error);
    run_place_close(&append.source.place);
    kvot_close(append.old);
    in_place_close(&append.target);
    run_call_close(&call);
    return status;
}
