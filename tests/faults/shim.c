/* LD_PRELOADed into a program, counts the calls it makes for files of one directory, and at one of them makes the call
 * fail, or short, or kills the program. tests/faults/run.py tells it what, in the environment:
 *
 * KVOT_FAULT_DIR  calls on files below it count, and on relative names, and on pipes that are standard input or output
 * KVOT_FAULT      "short", "kill-before", "kill-half", "kill-after", or the number of an error (EIO ...)
 * KVOT_FAULT_AT   the call, counted from 1; 0 for none
 * KVOT_FAULT_ON   if set, all later calls as well
 * KVOT_FAULT_LOG  a file to which lines "NUMBER CALL FILE" are added, of the calls hit, or, at 0, of all calls
 */
#undef _FILE_OFFSET_BITS /* both open and open64 are defined here */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim.h"

static struct {
    const char *directory;
    long at;
    bool on;
    int log;
    enum fault fault;
} told = {.log = -1};
int fault_errno;
static atomic_long count;

__attribute__((constructor)) static void begin(void) {
    static const char *const names[] = {
        [SHORT] = "short", [KILL_BEFORE] = "kill-before", [KILL_HALF] = "kill-half", [KILL_AFTER] = "kill-after"};
    const char *fault = getenv("KVOT_FAULT"), *at = getenv("KVOT_FAULT_AT"), *log = getenv("KVOT_FAULT_LOG");
    told.directory = getenv("KVOT_FAULT_DIR");
    told.at = at ? atol(at) : 0;
    told.on = getenv("KVOT_FAULT_ON");
    for (enum fault f = SHORT; fault && f <= KILL_AFTER; f++)
        if (strcmp(fault, names[f]) == 0)
            told.fault = f;
    if (fault && told.fault == NONE) {
        told.fault = FAIL;
        fault_errno = atoi(fault);
    }
    if (log)
        told.log = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

bool counts(const char *path) {
    size_t n = told.directory ? strlen(told.directory) : 0;
    return n > 0 && (path[0] != '/' || (strncmp(path, told.directory, n) == 0 && (path[n] == '/' || path[n] == 0)));
}

const char *path_of(int fd, char path[PATH_MAX]) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    /* "pipe:[1]", "socket:[1]" are relative: of these only the standard ones are the program's own work. */
    return n > 0 && (path[0] == '/' || fd == STDIN_FILENO || fd == STDOUT_FILENO) && counts(path) ? path : NULL;
}

static const char *path_at(int directory, const char *name, char path[PATH_MAX]) {
    if (directory == AT_FDCWD || name[0] == '/')
        return counts(name) ? name : NULL;
    if (!path_of(directory, path))
        return NULL;
    size_t n = strlen(path);
    snprintf(path + n, PATH_MAX - n, "/%s", name);
    return path;
}

void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

enum fault arrive(const char *call, const char *path) {
    if (!path)
        return NONE;
    long number = ++count;
    bool hit = told.at > 0 && (number == told.at || (told.on && number > told.at));
    if (told.log >= 0 && (hit || told.at == 0))
        dprintf(told.log, "%ld %s %s\n", number, call, path);
    if (hit && told.fault == KILL_BEFORE)
        die();
    return hit ? told.fault : NONE;
}

/* Ends a wrapper: makes the call, unless it is to fail, and dies behind it if asked to. */
#define CALL(call, path, failure, expression)                                                                          \
    do {                                                                                                               \
        enum fault fault_ = arrive(call, path);                                                                        \
        if (fault_ == FAIL)                                                                                            \
            return errno = fault_errno, failure;                                                                       \
        __auto_type result_ = expression;                                                                              \
        if (fault_ >= KILL_HALF)                                                                                       \
            die();                                                                                                     \
        return result_;                                                                                                \
    } while (0)

/* The same for a call that moves `n` bytes of `fd`, or fewer. */
#define TRANSFER(call, fd, n, expression)                                                                              \
    do {                                                                                                               \
        char path_[PATH_MAX];                                                                                          \
        enum fault fault_ = arrive(call, path_of(fd, path_));                                                          \
        if (fault_ == FAIL)                                                                                            \
            return errno = fault_errno, -1;                                                                            \
        if (fault_ == SHORT || fault_ == KILL_HALF)                                                                    \
            n = (n + 1) / 2;                                                                                           \
        ssize_t result_ = expression;                                                                                  \
        if (fault_ >= KILL_HALF)                                                                                       \
            die();                                                                                                     \
        return result_;                                                                                                \
    } while (0)

#define OF(fd) path_of(fd, (char[PATH_MAX]){0})

static mode_t mode_of(int flags, va_list *more) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(*more, mode_t) : 0;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = mode_of(flags, &more);                                                                           \
        va_end(more);                                                                                                  \
        CALL("open", counts(path) ? path : NULL, -1, REAL(name)(path, flags, mode));                                   \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int directory, const char *path, int flags, ...) {                                                        \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = mode_of(flags, &more);                                                                           \
        va_end(more);                                                                                                  \
        char whole[PATH_MAX];                                                                                          \
        CALL("open", path_at(directory, path, whole), -1, REAL(name)(directory, path, flags, mode));                   \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *to, size_t n) {
    TRANSFER("read", fd, n, REAL(read)(fd, to, n));
}

