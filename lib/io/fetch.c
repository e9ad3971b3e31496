#include "fetch_reads.h"

#include "../run/pages.h"
#include "direct.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    /* Buffers: two for each thread, or this many. More are no faster, and pages for them take time. */
    READS_AHEAD = 12,
    BUFFER_BYTES = 32 << 20, /* all of them, if that is more than one for each thread and two to read into */
    /* Disks share their speed among the reads under way, so that of many the first arrives late: it begins with so few,
     * and each that arrives makes room for one more, up to half of the buffers. They often arrive all at once; then the
     * other half is read into while these are worked on. More at a time would be no help: a disk that answers all its
     * requests together answers later if others are added. */
    FIRST_READS = 2,
};

/* Works on the ranges of a read. Returns the range that failed, if one did. */
static size_t work(fetch *f, const fetch_buffer *b, void *slot, kvot_status *status, kvot_error *error) {
    const fetch_read *read = &f->reads[b->read];
    *status = KVOT_OK;
    for (size_t range = read->first; range < read->first + read->count; range++) {
        const uint8_t *bytes = b->bytes + (f->jobs.ranges[range].offset - read->offset);
        if ((*status = f->jobs.work(f->jobs.context, range, bytes, slot, error)) != KVOT_OK)
            return range;
        fetch_look_after_disk(f);
    }
    return read->first;
}

/* Reads a buffer that did not arrive by itself, and works on it, without the lock. */
static void use(fetch *f, fetch_buffer *b, void *slot) {
    const fetch_read *read = &f->reads[b->read];
    uint64_t bytes = read->end - read->offset;
    kvot_status status = KVOT_OK;
    kvot_error error;
    size_t range = read->first;
    bool copy = !b->arrived;
    double start = clock_now();
    if (copy)
        status = input_read(f->jobs.in, read->offset, b->bytes, bytes, &error);
    double there = copy ? clock_now() : start;
    if (status == KVOT_OK)
        range = work(f, b, slot, &status, &error);
    double end = clock_now();
    pthread_mutex_lock(&f->lock);
    if (status != KVOT_OK)
        fetch_record(f, range, status, &error);
    fetch_account(f);
    f->stages.copying += there - start;
    f->stages.working += end - there;
    f->stages.copied_bytes += copy ? bytes : 0;
    b->state = FREE;
    pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->lock);
}

static fetch_slot *new_slot(const fetch *f) {
    return calloc(1, sizeof(fetch_slot) + f->jobs.slot_bytes);
}

/* Works until nothing is left. Where there is no memory for one more slot, the threads that have one do the work. */
static bool worker(void *context) {
    fetch *f = context;
    pthread_mutex_lock(&f->lock);
    fetch_slot *slot = f->free;
    if (slot)
        f->free = slot->next_free;
    else if (!(slot = new_slot(f))) {
        pthread_mutex_unlock(&f->lock);
        return true;
    }
    f->working++;
    fetch_buffer *b;
    while ((b = fetch_take(f)) != NULL) {
        pthread_mutex_unlock(&f->lock);
        use(f, b, slot->memory);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    if (f->jobs.ended)
        f->jobs.ended(f->jobs.context);
    pthread_mutex_lock(&f->lock);
    slot->next_free = f->free;
    f->free = slot;
    f->working--;
    pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->lock);
    return false;
}

/* Memory for so many threads and buffers. */
static uint64_t bytes_of(const fetch *f, size_t threads, size_t buffers) {
    uint64_t slot = sizeof(fetch_slot) + f->jobs.slot_bytes + f->jobs.more_bytes;
    return threads * slot + (f->jobs.in->memory ? 0 : buffers * (uint64_t)f->buffer_bytes);
}

static size_t at_most(size_t n, size_t most) {
    return n < most ? n : most;
}

/* How many threads and buffers: as many as are of use, or as there is memory for. */
static kvot_status plan_buffers(fetch *f, kvot_error *error) {
    size_t threads = f->offer.most, fit = BUFFER_BYTES / f->buffer_bytes, reads = f->n_reads;
    size_t n = at_most(2 * threads > READS_AHEAD ? 2 * threads : READS_AHEAD, fit);
    n = at_most(n < threads + 2 ? threads + 2 : n, reads);
    memory_share *share = threads_share(f->jobs.pool);
    kvot_status status =
        memory_take_last(share, bytes_of(f, 1, at_most(3, reads)), bytes_of(f, threads, n), &f->taken, error);
    if (status != KVOT_OK)
        return status;
    while (bytes_of(f, threads, n) > f->taken) {
        if (n > at_most(threads + 2, reads))
            n--;
        else
            threads--;
    }
    memory_give(share, f->taken - bytes_of(f, threads, n));
    f->taken = bytes_of(f, threads, n);
    f->offer.most = (unsigned)threads;
    f->n_buffers = (unsigned)n;
    return KVOT_OK;
}

