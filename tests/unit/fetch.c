#include "unit.h"

#include "../../lib/io/fetch.h"
#include "../../lib/io/sink.h"
#include "../../lib/run/pages.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file of words that say where they are. Its last block is not whole. */
enum { WORDS = 3000003, FILE_BYTES = WORDS * 8 };

typedef struct seen {
    const fetch_range *ranges;
    size_t count;
    _Atomic uint64_t wrong, total;
    _Atomic unsigned char *times; /* each range came */
    size_t fail_from;
    size_t told_after; /* calls of `told` until it asks to stop */
    fetch *stop;
} seen;

static void file_of_words(input *in) {
    output out;
    kvot_run run = {0};
    CU_ASSERT_EQUAL_FATAL(output_open_unnamed(&out, NULL, "words", &run, NULL), KVOT_OK);
    uint64_t *words = malloc(FILE_BYTES);
    for (uint64_t i = 0; i < WORDS; i++)
        words[i] = i * 0x9e3779b97f4a7c15u;
    CU_ASSERT_EQUAL_FATAL(output_append(&out, words, FILE_BYTES, NULL), KVOT_OK);
    free(words);
    CU_ASSERT_EQUAL_FATAL(output_to_input(&out, in, FILE_BYTES, NULL), KVOT_OK);
    output_close(&out);
}

