#include "unit.h"

#include "../../lib/kvot.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 4 << 20 };

static const kvot_run over = {.overwrite = true};

static kvot_compress_options two_bits(void) {
    kvot_compress_options options = kvot_compress_defaults();
    options.bits = 2;
    options.group = 32;
    return options;
}

static bool same_files(const char *first, const char *second) {
    uint8_t *a = malloc(MOST), *b = malloc(MOST);
    size_t n = unit_read_file(first, a, MOST);
    bool same = n > 0 && n < MOST && unit_read_file(second, b, MOST) == n && memcmp(a, b, n) == 0;
    free(a);
    free(b);
    return same;
}

static void remove_files(void) {
    static const char *const names[] = {"old.kvot", "old.bin", "new.kvot", "same.kvot", "m.gguf", "n.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(unit_path(names[i]));
}

/* Recompressing `path`, which was compressed with `model`, gives what compressing the restored file with it gives. */
static void check_file(const char *path, const kvot_compress_options *old, const kvot_compress_options *new,
                       const char *model) {
    kvot_compress_options with = *old, again = *new;
    kvot_sizes sizes, expected;
    with.model_path = again.model_path = model;
    CU_ASSERT_EQUAL(kvot_compress(path, unit_path("old.kvot"), &with, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_restore(unit_path("old.kvot"), unit_path("old.bin"), NULL, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_compress(unit_path("old.bin"), unit_path("same.kvot"), &again, &over, &expected, NULL),
                    KVOT_OK);
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("new.kvot"), new, &over, &sizes, NULL), KVOT_OK);
    CU_ASSERT_TRUE(same_files("new.kvot", "same.kvot"));
    CU_ASSERT_EQUAL(memcmp(&sizes, &expected, sizeof sizes), 0);
    CU_ASSERT_EQUAL(kvot_verify(unit_path("new.kvot"), unit_path("old.bin"), NULL, NULL, NULL), KVOT_OK);
}

static void every_engine_file_is_recompressed(void) {
    kvot_compress_options lossless = {.codec = KVOT_LOSSLESS}, standard = kvot_compress_defaults(), small = two_bits();
    DIR *files = opendir(UNIT_DATA);
    CU_ASSERT_PTR_NOT_NULL_FATAL(files);
    unsigned n = 0;
    for (struct dirent *entry; (entry = readdir(files));) {
        char path[600];
        if (!strstr(entry->d_name, ".bin"))
            continue;
        snprintf(path, sizeof path, "%s/%s", UNIT_DATA, entry->d_name);
        check_file(path, &lossless, &small, NULL);
        check_file(path, &standard, n++ % 2 ? &small : &lossless, NULL);
    }
    closedir(files);
    CU_ASSERT_TRUE(n > 100);
    remove_files();
}

static size_t put_text(uint8_t *to, const char *text) {
    uint64_t n = strlen(text);
    memcpy(to, &n, sizeof n);
    memcpy(to + sizeof n, text, n);
    return sizeof n + n;
}

static size_t put_number(uint8_t *to, const char *key, uint32_t value) {
    const uint32_t type = 4;
    size_t n = put_text(to, key);
    memcpy(to + n, &type, sizeof type);
    memcpy(to + n + sizeof type, &value, sizeof value);
    return n + sizeof type + sizeof value;
}

/* The model's metadata: 2 KV heads of 32 channels. */
static void write_model(const char *name, uint32_t blocks) {
    uint8_t model[1024] = {'G', 'G', 'U', 'F', 3, [16] = 5};
    const uint32_t text = 8;
    size_t n = 24;
    n += put_text(model + n, "general.architecture");
    memcpy(model + n, &text, sizeof text);
    n += sizeof text;
    n += put_text(model + n, "llama");
    n += put_number(model + n, "llama.block_count", blocks);
    n += put_number(model + n, "llama.attention.head_count_kv", 2);
    n += put_number(model + n, "llama.attention.key_length", 32);
    n += put_number(model + n, "llama.attention.value_length", 32);
    unit_write_file(name, model, (n + 31) / 32 * 32);
}

static void the_model_is_kept(void) {
    kvot_compress_options standard = kvot_compress_defaults(), small = two_bits();
    const char *path = UNIT_DATA "/llama-v4-seq.bin";
    char model[64], other[64]; /* unit_path gives each of its texts for a while only */
    strcpy(model, unit_path("m.gguf"));
    strcpy(other, unit_path("n.gguf"));
    write_model("m.gguf", 2);
    write_model("n.gguf", 3);
    check_file(path, &standard, &small, model);
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("new.kvot"), &file, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_file_info(file)->planes[0].heads, 2);
    kvot_close(file);
    small.model_path = other;
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("new.kvot"), &small, &over, NULL, NULL),
                    KVOT_E_MODEL);
    CU_ASSERT_TRUE(same_files("new.kvot", "same.kvot"));
    /* Who did not know the model may be told. */
    standard.model_path = NULL;
    CU_ASSERT_EQUAL(kvot_compress(path, unit_path("old.kvot"), &standard, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("new.kvot"), &small, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_restore(unit_path("old.kvot"), unit_path("old.bin"), NULL, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_compress(unit_path("old.bin"), unit_path("same.kvot"), &small, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_TRUE(same_files("new.kvot", "same.kvot"));
    remove_files();
}

/* Stops a call in one third of its progress: while it restores, compresses or verifies. */
typedef struct stopper {
    unsigned third;
    uint64_t told;
    bool rises;
} stopper;

static bool stop(void *user, uint64_t done, uint64_t all) {
    stopper *stopper = user;
    stopper->rises &= done >= stopper->told && done <= all;
    stopper->told = done;
    return 3 * done > stopper->third * all;
}

static void nothing_is_lost(void) {
    kvot_compress_options standard = kvot_compress_defaults(), small = two_bits();
    const char *path = UNIT_DATA "/slot-llama.bin";
    CU_ASSERT_EQUAL(kvot_compress(path, unit_path("old.kvot"), &standard, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_compress(path, unit_path("same.kvot"), &standard, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("old.kvot"), &small, NULL, NULL, NULL),
                    KVOT_E_EXISTS);
    for (unsigned third = 0; third < 3; third++) {
        stopper stopper = {.third = third, .rises = true};
        kvot_run run = {.overwrite = true, .progress = stop, .user = &stopper};
        CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("old.kvot"), &small, &run, NULL, NULL),
                        KVOT_E_CANCELLED);
        CU_ASSERT_TRUE(stopper.rises && 3 * stopper.told > third);
    }
    CU_ASSERT_TRUE(same_files("old.kvot", "same.kvot"));
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("old.kvot"), &small, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("same.kvot"), unit_path("new.kvot"), &small, &over, NULL, NULL), KVOT_OK);
    CU_ASSERT_TRUE(same_files("old.kvot", "new.kvot"));
    remove_files();
}

