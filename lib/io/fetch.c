#include "fetch.h"

#include "../run/pages.h"
#include "../run/threads.h"
#include "direct.h"
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
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

typedef enum buffer_state { FREE, READING, READY, TAKEN } buffer_state;

typedef struct fetch_buffer {
    buffer_state state;
    bool used;    /* before */
    bool arrived; /* else the thread that takes it reads */
    size_t read;
    uint64_t got; /* bytes that have arrived */
    uint8_t *bytes;
} fetch_buffer;

/* What a thread works with. */
typedef struct fetch_slot {
    struct fetch_slot *next_free;
    _Alignas(max_align_t) unsigned char memory[];
} fetch_slot;

struct fetch {
    fetch_jobs jobs;
    fetch_read *reads;
    size_t n_reads, next; /* read to begin */
    size_t n_first;       /* reads with ranges that are wanted before all others */
    fetch_buffer *buffers;
    unsigned n_buffers;
    uint8_t *memory;
    size_t memory_bytes, buffer_bytes;
    uint64_t taken; /* of the pool's memory */
    int direct;     /* descriptor, -1 if there is none */
    ring *ring;     /* opened when something is not in the page cache */
    bool no_ring;
    unsigned n_used; /* buffers */
    unsigned under_way, first_under_way, most_under_way, waiting;
    bool leader; /* a thread waits for the ring; others wait for it */

    size_t failed_at; /* range; those behind it are given up */
    kvot_status status;
    kvot_error error;

    threads_offer offer;
    fetch_slot *free; /* the one that was used last first */
    unsigned working; /* threads */
    pthread_mutex_t lock;
    pthread_cond_t arrived, news;

    kvot_stages stages;
    double began, accounted;
};

/* Whether the next read has to wait for others that are under way. */
static bool must_wait(const fetch *f) {
    return f->under_way == f->most_under_way || (f->next >= f->n_first && f->first_under_way > 0);
}

/* Adds the time since the last call to what the disk was doing. Called before that changes, with the lock held. */
static void account(fetch *f) {
    double at = clock_now();
    if (f->ring && f->next < f->n_reads && f->status == KVOT_OK) {
        if (f->under_way == 0)
            f->stages.disk_idle += at - f->accounted;
        if (!must_wait(f) && f->waiting > 0)
            f->stages.disk_starved += at - f->accounted;
    }
    f->accounted = at;
}

/* Keeps the failure of the first range. */
static void record(fetch *f, size_t range, kvot_status status, const kvot_error *error) {
    if (f->status != KVOT_OK && range >= f->failed_at)
        return;
    f->failed_at = range;
    f->status = status;
    f->error = *error;
}

static void record_errno(fetch *f, const fetch_buffer *b, int number) {
    kvot_error error;
    fail(&error, KVOT_E_IO, "%s: cannot read at byte %llu: %s", f->jobs.in->name,
         (unsigned long long)(f->reads[b->read].offset + b->got), strerror(number));
    record(f, f->reads[b->read].first, KVOT_E_IO, &error);
}

/* Starts to read what is missing in a buffer. False where threads have to read for themselves. */
static bool begin_read(fetch *f, fetch_buffer *b) {
    const fetch_read *read = &f->reads[b->read];
    if (!f->ring && !f->no_ring) {
        f->ring = ring_open(f->direct, f->n_buffers);
        f->no_ring = !f->ring;
    }
    /* What has arrived of a block that did not arrive whole is read again: offsets must be aligned. */
    uint64_t skip = direct_down(b->got);
    return f->ring && ring_read(f->ring, b->bytes + skip, direct_up(read->end) - read->offset - skip,
                                read->offset + skip, (uint64_t)(b - f->buffers)) == 0;
}

static fetch_buffer *free_buffer(const fetch *f) {
    for (unsigned i = 0; i < f->n_buffers; i++)
        if (f->buffers[i].state == FREE)
            return &f->buffers[i];
    return NULL;
}

static bool given_up(const fetch *f, size_t read) {
    return f->status != KVOT_OK && f->reads[read].first >= f->failed_at;
}

/* Registers the buffers once all have been used: pages for those that have not would take milliseconds. */
static void count_use(fetch *f, fetch_buffer *b) {
    f->n_used += !b->used;
    if (!b->used && f->n_used == f->n_buffers)
        ring_register(f->ring, f->memory, f->memory_bytes);
    b->used = true;
}

/* Gives free buffers their reads: of what the page cache holds as many as there are, from the disk some at a time. */
static void begin_reads(fetch *f) {
    fetch_buffer *b;
    while (f->next < f->n_reads && !given_up(f, f->next) && (b = free_buffer(f)) != NULL) {
        const fetch_read *read = &f->reads[f->next];
        bool from_disk = f->direct >= 0 && !direct_is_cached(f->jobs.in->fd, read->offset, read->end - read->offset);
        if (from_disk && must_wait(f))
            return;
        *b = (fetch_buffer){.state = READY, .read = f->next++, .bytes = b->bytes, .used = b->used};
        if (f->jobs.in->memory) {
            b->bytes = (uint8_t *)f->jobs.in->memory + read->offset;
            b->arrived = true;
        } else if (from_disk && begin_read(f, b)) {
            b->state = READING;
            f->under_way++;
            f->first_under_way += b->read < f->n_first;
            count_use(f, b);
        }
    }
}

