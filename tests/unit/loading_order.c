#include "strided.h"
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* When kvot_loading says that a part is there, and how it ends: on a file of several reads, stored without loss. */
enum { LAYERS = 4, PARTS = 2 * LAYERS, TOKENS = 1000, HEADS = 4, HEAD_DIM = 64, N = TOKENS * HEADS * HEAD_DIM };
enum { NEVER = PARTS };

typedef float plane[N];
static plane source[PARTS], room[2][PARTS]; /* of two loadings */

typedef struct seen {
    kvot_loading *loading;
    kvot_part parts[PARTS];
    _Atomic unsigned n, times[PARTS], wrong;
    unsigned order[PARTS + 1];
    unsigned cancel_at; /* call of `ready` that does */
} seen;

static void make_file(void) {
    kvot_array arrays[PARTS];
    kvot_compress_options options = kvot_compress_defaults();
    kvot_run run = {.overwrite = true};
    options.codec = KVOT_LOSSLESS;
    for (int p = 0; p < PARTS; p++) {
        arrays[p] = strided_array(0, source[p], KVOT_F32, TOKENS, HEADS, HEAD_DIM);
        for (int i = 0; i < N; i++)
            source[p][i] = (float)(unit_random() + 1) / (float)(1 << 20);
    }
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, LAYERS, NULL, NULL, unit_path("order.kvot"), &options, &run, NULL, NULL), KVOT_OK);
}

static kvot_file *open_made(void) {
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("order.kvot"), &file, NULL), KVOT_OK);
    return file;
}

/* So that it comes from the page cache, or, where the file system lets it be dropped, from the disk. */
static void set_cached(bool cached) {
    static uint8_t bytes[sizeof source + (1 << 20)];
    int fd = open(unit_path("order.kvot"), O_RDONLY);
    CU_ASSERT_TRUE(fd >= 0 && fsync(fd) == 0);
    if (!cached)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    if (cached)
        CU_ASSERT_TRUE(unit_read_file("order.kvot", bytes, sizeof bytes) < sizeof bytes);
}

static bool is_there(const seen *seen, size_t part) {
    return memcmp(seen->parts[part].to.data, source[seen->parts[part].plane], sizeof(plane)) == 0;
}

static void ready(void *user, size_t part) {
    seen *seen = user;
    unsigned at = seen->n++;
    seen->order[at < PARTS ? at : PARTS] = (unsigned)part;
    seen->times[part]++;
    seen->wrong += !is_there(seen, part) || kvot_loading_wait(seen->loading, part, NULL) != KVOT_OK;
    if (at == seen->cancel_at)
        kvot_loading_cancel(seen->loading);
}

/* Planes in `order`; NULL: as they are. */
static void start(seen *seen, kvot_file *file, int where, const unsigned *order, const kvot_run *run) {
    unsigned cancel_at = seen->cancel_at;
    memset(seen, 0, sizeof *seen);
    seen->cancel_at = cancel_at;
    memset(room[where], 0, sizeof room[where]);
    for (unsigned p = 0; p < PARTS; p++)
        seen->parts[p] =
            (kvot_part){order ? order[p] : p, 0, strided_array(0, room[where][p], KVOT_F32, TOKENS, HEADS, HEAD_DIM)};
    CU_ASSERT_EQUAL_FATAL(kvot_loading_start(file, seen->parts, PARTS, NULL, run, ready, seen, &seen->loading, NULL),
                          KVOT_OK);
}

static void finish(seen *seen, kvot_status expected) {
    kvot_stages stages;
    kvot_error error = {0};
    CU_ASSERT_EQUAL(kvot_loading_finish(seen->loading, &stages, &error), expected);
    CU_ASSERT_EQUAL(error.status, expected);
    CU_ASSERT_EQUAL(seen->wrong, 0);
    CU_ASSERT_TRUE(stages.threads > 0 && stages.seconds > 0);
    for (unsigned p = 0; p < PARTS; p++)
        CU_ASSERT_TRUE(seen->times[p] <= 1);
    if (expected != KVOT_OK)
        return;
    CU_ASSERT_EQUAL(seen->n, PARTS);
    CU_ASSERT_TRUE(stages.direct_bytes + stages.copied_bytes > 3 * sizeof source / 4); /* all but some exponents */
}

