#include "fetch_reads.h"

#include "direct.h"

#include <errno.h>
#include <string.h>

/* Whether the next read has to wait for others that are under way. */
static bool must_wait(const fetch *f) {
    return f->under_way == f->most_under_way || (f->next >= f->n_first && f->first_under_way > 0);
}

void fetch_account(fetch *f) {
    double at = clock_now();
    if (f->ring && f->next < f->n_reads && f->status == KVOT_OK) {
        if (f->under_way == 0)
            f->stages.disk_idle += at - f->accounted;
        if (!must_wait(f) && f->waiting > 0)
            f->stages.disk_starved += at - f->accounted;
    }
    f->accounted = at;
}

void fetch_record(fetch *f, size_t range, kvot_status status, const kvot_error *error) {
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
    fetch_record(f, f->reads[b->read].first, KVOT_E_IO, &error);
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

bool fetch_given_up(const fetch *f, size_t read) {
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
    while (f->next < f->n_reads && !fetch_given_up(f, f->next) && (b = free_buffer(f)) != NULL) {
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
    fetch_account(f);
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
void fetch_look_after_disk(fetch *f) {
    if (pthread_mutex_trylock(&f->lock) != 0)
        return;
    if (!f->leader) {
        fetch_account(f);
        poll_ring(f);
        begin_reads(f);
    }
    pthread_mutex_unlock(&f->lock);
}

fetch_buffer *fetch_first_ready(fetch *f) {
    fetch_buffer *first = NULL;
    for (unsigned i = 0; i < f->n_buffers; i++) {
        fetch_buffer *b = &f->buffers[i];
        if (b->state == READY && fetch_given_up(f, b->read))
            b->state = FREE;
        else if (b->state == READY && (!first || b->read < first->read))
            first = b;
    }
    return first;
}

fetch_buffer *fetch_take(fetch *f) {
    for (;;) {
        fetch_account(f);
        begin_reads(f);
        fetch_buffer *b = fetch_first_ready(f);
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
        fetch_account(f);
        f->waiting--;
        f->stages.waiting += f->accounted - start;
    }
}
