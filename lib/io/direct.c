#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5, the same number on all architectures */
#endif

int direct_open(int fd, int access) {
    /* By its descriptor, since another file may have the name by now. */
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, access | O_DIRECT | O_CLOEXEC);
}

/* One page, without waiting for the disk. RWF_NOWAIT starts to read ahead what it does not find (Linux 6.18: up to 8
 * MiB behind a missing page), so no more than that is asked for. */
static bool first_page_is_cached(int fd, uint64_t offset) {
    char page[16];
    struct iovec to = {page, sizeof page};
    return preadv2(fd, &to, 1, (off_t)offset, RWF_NOWAIT) > 0;
}

bool direct_is_cached(int fd, uint64_t offset, size_t n) {
    struct {
        uint64_t offset, bytes;
    } range = {offset, n};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } pages;
    if (syscall(SYS_cachestat, fd, &range, &pages, 0) != 0)
        return first_page_is_cached(fd, offset);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return pages.cached >= (offset + n + page - 1) / page - offset / page;
}
