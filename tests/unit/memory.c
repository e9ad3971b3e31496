#include "unit.h"

#include "../../lib/run/memory.h"
#include "../../lib/run/threads.h"

#include <stdio.h>
#include <unistd.h>

static void needs_are_met(void) {
    memory all;
    memory_share a, b;
    uint64_t got;
    kvot_error error;
    memory_open(&all, 1000);
    memory_begin(&a, &all, "a", 300);
    memory_begin(&b, &all, "b", 200);
    CU_ASSERT_EQUAL(all.held, 500);
    CU_ASSERT_EQUAL(memory_take(&a, 100, 200, &got, NULL), KVOT_OK); /* what it has */
    CU_ASSERT_TRUE(got == 200 && all.held == 500);
    CU_ASSERT_EQUAL(memory_take(&a, 50, 900, &got, NULL), KVOT_OK); /* a quarter of all, as more may be needed */
    CU_ASSERT_TRUE(got == 250 && all.held == 650);
    memory_give(&a, 250);
    CU_ASSERT_EQUAL(all.held, 400);
    CU_ASSERT_EQUAL(memory_take_last(&a, 50, 900, &got, NULL), KVOT_OK); /* all that is free */
    CU_ASSERT_TRUE(got == 600 && all.held == 1000);
    CU_ASSERT_EQUAL(memory_take_last(&b, 10, 50, &got, NULL), KVOT_OK); /* the estimate was too high */
    CU_ASSERT_TRUE(got == 50 && all.held == 850);
    CU_ASSERT_EQUAL(memory_take(&b, 951, 951, &got, &error), KVOT_E_MEMORY);
    CU_ASSERT_STRING_EQUAL(error.text, "b: takes 0.0 MB of memory by itself, and all calls may take 0.0 MB");
    memory_end(&a);
    CU_ASSERT_EQUAL(all.held, 50);
    memory_end(&b);
    CU_ASSERT_EQUAL(all.held, 0);
    memory_close(&all);
    CU_ASSERT_EQUAL(memory_take(NULL, 1, UINT64_MAX, &got, NULL), KVOT_OK); /* without a bound */
    CU_ASSERT_EQUAL(got, UINT64_MAX);
}

enum { CALLS = 8, ROUNDS = 300, LIMIT = 1000, TABLES = 80 };

typedef struct caller {
    memory *all;
    pthread_t thread;
    unsigned random;
    bool good;
} caller;

static unsigned next(caller *caller, unsigned below) {
    caller->random = caller->random * 1664525u + 1013904223u;
    return (caller->random >> 8) % below;
}

/* Estimates too little or too much, takes what may be all there is, in two steps, and gives it back. */
static void *take_and_give(void *argument) {
    caller *caller = argument;
    for (int i = 0; i < ROUNDS; i++) {
        memory_share share;
        uint64_t first, last;
        memory_begin(&share, caller->all, "file", next(caller, 2 * LIMIT));
        uint64_t tables = next(caller, TABLES), slots = 1 + next(caller, LIMIT - TABLES);
        caller->good &= memory_take(&share, tables, tables, &first, NULL) == KVOT_OK && first == tables;
        caller->good &= memory_take_last(&share, slots, slots + 50, &last, NULL) == KVOT_OK && last >= slots;
        /* More than the limit only by what those hold that wait. */
        pthread_mutex_lock(&caller->all->lock);
        caller->good &= caller->all->held <= LIMIT + (CALLS - 1) * TABLES;
        pthread_mutex_unlock(&caller->all->lock);
        memory_give(&share, last);
        memory_end(&share);
    }
    return NULL;
}

static void nobody_waits_for_ever(void) {
    memory all;
    caller callers[CALLS];
    memory_open(&all, LIMIT);
    for (unsigned c = 0; c < CALLS; c++) {
        callers[c] = (caller){.all = &all, .random = c, .good = true};
        pthread_create(&callers[c].thread, NULL, take_and_give, &callers[c]);
    }
    for (unsigned c = 0; c < CALLS; c++) {
        pthread_join(callers[c].thread, NULL);
        CU_ASSERT_TRUE(callers[c].good);
    }
    CU_ASSERT_EQUAL(all.held, 0);
    memory_close(&all);
}

