#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char suffix[] = ".kvot";

const char *batch_operation_name(batch_operation operation) {
    static const char *const names[] = {"compress", "restore", "verify", "recompress"};
    return names[operation];
}

unsigned batch_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set)
                                                       : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

char *batch_output(const batch_job *job, const batch_file *file) {
    const char *directory = job->options->output, *name = directory ? file->name : file->path;
    if (job->operation == BATCH_VERIFY)
        return NULL;
    size_t n = strlen(name) - (job->operation == BATCH_RESTORE ? strlen(suffix) : 0);
    return batch_text("%s%s%.*s%s", directory ? directory : "", directory ? "/" : "", (int)n, name,
                      job->operation == BATCH_COMPRESS ? suffix : "");
}

int batch_by_size(const void *a, const void *b) {
    const batch_file *first = *(batch_file *const *)a, *second = *(batch_file *const *)b;
    if (first->bytes != second->bytes)
        return first->bytes < second->bytes ? 1 : -1;
    return strcmp(first->key, second->key);
}

int64_t batch_modified(const struct stat *about) {
    return (int64_t)about->st_mtim.tv_sec * 1000000000 + about->st_mtim.tv_nsec;
}

const char *batch_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool batch_is_kvot(const char *name) {
    const char *base = batch_base(name);
    size_t n = strlen(base), end = strlen(suffix);
    return n > end && strcmp(base + n - end, suffix) == 0;
}

void batch_out_of_memory(void) {
    fputs("kvot: out of memory\n", stderr);
    _exit(EXIT_FAILED);
}

void *batch_memory(void *old, size_t bytes) {
    void *new = realloc(old, bytes);
    if (!new)
        batch_out_of_memory();
    return new;
}

char *batch_text(const char *format, ...) {
    char *text;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        batch_out_of_memory();
    va_end(arguments);
    return text;
}

int batch_fail(const char *format, ...) {
    kvot_error error = {.status = KVOT_E_IO};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.text, sizeof error.text, format, arguments);
    va_end(arguments);
    return cli_fail(&error);
}

bool batch_sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* One that may be written, but not listed, cannot be synced. Some network file systems have no need to. */
    bool good = fd >= 0 ? fsync(fd) == 0 || errno == EINVAL || errno == EOPNOTSUPP : errno == EACCES;
    if (fd >= 0)
        close(fd);
    return good;
}

static bool make(const char *path, const char *like, unsigned depth) {
    struct stat about;
    if (stat(path, &about) == 0) {
        errno = ENOTDIR;
        return S_ISDIR(about.st_mode);
    }
    if (errno != ENOENT)
        return false;
    char *above = batch_text("%s", path), *like_above = batch_text("%s", depth > 0 ? like : "");
    const char *parent = dirname(above);
    mode_t mode = depth > 0 && stat(like, &about) == 0 ? (about.st_mode & 0777) | 0700 : 0777;
    bool made = make(parent, dirname(like_above), depth > 0 ? depth - 1 : 0) &&
                (mkdir(path, mode) == 0 || errno == EEXIST) && batch_sync_directory(parent);
    int why = errno;
    free(above);
    free(like_above);
    errno = why;
    return made;
}

bool batch_make_directory(const char *path, const char *like, unsigned depth) {
    /* Whoever finds a directory there may rely on it to stay. */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    bool made = make(path, like, depth);
    int why = errno;
    pthread_mutex_unlock(&lock);
    errno = why;
    return made;
}
