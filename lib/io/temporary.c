#include "temporary.h"

#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The writer of a temporary file holds a lock on it (flock), which ends with the writer, however that ends. Whoever can
 * take the lock of a file that still has its name knows that nobody will complete it, and may remove it.
 *
 * A new file has its name for a moment before it has its lock. A sweeper that comes in between takes the lock and
 * removes the file; the writer finds out after locking, and makes another. The other way round, a sweeper may open a
 * file whose writer renames it and ends before the sweeper locks it; so it looks, with the lock, whether the name still
 * is that file's. From then on the name cannot change hands: names are made only where there is none (O_EXCL), and
 * removed only with the lock. */

static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
enum { LETTERS = 6 };

/* Six letters that no other process is likely to choose. */
static void random_letters(char *to) {
    uint8_t bytes[LETTERS] = {0};
    getrandom(bytes, sizeof bytes, 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        to[i] = letters[bytes[i] % 32];
}

/* Whether a lock on `fd` is seen by everyone who can open the file. On network file systems and FUSE it may be known to
 * one machine alone, and another would take a file for a leftover that is being written; so nothing is removed there.
 */
static bool locks_hold(int fd) {
    enum { ZFS = 0x2fc12fc1, BCACHEFS = 0xca451a4e }; /* not in linux/magic.h */
    static const uint32_t local[] = {
        EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,       BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, ZFS,
        BCACHEFS,         OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,       RAMFS_MAGIC,      MSDOS_SUPER_MAGIC,
    };
    struct statfs about;
    if (fstatfs(fd, &about) < 0)
        return false;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if ((uint32_t)about.f_type == local[i])
            return true;
    return false;
}

static int lock(int fd) {
    int result;
    do
        result = flock(fd, LOCK_EX | LOCK_NB);
    while (result < 0 && errno == EINTR);
    return result;
}

/* Removes the file of this name if it is one whose writer is gone. What cannot be removed stays. */
static void sweep_one(int directory, const char *name) {
    struct stat named, opened;
    if (fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(named.st_mode))
        return;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (lock(fd) == 0 && fstat(fd, &opened) == 0 && fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(named.st_mode) && named.st_dev == opened.st_dev && named.st_ino == opened.st_ino)
        unlinkat(directory, name, 0);
    close(fd);
}

/* Whether a file of this name may be a leftover: of an output whose temporary files are named `start` and six letters,
 * or, if that is NULL, of any. */
static bool is_temporary(const char *name, const char *start) {
    static const char mark[] = ".kvot-";
    size_t length = strlen(name);
    const char *rest = name + length - LETTERS;
    if (length <= LETTERS + sizeof mark - 1 || strspn(rest, letters) != LETTERS)
        return false;
    if (!start)
        return name[0] == '.' && memcmp(rest - (sizeof mark - 1), mark, sizeof mark - 1) == 0;
    return strlen(start) == length - LETTERS && memcmp(name, start, length - LETTERS) == 0;
}

/* Removes what was left behind. */
static void sweep(int directory, const char *start) {
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = fd >= 0 && locks_hold(fd) ? fdopendir(fd) : NULL;
    if (!entries) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries));)
        if (is_temporary(entry->d_name, start))
            sweep_one(directory, entry->d_name);
    closedir(entries);
}

/* Locks a file that was just made. -1 on failure; errno is EEXIST if a sweeper has it, and another must be made. */
static int keep(int fd) {
    struct stat about;
    if (!locks_hold(fd))
        return 0;
    if (lock(fd) < 0) {
        if (errno == EWOULDBLOCK)
            errno = EEXIST;
        return -1;
    }
    if (fstat(fd, &about) < 0)
        return -1;
    if (about.st_nlink == 0) {
        errno = EEXIST;
        return -1;
    }
    return 0;
}

/* Makes a file and locks it; -1 on failure, with errno as keep sets it. */
static int make(const char *name, unsigned mode) {
    /* Not mkostemp: it would need the umask, which cannot be read without changing it for all threads. */
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode ? 0600 : 0666);
    if (fd < 0)
        return -1;
    if (keep(fd) < 0) {
        int why = errno;
        if (why != EEXIST)
            unlink(name);
        close(fd);
        errno = why;
        return -1;
    }
    if (mode)
        fchmod(fd, mode | S_IWUSR); /* a file system without permissions refuses, and has nothing to protect */
    return fd;
}

int temporary_open(int directory, const char *path, unsigned mode, swept *swept, char **name) {
    enum { TRIES = 100, NAME = 200 }; /* of the target's name this much, so that a long one does not become too long */
    char *copy = strdup(path), *copy2 = strdup(path), *start = NULL;
    int length = -1, fd = -1;
    *name = NULL;
    if (copy && copy2 && asprintf(&start, ".%.*s.kvot-", NAME, basename(copy)) >= 0)
        length = asprintf(name, "%s/%sXXXXXX", dirname(copy2), start);
    else
        start = NULL;
    if (length >= 0 && directory >= 0 && (!swept || swept_see(swept, directory)))
        sweep(directory, swept ? NULL : start);
    free(copy);
    free(copy2);
    free(start);
    if (length < 0) {
        *name = NULL;
        errno = ENOMEM;
        return -1;
    }
    for (int i = 0; i < TRIES && fd < 0 && (i == 0 || errno == EEXIST || errno == EINTR); i++) {
        random_letters(*name + length - LETTERS);
        fd = make(*name, mode);
    }
    if (fd < 0) {
        int why = errno;
        free(*name);
        *name = NULL;
        errno = why;
    }
    return fd;
}