/* ---- whole calls ---- */

enum { MEMORY = 20 << 20, FILES = 12 };

typedef struct worker {
    kvot_pool *pool;
    pthread_t thread;
    unsigned number, failed;
} worker;

static bool stop(void *user, uint64_t done, uint64_t all) {
    (void)user;
    return 2 * done > all;
}

/* All calls that are bound, one after the other, with files of all kinds. */
static void *convert(void *argument) {
    static const char *const sources[] = {"slot-gemma3.bin", "llama-v4-seq.bin", "slot-jamba.bin", "slot-qwen35.bin"};
    worker *worker = argument;
    kvot_run run = {.overwrite = true, .pool = worker->pool, .threads = worker->number % 3}, stopped = run;
    stopped.progress = stop;
    kvot_compress_options small = kvot_compress_defaults(), options = small;
    small.bits = 2;
    char source[300], stored[100], again[100];
    snprintf(stored, sizeof stored, "/tmp/kvot-unit-%d-memory-%u.kvot", (int)getpid(), worker->number);
    snprintf(again, sizeof again, "/tmp/kvot-unit-%d-memory-%u.bin", (int)getpid(), worker->number);
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(source, sizeof source, "%s/%s", UNIT_DATA, sources[(worker->number + i) % 4]);
        options.codec = i % 2 ? KVOT_LOSSLESS : KVOT_OTT;
        options.outliers = i % 3 ? KVOT_OUTLIERS_AUTO : 3;
        worker->failed += kvot_compress(source, stored, &options, &run, NULL, NULL) != KVOT_OK ||
                          kvot_verify(stored, source, &run, NULL, NULL) != KVOT_OK ||
                          kvot_restore(stored, again, NULL, &run, NULL, NULL) != KVOT_OK ||
                          kvot_restore(stored, again, NULL, &stopped, NULL, NULL) != KVOT_E_CANCELLED ||
                          kvot_verify(stored, again, &run, NULL, NULL) != KVOT_OK ||
                          kvot_recompress(stored, stored, &small, &stopped, NULL, NULL) != KVOT_E_CANCELLED ||
                          kvot_recompress(stored, stored, &small, &run, NULL, NULL) != KVOT_OK ||
                          kvot_restore("/nothing", again, NULL, &run, NULL, NULL) != KVOT_E_IO;
        unlink(stored);
        unlink(again);
    }
    return NULL;
}

static void calls_stay_below_the_bound(void) {
    kvot_pool *pool;
    CU_ASSERT_EQUAL(kvot_pool_open(4, 1 << 20, &pool, NULL), KVOT_E_ARGUMENT);
    CU_ASSERT_EQUAL_FATAL(kvot_pool_open(4, MEMORY, &pool, NULL), KVOT_OK);
    memory *all = threads_memory(pool);
    worker workers[CALLS];
    for (unsigned w = 0; w < CALLS; w++) {
        workers[w] = (worker){.pool = pool, .number = w};
        pthread_create(&workers[w].thread, NULL, convert, &workers[w]);
    }
    uint64_t most = 0, held;
    for (int quiet = 0; quiet < 200; usleep(500)) {
        pthread_mutex_lock(&all->lock);
        held = all->held;
        pthread_mutex_unlock(&all->lock);
        most = held > most ? held : most;
        quiet = held == 0 ? quiet + 1 : 0;
    }
    for (unsigned w = 0; w < CALLS; w++) {
        pthread_join(workers[w].thread, NULL);
        CU_ASSERT_EQUAL(workers[w].failed, 0);
    }
    CU_ASSERT_TRUE(most > 0 && most <= all->limit);
    CU_ASSERT_EQUAL(all->held, 0);
    kvot_pool_close(pool);
}

const unit_test memory_tests[] = {{"needs are met", needs_are_met},
                                  {"nobody waits for ever", nobody_waits_for_ever},
                                  {"calls stay below the bound", calls_stay_below_the_bound},
                                  {NULL, NULL}};