static void every_part_is_told_once(void) {
    static const unsigned orders[][PARTS] = {
        {0, 1, 2, 3, 4, 5, 6, 7}, {7, 6, 5, 4, 3, 2, 1, 0}, {0, 2, 4, 6, 1, 3, 5, 7}};
    /* A layer's second part comes with its first. */
    static const unsigned told[][PARTS] = {
        {0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 4, 1, 5, 2, 6, 3, 7}};
    seen seen = {.cancel_at = NEVER};
    make_file();
    kvot_file *file = open_made();
    for (int o = 0; o < 3; o++)
        for (unsigned threads = 1; threads < 6; threads += 2)
            for (int cached = 0; cached < 2; cached++) {
                set_cached(cached);
                start(&seen, file, 0, orders[o], &(kvot_run){.threads = threads});
                finish(&seen, KVOT_OK);
                /* Threads overtake each other, and reads do. */
                CU_ASSERT_TRUE(threads > 1 || !cached || memcmp(seen.order, told[o], sizeof told[o]) == 0);
            }
    kvot_close(file);
}

typedef struct waiter {
    seen *seen;
    size_t part;
    kvot_status expected;
    bool good;
} waiter;

static void *wait_for_part(void *argument) {
    waiter *waiter = argument;
    kvot_status status = kvot_loading_wait(waiter->seen->loading, waiter->part, NULL);
    waiter->good = status == KVOT_OK ? is_there(waiter->seen, waiter->part) : status == waiter->expected;
    return NULL;
}

/* A thread waits for each part, until it is there or, if something is expected to go wrong, that has. */
static void wait_for_all(seen *seen, kvot_status expected) {
    pthread_t threads[PARTS];
    waiter waiters[PARTS];
    for (size_t p = 0; p < PARTS; p++) {
        waiters[p] = (waiter){.seen = seen, .part = p, .expected = expected};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[p], NULL, wait_for_part, &waiters[p]), 0);
    }
    for (size_t p = 0; p < PARTS; p++) {
        pthread_join(threads[p], NULL);
        CU_ASSERT_TRUE(waiters[p].good);
    }
}

static void threads_wait_for_parts(void) {
    seen seen = {.cancel_at = NEVER};
    kvot_file *file = open_made();
    for (unsigned threads = 1; threads < 4; threads++) {
        set_cached(threads % 2);
        start(&seen, file, 0, NULL, &(kvot_run){.threads = threads});
        CU_ASSERT_EQUAL(kvot_loading_wait(seen.loading, PARTS, NULL), KVOT_E_ARGUMENT);
        wait_for_all(&seen, KVOT_OK);
        kvot_loading_cancel(seen.loading); /* too late */
        finish(&seen, KVOT_OK);
    }
    kvot_close(file);
}

static void it_is_cancelled_from_ready(void) {
    seen seen;
    kvot_file *file = open_made();
    for (unsigned threads = 1; threads < 4; threads++) {
        set_cached(threads % 2);
        seen.cancel_at = 0;
        start(&seen, file, 0, NULL, &(kvot_run){.threads = threads});
        wait_for_all(&seen, KVOT_E_CANCELLED);
        finish(&seen, KVOT_E_CANCELLED);
        CU_ASSERT_TRUE(threads > 1 || seen.n < PARTS);
        seen.cancel_at = PARTS - 1; /* all is there */
        start(&seen, file, 0, NULL, &(kvot_run){.threads = threads});
        finish(&seen, KVOT_OK);
    }
    kvot_close(file);
}

static void it_is_cancelled_from_outside(void) {
    seen seen = {.cancel_at = NEVER};
    kvot_file *file = open_made();
    unsigned cancelled = 0;
    for (unsigned i = 0; i < 30; i++) {
        start(&seen, file, 0, NULL, &(kvot_run){.threads = 1 + i % 3});
        usleep(i * 100);
        kvot_loading_cancel(seen.loading);
        kvot_loading_cancel(seen.loading);
        wait_for_all(&seen, KVOT_E_CANCELLED);
        bool all = true;
        for (size_t p = 0; p < PARTS; p++)
            all &= kvot_loading_wait(seen.loading, p, NULL) == KVOT_OK;
        kvot_status status = kvot_loading_finish(seen.loading, NULL, NULL);
        CU_ASSERT_TRUE(status == KVOT_E_CANCELLED || (status == KVOT_OK && all && seen.n == PARTS));
        CU_ASSERT_EQUAL(seen.wrong, 0);
        cancelled += status == KVOT_E_CANCELLED;
    }
    CU_ASSERT_TRUE(cancelled > 0);
    kvot_close(file);
}