/* So that io_uring reads it, where the file system lets it be dropped. */
static void drop(const input *in) {
    fdatasync(in->fd);
    posix_fadvise(in->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static kvot_status work(void *context, size_t range, const uint8_t *bytes, void *slot, kvot_error *error) {
    seen *seen = context;
    uint64_t offset = seen->ranges[range].offset;
    ++*(uint64_t *)slot;
    seen->wrong += (uintptr_t)bytes % 64 != offset % 64;
    for (uint32_t i = 0; i < seen->ranges[range].bytes; i++) {
        uint64_t at = offset + i, word = at / 8 * 0x9e3779b97f4a7c15u;
        seen->wrong += bytes[i] != (uint8_t)(word >> at % 8 * 8);
    }
    seen->times[range]++;
    seen->total++;
    if (range >= seen->fail_from)
        return fail(error, KVOT_E_DAMAGED, "range %zu", range);
    if (seen->stop)
        fetch_stop(seen->stop);
    return KVOT_OK;
}

static kvot_status told(void *context, kvot_error *error) {
    seen *seen = context;
    return seen->told_after > 0 && --seen->told_after == 0 ? fail(error, KVOT_E_CANCELLED, "enough") : KVOT_OK;
}

static fetch_jobs jobs_of(seen *seen, const input *in, const fetch_range *ranges, size_t count, unsigned threads) {
    *seen = (struct seen){
        .ranges = ranges, .count = count, .fail_from = SIZE_MAX, .times = calloc(count + 1, sizeof *seen->times)};
    return (fetch_jobs){.in = in,
                        .ranges = ranges,
                        .count = count,
                        .first = count / 3,
                        .threads = threads,
                        .slot_bytes = sizeof(uint64_t),
                        .context = seen,
                        .work = work,
                        .told = told,
                        .told_context = seen};
}

/* Every range once, with its bytes. */
static void all_came(const seen *seen) {
    size_t missed = 0;
    for (size_t i = 0; i < seen->count; i++)
        missed += seen->times[i] != 1;
    CU_ASSERT_EQUAL(missed, 0);
    CU_ASSERT_EQUAL(seen->wrong, 0);
    CU_ASSERT_EQUAL(seen->total, seen->count);
    free((void *)seen->times);
}

/* Ranges of many lengths, with and without gaps, from start to end or from end to start, that end with the file. */
static size_t some_ranges(fetch_range *ranges, size_t most, bool backward) {
    size_t n = 0;
    uint64_t at = unit_random() % 5000 * 64;
    while (n < most && at < FILE_BYTES) {
        uint64_t bytes = 1 + unit_random() % (n % 7 == 0 ? 3000000 : n % 3 == 0 ? 300000 : 3000);
        bytes = at + bytes < FILE_BYTES ? bytes : FILE_BYTES - at;
        ranges[n++] = (fetch_range){at, (uint32_t)bytes};
        at += bytes + (n % 5 == 0 ? unit_random() % 200000 : 0);
        at = (at + 63) / 64 * 64;
    }
    ranges[n++] = (fetch_range){FILE_BYTES - 5, 5};
    for (size_t i = 0; backward && i < n / 2; i++) {
        fetch_range range = ranges[i];
        ranges[i] = ranges[n - 1 - i];
        ranges[n - 1 - i] = range;
    }
    return n;
}

static void every_range_comes_once(void) {
    fetch_range ranges[500];
    input in;
    file_of_words(&in);
    for (int i = 0; i < 24; i++) {
        size_t n = some_ranges(ranges, 400, i % 3 == 2);
        seen seen;
        kvot_stages stages;
        fetch_jobs jobs = jobs_of(&seen, &in, ranges, n, 1 + (unsigned)i % 5);
        if (i % 2)
            drop(&in);
        CU_ASSERT_EQUAL(fetch_run(&jobs, &stages, NULL), KVOT_OK);
        CU_ASSERT_TRUE(stages.direct_bytes + stages.copied_bytes > 0);
        all_came(&seen);
    }
    input_close(&in);
}

static void memory_is_not_copied(void) {
    fetch_range ranges[500];
    input in;
    file_of_words(&in);
    uint8_t *bytes = pages_take(FILE_BYTES);
    CU_ASSERT_EQUAL_FATAL(input_read(&in, 0, bytes, FILE_BYTES, NULL), KVOT_OK);
    input memory = {.fd = -1, .memory = bytes, .bytes = FILE_BYTES, .name = "memory"};
    size_t n = some_ranges(ranges, 400, false);
    seen seen;
    kvot_stages stages;
    fetch_jobs jobs = jobs_of(&seen, &memory, ranges, n, 3);
    CU_ASSERT_EQUAL(fetch_run(&jobs, &stages, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(stages.direct_bytes + stages.copied_bytes, 0);
    all_came(&seen);
    pages_free(bytes, FILE_BYTES);
    input_close(&in);
}

static void the_first_failure_counts(void) {
    fetch_range ranges[500];
    input in;
    file_of_words(&in);
    for (unsigned threads = 1; threads < 6; threads++) {
        size_t n = some_ranges(ranges, 400, false);
        seen seen;
        kvot_error error;
        fetch_jobs jobs = jobs_of(&seen, &in, ranges, n, threads);
        seen.fail_from = n / 2;
        drop(&in);
        CU_ASSERT_EQUAL(fetch_run(&jobs, NULL, &error), KVOT_E_DAMAGED);
        char expected[40];
        snprintf(expected, sizeof expected, "range %zu", n / 2);
        CU_ASSERT_STRING_EQUAL(error.text, expected);
        free((void *)seen.times);
    }
    input_close(&in);
}

static void a_file_that_became_shorter_is_an_error(void) {
    fetch_range ranges[500];
    input in;
    file_of_words(&in);
    CU_ASSERT_EQUAL_FATAL(ftruncate(in.fd, FILE_BYTES / 2), 0);
    size_t n = some_ranges(ranges, 400, false);
    seen seen;
    kvot_error error;
    fetch_jobs jobs = jobs_of(&seen, &in, ranges, n, 3);
    drop(&in);
    CU_ASSERT_EQUAL(fetch_run(&jobs, NULL, &error), KVOT_E_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "shorter"));
    free((void *)seen.times);
    input_close(&in);
}

static void it_can_be_stopped(void) {
    fetch_range ranges[500];
    input in;
    file_of_words(&in);
    size_t n = some_ranges(ranges, 400, false);
    seen seen;
    fetch_jobs jobs = jobs_of(&seen, &in, ranges, n, 2);
    seen.told_after = 2;
    CU_ASSERT_EQUAL(fetch_run(&jobs, NULL, NULL), KVOT_E_CANCELLED);
    CU_ASSERT_TRUE(seen.total < n);
    free((void *)seen.times);
    jobs = jobs_of(&seen, &in, ranges, n, 2);
    CU_ASSERT_EQUAL_FATAL(fetch_start(&jobs, &seen.stop, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(fetch_finish(seen.stop, NULL, NULL), KVOT_E_CANCELLED);
    free((void *)seen.times);
    jobs = jobs_of(&seen, &in, ranges, 0, 2);
    CU_ASSERT_EQUAL(fetch_run(&jobs, NULL, NULL), KVOT_OK);
    all_came(&seen);
    input_close(&in);
}

/* Appends pieces of all sizes, some 20 MB, behind `offset`, and reads them again. With a pool, little is put together
 * first. */
static void write_and_read(kvot_pool *pool) {
    uint8_t *bytes = malloc(FILE_BYTES), *read = malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        bytes[i] = (uint8_t)unit_random();
    const size_t sizes[] = {0, 100, 8 << 20, FILE_BYTES - 3, FILE_BYTES - 4, FILE_BYTES - 5, 3 << 20, 700000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        uint64_t offset = i == 5 ? 12288 : 0;
        output out;
        input in;
        sink *sink;
        kvot_run run = {.pool = pool};
        uint64_t expected = i % 2 == 0 ? n : n / 10; /* it may be wrong */
        CU_ASSERT_EQUAL_FATAL(output_open_unnamed(&out, NULL, "sink", &run, NULL), KVOT_OK);
        lseek(out.fd, (off_t)offset, SEEK_SET);
        CU_ASSERT_EQUAL_FATAL(sink_open(&out, offset, expected, false, &sink, NULL), KVOT_OK);
        for (size_t at = 0, part; at < n; at += part) {
            part = 1 + unit_random() % (unit_random() % 8 == 0 ? 5000000 : 50000);
            part = part < n - at ? part : n - at;
            CU_ASSERT_EQUAL_FATAL(sink_append(sink, bytes + at, part, NULL), KVOT_OK);
        }
        CU_ASSERT_EQUAL(sink_finish(sink, NULL), KVOT_OK);
        sink_close(sink);
        CU_ASSERT_EQUAL(lseek(out.fd, 0, SEEK_END), (off_t)(n > 0 ? offset + n : 0));
        CU_ASSERT_EQUAL_FATAL(output_to_input(&out, &in, offset + n, NULL), KVOT_OK);
        CU_ASSERT_EQUAL(input_read(&in, offset, read, n, NULL), KVOT_OK);
        CU_ASSERT_EQUAL(memcmp(read, bytes, n), 0);
        input_close(&in);
        output_close(&out);
    }
    free(bytes);
    free(read);
}

static void what_a_sink_takes_is_written(void) {
    kvot_pool *pool;
    write_and_read(NULL);
    CU_ASSERT_EQUAL_FATAL(kvot_pool_open(2, 0, &pool, NULL), KVOT_OK);
    write_and_read(pool);
    kvot_pool_close(pool);
}

const unit_test fetch_tests[] = {{"every range comes once", every_range_comes_once},
                                 {"memory is not copied", memory_is_not_copied},
                                 {"the first failure counts", the_first_failure_counts},
                                 {"a file that became shorter is an error", a_file_that_became_shorter_is_an_error},
                                 {"it can be stopped", it_can_be_stopped},
                                 {"what a sink takes is written", what_a_sink_takes_is_written},
                                 {NULL, NULL}};