static void arrays_are_refused(void) {
    static uint16_t one[1] = {0x3c00};
    kvot_array array = {one, KVOT_F16, 1, 1, 1, 1, 1, 1};
    CU_ASSERT_EQUAL(kvot_compress_arrays((kvot_array[]){array, array}, 1, NULL, NULL, unit_path("old.kvot"), NULL,
                                         &over, NULL, NULL),
                    KVOT_OK);
    CU_ASSERT_EQUAL(kvot_recompress(unit_path("old.kvot"), unit_path("new.kvot"), NULL, &over, NULL, NULL),
                    KVOT_E_UNSUPPORTED);
    CU_ASSERT_EQUAL(kvot_recompress(UNIT_DATA "/slot-llama.bin", unit_path("new.kvot"), NULL, &over, NULL, NULL),
                    KVOT_E_UNKNOWN);
    CU_ASSERT_NOT_EQUAL(access(unit_path("new.kvot"), F_OK), 0);
    remove_files();
}

const unit_test recompress_tests[] = {{"every engine file is recompressed", every_engine_file_is_recompressed},
                                      {"the model is kept", the_model_is_kept},
                                      {"nothing is lost", nothing_is_lost},
                                      {"arrays are refused", arrays_are_refused},
                                      {NULL, NULL}};
