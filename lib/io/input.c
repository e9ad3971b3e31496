#include "../run/threads.h"
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 18 };

/* Copies all that `from` gives to a file without a name. */
static kvot_status spool(input *in, int from, const kvot_run *run, kvot_error *error) {
    char *buffer = malloc(COPY_BYTES);
    int fd = unnamed_file(NULL);
    kvot_status status = KVOT_OK;
    if (!buffer)
        status = fail_memory(error);
    else if (fd < 0)
        status = fail_errno(error, in->name, "make a temporary copy ($TMPDIR says where)");
    in->bytes = 0;
    while (status == KVOT_OK) {
        ssize_t n = read(from, buffer, COPY_BYTES);
        if (n == 0)
            break;
        if (n < 0 && errno == EAGAIN)
            wait_for(from, POLLIN);
        else if (n < 0 && errno != EINTR)
            status = fail_errno_at(error, in->name, "read", in->bytes);
        else if (n > 0) {
            size_t put = write_all(fd, buffer, (size_t)n, run);
            in->bytes += put;
            if (put < (size_t)n)
                status = fail_errno_at(error, in->name, "write a temporary copy ($TMPDIR says where)", in->bytes);
        }
        if (status == KVOT_OK && asked_to_stop(run, in->bytes))
            status = fail(error, KVOT_E_CANCELLED, "stopped");
    }
    free(buffer);
    in->fd = fd;
    return status;
}

/* Reads a small file into memory of the pool. Where that fails, it is read piece by piece, and that says why. */
static void read_whole(input *in, kvot_pool *pool) {
    uint8_t *memory = threads_small(pool, in->bytes);
    if (memory && input_read(in, 0, memory, in->bytes, NULL) == KVOT_OK) {
        in->memory = memory;
        in->pool = pool;
        in->held = in->bytes;
    } else
        threads_small_free(pool, memory, in->bytes);
}

kvot_status input_open(input *in, const char *path, const kvot_run *run, kvot_error *error) {
    bool standard = strcmp(path, "-") == 0;
    *in = (input){.fd = -1, .name = strdup(standard ? "standard input" : path)};
    if (!in->name)
        return fail_memory(error);
    int fd = standard ? STDIN_FILENO : open_file(path, O_RDONLY | O_CLOEXEC, run);
    struct stat about;
    kvot_status status = KVOT_OK;
    if (fd < 0 || fstat(fd, &about) < 0)
        status = fail_errno(error, in->name, "open");
    else if (S_ISDIR(about.st_mode))
        status = fail(error, KVOT_E_IO, "%s: is a directory", in->name);
    else if (S_ISREG(about.st_mode) && (!standard || lseek(fd, 0, SEEK_CUR) == 0)) {
        in->bytes = (uint64_t)about.st_size;
        in->mode = about.st_mode & 0777;
        in->fd = standard ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : fd;
        if (in->fd < 0)
            status = fail_errno(error, in->name, "open");
        fd = standard ? fd : -1;
    } else
        status = spool(in, fd, run, error);
    if (fd >= 0 && !standard)
        close(fd);
    if (status == KVOT_OK)
        read_whole(in, run->pool);
    else
        input_close(in);
    return status;
}

void input_close(input *in) {
    if (in->pool)
        threads_small_free(in->pool, (uint8_t *)in->memory, in->held);
    if (in->fd >= 0)
        close(in->fd);
    free(in->name);
    *in = (input){.fd = -1};
}

kvot_status input_read(const input *in, uint64_t offset, void *to, size_t n, kvot_error *error) {
    if (offset > in->bytes || n > in->bytes - offset)
        return fail(error, KVOT_E_DAMAGED, "%s: ends at byte %llu, %zu bytes were expected at %llu", in->name,
                    (unsigned long long)in->bytes, n, (unsigned long long)offset);
    if (in->memory) {
        memcpy(to, in->memory + offset, n);
        return KVOT_OK;
    }
    for (size_t got = 0; got < n;) {
        ssize_t part = pread(in->fd, (char *)to + got, n - got, (off_t)(offset + got));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return fail_errno_at(error, in->name, "read", offset + got);
        if (part == 0)
            return fail(error, KVOT_E_IO, "%s: became shorter while it was read", in->name);
        got += (size_t)part;
    }
    return KVOT_OK;
}

bool input_shrank(input *in) {
    struct stat about;
    if (in->fd < 0 || fstat(in->fd, &about) < 0 || (uint64_t)about.st_size >= in->bytes)
        return false;
    in->bytes = (uint64_t)about.st_size;
    return true;
}
