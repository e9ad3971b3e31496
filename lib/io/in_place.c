#include "in_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static kvot_status replaced(const in_place *file, kvot_error *error) {
    return fail(error, KVOT_E_IO, "%s: was replaced meanwhile", file->out.name);
}

static bool is_longer(int fd, uint64_t bytes) {
    struct stat about;
    return fstat(fd, &about) < 0 || (uint64_t)about.st_size > bytes;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether the open file still has its name. */
static bool has_its_name(const in_place *file) {
    struct stat open, named;
    return fstat(file->out.fd, &open) == 0 && stat(file->path, &named) == 0 && same_file(&open, &named);
}

kvot_status in_place_open(in_place *file, const char *path, const kvot_run *run, kvot_error *error) {
    *file = (in_place){.out = {OUTPUT_NONE, .run = run}};
    if (strcmp(path, "-") == 0)
        return fail(error, KVOT_E_ARGUMENT, "standard output cannot be appended to");
    file->out.name = strdup(path);
    file->path = strdup(path);
    if (!file->out.name || !file->path)
        return fail_memory(error);
    struct stat about;
    file->out.fd = open_file(path, O_RDWR | O_CLOEXEC | O_NONBLOCK, run); /* a pipe must not keep us waiting */
    if (file->out.fd < 0 || fstat(file->out.fd, &about) < 0)
        return fail_errno(error, path, "append to it");
    if (!S_ISREG(about.st_mode))
        return fail(error, KVOT_E_IO, "%s: is no file that can be appended to", path);
    /* Some network file systems have no locks. There it is the user's to append one at a time. */
    if (flock(file->out.fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return fail(error, KVOT_E_IO, "%s: another append is under way", path);
    return has_its_name(file) ? KVOT_OK : replaced(file, error);
}

kvot_status in_place_is(const in_place *file, const input *in, kvot_error *error) {
    struct stat a, b;
    bool same = in->fd >= 0 && fstat(file->out.fd, &a) == 0 && fstat(in->fd, &b) == 0 && same_file(&a, &b);
    return same ? KVOT_OK : replaced(file, error);
}

kvot_status in_place_start(in_place *file, uint64_t bytes, uint64_t offset, kvot_error *error) {
    bool cut = is_longer(file->out.fd, bytes);
    /* What is cut off must not come back, after a crash, behind half of what is written now. */
    if ((cut && (!end_file(file->out.fd, bytes) || fdatasync(file->out.fd) < 0)) ||
        lseek(file->out.fd, (off_t)offset, SEEK_SET) < 0)
        return fail_errno(error, file->out.name, "append to it");
    file->bytes = bytes;
    file->started = true;
    return KVOT_OK;
}

kvot_status in_place_commit(in_place *file, kvot_error *error) {
    kvot_status status = output_sync(&file->out, error);
    if (status == KVOT_OK && !has_its_name(file))
        status = replaced(file, error);
    file->started = status != KVOT_OK;
    return status;
}

void in_place_close(in_place *file) {
    /* To a file that is as long as it was, nothing is done: it keeps its times. */
    if (file->started && is_longer(file->out.fd, file->bytes) && !end_file(file->out.fd, file->bytes))
        file->started = false; /* what is left is an interrupted append, which readers pass over */
    output_close(&file->out);
    free(file->path);
    *file = (in_place){.out = {OUTPUT_NONE}};
}