/* Takes note of a transfer that has ended. */
static void arrive(fetch *f, ring_result result) {
    fetch_buffer *b = &f->buffers[result.tag];
    const fetch_read *read = &f->reads[b->read];
    uint64_t wanted = read->end - read->offset, before = b->got;
    if (result.result > 0) {
        b->got = direct_down(b->got) + (uint64_t)result.result;
        f->stages.direct_bytes += (uint64_t)result.result;
    }
    bool again = result.result == -EINTR || result.result == -EAGAIN || (b->got > before && b->got < wanted);
    if (again && begin_read(f, b))
        return;
    f->under_way--;
    f->first_under_way -= b->read < f->n_first;
    f->most_under_way += f->most_under_way < f->n_buffers / 2;
    b->state = READY;
    b->arrived = b->got >= wanted;
    /* Where a file system refuses O_DIRECT only now, threads read for themselves. They also find out what is wrong
     * where nothing more came: the file has become shorter. */
    if (result.result < 0 && !again && result.result != -EINVAL && result.result != -EOPNOTSUPP)
        record_errno(f, b, -result.result);
}

/* Takes note of the transfers that have ended. */
static void poll_ring(fetch *f) {
    ring_result result;
    bool any = false;
    while (f->ring && ring_poll(f->ring, &result)) {
        arrive(f, result);
        any = true;
    }
    if (any)
        pthread_cond_broadcast(&f->arrived);
}

/* Waits for transfers, as the only thread that does. */
static void lead(fetch *f) {
    f->leader = true;
    pthread_mutex_unlock(&f->lock);
    bool good = ring_wait(f->ring);
    int number = errno;
    pthread_mutex_lock(&f->lock);
    account(f);
    if (good) {
        poll_ring(f);
    } else { /* nobody can say what becomes of the buffers: they are left alone for good */
        for (unsigned i = 0; i < f->n_buffers; i++)
            if (f->buffers[i].state == READING)
                record_errno(f, &f->buffers[i], number);
        f->under_way = f->first_under_way = 0;
        f->memory = NULL;
    }
    f->leader = false;
    pthread_cond_broadcast(&f->arrived);
}

/* Between two ranges: the disk shall not have to wait until a thread is done with its buffer. Often all reads that are
 * under way arrive together. What arrives is a leader's to take, if there is one: it waits for just that. */
static void look_after_disk(fetch *f) {
    if (pthread_mutex_trylock(&f->lock) != 0)
        return;
    if (!f->leader) {
        account(f);
        poll_ring(f);
        begin_reads(f);
    }
    pthread_mutex_unlock(&f->lock);
}

static fetch_buffer *first_ready(fetch *f) {
    fetch_buffer *first = NULL;
    for (unsigned i = 0; i < f->n_buffers; i++) {
        fetch_buffer *b = &f->buffers[i];
        if (b->state == READY && given_up(f, b->read))
            b->state = FREE;
        else if (b->state == READY && (!first || b->read < first->read))
            first = b;
    }
    return first;
}

/* The next buffer to work on, NULL when there are no more. */
static fetch_buffer *take(fetch *f) {
    for (;;) {
        account(f);
        begin_reads(f);
        fetch_buffer *b = first_ready(f);
        if (b) {
            b->state = TAKEN;
            return b;
        }
        if (f->under_way == 0)
            return NULL; /* there are more buffers than threads, so nothing is left */
        double start = f->accounted;
        f->waiting++;
        if (f->leader)
            pthread_cond_wait(&f->arrived, &f->lock);
        else
            lead(f);
        account(f);
        f->waiting--;
        f->stages.waiting += f->accounted - start;
    }
}

/* Works on the ranges of a read. Returns the range that failed, if one did. */
static size_t work(fetch *f, const fetch_buffer *b, void *slot, kvot_status *status, kvot_error *error) {
    const fetch_read *read = &f->reads[b->read];
    *status = KVOT_OK;
    for (size_t range = read->first; range < read->first + read->count; range++) {
        const uint8_t *bytes = b->bytes + (f->jobs.ranges[range].offset - read->offset);
        if ((*status = f->jobs.work(f->jobs.context, range, bytes, slot, error)) != KVOT_OK)
            return range;
        look_after_disk(f);
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
        record(f, range, status, &error);
    account(f);
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
    while ((b = take(f)) != NULL) {
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
    record(f, 0, KVOT_E_CANCELLED, &error);
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
        record(f, 0, status, &error);
}

/* Whether nothing is left and nobody works. */
static bool has_ended(fetch *f) {
    return f->working == 0 && f->under_way == 0 && (f->next == f->n_reads || given_up(f, f->next)) && !first_ready(f);
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
