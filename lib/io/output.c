#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 18 };

/* Six letters that no other process is likely to choose. */
static void random_letters(char *to) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    uint8_t bytes[6] = {0};
    getrandom(bytes, sizeof bytes, 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        to[i] = letters[bytes[i] % 32];
}

/* A temporary file in the directory of out->path: ".NAME.kvot-XXXXXX". */
static kvot_status open_temporary(output *out, unsigned mode, kvot_error *error) {
    enum { TRIES = 100 };
    char *copy = strdup(out->path), *copy2 = strdup(out->path);
    int length = -1;
    if (copy && copy2)
        length = asprintf(&out->temporary, "%s/.%.200s.kvot-XXXXXX", dirname(copy), basename(copy2));
    free(copy);
    free(copy2);
    if (length < 0) {
        out->temporary = NULL;
        return fail_memory(error);
    }
    /* Not mkostemp: it would need the umask, which cannot be read without changing it for all threads. */
    for (int i = 0; i < TRIES && out->fd < 0 && (i == 0 || errno == EEXIST); i++) {
        random_letters(out->temporary + length - 6);
        out->fd = open(out->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode ? 0600 : 0666);
    }
    if (out->fd >= 0) {
        if (mode)
            fchmod(out->fd, mode); /* a file system without permissions refuses, and has nothing to protect */
        return KVOT_OK;
    }
    fail_errno(error, out->name, "write");
    free(out->temporary); /* there is nothing to remove */
    out->temporary = NULL;
    return KVOT_E_IO;
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
    *out = (output){.fd = -1, .stream = -1, .run = run};
    out->name = strdup(standard ? "standard output" : path);
    if (!out->name)
        return fail_memory(error);
    kvot_status status = KVOT_OK;
    struct stat about;
    bool there = !standard && stat(path, &about) == 0;
    bool dangling = !standard && !there && lstat(path, &about) == 0; /* a symbolic link to nothing */
    if (standard || (there && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode))) {
        out->stream = standard ? STDOUT_FILENO : open(path, O_WRONLY | O_CLOEXEC);
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
        status = out->path ? open_temporary(out, there ? about.st_mode & 0777 : mode, error) : fail_memory(error);
    }
    if (status != KVOT_OK)
        output_close(out);
    return status;
}

kvot_status output_open_unnamed(output *out, const char *directory, const char *name, const kvot_run *run,
                                kvot_error *error) {
    *out = (output){.fd = -1, .stream = -1, .run = run, .name = strdup(name)};
    kvot_status status = out->name ? open_spool(out, directory, error) : fail_memory(error);
    if (status != KVOT_OK)
        output_close(out);
    return status;
}

kvot_status output_to_input(output *out, input *in, uint64_t bytes, kvot_error *error) {
    *in = (input){.fd = -1, .bytes = bytes, .name = strdup(out->name)};
    if (!in->name)
        return fail_memory(error);
    in->fd = out->fd;
    out->fd = -1;
    return KVOT_OK;
}

kvot_status output_append(output *out, const void *from, size_t n, kvot_error *error) {
    return write_all(out->fd, from, n, out->run) ? KVOT_OK : fail_errno(error, out->name, "write");
}

kvot_status output_put(output *out, uint64_t offset, const void *from, size_t n, kvot_error *error) {
    for (size_t put = 0; put < n;) {
        ssize_t part = pwrite(out->fd, (const char *)from + put, n - put, (off_t)(offset + put));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return fail(error, KVOT_E_IO, "%s: cannot write at byte %llu: %s", out->name,
                        (unsigned long long)(offset + put), strerror(errno));
        put += (size_t)part;
    }
    return KVOT_OK;
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
            status = fail_errno(error, out->name, "read its temporary copy");
        else if (!write_all(out->stream, buffer, (size_t)n, out->run))
            status = fail_errno(error, out->name, "write");
        else
            offset += n;
    }
    free(buffer);
    return status;
}

/* Cannot fail: a directory that cannot be opened or synced (some network file systems) still holds the file. */
static void sync_directory(const output *out) {
    char *copy = strdup(out->path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(copy);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

kvot_status output_sync(output *out, kvot_error *error) {
    return fdatasync(out->fd) < 0 ? fail_errno(error, out->name, "write") : KVOT_OK;
}

/* Renames without ever replacing a file that was not there when the output was opened. */
static int rename_new(const char *from, const char *to) {
    int result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (result == 0 || (errno != EINVAL && errno != ENOSYS))
        return result;
    if (link(from, to) < 0)
        return -1;
    return unlink(from);
}

kvot_status output_commit(output *out, kvot_error *error) {
    if (out->spooled)
        return copy_spool(out, error);
    if (!out->path)
        return KVOT_OK;
    kvot_status status = output_sync(out, error);
    if (status != KVOT_OK)
        return status;
    int result = out->run->overwrite ? rename(out->temporary, out->path) : rename_new(out->temporary, out->path);
    if (result < 0 && errno == EEXIST)
        return fail(error, KVOT_E_EXISTS, "%s: exists already", out->name);
    if (result < 0)
        return fail_errno(error, out->name, "write");
    free(out->temporary);
    out->temporary = NULL;
    sync_directory(out);
    return KVOT_OK;
}

void output_close(output *out) {
    if (out->temporary)
        unlink(out->temporary);
    if (out->fd >= 0 && out->fd != out->stream)
        close(out->fd);
    if (out->stream > STDERR_FILENO)
        close(out->stream);
    free(out->name);
    free(out->path);
    free(out->temporary);
    *out = (output){.fd = -1, .stream = -1};
}
