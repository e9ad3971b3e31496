#include "unit.h"

#include "../../lib/run/pool.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct sums {
    uint64_t next, done_jobs;
    uint64_t fail_at;
    bool in_order;
} sums;

static kvot_status work(void *context, uint64_t job, void *slot, kvot_error *error) {
    const sums *sums = context;
    if (job % 5 == 0)
        usleep(100); /* so that later jobs are ready first */
    *(uint64_t *)slot = job * job;
    return job >= sums->fail_at ? fail(error, KVOT_E_IO, "job %llu", (unsigned long long)job) : KVOT_OK;
}

static kvot_status done(void *context, uint64_t job, void *slot, kvot_error *error) {
    (void)error;
    sums *sums = context;
    sums->in_order &= job == sums->next && *(uint64_t *)slot == job * job;
    sums->next++;
    sums->done_jobs++;
    return KVOT_OK;
}

/* `bytes`: few, and one thread of a pool does all jobs; 0: unknown. */
static kvot_status run_in(kvot_pool *pool, sums *sums, uint64_t count, uint64_t bytes, unsigned threads,
                          kvot_error *error) {
    pool_jobs jobs = {.count = count,
                      .pool = pool,
                      .threads = threads,
                      .bytes = bytes,
                      .slot_bytes = 8,
                      .context = sums,
                      .work = work,
                      .done = done};
    return pool_run(&jobs, error);
}

static kvot_status run(sums *sums, uint64_t count, unsigned threads, kvot_error *error) {
    return run_in(NULL, sums, count, 0, threads, error);
}

static void results_come_in_order(void) {
    static const unsigned threads[] = {0, 1, 2, 3, 16, 64};
    for (int i = 0; i < 6; i++) {
        sums sums = {.fail_at = UINT64_MAX, .in_order = true};
        CU_ASSERT_EQUAL(run(&sums, 300, threads[i], NULL), KVOT_OK);
        CU_ASSERT_TRUE(sums.in_order && sums.done_jobs == 300);
    }
}

static void the_first_failure_counts(void) {
    for (unsigned threads = 1; threads < 8; threads++) {
        sums sums = {.fail_at = 77, .in_order = true};
        kvot_error error;
        CU_ASSERT_EQUAL(run(&sums, 300, threads, &error), KVOT_E_IO);
        CU_ASSERT_STRING_EQUAL(error.text, "job 77");
        CU_ASSERT_EQUAL(sums.done_jobs, 77);
    }
}

