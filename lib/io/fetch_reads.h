/* Inside a fetch: its reads under way, and what the threads that work on them share. The calls and the threads are in
 * fetch.c, what becomes of the reads in fetch_reads.c. */
#ifndef KVOT_FETCH_READS_H
#define KVOT_FETCH_READS_H

#include "../run/threads.h"
#include "fetch.h"
#include "ring.h"

#include <stddef.h>

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

/* All with the lock held, but for fetch_look_after_disk, which takes it if it is free. */

/* Adds the time since the last call to what the disk was doing. Called before that changes. */
void fetch_account(fetch *f);

/* Keeps the failure of the first range. */
void fetch_record(fetch *f, size_t range, kvot_status status, const kvot_error *error);

/* Whether what has failed makes a read needless. */
bool fetch_given_up(const fetch *f, size_t read);

/* The buffer that is ready and wanted first; NULL: none is. */
fetch_buffer *fetch_first_ready(fetch *f);

/* Takes the next buffer to work on, waiting for it; NULL: there are no more. */
fetch_buffer *fetch_take(fetch *f);

/* Between two ranges: takes note of what has arrived, and sends off the next reads. */
void fetch_look_after_disk(fetch *f);

#endif
