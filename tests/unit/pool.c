#include "unit.h"

#include "../../lib/pool.h"

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

static kvot_status run(sums *sums, uint64_t count, unsigned threads, kvot_error *error) {
    pool_jobs jobs = {.count = count, .threads = threads, .slot_bytes = 8, .context = sums, .work = work, .done = done};
    return pool_run(&jobs, error);
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

const unit_test pool_tests[] = {{"results come in order", results_come_in_order},
                                {"the first failure counts", the_first_failure_counts},
                                {"no jobs is fine", no_jobs_is_fine},
                                {NULL, NULL}};
