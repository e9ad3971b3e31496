#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

double clock_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int unnamed_file(const char *directory) {
    if (!directory)
        directory = getenv("TMPDIR");
    if (!directory || !*directory)
        directory = "/tmp";
    int fd;
    do
        fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    /* File systems without O_TMPFILE. */
    char *name = NULL;
    if (asprintf(&name, "%s/kvot-XXXXXX", directory) < 0)
        return -1;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        unlink(name);
    free(name);
    return fd;
}

bool asked_to_stop(const kvot_run *run, uint64_t bytes) {
    return run->progress && run->progress(run->user, bytes, 0);
}

int open_file(const char *path, int flags, const kvot_run *run) {
    for (;;) {
        int fd = open(path, flags);
        if (fd >= 0 || errno != EINTR)
            return fd;
        if (asked_to_stop(run, 0)) {
            errno = ECANCELED;
            return -1;
        }
    }
}

bool end_file(int fd, uint64_t bytes) {
    int result;
    do
        result = ftruncate(fd, (off_t)bytes);
    while (result < 0 && errno == EINTR);
    return result == 0;
}

void wait_for(int fd, short events) {
    enum { MILLISECONDS = 1000 };
    poll(&(struct pollfd){.fd = fd, .events = events}, 1, MILLISECONDS);
}

size_t write_all(int fd, const void *from, size_t n, const kvot_run *run) {
    size_t put = 0;
    while (put < n) {
        ssize_t part = write(fd, (const char *)from + put, n - put);
        if (part >= 0) {
            put += (size_t)part;
            continue;
        }
        if (errno != EINTR && errno != EAGAIN)
            break;
        if (errno == EAGAIN)
            wait_for(fd, POLLOUT);
        if (asked_to_stop(run, 0)) {
            errno = ECANCELED;
            break;
        }
    }
    return put;
}
