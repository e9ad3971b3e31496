#include "unit.h"

#include "../../lib/kvot.h"

#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { IDS = 600000 }; /* in three verbatim blocks */

static int32_t ids[IDS], prompt[IDS + 1];
static const uint8_t model[16] = {[15] = 1}, other_model[16] = {[15] = 2};

/* Opens a file with these ids, of a model or of none that is known. */
static kvot_file *open_file(size_t n_ids, const uint8_t *digest) {
    static uint16_t one[1] = {0x3c00};
    kvot_array array = {one, KVOT_F16, 1, 1, 1, 1, 1, 1};
    kvot_about about = {.tokens = ids, .n_tokens = n_ids};
    kvot_run run = {.overwrite = true};
    kvot_file *file;
    if (digest)
        memcpy(about.model_digest, digest, sizeof about.model_digest);
    CU_ASSERT_EQUAL_FATAL(kvot_compress_arrays((kvot_array[]){array, array}, 1, NULL, &about, unit_path("match.kvot"),
                                               NULL, &run, NULL, NULL),
                          KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("match.kvot"), &file, NULL), KVOT_OK);
    unlink(unit_path("match.kvot"));
    return file;
}

static uint64_t tokens_that_match(kvot_file *file, size_t n) {
    kvot_match match;
    CU_ASSERT_EQUAL(kvot_file_match(file, NULL, prompt, n, &match, NULL), KVOT_OK);
    return match.tokens;
}

static void leading_tokens_are_counted(void) {
    for (int i = 0; i < IDS; i++)
        prompt[i] = ids[i] = (int32_t)unit_random();
    kvot_file *file = open_file(IDS, NULL);
    static const size_t places[] = {0, 1, 262143, 262144, 262145, IDS - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        size_t n = places[i];
        CU_ASSERT_EQUAL(tokens_that_match(file, n), n); /* the prompt ends there */
        prompt[n] = ~prompt[n];                         /* or another token is there, all behind it being the same */
        CU_ASSERT_EQUAL(tokens_that_match(file, IDS + 1), n);
        prompt[n] = ids[n];
    }
    CU_ASSERT_EQUAL(tokens_that_match(file, IDS), IDS);
    CU_ASSERT_EQUAL(tokens_that_match(file, IDS + 1), IDS);
    kvot_close(file);
    file = open_file(0, NULL);
    CU_ASSERT_EQUAL(tokens_that_match(file, IDS), 0);
    kvot_close(file);
}

static void other_models_are_refused(void) {
    static const uint8_t any[16];
    kvot_match match = {.tokens = 7};
    kvot_file *file = open_file(10, model);
    CU_ASSERT_EQUAL(kvot_file_match(file, other_model, ids, 10, &match, NULL), KVOT_E_MODEL);
    CU_ASSERT_EQUAL(match.tokens, 7);
    const uint8_t *good[] = {model, any, NULL};
    for (int i = 0; i < 3; i++) {
        match = (kvot_match){0};
        CU_ASSERT_EQUAL(kvot_file_match(file, good[i], ids, 10, &match, NULL), KVOT_OK);
        CU_ASSERT_TRUE(match.model_known && match.tokens == 10);
    }
    kvot_close(file);
    file = open_file(10, NULL); /* does not say */
    CU_ASSERT_EQUAL(kvot_file_match(file, model, ids, 10, &match, NULL), KVOT_OK);
    CU_ASSERT_TRUE(!match.model_known && match.tokens == 10);
    kvot_close(file);
}

static void models_have_an_identity(void) {
    const uint8_t gguf[28] = {'G', 'G', 'U', 'F', 3, [24] = 'd', 'a', 't', 'a'}; /* no metadata, no tensors */
    uint8_t digest[16];
    XXH128_canonical_t expected;
    XXH128_canonicalFromHash(&expected, XXH3_128bits(gguf, 24));
    unit_write_file("model.gguf", gguf, sizeof gguf);
    CU_ASSERT_EQUAL(kvot_model_digest(unit_path("model.gguf"), digest, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(memcmp(digest, expected.digest, sizeof digest), 0);
    unit_write_file("model.gguf", gguf + 1, sizeof gguf - 1);
    CU_ASSERT_EQUAL(kvot_model_digest(unit_path("model.gguf"), digest, NULL), KVOT_E_UNKNOWN);
    unlink(unit_path("model.gguf"));
    CU_ASSERT_EQUAL(kvot_model_digest(unit_path("model.gguf"), digest, NULL), KVOT_E_IO);
}

const unit_test match_tests[] = {{"leading tokens are counted", leading_tokens_are_counted},
                                 {"other models are refused", other_models_are_refused},
                                 {"models have an identity", models_have_an_identity},
                                 {NULL, NULL}};
