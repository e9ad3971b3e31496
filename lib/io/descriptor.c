#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int unnamed_file(void) {
    const char *directory = getenv("TMPDIR");
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

bool write_all(int fd, const void *from, size_t n) {
    for (size_t put = 0; put < n;) {
        ssize_t part = write(fd, (const char *)from + put, n - put);
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return false;
        put += (size_t)part;
    }
    return true;
}
