/* Going round the page cache, and asking what is in it. */
#ifndef KVOT_DIRECT_H
#define KVOT_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What O_DIRECT wants of offsets, lengths and addresses, wherever it works at all: the largest block in use. */
#define DIRECT_ALIGN 4096u

static inline uint64_t direct_down(uint64_t offset) {
    return offset / DIRECT_ALIGN * DIRECT_ALIGN;
}

static inline uint64_t direct_up(uint64_t offset) {
    return direct_down(offset + DIRECT_ALIGN - 1);
}

/* Opens the file behind `fd` once more with O_DIRECT, for `access` (O_RDONLY or O_WRONLY). -1 where that is refused. */
int direct_open(int fd, int access);

/* Whether the page cache holds all of these bytes of a file. May say no where it cannot be asked. */
bool direct_is_cached(int fd, uint64_t offset, size_t n);

#endif