ssize_t write(int fd, const void *from, size_t n) {
    TRANSFER("write", fd, n, REAL(write)(fd, from, n));
}

#define AT_OFFSET(suffix, offset_type)                                                                                 \
    ssize_t pread##suffix(int fd, void *to, size_t n, offset_type offset) {                                            \
        TRANSFER("read", fd, n, REAL(pread##suffix)(fd, to, n, offset));                                               \
    }                                                                                                                  \
    ssize_t pwrite##suffix(int fd, const void *from, size_t n, offset_type offset) {                                   \
        TRANSFER("write", fd, n, REAL(pwrite##suffix)(fd, from, n, offset));                                           \
    }
AT_OFFSET(, off_t)
AT_OFFSET(64, off64_t)

/* Of vectors, a short transfer ends in the first. */
#define VECTORS(call, fd, expression)                                                                                  \
    do {                                                                                                               \
        char path_[PATH_MAX];                                                                                          \
        struct iovec half;                                                                                             \
        enum fault fault_ = n > 0 ? arrive(call, path_of(fd, path_)) : NONE;                                           \
        if (fault_ == FAIL)                                                                                            \
            return errno = fault_errno, -1;                                                                            \
        if (fault_ == SHORT || fault_ == KILL_HALF) {                                                                  \
            half = (struct iovec){vectors->iov_base, (vectors->iov_len + 1) / 2};                                      \
            vectors = &half;                                                                                           \
            n = 1;                                                                                                     \
        }                                                                                                              \
        ssize_t result_ = expression;                                                                                  \
        if (fault_ >= KILL_HALF)                                                                                       \
            die();                                                                                                     \
        return result_;                                                                                                \
    } while (0)

ssize_t writev(int fd, const struct iovec *vectors, int n) {
    VECTORS("write", fd, REAL(writev)(fd, vectors, n));
}

#define VECTORS_AT(name)                                                                                               \
    ssize_t preadv##name(int fd, const struct iovec *vectors, int n, off64_t offset) {                                 \
        VECTORS("read", fd, REAL(preadv##name)(fd, vectors, n, offset));                                               \
    }                                                                                                                  \
    ssize_t pwritev##name(int fd, const struct iovec *vectors, int n, off64_t offset) {                                \
        VECTORS("write", fd, REAL(pwritev##name)(fd, vectors, n, offset));                                             \
    }
VECTORS_AT()
VECTORS_AT(64)

#define VECTORS_FLAGS(name)                                                                                            \
    ssize_t preadv##name(int fd, const struct iovec *vectors, int n, off64_t offset, int flags) {                      \
        VECTORS("read", fd, REAL(preadv##name)(fd, vectors, n, offset, flags));                                        \
    }                                                                                                                  \
    ssize_t pwritev##name(int fd, const struct iovec *vectors, int n, off64_t offset, int flags) {                     \
        VECTORS("write", fd, REAL(pwritev##name)(fd, vectors, n, offset, flags));                                      \
    }
VECTORS_FLAGS(2)
VECTORS_FLAGS(64v2)

int fsync(int fd) {
    CALL("fsync", OF(fd), -1, REAL(fsync)(fd));
}

int fdatasync(int fd) {
    CALL("fdatasync", OF(fd), -1, REAL(fdatasync)(fd));
}

int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags) {
    CALL("sync_file_range", OF(fd), -1, REAL(sync_file_range)(fd, from, n, flags));
}

int rename(const char *from, const char *to) {
    CALL("rename", counts(to) ? to : NULL, -1, REAL(rename)(from, to));
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char path[PATH_MAX];
    CALL("renameat2", path_at(to_at, to, path), -1, REAL(renameat2)(from_at, from, to_at, to, flags));
}

int link(const char *from, const char *to) {
    CALL("link", counts(to) ? to : NULL, -1, REAL(link)(from, to));
}

int unlink(const char *path) {
    CALL("unlink", counts(path) ? path : NULL, -1, REAL(unlink)(path));
}

int unlinkat(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    CALL("unlink", path_at(directory, name, path), -1, REAL(unlinkat)(directory, name, flags));
}

int flock(int fd, int how) {
    CALL("flock", OF(fd), -1, REAL(flock)(fd, how));
}

/* Whatever it returns, the descriptor is gone. */
int close(int fd) {
    char path[PATH_MAX];
    enum fault fault = arrive("close", path_of(fd, path));
    int result = REAL(close)(fd);
    if (fault >= KILL_HALF)
        die();
    return fault == FAIL ? (errno = fault_errno, -1) : result;
}

#define SIZES(suffix, offset_type)                                                                                     \
    int ftruncate##suffix(int fd, offset_type n) {                                                                     \
        CALL("ftruncate", OF(fd), -1, REAL(ftruncate##suffix)(fd, n));                                                 \
    }                                                                                                                  \
    int fallocate##suffix(int fd, int mode, offset_type from, offset_type n) {                                         \
        CALL("fallocate", OF(fd), -1, REAL(fallocate##suffix)(fd, mode, from, n));                                     \
    }                                                                                                                  \
    void *mmap##suffix(void *at, size_t n, int protection, int flags, int fd, offset_type from) {                      \
        CALL("mmap", fd >= 0 ? OF(fd) : NULL, MAP_FAILED, REAL(mmap##suffix)(at, n, protection, flags, fd, from));     \
    }
SIZES(, off_t)
SIZES(64, off64_t)