static bool count_bytes(void *user, uint64_t done, uint64_t in_all) {
    uint64_t *most = user;
    CU_ASSERT_TRUE(done <= in_all && in_all == sizeof source);
    *most = done;
    return false;
}

static bool stop(void *user, uint64_t done, uint64_t in_all) {
    (void)user;
    (void)done;
    (void)in_all;
    return true;
}

static void progress_is_told_and_asked(void) {
    seen seen = {.cancel_at = NEVER};
    uint64_t done = 0;
    kvot_file *file = open_made();
    start(&seen, file, 0, NULL, &(kvot_run){.threads = 2, .progress = count_bytes, .user = &done});
    finish(&seen, KVOT_OK);
    CU_ASSERT_EQUAL(done, sizeof source);
    start(&seen, file, 0, NULL, &(kvot_run){.threads = 2, .progress = count_bytes, .user = &done});
    done = 0;
    for (size_t p = 0; p < PARTS; p++)
        CU_ASSERT_EQUAL(kvot_loading_wait(seen.loading, p, NULL), KVOT_OK);
    usleep(20000); /* so that no thread works any more */
    finish(&seen, KVOT_OK);
    CU_ASSERT_EQUAL(done, sizeof source);
    start(&seen, file, 0, NULL, &(kvot_run){.threads = 2, .progress = stop});
    finish(&seen, KVOT_E_CANCELLED);
    kvot_close(file);
}

static void loadings_of_a_file_run_side_by_side(void) {
    static const unsigned backward[PARTS] = {6, 7, 4, 5, 2, 3, 0, 1};
    seen first = {.cancel_at = NEVER}, second = {.cancel_at = NEVER};
    kvot_file *file = open_made();
    for (int i = 0; i < 6; i++) {
        bool cancelled = i % 3 == 2;
        set_cached(i % 2);
        start(&first, file, 0, NULL, &(kvot_run){.threads = 2});
        start(&second, file, 1, backward, &(kvot_run){.threads = 2});
        if (cancelled) /* of one, the other goes on */
            kvot_loading_cancel(first.loading);
        wait_for_all(&second, KVOT_OK);
        finish(&second, KVOT_OK);
        if (cancelled) {
            kvot_status status = kvot_loading_finish(first.loading, NULL, NULL);
            CU_ASSERT_TRUE(status == KVOT_E_CANCELLED || first.n == PARTS);
        } else
            finish(&first, KVOT_OK);
    }
    kvot_close(file);
}

static void damage_is_told_to_all(void) {
    static uint8_t bytes[sizeof source + (1 << 20)];
    seen seen = {.cancel_at = NEVER};
    size_t n = unit_read_file("order.kvot", bytes, sizeof bytes);
    bytes[n / 2] ^= 4; /* streams fill the file: in the middle is one of layer 1 or 2 */
    unit_write_file("order.kvot", bytes, n);
    kvot_file *file = open_made();
    for (unsigned threads = 1; threads < 5; threads++) {
        set_cached(threads % 2);
        start(&seen, file, 0, NULL, &(kvot_run){.threads = threads});
        wait_for_all(&seen, KVOT_E_DAMAGED);
        unsigned damaged = 0;
        for (size_t p = 2; p < 6; p++)
            damaged += kvot_loading_wait(seen.loading, p, NULL) == KVOT_E_DAMAGED;
        CU_ASSERT_TRUE(damaged > 0);
        finish(&seen, KVOT_E_DAMAGED);
        CU_ASSERT_TRUE(seen.n < PARTS);
        /* A failure leaves alone what comes before it. */
        CU_ASSERT_EQUAL(seen.times[0] + seen.times[1], 2);
    }
    kvot_close(file);
    unlink(unit_path("order.kvot"));
}

static kvot_status try(kvot_file *file, kvot_part part, const kvot_run *run) {
    static const plane untouched;
    memset(room[0][0], 0, sizeof room[0][0]);
    kvot_part parts[] = {{0, 0, strided_array(0, room[0][0], KVOT_F32, 1, HEADS, HEAD_DIM)}, part};
    kvot_loading *loading;
    kvot_error error = {0};
    kvot_status status = kvot_loading_start(file, parts, 2, NULL, run, NULL, NULL, &loading, &error);
    CU_ASSERT_EQUAL(error.status, status);
    CU_ASSERT_TRUE(status == KVOT_OK || error.text[0] != 0);
    if (status == KVOT_OK)
        return kvot_loading_finish(loading, NULL, NULL);
    CU_ASSERT_EQUAL(memcmp(room[0][0], untouched, sizeof untouched), 0);
    return status;
}