static void no_jobs_is_fine(void) {
    sums sums = {.in_order = true};
    CU_ASSERT_EQUAL(run(&sums, 0, 4, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(sums.done_jobs, 0);
}

/* A program's thread, whose calls share a pool. */
typedef struct caller {
    kvot_pool *pool;
    pthread_t thread;
    unsigned number;
    bool good;
} caller;

enum { CALLERS = 6 };

/* One caller has many jobs, others have few, again and again; some of these fail. */
static void *call(void *argument) {
    caller *caller = argument;
    caller->good = true;
    for (unsigned i = 0; i < (caller->number == 0 ? 1 : 40); i++) {
        uint64_t count = caller->number == 0 ? 3000 : 1 + (caller->number * 7 + i) % 20;
        bool fails = caller->number > 0 && i % 3 == 0;
        sums sums = {.fail_at = fails ? count / 2 : UINT64_MAX, .in_order = true};
        kvot_error error;
        kvot_status status = run_in(caller->pool, &sums, count, i % 2 ? count : 0, i % 4, &error);
        caller->good &=
            sums.in_order && status == (fails ? KVOT_E_IO : KVOT_OK) && sums.done_jobs == (fails ? count / 2 : count);
    }
    return NULL;
}

static void calls_share_threads(void) {
    static const unsigned threads[] = {0, 1, 2, 5};
    for (int i = 0; i < 4; i++) {
        caller callers[CALLERS];
        kvot_pool *pool;
        CU_ASSERT_EQUAL_FATAL(kvot_pool_open(threads[i], 0, &pool, NULL), KVOT_OK);
        for (unsigned c = 0; c < CALLERS; c++) {
            callers[c] = (caller){.pool = pool, .number = c};
            pthread_create(&callers[c].thread, NULL, call, &callers[c]);
        }
        for (unsigned c = 0; c < CALLERS; c++) {
            pthread_join(callers[c].thread, NULL);
            CU_ASSERT_TRUE(callers[c].good);
        }
        kvot_pool_close(pool);
    }
    kvot_pool_close(NULL);
}

static bool is_there(const char *name) {
    return access(unit_path(name), F_OK) == 0;
}

static void write_in(kvot_pool *pool) {
    kvot_run run = {.overwrite = true, .pool = pool};
    CU_ASSERT_EQUAL(
        kvot_compress(UNIT_DATA "/llama-one-v3-seq.bin", unit_path("swept/out.kvot"), NULL, &run, NULL, NULL), KVOT_OK);
}

static void a_directory_is_swept_once(void) {
    static const char *const leftovers[] = {"swept/.out.kvot.kvot-abcdef", "swept/.other.kvot-012345"};
    static const char *const others[] = {"swept/.other.kvot-01234", "swept/other.kvot-abcdef", "swept/.kvot-abcdef",
                                         "swept/.a.kvot-abcdeX"};
    kvot_pool *pool;
    CU_ASSERT_EQUAL_FATAL(kvot_pool_open(1, 0, &pool, NULL), KVOT_OK);
    mkdir(unit_path("swept"), 0700);
    for (int i = 0; i < 2; i++)
        unit_write_file(leftovers[i], "x", 1);
    for (int i = 0; i < 4; i++)
        unit_write_file(others[i], "x", 1);
    write_in(pool);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_FALSE(is_there(leftovers[i]));
    for (int i = 0; i < 2; i++)
        unit_write_file(leftovers[i], "x", 1);
    write_in(pool);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_TRUE(is_there(leftovers[i]));
    write_in(NULL); /* looks for its own */
    CU_ASSERT_FALSE(is_there(leftovers[0]));
    CU_ASSERT_TRUE(is_there(leftovers[1]));
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_TRUE(is_there(others[i]));
        unlink(unit_path(others[i]));
    }
    unlink(unit_path(leftovers[1]));
    unlink(unit_path("swept/out.kvot"));
    CU_ASSERT_EQUAL(rmdir(unit_path("swept")), 0);
    kvot_pool_close(pool);
}

static bool wait_for_it(void *semaphore) {
    while (sem_wait(semaphore) != 0)
        continue;
    return false;
}

static void it_tells_whether_it_is_busy(void) {
    kvot_pool *pool;
    sem_t go;
    sem_init(&go, 0, 0);
    threads_offer offers[2] = {{.work = wait_for_it, .context = &go, .most = 1},
                               {.work = wait_for_it, .context = &go, .most = 1}};
    CU_ASSERT_EQUAL_FATAL(kvot_pool_open(2, 0, &pool, NULL), KVOT_OK);
    CU_ASSERT_FALSE(threads_busy(pool));
    CU_ASSERT_EQUAL_FATAL(threads_start(&offers[0], pool, NULL), KVOT_OK);
    CU_ASSERT_FALSE(threads_busy(pool));
    CU_ASSERT_EQUAL_FATAL(threads_start(&offers[1], pool, NULL), KVOT_OK);
    CU_ASSERT_TRUE(threads_busy(pool));
    sem_post(&go);
    sem_post(&go);
    for (int i = 0; i < 2; i++)
        threads_finish(&offers[i]);
    CU_ASSERT_FALSE(threads_busy(pool));
    kvot_pool_close(pool);
    sem_destroy(&go);
}

const unit_test pool_tests[] = {{"calls share threads", calls_share_threads},
                                {"it tells whether it is busy", it_tells_whether_it_is_busy},
                                {"a directory is swept once", a_directory_is_swept_once},
                                {"results come in order", results_come_in_order},
                                {"the first failure counts", the_first_failure_counts},
                                {"no jobs is fine", no_jobs_is_fine},
                                {NULL, NULL}};
