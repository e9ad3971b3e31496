#include "../run/threads.h"
#include "io.h"
#include "temporary.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 18, WRITE_BEHIND = 1 << 16 };

/* Opens the directory of out->path and a temporary file in it. */
static kvot_status open_temporary(output *out, unsigned mode, kvot_error *error) {
    char *copy = strdup(out->path);
    if (!copy)
        return fail_memory(error);
    out->directory = open_file(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC, out->run);
    free(copy);
    if (out->directory >= 0 || errno == EACCES) /* one that may be written, but not listed, cannot be synced */
        out->fd = temporary_open(out->directory, out->path, mode, threads_swept(out->run->pool), &out->temporary);
    /* A file that its owner may not write could not be opened again to write it (direct.h). */
    if (!(mode & S_IWUSR))
        out->mode = mode;
    return out->fd >= 0 ? KVOT_OK : fail_errno(error, out->name, "write");
}

static kvot_status open_spool(output *out, const char *directory, kvot_error *error) {
    out->fd = unnamed_file(directory);
    if (out->fd < 0)
        return fail_errno(error, out->name, "make a temporary copy ($TMPDIR says where)");
    out->spooled = true;
    return KVOT_OK;
}

kvot_status output_open(output *out, const char *path, unsigned mode, const kvot_run *run, bool seekable,
                        kvot_error *error) {
    bool standard = strcmp(path, "-") == 0;
    *out = (output){OUTPUT_NONE, .run = run};
    out->name = strdup(standard ? "standard output" : path);
    if (!out->name)
        return fail_memory(error);
    kvot_status status = KVOT_OK;
    struct stat about;
    bool there = !standard && stat(path, &about) == 0;
    bool dangling = !standard && !there && lstat(path, &about) == 0; /* a symbolic link to nothing */
    if (standard || (there && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode))) {
        out->stream = standard ? STDOUT_FILENO : open_file(path, O_WRONLY | O_CLOEXEC, run);
        if (out->stream < 0)
            status = fail_errno(error, path, "write");
        else if (seekable)
            status = open_spool(out, NULL, error);
        else
            out->fd = out->stream;
    } else if (there && S_ISDIR(about.st_mode)) {
        status = fail(error, KVOT_E_IO, "%s: is a directory", path);
    } else if (there && !run->overwrite) {
        status = fail(error, KVOT_E_EXISTS, "%s: exists already", path);
    } else if (dangling) {
        status = fail(error, KVOT_E_IO, "%s: is a symbolic link to nothing", path);
    } else {
        /* Through a symbolic link the file it points to is replaced, not the link. */
        out->path = there ? realpath(path, NULL) : strdup(path);
        status = out->path ? open_temporary(out, there ? about.st_mode & 0777 : mode, error)
                           : fail_errno(error, path, "write");
    }
    if (status != KVOT_OK)
        output_close(out);
    return status;
}

kvot_status output_open_unnamed(output *out, const char *directory, const char *name, const kvot_run *run,
                                kvot_error *error) {
    *out = (output){OUTPUT_NONE, .run = run, .name = strdup(name)};
    kvot_status status = out->name ? open_spool(out, directory, error) : fail_memory(error);
    if (status != KVOT_OK)
        output_close(out);
    return status;
}

output output_to_memory(void *memory) {
    return (output){OUTPUT_NONE, .memory = memory};
}

kvot_status output_to_input(output *out, input *in, uint64_t bytes, kvot_error *error) {
    *in = (input){.fd = -1, .bytes = bytes, .name = strdup(out->name)};
    if (!in->name)
        return fail_memory(error);
    in->fd = out->fd;
    out->fd = -1;
    if (out->held > 0) {
        in->memory = out->memory;
        in->pool = out->run->pool;
        in->held = out->held;
        out->memory = NULL;
    }
    return KVOT_OK;
}

static kvot_status append(output *out, int fd, const void *from, size_t n, kvot_error *error) {
    size_t put = write_all(fd, from, n, out->run);
    out->appended += put;
    return put == n ? KVOT_OK : fail_errno_at(error, out->name, "write", out->appended);
}

kvot_status output_append(output *out, const void *from, size_t n, kvot_error *error) {
    return append(out, out->fd, from, n, error);
}

