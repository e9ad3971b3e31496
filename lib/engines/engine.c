#include "engine.h"

#include <string.h>

extern const engine engine_arrays, engine_llama;

static const engine *const engines[] = {&engine_arrays, &engine_llama, NULL};

/* Says what a file is that we do not read, where that is plain to see. */
static kvot_status refuse(const input *in, const uint8_t *start, size_t n, kvot_error *error) {
    const char *what = NULL;
    if (n == 0)
        what = "the file is empty";
    else if (n >= 4 && memcmp(start, "PK\x03\x04", 4) == 0)
        what = "this is a zip archive, as torch.save writes: a pickle can run code and is not read; save the tensors "
               "as safetensors instead";
    else if (n >= 2 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5)
        what = "this is a Python pickle, which can run code and is not read; save the tensors as safetensors instead";
    else if (n >= 4 && memcmp(start, "GGUF", 4) == 0)
        what = "this is a model (GGUF), not a cache; give it to --model";
    else
        what = "not a cache of an engine that is known here";
    return fail(error, KVOT_E_UNKNOWN, "%s: %s", in->name, what);
}

/* The one engine whose file it is. */
static kvot_status find(const input *in, const engine **found, kvot_error *error) {
    *found = NULL;
    uint8_t start[ENGINE_PROBE_BYTES] = {0};
    size_t n = in->bytes < sizeof start ? (size_t)in->bytes : sizeof start;
    kvot_status status = input_read(in, 0, start, n, error);
    if (status != KVOT_OK)
        return status;
    for (const engine *const *engine = engines; *engine; engine++) {
        if (!(*engine)->probe || !(*engine)->probe(start, n))
            continue;
        if (*found)
            return fail(error, KVOT_E_UNKNOWN, "%s: could be a file of %s or of %s", in->name, (*found)->name,
                        (*engine)->name);
        *found = *engine;
    }
    return *found ? KVOT_OK : refuse(in, start, n, error);
}

kvot_status engine_read(const input *in, plan *plan, kvot_error *error) {
    memset(plan, 0, sizeof *plan);
    const engine *found;
    kvot_status status = find(in, &found, error);
    if (status != KVOT_OK)
        return status;
    status = found->read(in, plan, error);
    if (status == KVOT_OK && plan->bytes != in->bytes)
        return fail(error, KVOT_E_DAMAGED, "%s: its parts do not add up to its length", in->name);
    strncpy(plan->about.engine, found->name, sizeof plan->about.engine - 1);
    return status;
}

/* The engine of this name if it has no files, by which it could be found. */
static const engine *without_files(const char *name) {
    for (const engine *const *engine = engines; *engine; engine++)
        if (!(*engine)->probe && strcmp((*engine)->name, name) == 0)
            return *engine;
    return NULL;
}

bool engine_has_files(const char *name) {
    return !without_files(name);
}

kvot_status engine_cut(cut *cut, kvot_error *error) {
    const engine *found = without_files(cut->reader->cache.tables.index->engine);
    kvot_status status = found ? KVOT_OK : find(&cut->in, &found, error);
    return status == KVOT_OK ? found->cut(cut, error) : status;
}