static void wrong_arguments_are_refused(void) {
    const kvot_array good = strided_array(0, room[0][1], KVOT_F32, TOKENS, HEADS, HEAD_DIM);
    kvot_run nowhere = {.device = "cuda:4711"}, nothing = {.device = "abacus"};
    make_file();
    kvot_file *file = open_made();
    kvot_loading *loading;
    CU_ASSERT_EQUAL(kvot_loading_start(file, NULL, 0, NULL, NULL, NULL, NULL, &loading, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(try(file, (kvot_part){0, 0, good}, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(try(file, (kvot_part){PARTS, 0, good}, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(try(file, (kvot_part){SIZE_MAX, 0, good}, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(try(file, (kvot_part){0, 1, good}, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(try(file, (kvot_part){0, UINT64_MAX, good}, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(try(file, (kvot_part){0, 0, good}, &nowhere), KVOT_E_DEVICE);
    CU_ASSERT_EQUAL(try(file, (kvot_part){0, 0, good}, &nothing), KVOT_E_ARGUMENT);
#define TRY(change) try(file, (kvot_part){0, 0, (to = good, to.change, to)}, NULL)
    kvot_array to;
    CU_ASSERT_EQUAL(TRY(tokens = 0), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(tokens = UINT32_MAX), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(data = NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(data = (char *)good.data + 2), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(type = (kvot_type)4), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(type = KVOT_BYTES), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(heads = 0), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(heads = UINT32_MAX), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL(TRY(head_dim = HEAD_DIM + 1), KVOT_E_ARGUMENT);
    to = strided_array(0, room[0][1], KVOT_F32, TOKENS, 2 * HEADS, HEAD_DIM / 2); /* the file knows its heads */
    CU_ASSERT_EQUAL(try(file, (kvot_part){0, 0, to}, NULL), KVOT_E_ARGUMENT);
    kvot_close(file);
    unlink(unit_path("order.kvot"));
}

/* Types that no array can have come as bytes, an engine's own file not at all. */
static void other_types_and_files_are_refused(void) {
    const char *engines = UNIT_DATA "/deepseek2-mla-q8_0-v4-seq.bin";
    kvot_file *file;
    CU_ASSERT_EQUAL_FATAL(kvot_open(engines, &file, NULL), KVOT_OK);
    uint32_t row = (uint32_t)kvot_file_info(file)->planes[0].row_bytes;
    CU_ASSERT_TRUE_FATAL(row < sizeof *room);
    kvot_part bytes = {0, 0, strided_array(0, *room, KVOT_BYTES, 1, 1, row)};
    CU_ASSERT_EQUAL(kvot_load(file, &bytes, 1, NULL, NULL, NULL), KVOT_E_ARGUMENT);
    kvot_close(file);
    CU_ASSERT_EQUAL_FATAL(kvot_compress(engines, unit_path("q8_0.kvot"), NULL, NULL, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(kvot_open(unit_path("q8_0.kvot"), &file, NULL), KVOT_OK);
    CU_ASSERT_STRING_EQUAL(kvot_file_info(file)->planes[0].type, "q8_0");
    CU_ASSERT_EQUAL(kvot_load(file, &bytes, 1, NULL, NULL, NULL), KVOT_OK);
    kvot_part halves = {0, 0, strided_array(0, *room, KVOT_F16, 1, 1, row / 2)};
    CU_ASSERT_EQUAL(kvot_load(file, &halves, 1, NULL, NULL, NULL), KVOT_E_ARGUMENT);
    kvot_close(file);
    unlink(unit_path("q8_0.kvot"));
}

const unit_test loading_order_tests[] = {{"every part is told once", every_part_is_told_once},
                                         {"threads wait for parts", threads_wait_for_parts},
                                         {"it is cancelled from ready", it_is_cancelled_from_ready},
                                         {"it is cancelled from outside", it_is_cancelled_from_outside},
                                         {"progress is told and asked", progress_is_told_and_asked},
                                         {"loadings of a file run side by side", loadings_of_a_file_run_side_by_side},
                                         {"damage is told to all", damage_is_told_to_all},
                                         {"wrong arguments are refused", wrong_arguments_are_refused},
                                         {"other types and files are refused", other_types_and_files_are_refused},
                                         {NULL, NULL}};