bool output_is_file(const output *out) {
    return out->fd != out->stream;
}

static kvot_status write_at(output *out, uint64_t offset, const void *from, size_t n, kvot_error *error) {
    for (size_t put = 0; put < n;) {
        ssize_t part = pwrite(out->fd, (const char *)from + put, n - put, (off_t)(offset + put));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return fail_errno_at(error, out->name, "write", offset + put);
        put += (size_t)part;
    }
    /* The disk need not wait for output_commit. A failure would show there. */
    if (n >= WRITE_BEHIND)
        sync_file_range(out->fd, (off_t)offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
    return KVOT_OK;
}

kvot_status output_put(output *out, uint64_t offset, const void *from, size_t n, kvot_error *error) {
    if (!out->memory)
        return write_at(out, offset, from, n, error);
    memcpy(out->memory + offset, from, n);
    return KVOT_OK;
}

void output_hold(output *out, uint64_t bytes) {
    if (out->memory || bytes == 0)
        return;
    out->memory = threads_small(out->run->pool, bytes);
    out->held = out->memory ? bytes : 0;
}

/* Sends a spooled output down its stream. */
static kvot_status copy_spool(output *out, kvot_error *error) {
    char *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return fail_memory(error);
    kvot_status status = KVOT_OK;
    for (off_t offset = 0; status == KVOT_OK;) {
        ssize_t n = pread(out->fd, buffer, COPY_BYTES, offset);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = fail_errno_at(error, out->name, "read its temporary copy", (uint64_t)offset);
        else
            status = append(out, out->stream, buffer, (size_t)n, error);
        offset += n;
    }
    free(buffer);
    return status;
}

static int sync_file(int (*sync)(int), int fd) {
    int result;
    do
        result = sync(fd);
    while (result < 0 && errno == EINTR);
    return result;
}

/* Makes the name of the output as durable as its bytes. Some network file systems cannot, and have no need to. */
static kvot_status sync_directory(const output *out, kvot_error *error) {
    if (out->directory < 0 || sync_file(fsync, out->directory) == 0 || errno == EINVAL || errno == EOPNOTSUPP)
        return KVOT_OK;
    return fail_errno(error, out->name, "be sure of its name after a crash, though it is complete now");
}

kvot_status output_sync(output *out, kvot_error *error) {
    return sync_file(fdatasync, out->fd) < 0 ? fail_errno(error, out->name, "write") : KVOT_OK;
}

/* Renames without ever replacing a file that was not there when the output was opened. */
static int rename_new(const char *from, const char *to) {
    int result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (result == 0 || (errno != EINVAL && errno != ENOSYS))
        return result;
    if (link(from, to) < 0)
        return -1;
    unlink(from); /* if it stays, it is a leftover like others */
    return 0;
}

kvot_status output_commit(output *out, kvot_error *error) {
    kvot_status status = out->held > 0 ? write_at(out, 0, out->memory, out->held, error) : KVOT_OK;
    if (status == KVOT_OK && out->spooled)
        return copy_spool(out, error);
    if (status != KVOT_OK || !out->path)
        return status;
    if (out->mode)
        fchmod(out->fd, out->mode);
    status = output_sync(out, error);
    if (status != KVOT_OK)
        return status;
    int result = out->run->overwrite ? rename(out->temporary, out->path) : rename_new(out->temporary, out->path);
    if (result < 0 && errno == EEXIST)
        return fail(error, KVOT_E_EXISTS, "%s: exists already", out->name);
    if (result < 0)
        return fail_errno(error, out->name, "write");
    free(out->temporary);
    out->temporary = NULL;
    return sync_directory(out, error);
}

void output_close(output *out) {
    if (out->held > 0)
        threads_small_free(out->run->pool, out->memory, out->held);
    if (out->temporary)
        unlink(out->temporary);
    if (out->fd >= 0 && out->fd != out->stream)
        close(out->fd);
    if (out->directory >= 0)
        close(out->directory);
    if (out->stream > STDERR_FILENO)
        close(out->stream);
    free(out->name);
    free(out->path);
    free(out->temporary);
    *out = (output){OUTPUT_NONE};
}
