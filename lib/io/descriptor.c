#include "io.h"

#include <errno.h>
#include <fcntl.h>
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
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
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

bool write_all(int fd, const void *from, size_t n, const kvot_run *run) {
    for (size_t put = 0; put < n;) {
        ssize_t part = write(fd, (const char *)from + put, n - put);
        if (part >= 0) {
            put += (size_t)part;
            continue;
        }
        if (errno != EINTR)
            return false;
        if (asked_to_stop(run, 0)) {
            errno = ECANCELED;
            return false;
        }
    }
    return true;
}
