/* Whether a file belongs to a model and a prompt. */
#include "inspect.h"

#include <stdlib.h>
#include <string.h>

/* Counts the leading tokens that are the same, a verbatim block's worth at a time. */
static kvot_status count_tokens(kvot_file *file, const int32_t *tokens, uint64_t n, uint64_t *same, kvot_error *error) {
    enum { STEP = FORMAT_VERBATIM_STEP / sizeof(int32_t) };
    int32_t *ids = malloc(STEP * sizeof *ids);
    kvot_status status = ids ? KVOT_OK : fail_memory(error);
    for (uint64_t first = 0; first < n && *same == first && status == KVOT_OK; first += STEP) {
        size_t part = n - first < STEP ? (size_t)(n - first) : STEP, i = 0;
        status = kvot_file_tokens(file, first, part, ids, error);
        while (status == KVOT_OK && i < part && ids[i] == tokens[first + i])
            i++;
        *same += i;
    }
    free(ids);
    return status;
}

kvot_status kvot_file_match(kvot_file *file, const uint8_t *model_digest, const int32_t *tokens, size_t n,
                            kvot_match *match, kvot_error *error) {
    static const uint8_t unknown[sizeof file->info.model_digest];
    const uint8_t *made_by = file->info.model_digest;
    kvot_match found = {.model_known = memcmp(made_by, unknown, sizeof unknown) != 0};
    bool wanted = model_digest && memcmp(model_digest, unknown, sizeof unknown) != 0;
    if (wanted && found.model_known && memcmp(made_by, model_digest, sizeof unknown) != 0)
        return fail(error, KVOT_E_MODEL, "%s: was made by another model", file->reader.in.name);
    kvot_status status =
        count_tokens(file, tokens, n < file->info.tokens ? n : file->info.tokens, &found.tokens, error);
    if (status == KVOT_OK)
        *match = found;
    return status;
}