static kvot_status make_buffers(fetch *f, kvot_error *error) {
    kvot_status status = plan_buffers(f, error);
    if (status != KVOT_OK)
        return status;
    f->buffers = calloc(f->n_buffers, sizeof *f->buffers);
    if (!f->buffers)
        return fail_memory(error);
    if (f->jobs.in->memory)
        return KVOT_OK;
    f->memory_bytes = f->n_buffers * f->buffer_bytes;
    f->memory = kept_take(threads_kept(f->jobs.pool), f->memory_bytes);
    if (!f->memory)
        return fail_memory(error);
    for (unsigned i = 0; i < f->n_buffers; i++)
        f->buffers[i].bytes = f->memory + i * f->buffer_bytes;
    f->direct = direct_open(f->jobs.in->fd, O_RDONLY);
    return KVOT_OK;
}

static void fetch_free(fetch *f) {
    ring_close(f->ring);
    if (f->direct >= 0)
        close(f->direct);
    kept_give(threads_kept(f->jobs.pool), f->memory, f->memory_bytes);
    while (f->free) {
        fetch_slot *slot = f->free;
        f->free = slot->next_free;
        if (f->jobs.drop)
            f->jobs.drop(slot->memory);
        free(slot);
    }
    memory_give(threads_share(f->jobs.pool), f->taken);
    pthread_cond_destroy(&f->news);
    pthread_cond_destroy(&f->arrived);
    pthread_mutex_destroy(&f->lock);
    free(f->buffers);
    free(f->reads);
    free(f);
}

kvot_status fetch_start(const fetch_jobs *jobs, fetch **result, kvot_error *error) {
    fetch *f = calloc(1, sizeof *f);
    if (!f)
        return fail_memory(error);
    f->jobs = *jobs;
    f->direct = -1;
    f->began = f->accounted = clock_now();
    f->most_under_way = FIRST_READS;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->arrived, NULL);
    pthread_cond_init(&f->news, NULL);
    uint64_t largest = 0;
    kvot_status status =
        reads_plan(jobs->ranges, jobs->count, jobs->in->bytes, &f->reads, &f->n_reads, &largest, error);
    while (f->n_first < f->n_reads && f->reads[f->n_first].first < jobs->first)
        f->n_first++;
    if (f->n_first <= FIRST_READS) /* a second read beside a single first one delays it little, and saves more */
        f->n_first = 0;
    f->buffer_bytes = (largest + PAGES_ALIGN - 1) / PAGES_ALIGN * PAGES_ALIGN;
    unsigned threads = threads_of(jobs->pool, jobs->threads);
    f->offer = (threads_offer){.work = worker, .context = f, .most = threads};
    if (threads > f->n_reads)
        f->offer.most = (unsigned)f->n_reads;
    *result = f; /* not again once threads work, which may ask it */
    if (status == KVOT_OK && f->n_reads > 0) {
        status = make_buffers(f, error);
        if (status == KVOT_OK && !(f->free = new_slot(f)))
            status = fail_memory(error);
        if (status == KVOT_OK)
            status = threads_start(&f->offer, jobs->pool, error);
    }
    if (status != KVOT_OK)
        fetch_free(f);
    return status;
}

kvot_status fetch_status(fetch *f, kvot_error *error) {
    pthread_mutex_lock(&f->lock);
    kvot_status status = f->status;
    if (status != KVOT_OK && error)
        *error = f->error;
    pthread_mutex_unlock(&f->lock);
    return status;
}

void fetch_stop(fetch *f) {
    kvot_error error;
    fail(&error, KVOT_E_CANCELLED, "stopped");
    pthread_mutex_lock(&f->lock);
    fetch_record(f, 0, KVOT_E_CANCELLED, &error);
    pthread_cond_signal(&f->news); /* there may be no thread that works */
    pthread_mutex_unlock(&f->lock);
}

/* Calls jobs->told, without the lock, unless it is to stop already. */
static void tell(fetch *f) {
    if (!f->jobs.told || f->status != KVOT_OK)
        return;
    kvot_error error;
    pthread_mutex_unlock(&f->lock);
    kvot_status status = f->jobs.told(f->jobs.told_context, &error);
    pthread_mutex_lock(&f->lock);
    if (status != KVOT_OK)
        fetch_record(f, 0, status, &error);
}

/* Whether nothing is left and nobody works. */
static bool has_ended(fetch *f) {
    return f->working == 0 && f->under_way == 0 && (f->next == f->n_reads || fetch_given_up(f, f->next)) &&
           !fetch_first_ready(f);
}

kvot_status fetch_finish(fetch *f, kvot_stages *stages, kvot_error *error) {
    pthread_mutex_lock(&f->lock);
    for (bool ended = f->n_reads == 0; !ended;) {
        ended = has_ended(f); /* then `told` is called once more: it has seen all that was done */
        tell(f);
        if (!ended && !has_ended(f))
            pthread_cond_wait(&f->news, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    if (f->n_reads > 0)
        f->stages.threads = threads_end(&f->offer);
    kvot_status status = f->status;
    if (status != KVOT_OK && error)
        *error = f->error;
    f->stages.seconds = clock_now() - f->began;
    if (stages)
        *stages = f->stages;
    fetch_free(f);
    return status;
}

kvot_status fetch_run(const fetch_jobs *jobs, kvot_stages *stages, kvot_error *error) {
    fetch *f;
    kvot_status status = fetch_start(jobs, &f, error);
    return status == KVOT_OK ? fetch_finish(f, stages, error) : status;
}
